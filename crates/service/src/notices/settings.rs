//! How a person wants to be told. An e-mail address counts once a code that was sent there came back.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};
use stele_core::time::Timestamp;

use super::{MAIL, NoticeKind, Outgoing, What};
use crate::{
    Service,
    error::{Error, Result},
    people::random,
};

/// How long a code is good, in milliseconds: an hour.
const CODE_MS: u64 = 3_600_000;
/// Wrong codes before a new one is needed.
const TRIES_MAX: u8 = 5;
/// Codes that are sent for one account in a day: nobody is to be pestered through this form.
const CODES_A_DAY: u32 = 5;
/// RFC 5321, 4.5.3.1.3: the longest path, without its brackets.
const ADDRESS_MAX: usize = 254;

/// When a person is told that the record was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// On the next morning, all in one.
    #[default]
    Daily,
    /// At once, once a day for each reader.
    AtOnce,
}

/// An address that is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confirmation {
    /// The address.
    pub address: String,
    code: B256,
    expires: Timestamp,
    tries: u8,
}

/// How a person wants to be told beside the portal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NoticeSettings {
    /// The confirmed e-mail address.
    pub email: Option<String>,
    /// An address that waits for its code.
    pub unconfirmed: Option<Confirmation>,
    /// Kinds that are not sent by e-mail. None to begin with: who gives an address wants to be told.
    pub not_by_mail: BTreeSet<NoticeKind>,
    /// Kinds that go through the organisation's channel. None to begin with.
    pub by_hook: BTreeSet<NoticeKind>,
    /// When reads are told of.
    pub reads: Reads,
    /// Code of the language (BCP 47) that the person chose for pages and messages.
    pub language: Option<String>,
}

impl NoticeSettings {
    pub(super) fn wants_mail(&self, kind: NoticeKind) -> bool {
        self.email.is_some() && !self.not_by_mail.contains(&kind)
    }

    pub(super) fn wants_hook(&self, kind: NoticeKind) -> bool {
        self.by_hook.contains(&kind)
    }
}

impl Service {
    /// How a person wants to be told; the defaults where nothing was said.
    ///
    /// # Errors
    /// The index fails.
    pub fn notice_settings(&self, account: Address) -> Result<NoticeSettings> {
        const WHAT: &str = "reading notice settings";
        let found = self
            .index
            .local()
            .notice_settings(account)
            .map_err(Error::index(WHAT))?;
        found.map_or_else(
            || Ok(NoticeSettings::default()),
            |document| serde_json::from_slice(&document).map_err(|e| Error::internal(WHAT, e)),
        )
    }

    /// Changes what a person is told of, and how; the address stays.
    ///
    /// # Errors
    /// The index fails.
    pub fn choose_notices(
        &self,
        account: Address,
        by_mail: &BTreeSet<NoticeKind>,
        by_hook: BTreeSet<NoticeKind>,
        reads: Reads,
    ) -> Result<()> {
        let mut settings = self.notice_settings(account)?;
        let all = NoticeKind::ALL.into_iter();
        settings.not_by_mail = all.filter(|kind| !by_mail.contains(kind)).collect();
        settings.by_hook = by_hook;
        settings.reads = reads;
        self.keep_notice_settings(account, &settings)
    }

    /// Takes an e-mail address in and sends a code there; an empty one ends e-mail. The confirmed address stays in use
    /// until the new one is confirmed.
    ///
    /// # Errors
    /// [`Error::Conflict`] with what is wrong with the address, or after too many codes.
    pub fn set_notice_address(&self, account: Address, address: &str) -> Result<()> {
        const WHAT: &str = "sending a code";
        let mut settings = self.notice_settings(account)?;
        let address = address.trim();
        if address.is_empty() {
            (settings.email, settings.unconfirmed) = (None, None);
            return self.keep_notice_settings(account, &settings);
        }
        require_address(address)?;
        let now = self.clock.now();
        self.take_code_allowance(account, now)?;
        let code = code();
        settings.unconfirmed = Some(Confirmation {
            address: address.to_owned(),
            code: digest(account, &code),
            expires: now.plus_ms(CODE_MS),
            tries: 0,
        });
        self.keep_notice_settings(account, &settings)?;
        let outgoing = Outgoing {
            id: alloy_primitives::hex::encode(random().get(..16).unwrap_or_default()),
            account,
            at: now,
            what: What::Code {
                address: address.to_owned(),
                code,
            },
        };
        let payload = serde_json::to_vec(&outgoing).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .push(MAIL, &payload, now)
            .map_err(Error::index(WHAT))?;
        self.notices_wait.notify_one();
        Ok(())
    }

