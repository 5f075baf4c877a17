use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;

use super::*;

/// A chain of `n` validators with their keys in the order of the set.
struct Fixture {
    keys: Vec<Ed25519KeyPair>,
    set: ValidatorSet,
    namespace: Vec<u8>,
}

impl Fixture {
    fn new(n: u8) -> Self {
        let mut keys: Vec<_> = (0..n)
            .map(|i| Ed25519KeyPair::from_seed_unchecked(&[i; 32]).unwrap())
            .collect();
        keys.sort_by_key(public);
        let set = ValidatorSet::new(keys.iter().map(public)).unwrap();
        Self {
            keys,
            set,
            namespace: namespace(57831, &B256::repeat_byte(7)),
        }
    }

    fn certificate(&self, signers: &[u16]) -> CommitCertificate {
        let mut certificate = CommitCertificate {
            epoch: 3,
            view: 1000,
            parent_view: 127,
            block: B256::repeat_byte(9),
            signatures: Vec::new(),
        };
        let signed = certificate.signed_bytes(&self.namespace);
        certificate.signatures = signers
            .iter()
            .map(|&validator| ValidatorSignature {
                validator,
                signature: B512::from_slice(
                    self.keys[usize::from(validator)].sign(&signed).as_ref(),
                ),
            })
            .collect();
        certificate
    }

    fn verify(&self, certificate: &CommitCertificate) -> Result<(), CertificateError> {
        certificate.verify(&B256::repeat_byte(9), &self.set, &self.namespace)
    }
}

fn public(key: &Ed25519KeyPair) -> ValidatorKey {
    ValidatorKey::new(key.public_key().as_ref().try_into().unwrap())
}

#[test]
fn quorum_is_more_than_two_thirds() {
    for (n, quorum) in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (7, 5),
        (10, 7),
        (50, 34),
    ] {
        assert_eq!(Fixture::new(n).set.quorum(), quorum, "of {n}");
    }
}

#[test]
fn a_set_refuses_none_and_twice() {
    let key = ValidatorKey::new([1; 32]);
    assert!(matches!(
        ValidatorSet::new([]),
        Err(CertificateError::Validators(_))
    ));
    assert!(matches!(
        ValidatorSet::new([key, key]),
        Err(CertificateError::Validators(_))
    ));
}

#[test]
fn accepts_a_quorum_and_nothing_less() {
    let chain = Fixture::new(4);
    assert_eq!(chain.verify(&chain.certificate(&[0, 1, 3])), Ok(()));
    assert_eq!(chain.verify(&chain.certificate(&[0, 1, 2, 3])), Ok(()));
    assert_eq!(
        chain.verify(&chain.certificate(&[0, 3])),
        Err(CertificateError::TooFew {
            signatures: 2,
            quorum: 3
        })
    );
    assert_eq!(
        chain.verify(&chain.certificate(&[0, 1, 1])),
        Err(CertificateError::Unordered { validator: 1 })
    );
}

#[test]
fn refuses_another_block_chain_validator_or_place() {
    let chain = Fixture::new(4);
    let good = chain.certificate(&[0, 1, 2]);
    assert!(matches!(
        good.verify(&B256::ZERO, &chain.set, &chain.namespace),
        Err(CertificateError::OtherBlock { .. })
    ));
    let other_chain = namespace(1, &B256::repeat_byte(7));
    assert_eq!(
        good.verify(&good.block, &chain.set, &other_chain),
        Err(CertificateError::Signature { validator: 0 })
    );
    let mut moved = good.clone();
    moved.signatures[2].validator = 3;
    assert_eq!(
        chain.verify(&moved),
        Err(CertificateError::Signature { validator: 3 })
    );
    let mut outside = good;
    outside.signatures[2].validator = 4;
    assert_eq!(
        chain.verify(&outside),
        Err(CertificateError::UnknownValidator {
            validator: 4,
            validators: 4
        })
    );
}

#[test]
fn every_flipped_bit_of_the_encoding_is_noticed() {
    let chain = Fixture::new(4);
    let bytes = chain.certificate(&[0, 2, 3]).encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let verdict = CommitCertificate::decode(&changed).and_then(|c| chain.verify(&c));
        assert!(verdict.is_err(), "byte {at} may be changed");
    }
}

