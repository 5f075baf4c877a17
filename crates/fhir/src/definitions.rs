//! The official FHIR R4 definitions, compiled by `cargo xtask fixtures` and carried along.
//!
//! Two tables: every type with its JSON members, and every value set of a required binding
//! whose codes can be listed. They are unpacked once, at first use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Every type of FHIR R4 that may stand in a resource.
pub(crate) struct Definitions {
    types: Vec<TypeDefinition>,
    by_name: HashMap<Box<str>, TypeId>,
    value_sets: Vec<ValueSet>,
}

/// Place of a type in [`Definitions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

/// Place of a value set in [`Definitions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueSetId(usize);

/// A resource, a data type or a backbone element (named by its path).
pub(crate) struct TypeDefinition {
    pub(crate) name: Box<str>,
    /// Whether a resource of this type may exist by itself.
    pub(crate) is_resource: bool,
    /// JSON members by name.
    fields: HashMap<Box<str>, Field>,
    /// Elements that must be there; for a choice all its members are named.
    pub(crate) required: Vec<Required>,
}

/// One JSON member that a type may have.
pub(crate) struct Field {
    pub(crate) kind: FieldKind,
    /// Whether it is an array in JSON.
    pub(crate) is_array: bool,
    /// Whether it belongs to the summary (`isSummary`).
    pub(crate) in_summary: bool,
    /// Whether at least one must be there.
    pub(crate) is_required: bool,
    /// The choice this is a member of, such as `value[x]`.
    pub(crate) choice: Option<Box<str>>,
    /// The value set a code has to be from.
    pub(crate) value_set: Option<ValueSetId>,
    /// The resource types a Reference may point at; empty when any.
    pub(crate) targets: Vec<Box<str>>,
}

/// What stands in a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Primitive(Primitive),
    Complex(TypeId),
    Reference(TypeId),
    /// Any resource, told by its `resourceType`.
    Resource,
}

/// The primitive types of FHIR R4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    Base64Binary,
    Boolean,
    Canonical,
    Code,
    Date,
    DateTime,
    Decimal,
    Id,
    Instant,
    Integer,
    Markdown,
    Oid,
    PositiveInt,
    String,
    Time,
    UnsignedInt,
    Uri,
    Url,
    Uuid,
    Xhtml,
}

/// An element that must be there.
pub(crate) struct Required {
    /// Name as in the specification, such as `status` or `value[x]`.
    pub(crate) element: Box<str>,
    /// JSON members of which one satisfies it.
    pub(crate) members: Vec<Box<str>>,
}

/// Codes by system.
pub(crate) struct ValueSet {
    pub(crate) url: Box<str>,
    codes: CodesBySystem,
}

impl Definitions {
    /// The compiled definitions; unpacked at the first call.
    #[expect(
        clippy::expect_used,
        reason = "the tables are compiled in, and a test unpacks them"
    )]
    pub(crate) fn load() -> &'static Self {
        static LOADED: OnceLock<Definitions> = OnceLock::new();
        LOADED.get_or_init(|| Self::unpack().expect("compiled FHIR definitions are readable"))
    }

    /// The definition of the type called `name`.
    pub(crate) fn by_name(&self, name: &str) -> Option<&TypeDefinition> {
        self.by_name.get(name).and_then(|id| self.types.get(id.0))
    }

    /// The definition of the resource type called `name`.
    pub(crate) fn resource(&self, name: &str) -> Option<&TypeDefinition> {
        self.by_name(name)
            .filter(|definition| definition.is_resource)
    }

    /// The definition with this place; `None` never happens for ids from this table.
    pub(crate) fn get(&self, id: TypeId) -> Option<&TypeDefinition> {
        self.types.get(id.0)
    }

    /// The value set with this place; `None` never happens for ids from this table.
    pub(crate) fn value_set(&self, id: ValueSetId) -> Option<&ValueSet> {
        self.value_sets.get(id.0)
    }

    fn unpack() -> Result<Self, std::io::Error> {
        let sets: BTreeMap<Box<str>, CodesBySystem> =
            read(include_bytes!("../definitions/valuesets.json.gz"))?;
        let structures: BTreeMap<Box<str>, RawType> =
            read(include_bytes!("../definitions/structures.json.gz"))?;
        let set_ids: HashMap<Box<str>, ValueSetId> = sets
            .keys()
            .enumerate()
            .map(|(at, url)| (url.clone(), ValueSetId(at)))
            .collect();
        let by_name: HashMap<Box<str>, TypeId> = structures
            .keys()
            .enumerate()
            .map(|(at, name)| (name.clone(), TypeId(at)))
            .collect();
        let types = structures
            .into_iter()
            .map(|(name, raw)| TypeDefinition::from_raw(name, raw, &by_name, &set_ids))
            .collect::<Result<_, _>>()?;
        let value_sets = sets
            .into_iter()
            .map(|(url, codes)| ValueSet { url, codes })
            .collect();
        Ok(Self {
            types,
            by_name,
            value_sets,
        })
    }
}

