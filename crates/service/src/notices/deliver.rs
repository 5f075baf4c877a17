//! Sending: each outbox in order of what is due, tried again with growing pauses, given up after three days.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use serde_json::json;
use stele_index::outbox::Entry;
use tokio::sync::watch;

use super::{HOOK, MAIL, NoticeKind, Outgoing, What, day_of};
use crate::{
    Service,
    error::{Error, Result},
    ports::{Courier, CourierError, Interpreter, Mail},
};

/// Messages of one outbox in one round.
const STEP: u32 = 32;
/// First pause after a failure; it doubles up to the longest.
const PAUSE_MS: u64 = 2_000;
const PAUSE_MAX_MS: u64 = 3_600_000;
/// Attempts before a message is given up: with these pauses about three days.
const ATTEMPTS_MAX: u32 = 80;
/// Longest pause between two looks into the outboxes.
const LOOK: Duration = Duration::from_secs(2);

const CONFIRM: &str = "Confirm your e-mail address";
const CODE: &str = "Your code is {code}. Enter it at {origin}/notices/settings within an hour.";
const MISTAKE: &str = "If you did not ask for this, somebody typed your address by mistake; do nothing, and nothing more comes.";
const ONE_READER: &str = "One person or system looked at your record on {date}";
const READERS: &str = "{count} people or systems looked at your record on {date}";
const MORE: &str = "Sign in to see more: {origin}/notices";
const NEVER: &str = "{date}. What it was about is never sent by e-mail. To change what is sent to you: {origin}/notices/settings";

/// Every sentence of a message but those of [`NoticeKind::words`], for whoever translates them.
pub const SENTENCES: [&str; 7] = [CONFIRM, CODE, MISTAKE, ONE_READER, READERS, MORE, NEVER];

/// Says everything in English, where nobody was named who knows more.
struct English;

impl Interpreter for English {
    fn say(
        &self,
        _: Option<&str>,
        english: &'static str,
        values: &[(&'static str, &str)],
    ) -> String {
        values
            .iter()
            .fold(english.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{name}}}"), value)
            })
    }

    fn day(&self, _: Option<&str>, written: &str) -> String {
        stele_fhir::words::date(written)
    }
}

/// Who speaks, and in which language.
struct Voice<'a> {
    interpreter: &'a dyn Interpreter,
    language: Option<String>,
}

impl Voice<'_> {
    fn say(&self, english: &'static str, values: &[(&'static str, &str)]) -> String {
        self.interpreter
            .say(self.language.as_deref(), english, values)
    }

    fn day(&self, written: &str) -> String {
        self.interpreter.day(self.language.as_deref(), written)
    }
}

impl Service {
    /// Names who puts messages into people's languages. Once, before [`Service::run_notices`]; all are in English without.
    pub fn set_interpreter(&self, interpreter: Arc<dyn Interpreter>) {
        drop(self.interpreter.set(interpreter));
    }

