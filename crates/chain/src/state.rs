//! The chain's state: accounts, storage and code under an Ethereum Merkle-Patricia root, and the blocks that led
//! there.
//!
//! Owns everything the chain keeps on disk. A block's effect lives in an [`Overlay`] until the block is final; then
//! [`State::commit`] writes the whole block in one durable batch, or nothing of it. Only the state after the last
//! final block is kept, with its trie nodes stored by path, so nothing accumulates and proofs are for the latest
//! block.
//!
//! Reads go through the trie and every node is checked against the hash its parent holds: what a [`StateView`]
//! returns is what the state root commits to, or an error. There is no second, unchecked copy to disagree with it.
//! Must never return state that was not checked, and must never depend on time, randomness or the order of a hash
//! map. The executor writes here, queries read here.

mod blocks;
mod disk;
mod error;
mod format;
mod head;
mod incoming;
mod logs;
mod memory;
mod nodes;
mod overlay;
mod parts;
mod place;
mod rows;
mod store;
mod trie;
mod verify;
mod view;
mod walk;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use alloy_primitives::{B256, keccak256};
use stele_core::{
    block::{Block, Receipt},
    epoch::Change,
};

pub use blocks::TransactionLocation;
pub use disk::{DiskOptions, DiskStore};
pub use error::Error;
pub use format::FORMAT;
pub use head::Head;
pub(crate) use incoming::Incoming;
pub use logs::{FoundLog, FoundLogs, LogFilter};
pub(crate) use memory::MemoryReader;
pub use memory::MemoryStore;
pub use overlay::{Overlay, Pending};
pub use parts::WrongPart;
pub(crate) use parts::decode_wants;
pub use store::{Batch, Operation, Reader, Row, Store, Table};
pub use verify::{Verified, VerifyStep};
pub use view::{AccountProof, SlotRange, StateView, StorageProof};

use self::{
    head::Marker,
    nodes::{NodeCache, Owner},
    overlay::Layer,
    place::Place,
    view::Base,
};

/// Limits of the state store.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// Verified trie nodes kept in memory, in bytes.
    pub node_cache_bytes: u64,
    /// Limits of the store on disk.
    pub disk: DiskOptions,
}

