//! A store that is filled with another member's state and blocks, in steps that are durable and checked each. It is
//! not the chain's until it is whole.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable as _, RlpDecodable, RlpEncodable};
use stele_core::{
    block::{Block, Receipt, Validator},
    epoch::Change,
};

use super::{
    Error, Head, blocks, format, logs,
    parts::{Want, WrongPart, decode_wants, encode_wants},
    rows,
    store::{Batch, Store, Table},
};

/// What came in so far.
pub(crate) struct Incoming {
    store: Arc<dyn Store>,
    begun: Option<Begun>,
}

/// How far it is.
struct Begun {
    /// What the caller keeps beside it: what proves the target.
    offer: Bytes,
    /// Where it ends.
    head: Head,
    /// What comes next in the walk over the state, last; nothing once all is there.
    wants: Vec<Want>,
    /// Bytes of the state so far.
    bytes: u64,
    /// Height of the next block.
    next: u64,
    /// Digest of the one before.
    parent: B256,
}

/// [`Begun`] on disk.
#[derive(RlpEncodable, RlpDecodable)]
struct Row {
    offer: Bytes,
    head: Bytes,
    wants: Bytes,
    bytes: u64,
    next: u64,
    parent: B256,
}

impl Incoming {
    /// What a store holds. Anything that can't be read is taken for nothing: it can be fetched again.
    ///
    /// # Errors
    /// [`Error::Store`] if the store can't be read.
    pub(crate) fn over(store: Arc<dyn Store>) -> Result<Self, Error> {
        let row = rows::read(&*store.snapshot(), Table::Meta, KEY, 0)?;
        let begun = row.and_then(|row| Begun::decode(&row));
        Ok(Self { store, begun })
    }

    /// What was kept beside it, if it was begun.
    pub(crate) fn offer(&self) -> Option<&Bytes> {
        self.begun.as_ref().map(|begun| &begun.offer)
    }

    /// Begins: the chain up to `head`, whose first block is `genesis`, with the changes of validators on the way and the
    /// set that the head announces, if it is another. The store must be empty.
    ///
    /// # Errors
    /// [`Error::Invariant`] if it is not, [`Error::Store`] if nothing could be written.
    pub(crate) fn begin(
        &mut self,
        offer: Bytes,
        head: Head,
        genesis: &Block,
        changes: &[Change],
        announced: Option<&[Validator]>,
    ) -> Result<(), Error> {
        if self.begun.is_some() {
            return Err(Error::Invariant("a snapshot was begun twice"));
        }
        format::migrate(&*self.store, 0)?;
        let begun = Begun {
            offer,
            wants: Want::root(head.state_root),
            bytes: 0,
            next: 1,
            parent: head.genesis_hash,
            head,
        };
        let mut batch = Batch::default();
        blocks::put_rows(&mut batch, head.genesis_hash, genesis, &[], &[]);
        for (epoch, change) in (0_u64..).zip(changes) {
            if change.is_recovery() {
                blocks::put_recovery(&mut batch, epoch, change)?;
            } else {
                blocks::put_validators(&mut batch, &change.validators);
            }
        }
        if let Some(validators) = announced {
            blocks::put_validators(&mut batch, validators);
        }
        begun.put(&mut batch);
        self.store.write(batch)?;
        self.begun = Some(begun);
        Ok(())
    }

    fn begun(&self) -> Result<&Begun, Error> {
        self.begun.as_ref().ok_or(NOT_BEGUN)
    }

    /// What comes next of the state, as the giver is asked for it; `None` once all is there.
    pub(crate) fn wants(&self) -> Option<Bytes> {
        let wants = &self.begun.as_ref()?.wants;
        // The giver stops where its list ends, so the end of ours is enough.
        let from = wants.len().saturating_sub(WANTS_AT_ONCE);
        let next = wants.get(from..).unwrap_or_default();
        (!next.is_empty()).then(|| encode_wants(next))
    }

