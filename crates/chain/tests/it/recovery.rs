//! An epoch that is ended by hand: what fits the chain and what does not, and what the chain is afterwards, for those who
//! were there, for those who follow, for newcomers and for whoever executes everything again.

use std::{path::Path, sync::Arc};

use alloy_primitives::{Address, B256, B512, Bytes, U256};
use alloy_sol_types::SolValue as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use stele_chain::{
    Certificates, Chain, ChainOptions, Error, Genesis, InvalidBlock, Lack, Organization, Recovered,
    RecoveryRefused, Seat, Verdict,
    contracts::{governance, identity},
    verify_chain,
};
use stele_core::{
    abi::governance::IGovernance::{proposeCall, voteCall},
    block::{Block, Validator},
    certificate::{CommitCertificate, ValidatorSignature, namespace},
    epoch::{
        self,
        recovery::{Recovery, RecoveryError},
    },
    id::GOVERNANCE,
};

use crate::support::{CHAIN_ID, call, genesis, key, ping, propose};

const MEMBERS: u8 = 5;

/// A member's key as a validator.
fn signer(member: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[member; 32]).unwrap()
}

fn seat(member: u8) -> Validator {
    Validator {
        key: B256::from_slice(signer(member).public_key().as_ref()),
        organization: key(member).address(),
    }
}

/// Members 1 to 5 validate, 6 is an organisation without a seat.
fn consortium() -> Genesis {
    let organization = |member| Organization {
        address: key(member).address(),
        kind: 1,
        endpoints_digest: B256::ZERO,
        keys_digest: B256::ZERO,
    };
    let first = |member| Seat {
        key: seat(member).key,
        organization: key(member).address(),
    };
    Genesis {
        organizations: (1..=MEMBERS + 1).map(organization).collect(),
        validators: (1..=MEMBERS).map(first).collect(),
        ..genesis(false)
    }
}

/// One member's chain; the others' keys are known.
struct World {
    chain: Chain,
    genesis: Genesis,
}

impl World {
    fn new(folder: &Path) -> Self {
        let genesis = consortium();
        let chain = Chain::open(folder, &genesis, ChainOptions::default()).unwrap();
        Self { chain, genesis }
    }

    fn sign(&self, members: &[u8], bytes: &[u8]) -> Vec<ValidatorSignature> {
        let epoch = self.chain.epoch();
        let sign = |member: &u8| {
            let seats = epoch.validators().iter();
            let at = seats
                .map(|seat| seat.key)
                .position(|key| key == seat(*member).key);
            ValidatorSignature {
                validator: u16::try_from(at.unwrap()).unwrap(),
                signature: B512::from_slice(signer(*member).sign(bytes).as_ref()),
            }
        };
        let mut signatures: Vec<_> = members.iter().map(sign).collect();
        signatures.sort_by_key(|signed| signed.validator);
        signatures
    }

    fn certificate(&self, members: &[u8], block: &Block) -> Bytes {
        let mut certificate = CommitCertificate {
            epoch: block.header.epoch,
            view: block.header.number,
            parent_view: block.header.number - 1,
            block: block.hash(),
            signatures: Vec::new(),
        };
        let domain = namespace(CHAIN_ID, &self.chain.genesis_block().hash());
        certificate.signatures = self.sign(members, &certificate.signed_bytes(&domain));
        certificate.encode().into()
    }

    /// The next block, by these validators.
    fn step(&self, members: &[u8]) -> Arc<Block> {
        let block = propose(&self.chain);
        let certificate = self.certificate(members, &block);
        assert_eq!(self.chain.verify(&block, &[]).unwrap(), Verdict::Valid);
        self.chain.commit(&block, &certificate).unwrap();
        block
    }

    fn live(&self, members: &[u8], blocks: u64) {
        for _ in 0..blocks {
            let sender = key(members[0]);
            let nonce = self.chain.pending_nonce(sender.address()).unwrap();
            self.chain.submit(ping(&sender, nonce)).unwrap();
            self.step(members);
        }
    }

