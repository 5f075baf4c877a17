//! A development chain behind the fronts' ports: `stele dev`. It stands on the chain alone, without consensus, vault and
//! index, so nothing of it can be switched on in a node of a consortium.

mod accounts;
mod clock;
mod ledger;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use anyhow::Context as _;
use stele_chain::{
    Allocation, Committed, Error, Genesis, Organization, Seat,
    dev::{DevChain, DevSnapshot, Edit, UnsignedTransaction},
};
use stele_core::account::{AccountKey, UnsignedCall};
use stele_service::{
    development::{Development, Mining, Send, StateChange},
    ports::{BlockRef, Call, Ledger as _, LedgerError},
};
use tokio::sync::{broadcast, watch};

use self::clock::DevClock;
use crate::node::ledger::{NodeLedger, SUBSCRIBERS_LAG};

pub(crate) use accounts::{MNEMONIC, accounts};

/// A development chain as the JSON-RPC front sees it.
pub(crate) struct DevLedger {
    chain: DevChain,
    /// The ledger over the chain as it is now.
    ledger: RwLock<Arc<NodeLedger>>,
    finalized: broadcast::Sender<Arc<stele_service::ports::Finalized>>,
    keys: Vec<AccountKey>,
    clock: DevClock,
    mining: watch::Sender<Mining>,
    impersonated: Mutex<Impersonated>,
    moments: Mutex<Moments>,
    /// One transaction is admitted, and one block made, at a time.
    acting: Mutex<()>,
}

/// Accounts that are spoken for without their keys.
#[derive(Default)]
struct Impersonated {
    all: bool,
    accounts: BTreeSet<Address>,
}

/// How a transaction is sent for an account.
enum Voice<'a> {
    /// Signed with its key.
    Own(&'a AccountKey),
    /// Without one.
    Impersonated,
}

/// Moments that can be returned to.
#[derive(Default)]
struct Moments {
    last: u64,
    kept: BTreeMap<u64, Arc<Moment>>,
}

struct Moment {
    state: DevSnapshot,
    clock: clock::Offset,
}

/// What a development chain starts with: the accounts, each with 10,000 coins, the first of them the one organisation.
pub(crate) fn genesis(chain_id: u64, keys: &[AccountKey], now_ms: u64) -> anyhow::Result<Genesis> {
    let organization = keys.first().context("there is no account")?.address();
    let balance = U256::from(10_000_u64) * U256::from(1_000_000_000_000_000_000_u64);
    let with_balance = |key: &AccountKey| {
        let allocation = Allocation {
            balance,
            ..Allocation::default()
        };
        (key.address(), allocation)
    };
    Ok(Genesis {
        chain_id,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: now_ms,
        consortium: "development".into(),
        open: true,
        organizations: vec![Organization {
            address: organization,
            kind: 0,
            endpoints_digest: B256::ZERO,
            keys_digest: B256::ZERO,
        }],
        // Nobody certifies these blocks; the seat is there because a genesis has one.
        validators: vec![Seat {
            key: B256::repeat_byte(1),
            organization,
        }],
        parameters: BTreeMap::new(),
        deployers: Vec::new(),
        alloc: keys.iter().map(with_balance).collect(),
    })
}

impl DevLedger {
    /// # Errors
    /// The genesis is a consortium's.
    pub(crate) fn new(
        genesis: &Genesis,
        keys: Vec<AccountKey>,
        mining: Mining,
    ) -> anyhow::Result<Self> {
        let chain = DevChain::new(genesis).context("beginning the chain")?;
        let (finalized, _) = broadcast::channel(SUBSCRIBERS_LAG);
        let ledger = NodeLedger::alone(chain.chain(), finalized.clone());
        let dev = Self {
            ledger: RwLock::new(ledger),
            finalized,
            keys,
            clock: DevClock::default(),
            mining: watch::Sender::new(mining),
            impersonated: Mutex::default(),
            moments: Mutex::default(),
            acting: Mutex::default(),
            chain,
        };
        // The moment that a reset returns to.
        dev.snapshot();
        Ok(dev)
    }

    /// Makes blocks on time for as long as it is polled.
    pub(crate) async fn mine_on_time(&self) -> anyhow::Result<()> {
        let mut changed = self.mining.subscribe();
        loop {
            let mining = *changed.borrow_and_update();
            match mining {
                Mining::Interval(ms) => {
                    let pause = std::time::Duration::from_millis(ms.max(1));
                    tokio::select! {
                        done = changed.changed() => done?,
                        () = tokio::time::sleep(pause) => {
                            tokio::task::block_in_place(|| self.mine(1, None))?;
                        }
                    }
                }
                Mining::Instant | Mining::Manual => changed.changed().await?,
            }
        }
    }

