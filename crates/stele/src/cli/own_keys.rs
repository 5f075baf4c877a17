//! Patients who keep their own keys, on the command line: what only the key file can do is done here, and only
//! public parts, signatures and sealed envelopes leave.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, Bytes, TxKind, keccak256};
use alloy_sol_types::{SolCall as _, SolStruct as _};
use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::{
    abi::{consent::IConsent::declineCall, typed},
    account::{AccountKey, UnsignedCall},
    consent::{Permissions, Terms},
    crypto::{
        Secret32,
        hpke::{self, KemPublic, KemSecret},
        os_rng,
    },
    export::SignerProof,
    id::CONSENT,
    proof::{Disclosure, RecordProof},
    time::{Clock as _, SystemClock},
};
use stele_fhir::category::Category;
use stele_service::own::{ClaimOffer, OwnAccount, OwnEntry, OwnRecord, ROOT_INFO, SignIn};
use stele_vault::keys::{Directory, Grant, GrantSealer, OwnRoot, RootKey, key_file::PatientKeys};

use super::{
    client::{Client, Target},
    consent::Asked,
    store::passphrase,
};

/// Months for which public keys are published ahead.
const DIRECTORY_MONTHS: u16 = stele_vault::keys::directory::MONTHS_AHEAD;
/// How long a signed grant may be relayed, in seconds.
const DEADLINE_S: u64 = 600;
/// Key generations of a category that a directory may name: one more for each revocation.
const GENERATIONS_MAX: u32 = 10_000;

/// The key file of a patient who keeps their own keys.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyOfPatient {
    /// The patient's own key file, where the patient keeps their keys; it is read here and never sent.
    #[arg(long, value_name = "FILE", requires = "passphrase_file")]
    pub(crate) key_file_of_patient: Option<PathBuf>,
    /// File with the passphrase of the patient's key file.
    #[arg(long, value_name = "FILE", env = "STELE_PATIENT_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl KeyOfPatient {
    /// Both files, if the key file is named.
    pub(crate) fn files(&self) -> Result<Option<(&PathBuf, &PathBuf)>> {
        match (&self.key_file_of_patient, &self.passphrase_file) {
            (None, _) => Ok(None),
            (Some(key_file), Some(passphrase)) => Ok(Some((key_file, passphrase))),
            (Some(_), None) => bail!("name the file with its passphrase: --passphrase-file"),
        }
    }

    fn open(&self) -> Result<Option<PatientKeys>> {
        let Some((key_file, passphrase_file)) = self.files()? else {
            return Ok(None);
        };
        let wrapped =
            std::fs::read(key_file).with_context(|| format!("reading {}", key_file.display()))?;
        PatientKeys::unwrap(&wrapped, &passphrase(passphrase_file)?)
            .map(Some)
            .with_context(|| format!("opening {}", key_file.display()))
    }

    /// Signs in with the key file, if one is named.
    pub(crate) async fn sign_in(&self, target: &Target) -> Result<Option<Own>> {
        match self.open()? {
            Some(keys) => Own::sign_in(target, keys).await.map(Some),
            None => Ok(None),
        }
    }

    /// A client with the patient's own token where a key file is named, else the operator's.
    pub(crate) async fn client(&self, target: &Target) -> Result<Client> {
        match self.sign_in(target).await? {
            Some(own) => Ok(own.client),
            None => target.connect(),
        }
    }
}

/// A patient signed in with their key file.
pub(crate) struct Own {
    keys: PatientKeys,
    key: AccountKey,
    pub(crate) client: Client,
    /// FHIR base of the gateway, as it names itself.
    pub(crate) fhir_url: String,
}

/// Keys sealed to a grantee, for the node to keep.
fn envelope(grantee: Address, grant: &Grant) -> Value {
    json!({ "grantee": grantee, "envelope": base64(&grant.encode()) })
}

/// A grant as the node lists it; what is needed here.
#[derive(Deserialize)]
struct GrantLine {
    grantee: Address,
    id: u32,
    live: bool,
    terms: Terms,
}

impl GrantLine {
    fn reads(&self, slot: u64) -> bool {
        self.terms.categories & slot != 0 && self.terms.permissions.contains(Permissions::READ)
    }
}

