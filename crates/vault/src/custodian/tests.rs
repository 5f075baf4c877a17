use alloy_primitives::B256;
use parking_lot::Mutex;

use super::*;

/// A ledger with one grant that can be revoked.
struct Ledger {
    granted: bool,
    finalized_at: Timestamp,
}

impl Permission for Ledger {
    fn check(&self, _: &ReadRequest, _: Timestamp) -> Result<Permit, Denied> {
        if self.granted {
            Ok(Permit {
                finalized_at: self.finalized_at,
            })
        } else {
            Err(Denied {
                reason: "no grant".into(),
            })
        }
    }
}

/// A receipt log that can fail.
#[derive(Default)]
struct Receipts {
    written: Mutex<Vec<AccessReceipt>>,
    full: bool,
}

impl ReceiptLog for Receipts {
    fn append(
        &self,
        mut receipt: AccessReceipt,
    ) -> BoxFuture<'_, Result<AccessReceipt, Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async move {
            if self.full {
                return Err("the disk is full".into());
            }
            let mut written = self.written.lock();
            receipt.sequence = written.len() as u64;
            written.push(receipt.clone());
            Ok(receipt)
        })
    }
}

const NOW: Timestamp = Timestamp(1_000_000);

fn record(byte: u8) -> RecordId {
    RecordId(B256::repeat_byte(byte))
}

fn request() -> ReadRequest {
    ReadRequest {
        log: LogId::repeat_byte(1),
        record: record(2),
        version: 1,
        slot: 3,
        actor: Address::repeat_byte(4),
        purposes: 1,
    }
}

fn receipt() -> AccessReceipt {
    AccessReceipt {
        actor: Address::repeat_byte(4),
        log: LogId::repeat_byte(1),
        allowed: true,
        ..AccessReceipt::default()
    }
}

fn custodian(folder: &std::path::Path) -> Custodian {
    let at_rest = Secret32::new([1; 32]);
    let custodies = Custodies::open(&folder.join("custody"), at_rest.clone()).unwrap();
    let tree = ShredTree::open(&folder.join("custodian.shred"), at_rest).unwrap();
    Custodian::new(tree, custodies)
}

async fn durable(receipt: AccessReceipt) -> DurableReceipt {
    DurableReceipt::write(
        &Receipts::default(),
        receipt,
        [(record(2), 1), (record(3), 1)],
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn releases_with_receipt_consent_and_fresh_state() {
    let folder = tempfile::tempdir().unwrap();
    let custodian = custodian(folder.path());
    let ledger = Ledger {
        granted: true,
        finalized_at: Timestamp(NOW.0 - STALENESS_MS),
    };
    let receipt = durable(receipt()).await;
    let pepper = custodian
        .release(&request(), &ledger, &receipt, NOW)
        .unwrap();
    assert_eq!(pepper, custodian.pepper(&record(2), 1).unwrap());
    assert_ne!(pepper, custodian.pepper(&record(2), 2).unwrap());
    assert_eq!(format!("{pepper:?}"), "Pepper(…)");
}

/// Requirement NFR-SEC3: no read without consent and a trace, whatever keys the asker holds.
#[tokio::test]
async fn refuses_each_missing_condition_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let custodian = custodian(folder.path());
    let granted = Ledger {
        granted: true,
        finalized_at: NOW,
    };
    let good = durable(receipt()).await;
    let revoked = Ledger {
        granted: false,
        finalized_at: NOW,
    };
    assert!(matches!(
        custodian.release(&request(), &revoked, &good, NOW),
        Err(Error::Refused { reason, .. }) if reason == "no grant"
    ));
    let stale = Ledger {
        granted: true,
        finalized_at: Timestamp(NOW.0 - STALENESS_MS - 1),
    };
    assert!(matches!(
        custodian.release(&request(), &stale, &good, NOW),
        Err(Error::Stale {
            age_ms: 60_001,
            limit_ms: STALENESS_MS
        })
    ));
    for wrong in [
        ReadRequest {
            record: record(9),
            ..request()
        },
        ReadRequest {
            version: 2,
            ..request()
        },
        ReadRequest {
            actor: Address::ZERO,
            ..request()
        },
        ReadRequest {
            log: LogId::ZERO,
            ..request()
        },
    ] {
        let refused = custodian.release(&wrong, &granted, &good, NOW);
        assert!(matches!(refused, Err(Error::NoReceipt { .. })), "{wrong:?}");
    }
    let refusal = durable(AccessReceipt {
        allowed: false,
        ..receipt()
    })
    .await;
    assert!(matches!(
        custodian.release(&request(), &granted, &refusal, NOW),
        Err(Error::NoReceipt { .. })
    ));
    let full = Receipts {
        full: true,
        ..Receipts::default()
    };
    let unwritten = DurableReceipt::write(&full, receipt(), [(record(2), 1)]).await;
    assert!(matches!(unwritten, Err(Error::Receipt { .. })));
}

#[tokio::test]
async fn a_destroyed_pepper_is_never_released_again() {
    let folder = tempfile::tempdir().unwrap();
    let granted = Ledger {
        granted: true,
        finalized_at: NOW,
    };
    let receipt = durable(receipt()).await;
    let before = custodian(folder.path());
    let kept = before.pepper(&record(3), 1).unwrap();
    before.destroy(&[record(2).0.0], &[]).unwrap();
    drop(before);
    let after = custodian(folder.path());
    assert!(matches!(
        after.release(&request(), &granted, &receipt, NOW),
        Err(Error::Erased { .. })
    ));
    let other = ReadRequest {
        record: record(3),
        ..request()
    };
    assert_eq!(
        after.release(&other, &granted, &receipt, NOW).unwrap(),
        kept
    );
}
