use proptest::prelude::*;

use super::*;
use crate::crypto::os_rng;

fn key() -> Secret32 {
    Secret32::new([5; 32])
}

fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 31) % 251).unwrap())
        .collect()
}

#[test]
fn round_trips_at_every_boundary() {
    for length in [
        0, 1, 247, 248, 249, 65_527, 65_528, 65_529, 65_536, 65_537, 131_064, 200_000,
    ] {
        let plain = content(length);
        let sealed = seal(&key(), Encoding::Plain, &plain, &mut os_rng()).unwrap();
        assert_eq!(sealed.len() as u64, sealed_len(length as u64), "{length}");
        let (encoding, opened) = open(&key(), &sealed).unwrap();
        assert_eq!((encoding, &*opened), (Encoding::Plain, &plain), "{length}");
    }
}

#[test]
fn pieces_of_any_size_give_the_same_content() {
    let plain = content(150_001);
    let mut sealed = Vec::new();
    let mut sealer = Sealer::new(&key(), Encoding::Deflate, &mut os_rng(), &mut sealed).unwrap();
    for piece in plain.chunks(997) {
        sealer.push(piece, &mut sealed).unwrap();
    }
    sealer.finish(&mut sealed).unwrap();
    let (encoding, opened) = open(&key(), &sealed).unwrap();
    assert_eq!((encoding, &*opened), (Encoding::Deflate, &plain));
}

#[test]
fn any_chunk_opens_alone() {
    let plain = content(200_000);
    let sealed = seal(&key(), Encoding::Plain, &plain, &mut os_rng()).unwrap();
    let opener = Opener::new(&key(), &sealed, sealed.len() as u64).unwrap();
    let range = opener.chunk_range(2);
    let bytes = &sealed[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
    assert_eq!(
        &**opener.open_chunk(2, bytes).unwrap(),
        &plain[131_072..196_608]
    );
    assert!(opener.open_chunk(1, bytes).is_err());
    assert!(opener.open_chunk(9, bytes).is_err());
}

/// Truncation at a chunk's end, reordering, repetition, a changed header and a wrong key.
#[test]
fn refuses_what_was_tampered_with() {
    let sealed = seal(&key(), Encoding::Plain, &content(300_000), &mut os_rng()).unwrap();
    let chunk = CHUNK_LEN + TAG_LEN;
    let cut = HEADER_LEN + 3 * chunk;
    assert!(open(&key(), &sealed[..cut]).is_err());
    let mut swapped = sealed.clone();
    let (first, second) = swapped[HEADER_LEN..].split_at_mut(chunk);
    first.swap_with_slice(&mut second[..chunk]);
    assert!(open(&key(), &swapped).is_err());
    let mut repeated = sealed[..HEADER_LEN + chunk].to_vec();
    repeated.extend_from_slice(&sealed[HEADER_LEN..]);
    assert!(open(&key(), &repeated).is_err());
    for at in 0..HEADER_LEN {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert!(open(&key(), &bad).is_err(), "header byte {at}");
    }
    assert!(open(&Secret32::new([6; 32]), &sealed).is_err());
}

proptest! {
    #[test]
    fn any_flipped_or_missing_byte_is_refused(
        length in 0usize..3_000,
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let sealed = seal(&key(), Encoding::Plain, &content(length), &mut os_rng()).unwrap();
        let at = at.index(sealed.len());
        let mut bad = sealed.clone();
        bad[at] ^= 1 << bit;
        prop_assert!(open(&key(), &bad).is_err());
        prop_assert!(open(&key(), &sealed[..at]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = b"STELE\x01\x01\x00".to_vec();
        framed.extend_from_slice(&bytes);
        prop_assert!(open(&key(), &bytes).is_err());
        prop_assert!(open(&key(), &framed).is_err());
    }
}
