//! HL7 v2 data types to FHIR data types.

use serde_json::{Map, Number, Value as Json, json};

use super::{encode, tables};
use crate::hl7v2::Value;

/// Members of a FHIR element; absent values leave no member.
pub(super) type Object = Map<String, Json>;

/// Adding members only where there is something to add.
pub(super) trait Put {
    /// Adds a member if there is a value.
    fn put(&mut self, name: &str, value: Option<impl Into<Json>>);
    /// Adds an array if it is not empty.
    fn list(&mut self, name: &str, items: Vec<Json>);
    /// The object, unless it is empty.
    fn some(self) -> Option<Json>;
}

impl Put for Object {
    fn put(&mut self, name: &str, value: Option<impl Into<Json>>) {
        if let Some(value) = value {
            self.insert(name.to_owned(), value.into());
        }
    }

    fn list(&mut self, name: &str, items: Vec<Json>) {
        if !items.is_empty() {
            self.insert(name.to_owned(), Json::Array(items));
        }
    }

    fn some(self) -> Option<Json> {
        (!self.is_empty()).then_some(Json::Object(self))
    }
}

/// A FHIR `string`: not longer than 1 MiB, cut at a letter if need be.
pub(super) fn string(text: &str) -> String {
    let mut end = text.len().min(STRING_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// A FHIR `code`: words with single spaces between them.
pub(super) fn code(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// HD (or the parts of one) to the URI of an assigning authority.
pub(super) fn authority(hd: &Value) -> Option<String> {
    let (name, id) = (hd.text(1), hd.text(2));
    let kind = hd.text(3).unwrap_or_default().to_ascii_uppercase();
    Some(match id {
        Some(id) if is_oid(id) => format!("urn:oid:{id}"),
        Some(id) if matches!(kind.as_str(), "UUID" | "GUID") => {
            format!("urn:uuid:{}", encode::uri(&id.to_ascii_lowercase()))
        }
        Some(id) if id.contains("://") || id.starts_with("urn:") => encode::uri(id),
        _ => authority_named(id.or(name)?),
    })
}

/// The URI of an authority that is known by a name only.
pub(super) fn authority_named(name: &str) -> String {
    if is_oid(name) {
        return format!("urn:oid:{name}");
    }
    format!(
        "https://stele.health/hl7v2/authority/{}",
        encode::component(name)
    )
}

/// Dotted numbers without leading zeros.
pub(super) fn is_oid(text: &str) -> bool {
    let arc = |arc: &str| {
        !arc.is_empty()
            && arc.bytes().all(|byte| byte.is_ascii_digit())
            && (arc == "0" || !arc.starts_with('0'))
    };
    text.starts_with(['0', '1', '2']) && text.contains('.') && text.split('.').all(arc)
}

/// CX to Identifier. `home` is the authority of identifiers that name none: the sender's own.
pub(super) fn identifier(cx: &Value, home: &str, dates: &Dates<'_>) -> Option<Json> {
    let value = cx.text(1)?;
    let system = authority(&cx.component(4)).unwrap_or_else(|| home.to_owned());
    let mut object = Object::new();
    object.put("type", cx.text(5).map(identifier_type));
    object.put("system", Some(system));
    object.put("value", Some(string(value)));
    object.put("period", period(cx.text(7), cx.text(8), dates));
    let assigner = cx.part(4, 1).or_else(|| cx.part(6, 1));
    object.put(
        "assigner",
        assigner.map(|name| json!({ "display": string(name) })),
    );
    object.some()
}

/// A code of HL7 table 0203.
pub(super) fn identifier_type(text: &str) -> Json {
    json!({ "coding": [{ "system": tables::hl7_table("0203"), "code": code(text) }] })
}

/// EI to Identifier, with a type of HL7 table 0203.
pub(super) fn entity_identifier(ei: &Value, kind: Option<&str>, home: &str) -> Option<Json> {
    let value = ei.text(1)?;
    let mut object = Object::new();
    object.put("type", kind.map(identifier_type));
    object.put("system", Some(entity_authority(ei, home)));
    object.put("value", Some(string(value)));
    object.some()
}

/// The authority of an EI: its components 2 to 4 are an HD.
pub(super) fn entity_authority(ei: &Value, home: &str) -> String {
    match (ei.text(2), ei.text(3)) {
        (_, Some(id)) if is_oid(id) => format!("urn:oid:{id}"),
        (_, Some(id)) => authority_named(id),
        (Some(name), None) => authority_named(name),
        (None, None) => home.to_owned(),
    }
}

/// XPN to HumanName.
pub(super) fn human_name(xpn: &Value, dates: &Dates<'_>) -> Option<Json> {
    let mut name = Object::new();
    let family = xpn.text(1);
    let given = [xpn.text(2), xpn.text(3)];
    name.put("use", xpn.text(7).and_then(tables::name_use));
    name.put("family", family.map(string));
    name.list("given", texts(given));
    name.list("prefix", texts([xpn.text(5)]));
    name.list("suffix", texts([xpn.text(4), xpn.text(6)]));
    if !["family", "given"]
        .iter()
        .any(|part| name.contains_key(*part))
    {
        return None;
    }
    name.put("period", period(xpn.text(12), xpn.text(13), dates));
    name.some()
}

/// The name in XCN (or CNN, by subcomponents): components 2 to 6.
fn person_name(xcn: &Value) -> Option<Json> {
    let mut name = Object::new();
    name.put("family", xcn.text(2).map(string));
    name.list("given", texts([xcn.text(3), xcn.text(4)]));
    name.list("suffix", texts([xcn.text(5), xcn.text(7)]));
    name.list("prefix", texts([xcn.text(6)]));
    name.some()
}

/// A person of the staff, by XCN or CNN: the identifier that names them, the name, and words for a display.
pub(super) struct Person {
    pub(super) identifier: Option<(String, String)>,
    pub(super) name: Option<Json>,
    pub(super) display: Option<String>,
}

/// XCN to the person it means.
pub(super) fn person(xcn: &Value, home: &str) -> Option<Person> {
    let identifier = xcn.text(1).map(|id| {
        // In CNN, the parts of the authority are components 9 to 11; in XCN they are subcomponents of 9.
        let system = authority(&xcn.component(9)).unwrap_or_else(|| home.to_owned());
        (system, string(id))
    });
    let words: Vec<&str> = [6, 3, 4, 2, 5]
        .into_iter()
        .filter_map(|part| xcn.text(part))
        .collect();
    let display = (!words.is_empty()).then(|| string(&words.join(" ")));
    if identifier.is_none() && display.is_none() {
        return None;
    }
    Some(Person {
        identifier,
        name: person_name(xcn),
        display,
    })
}

/// XAD to Address.
pub(super) fn address(xad: &Value, dates: &Dates<'_>) -> Option<Json> {
    let mut object = Object::new();
    let kind = xad.text(7).unwrap_or_default();
    object.put("use", tables::address_use(kind));
    object.put("type", matches!(kind, "M" | "SH").then_some("postal"));
    let street: Vec<&str> = (1..=3).filter_map(|part| xad.part(1, part)).collect();
    let street = (!street.is_empty()).then(|| street.join(" "));
    object.list("line", texts([street.as_deref(), xad.text(2)]));
    object.put("city", xad.text(3).map(string));
    object.put("district", xad.text(9).map(string));
    object.put("state", xad.text(4).map(string));
    object.put("postalCode", xad.text(5).map(string));
    object.put("country", xad.text(6).map(string));
    let place = ["line", "city", "district", "state", "postalCode", "country"];
    if !place.iter().any(|part| object.contains_key(*part)) {
        return None;
    }
    let validity = period(xad.text(13), xad.text(14), dates)
        .or_else(|| period(xad.part(12, 1), xad.part(12, 2), dates));
    object.put("period", validity);
    object.some()
}

/// XTN to ContactPoint. `otherwise` is the use of a number that does not say it.
pub(super) fn contact_point(xtn: &Value, otherwise: Option<&'static str>) -> Option<Json> {
    let equipment = xtn.text(3).unwrap_or_default();
    let kind = xtn.text(2).unwrap_or_default();
    let is_address = kind == "NET" || tables::telecom_system(equipment) == Some("email");
    let number = || {
        let parts: Vec<String> = [(5, "+"), (6, ""), (7, ""), (8, "ext. ")]
            .into_iter()
            .filter_map(|(part, prefix)| xtn.text(part).map(|text| format!("{prefix}{text}")))
            .collect();
        (!parts.is_empty() && xtn.text(7).is_some()).then(|| parts.join(" "))
    };
    let unformatted = xtn.text(12).map(str::to_owned);
    let value = if is_address {
        xtn.text(4).or(xtn.text(1)).map(str::to_owned)
    } else {
        xtn.text(1)
            .map(str::to_owned)
            .or(unformatted)
            .or_else(number)
    }?;
    let system = if is_address {
        "email"
    } else {
        tables::telecom_system(equipment).unwrap_or("phone")
    };
    let usage = if equipment == "CP" {
        Some("mobile")
    } else {
        tables::telecom_use(kind).or(otherwise)
    };
    let mut object = Object::new();
    object.put("system", Some(system));
    object.put("value", Some(string(&value)));
    object.put("use", usage);
    object.some()
}

/// CWE, CNE, CE or CF to CodeableConcept. `table` is the HL7 table of codes that name no system.
pub(super) fn concept(cwe: &Value, table: Option<&str>) -> Option<Json> {
    let mut codings = Vec::new();
    for (at, version) in [(1, 7), (4, 8)] {
        codings.extend(coding(cwe, at, version, table));
    }
    let text = cwe.text(9).or_else(|| cwe.text(2)).or_else(|| cwe.text(5));
    let mut object = Object::new();
    object.list("coding", codings);
    object.put("text", text.map(string));
    object.some()
}

fn coding(cwe: &Value, at: usize, version: usize, table: Option<&str>) -> Option<Json> {
    let (second, third) = (at.saturating_add(1), at.saturating_add(2));
    let mut object = Object::new();
    let system = cwe.text(third).map(tables::coding_system);
    let own = table.filter(|_| at == 1).map(tables::hl7_table);
    object.put("system", system.or(own));
    object.put(
        "version",
        cwe.text(version)
            .filter(|_| cwe.text(third).is_some())
            .map(string),
    );
    object.put("code", Some(code(cwe.text(at)?)));
    object.put("display", cwe.text(second).map(string));
    object.some()
}

/// A number as FHIR writes it: the digits as they came, in the form that JSON demands. `+1`, `01`, `.5` and `5.` lose
/// or gain a character; trailing zeros stay.
pub(super) fn decimal(text: &str) -> Option<Json> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let trimmed = whole.trim_start_matches('0');
    let whole = if trimmed.is_empty() { "0" } else { trimmed };
    let written = if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    };
    if written.len() > DECIMAL_MAX {
        return None;
    }
    serde_json::from_str::<Number>(&written)
        .ok()
        .map(Json::Number)
}

/// A number with the unit of a CWE (OBX-6) to Quantity.
pub(super) fn quantity(
    number: &str,
    comparator: Option<&str>,
    unit: Option<&Value>,
) -> Option<Json> {
    let mut object = Object::new();
    object.put("value", Some(decimal(number)?));
    object.put("comparator", comparator);
    if let Some(unit) = unit {
        object.put("unit", unit.text(2).or_else(|| unit.text(1)).map(string));
        // qty-3: a code needs its system; codes of unnamed systems are words.
        if let (Some(text), Some(system)) = (unit.text(1), unit.text(3)) {
            object.put("system", Some(tables::coding_system(system)));
            object.put("code", Some(code(text)));
        }
    }
    object.some()
}

/// Reads HL7 times with the offset of those that name none.
pub(super) struct Dates<'m> {
    /// `+hh:mm`, `-hh:mm` or `Z`.
    pub(super) offset: &'m str,
}

