//! PID, PD1, NK1, MRG to Patient.

use serde_json::{Value as Json, json};

use super::{
    Builder, Intent, Subject, encode, tables,
    types::{self, Object, Put as _},
};
use crate::hl7v2::{
    Value,
    problem::{ErrorCode, Location, Problem},
};

/// Maps the patient of the message; a message without a usable PID has none.
pub(super) fn map(builder: &mut Builder<'_>, intent: Intent) -> Result<(), Problem> {
    let Some(at) = builder.position("PID") else {
        return Err(missing());
    };
    let (identifiers, chosen) = identifiers(builder, at);
    let Some((system, value)) = chosen else {
        return Err(missing());
    };
    let mut patient = Object::new();
    patient.list("identifier", identifiers);
    patient.put("active", (intent == Intent::Replace).then_some(true));
    describe(builder, at, &mut patient);
    contacts(builder, &mut patient);
    let entry = builder.add(intent, "Patient", (&system, &value), patient);
    builder.patient = Some(Subject {
        entry,
        key: format!("{system}|{value}"),
        criteria: encode::by_identifier(&system, &value),
    });
    Ok(())
}

fn missing() -> Problem {
    Problem::error(
        ErrorCode::RequiredFieldMissing,
        "the segment PID with an identifier of the patient is missing",
    )
    .at(Location::field("PID", 3))
}

/// All identifiers of the patient, and the one it is known by: the medical record number before others, numbers of
/// documents and authorities only if there is nothing else.
fn identifiers(builder: &Builder<'_>, at: usize) -> (Vec<Json>, Option<(String, String)>) {
    let mut found: Vec<(u8, Json)> = Vec::new();
    let dates = builder.dates();
    for (field, rank) in [(3, 0), (2, 10), (4, 11)] {
        for cx in builder.field(at, field) {
            let own = match cx.text(5) {
                Some("MR") => 0,
                Some("PI" | "PT") => 1,
                Some("SS" | "DL" | "PPN" | "NI" | "MA" | "MC") => 8,
                _ => 4,
            };
            let identifier = types::identifier(cx, &builder.home, &dates);
            found.extend(identifier.map(|one| (rank + own, one)));
        }
    }
    for (field, kind, system) in [
        (18, "AN", None),
        (19, "SS", Some("http://hl7.org/fhir/sid/us-ssn")),
        (20, "DL", None),
    ] {
        let Some(cx) = builder.first(at, field) else {
            continue;
        };
        let authority = match (system, field) {
            (Some(system), _) => system.to_owned(),
            // A licence's second component names the state that gave it.
            (None, 20) => cx
                .text(2)
                .map_or_else(|| builder.home.clone(), types::authority_named),
            _ => types::authority(&cx.component(4)).unwrap_or_else(|| builder.home.clone()),
        };
        found.extend(cx.text(1).map(|value| {
            let one = json!({
                "type": types::identifier_type(kind), "system": authority, "value": types::string(value)
            });
            (30, one)
        }));
    }
    let mut identifiers: Vec<Json> = Vec::new();
    for (_, one) in &found {
        let is_known = identifiers.iter().any(|other| {
            other.get("system") == one.get("system") && other.get("value") == one.get("value")
        });
        if !is_known {
            identifiers.push(one.clone());
        }
    }
    let text = |one: &Json, member: &str| one.get(member).and_then(Json::as_str).map(str::to_owned);
    let chosen = found
        .iter()
        .filter(|(rank, _)| *rank < 30)
        .min_by_key(|(rank, _)| *rank)
        .and_then(|(_, one)| Some((text(one, "system")?, text(one, "value")?)));
    (identifiers, chosen)
}

fn describe(builder: &mut Builder<'_>, at: usize, patient: &mut Object) {
    let names: Vec<Json> = [5, 9]
        .into_iter()
        .flat_map(|field| builder.field(at, field))
        .filter_map(|xpn| types::human_name(xpn, &builder.dates()))
        .collect();
    patient.list("name", names);
    let telecom: Vec<Json> = [(13, Some("home")), (14, Some("work")), (40, None)]
        .into_iter()
        .flat_map(|(field, usage)| builder.field(at, field).iter().map(move |xtn| (xtn, usage)))
        .filter_map(|(xtn, usage)| types::contact_point(xtn, usage))
        .collect();
    patient.list("telecom", telecom);
    if let Some(code) = builder.text(at, 8) {
        let gender = tables::gender(code);
        if gender.is_none() {
            report_code(builder, at, 8);
        }
        patient.put("gender", gender);
    }
    birth(builder, at, patient);
    death(builder, at, patient);
    let addresses: Vec<Json> = builder
        .field(at, 11)
        .iter()
        .filter_map(|xad| types::address(xad, &builder.dates()))
        .collect();
    patient.list("address", addresses);
    if let Some(cwe) = builder.first(at, 16) {
        patient.put("maritalStatus", marital_status(cwe));
    }
    match (builder.text(at, 25), builder.text(at, 24)) {
        (Some(order), _) if order.parse::<i32>().is_ok() => {
            patient.put("multipleBirthInteger", order.parse::<i32>().ok());
        }
        (_, Some("Y")) => patient.put("multipleBirthBoolean", Some(true)),
        (_, Some("N")) => patient.put("multipleBirthBoolean", Some(false)),
        _ => {}
    }
    let languages: Vec<Json> = builder
        .concepts(at, 15, Some("0296"))
        .into_iter()
        .map(|language| json!({ "language": language, "preferred": true }))
        .collect();
    patient.list("communication", languages);
    if let Some(pd1) = builder.position("PD1") {
        let doctors = builder.people(pd1, 4);
        patient.list("generalPractitioner", doctors);
    }
}

