//! A plain model of the state, and blocks of random steps for both.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles, TrieAccount};
use proptest::prelude::*;
use revm::{
    DatabaseCommit, DatabaseRef,
    bytecode::Bytecode,
    state::{Account, AccountInfo, EvmStorageSlot, TransactionId},
};
use stele_core::block::{Block, Header, Receipt, receipts_root, transactions_root};

use super::super::{Pending, State};

/// One change of the state.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Account {
        who: Address,
        nonce: u64,
        balance: u64,
        code: u8,
    },
    Slot {
        who: Address,
        slot: u64,
        value: u64,
    },
    Destroy {
        who: Address,
    },
}

/// The state as plain maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) accounts: BTreeMap<Address, (u64, U256, B256)>,
    slots: BTreeMap<Address, BTreeMap<U256, U256>>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Account {
                who,
                nonce,
                balance,
                code,
            } => {
                let hash = code_of(code).map_or(KECCAK_EMPTY, |code| keccak256(&code));
                self.accounts
                    .insert(who, (nonce, U256::from(balance), hash));
            }
            Step::Slot { who, slot, value } if self.accounts.contains_key(&who) => {
                let slots = self.slots.entry(who).or_default();
                if value == 0 {
                    slots.remove(&U256::from(slot));
                } else {
                    slots.insert(U256::from(slot), U256::from(value));
                }
            }
            Step::Slot { .. } => {}
            Step::Destroy { who } => {
                self.accounts.remove(&who);
                self.slots.remove(&who);
            }
        }
    }

    pub(super) fn slot(&self, who: Address, slot: U256) -> U256 {
        self.slots
            .get(&who)
            .and_then(|slots| slots.get(&slot))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn account(&self, who: Address) -> Option<TrieAccount> {
        let (nonce, balance, code_hash) = *self.accounts.get(&who)?;
        let slots = self.slots.get(&who).cloned().unwrap_or_default();
        let leaves = slots.into_iter().map(|(slot, value)| {
            (
                keccak256(slot.to_be_bytes::<32>()),
                alloy_rlp::encode(value),
            )
        });
        Some(TrieAccount::new(
            nonce,
            balance,
            root_of(leaves.collect()),
            code_hash,
        ))
    }

    /// The state root, from scratch.
    pub(super) fn root(&self) -> B256 {
        let leaves = self
            .accounts
            .keys()
            .filter_map(|who| Some((keccak256(who), alloy_rlp::encode(self.account(*who)?))));
        root_of(leaves.collect())
    }
}

fn root_of(leaves: BTreeMap<B256, Vec<u8>>) -> B256 {
    if leaves.is_empty() {
        return EMPTY_ROOT_HASH;
    }
    let mut builder = HashBuilder::default();
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}

fn code_of(number: u8) -> Option<Bytes> {
    (number > 0).then(|| Bytes::from(vec![0x5b; usize::from(number)]))
}

pub(super) fn addresses() -> impl Iterator<Item = Address> {
    (0..6).map(Address::repeat_byte)
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0_u8..6).prop_map(Address::repeat_byte);
    let step = prop_oneof![
        3 => (who(), 1_u64..5, 0_u64..5, 0_u8..3)
            .prop_map(|(who, nonce, balance, code)| Step::Account { who, nonce, balance, code }),
        12 => (who(), 0_u64..30, prop_oneof![Just(0_u64), 1_u64..4, any::<u64>()])
            .prop_map(|(who, slot, value)| Step::Slot { who, slot, value }),
        1 => who().prop_map(|who| Step::Destroy { who }),
    ];
    prop::collection::vec(step, 0..40)
}

/// Applies steps the way transactions do: through what revm commits.
pub(super) fn apply(pending: &mut Pending, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Account {
                who,
                nonce,
                balance,
                code,
            } => {
                let code = code_of(*code).unwrap_or_default();
                pending.set_account(*who, *nonce, U256::from(*balance), &code);
            }
            Step::Slot { who, slot, value } => commit_slot(pending, *who, *slot, *value),
            Step::Destroy { who } => {
                let mut account = Account::from(AccountInfo::default());
                account.mark_touch();
                account.mark_selfdestruct();
                pending.commit([(*who, account)].into_iter().collect());
            }
        }
    }
}

fn commit_slot(pending: &mut Pending, who: Address, slot: u64, value: u64) {
    use revm::Database;
    let Some(info) = pending.basic(who).unwrap() else {
        return;
    };
    let before = pending.storage(who, U256::from(slot)).unwrap();
    let mut account = Account::from(info);
    account.mark_touch();
    let changed = EvmStorageSlot::new_changed(before, U256::from(value), TransactionId::ZERO);
    account.storage.insert(U256::from(slot), changed);
    pending.commit([(who, account)].into_iter().collect());
}

pub(super) fn receipt(logs: Vec<Log>) -> Receipt {
    Receipt {
        tx_type: 2,
        success: true,
        cumulative_gas_used: 21_000,
        logs,
    }
}

pub(super) fn genesis(state: &State, steps: &[Step], model: &mut Model) -> Block {
    next_block(state, B256::ZERO, steps, model)
}

/// Executes a block on `parent` and inserts its effect.
pub(super) fn next_block(state: &State, parent: B256, steps: &[Step], model: &mut Model) -> Block {
    block_with(state, parent, steps, model, Vec::new(), &[])
}

pub(super) fn block_with(
    state: &State,
    parent: B256,
    steps: &[Step],
    model: &mut Model,
    transactions: Vec<Bytes>,
    receipts: &[Receipt],
) -> Block {
    let mut pending = Pending::new(state.view_on(parent).unwrap());
    apply(&mut pending, steps);
    for step in steps {
        model.apply(step);
    }
    let overlay = pending.seal().unwrap();
    let mut header = Header {
        parent_hash: parent,
        number: overlay.height(),
        timestamp_ms: overlay.height() + 1,
        transactions_root: transactions_root(&transactions),
        receipts_root: receipts_root(receipts),
        state_root: overlay.root(),
        ..Header::default()
    };
    for receipt in receipts {
        header.logs_bloom |= receipt.bloom();
    }
    let block = Block {
        header,
        transactions,
    };
    state.insert(block.hash(), Arc::new(overlay));
    let view = state.view_on(block.hash()).unwrap();
    for step in steps {
        if let Step::Account { who, code, .. } = step
            && let Some(info) = view.basic_ref(*who).unwrap()
            && let Some(code) = code_of(*code)
            && info.code_hash == keccak256(&code)
        {
            assert_eq!(
                view.code_by_hash_ref(info.code_hash).unwrap(),
                Bytecode::new_raw(code)
            );
        }
    }
    block
}
