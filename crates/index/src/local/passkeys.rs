//! Passkeys that people sign in with.

use alloy_primitives::Address;
use rusqlite::{OptionalExtension as _, params};

use super::LocalStore;
use crate::error::{Attempt as _, Result};

impl LocalStore {
    /// Keeps a passkey. False if the credential id is taken: an authenticator never gives one twice.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn add_passkey(
        &self,
        credential: &[u8],
        account: Address,
        document: &[u8],
    ) -> Result<bool> {
        self.write(
            "keeping a passkey",
            "INSERT OR IGNORE INTO passkeys (credential, account, document) VALUES (?1, ?2, ?3)",
            params![credential, account.as_slice(), document],
        )
        .map(|written| written == 1)
    }

    /// Replaces what is known of a passkey.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn update_passkey(&self, credential: &[u8], document: &[u8]) -> Result<()> {
        self.write(
            "noting the use of a passkey",
            "UPDATE passkeys SET document = ?2 WHERE credential = ?1",
            params![credential, document],
        )
        .map(drop)
    }

    /// Whose a passkey is, and what is known of it.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn passkey(&self, credential: &[u8]) -> Result<Option<(Address, Vec<u8>)>> {
        const WHAT: &str = "reading a passkey";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT account, document FROM passkeys WHERE credential = ?1")
            .attempt(WHAT)?;
        statement
            .query_row([credential], |row| {
                Ok((crate::query::address(row, 0)?, row.get(1)?))
            })
            .optional()
            .attempt(WHAT)
    }

    /// An account's passkeys: credential ids and documents.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn passkeys_of(&self, account: Address) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        const WHAT: &str = "listing an account's passkeys";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT credential, document FROM passkeys WHERE account = ?1 ORDER BY credential",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map([account.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Forgets a passkey of an account. True if there was one.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn remove_passkey(&self, credential: &[u8], account: Address) -> Result<bool> {
        self.write(
            "forgetting a passkey",
            "DELETE FROM passkeys WHERE credential = ?1 AND account = ?2",
            params![credential, account.as_slice()],
        )
        .map(|gone| gone == 1)
    }
}
