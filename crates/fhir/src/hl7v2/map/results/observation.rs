//! OBX with its notes to Observation, and encapsulated data to Media.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

use super::{
    super::{
        Builder, Intent, patient, tables,
        types::{self, Object, Put as _},
    },
    Repeats, ResultLine, concept_of, key_of,
};
use crate::hl7v2::{
    Value,
    problem::{ErrorCode, Problem},
};

/// What a line of results takes from its order.
pub(super) struct Context {
    /// OBR-7, for lines without a time of their own.
    pub(super) effective: Option<String>,
    /// Code of `observation-category`.
    pub(super) category: Option<&'static str>,
    /// Entry of the order.
    pub(super) order: usize,
    /// Entry of the specimen.
    pub(super) specimen: Option<usize>,
}

/// HL7 table 0074 to `observation-category`, as far as it is plain.
pub(super) fn category(section: Option<&str>) -> Option<&'static str> {
    match section? {
        "LAB" | "BG" | "BLB" | "CH" | "CYTO" | "CP" | "GE" | "HM" | "ICU" | "IMM" | "MB"
        | "MCB" | "MYC" | "SP" | "SR" | "TX" | "VR" => Some("laboratory"),
        "CT" | "CUS" | "MG" | "NMR" | "NMS" | "OUS" | "RAD" | "RUS" | "RX" | "VUS" | "XRC" => {
            Some("imaging")
        }
        _ => None,
    }
}

