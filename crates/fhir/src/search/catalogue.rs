//! Every R4 search parameter of every resource type, compiled from the official definitions.
//!
//! The table `definitions/search-parameters.json` is made by `cargo xtask fixtures` and read once.
//! Four published parameters have no path to evaluate: `_text` and `_content` are full-text
//! searches with rules of their own, `Location.near` and `_query` are not supported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;

use super::ast::{ParamId, ParamType};
use super::path::Path;

/// One search parameter of one resource type.
#[derive(Debug)]
pub struct SearchParam {
    /// Number of the code.
    pub id: ParamId,
    /// Name in a request, for example `birthdate`.
    pub code: &'static str,
    /// Kind of its values.
    pub param_type: ParamType,
    /// Last part of the definition's URL, for example `individual-birthdate`; see [`Self::url`].
    pub name: &'static str,
    /// Types a reference may point at; empty for other kinds.
    pub targets: Vec<&'static str>,
    /// Parameters a composite joins, in order; empty for other kinds.
    pub components: Vec<Component>,
    /// Where the values are; empty for composites.
    pub(crate) paths: Vec<Path>,
    /// Where a composite's values are; empty for other kinds.
    pub(crate) groups: Vec<Group>,
}

/// One of the parameters that a composite joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Its code.
    pub code: &'static str,
    /// Kind of its values.
    pub param_type: ParamType,
}

/// Elements that a composite takes its values from.
#[derive(Debug)]
pub(crate) struct Group {
    /// The elements.
    pub(crate) root: Path,
    /// Paths of each component below one such element.
    pub(crate) parts: Vec<Vec<Path>>,
}

impl SearchParam {
    /// Canonical URL of the definition.
    pub fn url(&self) -> String {
        format!("{URL_START}{}", self.name)
    }

    /// Whether values of this parameter are extracted, so that it can be searched by.
    pub fn is_evaluable(&self) -> bool {
        !self.paths.is_empty() || !self.groups.is_empty()
    }
}

impl PartialEq for SearchParam {
    /// Two parameters are the same if their definition is.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.code == other.code
    }
}

/// All search parameters.
#[derive(Debug)]
pub struct Catalogue {
    types: BTreeMap<&'static str, Vec<SearchParam>>,
    /// Parameters of every type.
    common: Vec<SearchParam>,
    /// Codes in order; a [`ParamId`] is a position here.
    codes: Vec<&'static str>,
    fingerprint: u64,
}

impl Catalogue {
    /// The catalogue of FHIR R4.
    pub fn r4() -> &'static Self {
        static R4: OnceLock<Catalogue> = OnceLock::new();
        #[expect(
            clippy::expect_used,
            reason = "the table is part of the program and the tests below read all of it"
        )]
        R4.get_or_init(|| Self::read(TABLE).expect("the committed table is well formed"))
    }

    /// Names of the concrete resource types, in order.
    pub fn resource_types(&self) -> impl Iterator<Item = &'static str> {
        self.types.keys().copied()
    }

    /// The same name with the life of the program, if it is a concrete resource type.
    pub fn resource_type(&self, name: &str) -> Option<&'static str> {
        self.types.get_key_value(name).map(|(name, _)| *name)
    }

    /// A parameter by resource type and code; those of every type (`_id`) count for each.
    pub fn param(&'static self, resource_type: &str, code: &str) -> Option<&'static SearchParam> {
        let own = self.types.get(resource_type)?;
        find(own, code).or_else(|| find(&self.common, code))
    }

    /// All parameters of a resource type, its own first; empty for an unknown type.
    pub fn params(
        &'static self,
        resource_type: &str,
    ) -> impl Iterator<Item = &'static SearchParam> {
        let own = self.types.get(resource_type);
        let common = own.map(|_| self.common.iter());
        own.into_iter()
            .flatten()
            .chain(common.into_iter().flatten())
    }

    /// Code of a parameter's number.
    pub fn code(&self, id: ParamId) -> Option<&'static str> {
        self.codes.get(usize::from(id.0)).copied()
    }

    /// Number of a parameter's code.
    pub fn id(&self, code: &str) -> Option<ParamId> {
        let at = self.codes.binary_search(&code).ok()?;
        u16::try_from(at).ok().map(ParamId)
    }

    /// Changes whenever the table does: an index built under another one must be rebuilt.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn read(table: &'static str) -> Result<Self, TableError> {
        let mut parsed: Table<'static> = serde_json::from_str(table)?;
        let rows = parsed.params.values().flatten();
        let codes: BTreeSet<&'static str> = rows.map(|row| row.code).collect();
        let codes: Vec<&'static str> = codes.into_iter().collect();
        let names: Vec<&'static str> = parsed.params.keys().copied().collect();
        let convert = |rows: Vec<Row<'static>>| {
            rows.into_iter()
                .map(|row| row.convert(&codes, &names))
                .collect::<Result<Vec<_>, _>>()
        };
        let common = convert(parsed.params.remove("Resource").unwrap_or_default())?;
        let types = parsed
            .params
            .into_iter()
            .map(|(name, rows)| Ok((name, convert(rows)?)));
        let types = types.collect::<Result<_, TableError>>()?;
        Ok(Self {
            types,
            common,
            codes,
            fingerprint: fnv1a(table.as_bytes()),
        })
    }
}

fn find<'a>(params: &'a [SearchParam], code: &str) -> Option<&'a SearchParam> {
    let at = params.binary_search_by(|param| param.code.cmp(code)).ok()?;
    params.get(at)
}