impl Dates<'_> {
    /// DT or DTM to `dateTime`, at the precision it was written with. A time needs seconds and a zone in FHIR: seconds
    /// that are missing are zero, and a missing zone is the message's.
    pub(super) fn date_time(&self, text: &str) -> Option<String> {
        let (date, clock) = take_apart(text)?;
        let Some(clock) = clock else {
            return Some(date);
        };
        let zone = clock.zone.as_deref().unwrap_or(self.offset);
        Some(format!("{date}T{}{zone}", clock.time))
    }

    /// DTM to `instant`; `None` where it has no time.
    pub(super) fn instant(&self, text: &str) -> Option<String> {
        self.date_time(text).filter(|text| text.contains('T'))
    }

    /// The date in a DT or DTM.
    pub(super) fn date(&self, text: &str) -> Option<String> {
        take_apart(text).map(|(date, _)| date)
    }
}

/// TM to `time`.
pub(super) fn time(text: &str) -> Option<String> {
    let (time, _) = split_zone(text.trim())?;
    clock(time)
}

/// Whether a DTM has a time of day and no zone.
pub(super) fn lacks_zone(text: &str) -> bool {
    take_apart(text).is_some_and(|(_, clock)| clock.is_some_and(|clock| clock.zone.is_none()))
}

/// The zone of a DTM, as FHIR writes it.
pub(super) fn zone_of(text: &str) -> Option<String> {
    take_apart(text)?.1?.zone
}

