//! Those who give a snapshot: the other members, over the questions that members ask each other.

use std::sync::Arc;

use alloy_primitives::Bytes;
use stele_core::id::OrganizationId;
use stele_service::{
    Result, Service,
    ports::{BoxFuture, FinalBlocks},
};

use crate::node::peers::Gateways;

/// Whoever gives snapshots. Nothing that comes is checked here.
pub(super) trait Givers: Send + Sync {
    /// Who can be asked now.
    fn members(&self) -> Vec<OrganizationId>;

    /// What proves a block whose state this member gives.
    fn offer(&self, of: OrganizationId) -> BoxFuture<'_, Result<Option<Bytes>>>;

    /// Parts of the state after the block at a height; none if it is not kept.
    fn state(
        &self,
        of: OrganizationId,
        height: u64,
        wants: Bytes,
    ) -> BoxFuture<'_, Result<Vec<Bytes>>>;

    /// Final blocks.
    fn blocks(&self, of: OrganizationId, from: u64) -> BoxFuture<'_, Result<Option<FinalBlocks>>>;

    /// Receipts of final blocks.
    fn receipts(&self, of: OrganizationId, from: u64, to: u64)
    -> BoxFuture<'_, Result<Vec<Bytes>>>;

    /// Told how far it is: bytes of the state, and blocks.
    fn progress(&self, bytes: u64, blocks: u64);

    /// Told that something was not proven.
    fn refused(&self);
}

/// The other members.
pub(super) struct Others {
    service: Arc<Service>,
    gateways: Arc<Gateways>,
}

impl Others {
    pub(super) const fn new(service: Arc<Service>, gateways: Arc<Gateways>) -> Self {
        Self { service, gateways }
    }
}

impl Givers for Others {
    fn members(&self) -> Vec<OrganizationId> {
        self.gateways.organizations()
    }

    fn offer(&self, of: OrganizationId) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(self.service.fetch_snapshot(of))
    }

    fn state(
        &self,
        of: OrganizationId,
        height: u64,
        wants: Bytes,
    ) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move { self.service.fetch_state(of, height, &wants).await })
    }

    fn blocks(&self, of: OrganizationId, from: u64) -> BoxFuture<'_, Result<Option<FinalBlocks>>> {
        Box::pin(async move {
            let found = self.service.fetch_blocks(of, from).await?;
            Ok(found.filter(|found| !found.blocks.is_empty()))
        })
    }

    fn receipts(
        &self,
        of: OrganizationId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(self.service.fetch_receipts(of, from, to))
    }

    fn progress(&self, bytes: u64, blocks: u64) {
        self.service.metrics().snapshot(bytes, blocks);
    }

    fn refused(&self) {
        self.service.metrics().wrong_snapshot();
    }
}
