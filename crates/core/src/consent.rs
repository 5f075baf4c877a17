//! Consent in the words of care: permissions, purposes, terms of a grant, and the sentence people sign.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{abi::consent::IConsent, time::Timestamp};

/// Number of category slots on chain.
pub const SLOTS: u8 = 64;

/// A set of permissions, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(pub u8);

impl Permissions {
    /// May read.
    pub const READ: Self = Self(1);
    /// May add records and new versions.
    pub const WRITE: Self = Self(2);
    /// May hand on to others what it may read.
    pub const SHARE: Self = Self(4);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is contained.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why data is used: purposes of use of HL7 v3 `PurposeOfUse`, as bits of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Purpose {
    /// Treatment.
    Treat,
    /// Healthcare payment.
    Hpaymt,
    /// Healthcare research.
    Hresch,
    /// Emergency treatment.
    Etreat,
    /// Patient requested.
    Patrqt,
    /// Healthcare operations.
    Hoperat,
    /// Public health.
    Pubhlth,
}

impl Purpose {
    /// All purposes, in the order of their bits.
    pub const ALL: [Self; 7] = [
        Self::Treat,
        Self::Hpaymt,
        Self::Hresch,
        Self::Etreat,
        Self::Patrqt,
        Self::Hoperat,
        Self::Pubhlth,
    ];

    /// Its bit in a grant.
    #[must_use]
    pub const fn bit(self) -> u16 {
        match self {
            Self::Treat => 1,
            Self::Hpaymt => 2,
            Self::Hresch => 4,
            Self::Etreat => 8,
            Self::Patrqt => 16,
            Self::Hoperat => 32,
            Self::Pubhlth => 64,
        }
    }

    /// Code in v3 `PurposeOfUse`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Treat => "TREAT",
            Self::Hpaymt => "HPAYMT",
            Self::Hresch => "HRESCH",
            Self::Etreat => "ETREAT",
            Self::Patrqt => "PATRQT",
            Self::Hoperat => "HOPERAT",
            Self::Pubhlth => "PUBHLTH",
        }
    }

    /// In plain words, after "for".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Treat => "treatment",
            Self::Hpaymt => "payment",
            Self::Hresch => "research",
            Self::Etreat => "emergency treatment",
            Self::Patrqt => "your own request",
            Self::Hoperat => "running the service",
            Self::Pubhlth => "public health",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.code().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|p| p.code()).collect();
                format!(
                    "{text:?} is not a purpose of use; use one of {}",
                    known.join(", ")
                )
            })
    }
}

/// A period of time in which something holds, half-open: `from <= t < until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// First moment.
    pub from: Timestamp,
    /// First moment after the end.
    pub until: Timestamp,
}

/// What a grant says: the terms of `IConsent` with names instead of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terms {
    /// Category slots, as a bit set.
    pub categories: u64,
    /// What may be done.
    pub permissions: Permissions,
    /// For which purposes.
    pub purposes: Vec<Purpose>,
    /// When it may be used.
    pub period: Period,
    /// First month of sealing of the records it opens, since January 1970.
    pub records_from: u16,
    /// Last such month, inclusive.
    pub records_to: u16,
}

impl Terms {
    /// The purposes as bits.
    #[must_use]
    pub fn purpose_bits(&self) -> u16 {
        self.purposes
            .iter()
            .fold(0, |bits, purpose| bits | purpose.bit())
    }

    /// As the contract takes them.
    #[must_use]
    pub fn to_abi(&self) -> IConsent::Terms {
        IConsent::Terms {
            categories: self.categories,
            permissions: self.permissions.0,
            purposes: self.purpose_bits(),
            notBefore: alloy_primitives::aliases::U40::saturating_from(self.period.from.seconds()),
            expires: alloy_primitives::aliases::U40::saturating_from(self.period.until.seconds()),
            recordsFrom: self.records_from,
            recordsTo: self.records_to,
        }
    }

    /// From the contract's form.
    #[must_use]
    pub fn from_abi(terms: &IConsent::Terms) -> Self {
        Self {
            categories: terms.categories,
            permissions: Permissions(terms.permissions),
            purposes: Purpose::ALL
                .into_iter()
                .filter(|p| terms.purposes & p.bit() != 0)
                .collect(),
            period: Period {
                from: Timestamp::from_seconds(terms.notBefore.to()),
                until: Timestamp::from_seconds(terms.expires.to()),
            },
            records_from: terms.recordsFrom,
            records_to: terms.recordsTo,
        }
    }

    /// The sentence people sign, rendered from the terms themselves. `grantee` and `categories` are the words
    /// shown for the address and for each slot of the bit set.
    #[must_use]
    pub fn sentence(&self, grantee: &str, categories: &[&str]) -> String {
        let mut verbs = Vec::new();
        for (permission, verb) in [
            (Permissions::READ, "see"),
            (Permissions::WRITE, "add to"),
            (Permissions::SHARE, "share"),
        ] {
            if self.permissions.contains(permission) {
                verbs.push(verb);
            }
        }
        let purposes: Vec<&str> = self.purposes.iter().map(|p| p.words()).collect();
        let until = self.period.until.to_utc();
        format!(
            "{grantee} can {} {} until {} {} {}, for {}.",
            list(&verbs),
            list(categories),
            until.day(),
            until.month(),
            until.year(),
            list(&purposes)
        )
    }
}

fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".into(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            categories: 0b101,
            permissions: Permissions::READ.and(Permissions::WRITE),
            purposes: vec![Purpose::Treat, Purpose::Hpaymt],
            period: Period {
                from: Timestamp(0),
                until: Timestamp::from_seconds(1_782_777_600),
            },
            records_from: 0,
            records_to: u16::MAX,
        }
    }

    #[test]
    fn contract_form_and_back() {
        assert_eq!(Terms::from_abi(&terms().to_abi()), terms());
    }

    #[test]
    fn sentence_says_who_what_until_why() {
        assert_eq!(
            terms().sentence("Dr Ana Reyes", &["heart", "medicines"]),
            "Dr Ana Reyes can see and add to heart and medicines until 30 June 2026, for treatment and payment."
        );
    }

    #[test]
    fn unknown_purpose_names_the_known_ones() {
        assert!("FUN".parse::<Purpose>().unwrap_err().contains("TREAT"));
        assert_eq!("treat".parse(), Ok(Purpose::Treat));
    }
}
