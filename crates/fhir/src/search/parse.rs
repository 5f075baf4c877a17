//! Reads a search request into a [`Query`].
//!
//! What the specification leaves to the client's choice, `Prefer: handling`, decides over unknown
//! parameters only. A known parameter with a modifier or a value that cannot be read is refused
//! either way: ignoring it would answer another question than the one asked. Issues name
//! parameters and never quote values, which may be clinical.

use crate::outcome::{Issue, IssueCode};

use super::ast::{
    ChainTarget, Direction, Filter, Include, Modifier, ParamType, Query, Sort, Summary, TextScope,
    Total,
};
use super::catalogue::{Catalogue, SearchParam};
use super::text::words;
use super::value::Context;

/// What to do with a parameter that this server does not know (`Prefer: handling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Handling {
    /// Refuse the search.
    Strict,
    /// Leave the parameter out and say so.
    #[default]
    Lenient,
}

/// What a search is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    /// Treatment of unknown parameters.
    pub handling: Handling,
    /// Present time in milliseconds since 1970-01-01T00:00Z: `ap` on dates widens by the distance.
    pub now_ms: i64,
    /// Largest page; a larger `_count` is lowered to it.
    pub count_max: u32,
    /// Base URL of this server without a `/` at the end: absolute references to it are local.
    pub base_url: Option<&'a str>,
}

/// Reads a search on one resource type. `pairs` are the decoded parameters in the order sent.
///
/// Gives the query with warnings on what was left out of it.
///
/// # Errors
/// All reasons to refuse the search, each naming its parameter: unknown type or (strict) unknown
/// parameter, unsupported modifier, unreadable value, or a request beyond the limits.
pub fn parse(
    resource_type: &str,
    pairs: &[(String, String)],
    options: &Options<'_>,
) -> Result<(Query, Vec<Issue>), Vec<Issue>> {
    let Some(resource_type) = Catalogue::r4().resource_type(resource_type) else {
        let text = format!("{} is not a resource type", shown(resource_type));
        return Err(vec![Issue::error(IssueCode::NotSupported, text)]);
    };
    if pairs.len() > PAIRS_MAX {
        let text = format!("more than {PAIRS_MAX} search parameters");
        return Err(vec![Issue::error(IssueCode::TooCostly, text)]);
    }
    let mut parser = Parser {
        query: Query {
            resource_type,
            filters: Vec::new(),
            sort: Vec::new(),
            count: None,
            cursor: None,
            include: Vec::new(),
            revinclude: Vec::new(),
            summary: Summary::False,
            elements: Vec::new(),
            total: None,
        },
        values: Context {
            now_ms: options.now_ms,
            base_url: options.base_url,
        },
        count_max: options.count_max,
        seen: Vec::new(),
    };
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in pairs {
        match parser.pair(name, text) {
            Ok(()) => {}
            Err(Refusal::Ignorable(issue)) if options.handling == Handling::Lenient => {
                let text = format!("{}; it was ignored", issue.diagnostics);
                warnings.push(Issue::warning(issue.code, text).at(location(name)));
            }
            Err(Refusal::Ignorable(issue) | Refusal::Final(issue)) => {
                errors.push(issue.at(location(name)));
            }
        }
    }
    if errors.is_empty() {
        Ok((parser.query, warnings))
    } else {
        Err(errors)
    }
}

/// Why a parameter is not part of the query.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not known here: the client's preference decides.
    Ignorable(Issue),
    /// Refused in any case.
    Final(Issue),
}

impl Refusal {
    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Self::Ignorable(Issue::error(IssueCode::NotSupported, text))
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::Final(Issue::error(IssueCode::NotSupported, text))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Final(Issue::error(IssueCode::Invalid, text))
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }
}

struct Parser<'a> {
    query: Query,
    values: Context<'a>,
    count_max: u32,
    /// Parameters given that may stand only once.
    seen: Vec<&'static str>,
}

