//! The local store: everything durable, nothing twice, receipts in an unbroken chain.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use stele_core::{
    crypto::Secret32,
    receipt::{AccessReceipt, next_head},
    time::Timestamp,
};

use super::{LocalStore, receipts::Appended};
use crate::Error;

const KEY: Secret32 = Secret32::new([8; 32]);

fn receipt(organization: u8, log: u8, at_ms: u64) -> AccessReceipt {
    AccessReceipt {
        organization: Address::repeat_byte(organization),
        log: Address::repeat_byte(log),
        at_ms,
        allowed: true,
        action: 1,
        sequence: 99,
        ..AccessReceipt::default()
    }
}

#[test]
fn receipts_make_an_unbroken_chain_over_restarts_and_threads() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(folder.path(), &KEY).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for at in 0..20 {
                    let own = vec![receipt(1, thread, at), receipt(2, thread, at)];
                    let appended = store.append(own).unwrap();
                    assert_eq!(appended.len(), 2);
                    // What was acknowledged is there for another connection.
                    let sequence = appended[0].receipt.sequence;
                    let read = store
                        .receipts_from(Address::repeat_byte(1), sequence, 1)
                        .unwrap();
                    assert_eq!(read[0], appended[0]);
                }
            });
        }
    });
    drop(Arc::into_inner(store).unwrap());

    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    store.append(vec![receipt(1, 200, 500)]).unwrap();
    let newest = store
        .receipts_below(Address::repeat_byte(1), u64::MAX, 2)
        .unwrap();
    let sequences: Vec<u64> = newest.iter().map(|one| one.receipt.sequence).collect();
    assert_eq!(sequences, [160, 159]);
    for (organization, count) in [(1, 161_u64), (2, 160)] {
        let organization = Address::repeat_byte(organization);
        let receipts = store.receipts_from(organization, 0, 1_000).unwrap();
        let mut head = B256::ZERO;
        for (sequence, entry) in (0..).zip(&receipts) {
            assert_eq!(entry.receipt.sequence, sequence);
            head = next_head(head, entry.receipt.digest());
            assert_eq!((entry.head, entry.digest), (head, entry.receipt.digest()));
        }
        assert_eq!(store.receipt_head(organization).unwrap(), (count, head));
    }
    let log = Address::repeat_byte(3);
    let all = store.receipts_about(log, None, 100).unwrap();
    assert_eq!(all.len(), 40);
    // Two organisations wrote in the same milliseconds: pages neither repeat nor miss one.
    let mut paged: Vec<Appended> = Vec::new();
    loop {
        let before = paged.last().map(|last| last.receipt.clone());
        let page = store.receipts_about(log, before.as_ref(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert!(all.is_sorted_by(|newer, older| newer.receipt.at_ms >= older.receipt.at_ms));
}

#[test]
fn receipts_go_on_after_a_head_that_was_anchored() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    let who = Address::repeat_byte(1);
    store
        .append(vec![receipt(1, 9, 1), receipt(1, 9, 2)])
        .unwrap();
    let head = B256::repeat_byte(7);
    assert_eq!(store.resume_receipts(who, 2, head).unwrap(), 0, "not lost");
    assert_ne!(store.receipt_head(who).unwrap().1, head);
    assert_eq!(store.resume_receipts(who, 10, head).unwrap(), 8);
    assert_eq!(store.resume_receipts(who, 10, head).unwrap(), 0);
    assert_eq!(store.receipt_head(who).unwrap(), (10, head));
    drop(store);
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    let next = store.append(vec![receipt(1, 9, 3)]).unwrap();
    assert_eq!(next[0].receipt.sequence, 10);
    assert_eq!(next[0].head, next_head(head, next[0].receipt.digest()));
    assert_eq!(store.receipt_head(who).unwrap(), (11, next[0].head));
    let other = Address::repeat_byte(2);
    assert_eq!(store.receipt_head(other).unwrap(), (0, B256::ZERO));
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(folder.path(), &KEY).unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    let last = Arc::clone(&store);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    store.append_then(vec![receipt(1, 1, 1)], move |result| {
        wait.recv().unwrap();
        drop(last);
        sender.send(result.map(|appended| appended.len())).unwrap();
    });
    drop(store);
    go.send(()).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap(), 1);
}

#[test]
fn documents_live_until_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    store.put_client("app", b"one").unwrap();
    store.put_client("app", b"two").unwrap();
    assert_eq!(
        store.client("app").unwrap().as_deref(),
        Some(b"two".as_slice())
    );
    assert_eq!(store.clients().unwrap().len(), 1);
    assert!(store.remove_client("app").unwrap());
    assert!(!store.remove_client("app").unwrap());

    assert!(
        store
            .use_assertion("app", "x", Timestamp(10), Timestamp(0))
            .unwrap()
    );
    assert!(
        !store
            .use_assertion("app", "x", Timestamp(10), Timestamp(10))
            .unwrap()
    );
    assert!(
        store
            .use_assertion("other", "x", Timestamp(10), Timestamp(0))
            .unwrap()
    );

    store.put_session(&[1; 32], b"s", Timestamp(10)).unwrap();
    assert_eq!(
        store.session(&[1; 32], Timestamp(9)).unwrap().as_deref(),
        Some(b"s".as_slice())
    );
    assert_eq!(store.session(&[1; 32], Timestamp(10)).unwrap(), None);
    store
        .remember_answer("p", "k", b"first", Timestamp(10))
        .unwrap();
    store
        .remember_answer("p", "k", b"second", Timestamp(10))
        .unwrap();
    assert_eq!(
        store.answer("p", "k", Timestamp(0)).unwrap().as_deref(),
        Some(b"first".as_slice())
    );
    assert_eq!(store.forget_expired(Timestamp(11)).unwrap(), 4);
    store.end_session(&[1; 32]).unwrap();
}

