//! From a message to a transaction Bundle of FHIR R4, after the implementation guide "HL7 Version 2 to FHIR".
//!
//! Nothing is doubled when a message comes again: every resource has an identifier made of what the sender names it by
//! (`https://stele.health/hl7v2/…` for what v2 gives no identifier of its own), and is created or updated by that
//! condition. The message itself becomes a Binary, marked as restricted because it holds everything, and a Provenance
//! points from all resources to it. Which fields were read is watched: what was not is reported by segment and field.

mod admission;
mod documents;
mod encode;
mod medicines;
mod patient;
mod results;
mod tables;
mod types;

use std::{cell::Cell, collections::HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

use super::{
    Header, Message, Segment, Value,
    problem::{ErrorCode, Location, Problem},
};
use types::{Dates, Object, Put as _};

/// What a mapping has to know that the message does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// When the message was received: a FHIR `instant`, for Provenance.
    pub received: String,
    /// Offset of times that name none, where MSH-7 names none either: `+hh:mm`, `-hh:mm` or `Z`.
    pub offset: String,
    /// Id of the stored original and of its Provenance: a FHIR id that is the same whenever the message comes again.
    pub id: String,
}

impl Context {
    /// UTC, and an id that suits a single message.
    #[must_use]
    pub fn new(received: impl Into<String>) -> Self {
        Self {
            received: received.into(),
            offset: "Z".into(),
            id: "hl7v2".into(),
        }
    }
}

/// A mapped message.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    /// A Bundle of type transaction.
    pub(super) bundle: Json,
    /// What has no place in it, and what was odd.
    pub(super) problems: Vec<Problem>,
}

/// Maps a message; `original` is what is stored of it.
pub(super) fn map(
    message: &Message,
    header: &Header,
    original: &[u8],
    context: &Context,
) -> Result<Mapped, Vec<Problem>> {
    let mut builder = Builder::new(message, header, context);
    let done = route(&mut builder, header);
    if let Err(problem) = done {
        return Err(vec![problem]);
    }
    if builder.problems.iter().any(Problem::is_error) {
        return Err(builder.problems);
    }
    Ok(builder.finish(original))
}

/// Which mapping a message type has.
fn route(builder: &mut Builder<'_>, header: &Header) -> Result<(), Problem> {
    let event = header.event.as_deref().unwrap_or_default();
    match header.message_type.as_str() {
        "ADT" => admission::map(builder, event),
        "ORU" | "OUL" => results::map_results(builder),
        "ORM" | "OML" | "OMG" | "OMI" => results::map_orders(builder),
        "RDE" | "RDS" | "OMP" => medicines::map_prescriptions(builder),
        "VXU" => medicines::map_vaccinations(builder),
        "MDM" => documents::map(builder, event),
        _ => Err(Problem::error(
            ErrorCode::UnsupportedMessageType,
            "taken are ADT, ORU, OUL, ORM, OML, OMG, OMI, OMP, RDE, RDS, VXU and MDM",
        )
        .at(Location::field("MSH", 9))),
    }
}

/// A segment whose fields are marked when they are read.
pub(super) struct Seg<'m> {
    segment: &'m Segment,
    read: Cell<u128>,
}

impl<'m> Seg<'m> {
    pub(super) fn name(&self) -> &'m str {
        &self.segment.name
    }

    /// The repetitions of a field, by its number from 1.
    pub(super) fn field(&self, number: usize) -> &'m [Value] {
        self.read.set(self.read.get() | bit(number));
        self.segment.field(number)
    }

    pub(super) fn first(&self, number: usize) -> Option<&'m Value> {
        self.field(number).first()
    }

    pub(super) fn text(&self, number: usize) -> Option<&'m str> {
        self.first(number)?.text(1)
    }

    pub(super) fn at(&self, field: usize) -> Location {
        self.segment.at(field)
    }

    /// Says of fields that there is nothing more to map in them.
    pub(super) fn skip(&self, fields: &[usize]) {
        for field in fields {
            self.read.set(self.read.get() | bit(*field));
        }
    }

    fn is_read(&self) -> bool {
        self.read.get() != 0
    }

    /// Fields that hold something and were not read.
    fn unread(&self) -> impl Iterator<Item = usize> {
        (1..128).filter(|number| {
            self.read.get() & bit(*number) == 0 && !self.segment.field(*number).is_empty()
        })
    }
}

fn bit(field: usize) -> u128 {
    u32::try_from(field)
        .ok()
        .and_then(|field| 1_u128.checked_shl(field))
        .unwrap_or(0)
}

