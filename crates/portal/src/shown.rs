//! Entries and moments as people read them.

use maud::{Markup, html};
use serde_json::Value;
use stele_core::{consent::Permissions, time::Timestamp};
use stele_fhir::{
    category::{self, Category},
    words,
};
use stele_service::{Stored, Verification};

use crate::page::icon;

/// An entry of a record, read once for everything that a page says of it.
pub(crate) struct Entry {
    pub(crate) stored: Stored,
    pub(crate) value: Value,
    pub(crate) category: Category,
    /// Plain name.
    pub(crate) title: String,
    /// Value with unit, or what else the entry says.
    pub(crate) shown: String,
    /// When it clinically was, as written; empty where nothing says so.
    pub(crate) when: String,
}

impl Entry {
    pub(crate) fn new(stored: Stored) -> Self {
        let value: Value = serde_json::from_str(&stored.text).unwrap_or_default();
        Self {
            category: category::assign(&value),
            title: plain(&words::title(&stored.resource_type, &value)),
            shown: pressure(&value)
                .unwrap_or_else(|| plain_unit(&plain(&words::shown_value(&value)))),
            when: words::when(&value).to_owned(),
            stored,
            value,
        }
    }

    /// What lists are sorted by: the clinical date, else that of the recording.
    pub(crate) fn sort_key(&self) -> String {
        if self.when.is_empty() {
            return self.stored.last_updated.to_instant();
        }
        self.when.clone()
    }

    /// `2026-06` of the sort key.
    pub(crate) fn month(&self) -> String {
        self.sort_key().chars().take(7).collect()
    }

    /// Address of the entry's page under a record's.
    pub(crate) fn address(&self, record: &str) -> String {
        format!("{record}/{}/{}", self.stored.resource_type, self.stored.id)
    }

    pub(crate) fn state(&self) -> Badge {
        match self.stored.state {
            Verification::Verified => Badge::Verified,
            Verification::DoesNotMatch => Badge::DoesNotMatch,
        }
    }

    pub(crate) fn status(&self) -> Option<&'static str> {
        words::status(&self.value)
    }

    /// The number of a numeric result with its unit.
    pub(crate) fn quantity(&self) -> Option<(f64, &str)> {
        let number = self.value.pointer("/valueQuantity/value")?.as_f64()?;
        Some((number, words::text_at(&self.value, "/valueQuantity/unit")))
    }

    /// FHIR id of the encounter it belongs to.
    pub(crate) fn encounter(&self) -> Option<&str> {
        words::text_at(&self.value, "/encounter/reference").strip_prefix("Encounter/")
    }
}

/// Without the tag that SNOMED CT puts behind its names: "Acute bronchitis (disorder)". The whole name stands in the
/// details.
fn plain(name: &str) -> String {
    const TAGS: [&str; 14] = [
        "disorder",
        "finding",
        "procedure",
        "situation",
        "regime/therapy",
        "physical object",
        "qualifier value",
        "person",
        "observable entity",
        "substance",
        "product",
        "morphologic abnormality",
        "event",
        "assessment scale",
    ];
    name.strip_suffix(')')
        .and_then(|rest| rest.rsplit_once(" ("))
        .filter(|(_, tag)| TAGS.contains(tag))
        .map_or(name, |(words, _)| words)
        .to_owned()
}

/// Units of UCUM as people write them, at the end of a value.
fn plain_unit(shown: &str) -> String {
    const UNITS: [(&str, &str); 8] = [
        ("mm[Hg]", "mmHg"),
        ("Cel", "°C"),
        ("10*3/uL", "×10³/µL"),
        ("10*6/uL", "×10⁶/µL"),
        ("{score}", ""),
        ("/min", "per minute"),
        ("m[IU]/L", "mIU/L"),
        ("{nominal}", ""),
    ];
    let Some((number, unit)) = shown.split_once(' ') else {
        return shown.to_owned();
    };
    UNITS
        .iter()
        .find(|(written, _)| *written == unit)
        .map_or_else(
            || shown.to_owned(),
            |(_, words)| format!("{number} {words}").trim().to_owned(),
        )
}

/// A blood pressure in one: `128/82 mmHg`.
fn pressure(value: &Value) -> Option<String> {
    let part = |code: &str| {
        value
            .get("component")?
            .as_array()?
            .iter()
            .find(|part| {
                let codings = part.pointer("/code/coding").and_then(Value::as_array);
                codings
                    .into_iter()
                    .flatten()
                    .any(|one| words::text_at(one, "/code") == code)
            })?
            .pointer("/valueQuantity/value")
            .map(Value::to_string)
    };
    // LOINC: systolic and diastolic blood pressure.
    let (upper, lower) = (part("8480-6")?, part("8462-4")?);
    Some(format!("{upper}/{lower} mmHg"))
}

/// What was found when an entry was held against the ledger, on the bytes that are shown. There is no "Being recorded":
/// whatever adds an entry answers once it is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Badge {
    Verified,
    CannotCheck,
    DoesNotMatch,
}

impl Badge {
    pub(crate) const fn look(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Verified => ("ok", "check", "Verified"),
            Self::CannotCheck => ("idle", "cloud-off", "Cannot check now"),
            Self::DoesNotMatch => ("bad", "octagon-alert", "Does not match"),
        }
    }
}

/// The badge under an entry, opening to one sentence and what else a page has to say.
pub(crate) fn badge(state: Badge, of: &str, is_open: bool, inside: &Markup) -> Markup {
    let (kind, picture, word) = state.look();
    html! {
        details class={ "verify " (kind) } open[is_open || state == Badge::DoesNotMatch] {
            summary { (icon(picture)) " " (word) @if !of.is_empty() { span.hide { ": " (of) } } }
            div.flow { (inside) }
        }
    }
}

