//! The state at one moment: the last final block as it was when the view was made, and any executed blocks on top
//! of it that are not final yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use revm::{DatabaseRef, bytecode::Bytecode, state::AccountInfo};

use super::{
    Error, Head,
    nodes::{NodeCache, NodeSource, Owner},
    overlay::{Layer, Overlay},
    rows,
    store::{Reader, Table},
    walk,
};

/// A read-only view of the state after one block. Cheap to clone, never changes; reads are checked against the
/// state root, so what it returns is what the chain committed to.
#[derive(Clone)]
pub struct StateView {
    base: Arc<Base>,
    layers: Arc<[Layer]>,
}

/// The state after the last final block.
pub(crate) struct Base {
    reader: Box<dyn Reader>,
    head: Option<Head>,
    cache: Arc<NodeCache>,
    /// Accounts already read: contracts are looked up for every slot.
    accounts: RwLock<BTreeMap<Address, Option<TrieAccount>>>,
}

/// An account with Merkle proofs of itself and of some of its slots (EIP-1186).
#[derive(Clone, Debug)]
pub struct AccountProof {
    /// The address.
    pub address: Address,
    /// The account; `None` proves that there is none.
    pub account: Option<TrieAccount>,
    /// Nodes from the state root down.
    pub proof: Vec<Bytes>,
    /// The slots asked for, in order.
    pub storage: Vec<StorageProof>,
}

/// A slot with its Merkle proof against the account's storage root.
#[derive(Clone, Debug)]
pub struct StorageProof {
    /// The slot.
    pub slot: U256,
    /// Its value; zero proves that nothing is stored.
    pub value: U256,
    /// Nodes from the storage root down.
    pub proof: Vec<Bytes>,
}

/// Slots by hashed key in ascending order, and the hashed key of the next one.
pub type SlotRange = (Vec<(B256, U256)>, Option<B256>);

impl StateView {
    pub(crate) fn new(base: Arc<Base>, layers: Vec<Layer>) -> Self {
        Self {
            base,
            layers: layers.into(),
        }
    }

