//! What people read, in their language.
//!
//! The English sentence stands in the view and is the key: `text!("Sign out")`. A view so reads as its page does, and
//! English can't fall out of step with what is shown. Other languages are catalogues of gettext's PO format in `text/`,
//! which translators' tools know. What makes this safe are the tests in `text/tests.rs`: they read the sources and the
//! catalogues, and fail for a literal that is not for translation, a message that is missing, unused or twice, and one
//! with other arguments.
//!
//! The language is that of the request ([`speaking`]); helpers need not carry it. It must be set for whatever renders
//! outside of a request. What is signed, stored, logged or read by programs never depends on it.

#[macro_use]
mod macros;

mod catalogue;
mod negotiate;
mod sent;
#[cfg(test)]
mod tests;

use std::{fmt::Display, future::Future};

use intl_pluralrules::operands::PluralOperands;
use maud::{Markup, PreEscaped, Render};

pub(crate) use catalogue::browser;
pub(crate) use macros::argument;
pub(crate) use negotiate::{cookie, wanted};
pub(crate) use sent::Spoken;

/// A language that the portal speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, the language of the sources.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// Its code (BCP 47): `en`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// What it calls itself.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::German => "Deutsch",
        }
    }

    /// The language with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// What stands between a number's whole and its parts.
    const fn decimal_mark(self) -> char {
        match self {
            Self::English => '.',
            Self::German => ',',
        }
    }
}

tokio::task_local! {
    static LANGUAGE: Language;
}

/// The language of the request; English outside of one.
pub(crate) fn language() -> Language {
    LANGUAGE.try_with(|language| *language).unwrap_or_default()
}

/// Does something in a language.
pub(crate) async fn speaking<F: Future>(language: Language, work: F) -> F::Output {
    LANGUAGE.scope(language, work).await
}

/// As [`speaking`], at once.
pub(crate) fn spoken<T>(language: Language, work: impl FnOnce() -> T) -> T {
    LANGUAGE.sync_scope(language, work)
}

/// A message in the language of the request; the English one where the catalogue lacks it. For words of other crates
/// and of tables, which their place marks with [`message!`]; views say [`text!`].
pub(crate) fn of(english: &'static str) -> &'static str {
    catalogue::of(language())
        .message(english)
        .unwrap_or(english)
}

/// What another crate says went wrong, in the language of the request. Such sentences come put together, so they are
/// known by the words around what was put in.
pub(crate) fn told(english: &str) -> String {
    catalogue::of(language())
        .sentence(english)
        .unwrap_or_else(|| english.to_owned())
}

/// The form of a message that fits a number, by the rules of CLDR.
pub(crate) fn plural<N: TryInto<PluralOperands>>(
    count: N,
    one: &'static str,
    other: &'static str,
) -> &'static str {
    catalogue::of(language()).plural(count, one, other)
}

/// A message with its arguments, as text.
pub(crate) fn filled(template: &str, arguments: &[(&str, &dyn Display)]) -> String {
    let mut text = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Words(words) => text.push_str(words),
            Part::Argument(name) => {
                if let Some((_, value)) = arguments.iter().find(|(one, _)| *one == name) {
                    text.push_str(&value.to_string());
                }
            }
        }
    }
    text
}

/// A message with its arguments, as markup: words are escaped, arguments render themselves.
pub(crate) fn marked_up(template: &str, arguments: &[(&str, &dyn Render)]) -> Markup {
    let mut text = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Words(words) => words.render_to(&mut text),
            Part::Argument(name) => {
                if let Some((_, value)) = arguments.iter().find(|(one, _)| *one == name) {
                    value.render_to(&mut text);
                }
            }
        }
    }
    PreEscaped(text)
}

/// A decimal number as the language writes it; anything else stays as it is.
pub(crate) fn decimal(number: &str) -> String {
    let is_decimal = number
        .trim_start_matches(['<', '>', '=', '-'])
        .split_once('.')
        .is_some_and(|(whole, rest)| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits(whole) && digits(rest)
        });
    let mark = language().decimal_mark();
    if is_decimal && mark != '.' {
        return number.replace('.', &mark.to_string());
    }
    number.to_owned()
}

/// A number that somebody typed, as programs write it: with a point where the language has a comma.
pub(crate) fn plain_number(typed: &str) -> String {
    let mark = language().decimal_mark();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let begins = typed.trim_start_matches(['<', '>', '=', '-']);
    match begins.split_once(mark) {
        Some((whole, rest)) if digits(whole) && digits(rest) => typed.replace(mark, "."),
        _ => typed.to_owned(),
    }
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Words(&'a str),
    /// `{name}`
    Argument(&'a str),
}

/// The pieces of a message in order.
fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            rest = after;
            return Some(Part::Argument(name));
        }
        // A brace that nothing closes is a brace.
        let from = rest.chars().next()?.len_utf8();
        let end = rest
            .get(from..)
            .and_then(|after| after.find('{'))
            .map_or(rest.len(), |at| at + from);
        let (words, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(Part::Words(words))
    })
}
