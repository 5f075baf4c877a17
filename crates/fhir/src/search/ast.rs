//! What search is made of: the values taken out of a resource and the query asked of them.
//!
//! Two halves meet here. [`IndexValue`] is one value that a search can find, extracted from a
//! resource when it is stored; [`Query`] is a search request after parsing. The SQL index stores
//! the first and answers the second; this module knows no SQL.
//!
//! Meaning of ranges, the same on both sides so that an index needs comparisons only:
//! - dates are half-open `[start_ms, end_ms)` in milliseconds since 1970-01-01T00:00Z; `2020` is
//!   the whole year, an open end of a `Period` is [`DATE_MIN_MS`] or [`DATE_MAX_MS`];
//! - numbers in a query are half-open `[low, high)` by their written precision (`6.30` is
//!   `[6.295, 6.305)`) with the exact `value` between;
//! - numbers in an index are closed `[low, high]`: one point for a plain value, an interval for a
//!   `Range` or a comparator such as `<5`; a missing bound is an infinity.

use super::catalogue::SearchParam;

/// Start of a period that has no start: before every date FHIR can write.
pub const DATE_MIN_MS: i64 = i64::MIN;
/// End of a period that has no end: after every date FHIR can write.
pub const DATE_MAX_MS: i64 = i64::MAX;

/// Kind of a search parameter, which decides what its values look like (FHIR R4, Search §3.1.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParamType {
    /// Code, identifier, boolean or contact point: `system|code`.
    Token,
    /// Link to another resource.
    Reference,
    /// Point or period in time.
    Date,
    /// Text compared without regard to case and accents.
    String,
    /// Number with a unit.
    Quantity,
    /// URI compared as written.
    Uri,
    /// Plain number.
    Number,
    /// Several values of one element, joined by `$`.
    Composite,
    /// Parameter with rules of its own (`near`).
    Special,
}

/// Number of a search parameter's code (`code`, `subject`, `_id`), shared by all resource types.
///
/// It is the position of the code in the sorted list of all codes of the committed table, so it
/// is stable as long as the table is; an index built with another table must be rebuilt, which
/// the catalogue's fingerprint detects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub u16);

/// One value of one search parameter in one resource.
#[derive(Clone, PartialEq)]
pub struct IndexValue {
    /// The parameter it belongs to.
    pub param: ParamId,
    /// The value.
    pub kind: IndexKind,
}

/// A value as an index stores it. `Debug` prints the kind only: these are clinical values.
#[derive(Clone, PartialEq)]
pub enum IndexKind {
    /// A code with its system, and the words beside it (lower-case, accents folded) for `:text`.
    /// `system` and `code` are as written; a `CodeableConcept.text` alone has neither.
    Token {
        /// System of the code, as written.
        system: Option<String>,
        /// The code, as written (`true`/`false` for booleans).
        code: Option<String>,
        /// Normalised display or text.
        text: Option<String>,
    },
    /// A link.
    Reference(ReferenceValue),
    /// A period, half-open, in milliseconds since the epoch.
    Date {
        /// First millisecond.
        start_ms: i64,
        /// First millisecond after the end.
        end_ms: i64,
    },
    /// A text.
    String {
        /// Lower-case, accents folded, white space collapsed: what plain and `:contains` compare.
        value: String,
        /// As written: what `:exact` compares.
        exact: String,
    },
    /// A measured amount, closed interval.
    Quantity {
        /// Lower bound, `-inf` when open.
        low: f64,
        /// Upper bound, `inf` when open; equal to `low` for a plain value.
        high: f64,
        /// System of the unit code.
        system: Option<String>,
        /// Unit code (UCUM as a rule; the currency for money).
        code: Option<String>,
        /// Unit as shown to people.
        unit: Option<String>,
    },
    /// A plain number, closed interval.
    Number {
        /// Lower bound, `-inf` when open.
        low: f64,
        /// Upper bound, `inf` when open; equal to `low` for a plain value.
        high: f64,
    },
    /// A URI as written; a canonical with a `|version` gives a second value without it.
    Uri(String),
    /// One value for each component, in the parameter's order. An element whose components have
    /// several values gives one composite for each combination.
    Composite(Vec<Self>),
}

/// Where a reference points.
#[derive(Clone, PartialEq, Eq)]
pub enum ReferenceValue {
    /// A resource of this server: `Type/id` (a `/_history/v` is dropped).
    Local {
        /// Resource type.
        target_type: String,
        /// Logical id.
        target_id: String,
    },
    /// An absolute URL, a `urn:` or a canonical; a canonical's `|version` is dropped.
    Absolute(String),
    /// A logical reference, `Reference.identifier`, found by `:identifier`.
    Identifier {
        /// System of the identifier.
        system: Option<String>,
        /// Value of the identifier.
        value: Option<String>,
    },
}

