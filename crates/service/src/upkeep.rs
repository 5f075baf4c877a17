//! What keeps a node well: when it was last backed up and checked, whether it has room and follows, and which keys it keeps.
//! The dates come from a small file beside the data folder, written by the commands that run while the node stands still.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stele_core::{id::PatientId, time::Timestamp};

use crate::{
    Service,
    directory::role,
    error::{Error, Result},
    ports::BlockRef,
    session::Actor,
};

/// Messages of HL7 v2 that are counted.
const MESSAGES_MAX: u32 = 1_000;

/// A task of upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `stele backup`.
    Backup,
    /// `stele verify vault`.
    VaultCheck,
    /// `stele verify chain`.
    ChainCheck,
    /// `stele keys rotate`.
    KeyRotation,
}

/// A task that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Done {
    /// When.
    pub at: Timestamp,
    /// Whether all was well.
    pub ok: bool,
    /// What came of it, in words.
    pub words: String,
}

/// When tasks of upkeep were last done; absent where never, or where the file is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upkeep {
    /// The last backup.
    pub backup: Option<Done>,
    /// The last check of the vault.
    pub vault_check: Option<Done>,
    /// The last execution of the whole chain.
    pub chain_check: Option<Done>,
    /// The last change of the key that unlocks the vault.
    pub key_rotation: Option<Done>,
}

impl Upkeep {
    /// Reads the file; an absent one says that nothing was done.
    ///
    /// # Errors
    /// The file can't be read, or is none of these.
    pub fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Notes in the file that a task was done. The file is whole at every moment.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn note(path: &Path, task: Task, done: Done) -> io::Result<()> {
        let mut upkeep = Self::read(path)?;
        let place = match task {
            Task::Backup => &mut upkeep.backup,
            Task::VaultCheck => &mut upkeep.vault_check,
            Task::ChainCheck => &mut upkeep.chain_check,
            Task::KeyRotation => &mut upkeep.key_rotation,
        };
        *place = Some(done);
        let part = path.with_extension("upkeep-part");
        fs::write(&part, serde_json::to_vec_pretty(&upkeep)?)?;
        fs::rename(&part, path)
    }
}

/// How the node is, for its administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Height of the last block.
    pub height: u64,
    /// Its age in milliseconds.
    pub block_age_ms: u64,
    /// Blocks that the index has not followed yet.
    pub index_lag: u64,
    /// Receipts of the actor's organisation that the ledger does not have yet.
    pub unanchored: u64,
    /// Ciphertexts in the vault, approximately.
    pub blobs: u64,
    /// Free bytes on the disk, and those that must stay free; absent where the file system does not say.
    pub room: Option<(u64, u64)>,
    /// Messages of HL7 v2 that wait, and those that are parked for the operator.
    pub messages: (usize, usize),
    /// What was done last.
    pub upkeep: Upkeep,
    /// Patients of the actor's organisation whose keys are kept here, and those who keep their own.
    pub custody: (usize, usize),
    /// Validators of the present epoch: key, and the organisation that seated it.
    pub validators: Vec<(B256, Address)>,
}

/// Keys of an organisation. No secret, and nothing that a secret follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The organisation's account, and whether its signing key is kept here.
    pub signing: (Address, bool),
    /// When the account was registered.
    pub registered: Option<Timestamp>,
    /// SHA-256 of the public key that others seal to; absent where the key is elsewhere.
    pub encryption: Option<String>,
    /// The organisation's validators.
    pub validators: Vec<B256>,
    /// When the key that unlocks the vault was last changed.
    pub unlock: Option<Done>,
    /// Members: account, added keys that speak now, and the last passkey made here.
    pub members: Vec<(Address, usize, Option<Timestamp>)>,
    /// Patients whose keys are kept here, and those who keep their own.
    pub custody: (usize, usize),
}

impl Service {
    /// Where the dates of upkeep are noted.
    pub fn keep_upkeep_in(&self, path: PathBuf) {
        // Set once, at start; a second call would be a mistake of the wiring and changes nothing.
        let _ = self.upkeep_file.set(path);
    }

