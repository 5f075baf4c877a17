//! RDE, RDS, OMP and RXO in ORM to MedicationRequest and MedicationDispense; VXU to Immunization.

use serde_json::{Value as Json, json};

use super::{
    Builder, Intent, admission, patient,
    results::{self, Repeats},
    tables,
    types::{self, Object, Put as _},
};
use crate::hl7v2::{
    Value,
    problem::{ErrorCode, Location, Problem},
};

/// One order with its positions: ORC, then RXO, RXE, RXD or RXA, and its routes.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    orc: Option<usize>,
    rxo: Option<usize>,
    rxe: Option<usize>,
    rxd: Option<usize>,
    rxa: Option<usize>,
    rxr: Option<usize>,
}

/// RDE, RDS and OMP.
pub(super) fn map_prescriptions(builder: &mut Builder<'_>) -> Result<(), Problem> {
    patient::map(builder, Intent::Ensure)?;
    admission::visit(builder, None)?;
    if !requests(builder)? {
        let what = "a prescription needs the segment RXO, RXE or RXD";
        return Err(
            Problem::error(ErrorCode::RequiredFieldMissing, what).at(Location::field("RXE", 2))
        );
    }
    Ok(())
}

/// Orders for medicines in any message. True if there were some.
pub(super) fn requests(builder: &mut Builder<'_>) -> Result<bool, Problem> {
    let mut repeats = Repeats::default();
    let mut is_any = false;
    for order in orders(builder) {
        let request = match order.rxe.or(order.rxo) {
            Some(_) => {
                is_any = true;
                request(builder, order, &mut repeats)?
            }
            None => None,
        };
        if let Some(rxd) = order.rxd {
            is_any = true;
            dispense(builder, order, rxd, request, &mut repeats)?;
        }
    }
    Ok(is_any)
}

fn orders(builder: &Builder<'_>) -> Vec<Order> {
    let mut found: Vec<Order> = Vec::new();
    for (at, segment) in builder.segments.iter().enumerate() {
        if segment.name() == "ORC" {
            found.push(Order {
                orc: Some(at),
                ..Order::default()
            });
            continue;
        }
        if !segment.name().starts_with("RX") {
            continue;
        }
        if found.is_empty() {
            found.push(Order::default());
        }
        let Some(order) = found.last_mut() else {
            continue;
        };
        let place = match segment.name() {
            "RXO" => &mut order.rxo,
            "RXE" => &mut order.rxe,
            "RXD" => &mut order.rxd,
            "RXA" => &mut order.rxa,
            "RXR" => &mut order.rxr,
            _ => continue,
        };
        place.get_or_insert(at);
    }
    found
}

/// Names an order in identifiers, and gives its placer's and filler's numbers.
fn numbers(builder: &Builder<'_>, order: Order, repeats: &mut Repeats) -> (String, Vec<Json>) {
    let mut identifiers = Vec::new();
    let mut key = None;
    for (field, kind) in [(2, "PLAC"), (3, "FILL")] {
        let ei = order.orc.and_then(|at| builder.first(at, field));
        let Some(ei) = ei.filter(|ei| ei.text(1).is_some()) else {
            continue;
        };
        identifiers.extend(types::entity_identifier(ei, Some(kind), &builder.home));
        let authority = types::entity_authority(ei, &builder.home);
        key.get_or_insert(format!("{authority}|{}", ei.text(1).unwrap_or_default()));
    }
    let key = key.unwrap_or_else(|| format!("{}|#{}", builder.home, builder.header.control_id));
    let again = repeats.next(&key);
    (format!("{key}|{again}"), identifiers)
}