    /// The ledger as it is now.
    fn ledger(&self) -> Arc<NodeLedger> {
        Arc::clone(&self.ledger.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Admits a signed transaction and, when blocks are made at once, makes one.
    fn take(&self, encoded: Bytes) -> Result<B256, LedgerError> {
        let _alone = lock(&self.acting);
        let ledger = self.ledger();
        let hash = ledger.admit(encoded)?.recovered.hash;
        if *self.mining.borrow() == Mining::Instant {
            self.publish(&ledger, self.chain.mine(self.clock.next_ms()))?;
            // Building a block is when it shows what cannot be executed.
            if let Some(refused) = ledger.refusal(hash) {
                return Err(refused);
            }
        }
        Ok(hash)
    }

    fn publish(
        &self,
        ledger: &NodeLedger,
        made: Result<Committed, Error>,
    ) -> Result<(), LedgerError> {
        let Committed::New {
            block,
            transactions,
            receipts,
        } = made.map_err(failed)?
        else {
            return Ok(());
        };
        ledger
            .publish(&block, &transactions, &receipts)
            .map_err(|error| LedgerError::Unavailable {
                message: format!("{error:#}"),
            })
    }

    fn key(&self, account: Address) -> Option<&AccountKey> {
        self.keys.iter().find(|key| key.address() == account)
    }

    fn speaks_for(&self, account: Address) -> bool {
        let impersonated = lock(&self.impersonated);
        impersonated.all || impersonated.accounts.contains(&account)
    }

    /// How this chain speaks for an account.
    fn voice(&self, from: Address) -> Result<Voice<'_>, LedgerError> {
        if self.speaks_for(from) {
            return Ok(Voice::Impersonated);
        }
        self.key(from)
            .map(Voice::Own)
            .ok_or_else(|| LedgerError::Question {
                message: format!(
                    "this chain has no key of {from}; impersonate it, or send from one of eth_accounts"
                ),
            })
    }

    fn encode(
        &self,
        voice: &Voice<'_>,
        from: Address,
        unsigned: UnsignedTransaction,
    ) -> Result<Bytes, LedgerError> {
        let Voice::Own(key) = voice else {
            return Ok(self.chain.impersonate(from, unsigned));
        };
        let call = UnsignedCall {
            chain_id: self.ledger().facts().chain_id,
            nonce: unsigned.nonce,
            gas_limit: unsigned.gas_limit,
            to: unsigned.to,
            input: unsigned.input,
        };
        key.sign_with_value(call, unsigned.value)
            .map_err(|error| LedgerError::Unavailable {
                message: error.to_string(),
            })
    }

    /// Returns to a moment. Whoever follows the chain sees its height go back.
    fn return_to(&self, moment: &Moment) -> Result<(), LedgerError> {
        let _alone = lock(&self.acting);
        self.chain.revert(&moment.state).map_err(failed)?;
        let ledger = NodeLedger::alone(self.chain.chain(), self.finalized.clone());
        *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = ledger;
        self.clock.set(moment.clock);
        Ok(())
    }
}

impl Development for DevLedger {
    fn accounts(&self) -> Vec<Address> {
        self.keys.iter().map(AccountKey::address).collect()
    }

    fn impersonate(&self, account: Address, wanted: bool) {
        let mut impersonated = lock(&self.impersonated);
        if wanted {
            impersonated.accounts.insert(account);
        } else {
            impersonated.accounts.remove(&account);
        }
    }

    fn impersonate_all(&self, wanted: bool) {
        lock(&self.impersonated).all = wanted;
    }

    fn sign(&self, account: Address, hash: B256) -> Result<Signature, LedgerError> {
        let key = self.key(account).ok_or_else(|| LedgerError::Question {
            message: format!("this chain has no key of {account}"),
        })?;
        key.sign_hash(hash)
            .map_err(|error| LedgerError::Unavailable {
                message: error.to_string(),
            })
    }

