//! Entries and moments as people read them.

use maud::{Markup, html};
use serde_json::Value;
use stele_core::{
    consent::{Permissions, Purpose},
    time::Timestamp,
};
use stele_fhir::{
    category::{self, Category},
    words,
};
use stele_service::{Stored, Verification};

use crate::{
    page::icon,
    text::{self, Language},
};

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
            shown: pressure(&value).unwrap_or_else(|| {
                let shown = plain_unit(&plain(&words::shown_value(&value)));
                match value.pointer("/valueQuantity/value") {
                    Some(_) => localised(&shown),
                    None => shown,
                }
            }),
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
        ("/min", message!("per minute")),
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
            |(_, words)| format!("{number} {}", text::of(words)).trim().to_owned(),
        )
}

/// A number with its unit, the number as the language writes it.
fn localised(shown: &str) -> String {
    match shown.split_once(' ') {
        Some((number, unit)) => format!("{} {unit}", text::decimal(number)),
        None => text::decimal(shown),
    }
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
    pub(crate) fn look(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Verified => ("ok", "check", text!("Verified")),
            Self::CannotCheck => ("idle", "cloud-off", text!("Cannot check now")),
            Self::DoesNotMatch => ("bad", "octagon-alert", text!("Does not match")),
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
    date(&at.to_instant())
}

/// A date as FHIR writes it, or its beginning: `2026-03-01T10:11` as "1 March 2026"; a month or year alone stays one.
pub(crate) fn date(written: &str) -> String {
    if written.is_empty() {
        return text!("not known").to_owned();
    }
    let Written { year, month, day } = Written::of(written);
    match (day, month.and_then(month_name)) {
        (Some(day), Some(month)) => text!("{day} {month} {year}", day, month, year),
        (None, Some(month)) => text!("{month} {year}", month, year),
        _ => year.to_owned(),
    }
}

/// The parts of a date that are written.
struct Written<'a> {
    year: &'a str,
    month: Option<u8>,
    day: Option<u8>,
}

impl<'a> Written<'a> {
    fn of(written: &'a str) -> Self {
        let mut numbers = written.split(['-', 'T']);
        Self {
            year: numbers.next().unwrap_or_default(),
            month: numbers.next().and_then(|month| month.parse().ok()),
            day: numbers.next().and_then(|day| day.parse().ok()),
        }
    }
}

fn month_name(month: u8) -> Option<&'static str> {
    Some(match month {
        1 => text!("January"),
        2 => text!("February"),
        3 => text!("March"),
        4 => text!("April"),
        5 => text!("May"),
        6 => text!("June"),
        7 => text!("July"),
        8 => text!("August"),
        9 => text!("September"),
        10 => text!("October"),
        11 => text!("November"),
        12 => text!("December"),
        _ => return None,
    })
}

/// `1 March 2026, 14:02`, in UTC as everything on the ledger.
pub(crate) fn moment(at: Timestamp) -> String {
    text!("{day}, {clock}", day = day(at), clock = clock(at))
}

/// `14:02`, as the language says it.
pub(crate) fn clock(at: Timestamp) -> String {
    let instant = at.to_instant();
    text!("{clock}", clock = instant.get(11..16).unwrap_or_default())
}

/// `01-Mar-2026`, as clinicians read dates; parts that are not written stay away.
pub(crate) fn short_date(written: &str) -> String {
    let Written { year, month, day } = Written::of(written);
    let month = month.and_then(|month| Some((month, month_name(month)?)));
    match (text::language(), day, month) {
        (Language::English, Some(day), Some((_, month))) => {
            let month: String = month.chars().take(3).collect();
            format!("{day:02}-{month}-{year}")
        }
        (Language::English, None, Some((_, month))) => {
            let month: String = month.chars().take(3).collect();
            format!("{month}-{year}")
        }
        (Language::German, Some(day), Some((month, _))) => format!("{day:02}.{month:02}.{year}"),
        (Language::German, None, Some((month, _))) => format!("{month:02}/{year}"),
        (_, _, None) => text!("Not known").to_owned(),
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
    text!("{date} ({age}y)", date = short_date(written), age)
}

/// `see`, `see and add to`.
pub(crate) fn verbs(permissions: Permissions) -> String {
    let mut verbs = Vec::new();
    for (permission, verb) in [
        (Permissions::READ, text!("see")),
        (Permissions::WRITE, text!("add to")),
        (Permissions::SHARE, text!("share")),
    ] {
        if permissions.contains(permission) {
            verbs.push(verb.to_owned());
        }
    }
    list(&verbs)
}

/// What patients call a part of a record: "medicines".
pub(crate) fn part(category: Category) -> &'static str {
    text::of(category.plain_name())
}

