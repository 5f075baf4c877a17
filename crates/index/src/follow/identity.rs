//! Events of Identity.

use rusqlite::params;
use stele_core::abi::identity::IIdentity::IIdentityEvents as Event;

use super::{Block, bytes};
use crate::error::Result;

impl Block<'_> {
    pub(super) fn identity(&self, event: &Event, tx: i64) -> Result<()> {
        match event {
            Event::OrganizationRegistered(e) => {
                self.run(
                    "REPLACE INTO organizations (address, kind, endpoints, keys, tx) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        bytes(&e.organization),
                        e.kind,
                        e.endpointsDigest.as_slice(),
                        e.keysDigest.as_slice(),
                        tx
                    ],
                )?;
                // An organisation vouches for itself. A registration as an account may stand before or after.
                self.run(
                    "INSERT INTO accounts (address, kind, status, sponsor, roles, commitment, tx)
                     VALUES (?1, 1, 1, ?1, 0, zeroblob(32), ?2) ON CONFLICT (address) DO NOTHING",
                    params![bytes(&e.organization), tx],
                )
            }
            Event::OrganizationUpdated(e) => self.run(
                "UPDATE organizations SET endpoints = ?2, keys = ?3 WHERE address = ?1",
                params![bytes(&e.organization), e.endpointsDigest.as_slice(), e.keysDigest.as_slice()],
            ),
            Event::AccountRegistered(e) => self.run(
                "REPLACE INTO accounts (address, kind, status, sponsor, roles, commitment, tx)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6)",
                params![
                    bytes(&e.account),
                    e.kind,
                    bytes(&e.sponsor),
                    e.roles,
                    e.commitment.as_slice(),
                    tx
                ],
            ),
            Event::AccountUpdated(e) => self.run(
                "UPDATE accounts SET status = ?2, roles = ?3, commitment = ?4 WHERE address = ?1",
                params![bytes(&e.account), e.status, e.roles, e.commitment.as_slice()],
            ),
            Event::OriginAllowed(e) if e.allowed => self.run(
                "REPLACE INTO origins (organization, digest) VALUES (?1, ?2)",
                params![bytes(&e.organization), e.originDigest.as_slice()],
            ),
            Event::OriginAllowed(e) => self.run(
                "DELETE FROM origins WHERE organization = ?1 AND digest = ?2",
                params![bytes(&e.organization), e.originDigest.as_slice()],
            ),
            Event::KeyAdded(e) => self.run(
                "REPLACE INTO account_keys (account, key, kind, rp_id_hash, is_removed) VALUES (?1, ?2, ?3, ?4, 0)",
                params![bytes(&e.account), e.keyId.as_slice(), e.kind, e.rpIdHash.as_slice()],
            ),
            // The key that the account is named after was never added; its removal is noted all the same.
            Event::KeyRemoved(e) => self.run(
                "INSERT INTO account_keys (account, key, kind, rp_id_hash, is_removed)
                 VALUES (?1, ?2, 0, zeroblob(32), 1) ON CONFLICT (account, key) DO UPDATE SET is_removed = 1",
                params![bytes(&e.account), e.keyId.as_slice()],
            ),
            // The keys added and removed by a claim have events of their own.
            Event::AccountClaimed(_) => Ok(()),
        }
    }
}
