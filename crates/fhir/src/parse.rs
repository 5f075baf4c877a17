//! Reading a resource from bytes, under limits, without losing how it was written.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use crate::definitions::Definitions;
use crate::outcome::{Issue, IssueCode, Severity};
use crate::primitive;
use crate::scan::{self, Kind, Scanner};

/// How much a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the text in bytes.
    pub max_bytes: usize,
    /// Containers inside one another; at most 120, because the JSON reader stops at 128.
    pub max_depth: usize,
    /// Members and items in the whole text.
    pub max_elements: usize,
}

impl Default for Limits {
    /// 64 MiB, 64 levels and 4 million elements: several times a patient's whole life as
    /// Synthea writes it (the largest such bundle at hand has 11 MB).
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_depth: 64,
            max_elements: 4_000_000,
        }
    }
}

/// A resource as it was written and as a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The text exactly as received.
    pub text: String,
    /// The same as a tree; member order and number literals are kept (an exponent without a
    /// sign gains a `+`).
    pub value: Value,
    /// A resource type of FHIR R4, such as `Observation`.
    pub resource_type: String,
    /// The resource's own id, if it carries one.
    pub id: Option<String>,
}

/// Reads one resource.
///
/// Checks what has to hold before anything else can be said: size, UTF-8, JSON without
/// duplicate members, depth, a known `resourceType`, the syntax of `id`. Whether the content
/// follows the definitions is [`crate::validate::resource`]'s question.
///
/// # Errors
/// One issue that says what is wrong and at which line and column. [`IssueCode::TooLong`]
/// for size and number of elements, [`IssueCode::Structure`] for unreadable text, otherwise
/// the code that fits the element.
pub fn resource(bytes: &[u8], limits: &Limits) -> Result<Resource, Vec<Issue>> {
    if bytes.len() > limits.max_bytes {
        let most = limits.max_bytes;
        return refuse(
            IssueCode::TooLong,
            format!("The resource is larger than {most} bytes"),
        );
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let good = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
            return refuse(
                IssueCode::Structure,
                format!("The text is not UTF-8 at {}", place(&good, at)),
            );
        }
    };
    if text.starts_with('\u{feff}') {
        return refuse(
            IssueCode::Structure,
            "The text begins with a byte order mark, which JSON does not allow".to_owned(),
        );
    }
    check_shape(text, limits)?;
    let value: Value = serde_json::from_str(text).or_else(|error| {
        refuse(
            IssueCode::Structure,
            format!("The text is not valid JSON: {error}"),
        )
    })?;
    from_parts(text.to_owned(), value)
}

/// Reads text that this crate made by editing a resource it had read before, such as
/// [`crate::text::set_id_and_meta`] or [`crate::bundle::Plan::resolve`] return it.
///
/// Limits and duplicate members are not looked at again; for a client's bytes that would be
/// wrong, there [`resource`] is the way.
///
/// # Errors
/// The text is not the result of such an edit.
pub fn edited(text: String) -> Result<Resource, Vec<Issue>> {
    let value: Value = serde_json::from_str(&text).or_else(|error| {
        refuse(
            IssueCode::Structure,
            format!("The text is not valid JSON: {error}"),
        )
    })?;
    from_parts(text, value)
}

/// A resource from its text and the tree of the same text, whose shape was checked before.
pub(crate) fn from_parts(text: String, value: Value) -> Result<Resource, Vec<Issue>> {
    let resource_type = resource_type(&value)?;
    let id = id(&value, &resource_type)?;
    Ok(Resource {
        text,
        value,
        resource_type,
        id,
    })
}

/// Refuses what the JSON reader would let pass: depth, size, duplicate members.
fn check_shape(text: &str, limits: &Limits) -> Result<(), Vec<Issue>> {
    let mut scanner = Scanner::new(text);
    let mut elements = 0_usize;
    let mut open: Vec<Keys<'_>> = Vec::with_capacity(16);
    while let Some(token) = scanner.next() {
        match token.kind {
            Kind::ObjectStart | Kind::ArrayStart => open.push(Keys::default()),
            Kind::ObjectEnd | Kind::ArrayEnd => drop(open.pop()),
            Kind::Key => {
                let key = scan::unquote(text, &token.span).unwrap_or_default();
                if key.starts_with(RESERVED) {
                    return refuse_at(text, token.span.start, "A member has a reserved name");
                }
                if open.last_mut().is_some_and(|keys| !keys.insert(key)) {
                    return refuse_at(
                        text,
                        token.span.start,
                        "A member appears twice in the same object",
                    );
                }
                continue;
            }
            Kind::String | Kind::Scalar => {}
        }
        elements += 1;
        if scanner.depth() > limits.max_depth {
            let most = limits.max_depth;
            return refuse_at(
                text,
                token.span.start,
                &format!("The text is nested deeper than {most} levels"),
            );
        }
        if elements > limits.max_elements {
            let most = limits.max_elements;
            return refuse(
                IssueCode::TooLong,
                format!("The resource has more than {most} elements"),
            );
        }
    }
    Ok(())
}

fn resource_type(value: &Value) -> Result<String, Vec<Issue>> {
    let Some(members) = value.as_object() else {
        return refuse(
            IssueCode::Structure,
            "A resource is a JSON object; the text holds something else".to_owned(),
        );
    };
    match members.get("resourceType") {
        Some(Value::String(name)) if Definitions::load().resource(name).is_some() => {
            Ok(name.clone())
        }
        Some(Value::String(_)) => refuse(
            IssueCode::Value,
            "The resourceType is not a resource type of FHIR R4".to_owned(),
        ),
        Some(_) => refuse(
            IssueCode::Structure,
            "The resourceType is not a string".to_owned(),
        ),
        None => refuse(
            IssueCode::Required,
            "The resourceType is missing".to_owned(),
        ),
    }
}

fn id(value: &Value, resource_type: &str) -> Result<Option<String>, Vec<Issue>> {
    match value.get("id") {
        None => Ok(None),
        Some(Value::String(id)) if primitive::is_id(id) => Ok(Some(id.clone())),
        Some(_) => Err(vec![
            fatal(
                IssueCode::Value,
                "An id has 1 to 64 characters out of A-Z, a-z, 0-9, '-' and '.'".to_owned(),
            )
            .at(format!("{resource_type}.id")),
        ]),
    }
}

/// Member names seen in one object. Most objects are small: a list beats a hash set there.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    /// False if the name was there already.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.few.contains(&key) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(key);
            return true;
        }
        self.many.insert(key)
    }
}

fn refuse<T>(code: IssueCode, diagnostics: String) -> Result<T, Vec<Issue>> {
    Err(vec![fatal(code, diagnostics)])
}

fn refuse_at<T>(text: &str, at: usize, diagnostics: &str) -> Result<T, Vec<Issue>> {
    refuse(
        IssueCode::Structure,
        format!("{diagnostics}, at {}", place(text, at)),
    )
}

fn fatal(code: IssueCode, diagnostics: String) -> Issue {
    Issue::new(Severity::Fatal, code, diagnostics)
}

fn place(text: &str, at: usize) -> String {
    let (line, column) = scan::line_column(text, at);
    format!("line {line} column {column}")
}

/// Member names that `serde_json` uses for itself: it would read an object with such a member
/// as a number, and the tree would differ from the text.
const RESERVED: &str = "$serde_json::private::";

/// Names compared one by one before a hash set is used; FHIR objects seldom have more.
const FEW: usize = 24;

#[cfg(test)]
mod tests;