impl Own {
    async fn sign_in(target: &Target, keys: PatientKeys) -> Result<Self> {
        let base = target.base()?;
        let key = AccountKey::new(keys.signing.clone())?;
        // Asked without a token: the addresses answer everyone.
        let client = Client::new(base.clone(), String::new())?;
        let smart = client
            .get("/fhir/r4/.well-known/smart-configuration")
            .await?;
        let audience = text(&smart, "issuer").to_owned();
        ensure!(
            same_place(&base, &audience),
            "the gateway at {base} calls itself {audience}: sign in at that address"
        );
        let facts = client.get("/.well-known/stele.json").await?;
        let chain_id = facts
            .get("chainId")
            .and_then(Value::as_u64)
            .context("the node's chain id")?;
        let id = B256::from(*Secret32::random(&mut os_rng()).expose());
        let issued = SystemClock.now().seconds();
        let typed = typed::SignIn {
            account: keys.account,
            audience: audience.clone(),
            id,
            issued: alloy_primitives::aliases::U40::saturating_from(issued),
        };
        let hash = typed.eip712_signing_hash(&typed::sign_in_domain(chain_id));
        let signed = SignIn {
            account: keys.account,
            audience: audience.clone(),
            id,
            issued,
            signature: key.sign_hash(hash)?.as_bytes().to_vec().into(),
        };
        let answer = client.post("/auth/key", &json!(signed)).await?;
        let token = text(&answer, "access_token").to_owned();
        Ok(Self {
            keys,
            key,
            client: Client::new(base, token)?,
            fhir_url: format!("{audience}/fhir/r4"),
        })
    }

    /// The patient's account.
    pub(crate) const fn account(&self) -> Address {
        self.keys.account
    }

    async fn facts(&self) -> Result<OwnAccount> {
        let facts = self.client.get("/own/account").await?;
        serde_json::from_value(facts).context("the node's facts about the account")
    }

    /// The directory that is in force: the one whose root the ledger has.
    fn directory(facts: &OwnAccount) -> Result<Directory> {
        let bytes = decode(facts.directory.as_deref().unwrap_or_default())?;
        let directory = Directory::decode(&bytes).context("the key directory")?;
        ensure!(
            directory.root() == facts.directory_root && directory.log() == facts.account,
            "the node's key directory is not the one on the ledger"
        );
        Ok(directory)
    }

    fn generation(directory: &Directory, category: Category) -> Result<u32> {
        let generation = directory.generation(category.number()).unwrap_or_default();
        ensure!(
            generation <= GENERATIONS_MAX,
            "the key directory names generation {generation}, which can't be"
        );
        Ok(generation)
    }

    async fn grantee_key(&self, grantee: Address) -> Result<KemPublic> {
        let answer = self.client.get(&format!("/own/grantees/{grantee}")).await?;
        KemPublic::from_bytes(&decode(text(&answer, "key"))?)
            .with_context(|| format!("the public key of {grantee}"))
    }

    fn slot(&self, category: Category) -> Result<u64> {
        let slot = self.keys.root.slot_of(category.number())?;
        Ok(1_u64 << slot)
    }

    fn deadline() -> u64 {
        SystemClock.now().seconds().saturating_add(DEADLINE_S)
    }

