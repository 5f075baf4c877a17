use alloy_primitives::{Address, B512};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::epoch::{follow, walk};

pub(crate) const CHAIN: (u64, B256) = (57831, B256::repeat_byte(7));

/// Validators with their keys, in the order of the set.
pub(crate) struct Members(Vec<Ed25519KeyPair>);

impl Members {
    pub(crate) fn new(first: u8, count: u8) -> Self {
        let key = |byte| Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).unwrap();
        let mut keys: Vec<_> = (first..first + count).map(key).collect();
        keys.sort_by_key(|key| key.public_key().as_ref().to_vec());
        Self(keys)
    }

    pub(crate) fn seats(&self) -> Vec<Validator> {
        let seat = |key: &Ed25519KeyPair| Validator {
            key: B256::from_slice(key.public_key().as_ref()),
            organization: Address::from_slice(&key.public_key().as_ref()[..20]),
        };
        self.0.iter().map(seat).collect()
    }

    pub(crate) fn epoch(&self, number: u64, first: u64, base: B256) -> Epoch {
        Epoch::new(number, first, base, self.seats()).unwrap()
    }

    fn sign(&self, signers: &[u16], bytes: &[u8]) -> Vec<ValidatorSignature> {
        let sign = |&validator: &u16| ValidatorSignature {
            validator,
            signature: B512::from_slice(self.0[usize::from(validator)].sign(bytes).as_ref()),
        };
        signers.iter().map(sign).collect()
    }

    pub(crate) fn certify(&self, header: &Header) -> Bytes {
        let mut certificate = CommitCertificate {
            epoch: header.epoch,
            view: 5,
            parent_view: 4,
            block: header.hash(),
            signatures: Vec::new(),
        };
        let bytes = certificate.signed_bytes(&namespace(CHAIN.0, &CHAIN.1));
        let quorum = self.epoch(0, 0, B256::ZERO).set().quorum();
        let signers: Vec<u16> = (0..u16::try_from(quorum).unwrap()).collect();
        certificate.signatures = self.sign(&signers, &bytes);
        certificate.encode().into()
    }

    pub(crate) fn recovery(
        &self,
        header: &Header,
        next: &[Validator],
        signers: &[u16],
    ) -> Recovery {
        let last = (header, self.certify(header));
        let mut recovery = Recovery::new(CHAIN, header.epoch, last, next.to_vec());
        recovery.signatures = self.sign(signers, &recovery.signed_bytes());
        recovery
    }
}

pub(crate) fn header(epoch: u64, number: u64) -> Header {
    Header {
        epoch,
        number,
        state_root: B256::repeat_byte(3),
        ..Header::default()
    }
}

