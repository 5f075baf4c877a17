use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use alloy_primitives::{Address, B256, B512};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use stele_chain::{Genesis, Organization, PoolLimits, Seat, state::State};
use stele_core::{
    certificate::{CommitCertificate, ValidatorSignature, namespace},
    id::DEFAULT_CHAIN_ID,
};
use stele_service::{
    Result,
    ports::{BoxFuture, FinalBlocks},
};

use super::*;

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Honest,
    /// Has let the state go.
    Forgetful,
    /// Has no block yet.
    New,
    /// Changes a byte of what it gives: of the offer, the state, the blocks, or the receipts.
    Lies(About),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Offer,
    State,
    Blocks,
    Receipts,
}

/// The organisation that joins.
const NEWCOMER: Address = Address::repeat_byte(9);

/// Members in front of one chain, each with its manners; the first has the lowest account.
struct World {
    chain: Arc<Chain>,
    members: Mutex<Vec<Member>>,
    refused: AtomicU64,
    progress: Mutex<(u64, u64)>,
}

fn genesis(validator: &Ed25519KeyPair) -> Genesis {
    let organization = Address::repeat_byte(1);
    Genesis {
        chain_id: DEFAULT_CHAIN_ID,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: 1_767_225_600_000,
        consortium: "Test".into(),
        open: false,
        organizations: vec![Organization {
            address: organization,
            kind: 1,
            endpoints_digest: B256::ZERO,
            keys_digest: B256::ZERO,
        }],
        validators: vec![Seat {
            key: B256::from_slice(validator.public_key().as_ref()),
            organization,
        }],
        parameters: Default::default(),
        deployers: Vec::new(),
        alloc: Default::default(),
    }
}

fn chain_of(genesis: &Genesis) -> Arc<Chain> {
    let state = State::in_memory().unwrap();
    Arc::new(Chain::over(state, genesis, PoolLimits::default()).unwrap())
}

impl World {
    /// Members with a ledger of some blocks, and the empty one of a newcomer.
    fn new(blocks: u64, members: &[Member]) -> (Arc<Self>, Arc<Chain>) {
        let validator = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let genesis = genesis(&validator);
        let world = Self {
            chain: chain_of(&genesis),
            members: Mutex::new(members.to_vec()),
            refused: AtomicU64::new(0),
            progress: Mutex::default(),
        };
        for _ in 0..blocks {
            world.step(&validator);
        }
        (Arc::new(world), chain_of(&genesis))
    }

    fn step(&self, validator: &Ed25519KeyPair) {
        let (header, _) = self.chain.finalized();
        let parent = self.chain.view().block(header.number).unwrap().unwrap();
        let now_ms = parent.header.timestamp_ms + 1_000;
        let key = B256::from_slice(validator.public_key().as_ref());
        let block = self
            .chain
            .propose(&parent.into(), &[], key, now_ms, &|| true);
        let block = Arc::new(block.unwrap().unwrap());
        let mut certificate = CommitCertificate {
            epoch: 0,
            view: block.header.number,
            parent_view: header.number,
            block: block.hash(),
            signatures: Vec::new(),
        };
        let namespace = namespace(DEFAULT_CHAIN_ID, &self.chain.genesis_block().hash());
        let signature = validator.sign(&certificate.signed_bytes(&namespace));
        certificate.signatures.push(ValidatorSignature {
            validator: 0,
            signature: B512::from_slice(signature.as_ref()),
        });
        self.chain.commit(&block, &certificate.encode()).unwrap();
    }

    fn is(&self, of: OrganizationId, member: Member) -> bool {
        let at = usize::from(of.0.0[0]) - 1;
        self.members.lock().unwrap()[at] == member
    }

    /// What this member gives in place of the truth.
    fn told(&self, of: OrganizationId, about: About, truth: Vec<Bytes>) -> Vec<Bytes> {
        if !self.is(of, Member::Lies(about)) {
            return truth;
        }
        let lie = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Bytes::from(bytes)
        };
        truth.iter().map(lie).collect()
    }
}

