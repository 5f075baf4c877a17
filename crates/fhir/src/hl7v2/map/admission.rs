//! ADT: patients and visits, with allergies, diagnoses, procedures, coverages and measurements.

use serde_json::{Value as Json, json};

use super::{
    Builder, Intent, patient, results, tables,
    types::{self, Object, Put as _},
};
use crate::hl7v2::problem::{ErrorCode, Location, Problem};

/// Maps an ADT message by its trigger event (HL7 v2.9, chapter 3).
pub(super) fn map(builder: &mut Builder<'_>, event: &str) -> Result<(), Problem> {
    match event {
        // Merges and changes of identifiers: one person was two.
        "A18" | "A30" | "A34" | "A36" | "A39" | "A40" | "A46" | "A47" => {
            patient::map(builder, Intent::Replace)?;
            patient::merge(builder)
        }
        // Persons and visits as they are now.
        "A01" | "A02" | "A03" | "A04" | "A05" | "A06" | "A07" | "A08" | "A09" | "A10" | "A11"
        | "A12" | "A13" | "A14" | "A15" | "A16" | "A21" | "A22" | "A25" | "A26" | "A27" | "A28"
        | "A31" | "A32" | "A33" | "A38" | "A52" | "A53" | "A54" | "A55" | "A60" | "A61" | "A62" => {
            patient::map(builder, Intent::Replace)?;
            visit(builder, Some(event))?;
            diagnoses(builder)?;
            allergies(builder)?;
            procedures(builder)?;
            coverages(builder)?;
            results::map_measurements(builder)
        }
        _ => Err(Problem::error(
            ErrorCode::UnsupportedEvent,
            "this event moves or deletes records of persons or accounts, which a message can't do here",
        )
        .at(Location::field("MSH", 9))),
    }
}

/// PV1 and PV2 to Encounter. `event` is there for ADT, whose visits are as the message says; other messages only refer
/// to them.
pub(super) fn visit(builder: &mut Builder<'_>, event: Option<&str>) -> Result<(), Problem> {
    let Some(at) = builder.position("PV1") else {
        return Ok(());
    };
    let Some(class) = builder.text(at, 2) else {
        return Ok(());
    };
    // Messages about a person carry an empty PV1 of class N, "not applicable".
    if class == "N" && builder.first(at, 19).is_none() {
        return Ok(());
    }
    let mut encounter = builder.about_patient("subject")?;
    let mut identifiers = Vec::new();
    for (field, kind) in [(19, "VN"), (50, "VN"), (5, "PRE")] {
        let typed = builder
            .field(at, field)
            .iter()
            .filter_map(|cx| types::identifier(cx, &builder.home, &builder.dates()))
            .map(|mut one| {
                if let Some(object) = one.as_object_mut() {
                    object
                        .entry("type")
                        .or_insert_with(|| types::identifier_type(kind));
                }
                one
            });
        identifiers.extend(typed);
    }
    let start = builder.date_time(at, 44);
    let end = builder.date_time(at, 45);
    encounter.put("status", Some(status(event, class, end.is_some())));
    encounter.put("class", Some(class_of(class)));
    details(builder, at, &mut encounter);
    let mut period = Object::new();
    period.put("start", start.clone());
    period.put("end", end);
    encounter.put("period", period.some());
    let intent = if event.is_some() {
        Intent::Replace
    } else {
        Intent::Ensure
    };
    let number = identifiers.first().and_then(|one| {
        let text = |member: &str| one.get(member).and_then(Json::as_str).map(str::to_owned);
        builder.first(at, 19)?;
        Some((text("system")?, text("value")?))
    });
    encounter.list("identifier", identifiers);
    let subject = builder.subject()?;
    let entry = match (number, start) {
        (Some((system, value)), _) => {
            builder.add(intent, "Encounter", (&system, &value), encounter)
        }
        (None, Some(start)) => {
            let parts = [subject.key.as_str(), &start];
            builder.add_own(intent, "Encounter", "visit", &parts, encounter)
        }
        // Neither number nor beginning: nothing would find it again, so only the message that is about it makes one.
        (None, None) if event.is_some() => {
            let parts = [builder.home.clone(), builder.header.control_id.clone()];
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            builder.add_own(intent, "Encounter", "visit", &parts, encounter)
        }
        (None, None) => {
            let what = "a visit without number or beginning stays in the stored original only";
            let place = Location::field("PV1", 19);
            builder.report(Problem::information(ErrorCode::RequiredFieldMissing, what).at(place));
            return Ok(());
        }
    };
    builder.encounter = Some(entry);
    Ok(())
}