    pub(crate) const fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The last final block, when the view was made; `None` before genesis.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.base.head
    }

    /// State root after the block the view stands on.
    #[must_use]
    pub fn state_root(&self) -> B256 {
        match self.layers.last() {
            Some(layer) => layer.overlay.root,
            None => self.base.state_root(),
        }
    }

    /// Parent digest and height of a block executed on this view.
    #[must_use]
    pub fn next_block(&self) -> (B256, u64) {
        match (self.layers.last(), self.base.head) {
            (Some(layer), _) => (layer.digest, layer.overlay.height.saturating_add(1)),
            (None, Some(head)) => (head.hash, head.height.saturating_add(1)),
            (None, None) => (B256::ZERO, 0),
        }
    }

    /// An account, if it exists.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn account(&self, address: Address) -> Result<Option<TrieAccount>, Error> {
        for layer in self.layers.iter().rev() {
            if let Some(account) = layer.overlay.accounts.get(&address) {
                return Ok(*account);
            }
        }
        self.base.account(address)
    }

    /// A storage slot; zero if nothing is stored.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn slot(&self, address: Address, slot: U256) -> Result<U256, Error> {
        for layer in self.layers.iter().rev() {
            if let Some(changes) = layer.overlay.storage.get(&address) {
                if let Some(value) = changes.slots.get(&slot) {
                    return Ok(*value);
                }
                if changes.wiped {
                    return Ok(U256::ZERO);
                }
            }
        }
        self.base.slot(address, slot)
    }

    /// Bytecode by its hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] if an account refers to code that is not there.
    pub fn code(&self, code_hash: B256) -> Result<Bytes, Error> {
        if code_hash == KECCAK_EMPTY || code_hash.is_zero() {
            return Ok(Bytes::new());
        }
        for layer in self.layers.iter().rev() {
            if let Some(code) = layer.overlay.code.get(&code_hash) {
                return Ok(code.clone());
            }
        }
        self.base.code(code_hash)
    }

    /// Bytecode of the last final block's state by its hash; `None` if no account has it.
    pub(crate) fn find_code(&self, code_hash: B256) -> Result<Option<Bytes>, Error> {
        let base = self.base();
        let found = rows::read(
            base.reader(),
            Table::Code,
            code_hash.as_slice(),
            base.height(),
        )?;
        Ok(found.filter(|code| keccak256(code) == code_hash))
    }

    /// An account and slots of it with Merkle proofs against [`Self::state_root`].
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn proof(&self, address: Address, slots: &[U256]) -> Result<AccountProof, Error> {
        let height = self.base.height();
        let key = Nibbles::unpack(keccak256(address));
        let source = self.nodes_of(Owner::Accounts);
        let (value, proof) = walk::prove(&source, self.state_root(), &key)?;
        let account = value
            .map(|value| decode_account(&value, height))
            .transpose()?;
        let root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        let source = self.nodes_of(Owner::Storage(address));
        let storage = slots
            .iter()
            .map(|slot| {
                let (value, proof) = walk::prove(&source, root, &slot_key(*slot))?;
                let value = value.map_or(Ok(U256::ZERO), |value| decode_slot(&value, height))?;
                Ok(StorageProof {
                    slot: *slot,
                    value,
                    proof,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(AccountProof {
            address,
            account,
            proof,
            storage,
        })
    }

    /// Slots of an account that hold something, from the hashed key `from` on, at most `max` of them; and the next
    /// hashed key, if there is more. A trie knows only the keccak-256 of its keys.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn slots_from(&self, address: Address, from: B256, max: usize) -> Result<SlotRange, Error> {
        let (mut slots, mut next) = (Vec::new(), None);
        let Some(account) = self.account(address)? else {
            return Ok((slots, next));
        };
        let height = self.base.height();
        let source = self.nodes_of(Owner::Storage(address));
        let from = Nibbles::unpack(from);
        walk::leaves_from(&source, account.storage_root, &from, &mut |key, value| {
            let key = B256::try_from(key.pack().as_slice()).map_err(|_| {
                Error::damaged(height, "a storage trie has a key of another length")
            })?;
            if slots.len() == max {
                next = Some(key);
                return Ok(false);
            }
            slots.push((key, decode_slot(value, height)?));
            Ok(true)
        })?;
        Ok((slots, next))
    }

    /// The view with a block on top that was executed for a question and never becomes final.
    pub(crate) fn with(&self, overlay: Overlay) -> Self {
        let layer = Layer {
            digest: B256::ZERO,
            overlay: Arc::new(overlay),
        };
        let layers = self.layers.iter().cloned().chain([layer]).collect();
        Self {
            base: Arc::clone(&self.base),
            layers,
        }
    }

    /// Nodes of one trie, those of executed blocks first.
    pub(crate) const fn nodes_of(&self, owner: Owner) -> TrieNodes<'_> {
        TrieNodes { view: self, owner }
    }
}

/// Nodes of one trie in a view.
pub(crate) struct TrieNodes<'a> {
    view: &'a StateView,
    owner: Owner,
}

impl NodeSource for TrieNodes<'_> {
    fn node(&self, path: &Nibbles, hash: &B256) -> Result<Bytes, Error> {
        for layer in self.view.layers.iter().rev() {
            let Some(delta) = layer.overlay.nodes_of(self.owner) else {
                continue;
            };
            match delta.nodes.get(path) {
                Some(Some(node)) if node.hash == *hash => return Ok(node.rlp.clone()),
                Some(_) => return Err(Error::Invariant("an overlay does not match its root")),
                None if delta.wiped => {
                    return Err(Error::Invariant("an overlay refers to a removed trie"));
                }
                None => {}
            }
        }
        self.view.base.node(self.owner, path, hash)
    }
}

/// Nodes of one trie after the last final block.
struct BaseNodes<'a> {
    base: &'a Base,
    owner: Owner,
}

impl NodeSource for BaseNodes<'_> {
    fn node(&self, path: &Nibbles, hash: &B256) -> Result<Bytes, Error> {
        self.base.node(self.owner, path, hash)
    }
}

impl Base {
    pub(crate) fn new(reader: Box<dyn Reader>, head: Option<Head>, cache: Arc<NodeCache>) -> Self {
        Self {
            reader,
            head,
            cache,
            accounts: RwLock::default(),
        }
    }

    pub(crate) fn reader(&self) -> &dyn Reader {
        &*self.reader
    }