    /// Signs a grant, seals the keys to the grantee, and hands both over.
    pub(crate) async fn grant(&self, asked: &Asked) -> Result<Value> {
        let facts = self.facts().await?;
        let directory = Self::directory(&facts)?;
        let categories = asked.categories()?;
        let mut slots = 0;
        for category in &categories {
            slots |= self.slot(*category)?;
        }
        let terms = asked.terms(slots)?;
        let mut envelopes = Vec::new();
        if terms.permissions.contains(Permissions::READ) {
            let sealer = self.sealer(asked.grantee).await?;
            let months = (terms.records_from, terms.records_to);
            for category in &categories {
                for generation in 0..=Self::generation(&directory, *category)? {
                    envelopes.push(seal(&self.keys, &sealer, *category, generation, months)?);
                }
            }
        }
        let digests: Vec<u8> = envelopes.iter().flat_map(|one| one.digest().0).collect();
        let digest = keccak256(digests);
        let deadline = Self::deadline();
        let abi = terms.to_abi();
        let typed = typed::Grant {
            patient: facts.account,
            grantee: asked.grantee,
            categories: abi.categories,
            permissions: abi.permissions,
            purposes: abi.purposes,
            notBefore: abi.notBefore,
            expires: abi.expires,
            recordsFrom: abi.recordsFrom,
            recordsTo: abi.recordsTo,
            envelopeDigest: digest,
            request: asked.request.unwrap_or(0),
            nonce: facts.signature_nonce,
            deadline: alloy_primitives::aliases::U40::saturating_from(deadline),
        };
        let hash = typed.eip712_signing_hash(&typed::consent_domain(facts.chain_id));
        let envelopes: Vec<String> = envelopes.iter().map(|one| base64(&one.encode())).collect();
        let body = json!({
            "grant": {
                "grantee": asked.grantee,
                "terms": terms,
                "envelopeDigest": digest,
                "request": asked.request.unwrap_or(0),
                "nonce": facts.signature_nonce,
                "deadline": deadline,
                "signature": self.signature(hash)?
            },
            "envelopes": envelopes
        });
        let mut answer = self.client.post("/own/grants", &body).await?;
        let names: Vec<&str> = categories.iter().map(|one| one.plain_name()).collect();
        if let Value::Object(members) = &mut answer {
            let sentence = terms.sentence(&asked.grantee.to_string(), &names);
            members.insert("sentence".into(), sentence.into());
        }
        Ok(answer)
    }

    async fn sealer(&self, grantee: Address) -> Result<GrantSealer> {
        let public = self.grantee_key(grantee).await?;
        GrantSealer::new(grantee, &public, &mut os_rng()).context("sealing the keys")
    }

    fn signature(&self, hash: B256) -> Result<String> {
        let signature = self.key.sign_hash(hash)?;
        Ok(alloy_primitives::hex::encode_prefixed(signature.as_bytes()))
    }

    /// Ends a grant: what is written from now on is sealed to the next generation of keys, which who remains
    /// receives.
    pub(crate) async fn revoke(&self, grantee: Address, id: u32) -> Result<Value> {
        let facts = self.facts().await?;
        let directory = Self::directory(&facts)?;
        let lines = self.client.get("/own/grants").await?;
        let lines: Vec<GrantLine> =
            serde_json::from_value(lines).context("the node's list of grants")?;
        let ended = lines
            .iter()
            .find(|line| line.grantee == grantee && line.id == id)
            .with_context(|| format!("{grantee} has no grant {id}"))?;
        let mut generations = Vec::with_capacity(Category::ALL.len());
        let mut envelopes = Vec::new();
        for category in Category::ALL {
            let mut generation = Self::generation(&directory, category)?;
            let slot = self.slot(category)?;
            if ended.reads(slot) {
                generation = generation.saturating_add(1);
                let remaining = lines.iter().filter(|line| {
                    line.live && line.reads(slot) && (line.grantee, line.id) != (grantee, id)
                });
                for line in remaining {
                    let sealer = self.sealer(line.grantee).await?;
                    let months = (line.terms.records_from, line.terms.records_to);
                    let sealed = seal(&self.keys, &sealer, category, generation, months)?;
                    envelopes.push(envelope(line.grantee, &sealed));
                }
            }
            generations.push((category.number(), generation));
        }
        let directory = derive(&self.keys, &generations)?;
        let deadline = Self::deadline();
        let typed = typed::Revoke {
            patient: facts.account,
            grantee,
            id,
            directoryRoot: directory.root(),
            nonce: facts.signature_nonce,
            deadline: alloy_primitives::aliases::U40::saturating_from(deadline),
        };
        let hash = typed.eip712_signing_hash(&typed::consent_domain(facts.chain_id));
        let body = json!({
            "grantee": grantee,
            "id": id,
            "nonce": facts.signature_nonce,
            "deadline": deadline,
            "signature": self.signature(hash)?,
            "directoryRoot": directory.root(),
            "directory": base64(&directory.encode()),
            "envelopes": envelopes
        });
        self.client.post("/own/grants/revoke", &body).await
    }