fn birth(builder: &mut Builder<'_>, at: usize, patient: &mut Object) {
    let Some(moment) = builder.date_time(at, 7) else {
        return;
    };
    let date = moment.split('T').next().unwrap_or_default().to_owned();
    patient.put("birthDate", Some(date));
    if moment.contains('T') {
        patient.put(
            "_birthDate",
            Some(json!({ "extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": moment
            }] })),
        );
    }
}

fn death(builder: &mut Builder<'_>, at: usize, patient: &mut Object) {
    if let Some(moment) = builder.date_time(at, 29) {
        patient.put("deceasedDateTime", Some(moment));
        let _ = builder.text(at, 30);
        return;
    }
    match builder.text(at, 30) {
        Some("Y") => patient.put("deceasedBoolean", Some(true)),
        Some("N") => patient.put("deceasedBoolean", Some(false)),
        _ => {}
    }
}

fn marital_status(cwe: &Value) -> Option<Json> {
    let mut concept = types::concept(cwe, Some("0002"))?;
    let known = cwe.text(1).and_then(tables::marital_status);
    if let (Some((system, code)), Some(object)) = (known, concept.as_object_mut()) {
        let codings = object.entry("coding").or_insert_with(|| json!([]));
        if let Some(codings) = codings.as_array_mut() {
            codings.insert(0, json!({ "system": system, "code": code }));
        }
    }
    Some(concept)
}

/// NK1: next of kin and contacts of the patient.
fn contacts(builder: &mut Builder<'_>, patient: &mut Object) {
    let mut contacts = Vec::new();
    for at in builder.positions("NK1") {
        let mut contact = Object::new();
        let relationships: Vec<Json> = [(3, "0063"), (7, "0131")]
            .into_iter()
            .filter_map(|(field, table)| {
                let cwe = builder.first(at, field)?;
                let mut concept = types::concept(cwe, Some(table))?;
                if let Some(role) = cwe.text(1).and_then(tables::contact_role)
                    && let Some(codings) = concept.get_mut("coding").and_then(Json::as_array_mut)
                {
                    codings.insert(
                        0,
                        json!({ "system": tables::hl7_table("0131"), "code": role }),
                    );
                }
                Some(concept)
            })
            .collect();
        contact.list("relationship", relationships);
        let dates = builder.dates();
        let name = builder
            .first(at, 2)
            .and_then(|xpn| types::human_name(xpn, &dates));
        contact.put("name", name);
        let telecom: Vec<Json> = [(5, Some("home")), (6, Some("work"))]
            .into_iter()
            .flat_map(|(field, usage)| builder.field(at, field).iter().map(move |xtn| (xtn, usage)))
            .filter_map(|(xtn, usage)| types::contact_point(xtn, usage))
            .collect();
        contact.list("telecom", telecom);
        let address = builder
            .first(at, 4)
            .and_then(|xad| types::address(xad, &dates));
        contact.put("address", address);
        contact.put("gender", builder.text(at, 15).and_then(tables::gender));
        let period = types::period(builder.text(at, 8), builder.text(at, 9), &dates);
        contact.put("period", period);
        let organization = builder
            .text(at, 13)
            .map(|name| json!({ "display": types::string(name) }));
        contact.put("organization", organization);
        // pat-1: a contact has at least one of these.
        let told = ["name", "telecom", "address", "organization"];
        if told.iter().any(|member| contact.contains_key(*member)) {
            contacts.extend(contact.some());
        }
    }
    patient.list("contact", contacts);
}

/// MRG: the patient of PID takes the place of the one of MRG, which is no longer used.
pub(super) fn merge(builder: &mut Builder<'_>) -> Result<(), Problem> {
    let incomplete = || {
        Problem::error(
            ErrorCode::RequiredFieldMissing,
            "the segment MRG with the identifier that is given up is missing",
        )
        .at(Location::field("MRG", 1))
    };
    let at = builder.position("MRG").ok_or_else(incomplete)?;
    let survivor = builder.subject()?;
    let old: Vec<Json> = builder
        .field(at, 1)
        .iter()
        .filter_map(|cx| types::identifier(cx, &builder.home, &builder.dates()))
        .collect();
    let text = |one: &Json, member: &str| one.get(member).and_then(Json::as_str).map(str::to_owned);
    let (system, value) = old
        .first()
        .and_then(|one| Some((text(one, "system")?, text(one, "value")?)))
        .ok_or_else(incomplete)?;
    if survivor.key == format!("{system}|{value}") {
        let what = "the identifier that is given up is the one that stays";
        return Err(Problem::error(ErrorCode::DataType, what).at(Location::field("MRG", 1)));
    }
    let mut given_up = Object::new();
    given_up.list("identifier", old);
    given_up.put("active", Some(false));
    given_up.list(
        "link",
        vec![json!({ "other": Builder::reference(survivor.entry), "type": "replaced-by" })],
    );
    let old = builder.add(Intent::Replace, "Patient", (&system, &value), given_up);
    if let Some(patient) = builder.resource(survivor.entry) {
        patient.list(
            "link",
            vec![json!({ "other": Builder::reference(old), "type": "replaces" })],
        );
    }
    Ok(())
}

/// Reports a code that is in no table FHIR knows.
pub(super) fn report_code(builder: &mut Builder<'_>, at: usize, field: usize) {
    let Some(place) = builder.seg(at).map(|segment| segment.at(field)) else {
        return;
    };
    let what = "the code is not one that FHIR has; it stays in the stored original only";
    builder.report(Problem::warning(ErrorCode::TableValueNotFound, what).at(place));
}
