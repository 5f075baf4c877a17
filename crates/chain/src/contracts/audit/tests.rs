use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolCall as _;
use proptest::prelude::*;
use stele_core::{abi::audit::IAudit::*, id::AUDIT};

use crate::contracts::{
    governance::tests::suspend,
    testing::{Receipt, Sandbox, person, slot, word_of},
};

fn anchor(
    chain: &mut Sandbox,
    by: u64,
    first: u64,
    count: u32,
    previous: B256,
    head: B256,
) -> Receipt {
    let root = keccak256("root");
    let call = anchorReceiptsCall {
        first,
        count,
        root,
        previousHead: previous,
        head,
    };
    chain.send(person(by), AUDIT, &call)
}

fn head(n: u8) -> B256 {
    B256::repeat_byte(n)
}

#[test]
fn batches_chain() {
    let mut chain = Sandbox::new(&[person(1), person(2)]);
    let receipt = anchor(&mut chain, 1, 0, 3, B256::ZERO, head(1)).ok();
    let event = &receipt.events::<ReceiptsAnchored>()[0];
    assert_eq!(
        (event.organization, event.first, event.count),
        (person(1), 0, 3)
    );
    let refused: OutOfSequence = anchor(&mut chain, 1, 0, 3, B256::ZERO, head(2)).refused();
    assert_eq!((refused.expected, refused.given), (3, 0));
    let _: OutOfSequence = anchor(&mut chain, 1, 4, 1, head(1), head(2)).refused();
    let refused: WrongHead = anchor(&mut chain, 1, 3, 1, head(9), head(2)).refused();
    assert_eq!(refused.expected, head(1));
    let _: EmptyBatch = anchor(&mut chain, 1, 3, 0, head(1), head(2)).refused();
    anchor(&mut chain, 1, 3, 1, head(1), head(2)).ok();
    let now = chain.ask(
        AUDIT,
        &headCall {
            organization: person(1),
        },
    );
    assert_eq!((now.count, now.head_), (4, head(2)));
    let other = chain.ask(
        AUDIT,
        &headCall {
            organization: person(2),
        },
    );
    assert_eq!((other.count, other.head_), (0, B256::ZERO));
}

#[test]
fn only_active_organizations_anchor() {
    let mut chain = Sandbox::new(&[person(1), person(2), person(3), person(4)]);
    let _: NotAnOrganization = anchor(&mut chain, 50, 0, 1, B256::ZERO, head(1)).refused();
    anchor(&mut chain, 4, 0, 1, B256::ZERO, head(1)).ok();
    suspend(&mut chain, 4, &[1, 2, 3]);
    let _: NotActive = anchor(&mut chain, 4, 1, 1, head(1), head(2)).refused();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A batch is taken exactly when it continues the organisation's own sequence.
    #[test]
    fn sequences_equal_a_model(
        steps in proptest::collection::vec((1_usize..3, 0_u64..6, 0_u32..4, 0_u8..4, 1_u8..4), 1..40),
    ) {
        let mut chain = Sandbox::new(&[person(1), person(2)]);
        let mut model = [(0_u64, B256::ZERO); 3];
        for (by, first, count, previous, next) in steps {
            let previous = if previous == 0 { B256::ZERO } else { head(previous) };
            let (expected, expected_head) = model[by];
            let fits = count > 0 && first == expected && previous == expected_head;
            let receipt = anchor(&mut chain, by as u64, first, count, previous, head(next));
            prop_assert_eq!(receipt.outcome.is_ok(), fits);
            if fits {
                model[by] = (first + u64::from(count), head(next));
            }
            for (by, expected) in model.iter().enumerate().skip(1) {
                let now = chain.ask(AUDIT, &headCall { organization: person(by as u64) });
                prop_assert_eq!((now.count, now.head_), *expected);
            }
        }
    }
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        anchorReceiptsCall::default().abi_encode(),
        headCall::default().abi_encode(),
    ];
    Sandbox::new(&[person(1)]).check_selectors::<IAuditCalls>(AUDIT, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = Sandbox::new(&[person(1)]);
    anchor(&mut chain, 1, 0, 3, B256::ZERO, head(1)).ok();
    let base = slot(person(1).into_word(), U256::ZERO);
    assert_eq!(chain.word(AUDIT, base), U256::from(3));
    assert_eq!(chain.word(AUDIT, base + U256::ONE), word_of(head(1)));
}