    /// Height named when something is damaged.
    pub(crate) fn height(&self) -> u64 {
        self.head.map_or(0, |head| head.height)
    }

    pub(crate) fn state_root(&self) -> B256 {
        self.head.map_or(EMPTY_ROOT_HASH, |head| head.state_root)
    }

    fn node(&self, owner: Owner, path: &Nibbles, hash: &B256) -> Result<Bytes, Error> {
        if let Some(node) = self.cache.get(hash) {
            return Ok(node);
        }
        let height = self.height();
        let found = self
            .reader
            .get(owner.table(), &owner.node_key(path))
            .map_err(|error| error.at(height))?;
        match found {
            Some(node) if keccak256(&node) == *hash => {
                self.cache.insert(*hash, node.clone());
                Ok(node)
            }
            Some(_) => Err(Error::damaged(
                height,
                format!("node {path:?} of {owner:?} has another hash"),
            )),
            None => Err(Error::damaged(
                height,
                format!("node {path:?} of {owner:?} is missing"),
            )),
        }
    }

    /// As [`Self::node`]; `None` if another node is there, or none.
    pub(crate) fn find_node(
        &self,
        owner: Owner,
        path: &Nibbles,
        hash: &B256,
    ) -> Result<Option<Bytes>, Error> {
        if let Some(node) = self.cache.get(hash) {
            return Ok(Some(node));
        }
        let found = self.reader.get(owner.table(), &owner.node_key(path));
        let found = found.map_err(|error| error.at(self.height()))?;
        Ok(found.filter(|node| keccak256(node) == *hash))
    }

    fn account(&self, address: Address) -> Result<Option<TrieAccount>, Error> {
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.get(&address) {
            return Ok(*account);
        }
        drop(known);
        let source = BaseNodes {
            base: self,
            owner: Owner::Accounts,
        };
        let key = Nibbles::unpack(keccak256(address));
        let value = walk::lookup(&source, self.state_root(), &key)?;
        let account = value
            .map(|value| decode_account(&value, self.height()))
            .transpose()?;
        let mut known = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < ACCOUNTS_REMEMBERED {
            known.insert(address, account);
        }
        Ok(account)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, Error> {
        let Some(account) = self.account(address)? else {
            return Ok(U256::ZERO);
        };
        let source = BaseNodes {
            base: self,
            owner: Owner::Storage(address),
        };
        let value = walk::lookup(&source, account.storage_root, &slot_key(slot))?;
        value.map_or(Ok(U256::ZERO), |value| decode_slot(&value, self.height()))
    }

    fn code(&self, code_hash: B256) -> Result<Bytes, Error> {
        let found = rows::read(
            self.reader(),
            Table::Code,
            code_hash.as_slice(),
            self.height(),
        )?;
        found
            .filter(|code| keccak256(code) == code_hash)
            .ok_or_else(|| {
                Error::damaged(
                    self.height(),
                    format!("code {code_hash} is missing or another"),
                )
            })
    }
}

impl DatabaseRef for StateView {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Error> {
        Ok(self.account(address)?.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Error> {
        Ok(Bytecode::new_raw(self.code(code_hash)?))
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, Error> {
        self.slot(address, index)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Error> {
        let executed = self
            .layers
            .iter()
            .find(|layer| layer.overlay.height == number);
        match executed {
            Some(layer) => Ok(layer.digest),
            // The EVM asks for ancestors only; an unknown one is zero by definition.
            None => Ok(self.block_hash(number)?.unwrap_or_default()),
        }
    }
}

pub(crate) fn slot_key(slot: U256) -> Nibbles {
    Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()))
}

pub(crate) fn decode_account(mut value: &[u8], height: u64) -> Result<TrieAccount, Error> {
    TrieAccount::decode(&mut value)
        .map_err(|_| Error::damaged(height, "a leaf of the account trie is no account"))
}

pub(crate) fn decode_slot(mut value: &[u8], height: u64) -> Result<U256, Error> {
    U256::decode(&mut value)
        .map_err(|_| Error::damaged(height, "a leaf of a storage trie is no number"))
}

/// Accounts remembered by a view. A view lives for one block, which touches fewer; the bound is against scans.
const ACCOUNTS_REMEMBERED: usize = 16_384;
