//! Finding logs: an index from every address and topic to the heights where it occurs.
//!
//! A term is an eight-byte hash; two that collide only make a block be looked at in vain, because every match is
//! decided on the receipts. A header's bloom filter cannot do this: with a few hundred logs in a block all its bits
//! are set.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Log};
use stele_core::block::Receipt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Error, StateView,
    store::{Batch, Table},
    transaction_hash,
};

/// Which logs to find. An empty list accepts anything.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    /// Emitting contracts.
    pub addresses: Vec<Address>,
    /// Accepted values of each topic, by position; missing positions accept anything.
    pub topics: Vec<Vec<B256>>,
}

/// A log with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    /// Height of its block.
    pub height: u64,
    /// Digest of its block.
    pub block_hash: B256,
    /// Hash of its transaction.
    pub transaction_hash: B256,
    /// Index of its transaction in the block.
    pub transaction_index: u32,
    /// Index of the log in the block.
    pub log_index: u32,
    /// The log.
    pub log: Log,
}

/// An answer to a [`LogFilter`].
#[derive(Clone, Debug, Default)]
pub struct FoundLogs {
    /// Matches, in order of the chain.
    pub logs: Vec<FoundLog>,
    /// First height not looked at, if the limit cut the search short. A block's logs are never split.
    pub next_height: Option<u64>,
}

impl LogFilter {
    /// Whether a log passes.
    #[must_use]
    pub fn accepts(&self, log: &Log) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        address
            && (0..)
                .zip(&self.topics)
                .all(|(position, accepted): (usize, _)| {
                    accepted.is_empty()
                        || log
                            .topics()
                            .get(position)
                            .is_some_and(|topic| accepted.contains(topic))
                })
    }

    /// Sets of terms of which a matching block must have one each.
    fn terms(&self) -> Vec<Vec<u64>> {
        let addresses: Vec<_> = self
            .addresses
            .iter()
            .map(|a| term(ADDRESS, a.as_slice()))
            .collect();
        let topics = self
            .topics
            .iter()
            .map(|accepted| accepted.iter().map(|t| term(TOPIC, t.as_slice())).collect());
        std::iter::once(addresses)
            .chain(topics)
            .filter(|terms| !terms.is_empty())
            .collect()
    }
}

