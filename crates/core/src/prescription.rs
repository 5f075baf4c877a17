//! What a patient shows a pharmacist: the prescription's text and the secret of its key, as one code.
//!
//! The ledger has the address of the key and a digest of secret and text (`docs/contracts/prescriptions.md`). A code is
//! capital letters and digits only, so that a scanner that types it works with any keyboard and a QR code of it stays
//! small: `STELERX1`, then base32 (RFC 4648 §6, without padding) of the 32 bytes of the secret and the text.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolStruct as _;
use data_encoding::BASE32_NOPAD;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::{
    abi::typed::{Dispense, prescriptions_domain},
    account::AccountKey,
    crypto::Secret32,
};

/// Longest text in bytes: what a QR code holds that a phone's screen can still show.
pub const TEXT_MAX: usize = 1_200;

/// What is prescribed, as the pharmacist reads it. Its JSON is the text that the ledger has the digest of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Medicine with strength and form, as written.
    pub medicine: String,
    /// How to take it, as written; may be empty.
    pub dose: String,
    /// Number of portions.
    pub portions: u16,
    /// What a portion is: "tablets", "packs of 28".
    pub portion: String,
    /// Name of the patient as written.
    pub patient: String,
    /// Birth date of the patient as FHIR writes it; may be empty.
    pub born: String,
    /// Names of allergies that the prescriber saw; `None` where they were not open to the prescriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allergies: Option<Vec<String>>,
    /// Name of the prescriber.
    pub prescriber: String,
    /// Name of the prescriber's organisation.
    pub organization: String,
    /// Day of issue, `2026-06-30`.
    pub issued: String,
    /// Last day on which it may be dispensed.
    pub until: String,
    /// FHIR id of the MedicationRequest in the patient's record.
    pub request: String,
}

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not begin as codes do.
    #[error("this is not the code of a prescription; it begins with {PREFIX}")]
    Foreign,
    /// Letters are missing or wrong.
    #[error("the code is incomplete or damaged; scan it again")]
    Damaged,
}

/// A code: the key's secret and the text. Whoever has it may see the text and have it dispensed.
pub struct Code {
    key: AccountKey,
    text: Vec<u8>,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({})", self.id())
    }
}

impl Code {
    /// A new code for a sheet, with a key of its own.
    ///
    /// # Errors
    /// [`CodeError::Damaged`] for a sheet of more than [`TEXT_MAX`] bytes.
    pub fn new(sheet: &Sheet, rng: &mut impl CryptoRng) -> Result<Self, CodeError> {
        let text = serde_json::to_vec(sheet).map_err(|_| CodeError::Damaged)?;
        if text.len() > TEXT_MAX {
            return Err(CodeError::Damaged);
        }
        let key = AccountKey::random(rng).map_err(|_| CodeError::Damaged)?;
        Ok(Self { key, text })
    }

    /// Reads a code; blanks, line ends and small letters do no harm.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(written: &str) -> Result<Self, CodeError> {
        let letters: String = written
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .take(LENGTH_MAX.saturating_add(1))
            .map(|letter| letter.to_ascii_uppercase())
            .collect();
        let body = letters.strip_prefix(PREFIX).ok_or(CodeError::Foreign)?;
        if letters.len() > LENGTH_MAX {
            return Err(CodeError::Damaged);
        }
        let bytes = BASE32_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| CodeError::Damaged)?;
        let (secret, text) = bytes
            .split_first_chunk::<32>()
            .filter(|(_, text)| !text.is_empty() && text.len() <= TEXT_MAX)
            .ok_or(CodeError::Damaged)?;
        let key = AccountKey::new(Secret32::new(*secret)).map_err(|_| CodeError::Damaged)?;
        Ok(Self {
            key,
            text: text.to_vec(),
        })
    }

    /// The code as it is shown.
    #[must_use]
    pub fn written(&self) -> String {
        let mut bytes = self.key.secret().expose().to_vec();
        bytes.extend(&self.text);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))
    }

    /// The prescription's id on the ledger: the address of its key.
    #[must_use]
    pub fn id(&self) -> Address {
        self.key.address()
    }

    /// What the ledger has of secret and text, 32 bytes.
    #[must_use]
    pub fn commitment(&self) -> B256 {
        let secret = self.key.secret().expose().as_slice();
        keccak256([CONTEXT, secret, &self.text].concat())
    }

    /// What is prescribed.
    ///
    /// # Errors
    /// [`CodeError::Damaged`] where the text is none of ours, which is never issued.
    pub fn sheet(&self) -> Result<Sheet, CodeError> {
        serde_json::from_slice(&self.text).map_err(|_| CodeError::Damaged)
    }

    /// Signature of the prescription's key for one dispensing: EIP-712 `Dispense`, 65 bytes r ‖ s ‖ v.
    ///
    /// # Errors
    /// None in practice.
    pub fn sign(
        &self,
        chain_id: u64,
        dispenser: Address,
        sequence: u16,
        portions: u16,
    ) -> Result<[u8; 65], crate::crypto::Error> {
        let message = Dispense {
            id: self.id(),
            dispenser,
            sequence,
            portions,
        };
        let hash = message.eip712_signing_hash(&prescriptions_domain(chain_id));
        Ok(self.key.sign_hash(hash)?.as_bytes())
    }
}

