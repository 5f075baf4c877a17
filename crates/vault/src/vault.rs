//! The vault of one organisation: its store, keys and custodian, opened together.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, local::LocalFileSystem, prefix::PrefixStore};
use parking_lot::{Mutex, RwLock};
use stele_core::{
    crypto::{Secret32, hpke::Exporter, kdf, keystore::Unlock},
    id::RecordId,
};

use crate::{
    cid::Digest,
    custodian::Custodian,
    custody::Custodies,
    error::{Error, Result},
    keys::{Holder, KeyService},
    meta::{self, RecordMeta},
    shred::ShredTree,
    store::{Store, StoreConfig, Table},
    unlock,
};

/// Where a vault lives and how much it may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything the vault keeps.
    pub folder: PathBuf,
    /// Store of blobs above 256 KiB; a folder inside `folder` if none is given.
    pub objects: Option<Arc<dyn ObjectStore>>,
    /// Bytes that must stay free on the disk for a write to be accepted.
    pub reserve_bytes: u64,
    /// Bytes of the database's read cache.
    pub cache_bytes: u64,
}

impl Config {
    /// A vault in a folder, with 64 MiB kept free and 32 MiB of cache.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            objects: None,
            reserve_bytes: 64 << 20,
            cache_bytes: 32 << 20,
        }
    }
}

/// Contexts kept unwrapped between [`Vault::clear_cached_keys`]; one is about 300 bytes.
const CACHED_MAX: usize = 8192;

/// Unwrappings that may go on side by side.
const UNWRAPPING: usize = 16;

type ExporterCache = HashMap<(Holder, Digest), Arc<Exporter>>;

/// The vault. Shareable; all methods take `&self`.
pub struct Vault {
    pub(crate) store: Arc<Store>,
    pub(crate) records: ShredTree,
    pub(crate) custodian: Custodian,
    pub(crate) keys: KeyService,
    exporters: RwLock<ExporterCache>,
    /// Readers of the same records wait for the first one's unwrapping instead of repeating it.
    unwrapping: [Mutex<()>; UNWRAPPING],
    master: Secret32,
    master_path: PathBuf,
    /// One change of the unlocking key at a time.
    unlocking: Mutex<()>,
    /// Metas are rewritten, or records removed; never both.
    pub(crate) rewriting: tokio::sync::Mutex<()>,
}