impl Default for StateOptions {
    /// The cache holds every branch of a trie of about a million keys.
    fn default() -> Self {
        Self {
            node_cache_bytes: 96 << 20,
            disk: DiskOptions::default(),
        }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The block was written and is durable.
    Written,
    /// The block was final already; nothing was written.
    AlreadyFinal,
}

/// The chain's state and blocks.
pub struct State {
    /// Replaced once at most, by [`State::adopt`].
    store: RwLock<Arc<dyn Store>>,
    options: StateOptions,
    place: Option<Place>,
    marker: Option<Marker>,
    cache: Arc<NodeCache>,
    latest: RwLock<StateView>,
    /// Effects of executed blocks that are not final, by digest.
    overlays: RwLock<BTreeMap<B256, Arc<Overlay>>>,
    committing: Mutex<()>,
}

impl State {
    /// Opens the state in `folder`, creating it if there is none, and migrates it to the current format.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] if a newer version wrote it; [`Error::Damaged`] or [`Error::Truncated`] if the files
    /// are not what was written; [`Error::Store`] if they are locked or cannot be reached.
    pub fn open(folder: &Path, options: StateOptions) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::store("creating the folder", error.into()))?;
        let marker = Marker::open(&folder.join("HEAD"))?;
        let place = Place::of(folder)?;
        let store = DiskStore::open(&place.store(), options.disk)
            .map_err(|error| error.at(marker.height()))?;
        let mut state = Self::with_store(Arc::new(store), Some(marker), options)?;
        if state.head().is_some_and(|head| head.height > 0) {
            place.clean_up();
        }
        state.place = Some(place);
        Ok(state)
    }

    /// A state in memory: nothing survives it.
    ///
    /// # Errors
    /// None in practice; the signature is that of a store.
    pub fn in_memory() -> Result<Self, Error> {
        Self::over(Arc::new(MemoryStore::new()), StateOptions::default())
    }

    /// A state over any store, without the head marker that notices a store that lost its end.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn over(store: Arc<dyn Store>, options: StateOptions) -> Result<Self, Error> {
        Self::with_store(store, None, options)
    }

    fn with_store(
        store: Arc<dyn Store>,
        marker: Option<Marker>,
        options: StateOptions,
    ) -> Result<Self, Error> {
        let named = marker.as_ref().map_or(0, Marker::height);
        format::migrate(&*store, named)?;
        let reader = store.snapshot();
        let head = blocks::read_head(&*reader, named)?;
        if let Some(marker) = &marker {
            marker.check(head.as_ref())?;
        }
        let cache = Arc::new(NodeCache::new(options.node_cache_bytes));
        let base = Base::new(reader, head, Arc::clone(&cache));
        let latest = StateView::new(Arc::new(base), Vec::new());
        latest.check_end()?;
        Ok(Self {
            store: RwLock::new(store),
            options,
            place: None,
            marker,
            cache,
            latest: RwLock::new(latest),
            overlays: RwLock::default(),
            committing: Mutex::new(()),
        })
    }

    /// The last final block; `None` before genesis.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.latest().head()
    }

    /// The state and blocks up to the last final block. Hold it for one query, not for long: what it sees is kept
    /// on disk for it.
    #[must_use]
    pub fn latest(&self) -> StateView {
        self.latest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The state after block `digest`: the last final block, or one executed on top of it. Zero stands for the state
    /// before genesis.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] if it is neither: its ancestors were not executed, or it lost to another block.
    pub fn view_on(&self, digest: B256) -> Result<StateView, Error> {
        let overlays = self.overlays.read().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest();
        let end = latest.head().map_or(B256::ZERO, |head| head.hash);
        let mut layers = Vec::new();
        let mut at = digest;
        while at != end {
            let overlay = overlays.get(&at).ok_or(Error::UnknownBlock { digest })?;
            layers.push(Layer {
                digest: at,
                overlay: Arc::clone(overlay),
            });
            at = overlay.parent;
        }
        drop(overlays);
        layers.reverse();
        Ok(StateView::new(Arc::clone(latest.base()), layers))
    }

    /// Keeps the effect of an executed block until it, or another block at its height, is final.
    pub fn insert(&self, digest: B256, overlay: Arc<Overlay>) {
        let mut overlays = self
            .overlays
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let next = self.head().map_or(0, |head| head.height.saturating_add(1));
        if overlay.height >= next {
            overlays.insert(digest, overlay);
        }
    }

    /// The effect of an executed block that is not final, if it is known.
    #[must_use]
    pub fn overlay(&self, digest: &B256) -> Option<Arc<Overlay>> {
        self.overlays
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned()
    }

    /// Makes an executed block final: writes its state, the block, receipts, certificate and indexes in one batch
    /// and returns when it is on stable storage. A block that is final already is left as it is.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] if its effect was not inserted, [`Error::Gap`] if an earlier height is missing,
    /// [`Error::Conflict`] if it contradicts the chain or its own header, [`Error::Store`] if it could not be written.
    pub fn commit(
        &self,
        block: &Block,
        receipts: &[Receipt],
        certificate: &[u8],
    ) -> Result<Commit, Error> {
        let guard = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest();
        let (height, hash) = (block.header.number, block.hash());
        let (parent, next) = latest.next_block();
        if height < next {
            let stored = latest.block_hash(height)?.unwrap_or_default();
            expect("block", height, stored, hash)?;
            return Ok(Commit::AlreadyFinal);
        }
        if height > next {
            return Err(Error::Gap {
                next,
                offered: height,
            });
        }
        expect("parent", height, parent, block.header.parent_hash)?;
        let overlay = self
            .overlay(&hash)
            .ok_or(Error::UnknownBlock { digest: hash })?;
        expect("parent", height, parent, overlay.parent)?;
        expect("state root", height, overlay.root, block.header.state_root)?;
        if receipts.len() != block.transactions.len() {
            return Err(Error::Invariant(
                "a block was committed without all its receipts",
            ));
        }

        let head = Head {
            height,
            hash,
            state_root: overlay.root,
            genesis_hash: latest.head().map_or(hash, |head| head.genesis_hash),
        };
        let mut batch = Batch::default();
        blocks::put_block(&mut batch, &head, block, receipts, certificate);
        logs::put_index(&mut batch, height, receipts);
        if let Some(validators) = &overlay.validators {
            blocks::put_validators(&mut batch, validators);
        }
        self.put_state(&mut batch, latest.base(), &overlay)?;
        self.store().write(batch)?;
        self.advance(head, &overlay);
        if let Some(marker) = &self.marker {
            marker.write(height, hash)?;
        }
        drop(guard);
        Ok(Commit::Written)
    }

    /// Notes durably that an epoch was ended by hand at the last final block, and forgets every block executed above it.
    ///
    /// # Errors
    /// [`Error::Store`] if it could not be written.
    pub(crate) fn recover(&self, epoch: u64, change: &Change) -> Result<(), Error> {
        let guard = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let head = self
            .head()
            .ok_or(Error::Invariant("a chain without its first block"))?;
        let mut batch = Batch::default();
        blocks::put_recovery(&mut batch, epoch, change)?;
        self.store().write(batch)?;
        let view = self.view_of(head);
        let mut overlays = self
            .overlays
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = view;
        overlays.clear();
        drop(overlays);
        drop(guard);
        Ok(())
    }

    /// The store in use.
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn view_of(&self, head: Head) -> StateView {
        let reader = self.store().snapshot();
        let base = Base::new(reader, Some(head), Arc::clone(&self.cache));
        StateView::new(Arc::new(base), Vec::new())
    }

    /// A place for the state and blocks of another node, or what is there of them already.
    ///
    /// # Errors
    /// [`Error::Invariant`] once blocks are committed here, [`Error::Store`] if it can't be opened.
    pub(crate) fn incoming(&self) -> Result<Incoming, Error> {
        self.expect_new()?;
        let Some(place) = &self.place else {
            return Incoming::over(Arc::new(MemoryStore::new()));
        };
        let opened = DiskStore::open(&place.snapshot(), self.options.disk);
        if let Ok(store) = opened {
            return Incoming::over(Arc::new(store));
        }
        // What can't be opened is not worth a look: everything in it can be fetched again.
        place.discard_snapshot()?;
        let store = DiskStore::open(&place.snapshot(), self.options.disk)?;
        Incoming::over(Arc::new(store))
    }

    /// What comes in lies where the store in use may come to lie.
    fn expect_new(&self) -> Result<(), Error> {
        match self.head() {
            Some(head) if head.height == 0 => Ok(()),
            Some(_) | None => Err(Error::Invariant("a snapshot is for a chain without blocks")),
        }
    }

    /// Forgets what came in and is not in use.
    ///
    /// # Errors
    /// [`Error::Invariant`] once blocks are committed here, [`Error::Store`] if it can't be removed.
    pub(crate) fn discard_incoming(&self) -> Result<(), Error> {
        self.expect_new()?;
        self.place.as_ref().map_or(Ok(()), Place::discard_snapshot)
    }

    /// Goes on with what came in instead of with the state at height 0. From when this returns, also at every later
    /// start.
    ///
    /// # Errors
    /// [`Error::Gap`] if blocks were committed here meanwhile, [`Error::Conflict`] for another chain's,
    /// [`Error::Invariant`] if something is lacking, [`Error::Store`] if it could not be written.
    pub(crate) fn adopt(&self, incoming: Incoming) -> Result<Head, Error> {
        let guard = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let here = self
            .head()
            .ok_or(Error::Invariant("a chain without its first block"))?;
        let (store, head) = incoming.finish()?;
        if here.height > 0 {
            return Err(Error::Gap {
                next: here.height.saturating_add(1),
                offered: head.height,
            });
        }
        expect("genesis", 0, here.genesis_hash, head.genesis_hash)?;
        if let Some(place) = &self.place {
            place.turn_to_snapshot()?;
        }
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        let view = self.view_of(head);
        view.check_end()?;
        let mut overlays = self
            .overlays
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = view;
        overlays.clear();
        drop(overlays);
        if let Some(marker) = &self.marker {
            marker.write(head.height, head.hash)?;
        }
        drop(guard);
        Ok(head)
    }

    fn put_state(&self, batch: &mut Batch, base: &Base, overlay: &Overlay) -> Result<(), Error> {
        for (hash, code) in &overlay.code {
            rows::put(batch, Table::Code, hash.as_slice(), code);
        }
        put_nodes(batch, Owner::Accounts, &overlay.account_nodes);
        for (address, delta) in &overlay.storage_nodes {
            let owner = Owner::Storage(*address);
            if delta.wiped {
                remove_trie(batch, base, owner)?;
            }
            put_nodes(batch, owner, delta);
        }
        Ok(())
    }

    /// Lets readers see the committed block.
    fn advance(&self, head: Head, overlay: &Overlay) {
        let deltas = std::iter::once(&overlay.account_nodes).chain(overlay.storage_nodes.values());
        for node in deltas.flat_map(|delta| delta.nodes.values()).flatten() {
            // The next block passes through branches again; a leaf it rarely meets.
            if node.rlp.len() > LEAF_TYPICAL_BYTES {
                self.cache.insert(node.hash, node.rlp.clone());
            }
        }
        let view = self.view_of(head);
        let mut overlays = self
            .overlays
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = view;
        overlays.retain(|_, overlay| overlay.height > head.height);
    }
}

