//! Who asks, and the predicate that decides what they may see.

use alloy_primitives::Address;
use rusqlite::Connection;
use stele_core::{consent::Permissions, time::Timestamp};

use super::compile::Sql;
use crate::error::{Attempt as _, Result};

/// Who asks and for what purpose. A resource of a patient is visible if one of the principals is that patient or
/// holds a live grant to read its category and month for all purposes asked; resources that belong to no patient
/// are visible to everyone where `directory` says so. Nobody sees what a tombstone covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The actor and whoever it may act for: its organisation, the patient whose proxy it is.
    pub principals: Vec<Address>,
    /// Purposes of use claimed, as bits of a grant; every one must be granted.
    pub purposes: u16,
    /// Whether resources of organisations (Organization, Practitioner, Location…) are visible.
    pub directory: bool,
}

impl Viewer {
    /// Without the principals that the ledger has suspended or closed, themselves or by their organisation. An
    /// account that is not registered may hold a grant all the same.
    pub(crate) fn active(&self, db: &Connection) -> Result<Self> {
        const WHAT: &str = "reading who is active";
        let mut statement = db
            .prepare_cached(
                "SELECT 1 FROM chain.accounts c LEFT JOIN chain.accounts s ON s.address = c.sponsor
                 WHERE c.address = ?1 AND (c.status != 1 OR (c.kind = 2 AND s.status != 1))",
            )
            .attempt(WHAT)?;
        let mut principals = Vec::with_capacity(self.principals.len());
        for principal in &self.principals {
            if !statement.exists([principal.as_slice()]).attempt(WHAT)? {
                principals.push(*principal);
            }
        }
        Ok(Self {
            principals,
            ..*self
        })
    }
}

/// A [`Viewer`]'s values, bound once for a statement that names them many times.
pub(crate) struct BoundViewer {
    principals: String,
    purposes: String,
    now: String,
    read: String,
    directory: bool,
}

impl BoundViewer {
    pub(crate) fn bind(sql: &mut Sql, viewer: &Viewer, now: Timestamp) -> Self {
        let principals: Vec<String> = viewer
            .principals
            .iter()
            .map(|account| sql.bind(account.to_vec()))
            .collect();
        Self {
            principals: principals.join(", "),
            purposes: sql.bind(i64::from(viewer.purposes)),
            now: sql.bind(now.seconds().cast_signed()),
            read: sql.bind(i64::from(Permissions::READ.0)),
            directory: viewer.directory,
        }
    }

    /// True for a row `r` of `resources` or `versions` that the viewer may read.
    ///
    /// The grant's bit set is a signed integer: shifting keeps the sign, and `& 1` takes just the slot's bit, the
    /// 64th like the others.
    pub(crate) fn sees(&self, r: &str) -> String {
        let Self {
            principals,
            purposes,
            now,
            read,
            directory,
        } = self;
        let directory = if *directory {
            format!("{r}.is_patients = 0 OR")
        } else {
            String::new()
        };
        format!(
            "EXISTS (SELECT 1 FROM accounts a WHERE a.id = {r}.log
              AND NOT EXISTS (SELECT 1 FROM chain.tombstones x WHERE x.log = a.address AND x.leaf = {r}.leaf)
              AND ({directory} ({r}.is_patients = 1 AND (a.address IN ({principals}) OR EXISTS (
                SELECT 1 FROM chain.grants g WHERE g.patient = a.address AND g.grantee IN ({principals})
                AND ((g.categories >> {r}.slot) & 1) = 1 AND (g.permissions & {read}) != 0
                AND (g.purposes & {purposes}) = {purposes} AND g.revoked_tx IS NULL
                AND g.not_before <= {now} AND {now} < g.expires
                AND {r}.month BETWEEN g.records_from AND g.records_to)))))"
        )
    }
}
