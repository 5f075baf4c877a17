//! A ledger in memory: every transaction makes a block of its own and leaves one log. It executes nothing.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256, Bytes, Log, U256, address, keccak256};
use stele_core::{
    block::{Header, Receipt},
    tx::Transaction,
};
use stele_service::ports::{
    AccountProof, BlockRef, BlockView, BoxFuture, Call, ChainFacts, Finalized, Ledger, LedgerError,
    LogFilter, LogView, Position, ReceiptView, RefusalKind, SlotProof, SlotQuery, SlotRange, Trace,
    TraceOptions, Traced, TransactionView,
};
use tokio::sync::broadcast;

pub(crate) const CHAIN_ID: u64 = 57_831;
/// Calls to it are reverted, with the input as the reason's bytes.
pub(crate) const REVERTS: Address = address!("00000000000000000000000000000000000000bb");
/// Calls to it run out of gas.
pub(crate) const HALTS: Address = address!("00000000000000000000000000000000000000cc");
/// Calls to it find a damaged disk.
pub(crate) const BROKEN: Address = address!("00000000000000000000000000000000000000dd");
/// First topic of every log.
pub(crate) const TOPIC: B256 = B256::repeat_byte(0xaa);

pub(crate) struct MemoryLedger {
    blocks: Mutex<Vec<(Finalized, Vec<TransactionView>)>>,
    events: broadcast::Sender<Arc<Finalized>>,
}

impl Default for MemoryLedger {
    fn default() -> Self {
        // A channel this short makes subscribers miss blocks and read them again.
        let ledger = Self {
            blocks: Mutex::default(),
            events: broadcast::channel(2).0,
        };
        ledger.finalize(&[]);
        ledger
    }
}

impl MemoryLedger {
    /// Finalizes a block with these transactions, whose signatures are not looked at.
    pub(crate) fn finalize(&self, transactions: &[(Transaction, Address)]) -> BlockView {
        let mut blocks = self.blocks.lock().unwrap();
        let number = blocks.len() as u64;
        let parent_hash = blocks
            .last()
            .map(|(last, _)| last.block.hash)
            .unwrap_or_default();
        let header = Header {
            parent_hash,
            number,
            timestamp_ms: 1_767_225_600_999 + number * 1_000,
            proposer: B256::repeat_byte(0x11),
            gas_limit: 60_000_000,
            gas_used: 21_000 * transactions.len() as u64,
            ..Header::default()
        };
        let block = BlockView {
            hash: header.hash(),
            transactions: transactions.iter().map(|(tx, _)| tx.hash()).collect(),
            size_bytes: 700,
            header,
        };
        let views = transactions
            .iter()
            .zip(0_u32..)
            .map(|((transaction, sender), index)| {
                let position = Position {
                    block_hash: block.hash,
                    height: number,
                    timestamp_ms: block.header.timestamp_ms,
                    index,
                };
                let hash = transaction.hash();
                let transaction = transaction.clone();
                TransactionView {
                    hash,
                    sender: *sender,
                    transaction,
                    position: Some(position),
                }
            });
        let views: Vec<TransactionView> = views.collect();
        let receipts = views.iter().map(receipt).collect();
        let finalized = Finalized {
            block: block.clone(),
            receipts,
        };
        blocks.push((finalized.clone(), views));
        drop(blocks);
        let _ = self.events.send(Arc::new(finalized));
        block
    }

    fn at(&self, at: BlockRef) -> Option<(Finalized, Vec<TransactionView>)> {
        let blocks = self.blocks.lock().unwrap();
        match at {
            BlockRef::Latest => blocks.last().cloned(),
            BlockRef::Pending => panic!("the front asked for a pending block"),
            BlockRef::Number(number) => blocks.get(usize::try_from(number).unwrap()).cloned(),
            BlockRef::Hash(hash) => blocks.iter().find(|(b, _)| b.block.hash == hash).cloned(),
        }
    }

