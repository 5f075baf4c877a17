//! Structural validation against the official FHIR R4 definitions.
//!
//! Checked: unknown elements, JSON types, primitive formats, cardinality, choices, codes of
//! required bindings that can be listed, primitive extensions, extensions, contained and
//! inner resources, syntax and target types of references. Not checked: FHIRPath invariants
//! (apart from those of Extension), profiles, display texts, and whether a referenced resource
//! exists.
//!
//! Validation never changes anything, and no issue quotes content.

use serde_json::{Map, Value};

use crate::definitions::{Definitions, Field, FieldKind, Primitive, TypeDefinition, ValueSetId};
use crate::outcome::{Issue, IssueCode};
use crate::primitive::{self, Fault};
use crate::reference::Reference;

/// All findings about a resource; it is acceptable if none [is an error](Issue::is_error).
///
/// At most 100 issues are reported. Conditional references (`Type?query`) are let pass, since
/// a transaction resolves them first.
pub fn resource(value: &Value) -> Vec<Issue> {
    let mut walk = Walk::new(Entries::Included);
    walk.resource(value, Place::Root);
    walk.issues
}

/// All findings about the resource of a Bundle's entry, with locations from the Bundle's root
/// (`Bundle.entry[3].resource.subject`); `index` counts from 0.
pub fn entry(value: &Value, index: usize) -> Vec<Issue> {
    let mut walk = Walk::new(Entries::Included);
    walk.path.extend([
        Step::Name("Bundle"),
        Step::Name("entry"),
        Step::Index(index),
        Step::Name("resource"),
    ]);
    walk.resource(value, Place::Root);
    walk.issues
}

/// All findings about a Bundle itself, leaving out the resources in its entries.
pub(crate) fn shell(bundle: &Value) -> Vec<Issue> {
    let mut walk = Walk::new(Entries::LeftOut);
    walk.resource(bundle, Place::Root);
    walk.issues
}

/// One step of a location.
#[derive(Clone, Copy)]
enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

/// Where a resource stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By itself, or in a Bundle's entry or an operation's parameter.
    Root,
    /// Inside another resource's `contained`.
    Contained,
}

/// Whether the resources in a Bundle's entries are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entries {
    Included,
    LeftOut,
}

struct Walk<'v> {
    definitions: &'static Definitions,
    entries: Entries,
    issues: Vec<Issue>,
    path: Vec<Step<'v>>,
    /// Ids of the resources contained in the one being walked.
    contained: Vec<&'v str>,
}

impl<'v> Walk<'v> {
    fn new(entries: Entries) -> Self {
        Self {
            definitions: Definitions::load(),
            entries,
            issues: Vec::new(),
            path: Vec::with_capacity(16),
            contained: Vec::new(),
        }
    }

    fn resource(&mut self, value: &'v Value, place: Place) {
        let Some(members) = value.as_object() else {
            return self.report(
                IssueCode::Structure,
                "A resource (JSON object) was expected",
            );
        };
        let name = members.get("resourceType").and_then(Value::as_str);
        let Some(name) = name else {
            return self.report(IssueCode::Required, "The resourceType is missing");
        };
        let Some(definition) = self.definitions.resource(name) else {
            return self.report(
                IssueCode::Value,
                "The resourceType is not a resource type of FHIR R4",
            );
        };
        if self.path.is_empty() {
            self.path.push(Step::Name(name));
        }
        match place {
            Place::Contained => {
                if !members.contains_key("id") {
                    self.report(IssueCode::Required, "A contained resource needs an id");
                }
                if members.contains_key("contained") {
                    self.report(
                        IssueCode::Invariant,
                        "A contained resource contains no further resources (dom-2)",
                    );
                }
                self.object(members, definition);
            }
            Place::Root => {
                let inner = members.get("contained").and_then(Value::as_array);
                let ids = inner
                    .into_iter()
                    .flatten()
                    .filter_map(|resource| resource.get("id")?.as_str())
                    .collect();
                let outer = std::mem::replace(&mut self.contained, ids);
                self.object(members, definition);
                self.contained = outer;
            }
        }
    }

