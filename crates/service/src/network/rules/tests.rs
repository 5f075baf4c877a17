use super::*;

const ASKER: OrganizationId = OrganizationId(Address::repeat_byte(1));

/// A ledger that has nothing but batches of the asker's receipts.
struct Anchored(Vec<AnchoredBatch>);

impl Standing for Anchored {
    fn height(&self) -> u64 {
        7
    }

    fn finalized_at(&self) -> Result<Timestamp> {
        Ok(Timestamp(0))
    }

    fn call(&self, what: &'static str, _: Address, _: Vec<u8>) -> Result<Bytes> {
        Err(Error::internal(what, "nothing is called"))
    }

    fn batches(&self, organization: Address, from: u64) -> Result<Vec<AnchoredBatch>> {
        assert_eq!(organization, ASKER.0);
        let after = self.0.iter().filter(|batch| batch.end > from);
        Ok(after.copied().collect())
    }
}

/// Receipt `sequence`, of one record; another `salt` makes another receipt.
fn receipt(sequence: u64, salt: u8) -> AccessReceipt {
    AccessReceipt {
        organization: ASKER.0,
        sequence,
        allowed: true,
        records: 1,
        records_digest: records_digest(&[(RecordId::default(), 1)]),
        salt: B256::repeat_byte(salt),
        ..AccessReceipt::default()
    }
}

fn digest(sequence: u64) -> B256 {
    receipt(sequence, 0).digest()
}

/// The batch of the asker's true receipts `first` to `end`, which it is not in.
fn batch(first: u64, end: u64) -> AnchoredBatch {
    let head = (0..end).fold(B256::ZERO, |head, one| next_head(head, digest(one)));
    AnchoredBatch { first, end, head }
}

fn shown(receipt: AccessReceipt, first: u64, digests: Vec<B256>) -> PeppersAsked {
    PeppersAsked {
        receipt,
        first,
        digests,
        records: vec![(RecordId::default(), 1)],
    }
}

fn check(batches: &[AnchoredBatch], asked: &PeppersAsked) -> Result<()> {
    check_receipt(&Anchored(batches.to_vec()), Timestamp(0), ASKER, asked)
}

fn is_refused(checked: &Result<()>) -> bool {
    matches!(checked, Err(Error::NotPermitted { .. }))
}

fn is_later(checked: &Result<()>) -> bool {
    matches!(checked, Err(Error::Member { .. }))
}

#[test]
fn a_receipt_after_the_last_batch_is_followed_from_its_head() {
    let batches = [batch(0, 2), batch(2, 5)];
    let good = shown(receipt(6, 0), 5, vec![digest(5), digest(6)]);
    check(&batches, &good).unwrap();
    assert!(is_later(&check(&batches[..1], &good)), "a block behind");
    let mut whole: Vec<B256> = (0..7).map(digest).collect();
    check(&batches, &shown(receipt(6, 0), 0, whole.clone())).unwrap();
    whole[1] = B256::repeat_byte(9);
    let altered = shown(receipt(6, 0), 0, whole);
    assert!(is_refused(&check(&batches, &altered)));
}

/// NFR-SEC3: a made-up receipt in the place of one that is anchored is no ticket, whichever part of the batch is shown.
#[test]
fn another_receipt_than_the_anchored_one_is_noticed_inside_a_batch_too() {
    let batches = [batch(0, 4)];
    let forged = receipt(1, 9);
    let part = shown(forged.clone(), 0, vec![digest(0), forged.digest()]);
    assert!(is_later(&check(&batches, &part)), "the batch is not shown");
    let rest = [digest(0), forged.digest(), digest(2), digest(3)];
    let whole = shown(forged, 0, rest.to_vec());
    assert!(is_refused(&check(&batches, &whole)));
    let all: Vec<B256> = (0..4).map(digest).collect();
    check(&batches, &shown(receipt(1, 0), 0, all.clone())).unwrap();
    assert!(
        is_later(&check(
            &batches,
            &shown(receipt(1, 0), 0, all[..2].to_vec())
        )),
        "a true one has to be shown with its batch as well"
    );
}

#[test]
fn what_is_shown_reaches_from_batch_to_batch() {
    let standing = Anchored(vec![batch(0, 2), batch(2, 5)]);
    assert_eq!(shown_with(&standing, ASKER.0, 3).unwrap(), (2, 5));
    assert_eq!(shown_with(&standing, ASKER.0, 0).unwrap(), (0, 2));
}

#[test]
fn a_receipt_that_does_not_cover_the_records_is_refused() {
    for wrong in [
        AccessReceipt {
            allowed: false,
            ..receipt(0, 0)
        },
        AccessReceipt {
            organization: Address::repeat_byte(2),
            ..receipt(0, 0)
        },
        AccessReceipt {
            records: 2,
            ..receipt(0, 0)
        },
        AccessReceipt {
            at_ms: RECEIPT_AGE_MS + 1,
            ..receipt(0, 0)
        },
    ] {
        let digests = vec![wrong.digest()];
        assert!(is_refused(&check(&[], &shown(wrong, 0, digests))));
    }
    let elsewhere = shown(receipt(1, 0), 0, vec![receipt(1, 0).digest()]);
    assert!(is_refused(&check(&[], &elsewhere)));
}
