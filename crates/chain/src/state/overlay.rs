//! The effect of one executed block, kept in memory until the block is final.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256, map::AddressMap};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use rayon::prelude::*;
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    bytecode::Bytecode,
    state::{Account, AccountInfo},
};
use stele_core::block::Validator;

use super::{
    Error,
    nodes::Owner,
    trie::{self, TrieDelta},
    view::StateView,
};

/// What a block changed, against the state after its parent. Ordered, so that every node derives the same bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Accounts written; `None` where the account is gone.
    pub(crate) accounts: BTreeMap<Address, Option<AccountFields>>,
    /// Storage written, by account.
    pub(crate) storage: BTreeMap<Address, StorageChanges>,
    /// Code deployed, by hash.
    pub(crate) code: BTreeMap<B256, Bytes>,
}

/// The fields of an account other than its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountFields {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

/// Slots written in one account.
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageChanges {
    /// Whether everything stored before is gone.
    pub(crate) wiped: bool,
    /// Values by slot; zero removes the slot.
    pub(crate) slots: BTreeMap<U256, U256>,
}

/// The state after a block, relative to the state after its parent, with its root and the trie nodes to write.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) parent: B256,
    pub(crate) height: u64,
    pub(crate) root: B256,
    pub(crate) accounts: BTreeMap<Address, Option<TrieAccount>>,
    pub(crate) storage: BTreeMap<Address, StorageChanges>,
    pub(crate) code: BTreeMap<B256, Bytes>,
    pub(crate) account_nodes: TrieDelta,
    pub(crate) storage_nodes: BTreeMap<Address, TrieDelta>,
    /// The validators that the block announces, if they are others than those of its epoch.
    pub(crate) validators: Option<Vec<Validator>>,
}

impl Overlay {
    /// State root after the block.
    #[must_use]
    pub const fn root(&self) -> B256 {
        self.root
    }

    /// Digest of the block's parent.
    #[must_use]
    pub const fn parent(&self) -> B256 {
        self.parent
    }

    /// Height of the block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// Number of storage slots and accounts written, unchanged ones included.
    #[must_use]
    pub fn keys_written(&self) -> usize {
        self.storage
            .values()
            .map(|changes| changes.slots.len())
            .sum::<usize>()
            + self.accounts.len()
    }

    pub(crate) fn nodes_of(&self, owner: Owner) -> Option<&TrieDelta> {
        match owner {
            Owner::Accounts => Some(&self.account_nodes),
            Owner::Storage(address) => self.storage_nodes.get(&address),
        }
    }
}

/// A block in execution: reads through to the state after its parent, collects what its transactions commit.
///
/// Give it to revm as its database and use one `transact_commit` per transaction; then [`Pending::seal`].
pub struct Pending {
    view: StateView,
    changes: Changes,
    accounts: BTreeMap<Address, Option<AccountInfo>>,
    slots: BTreeMap<(Address, U256), U256>,
}