    /// Declines a request, in a transaction that the patient's key signs.
    pub(crate) async fn decline(&self, request: u32) -> Result<Value> {
        let facts = self.facts().await?;
        let call = UnsignedCall {
            chain_id: facts.chain_id,
            nonce: facts.nonce,
            gas_limit: 300_000,
            to: TxKind::Call(CONSENT),
            input: declineCall { request }.abi_encode().into(),
        };
        let signed: Bytes = self.key.sign_for(facts.account, call)?;
        let body = json!({ "transaction": signed });
        self.client.post("/own/transactions", &body).await
    }

    /// All own records, newest versions.
    pub(crate) async fn records(&self) -> Result<Vec<OwnEntry>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let query = cursor
                .as_ref()
                .map(|cursor| format!("?cursor={}", super::client::encode(cursor)))
                .unwrap_or_default();
            let answer = self.client.get(&format!("/own/records{query}")).await?;
            let list = answer.get("records").cloned().unwrap_or_default();
            let part: Vec<OwnEntry> = serde_json::from_value(list).context("the node's list")?;
            all.extend(part);
            cursor = answer
                .get("next")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One own record, opened here, and its proof with the content in it; the caller verifies it.
    pub(crate) async fn record(
        &self,
        record: &str,
        version: Option<u32>,
    ) -> Result<(Vec<u8>, RecordProof)> {
        let query = version
            .map(|version| format!("?version={version}"))
            .unwrap_or_default();
        let answer = self
            .client
            .get(&format!("/own/records/{record}{query}"))
            .await?;
        let OwnRecord { sealed, mut proof } =
            serde_json::from_value(answer).context("the node's sealed record")?;
        let content = sealed
            .open(&self.keys.root)
            .with_context(|| format!("opening {record} with the key file"))?;
        sealed
            .matches(&content, &proof.leaf.content)
            .with_context(|| format!("checking {record}"))?;
        proof.disclosure = Disclosure::Whole {
            content: base64(&content),
            element_salt: sealed.element_salt()?.into(),
        };
        Ok((content.to_vec(), proof))
    }

    /// What proves that this key signs for the account.
    pub(crate) async fn signer_proof(&self) -> Result<SignerProof> {
        let path = format!("/own/signer/{}", self.key.address());
        let answer = self.client.get(&path).await?;
        serde_json::from_value(answer).context("the node's proof of the account")
    }

    /// Signs an export with the patient's key.
    pub(crate) fn sign_export(&self, unsigned: &str) -> Result<String> {
        let now = SystemClock.now();
        Ok(stele_core::export::sign(
            unsigned,
            &self.key,
            self.keys.account,
            now,
        )?)
    }
}

/// Registers the account and the public key directory of a key file; the operator does it, with the patient there.
pub(crate) async fn register(client: &Client, key: &KeyOfPatient) -> Result<Address> {
    let keys = key.open()?.context("the patient's key file")?;
    let generations: Vec<(u8, u32)> = Category::ALL.iter().map(|c| (c.number(), 0)).collect();
    let directory = derive(&keys, &generations)?;
    let body = json!({ "directory": base64(&directory.encode()) });
    client.post("/admin/patients", &body).await?;
    Ok(keys.account)
}

