//! Rows that are not trie nodes: each value carries a checksum over its table, key and payload, so that a flipped
//! byte, a value under another key or in another table is noticed on every read.

use alloy_primitives::Bytes;
use alloy_rlp::Encodable;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Error,
    store::{Batch, Reader, Table},
};

/// Adds a row to a batch.
pub(crate) fn put(batch: &mut Batch, table: Table, key: &[u8], payload: &[u8]) {
    let mut value = Vec::with_capacity(payload.len().saturating_add(CHECKSUM_BYTES));
    value.extend_from_slice(&checksum(table, key, payload));
    value.extend_from_slice(payload);
    batch.put(table, key, value);
}

/// Adds a row with the RLP list of some items, encoded where it stays: those of a block are large.
pub(crate) fn put_list<T: Encodable>(batch: &mut Batch, table: Table, key: &[u8], items: &[T]) {
    let length = alloy_rlp::list_length::<T, T>(items);
    let mut value = Vec::with_capacity(length.saturating_add(CHECKSUM_BYTES));
    value.extend_from_slice(&[0; CHECKSUM_BYTES]);
    alloy_rlp::encode_list::<T, T>(items, &mut value);
    if let Some((stated, payload)) = value.split_first_chunk_mut::<CHECKSUM_BYTES>() {
        *stated = checksum(table, key, payload);
    }
    batch.put(table, key, value);
}

/// Reads a row. `height` is named if it is damaged.
///
/// # Errors
/// [`Error::Damaged`] if the checksum does not fit, [`Error::Store`] if the read failed.
pub(crate) fn read(
    reader: &dyn Reader,
    table: Table,
    key: &[u8],
    height: u64,
) -> Result<Option<Bytes>, Error> {
    let found = reader.get(table, key).map_err(|error| error.at(height))?;
    found
        .map(|value| open(table, key, &value, height))
        .transpose()
}

/// The payload of a row's value.
///
/// # Errors
/// [`Error::Damaged`] if the checksum does not fit.
pub(crate) fn open(table: Table, key: &[u8], value: &Bytes, height: u64) -> Result<Bytes, Error> {
    match value.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((stated, payload)) if *stated == checksum(table, key, payload) => {
            Ok(value.slice(CHECKSUM_BYTES..))
        }
        Some(_) | None => Err(Error::damaged(
            height,
            format!("a row of {} fails its checksum", table.name()),
        )),
    }
}

fn checksum(table: Table, key: &[u8], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Xxh3::with_seed(table as u64);
    hasher.update(&key.len().to_be_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.digest().to_be_bytes()
}

/// XXH3-64: against decay, not against an adversary; that is what the hashes of `verify` are for.
const CHECKSUM_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{MemoryStore, Store};

    #[test]
    fn a_list_is_put_as_its_encoding_would_be() {
        let items = vec![Bytes::from_static(b"one"), Bytes::from(vec![7; 300])];
        let written = |batch: Batch| batch.into_operations()[0].value.clone();
        let (mut list, mut encoded) = (Batch::default(), Batch::default());
        put_list(&mut list, Table::Bodies, b"key", &items);
        put(
            &mut encoded,
            Table::Bodies,
            b"key",
            &alloy_rlp::encode(&items),
        );
        assert_eq!(written(list), written(encoded));
    }

    #[test]
    fn a_row_reads_back_and_every_flip_is_seen() {
        let (key, payload) = (*b"key", b"some payload");
        let mut batch = Batch::default();
        put(&mut batch, Table::Headers, &key, payload);
        let stored = batch.clone().into_operations()[0].value.clone().unwrap();
        let store = MemoryStore::new();
        store.write(batch).unwrap();
        let read = |store: &MemoryStore| read(&*store.snapshot(), Table::Headers, &key, 7);
        assert_eq!(read(&store).unwrap().unwrap().as_ref(), payload);
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut batch = Batch::default();
            batch.put(Table::Headers, key, bad);
            store.write(batch).unwrap();
            assert!(matches!(
                read(&store),
                Err(Error::Damaged { height: 7, .. })
            ));
        }
        assert!(
            open(Table::Bodies, &key, &stored, 7).is_err(),
            "value of another table"
        );
        assert!(
            open(Table::Headers, b"kez", &stored, 7).is_err(),
            "value of another key"
        );
    }
}