impl IndexKind {
    /// Name of the kind, safe to log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Reference(_) => "reference",
            Self::Date { .. } => "date",
            Self::String { .. } => "string",
            Self::Quantity { .. } => "quantity",
            Self::Number { .. } => "number",
            Self::Uri(_) => "uri",
            Self::Composite(_) => "composite",
        }
    }
}

impl std::fmt::Debug for IndexKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

impl std::fmt::Debug for IndexValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}(..)", self.param.0, self.kind.name())
    }
}

impl std::fmt::Debug for ReferenceValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local { .. } => "Local(..)",
            Self::Absolute(_) => "Absolute(..)",
            Self::Identifier { .. } => "Identifier(..)",
        })
    }
}

/// A parsed search on one resource type. All filters must hold (AND).
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Type searched.
    pub resource_type: &'static str,
    /// Conditions, all of which must hold.
    pub filters: Vec<Filter>,
    /// Order of the answer, first key first; empty means the server's own order.
    pub sort: Vec<Sort>,
    /// Page size asked for, already bounded; `None` means the server's default.
    pub count: Option<u32>,
    /// Cursor of a later page, as a link of an earlier answer carried it. Opaque here.
    pub cursor: Option<String>,
    /// Resources to add that the matches point at.
    pub include: Vec<Include>,
    /// Resources to add that point at the matches.
    pub revinclude: Vec<Include>,
    /// Which part of each resource is wanted.
    pub summary: Summary,
    /// Top-level elements wanted (`_elements`); empty means all.
    pub elements: Vec<String>,
    /// Whether the number of matches is wanted.
    pub total: Option<Total>,
}

/// One condition of a query.
#[derive(Clone, PartialEq)]
pub enum Filter {
    /// The parameter has one of these values (OR).
    Values {
        /// Parameter tested.
        param: &'static SearchParam,
        /// How it is compared.
        modifier: Option<Modifier>,
        /// Alternatives; never empty.
        values: Vec<Value>,
    },
    /// The parameter has no value (`true`) or has one (`false`).
    Missing {
        /// Parameter tested.
        param: &'static SearchParam,
        /// Whether it must be absent.
        missing: bool,
    },
    /// A resource that the reference points at meets a filter: `subject:Patient.name=x`.
    Chain {
        /// Reference parameter followed.
        param: &'static SearchParam,
        /// Alternatives by type of the resource pointed at (OR); never empty.
        targets: Vec<ChainTarget>,
    },
    /// A resource of another type points here and meets a filter:
    /// `_has:Observation:patient:code=x`.
    Has {
        /// Type of the resource that points here.
        source_type: &'static str,
        /// Its reference parameter.
        reference: &'static SearchParam,
        /// What it must meet; always [`Filter::Values`] or [`Filter::Missing`].
        filter: Box<Self>,
    },
    /// Words in the narrative (`_text`) or anywhere in the resource (`_content`).
    FullText {
        /// Where to look.
        scope: TextScope,
        /// Words as asked, normalised; all must occur.
        words: Vec<String>,
    },
}

/// One alternative of a chained search.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainTarget {
    /// Type of the resource pointed at.
    pub resource_type: &'static str,
    /// What it must meet; always [`Filter::Values`] or [`Filter::Missing`].
    pub filter: Filter,
}

/// Where a full-text search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextScope {
    /// The narrative only (`_text`).
    Narrative,
    /// All texts of the resource (`_content`).
    Content,
}

/// How a value is compared, where it is not the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modifier {
    /// String: equal as written.
    Exact,
    /// String: occurs anywhere.
    Contains,
    /// Token: no value of the parameter equals (resources without the parameter match too).
    Not,
    /// Token: the words beside the code start with the text.
    Text,
    /// Reference: by `Reference.identifier`; values are [`Value::Token`].
    Identifier,
    /// URI: equal, or a path prefix of the value asked (`:above`).
    Above,
    /// URI: equal, or the value asked is a path prefix of it (`:below`).
    Below,
}

