//! Notices: what happens to a person's record or account is told at the portal, and by e-mail or through the
//! organisation's own channel where the person wants it. Follows the ledger and the access receipts from a kept mark,
//! and sends from a durable outbox, so that nothing is lost and a restart doubles nothing but a message on its way.
//!
//! What is sent says that something happened, never what: no name, nothing clinical. Only accounts that sign in here
//! are told.

mod deliver;
mod follow;
mod settings;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use stele_core::time::Timestamp;

pub use deliver::SENTENCES;
pub use settings::{Confirmation, NoticeSettings, Reads};

use crate::{
    Service,
    error::{Error, Result},
    people::PersonKind,
};

/// Most notices that a page lists.
const LISTED_MAX: u32 = 200;
/// How long a notice is kept, in milliseconds: 90 days. The access history has everything for good.
const KEPT_MS: u64 = 90 * 86_400_000;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Somebody asks a patient for access.
    AccessRequested,
    /// A patient gave somebody access.
    AccessGranted,
    /// Somebody looked at a patient's record.
    RecordRead,
    /// Somebody opened a patient's record in an emergency.
    Emergency,
    /// Somebody added to a patient's record.
    NewEntry,
    /// An order is addressed to a laboratory.
    OrderReceived,
    /// A result is there for who ordered it.
    ResultReady,
    /// A result was corrected for who ordered it.
    ResultCorrected,
    /// A device or wallet was added to an account.
    NewDevice,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AccessRequested,
        Self::AccessGranted,
        Self::RecordRead,
        Self::Emergency,
        Self::NewEntry,
        Self::OrderReceived,
        Self::ResultReady,
        Self::ResultCorrected,
        Self::NewDevice,
    ];

    /// Its name in forms and messages: `access-requested`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessRequested => "access-requested",
            Self::AccessGranted => "access-granted",
            Self::RecordRead => "record-read",
            Self::Emergency => "emergency",
            Self::NewEntry => "new-entry",
            Self::OrderReceived => "order-received",
            Self::ResultReady => "result-ready",
            Self::ResultCorrected => "result-corrected",
            Self::NewDevice => "new-device",
        }
    }

    /// The sentence that is sent: that something happened, not what.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::AccessRequested => "Somebody asks to see your record",
            Self::AccessGranted => "A patient gave you access",
            Self::RecordRead => "Somebody looked at your record",
            Self::Emergency => "Your record was opened in an emergency",
            Self::NewEntry => "Something was added to your record",
            Self::OrderReceived => "A test was ordered from you",
            Self::ResultReady => "A result that you ordered is there",
            Self::ResultCorrected => "A result that you ordered was corrected",
            Self::NewDevice => "A new way to sign in was added to your account",
        }
    }

    /// Whether it concerns such people at all.
    #[must_use]
    pub const fn is_for(self, kind: PersonKind) -> bool {
        match self {
            Self::AccessRequested | Self::RecordRead | Self::Emergency | Self::NewEntry => {
                matches!(kind, PersonKind::Patient)
            }
            Self::AccessGranted
            | Self::OrderReceived
            | Self::ResultReady
            | Self::ResultCorrected => matches!(kind, PersonKind::Staff),
            Self::NewDevice => true,
        }
    }
}

/// A notice as the portal shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it, where that is not the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Address>,
}

/// A message on its way, in an outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing {
    /// The same for every attempt: by it a receiver knows a message that comes twice.
    id: String,
    account: Address,
    at: Timestamp,
    what: What,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum What {
    /// A notice of this kind.
    Notice(NoticeKind),
    /// How many people looked at the record on a day, `2026-06-30`.
    Day(String),
    /// The code that confirms an address.
    Code { address: String, code: String },
}

/// Outboxes.
const MAIL: &str = "notice/mail";
const HOOK: &str = "notice/hook";

