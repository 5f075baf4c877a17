//! Who acts: the person or system behind a request, after a front authenticated it.

use alloy_primitives::Address;
use stele_core::{
    consent::{Permissions, Purpose},
    id::OrganizationId,
};
use stele_index::Viewer;

/// What an actor is, which decides what it may do beside what patients granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A system of the organisation: an EHR, an importer (SMART `system/` scopes).
    System,
    /// A member of the organisation's staff.
    Practitioner,
    /// A patient, acting for themselves.
    Patient,
}

/// The actor of a request. Built by a front from a verified credential, never from the request's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// The account it acts as: the practitioner's, the patient's, or the organisation's own.
    pub account: Address,
    /// The organisation it acts for; for a patient the one that hosts it.
    pub organization: OrganizationId,
    /// Purposes it may claim, all of which a grant must allow.
    pub purposes: Vec<Purpose>,
    /// The client that sent the request, for the log.
    pub client: String,
}

impl Actor {
    /// A system acting for its organisation.
    #[must_use]
    pub fn system(
        organization: OrganizationId,
        purpose: Purpose,
        client: impl Into<String>,
    ) -> Self {
        Self {
            kind: ActorKind::System,
            account: organization.0,
            organization,
            purposes: vec![purpose],
            client: client.into(),
        }
    }

    /// Bits of the purposes claimed.
    #[must_use]
    pub fn purpose_bits(&self) -> u16 {
        self.purposes
            .iter()
            .fold(0, |bits, purpose| bits | purpose.bit())
    }

    /// Accounts whose grants the actor may use: its own and, for staff and systems, its organisation's.
    #[must_use]
    pub fn principals(&self) -> Vec<Address> {
        match self.kind {
            ActorKind::Patient => vec![self.account],
            ActorKind::System | ActorKind::Practitioner if self.account == self.organization.0 => {
                vec![self.account]
            }
            ActorKind::System | ActorKind::Practitioner => {
                vec![self.account, self.organization.0]
            }
        }
    }

    /// The actor as the index asks about it.
    #[must_use]
    pub fn viewer(&self) -> Viewer {
        Viewer {
            principals: self.principals(),
            purposes: self.purpose_bits(),
            directory: true,
        }
    }

    /// Whether the actor is the patient itself.
    #[must_use]
    pub fn is_patient(&self, patient: Address) -> bool {
        self.kind == ActorKind::Patient && self.account == patient
    }
}

/// What a request wants to do with a patient's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// See them.
    Read,
    /// Add or change.
    Write,
}

impl Intent {
    /// The permission a grant must contain.
    #[must_use]
    pub const fn permission(self) -> Permissions {
        match self {
            Self::Read => Permissions::READ,
            Self::Write => Permissions::WRITE,
        }
    }
}
