//! What a trustless IPFS gateway serves: blocks and CAR files, as bytes. The HTTP face is elsewhere.
//!
//! CAR version 1 (`ipld.io/specs/transport/car/carv1`): a header, then every block once, in
//! depth-first order. The receiver checks each block against its CID, so nothing here needs trust.

use std::collections::BTreeSet;

use bytes::Bytes;
use cid::Cid;
use futures::{Stream, stream};

use crate::{
    cid::{DAG_PB, links},
    codec::put_varint,
    error::{Error, Result},
    store::Store,
};

/// How much of a graph to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The root block alone (`dag-scope=block`).
    Block,
    /// Everything below it too.
    All,
}

/// The frames of a CAR file with one root, one block after another, never all in memory.
///
/// # Errors
/// The first item is an error if the root is not here; a later one if a block is missing or does
/// not match, after which the stream ends.
pub fn car(store: &Store, root: Cid, scope: Scope) -> impl Stream<Item = Result<Bytes>> + Send {
    struct Walk {
        to_send: Vec<Cid>,
        sent: BTreeSet<Cid>,
        header: Option<Vec<u8>>,
    }
    let walk = Walk {
        to_send: vec![root],
        sent: BTreeSet::new(),
        header: Some(car_header(&root)),
    };
    stream::try_unfold(walk, move |mut walk| async move {
        let next = loop {
            match walk.to_send.pop() {
                None => return Ok(None),
                Some(cid) if walk.sent.insert(cid) => break cid,
                Some(_) => {}
            }
        };
        let block = store
            .block(&next)
            .await?
            .ok_or(Error::MissingBlob { cid: next })?;
        if scope == Scope::All && next.codec() == DAG_PB {
            walk.to_send.extend(links(&block)?.into_iter().rev());
        }
        let mut frame = walk.header.take().unwrap_or_default();
        let cid = next.to_bytes();
        put_varint(&mut frame, (cid.len() + block.len()) as u64);
        frame.extend_from_slice(&cid);
        frame.extend_from_slice(&block);
        Ok(Some((Bytes::from(frame), walk)))
    })
}

/// DAG-CBOR of `{"roots": [cid], "version": 1}` after its length.
fn car_header(root: &Cid) -> Vec<u8> {
    let cid = root.to_bytes();
    let mut header = b"\xa2\x65roots\x81\xd8\x2a\x58".to_vec();
    // The identity multibase prefix of a CID in CBOR counts; a CIDv1 with SHA-256 has 36 bytes.
    header.push(u8::try_from(cid.len() + 1).unwrap_or(u8::MAX));
    header.push(0);
    header.extend_from_slice(&cid);
    header.extend_from_slice(b"\x67version\x01");
    let mut out = Vec::with_capacity(header.len() + 1);
    put_varint(&mut out, header.len() as u64);
    out.extend_from_slice(&header);
    out
}
