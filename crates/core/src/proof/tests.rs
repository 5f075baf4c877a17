use super::*;
use crate::epoch::recovery::tests::{CHAIN, Members, header};

/// A lost validator set that goes on by itself has good certificates, but the consortium's own changes say where it was
/// left.
#[test]
fn a_block_that_the_consortium_left_behind_proves_nothing() {
    let members = Members::new(0, 5);
    let last = header(0, 41);
    let recovery = members.recovery(&last, &Members::new(0, 3).seats(), &[0, 1, 2]);
    let anchor = TrustAnchor {
        chain_id: CHAIN.0,
        genesis_hash: CHAIN.1,
        validators: members.epoch(0, 0, CHAIN.1).set().clone(),
    };
    let verify = |header: &Header, changes: &[Change]| {
        let certificate = members.certify(header);
        let header = alloy_rlp::encode(header).into();
        verify_headers(&[header], &certificate, changes, &anchor)
    };
    let beyond = header(0, 42);
    assert_eq!(verify(&beyond, &[]), Ok(beyond.clone()));
    assert_eq!(verify(&last, &[recovery.change()]), Ok(last));
    assert_eq!(
        verify(&beyond, &[recovery.change()]),
        Err(ProofError::LeftBehind {
            height: 42,
            last: 41
        })
    );
    // An end that is not signed ends nothing, and is no proof either.
    let mut few = recovery.change();
    few.signatures.pop();
    assert!(matches!(
        verify(&beyond, &[few]),
        Err(ProofError::Changes(_))
    ));
}
