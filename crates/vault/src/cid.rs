//! Content addresses: importing bytes as UnixFS the way IPFS does.
//!
//! Profile `unixfs-v0-2015` with CIDv1 and raw leaves: chunks of 256 KiB, balanced tree of at most
//! 174 links a node, SHA-256. `ipfs add --cid-version=1` and the JavaScript importer give the same
//! CID for the same bytes. The importer never holds more than one chunk and one link a leaf.

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use cid::Cid;
use multihash::Multihash;

use crate::{
    codec::{put_varint, take_varint},
    error::{Error, Result},
};

/// Bytes of every leaf but the last.
pub const LEAF_LEN: usize = 262_144;
/// Links of a full node.
const WIDTH: usize = 174;
/// Multicodec `raw`: a leaf.
pub const RAW: u64 = 0x55;
/// Multicodec `dag-pb`: a node with links.
pub const DAG_PB: u64 = 0x70;
/// Multihash code `sha2-256`.
const SHA2_256: u64 = 0x12;

/// A SHA-256 digest, what blobs are stored under.
pub type Digest = [u8; 32];

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// CIDv1 of a codec and a SHA-256 digest.
///
/// # Errors
/// Never for 32 bytes; the multihash library takes up to 64.
pub fn cid_of(codec: u64, digest: &Digest) -> Result<Cid> {
    Multihash::wrap(SHA2_256, digest)
        .map(|hash| Cid::new_v1(codec, hash))
        .map_err(|_| Error::Malformed {
            what: "a digest",
            problem: "it is no multihash",
        })
}

/// The SHA-256 digest inside a CID.
///
/// # Errors
/// [`Error::Malformed`] for any other hash function: nothing is stored under one.
pub fn digest_of(cid: &Cid) -> Result<Digest> {
    let hash = cid.hash();
    if hash.code() != SHA2_256 {
        return Err(Error::Malformed {
            what: "a CID",
            problem: "its hash is not SHA-256",
        });
    }
    Digest::try_from(hash.digest()).map_err(|_| Error::Malformed {
        what: "a CID",
        problem: "its digest is not 32 bytes",
    })
}

/// Checks bytes against the digest of a CID.
///
/// # Errors
/// [`Error::Mismatch`] if they are not what the CID says.
pub fn verify(cid: &Cid, bytes: &[u8]) -> Result<()> {
    if sha256(bytes) == digest_of(cid)? {
        Ok(())
    } else {
        Err(Error::Mismatch { cid: *cid })
    }
}

/// An inner node made by an import, to be stored under its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// dag-pb encoding.
    pub bytes: Bytes,
}

/// What an import gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// CID of the whole.
    pub cid: Cid,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digests of the leaves, in order; one for anything up to 256 KiB.
    pub leaves: Vec<Digest>,
    /// Inner nodes, children before parents; none for one leaf.
    pub nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Link {
    codec: u64,
    digest: Digest,
    /// Bytes of the node and all below it.
    total_len: u64,
    /// Bytes of file content below it.
    file_len: u64,
}

/// Imports bytes as they come.
pub struct Importer {
    leaf: Context,
    leaf_len: usize,
    leaves: Vec<(Digest, u64)>,
}

impl Default for Importer {
    fn default() -> Self {
        Self {
            leaf: Context::new(&SHA256),
            leaf_len: 0,
            leaves: Vec::new(),
        }
    }
}

impl Importer {
    /// Takes more bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.leaf_len == LEAF_LEN {
                self.end_leaf();
            }
            let (now, later) = bytes.split_at(bytes.len().min(LEAF_LEN - self.leaf_len));
            self.leaf.update(now);
            self.leaf_len += now.len();
            bytes = later;
        }
    }

    /// Ends the import.
    ///
    /// # Errors
    /// Never in practice; see [`cid_of`].
    pub fn finish(mut self) -> Result<Imported> {
        if self.leaf_len > 0 || self.leaves.is_empty() {
            self.end_leaf();
        }
        let size_bytes = self.leaves.iter().map(|(_, length)| length).sum();
        let mut level: Vec<Link> = self
            .leaves
            .iter()
            .map(|&(digest, length)| Link {
                codec: RAW,
                digest,
                total_len: length,
                file_len: length,
            })
            .collect();
        let mut nodes = Vec::new();
        while level.len() > 1 {
            level = level
                .chunks(WIDTH)
                .map(|links| {
                    let (node, link) = encode_node(links)?;
                    nodes.push(node);
                    Ok(link)
                })
                .collect::<Result<_>>()?;
        }
        let root = level.first().ok_or(Error::Malformed {
            what: "an import",
            problem: "it has no root",
        })?;
        Ok(Imported {
            cid: cid_of(root.codec, &root.digest)?,
            size_bytes,
            leaves: self.leaves.into_iter().map(|(digest, _)| digest).collect(),
            nodes,
        })
    }

    fn end_leaf(&mut self) {
        let context = std::mem::replace(&mut self.leaf, Context::new(&SHA256));
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        self.leaves.push((digest, self.leaf_len as u64));
        self.leaf_len = 0;
    }
}

/// CID of bytes in memory. Anything up to 256 KiB is one raw leaf.
///
/// # Errors
/// As [`Importer::finish`].
pub fn import(bytes: &[u8]) -> Result<Imported> {
    let mut importer = Importer::default();
    importer.push(bytes);
    importer.finish()
}

/// Links of a dag-pb node, in order (dag-pb specification; field 2, its field 1).
///
/// # Errors
/// [`Error::Malformed`] if the bytes are no dag-pb.
pub fn links(node: &[u8]) -> Result<Vec<Cid>> {
    let malformed = Error::Malformed {
        what: "a dag-pb node",
        problem: "it is not protobuf",
    };
    fields(node)
        .and_then(|found| {
            found
                .into_iter()
                .filter(|(number, _)| *number == 2)
                .map(|(_, link)| {
                    let (_, hash) = fields(link)?.into_iter().find(|(n, _)| *n == 1)?;
                    Cid::try_from(hash).ok()
                })
                .collect()
        })
        .ok_or(malformed)
}

/// dag-pb: links first, then the UnixFS file message (type 2, size 3, block sizes 4).
fn encode_node(links: &[Link]) -> Result<(Node, Link)> {
    let file_len = links.iter().map(|link| link.file_len).sum();
    let mut out = Vec::with_capacity(links.len() * 56 + 16);
    let mut unixfs = vec![0x08, 2, 0x18];
    put_varint(&mut unixfs, file_len);
    for link in links {
        let mut message = Vec::with_capacity(48);
        put_field(
            &mut message,
            0x0a,
            &cid_of(link.codec, &link.digest)?.to_bytes(),
        );
        put_field(&mut message, 0x12, b"");
        message.push(0x18);
        put_varint(&mut message, link.total_len);
        put_field(&mut out, 0x12, &message);
        unixfs.push(0x20);
        put_varint(&mut unixfs, link.file_len);
    }
    put_field(&mut out, 0x0a, &unixfs);
    let below: u64 = links.iter().map(|link| link.total_len).sum();
    let digest = sha256(&out);
    let link = Link {
        codec: DAG_PB,
        digest,
        total_len: below + out.len() as u64,
        file_len,
    };
    Ok((
        Node {
            digest,
            bytes: out.into(),
        },
        link,
    ))
}

fn put_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Length-delimited fields of a protobuf message, with their numbers; varints are passed over.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut out = Vec::new();
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match tag & 7 {
            0 => {
                take_varint(&mut message)?;
            }
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                let (field, rest) = message.split_at_checked(length)?;
                out.push((tag >> 3, field));
                message = rest;
            }
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
