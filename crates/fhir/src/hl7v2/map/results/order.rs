//! ORC, OBR and TQ1 to ServiceRequest.

use serde_json::{Value as Json, json};

use super::{
    super::{
        Builder, Intent, patient, tables,
        types::{self, Put as _},
    },
    Group, Repeats, key_of,
};
use crate::hl7v2::problem::Problem;

/// Names the order in identifiers: the placer's number, else the filler's, else the message's, with what is ordered.
/// Panels often share one number, so the code belongs to it.
pub(super) fn key(builder: &Builder<'_>, group: &Group, repeats: &mut Repeats) -> String {
    let number = [2, 3].into_iter().find_map(|field| {
        let ei = number(builder, group, field)?;
        Some((
            types::entity_authority(ei, &builder.home),
            ei.text(1)?.to_owned(),
        ))
    });
    let (authority, value) = number.unwrap_or_else(|| {
        (
            builder.home.clone(),
            format!("#{}", builder.header.control_id),
        )
    });
    let code = group
        .obr
        .map_or_else(String::new, |obr| key_of(&code(builder, obr)));
    let key = format!("{authority}|{value}|{code}");
    let again = repeats.next(&format!("order {key}"));
    format!("{key}|{again}")
}

/// Field 2 (placer) or 3 (filler) of ORC, else of OBR.
fn number<'m>(
    builder: &Builder<'m>,
    group: &Group,
    field: usize,
) -> Option<&'m crate::hl7v2::Value> {
    let found = [group.orc, group.obr]
        .into_iter()
        .flatten()
        .map(|at| builder.first(at, field))
        .collect::<Vec<_>>();
    found.into_iter().flatten().find(|ei| ei.text(1).is_some())
}

/// Placer's and filler's number.
pub(super) fn identifiers(builder: &Builder<'_>, group: &Group) -> Vec<Json> {
    [(2, "PLAC"), (3, "FILL")]
        .into_iter()
        .filter_map(|(field, kind)| {
            types::entity_identifier(number(builder, group, field)?, Some(kind), &builder.home)
        })
        .collect()
}

/// OBR-4; FHIR demands a code, so an empty one is said to be unknown.
pub(super) fn code(builder: &Builder<'_>, obr: usize) -> Json {
    builder.concept(obr, 4, None).unwrap_or_else(|| {
        json!({ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"
        }] })
    })
}

/// The order. `intent` says whether the message is the order itself or only answers it.
pub(super) fn map(
    builder: &mut Builder<'_>,
    group: &Group,
    intent: Intent,
    key: &str,
    specimens: &[usize],
) -> Result<usize, Problem> {
    let mut order = builder.about_patient("subject")?;
    order.list("identifier", identifiers(builder, group));
    order.put("status", Some(status(builder, group, intent)));
    order.put("intent", Some("order"));
    order.put("encounter", builder.encounter());
    order.list(
        "specimen",
        specimens
            .iter()
            .map(|entry| Builder::reference(*entry))
            .collect(),
    );
    let mut priority = None;
    let mut requester = Vec::new();
    if let Some(orc) = group.orc {
        order.put("authoredOn", builder.date_time(orc, 9));
        requester = builder.people(orc, 12);
        // ORC-7 is TQ in versions before 2.5: its sixth component is the priority, its fourth the start.
        priority = builder.first(orc, 7).and_then(|tq| tq.text(6));
        if let Some(ei) = builder.first(orc, 4)
            && let Some(requisition) = types::entity_identifier(ei, Some("PGN"), &builder.home)
        {
            order.put("requisition", Some(requisition));
        }
        order.list("reasonCode", builder.concepts(orc, 16, None));
    }
    if let Some(obr) = group.obr {
        order.put("code", Some(code(builder, obr)));
        let named = builder.people(obr, 16);
        if requester.is_empty() {
            requester = named;
        }
        priority = builder.text(obr, 5).or(priority);
        let reasons = builder.concepts(obr, 31, None);
        if !reasons.is_empty() {
            order.list("reasonCode", reasons);
        }
        let wanted = builder
            .date_time(obr, 36)
            .or_else(|| builder.date_time(obr, 6));
        order.put("occurrenceDateTime", wanted);
    }
    if let Some(timing) = group.timing {
        priority = builder.text(timing, 9).or(priority);
        if let Some(start) = builder.date_time(timing, 7) {
            order.put("occurrenceDateTime", Some(start));
        }
    }
    order.put("priority", priority.and_then(tables::priority));
    order.put("requester", requester.into_iter().next());
    order.list("note", builder.notes(&group.notes));
    Ok(builder.add_own(intent, "ServiceRequest", "order", &[key], order))
}

/// ORC-5, else ORC-1. An order that is only known by its result was carried out.
fn status(builder: &mut Builder<'_>, group: &Group, intent: Intent) -> &'static str {
    let Some(orc) = group.orc else {
        return if intent == Intent::Ensure {
            "completed"
        } else {
            "unknown"
        };
    };
    let (control, state) = (builder.text(orc, 1), builder.text(orc, 5));
    if let Some(status) = state.and_then(tables::order_status) {
        return status;
    }
    if state.is_some() {
        patient::report_code(builder, orc, 5);
    }
    match control.and_then(tables::order_control) {
        Some(status) => status,
        None if intent == Intent::Ensure => "completed",
        None => "unknown",
    }
}