    fn send(&self, transaction: Send) -> Result<B256, LedgerError> {
        let voice = self.voice(transaction.from)?;
        let ledger = self.ledger();
        let call = Call {
            from: transaction.from,
            to: transaction.to,
            input: transaction.input.clone(),
            value: transaction.value,
            gas: None,
        };
        let gas_limit = match transaction.gas {
            Some(gas) => gas,
            None => ledger.estimate_gas(&call)?,
        };
        let nonce = match transaction.nonce {
            Some(nonce) => nonce,
            None => ledger.account(transaction.from, BlockRef::Pending)?.1,
        };
        let unsigned = UnsignedTransaction {
            nonce,
            gas_limit,
            to: transaction.to.map_or(TxKind::Create, TxKind::Call),
            value: transaction.value,
            input: transaction.input,
        };
        self.take(self.encode(&voice, transaction.from, unsigned)?)
    }

    fn change(&self, change: StateChange) -> Result<(), LedgerError> {
        let edit = match change {
            StateChange::Balance(account, balance) => Edit::Balance(account, balance),
            StateChange::Code(account, code) => Edit::Code(account, code),
            StateChange::Slot(account, slot, word) => Edit::Slot(account, slot, word.into()),
            StateChange::Nonce(account, nonce) => {
                let (_, current, _) = self.ledger().account(account, BlockRef::Latest)?;
                if nonce < current {
                    return Err(LedgerError::Question {
                        message: format!(
                            "the nonce of {account} is {current}; it cannot become {nonce}, which is lower"
                        ),
                    });
                }
                Edit::Nonce(account, nonce)
            }
        };
        let _alone = lock(&self.acting);
        // It takes none of the time that was set for the next block.
        let made = self.chain.edit(0, &[edit]);
        self.publish(&self.ledger(), made)
    }

    fn mine(&self, blocks: u64, interval_s: Option<u64>) -> Result<(), LedgerError> {
        if blocks > BLOCKS_AT_ONCE_MAX {
            return Err(LedgerError::Limit {
                message: format!(
                    "{blocks} blocks were asked for, at most {BLOCKS_AT_ONCE_MAX} are made at once"
                ),
            });
        }
        let _alone = lock(&self.acting);
        let ledger = self.ledger();
        for made in 0..blocks {
            if let Some(seconds) = interval_s.filter(|_| made > 0) {
                self.clock.increase(seconds);
            }
            self.publish(&ledger, self.chain.mine(self.clock.next_ms()))?;
        }
        Ok(())
    }

    fn mining(&self) -> Mining {
        *self.mining.borrow()
    }

    fn set_mining(&self, mining: Mining) {
        self.mining.send_replace(mining);
    }

    fn increase_time(&self, seconds: u64) -> u64 {
        self.clock.increase(seconds)
    }

    fn set_next_timestamp(&self, seconds: u64) -> Result<(), LedgerError> {
        let last = self.ledger().finalized_at_ms()? / 1_000;
        if seconds < last {
            return Err(LedgerError::Question {
                message: format!(
                    "timestamp {seconds} is before that of the last block, which is {last}"
                ),
            });
        }
        self.clock.set_next(seconds);
        Ok(())
    }

    fn snapshot(&self) -> u64 {
        let _alone = lock(&self.acting);
        let moment = Moment {
            state: self.chain.snapshot(),
            clock: self.clock.offset(),
        };
        let mut moments = lock(&self.moments);
        let number = moments.last;
        moments.last = number.saturating_add(1);
        moments.kept.insert(number, Arc::new(moment));
        number
    }

    fn revert(&self, snapshot: u64) -> Result<bool, LedgerError> {
        // Number 0 is the beginning, which a reset alone returns to.
        if snapshot == 0 {
            return Ok(false);
        }
        // The moment itself and all later ones are forgotten.
        let gone = {
            let mut moments = lock(&self.moments);
            if !moments.kept.contains_key(&snapshot) {
                return Ok(false);
            }
            moments.kept.split_off(&snapshot)
        };
        match gone.get(&snapshot) {
            Some(moment) => self.return_to(moment).map(|()| true),
            None => Ok(false),
        }
    }

    fn reset(&self) -> Result<(), LedgerError> {
        let beginning = {
            let mut moments = lock(&self.moments);
            let later = moments.kept.split_off(&1);
            drop(later);
            moments.kept.get(&0).cloned()
        };
        beginning.map_or(Ok(()), |beginning| self.return_to(&beginning))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment; a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: Error) -> LedgerError {
    match &error {
        Error::Genesis { problem } => LedgerError::Question {
            message: problem.clone(),
        },
        _ => LedgerError::Unavailable {
            message: format!("{:#}", anyhow::Error::from(error)),
        },
    }
}

/// Some seconds of work; tools ask for a few thousand.
const BLOCKS_AT_ONCE_MAX: u64 = 100_000;
