//! Ciphertext of other members, by CID and block by block; whoever gives it, every block is held against its address.

use cid::Cid;
use stele_core::id::OrganizationId;
use stele_vault::cid::{DAG_PB, links, verify};

use super::away;
use crate::{
    Service,
    error::{Error, Result},
    ports::PeerError,
};

/// Why a member gave no ciphertext.
enum NotFetched {
    /// It did not answer, and may have it.
    Away(Error),
    /// It answered, and does not give it, or something else.
    NotGiven(Error),
    /// This node failed.
    Failed(Error),
}

impl Service {
    /// Fetches a ciphertext that is not here from the first of some members that gives it. False if it was here.
    ///
    /// # Errors
    /// [`Error::Member`] if none of them gives it now; [`Error::NotPermitted`] if none does although all answered; the
    /// vault fails.
    pub(super) async fn fetch_ciphertext(&self, from: &[OrganizationId], cid: Cid) -> Result<bool> {
        const WHAT: &str = "looking for a ciphertext";
        let is_here = self.vault.store().has_block(&cid);
        if is_here.map_err(Error::vault(WHAT))? {
            return Ok(false);
        }
        self.fetch_anew(from, cid).await.map(|()| true)
    }

    /// As [`Self::fetch_ciphertext`], in place of what is here.
    pub(super) async fn fetch_anew(&self, from: &[OrganizationId], cid: Cid) -> Result<()> {
        let mut away = None;
        let mut not_given = None;
        for member in from {
            match self.fetch_from(*member, cid).await {
                Ok(()) => return Ok(()),
                Err(NotFetched::Away(error)) => away = Some(error),
                Err(NotFetched::NotGiven(error)) => not_given = Some(error),
                Err(NotFetched::Failed(error)) => return Err(error),
            }
        }
        if let Some(away) = away {
            return Err(away);
        }
        let said = not_given.map_or_else(String::new, |error| format!(": {error}"));
        Err(Error::NotPermitted {
            message: format!("no other member gives the ciphertext {cid}{said}"),
        })
    }

    async fn fetch_from(
        &self,
        member: OrganizationId,
        cid: Cid,
    ) -> std::result::Result<(), NotFetched> {
        let failed = |error| NotFetched::Failed(Error::vault("fetching a ciphertext")(error));
        let mut writer = self.vault.store().object_writer();
        let mut wanted = vec![cid];
        while let Some(next) = wanted.pop() {
            let block = self.block_of(member, next).await?;
            if next.codec() == DAG_PB {
                wanted.extend(links(&block).map_err(failed)?.into_iter().rev());
            } else {
                writer.push(&block).await.map_err(failed)?;
            }
        }
        match writer.finish_fetched(&cid).await {
            // Blocks that are each what their address says may still be of no file that this vault would have made.
            Err(stele_vault::Error::Mismatch { .. }) => Err(other_bytes(member, cid)),
            done => done.map_err(failed),
        }
    }

    /// One block of a member, verified.
    pub(super) async fn fetch_block(&self, of: OrganizationId, cid: Cid) -> Result<bytes::Bytes> {
        self.block_of(of, cid).await.map_err(|error| match error {
            NotFetched::Away(error) | NotFetched::NotGiven(error) | NotFetched::Failed(error) => {
                error
            }
        })
    }

    async fn block_of(
        &self,
        of: OrganizationId,
        cid: Cid,
    ) -> std::result::Result<bytes::Bytes, NotFetched> {
        let asked = match self.peers.get() {
            Some(peers) => peers.block(of, cid).await,
            None => Err(PeerError::Unknown),
        };
        let block = asked.map_err(|error| match error {
            PeerError::Refused { .. } => NotFetched::NotGiven(away(of, &error)),
            _ => NotFetched::Away(away(of, &error)),
        })?;
        verify(&cid, &block).map_err(|_| other_bytes(of, cid))?;
        Ok(block.into())
    }
}

fn other_bytes(of: OrganizationId, cid: Cid) -> NotFetched {
    NotFetched::NotGiven(Error::Member {
        message: format!("organisation {of} gave other bytes than CID {cid} names"),
    })
}
