//! Ending well, so that damage done while the node is stopped costs only the records it lies in.
//!
//! The database's journal is one chain of batches: one bad byte in it and none of its batches can be told good from bad.
//! In the tables every blob has a checksum of its own. A clean end therefore moves everything from the journal to the
//! tables and leaves a note; the next opening empties the journal that the note says nothing needs any more.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::mpsc::channel,
    time::Duration,
};

use super::Tables;
use crate::error::{Error, Result};

/// Moves what only the journal holds to the tables, and notes that it did. To be called when nothing writes any more.
pub(super) fn settle(tables: &Tables, folder: &Path) -> Result<()> {
    let (sender, done) = channel();
    let tables = tables.clone();
    // On a thread that may stay behind: the database waits without end for a table that a full disk refuses.
    std::thread::Builder::new()
        .name("vault-settle".into())
        .spawn(move || {
            let settled = tables.0.iter().try_for_each(|table| {
                table
                    .rotate_memtable_and_wait()
                    .map_err(Error::database("moving the journal to the tables"))
            });
            drop(sender.send(settled));
        })
        .map_err(Error::io("starting a thread for", folder))?;
    if let Ok(settled) = done.recv_timeout(PATIENCE) {
        settled?;
        let note = note(folder);
        File::create(&note)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("writing", &note))?;
        sync(folder)?;
    } else {
        tracing::warn!(
            "the vault's journal could not be moved to the tables; the next start reads it"
        );
    }
    Ok(())
}

/// Empties a journal that a clean end left behind without need. To be called before the database is opened.
pub(super) fn drop_settled_journal(folder: &Path) -> Result<()> {
    let note = note(folder);
    if !note.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(Error::io("listing", folder))? {
        let path = entry.map_err(Error::io("listing", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(0).and_then(|()| file.sync_all()))
                .map_err(Error::io("emptying", &path))?;
        }
    }
    fs::remove_file(&note).map_err(Error::io("removing", &note))?;
    // The note must be gone for good before the journal has anything to say again.
    sync(folder)
}

fn note(folder: &Path) -> PathBuf {
    folder.join("settled")
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("syncing", folder))
}

/// Writing the buffered tables of a vault takes well under a second; a disk that needs longer is full or failing.
const PATIENCE: Duration = Duration::from_secs(20);