struct Clock {
    time: String,
    zone: Option<String>,
}

/// A DTM as date and time: `YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ]`.
fn take_apart(text: &str) -> Option<(String, Option<Clock>)> {
    let (digits, zone) = split_zone(text.trim())?;
    if !digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u8>().ok();
    let year: i32 = digits.get(..4)?.parse().ok()?;
    let written = digits.split('.').next().unwrap_or_default().len();
    let date = match written {
        4 => format!("{year:04}"),
        6 => format!("{year:04}-{:02}", number(4, 6)?),
        _ => format!("{year:04}-{:02}-{:02}", number(4, 6)?, number(6, 8)?),
    };
    let (month, day) = match written {
        4 => (1, 1),
        6 => (number(4, 6)?, 1),
        _ => (number(4, 6)?, number(6, 8)?),
    };
    let month = time::Month::try_from(month).ok()?;
    time::Date::from_calendar_date(year, month, day).ok()?;
    if year < 1 {
        return None;
    }
    match written {
        4 | 6 | 8 => Some((date, None)),
        _ => {
            let time = clock(digits.get(8..)?)?;
            Some((date, Some(Clock { time, zone })))
        }
    }
}

/// `HH[MM[SS[.S…]]]` to `HH:MM:SS[.S…]`.
fn clock(digits: &str) -> Option<String> {
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let number = |from: usize, to: usize, least_above: u8| -> Option<u8> {
        let text = whole.get(from..to)?;
        let number: u8 = text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
        (number < least_above).then_some(number)
    };
    let (hour, minute, second) = match whole.len() {
        2 => (number(0, 2, 24)?, 0, 0),
        4 => (number(0, 2, 24)?, number(2, 4, 60)?, 0),
        6 => (number(0, 2, 24)?, number(2, 4, 60)?, number(4, 6, 60)?),
        _ => return None,
    };
    let fraction = match fraction {
        Some(digits) if whole.len() == 6 && (1..=9).contains(&digits.len()) => {
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            format!(".{digits}")
        }
        Some(_) => return None,
        None => String::new(),
    };
    Some(format!("{hour:02}:{minute:02}:{second:02}{fraction}"))
}

