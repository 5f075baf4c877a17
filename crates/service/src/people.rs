//! People at the portal: who they are, how they get in, what they look at and what they sign.
//!
//! A person is an account that this node keeps keys for: a managed patient or a member of staff. What a patient decides
//! is signed with the patient's own passkey, as a transaction of that account; the node only carries it. Must never
//! keep a code or a session's secret: digests of them stand in the local store.

mod acts;
mod applications;
mod auditing;
mod chart;
mod devices;
mod directory;
mod drafts;
mod files;
mod invitations;
mod ledger;
mod members;
mod orders;
mod own_keys;
mod passkeys;
mod prescribing;
mod sessions;
mod timeline;
mod unsent;
mod waiting;
mod wallet_decisions;
mod wallets;

use alloy_primitives::{Address, B256, keccak256};
use stele_core::{
    consent::Purpose,
    crypto::{
        os_rng,
        webauthn::{AllowedOrigin, Verified, rp_id_hash},
    },
    id::OrganizationId,
};

pub use acts::{AdministrativeAct, Deed, Done};
pub use applications::{Application, CLAIM_MAX, CLAIM_TEXT_MAX, Claim, SameLicence, Standing};
pub use auditing::{
    AccountDetail, Completeness, EventLine, Found, Looked, TransactionDetail, contract_name,
};
pub use chart::{Access, Placed, RecordNumber};
pub use directory::{Demographics, Named};
pub use drafts::{Act, Prepared, Settled};
pub use files::{FileContent, FileInfo, FileWords, NewFile, file_of};
pub use invitations::{INVITATION_MS, Invitation};
pub use ledger::{BlockLine, Checked, TransactionLine, ledger_words};
pub use members::{Member, NewMember, ROLES};
pub use orders::{
    Filed, NewOrder, NewReport, NewResult, OrderSlip, REPORT_DOCUMENT_MAX, RESULTS_MAX,
    report_problems,
};
pub use own_keys::{ToSign, WrappedKey};
pub use passkeys::{NewPasskey, PasskeyUse, PasskeyView};
pub use prescribing::PreparedPrescription;
pub use sessions::{SESSION_IDLE_MS, SESSION_MS, Session, SessionView};
pub use timeline::{Ended, Listed, Listing};
pub use unsent::{UNSENT_MS, Unsent};
pub use wallets::{WalletQuestion, WalletUse};

use crate::{
    Service,
    error::{Error, Result},
    session::{Actor, ActorKind},
};

/// The web page that passkeys are made and used on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: String,
    rp_id: String,
}

impl Site {
    /// A site by its origin, such as `https://records.example` or `http://localhost:8480`. Its relying party id is
    /// the origin's host.
    #[must_use]
    pub fn new(origin: impl Into<String>) -> Self {
        let mut origin: String = origin.into();
        origin.truncate(origin.trim_end_matches('/').len());
        let host = origin.split_once("://").map_or("", |(_, rest)| rest);
        let rp_id = host.split(':').next().unwrap_or_default().to_owned();
        Self { origin, rp_id }
    }

    /// The origin, without a `/` at the end.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The relying party id.
    #[must_use]
    pub fn rp_id(&self) -> &str {
        &self.rp_id
    }

    /// What an organisation allows on the ledger: on one's own machine a node picks any port.
    fn allowed(&self) -> (AllowedOrigin, B256) {
        if self.rp_id == "localhost" && self.origin.starts_with("http://") {
            return (AllowedOrigin::Localhost, keccak256("http://localhost"));
        }
        (
            AllowedOrigin::Exact(self.origin.clone()),
            keccak256(&self.origin),
        )
    }

    fn require(&self, verified: &Verified) -> Result<()> {
        verified
            .require(&rp_id_hash(&self.rp_id), &[self.allowed().0])
            .map_err(|error| refused_passkey(&error))
    }
}

/// What a person is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonKind {
    /// A patient, for themselves.
    Patient,
    /// A member of an organisation's staff.
    Staff,
}

/// Somebody who may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// The account.
    pub account: Address,
    /// What it is.
    pub kind: PersonKind,
    /// Roles, see [`crate::directory::role`]; none for patients.
    pub roles: u32,
    /// The organisation that registered the account.
    pub organization: OrganizationId,
}

impl Person {
    /// The person as the actor of a request.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let (kind, purpose) = match self.kind {
            PersonKind::Patient => (ActorKind::Patient, Purpose::Patrqt),
            PersonKind::Staff => (ActorKind::Practitioner, Purpose::Treat),
        };
        Actor {
            kind,
            account: self.account,
            organization: self.organization,
            purposes: vec![purpose],
            client: "portal".into(),
        }
    }

    /// Whether one of the roles is held.
    #[must_use]
    pub const fn has(&self, roles: u32) -> bool {
        self.roles & roles != 0
    }
}

impl Service {
    /// The person behind an account, if it is active; for staff also their organisation must be.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn person(&self, account: Address) -> Result<Option<Person>> {
        let Some(found) = self.account(account)?.filter(|found| found.active) else {
            return Ok(None);
        };
        let kind = match found.kind {
            2 if self.account(found.sponsor.0)?.is_some_and(|o| o.active) => PersonKind::Staff,
            3 => PersonKind::Patient,
            _ => return Ok(None),
        };
        Ok(Some(Person {
            account,
            kind,
            roles: found.roles,
            organization: found.sponsor,
        }))
    }
}

/// 32 random bytes.
pub(crate) fn random() -> [u8; 32] {
    use rand_core::Rng as _;
    let mut bytes = [0; 32];
    os_rng().fill_bytes(&mut bytes);
    bytes
}

fn refused_passkey(error: &stele_core::crypto::webauthn::Error) -> Error {
    Error::NotPermitted {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_knows_its_relying_party() {
        let site = Site::new("https://records.example/");
        assert_eq!(
            (site.origin(), site.rp_id()),
            ("https://records.example", "records.example")
        );
        assert_eq!(site.allowed().1, keccak256("https://records.example"));
        let own = Site::new("http://localhost:8480");
        assert_eq!(own.rp_id(), "localhost");
        assert_eq!(own.allowed().1, keccak256("http://localhost"));
    }
}
