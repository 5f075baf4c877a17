//! Catalogues: gettext's PO files, read once.

use std::{collections::HashMap, sync::LazyLock};

use alloy_primitives::hex;
use intl_pluralrules::{PluralCategory, PluralRuleType, PluralRules, operands::PluralOperands};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Language, Part, filled, parts};

/// The catalogue of German. Messages of the browser's scripts are apart, since browsers get them.
const GERMAN: [&str; 6] = [
    include_str!("de/shared.po"),
    include_str!("de/patients.po"),
    include_str!("de/clinicians.po"),
    include_str!("de/offices.po"),
    include_str!("de/words.po"),
    include_str!("de/refusals.po"),
];
const GERMAN_BROWSER: &str = include_str!("de/browser.po");

/// Files of a language: messages of pages, and those of scripts. None for the language of the sources.
pub(super) fn files(language: Language) -> (&'static [&'static str], Option<&'static str>) {
    match language {
        Language::English => (&[], None),
        Language::German => (&GERMAN, Some(GERMAN_BROWSER)),
    }
}

/// Messages of a language.
pub(super) struct Catalogue {
    messages: HashMap<String, Vec<String>>,
    /// Messages with arguments, which sentences of other crates are held against.
    templates: Vec<String>,
    rules: Option<PluralRules>,
    browser: Option<Browser>,
}

/// What browsers get of a language.
pub(crate) struct Browser {
    /// `/assets/de-….json`
    pub(crate) address: String,
    /// Messages by their English.
    pub(crate) content: String,
}

static ENGLISH_MESSAGES: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::new(Language::English));
static GERMAN_MESSAGES: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::new(Language::German));

/// The catalogue of a language.
pub(super) fn of(language: Language) -> &'static Catalogue {
    match language {
        Language::English => &ENGLISH_MESSAGES,
        Language::German => &GERMAN_MESSAGES,
    }
}

/// The messages that the scripts of a browser need; none in the language of the sources.
pub(crate) fn browser(language: Language) -> Option<&'static Browser> {
    of(language).browser.as_ref()
}

impl Catalogue {
    fn new(language: Language) -> Self {
        let (pages, scripts) = files(language);
        let mut messages = HashMap::new();
        for file in pages {
            messages.extend(read(language, file));
        }
        let templates = messages
            .keys()
            .filter(|words| is_telling(words))
            .cloned()
            .collect();
        let code = language.code().parse().ok();
        Self {
            messages,
            templates,
            rules: code.and_then(|code: unic_langid::LanguageIdentifier| {
                PluralRules::create(code, PluralRuleType::CARDINAL).ok()
            }),
            browser: scripts.map(|file| Browser::new(language, file)),
        }
    }

    pub(super) fn message(&self, english: &str) -> Option<&str> {
        self.messages.get(english)?.first().map(String::as_str)
    }

    pub(super) fn plural<'a, N: TryInto<PluralOperands>>(
        &'a self,
        count: N,
        one: &'a str,
        other: &'a str,
    ) -> &'a str {
        let category = self
            .rules
            .as_ref()
            .and_then(|rules| rules.select(count).ok());
        // The two languages have these two forms; another one brings its own order here.
        let (place, english) = match category {
            Some(PluralCategory::ONE) => (0, one),
            _ => (1, other),
        };
        self.messages
            .get(one)
            .and_then(|forms| forms.get(place))
            .map_or(english, String::as_str)
    }

    /// A whole sentence of another crate, whatever was put into it.
    pub(super) fn sentence(&self, english: &str) -> Option<String> {
        if let Some(known) = self.message(english) {
            return Some(known.to_owned());
        }
        self.templates.iter().find_map(|template| {
            let found = taken_apart(template, english)?;
            let arguments: Vec<(&str, &dyn std::fmt::Display)> = found
                .iter()
                .map(|(name, value)| (*name, value as &dyn std::fmt::Display))
                .collect();
            Some(filled(self.message(template)?, &arguments))
        })
    }
}

/// Whether a message with arguments has words enough to be known by them.
fn is_telling(message: &str) -> bool {
    let words = parts(message).filter_map(|part| match part {
        Part::Words(words) => Some(words.chars().filter(|one| one.is_alphabetic()).count()),
        Part::Argument(_) => None,
    });
    message.contains('{') && words.sum::<usize>() >= WORDS_MIN
}

/// Fewest letters that a sentence is known by.
const WORDS_MIN: usize = 12;

/// What was put into a template to get a sentence; none if the sentence is not of this template.
fn taken_apart<'a>(template: &'a str, sentence: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut rest = sentence;
    let mut open: Option<&str> = None;
    let mut found = Vec::new();
    for part in parts(template) {
        match (part, open) {
            (Part::Words(words), None) => rest = rest.strip_prefix(words)?,
            (Part::Words(words), Some(name)) => {
                let (value, after) = rest.split_once(words)?;
                found.push((name, value));
                (rest, open) = (after, None);
            }
            (Part::Argument(name), None) => open = Some(name),
            // Nothing stands between two arguments, so nothing tells where one ends.
            (Part::Argument(_), Some(_)) => return None,
        }
    }
    match open {
        Some(name) => found.push((name, rest)),
        None if !rest.is_empty() => return None,
        None => {}
    }
    Some(found)
}

/// Messages of a file with their forms: one, or one for each plural. A file that can't be read is left out with a line in
/// the log; the tests read all of them.
fn read(language: Language, file: &str) -> Vec<(String, Vec<String>)> {
    let catalogue = match polib::po_file::parse_from_reader(file.as_bytes()) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            tracing::error!(%error, language = language.code(), "portal.catalogue");
            return Vec::new();
        }
    };
    catalogue
        .messages()
        .filter(|message| message.is_translated())
        .map(|message| {
            let forms = match message.msgstr_plural() {
                Ok(forms) => forms.clone(),
                Err(_) => message.msgstr().map(str::to_owned).into_iter().collect(),
            };
            (message.msgid().to_owned(), forms)
        })
        .collect()
}

impl Browser {
    fn new(language: Language, file: &str) -> Self {
        let messages: Map<String, Value> = read(language, file)
            .into_iter()
            .map(|(english, forms)| match forms.as_slice() {
                [form] => (english, json!(form)),
                forms => (english, json!(forms)),
            })
            .collect();
        let content = Value::Object(messages).to_string();
        let digest = hex::encode(Sha256::digest(&content));
        let digest = digest.get(..16).unwrap_or_default();
        Self {
            address: format!("/assets/{}-{digest}.json", language.code()),
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_known_by_the_words_around_what_was_put_in() {
        let template = "{count} codes were sent today. Wait until {day}.";
        assert_eq!(
            taken_apart(template, "5 codes were sent today. Wait until tomorrow."),
            Some(vec![("count", "5"), ("day", "tomorrow")])
        );
        assert_eq!(taken_apart(template, "5 codes were sent."), None);
        assert_eq!(
            taken_apart("No {what}", "No way"),
            Some(vec![("what", "way")])
        );
        assert_eq!(
            taken_apart("{what}", "anything"),
            Some(vec![("what", "anything")])
        );
        assert_eq!(taken_apart("{a}{b}", "anything"), None);
    }
}