    /// Bytes of the state so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.begun.as_ref().map_or(0, |begun| begun.bytes)
    }

    /// Height of the next block and digest of the one before.
    pub(crate) fn next_block(&self) -> (u64, B256) {
        let begun = self.begun.as_ref();
        begun.map_or((0, B256::ZERO), |begun| (begun.next, begun.parent))
    }

    /// Takes parts of the state, all of them or none.
    ///
    /// # Errors
    /// Outside, why nothing could be written; inside, which part is not the one that has to come.
    pub(crate) fn take_parts(&mut self, parts: &[Bytes]) -> Result<Result<(), WrongPart>, Error> {
        let begun = self.begun.as_mut().ok_or(NOT_BEGUN)?;
        let mut batch = Batch::default();
        let (mut wants, mut bytes) = (begun.wants.clone(), begun.bytes);
        for part in parts {
            let Some(want) = wants.pop() else {
                return Ok(Err(WrongPart::TOO_MUCH));
            };
            if let Err(wrong) = want.take(part, &mut wants, &mut batch) {
                return Ok(Err(wrong));
            }
            bytes = bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        let before = std::mem::replace(&mut begun.wants, wants);
        let bytes_before = std::mem::replace(&mut begun.bytes, bytes);
        begun.put(&mut batch);
        if let Err(error) = self.store.write(batch) {
            (begun.wants, begun.bytes) = (before, bytes_before);
            return Err(error);
        }
        Ok(Ok(()))
    }

    /// Takes the next blocks with their receipts, whose roots were checked. `certificate` finalizes all of them.
    ///
    /// # Errors
    /// [`Error::Gap`] for another block than the next, [`Error::Store`] if nothing could be written.
    pub(crate) fn take_blocks(
        &mut self,
        blocks: &[(Block, Vec<Receipt>)],
        certificate: &[u8],
    ) -> Result<(), Error> {
        let begun = self.begun.as_mut().ok_or(NOT_BEGUN)?;
        let mut batch = Batch::default();
        let (mut next, mut parent) = (begun.next, begun.parent);
        for (block, receipts) in blocks {
            let offered = block.header.number;
            if offered != next || block.header.parent_hash != parent {
                return Err(Error::Gap { next, offered });
            }
            (next, parent) = (next.saturating_add(1), block.hash());
            blocks::put_rows(&mut batch, parent, block, receipts, certificate);
            logs::put_index(&mut batch, offered, receipts);
        }
        let before = (begun.next, begun.parent);
        (begun.next, begun.parent) = (next, parent);
        begun.put(&mut batch);
        if let Err(error) = self.store.write(batch) {
            (begun.next, begun.parent) = before;
            return Err(error);
        }
        Ok(())
    }

    /// The store, once nothing is lacking: from now on it says itself where its chain ends.
    ///
    /// # Errors
    /// [`Error::Invariant`] if something is lacking, [`Error::Store`] if nothing could be written.
    pub(crate) fn finish(self) -> Result<(Arc<dyn Store>, Head), Error> {
        let begun = self.begun()?;
        let head = begun.head;
        let is_whole = begun.wants.is_empty()
            && begun.next == head.height.saturating_add(1)
            && begun.parent == head.hash;
        if !is_whole {
            return Err(Error::Invariant(
                "a snapshot was finished before it was whole",
            ));
        }
        let mut batch = Batch::default();
        blocks::put_head(&mut batch, &head);
        self.store.write(batch)?;
        Ok((self.store, head))
    }
}

impl Begun {
    fn put(&self, batch: &mut Batch) {
        let row = Row {
            offer: self.offer.clone(),
            head: self.head.encode().into(),
            wants: encode_wants(&self.wants),
            bytes: self.bytes,
            next: self.next,
            parent: self.parent,
        };
        rows::put(batch, Table::Meta, KEY, &alloy_rlp::encode(&row));
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let row = Row::decode(&mut bytes).ok()?;
        Some(Self {
            head: Head::decode(&row.head)?,
            wants: decode_wants(&row.wants)?,
            offer: row.offer,
            bytes: row.bytes,
            next: row.next,
            parent: row.parent,
        })
    }
}

/// Key of the row in [`Table::Meta`] that says how far a snapshot is. It stays when the snapshot is whole, and is of no
/// use then.
const KEY: &[u8] = b"incoming";
/// Wants of one question: a branch has 16 children, and a walk that is eight deep knows 120 of them ahead.
const WANTS_AT_ONCE: usize = 1_024;
const NOT_BEGUN: Error = Error::Invariant("a snapshot was used before it was begun");