/// `encounter-status`, which v2 tells by trigger event, patient class and discharge time.
fn status(event: Option<&str>, class: &str, has_ended: bool) -> &'static str {
    match event {
        Some("A11" | "A27" | "A38") => return "cancelled",
        Some("A05" | "A14") => return "planned",
        Some("A13") => return "in-progress",
        Some("A03") => return "finished",
        Some("A21") => return "onleave",
        Some("A09" | "A10" | "A04") if !has_ended && class != "P" => return "in-progress",
        _ => {}
    }
    match class {
        _ if has_ended => "finished",
        "P" => "planned",
        "E" | "I" | "O" | "R" | "B" | "C" | "N" => "in-progress",
        _ => "unknown",
    }
}

fn class_of(class: &str) -> Json {
    match tables::encounter_class(class) {
        Some((code, display)) => json!({
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code, "display": display
        }),
        None => json!({ "system": tables::hl7_table("0004"), "code": types::code(class) }),
    }
}

fn details(builder: &mut Builder<'_>, at: usize, encounter: &mut Object) {
    encounter.list("type", builder.concepts(at, 4, Some("0007")));
    encounter.put("serviceType", builder.concept(at, 10, Some("0069")));
    let mut participants = Vec::new();
    for (field, code) in [(7, "ATND"), (8, "REF"), (9, "CON"), (17, "ADM")] {
        for individual in builder.people(at, field) {
            participants.push(json!({
                "type": [{ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": code
                }] }],
                "individual": individual
            }));
        }
    }
    encounter.list("participant", participants);
    let mut locations = Vec::new();
    for (field, status) in [
        (3, "active"),
        (6, "completed"),
        (11, "active"),
        (42, "planned"),
    ] {
        if let Some(place) = builder.first(at, field).and_then(types::place) {
            locations.push(json!({ "location": { "display": place }, "status": status }));
        }
    }
    encounter.list("location", locations);
    let mut stay = Object::new();
    stay.put("admitSource", builder.concept(at, 14, Some("0023")));
    stay.put("reAdmission", builder.concept(at, 13, Some("0092")));
    stay.list("dietPreference", builder.concepts(at, 38, Some("0114")));
    stay.list("specialCourtesy", builder.concepts(at, 16, Some("0099")));
    stay.put(
        "dischargeDisposition",
        builder.concept(at, 36, Some("0112")),
    );
    if let Some(place) = builder.text(at, 37) {
        stay.put(
            "destination",
            Some(json!({ "display": types::string(place) })),
        );
    }
    encounter.put("hospitalization", stay.some());
    let Some(pv2) = builder.position("PV2") else {
        return;
    };
    encounter.list("reasonCode", builder.concepts(pv2, 3, None));
    if let Some(code) = builder.text(pv2, 25) {
        let priority = tables::encounter_priority(code);
        let coding = match priority {
            Some(code) => json!({
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": code
            }),
            None => json!({ "system": tables::hl7_table("0217"), "code": types::code(code) }),
        };
        encounter.put("priority", Some(json!({ "coding": [coding] })));
    }
}

/// DG1 to Condition, listed in the Encounter.
pub(super) fn diagnoses(builder: &mut Builder<'_>) -> Result<Vec<Json>, Problem> {
    let mut listed = Vec::new();
    let mut found = Vec::new();
    for (nth, at) in builder.positions("DG1").into_iter().enumerate() {
        let mut code = builder.concept(at, 3, None);
        if let Some(text) = builder.text(at, 4) {
            let concept = code.get_or_insert_with(|| json!({}));
            if let Some(object) = concept.as_object_mut() {
                object.insert("text".into(), types::string(text).into());
            }
        }
        let Some(code) = code else { continue };
        let mut condition = builder.about_patient("subject")?;
        let deleted = builder.text(at, 21) == Some("D");
        let verification = match (deleted, builder.text(at, 6)) {
            (true, _) => "entered-in-error",
            (false, Some("F")) => "confirmed",
            (false, Some("W")) => "provisional",
            _ => "unconfirmed",
        };
        let state = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
        condition.put(
            "verificationStatus",
            Some(json!({ "coding": [{ "system": state, "code": verification }] })),
        );
        condition.list(
            "category",
            vec![json!({ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-category",
                "code": "encounter-diagnosis"
            }] })],
        );
        let key = results::key_of(&code);
        condition.put("code", Some(code));
        condition.put("encounter", builder.encounter());
        condition.put("onsetDateTime", builder.date_time(at, 5));
        condition.put("recordedDate", builder.date_time(at, 19));
        let asserter = builder.people(at, 16).into_iter().next();
        condition.put("asserter", asserter);
        let entry = add_condition(builder, at, (nth, &key), condition)?;
        let reference = Builder::reference(entry);
        let mut diagnosis = Object::new();
        diagnosis.put("condition", Some(reference.clone()));
        if builder.text(at, 6) == Some("A") {
            diagnosis.put(
                "use",
                Some(json!({ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/diagnosis-role", "code": "AD"
                }] })),
            );
        }
        let rank = builder
            .text(at, 15)
            .and_then(|text| text.parse::<u32>().ok());
        diagnosis.put("rank", rank.filter(|rank| *rank > 0));
        listed.extend(diagnosis.some());
        found.push(reference);
    }
    if let Some(encounter) = builder.encounter
        && let Some(resource) = builder.resource(encounter)
    {
        resource.list("diagnosis", listed);
    }
    Ok(found)
}

