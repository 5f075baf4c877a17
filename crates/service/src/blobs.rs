//! Ciphertext by content address, for the IPFS trustless gateway: whoever has a CID may have the bytes, which
//! open for nobody without key and pepper.

use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use futures::{Stream, StreamExt as _};
use stele_vault::ipfs::{Scope, car};

use crate::{
    Service,
    error::{Error, Result},
};

impl Service {
    /// One block, verified against its address. `None` if it is not here.
    ///
    /// # Errors
    /// The block is damaged, or the store fails.
    pub async fn blob(&self, cid: &Cid) -> Result<Option<Bytes>> {
        self.vault
            .store()
            .block(cid)
            .await
            .map_err(Error::vault("reading a block"))
    }

    /// Whether a block is here.
    ///
    /// # Errors
    /// The store fails.
    pub fn has_blob(&self, cid: &Cid) -> Result<bool> {
        self.vault
            .store()
            .has_block(cid)
            .map_err(Error::vault("looking for a block"))
    }

    /// A CAR (version 1, depth first) with the block and, unless `block_only`, everything below it. Blocks are
    /// read as the receiver takes them.
    pub fn car(
        self: &Arc<Self>,
        root: Cid,
        block_only: bool,
    ) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let scope = if block_only { Scope::Block } else { Scope::All };
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let mut frames = std::pin::pin!(car(service.vault.store(), root, scope));
            while let Some(frame) = frames.next().await {
                if sender
                    .send(frame.map_err(Error::vault("writing a CAR")))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        })
    }
}
