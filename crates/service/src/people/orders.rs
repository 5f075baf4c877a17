//! Laboratory tests: a doctor orders one, the laboratory answers it. The order is an entry of the patient's record; the
//! laboratory gets a slip of it, as on paper, and writes its results under the patient's permission to add, which lets it
//! read nothing.

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stele_core::{
    id::{OrganizationId, PatientId},
    time::Timestamp,
};
use stele_fhir::{bundle, parse, ucum};

use super::{Named, PersonKind};
use crate::{
    Service, Write,
    directory::role,
    error::{Error, Result},
    notices::{Notice, NoticeKind},
    records::new_id,
    session::Actor,
};

/// Most slips that a worklist shows of each kind.
const LISTED_MAX: u32 = 200;
/// Longest name of a test and longest text, in characters.
const NAME_MAX: usize = 200;
const TEXT_MAX: usize = 2_000;
/// Most results of one report.
pub const RESULTS_MAX: usize = 40;
/// Largest document of a report, in bytes: it is kept inside the report.
pub const REPORT_DOCUMENT_MAX: usize = 10 << 20;

/// A test to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The organisation whose laboratory does it.
    pub laboratory: OrganizationId,
    /// What is to be measured.
    pub test: String,
    /// What the laboratory should know; may be empty.
    pub reason: String,
    /// Whether it cannot wait.
    pub is_urgent: bool,
}

/// The slip of an order: what the laboratory sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderSlip {
    /// FHIR id of the ServiceRequest.
    pub id: String,
    /// Whose test it is.
    pub patient: Address,
    /// Name and birth date, as the doctor who ordered sees them: samples are told apart by them.
    pub name: String,
    /// Birth date as written; may be empty.
    pub born: String,
    /// Who ordered.
    pub orderer: Address,
    /// Whose laboratory it is for.
    pub laboratory: Address,
    /// What is to be measured.
    pub test: String,
    /// What the laboratory should know; may be empty.
    pub reason: String,
    /// Whether it cannot wait.
    pub is_urgent: bool,
    /// When it was ordered.
    pub at: Timestamp,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
}

/// One result of a report, as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewResult {
    /// What was measured.
    pub name: String,
    /// A number, such as `6.30` or `<0.1`, or words.
    pub value: String,
    /// Unit in UCUM; empty for words.
    pub unit: String,
    /// Lower end of the reference range; may be empty.
    pub low: String,
    /// Upper end of the reference range; may be empty.
    pub high: String,
}

/// A report on an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewReport {
    /// What was found.
    pub results: Vec<NewResult>,
    /// What it means, in words; may be empty.
    pub conclusion: String,
    /// The report as a PDF: name and content.
    pub document: Option<(String, Vec<u8>)>,
}

impl Service {
    /// Organisations here with laboratory staff, by name.
    ///
    /// # Errors
    /// The ledger or the index fails.
    pub async fn laboratories(self: &Arc<Self>) -> Result<Vec<Named>> {
        let mut found = Vec::new();
        for organization in self.hosted_organizations()? {
            let mut has_laboratory = false;
            for account in self.accounts_of(organization, 2)? {
                let person = self.person(account)?;
                has_laboratory |= person.is_some_and(|one| one.has(role::LABORATORY));
            }
            if has_laboratory {
                found.push(self.named(organization.0).await?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Orders a test: a ServiceRequest in the patient's record, and the slip for the laboratory.
    ///
    /// # Errors
    /// [`Error::Conflict`] with what is wrong with the order; else as for [`Service::write`].
    pub async fn order_test(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        order: &NewOrder,
    ) -> Result<OrderSlip> {
        const WHAT: &str = "ordering a test";
        let wrong = |message: &str| Error::Conflict {
            message: message.to_owned(),
        };
        if order.test.is_empty() || order.test.chars().count() > NAME_MAX {
            return Err(wrong(
                "Enter what is to be measured, in at most 200 characters.",
            ));
        }
        if order.reason.chars().count() > TEXT_MAX {
            return Err(wrong("Write at most 2000 characters for the laboratory."));
        }
        let known = self.laboratories().await?;
        if !known.iter().any(|one| one.account == order.laboratory.0) {
            return Err(wrong("Choose a laboratory."));
        }
        let who = self.demographics(actor, patient).await?;
        let now = self.clock.now();
        let mut made = json!({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "category": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "108252007", "display": "Laboratory procedure" }] }],
            "priority": if order.is_urgent { "urgent" } else { "routine" },
            "code": { "text": order.test },
            "subject": { "reference": format!("Patient/{}", who.id) },
            "authoredOn": now.to_instant(),
            "requester": { "reference": practitioner(actor.account) },
            "performer": [{ "reference": organization(order.laboratory.0) }],
        });
        if let (false, Some(members)) = (order.reason.is_empty(), made.as_object_mut()) {
            members.insert("note".into(), json!([{ "text": order.reason }]));
        }
        let resource = parse::edited(made.to_string()).map_err(invalid)?;
        let written = self.write(actor, vec![Write::Create { resource }]).await?;
        let id = written.into_iter().next().map(|one| one.id);
        let slip = OrderSlip {
            id: id.ok_or_else(|| Error::internal(WHAT, "no result"))?,
            patient: patient.0,
            name: who.listed,
            born: who.born,
            orderer: actor.account,
            laboratory: order.laboratory.0,
            test: order.test.clone(),
            reason: order.reason.clone(),
            is_urgent: order.is_urgent,
            at: now,
            answered: None,
        };
        self.keep_order(&slip)?;
        for account in self.accounts_of(order.laboratory, 2)? {
            let person = self.person(account)?;
            if person.is_some_and(|one| one.kind == PersonKind::Staff && one.has(role::LABORATORY))
            {
                let notice = Notice {
                    kind: NoticeKind::OrderReceived,
                    at: now,
                    who: Some(patient.0),
                };
                self.tell(account, &notice, &format!("order/{}", slip.id))?;
            }
        }
        Ok(slip)
    }

