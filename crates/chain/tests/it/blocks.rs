//! Blocks: built here, executed there, refused when they are not what they say.

use std::sync::Arc;

use alloy_primitives::{B256, Bloom};
use stele_chain::{
    CLOCK_SKEW_MAX_MS, CallOutcome, CallRequest, Chain, ChainOptions, Committed, Error,
    HISTORY_BLOCKS, HeaderCheck, InvalidBlock, QueryError, Verdict, check_header,
};
use stele_core::block::{Block, transactions_root};

use crate::support::{
    START_MS, chain, chain_in, genesis, head, hospital, key, ping, propose, propose_on,
    register_patient, step,
};

fn verify(chain: &Chain, block: Block) -> Verdict {
    chain.verify(&Arc::new(block), &[]).unwrap()
}

/// NFR-INT1: a validator that executes a block comes to the roots its proposer came to.
#[test]
fn another_validator_comes_to_the_same_roots() {
    let (proposer, validator) = (chain(true), chain(true));
    for round in 0..5 {
        register_patient(&proposer, key(70 + round).address());
        let block = head(&proposer);
        assert_eq!(validator.verify(&block, &[]).unwrap(), Verdict::Valid);
        validator.commit(&block, b"").unwrap();
        assert_eq!(validator.finalized(), proposer.finalized());
        assert_eq!(validator.view().state_root(), block.header.state_root);
    }
}

/// NFR-INT3: the time of a block, which is that of its transactions, is not before its parent's and not anyone's to change.
#[test]
fn a_block_with_any_field_changed_is_invalid() {
    let (proposer, validator) = (chain(true), chain(true));
    proposer.submit(ping(&key(70), 0)).unwrap();
    let good = (*propose(&proposer)).clone();
    type Change = fn(&mut Block);
    let changes: [(&str, Change); 11] = [
        ("height", |block| block.header.number += 1),
        ("timestamp", |block| block.header.timestamp_ms = START_MS),
        ("receipts root", |block| {
            block.header.receipts_root = B256::ZERO
        }),
        ("state root", |block| {
            block.header.state_root = B256::repeat_byte(1)
        }),
        ("logs bloom", |block| {
            block.header.logs_bloom = Bloom::repeat_byte(1)
        }),
        ("gas limit", |block| block.header.gas_limit += 1),
        ("gas used", |block| block.header.gas_used += 1),
        ("epoch", |block| block.header.epoch += 1),
        ("next validators", |block| {
            block.header.next_validators_hash = B256::ZERO
        }),
        ("transaction 1", |block| {
            let twice = block.transactions[0].clone();
            block.transactions.push(twice);
            block.header.transactions_root = transactions_root(&block.transactions);
        }),
        ("transaction 0", |block| {
            block.transactions[0] = vec![1, 2, 3].into();
            block.header.transactions_root = transactions_root(&block.transactions);
        }),
    ];
    for (field, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let Verdict::Invalid(reason) = verify(&validator, bad) else {
            panic!("{field}")
        };
        assert!(reason.to_string().starts_with(field), "{field}: {reason}");
    }
    assert_eq!(verify(&validator, good), Verdict::Valid);
}

/// A transaction that a fair proposer would have left out makes the block invalid, whoever signed it.
#[test]
fn a_block_with_a_stranger_in_it_is_invalid() {
    let (lax, strict) = (chain(true), chain(false));
    lax.submit(ping(&key(71), 0)).unwrap();
    let mut block = (*propose(&lax)).clone();
    block.header.parent_hash = strict.genesis_block().hash();
    let verdict = verify(&strict, block);
    assert!(
        matches!(
            &verdict,
            Verdict::Invalid(InvalidBlock::Transaction { index: 0, .. })
        ),
        "{verdict:?}"
    );
}

#[test]
fn a_block_again_changes_nothing_and_another_one_is_refused() {
    let chain = chain(true);
    let parent = head(&chain);
    chain.submit(ping(&key(72), 0)).unwrap();
    let block = step(&chain);
    let before = chain.finalized();
    assert!(matches!(
        chain.commit(&block, b"other").unwrap(),
        Committed::Again
    ));
    assert_eq!(chain.finalized(), before);
    assert_eq!(chain.view().certificate(1).unwrap().unwrap().as_ref(), b"");
    assert_eq!(chain.verify(&block, &[]).unwrap(), Verdict::Valid);

    let mut other = (*block).clone();
    other.header.timestamp_ms += 1;
    assert!(matches!(verify(&chain, other.clone()), Verdict::Invalid(_)));
    assert!(matches!(
        chain.commit(&Arc::new(other), b""),
        Err(Error::State(_))
    ));
    // A block on a parent that was overtaken cannot become final either.
    let twin = crate::support::chain(true);
    let late = propose_on(&twin, &parent, &[]);
    assert!(matches!(
        chain.verify(&late, &[]).unwrap(),
        Verdict::Invalid(_)
    ));
}

