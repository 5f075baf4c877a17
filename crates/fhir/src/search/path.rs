//! Paths through a resource's JSON, as the table of search parameters writes them.

use serde_json::Value;

/// Where the values of a parameter are.
#[derive(Debug)]
pub(crate) struct Path {
    steps: Vec<Step>,
    /// Type of what is found.
    pub(crate) data_type: DataType,
    /// Code system that a `code` has by its binding.
    pub(crate) system: Option<&'static str>,
    /// Whether the path begins at the resource although the context is a part of it.
    pub(crate) from_resource: bool,
    /// Members whose presence is asked for instead of their value; see [`DataType::Present`].
    pub(crate) members: Vec<&'static str>,
}

#[derive(Debug, Default)]
struct Step {
    member: &'static str,
    index: Option<usize>,
    /// Only elements whose member has this text.
    condition: Option<(&'static str, &'static str)>,
    /// Only references to this type.
    target: Option<&'static str>,
}

/// FHIR data type at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    /// A part of the resource: the root of a composite.
    Part,
    /// Whether one of several members has a value other than `false`.
    Present,
    /// `code`, `id`, `string` and other texts.
    Text,
    Boolean,
    /// `decimal` and the integers.
    Number,
    /// `date`, `dateTime`, `instant`.
    Date,
    Period,
    Timing,
    Coding,
    CodeableConcept,
    Identifier,
    ContactPoint,
    Reference,
    Canonical,
    /// A whole resource inside another.
    Resource,
    HumanName,
    Address,
    /// `Quantity` and its specialisations.
    Quantity,
    Money,
    Range,
    SampledData,
}

impl Path {
    /// Parses one path of the table; `None` if it is not understood.
    pub(crate) fn parse(text: &'static str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("present(") {
            let members = rest.strip_suffix("):boolean")?.split(',').collect();
            return Some(Self {
                members,
                ..Self::part()
            });
        }
        if text.is_empty() {
            return Some(Self {
                data_type: DataType::Part,
                ..Self::part()
            });
        }
        let Some((steps, end)) = text.split_once(':') else {
            let steps = text.split('.').map(Step::parse).collect::<Option<_>>()?;
            return Some(Self {
                steps,
                data_type: DataType::Part,
                ..Self::part()
            });
        };
        let (data_type, system) = match end.split_once('=') {
            Some((data_type, system)) => (data_type, Some(system)),
            None => (end, None),
        };
        let relative = steps.strip_prefix('/');
        Some(Self {
            steps: relative
                .unwrap_or(steps)
                .split('.')
                .map(Step::parse)
                .collect::<Option<_>>()?,
            data_type: DataType::parse(data_type)?,
            system,
            from_resource: relative.is_some(),
            members: Vec::new(),
        })
    }

    fn part() -> Self {
        Self {
            steps: Vec::new(),
            data_type: DataType::Present,
            system: None,
            from_resource: false,
            members: Vec::new(),
        }
    }

    /// Calls `visit` with every element the path leads to; elements of arrays one by one.
    pub(crate) fn walk<'v>(&self, from: &'v Value, visit: &mut dyn FnMut(&'v Value)) {
        walk(&self.steps, from, visit);
    }
}

fn walk<'v>(steps: &[Step], from: &'v Value, visit: &mut dyn FnMut(&'v Value)) {
    let Some((step, rest)) = steps.split_first() else {
        return each(from, visit);
    };
    each(from, &mut |element| {
        let Some(found) = element.get(step.member) else {
            return;
        };
        let found = match (step.index, found) {
            (Some(index), Value::Array(elements)) => elements.get(index),
            (Some(1..), _) => None,
            _ => Some(found),
        };
        let Some(found) = found else { return };
        if step.condition.is_none() && step.target.is_none() {
            return walk(rest, found, visit);
        }
        each(found, &mut |element| {
            if step.accepts(element) {
                walk(rest, element, visit);
            }
        });
    });
}

fn each<'v>(value: &'v Value, visit: &mut dyn FnMut(&'v Value)) {
    match value {
        Value::Array(elements) => elements.iter().for_each(visit),
        other => visit(other),
    }
}

