//! Sealed streams: AES-256-GCM in chunks of 64 KiB, padded, with key commitment and random access.
//!
//! ```text
//! header (80)  magic "STELE" · version 1 · suite 1 · encoding · salt (32) · nonce prefix (7) · 0 · commitment (32)
//! chunk 0      ciphertext (65 536) · tag (16)
//! …
//! last chunk   ciphertext (1 … 65 536) · tag (16)
//! ```
//!
//! `key ‖ commitment = HKDF(content key, salt, first 48 bytes of the header)`, so every byte of the
//! header is bound to every chunk, and a ciphertext opens under one key only. The AEAD nonce is
//! `prefix (7) ‖ chunk number (u32) ‖ last (0 or 1)`: chunks cannot be reordered, dropped, repeated
//! or cut off (Hoang, Reyhanitabar, Rogaway and Vizár, *Online Authenticated-Encryption*, STREAM).
//! The plaintext is `content ‖ zeros ‖ content length (u64)`, little-endian, of a Padmé length.
//! Integers are big-endian unless said otherwise.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{
    Error, Secret32,
    aead::{NONCE_LEN, TAG_LEN, bound},
    kdf::derive_pair,
    pad::padme,
    take,
};

/// Bytes of the header.
pub const HEADER_LEN: usize = 80;
/// Plaintext bytes of every chunk but the last.
pub const CHUNK_LEN: usize = 65_536;

const SEALED_CHUNK_LEN: u64 = (CHUNK_LEN + TAG_LEN) as u64;
const MAGIC: &[u8; 5] = b"STELE";
const VERSION: u8 = 1;
const SUITE: u8 = 1;
const BOUND_LEN: usize = HEADER_LEN - 32;
const TRAILER_LEN: u64 = 8;
/// Shorter plaintexts are padded to this: small resources tell the most by their length.
const PADDED_MIN: u64 = 256;
const WHAT: &str = "a sealed stream";

/// How the content was encoded before it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Raw DEFLATE (RFC 1951), which browsers can inflate.
    Deflate,
}

impl Encoding {
    const fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Deflate => 1,
        }
    }
}

/// Bytes a sealed stream takes for `content_len` bytes of (encoded) content.
#[must_use]
pub fn sealed_len(content_len: u64) -> u64 {
    let padded = padded_len(content_len);
    HEADER_LEN as u64 + padded + padded.div_ceil(CHUNK_LEN as u64) * TAG_LEN as u64
}

/// Seals content as it comes, holding at most one chunk.
pub struct Sealer {
    key: LessSafeKey,
    prefix: [u8; 7],
    next_chunk: u32,
    content_len: u64,
    pending: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Starts a stream and writes its header to `out`.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn new(
        content_key: &Secret32,
        encoding: Encoding,
        rng: &mut impl CryptoRng,
        out: &mut Vec<u8>,
    ) -> Result<Self, Error> {
        let mut random = [0; 39];
        rng.fill_bytes(&mut random);
        let (salt, prefix) = random.split_at(32);
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, SUITE, encoding.code()]);
        out.extend_from_slice(salt);
        out.extend_from_slice(prefix);
        out.push(0);
        let bound_header = out.get(start..).unwrap_or_default();
        let (key, commitment) = stream_key(content_key, salt, bound_header);
        out.extend_from_slice(&commitment);
        let mut nonce_prefix = [0; 7];
        nonce_prefix.copy_from_slice(prefix);
        Ok(Self {
            key: bound(&key)?,
            prefix: nonce_prefix,
            next_chunk: 0,
            content_len: 0,
            pending: Zeroizing::new(Vec::new()),
        })
    }

    /// Takes more content and writes the chunks that became full to `out`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 2³² chunks (256 TiB).
    pub fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.content_len = self.content_len.saturating_add(content.len() as u64);
        self.absorb(content, out)
    }

    /// Pads, and writes what is left to `out`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 2³² chunks (256 TiB).
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let padded = padded_len(self.content_len);
        let mut zeros = padded - TRAILER_LEN - self.content_len;
        let block = [0u8; 4096];
        while zeros > 0 {
            let run = usize::try_from(zeros)
                .unwrap_or(block.len())
                .min(block.len());
            self.absorb(block.get(..run).unwrap_or_default(), out)?;
            zeros -= run as u64;
        }
        self.absorb(&self.content_len.to_le_bytes(), out)?;
        self.flush(true, out)
    }

    fn absorb(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        while !bytes.is_empty() {
            // A full chunk is written only when more follows, since the last one is marked.
            if self.pending.len() == CHUNK_LEN {
                self.flush(false, out)?;
            }
            let room = CHUNK_LEN - self.pending.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            if self.pending.capacity() < self.pending.len() + now.len() {
                // Growing by hand keeps the wiped buffer the only copy of the plaintext.
                let mut larger = Vec::with_capacity((self.pending.len() + now.len()).max(1024) * 2);
                larger.extend_from_slice(&self.pending);
                self.pending = Zeroizing::new(larger);
            }
            self.pending.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.extend_from_slice(&self.pending);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                chunk_nonce(self.prefix, self.next_chunk, last),
                Aad::empty(),
                out.get_mut(start..).unwrap_or_default(),
            )
            .map_err(|_| Error::Refused {
                what: "sealing a chunk",
            })?;
        out.extend_from_slice(tag.as_ref());
        self.pending.as_mut_slice().zeroize();
        self.pending.clear();
        self.next_chunk = self.next_chunk.checked_add(1).ok_or(Error::TooLarge {
            what: "the number of chunks",
            limit: u64::from(u32::MAX),
        })?;
        Ok(())
    }
}

