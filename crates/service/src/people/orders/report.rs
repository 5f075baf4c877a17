//! The laboratory's report as FHIR: what is wrong with it, and the transaction that writes it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stele_core::time::Timestamp;
use stele_fhir::ucum;

use super::{
    NAME_MAX, NewReport, NewResult, OrderSlip, REPORT_DOCUMENT_MAX, RESULTS_MAX, TEXT_MAX,
    organization, practitioner,
};
use crate::{records::new_id, session::Actor};

/// What is wrong with a report: the field, `value-0` and the like, and words. Of a correction, so many `rows` stand for
/// earlier results, and one of them without a value takes its result back.
#[must_use]
pub fn report_problems(report: &NewReport, rows: usize) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut wrong = |field: String, words: &str| problems.push((field, words.to_owned()));
    let is_taken_back = |at: usize, one: &NewResult| at < rows && one.value.is_empty();
    let has_result = report
        .results
        .iter()
        .enumerate()
        .any(|(at, one)| !is_taken_back(at, one));
    if !has_result && report.document.is_none() {
        wrong(
            "name-0".into(),
            "Enter a result, or add the report as a PDF",
        );
    }
    if report.results.len() > RESULTS_MAX {
        wrong(
            "name-0".into(),
            "Enter at most 40 results; add the rest as a PDF",
        );
    }
    for (at, one) in report.results.iter().enumerate() {
        if is_taken_back(at, one) {
            continue;
        }
        result_problems(at, one, &mut wrong);
    }
    if report.conclusion.chars().count() > TEXT_MAX {
        wrong("conclusion".into(), "Write at most 2000 characters");
    }
    if let Some((_, content)) = &report.document {
        if content.len() > REPORT_DOCUMENT_MAX {
            wrong("file".into(), "Choose a PDF of at most 10 MB");
        } else if !content.starts_with(b"%PDF-") {
            wrong("file".into(), "Choose a PDF; this is another kind of file");
        }
    }
    problems
}

/// What is wrong with one row.
fn result_problems(at: usize, one: &NewResult, wrong: &mut impl FnMut(String, &str)) {
    if one.name.is_empty() || one.name.chars().count() > NAME_MAX {
        wrong(format!("name-{at}"), "Enter what was measured");
    }
    if !one.loinc.is_empty() && !is_loinc(&one.loinc) {
        wrong(
            format!("loinc-{at}"),
            "Enter a LOINC code with its check digit, such as 2823-3, or none",
        );
    }
    if one.value.is_empty() || one.value.chars().count() > NAME_MAX {
        wrong(format!("value-{at}"), "Enter the value");
    }
    let is_number = number(&one.value).is_some();
    if is_number && one.unit.is_empty() {
        wrong(
            format!("unit-{at}"),
            "Enter the unit, or 1 where there is none",
        );
    } else if !one.unit.is_empty() && !ucum::is_common(&one.unit) {
        wrong(
            format!("unit-{at}"),
            "Enter a common unit of UCUM, such as mmol/L or 10*9/L",
        );
    }
    let bounds = [&one.low, &one.high];
    let given = bounds.iter().filter(|text| !text.is_empty());
    let read: Vec<f64> = given
        .clone()
        .filter_map(|text| plain(text)?.as_f64())
        .collect();
    if read.len() != given.count() {
        wrong(format!("low-{at}"), "Enter the usual range as numbers");
    } else if let [low, high] = read.as_slice()
        && low > high
    {
        wrong(
            format!("low-{at}"),
            "Enter a range whose lower end is below the upper one",
        );
    }
}

/// Whether a text has the form of a LOINC code: up to seven digits, a hyphen, and a check digit by the Mod 10 algorithm of
/// the LOINC Users' Guide. Whether there is such a code is not known here.
pub(super) fn is_loinc(text: &str) -> bool {
    let Some((digits, check)) = text.split_once('-') else {
        return false;
    };
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=7).contains(&digits.len()) || check.len() != 1 || !is_number(digits) {
        return false;
    }
    // Every second digit from the right is doubled, and counts as the sum of its digits.
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|digit| digit.to_digit(10))
        .zip([2, 1].into_iter().cycle())
        .map(|(digit, times)| digit.saturating_mul(times))
        .map(|product| product / 10 + product % 10)
        .sum();
    check.parse() == Ok((10 - sum % 10) % 10)
}

/// A number with the sign of a limit of detection, digits as typed.
fn number(text: &str) -> Option<(Option<&str>, Value)> {
    for sign in ["<=", ">=", "<", ">"] {
        if let Some(rest) = text.strip_prefix(sign) {
            return Some((Some(sign), plain(rest.trim())?));
        }
    }
    Some((None, plain(text)?))
}

/// A plain decimal number, digits as typed.
fn plain(text: &str) -> Option<Value> {
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    let value: Value = serde_json::from_str(text).ok().filter(|_| is_plain)?;
    value.is_number().then_some(value)
}

