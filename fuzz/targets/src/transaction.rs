//! Transactions, blocks and certificates as they come from the network or from disk.

use alloy_primitives::keccak256;
use stele_core::{
    block::Block, certificate::CommitCertificate, id::DEFAULT_CHAIN_ID, tx::Transaction,
};

/// Decodes the bytes as a transaction of any type, as a block and as a certificate. What is accepted encodes to bytes
/// that decode to the same, its hash is that of its encoding, and its sender is recovered to the same again.
pub fn transaction(data: &[u8]) {
    if let Ok(found) = Transaction::decode(data) {
        let encoded = found.encode();
        assert_eq!(Transaction::decode(&encoded).as_ref(), Ok(&found));
        assert_eq!(found.hash(), keccak256(&encoded));
        let chain_id = found.chain_id().unwrap_or(DEFAULT_CHAIN_ID);
        if let Ok(recovered) = found.clone().recover(chain_id) {
            assert_eq!(recovered.transaction, found);
            let again = Transaction::decode(&encoded).unwrap().recover(chain_id);
            assert_eq!(again.unwrap().sender, recovered.sender);
            assert!(
                found.chain_id().is_none() || found.recover(chain_id ^ 1).is_err(),
                "a signature for one chain must not count on another"
            );
        }
    }
    if let Ok(block) = Block::decode(data) {
        assert_eq!(Block::decode(&block.encode()).as_ref(), Ok(&block));
    }
    if let Ok(certificate) = CommitCertificate::decode(data) {
        assert_eq!(
            CommitCertificate::decode(&certificate.encode()).as_ref(),
            Ok(&certificate)
        );
    }
}
