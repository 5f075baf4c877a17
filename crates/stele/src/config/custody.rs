//! Who shares the peppers of what a member writes.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// How many members share the peppers of what is written here, and how many of them it takes to open a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CustodyConfig {
    /// Custodians, this member among them: 1 to 5. Until there are as many members, this one keeps its peppers alone.
    pub(crate) custodians: u8,
    /// Custodians that have to release: 1 to `custodians`.
    pub(crate) threshold: u8,
    /// Seconds after which this member alone can no longer open what it wrote: 1 to 86400, at most twice that.
    pub(crate) period_s: u64,
}

impl Default for CustodyConfig {
    fn default() -> Self {
        Self {
            custodians: 3,
            threshold: 2,
            period_s: 60,
        }
    }
}

impl CustodyConfig {
    pub(super) fn check(self) -> Result<()> {
        let most = u8::try_from(stele_vault::custody::CUSTODIANS_MAX).unwrap_or(u8::MAX);
        if !(1..=most).contains(&self.custodians) {
            bail!(
                "network.custody.custodians = {}: must be 1 to {most}",
                self.custodians
            );
        }
        if !(1..=self.custodians).contains(&self.threshold) {
            bail!(
                "network.custody.threshold = {}: must be 1 to custodians = {}",
                self.threshold,
                self.custodians
            );
        }
        if !(1..=86_400).contains(&self.period_s) {
            bail!(
                "network.custody.period_s = {}: must be 1 to 86400",
                self.period_s
            );
        }
        Ok(())
    }
}