/// FNV-1a, 64 bit: enough to notice a change, no secret is involved.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error("reading the table of search parameters")]
    Json(#[from] serde_json::Error),
    #[error("search parameter {code}: path {path} is not understood")]
    Path {
        code: &'static str,
        path: &'static str,
    },
    #[error("search parameter {code}: kind {kind} is unknown")]
    Kind {
        code: &'static str,
        kind: &'static str,
    },
    #[error("more search parameters than numbers")]
    TooMany,
}

#[derive(Deserialize)]
struct Table<'a> {
    #[serde(borrow)]
    params: BTreeMap<&'a str, Vec<Row<'a>>>,
}

/// A parameter as the table writes it; the generator's module documentation explains it.
#[derive(Deserialize)]
struct Row<'a> {
    code: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    url: &'a str,
    #[serde(borrow, default)]
    paths: Vec<&'a str>,
    #[serde(borrow, default)]
    targets: Vec<&'a str>,
    #[serde(borrow, default)]
    components: Vec<ComponentRow<'a>>,
    #[serde(borrow, default)]
    groups: Vec<GroupRow<'a>>,
}

#[derive(Deserialize)]
struct ComponentRow<'a> {
    code: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Deserialize)]
struct GroupRow<'a> {
    root: &'a str,
    #[serde(borrow)]
    parts: Vec<Vec<&'a str>>,
}

impl Row<'static> {
    fn convert(
        self,
        codes: &[&'static str],
        names: &[&'static str],
    ) -> Result<SearchParam, TableError> {
        let code = self.code;
        let at = codes
            .binary_search(&code)
            .map_err(|_| TableError::TooMany)?;
        let path = |path| Path::parse(path).ok_or(TableError::Path { code, path });
        let paths = |paths: Vec<&'static str>| paths.into_iter().map(path).collect();
        let mut groups = Vec::new();
        for group in self.groups {
            let parts = group
                .parts
                .into_iter()
                .map(paths)
                .collect::<Result<_, _>>()?;
            groups.push(Group {
                root: path(group.root)?,
                parts,
            });
        }
        let components = self.components.into_iter().map(|component| {
            let param_type = param_type(component.code, component.kind)?;
            Ok(Component {
                code: component.code,
                param_type,
            })
        });
        let any = self.targets.first() == Some(&"*");
        let every = names.iter().copied().filter(|name| *name != "Resource");
        Ok(SearchParam {
            id: ParamId(u16::try_from(at).map_err(|_| TableError::TooMany)?),
            code,
            param_type: param_type(code, self.kind)?,
            name: self.url,
            targets: if any { every.collect() } else { self.targets },
            components: components.collect::<Result<_, TableError>>()?,
            paths: paths(self.paths)?,
            groups,
        })
    }
}

fn param_type(code: &'static str, kind: &'static str) -> Result<ParamType, TableError> {
    Ok(match kind {
        "token" => ParamType::Token,
        "reference" => ParamType::Reference,
        "date" => ParamType::Date,
        "string" => ParamType::String,
        "quantity" => ParamType::Quantity,
        "uri" => ParamType::Uri,
        "number" => ParamType::Number,
        "composite" => ParamType::Composite,
        "special" => ParamType::Special,
        _ => return Err(TableError::Kind { code, kind }),
    })
}

const TABLE: &str = include_str!("../../definitions/search-parameters.json");

const URL_START: &str = "http://hl7.org/fhir/SearchParameter/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_parameter_is_there() {
        let catalogue = Catalogue::r4();
        assert_eq!(catalogue.resource_types().count(), 147);
        let own: usize = catalogue.types.values().map(Vec::len).sum();
        // 1378 definitions, some of them for several types: 1709 pairs in the published file.
        assert_eq!((own, catalogue.common.len()), (1700, 9));
        for name in catalogue.resource_types() {
            for param in catalogue.params(name) {
                assert_eq!(catalogue.param(name, param.code).unwrap().name, param.name);
                assert_eq!(catalogue.code(param.id), Some(param.code));
                assert_eq!(catalogue.id(param.code), Some(param.id));
                let reference = param.param_type == ParamType::Reference;
                // This one parameter is published without saying what it may point at.
                let open = reference && param.name == "RequestGroup-instantiates-canonical";
                assert_eq!(
                    param.targets.is_empty(),
                    !reference || open,
                    "{name}.{}",
                    param.code
                );
            }
        }
    }

    /// What the definitions ask for and the table cannot evaluate: nothing else is missing.
    #[test]
    fn what_cannot_be_evaluated_is_known() {
        let catalogue = Catalogue::r4();
        let mut missing: Vec<String> = Vec::new();
        for name in catalogue.resource_types() {
            let params = catalogue.params(name).filter(|param| !param.is_evaluable());
            missing.extend(params.map(|param| match param.code.starts_with('_') {
                true => param.code.to_owned(),
                false => format!("{name}.{}", param.code),
            }));
        }
        missing.sort();
        missing.dedup();
        assert_eq!(missing, ["Location.near", "_content", "_query", "_text"]);
    }

    #[test]
    fn unknown_names_give_nothing() {
        let catalogue = Catalogue::r4();
        assert!(catalogue.param("Patient", "nonsense").is_none());
        assert!(catalogue.param("Resource", "_id").is_none());
        assert_eq!(catalogue.params("Nonsense").count(), 0);
        assert_eq!(catalogue.code(ParamId(u16::MAX)), None);
    }
}
