//! Blocks, receipts and certificates by height, digest and transaction.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable;
use stele_core::{
    block::{Block, Header, Receipt, Validator, validators_hash},
    epoch::Change,
};

use super::{
    Error, Head, StateView, rows,
    store::{Batch, Reader, Table},
    transaction_hash,
};

/// Where a transaction stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLocation {
    /// Height of its block.
    pub height: u64,
    /// Its index in the block, from 0.
    pub index: u32,
}

/// Reads a view's final blocks. Heights above the head, and unknown digests, are `None`; every method fails with
/// [`Error::Damaged`], naming the height, if what is stored is not what was written.
impl StateView {
    /// Digest of the block at `height`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn block_hash(&self, height: u64) -> Result<Option<B256>, Error> {
        match self.head() {
            Some(head) if head.height == height => Ok(Some(head.hash)),
            Some(_) | None => Ok(self.header(height)?.map(|header| header.hash())),
        }
    }

    /// Header of the block at `height`, held against its digest.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn header(&self, height: u64) -> Result<Option<Header>, Error> {
        let Some(row) = self.row(Table::Headers, height)? else {
            return Ok(None);
        };
        let malformed = || Error::damaged(height, "the header is malformed");
        let (digest, mut rlp) = row.split_first_chunk::<32>().ok_or_else(malformed)?;
        let header = Header::decode(&mut rlp).map_err(|_| malformed())?;
        if header.hash() != B256::from(*digest) || header.number != height {
            return Err(Error::damaged(
                height,
                "the header does not have its digest",
            ));
        }
        Ok(Some(header))
    }

    /// The block at `height`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn block(&self, height: u64) -> Result<Option<Block>, Error> {
        let Some(header) = self.header(height)? else {
            return Ok(None);
        };
        let transactions = self.transactions(height)?.unwrap_or_default();
        Ok(Some(Block {
            header,
            transactions,
        }))
    }

    /// Encoded transactions of the block at `height`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn transactions(&self, height: u64) -> Result<Option<Vec<Bytes>>, Error> {
        self.list(Table::Bodies, height)
    }

    /// Receipts of the block at `height`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn receipts(&self, height: u64) -> Result<Option<Vec<Receipt>>, Error> {
        self.list(Table::Receipts, height)
    }

    /// Commit certificate of the block at `height`, as it was handed over.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn certificate(&self, height: u64) -> Result<Option<Bytes>, Error> {
        self.row(Table::Certificates, height)
    }

    /// The validators that a header names by this hash, if one did that was the first to announce them.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn validators(&self, hash: B256) -> Result<Option<Vec<Validator>>, Error> {
        let height = self.base().height();
        let key = validators_key(hash);
        let Some(row) = rows::read(self.base().reader(), Table::Meta, &key, height)? else {
            return Ok(None);
        };
        let malformed = || Error::damaged(height, "a set of validators is malformed");
        let validators = Vec::<Validator>::decode(&mut row.as_ref()).map_err(|_| malformed())?;
        if validators_hash(&validators) != hash {
            return Err(malformed());
        }
        Ok(Some(validators))
    }

    /// The change of validators that ended an epoch by hand, if one did.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub(crate) fn recovery(&self, epoch: u64) -> Result<Option<Change>, Error> {
        let height = self.base().height();
        let key = recovery_key(epoch);
        let row = rows::read(self.base().reader(), Table::Meta, &key, height)?;
        let malformed = |_| Error::damaged(height, "the end of an epoch by hand is malformed");
        row.map(|row| serde_json::from_slice(&row).map_err(malformed))
            .transpose()
    }

    /// Height of the block with `digest`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn height_of(&self, digest: B256) -> Result<Option<u64>, Error> {
        let Some(row) = self.index_row(Table::Heights, digest)? else {
            return Ok(None);
        };
        let Ok(bytes) = <[u8; 8]>::try_from(row.as_ref()) else {
            return Err(Error::damaged(
                self.base().height(),
                "a digest's height is no number",
            ));
        };
        let height = u64::from_be_bytes(bytes);
        if self.block_hash(height)? != Some(digest) {
            return Err(Error::damaged(height, "a digest points to another block"));
        }
        Ok(Some(height))
    }

    /// Where the transaction with `hash` stands.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn transaction_location(&self, hash: B256) -> Result<Option<TransactionLocation>, Error> {
        let Some(row) = self.index_row(Table::Transactions, hash)? else {
            return Ok(None);
        };
        let location = TransactionLocation::decode(&row).ok_or_else(|| {
            Error::damaged(self.base().height(), "a transaction's place is malformed")
        })?;
        Ok(Some(location))
    }

    /// A row by height. At or below the head it must be there.
    fn row(&self, table: Table, height: u64) -> Result<Option<Bytes>, Error> {
        if self.head().is_none_or(|head| height > head.height) {
            return Ok(None);
        }
        let row = rows::read(self.base().reader(), table, &height.to_be_bytes(), height)?;
        match row {
            Some(row) => Ok(Some(row)),
            None => Err(Error::damaged(
                height,
                format!("a row of {} is missing", table.name()),
            )),
        }
    }

    fn index_row(&self, table: Table, hash: B256) -> Result<Option<Bytes>, Error> {
        rows::read(
            self.base().reader(),
            table,
            hash.as_slice(),
            self.base().height(),
        )
    }

    fn list<T: Decodable>(&self, table: Table, height: u64) -> Result<Option<Vec<T>>, Error> {
        let Some(row) = self.row(table, height)? else {
            return Ok(None);
        };
        let list = Vec::<T>::decode(&mut row.as_ref()).map_err(|_| {
            Error::damaged(height, format!("a row of {} is malformed", table.name()))
        })?;
        Ok(Some(list))
    }

    /// Holds the last block against the head row: a store whose rows come from different moments is noticed.
    pub(crate) fn check_end(&self) -> Result<(), Error> {
        let Some(head) = self.head() else {
            return Ok(());
        };
        let header = self.header(head.height)?;
        if header
            .is_none_or(|header| header.hash() != head.hash || header.state_root != head.state_root)
        {
            return Err(Error::damaged(
                head.height,
                "the last block is not the head",
            ));
        }
        if self.height_of(head.hash)? != Some(head.height) {
            return Err(Error::damaged(head.height, "the last block is not indexed"));
        }
        Ok(())
    }
}