impl Pending {
    /// Starts a block on the state of `view`.
    #[must_use]
    pub const fn new(view: StateView) -> Self {
        Self {
            view,
            changes: Changes {
                accounts: BTreeMap::new(),
                storage: BTreeMap::new(),
                code: BTreeMap::new(),
            },
            accounts: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// The state the block stands on.
    #[must_use]
    pub const fn view(&self) -> &StateView {
        &self.view
    }

    /// Sets balance, nonce and code of an account outside any transaction: genesis, system changes.
    pub fn set_account(&mut self, address: Address, nonce: u64, balance: U256, code: &Bytes) {
        let code_hash = if code.is_empty() {
            KECCAK_EMPTY
        } else {
            keccak256(code)
        };
        if !code.is_empty() {
            self.changes.code.insert(code_hash, code.clone());
        }
        let fields = AccountFields {
            nonce,
            balance,
            code_hash,
        };
        self.changes.accounts.insert(address, Some(fields));
    }

    /// Sets a storage slot outside any transaction; zero removes it. The account must exist by the end of the block.
    pub fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        self.changes
            .storage
            .entry(address)
            .or_default()
            .slots
            .insert(slot, value);
    }

    /// Computes the state after the block. Nothing is written.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn seal(self) -> Result<Overlay, Error> {
        let Self { view, changes, .. } = self;
        let (parent, height) = view.next_block();
        let mut work: BTreeMap<Address, Option<&StorageChanges>> = changes
            .accounts
            .keys()
            .map(|address| (*address, None))
            .collect();
        work.extend(
            changes
                .storage
                .iter()
                .map(|(address, slots)| (*address, Some(slots))),
        );
        let done = work
            .into_par_iter()
            .map(|(address, slots)| {
                let fields = changes.accounts.get(&address).copied();
                seal_account(&view, address, fields, slots)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut accounts = BTreeMap::new();
        let mut storage_nodes = BTreeMap::new();
        let mut account_changes = Vec::new();
        for Sealed {
            address,
            account,
            nodes,
        } in done
        {
            let key = Nibbles::unpack(keccak256(address));
            account_changes.push((key, account.as_ref().map(alloy_rlp::encode)));
            accounts.insert(address, account);
            storage_nodes.extend(nodes.map(|nodes| (address, nodes)));
        }
        account_changes.sort_unstable_by_key(|change| change.0);
        let before = view.state_root();
        let account_nodes = trie::update(&view.nodes_of(Owner::Accounts), before, account_changes)?;
        Ok(Overlay {
            parent,
            height,
            root: account_nodes.root,
            accounts,
            storage: changes.storage,
            code: changes.code,
            account_nodes,
            storage_nodes,
            validators: None,
        })
    }
}

struct Sealed {
    address: Address,
    account: Option<TrieAccount>,
    nodes: Option<TrieDelta>,
}

/// An account after the block. `fields` is `None` if only its storage changed.
fn seal_account(
    view: &StateView,
    address: Address,
    fields: Option<Option<AccountFields>>,
    slots: Option<&StorageChanges>,
) -> Result<Sealed, Error> {
    let before = view.account(address)?;
    let root_before = before.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
    let fields = fields.unwrap_or_else(|| {
        before.map(|account| AccountFields {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
        })
    });
    let Some(fields) = fields else {
        let nodes = (root_before != EMPTY_ROOT_HASH).then(|| TrieDelta {
            root: EMPTY_ROOT_HASH,
            wiped: true,
            nodes: BTreeMap::new(),
        });
        return Ok(Sealed {
            address,
            account: None,
            nodes,
        });
    };
    let nodes = match slots {
        None => None,
        Some(StorageChanges { wiped, slots }) => {
            let source = view.nodes_of(Owner::Storage(address));
            let slots: Vec<_> = slots.iter().collect();
            let mut changes: Vec<_> = slots
                .into_par_iter()
                .with_min_len(64)
                .map(|(slot, value)| {
                    let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
                    (key, (!value.is_zero()).then(|| alloy_rlp::encode(*value)))
                })
                .collect();
            changes.sort_unstable_by_key(|change| change.0);
            let wiped = *wiped && root_before != EMPTY_ROOT_HASH;
            let start = if wiped { EMPTY_ROOT_HASH } else { root_before };
            let mut delta = trie::update(&source, start, changes)?;
            delta.wiped = wiped;
            Some(delta)
        }
    };
    let storage_root = nodes.as_ref().map_or(root_before, |nodes| nodes.root);
    let account = TrieAccount::new(fields.nonce, fields.balance, storage_root, fields.code_hash);
    Ok(Sealed {
        address,
        account: Some(account),
        nodes,
    })
}

impl Database for Pending {
    type Error = Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Error> {
        if let Some(fields) = self.changes.accounts.get(&address) {
            return Ok(fields.map(|fields| AccountInfo {
                nonce: fields.nonce,
                balance: fields.balance,
                code_hash: fields.code_hash,
                code: None,
                account_id: None,
            }));
        }
        if let Some(info) = self.accounts.get(&address) {
            return Ok(info.clone());
        }
        let info = self.view.basic_ref(address)?;
        self.accounts.insert(address, info.clone());
        Ok(info)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Error> {
        match self.changes.code.get(&code_hash) {
            Some(code) => Ok(Bytecode::new_raw(code.clone())),
            None => self.view.code_by_hash_ref(code_hash),
        }
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, Error> {
        if let Some(changes) = self.changes.storage.get(&address) {
            if let Some(value) = changes.slots.get(&index) {
                return Ok(*value);
            }
            if changes.wiped {
                return Ok(U256::ZERO);
            }
        }
        if let Some(value) = self.slots.get(&(address, index)) {
            return Ok(*value);
        }
        let value = self.view.storage_ref(address, index)?;
        self.slots.insert((address, index), value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Error> {
        self.view.block_hash_ref(number)
    }
}

impl DatabaseCommit for Pending {
    fn commit(&mut self, changes: AddressMap<Account>) {
        // The order of this iteration has no effect: every account goes to its own place in ordered maps.
        for (address, account) in changes {
            if account.is_touched() {
                self.commit_account(address, &account);
            }
        }
    }
}

impl Pending {
    fn commit_account(&mut self, address: Address, account: &Account) {
        // EIP-161: a touched account that is empty ceases to exist.
        if account.is_selfdestructed() || account.is_empty() {
            self.changes.accounts.insert(address, None);
            let gone = StorageChanges {
                wiped: true,
                slots: BTreeMap::new(),
            };
            self.changes.storage.insert(address, gone);
            return;
        }
        if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty())
            && account.is_created()
        {
            self.changes
                .code
                .insert(account.info.code_hash, code.original_bytes());
        }
        let storage = self.changes.storage.entry(address).or_default();
        if account.is_created() {
            storage.wiped = true;
            storage.slots.clear();
        }
        let written = account.storage.iter().filter(|(_, slot)| slot.is_changed());
        storage
            .slots
            .extend(written.map(|(key, slot)| (*key, slot.present_value)));
        if storage.slots.is_empty() && !storage.wiped {
            self.changes.storage.remove(&address);
        }
        let fields = AccountFields {
            nonce: account.info.nonce,
            balance: account.info.balance,
            code_hash: account.info.code_hash,
        };
        self.changes.accounts.insert(address, Some(fields));
    }
}

/// An overlay with the digest of its block.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) digest: B256,
    pub(crate) overlay: Arc<Overlay>,
}
