//! How many members keep a copy of each record, and how copies are looked after.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Copies of records among the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReplicasConfig {
    /// Copies of each record in all, that of the member which wrote it among them: 1 to 50, the same at every member. With
    /// fewer members each has one.
    pub(crate) copies: u8,
    /// Ciphertexts that are fetched side by side: 1 to 64.
    pub(crate) requests: u8,
    /// Seconds between two checks of a sample of what is held: 1 to 86400.
    pub(crate) check_s: u64,
    /// Ciphertexts in a sample: 1 to 10000 of other members' records, and as many of those kept or read here.
    pub(crate) sample: u16,
}

impl Default for ReplicasConfig {
    fn default() -> Self {
        Self {
            copies: 3,
            requests: 4,
            check_s: 60,
            sample: 64,
        }
    }
}

impl ReplicasConfig {
    pub(super) fn check(self) -> Result<()> {
        let within = |name: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            bail!("network.replicas.{name} = {value}: must be 1 to {most}")
        };
        within("copies", self.copies.into(), 50)?;
        within("requests", self.requests.into(), 64)?;
        within("check_s", self.check_s, 86_400)?;
        within("sample", self.sample.into(), 10_000)
    }
}