/// Opens any chunk of a stream whose header and length are known.
pub struct Opener {
    key: LessSafeKey,
    prefix: [u8; 7],
    encoding: Encoding,
    chunk_count: u32,
    sealed_len: u64,
}

impl Opener {
    /// Reads the header (the first [`HEADER_LEN`] bytes, more are ignored) of a stream of
    /// `sealed_len` bytes in all.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no stream of a known version; [`Error::Authentication`] if
    /// the key or any byte of the header is wrong.
    pub fn new(content_key: &Secret32, header: &[u8], sealed_len: u64) -> Result<Self, Error> {
        let mut rest = header;
        let bound_header = take::<BOUND_LEN>(&mut rest, WHAT)?;
        let commitment = take::<32>(&mut rest, WHAT)?;
        let mut fields = bound_header.as_slice();
        if take::<5>(&mut fields, WHAT)? != MAGIC {
            return Err(malformed("it does not start with STELE"));
        }
        let [version, suite, code] = *take::<3>(&mut fields, WHAT)?;
        if (version, suite) != (VERSION, SUITE) {
            return Err(malformed("its version or suite is unknown"));
        }
        let encoding = match code {
            0 => Encoding::Plain,
            1 => Encoding::Deflate,
            _ => return Err(malformed("its encoding is unknown")),
        };
        let salt = take::<32>(&mut fields, WHAT)?;
        let prefix = *take::<7>(&mut fields, WHAT)?;
        let (key, expected) = stream_key(content_key, salt, bound_header);
        if !bool::from(expected.ct_eq(commitment)) {
            return Err(Error::Authentication { what: WHAT });
        }
        let body_len = sealed_len
            .checked_sub(HEADER_LEN as u64)
            .filter(|length| *length > TAG_LEN as u64)
            .ok_or(malformed("it has no chunk"))?;
        let chunk_count = u32::try_from(body_len.div_ceil(SEALED_CHUNK_LEN))
            .map_err(|_| malformed("it has too many chunks"))?;
        let last_len = body_len - u64::from(chunk_count - 1) * SEALED_CHUNK_LEN;
        if last_len <= TAG_LEN as u64 {
            return Err(malformed("its last chunk is cut off"));
        }
        Ok(Self {
            key: bound(&key)?,
            prefix,
            encoding,
            chunk_count,
            sealed_len,
        })
    }

    /// How the content is encoded.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many chunks there are, at least 1.
    #[must_use]
    pub const fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// Where a chunk lies in the sealed stream. Empty at the end for a chunk that does not exist.
    #[must_use]
    pub fn chunk_range(&self, index: u32) -> Range<u64> {
        let start = (HEADER_LEN as u64 + u64::from(index) * SEALED_CHUNK_LEN).min(self.sealed_len);
        start..(start + SEALED_CHUNK_LEN).min(self.sealed_len)
    }

