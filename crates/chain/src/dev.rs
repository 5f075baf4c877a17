//! A chain to develop contracts against, in the manner of Ganache, Hardhat's network and anvil: one process, in
//! memory, a block whenever one is asked for, state that can be edited, and a past that can be returned to.
//!
//! It runs the rules of every other chain, system contracts included, with two exceptions: an account may be spoken for
//! without its key (`impersonated`), and state may change beside transactions ([`DevChain::edit`]). Neither can be
//! had otherwise: no constructor of [`Chain`] that others can reach takes them, and a [`DevChain`] begins only from an
//! open genesis, in a store that ends with the process.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction as _, TxEip4844, TxLegacy};
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use stele_core::{
    block::{Block, Header, receipts_root, transactions_root},
    tx::Transaction,
};

use crate::{
    chain::{Chain, Committed, Development, gas_limit},
    contracts,
    error::Error,
    executor::Outcome,
    genesis::Genesis,
    pool::PoolLimits,
    state::{MemoryReader, MemoryStore, Pending, State, StateOptions},
};

/// A development chain.
pub struct DevChain {
    genesis: Genesis,
    store: RwLock<Arc<MemoryStore>>,
    chain: RwLock<Arc<Chain>>,
    /// One block at a time, and none while the past is returned to.
    mining: Mutex<()>,
}

/// A moment of a development chain. Keeps its state in memory until it is dropped.
pub struct DevSnapshot(MemoryReader);

/// A change of state beside transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Balance in wei.
    Balance(Address, U256),
    /// Nonce of the account's next transaction.
    Nonce(Address, u64),
    /// Bytecode; empty removes it.
    Code(Address, Bytes),
    /// One slot's word.
    Slot(Address, U256, U256),
}

/// A transaction nobody signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedTransaction {
    /// The account's nonce.
    pub nonce: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Contract called, or creation.
    pub to: TxKind,
    /// Value in wei.
    pub value: U256,
    /// Calldata or init code.
    pub input: Bytes,
}

impl DevChain {
    /// Begins a development chain.
    ///
    /// # Errors
    /// [`Error::Genesis`] if the genesis is that of a consortium (not open, or more than one organisation) or contradicts
    /// itself.
    pub fn new(genesis: &Genesis) -> Result<Self, Error> {
        if !genesis.open || genesis.organizations.len() > 1 || genesis.validators.len() > 1 {
            return Err(Error::Genesis {
                problem: "a development chain has one organisation, one validator, and is `open`"
                    .into(),
            });
        }
        let store = Arc::new(MemoryStore::new());
        let chain = over(&store, genesis)?;
        Ok(Self {
            genesis: genesis.clone(),
            store: RwLock::new(store),
            chain: RwLock::new(chain),
            mining: Mutex::default(),
        })
    }

    /// The chain as it is now; another one after [`DevChain::revert`].
    #[must_use]
    pub fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.chain.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a block of what waits in the pool, or an empty one. `timestamp_ms` is raised to after the parent's.
    ///
    /// # Errors
    /// As [`Chain::commit`].
    pub fn mine(&self, timestamp_ms: u64) -> Result<Committed, Error> {
        let _alone = self.mining.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = self.chain();
        let parent = Arc::new(last_block(&chain)?);
        let proposed = chain.propose(&parent, &[], B256::ZERO, timestamp_ms, &|| true)?;
        // Only this makes blocks, one at a time, so no other can have become final.
        let block = proposed.ok_or(crate::state::Error::Invariant(
            "a development chain has a second author",
        ))?;
        chain.commit(&Arc::new(block), &[])
    }

    /// Makes an empty block whose state root has the changes in it.
    ///
    /// # Errors
    /// [`Error::Genesis`] for an address of the system contracts, whose code is not theirs to replace; as
    /// [`Chain::commit`].
    pub fn edit(&self, timestamp_ms: u64, edits: &[Edit]) -> Result<Committed, Error> {
        let _alone = self.mining.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = self.chain();
        let parent = last_block(&chain)?;
        let mut pending = Pending::new(chain.view());
        for edit in edits {
            apply(&mut pending, edit)?;
        }
        let turn = chain.epochs.turn(&parent.header, &chain.view())?;
        let turn = turn.ok_or(crate::state::Error::Invariant("an epoch ends too early"))?;
        let mut overlay = pending.seal()?;
        overlay.validators = turn.announced;
        let header = Header {
            parent_hash: parent.hash(),
            number: parent.header.number.saturating_add(1),
            timestamp_ms: timestamp_ms.max(parent.header.timestamp_ms.saturating_add(1)),
            gas_limit: gas_limit(&chain.view())?,
            epoch: turn.epoch,
            next_validators_hash: turn.next_validators_hash,
            transactions_root: transactions_root(&[]),
            receipts_root: receipts_root(&[]),
            state_root: overlay.root(),
            ..Header::default()
        };
        let block = Arc::new(Block {
            header,
            transactions: Vec::new(),
        });
        let outcome = Outcome {
            receipts: Vec::new(),
            gas_used: 0,
            logs_bloom: alloy_primitives::Bloom::ZERO,
            overlay,
        };
        chain.keep(Arc::clone(&block), Vec::new(), outcome);
        chain.commit(&block, &[])
    }