    /// A document, signed by these, that leaves these seats.
    fn ended(&self, seats: &[u8], signers: &[u8]) -> Recovery {
        let seats = seats.iter().copied().map(seat).collect();
        let mut recovery = self.chain.draft_recovery(seats).unwrap();
        recovery.signatures = self.sign(signers, &recovery.signed_bytes());
        recovery
    }

    fn seats(&self) -> Vec<Validator> {
        let view = self.chain.view();
        let mut seated =
            governance::read::seated(|contract, slot| view.slot(contract, slot)).unwrap();
        seated.sort_by_key(|seat| seat.key);
        seated
    }

    fn is_active(&self, member: u8) -> bool {
        let view = self.chain.view();
        let read = |contract: Address, slot: U256| view.slot(contract, slot);
        identity::read::account(read, key(member).address())
            .unwrap()
            .is_active()
    }

    /// Proposed by the first and voted for by the others, each in a block of its own, which the first four finalize before
    /// anything was ended, and the first three after.
    fn decide(&self, voters: &[u8], kind: u8, payload: Vec<u8>) {
        let validators = if self.chain.epoch().validators().len() == 3 {
            &[1, 2, 3][..]
        } else {
            &[1, 2, 3, 4]
        };
        let payload = payload.into();
        let send = |member: u8, transaction: Bytes| {
            self.chain.submit(transaction).unwrap();
            let block = self.step(validators);
            assert_eq!(block.transactions.len(), 1, "of member {member}");
        };
        let nonce = |member: u8| self.chain.pending_nonce(key(member).address()).unwrap();
        let first = voters[0];
        let proposed = call(
            &key(first),
            nonce(first),
            GOVERNANCE,
            proposeCall { kind, payload },
        );
        send(first, proposed);
        // No test decides twice.
        let id = 1;
        for member in &voters[1..] {
            let vote = voteCall { id, support: true };
            send(
                *member,
                call(&key(*member), nonce(*member), GOVERNANCE, vote),
            );
        }
    }
}

/// LIM-13: two of five are lost, three sign, and the chain goes on with three that decide alone: at the member that was
/// there, over a restart, at one that follows, at a newcomer and for whoever executes everything from the genesis.
#[test]
fn a_chain_goes_on_after_its_epoch_was_ended_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    world.live(&[1, 2, 3, 4], 7);
    // Somebody executes a block that will never be final.
    let stale = propose(&world.chain);
    let recovery = world.ended(&[1, 2, 3], &[1, 2, 3]);
    assert_eq!(world.chain.recover(&recovery).unwrap(), Recovered::New);
    assert_eq!(world.chain.recover(&recovery).unwrap(), Recovered::Again);
    assert!(matches!(
        world.chain.commit(&stale, b""),
        Err(Error::FinalButInvalid {
            reason: InvalidBlock::Header { field: "epoch", .. },
            ..
        })
    ));
    drop(world.chain);
    world.chain = Chain::open(folder.path(), &world.genesis, ChainOptions::default()).unwrap();

    let epoch = world.chain.epoch();
    assert_eq!((epoch.number(), epoch.first()), (1, 8));
    assert!(
        world.chain.validators_change(),
        "the first block comes at once"
    );
    assert!(world.is_active(4) && world.seats().len() == 5);
    let first = world.step(&[1, 2, 3]);
    assert_eq!((first.header.number, first.header.epoch), (8, 1));
    assert_eq!(first.header.next_validators_hash, epoch.hash());
    assert_eq!(world.seats(), epoch.validators());
    assert!(!world.is_active(4) && !world.is_active(5) && world.is_active(6));
    assert!(!world.chain.validators_change());
    // The lost ones don't get their seats back where validators can change.
    world.live(&[1, 2, 3], 60);
    assert_eq!(world.chain.epoch().number(), 1);
    // Three of the four that are active are more than two thirds: they seat a newcomer.
    let newcomer = seat(6);
    let payload = (newcomer.key, newcomer.organization, true).abi_encode_params();
    world.decide(&[1, 2, 3], 6, payload);
    while world.chain.epoch().number() == 1 {
        world.step(&[1, 2, 3]);
    }
    assert_eq!(world.chain.epoch().validators().len(), 4);
    world.live(&[1, 2, 6], 3);

    followed(&world, &recovery);
    joined(&world);
    let changes = world.chain.validator_changes().unwrap();
    let domain = namespace(CHAIN_ID, &world.chain.genesis_block().hash());
    let first = world.genesis.validator_set().unwrap();
    let set = epoch::walk(&first, &domain, &changes).unwrap();
    assert_eq!(&set, world.chain.epoch().set());
    let (header, hash) = world.chain.finalized();
    let genesis = world.genesis.clone();
    drop(world);
    let check = Certificates::Required;
    let report = verify_chain(folder.path(), None, &genesis, check, &mut |_| {}).unwrap();
    assert_eq!((report.height, report.hash), (header.number, hash));
}

