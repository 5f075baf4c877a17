//! How much room the disk has.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// A folder and the bytes that must stay free on its file system.
pub(super) struct Room {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl Room {
    pub(super) fn new(folder: &Path, reserve_bytes: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            reserve_bytes,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Free bytes, and those that must stay free; nothing where the file system does not answer.
    pub(super) fn left(&self) -> Option<(u64, u64)> {
        let found = rustix::fs::statvfs(&self.folder).ok()?;
        let available_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        Some((available_bytes, self.reserve_bytes))
    }

    /// Whether `bytes` may be written; if not, how many bytes are left.
    ///
    /// A file system that does not answer is taken to have room: the write itself will tell.
    pub(super) fn check(&self, bytes: u64) -> Result<(), u64> {
        let Some((available_bytes, _)) = self.left() else {
            return Ok(());
        };
        if available_bytes < self.reserve_bytes.saturating_add(bytes) {
            return Err(available_bytes);
        }
        Ok(())
    }

    pub(super) fn full(&self, available_bytes: u64) -> Error {
        Error::DiskFull {
            path: self.folder.clone(),
            available_bytes,
            reserve_bytes: self.reserve_bytes,
        }
    }
}