    fn require_latest(&self, at: BlockRef) -> Result<(), LedgerError> {
        match self.at(at) {
            Some((found, _)) if found.block.header.number == self.height() => Ok(()),
            _ => Err(LedgerError::NotAvailable {
                what: "the state".to_owned(),
                reason: "only the latest is kept".to_owned(),
            }),
        }
    }
}

fn receipt(view: &TransactionView) -> ReceiptView {
    let position = view.position.unwrap();
    let to = view.transaction.to().to().copied();
    let created = to
        .is_none()
        .then(|| view.sender.create(view.transaction.nonce()));
    let log = Log::new_unchecked(
        to.or(created).unwrap(),
        vec![TOPIC, view.sender.into_word()],
        view.transaction.input().clone(),
    );
    ReceiptView {
        hash: view.hash,
        sender: view.sender,
        to,
        created,
        position,
        gas_used: 21_000,
        first_log_index: position.index,
        receipt: Receipt {
            tx_type: view.transaction.tx_type(),
            success: true,
            cumulative_gas_used: 21_000 * u64::from(position.index + 1),
            logs: vec![log],
        },
    }
}

impl Ledger for MemoryLedger {
    fn facts(&self) -> ChainFacts {
        ChainFacts {
            chain_id: CHAIN_ID,
            genesis_hash: self.at(BlockRef::Number(0)).unwrap().0.block.hash,
            block_gas_limit: 60_000_000,
            open: true,
            validators: Vec::new(),
        }
    }

    fn submit(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>> {
        Box::pin(async move {
            let recovered = Transaction::decode(&transaction)
                .and_then(|tx| tx.recover(CHAIN_ID))
                .map_err(|refused| LedgerError::Refused {
                    kind: RefusalKind::Malformed,
                    message: refused.to_string(),
                })?;
            if self.transaction(recovered.hash)?.is_some() {
                return Err(LedgerError::Refused {
                    kind: RefusalKind::Known,
                    message: "already known".to_owned(),
                });
            }
            self.finalize(&[(recovered.transaction, recovered.sender)]);
            Ok(recovered.hash)
        })
    }

    fn wait(&self, hash: B256, waited_ms: u64) -> BoxFuture<'_, Result<ReceiptView, LedgerError>> {
        Box::pin(async move {
            self.receipt(hash)?
                .ok_or(LedgerError::Pending { hash, waited_ms })
        })
    }

    fn call(&self, call: &Call, at: BlockRef) -> Result<Bytes, LedgerError> {
        self.require_latest(at)?;
        match call.to {
            Some(REVERTS) => Err(LedgerError::Reverted {
                output: call.input.clone(),
            }),
            Some(HALTS) => Err(LedgerError::Halted {
                reason: "out of gas".to_owned(),
            }),
            Some(BROKEN) => Err(LedgerError::Unavailable {
                message: "/secret/path".to_owned(),
            }),
            _ => Ok(call.input.clone()),
        }
    }

    fn estimate_gas(&self, call: &Call) -> Result<u64, LedgerError> {
        self.call(call, BlockRef::Latest)
            .map(|output| 21_000 + output.len() as u64)
    }

    fn trace(&self, what: &Traced, _: &TraceOptions) -> Result<Option<Vec<Trace>>, LedgerError> {
        // Nothing is executed here; that there is a block is all it knows.
        Ok(match what {
            Traced::Block(at) => self.at(*at).map(|_| Vec::new()),
            Traced::Transaction(_) | Traced::Call(..) => None,
        })
    }

    fn slots(&self, query: &SlotQuery) -> Result<Option<SlotRange>, LedgerError> {
        Ok(self.at(query.at).map(|_| SlotRange::default()))
    }

    fn height(&self) -> u64 {
        self.blocks.lock().unwrap().len() as u64 - 1
    }