impl Parser<'_> {
    fn pair(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        if text.len() > TEXT_MAX || name.len() > NAME_MAX {
            let text = format!("longer than {TEXT_MAX} bytes (name: {NAME_MAX})");
            return Err(Refusal::Final(Issue::error(IssueCode::TooLong, text)));
        }
        if text.is_empty() {
            let text = format!("{} has no value", shown(name));
            return Err(Refusal::Ignorable(Issue::error(IssueCode::Invalid, text)));
        }
        match name {
            "_format" | "_pretty" => Ok(()),
            "_sort" => self.once("_sort").and_then(|()| self.sort(text)),
            "_count" => self.once("_count").and_then(|()| self.count(text)),
            "_summary" => self.once("_summary").and_then(|()| self.summary(text)),
            "_elements" => self.elements(text),
            "_total" => self.once("_total").and_then(|()| self.total(text)),
            "_cursor" => self
                .once("_cursor")
                .map(|()| self.query.cursor = Some(text.to_owned())),
            "_include" => self.include(text),
            "_revinclude" => self.revinclude(text),
            "_text" => self.full_text(TextScope::Narrative, text),
            "_content" => self.full_text(TextScope::Content, text),
            _ => {
                let filter = self.filter(name, text)?;
                self.query.filters.push(filter);
                Ok(())
            }
        }
    }

    fn once(&mut self, name: &'static str) -> Result<(), Refusal> {
        if self.seen.contains(&name) {
            return Err(Refusal::invalid(format!("{name} is given more than once")));
        }
        self.seen.push(name);
        Ok(())
    }

    fn filter(&self, name: &str, text: &str) -> Result<Filter, Refusal> {
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(rest, text);
        }
        if name.starts_with("_include:") || name.starts_with("_revinclude:") {
            let text = "iterated includes are not supported: use the parameter without a modifier";
            return Err(Refusal::unsupported(text));
        }
        match name.split_once('.') {
            Some((head, tail)) => self.chain(head, tail, text),
            None => self.direct(self.query.resource_type, name, text),
        }
    }

    /// A parameter of the type itself, with its modifier.
    fn direct(
        &self,
        resource_type: &'static str,
        name: &str,
        text: &str,
    ) -> Result<Filter, Refusal> {
        let (code, modifier) = split_modifier(name);
        let param = find(resource_type, code)?;
        match modifier {
            Some("missing") => {
                let missing = match text {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Refusal::invalid("`:missing` takes true or false")),
                };
                Ok(Filter::Missing { param, missing })
            }
            modifier => {
                let (modifier, target) = modifier_of(param, modifier)?;
                let values = self.values.alternatives(param, modifier, target, text)?;
                Ok(Filter::Values {
                    param,
                    modifier,
                    values,
                })
            }
        }
    }

    /// `subject:Patient.name=x`, `patient.identifier=x`.
    fn chain(&self, head: &str, tail: &str, text: &str) -> Result<Filter, Refusal> {
        let (code, wanted) = split_modifier(head);
        let param = find(self.query.resource_type, code)?;
        if param.param_type != ParamType::Reference {
            return Err(Refusal::invalid(format!(
                "{code} is not a reference to follow"
            )));
        }
        if tail.contains('.') || tail.starts_with("_has:") {
            let text = "only one reference can be followed: chains of more are not supported";
            return Err(Refusal::unsupported(text));
        }
        let candidates: Vec<&'static str> = match wanted {
            Some(wanted) => vec![target_of(param, wanted)?],
            None => param.targets.clone(),
        };
        let (mut targets, mut refusals) = (Vec::new(), Vec::new());
        for resource_type in candidates {
            match self.direct(resource_type, tail, text) {
                Ok(filter) => targets.push(ChainTarget {
                    resource_type,
                    filter,
                }),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !targets.is_empty() {
            return Ok(Filter::Chain { param, targets });
        }
        // A type that knows the parameter tells most about what is wrong.
        let at = refusals.iter().position(Refusal::is_final).unwrap_or(0);
        let unknown = || Refusal::unknown(format!("{code} points at nothing that has it"));
        Err(if refusals.is_empty() {
            unknown()
        } else {
            refusals.swap_remove(at)
        })
    }

    /// What follows `_has:`, for example `Observation:patient:code`.
    fn has(&self, rest: &str, text: &str) -> Result<Filter, Refusal> {
        let mut parts = rest.splitn(3, ':');
        let (Some(source), Some(code), Some(tail)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::invalid(
                "`_has` is written _has:Type:reference:parameter",
            ));
        };
        let source_type = known_type(source)?;
        let reference = find(source_type, code)?;
        self.points_here(source_type, reference)?;
        if tail.starts_with("_has:") || tail.contains('.') {
            let text = "`_has` can neither be nested nor be chained: not supported";
            return Err(Refusal::unsupported(text));
        }
        let filter = Box::new(self.direct(source_type, tail, text)?);
        Ok(Filter::Has {
            source_type,
            reference,
            filter,
        })
    }

    fn points_here(&self, source_type: &str, reference: &SearchParam) -> Result<(), Refusal> {
        if reference.targets.contains(&self.query.resource_type) {
            return Ok(());
        }
        let (code, here) = (reference.code, self.query.resource_type);
        Err(Refusal::invalid(format!(
            "{source_type}:{code} does not point at {here}"
        )))
    }

    fn full_text(&mut self, scope: TextScope, text: &str) -> Result<(), Refusal> {
        let words = words(text);
        if words.is_empty() {
            return Err(Refusal::invalid("no word to look for"));
        }
        self.query.filters.push(Filter::FullText { scope, words });
        Ok(())
    }

    fn sort(&mut self, text: &str) -> Result<(), Refusal> {
        for key in text.split(',') {
            let (code, direction) = match key.strip_prefix('-') {
                Some(code) => (code, Direction::Descending),
                None => (key, Direction::Ascending),
            };
            let param = find(self.query.resource_type, code)?;
            if matches!(param.param_type, ParamType::Composite | ParamType::Special) {
                return Err(Refusal::unsupported(format!("cannot sort by {code}")));
            }
            self.query.sort.push(Sort { param, direction });
        }
        Ok(())
    }

    fn count(&mut self, text: &str) -> Result<(), Refusal> {
        let count: u64 = text
            .parse()
            .map_err(|_| Refusal::invalid("`_count` takes a whole number"))?;
        if count == 0 {
            // FHIR R4, Search §3.1.1.5.5: the same as `_summary=count`.
            self.query.summary = Summary::Count;
        } else {
            let bounded = u32::try_from(count).unwrap_or(u32::MAX).min(self.count_max);
            self.query.count = Some(bounded);
        }
        Ok(())
    }

    fn summary(&mut self, text: &str) -> Result<(), Refusal> {
        let summary = match text {
            "true" => Summary::True,
            "false" => Summary::False,
            "text" => Summary::Text,
            "data" => Summary::Data,
            "count" => Summary::Count,
            _ => {
                return Err(Refusal::invalid(
                    "`_summary` takes true, false, text, data or count",
                ));
            }
        };
        // `_count=0` asked for the number alone, whichever of the two comes first.
        if self.query.summary != Summary::Count {
            self.query.summary = summary;
        }
        Ok(())
    }

    fn total(&mut self, text: &str) -> Result<(), Refusal> {
        self.query.total = Some(match text {
            "none" => Total::None,
            "estimate" => Total::Estimate,
            "accurate" => Total::Accurate,
            _ => {
                return Err(Refusal::invalid(
                    "`_total` takes none, estimate or accurate",
                ));
            }
        });
        Ok(())
    }

    fn elements(&mut self, text: &str) -> Result<(), Refusal> {
        for element in text.split(',') {
            let (head, tail) = element.split_once('.').unwrap_or(("", element));
            let proper = !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_alphanumeric());
            if !proper || !(head.is_empty() || head == self.query.resource_type) {
                let text = "`_elements` takes names of top-level elements, joined by commas";
                return Err(Refusal::invalid(text));
            }
            self.query.elements.push(tail.to_owned());
        }
        Ok(())
    }

    /// `*`, `Type:*`, `Type:param` or `Type:param:Target`.
    fn include(&mut self, text: &str) -> Result<(), Refusal> {
        let here = self.query.resource_type;
        let text = if text == "*" {
            format!("{here}:*")
        } else {
            text.to_owned()
        };
        let include = read_include(&text)?;
        if include.source_type != here {
            let text = format!("`_include` here starts at {here}");
            return Err(Refusal::invalid(text));
        }
        self.query.include.push(include);
        Ok(())
    }

    /// `Type:*`, `Type:param` or `Type:param:Target`, where the target is the type searched.
    fn revinclude(&mut self, text: &str) -> Result<(), Refusal> {
        if text == "*" {
            let text = "`_revinclude=*` is not supported: name the type that points here";
            return Err(Refusal::unsupported(text));
        }
        let mut include = read_include(text)?;
        let here = self.query.resource_type;
        if include.target_type.is_some_and(|target| target != here) {
            return Err(Refusal::invalid(format!(
                "`_revinclude` here points at {here}"
            )));
        }
        if let [reference] = include.params.as_slice() {
            self.points_here(include.source_type, reference)?;
        }
        include
            .params
            .retain(|reference| reference.targets.contains(&here));
        include.target_type = Some(here);
        self.query.revinclude.push(include);
        Ok(())
    }
}