/// Splits `±ZZZZ` off; `None` if it is none that FHIR knows.
fn split_zone(text: &str) -> Option<(&str, Option<String>)> {
    let Some(at) = text.find(['+', '-']) else {
        return Some((text, None));
    };
    let (digits, zone) = text.split_at_checked(at)?;
    let (sign, number) = zone.split_at_checked(1)?;
    let number = number.replace(':', "");
    let hours: u8 = number.get(..2)?.parse().ok()?;
    let minutes: u8 = number.get(2..4).unwrap_or("00").parse().ok()?;
    let good = matches!(number.len(), 2 | 4)
        && minutes < 60
        && (hours < 14 || (hours == 14 && minutes == 0));
    good.then(|| (digits, Some(format!("{sign}{hours:02}:{minutes:02}"))))
}

/// Two times to Period.
pub(super) fn period(start: Option<&str>, end: Option<&str>, dates: &Dates<'_>) -> Option<Json> {
    let mut object = Object::new();
    object.put("start", start.and_then(|text| dates.date_time(text)));
    object.put("end", end.and_then(|text| dates.date_time(text)));
    object.some()
}

/// A location (PL) in words, from the largest part to the smallest.
pub(super) fn place(pl: &Value) -> Option<String> {
    let parts: Vec<&str> = [4, 7, 8, 1, 2, 3]
        .into_iter()
        .filter_map(|part| pl.text(part))
        .collect();
    let words = if parts.is_empty() {
        pl.text(9).unwrap_or_default().to_owned()
    } else {
        parts.join(", ")
    };
    (!words.is_empty()).then(|| string(&words))
}

