//! Reads the value of a search parameter: alternatives, escapes, prefixes.

use super::ast::{Modifier, NumberRange, ParamType, Prefix, ReferenceMatch, SystemMatch, Value};
use super::catalogue::{Catalogue, SearchParam};
use super::parse::Refusal;
use super::text::normalise;
use super::{date, number};

/// What values are read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now_ms: i64,
    pub(crate) base_url: Option<&'a str>,
}

impl Context<'_> {
    /// All alternatives of one parameter, joined by commas; at least one.
    ///
    /// `target` is the type that `:Patient` stands for.
    pub(crate) fn alternatives(
        &self,
        param: &SearchParam,
        modifier: Option<Modifier>,
        target: Option<&'static str>,
        text: &str,
    ) -> Result<Vec<Value>, Refusal> {
        let parts = split(text, ',');
        if parts.len() > ALTERNATIVES_MAX {
            return Err(Refusal::invalid(format!(
                "more than {ALTERNATIVES_MAX} alternatives"
            )));
        }
        parts
            .into_iter()
            .map(|part| self.alternative(param, modifier, target, part))
            .collect()
    }

    fn alternative(
        &self,
        param: &SearchParam,
        modifier: Option<Modifier>,
        target: Option<&'static str>,
        text: &str,
    ) -> Result<Value, Refusal> {
        if text.is_empty() {
            return Err(Refusal::invalid(format!(
                "{} has an empty alternative",
                param.code
            )));
        }
        match modifier {
            Some(Modifier::Identifier) => token(text),
            Some(Modifier::Text) => words(text).map(|(value, _)| Value::TokenText(value)),
            Some(
                Modifier::Exact
                | Modifier::Contains
                | Modifier::Not
                | Modifier::Above
                | Modifier::Below,
            )
            | None => match param.param_type {
                ParamType::Reference => self
                    .reference(&param.targets, target, text)
                    .map(Value::Reference),
                ParamType::Composite => self.composite(param, text),
                kind => self.single(kind, text),
            },
        }
    }

    /// One value of a kind that needs nothing from its parameter.
    fn single(&self, kind: ParamType, text: &str) -> Result<Value, Refusal> {
        match kind {
            ParamType::Token => token(text),
            ParamType::Reference => self.reference(&[], None, text).map(Value::Reference),
            ParamType::Date => self.date(text),
            ParamType::String => words(text).map(|(value, exact)| Value::String { value, exact }),
            ParamType::Quantity => quantity(text),
            ParamType::Uri => Ok(Value::Uri(unescape(text))),
            ParamType::Number => {
                let (prefix, number) = prefixed_number(&unescape(text))?;
                Ok(Value::Number { prefix, number })
            }
            ParamType::Composite | ParamType::Special => Err(Refusal::unsupported(
                "this kind of value is not supported here",
            )),
        }
    }

    fn composite(&self, param: &SearchParam, text: &str) -> Result<Value, Refusal> {
        let parts = split(text, '$');
        if parts.len() != param.components.len() {
            let codes: Vec<&str> = param.components.iter().map(|part| part.code).collect();
            let form = codes.join("$");
            return Err(Refusal::invalid(format!(
                "{} is written {form}",
                param.code
            )));
        }
        let values = param.components.iter().zip(parts).map(|(component, part)| {
            if part.is_empty() {
                return Err(Refusal::invalid(format!(
                    "{} has an empty part",
                    param.code
                )));
            }
            self.single(component.param_type, part)
        });
        Ok(Value::Composite(values.collect::<Result<_, _>>()?))
    }

    fn reference(
        &self,
        targets: &[&'static str],
        wanted: Option<&'static str>,
        text: &str,
    ) -> Result<ReferenceMatch, Refusal> {
        let text = unescape(text);
        let local = self
            .base_url
            .and_then(|base| text.strip_prefix(base)?.strip_prefix('/'));
        let path = local.unwrap_or(&text);
        if path.contains(':') {
            let url = path.split_once('|').map_or(path, |(url, _version)| url);
            return Ok(ReferenceMatch::Absolute(url.to_owned()));
        }
        let path = path
            .split_once("/_history/")
            .map_or(path, |(path, _version)| path);
        let (named, id) = match path.split_once('/') {
            Some((name, id)) => {
                let unknown = || Refusal::invalid("the reference names no known resource type");
                (
                    Some(Catalogue::r4().resource_type(name).ok_or_else(unknown)?),
                    id,
                )
            }
            None => (None, path),
        };
        if !is_id(id) {
            return Err(Refusal::invalid("a reference is Type/id, an id or a URL"));
        }
        if let (Some(named), Some(wanted)) = (named, wanted)
            && named != wanted
        {
            return Err(Refusal::invalid(
                "the reference and the modifier name different types",
            ));
        }
        let only = match targets {
            [only] => Some(*only),
            _ => None,
        };
        let target_type = named.or(wanted).or(only);
        Ok(ReferenceMatch::Local {
            target_type,
            target_id: id.to_owned(),
        })
    }

    fn date(&self, text: &str) -> Result<Value, Refusal> {
        let text = unescape(text);
        let (prefix, rest) = prefix(&text);
        let span = date::parse(rest).ok_or_else(|| {
            Refusal::invalid("a date is YYYY, YYYY-MM, YYYY-MM-DD or with Thh:mm[:ss[.sss]][zone]")
        })?;
        let (mut start_ms, mut end_ms) = (span.start_ms, span.end_ms);
        if prefix == Prefix::Ap {
            // FHIR R4, Search §3.1.1.4.4: a tenth of the distance to now.
            let away = self
                .now_ms
                .abs_diff(start_ms)
                .min(self.now_ms.abs_diff(end_ms))
                / 10;
            let away = i64::try_from(away).unwrap_or(i64::MAX);
            (start_ms, end_ms) = (start_ms.saturating_sub(away), end_ms.saturating_add(away));
        }
        Ok(Value::Date {
            prefix,
            start_ms,
            end_ms,
        })
    }
}