fn read_include(text: &str) -> Result<Include, Refusal> {
    let mut parts = text.split(':');
    let (source, code, target, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(source), Some(code), None) = (source, code, rest) else {
        return Err(Refusal::invalid(
            "an include is written Type:parameter or Type:parameter:Type",
        ));
    };
    let source_type = known_type(source)?;
    let params: Vec<&'static SearchParam> = if code == "*" {
        let all = Catalogue::r4().params(source_type);
        all.filter(|param| param.param_type == ParamType::Reference)
            .collect()
    } else {
        let param = find(source_type, code)?;
        if param.param_type != ParamType::Reference {
            return Err(Refusal::invalid(format!(
                "{code} is not a reference to include by"
            )));
        }
        vec![param]
    };
    let target_type = match (target, params.as_slice()) {
        (None, _) => None,
        (Some(target), [param]) => Some(target_of(param, target)?),
        (Some(target), _) => Some(known_type(target)?),
    };
    Ok(Include {
        source_type,
        params,
        target_type,
    })
}

fn find(resource_type: &'static str, code: &str) -> Result<&'static SearchParam, Refusal> {
    let param = Catalogue::r4()
        .param(resource_type, code)
        .filter(|param| param.is_evaluable());
    param.ok_or_else(|| {
        Refusal::unknown(format!(
            "{resource_type} has no search parameter {}",
            shown(code)
        ))
    })
}

fn known_type(name: &str) -> Result<&'static str, Refusal> {
    let unknown = || Refusal::invalid(format!("{} is not a resource type", shown(name)));
    Catalogue::r4().resource_type(name).ok_or_else(unknown)
}

