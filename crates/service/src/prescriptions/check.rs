//! Holding a code against the ledger.

use std::sync::Arc;

use alloy_primitives::Address;
use alloy_sol_types::SolCall as _;
use stele_core::{
    abi::prescriptions::IPrescriptions::{prescriptionCall, verifyCall},
    id::PRESCRIPTIONS,
    prescription::{Code, Sheet},
    time::Timestamp,
};
use stele_index::prescriptions::Dispensing;

use crate::{
    Service,
    error::{Error, Result},
    people::Named,
};

const WHAT: &str = "checking a prescription";

/// Whether something may be dispensed now, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Good,
    /// Nobody ever issued it.
    Forged,
    /// It was issued with another text.
    Altered,
    /// It was ended by its prescriber or the prescriber's organisation.
    Cancelled,
    /// Nothing is left of it.
    Dispensed,
    /// Its time is over.
    Expired,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Good,
        Self::Forged,
        Self::Altered,
        Self::Cancelled,
        Self::Dispensed,
        Self::Expired,
    ];

    /// The number on the ledger as a verdict; what is not known here is not good.
    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Good,
            2 => Self::Altered,
            3 => Self::Cancelled,
            4 => Self::Dispensed,
            5 => Self::Expired,
            _ => Self::Forged,
        }
    }

    /// A stable word for machines.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Cancelled => "cancelled",
            Self::Dispensed => "dispensed",
            Self::Expired => "expired",
        }
    }

    /// Why nothing may be dispensed, in a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Good => "It is genuine, unchanged, and not used up.",
            Self::Forged => "No doctor of this consortium issued it.",
            Self::Altered => "Its text is not what the doctor signed.",
            Self::Cancelled => "It was cancelled.",
            Self::Dispensed => "All of it has been dispensed already.",
            Self::Expired => "It has expired.",
        }
    }
}

/// A code held against the ledger.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The prescription's id on the ledger.
    pub id: Address,
    /// Whether something may be dispensed.
    pub verdict: Verdict,
    /// What is prescribed, as the code says; to be believed only where the text is not forged or altered.
    pub sheet: Sheet,
    /// Who issued it, by the ledger; nobody for a forged one.
    pub prescriber: Option<Named>,
    /// Whether the prescriber may act now.
    pub is_prescriber_active: bool,
    /// Portions that are left.
    pub left: u16,
    /// Dispensings so far, in order.
    pub dispensings: Vec<Dispensing>,
    /// Number of dispensings so far, as the next has to name it.
    pub(crate) sequence: u16,
    /// Who ended it and when.
    pub cancelled: Option<(Address, Timestamp)>,
}

impl Service {
    /// Holds a code, as scanned or typed, against the ledger. Needs no access to the patient's record: who has the
    /// code was shown it.
    ///
    /// # Errors
    /// [`Error::Conflict`] for what is no code, with what is wrong; the ledger can't answer.
    pub async fn check_prescription(self: &Arc<Self>, code: &str) -> Result<Checked> {
        self.require_prescriptions()?;
        self.checked(&parsed(code)?).await
    }

    pub(crate) async fn checked(self: &Arc<Self>, code: &Code) -> Result<Checked> {
        let id = code.id();
        let ask = verifyCall {
            id,
            commitment: code.commitment(),
        };
        let output = self.view(WHAT, PRESCRIPTIONS, ask.abi_encode())?;
        let answer =
            verifyCall::abi_decode_returns(&output).map_err(|e| Error::internal(WHAT, e))?;
        let output = self.view(WHAT, PRESCRIPTIONS, prescriptionCall { id }.abi_encode())?;
        let state =
            prescriptionCall::abi_decode_returns(&output).map_err(|e| Error::internal(WHAT, e))?;
        let verdict = Verdict::from_number(answer.verdict);
        let sheet = code.sheet().map_err(|error| Error::Conflict {
            message: error.to_string(),
        })?;
        let is_known = verdict != Verdict::Forged;
        let prescriber = if is_known {
            Some(self.named(state.prescriber).await?)
        } else {
            None
        };
        let chain = self.index.chain();
        let cancelled = chain
            .cancellation_of(id)
            .map_err(Error::index(WHAT))?
            .map(|(by, happened)| (by, happened.at));
        Ok(Checked {
            id,
            verdict,
            sheet,
            prescriber,
            is_prescriber_active: is_known && self.person(state.prescriber)?.is_some(),
            left: answer.left,
            dispensings: chain.dispensings_of(id).map_err(Error::index(WHAT))?,
            sequence: state.sequence,
            cancelled,
        })
    }
}

/// Reads a code; what is wrong with it is told.
pub(super) fn parsed(code: &str) -> Result<Code> {
    Code::parse(code).map_err(|error| {
        let text = error.to_string();
        let mut letters = text.chars();
        let first: String = letters
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .collect();
        Error::Conflict {
            message: format!("{first}{}.", letters.as_str()),
        }
    })
}