/// What a message does to a resource that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Nothing: it is referred to, and made only if it is missing.
    Ensure,
    /// It is as this message says.
    Replace,
}

/// Collects the resources of one message.
pub(super) struct Builder<'m> {
    segments: Vec<Seg<'m>>,
    header: &'m Header,
    context: &'m Context,
    offset: String,
    entries: Vec<Entry>,
    by_key: HashMap<(&'static str, String), usize>,
    problems: Vec<Problem>,
    /// The authority of identifiers that name none.
    home: String,
    patient: Option<Subject>,
    encounter: Option<usize>,
}

struct Entry {
    resource_type: &'static str,
    method: &'static str,
    url: String,
    if_none_exist: Option<String>,
    resource: Object,
}

/// The patient of a message.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) entry: usize,
    /// Names the patient in identifiers of what has none of its own.
    pub(super) key: String,
    /// The criteria that find the patient.
    pub(super) criteria: String,
}

impl<'m> Builder<'m> {
    fn new(message: &'m Message, header: &'m Header, context: &'m Context) -> Self {
        let segments: Vec<Seg<'m>> = message
            .segments
            .iter()
            .map(|segment| Seg {
                segment,
                read: Cell::new(0),
            })
            .collect();
        let offset = header.time.as_deref().and_then(types::zone_of);
        let home = types::authority(&header.sending_facility)
            .or_else(|| types::authority(&header.sending_application))
            .unwrap_or_else(|| types::authority_named("unnamed"));
        let mut builder = Self {
            segments,
            header,
            context,
            offset: offset.unwrap_or_else(|| context.offset.clone()),
            entries: Vec::new(),
            by_key: HashMap::new(),
            problems: Vec::new(),
            home,
            patient: None,
            encounter: None,
        };
        builder.envelope();
        builder
    }

    /// Marks what the envelope says: it is in the header, in Provenance, or about the transport.
    fn envelope(&mut self) {
        for segment in &self.segments {
            match segment.name() {
                "MSH" => segment.skip(&(1..=25).collect::<Vec<_>>()),
                "SFT" | "UAC" | "BHS" | "FHS" => segment.skip(&(1..=10).collect::<Vec<_>>()),
                "EVN" => segment.skip(&[1, 2]),
                // Set ids order the segments, which they do by themselves.
                "PID" | "NK1" | "PV1" | "OBR" | "OBX" | "NTE" | "AL1" | "DG1" | "IN1" | "PR1"
                | "SPM" | "IAM" | "TQ1" | "TXA" => segment.skip(&[1]),
                _ => {}
            }
        }
        if self.text(0, 11).is_none() {
            let what = "the processing id is missing; P (production) is taken";
            let place = Location::field("MSH", 11);
            self.report(Problem::warning(ErrorCode::RequiredFieldMissing, what).at(place));
        }
        let lacking = self.segments.iter().any(|segment| {
            (1..60).any(|n| {
                segment.name() != "MSH" && segment.segment.text(n).is_some_and(types::lacks_zone)
            })
        });
        let named = self.header.time.as_deref().and_then(types::zone_of);
        if lacking && named.is_none() {
            let what = format!(
                "times without a zone are taken as {}, because MSH-7 names none either",
                self.offset
            );
            self.report(
                Problem::information(ErrorCode::DataType, what).at(Location::field("MSH", 7)),
            );
        }
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn dates(&self) -> Dates<'_> {
        Dates {
            offset: &self.offset,
        }
    }

    /// A DT or DTM field as `dateTime`; one that is none is reported.
    pub(super) fn date_time(&mut self, at: usize, field: usize) -> Option<String> {
        self.timed(at, field, |dates, text| dates.date_time(text))
    }

    /// As [`Self::date_time`], as `instant`: a mere date is none.
    pub(super) fn instant(&mut self, at: usize, field: usize) -> Option<String> {
        self.timed(at, field, |dates, text| dates.instant(text))
    }

    fn timed(
        &mut self,
        at: usize,
        field: usize,
        read: impl Fn(&Dates<'_>, &str) -> Option<String>,
    ) -> Option<String> {
        let segment = self.segments.get(at)?;
        let text = segment.text(field)?;
        let found = read(&self.dates(), text);
        if found.is_none() {
            let place = segment.at(field);
            let what = "not a date or time that FHIR can say; it stays in the stored original only";
            self.report(Problem::warning(ErrorCode::DataType, what).at(place));
        }
        found
    }

    /// Positions of all segments of a name.
    pub(super) fn positions(&self, name: &str) -> Vec<usize> {
        self.segments
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.name() == name)
            .map(|(at, _)| at)
            .collect()
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.segments
            .iter()
            .position(|segment| segment.name() == name)
    }