#[test]
fn work_is_kept_until_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    let later = store.push("hl7", b"later", Timestamp(20)).unwrap();
    let first = store.push("hl7", b"first", Timestamp(10)).unwrap();
    store.push("mail", b"other", Timestamp(0)).unwrap();
    assert_eq!(
        store
            .due("hl7", Timestamp(15), 9)
            .unwrap()
            .iter()
            .map(|entry| entry.id)
            .collect::<Vec<_>>(),
        [first]
    );
    store.put_off(first, Timestamp(30)).unwrap();
    let due = store.due("hl7", Timestamp(30), 9).unwrap();
    assert_eq!(
        due.iter()
            .map(|entry| (entry.id, entry.attempts))
            .collect::<Vec<_>>(),
        [(later, 0), (first, 1)]
    );
    store.done(later).unwrap();
    let work = store.begin("import", b"a").unwrap();
    store.advance(work, b"b").unwrap();
    drop(store);

    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    assert_eq!(store.due("hl7", Timestamp(30), 9).unwrap().len(), 1);
    assert_eq!(store.unfinished("import").unwrap(), [(work, b"b".to_vec())]);
    store.finish(work).unwrap();
    assert_eq!(store.unfinished("import").unwrap(), []);
}

/// A copy opens under the same key and no other.
#[test]
fn a_copy_is_encrypted_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    store.put_client("app", b"NEEDLE-IN-CLEAR").unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("local.db");
    store.copy_to(&copy).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"NEEDLE-IN-CLEAR"));
    let other = Secret32::new([9; 32]);
    assert!(matches!(
        LocalStore::open(copies.path(), &other),
        Err(Error::Key { .. })
    ));
    let copied = LocalStore::open(copies.path(), &KEY).unwrap();
    assert_eq!(
        copied.client("app").unwrap().as_deref(),
        Some(b"NEEDLE-IN-CLEAR".as_slice())
    );
}

#[test]
fn outboxes_are_listed_and_entries_moved() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    let first = store.push("in/b", b"1", Timestamp(0)).unwrap();
    store.push("in/a", b"2", Timestamp(0)).unwrap();
    store.push("other", b"3", Timestamp(0)).unwrap();
    assert_eq!(store.queues("in/").unwrap(), ["in/a", "in/b"]);
    store.put_off(first, Timestamp(0)).unwrap();
    store.transfer(first, "parked", b"why").unwrap();
    assert_eq!(store.queues("in/").unwrap(), ["in/a"]);
    let (queue, entry) = store.entry(first).unwrap().unwrap();
    assert_eq!(
        (queue.as_str(), entry.payload.as_slice(), entry.attempts),
        ("parked", b"why".as_slice(), 0)
    );
    assert_eq!(store.count("parked").unwrap(), 1);
    store.done(first).unwrap();
    assert_eq!(store.entry(first).unwrap(), None);

    store.remember_answer("s", "k", b"", Timestamp(10)).unwrap();
    store.forget_answer("s", "k").unwrap();
    assert_eq!(store.answer("s", "k", Timestamp(0)).unwrap(), None);
}

#[test]
fn desks_keep_requests_drafts_and_acts() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), &KEY).unwrap();
    let (house, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let (first, second) = (B256::repeat_byte(1), B256::repeat_byte(2));
    assert!(
        store
            .put_application(&first, house, b"key", b"a", Timestamp(10))
            .unwrap()
    );
    // A credential belongs to one request; the request's own next state takes its place.
    assert!(
        !store
            .put_application(&second, house, b"key", b"b", Timestamp(10))
            .unwrap()
    );
    assert!(
        store
            .put_application(&first, house, b"key", b"c", Timestamp(20))
            .unwrap()
    );
    let found = store.application_with(b"key", Timestamp(15)).unwrap();
    assert_eq!(found, Some((first, b"c".to_vec())));
    assert_eq!(
        store.applications_of(house, Timestamp(15)).unwrap().len(),
        1
    );
    assert!(
        store
            .applications_of(other, Timestamp(15))
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.application(&first, Timestamp(20)).unwrap(), None);

    store
        .put_draft(house, "chart/1", b"x", Timestamp(10))
        .unwrap();
    store
        .put_draft(house, "chart/1", b"y", Timestamp(20))
        .unwrap();
    assert_eq!(
        store
            .draft(house, "chart/1", Timestamp(19))
            .unwrap()
            .as_deref(),
        Some(b"y".as_slice())
    );
    assert_eq!(
        store.draft(other, "chart/1", Timestamp(19)).unwrap(),
        None,
        "only its owner's"
    );
    assert!(store.drafts_of(house, Timestamp(20)).unwrap().is_empty());
    assert_eq!(store.forget_expired(Timestamp(20)).unwrap(), 2);
    assert!(!store.end_draft(house, "chart/1").unwrap());

    for sequence in [3, 7, 9] {
        store.put_act(house, sequence, b"act").unwrap();
    }
    assert!(
        store.put_act(house, 7, b"another").is_err(),
        "nothing is overwritten"
    );
    let numbers = |below, limit| -> Vec<u64> {
        let found = store.acts_of(house, below, limit).unwrap();
        found.into_iter().map(|(sequence, _)| sequence).collect()
    };
    assert_eq!(numbers(u64::MAX, 2), [9, 7]);
    assert_eq!(numbers(7, 9), [3]);
    assert!(store.acts_of(other, u64::MAX, 9).unwrap().is_empty());
}