impl TransactionLocation {
    fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        let (height, index) = out.split_at_mut(8);
        height.copy_from_slice(&self.height.to_be_bytes());
        index.copy_from_slice(&self.index.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (height, index) = bytes.split_first_chunk::<8>()?;
        let index = <[u8; 4]>::try_from(index).ok()?;
        Some(Self {
            height: u64::from_be_bytes(*height),
            index: u32::from_be_bytes(index),
        })
    }
}

/// The head row.
///
/// # Errors
/// Unreadable or damaged rows.
pub(crate) fn read_head(reader: &dyn Reader, named: u64) -> Result<Option<Head>, Error> {
    let Some(row) = rows::read(reader, Table::Meta, HEAD_KEY, named)? else {
        return Ok(None);
    };
    let head =
        Head::decode(&row).ok_or_else(|| Error::damaged(named, "the head row is malformed"))?;
    Ok(Some(head))
}

/// Adds a block's rows to the batch that makes it final.
pub(crate) fn put_block(
    batch: &mut Batch,
    head: &Head,
    block: &Block,
    receipts: &[Receipt],
    certificate: &[u8],
) {
    put_head(batch, head);
    put_rows(batch, head.hash, block, receipts, certificate);
}

/// Adds the row that says where the chain ends.
pub(crate) fn put_head(batch: &mut Batch, head: &Head) {
    rows::put(batch, Table::Meta, HEAD_KEY, &head.encode());
}

/// Adds a block with all that is found through it, but not that the chain goes so far.
pub(crate) fn put_rows(
    batch: &mut Batch,
    hash: B256,
    block: &Block,
    receipts: &[Receipt],
    certificate: &[u8],
) {
    let height = block.header.number;
    let key = height.to_be_bytes();
    let mut header = hash.to_vec();
    alloy_rlp::Encodable::encode(&block.header, &mut header);
    rows::put(batch, Table::Headers, &key, &header);
    rows::put_list(batch, Table::Bodies, &key, &block.transactions);
    rows::put_list(batch, Table::Receipts, &key, receipts);
    rows::put(batch, Table::Certificates, &key, certificate);
    rows::put(batch, Table::Heights, hash.as_slice(), &key);
    for (index, transaction) in (0_u32..).zip(&block.transactions) {
        let hash = transaction_hash(transaction);
        let location = TransactionLocation { height, index };
        rows::put(
            batch,
            Table::Transactions,
            hash.as_slice(),
            &location.encode(),
        );
    }
}

/// Adds a set of validators to the batch of the block that announces it.
pub(crate) fn put_validators(batch: &mut Batch, validators: &[Validator]) {
    let key = validators_key(validators_hash(validators));
    let mut payload = Vec::new();
    alloy_rlp::encode_list(validators, &mut payload);
    rows::put(batch, Table::Meta, &key, &payload);
}

/// Adds the change of validators that ended an epoch by hand.
///
/// # Errors
/// None in practice: every field has a JSON form.
pub(crate) fn put_recovery(batch: &mut Batch, epoch: u64, change: &Change) -> Result<(), Error> {
    let text = serde_json::to_vec(change)
        .map_err(|_| Error::Invariant("a change of validators without a text"))?;
    rows::put(batch, Table::Meta, &recovery_key(epoch), &text);
    Ok(())
}

fn recovery_key(epoch: u64) -> Vec<u8> {
    [RECOVERY_KEY, &epoch.to_be_bytes()].concat()
}

fn validators_key(hash: B256) -> Vec<u8> {
    [VALIDATORS_KEY, hash.as_slice()].concat()
}

const HEAD_KEY: &[u8] = b"head";
const VALIDATORS_KEY: &[u8] = b"validators/";
const RECOVERY_KEY: &[u8] = b"recovery/";
