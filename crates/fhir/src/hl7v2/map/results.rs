//! Orders and results: ORC, OBR, TQ1, SPM, OBX, NTE to ServiceRequest, DiagnosticReport, Specimen, Observation.

mod observation;
mod order;
mod specimen;

pub(super) use observation::content_type;

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{
    Builder, Intent, admission, patient, tables,
    types::{self, Put as _},
};
use crate::hl7v2::problem::{ErrorCode, Location, Problem};

/// One order with what belongs to it: positions of segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) orc: Option<usize>,
    pub(super) obr: Option<usize>,
    pub(super) timing: Option<usize>,
    pub(super) notes: Vec<usize>,
    pub(super) results: Vec<ResultLine>,
    pub(super) specimens: Vec<usize>,
}

/// One OBX with its notes.
#[derive(Clone, Debug)]
pub(super) struct ResultLine {
    pub(super) obx: usize,
    pub(super) notes: Vec<usize>,
}

/// Counts what is told several times in one message, so that each gets an identifier of its own.
#[derive(Default)]
pub(super) struct Repeats(HashMap<String, usize>);

impl Repeats {
    /// Empty for the first of a key, then `2`, `3` and so on.
    pub(super) fn next(&mut self, key: &str) -> String {
        let count = self.0.entry(key.to_owned()).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            String::new()
        } else {
            count.to_string()
        }
    }
}

/// ORU and OUL: reports with their results.
pub(super) fn map_results(builder: &mut Builder<'_>) -> Result<(), Problem> {
    patient::map(builder, Intent::Ensure)?;
    admission::visit(builder, None)?;
    let (groups, loose) = groups(builder);
    if !groups.iter().any(|group| group.obr.is_some()) {
        let what = "a result needs the segment OBR that says what was examined";
        return Err(
            Problem::error(ErrorCode::RequiredFieldMissing, what).at(Location::field("OBR", 4))
        );
    }
    let mut repeats = Repeats::default();
    measurements(builder, &loose, &mut repeats)?;
    for group in &groups {
        if group.obr.is_some() {
            report(builder, group, &mut repeats)?;
        }
    }
    Ok(())
}

/// ORM, OML, OMG and OMI: orders.
pub(super) fn map_orders(builder: &mut Builder<'_>) -> Result<(), Problem> {
    patient::map(builder, Intent::Ensure)?;
    admission::visit(builder, None)?;
    let reasons = admission::diagnoses(builder)?;
    let (groups, loose) = groups(builder);
    let mut repeats = Repeats::default();
    measurements(builder, &loose, &mut repeats)?;
    let mut is_any = false;
    for group in &groups {
        if group.obr.is_none() && group.orc.is_none() {
            continue;
        }
        // An order for a medicine has RXO in OBR's place.
        if group.obr.is_none() && builder.position("RXO").is_some() {
            continue;
        }
        is_any = true;
        let specimens = specimen::map(builder, group)?;
        let key = order::key(builder, group, &mut repeats);
        let entry = order::map(builder, group, Intent::Replace, &key, &specimens)?;
        let mut supporting = Vec::new();
        for line in &group.results {
            let parts = ["order", key.as_str()];
            let found = observation::map(builder, line, None, &parts, &mut repeats)?;
            supporting.push(Builder::reference(found));
        }
        if let Some(order) = builder.resource(entry) {
            order.list("supportingInfo", supporting);
            order.list("reasonReference", reasons.clone());
        }
    }
    let medicines = super::medicines::requests(builder)?;
    if !is_any && !medicines {
        let what = "an order needs the segment ORC, OBR or RXO";
        return Err(
            Problem::error(ErrorCode::RequiredFieldMissing, what).at(Location::field("ORC", 1))
        );
    }
    Ok(())
}

/// OBX segments of a message that orders nothing and reports nothing: measurements of the visit.
pub(super) fn map_measurements(builder: &mut Builder<'_>) -> Result<(), Problem> {
    let (_, loose) = groups(builder);
    measurements(builder, &loose, &mut Repeats::default())
}

fn measurements(
    builder: &mut Builder<'_>,
    lines: &[ResultLine],
    repeats: &mut Repeats,
) -> Result<(), Problem> {
    let visit = admission::visit_key(builder)?;
    for line in lines {
        let moment = builder.text(line.obx, 14).unwrap_or_default().to_owned();
        let parts = ["visit", visit.as_str(), &moment];
        observation::map(builder, line, None, &parts, repeats)?;
    }
    Ok(())
}