impl Givers for World {
    fn members(&self) -> Vec<OrganizationId> {
        let count = u8::try_from(self.members.lock().unwrap().len()).unwrap();
        let member = |number| OrganizationId(Address::repeat_byte(number));
        (1..=count).map(member).collect()
    }

    fn offer(&self, of: OrganizationId) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            if self.is(of, Member::New) {
                return Ok(None);
            }
            let offer = self.chain.offer_snapshot(NEWCOMER).unwrap().unwrap();
            let text = Bytes::from(serde_json::to_vec(&offer).unwrap());
            Ok(self.told(of, About::Offer, vec![text]).pop())
        })
    }

    fn state(
        &self,
        of: OrganizationId,
        height: u64,
        wants: Bytes,
    ) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            if self.is(of, Member::Forgetful) {
                // It will have the next one.
                self.members.lock().unwrap()[usize::from(of.0.0[0]) - 1] = Member::Honest;
                return Ok(Vec::new());
            }
            let parts = self.chain.state_parts(NEWCOMER, height, &wants).unwrap();
            Ok(self.told(of, About::State, parts.unwrap_or_default()))
        })
    }

    fn blocks(&self, of: OrganizationId, from: u64) -> BoxFuture<'_, Result<Option<FinalBlocks>>> {
        Box::pin(async move {
            let run = self.chain.final_run(from).unwrap();
            Ok(run.map(|(blocks, certificate)| FinalBlocks {
                blocks: self.told(of, About::Blocks, blocks),
                certificate,
                recoveries: Vec::new(),
            }))
        })
    }

    fn receipts(
        &self,
        of: OrganizationId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            let run = self.chain.receipts_run(from, to).unwrap();
            Ok(self.told(of, About::Receipts, run))
        })
    }

    fn progress(&self, bytes: u64, blocks: u64) {
        *self.progress.lock().unwrap() = (bytes, blocks);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes a snapshot of these members and holds it against their chain; how many lies were refused.
async fn joins(members: &[Member]) -> u64 {
    let (world, chain) = World::new(12, members);
    let mut taking = Taking::new(Arc::clone(&chain), Arc::clone(&world) as _, 10);
    let whole = taking.take().await.unwrap().expect("a snapshot");
    assert_eq!(whole.height(), 12);
    assert_eq!(*world.progress.lock().unwrap(), (whole.state_bytes(), 12));
    chain.adopt(whole).unwrap();
    assert_eq!(chain.finalized(), world.chain.finalized());
    chain.view().verify(&mut |_| {}).unwrap();
    world.refused.load(Ordering::Relaxed)
}

/// LIM-14: whoever lies, about anything, is refused and passed over, and an honest member is enough.
#[tokio::test(start_paused = true)]
async fn one_honest_member_is_enough() {
    assert_eq!(joins(&[Member::Honest]).await, 0);
    for about in [About::Offer, About::State, About::Blocks, About::Receipts] {
        let mut refused = 0;
        // Members take turns, so one of these is asked for what it lies about.
        for honest in 0..4 {
            let mut members = [Member::Lies(about); 4];
            members[honest] = Member::Honest;
            let lies = joins(&members).await;
            assert!(lies <= 6, "{about:?}: {lies} lies, each liar twice at most");
            refused += lies;
        }
        assert!(refused > 0, "{about:?}");
    }
}

/// When nobody keeps the state any more, another snapshot is begun.
#[tokio::test(start_paused = true)]
async fn a_state_that_nobody_keeps_is_begun_anew() {
    assert_eq!(joins(&[Member::Forgetful, Member::Forgetful]).await, 0);
}

/// A short ledger is executed, and so is one of members that have nothing to give.
#[tokio::test(start_paused = true)]
async fn a_short_ledger_needs_no_snapshot() {
    for (blocks, members) in [
        (3, &[Member::Honest][..]),
        (12, &[Member::New, Member::New][..]),
    ] {
        let (world, chain) = World::new(blocks, members);
        let mut taking = Taking::new(chain, world, 10);
        assert!(taking.take().await.unwrap().is_none());
    }
}
