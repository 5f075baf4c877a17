//! Patients who keep their own keys, on the command line: what only the key file can do is done here, and only
//! public parts, signatures and sealed envelopes leave.

use std::path::Path;

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolStruct as _;
use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde_json::{Value, json};
use stele_core::{
    abi::typed,
    account::AccountKey,
    consent::{Period, Permissions, Purpose, Terms},
    crypto::{hpke::KemPublic, os_rng},
    time::{Clock as _, SystemClock},
};
use stele_fhir::category::Category;
use stele_vault::keys::{Directory, Grant, key_file::PatientKeys};

use super::{client::Client, store::passphrase};

/// Months for which public keys are published ahead.
const DIRECTORY_MONTHS: u16 = 24;
/// How long a signed grant may be relayed, in seconds.
const DEADLINE_S: u64 = 600;

fn open(key_file: &Path, passphrase_file: &Path) -> Result<PatientKeys> {
    let wrapped =
        std::fs::read(key_file).with_context(|| format!("reading {}", key_file.display()))?;
    PatientKeys::unwrap(&wrapped, &passphrase(passphrase_file)?)
        .with_context(|| format!("opening {}", key_file.display()))
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Registers the account and the public key directory of a key file.
pub(crate) async fn register(
    client: &Client,
    key_file: &Path,
    passphrase_file: &Path,
) -> Result<Address> {
    let keys = open(key_file, passphrase_file)?;
    let categories: Vec<(u8, u32)> = Category::ALL.iter().map(|c| (c.number(), 0)).collect();
    let month = SystemClock.now().month();
    let directory = Directory::derive(
        &keys.root,
        keys.account,
        &categories,
        month,
        DIRECTORY_MONTHS,
    )
    .context("deriving the key directory")?;
    let body = json!({ "directory": base64(&directory.encode()) });
    client.post("/admin/patients", &body).await?;
    Ok(keys.account)
}

/// Signs a grant with the key file, seals the keys to the grantee, and hands both over.
pub(crate) async fn grant(
    client: &Client,
    key_file: &Path,
    passphrase_file: &Path,
    asked: &Value,
) -> Result<Value> {
    let keys = open(key_file, passphrase_file)?;
    let grantee: Address = text(asked, "grantee")
        .parse()
        .context("the grantee's account")?;
    let facts = client
        .get(&format!("/admin/consent/{}/{grantee}", keys.account))
        .await?;
    let categories = categories(asked)?;
    let terms = terms(asked, &keys, &categories)?;
    let public = base64::engine::general_purpose::STANDARD
        .decode(text(&facts, "granteeKey"))
        .context("the grantee's public key")?;
    let public = KemPublic::from_bytes(&public).context("the grantee's public key")?;
    let mut envelopes = Vec::new();
    if terms.permissions.contains(Permissions::READ) {
        for category in &categories {
            envelopes.push(
                Grant::seal(
                    &keys.root,
                    keys.account,
                    category.number(),
                    0,
                    terms.records_from..=terms.records_to,
                    (grantee, &public),
                    &mut os_rng(),
                )
                .context("sealing the keys")?,
            );
        }
    }
    let digests: Vec<u8> = envelopes
        .iter()
        .flat_map(|envelope| envelope.digest().0)
        .collect();
    let chain_id = facts
        .get("chainId")
        .and_then(Value::as_u64)
        .context("the chain id")?;
    let nonce = facts
        .get("nonce")
        .and_then(Value::as_u64)
        .context("the signature nonce")?;
    let signed = sign(
        &keys,
        grantee,
        &terms,
        keccak256(digests),
        chain_id,
        nonce,
        asked,
    )?;
    let envelopes: Vec<String> = envelopes.iter().map(|one| base64(&one.encode())).collect();
    let body = json!({ "grant": signed, "envelopes": envelopes });
    client.post("/admin/grants/relay", &body).await
}

fn sign(
    keys: &PatientKeys,
    grantee: Address,
    terms: &Terms,
    digest: B256,
    chain_id: u64,
    nonce: u64,
    asked: &Value,
) -> Result<Value> {
    let abi = terms.to_abi();
    let request = asked.get("request").and_then(Value::as_u64).unwrap_or(0);
    let request = u32::try_from(request).context("the request's number")?;
    let deadline = SystemClock.now().seconds().saturating_add(DEADLINE_S);
    let typed = typed::Grant {
        patient: keys.account,
        grantee,
        categories: abi.categories,
        permissions: abi.permissions,
        purposes: abi.purposes,
        notBefore: abi.notBefore,
        expires: abi.expires,
        recordsFrom: abi.recordsFrom,
        recordsTo: abi.recordsTo,
        envelopeDigest: digest,
        request,
        nonce,
        deadline: alloy_primitives::aliases::U40::saturating_from(deadline),
    };
    let hash = typed.eip712_signing_hash(&typed::consent_domain(chain_id));
    let signature = AccountKey::new(keys.signing.clone())?.sign_hash(hash)?;
    Ok(json!({
        "patient": keys.account,
        "grantee": grantee,
        "terms": terms,
        "envelopeDigest": digest,
        "request": request,
        "nonce": nonce,
        "deadline": deadline,
        "signature": alloy_primitives::hex::encode_prefixed(signature.as_bytes())
    }))
}

fn terms(asked: &Value, keys: &PatientKeys, categories: &[Category]) -> Result<Terms> {
    let mut slots = 0_u64;
    for category in categories {
        slots |= 1
            << keys
                .root
                .slot_of(category.number())
                .context("placing a category")?;
    }
    let mut permissions = Permissions::default();
    for word in words(asked, "permissions") {
        permissions = permissions.and(match word.as_str() {
            "read" => Permissions::READ,
            "write" => Permissions::WRITE,
            "share" => Permissions::SHARE,
            other => bail!("{other:?} is not a permission; use read, write or share"),
        });
    }
    let purposes = words(asked, "purposes")
        .iter()
        .map(|word| word.parse::<Purpose>().map_err(anyhow::Error::msg))
        .collect::<Result<_>>()?;
    let days = asked.get("days").and_then(Value::as_u64).unwrap_or(30);
    let now = SystemClock.now();
    Ok(Terms {
        categories: slots,
        permissions,
        purposes,
        period: Period {
            from: now,
            until: now.plus_ms(days.saturating_mul(86_400_000)),
        },
        records_from: 0,
        records_to: u16::MAX,
    })
}

fn categories(asked: &Value) -> Result<Vec<Category>> {
    let names = words(asked, "categories");
    if names.iter().any(|name| name == "all") {
        return Ok(Category::ALL.to_vec());
    }
    names
        .iter()
        .map(|name| {
            Category::from_name(name)
                .with_context(|| format!("{name:?} is not a category; see docs/categories.md"))
        })
        .collect()
}

fn words(asked: &Value, name: &str) -> Vec<String> {
    let list = asked.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