fn token(text: &str) -> Result<Value, Refusal> {
    let parts: Vec<String> = split(text, '|').into_iter().map(unescape).collect();
    let (system, code) = match parts.as_slice() {
        [code] => (SystemMatch::Any, code),
        [system, code] if system.is_empty() => (SystemMatch::Absent, code),
        [system, code] => (SystemMatch::Is(system.clone()), code),
        _ => {
            return Err(Refusal::invalid(
                "a token is code, system|code, |code or system|",
            ));
        }
    };
    let code = Some(code.clone()).filter(|code| !code.is_empty());
    if code.is_none() && !matches!(system, SystemMatch::Is(_)) {
        return Err(Refusal::invalid("a token needs a code or a system"));
    }
    Ok(Value::Token { system, code })
}

/// `5.4`, `ge5.4|http://unitsofmeasure.org|mg` or `5.4||mg`.
fn quantity(text: &str) -> Result<Value, Refusal> {
    let parts: Vec<String> = split(text, '|').into_iter().map(unescape).collect();
    let (written, system, code) = match parts.as_slice() {
        [written] => (written, "", ""),
        [written, system, code] => (written, system.as_str(), code.as_str()),
        _ => {
            return Err(Refusal::invalid(
                "a quantity is number, number|system|code or number||code",
            ));
        }
    };
    let (prefix, number) = prefixed_number(written)?;
    let system = match system {
        "" => SystemMatch::Any,
        system => SystemMatch::Is(system.to_owned()),
    };
    let code = Some(code.to_owned()).filter(|code| !code.is_empty());
    Ok(Value::Quantity {
        prefix,
        number,
        system,
        code,
    })
}

fn prefixed_number(text: &str) -> Result<(Prefix, NumberRange), Refusal> {
    let (prefix, rest) = prefix(text);
    let mut number =
        number::parse(rest).ok_or_else(|| Refusal::invalid("the number cannot be read"))?;
    if prefix == Prefix::Ap {
        let away = number.value.abs() / 10.0;
        number.low = number.low.min(number.value - away);
        number.high = number.high.max(number.value + away);
    }
    Ok((prefix, number))
}

fn prefix(text: &str) -> (Prefix, &str) {
    let known = text.split_at_checked(2).and_then(|(start, rest)| {
        let prefix = match start {
            "eq" => Prefix::Eq,
            "ne" => Prefix::Ne,
            "gt" => Prefix::Gt,
            "lt" => Prefix::Lt,
            "ge" => Prefix::Ge,
            "le" => Prefix::Le,
            "sa" => Prefix::Sa,
            "eb" => Prefix::Eb,
            "ap" => Prefix::Ap,
            _ => return None,
        };
        Some((prefix, rest))
    });
    known.unwrap_or((Prefix::Eq, text))
}

/// Normalised and as written; refuses a text of blanks.
fn words(text: &str) -> Result<(String, String), Refusal> {
    let exact = unescape(text);
    let value = normalise(&exact);
    if value.is_empty() {
        return Err(Refusal::invalid("no text to look for"));
    }
    Ok((value, exact))
}

/// Splits at a separator that no backslash precedes. The parts keep their escapes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let splits = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
    .collect()
}

/// Takes the backslash from `\,`, `\|`, `\$` and `\\`; any other backslash is kept as written.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let follows = letters.peek().copied();
        match (letter, follows) {
            ('\\', Some(escaped @ (',' | '|' | '$' | '\\'))) => {
                plain.push(escaped);
                letters.next();
            }
            _ => plain.push(letter),
        }
    }
    plain
}

/// FHIR R4 `id`: 1 to 64 letters, digits, `-` and `.`.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

/// Alternatives in one parameter: each becomes a condition of the index's query.
const ALTERNATIVES_MAX: usize = 256;