impl Service {
    /// A person's notices of the last 90 days, newest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn notices(&self, account: Address) -> Result<Vec<Notice>> {
        let kept = self
            .index
            .local()
            .notices_of(account, LISTED_MAX)
            .map_err(Error::index("listing notices"))?;
        // A notice that a later program wrote and this one can't read is left out.
        Ok(kept
            .into_iter()
            .filter_map(|one| serde_json::from_slice(&one.document).ok())
            .collect())
    }

    /// Tells a person, unless they were told of the same source already or nobody signs in with the account here.
    pub(crate) fn tell(&self, account: Address, notice: &Notice, source: &str) -> Result<()> {
        const WHAT: &str = "keeping a notice";
        let local = self.index.local();
        // Asked first: most accounts of a large import have none.
        let passkeys = local.passkeys_of(account).map_err(Error::index(WHAT))?;
        if passkeys.is_empty() {
            return Ok(());
        }
        let person = self.person(account)?;
        if !person.is_some_and(|person| notice.kind.is_for(person.kind)) {
            return Ok(());
        }
        let settings = self.notice_settings(account)?;
        let out = |what: What, due: Timestamp, id: String| -> Result<(Vec<u8>, Timestamp)> {
            let outgoing = Outgoing {
                id,
                account,
                at: notice.at,
                what,
            };
            let payload = serde_json::to_vec(&outgoing).map_err(|e| Error::internal(WHAT, e))?;
            Ok((payload, due))
        };
        let id = message_id(account, source);
        let is_daily = notice.kind == NoticeKind::RecordRead && settings.reads == Reads::Daily;
        let mut sent = Vec::new();
        for (queue, wanted) in [
            (MAIL, settings.wants_mail(notice.kind)),
            (HOOK, settings.wants_hook(notice.kind)),
        ] {
            if wanted && !is_daily {
                let (payload, due) = out(What::Notice(notice.kind), notice.at, id.clone())?;
                sent.push((queue, payload, due));
            }
        }
        let document = serde_json::to_vec(notice).map_err(|e| Error::internal(WHAT, e))?;
        local
            .add_notice(account, source, &document, notice.at, &sent)
            .map_err(Error::index(WHAT))?;
        if is_daily {
            self.tell_of_the_day(account, notice, &settings)?;
        }
        self.notices_wait.notify_one();
        Ok(())
    }

    /// Puts the summary of a day into the outboxes, once; it goes out on the next morning.
    fn tell_of_the_day(
        &self,
        account: Address,
        notice: &Notice,
        settings: &NoticeSettings,
    ) -> Result<()> {
        const WHAT: &str = "summing a day up";
        let day = day_of(notice.at);
        let id = message_id(account, &format!("day/{day}"));
        let due = Timestamp(
            (notice.at.0 / DAY_MS)
                .saturating_add(1)
                .saturating_mul(DAY_MS),
        )
        .plus_ms(MORNING_MS);
        for (queue, wanted) in [
            (MAIL, settings.wants_mail(notice.kind)),
            (HOOK, settings.wants_hook(notice.kind)),
        ] {
            let local = self.index.local();
            let known = local
                .answer(queue, &id, notice.at)
                .map_err(Error::index(WHAT))?;
            if !wanted || known.is_some() {
                continue;
            }
            let outgoing = Outgoing {
                id: id.clone(),
                account,
                at: notice.at,
                what: What::Day(day.clone()),
            };
            let payload = serde_json::to_vec(&outgoing).map_err(|e| Error::internal(WHAT, e))?;
            local
                .push(queue, &payload, due)
                .map_err(Error::index(WHAT))?;
            local
                .remember_answer(queue, &id, b"", due)
                .map_err(Error::index(WHAT))?;
        }
        Ok(())
    }
}

const DAY_MS: u64 = 86_400_000;
/// When the summary of a day goes out, in milliseconds after midnight UTC.
const MORNING_MS: u64 = 6 * 3_600_000;

/// `2026-06-30`
fn day_of(at: Timestamp) -> String {
    at.to_instant().get(..10).unwrap_or_default().to_owned()
}

/// What a message is known by, at every attempt. Says nothing of the account.
fn message_id(account: Address, source: &str) -> String {
    let digest = alloy_primitives::keccak256([account.as_slice(), source.as_bytes()].concat());
    alloy_primitives::hex::encode(digest.get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_id_for_all_attempts() {
        let one = message_id(Address::repeat_byte(1), "read/2026-06-30/x");
        assert_eq!(
            one,
            message_id(Address::repeat_byte(1), "read/2026-06-30/x")
        );
        assert_ne!(
            one,
            message_id(Address::repeat_byte(2), "read/2026-06-30/x")
        );
        assert_eq!(one.len(), 32);
        assert_eq!(day_of(Timestamp::from_seconds(1_795_305_600)), "2026-11-22");
    }

    #[test]
    fn every_kind_is_for_somebody_and_says_nothing_clinical() {
        for kind in NoticeKind::ALL {
            assert!(kind.is_for(PersonKind::Patient) || kind.is_for(PersonKind::Staff));
            let text = serde_json::to_string(&kind).expect("text");
            assert_eq!(text, format!("\"{}\"", kind.name()));
        }
    }
}