#[test]
fn leb128_matches_its_definition() {
    for (value, bytes) in [
        (0, vec![0]),
        (127, vec![0x7f]),
        (128, vec![0x80, 1]),
        (300, vec![0xac, 2]),
        (u64::MAX, [vec![0xff; 9], vec![1]].concat()),
    ] {
        let mut written = Vec::new();
        put_leb128(&mut written, value);
        assert_eq!(written, bytes, "{value}");
    }
}

proptest! {
    #[test]
    fn encoding_round_trips(
        epoch: u64, view: u64, parent_view: u64, block: [u8; 32],
        signers in prop::collection::btree_set(any::<u16>(), 0..60), seed: u8,
    ) {
        let certificate = CommitCertificate {
            epoch, view, parent_view, block: B256::new(block),
            signatures: signers
                .into_iter()
                .map(|validator| ValidatorSignature { validator, signature: B512::repeat_byte(seed) })
                .collect(),
        };
        prop_assert_eq!(CommitCertificate::decode(&certificate.encode()), Ok(certificate.clone()));
        let json = serde_json::to_string(&certificate).unwrap();
        prop_assert_eq!(serde_json::from_str::<CommitCertificate>(&json).unwrap(), certificate);
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = CommitCertificate::decode(&bytes);
    }
}

/// NFR-INT4: the validators of a later epoch are believed only if those before them finalized their announcement.
#[test]
fn a_change_needs_the_validators_before_it() {
    use crate::{
        block::{Header, Validator, validators_hash},
        epoch::{Change, ChangeError, walk},
    };

    let (first, second, third) = (Fixture::new(4), Fixture::new(5), Fixture::new(3));
    let seats = |fixture: &Fixture| -> Vec<Validator> {
        let seat = |key: &ValidatorKey| Validator {
            key: B256::from(*key.as_bytes()),
            organization: Default::default(),
        };
        fixture.set.keys().iter().map(seat).collect()
    };
    let change = |epoch: u64, number: u64, signers: &Fixture, next: &Fixture| {
        let header = Header {
            epoch,
            number,
            next_validators_hash: validators_hash(&seats(next)),
            ..Header::default()
        };
        let mut certificate = CommitCertificate {
            epoch,
            view: 9,
            parent_view: 8,
            block: header.hash(),
            signatures: Vec::new(),
        };
        let signed = certificate.signed_bytes(&first.namespace);
        let quorum = u16::try_from(signers.set.quorum()).unwrap();
        certificate.signatures = (0..quorum)
            .map(|validator| ValidatorSignature {
                validator,
                signature: B512::from_slice(
                    signers.keys[usize::from(validator)].sign(&signed).as_ref(),
                ),
            })
            .collect();
        Change {
            header: alloy_rlp::encode(&header).into(),
            certificate: certificate.encode().into(),
            validators: seats(next),
            signatures: Vec::new(),
        }
    };
    let walked = |changes: &[Change]| walk(&first.set, &first.namespace, changes);
    let good = [
        change(0, 64, &first, &second),
        change(1, 96, &second, &third),
    ];
    assert_eq!(walked(&[]), Ok(first.set.clone()));
    assert_eq!(walked(&good[..1]), Ok(second.set.clone()));
    assert_eq!(walked(&good), Ok(third.set.clone()));

    // Not in order, cut, by others than the set before, at another height, with other validators than announced.
    assert!(matches!(walked(&good[1..]), Err(ChangeError::Place { .. })));
    for bad in [
        [change(0, 64, &second, &third), good[1].clone()],
        [good[0].clone(), change(1, 96, &third, &third)],
        [good[0].clone(), change(1, 97, &second, &third)],
        [good[0].clone(), change(2, 96, &second, &third)],
        [
            good[0].clone(),
            Change {
                validators: seats(&first),
                ..good[1].clone()
            },
        ],
    ] {
        assert!(walked(&bad).is_err(), "{bad:?}");
    }
    let mut cut = good[0].clone();
    cut.header = cut.header.slice(..cut.header.len() - 1);
    assert!(matches!(walked(&[cut]), Err(ChangeError::Header(_))));
}