/// A Condition by the identifier of DG1-20, or by visit and code.
fn add_condition(
    builder: &mut Builder<'_>,
    at: usize,
    (nth, key): (usize, &str),
    mut condition: Object,
) -> Result<usize, Problem> {
    let own = builder.first(at, 20).and_then(|ei| {
        Some((
            types::entity_authority(ei, &builder.home),
            ei.text(1)?.to_owned(),
        ))
    });
    if let Some((system, value)) = own {
        let identifier = json!({ "system": system, "value": types::string(&value) });
        condition.list("identifier", vec![identifier]);
        return Ok(builder.add(Intent::Replace, "Condition", (&system, &value), condition));
    }
    let visit = visit_key(builder)?;
    let nth = nth.to_string();
    let parts = [visit.as_str(), key, if key.is_empty() { &nth } else { "" }];
    Ok(builder.add_own(Intent::Replace, "Condition", "diagnosis", &parts, condition))
}

/// Names the visit, or else the patient, in identifiers of what belongs to it.
pub(super) fn visit_key(builder: &Builder<'_>) -> Result<String, Problem> {
    let subject = builder.subject()?;
    let number = builder
        .position("PV1")
        .and_then(|at| builder.text(at, 19))
        .unwrap_or_default();
    Ok(format!("{}|{number}", subject.key))
}

/// AL1 and IAM to AllergyIntolerance.
fn allergies(builder: &mut Builder<'_>) -> Result<(), Problem> {
    let both = [("AL1", 6), ("IAM", 11)];
    for (name, onset) in both {
        for at in builder.positions(name) {
            let Some(code) = builder.concept(at, 3, None) else {
                continue;
            };
            let mut allergy = builder.about_patient("patient")?;
            let gone = name == "IAM" && builder.text(at, 6) == Some("D");
            let system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-";
            if gone {
                let state = json!({ "coding": [{
                    "system": format!("{system}verification"), "code": "entered-in-error"
                }] });
                allergy.put("verificationStatus", Some(state));
            } else {
                let state = json!({ "coding": [{ "system": format!("{system}clinical"), "code": "active" }] });
                allergy.put("clinicalStatus", Some(state));
            }
            let kind = builder.text(at, 2).unwrap_or_default();
            let category = tables::allergy_category(kind);
            allergy.put(
                "type",
                (kind != "MC" && !kind.is_empty()).then_some("allergy"),
            );
            allergy.list("category", category.map(Json::from).into_iter().collect());
            let (criticality, severity) =
                tables::allergy_severity(builder.text(at, 4).unwrap_or_default());
            allergy.put("criticality", criticality);
            let key = results::key_of(&code);
            allergy.put("code", Some(code));
            allergy.put("encounter", builder.encounter());
            allergy.put("onsetDateTime", builder.date_time(at, onset));
            if name == "IAM" {
                allergy.put("recordedDate", builder.date_time(at, 13));
            }
            let manifestations = builder.concepts(at, 5, None);
            if !manifestations.is_empty() {
                let mut reaction = Object::new();
                reaction.list("manifestation", reactions(builder, at, manifestations));
                reaction.put("severity", severity);
                allergy.list("reaction", reaction.some().into_iter().collect());
            }
            let subject = builder.subject()?;
            let parts = [subject.key.as_str(), &key];
            builder.add_own(
                Intent::Replace,
                "AllergyIntolerance",
                "allergy",
                &parts,
                allergy,
            );
        }
    }
    Ok(())
}