/// Another member takes the blocks, and the document where its epoch ends.
fn followed(world: &World, recovery: &Recovery) {
    let folder = tempfile::tempdir().unwrap();
    let follower = World::new(folder.path());
    assert!(matches!(
        follower.chain.recover(recovery),
        Err(RecoveryRefused::Behind { head: 0, height: 7 })
    ));
    assert!(!follower.chain.concerns(recovery));
    loop {
        let next = follower.chain.finalized().0.number + 1;
        let Some((blocks, certificate)) = world.chain.final_run(next).unwrap() else {
            break;
        };
        if follower.chain.concerns(recovery) {
            follower.chain.recover(recovery).unwrap();
        }
        for block in blocks {
            let block = Arc::new(Block::decode(&block).unwrap());
            follower.chain.commit(&block, &certificate).unwrap();
        }
    }
    assert_eq!(follower.chain.finalized(), world.chain.finalized());
    assert_eq!(follower.chain.recoveries(), world.chain.recoveries());
}

/// A newcomer takes the state of the last block.
fn joined(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(folder.path(), &world.genesis, ChainOptions::default()).unwrap();
    let to = key(6).address();
    let offer = world.chain.offer_snapshot(to).unwrap().unwrap();
    let offer = serde_json::to_vec(&offer).unwrap();
    let mut newcomer = chain.begin_snapshot(&offer).unwrap();
    loop {
        match newcomer.lacks() {
            Lack::Parts { height, wants } => {
                let parts = world.chain.state_parts(to, height, &wants).unwrap();
                newcomer.take_parts(&parts.unwrap()).unwrap();
            }
            Lack::Blocks { from } => {
                let (blocks, certificate) = world.chain.final_run(from).unwrap().unwrap();
                newcomer.take_blocks(&blocks, &certificate).unwrap();
            }
            Lack::Receipts { from, to } => {
                let receipts = world.chain.receipts_run(from, to).unwrap();
                newcomer.take_receipts(&receipts).unwrap();
            }
            Lack::Nothing => break,
        }
    }
    chain.adopt(newcomer).unwrap();
    assert_eq!(chain.finalized(), world.chain.finalized());
    assert_eq!(chain.epoch(), world.chain.epoch());
    assert_eq!(chain.recoveries(), world.chain.recoveries());
    drop(chain);
    let again = Chain::open(folder.path(), &world.genesis, ChainOptions::default()).unwrap();
    assert_eq!(again.epoch(), world.chain.epoch());
}

