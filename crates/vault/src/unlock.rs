//! The vault's master key: made once, kept wrapped, opened by a passphrase or a key file.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use stele_core::crypto::{Secret32, keystore, keystore::Unlock, os_rng};
use zeroize::Zeroizing;

use crate::{
    codec::Reader,
    error::{Error, Result},
    shred::replace_file,
};

const CONTEXT: &[u8] = b"stele/vault/v1";
const KEY_FILE_LEN: usize = 32;

/// Makes a key file: 32 random bytes, readable by its owner only. Never replaces one.
///
/// # Errors
/// [`Error::Io`], also if the file exists.
pub fn create_key_file(path: &Path) -> Result<Unlock> {
    let secret = Secret32::random(&mut os_rng());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("creating the folder", folder))?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("creating", path))?;
    file.write_all(secret.expose())
        .map_err(Error::io("writing", path))?;
    file.sync_all().map_err(Error::io("syncing", path))?;
    Ok(Unlock::KeyFile(secret))
}

/// Reads a key file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] if it is not 32 bytes.
pub fn read_key_file(path: &Path) -> Result<Unlock> {
    let bytes = Zeroizing::new(fs::read(path).map_err(Error::io("reading", path))?);
    let mut reader = Reader::new(&bytes, "a key file");
    let secret = Secret32::new(reader.array::<KEY_FILE_LEN>()?);
    reader.end()?;
    Ok(Unlock::KeyFile(secret))
}

/// Whether a key file lies inside the data folder, where a thief of the one has the other too. The
/// caller warns; paths that cannot be resolved are taken as they are written.
#[must_use]
pub fn is_inside(key_file: &Path, data_folder: &Path) -> bool {
    let resolve = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    resolve(key_file).starts_with(resolve(data_folder))
}

/// Opens the master key in a file, or makes one if there is none.
pub(crate) fn master_key(path: &Path, unlock: &Unlock) -> Result<Secret32> {
    match fs::read(path) {
        Ok(file) => {
            let plain = keystore::unwrap(&file, unlock, CONTEXT)
                .map_err(Error::crypto("opening the vault's master key"))?;
            let mut reader = Reader::new(&plain, "the vault's master key");
            let key = Secret32::new(reader.array()?);
            reader.end()?;
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Secret32::random(&mut os_rng());
            write_master_key(path, &key, unlock)?;
            Ok(key)
        }
        Err(source) => Err(Error::Io {
            attempt: "reading",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Wraps the master key under another passphrase or key file.
pub(crate) fn write_master_key(path: &Path, key: &Secret32, unlock: &Unlock) -> Result<()> {
    let file = keystore::wrap(key.expose(), unlock, CONTEXT, &mut os_rng())
        .map_err(Error::crypto("wrapping the vault's master key"))?;
    replace_file(path, &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/unlock.key");
        let Unlock::KeyFile(made) = create_key_file(&path).unwrap() else {
            panic!("a key file")
        };
        let Unlock::KeyFile(read) = read_key_file(&path).unwrap() else {
            panic!("a key file")
        };
        assert_eq!(made, read);
        assert!(matches!(create_key_file(&path), Err(Error::Io { .. })));
        assert!(is_inside(&path, folder.path()));
        assert!(!is_inside(&path, &folder.path().join("data")));
        fs::write(&path, b"short").unwrap();
        assert!(matches!(read_key_file(&path), Err(Error::Malformed { .. })));
    }

    /// Requirement NFR-SEC2: keys at rest open with their unlocking key only.
    #[test]
    fn the_master_key_opens_with_its_unlocking_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
        let made = master_key(&path, &unlock).unwrap();
        assert_eq!(master_key(&path, &unlock).unwrap(), made);
        let other = Unlock::KeyFile(Secret32::new([2; 32]));
        assert!(matches!(
            master_key(&path, &other),
            Err(Error::Crypto { .. })
        ));
        write_master_key(&path, &made, &other).unwrap();
        assert_eq!(master_key(&path, &other).unwrap(), made);
    }
}