const PREFIX: &str = "STELERX1";
const CONTEXT: &[u8] = b"stele/prescription/v1\0";
/// Longest code in letters: base32 takes eight letters for five bytes.
const LENGTH_MAX: usize = PREFIX.len() + (32 + TEXT_MAX).div_ceil(5) * 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::os_rng;

    fn sheet() -> Sheet {
        Sheet {
            medicine: "Bisoprolol 2.5 mg tablets".into(),
            dose: "One tablet each morning".into(),
            portions: 3,
            portion: "packs of 28".into(),
            patient: "Noor Halden".into(),
            born: "1984-03-15".into(),
            allergies: Some(vec!["Penicillin".into()]),
            prescriber: "Dr Ana Reyes".into(),
            organization: "Epidaurus General Hospital".into(),
            issued: "2026-06-04".into(),
            until: "2026-12-04".into(),
            request: "0b0ac0de".into(),
        }
    }

    #[test]
    fn a_code_comes_back_as_it_was() {
        let code = Code::new(&sheet(), &mut os_rng()).unwrap();
        let written = code.written();
        assert!(
            written
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        );
        let typed = format!(" {}\r\n", written.to_lowercase());
        let again = Code::parse(&typed).unwrap();
        assert_eq!(
            (again.id(), again.commitment()),
            (code.id(), code.commitment())
        );
        assert_eq!(again.sheet().unwrap(), sheet());
        assert!(!format!("{again:?}").contains("Bisoprolol"));
    }

    /// FR-PH1: a changed letter gives another key, another digest, or no code at all; never the same prescription.
    #[test]
    fn no_change_keeps_id_and_digest() {
        let code = Code::new(&sheet(), &mut os_rng()).unwrap();
        let written = code.written();
        for at in 8..written.len() {
            let letter = if written.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            let mut changed = written.clone();
            changed.replace_range(at..=at, letter);
            if let Ok(other) = Code::parse(&changed) {
                let same = (other.id(), other.commitment()) == (code.id(), code.commitment());
                assert!(!same, "letter {at}");
            }
        }
    }

    #[test]
    fn what_is_no_code_is_told_apart() {
        assert_eq!(Code::parse("12345").unwrap_err(), CodeError::Foreign);
        for damaged in ["STELERX1", "STELERX1AAAA", "STELERX1!"] {
            assert_eq!(Code::parse(damaged).unwrap_err(), CodeError::Damaged);
        }
        let long = format!("STELERX1{}", "A".repeat(10_000));
        assert_eq!(Code::parse(&long).unwrap_err(), CodeError::Damaged);
        let mut wordy = sheet();
        wordy.dose = "x".repeat(TEXT_MAX);
        assert!(Code::new(&wordy, &mut os_rng()).is_err());
    }

    proptest! {
        /// Whatever is scanned, it is read or refused.
        #[test]
        fn anything_is_read_or_refused(text in "(STELERX1)?[A-Z2-7 ]{0,200}", any in "\\PC{0,100}") {
            let _ = Code::parse(&text);
            let _ = Code::parse(&any);
        }
    }
}