/// `1 March 2026`.
pub(crate) fn day(at: Timestamp) -> String {
    words::date(&at.to_instant())
}

/// `1 March 2026, 14:02`, in UTC as everything on the ledger.
pub(crate) fn moment(at: Timestamp) -> String {
    format!("{}, {}", day(at), clock(at))
}

/// `14:02`.
pub(crate) fn clock(at: Timestamp) -> String {
    at.to_instant().get(11..16).unwrap_or_default().to_owned()
}

/// `01-Mar-2026`, as clinicians read dates; parts that are not written stay away.
pub(crate) fn short_date(written: &str) -> String {
    let long = words::date(written);
    let parts: Vec<&str> = long.split(' ').collect();
    match parts.as_slice() {
        [day, month, year] if day.parse::<u8>().is_ok() => {
            let month: String = month.chars().take(3).collect();
            format!("{day:0>2}-{month}-{year}")
        }
        [month, year] if year.parse::<u16>().is_ok() => {
            let month: String = month.chars().take(3).collect();
            format!("{month}-{year}")
        }
        _ => "Not known".to_owned(),
    }
}

/// `15-Mar-1984 (42y)`.
pub(crate) fn born(written: &str, now: Timestamp) -> String {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i32>().ok());
    let mut parts = written.split('-');
    let (year, month, day) = (
        number(parts.next()),
        number(parts.next()),
        number(parts.next()),
    );
    let (Some(year), Some(month), Some(day)) = (year, month, day) else {
        return short_date(written);
    };
    let today = now.to_utc();
    let had = (i32::from(u8::from(today.month())), i32::from(today.day())) >= (month, day);
    let age = today.year() - year - i32::from(!had);
    format!("{} ({age}y)", short_date(written))
}

/// `see`, `see and add to`.
pub(crate) fn verbs(permissions: Permissions) -> String {
    let mut verbs = Vec::new();
    for (permission, verb) in [
        (Permissions::READ, "see"),
        (Permissions::WRITE, "add to"),
        (Permissions::SHARE, "share"),
    ] {
        if permissions.contains(permission) {
            verbs.push(verb.to_owned());
        }
    }
    list(&verbs)
}

/// The parts of a record in words: "everything", "everything except mental health", or a list.
pub(crate) fn parts(categories: &[Category]) -> String {
    let left_out: Vec<Category> = Category::ALL
        .into_iter()
        .filter(|one| !categories.contains(one))
        .collect();
    if left_out.is_empty() {
        return "everything".into();
    }
    let names = |list: &[Category]| -> Vec<String> {
        list.iter().map(|one| one.plain_name().to_owned()).collect()
    };
    if left_out.len() <= 6 {
        return format!("everything except {}", list(&names(&left_out)));
    }
    list(&names(categories))
}

/// The same with whose they are: "your medicines", "everything in your record except mental health".
pub(crate) fn whose(whose: &str, categories: &[Category]) -> String {
    let parts = parts(categories);
    match parts.strip_prefix("everything") {
        Some(rest) => format!("everything in {whose} record{rest}"),
        None => format!("{whose} {parts}"),
    }
}

/// `a, b and c`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// With a capital letter at the beginning.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// The two ends of a long number.
pub(crate) fn short(text: &str) -> String {
    match (text.get(..10), text.get(text.len().saturating_sub(6)..)) {
        (Some(begin), Some(end)) if text.len() > 20 => format!("{begin}…{end}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clinical_dates_say_what_is_known() {
        let now = Timestamp::from_seconds(1_795_305_600); // 2026-11-22
        assert_eq!(born("1984-03-15", now), "15-Mar-1984 (42y)");
        assert_eq!(born("1984-12-15", now), "15-Dec-1984 (41y)");
        assert_eq!(born("1984", now), "Not known");
        assert_eq!(short_date("2026-06-04T10:00:00Z"), "04-Jun-2026");
        assert_eq!(short_date("2026-06"), "Jun-2026");
    }

    #[test]
    fn names_and_values_are_plain() {
        assert_eq!(plain("Acute bronchitis (disorder)"), "Acute bronchitis");
        assert_eq!(plain("Calcium (total)"), "Calcium (total)");
        assert_eq!(plain_unit("39.83 Cel"), "39.83 °C");
        assert_eq!(plain_unit("1 {score}"), "1");
        let reading = serde_json::json!({ "component": [
            { "code": { "coding": [{ "code": "8462-4" }] }, "valueQuantity": { "value": 82 } },
            { "code": { "coding": [{ "code": "8480-6" }] }, "valueQuantity": { "value": 128 } }
        ] });
        assert_eq!(pressure(&reading).as_deref(), Some("128/82 mmHg"));
    }

    #[test]
    fn parts_are_named_the_short_way() {
        assert_eq!(parts(&Category::ALL), "everything");
        assert_eq!(
            parts(&[Category::Allergies, Category::Medicines]),
            "allergies and medicines"
        );
        let but_one: Vec<Category> = Category::ALL
            .into_iter()
            .filter(|one| *one != Category::MentalHealth)
            .collect();
        assert_eq!(parts(&but_one), "everything except mental health");
        assert_eq!(
            whose("my", &but_one),
            "everything in my record except mental health"
        );
        assert_eq!(whose("your", &[Category::Medicines]), "your medicines");
        assert_eq!(capital("x-rays"), "X-rays");
    }
}