/// One alternative of a condition. `Debug` prints the kind only.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `code`, `system|code`, `|code`, `system|`.
    Token {
        /// What is asked of the system.
        system: SystemMatch,
        /// Code; `None` matches every code of the system.
        code: Option<String>,
    },
    /// Words for `:text`, normalised like [`IndexKind::String`].
    TokenText(String),
    /// A link.
    Reference(ReferenceMatch),
    /// A period compared with the prefix.
    Date {
        /// Comparison.
        prefix: Prefix,
        /// First millisecond.
        start_ms: i64,
        /// First millisecond after the end.
        end_ms: i64,
    },
    /// A text: starts with (default), contains or equals, by modifier.
    String {
        /// Normalised.
        value: String,
        /// As written.
        exact: String,
    },
    /// A number and, where given, its unit.
    Quantity {
        /// Comparison.
        prefix: Prefix,
        /// The number.
        number: NumberRange,
        /// What is asked of the unit's system.
        system: SystemMatch,
        /// Unit: compared with the code, and with the shown unit when no system is given.
        /// `None`: any unit.
        code: Option<String>,
    },
    /// A number.
    Number {
        /// Comparison.
        prefix: Prefix,
        /// The number.
        number: NumberRange,
    },
    /// A URI.
    Uri(String),
    /// One value for each component; all must hold for the same composite.
    Composite(Vec<Self>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token { .. } => "Token(..)",
            Self::TokenText(_) => "TokenText(..)",
            Self::Reference(_) => "Reference(..)",
            Self::Date { .. } => "Date(..)",
            Self::String { .. } => "String(..)",
            Self::Quantity { .. } => "Quantity(..)",
            Self::Number { .. } => "Number(..)",
            Self::Uri(_) => "Uri(..)",
            Self::Composite(_) => "Composite(..)",
        })
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Values {
                param,
                modifier,
                values,
            } => {
                write!(f, "{} {modifier:?} {values:?}", param.code)
            }
            Self::Missing { param, missing } => write!(f, "{}:missing={missing}", param.code),
            Self::Chain { param, targets } => write!(f, "{}.{targets:?}", param.code),
            Self::Has {
                source_type,
                reference,
                filter,
            } => {
                write!(f, "_has:{source_type}:{}:{filter:?}", reference.code)
            }
            Self::FullText { scope, .. } => write!(f, "FullText({scope:?}, ..)"),
        }
    }
}

/// What a token asks of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemMatch {
    /// Any system, or none: `code`.
    Any,
    /// No system: `|code`.
    Absent,
    /// This system: `system|code`.
    Is(String),
}

/// What a reference search asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum ReferenceMatch {
    /// A resource of this server. Without a type, any type the parameter may point at.
    Local {
        /// Resource type, where the request names it (`Patient/1` or `:Patient=1`).
        target_type: Option<&'static str>,
        /// Logical id.
        target_id: String,
    },
    /// An absolute URL, a `urn:` or a canonical.
    Absolute(String),
}

impl std::fmt::Debug for ReferenceMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local { .. } => "Local(..)",
            Self::Absolute(_) => "Absolute(..)",
        })
    }
}

/// A number in a request with the interval its written digits stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberRange {
    /// The number itself, used by all prefixes but `eq`, `ne` and `ap`.
    pub value: f64,
    /// Lowest number written so, inclusive.
    pub low: f64,
    /// Highest number written so, exclusive.
    pub high: f64,
}

/// Comparison before a date, number or quantity (FHIR R4, Search §3.1.1.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The stored range lies within the one asked.
    Eq,
    /// It does not.
    Ne,
    /// Part of the stored range lies after the value asked.
    Gt,
    /// Part of the stored range lies before.
    Lt,
    /// `Gt` or `Eq`; for numbers, not below the value asked.
    Ge,
    /// `Lt` or `Eq`; for numbers, not above the value asked.
    Le,
    /// The stored range starts after.
    Sa,
    /// The stored range ends before.
    Eb,
    /// Near: ranges overlap, the one asked widened by a tenth (numbers) or a tenth of the distance
    /// to now (dates); the parser has already widened it.
    Ap,
}

/// One key of the order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sort {
    /// Parameter whose value orders; never composite or special.
    pub param: &'static SearchParam,
    /// Direction.
    pub direction: Direction,
}

/// Direction of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first, by the smallest value of a resource.
    Ascending,
    /// Largest first (`-date`), by the largest value of a resource.
    Descending,
}

/// One `_include` or `_revinclude`.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    /// Type of the resource that holds the reference.
    pub source_type: &'static str,
    /// Its reference parameters: one, or all of them for `*`.
    pub params: Vec<&'static SearchParam>,
    /// Only targets of this type.
    pub target_type: Option<&'static str>,
}

/// Which part of each resource is wanted (`_summary`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Summary {
    /// Everything.
    #[default]
    False,
    /// Elements marked as summary.
    True,
    /// Narrative, id, meta and mandatory elements.
    Text,
    /// Everything but the narrative.
    Data,
    /// No resource, only the number of matches.
    Count,
}

/// Whether the number of matches is wanted (`_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Total {
    /// Not wanted.
    None,
    /// A guess is enough.
    Estimate,
    /// Exact.
    Accurate,
}
