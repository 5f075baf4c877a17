//! The state of a recent final block and the blocks up to it, for a member that joins: given, and taken.
//!
//! Whoever gives is not believed. The newcomer first proves which validators finalized the block, change by change from
//! those of the genesis, then takes the state in parts that the block's state root proves one by one
//! (`state::parts`), then every block before it with its receipts, which certificates and the roots in the headers
//! prove. It executes none of them: that more than two thirds of the validators did is what the certificate says. Logs,
//! indexes and proofs then answer as at any other member. A chain checked with [`crate::verify_chain`] is executed from
//! its genesis, also when it began with a snapshot.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, MutexGuard, PoisonError},
};

use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Decodable as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    block::{Block, Header, Receipt, Validator, receipts_root, validators_hash},
    certificate::{CommitCertificate, namespace},
    epoch::{self, Change, Epoch},
};

use crate::{
    chain::{Chain, Latest},
    error::{Error, QueryError, SnapshotError},
    state::{self, Head, Incoming, decode_wants},
};

/// A final block whose state a member gives, with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// RLP of the block's header.
    pub header: Bytes,
    /// The certificate that names the block.
    pub certificate: Bytes,
    /// The changes of validators before its epoch, from the first.
    pub changes: Vec<Change>,
    /// The validators that the header announces; empty where they are those of its epoch.
    pub announced: Vec<Validator>,
}

impl Offer {
    fn read(text: &[u8]) -> Result<Self, SnapshotError> {
        serde_json::from_slice(text).map_err(|error| SnapshotError::Offer {
            problem: error.to_string(),
        })
    }
}

/// A final block whose state is kept for newcomers while the chain goes on.
pub(crate) struct Pinned {
    latest: Arc<Latest>,
    /// Accounts with storage, by the hash the account trie knows them by.
    owners: BTreeMap<B256, Address>,
}

/// One state for each organisation that asked: what the others ask for takes it from nobody.
pub(crate) type Pins = BTreeMap<Address, Arc<Pinned>>;