/// Maps one line. `parts` names what it belongs to.
pub(super) fn map(
    builder: &mut Builder<'_>,
    line: &ResultLine,
    context: Option<&Context>,
    parts: &[&str],
    repeats: &mut Repeats,
) -> Result<usize, Problem> {
    let at = line.obx;
    let mut observation = builder.about_patient("subject")?;
    let status = builder.text(at, 11);
    let known = status.and_then(tables::observation_status);
    if status.is_some() && known.is_none() && status != Some("N") {
        patient::report_code(builder, at, 11);
    }
    observation.put("status", Some(known.unwrap_or("unknown")));
    let code = builder.concept(at, 3, None).unwrap_or_else(|| {
        concept_of("http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "UNK")
    });
    let own = identity(builder, at, &code, parts, repeats);
    observation.put("code", Some(code));
    observation.put("encounter", builder.encounter());
    let effective = builder.date_time(at, 14);
    if let Some(context) = context {
        observation.list("basedOn", vec![Builder::reference(context.order)]);
        observation.put("specimen", context.specimen.map(Builder::reference));
        if let Some(code) = context.category {
            let system = "http://terminology.hl7.org/CodeSystem/observation-category";
            observation.list("category", vec![concept_of(system, code)]);
        }
    }
    let inherited = context.and_then(|context| context.effective.clone());
    observation.put("effectiveDateTime", effective.or(inherited));
    let analysed = builder.instant(at, 19);
    observation.put("issued", analysed);
    let performers = performers(builder, at);
    observation.list("performer", performers);
    value(builder, at, &mut observation, &own);
    if status == Some("N") {
        let system = "http://terminology.hl7.org/CodeSystem/data-absent-reason";
        observation.put("dataAbsentReason", Some(concept_of(system, "not-asked")));
    }
    observation.list("interpretation", interpretations(builder, at));
    let ranges: Vec<Json> = builder
        .text(at, 7)
        .map(|text| json!({ "text": types::string(text) }))
        .into_iter()
        .collect();
    observation.list("referenceRange", ranges);
    observation.put("method", builder.concept(at, 17, None));
    observation.put("bodySite", builder.concept(at, 20, None));
    if let Some(device) = builder.first(at, 18) {
        let mut reference = Object::new();
        reference.put(
            "identifier",
            types::entity_identifier(device, None, &builder.home),
        );
        reference.put("display", device.text(1).map(types::string));
        observation.put("device", reference.some());
    }
    observation.list("note", builder.notes(&line.notes));
    if let Some(number) = builder
        .first(at, 21)
        .and_then(|ei| types::entity_identifier(ei, Some("FILL"), &builder.home))
    {
        observation.list("identifier", vec![number]);
    }
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Ok(builder.add_own(
        Intent::Replace,
        "Observation",
        "observation",
        &own,
        observation,
    ))
}

/// Who observed it (OBX-16), and where (OBX-15, OBX-23).
fn performers(builder: &mut Builder<'_>, at: usize) -> Vec<Json> {
    let mut performers = builder.people(at, 16);
    for field in [15, 23] {
        if let Some(value) = builder.first(at, field) {
            // OBX-15 is a CWE whose second component is the name; OBX-23 an XON.
            let named = match (field, value.text(2)) {
                (15, Some(name)) => Some(json!({ "display": types::string(name) })),
                _ => builder.organization(value),
            };
            performers.extend(named);
        }
    }
    performers.dedup();
    performers
}

/// What makes the line one of its own: what it belongs to, its code, its sub-id, and how often it was said.
fn identity(
    builder: &Builder<'_>,
    at: usize,
    code: &Json,
    parts: &[&str],
    repeats: &mut Repeats,
) -> Vec<String> {
    let mut own: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    own.push(key_of(code));
    own.push(builder.first(at, 4).map(Value::words).unwrap_or_default());
    let again = repeats.next(&own.join("/"));
    own.push(again);
    own
}

fn interpretations(builder: &Builder<'_>, at: usize) -> Vec<Json> {
    builder
        .field(at, 8)
        .iter()
        .filter_map(|cwe| {
            let written = types::concept(cwe, Some("0078"))?;
            let known = cwe.text(1).filter(|code| INTERPRETATIONS.contains(code));
            Some(match known {
                Some(code) => {
                    let system =
                        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
                    let mut concept = concept_of(system, code);
                    if let (Some(object), Some(text)) =
                        (concept.as_object_mut(), written.get("text"))
                    {
                        object.insert("text".into(), text.clone());
                    }
                    concept
                }
                None => written,
            })
        })
        .collect()
}

/// OBX-5 by the type that OBX-2 names.
fn value(builder: &mut Builder<'_>, at: usize, observation: &mut Object, own: &[String]) {
    let kind = builder.text(at, 2).unwrap_or_default().to_ascii_uppercase();
    let values = builder.field(at, 5);
    let Some(first) = values.first() else {
        return;
    };
    if first.is_null() {
        return;
    }
    if matches!(kind.as_str(), "ED" | "RP") {
        match media(builder, at, &kind, first, own) {
            Some(entry) => observation.list("derivedFrom", vec![Builder::reference(entry)]),
            None => in_words(builder, at, observation, values),
        }
        return;
    }
    // Several values of one line: FHIR has one, so they become text, as they stand.
    if values.len() > 1 && !matches!(kind.as_str(), "ST" | "TX" | "FT" | "") {
        return in_words(builder, at, observation, values);
    }
    let unit = builder.first(at, 6);
    let found = match kind.as_str() {
        "NM" | "MO" | "CP" => numeric(first.text(1).unwrap_or_default(), unit),
        "SN" => structured(first, unit),
        "CE" | "CWE" | "CNE" | "CF" | "IS" | "ID" => {
            types::concept(first, None).map(|concept| ("valueCodeableConcept", concept))
        }
        "DT" | "TS" | "DTM" => first
            .text(1)
            .and_then(|text| builder.dates().date_time(text))
            .map(|moment| ("valueDateTime", moment.into())),
        "TM" => first
            .text(1)
            .and_then(types::time)
            .map(|time| ("valueTime", time.into())),
        "DR" => types::period(first.text(1), first.text(2), &builder.dates())
            .map(|period| ("valuePeriod", period)),
        "NR" => range(first.text(1), first.text(2), unit).map(|range| ("valueRange", range)),
        "ST" | "TX" | "FT" => text_of(values).map(|text| ("valueString", text.into())),
        _ => None,
    };
    match found {
        Some((member, value)) => observation.put(member, Some(value)),
        None => in_words(builder, at, observation, values),
    }
}

/// What has no type of its own in FHIR, or is not of the type it says, is kept as text and reported.
fn in_words(builder: &mut Builder<'_>, at: usize, observation: &mut Object, values: &[Value]) {
    let words: Vec<String> = values.iter().map(Value::words).collect();
    let words = words.join("\n");
    if words.trim().is_empty() {
        return;
    }
    if let Some(place) = builder.seg(at).map(|segment| segment.at(5)) {
        let what = "the value can't be said in FHIR by the type of OBX-2; it is kept as text";
        builder.report(Problem::warning(ErrorCode::DataType, what).at(place));
    }
    observation.put("valueString", Some(types::string(&words)));
}

fn text_of(values: &[Value]) -> Option<String> {
    let lines: Vec<String> = values
        .iter()
        .map(|value| {
            // A caret that was not escaped is part of the text.
            let parts: Vec<&str> = value.parts().map(str::trim_end).collect();
            parts.join("^")
        })
        .collect();
    let text = lines.join("\n");
    let text = text.trim_end_matches(['^', '\n', ' ']);
    (!text.trim().is_empty()).then(|| types::string(text))
}

/// NM, also with a comparator before the number, as laboratories write it.
fn numeric(text: &str, unit: Option<&Value>) -> Option<(&'static str, Json)> {
    let comparator = COMPARATORS
        .into_iter()
        .find(|comparator| text.starts_with(comparator));
    let number = text
        .trim_start_matches(comparator.unwrap_or_default())
        .trim();
    types::quantity(number, comparator, unit).map(|quantity| ("valueQuantity", quantity))
}

/// SN: comparator, number, separator or suffix, number.
fn structured(sn: &Value, unit: Option<&Value>) -> Option<(&'static str, Json)> {
    let (comparator, low) = (sn.text(1).filter(|text| *text != "="), sn.text(2));
    match (comparator, low, sn.text(3), sn.text(4)) {
        (comparator, Some(number), None, None) => {
            let known = COMPARATORS.into_iter().find(|one| Some(*one) == comparator);
            if comparator.is_some() && known.is_none() {
                return None;
            }
            types::quantity(number, known, unit).map(|quantity| ("valueQuantity", quantity))
        }
        (None, Some(low), Some("-"), Some(high)) => {
            range(Some(low), Some(high), unit).map(|range| ("valueRange", range))
        }
        (comparator, Some(low), Some(":" | "/"), Some(high)) => {
            let known = COMPARATORS.into_iter().find(|one| Some(*one) == comparator);
            if comparator.is_some() && known.is_none() {
                return None;
            }
            let numerator = types::quantity(low, known, unit)?;
            let denominator = types::quantity(high, None, None)?;
            Some((
                "valueRatio",
                json!({ "numerator": numerator, "denominator": denominator }),
            ))
        }
        // `2+` and the like have no number of their own in FHIR.
        (None, Some(low), Some(suffix), None) => {
            Some(("valueString", format!("{low}{suffix}").into()))
        }
        _ => None,
    }
}

fn range(low: Option<&str>, high: Option<&str>, unit: Option<&Value>) -> Option<Json> {
    let mut range = Object::new();
    for (member, number) in [("low", low), ("high", high)] {
        if let Some(number) = number {
            range.put(member, Some(types::quantity(number, None, unit)?));
        }
    }
    range.some()
}

/// ED and RP: application, type, subtype, encoding, data; or pointer, application, type, subtype.
fn media(
    builder: &mut Builder<'_>,
    at: usize,
    kind: &str,
    written: &Value,
    own: &[String],
) -> Option<usize> {
    let mut attachment = Object::new();
    if kind == "RP" {
        let pointer = written.text(1).filter(|text| text.contains("://"))?;
        attachment.put(
            "contentType",
            content_type(written.text(3), written.text(4)),
        );
        attachment.put("url", Some(super::super::encode::uri(pointer)));
    } else {
        let data = written.text(5)?;
        let bytes = match written.text(4)?.to_ascii_lowercase().as_str() {
            "base64" => {
                let dense: String = data.chars().filter(|c| !c.is_whitespace()).collect();
                STANDARD.decode(dense).ok()?
            }
            "hex" => from_hexadecimal(data)?,
            "a" => data.as_bytes().to_vec(),
            _ => return None,
        };
        attachment.put(
            "contentType",
            content_type(written.text(2), written.text(3)),
        );
        attachment.put("data", Some(STANDARD.encode(bytes)));
    }
    let title = builder.first(at, 3).and_then(|code| code.text(2));
    attachment.put("title", title.map(types::string));
    let mut media = builder.about_patient("subject").ok()?;
    media.put("status", Some("completed"));
    media.put("encounter", builder.encounter());
    media.put("createdDateTime", builder.date_time(at, 14));
    media.put("content", attachment.some());
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Some(builder.add_own(Intent::Replace, "Media", "media", &own, media))
}

/// HL7 tables 0191 and 0291 to a MIME type.
pub(in super::super) fn content_type(kind: Option<&str>, subtype: Option<&str>) -> Option<String> {
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let subtype = subtype.unwrap_or_default().to_ascii_lowercase();
    let subtype = types::code(&subtype).replace(' ', "");
    if subtype.is_empty() {
        return None;
    }
    if subtype.contains('/') {
        return Some(subtype);
    }
    let main = match kind.as_str() {
        "image" | "im" | "ns" | "sd" => "image",
        "audio" => "audio",
        "text" | "ft" | "tx" | "tex" => "text",
        _ => "application",
    };
    Some(format!("{main}/{subtype}"))
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).ok())
        .collect()
}

/// `quantity-comparator`, longer ones first.
const COMPARATORS: [&str; 4] = ["<=", ">=", "<", ">"];

/// Codes that HL7 table 0078 and v3 ObservationInterpretation share.
const INTERPRETATIONS: [&str; 32] = [
    "<", ">", "A", "AA", "AC", "B", "D", "DET", "E", "H", "HH", "HU", "I", "IE", "IND", "L", "LL",
    "LU", "MS", "N", "ND", "NEG", "NR", "NS", "POS", "QCF", "R", "RR", "S", "TOX", "U", "W",
];
