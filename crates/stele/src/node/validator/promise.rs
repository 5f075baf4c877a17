//! What a member promised when it signed the end of an epoch by hand: it signs no other document for that epoch, and its
//! validator votes in that epoch no more. Without this the others could make a block final that the document leaves out.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use stele_chain::Chain;
use stele_core::epoch::recovery::Recovery;

/// File in the data folder with the document that was signed last.
const FILE: &str = "recovery-signed.json";

/// The document that this member signed last.
fn read(data: &Path) -> Result<Option<Recovery>> {
    let path = path(data);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let promised = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no recovery", path.display()))?;
    Ok(Some(promised))
}

fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Refuses to start a node that would vote in an epoch whose end it signed.
pub(in crate::node) fn keep(data: &Path, chain: &Chain) -> Result<()> {
    let Some(promised) = read(data)? else {
        return Ok(());
    };
    if promised.epoch < chain.epoch().number() {
        return Ok(());
    }
    bail!(
        "this member signed the end of epoch {} at block {} (document {}) and takes no part in that epoch any more: \
         put the document into force with stele network recover apply, once enough members have signed it",
        promised.epoch,
        promised.height,
        promised.digest()
    );
}

/// Promises, durably, before anything is signed.
pub(crate) fn make(data: &Path, recovery: &Recovery) -> Result<()> {
    if let Some(promised) = read(data)?.filter(|promised| promised.epoch >= recovery.epoch) {
        let (known, given) = (promised.digest(), recovery.digest());
        if known == given {
            return Ok(());
        }
        bail!(
            "this member has signed another document that ends epoch {} at block {}: {known}, where this is {given}. \
             Two of them would make two ledgers",
            promised.epoch,
            promised.height
        );
    }
    let path = path(data);
    let part = path.with_extension("part");
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(recovery)?)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(data)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}
