//! Events of Audit and Governance.

use rusqlite::params;
use stele_core::abi::{
    audit::IAudit::IAuditEvents as Audit, governance::IGovernance::IGovernanceEvents as Governance,
};

use super::{Block, Seated, bytes, number};
use crate::error::Result;

impl Block<'_> {
    /// The seats that the members gave by hand, without an event.
    pub(super) fn seat(&self, seated: &Seated) -> Result<()> {
        self.run("DELETE FROM validators", [])?;
        for validator in &seated.validators {
            self.run(
                "REPLACE INTO validators (key, organization) VALUES (?1, ?2)",
                params![validator.key.as_slice(), bytes(&validator.organization)],
            )?;
        }
        for organization in &seated.suspended {
            self.run(
                "UPDATE accounts SET status = 2 WHERE address = ?1 AND status = 1",
                [bytes(organization)],
            )?;
        }
        Ok(())
    }

    pub(super) fn audit(&self, event: &Audit, tx: i64) -> Result<()> {
        let Audit::ReceiptsAnchored(e) = event;
        self.run(
            "REPLACE INTO receipt_batches (organization, first, count, root, head, tx) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                bytes(&e.organization),
                number(e.first),
                e.count,
                e.root.as_slice(),
                e.head.as_slice(),
                tx
            ],
        )
    }

    pub(super) fn governance(&self, event: &Governance, tx: i64) -> Result<()> {
        match event {
            Governance::Proposed(e) => self.run(
                "REPLACE INTO proposals (id, proposer, kind, payload, deadline, status, tx)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
                params![
                    e.id,
                    bytes(&e.proposer),
                    e.kind,
                    e.payload.as_ref(),
                    number(e.deadline.to()),
                    tx
                ],
            ),
            Governance::Voted(e) => self.run(
                "REPLACE INTO votes (proposal, voter, is_yes, tx) VALUES (?1, ?2, ?3, ?4)",
                params![e.id, bytes(&e.voter), e.support, tx],
            ),
            Governance::Executed(e) => {
                self.run("UPDATE proposals SET status = 2 WHERE id = ?1", [e.id])
            }
            Governance::Rejected(e) => {
                self.run("UPDATE proposals SET status = 3 WHERE id = ?1", [e.id])
            }
            Governance::ParameterSet(e) => self.run(
                "REPLACE INTO parameters (key, value) VALUES (?1, ?2)",
                params![e.key.as_slice(), e.value.to_be_bytes::<32>()],
            ),
            Governance::DeployerSet(e) if e.allowed => self.run(
                "REPLACE INTO deployers (account) VALUES (?1)",
                [bytes(&e.account)],
            ),
            Governance::DeployerSet(e) => self.run(
                "DELETE FROM deployers WHERE account = ?1",
                [bytes(&e.account)],
            ),
            Governance::ValidatorSet(e) if e.seated => self.run(
                "REPLACE INTO validators (key, organization) VALUES (?1, ?2)",
                params![e.key.as_slice(), bytes(&e.organization)],
            ),
            Governance::ValidatorSet(e) => {
                self.run("DELETE FROM validators WHERE key = ?1", [e.key.as_slice()])
            }
        }
    }
}