    /// Orders addressed to the actor's laboratory: those that wait, and those answered lately.
    ///
    /// # Errors
    /// The actor is no laboratory staff.
    pub fn orders(&self, actor: &Actor) -> Result<(Vec<OrderSlip>, Vec<OrderSlip>)> {
        self.require_laboratory(actor)?;
        let list = |is_open| -> Result<Vec<OrderSlip>> {
            self.index
                .local()
                .orders_of(actor.organization.0, is_open, LISTED_MAX)
                .map_err(Error::index("listing orders"))?
                .iter()
                .map(|document| read(document))
                .collect()
        };
        Ok((list(true)?, list(false)?))
    }

    /// An order addressed to the actor's laboratory.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for those of others.
    pub fn order(&self, actor: &Actor, id: &str) -> Result<OrderSlip> {
        self.require_laboratory(actor)?;
        self.index
            .local()
            .order(id)
            .map_err(Error::index("reading an order"))?
            .map(|document| read(&document))
            .transpose()?
            .filter(|slip| slip.laboratory == actor.organization.0)
            .ok_or_else(|| Error::not_found("order", id))
    }

    /// Writes the results of an order into the patient's record, all or none, and tells who ordered. The patient is told
    /// as of every new entry.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is answered already or a result can't be read; [`Error::NotPermitted`] without the
    /// patient's permission to add.
    pub async fn answer_order(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        report: &NewReport,
    ) -> Result<()> {
        let mut slip = self.order(actor, id)?;
        if slip.answered.is_some() {
            return Err(Error::Conflict {
                message: "This order is answered already.".into(),
            });
        }
        if let Some((_, message)) = report_problems(report).into_iter().next() {
            return Err(Error::Conflict { message });
        }
        let now = self.clock.now();
        let subject = self.patient_reference(PatientId(slip.patient))?;
        let made = transaction(&slip, actor, &subject, report, now);
        let resource = parse::edited(made.to_string()).map_err(invalid)?;
        let plan = bundle::parse(resource).map_err(invalid)?;
        self.bundle(actor, plan).await?;
        slip.answered = Some(now);
        self.keep_order(&slip)?;
        let notice = Notice {
            kind: NoticeKind::ResultReady,
            at: now,
            who: Some(slip.patient),
        };
        self.tell(slip.orderer, &notice, &format!("result/{id}"))
    }

    fn keep_order(&self, slip: &OrderSlip) -> Result<()> {
        const WHAT: &str = "keeping an order";
        let document = serde_json::to_vec(slip).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_order(
                &slip.id,
                slip.laboratory,
                &document,
                slip.answered.is_none(),
                slip.answered.unwrap_or(slip.at),
            )
            .map_err(Error::index(WHAT))
    }

    fn require_laboratory(&self, actor: &Actor) -> Result<()> {
        let person = self.person(actor.account)?;
        if person.is_some_and(|one| one.kind == PersonKind::Staff && one.has(role::LABORATORY)) {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: "This is for laboratory staff.".into(),
        })
    }
}

/// What is wrong with a report: the field, `value-0` and the like, and words.
#[must_use]
pub fn report_problems(report: &NewReport) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut wrong = |field: String, words: &str| problems.push((field, words.to_owned()));
    if report.results.is_empty() && report.document.is_none() {
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
        if one.name.is_empty() || one.name.chars().count() > NAME_MAX {
            wrong(format!("name-{at}"), "Enter what was measured");
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

/// All of a report as one transaction.
fn transaction(
    slip: &OrderSlip,
    actor: &Actor,
    subject: &str,
    report: &NewReport,
    now: Timestamp,
) -> Value {
    let at = now.to_instant();
    let performer = json!([
        { "reference": practitioner(actor.account) },
        { "reference": organization(slip.laboratory) }
    ]);
    let order = json!([{ "reference": format!("ServiceRequest/{}", slip.id) }]);
    let mut entries = Vec::new();
    let mut results = Vec::new();
    let mut add = |resource: Value, kind: &str| {
        let name = format!("urn:uuid:{}", new_id());
        entries.push(json!({
            "fullUrl": name, "resource": resource, "request": { "method": "POST", "url": kind }
        }));
        name
    };
    for one in &report.results {
        let mut made = json!({
            "resourceType": "Observation", "status": "final",
            "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory" }] }],
            "code": { "text": one.name }, "subject": { "reference": subject }, "basedOn": order,
            "effectiveDateTime": at, "issued": at, "performer": performer,
        });
        put_value(&mut made, one);
        results.push(json!({ "reference": add(made, "Observation") }));
    }
    let mut made = json!({
        "resourceType": "DiagnosticReport", "status": "final",
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB" }] }],
        "code": { "text": slip.test }, "subject": { "reference": subject }, "basedOn": order,
        "effectiveDateTime": at, "issued": at, "performer": performer,
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
            json!([{ "contentType": "application/pdf", "data": STANDARD.encode(content), "title": name, "creation": at }]),
        );
    }
    add(made, "DiagnosticReport");
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
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

