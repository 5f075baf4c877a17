//! A member that joins takes the state of a recent block and the blocks before it from others.

use std::{path::Path, sync::Arc};

use alloy_primitives::{Address, B256, B512, Bytes};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use stele_chain::{
    Certificates, Chain, ChainOptions, Genesis, Lack, Newcomer, Offer, SnapshotError, verify_chain,
};
use stele_core::{
    block::Block,
    certificate::{CommitCertificate, ValidatorSignature, namespace},
};

use crate::support::{
    CHAIN_ID, HEALTH_RECORDS, compiled, genesis, hospital, key, ping, propose, signed,
};

/// The organisation that joins, and another one.
const NEWCOMER: Address = Address::repeat_byte(9);
const OTHER: Address = Address::repeat_byte(10);

/// A chain with one validator whose key is known.
struct Giver {
    chain: Chain,
    genesis: Genesis,
    validator: Ed25519KeyPair,
}

impl Giver {
    fn new(folder: &Path) -> Self {
        let validator = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let mut genesis = genesis(true);
        genesis.validators[0].key = B256::from_slice(validator.public_key().as_ref());
        Self {
            chain: open(folder, &genesis),
            genesis,
            validator,
        }
    }

    fn certificate(&self, block: B256, view: u64) -> Bytes {
        let mut certificate = CommitCertificate {
            epoch: 0,
            view,
            parent_view: view - 1,
            block,
            signatures: Vec::new(),
        };
        let namespace = namespace(CHAIN_ID, &self.chain.genesis_block().hash());
        let signature = self.validator.sign(&certificate.signed_bytes(&namespace));
        certificate.signatures.push(ValidatorSignature {
            validator: 0,
            signature: B512::from_slice(signature.as_ref()),
        });
        certificate.encode().into()
    }

    fn step(&self) -> (Arc<Block>, Bytes) {
        let block = propose(&self.chain);
        let certificate = self.certificate(block.hash(), block.header.number);
        self.chain.commit(&block, &certificate).unwrap();
        (block, certificate)
    }

    /// Blocks with calls, a contract, and logs.
    fn live(&self, blocks: u64) {
        let code = compiled(HEALTH_RECORDS);
        let create = signed(
            &key(81),
            0,
            alloy_primitives::TxKind::Create,
            code,
            5_000_000,
        );
        self.chain.submit(create).unwrap();
        for nonce in 0..blocks {
            self.chain.submit(ping(&key(82), nonce)).unwrap();
            self.step();
        }
    }

    fn offer(&self) -> Offer {
        self.chain.offer_snapshot(NEWCOMER).unwrap().unwrap()
    }
}

fn open(folder: &Path, genesis: &Genesis) -> Chain {
    Chain::open(folder, genesis, ChainOptions::default()).unwrap()
}

fn text(offer: &Offer) -> Vec<u8> {
    serde_json::to_vec(offer).unwrap()
}

/// Gives what is lacking next. `false` if nothing is.
fn give(giver: &Chain, newcomer: &mut Newcomer) -> bool {
    match newcomer.lacks() {
        Lack::Parts { height, wants } => {
            let parts = giver
                .state_parts(NEWCOMER, height, &wants)
                .unwrap()
                .unwrap();
            newcomer.take_parts(&parts).unwrap();
        }
        Lack::Blocks { from } => {
            let (blocks, certificate) = giver.final_run(from).unwrap().unwrap();
            newcomer.take_blocks(&blocks, &certificate).unwrap();
        }
        Lack::Receipts { from, to } => {
            let receipts = giver.receipts_run(from, to).unwrap();
            newcomer.take_receipts(&receipts).unwrap();
        }
        Lack::Nothing => return false,
    }
    true
}