impl TypeDefinition {
    /// The JSON member called `name`, if this type has it.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    fn from_raw(
        name: Box<str>,
        raw: RawType,
        types: &HashMap<Box<str>, TypeId>,
        sets: &HashMap<Box<str>, ValueSetId>,
    ) -> Result<Self, std::io::Error> {
        let mut fields = HashMap::with_capacity(raw.fields.len());
        let mut required: Vec<Required> = Vec::new();
        for field in raw.fields {
            if field.min > 0 {
                let element = field.choice.clone().unwrap_or_else(|| field.name.clone());
                match required
                    .iter_mut()
                    .find(|required| required.element == element)
                {
                    Some(required) => required.members.push(field.name.clone()),
                    None => required.push(Required {
                        element,
                        members: vec![field.name.clone()],
                    }),
                }
            }
            let kind = FieldKind::of(&field.type_name, types)
                .ok_or_else(|| broken(format!("{name}.{}: unknown type", field.name)))?;
            fields.insert(
                field.name,
                Field {
                    kind,
                    is_array: field.many,
                    in_summary: field.summary,
                    is_required: field.min > 0,
                    choice: field.choice,
                    value_set: field.values.and_then(|url| sets.get(&url).copied()),
                    targets: field.targets,
                },
            );
        }
        Ok(Self {
            name,
            is_resource: raw.resource,
            fields,
            required,
        })
    }
}

impl FieldKind {
    fn of(type_name: &str, types: &HashMap<Box<str>, TypeId>) -> Option<Self> {
        let kind = match (Primitive::parse(type_name), type_name) {
            (Some(primitive), _) => Self::Primitive(primitive),
            (None, "Resource") => Self::Resource,
            (None, "Reference") => Self::Reference(*types.get(type_name)?),
            (None, _) => Self::Complex(*types.get(type_name)?),
        };
        Some(kind)
    }
}

impl Primitive {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "base64Binary" => Self::Base64Binary,
            "boolean" => Self::Boolean,
            "canonical" => Self::Canonical,
            "code" => Self::Code,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "decimal" => Self::Decimal,
            "id" => Self::Id,
            "instant" => Self::Instant,
            "integer" => Self::Integer,
            "markdown" => Self::Markdown,
            "oid" => Self::Oid,
            "positiveInt" => Self::PositiveInt,
            "string" => Self::String,
            "time" => Self::Time,
            "unsignedInt" => Self::UnsignedInt,
            "uri" => Self::Uri,
            "url" => Self::Url,
            "uuid" => Self::Uuid,
            "xhtml" => Self::Xhtml,
            _ => return None,
        })
    }
}

impl ValueSet {
    /// Whether the code is in the set under any system (a `code` element has no system).
    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.codes.values().any(|codes| codes.contains(code))
    }

    /// Whether the code of this system is in the set.
    pub(crate) fn has(&self, system: &str, code: &str) -> bool {
        self.codes
            .get(system)
            .is_some_and(|codes| codes.contains(code))
    }
}

/// Whether FHIR R4 has a resource type of this name (abstract ones excepted).
pub fn is_resource_type(name: &str) -> bool {
    Definitions::load().resource(name).is_some()
}

/// Names of all resource types of FHIR R4, in alphabetical order.
pub fn resource_types() -> impl Iterator<Item = &'static str> {
    let types = &Definitions::load().types;
    types
        .iter()
        .filter(|definition| definition.is_resource)
        .map(|definition| &*definition.name)
}

type CodesBySystem = HashMap<Box<str>, HashSet<Box<str>>>;

/// A type as the table holds it.
#[derive(Deserialize)]
struct RawType {
    resource: bool,
    fields: Vec<RawField>,
}

/// A member as the table holds it.
#[derive(Deserialize)]
struct RawField {
    name: Box<str>,
    #[serde(rename = "type")]
    type_name: Box<str>,
    #[serde(default)]
    min: u64,
    #[serde(default)]
    many: bool,
    #[serde(default)]
    summary: bool,
    choice: Option<Box<str>>,
    values: Option<Box<str>>,
    #[serde(default)]
    targets: Vec<Box<str>>,
}

fn read<T: DeserializeOwned>(packed: &[u8]) -> Result<T, std::io::Error> {
    let unpacked = flate2::read::GzDecoder::new(packed);
    serde_json::from_reader(std::io::BufReader::new(unpacked)).map_err(broken)
}

fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_official_types() {
        let definitions = Definitions::load();
        assert!(resource_types().count() >= 146);
        assert!(is_resource_type("Patient") && !is_resource_type("Resource"));
        assert!(definitions.resource("Patient").is_some());
        assert!(definitions.resource("HumanName").is_none());
        assert!(definitions.resource("DomainResource").is_none());
        let observation = definitions.resource("Observation").unwrap();
        let value = observation.field("valueQuantity").unwrap();
        assert_eq!(value.choice.as_deref(), Some("value[x]"));
        assert!(observation.field("value").is_none());
        let status = observation.field("status").unwrap();
        assert!(status.is_required && status.in_summary && !status.is_array);
        let set = definitions.value_set(status.value_set.unwrap()).unwrap();
        assert!(set.has_code("final") && !set.has_code("finished"));
        assert!(set.has("http://hl7.org/fhir/observation-status", "final"));
        let subject = observation.field("subject").unwrap();
        assert!(subject.targets.iter().any(|target| &**target == "Patient"));
    }
}
