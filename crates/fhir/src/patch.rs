//! JSON Patch (RFC 6902) on a resource's own text.
//!
//! A patch touches only what it names: every other byte stays, numbers and white space
//! included. (Patching a tree and writing it out again would reorder members on `remove`.)
//! All operations take effect or none does.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::outcome::{Issue, IssueCode};
use crate::parse::{self, Limits, Resource};
use crate::scan;
use crate::text::splice;

/// Applies a JSON Patch document and returns the new text.
///
/// The outcome is not validated here, but it is a resource of the same type and id.
///
/// # Errors
/// The patch cannot be read ([`IssueCode::Structure`]); an operation names what is not there
/// or a `test` fails ([`IssueCode::Processing`]); or the outcome is no resource, or another
/// one ([`IssueCode::BusinessRule`]). Issues name the operation by its position, from 0.
pub fn json_patch(resource: &Resource, patch: &[u8]) -> Result<String, Vec<Issue>> {
    let operations: Vec<Operation<'_>> = serde_json::from_slice(patch).map_err(|error| {
        vec![Issue::error(
            IssueCode::Structure,
            format!("The JSON Patch is unreadable: {error}"),
        )]
    })?;
    if operations.len() > MOST_OPERATIONS {
        let what = format!("A patch has at most {MOST_OPERATIONS} operations");
        return Err(vec![Issue::error(IssueCode::TooCostly, what)]);
    }
    let mut text = resource.text.clone();
    for (index, operation) in operations.iter().enumerate() {
        text = operation.apply(&text).map_err(|why| {
            let what = format!("Operation {index} of the patch failed: {why}");
            vec![Issue::error(IssueCode::Processing, what)]
        })?;
        if text.len() > Limits::default().max_bytes {
            let what = format!("Operation {index} of the patch makes the resource too large");
            return Err(vec![Issue::error(IssueCode::TooLong, what)]);
        }
    }
    let patched = parse::resource(text.as_bytes(), &Limits::default())?;
    if patched.resource_type != resource.resource_type || patched.id != resource.id {
        let what = "A patch must not change resourceType or id";
        return Err(vec![Issue::error(IssueCode::BusinessRule, what)]);
    }
    Ok(text)
}

/// One operation of RFC 6902 §4. Values keep the text they were written with.
#[derive(Deserialize)]
struct Operation<'p> {
    op: Op,
    path: String,
    from: Option<String>,
    #[serde(borrow)]
    value: Option<&'p RawValue>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

impl Operation<'_> {
    fn apply(&self, text: &str) -> Result<String, &'static str> {
        let path = Pointer::parse(&self.path)?;
        let value = self.value.map(RawValue::get).ok_or("it has no value");
        let from = || Pointer::parse(self.from.as_deref().ok_or("it has no from")?);
        match self.op {
            Op::Add => add(text, &path, value?),
            Op::Remove => remove(text, &path),
            Op::Replace => {
                let span = locate(text, &path)?;
                Ok(splice(text, vec![(span, value?.to_owned())]))
            }
            Op::Move => {
                let from = from()?;
                if path.0.len() > from.0.len() && path.0.starts_with(&from.0) {
                    return Err("it moves a value into itself");
                }
                let moved = text.get(locate(text, &from)?).unwrap_or_default();
                add(&remove(text, &from)?, &path, moved)
            }
            Op::Copy => {
                let copied = text.get(locate(text, &from()?)?).unwrap_or_default();
                add(text, &path, copied)
            }
            Op::Test => {
                let there = text.get(locate(text, &path)?).unwrap_or_default();
                let read = |text| serde_json::from_str::<Value>(text).map_err(|_| "unreadable");
                if same(&read(there)?, &read(value?)?) {
                    Ok(text.to_owned())
                } else {
                    Err("the value tested for is another one")
                }
            }
        }
    }
}

/// A JSON pointer, unescaped (RFC 6901).
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let steps = text.strip_prefix('/').ok_or("a path begins with /")?;
        let steps = steps
            .split('/')
            .map(|step| step.replace("~1", "/").replace("~0", "~"));
        Ok(Self(steps.collect()))
    }

    fn split_last(&self) -> Result<(&[String], &str), &'static str> {
        let (last, parent) = self
            .0
            .split_last()
            .ok_or("the whole resource cannot be its path")?;
        Ok((parent, last))
    }
}

