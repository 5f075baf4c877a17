//! The key service of an organisation: keys it looks after, wrapped at rest.
//!
//! It holds the root keys of managed patients and of the organisation itself, the X-Wing and
//! signing keys of the organisation and its practitioners, the grants they received, and writers'
//! directories. Every secret is sealed under a key of the vault's shred tree, so that removing one
//! (a patient claims the account) leaves nothing that opens, whatever lingers in old segments.
//! It decides nothing about consent: who may read is the custodian's and the ledger's matter.

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::Address;
use parking_lot::RwLock;
use rand_core::{CryptoRng, Rng};
use stele_core::{
    crypto::{
        Secret32, aead,
        hpke::{KemPublic, KemSecret},
        os_rng,
    },
    id::LogId,
};

use super::{
    directory::Directory,
    grant::{Grant, GrantOpener, GrantSealer},
    opened::{Granted, OpenedGrants},
    tree::{KeyPlace, RootKey},
};
use crate::{
    cid::sha256,
    codec::Reader,
    error::{Error, Result},
    shred::ShredTree,
    store::{Store, Table, Writes},
};

const ROOT: u8 = b'r';
const KEM: u8 = b'x';
const SIGNING: u8 = b's';
const GRANT: u8 = b'g';
const GENERATION: u8 = b'c';
const DIRECTORY: u8 = b'd';

/// Public keys kept at hand; one is about 5 KB expanded.
const CACHED_MAX: usize = 4096;

/// With whose keys a record is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// With the log's own root key, which this service manages.
    Root,
    /// With the grants this account received.
    Grantee(Address),
}

/// Log, category and month, and where a record of them is sealed to.
type WritingKeys = HashMap<(LogId, u8, u16), (KeyPlace, KemPublic)>;

/// The keys of one organisation.
pub struct KeyService {
    store: Arc<Store>,
    shred: ShredTree,
    writing_keys: RwLock<WritingKeys>,
    granted: OpenedGrants,
}

impl KeyService {
    pub(crate) fn new(store: Arc<Store>, shred: ShredTree) -> Self {
        Self {
            store,
            shred,
            writing_keys: RwLock::new(HashMap::new()),
            granted: OpenedGrants::default(),
        }
    }

    /// Takes over the root key of a log: a managed patient's or the organisation's own. Durable
    /// when it returns.
    ///
    /// # Errors
    /// [`Error::KeyExists`] if one is kept already; [`Error::Database`], [`Error::DiskFull`].
    pub async fn add_root(&self, log: LogId, root: &RootKey) -> Result<()> {
        self.add_secret(ROOT, log, root.secret()).await
    }

    /// The root key of a log, if this service manages it.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Crypto`].
    pub fn root(&self, log: LogId) -> Result<Option<RootKey>> {
        Ok(self.secret(ROOT, log)?.map(RootKey::new))
    }

