//! Checking everything the chain has on disk against what its last block commits to.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles};
use stele_core::block::{receipts_root, transactions_root};

use super::{
    Error, StateView, logs,
    nodes::Owner,
    store::Table,
    transaction_hash,
    view::{decode_account, decode_slot},
    walk,
};

/// Progress of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// Blocks checked so far, and how many there are.
    Blocks(u64, u64),
    /// Accounts checked so far.
    Accounts(u64),
}

/// What was checked and found good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks, with their receipts and indexes.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Accounts in the latest state.
    pub accounts: u64,
    /// Storage slots in the latest state.
    pub slots: u64,
}

impl StateView {
    /// Checks every block (digests, links, transactions and receipts roots, indexes) and recomputes the state root
    /// from every account and slot. Only the blocks' execution is not repeated.
    ///
    /// # Errors
    /// The first damage found, with its height; [`Error::Store`] if something could not be read.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyStep)) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let Some(head) = self.head() else {
            return Ok(verified);
        };
        let mut parent = B256::ZERO;
        for height in 0..=head.height {
            parent = self.verify_block(height, parent, &mut verified)?;
            progress(VerifyStep::Blocks(
                height.saturating_add(1),
                head.height.saturating_add(1),
            ));
        }
        if parent != head.hash {
            return Err(Error::damaged(
                head.height,
                "the last block is not the head",
            ));
        }
        self.verify_state(&mut verified, progress)?;
        Ok(verified)
    }

    fn verify_block(
        &self,
        height: u64,
        parent: B256,
        verified: &mut Verified,
    ) -> Result<B256, Error> {
        let missing = || Error::damaged(height, "the block is missing");
        let header = self.header(height)?.ok_or_else(missing)?;
        let block = self.block(height)?.ok_or_else(missing)?;
        let receipts = self.receipts(height)?.ok_or_else(missing)?;
        self.certificate(height)?.ok_or_else(missing)?;
        let hash = header.hash();
        let check = |good: bool, what: &str| {
            if good {
                Ok(())
            } else {
                Err(Error::damaged(height, what))
            }
        };
        check(
            header.parent_hash == parent,
            "the block does not follow its parent",
        )?;
        check(
            transactions_root(&block.transactions) == header.transactions_root,
            "the transactions are not those of the header",
        )?;
        check(
            receipts_root(&receipts) == header.receipts_root,
            "the receipts are not those of the header",
        )?;
        check(
            self.height_of(hash)? == Some(height),
            "the block's digest is not indexed",
        )?;
        for (index, transaction) in (0_u32..).zip(&block.transactions) {
            let location = self.transaction_location(transaction_hash(transaction))?;
            let good = location.is_some_and(|at| at.height == height && at.index == index);
            check(good, "a transaction is not indexed")?;
        }
        for term in logs::block_terms(&receipts) {
            let row = self
                .base()
                .reader()
                .get(Table::Logs, &logs::index_key(term, height));
            check(
                row.map_err(|error| error.at(height))?.is_some(),
                "a log is not indexed",
            )?;
        }
        verified.blocks = verified.blocks.saturating_add(1);
        let count = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        verified.transactions = verified.transactions.saturating_add(count);
        Ok(hash)
    }

    /// Recomputes the state root with an independent implementation from the leaves, and checks that no node is
    /// left over.
    fn verify_state(
        &self,
        verified: &mut Verified,
        progress: &mut dyn FnMut(VerifyStep),
    ) -> Result<(), Error> {
        let height = self.base().height();
        let owners = self.storage_owners()?;
        let mut builder = HashBuilder::default();
        let mut nodes = 0_u64;
        let mut storage_nodes = 0_u64;
        let source = self.nodes_of(Owner::Accounts);
        walk::leaves(
            &source,
            self.state_root(),
            &mut |_| nodes = nodes.saturating_add(1),
            &mut |key, value| {
                builder.add_leaf(*key, value);
                let account = decode_account(value, height)?;
                if account.code_hash != KECCAK_EMPTY {
                    self.code(account.code_hash)?;
                }
                if account.storage_root != EMPTY_ROOT_HASH {
                    let owner = owners.get(&B256::from_slice(&key.pack())).ok_or_else(|| {
                        Error::damaged(height, "the storage of an account is missing")
                    })?;
                    let (slots, count) = self.verify_storage(*owner, account.storage_root)?;
                    verified.slots = verified.slots.saturating_add(slots);
                    storage_nodes = storage_nodes.saturating_add(count);
                }
                verified.accounts = verified.accounts.saturating_add(1);
                progress(VerifyStep::Accounts(verified.accounts));
                Ok(())
            },
        )?;
        if builder.root() != self.state_root() {
            return Err(Error::damaged(
                height,
                "the accounts do not have the state root",
            ));
        }
        let stored = (
            self.rows(Table::AccountNodes)?,
            self.rows(Table::StorageNodes)?,
        );
        if stored != (nodes, storage_nodes) {
            return Err(Error::damaged(
                height,
                "there are trie nodes that belong to no trie",
            ));
        }
        Ok(())
    }

    fn verify_storage(&self, owner: Address, root: B256) -> Result<(u64, u64), Error> {
        let height = self.base().height();
        let mut builder = HashBuilder::default();
        let (mut slots, mut nodes) = (0_u64, 0_u64);
        let source = self.nodes_of(Owner::Storage(owner));
        walk::leaves(
            &source,
            root,
            &mut |_| nodes = nodes.saturating_add(1),
            &mut |key: &Nibbles, value: &[u8]| {
                decode_slot(value, height)?;
                builder.add_leaf(*key, value);
                slots = slots.saturating_add(1);
                Ok(())
            },
        )?;
        if builder.root() != root {
            return Err(Error::damaged(
                height,
                "the slots do not have the storage root",
            ));
        }
        Ok((slots, nodes))
    }

    /// Accounts with stored nodes, by the hash the account trie knows them by.
    pub(crate) fn storage_owners(&self) -> Result<BTreeMap<B256, Address>, Error> {
        let mut owners = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let row = self.scan(Table::StorageNodes, &from, 1)?;
            let Some(address) = row.first().and_then(|(key, _)| key.first_chunk::<20>()) else {
                return Ok(owners);
            };
            owners.insert(keccak256(address), Address::from(*address));
            from = address.to_vec();
            from.push(0xff);
        }
    }

    fn rows(&self, table: Table) -> Result<u64, Error> {
        let (mut count, mut from) = (0_u64, Vec::new());
        loop {
            let rows = self.scan(table, &from, 4096)?;
            let Some((last, _)) = rows.last() else {
                return Ok(count);
            };
            from.clone_from(last);
            from.push(0);
            count = count.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        }
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<super::Row>, Error> {
        // Longer than any key, and its first byte sorts after all but addresses of all ones.
        const END: [u8; 64] = [0xff; 64];
        let rows = self.base().reader().range(table, from, &END, limit);
        rows.map_err(|error| error.at(self.base().height()))
    }
}
