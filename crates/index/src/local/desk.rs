//! What the portal's desks keep: requests of doctors to be registered, unsent drafts, acts of administration.

use alloy_primitives::{Address, B256};
use rusqlite::{OptionalExtension as _, params};
use stele_core::time::Timestamp;

use super::{LocalStore, ms};
use crate::error::{Attempt as _, Result};

impl LocalStore {
    /// Keeps a request to be registered until it expires, in place of an earlier state of it. False if another request
    /// has the credential.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_application(
        &self,
        id: &B256,
        organization: Address,
        credential: &[u8],
        document: &[u8],
        expires: Timestamp,
    ) -> Result<bool> {
        self.write(
            "keeping a request to be registered",
            "INSERT INTO applications (id, organization, credential, document, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET document = excluded.document, expires_ms = excluded.expires_ms
             ON CONFLICT (credential) DO NOTHING",
            params![
                id.as_slice(),
                organization.as_slice(),
                credential,
                document,
                ms(expires)
            ],
        )
        .map(|written| written == 1)
    }

    /// A request to be registered that has not expired.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn application(&self, id: &B256, now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading a request to be registered",
            "SELECT document FROM applications WHERE id = ?1 AND expires_ms > ?2",
            params![id.as_slice(), ms(now)],
        )
    }

    /// The request to be registered that was made with a passkey: its id and document.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn application_with(
        &self,
        credential: &[u8],
        now: Timestamp,
    ) -> Result<Option<(B256, Vec<u8>)>> {
        const WHAT: &str = "finding a request to be registered";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT id, document FROM applications WHERE credential = ?1 AND expires_ms > ?2",
            )
            .attempt(WHAT)?;
        statement
            .query_row(params![credential, ms(now)], |row| {
                Ok((B256::from(row.get::<_, [u8; 32]>(0)?), row.get(1)?))
            })
            .optional()
            .attempt(WHAT)
    }

    /// Requests to be registered with an organisation that have not expired: ids and documents.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn applications_of(
        &self,
        organization: Address,
        now: Timestamp,
    ) -> Result<Vec<(B256, Vec<u8>)>> {
        const WHAT: &str = "listing requests to be registered";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT id, document FROM applications WHERE organization = ?1 AND expires_ms > ?2",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![organization.as_slice(), ms(now)], |row| {
                Ok((B256::from(row.get::<_, [u8; 32]>(0)?), row.get(1)?))
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Keeps what somebody is writing until it expires, in place of what was kept before.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_draft(
        &self,
        owner: Address,
        place: &str,
        document: &[u8],
        expires: Timestamp,
    ) -> Result<()> {
        self.write(
            "keeping a draft",
            "REPLACE INTO drafts (owner, place, document, expires_ms) VALUES (?1, ?2, ?3, ?4)",
            params![owner.as_slice(), place, document, ms(expires)],
        )
        .map(drop)
    }

    /// What somebody was writing at a place.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn draft(&self, owner: Address, place: &str, now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading a draft",
            "SELECT document FROM drafts WHERE owner = ?1 AND place = ?2 AND expires_ms > ?3",
            params![owner.as_slice(), place, ms(now)],
        )
    }

    /// All that somebody was writing: places and documents.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn drafts_of(&self, owner: Address, now: Timestamp) -> Result<Vec<(String, Vec<u8>)>> {
        const WHAT: &str = "listing drafts";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT place, document FROM drafts WHERE owner = ?1 AND expires_ms > ?2 ORDER BY place",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![owner.as_slice(), ms(now)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Forgets what somebody was writing at a place. True if there was something.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn end_draft(&self, owner: Address, place: &str) -> Result<bool> {
        self.write(
            "forgetting a draft",
            "DELETE FROM drafts WHERE owner = ?1 AND place = ?2",
            params![owner.as_slice(), place],
        )
        .map(|gone| gone == 1)
    }

    /// Keeps an act of administration under the number of its receipt.
    ///
    /// # Errors
    /// [`crate::Error::Sql`], also where that number has an act.
    pub fn put_act(&self, organization: Address, sequence: u64, document: &[u8]) -> Result<()> {
        self.write(
            "keeping an act of administration",
            "INSERT INTO acts (organization, sequence, document) VALUES (?1, ?2, ?3)",
            params![organization.as_slice(), sequence.cast_signed(), document],
        )
        .map(drop)
    }

    /// Acts of administration of an organisation below a number, newest first: numbers and documents.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn acts_of(
        &self,
        organization: Address,
        below: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>> {
        const WHAT: &str = "listing acts of administration";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT sequence, document FROM acts WHERE organization = ?1 AND sequence < ?2
                 ORDER BY sequence DESC LIMIT ?3",
            )
            .attempt(WHAT)?;
        let below = below.min(i64::MAX.unsigned_abs()).cast_signed();
        let rows = statement
            .query_map(params![organization.as_slice(), below, limit], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }
}