/// All of a report as one transaction: its rows, then the report. What stands in the record already gets a new version.
pub(super) fn transaction(
    slip: &OrderSlip,
    actor: &Actor,
    subject: &str,
    report: &NewReport,
    now: Timestamp,
) -> Value {
    let issued = now.to_instant();
    // A correction is of what was found then.
    let at = slip.answered.unwrap_or(now).to_instant();
    let status = if slip.filed.is_some() {
        "corrected"
    } else {
        "final"
    };
    let performer = json!([
        { "reference": practitioner(actor.account) },
        { "reference": organization(slip.laboratory) }
    ]);
    let order = json!([{ "reference": format!("ServiceRequest/{}", slip.id) }]);
    let (mut entries, mut results) = (Vec::new(), Vec::new());
    let earlier = slip.filed.as_ref().map_or(&[][..], |filed| &filed.results);
    for row in 0..report.results.len().max(earlier.len()) {
        let before = earlier.get(row);
        let typed = report.results.get(row);
        let given = typed.filter(|one| before.is_none() || !one.value.is_empty());
        let name = given.map_or_else(
            || before.map_or("", |(_, name)| name.as_str()),
            |one| one.name.as_str(),
        );
        let mut made = json!({
            "resourceType": "Observation",
            "status": if given.is_some() { status } else { "entered-in-error" },
            "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory" }] }],
            "code": { "text": name }, "subject": { "reference": subject }, "basedOn": order,
            "effectiveDateTime": at, "issued": issued, "performer": performer,
        });
        if let Some(one) = given {
            put_code(&mut made, one);
            put_value(&mut made, one);
        }
        let reference = put_entry(&mut entries, made, "Observation", before.map(|(id, _)| id));
        if given.is_some() {
            results.push(json!({ "reference": reference }));
        }
    }
    let mut made = json!({
        "resourceType": "DiagnosticReport", "status": status,
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB" }] }],
        "code": { "text": slip.test }, "subject": { "reference": subject }, "basedOn": order,
        "effectiveDateTime": at, "issued": issued, "performer": performer,
    });
    let mut put = |name: &str, value: Value| {
        if let Some(members) = made.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if !results.is_empty() {
        put("result", Value::Array(results));
    }
    if !report.conclusion.is_empty() {
        put("conclusion", json!(report.conclusion));
    }
    if let Some((name, content)) = &report.document {
        put(
            "presentedForm",
            json!([{ "contentType": "application/pdf", "data": STANDARD.encode(content), "title": name, "creation": issued }]),
        );
    }
    let filed = slip.filed.as_ref().map(|filed| &filed.report);
    put_entry(&mut entries, made, "DiagnosticReport", filed);
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

/// Adds a resource to a transaction, new or as a version of the one with this id; gives what refers to it.
fn put_entry(
    entries: &mut Vec<Value>,
    mut resource: Value,
    kind: &str,
    id: Option<&String>,
) -> String {
    match id {
        Some(id) => {
            if let Some(members) = resource.as_object_mut() {
                members.insert("id".into(), json!(id));
            }
            let name = format!("{kind}/{id}");
            entries.push(json!({
                "resource": resource, "request": { "method": "PUT", "url": name }
            }));
            name
        }
        None => {
            let name = format!("urn:uuid:{}", new_id());
            entries.push(json!({
                "fullUrl": name, "resource": resource, "request": { "method": "POST", "url": kind }
            }));
            name
        }
    }
}

/// The LOINC code beside what was measured, where one was typed.
pub(super) fn put_code(made: &mut Value, one: &NewResult) {
    if let (false, Some(code)) = (one.loinc.is_empty(), made.get_mut("code")) {
        *code = json!({
            "coding": [{ "system": "http://loinc.org", "code": one.loinc }], "text": one.name
        });
    }
}

/// Value, reference range and whether the one is in the other.
fn put_value(made: &mut Value, one: &NewResult) {
    let Some(members) = made.as_object_mut() else {
        return;
    };
    let quantity = |value: Value| json!({ "value": value, "unit": one.unit, "system": "http://unitsofmeasure.org", "code": one.unit });
    let Some((sign, value)) = number(&one.value) else {
        members.insert("valueString".into(), json!(one.value));
        return;
    };
    let mut range = json!({});
    let (low, high) = (plain(&one.low), plain(&one.high));
    if let Some(bounds) = range.as_object_mut() {
        for (name, bound) in [("low", &low), ("high", &high)] {
            if let Some(bound) = bound {
                bounds.insert(name.into(), quantity(bound.clone()));
            }
        }
    }
    if low.is_some() || high.is_some() {
        members.insert("referenceRange".into(), json!([range]));
        if let (None, Some(code)) = (sign, interpretation(&value, low.as_ref(), high.as_ref())) {
            members.insert(
                "interpretation".into(),
                json!([{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": code }] }]),
            );
        }
    }
    let mut value = quantity(value);
    if let (Some(sign), Some(members)) = (sign, value.as_object_mut()) {
        members.insert("comparator".into(), json!(sign));
    }
    members.insert("valueQuantity".into(), value);
}

/// `L`, `N` or `H`.
fn interpretation(
    value: &Value,
    low: Option<&Value>,
    high: Option<&Value>,
) -> Option<&'static str> {
    let value = value.as_f64()?;
    let bound = |bound: Option<&Value>| bound.and_then(Value::as_f64);
    if bound(low).is_some_and(|low| value < low) {
        return Some("L");
    }
    if bound(high).is_some_and(|high| value > high) {
        return Some("H");
    }
    Some("N")
}