/// A managed patient takes the account over: makes the key file, and hands the account to its key. What is written
/// from now on is sealed to keys that the organisation never had.
pub(crate) async fn claim(client: &Client, patient: &str, key: &KeyOfPatient) -> Result<Value> {
    let (file, passphrase_file) = key.files()?.context("name the key file to be made")?;
    ensure!(
        !file.exists(),
        "{} exists; key files are never replaced",
        file.display()
    );
    let unlock = passphrase(passphrase_file)?;
    let receiving = KemSecret::random(&mut os_rng())?;
    let body = json!({ "key": base64(&receiving.public().to_bytes()) });
    let path = format!("/admin/patients/{patient}/claim");
    let offer = client.post(&format!("{path}/offer"), &body).await?;
    let offer: ClaimOffer = serde_json::from_value(offer).context("the node's offer")?;
    let root = hpke::open(
        &receiving,
        ROOT_INFO,
        offer.account.as_slice(),
        &decode(&offer.root)?,
    )?;
    let root: [u8; 32] = root
        .as_slice()
        .try_into()
        .context("the root key is not 32 bytes")?;
    let own = OwnRoot {
        secret: Secret32::random(&mut os_rng()),
        from_generation: offer.from_generation,
    };
    let signing = AccountKey::random(&mut os_rng())?;
    let keys = PatientKeys {
        account: offer.account,
        root: RootKey::new(Secret32::new(root)).taken_over(own),
        signing: signing.secret().clone(),
    };
    // On disk before the account changes hands: a key that was lost in between would lose the record.
    let wrapped = keys.wrap(&unlock, &mut os_rng())?;
    std::fs::write(file, wrapped).with_context(|| format!("writing {}", file.display()))?;
    let generations: Vec<(u8, u32)> = Category::ALL
        .iter()
        .map(|category| (category.number(), offer.from_generation))
        .collect();
    let directory = derive(&keys, &generations)?;
    let envelopes = envelopes_for(&keys, &offer)?;
    let body = json!({
        "key": signing.address(),
        "directory": base64(&directory.encode()),
        "envelopes": envelopes
    });
    let mut answer = client.post(&path, &body).await.with_context(|| {
        format!(
            "the key file {} was made, but the account was not taken over",
            file.display()
        )
    })?;
    if let Value::Object(members) = &mut answer {
        members.insert("account".into(), json!(keys.account));
        members.insert("file".into(), json!(file));
    }
    Ok(answer)
}

/// The keys of the first own generation, sealed to everyone who holds a grant.
fn envelopes_for(keys: &PatientKeys, offer: &ClaimOffer) -> Result<Vec<Value>> {
    let mut envelopes = Vec::new();
    for grantee in &offer.grantees {
        let public = KemPublic::from_bytes(&decode(&grantee.key)?)?;
        let sealer = GrantSealer::new(grantee.account, &public, &mut os_rng())?;
        let months = (grantee.records_from, grantee.records_to);
        for category in Category::ALL {
            if grantee.categories >> keys.root.slot_of(category.number())? & 1 == 0 {
                continue;
            }
            let sealed = seal(keys, &sealer, category, offer.from_generation, months)?;
            envelopes.push(envelope(grantee.account, &sealed));
        }
    }
    Ok(envelopes)
}

/// Seals the patient's keys of one category and generation for some months.
fn seal(
    keys: &PatientKeys,
    sealer: &GrantSealer,
    category: Category,
    generation: u32,
    months: (u16, u16),
) -> Result<Grant> {
    sealer
        .seal(
            &keys.root,
            keys.account,
            category.number(),
            generation,
            months.0..=months.1,
            &mut os_rng(),
        )
        .context("sealing the keys")
}

fn derive(keys: &PatientKeys, generations: &[(u8, u32)]) -> Result<Directory> {
    let month = SystemClock.now().month();
    Directory::derive(
        &keys.root,
        keys.account,
        generations,
        month,
        DIRECTORY_MONTHS,
    )
    .context("deriving the key directory")
}

/// Whether two addresses are the same gateway: equal, or the same port of this machine.
fn same_place(asked: &str, named: &str) -> bool {
    let parts = |url: &str| {
        let url = reqwest::Url::parse(url).ok()?;
        let host = url.host_str()?.to_owned();
        let is_local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        let host = if is_local {
            "localhost".to_owned()
        } else {
            host
        };
        Some((url.scheme().to_owned(), host, url.port_or_known_default()?))
    };
    parts(asked).is_some_and(|asked| parts(named) == Some(asked))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .context("the node's answer is not base64")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token is never fetched for another gateway than the one that was named.
    #[test]
    fn a_gateway_may_only_call_itself_what_it_is() {
        assert!(same_place("http://127.0.0.1:8480", "http://localhost:8480"));
        assert!(same_place("https://a.example", "https://a.example:443"));
        for (asked, named) in [
            ("http://localhost:8480", "http://localhost:8481"),
            ("http://localhost:8480", "https://localhost:8480"),
            ("https://a.example", "https://b.example"),
            ("https://a.example", ""),
        ] {
            assert!(!same_place(asked, named), "{asked} {named}");
        }
    }
}