    /// The segment at a position; an empty one where there is none.
    pub(super) fn seg(&self, at: usize) -> Option<&Seg<'m>> {
        self.segments.get(at)
    }

    /// Repetitions of a field of the segment at a position.
    pub(super) fn field(&self, at: usize, field: usize) -> &'m [Value] {
        self.seg(at).map_or(&[], |segment| segment.field(field))
    }

    pub(super) fn first(&self, at: usize, field: usize) -> Option<&'m Value> {
        self.field(at, field).first()
    }

    pub(super) fn text(&self, at: usize, field: usize) -> Option<&'m str> {
        self.first(at, field)?.text(1)
    }

    /// Adds a resource that is known by an identifier of its own, or finds it if it was added before. The identifier
    /// stands in the resource as it should.
    pub(super) fn add(
        &mut self,
        intent: Intent,
        resource_type: &'static str,
        (system, value): (&str, &str),
        resource: Object,
    ) -> usize {
        let mut condition = encode::by_identifier(system, value);
        // Numbers of visits, orders and specimens are used again by some senders; a record never moves to another
        // patient, so it is found among the patient's own only.
        if let Some(patient) = &self.patient
            && !matches!(resource_type, "Patient" | "Practitioner" | "Organization")
        {
            condition.push_str("&patient:Patient.");
            condition.push_str(&patient.criteria);
        }
        let key = (resource_type, condition.clone());
        if let Some(at) = self.by_key.get(&key) {
            return *at;
        }
        let (method, url, if_none_exist) = match intent {
            Intent::Ensure => ("POST", resource_type.to_owned(), Some(condition)),
            Intent::Replace => ("PUT", format!("{resource_type}?{condition}"), None),
        };
        let at = self.entries.len();
        self.by_key.insert(key, at);
        self.entries.push(Entry {
            resource_type,
            method,
            url,
            if_none_exist,
            resource,
        });
        at
    }

    /// As [`Self::add`], for what v2 gives no identifier: it gets one of ours, made of `parts`.
    pub(super) fn add_own(
        &mut self,
        intent: Intent,
        resource_type: &'static str,
        kind: &str,
        parts: &[&str],
        mut resource: Object,
    ) -> usize {
        let system = format!("https://stele.health/hl7v2/{kind}");
        let parts: Vec<String> = parts.iter().map(|part| encode::component(part)).collect();
        let value = parts.join("/");
        let own = json!({ "system": system, "value": value });
        match resource.get_mut("identifier").and_then(Json::as_array_mut) {
            Some(identifiers) => identifiers.push(own),
            None => resource.list("identifier", vec![own]),
        }
        self.add(intent, resource_type, (&system, &value), resource)
    }

    /// The resource of an entry, to add to it.
    pub(super) fn resource(&mut self, entry: usize) -> Option<&mut Object> {
        self.entries.get_mut(entry).map(|entry| &mut entry.resource)
    }

    /// A reference to an entry of the Bundle.
    pub(super) fn reference(entry: usize) -> Json {
        json!({ "reference": full_url(entry) })
    }

    /// A reference to the patient.
    ///
    /// # Errors
    /// The message names none.
    pub(super) fn subject(&self) -> Result<Subject, Problem> {
        self.patient.clone().ok_or_else(|| {
            Problem::error(
                ErrorCode::RequiredFieldMissing,
                "the segment PID with an identifier of the patient is missing",
            )
            .at(Location::field("PID", 3))
        })
    }

    pub(super) fn encounter(&self) -> Option<Json> {
        self.encounter.map(Self::reference)
    }

    /// Members that all clinical resources begin with.
    pub(super) fn about_patient(&self, member: &str) -> Result<Object, Problem> {
        let subject = self.subject()?;
        let mut resource = Object::new();
        resource.put(member, Some(Self::reference(subject.entry)));
        Ok(resource)
    }

    /// References to people of the staff: those with an identifier become Practitioners, others are named.
    pub(super) fn people(&mut self, at: usize, field: usize) -> Vec<Json> {
        let people: Vec<types::Person> = self
            .field(at, field)
            .iter()
            .filter_map(|xcn| types::person(xcn, &self.home))
            .collect();
        people
            .into_iter()
            .map(|one| self.practitioner(one))
            .collect()
    }

    fn practitioner(&mut self, person: types::Person) -> Json {
        let Some((system, value)) = person.identifier else {
            return json!({ "display": person.display });
        };
        let mut resource = Object::new();
        resource.list(
            "identifier",
            vec![json!({ "system": system, "value": value })],
        );
        resource.list("name", person.name.into_iter().collect());
        let entry = self.add(Intent::Ensure, "Practitioner", (&system, &value), resource);
        let mut reference = Object::new();
        reference.put("reference", Some(full_url(entry)));
        reference.put("display", person.display);
        Json::Object(reference)
    }

    /// An XON or a plain name as a reference to an Organization: one with an identifier becomes a resource.
    pub(super) fn organization(&mut self, xon: &Value) -> Option<Json> {
        let name = xon.text(1).map(types::string);
        let id = xon.text(10).or_else(|| xon.text(3));
        let Some(id) = id else {
            return name.map(|name| json!({ "display": name }));
        };
        let system = types::authority(&xon.component(6)).unwrap_or_else(|| self.home.clone());
        let id = types::string(id);
        let mut resource = Object::new();
        resource.list("identifier", vec![json!({ "system": system, "value": id })]);
        resource.put("name", Some(name.clone().unwrap_or_else(|| id.clone())));
        let entry = self.add(Intent::Ensure, "Organization", (&system, &id), resource);
        let mut reference = Object::new();
        reference.put("reference", Some(full_url(entry)));
        reference.put("display", name);
        reference.some()
    }

    /// CWE fields as CodeableConcepts.
    pub(super) fn concepts(&self, at: usize, field: usize, table: Option<&str>) -> Vec<Json> {
        self.field(at, field)
            .iter()
            .filter_map(|cwe| types::concept(cwe, table))
            .collect()
    }

    pub(super) fn concept(&self, at: usize, field: usize, table: Option<&str>) -> Option<Json> {
        types::concept(self.first(at, field)?, table)
    }

    /// The texts of NTE segments as annotations.
    pub(super) fn notes(&self, positions: &[usize]) -> Vec<Json> {
        positions
            .iter()
            .filter_map(|at| {
                let lines: Vec<&str> = self
                    .field(*at, 3)
                    .iter()
                    .filter_map(|value| value.text(1))
                    .collect();
                (!lines.is_empty()).then(|| json!({ "text": types::string(&lines.join("\n")) }))
            })
            .collect()
    }

    /// Reports what was not read, and puts the Bundle together.
    fn finish(mut self, original: &[u8]) -> Mapped {
        self.report_unread();
        let context = self.context;
        // A record belongs to one patient, the trail of a merge to the one that stays.
        let own = self.patient.as_ref().map(|patient| patient.entry);
        let mut targets: Vec<Json> = (0..)
            .zip(&self.entries)
            .filter(|(at, entry)| entry.resource_type != "Patient" || Some(*at) == own)
            .map(|(at, _)| Self::reference(at))
            .collect();
        if targets.is_empty() {
            targets.push(json!({ "display": self.header.kind() }));
        }
        let tag = (self.header.processing_id != "P").then(
            || json!([{ "system": tables::hl7_table("0103"), "code": self.header.processing_id }]),
        );
        let mut entries: Vec<Json> = Vec::with_capacity(self.entries.len().saturating_add(2));
        for (at, entry) in self.entries.iter_mut().enumerate() {
            let mut resource = Object::new();
            resource.put("resourceType", Some(entry.resource_type));
            if let Some(tag) = &tag {
                resource.put("meta", Some(json!({ "tag": tag })));
            }
            resource.append(&mut entry.resource);
            let mut request = Object::new();
            request.put("method", Some(entry.method));
            request.put("url", Some(entry.url.clone()));
            request.put("ifNoneExist", entry.if_none_exist.clone());
            entries
                .push(json!({ "fullUrl": full_url(at), "resource": resource, "request": request }));
        }
        let binary = format!("Binary/{}", context.id);
        let provenance = format!("Provenance/{}", context.id);
        let kept = self.original(original);
        entries.push(json!({ "resource": kept, "request": { "method": "PUT", "url": binary } }));
        let source = self.provenance(&targets, &binary);
        entries
            .push(json!({ "resource": source, "request": { "method": "PUT", "url": provenance } }));
        Mapped {
            bundle: json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries }),
            problems: self.problems,
        }
    }

    /// The message as it came. It holds everything, whatever its parts are sorted into, so it is restricted.
    fn original(&self, original: &[u8]) -> Json {
        let mut resource = Object::new();
        resource.put("resourceType", Some("Binary"));
        resource.put("id", Some(self.context.id.clone()));
        resource.put(
            "meta",
            Some(json!({ "security": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"
            }] })),
        );
        resource.put("contentType", Some("x-application/hl7-v2+er7"));
        let subject = self
            .patient
            .as_ref()
            .map(|patient| Self::reference(patient.entry));
        resource.put("securityContext", subject);
        resource.put("data", Some(STANDARD.encode(original)));
        Json::Object(resource)
    }

    fn provenance(&self, targets: &[Json], binary: &str) -> Json {
        let name = |value: &Value| types::string(&value.words());
        let facility = name(&self.header.sending_facility);
        let application = name(&self.header.sending_application);
        let words = format!("{facility} {application}");
        let words = words.trim();
        let event = self.header.event.as_deref().unwrap_or("ACK");
        json!({
            "resourceType": "Provenance",
            "id": self.context.id,
            "target": targets,
            "recorded": self.context.received,
            "activity": { "coding": [{ "system": tables::hl7_table("0003"), "code": types::code(event) }] },
            "agent": [{
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"
                }] },
                "who": {
                    "identifier": { "system": self.home, "value": types::string(&self.header.control_id) },
                    "display": if words.is_empty() { "unnamed sender" } else { words }
                }
            }],
            "entity": [{ "role": "source", "what": { "reference": binary } }]
        })
    }

    /// One finding by segment name: which of its fields, or that it as a whole, stay in the original only.
    fn report_unread(&mut self) {
        let mut names: Vec<&str> = self.segments.iter().map(Seg::name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let all: Vec<&Seg<'_>> = self.segments.iter().filter(|s| s.name() == name).collect();
            let location = all.first().map(|segment| Location {
                field: None,
                ..segment.at(1)
            });
            let mut fields: Vec<usize> = all.iter().flat_map(|segment| segment.unread()).collect();
            fields.sort_unstable();
            fields.dedup();
            let what = if fields.is_empty() {
                continue;
            } else if all.iter().any(|segment| segment.is_read()) {
                let numbers: Vec<String> = fields.iter().map(ToString::to_string).collect();
                format!(
                    "fields {} stay in the stored original only",
                    numbers.join(", ")
                )
            } else {
                "the segment stays in the stored original only".to_owned()
            };
            let mut problem = Problem::information(ErrorCode::SegmentSequence, what);
            problem.location = location;
            self.problems.push(problem);
        }
    }
}

