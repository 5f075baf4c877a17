//! Room for what must go on when the disk is full.
//!
//! A read leaves a receipt and blocks follow one another, so a node that can't write a byte can't even be read. Some of
//! the disk is therefore kept in a file that nothing else uses. Once other programs have filled the rest, the node gives
//! that file back: receipts, blocks, revocations and erasures go on, while new records stay refused (`reserve_bytes`)
//! until there is room for the file again.
//!
//! It is given back at the very end, when whoever filled the disk has been told that it is full: earlier, that program
//! would only take the file's room too.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The spare file of one data folder.
pub(crate) struct Spare {
    folder: PathBuf,
    file: PathBuf,
    /// Free bytes below which the vault takes no new record.
    reserve_bytes: u64,
}

/// What a look at the disk led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The file stands.
    Kept,
    /// The file is given back, or there was never room for it.
    Low,
}

impl Spare {
    /// Looks at the disk before anything is opened: a node that stopped because the disk was full finds room to start.
    pub(crate) fn new(data: &Path, reserve_bytes: u64) -> Self {
        let spare = Self {
            folder: data.to_owned(),
            file: data.join(NAME),
            reserve_bytes,
        };
        spare.look();
        spare
    }

    /// Gives the file back when next to nothing is free, and makes it anew once reserve and file fit.
    pub(crate) fn look(&self) -> Room {
        match statvfs(&self.folder) {
            Ok(found) => self.judge(found.f_bavail.saturating_mul(found.f_frsize)),
            // A file system that does not answer is left alone: the write itself will tell.
            Err(_) if self.file.exists() => Room::Kept,
            Err(_) => Room::Low,
        }
    }

    fn judge(&self, free_bytes: u64) -> Room {
        if self.file.exists() {
            if free_bytes >= LOW_BYTES {
                return Room::Kept;
            }
            match std::fs::remove_file(&self.file) {
                Ok(()) => tracing::warn!(
                    free_bytes,
                    "the disk is full: new records are refused, the spare file is given back for the rest"
                ),
                Err(error) => tracing::error!(%error, "the spare file could not be given back"),
            }
            return Room::Low;
        }
        if self.size_bytes() < LOW_BYTES
            || free_bytes < self.reserve_bytes.saturating_add(self.size_bytes())
        {
            return Room::Low;
        }
        match self.fill() {
            Ok(()) => Room::Kept,
            Err(error) => {
                tracing::warn!(%error, "no spare file could be made");
                // A part of one would take room and give nothing.
                drop(std::fs::remove_file(&self.file));
                Room::Low
            }
        }
    }

    /// Looks again and again, until it is aborted.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut every = tokio::time::interval(PAUSE);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let spare = Arc::clone(&self);
            // Making the file may take long on file systems that can't reserve blocks.
            if tokio::task::spawn_blocking(move || spare.look())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    const fn size_bytes(&self) -> u64 {
        self.reserve_bytes / 2
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = File::create(&self.file)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.size_bytes()) {
            Ok(()) => {}
            // Not every file system can reserve blocks without writing them.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(
                    &mut io::Read::take(io::repeat(0xa5), self.size_bytes()),
                    &mut file,
                )?;
            }
            Err(error) => return Err(error.into()),
        }
        file.flush()?;
        file.sync_all()
    }
}

/// Name of the file in the data folder; a backup leaves it out.
pub(crate) const NAME: &str = "spare";
/// Free bytes below which the disk counts as full: a few blocks and receipts until the next look.
const LOW_BYTES: u64 = 1 << 20;
/// Heartbeats and receipts of this long fit into what counts as full.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_kept_while_there_is_room_and_given_back_when_not() {
        const MIB: u64 = 1 << 20;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(NAME);
        let spare = Spare {
            folder: folder.path().to_owned(),
            file: file.clone(),
            reserve_bytes: 4 * MIB,
        };
        assert_eq!(
            spare.judge(6 * MIB - 1),
            Room::Low,
            "reserve and file must fit"
        );
        assert!(!file.exists());
        assert_eq!(spare.judge(6 * MIB), Room::Kept);
        let length = std::fs::metadata(&file).expect("the file").len();
        assert_eq!(length, 2 * MIB, "half the reserve");
        assert_eq!(
            spare.judge(MIB),
            Room::Kept,
            "nobody was told yet that the disk is full"
        );
        assert_eq!(spare.judge(MIB - 1), Room::Low);
        assert!(!file.exists());
        assert_eq!(
            spare.judge(3 * MIB),
            Room::Low,
            "its own room is not enough to make it anew"
        );
        assert_eq!(spare.judge(7 * MIB), Room::Kept);
    }

    #[test]
    fn without_a_reserve_there_is_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Spare::new(folder.path(), 0).look(), Room::Low);
        assert!(!folder.path().join(NAME).exists());
    }
}