    /// Whether this service manages the root key of a log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn manages(&self, log: LogId) -> Result<bool> {
        self.store.contains(Table::Keys, &key(ROOT, log))
    }

    /// Forgets the root key of a log for good: the patient has claimed the account.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Io`].
    pub async fn remove_root(&self, log: LogId) -> Result<()> {
        self.remove_secret(ROOT, log).await?;
        self.writing_keys
            .write()
            .retain(|(kept, _, _), _| *kept != log);
        Ok(())
    }

    /// Makes an X-Wing key for an account and gives the public half. If there is one already, that
    /// one's.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DiskFull`].
    pub async fn ensure_kem(
        &self,
        account: Address,
        rng: &mut impl CryptoRng,
    ) -> Result<KemPublic> {
        if let Some(secret) = self.kem(account)? {
            return Ok(secret.public());
        }
        let secret = KemSecret::random(rng).map_err(Error::crypto("making an X-Wing key"))?;
        self.add_secret(KEM, account, &secret.seed()).await?;
        Ok(secret.public())
    }

    /// The X-Wing key of an account, if it is kept here.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Crypto`].
    pub fn kem(&self, account: Address) -> Result<Option<KemSecret>> {
        self.secret(KEM, account)?
            .map(|seed| KemSecret::from_seed(&seed).map_err(Error::crypto("reading an X-Wing key")))
            .transpose()
    }

    /// Keeps the secp256k1 secret that signs for an account.
    ///
    /// # Errors
    /// [`Error::KeyExists`], [`Error::Database`], [`Error::DiskFull`].
    pub async fn add_signing(&self, account: Address, secret: &Secret32) -> Result<()> {
        self.add_secret(SIGNING, account, secret).await
    }

    /// The secp256k1 secret that signs for an account, if it is kept here.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Crypto`].
    pub fn signing(&self, account: Address) -> Result<Option<Secret32>> {
        self.secret(SIGNING, account)
    }

    /// Forgets the signing secret of an account for good.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Io`].
    pub async fn remove_signing(&self, account: Address) -> Result<()> {
        self.remove_secret(SIGNING, account).await
    }

    /// Keeps grants of keys that a grantee received from elsewhere, all or none. Checked by opening
    /// them if the grantee's key is here.
    ///
    /// # Errors
    /// [`Error::Crypto`] if one does not open with the grantee's key; [`Error::Database`].
    pub async fn add_grants(&self, grantee: Address, grants: &[Grant]) -> Result<()> {
        if let Some(secret) = self.kem(grantee)? {
            let mut opener = GrantOpener::new(grantee, secret);
            for grant in grants {
                opener.open(grant)?;
            }
        }
        self.keep_grants(grantee, grants).await
    }

    /// Keeps grants of keys that were sealed here, by [`Self::seal_grants`], all or none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn keep_grants(&self, grantee: Address, grants: &[Grant]) -> Result<()> {
        let mut writes = Writes::default();
        for grant in grants {
            writes.put(Table::Keys, grant_key(grantee, grant), grant.encode());
        }
        self.store.commit(writes).await?;
        self.granted.clear();
        Ok(())
    }

    /// The grants kept for a grantee over one log.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn grants(&self, grantee: Address, log: LogId) -> Result<Vec<Grant>> {
        let mut prefix = key(GRANT, grantee);
        prefix.extend_from_slice(log.as_slice());
        self.store
            .scan(Table::Keys, &prefix)
            .map(|entry| entry.and_then(|(_, bytes)| Grant::decode(&bytes)))
            .collect()
    }

    /// Forgets the grants of a grantee over one log and slot.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub async fn remove_grants(&self, grantee: Address, log: LogId, slot: u8) -> Result<()> {
        let mut writes = Writes::default();
        for grant in self
            .grants(grantee, log)?
            .iter()
            .filter(|grant| grant.slot == slot)
        {
            writes.remove(Table::Keys, grant_key(grantee, grant));
        }
        self.store.commit(writes).await?;
        self.granted.clear();
        Ok(())
    }

    /// Keeps a patient's directory, so that records can be written for that patient.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DiskFull`].
    pub async fn add_directory(&self, directory: &Directory) -> Result<()> {
        let mut writes = Writes::default();
        writes.put(
            Table::Keys,
            key(DIRECTORY, directory.log()),
            directory.encode(),
        );
        self.store.commit(writes).await?;
        self.writing_keys
            .write()
            .retain(|(log, _, _), _| *log != directory.log());
        Ok(())
    }

    /// The directory of a patient who keeps their own keys, if one was handed over.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn directory(&self, log: LogId) -> Result<Option<Directory>> {
        self.store
            .value(Table::Keys, &key(DIRECTORY, log))?
            .map(|bytes| Directory::decode(&bytes))
            .transpose()
    }

    /// The key generation that new records of a category are sealed to. 0 until it is changed.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn generation(&self, log: LogId, category: u8) -> Result<u32> {
        let mut at = key(GENERATION, log);
        at.push(category);
        let Some(bytes) = self.store.value(Table::Keys, &at)? else {
            return Ok(0);
        };
        let mut reader = Reader::new(&bytes, "a key generation");
        let generation = reader.u32()?;
        reader.end()?;
        Ok(generation)
    }

    /// Starts the next generation of a category of a managed log: grants made before do not open
    /// what is sealed from now on. Gives the new generation.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DiskFull`]; [`Error::OutOfRange`] after 2³² generations.
    pub async fn next_generation(&self, log: LogId, category: u8) -> Result<u32> {
        let next = self
            .generation(log, category)?
            .checked_add(1)
            .ok_or(Error::OutOfRange {
                what: "a key generation",
                limit: u64::from(u32::MAX),
            })?;
        let mut at = key(GENERATION, log);
        at.push(category);
        let mut writes = Writes::default();
        writes.put(Table::Keys, at, next.to_be_bytes().to_vec());
        self.store.commit(writes).await?;
        self.writing_keys
            .write()
            .retain(|(kept, of, _), _| (*kept, *of) != (log, category));
        Ok(next)
    }

    /// Seals the keys of some categories of a managed log to a grantee, in every generation so far,
    /// under one encapsulation.
    ///
    /// # Errors
    /// [`Error::UnknownLog`] if the root key is not managed here; [`Error::OutOfRange`].
    pub fn seal_grants(
        &self,
        log: LogId,
        categories: &[u8],
        epochs: &std::ops::RangeInclusive<u16>,
        grantee: (Address, &KemPublic),
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Grant>> {
        let root = self.root(log)?.ok_or(Error::UnknownLog { log })?;
        let (account, public) = grantee;
        let sealer = GrantSealer::new(account, public, rng)?;
        let mut sealed = Vec::with_capacity(categories.len());
        for category in categories {
            for generation in 0..=self.generation(log, *category)? {
                sealed.push(sealer.seal(&root, log, *category, generation, epochs.clone(), rng)?);
            }
        }
        Ok(sealed)
    }

    /// Where a new record of a category is sealed to, and the public key for it.
    ///
    /// # Errors
    /// [`Error::UnknownLog`] if neither the root key nor a directory of the log is here.
    pub fn writing_key(
        &self,
        log: LogId,
        category: u8,
        epoch: u16,
    ) -> Result<(KeyPlace, KemPublic)> {
        if let Some(found) = self.writing_keys.read().get(&(log, category, epoch)) {
            return Ok(found.clone());
        }
        let found = match self.root(log)? {
            Some(root) => {
                let generation = self.generation(log, category)?;
                let slot = root.slot_of(category)?;
                let public = root.category(category, generation).leaf(epoch)?.public();
                (
                    KeyPlace {
                        log,
                        slot,
                        generation,
                        epoch,
                    },
                    public,
                )
            }
            None => self
                .directory(log)?
                .ok_or(Error::UnknownLog { log })?
                .writing_key(category, epoch)?,
        };
        let mut cache = self.writing_keys.write();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        cache.insert((log, category, epoch), found.clone());
        Ok(found)
    }

    /// The private key of a place, as a holder has it.
    ///
    /// # Errors
    /// [`Error::NoKey`] if the holder has none.
    pub fn reading_key(&self, holder: Holder, place: &KeyPlace) -> Result<KemSecret> {
        match holder {
            Holder::Root => {
                let root = self.root(place.log)?.ok_or_else(|| place.no_key())?;
                let category = root.category_of(place.slot)?;
                root.category(category, place.generation).leaf(place.epoch)
            }
            Holder::Grantee(account) => self.granted_key(account, place),
        }
    }

    fn granted_key(&self, account: Address, place: &KeyPlace) -> Result<KemSecret> {
        let granted = self.granted.of(account, place.log, || {
            let secret = self.kem(account)?.ok_or_else(|| place.no_key())?;
            let grants = self.grants(account, place.log)?;
            Ok(Granted::new(account, secret, grants))
        })?;
        granted.secret(place)
    }

    /// Everything kept for an account but the grants it received: keys and values as they are stored.
    pub(crate) fn rows(&self, account: Address) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut rows = Vec::new();
        for kind in [ROOT, KEM, SIGNING, GENERATION, DIRECTORY] {
            for row in self.store.scan(Table::Keys, &key(kind, account)) {
                let (at, value) = row?;
                rows.push((at.to_vec(), value.to_vec()));
            }
        }
        Ok(rows)
    }

    /// Puts rows of an account back that are not here, all or none; gives how many. A secret whose key was destroyed
    /// here is passed over.
    pub(crate) async fn put_back(
        &self,
        account: Address,
        rows: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<u64> {
        let mut writes = Writes::default();
        let mut count = 0;
        for (at, value) in rows {
            let kind = at.first().copied().unwrap_or_default();
            if !at.starts_with(&key(kind, account)) {
                return Err(Error::Malformed {
                    what: "a key's row",
                    problem: "it is of another account",
                });
            }
            let is_destroyed = [ROOT, KEM, SIGNING].contains(&kind) && {
                let nonce = Reader::new(&value, "a wrapped key").array()?;
                self.wrapping_key(&at, &nonce).is_none()
            };
            let kept = self.store.value(Table::Keys, &at)?;
            // A generation only grows: the older one would let an ended grant read what is sealed from now on.
            let is_newer = kept.is_none_or(|kept| kind == GENERATION && *kept < *value);
            if !is_destroyed && is_newer {
                writes.put(Table::Keys, at, value);
                count += 1;
            }
        }
        if count > 0 {
            self.store.commit(writes).await?;
            self.writing_keys.write().clear();
        }
        Ok(count)
    }

    /// Forgets the grants that were opened.
    pub(crate) fn clear_opened(&self) {
        self.granted.clear();
    }

    async fn add_secret(&self, kind: u8, owner: Address, secret: &Secret32) -> Result<()> {
        let at = key(kind, owner);
        if self.store.contains(Table::Keys, &at)? {
            return Err(Error::KeyExists { owner });
        }
        // A fresh nonce names a fresh leaf of the shred tree, so a key that was destroyed may be
        // followed by another of the same owner.
        let mut nonce = [0; 16];
        os_rng().fill_bytes(&mut nonce);
        let wrapping = self
            .wrapping_key(&at, &nonce)
            .ok_or(Error::KeyExists { owner })?;
        let wrapped = aead::wrap(&wrapping, secret).map_err(Error::crypto("wrapping a key"))?;
        let mut writes = Writes::default();
        writes.put(Table::Keys, at, [&nonce[..], &wrapped[..]].concat());
        self.store.commit(writes).await
    }

    fn secret(&self, kind: u8, owner: Address) -> Result<Option<Secret32>> {
        let at = key(kind, owner);
        let Some(bytes) = self.store.value(Table::Keys, &at)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&bytes, "a wrapped key");
        let (nonce, wrapped) = (reader.array()?, reader.array()?);
        reader.end()?;
        self.wrapping_key(&at, &nonce)
            .map(|key| aead::unwrap(&key, &wrapped).map_err(Error::crypto("unwrapping a key")))
            .transpose()
    }

    async fn remove_secret(&self, kind: u8, owner: Address) -> Result<()> {
        let at = key(kind, owner);
        let Some(bytes) = self.store.value(Table::Keys, &at)? else {
            return Ok(());
        };
        let nonce = Reader::new(&bytes, "a wrapped key").array()?;
        self.shred.puncture(&[leaf(&at, &nonce)])?;
        let mut writes = Writes::default();
        writes.remove(Table::Keys, at);
        self.store.commit(writes).await
    }

    fn wrapping_key(&self, at: &[u8], nonce: &[u8; 16]) -> Option<Secret32> {
        self.shred
            .key(&leaf(at, nonce), "stele/key-service/v1", &[at])
    }
}

fn leaf(at: &[u8], nonce: &[u8; 16]) -> [u8; 32] {
    sha256(&[at, nonce].concat())
}

fn key(kind: u8, owner: Address) -> Vec<u8> {
    [&[kind], owner.as_slice()].concat()
}

fn grant_key(grantee: Address, grant: &Grant) -> Vec<u8> {
    let mut at = key(GRANT, grantee);
    at.extend_from_slice(grant.log.as_slice());
    at.push(grant.slot);
    at.extend_from_slice(&grant.generation.to_be_bytes());
    at.extend_from_slice(&grant.epochs.start().to_be_bytes());
    at.extend_from_slice(&grant.epochs.end().to_be_bytes());
    at
}