/// RXE where there is one (the pharmacy's view), else RXO (the prescriber's), with RXR.
fn request(
    builder: &mut Builder<'_>,
    order: Order,
    repeats: &mut Repeats,
) -> Result<Option<usize>, Problem> {
    let (at, medicine, dose, unit, text) = match (order.rxe, order.rxo) {
        (Some(rxe), _) => (rxe, 2, (3, 4), 5, 7),
        (None, Some(rxo)) => (rxo, 1, (2, 3), 4, 7),
        (None, None) => return Ok(None),
    };
    let (key, identifiers) = numbers(builder, order, repeats);
    let mut resource = builder.about_patient("subject")?;
    resource.list("identifier", identifiers);
    let control = order.orc.and_then(|orc| builder.text(orc, 1));
    let state = order.orc.and_then(|orc| builder.text(orc, 5));
    let status = state
        .and_then(tables::order_status)
        .or(control.and_then(tables::order_control))
        .map_or("unknown", |status| match status {
            // `medicationrequest-status` has its own words for two of these.
            "revoked" => "cancelled",
            other => other,
        });
    resource.put("status", Some(status));
    resource.put("intent", Some("order"));
    resource.put(
        "medicationCodeableConcept",
        Some(medicine_of(builder, at, medicine)),
    );
    resource.put("encounter", builder.encounter());
    if let Some(orc) = order.orc {
        resource.put("authoredOn", builder.date_time(orc, 9));
        let requester = builder.people(orc, 12).into_iter().next();
        resource.put("requester", requester);
    }
    let dosage = dosage(builder, order, at, dose, unit, text);
    resource.list("dosageInstruction", dosage.into_iter().collect());
    let (amount, amount_unit, refills) = if order.rxe.is_some() {
        (10, 11, 12)
    } else {
        (11, 12, 13)
    };
    let mut supply = Object::new();
    let quantity = quantity(builder, at, amount, amount_unit);
    supply.put("quantity", quantity);
    let refills = builder
        .text(at, refills)
        .and_then(|text| text.parse::<u32>().ok());
    supply.put("numberOfRepeatsAllowed", refills);
    resource.put("dispenseRequest", supply.some());
    let entry = builder.add_own(
        Intent::Replace,
        "MedicationRequest",
        "prescription",
        &[&key],
        resource,
    );
    Ok(Some(entry))
}

