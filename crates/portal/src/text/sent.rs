//! What is sent to people by e-mail or through the organisation's channel, in their language.

use std::fmt::Display;

use stele_service::ports::Interpreter;

use super::{Language, filled, of, spoken};
use crate::shown::date;

/// Speaks for the use cases, which know languages by their codes only.
pub(crate) struct Spoken {
    /// The language of people who chose none.
    pub(crate) installation: Language,
}

impl Spoken {
    fn language(&self, code: Option<&str>) -> Language {
        code.and_then(Language::from_code)
            .unwrap_or(self.installation)
    }
}

impl Interpreter for Spoken {
    fn say(
        &self,
        language: Option<&str>,
        english: &'static str,
        values: &[(&'static str, &str)],
    ) -> String {
        let values: Vec<(&str, &dyn Display)> = values
            .iter()
            .map(|(name, value)| (*name, value as &dyn Display))
            .collect();
        spoken(self.language(language), || filled(of(english), &values))
    }

    fn day(&self, language: Option<&str>, written: &str) -> String {
        spoken(self.language(language), || date(written))
    }
}

#[cfg(test)]
mod tests {
    use stele_service::notices::{NoticeKind, SENTENCES};

    use super::*;

    /// NFR-UX5: an e-mail is in the language that its receiver chose, else in the installation's.
    #[test]
    fn messages_are_in_the_receivers_language() {
        let spoken = Spoken {
            installation: Language::English,
        };
        let kind = NoticeKind::Emergency.words();
        assert_eq!(spoken.say(None, kind, &[]), kind);
        assert_eq!(
            spoken.say(Some("de"), kind, &[]),
            "Ihre Akte wurde im Notfall geöffnet"
        );
        assert_eq!(spoken.say(Some("xx"), kind, &[]), kind);
        assert_eq!(spoken.day(Some("de"), "2026-06-30"), "30. Juni 2026");
        for sentence in SENTENCES {
            assert_ne!(spoken.say(Some("de"), sentence, &[]), sentence);
        }
    }
}
