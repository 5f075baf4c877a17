//! The keys of this node's validator, what it promised with them, and those that a new member begins with.

pub(crate) mod promise;

use std::{fs, path::Path};

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use stele_consensus::SignerSeed;
use stele_core::{account::AccountKey, crypto::Secret32, id::OrganizationId};
use stele_service::Service;
use stele_vault::Vault;
use zeroize::Zeroizing;

use crate::config::Config;

/// File in the data folder with the number of the validator's newest key; absent while that is 0.
const KEY_NUMBER_FILE: &str = "validator-key";
/// Most keys a validator may have had.
const KEYS_MAX: u32 = 64;

/// A validator's signing key: derived from the vault's master key, so that one file unlocks everything. The first has
/// number 0, one that takes its place the next number.
pub(super) fn signer(vault: &Vault, number: u32) -> SignerSeed {
    let seed: Secret32 = match number {
        0 => vault.purpose_key("validator"),
        number => vault.purpose_key(&format!("validator/{number}")),
    };
    SignerSeed::new(Zeroizing::new(*seed.expose()))
}

/// A new member's keys.
pub(crate) struct NewMember {
    pub(crate) organization: OrganizationId,
    pub(crate) validator: B256,
    /// The organisation's on-chain key, for what it has to sign at once.
    pub(crate) key: AccountKey,
}

/// Makes a data folder with a vault and the keys of one organisation and its validator in it. The genesis that names
/// them comes later.
pub(crate) async fn make_member(data: &Path) -> Result<NewMember> {
    let config = Config {
        data: data.to_owned(),
        ..Config::default()
    };
    fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
    let unlock = config.unlock(true)?;
    crate::config::check_format(data)?;
    let vault = Vault::open(&stele_vault::Config::new(data.join("vault")), &unlock)
        .await
        .context("making the vault")?;
    let organization = Service::make_organization_keys(&vault).await?;
    let validator = B256::from(*signer(&vault, 0).public_key().as_bytes());
    let secret = vault.keys().signing(organization.0)?;
    let key = AccountKey::new(secret.context("the organisation's key is not there")?)?;
    tokio::task::spawn_blocking(move || vault.close())
        .await?
        .context("closing the vault")?;
    Ok(NewMember {
        organization,
        validator,
        key,
    })
}

/// All signing keys this validator has had, the newest first.
pub(crate) fn signers(data: &Path, vault: &Vault) -> Result<Vec<SignerSeed>> {
    let newest = key_number(data)?;
    Ok((0..=newest).rev().map(|n| signer(vault, n)).collect())
}

fn key_number(data: &Path) -> Result<u32> {
    let path = data.join(KEY_NUMBER_FILE);
    if !path.exists() {
        return Ok(0);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let number: u32 = text
        .trim()
        .parse()
        .with_context(|| format!("{} holds no number", path.display()))?;
    if number >= KEYS_MAX {
        bail!("{}: {number} is not below {KEYS_MAX}", path.display());
    }
    Ok(number)
}

/// Makes another signing key for the validator of a data folder whose node is stopped, and gives its public half. The
/// one in use stays until the consortium seats the new one.
pub(crate) async fn new_validator_key(config: &Config) -> Result<B256> {
    let _lock = super::lock(&config.data)?;
    let unlock = config.unlock(false)?;
    let vault = Vault::open(
        &stele_vault::Config::new(config.data.join("vault")),
        &unlock,
    )
    .await
    .context("opening the vault")?;
    let number = key_number(&config.data)?.saturating_add(1);
    if number >= KEYS_MAX {
        bail!("this validator has had {KEYS_MAX} keys, and there are no more");
    }
    let path = config.data.join(KEY_NUMBER_FILE);
    let part = path.with_extension("part");
    fs::write(&part, format!("{number}\n"))
        .and_then(|()| fs::rename(&part, &path))
        .with_context(|| format!("writing {}", path.display()))?;
    let key = B256::from(*signer(&vault, number).public_key().as_bytes());
    tokio::task::spawn_blocking(move || vault.close())
        .await?
        .context("closing the vault")?;
    Ok(key)
}