    /// Remembers this moment.
    #[must_use]
    pub fn snapshot(&self) -> DevSnapshot {
        let _alone = self.mining.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        DevSnapshot(store.reader())
    }

    /// Returns to a moment: what was final since, and what waits, is gone.
    ///
    /// # Errors
    /// [`Error::State`] if the state of that moment cannot be read.
    pub fn revert(&self, to: &DevSnapshot) -> Result<(), Error> {
        let _alone = self.mining.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::new(MemoryStore::copy_of(&to.0));
        let chain = over(&store, &self.genesis)?;
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(())
    }

    /// Encodes a transaction that a development chain takes as one of `sender`, whatever keys there are.
    #[must_use]
    pub fn impersonate(&self, sender: Address, unsigned: UnsignedTransaction) -> Bytes {
        let transaction = TxLegacy {
            chain_id: Some(self.genesis.chain_id),
            nonce: unsigned.nonce,
            gas_price: 0,
            gas_limit: unsigned.gas_limit,
            to: unsigned.to,
            value: unsigned.value,
            input: unsigned.input,
        };
        let r = U256::from_be_bytes(sender.into_word().0);
        let signature = Signature::new(r, U256::ZERO, false);
        let signed: EthereumTxEnvelope<TxEip4844> = transaction.into_signed(signature).into();
        signed.encoded_2718().into()
    }
}

/// The account that a transaction of a development chain claims to be of, without a signature: `s` is zero, which no
/// ECDSA signature has (SEC 1 §4.1.4), and `r` is the address.
pub(crate) fn impersonated(transaction: &Transaction) -> Option<Address> {
    let Transaction::Ethereum(envelope) = transaction else {
        return None;
    };
    let signature = envelope.signature();
    let word = signature.r().to_be_bytes::<32>();
    let (padding, address) = word.split_at_checked(12)?;
    let named = signature.s().is_zero() && padding.iter().all(|byte| *byte == 0);
    named.then(|| Address::from_slice(address))
}

fn over(store: &Arc<MemoryStore>, genesis: &Genesis) -> Result<Arc<Chain>, Error> {
    let state = State::over(Arc::clone(store) as _, StateOptions::default())?;
    let chain = Chain::begin(state, genesis, PoolLimits::default(), Development::Yes)?;
    Ok(Arc::new(chain))
}

fn last_block(chain: &Chain) -> Result<Block, Error> {
    let (header, _) = chain.finalized();
    let block = chain.view().block(header.number)?;
    Ok(block
        .ok_or_else(|| crate::state::Error::damaged(header.number, "the last block is missing"))?)
}

fn apply(pending: &mut Pending, edit: &Edit) -> Result<(), Error> {
    use revm::Database as _;
    let (Edit::Balance(address, _)
    | Edit::Nonce(address, _)
    | Edit::Code(address, _)
    | Edit::Slot(address, _, _)) = edit;
    if contracts::is_reserved(*address) && matches!(edit, Edit::Code(..)) {
        return Err(Error::Genesis {
            problem: format!("{address} is kept for system contracts: its code is native"),
        });
    }
    let account = pending.basic(*address)?.unwrap_or_default();
    let code = pending.code_by_hash(account.code_hash)?.original_bytes();
    match edit {
        Edit::Balance(_, balance) => {
            pending.set_account(*address, account.nonce, *balance, &code);
        }
        Edit::Nonce(_, nonce) => pending.set_account(*address, *nonce, account.balance, &code),
        Edit::Code(_, code) => {
            pending.set_account(*address, account.nonce, account.balance, code);
        }
        Edit::Slot(_, slot, word) => {
            // Storage belongs to an account that is there.
            pending.set_account(*address, account.nonce, account.balance, &code);
            pending.set_slot(*address, *slot, *word);
        }
    }
    Ok(())
}