#[test]
fn ancestors_that_are_not_final_are_executed_when_handed_over() {
    let (proposer, validator) = (chain(true), chain(true));
    let mut branch = vec![head(&proposer)];
    for nonce in 0..4 {
        proposer.submit(ping(&key(73), nonce)).unwrap();
        let (parent, older) = branch.split_last().unwrap();
        let block = propose_on(&proposer, parent, older);
        assert_eq!(block.transactions.len(), 1);
        branch.push(block);
    }
    let (last, ancestors) = branch.split_last().unwrap();
    assert!(matches!(
        validator.verify(last, &[]),
        Err(Error::UnknownParent { height: 4, .. })
    ));
    assert_eq!(validator.verify(last, ancestors).unwrap(), Verdict::Valid);
    for block in &branch[1..] {
        validator.commit(block, b"").unwrap();
    }
    assert_eq!(validator.finalized().1, last.hash());
    assert_eq!(
        validator
            .view()
            .account(key(73).address())
            .unwrap()
            .unwrap()
            .nonce,
        4
    );
}

/// The next block is built while its parent becomes final: it stands on the parent either way, and nothing fails.
#[test]
fn a_block_is_built_while_its_parent_becomes_final() {
    let chain = chain(false);
    let mut block = propose(&chain);
    for _ in 0..300 {
        let next = std::thread::scope(|scope| {
            let committing = scope.spawn(|| chain.commit(&block, b"").map(drop));
            let proposer = B256::repeat_byte(9);
            let now_ms = block.header.timestamp_ms + 1;
            let next = chain.propose(&block, &[], proposer, now_ms, &|| true);
            committing.join().unwrap().unwrap();
            next.unwrap().expect("its parent is the head")
        });
        assert_eq!(next.header.parent_hash, block.hash());
        block = Arc::new(next);
    }
    assert_eq!(chain.finalized().0.number, 300);
}

/// Two proposals on one parent: the one that loses leaves no trace, its transactions wait for another block.
#[test]
fn a_lost_proposal_gives_its_transactions_back() {
    let (chain, other) = (chain(true), chain(true));
    chain.submit(ping(&key(74), 0)).unwrap();
    let lost = propose(&chain);
    assert_eq!(lost.transactions.len(), 1);
    let won = propose(&other);
    assert_eq!(chain.verify(&won, &[]).unwrap(), Verdict::Valid);
    chain.commit(&won, b"").unwrap();
    assert!(chain.has_work());
    assert_eq!(chain.view().account(key(74).address()).unwrap(), None);
    assert_eq!(step(&chain).transactions, lost.transactions);
}

/// A crash after a block was executed and before it was final: the block is executed again when it comes again.
#[test]
fn a_crash_between_execution_and_commit_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain_in(folder.path());
    chain.submit(ping(&key(75), 0)).unwrap();
    step(&chain);
    chain.submit(ping(&key(75), 1)).unwrap();
    let executed = propose(&chain);
    drop(chain);
    let chain = chain_in(folder.path());
    assert_eq!(chain.finalized().0.number, 1);
    assert_eq!(
        chain
            .view()
            .account(key(75).address())
            .unwrap()
            .unwrap()
            .nonce,
        1
    );
    chain.commit(&executed, b"").unwrap();
    drop(chain);
    let chain = chain_in(folder.path());
    assert_eq!(chain.finalized().1, executed.hash());
    assert!(matches!(
        chain.commit(&executed, b"").unwrap(),
        Committed::Again
    ));
    assert_eq!(
        chain
            .view()
            .account(key(75).address())
            .unwrap()
            .unwrap()
            .nonce,
        2
    );
}

#[test]
fn a_folder_keeps_its_genesis() {
    let folder = tempfile::tempdir().unwrap();
    drop(chain_in(folder.path()));
    let mut other = genesis(true);
    other.consortium = "Another".into();
    let refused = Chain::open(folder.path(), &other, ChainOptions::default());
    assert!(matches!(refused, Err(Error::OtherGenesis { .. })));
    drop(chain_in(folder.path()));
}