    fn voice(&self, language: Option<String>) -> Voice<'_> {
        Voice {
            interpreter: self.interpreter.get().map_or(&English, |one| one.as_ref()),
            language,
        }
    }

    /// Names who carries notices to people. Once, before [`Service::run_notices`].
    pub fn set_courier(&self, courier: Arc<dyn Courier>) {
        drop(self.courier.set(courier));
    }

    /// Whether notices can be sent by e-mail, and what people call the organisation's own channel, if there is one.
    #[must_use]
    pub fn notice_ways(&self) -> (bool, Option<String>) {
        self.courier.get().map_or((false, None), |courier| {
            (courier.has_mail(), courier.hook_name().map(str::to_owned))
        })
    }

    pub(super) async fn send_notices(&self, origin: String, mut stop: watch::Receiver<bool>) {
        let Some(courier) = self.courier.get() else {
            return;
        };
        while !*stop.borrow() {
            for queue in [MAIL, HOOK] {
                if let Err(error) = self.send_due(courier.as_ref(), queue, &origin).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "notices.send");
                }
            }
            tokio::select! {
                () = self.notices_wait.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.changed() => {}
            }
        }
    }

    async fn send_due(
        &self,
        courier: &dyn Courier,
        queue: &'static str,
        origin: &str,
    ) -> Result<()> {
        const WHAT: &str = "sending notices";
        let local = self.index.local();
        let due = local
            .due(queue, self.clock.now(), STEP)
            .map_err(Error::index(WHAT))?;
        for entry in due {
            match self.send_one(courier, queue, &entry, origin).await? {
                Ok(()) => local.done(entry.id).map_err(Error::index(WHAT))?,
                Err(error) if error.is_permanent || entry.attempts >= ATTEMPTS_MAX => {
                    tracing::warn!(
                        queue,
                        id = entry.id,
                        reason = error.reason,
                        "notices.given_up"
                    );
                    local.done(entry.id).map_err(Error::index(WHAT))?;
                }
                Err(error) => {
                    let pause = PAUSE_MS
                        .saturating_mul(1_u64.checked_shl(entry.attempts).unwrap_or(u64::MAX))
                        .min(PAUSE_MAX_MS);
                    tracing::warn!(
                        queue,
                        id = entry.id,
                        attempts = entry.attempts,
                        pause_ms = pause,
                        reason = error.reason,
                        "notices.put_off"
                    );
                    local
                        .put_off(entry.id, self.clock.now().plus_ms(pause))
                        .map_err(Error::index(WHAT))?;
                }
            }
        }
        Ok(())
    }

    /// Sends one message, unless its person no longer wants it.
    async fn send_one(
        &self,
        courier: &dyn Courier,
        queue: &'static str,
        entry: &Entry,
        origin: &str,
    ) -> Result<std::result::Result<(), CourierError>> {
        let outgoing: Outgoing = serde_json::from_slice(&entry.payload)
            .map_err(|error| Error::internal("reading a message", error))?;
        let settings = self.notice_settings(outgoing.account)?;
        let kind = match &outgoing.what {
            What::Notice(kind) => Some(*kind),
            What::Day(_) => Some(NoticeKind::RecordRead),
            What::Code { .. } => None,
        };
        let voice = self.voice(settings.language.clone());
        let words = self.words_of(&voice, outgoing.account, &outgoing.what)?;
        if queue == HOOK {
            let Some(kind) = kind.filter(|kind| settings.wants_hook(*kind)) else {
                return Ok(Ok(()));
            };
            let body = json!({
                "id": outgoing.id,
                "kind": kind.name(),
                "account": outgoing.account,
                "at": outgoing.at.to_instant(),
                "text": words,
                "link": format!("{origin}/notices"),
            });
            return Ok(courier.call_hook(&outgoing.id, body.to_string()).await);
        }
        let to = match (&outgoing.what, kind) {
            (What::Code { address, .. }, _) => Some(address.clone()),
            (_, Some(kind)) if settings.wants_mail(kind) => settings.email,
            _ => None,
        };
        let Some(to) = to else { return Ok(Ok(())) };
        let mail = mail(&voice, &outgoing, to, &words, origin);
        Ok(courier.send_mail(mail).await)
    }

    /// One sentence, without a name or anything clinical.
    fn words_of(&self, voice: &Voice<'_>, account: Address, what: &What) -> Result<String> {
        Ok(match what {
            What::Notice(kind) => voice.say(kind.words(), &[]),
            What::Code { .. } => voice.say(CONFIRM, &[]),
            What::Day(day) => {
                let readers = self
                    .index
                    .local()
                    .count_notices(account, &format!("read/{day}/"))
                    .map_err(Error::index("counting readers"))?;
                let date = voice.day(day);
                match readers {
                    1 => voice.say(ONE_READER, &[("date", &date)]),
                    some => voice.say(READERS, &[("count", &some.to_string()), ("date", &date)]),
                }
            }
        })
    }
}

fn mail(voice: &Voice<'_>, outgoing: &Outgoing, to: String, words: &str, origin: &str) -> Mail {
    let origin = ("origin", origin);
    let paragraphs = match &outgoing.what {
        What::Code { code, .. } => vec![
            voice.say(CODE, &[("code", code), origin]),
            voice.say(MISTAKE, &[]),
        ],
        _ => vec![
            format!("{words}."),
            voice.say(MORE, &[origin]),
            voice.say(NEVER, &[("date", &voice.day(&day_of(outgoing.at))), origin]),
        ],
    };
    Mail {
        id: outgoing.id.clone(),
        to,
        subject: words.to_owned(),
        text: format!("{}\n", paragraphs.join("\n\n")),
    }
}

#[cfg(test)]
mod tests {
    use stele_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_mail_says_that_and_never_what() {
        let outgoing = |what| Outgoing {
            id: "1".into(),
            account: Address::repeat_byte(7),
            at: Timestamp::from_seconds(1_795_305_600),
            what,
        };
        let told = outgoing(What::Notice(NoticeKind::Emergency));
        let voice = Voice {
            interpreter: &English,
            language: None,
        };
        let sent = mail(
            &voice,
            &told,
            "a@example.org".into(),
            NoticeKind::Emergency.words(),
            "https://r.example",
        );
        assert_eq!(sent.subject, "Your record was opened in an emergency");
        assert!(sent.text.contains("https://r.example/notices"));
        assert!(!sent.text.contains("0x07"), "no account");
        let asked = outgoing(What::Code {
            address: "a@example.org".into(),
            code: "012345".into(),
        });
        let sent = mail(
            &voice,
            &asked,
            "a@example.org".into(),
            "Confirm",
            "https://r.example",
        );
        assert!(sent.text.contains("012345") && !sent.subject.contains("012345"));
    }
}
