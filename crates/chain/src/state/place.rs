//! Which folder holds the store in use: the one that was made with the chain, or the one that a snapshot of another
//! member's state was written to. A file names the second from the moment it is complete; before, and without that
//! file, whatever is in it is a beginning.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use super::Error;

/// The folders of one chain.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    /// Whether the store that came in is the one in use.
    came_in: bool,
}

impl Place {
    /// Looks which store is in use.
    ///
    /// # Errors
    /// [`Error::Store`] on failed I/O, [`Error::Damaged`] if the file names something else.
    pub(crate) fn of(folder: &Path) -> Result<Self, Error> {
        let came_in = match fs::read(folder.join(POINTER)) {
            Ok(text) if text == POINTS_TO_SNAPSHOT => true,
            Ok(_) => {
                return Err(Error::damaged(
                    0,
                    "the file that names the store is another",
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            came_in,
        })
    }

    /// The folder of the store in use.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder
            .join(if self.came_in { SNAPSHOT } else { STORE })
    }

    /// The folder for what comes in.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.folder.join(SNAPSHOT)
    }

    /// Removes what came in, and is not in use.
    ///
    /// # Errors
    /// [`Error::Store`] on failed I/O.
    pub(crate) fn discard_snapshot(&self) -> Result<(), Error> {
        if self.came_in {
            return Err(Error::Invariant("the store in use was to be discarded"));
        }
        match fs::remove_dir_all(self.snapshot()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Names the store that came in as the one in use, from the next start on: durable when this returns.
    ///
    /// # Errors
    /// [`Error::Store`] on failed I/O; the other one is then still in use.
    pub(crate) fn turn_to_snapshot(&self) -> Result<(), Error> {
        // Written beside and renamed: whoever finds the file finds all of it.
        let part = self.folder.join("CURRENT.part");
        let written = File::create(&part)
            .and_then(|mut file| {
                file.write_all(POINTS_TO_SNAPSHOT)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&part, self.folder.join(POINTER)))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        written.map_err(failed)
    }

    /// Removes the store that is not in use. Left behind it only takes room.
    pub(crate) fn clean_up(&self) {
        let unused = if self.came_in { STORE } else { SNAPSHOT };
        drop(fs::remove_dir_all(self.folder.join(unused)));
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::store("choosing the store", error.into())
}

/// The store that is made with the chain.
const STORE: &str = "store";
/// The store that another member's state was written to.
const SNAPSHOT: &str = "snapshot";
/// The file that names the second.
const POINTER: &str = "CURRENT";
const POINTS_TO_SNAPSHOT: &[u8] = b"snapshot\n";