    /// The members of a resource or of a complex element.
    fn object(&mut self, members: &'v Map<String, Value>, definition: &'static TypeDefinition) {
        let mut choices: Vec<&str> = Vec::new();
        for (key, value) in members {
            let (name, is_sibling) = match key.strip_prefix('_') {
                Some(name) => (name, true),
                None => (key.as_str(), false),
            };
            if key == "resourceType" && definition.is_resource {
                continue;
            }
            self.path.push(Step::Name(key));
            match definition.field(name) {
                None => self.report(
                    IssueCode::Structure,
                    &format!("{} has no such element in FHIR R4", definition.name),
                ),
                Some(field) if is_sibling => self.sibling(field, value),
                Some(field) => {
                    if let Some(choice) = field.choice.as_deref() {
                        if choices.contains(&choice) {
                            self.report(
                                IssueCode::Structure,
                                &format!("Only one form of {choice} may be there"),
                            );
                        }
                        choices.push(choice);
                    }
                    let sibling = sibling_of(members, key, field);
                    self.member(field, value, sibling);
                }
            }
            self.path.pop();
        }
        for required in &definition.required {
            let present = |member: &str| {
                members.contains_key(member) || members.contains_key(&format!("_{member}"))
            };
            if !required.members.iter().any(|member| present(member)) {
                let element = &required.element;
                self.report(
                    IssueCode::Required,
                    &format!("The element {element} is missing"),
                );
            }
        }
    }