fn practitioner(account: Address) -> String {
    format!("Practitioner/{}", hex::encode(account))
}

fn organization(account: Address) -> String {
    format!("Organization/{}", hex::encode(account))
}

fn read(document: &[u8]) -> Result<OrderSlip> {
    serde_json::from_slice(document).map_err(|error| Error::internal("reading an order", error))
}

fn invalid(issues: Vec<stele_fhir::outcome::Issue>) -> Error {
    Error::Invalid {
        issues,
        unreadable: false,
    }
}

#[cfg(test)]
mod tests {
    use stele_fhir::category::{self, Category};

    use super::*;

    fn result(name: &str, value: &str, unit: &str, low: &str, high: &str) -> NewResult {
        let own = str::to_owned;
        NewResult {
            name: own(name),
            value: own(value),
            unit: own(unit),
            low: own(low),
            high: own(high),
        }
    }

    fn slip() -> OrderSlip {
        OrderSlip {
            id: "o1".into(),
            patient: Address::repeat_byte(1),
            name: "STONE, Eva".into(),
            born: "1984-03-15".into(),
            orderer: Address::repeat_byte(2),
            laboratory: Address::repeat_byte(3),
            test: "Potassium".into(),
            reason: String::new(),
            is_urgent: false,
            at: Timestamp(0),
            answered: None,
        }
    }

    #[test]
    fn a_report_is_valid_fhir_of_the_laboratory() {
        let report = NewReport {
            results: vec![
                result("Potassium", "6.30", "mmol/L", "3.5", "5.1"),
                result("CRP", "<0.5", "mg/L", "", "5"),
                result("Blood group", "A Rh positive", "", "", ""),
            ],
            conclusion: "High potassium".into(),
            document: Some(("report.pdf".into(), b"%PDF-1.7".to_vec())),
        };
        assert!(report_problems(&report).is_empty());
        let actor = Actor::system(
            OrganizationId(Address::repeat_byte(3)),
            stele_core::consent::Purpose::Treat,
            "test",
        );
        let made = transaction(&slip(), &actor, "Patient/p", &report, Timestamp(0));
        let entries = made["entry"].as_array().expect("entries");
        assert_eq!(entries.len(), 4);
        for entry in entries {
            let resource = &entry["resource"];
            let issues = stele_fhir::validate::resource(resource);
            assert!(issues.is_empty(), "{issues:?}");
            assert_eq!(category::assign(resource), Category::Laboratory);
        }
        let first = &entries[0]["resource"];
        assert_eq!(first["interpretation"][0]["coding"][0]["code"], "H");
        assert!(first.to_string().contains("6.30"), "digits stay as typed");
        assert_eq!(entries[1]["resource"]["valueQuantity"]["comparator"], "<");
        assert_eq!(entries[2]["resource"]["valueString"], "A Rh positive");
        assert_eq!(
            entries[3]["resource"]["result"][0]["reference"],
            entries[0]["fullUrl"]
        );
    }

    #[test]
    fn mistakes_are_named_at_their_field() {
        let fields = |one: NewResult| -> Vec<String> {
            let report = NewReport {
                results: vec![one],
                ..NewReport::default()
            };
            report_problems(&report)
                .into_iter()
                .map(|(field, _)| field)
                .collect()
        };
        assert_eq!(fields(result("", "1", "1", "", "")), ["name-0"]);
        assert_eq!(fields(result("K", "", "mmol/L", "", "")), ["value-0"]);
        assert_eq!(fields(result("K", "6.3", "", "", "")), ["unit-0"]);
        assert_eq!(
            fields(result("K", "6.3", "mmol per litre", "", "")),
            ["unit-0"]
        );
        assert_eq!(fields(result("K", "6.3", "mmol/L", "5", "4")), ["low-0"]);
        assert_eq!(fields(result("K", "6.3", "mmol/L", "x", "")), ["low-0"]);
        let none = report_problems(&NewReport::default());
        assert_eq!(none.len(), 1);
        let page = NewReport {
            document: Some(("x.pdf".into(), b"<html>".to_vec())),
            ..NewReport::default()
        };
        assert_eq!(report_problems(&page)[0].0, "file");
    }
}