/// Giving.
impl Chain {
    /// A final block whose state a newcomer, an organisation's, can have, and which stays for that time. `None` before
    /// the first.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn offer_snapshot(&self, to: Address) -> Result<Option<Offer>, state::Error> {
        let newest = self.latest().header.number;
        // A block that became final with a later one has no certificate of its own.
        let mut candidates = self.kept();
        let pins = self.pins();
        let pinned = pins.values().map(|pinned| &pinned.latest);
        let shared = pinned
            .filter(|latest| latest.header.number.saturating_add(OFFERED_AGAIN_BLOCKS) >= newest);
        candidates.extend(shared.max_by_key(|latest| latest.header.number).cloned());
        drop(pins);
        for latest in candidates.iter().rev() {
            let header = &latest.header;
            let Some(certificate) = latest.view.certificate(header.number)? else {
                continue;
            };
            let named = CommitCertificate::decode(&certificate);
            if header.number == 0 || named.is_ok_and(|named| named.block != latest.hash) {
                continue;
            }
            let own = self.epochs(header.epoch).into_iter().next();
            let is_same = own.is_some_and(|own| own.hash() == header.next_validators_hash);
            let announced = if is_same {
                None
            } else {
                latest.view.validators(header.next_validators_hash)?
            };
            self.pin(to, latest)?;
            return Ok(Some(Offer {
                header: alloy_rlp::encode(header).into(),
                certificate,
                changes: self.changes_up_to(header.epoch)?,
                announced: announced.unwrap_or_default(),
            }));
        }
        Ok(None)
    }

    /// The parts of the state after the block at `height` that come next, `wants` being what an
    /// organisation's newcomer lacks: as many as fit into 2 MiB, at least one. `None` if that state is not here.
    ///
    /// # Errors
    /// [`QueryError::Wants`] if the question can't be read; unreadable or damaged state.
    pub fn state_parts(
        &self,
        to: Address,
        height: u64,
        wants: &[u8],
    ) -> Result<Option<Vec<Bytes>>, QueryError> {
        let wants = decode_wants(wants).ok_or(QueryError::Wants)?;
        let own = self.pins().get(&to).cloned();
        let pinned = match own.filter(|pinned| pinned.latest.header.number == height) {
            Some(pinned) => pinned,
            None => match self.pinned_at(height) {
                Some(latest) => self.pin(to, &latest)?,
                None => return Ok(None),
            },
        };
        let address = |key: &B256| pinned.owners.get(key).copied();
        let parts = pinned.latest.view.parts(wants, &address, PARTS_BYTES)?;
        Ok((!parts.is_empty()).then_some(parts))
    }

    /// Receipts of the final blocks from `from` to `to`, each the RLP list of a block's: as many as fit into 4 MiB, at
    /// least one block's. Fewer if there are no more.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn receipts_run(&self, from: u64, to: u64) -> Result<Vec<Bytes>, state::Error> {
        let view = self.view();
        let (mut run, mut bytes) = (Vec::new(), 0_usize);
        for height in from..=to {
            let Some(receipts) = view.receipts(height)? else {
                break;
            };
            let encoded = Bytes::from(alloy_rlp::encode(&receipts));
            bytes = bytes.saturating_add(encoded.len());
            run.push(encoded);
            if bytes >= RECEIPTS_BYTES {
                break;
            }
        }
        Ok(run)
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block at a height, while its state is kept for somebody or for questions.
    fn pinned_at(&self, height: u64) -> Option<Arc<Latest>> {
        let pins = self.pins();
        let mut pinned = pins.values().map(|pinned| &pinned.latest);
        let found = pinned.find(|latest| latest.header.number == height);
        let found = found.cloned();
        drop(pins);
        found.or_else(|| self.at(height).ok())
    }

    fn pin(&self, to: Address, latest: &Arc<Latest>) -> Result<Arc<Pinned>, state::Error> {
        let mut pins = self.pins();
        let known = pins
            .values()
            .find(|pinned| pinned.latest.hash == latest.hash);
        let pinned = match known {
            Some(pinned) => Arc::clone(pinned),
            None => Arc::new(Pinned {
                owners: latest.view.storage_owners()?,
                latest: Arc::clone(latest),
            }),
        };
        pins.insert(to, Arc::clone(&pinned));
        Ok(pinned)
    }

    /// Lets go of states that are older than any newcomer needs.
    pub(crate) fn unpin(&self, height: u64) {
        self.pins().retain(|_, pinned| {
            let until = pinned.latest.header.number.saturating_add(PINNED_BLOCKS);
            until >= height
        });
    }
}

/// Taking.
impl Chain {
    /// A snapshot that was begun before and is not whole yet, if its proof holds still.
    ///
    /// # Errors
    /// The store for it can't be opened.
    pub fn resume_snapshot(&self) -> Result<Option<Newcomer>, Error> {
        let incoming = self.state().incoming()?;
        let kept = incoming.offer().and_then(|offer| {
            let offer = serde_json::from_slice::<Offer>(offer).ok()?;
            self.prove(&offer).ok()
        });
        Ok(kept.map(|proven| Newcomer {
            incoming,
            proven,
            run: VecDeque::new(),
            certificate: Bytes::new(),
        }))
    }

    /// Height of the block that another member offers the state of, if the offer is proven.
    ///
    /// # Errors
    /// [`SnapshotError::Offer`] if it is not.
    pub fn offered_height(&self, offer: &[u8]) -> Result<u64, SnapshotError> {
        Ok(self.prove(&Offer::read(offer)?)?.head.height)
    }

    /// Begins to take the snapshot that another member offers, in place of any that was begun before. Nothing of the
    /// chain changes.
    ///
    /// # Errors
    /// [`SnapshotError::Offer`] if it is not proven; a store that can't be written.
    pub fn begin_snapshot(&self, offer: &[u8]) -> Result<Newcomer, SnapshotError> {
        let read = Offer::read(offer)?;
        let proven = self.prove(&read)?;
        self.state().discard_incoming()?;
        let mut incoming = self.state().incoming()?;
        let announced = Some(read.announced.as_slice()).filter(|set| !set.is_empty());
        let kept = Bytes::copy_from_slice(offer);
        let genesis = self.genesis_block();
        incoming.begin(kept, proven.head, genesis, &read.changes, announced)?;
        Ok(Newcomer {
            incoming,
            proven,
            run: VecDeque::new(),
            certificate: Bytes::new(),
        })
    }

