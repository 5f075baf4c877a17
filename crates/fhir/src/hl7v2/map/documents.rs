//! MDM to DocumentReference.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

use super::{
    Builder, Intent, admission, patient, results, tables,
    types::{self, Object, Put as _},
};
use crate::hl7v2::problem::{ErrorCode, Location, Problem};

/// Maps an MDM message: TXA says what the document is, OBX segments hold it.
pub(super) fn map(builder: &mut Builder<'_>, event: &str) -> Result<(), Problem> {
    patient::map(builder, Intent::Ensure)?;
    admission::visit(builder, None)?;
    let Some(txa) = builder.position("TXA") else {
        let what = "a document needs the segment TXA";
        return Err(
            Problem::error(ErrorCode::RequiredFieldMissing, what).at(Location::field("TXA", 12))
        );
    };
    let mut document = builder.about_patient("subject")?;
    // T11 cancels a document, T09 and T10 replace it.
    let status = match (event, builder.text(txa, 19)) {
        ("T11", _) | (_, Some("CA")) => "entered-in-error",
        (_, Some("OB")) => "superseded",
        _ => "current",
    };
    document.put("status", Some(status));
    let state = builder.text(txa, 17).and_then(tables::document_status);
    document.put("docStatus", state);
    document.put("type", builder.concept(txa, 2, Some("0270")));
    let date = builder.instant(txa, 6).or_else(|| builder.instant(txa, 4));
    document.put("date", date);
    let mut authors = builder.people(txa, 9);
    authors.extend(builder.people(txa, 5));
    authors.dedup();
    document.list("author", authors);
    let authenticator = builder.people(txa, 10).into_iter().next();
    document.put("authenticator", authenticator);
    let description = builder.text(txa, 16).or_else(|| builder.text(txa, 25));
    document.put("description", description.map(types::string));
    let labels = builder.text(txa, 18).map(secrecy).into_iter().collect();
    document.list("securityLabel", labels);
    document.list("content", contents(builder, txa));
    if let Some(encounter) = builder.encounter() {
        document.put("context", Some(json!({ "encounter": [encounter] })));
    }
    let own = builder.first(txa, 12).and_then(|ei| {
        Some((
            types::entity_authority(ei, &builder.home),
            ei.text(1)?.to_owned(),
        ))
    });
    replaced(builder, txa, event, &mut document)?;
    match own {
        Some((system, value)) => {
            let identifier = json!({ "system": system, "value": types::string(&value) });
            document.put("masterIdentifier", Some(identifier.clone()));
            document.list("identifier", vec![identifier]);
            builder.add(
                Intent::Replace,
                "DocumentReference",
                (&system, &value),
                document,
            );
        }
        None => {
            let (home, control_id) = (builder.home.clone(), builder.header.control_id.clone());
            let parts = [home.as_str(), &control_id];
            builder.add_own(
                Intent::Replace,
                "DocumentReference",
                "document",
                &parts,
                document,
            );
        }
    }
    Ok(())
}

/// TXA-18 to v3 Confidentiality.
fn secrecy(code: &str) -> Json {
    let code = match code {
        "R" | "RE" => "R",
        "V" | "VR" => "V",
        _ => "N",
    };
    results::concept_of(
        "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
        code,
    )
}

/// TXA-13 names the document that this one replaces (T09, T10) or adds to (T05, T06).
fn replaced(
    builder: &mut Builder<'_>,
    txa: usize,
    event: &str,
    document: &mut Object,
) -> Result<(), Problem> {
    let code = match event {
        "T09" | "T10" => "replaces",
        "T05" | "T06" => "appends",
        _ => return Ok(()),
    };
    let Some(ei) = builder.first(txa, 13) else {
        return Ok(());
    };
    let Some(identifier) = types::entity_identifier(ei, None, &builder.home) else {
        return Ok(());
    };
    let target = json!({ "type": "DocumentReference", "identifier": identifier });
    document.list("relatesTo", vec![json!({ "code": code, "target": target })]);
    Ok(())
}

/// The document's content: its lines of text together, each encapsulated part by itself.
fn contents(builder: &mut Builder<'_>, txa: usize) -> Vec<Json> {
    let mut lines: Vec<String> = Vec::new();
    let mut found: Vec<Json> = Vec::new();
    let created = builder.date_time(txa, 6);
    for at in builder.positions("OBX") {
        let kind = builder.text(at, 2).unwrap_or_default().to_ascii_uppercase();
        let titles = builder.first(at, 3).and_then(|code| code.text(2));
        for value in builder.field(at, 5) {
            if kind != "ED" {
                lines.push(value.words());
                continue;
            }
            let dense: String = value
                .text(5)
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect();
            let is_base64 = value
                .text(4)
                .is_some_and(|code| code.eq_ignore_ascii_case("base64"));
            let Some(bytes) = STANDARD
                .decode(&dense)
                .ok()
                .filter(|b| is_base64 && !b.is_empty())
            else {
                if let Some(place) = builder.seg(at).map(|segment| segment.at(5)) {
                    let what =
                        "the encapsulated data is not Base64; it stays in the stored original only";
                    builder.report(Problem::warning(ErrorCode::DataType, what).at(place));
                }
                continue;
            };
            let mut attachment = Object::new();
            attachment.put(
                "contentType",
                results::content_type(value.text(2), value.text(3)),
            );
            attachment.put("data", Some(STANDARD.encode(bytes)));
            attachment.put("title", titles.map(types::string));
            found.push(json!({ "attachment": attachment }));
        }
    }
    if !lines.is_empty() {
        let mut attachment = Object::new();
        attachment.put("contentType", Some("text/plain; charset=utf-8"));
        attachment.put("data", Some(STANDARD.encode(lines.join("\n"))));
        attachment.put("creation", created);
        found.push(json!({ "attachment": attachment }));
    }
    if found.is_empty() {
        // FHIR demands one; a notification without the document names it only.
        let title = builder.text(txa, 16).or_else(|| builder.text(txa, 2));
        let title = types::string(title.unwrap_or("document"));
        found.push(json!({ "attachment": { "title": title } }));
    }
    found
}
