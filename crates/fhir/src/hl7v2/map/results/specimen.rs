//! SPM, or OBR-15 of older versions, to Specimen.

use serde_json::{Value as Json, json};

use super::{
    super::{
        Builder, Intent,
        types::{self, Put as _},
    },
    Group,
};
use crate::hl7v2::{Value, problem::Problem};

/// The specimens of an order, as entries.
pub(super) fn map(builder: &mut Builder<'_>, group: &Group) -> Result<Vec<usize>, Problem> {
    let mut found = Vec::new();
    for at in &group.specimens {
        found.push(from_spm(builder, *at)?);
    }
    if found.is_empty()
        && let Some(obr) = group.obr
        && let Some(source) = builder.first(obr, 15)
    {
        found.extend(from_obr(builder, obr, source)?);
    }
    Ok(found)
}

fn from_spm(builder: &mut Builder<'_>, at: usize) -> Result<usize, Problem> {
    let mut specimen = builder.about_patient("subject")?;
    let pair = builder.first(at, 2).cloned().unwrap_or_default();
    // EIP: the placer's number, then the filler's; the filler has the specimen.
    let numbers: Vec<Json> = [(2, "FILL"), (1, "PLAC")]
        .into_iter()
        .filter_map(|(part, kind)| {
            types::entity_identifier(&pair.component(part), Some(kind), &builder.home)
        })
        .collect();
    let text = |one: &Json, member: &str| one.get(member).and_then(Json::as_str).map(str::to_owned);
    let number = numbers
        .first()
        .and_then(|one| Some((text(one, "system")?, text(one, "value")?)));
    specimen.list("identifier", numbers);
    let accession = builder
        .first(at, 30)
        .and_then(|cx| types::identifier(cx, &builder.home, &builder.dates()));
    specimen.put("accessionIdentifier", accession);
    let available = match builder.text(at, 20) {
        Some("Y") => Some("available"),
        Some("N") => Some("unavailable"),
        _ => None,
    };
    let rejected = builder.first(at, 21).map(|_| "unsatisfactory");
    specimen.put("status", rejected.or(available));
    specimen.put("type", builder.concept(at, 4, Some("0487")));
    specimen.put("receivedTime", builder.date_time(at, 18));
    specimen.put("collection", collection(builder, at));
    specimen.list("condition", builder.concepts(at, 24, Some("0493")));
    let notes: Vec<Json> = builder
        .field(at, 14)
        .iter()
        .filter_map(|value| value.text(1))
        .map(|text| json!({ "text": types::string(text) }))
        .collect();
    specimen.list("note", notes);
    Ok(match number {
        Some((system, value)) => {
            builder.add(Intent::Replace, "Specimen", (&system, &value), specimen)
        }
        None => {
            let control_id = builder.header.control_id.clone();
            let (home, position) = (builder.home.clone(), at.to_string());
            let parts = [home.as_str(), &control_id, &position];
            builder.add_own(Intent::Replace, "Specimen", "specimen", &parts, specimen)
        }
    })
}

fn collection(builder: &mut Builder<'_>, at: usize) -> Option<Json> {
    let mut collection = types::Object::new();
    let range = builder.first(at, 17);
    let (start, end) = (range.and_then(|r| r.text(1)), range.and_then(|r| r.text(2)));
    let dates = builder.dates();
    match (
        start.and_then(|t| dates.date_time(t)),
        end.and_then(|t| dates.date_time(t)),
    ) {
        (Some(start), Some(end)) if start != end => {
            collection.put(
                "collectedPeriod",
                Some(json!({ "start": start, "end": end })),
            );
        }
        (start, end) => collection.put("collectedDateTime", start.or(end)),
    }
    collection.put("method", builder.concept(at, 7, Some("0488")));
    collection.put("bodySite", builder.concept(at, 8, None));
    if let Some(amount) = builder.first(at, 12) {
        let unit = amount.component(2);
        let unit = (!unit.is_empty()).then_some(unit);
        let quantity = amount
            .text(1)
            .and_then(|number| types::quantity(number, None, unit.as_ref()));
        collection.put("quantity", quantity);
    }
    collection.some()
}

/// OBR-15 (SPS): its first component is a CWE by subcomponents, its fourth the site.
fn from_obr(
    builder: &mut Builder<'_>,
    obr: usize,
    source: &Value,
) -> Result<Option<usize>, Problem> {
    let Some(kind) = types::concept(&source.component(1), Some("0070")) else {
        return Ok(None);
    };
    let mut specimen = builder.about_patient("subject")?;
    specimen.put("type", Some(kind));
    let mut collection = types::Object::new();
    collection.put("collectedDateTime", builder.date_time(obr, 7));
    collection.put(
        "bodySite",
        types::concept(&source.component(4), Some("0163")),
    );
    specimen.put("collection", collection.some());
    specimen.put("receivedTime", builder.date_time(obr, 14));
    let number = builder.first(obr, 3).or(builder.first(obr, 2));
    let parts = [
        number.map_or_else(
            || builder.home.clone(),
            |ei| types::entity_authority(ei, &builder.home),
        ),
        number
            .and_then(|ei| ei.text(1))
            .map_or_else(|| format!("#{}", builder.header.control_id), str::to_owned),
    ];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let entry = builder.add_own(Intent::Replace, "Specimen", "specimen", &parts, specimen);
    Ok(Some(entry))
}