    /// Goes on from the end of a snapshot that is whole, durably. Only a chain at height 0 can.
    ///
    /// # Errors
    /// As [`Error::State`]: something is lacking, there are blocks already, or it could not be written.
    pub fn adopt(&self, newcomer: Newcomer) -> Result<(), Error> {
        self.leap(newcomer.incoming)
    }

    fn prove(&self, offer: &Offer) -> Result<Proven, SnapshotError> {
        let wrong = |problem: String| SnapshotError::Offer { problem };
        let mut rest = offer.header.as_ref();
        let header = Header::decode(&mut rest).map_err(|error| wrong(error.to_string()))?;
        if !rest.is_empty() || header.number == 0 {
            return Err(wrong("it is none of a block above height 0".into()));
        }
        let genesis_hash = self.genesis_block().hash();
        let namespace = namespace(self.genesis().chain_id, &genesis_hash);
        let first = Epoch::new(0, 0, genesis_hash, self.genesis().seats());
        let first = first.map_err(|error| wrong(error.to_string()))?;
        let epochs = epoch::follow(first, &namespace, &offer.changes)
            .map_err(|error| wrong(error.to_string()))?;
        let own = epochs.last().ok_or_else(|| wrong("no epoch".into()))?;
        let hash = header.hash();
        CommitCertificate::decode(&offer.certificate)
            .and_then(|named| named.verify_in(own.number(), &hash, own.set(), &namespace))
            .map_err(|error| wrong(error.to_string()))?;
        if header.epoch != own.number() {
            return Err(wrong(format!(
                "it is of epoch {}, the changes lead to {}",
                header.epoch,
                own.number()
            )));
        }
        let follows = header.next_validators_hash;
        if follows != own.hash() && follows != validators_hash(&offer.announced) {
            return Err(wrong("the validators that it announces are lacking".into()));
        }
        Ok(Proven {
            head: Head {
                height: header.number,
                hash,
                state_root: header.state_root,
                genesis_hash,
            },
            certificate: offer.certificate.clone(),
            epochs,
            namespace,
        })
    }
}

/// What the certificates prove.
struct Proven {
    head: Head,
    /// Names the block at the head.
    certificate: Bytes,
    /// From the first to that of the head.
    epochs: Vec<Epoch>,
    namespace: Vec<u8>,
}

/// A snapshot on its way to this node. What it has is durable after each step.
pub struct Newcomer {
    incoming: Incoming,
    proven: Proven,
    /// Blocks that are proven and whose receipts are lacking.
    run: VecDeque<Block>,
    /// The certificate that finalizes them.
    certificate: Bytes,
}

/// What a snapshot lacks next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Parts of the state after the block at this height; what to ask for.
    Parts {
        /// Height of the snapshot.
        height: u64,
        /// The question, for [`Chain::state_parts`].
        wants: Bytes,
    },
    /// Blocks from this height on.
    Blocks {
        /// The first.
        from: u64,
    },
    /// The receipts of these blocks.
    Receipts {
        /// Height of the first.
        from: u64,
        /// Height of the last.
        to: u64,
    },
    /// Nothing: it can be adopted.
    Nothing,
}

