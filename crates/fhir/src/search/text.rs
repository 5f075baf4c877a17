//! Texts made comparable: case, accents and white space do not count.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::canonical_combining_class;

/// Lower-case, accents folded, runs of white space as one blank, trimmed: what string searches
/// compare on both sides.
///
/// Letters that are not an accented form of another (`ß`, `ø`) stay as they are.
pub fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let end = normal.len();
        if end > 0 {
            normal.push(' ');
        }
        let start = normal.len();
        if word.is_ascii() {
            normal.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            let plain = word.nfd().filter(|c| !is_accent(*c));
            normal.extend(
                plain
                    .flat_map(char::to_lowercase)
                    .filter(|c| !is_accent(*c)),
            );
        }
        // A word of accents alone leaves nothing, not even its blank.
        if normal.len() == start {
            normal.truncate(end);
        }
    }
    normal
}

/// Marks that are written or left out at will: accents (combining classes from 200) and the vowel
/// points of Hebrew and Arabic (10 to 35). Vowel signs of other scripts are letters and stay.
fn is_accent(letter: char) -> bool {
    matches!(canonical_combining_class(letter), 10..=35 | 200..)
}

/// Words of a text for full-text searches: runs of letters and digits, normalised.
pub fn words(text: &str) -> Vec<String> {
    normalise(text)
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Texts of a resource for full-text searches, without markup. `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FullText {
    /// Text of the narrative (`_text`).
    pub narrative: String,
    /// All texts meant for people, narrative included (`_content`).
    pub content: String,
}

impl std::fmt::Debug for FullText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FullText(..)")
    }
}

/// Takes the texts out of a resource.
///
/// Members that hold no words for people (references, URLs, ids, encoded content) are left out.
pub fn full_text(resource: &Value) -> FullText {
    let div = resource
        .get("text")
        .and_then(|text| text.get("div"))
        .and_then(Value::as_str);
    let narrative = div.map_or_else(String::new, without_markup);
    let mut content = narrative.clone();
    collect(resource, &mut content);
    FullText { narrative, content }
}

fn collect(value: &Value, content: &mut String) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if !NOT_WORDS.contains(&name.as_str()) {
                    collect(member, content);
                }
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| collect(element, content)),
        Value::String(text) => {
            content.push(' ');
            content.push_str(text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Text of an XHTML fragment: tags become blanks, the five XML entities their characters.
fn without_markup(markup: &str) -> String {
    let mut plain = String::with_capacity(markup.len());
    let mut in_tag = false;
    for c in markup.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                plain.push(' ');
            }
            c if !in_tag => plain.push(c),
            _ => {}
        }
    }
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        if plain.contains(entity) {
            plain = plain.replace(entity, character);
        }
    }
    plain
}

/// Members that hold no words for people. The narrative is taken apart by itself.
const NOT_WORDS: [&str; 16] = [
    "contentType",
    "data",
    "div",
    "extension",
    "fullUrl",
    "hash",
    "id",
    "lastUpdated",
    "meta",
    "modifierExtension",
    "profile",
    "reference",
    "resourceType",
    "system",
    "url",
    "versionId",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(normalise(text), expected, "{text}");
    }

    #[test]
    fn case_accents_and_blanks_do_not_count() {
        check("  José\u{a0} GARCÍA ", "jose garcia");
        check("Žofie  Dvořáková", "zofie dvorakova");
        check("e\u{301}", "e");
        check("İ", "i");
        check("Straße", "straße");
        check("मूल", "मूल");
        check("a \u{301} b", "a b");
        check("", "");
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(
            words("Heart-rate: 72 (Résumé)"),
            ["heart", "rate", "72", "resume"]
        );
    }

    #[test]
    fn full_text_has_words_only() {
        let texts = full_text(&json!({
            "resourceType": "Observation", "id": "secret-id",
            "text": {"status": "generated", "div": "<div xmlns=\"x\">A &lt; <b>B</b></div>"},
            "code": {"coding": [{"system": "http://s", "code": "c1", "display": "Heart rate"}]},
            "subject": {"reference": "Patient/1", "display": "Ann"},
        }));
        assert_eq!(words(&texts.narrative), ["a", "b"]);
        assert_eq!(
            words(&texts.content),
            ["a", "b", "generated", "c1", "heart", "rate", "ann"]
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC*") {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn markup_never_panics(text in "[<>&;a-z/\"= ]{0,80}") {
            let _ = without_markup(&text);
        }
    }
}