/// AL1-5 is text, IAM-5 too: a value without coding system is words, not a code.
fn reactions(builder: &Builder<'_>, at: usize, coded: Vec<Json>) -> Vec<Json> {
    builder
        .field(at, 5)
        .iter()
        .zip(coded)
        .map(|(written, concept)| match written.text(3) {
            Some(_) => concept,
            None => json!({ "text": types::string(&written.words()) }),
        })
        .collect()
}

/// PR1 to Procedure.
fn procedures(builder: &mut Builder<'_>) -> Result<(), Problem> {
    for at in builder.positions("PR1") {
        let Some(code) = builder.concept(at, 3, None) else {
            continue;
        };
        let mut procedure = builder.about_patient("subject")?;
        let deleted = builder.text(at, 20) == Some("D");
        procedure.put(
            "status",
            Some(if deleted {
                "entered-in-error"
            } else {
                "completed"
            }),
        );
        let key = results::key_of(&code);
        procedure.put("code", Some(code));
        procedure.put("encounter", builder.encounter());
        let moment = builder.date_time(at, 5);
        procedure.put("performedDateTime", moment.clone());
        let mut performers = Vec::new();
        for field in [8, 11, 12] {
            for actor in builder.people(at, field) {
                performers.push(json!({ "actor": actor }));
            }
        }
        procedure.list("performer", performers);
        procedure.list("reasonCode", builder.concepts(at, 15, None));
        procedure.list(
            "note",
            builder
                .text(at, 4)
                .map(|text| json!({ "text": types::string(text) }))
                .into_iter()
                .collect(),
        );
        let visit = visit_key(builder)?;
        let moment = moment.unwrap_or_default();
        let own = builder.text(at, 19).unwrap_or_default();
        let parts = [visit.as_str(), own, &key, &moment];
        builder.add_own(Intent::Replace, "Procedure", "procedure", &parts, procedure);
    }
    Ok(())
}

/// IN1 to Coverage.
fn coverages(builder: &mut Builder<'_>) -> Result<(), Problem> {
    for at in builder.positions("IN1") {
        let company = builder.first(at, 4).or(builder.first(at, 3));
        let name = builder.text(at, 4).or_else(|| builder.text(at, 3));
        let Some(name) = company.and(name) else {
            let what = "an insurance without company stays in the stored original only";
            builder.report(
                Problem::warning(ErrorCode::RequiredFieldMissing, what)
                    .at(Location::field("IN1", 4)),
            );
            continue;
        };
        let mut coverage = builder.about_patient("beneficiary")?;
        coverage.put("status", Some("active"));
        coverage.put("type", builder.concept(at, 15, Some("0086")));
        let number = builder.text(at, 49).or_else(|| builder.text(at, 36));
        coverage.put("subscriberId", number.map(types::string));
        if builder
            .text(at, 17)
            .is_some_and(|code| matches!(code, "SEL" | "SLF"))
        {
            let subject = builder.subject()?;
            coverage.put("subscriber", Some(Builder::reference(subject.entry)));
        }
        coverage.put("relationship", builder.concept(at, 17, Some("0063")));
        let mut period = Object::new();
        period.put("start", builder.date_time(at, 12));
        period.put("end", builder.date_time(at, 13));
        coverage.put("period", period.some());
        coverage.list("payor", vec![json!({ "display": types::string(name) })]);
        let mut classes = Vec::new();
        for (field, title, code) in [(8, 9, "group"), (2, 35, "plan")] {
            let Some(value) = builder.text(at, field) else {
                continue;
            };
            let mut class = Object::new();
            class.put(
                "type",
                Some(json!({ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/coverage-class", "code": code
                }] })),
            );
            class.put("value", Some(types::string(value)));
            let title = builder.text(at, title);
            let title = title.or_else(|| builder.first(at, field)?.text(2));
            class.put("name", title.map(types::string));
            classes.extend(class.some());
        }
        coverage.list("class", classes);
        let subject = builder.subject()?;
        let company = builder.text(at, 3).unwrap_or(name).to_owned();
        let plan = builder.text(at, 2).unwrap_or_default().to_owned();
        let number = number.unwrap_or_default().to_owned();
        let parts = [subject.key.as_str(), &company, &plan, &number];
        builder.add_own(Intent::Replace, "Coverage", "coverage", &parts, coverage);
    }
    Ok(())
}