fn expect(part: &'static str, height: u64, expected: B256, offered: B256) -> Result<(), Error> {
    if expected == offered {
        return Ok(());
    }
    Err(Error::Conflict {
        height,
        part,
        expected,
        offered,
    })
}

fn put_nodes(batch: &mut Batch, owner: Owner, delta: &trie::TrieDelta) {
    for (path, node) in &delta.nodes {
        let key = owner.node_key(path);
        match node {
            Some(node) => batch.put(owner.table(), key, node.rlp.clone()),
            None => batch.remove(owner.table(), key),
        }
    }
}

/// Removes every node of a storage trie.
fn remove_trie(batch: &mut Batch, base: &Base, owner: Owner) -> Result<(), Error> {
    let Owner::Storage(address) = owner else {
        return Ok(());
    };
    let mut from = address.to_vec();
    let mut to = address.to_vec();
    // No path is longer than 32 bytes, and the byte before it is 0 or 1.
    to.extend_from_slice(&[0xff]);
    loop {
        const ROWS_AT_ONCE: usize = 1024;
        let rows = base
            .reader()
            .range(owner.table(), &from, &to, ROWS_AT_ONCE)?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        from.clone_from(last);
        from.push(0);
        for (key, _) in rows {
            batch.remove(owner.table(), key);
        }
    }
}

/// An account's leaf takes at most about this many bytes, a slot's fewer, most branches more.
const LEAF_TYPICAL_BYTES: usize = 120;

/// Digest under which a transaction is indexed: keccak-256 of its EIP-2718 encoding.
pub(crate) fn transaction_hash(encoded: &[u8]) -> B256 {
    keccak256(encoded)
}

#[cfg(test)]
mod tests;
