//! The key-value engine's folders, opened with care.
//!
//! Fjall believes the files that describe its tables: it asserts what should stand in them and asks for as much memory as
//! they say, so that one flipped bit ends the process, by a panic within a panic or by an allocation that fails. Each of them
//! has a checksum beside it, which is asked here first. What else it asserts ends in an error as well.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_128;

/// Why a folder was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's own error.
    #[error(transparent)]
    Engine(#[from] fjall::Error),
    /// A file that describes a table could not be read.
    #[error("reading {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that describes a table is not what was written.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The engine met what it holds for impossible.
    #[error("its files cannot be parsed")]
    Panicked,
}

/// Opens the database of `folder`, new or not, by `open`.
///
/// # Errors
/// [`Error`].
pub fn open<T>(
    folder: &Path,
    open: impl FnOnce(&Path) -> Result<T, fjall::Error>,
) -> Result<T, Error> {
    check(folder)?;
    let opened = catch_unwind(AssertUnwindSafe(|| open(folder)));
    Ok(opened.map_err(|_| Error::Panicked)??)
}

/// Holds each table's description against its checksum, as lsm-tree 3.1 writes them: `current` has the number of the
/// description, eight bytes, and the XXH3 of `v` followed by that number, sixteen, in little endian.
fn check(folder: &Path) -> Result<(), Error> {
    let tables = match fs::read_dir(folder.join("keyspaces")) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            let path = folder.join("keyspaces");
            return Err(Error::Io { path, source });
        }
    };
    for table in tables {
        let table = table.map_err(|source| Error::Io {
            path: folder.to_owned(),
            source,
        })?;
        check_table(&table.path())?;
    }
    Ok(())
}

fn check_table(folder: &Path) -> Result<(), Error> {
    let path = folder.join("current");
    let current = match fs::read(&path) {
        Ok(current) => current,
        // A table that was not finished; the engine takes it away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Io { path, source }),
    };
    let damaged = |path: PathBuf, problem| Err(Error::Damaged { path, problem });
    let Some((number, rest)) = current.split_first_chunk::<8>() else {
        return damaged(path, "it ends too early");
    };
    let Some((checksum, kind)) = rest.split_first_chunk::<16>() else {
        return damaged(path, "it ends too early");
    };
    if kind != [0] {
        return damaged(path, "its checksum is of an unknown kind");
    }
    let path = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    match fs::read(&path) {
        Ok(description) if xxh3_128(&description) == u128::from_le_bytes(*checksum) => Ok(()),
        Ok(_) => damaged(path, "its checksum is another"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            damaged(path, "it is not there, though its table names it")
        }
        Err(source) => Err(Error::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    fn fill(folder: &Path) -> Result<usize, Error> {
        open(folder, |folder| {
            let database = Database::builder(folder).open()?;
            let table = database.keyspace("table", KeyspaceCreateOptions::default)?;
            table.insert("key", "value")?;
            table.rotate_memtable_and_wait()?;
            table.len()
        })
    }

    #[test]
    fn every_flipped_byte_of_a_description_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fill(folder.path()).unwrap(), 1);
        assert_eq!(fill(folder.path()).unwrap(), 1);
        let mut described = 0;
        for table in fs::read_dir(folder.path().join("keyspaces")).unwrap() {
            let table = table.unwrap().path();
            let current = table.join("current");
            let number: [u8; 8] = fs::read(&current).unwrap()[..8].try_into().unwrap();
            let description = table.join(format!("v{}", u64::from_le_bytes(number)));
            for path in [current, description] {
                let whole = fs::read(&path).unwrap();
                for at in 0..whole.len() {
                    for bit in [0, 7] {
                        let mut flipped = whole.clone();
                        flipped[at] ^= 1 << bit;
                        fs::write(&path, flipped).unwrap();
                        let refused = check(folder.path()).unwrap_err().to_string();
                        assert!(refused.contains("damaged"), "{refused}");
                    }
                }
                fs::write(&path, whole).unwrap();
                described += 1;
            }
        }
        assert!(described >= 2, "a description and its checksum");
        assert_eq!(fill(folder.path()).unwrap(), 1);
    }

    #[test]
    fn what_the_engine_asserts_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let refused: Result<(), Error> = open(folder.path(), |_| panic!("impossible"));
        assert!(matches!(refused, Err(Error::Panicked)));
    }
}
