//! A ledger block as the engine sees it: a digest, a parent, a height and bytes.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, RangeCfg, Read, Write};
use commonware_consensus::{BoundedBlock, Heightable, types::Height};
use commonware_cryptography::{Digestible, sha256};
use commonware_runtime::BufMut;
use stele_core::block::{Block, MAX_BLOCK_BYTES};

/// The engine's container for 32 bytes. What it holds is keccak-256 of the header: the engine
/// never computes a digest, it only compares and signs them.
pub(crate) type Digest = sha256::Digest;

/// A block with the bytes it travels and is stored in.
#[derive(Clone)]
pub(crate) struct EngineBlock {
    block: Arc<Block>,
    digest: Digest,
    encoded: Bytes,
}

impl EngineBlock {
    pub(crate) fn new(block: Block) -> Self {
        let encoded = block.encode().0;
        Self {
            digest: sha256::Digest(block.hash().0),
            block: Arc::new(block),
            encoded,
        }
    }

    pub(crate) const fn block(&self) -> &Arc<Block> {
        &self.block
    }

    pub(crate) const fn encoded_len(&self) -> usize {
        self.encoded.len()
    }
}

/// Equal digests mean equal blocks: the header commits to the body.
impl PartialEq for EngineBlock {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for EngineBlock {}

/// Bodies stay out of logs.
impl fmt::Debug for EngineBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EngineBlock({}, {})",
            self.block.header.number, self.digest
        )
    }
}

impl Write for EngineBlock {
    fn write(&self, buf: &mut impl BufMut) {
        self.encoded.write(buf);
    }
}

impl EncodeSize for EngineBlock {
    fn encode_size(&self) -> usize {
        self.encoded.encode_size()
    }
}

impl Read for EngineBlock {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let encoded = Bytes::read_cfg(buf, &RangeCfg::from(..=MAX_BLOCK_BYTES))?;
        let block = Block::decode(&encoded)
            .map_err(|_| CodecError::Invalid("EngineBlock", "not a ledger block"))?;
        Ok(Self {
            digest: sha256::Digest(block.hash().0),
            block: Arc::new(block),
            encoded,
        })
    }
}

impl Digestible for EngineBlock {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.digest
    }
}

impl Heightable for EngineBlock {
    fn height(&self) -> Height {
        Height::new(self.block.header.number)
    }
}

impl commonware_consensus::Block for EngineBlock {
    fn parent(&self) -> Digest {
        sha256::Digest(self.block.header.parent_hash.0)
    }
}

impl BoundedBlock for EngineBlock {
    fn max_encode_size((): &()) -> usize {
        // Ten bytes are the widest length prefix.
        MAX_BLOCK_BYTES.saturating_add(10)
    }
}

#[cfg(test)]
mod tests {
    use commonware_codec::{DecodeExt as _, Encode as _};
    use proptest::prelude::*;
    use stele_core::block::{Header, transactions_root};

    use super::*;

    fn block(number: u64, transactions: Vec<Vec<u8>>) -> Block {
        let transactions: Vec<_> = transactions.into_iter().map(Into::into).collect();
        let transactions_root = transactions_root(&transactions);
        Block {
            header: Header {
                number,
                transactions_root,
                ..Header::default()
            },
            transactions,
        }
    }

    proptest! {
        #[test]
        fn travels_unchanged(
            number: u64,
            transactions in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9),
        ) {
            let sent = EngineBlock::new(block(number, transactions));
            let received = EngineBlock::decode(sent.encode()).unwrap();
            prop_assert_eq!(received.block(), sent.block());
            prop_assert_eq!(received.digest().0, sent.block().hash().0);
            prop_assert_eq!(received.height().get(), number);
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = EngineBlock::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn refuses_a_body_that_the_header_does_not_commit_to() {
        let mut forged = block(1, vec![vec![1, 2, 3]]);
        forged.transactions[0] = vec![1, 2, 4].into();
        assert!(EngineBlock::decode(EngineBlock::new(forged).encode()).is_err());
    }
}