/// Sorts the segments of a message into orders; lines before the first order stand for themselves.
fn groups(builder: &Builder<'_>) -> (Vec<Group>, Vec<ResultLine>) {
    let header = builder.header;
    let event = header.event.as_deref().unwrap_or_default();
    // OUL^R22 and R23 begin with the specimen or its container, and say the order control behind the order.
    let by_specimen = header.message_type == "OUL" && matches!(event, "R22" | "R23");
    let mut done: Vec<Group> = Vec::new();
    let mut current = Group::default();
    let mut loose: Vec<ResultLine> = Vec::new();
    let mut specimens: Vec<usize> = Vec::new();
    for (at, segment) in builder.segments.iter().enumerate() {
        let is_order = current.orc.is_some() || current.obr.is_some();
        match segment.name() {
            "ORC" if by_specimen && current.orc.is_none() && current.results.is_empty() => {
                current.orc = Some(at);
            }
            "ORC" => {
                if is_order {
                    done.push(std::mem::take(&mut current));
                    current.specimens.clone_from(&specimens);
                }
                current.orc = Some(at);
            }
            "OBR" => {
                if current.obr.is_some() {
                    done.push(std::mem::take(&mut current));
                    current.specimens.clone_from(&specimens);
                }
                current.obr = Some(at);
            }
            "TQ1" if current.timing.is_none() => current.timing = Some(at),
            "SPM" if by_specimen => {
                if is_order {
                    done.push(std::mem::take(&mut current));
                }
                specimens = vec![at];
                current.specimens.clone_from(&specimens);
            }
            "SPM" => current.specimens.push(at),
            "OBX" => {
                let line = ResultLine {
                    obx: at,
                    notes: Vec::new(),
                };
                if is_order {
                    current.results.push(line);
                } else {
                    loose.push(line);
                }
            }
            "NTE" => {
                let line = current.results.last_mut().or(loose.last_mut());
                match line {
                    Some(line) if is_order || !loose_is_behind(builder, at) => line.notes.push(at),
                    _ if is_order => current.notes.push(at),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if current.orc.is_some() || current.obr.is_some() {
        done.push(current);
    }
    (done, loose)
}

/// Whether the note at a position follows something else than a line of results.
fn loose_is_behind(builder: &Builder<'_>, at: usize) -> bool {
    builder
        .segments
        .iter()
        .take(at)
        .rev()
        .find(|segment| segment.name() != "NTE")
        .is_none_or(|segment| segment.name() != "OBX")
}

/// OBR with its results to DiagnosticReport; the order it answers is made if it is not there.
fn report(builder: &mut Builder<'_>, group: &Group, repeats: &mut Repeats) -> Result<(), Problem> {
    let Some(obr) = group.obr else { return Ok(()) };
    let specimens = specimen::map(builder, group)?;
    let key = order::key(builder, group, repeats);
    let order = order::map(builder, group, Intent::Ensure, &key, &specimens)?;
    let mut resource = builder.about_patient("subject")?;
    resource.list("identifier", order::identifiers(builder, group));
    resource.list("basedOn", vec![Builder::reference(order)]);
    let status = builder.text(obr, 25);
    if status.is_some_and(|code| tables::report_status(code).is_none()) {
        patient::report_code(builder, obr, 25);
    }
    resource.put(
        "status",
        Some(status.and_then(tables::report_status).unwrap_or("unknown")),
    );
    let section = builder.text(obr, 24);
    if let Some(section) = section {
        resource.list(
            "category",
            vec![json!({ "coding": [{ "system": tables::hl7_table("0074"), "code": types::code(section) }] })],
        );
    }
    resource.put("code", Some(order::code(builder, obr)));
    resource.put("encounter", builder.encounter());
    let (start, end) = (builder.date_time(obr, 7), builder.date_time(obr, 8));
    match (start.clone(), end) {
        (Some(start), Some(end)) => {
            resource.put(
                "effectivePeriod",
                Some(json!({ "start": start, "end": end })),
            );
        }
        (start, end) => resource.put("effectiveDateTime", start.or(end)),
    }
    resource.put("issued", builder.instant(obr, 22));
    let interpreters = interpreters(builder, obr);
    resource.list("resultsInterpreter", interpreters);
    resource.list(
        "specimen",
        specimens
            .iter()
            .map(|entry| Builder::reference(*entry))
            .collect(),
    );
    let context = observation::Context {
        effective: start,
        category: observation::category(section),
        order,
        specimen: specimens.first().copied(),
    };
    let mut media = Vec::new();
    let mut results = Vec::new();
    for line in &group.results {
        let parts = ["order", key.as_str()];
        let entry = observation::map(builder, line, Some(&context), &parts, repeats)?;
        results.push(Builder::reference(entry));
        media.extend(attached(builder, entry));
    }
    resource.list("result", results);
    resource.list("media", media);
    builder.add_own(
        Intent::Replace,
        "DiagnosticReport",
        "report",
        &[&key],
        resource,
    );
    Ok(())
}

/// The Media that an Observation of the Bundle stands for.
fn attached(builder: &mut Builder<'_>, observation: usize) -> Option<Json> {
    let link = builder.resource(observation)?.get("derivedFrom")?.get(0)?;
    Some(json!({ "link": link }))
}

/// OBR-32, NDL: its first component is a CNN.
fn interpreters(builder: &mut Builder<'_>, obr: usize) -> Vec<Json> {
    let people: Vec<types::Person> = builder
        .field(obr, 32)
        .iter()
        .filter_map(|ndl| types::person(&ndl.component(1), &builder.home))
        .collect();
    people
        .into_iter()
        .map(|person| builder.practitioner(person))
        .collect()
}

/// Names a CodeableConcept in identifiers: its first code with system, or its words.
pub(super) fn key_of(concept: &Json) -> String {
    let coding = concept.get("coding").and_then(|codings| codings.get(0));
    let text = |json: Option<&Json>, member: &str| {
        json.and_then(|json| json.get(member))
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match coding {
        Some(_) => format!("{}|{}", text(coding, "system"), text(coding, "code")),
        None => text(Some(concept), "text"),
    }
}

/// A Coding of ours in a CodeableConcept.
pub(super) fn concept_of(system: &str, code: &str) -> Json {
    json!({ "coding": [{ "system": system, "code": code }] })
}

/// Lines of results that belong to an order for a medicine: they are about the patient.
pub(super) fn map_measurements_of_orders(
    builder: &mut Builder<'_>,
    repeats: &mut Repeats,
) -> Result<(), Problem> {
    let (groups, loose) = groups(builder);
    measurements(builder, &loose, repeats)?;
    for group in &groups {
        let key = order::key(builder, group, &mut Repeats::default());
        for line in &group.results {
            observation::map(builder, line, None, &["order", key.as_str()], repeats)?;
        }
    }
    Ok(())
}