fn texts<const N: usize>(texts: [Option<&str>; N]) -> Vec<Json> {
    texts
        .into_iter()
        .flatten()
        .map(|text| Json::String(string(text)))
        .collect()
}

/// FHIR R4 `string`: at most 1 MiB.
const STRING_MAX: usize = 1 << 20;
/// As many characters as FHIR's decimals are safe with everywhere.
const DECIMAL_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_precision() {
        let dates = Dates { offset: "+01:00" };
        for (written, expected) in [
            ("2024", Some("2024")),
            ("202402", Some("2024-02")),
            ("20240229", Some("2024-02-29")),
            ("2024022911", Some("2024-02-29T11:00:00+01:00")),
            ("202402291130", Some("2024-02-29T11:30:00+01:00")),
            (
                "20240229113005.1200-0500",
                Some("2024-02-29T11:30:05.1200-05:00"),
            ),
            ("202402291130+0215", Some("2024-02-29T11:30:00+02:15")),
            ("20230229", None),
            ("0000", None),
            ("20240229250000", None),
            ("20240229113005+9900", None),
            ("yesterday", None),
            ("2024022", None),
            ("20240229é", None),
        ] {
            assert_eq!(dates.date_time(written).as_deref(), expected, "{written}");
        }
        assert_eq!(dates.instant("20240229"), None);
        assert_eq!(time("0830").as_deref(), Some("08:30:00"));
        assert_eq!(time("2500"), None);
        assert!(lacks_zone("202402291130") && !lacks_zone("20240229"));
    }

    /// NFR-INTEROP1: decimals stay as written, as far as JSON can write them.
    #[test]
    fn numbers_keep_their_digits() {
        for (written, expected) in [
            ("6.30", Some("6.30")),
            ("-0.00", Some("-0.00")),
            ("+12", Some("12")),
            ("007.50", Some("7.50")),
            (".5", Some("0.5")),
            ("5.", Some("5")),
            (
                "123456789012345678901234567890.10",
                Some("123456789012345678901234567890.10"),
            ),
            ("1e5", None),
            ("", None),
            (".", None),
            (">5", None),
            ("1,5", None),
        ] {
            let found = decimal(written).map(|number| number.to_string());
            assert_eq!(found.as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn authorities_are_never_confused() {
        let hd = |text: &str| {
            let line = format!("MSH|^~\\&|{text}");
            let message = crate::hl7v2::Message::parse(&line).unwrap();
            authority(message.segments[0].first(3).unwrap())
        };
        for (written, expected) in [
            ("A^1.2.3^ISO", "urn:oid:1.2.3"),
            (
                "A^1.2.03^ISO",
                "https://stele.health/hl7v2/authority/1.2.03",
            ),
            ("A^AB-CD^UUID", "urn:uuid:ab-cd"),
            ("A^https://x.example/a b^URI", "https://x.example/a%20b"),
            (
                "A^lab.example^DNS",
                "https://stele.health/hl7v2/authority/lab.example",
            ),
            ("Lab A", "https://stele.health/hl7v2/authority/Lab%20A"),
        ] {
            assert_eq!(hd(written).as_deref(), Some(expected), "{written}");
        }
    }
}