impl StateView {
    /// Logs that pass `filter` in the final blocks from `from` to `to`, both included. The search ends after the
    /// block in which `limit` is reached. `memory` gives those of a block that need not be read.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn logs(
        &self,
        filter: &LogFilter,
        from: u64,
        to: u64,
        limit: usize,
        memory: impl Fn(u64) -> Option<Vec<FoundLog>>,
    ) -> Result<FoundLogs, Error> {
        let mut found = FoundLogs::default();
        let Some(head) = self.head() else {
            return Ok(found);
        };
        let to = to.min(head.height);
        let mut cursors: Vec<_> = filter.terms().into_iter().map(AnyOf::new).collect();
        let mut at = from;
        while at <= to {
            let Some(height) = self.next_candidate(&mut cursors, at, to)? else {
                break;
            };
            if found.logs.len() >= limit {
                found.next_height = Some(height);
                break;
            }
            match memory(height) {
                Some(known) => found.logs.extend(known),
                None => self.matches(filter, height, &mut found.logs)?,
            }
            let Some(next) = height.checked_add(1) else {
                break;
            };
            at = next;
        }
        Ok(found)
    }

    /// First height from `from` to `to` where every cursor has a term.
    fn next_candidate(
        &self,
        cursors: &mut [AnyOf],
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, Error> {
        let mut at = from;
        loop {
            let mut agreed = true;
            for cursor in &mut *cursors {
                match cursor.next_from(self, at, to)? {
                    None => return Ok(None),
                    Some(height) if height > at => {
                        at = height;
                        agreed = false;
                    }
                    Some(_) => {}
                }
            }
            if agreed {
                return Ok(Some(at));
            }
        }
    }

    fn matches(
        &self,
        filter: &LogFilter,
        height: u64,
        found: &mut Vec<FoundLog>,
    ) -> Result<(), Error> {
        let Some(header) = self.header(height)? else {
            return Ok(());
        };
        if header.logs_bloom.is_zero() {
            return Ok(());
        }
        let receipts = self.receipts(height)?.unwrap_or_default();
        let mut transactions = None;
        let mut log_index = 0_u32;
        for (transaction_index, receipt) in (0_u32..).zip(receipts) {
            for log in receipt.logs {
                if filter.accepts(&log) {
                    let encoded = match &mut transactions {
                        Some(encoded) => encoded,
                        none => none.insert(self.transactions(height)?.unwrap_or_default()),
                    };
                    let index = usize::try_from(transaction_index).unwrap_or(usize::MAX);
                    let encoded = encoded.get(index).ok_or_else(|| {
                        Error::damaged(height, "there are more receipts than transactions")
                    })?;
                    found.push(FoundLog {
                        height,
                        block_hash: header.hash(),
                        transaction_hash: transaction_hash(encoded),
                        transaction_index,
                        log_index,
                        log,
                    });
                }
                log_index = log_index.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// Heights at which one of several terms occurs.
struct AnyOf(Vec<Cursor>);

/// Heights at which one term occurs, read ahead in growing portions.
struct Cursor {
    term: u64,
    /// Heights read ahead, descending.
    ahead: Vec<u64>,
    portion: usize,
}

impl AnyOf {
    fn new(terms: Vec<u64>) -> Self {
        let cursor = |term| Cursor {
            term,
            ahead: Vec::new(),
            portion: PORTION_MIN,
        };
        Self(terms.into_iter().map(cursor).collect())
    }

    fn next_from(&mut self, view: &StateView, from: u64, to: u64) -> Result<Option<u64>, Error> {
        let mut first = None;
        for cursor in &mut self.0 {
            let next = cursor.next_from(view, from, to)?;
            first = match (first, next) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u64>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(first)
    }
}

impl Cursor {
    fn next_from(&mut self, view: &StateView, from: u64, to: u64) -> Result<Option<u64>, Error> {
        let before = self.ahead.len();
        while self.ahead.last().is_some_and(|height| *height < from) {
            self.ahead.pop();
        }
        if self.ahead.is_empty() {
            if before > 1 {
                // Jumped over: another term is rarer, and most of a large portion would be jumped over again.
                self.portion = PORTION_MIN;
            }
            let rows = view.base().reader().range(
                Table::Logs,
                &index_key(self.term, from),
                &index_key(self.term, to),
                self.portion,
            );
            let rows = rows.map_err(|error| error.at(view.base().height()))?;
            self.portion = self.portion.saturating_mul(4).min(PORTION_MAX);
            self.ahead = rows
                .iter()
                .rev()
                .filter_map(|(key, _)| height_of_key(key))
                .collect();
        }
        Ok(self.ahead.last().copied())
    }
}

/// Heights of a term that are read at once: at first and after a jump, and at most.
const PORTION_MIN: usize = 4;
const PORTION_MAX: usize = 256;

/// Adds a block's terms to the batch that makes it final.
pub(crate) fn put_index(batch: &mut Batch, height: u64, receipts: &[Receipt]) {
    for term in block_terms(receipts) {
        batch.put(Table::Logs, index_key(term, height), Vec::new());
    }
}

/// Every term that occurs in the logs of a block.
pub(crate) fn block_terms(receipts: &[Receipt]) -> BTreeSet<u64> {
    let mut terms = BTreeSet::new();
    for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
        terms.insert(term(ADDRESS, log.address.as_slice()));
        terms.extend(
            log.topics()
                .iter()
                .map(|topic| term(TOPIC, topic.as_slice())),
        );
    }
    terms
}

fn term(kind: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, kind)
}

pub(crate) fn index_key(term: u64, height: u64) -> [u8; 16] {
    ((u128::from(term) << 64) | u128::from(height)).to_be_bytes()
}

fn height_of_key(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>()
        .map(|height| u64::from_be_bytes(*height))
}

/// Seeds that keep an address and an equal topic apart.
const ADDRESS: u64 = 0;
const TOPIC: u64 = 1;