    /// Confirms the address by the code that was sent there. False if the code is wrong, too old, or was tried too often.
    ///
    /// # Errors
    /// The index fails.
    pub fn confirm_notice_address(&self, account: Address, code: &str) -> Result<bool> {
        let mut settings = self.notice_settings(account)?;
        let Some(mut waiting) = settings.unconfirmed.take() else {
            return Ok(false);
        };
        let is_good = waiting.expires > self.clock.now() && waiting.tries < TRIES_MAX;
        let plain: String = code.chars().filter(char::is_ascii_digit).collect();
        let is_right = is_good && digest(account, &plain) == waiting.code;
        if is_right {
            settings.email = Some(waiting.address);
        } else {
            waiting.tries = waiting.tries.saturating_add(1);
            settings.unconfirmed = Some(waiting);
        }
        self.keep_notice_settings(account, &settings)?;
        Ok(is_right)
    }

    /// Code of the language that a person chose.
    ///
    /// # Errors
    /// The index fails.
    pub fn language_of(&self, account: Address) -> Result<Option<String>> {
        Ok(self.notice_settings(account)?.language)
    }

    /// Keeps the language that a person chose, by its code.
    ///
    /// # Errors
    /// The index fails.
    pub fn keep_language(&self, account: Address, code: &str) -> Result<()> {
        let mut settings = self.notice_settings(account)?;
        settings.language = Some(code.to_owned());
        self.keep_notice_settings(account, &settings)
    }

    fn keep_notice_settings(&self, account: Address, settings: &NoticeSettings) -> Result<()> {
        const WHAT: &str = "keeping notice settings";
        let document = serde_json::to_vec(settings).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_notice_settings(account, &document)
            .map_err(Error::index(WHAT))
    }

    fn take_code_allowance(&self, account: Address, now: Timestamp) -> Result<()> {
        const SCOPE: &str = "notice-codes";
        const WHAT: &str = "counting codes";
        let local = self.index.local();
        for number in 0..CODES_A_DAY {
            let key = format!("{account}/{number}");
            let taken = local.answer(SCOPE, &key, now).map_err(Error::index(WHAT))?;
            if taken.is_none() {
                local
                    .forget_answer(SCOPE, &key)
                    .map_err(Error::index(WHAT))?;
                return local
                    .remember_answer(SCOPE, &key, b"", now.plus_ms(super::DAY_MS))
                    .map_err(Error::index(WHAT));
            }
        }
        Err(Error::Conflict {
            message: format!(
                "{CODES_A_DAY} codes were sent today. Wait until tomorrow to change the address."
            ),
        })
    }
}

/// Enough to find mistakes of typing; whether the address exists shows when the code comes back. ASCII only: not every
/// relay takes others (RFC 6531).
fn require_address(address: &str) -> Result<()> {
    let is_good = address.len() <= ADDRESS_MAX
        && address
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | '"'))
        && address.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !local.contains('@')
                && domain.contains('.')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
        });
    if is_good {
        return Ok(());
    }
    Err(Error::Conflict {
        message: "Enter an e-mail address, for example name@example.org.".into(),
    })
}

/// Six digits.
fn code() -> String {
    let bytes = random();
    let number = bytes
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    format!("{:06}", number % 1_000_000)
}

fn digest(account: Address, code: &str) -> B256 {
    keccak256(
        [
            b"stele/notice-code/v1\0".as_slice(),
            account.as_slice(),
            code.as_bytes(),
        ]
        .concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_for_mistakes_of_typing() {
        for good in [
            "ana@example.org",
            "a.b+c@sub.example.co",
            "x@xn--mller-kva.example",
        ] {
            assert!(require_address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ana",
            "ana@",
            "@example.org",
            "ana@example",
            "a b@example.org",
            "a@b@example.org",
            "a@example.org,b@example.org",
            "a@example.org\r\nBcc: b@example.org",
            "<a@example.org>",
            "ü@example.org",
        ] {
            assert!(require_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mail_is_for_who_gave_an_address() {
        let mut settings = NoticeSettings::default();
        assert!(!settings.wants_mail(NoticeKind::Emergency));
        settings.email = Some("ana@example.org".into());
        assert!(settings.wants_mail(NoticeKind::Emergency));
        settings.not_by_mail.insert(NoticeKind::Emergency);
        assert!(!settings.wants_mail(NoticeKind::Emergency));
        assert!(!settings.wants_hook(NoticeKind::Emergency));
        assert_eq!(code().len(), 6);
    }
}
