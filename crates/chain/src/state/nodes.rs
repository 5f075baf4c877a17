//! Where trie nodes live: their keys in the store, the cache of verified nodes, and the face the trie reads
//! them through.

use alloy_primitives::{Address, B256, Bytes, map::FbBuildHasher};
use alloy_trie::Nibbles;
use quick_cache::{
    Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{Error, store::Table};

/// Which trie a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The trie of accounts.
    Accounts,
    /// The storage trie of one account.
    Storage(Address),
}

impl Owner {
    /// The table with the trie's nodes.
    pub(crate) const fn table(self) -> Table {
        match self {
            Self::Accounts => Table::AccountNodes,
            Self::Storage(_) => Table::StorageNodes,
        }
    }

    /// Key of the node at `path`: owner's address if any ‖ length of the path's odd part ‖ packed nibbles.
    pub(crate) fn node_key(self, path: &Nibbles) -> Vec<u8> {
        let packed = path.pack();
        let mut key = Vec::with_capacity(packed.len().saturating_add(21));
        if let Self::Storage(address) = self {
            key.extend_from_slice(address.as_slice());
        }
        key.push(u8::from(path.len() % 2 == 1));
        key.extend_from_slice(&packed);
        key
    }
}

/// Source of the nodes of one trie.
pub(crate) trait NodeSource: Sync {
    /// RLP of the node at `path`, whose keccak-256 is `hash`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or hashes to something else; [`Error::Store`] if the read failed.
    fn node(&self, path: &Nibbles, hash: &B256) -> Result<Bytes, Error>;
}

/// Verified nodes by hash. A node is its hash's preimage whatever block it is read for, so entries never go stale
/// and forks share them.
pub(crate) struct NodeCache(Cache<B256, Bytes, NodeWeight, FbBuildHasher<32>>);

#[derive(Clone)]
struct NodeWeight;

impl Weighter<B256, Bytes> for NodeWeight {
    fn weight(&self, _: &B256, node: &Bytes) -> u64 {
        // Hash, handle and bookkeeping of an entry come to about this many bytes.
        const ENTRY_OVERHEAD_BYTES: u64 = 120;
        ENTRY_OVERHEAD_BYTES.saturating_add(u64::try_from(node.len()).unwrap_or(u64::MAX))
    }
}

impl NodeCache {
    /// A cache of at most `size_bytes`.
    pub(crate) fn new(size_bytes: u64) -> Self {
        // A branch of a large trie takes about 550 bytes.
        let items = usize::try_from(size_bytes / 400).unwrap_or(usize::MAX);
        // The keys are hashes already: eight of their bytes place them.
        let (hasher, lifecycle) = (FbBuildHasher::default(), DefaultLifecycle::default());
        Self(Cache::with(
            items, size_bytes, NodeWeight, hasher, lifecycle,
        ))
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<Bytes> {
        self.0.get(hash)
    }

    pub(crate) fn insert(&self, hash: B256, node: Bytes) {
        self.0.insert(hash, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_distinct_keys() {
        let paths = [
            Nibbles::default(),
            Nibbles::from_nibbles([0]),
            Nibbles::from_nibbles([0, 0]),
            Nibbles::from_nibbles([0, 0, 0]),
            Nibbles::from_nibbles([1]),
            Nibbles::from_nibbles([1, 0]),
        ];
        let mut keys: Vec<_> = paths
            .iter()
            .map(|path| Owner::Accounts.node_key(path))
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), paths.len());
    }
}