impl Newcomer {
    /// Height of the block whose state this is.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.proven.head.height
    }

    /// Bytes of the state so far.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.incoming.bytes()
    }

    /// Blocks so far.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.incoming.next_block().0.saturating_sub(1)
    }

    /// What comes next: first the state, which others keep for some time only, then the blocks.
    #[must_use]
    pub fn lacks(&self) -> Lack {
        if let Some(wants) = self.incoming.wants() {
            let height = self.height();
            return Lack::Parts { height, wants };
        }
        if let (Some(first), Some(last)) = (self.run.front(), self.run.back()) {
            return Lack::Receipts {
                from: first.header.number,
                to: last.header.number,
            };
        }
        match self.incoming.next_block() {
            (next, _) if next <= self.height() => Lack::Blocks { from: next },
            _ => Lack::Nothing,
        }
    }

    /// Takes parts of the state, all of them or none.
    ///
    /// # Errors
    /// [`SnapshotError::Part`] if one is not what has to come; a store that can't be written.
    pub fn take_parts(&mut self, parts: &[Bytes]) -> Result<(), SnapshotError> {
        let height = self.height();
        let taken = self.incoming.take_parts(parts)?;
        taken.map_err(|source| SnapshotError::Part { height, source })
    }

    /// Takes encoded blocks with the certificate that names the last of them; their receipts come next.
    ///
    /// # Errors
    /// [`SnapshotError::Blocks`] if they are not the next ones, or not final.
    pub fn take_blocks(
        &mut self,
        encoded: &[Bytes],
        certificate: &Bytes,
    ) -> Result<(), SnapshotError> {
        let (next, mut parent) = self.incoming.next_block();
        let wrong = |problem: &dyn std::fmt::Display| SnapshotError::Blocks {
            height: next,
            problem: problem.to_string(),
        };
        let named = CommitCertificate::decode(certificate).map_err(|error| wrong(&error))?;
        let at = usize::try_from(named.epoch).unwrap_or(usize::MAX);
        let epoch = self.proven.epochs.get(at);
        let epoch = epoch.ok_or_else(|| wrong(&"they are of a later epoch"))?;
        let mut run = VecDeque::new();
        for (height, bytes) in (next..).zip(encoded) {
            let block = Block::decode(bytes).map_err(|error| wrong(&error))?;
            let header = &block.header;
            if (header.number, header.parent_hash) != (height, parent) {
                return Err(wrong(&"a block does not stand on the one before"));
            }
            if header.epoch != epoch.number() {
                return Err(wrong(&"a block is of another epoch than its certificate"));
            }
            parent = block.hash();
            run.push_back(block);
        }
        let after = at
            .checked_add(1)
            .and_then(|after| self.proven.epochs.get(after));
        let end = run.back().map_or(0, |last| last.header.number);
        if after.is_some_and(|after| end >= after.first()) {
            return Err(wrong(&"they go on after the end of their epoch"));
        }
        if run.is_empty() {
            return Err(wrong(&"there is none"));
        }
        named
            .verify_in(epoch.number(), &parent, epoch.set(), &self.proven.namespace)
            .map_err(|error| wrong(&error))?;
        let Head { height, hash, .. } = self.proven.head;
        run.retain(|block| block.header.number <= height);
        self.certificate.clone_from(certificate);
        if let Some(last) = run.back().filter(|last| last.header.number == height) {
            if last.hash() != hash {
                return Err(wrong(&"they do not lead to the snapshot's block"));
            }
            // The run may end with a later block, which will not be here at once.
            self.certificate.clone_from(&self.proven.certificate);
        }
        self.run = run;
        Ok(())
    }

    /// Takes the receipts of the first of those blocks, a list each, and keeps both.
    ///
    /// # Errors
    /// [`SnapshotError::Blocks`] if a list is not the one whose root the header has; a store that can't be written.
    pub fn take_receipts(&mut self, lists: &[Bytes]) -> Result<(), SnapshotError> {
        let mut whole = Vec::new();
        for (list, block) in lists.iter().zip(&self.run) {
            let height = block.header.number;
            let mut rest = list.as_ref();
            let receipts = Vec::<Receipt>::decode(&mut rest).ok();
            let receipts = receipts.filter(|receipts| {
                rest.is_empty()
                    && receipts.len() == block.transactions.len()
                    && receipts_root(receipts) == block.header.receipts_root
            });
            let receipts = receipts.ok_or_else(|| SnapshotError::Blocks {
                height,
                problem: "the receipts are not those of the header".into(),
            })?;
            whole.push((block.clone(), receipts));
        }
        if whole.is_empty() {
            let (height, _) = self.incoming.next_block();
            let problem = "there is no receipt".into();
            return Err(SnapshotError::Blocks { height, problem });
        }
        self.incoming.take_blocks(&whole, &self.certificate)?;
        self.run.drain(..whole.len());
        Ok(())
    }
}

/// An offer is repeated for newcomers who come within this many blocks, so that members keep few states.
const OFFERED_AGAIN_BLOCKS: u64 = 64;
/// Blocks after which a state is let go: a quarter of an hour under the heaviest load, hours when little happens.
const PINNED_BLOCKS: u64 = 8_192;
/// Bytes of parts in an answer.
const PARTS_BYTES: usize = 2 << 20;
/// Bytes of receipts in an answer.
const RECEIPTS_BYTES: usize = 4 << 20;