fn medicine_of(builder: &Builder<'_>, at: usize, field: usize) -> Json {
    builder.concept(at, field, None).unwrap_or_else(|| {
        results::concept_of("http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "UNK")
    })
}

fn quantity(builder: &Builder<'_>, at: usize, number: usize, unit: usize) -> Option<Json> {
    types::quantity(builder.text(at, number)?, None, builder.first(at, unit))
}

fn dosage(
    builder: &mut Builder<'_>,
    order: Order,
    at: usize,
    (low, high): (usize, usize),
    unit: usize,
    text: usize,
) -> Option<Json> {
    let mut dosage = Object::new();
    let lines: Vec<String> = builder.field(at, text).iter().map(Value::words).collect();
    dosage.put(
        "text",
        (!lines.is_empty()).then(|| types::string(&lines.join("\n"))),
    );
    if let Some(rxr) = order.rxr {
        dosage.put("route", builder.concept(rxr, 1, Some("0162")));
        dosage.put("site", builder.concept(rxr, 2, Some("0163")));
        dosage.put("method", builder.concept(rxr, 4, Some("0165")));
    }
    let amount = match (
        quantity(builder, at, low, unit),
        quantity(builder, at, high, unit),
    ) {
        (Some(low), Some(high)) if low != high => {
            Some(json!({ "doseRange": { "low": low, "high": high } }))
        }
        (Some(dose), _) | (None, Some(dose)) => Some(json!({ "doseQuantity": dose })),
        (None, None) => None,
    };
    dosage.list("doseAndRate", amount.into_iter().collect());
    dosage.some()
}

/// RXD to MedicationDispense.
fn dispense(
    builder: &mut Builder<'_>,
    order: Order,
    at: usize,
    request: Option<usize>,
    repeats: &mut Repeats,
) -> Result<(), Problem> {
    let (key, mut identifiers) = numbers(builder, order, repeats);
    let number = builder.text(at, 7).map(types::string);
    if let Some(number) = &number {
        identifiers.push(json!({ "system": builder.home, "value": number }));
    }
    let mut resource = builder.about_patient("subject")?;
    resource.list("identifier", identifiers);
    resource.put("status", Some("completed"));
    resource.put(
        "medicationCodeableConcept",
        Some(medicine_of(builder, at, 2)),
    );
    resource.put("context", builder.encounter());
    resource.list(
        "authorizingPrescription",
        request.map(Builder::reference).into_iter().collect(),
    );
    resource.put("whenHandedOver", builder.date_time(at, 3));
    resource.put("quantity", quantity(builder, at, 4, 5));
    let performers: Vec<Json> = builder
        .people(at, 10)
        .into_iter()
        .map(|actor| json!({ "actor": actor }))
        .collect();
    resource.list("performer", performers);
    let notes: Vec<Json> = builder
        .field(at, 9)
        .iter()
        .map(|value| json!({ "text": types::string(&value.words()) }))
        .collect();
    resource.list("note", notes);
    let nth = builder.text(at, 1).unwrap_or_default().to_owned();
    let number = number.unwrap_or_default();
    let parts = [key.as_str(), &number, &nth];
    builder.add_own(
        Intent::Replace,
        "MedicationDispense",
        "dispense",
        &parts,
        resource,
    );
    Ok(())
}

/// VXU: vaccinations.
pub(super) fn map_vaccinations(builder: &mut Builder<'_>) -> Result<(), Problem> {
    patient::map(builder, Intent::Ensure)?;
    admission::visit(builder, None)?;
    let mut repeats = Repeats::default();
    let mut is_any = false;
    for order in orders(builder) {
        if let Some(rxa) = order.rxa {
            is_any = true;
            vaccination(builder, order, rxa, &mut repeats)?;
        }
    }
    if !is_any {
        let what = "a vaccination needs the segment RXA";
        return Err(
            Problem::error(ErrorCode::RequiredFieldMissing, what).at(Location::field("RXA", 5))
        );
    }
    results::map_measurements_of_orders(builder, &mut repeats)
}

fn vaccination(
    builder: &mut Builder<'_>,
    order: Order,
    at: usize,
    repeats: &mut Repeats,
) -> Result<(), Problem> {
    let (key, identifiers) = numbers(builder, order, repeats);
    let mut resource = builder.about_patient("patient")?;
    resource.list("identifier", identifiers);
    let refused = builder.first(at, 18).is_some();
    let deleted = builder.text(at, 21) == Some("D");
    let status = match (deleted, refused, builder.text(at, 20)) {
        (true, ..) => "entered-in-error",
        (_, true, _) => "not-done",
        (_, _, code) => tables::completion(code.unwrap_or_default()),
    };
    resource.put("status", Some(status));
    resource.put("statusReason", builder.concept(at, 18, None));
    resource.put("vaccineCode", Some(medicine_of(builder, at, 5)));
    resource.put("encounter", builder.encounter());
    match builder.date_time(at, 3) {
        Some(moment) => resource.put("occurrenceDateTime", Some(moment)),
        None => resource.put("occurrenceString", Some("unknown")),
    }
    // 00 is an administration now, everything else is told from elsewhere (NIP001).
    let source = builder.first(at, 9);
    if let Some(source) = source.filter(|source| source.text(3).is_some()) {
        let is_primary = source.text(1) == Some("00");
        resource.put("primarySource", Some(is_primary));
        if !is_primary {
            resource.put("reportOrigin", types::concept(source, None));
        }
    }
    resource.put("lotNumber", builder.text(at, 15).map(types::string));
    let expires = builder
        .text(at, 16)
        .and_then(|text| builder.dates().date(text));
    resource.put("expirationDate", expires);
    let maker = builder.first(at, 17).map(|maker| {
        let name = maker.text(2).or_else(|| maker.text(1)).unwrap_or_default();
        json!({ "display": types::string(name) })
    });
    resource.put("manufacturer", maker);
    // 999 says that the amount is not known (Implementation Guide for Immunization Messaging).
    let dose = builder.text(at, 6).filter(|dose| *dose != "999");
    if dose.is_some() {
        resource.put("doseQuantity", quantity(builder, at, 6, 7));
    }
    if let Some(rxr) = order.rxr {
        resource.put("route", builder.concept(rxr, 1, Some("0162")));
        resource.put("site", builder.concept(rxr, 2, Some("0163")));
    }
    let mut performers: Vec<Json> = Vec::new();
    let function = "http://terminology.hl7.org/CodeSystem/v2-0443";
    for actor in builder.people(at, 10) {
        performers.push(json!({ "function": results::concept_of(function, "AP"), "actor": actor }));
    }
    if let Some(orc) = order.orc {
        for actor in builder.people(orc, 12) {
            performers
                .push(json!({ "function": results::concept_of(function, "OP"), "actor": actor }));
        }
        resource.put("recorded", builder.date_time(orc, 9));
    }
    resource.list("performer", performers);
    builder.add_own(
        Intent::Replace,
        "Immunization",
        "vaccination",
        &[&key],
        resource,
    );
    Ok(())
}