    /// A member's value: one, or an array of them.
    fn member(&mut self, field: &'static Field, value: &'v Value, sibling: Option<&'v Value>) {
        match (field.is_array, value) {
            (true, Value::Array(items)) => {
                if items.is_empty() {
                    self.report(IssueCode::Structure, "An array must not be empty");
                }
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    let extended = sibling
                        .and_then(|s| s.get(index))
                        .is_some_and(|s| !s.is_null());
                    if !(item.is_null() && extended) {
                        self.one(field, item);
                    }
                    self.path.pop();
                }
            }
            (true, _) => self.report(IssueCode::Structure, "A JSON array was expected"),
            (false, Value::Array(_)) => {
                self.report(
                    IssueCode::Structure,
                    "One value was expected, not a JSON array",
                );
            }
            (false, value) => self.one(field, value),
        }
    }

    fn one(&mut self, field: &'static Field, value: &'v Value) {
        if value.is_null() {
            return self.report(
                IssueCode::Structure,
                "null is not a value; leave the element out instead",
            );
        }
        match field.kind {
            FieldKind::Primitive(primitive) => self.primitive(field, primitive, value),
            FieldKind::Resource if self.entries == Entries::LeftOut => {}
            FieldKind::Resource => {
                let is_contained =
                    matches!(self.path.iter().rev().nth(1), Some(Step::Name("contained")));
                self.resource(
                    value,
                    if is_contained {
                        Place::Contained
                    } else {
                        Place::Root
                    },
                );
            }
            FieldKind::Complex(id) | FieldKind::Reference(id) => {
                let Some(definition) = self.definitions.get(id) else {
                    return;
                };
                let Some(members) = value.as_object() else {
                    return self.report(IssueCode::Structure, "A JSON object was expected");
                };
                if members.is_empty() {
                    return self.report(IssueCode::Structure, "An object must not be empty");
                }
                self.object(members, definition);
                if let FieldKind::Reference(_) = field.kind {
                    self.reference(field, members);
                }
                match &*definition.name {
                    "Extension" => self.extension(members),
                    "CodeableConcept" => self.concept(field, value),
                    "Coding" => self.coding(field, value),
                    _ => {}
                }
            }
        }
    }

    fn primitive(&mut self, field: &Field, primitive: Primitive, value: &Value) {
        match primitive::check(primitive, value) {
            Ok(()) => {}
            Err(Fault::Type(expected)) => return self.report(IssueCode::Structure, expected),
            Err(Fault::Format(expected)) => return self.report(IssueCode::Value, expected),
        }
        if let (Some(set), Some(code)) = (field.value_set, value.as_str())
            && !self
                .definitions
                .value_set(set)
                .is_none_or(|set| set.has_code(code))
        {
            self.not_in(set);
        }
    }

    /// `_name`: id and extensions of a primitive element.
    fn sibling(&mut self, field: &'static Field, value: &'v Value) {
        let FieldKind::Primitive(_) = field.kind else {
            return self.report(
                IssueCode::Structure,
                "Only primitive elements have a member with an underscore",
            );
        };
        match (field.is_array, value) {
            (true, Value::Array(items)) => {
                for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_null()) {
                    self.path.push(Step::Index(index));
                    self.primitive_element(item);
                    self.path.pop();
                }
            }
            (true, _) => self.report(IssueCode::Structure, "A JSON array was expected"),
            (false, value) => self.primitive_element(value),
        }
    }

    fn primitive_element(&mut self, value: &'v Value) {
        match (value.as_object(), self.definitions.by_name("Element")) {
            (Some(members), Some(element)) if !members.is_empty() => self.object(members, element),
            _ => self.report(
                IssueCode::Structure,
                "A JSON object with an id or extensions was expected",
            ),
        }
    }

    fn extension(&mut self, members: &Map<String, Value>) {
        let has_value = members
            .keys()
            .any(|key| key.starts_with("value") || key.starts_with("_value"));
        let has_extensions = members.contains_key("extension");
        if has_value == has_extensions {
            self.report(
                IssueCode::Extension,
                "An extension has either a value or extensions (ext-1)",
            );
        }
    }

    fn reference(&mut self, field: &Field, members: &Map<String, Value>) {
        let written = match members.get("reference") {
            Some(Value::String(written)) => written,
            _ => {
                let told = ["identifier", "display", "extension", "_reference"];
                if !told.iter().any(|member| members.contains_key(*member)) {
                    self.report(
                        IssueCode::Required,
                        "A reference needs a reference, an identifier or a display",
                    );
                }
                return;
            }
        };
        let Some(reference) = Reference::parse(written) else {
            self.path.push(Step::Name("reference"));
            self.report(
                IssueCode::Value,
                "A reference looks like Type/id, #id, urn:uuid:…, or an absolute URL",
            );
            self.path.pop();
            return;
        };
        if let Reference::Contained(id) = reference
            && !id.is_empty()
            && !self.contained.contains(&id)
        {
            self.report(
                IssueCode::NotFound,
                "No contained resource has the id referred to (ref-1)",
            );
        }
        let told = members.get("type").and_then(Value::as_str);
        let target = reference.resource_type().or(told);
        if let Some(target) = target
            && !field.targets.is_empty()
            && !field.targets.iter().any(|allowed| &**allowed == target)
        {
            let allowed = field.targets.join(", ");
            self.report(
                IssueCode::Value,
                &format!("The reference has to point at one of: {allowed}"),
            );
        }
    }

    /// A CodeableConcept satisfies a required binding with one of its codings.
    fn concept(&mut self, field: &Field, value: &Value) {
        let Some(id) = field.value_set else { return };
        let Some(set) = self.definitions.value_set(id) else {
            return;
        };
        let codings = value.get("coding").and_then(Value::as_array);
        let good = |coding: &Value| {
            matches!((text(coding, "system"), text(coding, "code")),
                (Some(system), Some(code)) if set.has(system, code))
        };
        if !codings.is_some_and(|codings| codings.iter().any(good)) {
            self.not_in(id);
        }
    }

    fn coding(&mut self, field: &Field, value: &Value) {
        let Some(id) = field.value_set else { return };
        let Some(set) = self.definitions.value_set(id) else {
            return;
        };
        let good = matches!((text(value, "system"), text(value, "code")),
            (Some(system), Some(code)) if set.has(system, code));
        if !good {
            self.not_in(id);
        }
    }

    fn not_in(&mut self, id: ValueSetId) {
        if let Some(set) = self.definitions.value_set(id) {
            let url = &set.url;
            self.report(
                IssueCode::CodeInvalid,
                &format!("The code has to be from {url}"),
            );
        }
    }

    fn report(&mut self, code: IssueCode, diagnostics: &str) {
        if self.issues.len() < MOST_ISSUES {
            self.issues
                .push(Issue::error(code, diagnostics).at(self.location()));
        }
    }

    /// The path walked so far, in the manner of FHIRPath.
    fn location(&self) -> String {
        let mut location = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) => {
                    if !location.is_empty() {
                        location.push('.');
                    }
                    location.push_str(name);
                }
                Step::Index(index) => location.push_str(&format!("[{index}]")),
            }
        }
        location
    }
}

/// The member with an underscore beside a primitive array, which may fill its null items.
fn sibling_of<'v>(members: &'v Map<String, Value>, key: &str, field: &Field) -> Option<&'v Value> {
    match field.kind {
        FieldKind::Primitive(_) if field.is_array => members.get(&format!("_{key}")),
        _ => None,
    }
}

fn text<'v>(value: &'v Value, member: &str) -> Option<&'v str> {
    value.get(member).and_then(Value::as_str)
}

/// Beyond this many issues nobody reads on, and an outcome must not grow with hostile input.
const MOST_ISSUES: usize = 100;

#[cfg(test)]
mod tests;
