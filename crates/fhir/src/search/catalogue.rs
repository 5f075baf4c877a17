//! Every R4 search parameter of every resource type.

use super::ast::{ParamId, ParamType};

/// One search parameter of one resource type.
#[derive(Debug)]
pub struct SearchParam {
    /// Number of the code.
    pub id: ParamId,
    /// Name in a request, for example `birthdate`.
    pub code: &'static str,
    /// Kind of its values.
    pub param_type: ParamType,
    /// Canonical URL of the definition.
    pub url: &'static str,
    /// Types a reference may point at; empty for other kinds.
    pub targets: Vec<&'static str>,
    /// Parameters a composite joins, in order; empty for other kinds.
    pub components: Vec<&'static SearchParam>,
}

impl PartialEq for SearchParam {
    /// Two parameters are the same if their definition is.
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url && self.code == other.code
    }
}