    fn finalized_at_ms(&self) -> Result<u64, LedgerError> {
        let block = self.block(BlockRef::Latest)?;
        Ok(block.map_or(0, |block| block.header.timestamp_ms))
    }

    fn account(&self, address: Address, at: BlockRef) -> Result<(U256, u64, Bytes), LedgerError> {
        let waiting = u64::from(at == BlockRef::Pending);
        if waiting == 0 {
            self.require_latest(at)?;
        }
        let blocks = self.blocks.lock().unwrap();
        let sent = blocks
            .iter()
            .flat_map(|(_, txs)| txs)
            .filter(|tx| tx.sender == address);
        Ok((
            U256::from(5),
            sent.count() as u64 + waiting,
            Bytes::from_static(&[0xfe]),
        ))
    }

    fn storage(&self, address: Address, slot: U256, at: BlockRef) -> Result<B256, LedgerError> {
        self.require_latest(at)?;
        Ok(keccak256(
            [address.as_slice(), &slot.to_be_bytes::<32>()].concat(),
        ))
    }

    fn proof(
        &self,
        address: Address,
        slots: &[B256],
        at: BlockRef,
    ) -> Result<AccountProof, LedgerError> {
        let (balance, nonce, code) = self.account(address, at)?;
        let slot = |key: &B256| SlotProof {
            key: *key,
            value: (*key).into(),
            proof: vec![Bytes::from_static(&[0xc0])],
        };
        Ok(AccountProof {
            address,
            nonce,
            balance,
            code_hash: keccak256(code),
            storage_root: B256::ZERO,
            proof: vec![Bytes::from_static(&[0xc1])],
            storage: slots.iter().map(slot).collect(),
            height: self.height(),
        })
    }

    fn block(&self, at: BlockRef) -> Result<Option<BlockView>, LedgerError> {
        Ok(self.at(at).map(|(found, _)| found.block))
    }

    fn certified_header(&self, height: u64) -> Result<Option<(Header, Bytes)>, LedgerError> {
        let found = self.at(BlockRef::Number(height));
        Ok(found.map(|(found, _)| (found.block.header, Bytes::new())))
    }

    fn transaction(&self, hash: B256) -> Result<Option<TransactionView>, LedgerError> {
        let blocks = self.blocks.lock().unwrap();
        Ok(blocks
            .iter()
            .flat_map(|(_, txs)| txs)
            .find(|tx| tx.hash == hash)
            .cloned())
    }

    fn transactions_of(&self, height: u64) -> Result<Vec<TransactionView>, LedgerError> {
        Ok(self.at(BlockRef::Number(height)).unwrap().1)
    }

    fn receipt(&self, hash: B256) -> Result<Option<ReceiptView>, LedgerError> {
        Ok(self.transaction(hash)?.as_ref().map(receipt))
    }

    fn receipts_of(&self, height: u64) -> Result<Vec<ReceiptView>, LedgerError> {
        Ok(self.at(BlockRef::Number(height)).unwrap().0.receipts)
    }

    fn logs(&self, filter: &LogFilter, limit: usize) -> Result<Vec<LogView>, LedgerError> {
        let to = filter.to.unwrap_or_else(|| self.height());
        let mut found = Vec::new();
        for height in filter.from..=to {
            for receipt in self.receipts_of(height)? {
                let logs = receipt
                    .receipt
                    .logs
                    .into_iter()
                    .zip(receipt.first_log_index..);
                found.extend(logs.filter(|(log, _)| filter.matches(log)).map(
                    |(log, log_index)| LogView {
                        log,
                        tx_hash: receipt.hash,
                        position: receipt.position,
                        log_index,
                    },
                ));
            }
        }
        if found.len() > limit {
            let message = format!("query returned more than {limit} results");
            return Err(LedgerError::Limit { message });
        }
        Ok(found)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Finalized>> {
        self.events.subscribe()
    }

    fn pool_size(&self) -> (usize, usize) {
        (2, 1)
    }
}