impl Vault {
    /// Opens the vault in a folder, or makes one. Applies the tombstones it knows, so that erased
    /// keys stay erased even over an older copy of its files, and removes half-written objects.
    ///
    /// # Errors
    /// [`Error::Crypto`] if `unlock` is not what the vault was made with; [`Error::Io`],
    /// [`Error::Database`], [`Error::Objects`] if its files cannot be used.
    pub async fn open(config: &Config, unlock: &Unlock) -> Result<Self> {
        let folder = &config.folder;
        std::fs::create_dir_all(folder).map_err(Error::io("creating the folder", folder))?;
        let master_path = folder.join("master.key");
        let master = unlock::master_key(&master_path, unlock)?;
        let tree = |name: &'static str| {
            let at_rest = kdf::derive(
                master.expose(),
                "stele/vault/at-rest/v1",
                &[name.as_bytes()],
            );
            ShredTree::open(&folder.join(name), at_rest)
        };
        let objects = match &config.objects {
            Some(objects) => shared_objects(objects, &master),
            None => local_objects(&folder.join("objects"))?,
        };
        let store = Arc::new(Store::open(&StoreConfig {
            folder: &folder.join("db"),
            objects,
            reserve_bytes: config.reserve_bytes,
            cache_bytes: config.cache_bytes,
        })?);
        let custodies = Custodies::open(&folder.join("custody"), master.clone())?;
        let vault = Self {
            records: tree("records.shred")?,
            custodian: Custodian::new(tree("custodian.shred")?, custodies),
            keys: KeyService::new(Arc::clone(&store), tree("keys.shred")?),
            store,
            exporters: RwLock::new(HashMap::new()),
            unwrapping: Default::default(),
            master,
            master_path,
            unlocking: Mutex::new(()),
            rewriting: tokio::sync::Mutex::new(()),
        };
        vault.reapply_tombstones().await?;
        vault.end_keeping_alone()?;
        vault.store.sweep().await?;
        Ok(vault)
    }

    /// The blockstore, for serving and verifying ciphertext.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The keys this organisation looks after.
    #[must_use]
    pub const fn keys(&self) -> &KeyService {
        &self.keys
    }

    /// The custodian of peppers.
    #[must_use]
    pub const fn custodian(&self) -> &Custodian {
        &self.custodian
    }

    /// A secret of this vault for another store of the same member (the index, local state): 32
    /// bytes derived from the master key for one purpose.
    #[must_use]
    pub fn purpose_key(&self, purpose: &str) -> Secret32 {
        kdf::derive(
            self.master.expose(),
            "stele/vault/purpose/v1",
            &[purpose.as_bytes()],
        )
    }

    pub(crate) const fn master(&self) -> &Secret32 {
        &self.master
    }

    /// Changes the passphrase or key file that opens the vault.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`].
    pub fn change_unlock(&self, unlock: &Unlock) -> Result<()> {
        let _one_at_a_time = self.unlocking.lock();
        unlock::write_master_key(&self.master_path, &self.master, unlock)
    }

    /// Says early whether the disk takes records now, so that nothing is prepared for a write that will be refused.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub fn require_room(&self) -> Result<()> {
        self.store.require_room()
    }

    /// Free bytes on the disk that the records are on, and those that must stay free. `None` where the file system does
    /// not say.
    #[must_use]
    pub fn room(&self) -> Option<(u64, u64)> {
        self.store.room()
    }

    /// Ends writing for good, so that the files are whole in themselves: to be called once before the process ends.
    /// A vault that is not closed loses nothing; its next opening reads the journal.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Io`].
    pub fn close(&self) -> Result<()> {
        self.store.close()
    }

    /// The meta of one record version. `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Erased`]; [`Error::RecordMismatch`] if the stored bytes were altered.
    pub fn meta(&self, record: &RecordId, version: u32) -> Result<Option<RecordMeta>> {
        match self
            .store
            .value(Table::Meta, &meta::table_key(record, version))?
        {
            Some(sealed) => RecordMeta::open(&self.records, *record, version, &sealed).map(Some),
            None if self.is_erased(record)? => Err(Error::Erased { record: *record }),
            None => Ok(None),
        }
    }

    /// Metas of all versions of a record, oldest first.
    ///
    /// # Errors
    /// As [`Self::meta`].
    pub fn versions(&self, record: &RecordId) -> Result<Vec<RecordMeta>> {
        self.store
            .scan(Table::Meta, record.as_bytes())
            .map(|entry| {
                let (key, sealed) = entry?;
                let (record, version) = meta::parse_table_key(&key)?;
                RecordMeta::open(&self.records, record, version, &sealed)
            })
            .collect()
    }

    /// Metas of every record version here, in the order of record ids. For rebuilding an index.
    pub fn all_metas(&self) -> impl Iterator<Item = Result<RecordMeta>> {
        self.store.scan(Table::Meta, &[]).map(|entry| {
            let (key, sealed) = entry?;
            let (record, version) = meta::parse_table_key(&key)?;
            RecordMeta::open(&self.records, record, version, &sealed)
        })
    }

    /// Forgets unwrapped key contexts. To be called once a block: a revoked grantee's must not
    /// outlive it.
    pub fn clear_cached_keys(&self) {
        self.exporters.write().clear();
        self.keys.clear_opened();
    }

    pub(crate) fn cached_exporter(
        &self,
        holder: Holder,
        encapsulation: &Digest,
        find: impl FnOnce() -> Result<Exporter>,
    ) -> Result<Arc<Exporter>> {
        let at = (holder, *encapsulation);
        if let Some(found) = self.exporters.read().get(&at) {
            return Ok(Arc::clone(found));
        }
        let [turn, ..] = *encapsulation;
        let _turn = self
            .unwrapping
            .get(usize::from(turn) % UNWRAPPING)
            .map(Mutex::lock);
        if let Some(found) = self.exporters.read().get(&at) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(find()?);
        let mut cache = self.exporters.write();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        cache.insert(at, Arc::clone(&found));
        Ok(found)
    }
}

/// A part of a shared store that is this vault's alone, so that sweeping it touches no other's.
fn shared_objects(objects: &Arc<dyn ObjectStore>, master: &Secret32) -> Arc<dyn ObjectStore> {
    let name = kdf::derive(master.expose(), "stele/vault/objects/v1", &[]);
    let prefix = alloy_primitives::hex::encode(name.expose().first_chunk::<8>().unwrap_or(&[0; 8]));
    Arc::new(PrefixStore::new(Arc::clone(objects), prefix))
}

fn local_objects(folder: &Path) -> Result<Arc<dyn ObjectStore>> {
    std::fs::create_dir_all(folder).map_err(Error::io("creating the folder", folder))?;
    let objects = LocalFileSystem::new_with_prefix(folder)
        .map_err(Error::objects("opening"))?
        .with_fsync(true);
    Ok(Arc::new(objects))
}

#[cfg(test)]
mod tests;
