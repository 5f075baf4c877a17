//! Events of Consent.

use rusqlite::params;
use stele_core::abi::consent::IConsent::IConsentEvents as Event;

use super::{Block, bytes, number};
use crate::error::Result;

impl Block<'_> {
    pub(super) fn consent(&self, event: &Event, tx: i64) -> Result<()> {
        match event {
            Event::Granted(e) => {
                let terms = &e.terms;
                self.run(
                    "REPLACE INTO grants (patient, grantee, id, categories, permissions, purposes, not_before, expires,
                        records_from, records_to, envelope, request, tx, revoked_tx)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, NULL)",
                    params![
                        bytes(&e.patient),
                        bytes(&e.grantee),
                        e.id,
                        number(terms.categories),
                        terms.permissions,
                        terms.purposes,
                        number(terms.notBefore.to()),
                        number(terms.expires.to()),
                        terms.recordsFrom,
                        terms.recordsTo,
                        e.envelopeDigest.as_slice(),
                        e.request,
                        tx
                    ],
                )?;
                self.close_request(bytes(&e.patient), e.request, GRANTED, tx)
            }
            Event::Revoked(e) => {
                self.run(
                    "UPDATE grants SET revoked_tx = ?4 WHERE patient = ?1 AND grantee = ?2 AND id = ?3
                     AND revoked_tx IS NULL",
                    params![bytes(&e.patient), bytes(&e.grantee), e.id, tx],
                )?;
                if e.directoryRoot.is_zero() {
                    return Ok(());
                }
                self.directory(bytes(&e.patient), e.directoryRoot.as_slice(), tx)
            }
            Event::Requested(e) => self.run(
                "REPLACE INTO requests (patient, id, requester, details, expires, status, tx, closed_tx)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, NULL)",
                params![
                    bytes(&e.patient),
                    e.request,
                    bytes(&e.requester),
                    e.detailsDigest.as_slice(),
                    number(e.expires.to()),
                    tx
                ],
            ),
            Event::Declined(e) => self.close_request(bytes(&e.patient), e.request, DECLINED, tx),
            Event::DirectoryPublished(e) => {
                self.directory(bytes(&e.patient), e.directoryRoot.as_slice(), tx)
            }
        }
    }

    fn close_request(&self, patient: &[u8], request: u32, status: u8, tx: i64) -> Result<()> {
        self.run(
            "UPDATE requests SET status = ?3, closed_tx = ?4 WHERE patient = ?1 AND id = ?2 AND status = 1",
            params![patient, request, status, tx],
        )
    }

    fn directory(&self, patient: &[u8], root: &[u8], tx: i64) -> Result<()> {
        self.run(
            "REPLACE INTO directories (patient, root, tx) VALUES (?1, ?2, ?3)",
            params![patient, root, tx],
        )
    }
}

/// Status of a request that was answered by a grant.
pub(crate) const GRANTED: u8 = 2;
/// Status of a request that was declined.
pub(crate) const DECLINED: u8 = 3;