/// A container and its parts.
enum Container {
    Object(Vec<scan::Member>),
    Array(Vec<Range<usize>>),
}

impl Container {
    fn at(text: &str, span: &Range<usize>) -> Result<Self, &'static str> {
        scan::members(text, span)
            .map(Self::Object)
            .or_else(|| scan::items(text, span).map(Self::Array))
            .ok_or("its path leads through a value that is neither object nor array")
    }

    fn child(&self, text: &str, step: &str) -> Result<Range<usize>, &'static str> {
        match self {
            Self::Object(members) => scan::member(text, members, step)
                .map(|member| member.value.clone())
                .ok_or(ABSENT),
            Self::Array(items) => items.get(index(step)?).cloned().ok_or(ABSENT),
        }
    }
}

fn locate(text: &str, path: &Pointer) -> Result<Range<usize>, &'static str> {
    descend(text, &path.0)
}

fn descend(text: &str, steps: &[String]) -> Result<Range<usize>, &'static str> {
    let root = scan::value_at(text, 0).ok_or(ABSENT)?;
    steps.iter().try_fold(root, |span, step| {
        Container::at(text, &span)?.child(text, step)
    })
}

fn add(text: &str, path: &Pointer, value: &str) -> Result<String, &'static str> {
    let (parent, last) = path.split_last()?;
    let parent = descend(text, parent)?;
    let edit = match Container::at(text, &parent)? {
        Container::Object(members) => match scan::member(text, &members, last) {
            Some(member) => (member.value.clone(), value.to_owned()),
            None => {
                let key = crate::text::quote(last);
                let (at, comma) = members
                    .last()
                    .map_or((parent.start + 1, ""), |m| (m.value.end, ","));
                (at..at, format!("{comma}{key}:{value}"))
            }
        },
        Container::Array(items) => {
            let place = if last == "-" {
                items.len()
            } else {
                index(last)?
            };
            match (items.get(place), items.last()) {
                (Some(item), _) => (item.start..item.start, format!("{value},")),
                (None, Some(item)) if place == items.len() => {
                    (item.end..item.end, format!(",{value}"))
                }
                (None, None) if place == 0 => {
                    (parent.start + 1..parent.start + 1, value.to_owned())
                }
                (None, _) => return Err("its index is beyond the end of the array"),
            }
        }
    };
    Ok(splice(text, vec![edit]))
}

fn remove(text: &str, path: &Pointer) -> Result<String, &'static str> {
    let (parent, last) = path.split_last()?;
    let parent = descend(text, parent)?;
    let (spans, place): (Vec<Range<usize>>, usize) = match Container::at(text, &parent)? {
        Container::Object(members) => {
            let place = members
                .iter()
                .position(|member| scan::key_is(text, &member.key, last));
            let spans = members
                .iter()
                .map(|member| member.key.start..member.value.end);
            (spans.collect(), place.ok_or(ABSENT)?)
        }
        Container::Array(items) => (items, index(last)?),
    };
    let gone = spans.get(place).ok_or(ABSENT)?;
    let before = place.checked_sub(1).and_then(|before| spans.get(before));
    let span = match (spans.get(place + 1), before) {
        (Some(next), _) => gone.start..next.start,
        (None, Some(before)) => before.end..gone.end,
        (None, None) => gone.clone(),
    };
    Ok(splice(text, vec![(span, String::new())]))
}

/// An array index: digits without a leading zero.
fn index(step: &str) -> Result<usize, &'static str> {
    let is_number = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || step.len() > 1 && step.starts_with('0') {
        return Err("its path has no usable array index");
    }
    step.parse()
        .map_err(|_| "its path has no usable array index")
}

/// Equality as RFC 6902 §4.6 has it: members in any order, numbers by their value.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            decimal(one.as_str()) == decimal(other.as_str())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|o| same(value, o)))
        }
        (one, other) => one == other,
    }
}

/// A number literal as sign, digits without outer zeros, and the power of ten of the last one.
fn decimal(literal: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).unwrap_or_default();
    let places = i64::try_from(fraction.len()).unwrap_or_default();
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return (false, String::new(), 0);
    }
    (is_negative, kept.to_owned(), exponent - places + dropped)
}

const ABSENT: &str = "its path leads to nothing";

/// Each operation scans the text once; more than this many is no edit by a person or a form.
const MOST_OPERATIONS: usize = 1_000;

#[cfg(test)]
mod tests;
