//! Where the chain ends: the head row in the store, and the marker file beside it.
//!
//! A store that recovers from a crash drops a torn tail of its journal, and cannot tell a torn tail from a damaged
//! one. The marker is written after every commit, so that blocks which were acknowledged and are gone are noticed.
//! It is never ahead of the store: a crash between the two leaves it one block behind, which is harmless.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use alloy_primitives::B256;
use xxhash_rust::xxh3::xxh3_64;

use super::Error;

/// The last final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its digest.
    pub hash: B256,
    /// State root after it.
    pub state_root: B256,
    /// Digest of the block at height 0.
    pub genesis_hash: B256,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.height.to_be_bytes().to_vec();
        for hash in [self.hash, self.state_root, self.genesis_hash] {
            out.extend_from_slice(hash.as_slice());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (height, rest) = bytes.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (state_root, rest) = rest.split_first_chunk::<32>()?;
        let genesis_hash = <[u8; 32]>::try_from(rest).ok()?;
        Some(Self {
            height: u64::from_be_bytes(*height),
            hash: hash.into(),
            state_root: state_root.into(),
            genesis_hash: genesis_hash.into(),
        })
    }
}

/// The file that says which block was committed last.
pub(crate) struct Marker {
    file: Mutex<File>,
    acknowledged: Option<(u64, B256)>,
}

impl Marker {
    /// Opens or creates the marker.
    ///
    /// # Errors
    /// [`Error::Store`] on failed I/O, [`Error::Damaged`] if the file is not a marker.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::store("opening the head marker", error.into());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        // A crash right after the file was created leaves it empty.
        let acknowledged = if bytes.is_empty() {
            None
        } else {
            Some(
                parse(&bytes)
                    .ok_or_else(|| Error::damaged(0, "the head marker is not readable"))?,
            )
        };
        Ok(Self {
            file: Mutex::new(file),
            acknowledged,
        })
    }

    /// Height of the last block that was acknowledged when the marker was opened; 0 if there was none.
    pub(crate) fn height(&self) -> u64 {
        self.acknowledged.map_or(0, |(height, _)| height)
    }

    /// Holds the store's head against the marker as it was when opened.
    ///
    /// # Errors
    /// [`Error::Truncated`] if acknowledged blocks are missing, [`Error::Damaged`] if the block differs.
    pub(crate) fn check(&self, head: Option<&Head>) -> Result<(), Error> {
        let Some((acknowledged, hash)) = self.acknowledged else {
            return Ok(());
        };
        match head {
            Some(head) if head.height == acknowledged && head.hash != hash => Err(Error::damaged(
                acknowledged,
                "the last block is not the one the head marker names",
            )),
            Some(head) if head.height >= acknowledged => Ok(()),
            Some(_) | None => Err(Error::Truncated {
                stored: head.map(|head| head.height),
                acknowledged,
            }),
        }
    }

    /// Notes a committed block. Not synced: after a power loss an older marker is as good.
    ///
    /// # Errors
    /// [`Error::Store`] on failed I/O.
    pub(crate) fn write(&self, height: u64, hash: B256) -> Result<(), Error> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&render(height, hash)))
            .map_err(|error| Error::store("writing the head marker", error.into()))
    }
}

fn render(height: u64, hash: B256) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(hash.as_slice());
    out.extend_from_slice(&xxh3_64(&out).to_be_bytes());
    out
}

fn parse(bytes: &[u8]) -> Option<(u64, B256)> {
    let (content, checksum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(content).to_be_bytes() != *checksum {
        return None;
    }
    let rest = content.strip_prefix(MAGIC.as_slice())?;
    let (height, hash) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*height), B256::try_from(hash).ok()?))
}

/// First bytes of a marker file.
const MAGIC: [u8; 8] = *b"STELEHD1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_round_trips() {
        let head = Head {
            height: 7,
            hash: B256::repeat_byte(1),
            state_root: B256::repeat_byte(2),
            genesis_hash: B256::repeat_byte(3),
        };
        assert_eq!(Head::decode(&head.encode()), Some(head));
        assert_eq!(Head::decode(&head.encode()[1..]), None);
    }

    #[test]
    fn the_marker_notices_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("HEAD");
        let head = |height| Head {
            height,
            hash: B256::repeat_byte(1),
            state_root: B256::ZERO,
            genesis_hash: B256::ZERO,
        };
        let marker = Marker::open(&path).unwrap();
        marker.check(None).unwrap();
        marker.write(3, B256::repeat_byte(9)).unwrap();
        marker.write(4, B256::repeat_byte(1)).unwrap();
        let marker = Marker::open(&path).unwrap();
        marker.check(Some(&head(4))).unwrap();
        marker.check(Some(&head(5))).unwrap();
        assert!(matches!(
            marker.check(Some(&head(3))),
            Err(Error::Truncated {
                stored: Some(3),
                acknowledged: 4
            })
        ));
        assert!(matches!(
            marker.check(None),
            Err(Error::Truncated { stored: None, .. })
        ));
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(Marker::open(&path).is_err_and(|error| error.is_damage()));
        }
    }
}