    /// Opens one chunk, given exactly the bytes of [`Self::chunk_range`]. Padding included; see
    /// [`Self::content_len`].
    ///
    /// # Errors
    /// [`Error::Authentication`] if the chunk was altered, moved, or is not what ends the stream.
    pub fn open_chunk(&self, index: u32, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let range = self.chunk_range(index);
        if index >= self.chunk_count || sealed.len() as u64 != range.end - range.start {
            return Err(malformed("a chunk has a wrong length"));
        }
        let last = index + 1 == self.chunk_count;
        let mut body = Zeroizing::new(sealed.to_vec());
        let length = self
            .key
            .open_in_place(
                chunk_nonce(self.prefix, index, last),
                Aad::empty(),
                &mut body,
            )
            .map_err(|_| Error::Authentication { what: WHAT })?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Length of the content in bytes, read from the opened last chunk.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the padding is not what a [`Sealer`] writes.
    pub fn content_len(&self, last_chunk: &[u8]) -> Result<u64, Error> {
        let trailer = last_chunk
            .last_chunk::<8>()
            .ok_or(malformed("its last chunk is too short"))?;
        let content_len = u64::from_le_bytes(*trailer);
        // Checked before computing with it: an authentic stream is never longer than its file.
        if content_len > self.sealed_len || sealed_len(content_len) != self.sealed_len {
            return Err(malformed("its length and its padding disagree"));
        }
        Ok(content_len)
    }
}

/// Seals content that is in memory.
///
/// # Errors
/// As [`Sealer`].
pub fn seal(
    content_key: &Secret32,
    encoding: Encoding,
    content: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    let capacity = usize::try_from(sealed_len(content.len() as u64)).unwrap_or_default();
    let mut out = Vec::with_capacity(capacity);
    let mut sealer = Sealer::new(content_key, encoding, rng, &mut out)?;
    sealer.push(content, &mut out)?;
    sealer.finish(&mut out)?;
    Ok(out)
}

/// Opens a stream that is in memory: its encoding and (encoded) content.
///
/// # Errors
/// As [`Opener`].
pub fn open(
    content_key: &Secret32,
    sealed: &[u8],
) -> Result<(Encoding, Zeroizing<Vec<u8>>), Error> {
    let opener = Opener::new(content_key, sealed, sealed.len() as u64)?;
    let mut content = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let mut content_len = 0;
    for index in 0..opener.chunk_count() {
        let range = opener.chunk_range(index);
        let bytes = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| sealed.get(start..end))
            .ok_or(malformed("it is cut off"))?;
        let chunk = opener.open_chunk(index, bytes)?;
        if index + 1 == opener.chunk_count() {
            content_len = opener.content_len(&chunk)?;
        }
        content.extend_from_slice(&chunk);
    }
    content.truncate(usize::try_from(content_len).map_err(|_| malformed("it is too long"))?);
    Ok((opener.encoding(), content))
}

fn padded_len(content_len: u64) -> u64 {
    padme(content_len.saturating_add(TRAILER_LEN)).max(PADDED_MIN)
}

fn stream_key(content_key: &Secret32, salt: &[u8], bound_header: &[u8]) -> (Secret32, [u8; 32]) {
    derive_pair(
        content_key.expose(),
        salt,
        "stele/stream/v1",
        &[bound_header],
    )
}

fn chunk_nonce(prefix: [u8; 7], index: u32, last: bool) -> Nonce {
    let [a, b, c, d, e, f, g] = prefix;
    let [i, j, k, l] = index.to_be_bytes();
    let bytes: [u8; NONCE_LEN] = [a, b, c, d, e, f, g, i, j, k, l, u8::from(last)];
    Nonce::assume_unique_for_key(bytes)
}

const fn malformed(problem: &'static str) -> Error {
    Error::Malformed {
        what: WHAT,
        problem,
    }
}

#[cfg(test)]
mod tests;