    fn upkeep(&self) -> Result<Upkeep> {
        let read = self.upkeep_file.get().map(|path| Upkeep::read(path));
        read.transpose()
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::internal("reading the dates of upkeep", error))
    }

    /// How the node is.
    ///
    /// # Errors
    /// The actor is no administrator; the stores can't answer.
    pub fn health(&self, actor: &Actor) -> Result<Health> {
        const WHAT: &str = "looking at the node's health";
        self.require_role(actor, role::ADMINISTRATOR, FOR_ADMINISTRATORS)?;
        let block = self
            .ledger
            .block(BlockRef::Latest)
            .map_err(Error::ledger(WHAT))?
            .ok_or_else(|| Error::internal(WHAT, "there is no block"))?;
        let height = block.header.number;
        let chain = self.index.chain();
        let followed = chain.height().map_err(Error::index(WHAT))?;
        let organization = actor.organization;
        let (written, _) = self
            .index
            .local()
            .receipt_head(organization.0)
            .map_err(Error::index(WHAT))?;
        let (anchored, _) = self.anchored_head(organization.0)?;
        let messages = self.messages(MESSAGES_MAX)?;
        let parked = messages.iter().filter(|one| one.state == "parked").count();
        Ok(Health {
            height,
            block_age_ms: self.clock.now().0.saturating_sub(block.header.timestamp_ms),
            index_lag: height.saturating_sub(followed.unwrap_or_default()),
            unanchored: written.saturating_sub(anchored),
            blobs: self.vault.store().blobs(),
            room: self.vault.room(),
            messages: (messages.len().saturating_sub(parked), parked),
            upkeep: self.upkeep()?,
            custody: self.custody(actor)?,
            validators: chain.validators().map_err(Error::index(WHAT))?,
        })
    }

    /// Which keys the actor's organisation has.
    ///
    /// # Errors
    /// The actor is no administrator; the stores can't answer.
    pub fn keys(&self, actor: &Actor) -> Result<Keys> {
        const WHAT: &str = "listing keys";
        self.require_role(actor, role::ADMINISTRATOR, FOR_ADMINISTRATORS)?;
        let organization = actor.organization.0;
        let chain = self.index.chain();
        let keys = self.vault.keys();
        let own = chain.account(organization).map_err(Error::index(WHAT))?;
        let validators = chain.validators().map_err(Error::index(WHAT))?;
        let mut members = Vec::new();
        for member in self.members(actor)? {
            let added = chain
                .keys_of(member.account)
                .map_err(Error::index(WHAT))?
                .into_iter()
                .filter(|key| !key.removed)
                .count();
            let last = self.passkeys(member.account)?;
            let last = last.iter().map(|one| one.added).max();
            members.push((member.account, added, last));
        }
        let signing = keys.signing(organization).map_err(Error::vault(WHAT))?;
        let encryption = keys.kem(organization).map_err(Error::vault(WHAT))?;
        Ok(Keys {
            signing: (organization, signing.is_some()),
            registered: own.map(|own| own.registered.at),
            encryption: encryption
                .map(|secret| hex::encode(Sha256::digest(secret.public().to_bytes()))),
            validators: validators
                .into_iter()
                .filter(|(_, of)| *of == organization)
                .map(|(key, _)| key)
                .collect(),
            unlock: self.upkeep()?.key_rotation,
            members,
            custody: self.custody(actor)?,
        })
    }

    /// Patients of the actor's organisation whose keys are kept here, and those who keep their own.
    fn custody(&self, actor: &Actor) -> Result<(usize, usize)> {
        let patients = self.accounts_of(actor.organization, 3)?;
        let mut managed = 0_usize;
        for patient in patients.iter().copied().map(PatientId) {
            let is_managed = self.vault.keys().manages(patient.0);
            let is_managed = is_managed.map_err(Error::vault("asking for a key"))?;
            managed = managed.saturating_add(usize::from(is_managed));
        }
        Ok((managed, patients.len().saturating_sub(managed)))
    }
}

const FOR_ADMINISTRATORS: &str = "This is for administrators";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_the_last_of_each_task() {
        let folder = std::env::temp_dir().join(format!("stele-upkeep-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("data.upkeep");
        assert_eq!(Upkeep::read(&path).unwrap(), Upkeep::default());
        let done = |at, ok| Done {
            at: Timestamp(at),
            ok,
            words: "x".into(),
        };
        Upkeep::note(&path, Task::Backup, done(1, true)).unwrap();
        Upkeep::note(&path, Task::VaultCheck, done(2, false)).unwrap();
        Upkeep::note(&path, Task::Backup, done(3, true)).unwrap();
        let read = Upkeep::read(&path).unwrap();
        assert_eq!(read.backup, Some(done(3, true)));
        assert_eq!(read.vault_check, Some(done(2, false)));
        assert_eq!(read.chain_check, None);
        fs::write(&path, b"{\"backup\":1}").unwrap();
        assert!(Upkeep::read(&path).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