/// Lays what a message says of a patient or a visit over what is there: its members replace, identifiers and links are
/// added, and what the message does not speak of stays. `current` is the stored resource.
#[must_use]
pub fn overlay(current: &Json, new: &Json) -> Json {
    let (Some(current), Some(new)) = (current.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut merged = current.clone();
    merged.remove("id");
    if let Some(meta) = merged.get_mut("meta").and_then(Json::as_object_mut) {
        meta.remove("versionId");
        meta.remove("lastUpdated");
        if meta.is_empty() {
            merged.remove("meta");
        }
    }
    for (name, value) in new {
        match name.as_str() {
            "identifier" => {
                let identifiers = merged.entry("identifier").or_insert_with(|| json!([]));
                if let Some(known) = identifiers.as_array_mut() {
                    for one in value.as_array().into_iter().flatten() {
                        let same = |other: &Json| {
                            other.get("system") == one.get("system")
                                && other.get("value") == one.get("value")
                        };
                        match known.iter_mut().find(|other| same(other)) {
                            Some(other) => other.clone_from(one),
                            None => known.push(one.clone()),
                        }
                    }
                }
            }
            "link" => {
                let links = merged.entry("link").or_insert_with(|| json!([]));
                if let Some(known) = links.as_array_mut() {
                    for one in value.as_array().into_iter().flatten() {
                        if !known.contains(one) {
                            known.push(one.clone());
                        }
                    }
                }
            }
            name => {
                for choice in CHOICES {
                    if name.starts_with(choice) {
                        merged.retain(|other, _| other == name || !other.starts_with(choice));
                    }
                }
                merged.insert(name.to_owned(), value.clone());
            }
        }
    }
    Json::Object(merged)
}

/// Elements of Patient of which only one form may be there.
const CHOICES: [&str; 2] = ["deceased", "multipleBirth"];

/// The name of an entry inside its Bundle.
fn full_url(entry: usize) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-{entry:012x}")
}
