//! The consortium itself: anchored receipts, proposals, parameters, validators.

use alloy_primitives::{Address, B256, Bytes, U256};
use stele_core::time::Timestamp;

use super::{Happened, address, hash, unsigned};
use crate::{ChainIndex, error::Result};

/// A batch of an organisation's access receipts, anchored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptBatch {
    /// Whose.
    pub organization: Address,
    /// Number of the first receipt.
    pub first: u64,
    /// Number of receipts.
    pub count: u32,
    /// Merkle root over their digests.
    pub root: B256,
    /// End of the hash chain.
    pub head: B256,
    /// When.
    pub anchored: Happened,
}

/// A proposal before the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number.
    pub id: u32,
    /// Who proposed.
    pub proposer: Address,
    /// Kind, as `IGovernance` numbers them.
    pub kind: u8,
    /// ABI encoding of what is proposed.
    pub payload: Bytes,
    /// When voting ends.
    pub deadline: Timestamp,
    /// 1 open, 2 executed, 3 rejected; an open one past its deadline has expired.
    pub status: u8,
    /// Votes in order: who, and whether yes.
    pub votes: Vec<(Address, bool)>,
    /// When.
    pub proposed: Happened,
}

/// How much of the chain is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainStats {
    /// Height of the last block followed.
    pub height: Option<u64>,
    /// Its time.
    pub at: Option<Timestamp>,
    /// Leaves in all logs.
    pub leaves: u64,
    /// Logs with at least one leaf.
    pub logs: u64,
    /// Accounts of all kinds.
    pub accounts: u64,
    /// Grants given, ended ones included.
    pub grants: u64,
    /// Access receipts anchored.
    pub receipts: u64,
}

impl ChainIndex {
    /// Anchored batches of an organisation's receipts, in order, from a receipt on.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn receipt_batches(&self, organization: Address, from: u64) -> Result<Vec<ReceiptBatch>> {
        self.list(
            "listing anchored receipts",
            "SELECT b.organization, b.first, b.count, b.root, b.head, t.hash, t.height, t.time_ms
             FROM receipt_batches b JOIN transactions t ON t.id = b.tx
             WHERE b.organization = ?1 AND b.first + b.count > ?2 ORDER BY b.first",
            (organization.as_slice(), from.cast_signed()),
            |row| {
                Ok(ReceiptBatch {
                    organization: address(row, 0)?,
                    first: unsigned(row, 1)?,
                    count: row.get(2)?,
                    root: hash(row, 3)?,
                    head: hash(row, 4)?,
                    anchored: Happened::read(row, 5)?,
                })
            },
        )
    }

    /// Number of receipts anchored by an organisation and the end of its hash chain; zeros where there is none.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn audit_head(&self, organization: Address) -> Result<(u64, B256)> {
        let mut found = self.list(
            "reading an audit head",
            "SELECT first + count, head FROM receipt_batches WHERE organization = ?1 ORDER BY first DESC LIMIT 1",
            [organization.as_slice()],
            |row| Ok((unsigned(row, 0)?, hash(row, 1)?)),
        )?;
        Ok(found.pop().unwrap_or_default())
    }

    /// All proposals with their votes, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn proposals(&self) -> Result<Vec<Proposal>> {
        let mut proposals = self.list(
            "listing proposals",
            "SELECT p.id, p.proposer, p.kind, p.payload, p.deadline, p.status, t.hash, t.height, t.time_ms
             FROM proposals p JOIN transactions t ON t.id = p.tx ORDER BY p.id DESC",
            [],
            |row| {
                Ok(Proposal {
                    id: row.get(0)?,
                    proposer: address(row, 1)?,
                    kind: row.get(2)?,
                    payload: row.get::<_, Vec<u8>>(3)?.into(),
                    deadline: Timestamp::from_seconds(unsigned(row, 4)?),
                    status: row.get(5)?,
                    votes: Vec::new(),
                    proposed: Happened::read(row, 6)?,
                })
            },
        )?;
        for proposal in &mut proposals {
            proposal.votes = self.list(
                "listing votes",
                "SELECT voter, is_yes FROM votes WHERE proposal = ?1 ORDER BY tx, voter",
                [proposal.id],
                |row| Ok((address(row, 0)?, row.get(1)?)),
            )?;
        }
        Ok(proposals)
    }

    /// A parameter that was set by vote; nothing where the contract's default holds.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn parameter(&self, key: B256) -> Result<Option<U256>> {
        let sql = "SELECT value FROM parameters WHERE key = ?1";
        let mut found = self.list("reading a parameter", sql, [key.as_slice()], |row| {
            row.get::<_, [u8; 32]>(0).map(U256::from_be_bytes)
        })?;
        Ok(found.pop())
    }

    /// Accounts that may deploy contracts.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn deployers(&self) -> Result<Vec<Address>> {
        let sql = "SELECT account FROM deployers ORDER BY account";
        self.list("listing deployers", sql, [], |row| address(row, 0))
    }

    /// Seats of validators: key and organisation, in order of key.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn validators(&self) -> Result<Vec<(B256, Address)>> {
        let sql = "SELECT key, organization FROM validators ORDER BY key";
        self.list("listing validators", sql, [], |row| {
            Ok((hash(row, 0)?, address(row, 1)?))
        })
    }

    /// How much of the chain is followed.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn stats(&self) -> Result<ChainStats> {
        let mut found = self.list(
            "counting what the chain says",
            "SELECT (SELECT height FROM followed), (SELECT time_ms FROM followed),
                (SELECT coalesce(sum(length(slots)), 0) FROM anchors) + (SELECT count(*) FROM tombstones),
                (SELECT count(DISTINCT log) FROM anchors), (SELECT count(*) FROM accounts),
                (SELECT count(*) FROM grants), (SELECT coalesce(sum(count), 0) FROM receipt_batches)",
            [],
            |row| {
                Ok(ChainStats {
                    height: row.get::<_, Option<i64>>(0)?.map(i64::cast_unsigned),
                    at: row.get::<_, Option<i64>>(1)?.map(|ms| Timestamp(ms.cast_unsigned())),
                    leaves: unsigned(row, 2)?,
                    logs: unsigned(row, 3)?,
                    accounts: unsigned(row, 4)?,
                    grants: unsigned(row, 5)?,
                    receipts: unsigned(row, 6)?,
                })
            },
        )?;
        Ok(found.pop().unwrap_or_default())
    }
}
