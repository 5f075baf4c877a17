//! Who is who on the ledger: pseudonyms, their sponsors and keys.

use alloy_primitives::{Address, B256};
use rusqlite::Row;

use super::{Happened, address, hash};
use crate::{ChainIndex, error::Result};

/// An account as Identity knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address.
    pub address: Address,
    /// 1 organisation, 2 member, 3 patient, 4 device.
    pub kind: u8,
    /// 1 active, 2 suspended, 3 closed.
    pub status: u8,
    /// Organisation that vouches for it; an organisation for itself.
    pub sponsor: Address,
    /// Bit set of roles.
    pub roles: u32,
    /// Salted commitment (a member's licence).
    pub commitment: B256,
    /// When it was registered.
    pub registered: Happened,
}

/// An organisation of the consortium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its account.
    pub account: Account,
    /// Kind of organisation.
    pub kind: u8,
    /// Digest of its endpoints.
    pub endpoints: B256,
    /// Digest of its public keys.
    pub keys: B256,
}

/// A key that speaks, or spoke, for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey {
    /// Its id.
    pub key: B256,
    /// 0 secp256k1, 1 passkey.
    pub kind: u8,
    /// SHA-256 of the relying party's id; zero for secp256k1.
    pub rp_id_hash: B256,
    /// Whether it no longer speaks for the account.
    pub removed: bool,
}

impl ChainIndex {
    /// An account.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn account(&self, who: Address) -> Result<Option<Account>> {
        let sql = format!("{SELECT} WHERE c.address = ?1");
        Ok(self
            .list("reading an account", &sql, [who.as_slice()], read)?
            .pop())
    }

    /// Accounts of a kind that an organisation vouches for, in order of address.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn accounts_of(&self, sponsor: Address, kind: u8) -> Result<Vec<Account>> {
        let sql = format!("{SELECT} WHERE c.sponsor = ?1 AND c.kind = ?2 ORDER BY c.address");
        self.list(
            "listing an organisation's accounts",
            &sql,
            (sponsor.as_slice(), kind),
            read,
        )
    }

    /// The place of a patient among all patients of the ledger in order of registration, from 1. It never changes.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn patient_number(&self, who: Address) -> Result<Option<u64>> {
        let found = self.list(
            "numbering a patient",
            "SELECT (SELECT COUNT(*) FROM accounts c WHERE c.kind = 3 AND (c.tx, c.address) <= (p.tx, p.address))
             FROM accounts p WHERE p.address = ?1 AND p.kind = 3",
            [who.as_slice()],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(found.first().map(|number| number.cast_unsigned()))
    }

    /// The patient with a number, see [`Self::patient_number`].
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn patient_numbered(&self, number: u64) -> Result<Option<Address>> {
        let Some(before) = number.checked_sub(1).and_then(|n| i64::try_from(n).ok()) else {
            return Ok(None);
        };
        let found = self.list(
            "finding a patient by number",
            "SELECT address FROM accounts WHERE kind = 3 ORDER BY tx, address LIMIT 1 OFFSET ?1",
            [before],
            |row| address(row, 0),
        )?;
        Ok(found.first().copied())
    }

    /// All organisations, in order of registration.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn organizations(&self) -> Result<Vec<Organization>> {
        self.list(
            "listing organisations",
            "SELECT c.address, c.kind, c.status, c.sponsor, c.roles, c.commitment, t.hash, t.height, t.time_ms,
                o.kind, o.endpoints, o.keys
             FROM organizations o JOIN accounts c ON c.address = o.address JOIN transactions t ON t.id = o.tx
             ORDER BY o.tx, o.address",
            [],
            |row| {
                Ok(Organization {
                    account: read(row)?,
                    kind: row.get(9)?,
                    endpoints: hash(row, 10)?,
                    keys: hash(row, 11)?,
                })
            },
        )
    }

    /// Keys added to an account, removed ones included. The key an account is named after is listed only when it
    /// no longer speaks for it.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn keys_of(&self, who: Address) -> Result<Vec<AccountKey>> {
        self.list(
            "listing an account's keys",
            "SELECT key, kind, rp_id_hash, is_removed FROM account_keys WHERE account = ?1 ORDER BY key",
            [who.as_slice()],
            |row| {
                Ok(AccountKey {
                    key: hash(row, 0)?,
                    kind: row.get(1)?,
                    rp_id_hash: hash(row, 2)?,
                    removed: row.get(3)?,
                })
            },
        )
    }

    /// Accounts to which a key was added and from which it was not removed, by address.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn accounts_with_key(&self, key: B256) -> Result<Vec<Address>> {
        self.list(
            "listing the accounts of a key",
            "SELECT account FROM account_keys WHERE key = ?1 AND is_removed = 0 ORDER BY account",
            [key.as_slice()],
            |row| address(row, 0),
        )
    }

    /// Digests of the web origins that an organisation allows for passkeys.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn origins_of(&self, organization: Address) -> Result<Vec<B256>> {
        self.list(
            "listing an organisation's origins",
            "SELECT digest FROM origins WHERE organization = ?1 ORDER BY digest",
            [organization.as_slice()],
            |row| hash(row, 0),
        )
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        address: address(row, 0)?,
        kind: row.get(1)?,
        status: row.get(2)?,
        sponsor: address(row, 3)?,
        roles: row.get(4)?,
        commitment: hash(row, 5)?,
        registered: Happened::read(row, 6)?,
    })
}

const SELECT: &str = "SELECT c.address, c.kind, c.status, c.sponsor, c.roles, c.commitment,
    t.hash, t.height, t.time_ms FROM accounts c JOIN transactions t ON t.id = c.tx";
