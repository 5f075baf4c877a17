//! The first start after a backup was put in place: what was written since is taken back from the other members.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use stele_core::time::{Clock as _, SystemClock};
use stele_service::Service;

use crate::config::Config;

/// Its presence in a data folder says that the folder was made from a backup.
const FILE: &str = "restored";

/// Notes in a data folder that it was made from a backup.
pub(crate) fn note(data: &Path) -> Result<()> {
    let path = data.join(FILE);
    fs::write(&path, "").with_context(|| format!("writing {}", path.display()))
}

/// Takes back what is lacking, if the folder was made from a backup. To be called before anything is served: a version
/// that is on the ledger must not be written a second time.
pub(super) async fn take_back(config: &Config, service: &Arc<Service>) -> Result<()> {
    let path = config.data.join(FILE);
    if !path.exists() {
        return Ok(());
    }
    let remove = || fs::remove_file(&path).with_context(|| format!("removing {}", path.display()));
    if config.network.is_none() {
        // Where there is nobody else the ledger is as old as the backup.
        return remove();
    }
    tracing::info!("this folder was made from a backup: taking back what was written since");
    // What is lacking here of others' shares is asked for in the background; a crash from here on forgets none of it.
    service
        .ask_again()
        .await
        .context("noting whom to ask what they dealt and erased")?;
    let began = SystemClock.now();
    let done = service
        .recover()
        .await
        .context("taking back from other members what was written after the backup")?;
    tracing::info!(
        versions = done.versions,
        keys = done.keys,
        erased = done.erased,
        receipts_lost = done.receipts_lost,
        missing = done.missing,
        took_ms = SystemClock.now().0.saturating_sub(began.0),
        "what was written after the backup is back"
    );
    if done.missing > 0 {
        tracing::error!(
            missing = done.missing,
            "record versions on the ledger are given by no member that answers; the next start asks again"
        );
        return Ok(());
    }
    remove()
}