impl Step {
    /// `member[n]{member=value}{is Type}`, each suffix at most once.
    fn parse(text: &'static str) -> Option<Self> {
        let end = text.find(['[', '{']).unwrap_or(text.len());
        let (member, mut rest) = text.split_at_checked(end)?;
        let mut step = Self {
            member,
            ..Self::default()
        };
        while !rest.is_empty() {
            let close = rest.find([']', '}'])?;
            let (suffix, after) = rest.split_at_checked(close)?;
            if let Some(index) = suffix.strip_prefix('[') {
                step.index = Some(index.parse().ok()?);
            } else if let Some(target) = suffix.strip_prefix("{is ") {
                step.target = Some(target);
            } else {
                step.condition = Some(suffix.strip_prefix('{')?.split_once('=')?);
            }
            rest = after.get(1..)?;
        }
        (!member.is_empty()).then_some(step)
    }

    fn accepts(&self, element: &Value) -> bool {
        let condition = self.condition.is_none_or(|(member, wanted)| {
            element.get(member).and_then(Value::as_str) == Some(wanted)
        });
        condition
            && self
                .target
                .is_none_or(|target| reference_type(element) == Some(target))
    }
}

/// Type of the resource a reference points at, by its URL or, failing that, its `type`.
fn reference_type(reference: &Value) -> Option<&str> {
    let by_url = reference
        .get("reference")
        .and_then(Value::as_str)
        .and_then(|url| {
            let path = url.split_once("/_history/").map_or(url, |(path, _)| path);
            let (start, _id) = path.rsplit_once('/')?;
            let name = start.rsplit('/').next()?;
            name.starts_with(|c: char| c.is_ascii_uppercase())
                .then_some(name)
        });
    by_url.or_else(|| reference.get("type").and_then(Value::as_str))
}

impl DataType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "code" | "id" | "string" | "markdown" | "uri" | "url" | "oid" | "uuid" => Self::Text,
            "boolean" => Self::Boolean,
            "decimal" | "integer" | "positiveInt" | "unsignedInt" => Self::Number,
            "date" | "dateTime" | "instant" => Self::Date,
            "Period" => Self::Period,
            "Timing" => Self::Timing,
            "Coding" => Self::Coding,
            "CodeableConcept" => Self::CodeableConcept,
            "Identifier" => Self::Identifier,
            "ContactPoint" => Self::ContactPoint,
            "Reference" => Self::Reference,
            "canonical" => Self::Canonical,
            "Resource" => Self::Resource,
            "HumanName" => Self::HumanName,
            "Address" => Self::Address,
            "Quantity" | "Age" | "Duration" | "Count" | "Distance" => Self::Quantity,
            "Money" => Self::Money,
            "Range" => Self::Range,
            "SampledData" => Self::SampledData,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &'static str, resource: &Value, expected: &[Value]) {
        let mut found = Vec::new();
        Path::parse(path)
            .unwrap()
            .walk(resource, &mut |value| found.push(value.clone()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn steps_flatten_arrays_and_keep_conditions() {
        let resource = json!({
            "a": [{"b": [1, 2]}, {"b": 3}, {"c": 4}],
            "t": [{"system": "phone", "value": "5"}, {"system": "email", "value": "e"}],
            "r": [{"reference": "Patient/1"}, {"reference": "https://x/y/Group/2/_history/1"},
                  {"type": "Patient", "display": "z"}, {"reference": "#c"}],
        });
        check("a.b:integer", &resource, &[json!(1), json!(2), json!(3)]);
        check("a[0].b:integer", &resource, &[json!(1), json!(2)]);
        check("a[7].b:integer", &resource, &[]);
        check("t{system=email}.value:string", &resource, &[json!("e")]);
        check(
            "r{is Group}.reference:string",
            &resource,
            &[json!("https://x/y/Group/2/_history/1")],
        );
        check("r{is Patient}.display:string", &resource, &[json!("z")]);
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "a:Nonsense",
            "a{b:code",
            "a[x]:code",
            ".b:code",
            "a{b}:code",
        ] {
            assert!(Path::parse(path).is_none(), "{path}");
        }
    }
}