/// LIM-17, NFR-SCA3: a chain that took a snapshot has the blocks, receipts and state of the one that gave it, over a
/// restart after every step, goes on from there, and passes the check that executes everything again.
#[test]
fn a_newcomer_ends_where_the_giver_is() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giver = Giver::new(theirs.path());
    giver.live(20);
    let offer = text(&giver.offer());
    let mut chain = open(ours.path(), &giver.genesis);
    assert!(chain.resume_snapshot().unwrap().is_none());
    let mut newcomer = chain.begin_snapshot(&offer).unwrap();
    assert_eq!(newcomer.height(), 20);
    // The ledger goes on meanwhile, and the state of the snapshot is still given.
    for _ in 0..3 {
        giver.step();
    }
    while give(&giver.chain, &mut newcomer) {
        assert_eq!(chain.finalized().0.number, 0, "nothing half is to be seen");
        drop((newcomer, chain));
        chain = open(ours.path(), &giver.genesis);
        newcomer = chain.resume_snapshot().unwrap().unwrap();
        // Blocks whose receipts had not come are asked for again; here both come before the restart.
        while matches!(
            newcomer.lacks(),
            Lack::Blocks { .. } | Lack::Receipts { .. }
        ) {
            give(&giver.chain, &mut newcomer);
        }
    }
    assert_eq!(newcomer.blocks(), 20);
    assert!(newcomer.state_bytes() > 1_000);
    chain.adopt(newcomer).unwrap();
    assert_same(&chain, &giver.chain, 20);
    assert!(chain.resume_snapshot().is_err(), "it is in use");
    drop(chain);

    let chain = open(ours.path(), &giver.genesis);
    assert_same(&chain, &giver.chain, 20);
    assert!(
        !ours.path().join("store").exists(),
        "the first store only took room"
    );
    for height in 21..=23 {
        let view = giver.chain.view();
        let block = Arc::new(view.block(height).unwrap().unwrap());
        let certificate = view.certificate(height).unwrap().unwrap();
        chain.commit(&block, &certificate).unwrap();
    }
    assert_same(&chain, &giver.chain, 23);
    assert_eq!(chain.finalized(), giver.chain.finalized());
    drop(chain);
    let required = Certificates::Required;
    let checked = verify_chain(ours.path(), None, &giver.genesis, required, &mut |_| {});
    assert_eq!(checked.unwrap().height, 23);
}

fn assert_same(ours: &Chain, theirs: &Chain, height: u64) {
    assert_eq!(ours.finalized().0.number, height);
    let (here, there) = (ours.view(), theirs.view());
    for height in 0..=height {
        assert_eq!(here.block(height).unwrap(), there.block(height).unwrap());
        let receipts = here.receipts(height).unwrap();
        assert_eq!(receipts, there.receipts(height).unwrap());
    }
    let block = ours.final_block(height).unwrap().unwrap();
    for hash in block.hashes() {
        let found = ours.receipt(hash).unwrap().unwrap();
        assert_eq!(found.included.height, height);
    }
    let contract = key(81).address().create(0);
    let account = here.account(contract).unwrap().unwrap();
    assert_eq!(Some(account), there.account(contract).unwrap());
    assert!(here.code(account.code_hash).unwrap().len() > 100);
    here.verify(&mut |_| {}).unwrap();
}

/// LIM-14: a block that the validators did not finalize is not begun with.
#[test]
fn a_lying_offer_is_refused() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giver = Giver::new(theirs.path());
    giver.live(8);
    let chain = open(ours.path(), &giver.genesis);
    let good = giver.offer();
    assert_eq!(chain.offered_height(&text(&good)).unwrap(), 8);

    let mut another = good.clone();
    let view = giver.chain.view();
    let earlier = view.header(7).unwrap().unwrap();
    another.header = alloy_rlp::encode(&earlier).into();
    let mut forged = good.clone();
    let mut header = view.header(8).unwrap().unwrap();
    header.state_root = B256::repeat_byte(1);
    forged.header = alloy_rlp::encode(&header).into();
    let mut unsigned = good.clone();
    unsigned.certificate = giver.certificate(header.hash(), 9);
    let mut first = good;
    let genesis = &giver.chain.genesis_block().header;
    first.header = alloy_rlp::encode(genesis).into();
    first.certificate = giver.certificate(genesis.hash(), 1);
    for (what, offer) in [
        ("another block's certificate", another),
        ("another state", forged),
        ("a certificate of something else", unsigned),
        ("height 0", first),
    ] {
        let refused = chain.begin_snapshot(&text(&offer)).err();
        let Some(SnapshotError::Offer { .. }) = refused else {
            panic!("{what}: {refused:?}")
        };
    }
    assert!(chain.resume_snapshot().unwrap().is_none());
}