fn certificate_error(result: Result<Header, RecoveryError>) -> CertificateError {
    match result {
        Err(RecoveryError::Signatures(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_than_half_end_an_epoch_and_proofs_go_on_through_it() {
    let members = Members::new(0, 5);
    let next = Members::new(0, 3);
    let ended = members.epoch(0, 0, CHAIN.1);
    let last = header(0, 41);
    let recovery = members.recovery(&last, &next.seats(), &[0, 2, 4]);
    assert_eq!(recovery.verify(&ended, CHAIN), Ok(last.clone()));

    let domain = namespace(CHAIN.0, &CHAIN.1);
    let changes = [recovery.change()];
    let set = walk(ended.set(), &domain, &changes).unwrap();
    assert_eq!(&set, next.epoch(1, 42, last.hash()).set());
    let epochs = follow(ended.clone(), &domain, &changes).unwrap();
    assert_eq!(epochs[1], next.epoch(1, 42, last.hash()));
    // The block that the new epoch stands on announced the lost ones: that is not the new epoch's to repeat.
    assert_eq!(epochs[1].last(&last), None);

    // Nothing of epoch 1 is final yet when its validators are lost, too.
    let again = {
        let certified = (&last, recovery.certificate.clone());
        let mut again = Recovery::new(CHAIN, 1, certified, members.seats());
        again.signatures = next.sign(&[0, 1], &again.signed_bytes());
        again
    };
    assert_eq!(again.verify(&epochs[1], CHAIN), Ok(last));
    let changes = [recovery.change(), again.change()];
    let set = walk(ended.set(), &domain, &changes).unwrap();
    assert_eq!(&set, members.epoch(2, 42, B256::ZERO).set());
    // A change that was ended by hand can be read back, and a file can be.
    assert_eq!(Recovery::of(CHAIN, 0, &changes[0]).unwrap(), recovery);
    let text = serde_json::to_string(&recovery).unwrap();
    assert_eq!(serde_json::from_str::<Recovery>(&text).unwrap(), recovery);
}

/// Whoever lost a third has four signatures of seven, and nobody forges a fourth.
#[test]
fn a_forged_document_ends_nothing() {
    type Alter = fn(&mut Recovery);
    let members = Members::new(0, 7);
    let ended = members.epoch(2, 65, B256::repeat_byte(1));
    let (last, next) = (header(2, 70), Members::new(0, 4).seats());
    let signed = |signers: &[u16]| members.recovery(&last, &next, signers);
    let good = signed(&[0, 1, 2, 3]);
    assert!(good.verify(&ended, CHAIN).is_ok());
    let check = |recovery: &Recovery| recovery.verify(&ended, CHAIN);

    assert_eq!(
        certificate_error(check(&signed(&[0, 1, 2]))),
        CertificateError::TooFew {
            signatures: 3,
            quorum: 4
        }
    );
    // One of them twice, in somebody else's place, and out of order.
    assert_eq!(
        certificate_error(check(&signed(&[0, 1, 2, 2]))),
        CertificateError::Unordered { validator: 2 }
    );
    let mut borrowed = good.clone();
    borrowed.signatures[3].validator = 6;
    assert_eq!(
        certificate_error(check(&borrowed)),
        CertificateError::Signature { validator: 6 }
    );
    let mut stranger = good.clone();
    stranger.signatures[3].validator = 7;
    assert!(matches!(
        certificate_error(check(&stranger)),
        CertificateError::UnknownValidator { validator: 7, .. }
    ));

    // Another chain, epoch, block, state root, other validators: each is signed for.
    let other = (1, CHAIN.1);
    assert!(matches!(
        good.verify(&ended, other),
        Err(RecoveryError::OtherChain { .. })
    ));
    let later = members.epoch(3, 97, B256::repeat_byte(2));
    assert_eq!(
        good.verify(&later, CHAIN),
        Err(RecoveryError::OtherEpoch {
            wanted: 3,
            found: 2
        })
    );
    let fields: [(&str, Alter); 3] = [
        ("height", |recovery| recovery.height -= 1),
        ("block", |recovery| recovery.block = B256::ZERO),
        ("state root", |recovery| recovery.state_root = B256::ZERO),
    ];
    for (field, change) in fields {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(check(&changed), Err(RecoveryError::Contradicts { field }));
    }
    let mut others = good.clone();
    others.validators.pop();
    assert_eq!(
        certificate_error(check(&others)),
        CertificateError::Signature { validator: 0 }
    );
    let mut nobody = good;
    nobody.validators.clear();
    assert!(matches!(check(&nobody), Err(RecoveryError::Validators(_))));
}

/// The signatures are good, but the block is none at which the epoch can end.
#[test]
fn a_block_that_is_not_final_in_the_epoch_ends_nothing() {
    let members = Members::new(0, 5);
    let ended = members.epoch(2, 65, B256::repeat_byte(1));
    let next = Members::new(0, 3).seats();
    let with = |last: &Header, certificate: Bytes| {
        let mut recovery = Recovery::new(CHAIN, 2, (last, certificate), next.clone());
        recovery.signatures = members.sign(&[0, 1, 2], &recovery.signed_bytes());
        recovery.verify(&ended, CHAIN)
    };
    let (last, before) = (header(2, 70), header(1, 64));
    assert!(with(&last, members.certify(&last)).is_ok());
    let other = Members::new(9, 5);
    assert!(matches!(
        with(&last, other.certify(&last)),
        Err(RecoveryError::Certificate(_))
    ));
    assert!(matches!(
        with(&last, members.certify(&header(2, 69))),
        Err(RecoveryError::Certificate(
            CertificateError::OtherBlock { .. }
        ))
    ));
    assert!(matches!(
        with(&before, members.certify(&before)),
        Err(RecoveryError::Place { height: 64, .. })
    ));
    // The one that the epoch stands on is final since the epoch began.
    let ended = members.epoch(2, 65, before.hash());
    let mut recovery = Recovery::new(CHAIN, 2, (&before, Bytes::new()), next.clone());
    recovery.signatures = members.sign(&[0, 1, 2], &recovery.signed_bytes());
    assert_eq!(recovery.verify(&ended, CHAIN), Ok(before));
}

#[test]
fn copies_with_different_signatures_become_one() {
    let members = Members::new(0, 5);
    let (last, next) = (header(0, 9), Members::new(0, 3).seats());
    let mut one = members.recovery(&last, &next, &[1]);
    one.merge(&members.recovery(&last, &next, &[0, 1, 4]))
        .unwrap();
    let positions: Vec<u16> = one.signatures.iter().map(|one| one.validator).collect();
    assert_eq!(positions, [0, 1, 4]);
    assert!(one.verify(&members.epoch(0, 0, CHAIN.1), CHAIN).is_ok());

    let other = members.recovery(&header(0, 8), &next, &[2]);
    assert!(matches!(
        one.merge(&other),
        Err(RecoveryError::Differs { .. })
    ));
    assert_eq!(one.signatures.len(), 3);
}