/// NFR-CON: no document takes effect that does not fit what is final here, and what is final here and not in it is named.
#[test]
fn what_does_not_fit_takes_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    assert!(matches!(
        world.chain.draft_recovery(vec![seat(1)]),
        Err(RecoveryRefused::Nothing)
    ));
    world.live(&[1, 2, 3, 4], 4);
    let below = world.ended(&[1, 2, 3], &[1, 2, 3]);
    world.live(&[1, 2, 3, 4], 2);
    let refused = world.chain.recover(&below).unwrap_err();
    assert!(refused.is_left_behind());
    assert!(matches!(
        refused,
        RecoveryRefused::Ahead {
            height: 4,
            head: 6,
            transactions: 2
        }
    ));
    assert!(
        world.chain.examine_recovery(&below).is_err(),
        "nor is it signed"
    );

    let few = world.ended(&[1, 2, 3], &[1, 2]);
    assert!(matches!(
        world.chain.recover(&few),
        Err(RecoveryRefused::Document(RecoveryError::Signatures(_)))
    ));
    assert!(
        world.chain.examine_recovery(&few).is_ok(),
        "it can be signed"
    );
    let stranger = Validator {
        organization: Address::repeat_byte(0x66),
        ..seat(7)
    };
    for seats in [
        vec![seat(1), seat(2), seat(3), stranger],
        // The key of one for the organisation of another.
        vec![
            seat(1),
            Validator {
                organization: key(2).address(),
                ..seat(3)
            },
        ],
    ] {
        assert!(matches!(
            world.chain.draft_recovery(seats),
            Err(RecoveryRefused::Seat { .. })
        ));
    }
    // Nothing of all that left a trace.
    assert_eq!(world.chain.epoch().number(), 0);
    assert!(world.chain.recoveries().is_empty());

    let one = world.ended(&[1, 2, 3], &[1, 2, 3]);
    let other = world.ended(&[1, 2, 4], &[1, 2, 4]);
    world.chain.recover(&one).unwrap();
    let refused = world.chain.recover(&other).unwrap_err();
    assert!(matches!(refused, RecoveryRefused::Other { epoch: 0, .. }));
    assert!(refused.is_left_behind() && world.chain.concerns(&other));
    assert!(!world.chain.concerns(&one));
}

/// A suspended organisation keeps its seat until the next turn, but its signature is none.
#[test]
fn a_suspended_organisation_does_not_sign() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let who = key(5).address().abi_encode();
    world.decide(&[1, 2, 3, 4, 6], 2, who);
    assert!(!world.is_active(5));
    assert_eq!(world.chain.epoch().validators().len(), 5);
    let with = world.ended(&[1, 2], &[1, 2, 5]);
    let refused = world.chain.recover(&with).unwrap_err();
    assert!(
        matches!(refused, RecoveryRefused::Suspended { organization } if organization == key(5).address())
    );
    assert!(matches!(
        world.chain.draft_recovery(vec![seat(1), seat(5)]),
        Err(RecoveryRefused::Seat { .. })
    ));
    let without = world.ended(&[1, 2], &[1, 2, 3]);
    assert_eq!(world.chain.recover(&without).unwrap(), Recovered::New);
    world.step(&[1, 2]);
    assert!(world.is_active(6) && !world.is_active(3) && !world.is_active(5));
}

/// Validators that were voted in and are not there halt the ledger at the first block of their epoch, of which nothing is
/// final yet; and those who went on may be lost, too.
#[test]
fn an_epoch_without_a_final_block_is_ended_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    let newcomer = seat(6);
    let payload = (newcomer.key, newcomer.organization, true).abi_encode_params();
    world.decide(&[1, 2, 3, 4, 5], 6, payload);
    while world.chain.epoch().number() == 0 {
        world.step(&[1, 2, 3, 4]);
    }
    let base = world.chain.finalized().0.number;
    let first = world.ended(&[1, 2, 3, 4], &[1, 2, 3, 4]);
    assert_eq!((first.epoch, first.height), (1, base));
    world.chain.recover(&first).unwrap();
    let second = world.ended(&[1, 2, 3], &[1, 2, 3]);
    assert_eq!((second.epoch, second.height), (2, base));
    world.chain.recover(&second).unwrap();
    drop(world.chain);
    world.chain = Chain::open(folder.path(), &world.genesis, ChainOptions::default()).unwrap();
    assert_eq!(world.chain.epoch().number(), 3);
    world.live(&[1, 2, 3], 40);
    assert_eq!(world.chain.epoch().number(), 3);
    assert_eq!(world.seats(), world.chain.epoch().validators());
    for member in [4, 5, 6] {
        assert!(!world.is_active(member), "{member} was lost");
    }
    let height = world.chain.finalized().0.number;
    let genesis = world.genesis.clone();
    drop(world);
    let again = Chain::open(folder.path(), &genesis, ChainOptions::default()).unwrap();
    assert_eq!(again.epoch().number(), 3);
    assert_eq!(again.recoveries(), [first, second]);
    drop(again);
    let check = Certificates::Required;
    let report = verify_chain(folder.path(), None, &genesis, check, &mut |_| {}).unwrap();
    assert_eq!(report.height, height);
}