/// LIM-14: nothing that a lying member gives is taken, and each lie is told from a fault of this node.
#[test]
fn a_lying_giver_is_refused() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giver = Giver::new(theirs.path());
    giver.live(8);
    let chain = open(ours.path(), &giver.genesis);
    let mut newcomer = chain.begin_snapshot(&text(&giver.offer())).unwrap();
    let Lack::Parts { height, wants } = newcomer.lacks() else {
        panic!("the state comes first")
    };
    let mut parts = giver
        .chain
        .state_parts(NEWCOMER, height, &wants)
        .unwrap()
        .unwrap();
    parts.swap(1, 2);
    let refused = newcomer.take_parts(&parts).unwrap_err();
    assert!(matches!(refused, SnapshotError::Part { height: 8, .. }) && !refused.is_own());
    assert!(
        giver
            .chain
            .state_parts(NEWCOMER, height, b"nonsense")
            .is_err()
    );
    assert!(
        giver
            .chain
            .state_parts(NEWCOMER, 99, &wants)
            .unwrap()
            .is_none()
    );
    while matches!(newcomer.lacks(), Lack::Parts { .. }) {
        give(&giver.chain, &mut newcomer);
    }

    let (blocks, certificate) = giver.chain.final_run(1).unwrap().unwrap();
    let mut gap = blocks.clone();
    gap.remove(3);
    let cut = &blocks[..7];
    for (what, blocks) in [
        ("a gap", &gap[..]),
        ("an end without proof", cut),
        ("none", &[]),
    ] {
        let refused = newcomer.take_blocks(blocks, &certificate).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Blocks { height: 1, .. }),
            "{what}"
        );
    }
    newcomer.take_blocks(&blocks, &certificate).unwrap();
    let mut receipts = giver.chain.receipts_run(1, 8).unwrap();
    receipts.swap(0, 1);
    let refused = newcomer.take_receipts(&receipts).unwrap_err();
    assert!(matches!(refused, SnapshotError::Blocks { height: 1, .. }));
    assert_eq!(newcomer.blocks(), 0);
    while give(&giver.chain, &mut newcomer) {}
    chain.adopt(newcomer).unwrap();
    assert_same(&chain, &giver.chain, 8);
}

/// A chain that has blocks of its own is never replaced.
#[test]
fn a_chain_with_blocks_takes_no_snapshot() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giver = Giver::new(theirs.path());
    giver.live(4);
    let chain = open(ours.path(), &giver.genesis);
    let mut newcomer = chain.begin_snapshot(&text(&giver.offer())).unwrap();
    while give(&giver.chain, &mut newcomer) {}
    let view = giver.chain.view();
    let block = Arc::new(view.block(1).unwrap().unwrap());
    let certificate = view.certificate(1).unwrap().unwrap();
    chain.commit(&block, &certificate).unwrap();
    assert!(chain.adopt(newcomer).is_err());
    assert_eq!(chain.finalized().0.number, 1);
    drop(chain);
    let chain = open(ours.path(), &giver.genesis);
    assert_eq!(chain.finalized().0.number, 1);
    assert!(!ours.path().join("snapshot").exists(), "it only took room");
    assert_eq!(chain.pending_nonce(hospital().address()).unwrap(), 0);
}

/// What one organisation asks for takes the state from no other, and each has one: nobody can make a member keep many.
#[test]
fn newcomers_do_not_take_each_others_states() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giver = Giver::new(theirs.path());
    giver.live(4);
    let chain = &giver.chain;
    let first = giver.offer();
    assert_eq!(
        chain.offer_snapshot(OTHER).unwrap().unwrap(),
        first,
        "it is shared"
    );
    let taker = open(ours.path(), &giver.genesis);
    let newcomer = taker.begin_snapshot(&text(&first)).unwrap();
    let Lack::Parts { height, wants } = newcomer.lacks() else {
        panic!("the state comes first")
    };
    // Far more blocks than those whose states are kept for questions, and somebody who asks for each.
    for _ in 0..stele_chain::HISTORY_BLOCKS + 8 {
        giver.step();
        let (header, _) = chain.finalized();
        chain.state_parts(OTHER, header.number, &wants).unwrap();
    }
    let given = chain.state_parts(NEWCOMER, height, &wants).unwrap();
    assert!(given.is_some(), "it is kept for whom it was offered to");
    let later = chain.offer_snapshot(OTHER).unwrap().unwrap();
    assert_ne!(later.header, first.header);
}
