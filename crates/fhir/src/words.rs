//! Resources in plain words, for people: what an entry is called, what it says, when it was. For pages and exports; what
//! is shown is text of the resource as it was written, numbers included, and never markup.

use serde_json::Value;

/// The text at a JSON pointer; empty where there is none.
#[must_use]
pub fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Text of a CodeableConcept, or of the first of a list of them.
#[must_use]
pub fn concept(value: &Value) -> Option<&str> {
    let one = match value {
        Value::Array(list) => list.first()?,
        other => other,
    };
    [
        "/text",
        "/coding/0/display",
        "/coding/0/code",
        "/display",
        "/concept/text",
    ]
    .into_iter()
    .map(|pointer| text_at(one, pointer))
    .find(|text| !text.is_empty())
}

/// What an entry is called: its code where it has one, else its name, else its type in words.
#[must_use]
pub fn title(resource_type: &str, value: &Value) -> String {
    const CODED: [&str; 9] = [
        "code",
        "medicationCodeableConcept",
        "medicationReference",
        "vaccineCode",
        "type",
        "serviceType",
        "class",
        "category",
        "description",
    ];
    if value.get("name").is_some() && matches!(resource_type, "Patient" | "Practitioner" | "Person")
    {
        return full_name(value);
    }
    if let Some(name) = value.get("name").and_then(Value::as_str) {
        return name.to_owned();
    }
    CODED
        .iter()
        .filter_map(|member| value.get(*member))
        .find_map(|member| match member {
            Value::String(text) => Some(text.as_str()),
            other => concept(other),
        })
        .map_or_else(|| spaced(resource_type), str::to_owned)
}

/// `MedicationRequest` as "Medication request".
#[must_use]
pub fn spaced(resource_type: &str) -> String {
    let mut out = String::new();
    for letter in resource_type.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push(' ');
            out.extend(letter.to_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

/// A person's name as it is written, or "Name not known".
#[must_use]
pub fn full_name(person: &Value) -> String {
    let text = text_at(person, "/name/0/text");
    if !text.is_empty() {
        return text.to_owned();
    }
    let given = person
        .pointer("/name/0/given")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let family = text_at(person, "/name/0/family");
    let words: Vec<&str> = given
        .chain([family])
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        "Name not known".to_owned()
    } else {
        words.join(" ")
    }
}

/// A value with its unit; several components one after the other. Numbers are shown as they were written.
#[must_use]
pub fn shown_value(value: &Value) -> String {
    if let Some(shown) = one_value(value) {
        return shown;
    }
    let components = value.get("component").and_then(Value::as_array);
    let parts: Vec<String> = components
        .into_iter()
        .flatten()
        .filter_map(|part| {
            let name = part.get("code").and_then(concept)?;
            Some(format!("{name} {}", one_value(part)?))
        })
        .collect();
    if !parts.is_empty() {
        return parts.join("; ");
    }
    let dosage = text_at(value, "/dosageInstruction/0/text");
    if !dosage.is_empty() {
        return dosage.to_owned();
    }
    let member = match text_at(value, "/resourceType") {
        "DocumentReference" => "description",
        _ => "conclusion",
    };
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn one_value(value: &Value) -> Option<String> {
    if let Some(quantity) = value.get("valueQuantity") {
        let number = quantity.get("value").map(Value::to_string)?;
        let unit = text_at(quantity, "/unit");
        let comparator = text_at(quantity, "/comparator");
        return Some(format!("{comparator}{number} {unit}").trim().to_owned());
    }
    if let Some(coded) = value.get("valueCodeableConcept").and_then(concept) {
        return Some(coded.to_owned());
    }
    for member in ["valueString", "valueDateTime", "valueTime"] {
        if let Some(text) = value.get(member).and_then(Value::as_str) {
            return Some(text.to_owned());
        }
    }
    match (value.get("valueBoolean"), value.get("valueInteger")) {
        (Some(Value::Bool(yes)), _) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        (_, Some(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// When it clinically happened, as written; empty where nothing says so.
#[must_use]
pub fn when(value: &Value) -> &str {
    crate::compartment::clinical_date(value).unwrap_or_default()
}

/// Every state that [`status`] gives.
pub const STATES: [&str; 10] = [
    "Active",
    "Amended",
    "Cancelled",
    "Completed",
    "Entered in error",
    "In remission",
    "Inactive",
    "Preliminary",
    "Resolved",
    "Stopped",
];

/// A state worth telling people, in a word or two: one of [`STATES`].
#[must_use]
pub fn status(value: &Value) -> Option<&'static str> {
    let code = |pointer| text_at(value, pointer);
    let verification = code("/verificationStatus/coding/0/code");
    if verification == "entered-in-error" || code("/status") == "entered-in-error" {
        return Some("Entered in error");
    }
    Some(match code("/clinicalStatus/coding/0/code") {
        "active" => "Active",
        "resolved" => "Resolved",
        "inactive" => "Inactive",
        "remission" => "In remission",
        _ => match code("/status") {
            "active" => "Active",
            "completed" => "Completed",
            "stopped" => "Stopped",
            "amended" | "corrected" => "Amended",
            "preliminary" => "Preliminary",
            "cancelled" => "Cancelled",
            _ => return None,
        },
    })
}

/// `2026-03-01T10:11` as "1 March 2026"; a month or year alone stays one.
#[must_use]
pub fn date(written: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    if written.is_empty() {
        return "not known".to_owned();
    }
    let mut numbers = written.split(['-', 'T']);
    let year = numbers.next().unwrap_or_default();
    let month = numbers
        .next()
        .and_then(|month| month.parse::<usize>().ok())
        .and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let day = numbers.next().and_then(|day| day.parse::<u8>().ok());
    match (day, month) {
        (Some(day), Some(month)) => format!("{day} {month} {year}"),
        (None, Some(month)) => format!("{month} {year}"),
        _ => year.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_named_dated_and_valued_as_written() {
        let observation: Value = serde_json::from_str(
            r#"{"resourceType":"Observation","status":"final","code":{"text":"HbA1c <b>"},
                "effectiveDateTime":"2026-03-01T10:11:12+01:00","valueQuantity":{"value":6.30,"unit":"%"}}"#,
        )
        .expect("JSON");
        assert_eq!(title("Observation", &observation), "HbA1c <b>");
        assert_eq!(shown_value(&observation), "6.30 %");
        assert_eq!(date(when(&observation)), "1 March 2026");
        let pressure = json!({ "component": [
            { "code": { "text": "Systolic" }, "valueQuantity": { "value": 128, "unit": "mmHg" } },
            { "code": { "text": "Diastolic" }, "valueQuantity": { "value": 82, "unit": "mmHg" } }
        ] });
        assert_eq!(
            shown_value(&pressure),
            "Systolic 128 mmHg; Diastolic 82 mmHg"
        );
        assert_eq!(title("MedicationRequest", &json!({})), "Medication request");
        assert_eq!(date("1970-01"), "January 1970");
        assert_eq!(date("1970"), "1970");
        assert_eq!(date(""), "not known");
    }
}