/// A type that the reference may point at.
fn target_of(param: &SearchParam, name: &str) -> Result<&'static str, Refusal> {
    let target = known_type(name)?;
    if param.targets.contains(&target) {
        return Ok(target);
    }
    Err(Refusal::invalid(format!(
        "{} does not point at {target}",
        param.code
    )))
}

fn split_modifier(name: &str) -> (&str, Option<&str>) {
    name.split_once(':')
        .map_or((name, None), |(code, modifier)| (code, Some(modifier)))
}

/// The modifier and, for `:Patient`, the type it stands for.
fn modifier_of(
    param: &SearchParam,
    modifier: Option<&str>,
) -> Result<(Option<Modifier>, Option<&'static str>), Refusal> {
    let Some(name) = modifier else {
        return Ok((None, None));
    };
    let known = match (param.param_type, name) {
        (ParamType::String, "exact") => Modifier::Exact,
        (ParamType::String, "contains") => Modifier::Contains,
        (ParamType::Token, "not") => Modifier::Not,
        (ParamType::Token, "text") => Modifier::Text,
        (ParamType::Reference, "identifier") => Modifier::Identifier,
        (ParamType::Uri, "above") => Modifier::Above,
        (ParamType::Uri, "below") => Modifier::Below,
        (ParamType::Reference, name) if Catalogue::r4().resource_type(name).is_some() => {
            return Ok((None, Some(target_of(param, name)?)));
        }
        _ => {
            let text = format!("{}:{} is not supported", param.code, shown(name));
            return Err(Refusal::unsupported(text));
        }
    };
    Ok((Some(known), None))
}

/// A name from the request, made safe to repeat: short, and printable.
fn shown(name: &str) -> String {
    name.chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// FHIR R4, OperationOutcome: `http.` and the name for what is wrong in the request's parameters.
fn location(name: &str) -> String {
    format!("http.{}", shown(name))
}

/// Parameters in one request. Real clients send below 30.
const PAIRS_MAX: usize = 128;
/// Bytes in one parameter's value; a list of 200 references fits.
const TEXT_MAX: usize = 16 * 1024;
/// Bytes in one parameter's name; the longest `_has` has below 150.
const NAME_MAX: usize = 256;
/// Letters of a name repeated to the client.
const SHOWN_MAX: usize = 64;

#[cfg(test)]
mod tests;