#[test]
fn time_grows_even_when_the_clock_does_not() {
    let chain = chain(true);
    let parent = head(&chain);
    let propose = |now_ms| {
        chain
            .propose(&parent, &[], B256::ZERO, now_ms, &|| true)
            .unwrap()
            .unwrap()
            .header
            .timestamp_ms
    };
    assert_eq!(propose(START_MS), START_MS + 1);
    assert_eq!(propose(0), START_MS + 1);
    assert_eq!(propose(START_MS + 7), START_MS + 7);
}

#[test]
fn a_block_from_the_future_waits() {
    let chain = chain(true);
    let block = propose(&chain);
    let parent = &chain.genesis_block().header;
    let at = block.header.timestamp_ms;
    let early = at - CLOCK_SKEW_MAX_MS;
    assert_eq!(
        check_header(parent, &block.header, early),
        HeaderCheck::Valid
    );
    assert_eq!(
        check_header(parent, &block.header, early - 1),
        HeaderCheck::Early { at_ms: early }
    );
    assert!(matches!(
        check_header(parent, parent, at),
        HeaderCheck::Invalid(_)
    ));
}

/// A proposer that runs out of time proposes what it has.
#[test]
fn a_proposal_ends_in_time() {
    let chain = chain(true);
    for nonce in 0..10 {
        chain.submit(ping(&key(76), nonce)).unwrap();
    }
    let left = std::cell::Cell::new(4);
    let in_time = || {
        left.set(left.get() - 1);
        left.get() > 0
    };
    let parent = head(&chain);
    let block = chain
        .propose(&parent, &[], B256::ZERO, START_MS + 9, &in_time)
        .unwrap()
        .unwrap();
    assert_eq!(block.transactions.len(), 3);
    chain.commit(&Arc::new(block), b"").unwrap();
    assert_eq!(step(&chain).transactions.len(), 7);
}

#[test]
fn a_block_holds_no_more_gas_than_its_limit() {
    let mut genesis = genesis(true);
    let limit = 30_000_000;
    genesis.parameters.insert("block_gas_limit".into(), limit);
    let chain = crate::support::chain_with(&genesis, Default::default());
    let to = alloy_primitives::TxKind::Call(hospital().address());
    for nonce in 0..3 {
        let wasteful = crate::support::signed(&key(77), nonce, to, Default::default(), 29_960_000);
        chain.submit(wasteful).unwrap();
    }
    // What a transaction asks for must be there when its turn comes; what it leaves, the next one can have. The
    // third would need 29,960,000 of 29,958,000 and waits for the next block.
    let block = step(&chain);
    assert_eq!(block.header.gas_limit, limit);
    assert_eq!(block.header.gas_used, 42_000);
    assert_eq!(step(&chain).header.gas_used, 21_000);
}

/// FR-X1: the state of the last blocks can be asked for, that of older ones is refused, and asking changes nothing.
#[test]
fn the_state_of_the_last_blocks_is_kept() {
    let chain = chain(true);
    let sender = key(78);
    let nonce_at = |height| {
        let view = chain.view_at(height)?;
        Ok::<_, QueryError>(
            view.account(sender.address())?
                .map_or(0, |found| found.nonce),
        )
    };
    let blocks = u64::try_from(HISTORY_BLOCKS).unwrap() + 3;
    for nonce in 0..blocks {
        chain.submit(ping(&sender, nonce)).unwrap();
        step(&chain);
    }
    for height in 4..=blocks {
        assert_eq!(nonce_at(height).unwrap(), height);
        let root = chain.view().header(height).unwrap().unwrap().state_root;
        assert_eq!(chain.view_at(height).unwrap().state_root(), root);
    }
    for height in [0, 3, blocks + 1, u64::MAX] {
        let Err(QueryError::StateNotKept { oldest, latest, .. }) = nonce_at(height) else {
            panic!("the state at {height} is there");
        };
        assert_eq!((oldest, latest), (4, blocks));
    }
    let nothing = CallRequest {
        to: Some(sender.address()),
        ..CallRequest::default()
    };
    let called = chain.call_at(&nothing, 4).unwrap();
    assert!(matches!(called, CallOutcome::Success { .. }));
    assert!(chain.call_at(&nothing, 3).is_err());
}