/// Why somebody may see something, after "for".
pub(crate) fn purpose(purpose: Purpose) -> &'static str {
    text::of(purpose.words())
}

/// A state of an entry in words.
pub(crate) fn status(words: &'static str) -> &'static str {
    text::of(words)
}

/// The parts of a record that are left out of it, where that is shorter to say; none where nothing is.
fn left_out(categories: &[Category]) -> Option<Vec<Category>> {
    let left_out: Vec<Category> = Category::ALL
        .into_iter()
        .filter(|one| !categories.contains(one))
        .collect();
    (left_out.len() <= 6).then_some(left_out)
}

fn named(categories: &[Category]) -> String {
    let names: Vec<String> = categories.iter().map(|one| part(*one).to_owned()).collect();
    list(&names)
}

/// The parts of a record in words: "everything", "everything except mental health", or a list.
pub(crate) fn parts(categories: &[Category]) -> String {
    match left_out(categories) {
        Some(none) if none.is_empty() => text!("everything").to_owned(),
        Some(left_out) => text!("everything except {parts}", parts = named(&left_out)),
        None => named(categories),
    }
}

/// Parts of the record of whoever speaks: "my medicines", "everything in my record except mental health".
pub(crate) fn my(categories: &[Category]) -> String {
    match left_out(categories) {
        Some(none) if none.is_empty() => text!("everything in my record").to_owned(),
        Some(left_out) => text!(
            "everything in my record except {parts}",
            parts = named(&left_out)
        ),
        None => text!("my {parts}", parts = named(categories)),
    }
}

/// Parts of the record of whoever is spoken to: "your medicines".
pub(crate) fn your(categories: &[Category]) -> String {
    match left_out(categories) {
        Some(none) if none.is_empty() => text!("everything in your record").to_owned(),
        Some(left_out) => text!(
            "everything in your record except {parts}",
            parts = named(&left_out)
        ),
        None => text!("your {parts}", parts = named(categories)),
    }
}

/// `a, b and c`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => text!("nothing").into(),
        [one] => one.clone(),
        [most @ .., last] => text!("{words} and {last}", words = most.join(", "), last),
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

    /// NFR-UX5: dates and numbers as German writes them.
    #[test]
    fn german_dates_and_numbers_are_german() {
        let at = Timestamp::from_seconds(1_795_356_300); // 2026-11-22T14:05
        text::spoken(Language::German, || {
            assert_eq!(moment(at), "22. November 2026, 14:05 Uhr");
            assert_eq!(date("1984-03"), "März 1984");
            assert_eq!(date(""), "nicht bekannt");
            assert_eq!(born("1984-03-15", at), "15.03.1984 (42 J.)");
            assert_eq!(short_date("2026-06"), "06/2026");
            assert_eq!(short_date("1984"), "Nicht bekannt");
            assert_eq!(localised("6.30 %"), "6,30 %");
            assert_eq!(localised("<0.1 mmol/L"), "<0,1 mmol/L");
            assert_eq!(localised("128 mmHg"), "128 mmHg");
            assert_eq!(localised("1.2.3"), "1.2.3");
            let parts = [Category::Allergies, Category::Medicines];
            assert_eq!(my(&parts), "meine Allergien und Medikamente");
        });
        assert_eq!(moment(at), "22 November 2026, 14:05");
        assert_eq!(localised("6.30 %"), "6.30 %");
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
        assert_eq!(my(&but_one), "everything in my record except mental health");
        assert_eq!(your(&[Category::Medicines]), "your medicines");
        assert_eq!(capital("x-rays"), "X-rays");
    }
}
