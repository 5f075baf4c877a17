//! The syntax of FHIR R4 primitive values, checked by hand: no regular expression is compiled
//! or run, because every value of every imported resource passes here.
//!
//! Source: <https://hl7.org/fhir/R4/datatypes.html#primitive>.

use serde_json::Value;

use crate::definitions::Primitive;

/// What is wrong with a value: what was expected, and never what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Another JSON type.
    Type(&'static str),
    /// The right JSON type, but not the format or range.
    Format(&'static str),
}

/// Checks a value of a primitive type.
pub(crate) fn check(primitive: Primitive, value: &Value) -> Result<(), Fault> {
    match primitive {
        Primitive::Boolean => {
            if value.is_boolean() {
                Ok(())
            } else {
                Err(Fault::Type("true or false (JSON boolean) was expected"))
            }
        }
        Primitive::Decimal => match value {
            Value::Number(_) => Ok(()),
            _ => Err(Fault::Type("a decimal (JSON number) was expected")),
        },
        Primitive::Integer => integer(value, i64::from(i32::MIN)),
        Primitive::UnsignedInt => integer(value, 0),
        Primitive::PositiveInt => integer(value, 1),
        Primitive::Base64Binary
        | Primitive::Canonical
        | Primitive::Code
        | Primitive::Date
        | Primitive::DateTime
        | Primitive::Id
        | Primitive::Instant
        | Primitive::Markdown
        | Primitive::Oid
        | Primitive::String
        | Primitive::Time
        | Primitive::Uri
        | Primitive::Url
        | Primitive::Uuid
        | Primitive::Xhtml => match value {
            Value::String(text) => string(primitive, text).map_err(Fault::Format),
            _ => Err(Fault::Type("a JSON string was expected")),
        },
    }
}

/// Whether the text is a FHIR id: 1 to 64 of `A-Za-z0-9-.`.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn integer(value: &Value, least: i64) -> Result<(), Fault> {
    const EXPECTED: &str = "a whole number (JSON number without fraction) was expected";
    let Value::Number(number) = value else {
        return Err(Fault::Type(EXPECTED));
    };
    let literal = number.as_str();
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Format(EXPECTED));
    }
    match literal.parse::<i32>().map(i64::from) {
        Ok(number) if number >= least => Ok(()),
        Ok(_) if least == 1 => Err(Fault::Format("a whole number above 0 was expected")),
        Ok(_) => Err(Fault::Format("a whole number from 0 up was expected")),
        Err(_) => Err(Fault::Format("the whole number does not fit 32 bits")),
    }
}

fn string(primitive: Primitive, text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a value must not be empty; leave the element out instead");
    }
    let (good, expected) = match primitive {
        Primitive::Code => (
            is_code(text),
            "a code has no white space but single spaces inside",
        ),
        Primitive::Id => (
            is_id(text),
            "an id has 1 to 64 characters out of A-Za-z0-9-.",
        ),
        Primitive::Uri | Primitive::Url | Primitive::Canonical => (
            !text.chars().any(char::is_whitespace),
            "a URI has no white space",
        ),
        Primitive::Oid => (is_oid(text), "an OID looks like urn:oid:1.2.3"),
        Primitive::Uuid => (
            is_uuid(text),
            "a UUID looks like urn:uuid: and 36 characters",
        ),
        Primitive::Date => (
            is_date(text),
            "a date looks like YYYY, YYYY-MM or YYYY-MM-DD",
        ),
        Primitive::DateTime => (
            is_date_time(text),
            "a dateTime looks like YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz",
        ),
        Primitive::Instant => (
            is_instant(text),
            "an instant looks like YYYY-MM-DDThh:mm:ss+zz:zz",
        ),
        Primitive::Time => (Cursor::new(text).time_only(), "a time looks like hh:mm:ss"),
        Primitive::Base64Binary => (is_base64(text), "base64 has groups of four characters"),
        Primitive::Xhtml => (
            is_narrative(text),
            "narrative is one XHTML <div> without script, frames, forms or event attributes",
        ),
        Primitive::String | Primitive::Markdown => (
            is_text(text),
            "text has no control characters and is not white space only, at most 1 MiB",
        ),
        Primitive::Boolean
        | Primitive::Decimal
        | Primitive::Integer
        | Primitive::UnsignedInt
        | Primitive::PositiveInt => (false, "a JSON string was not expected"),
    };
    if good { Ok(()) } else { Err(expected) }
}

fn is_text(text: &str) -> bool {
    let control = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    text.len() <= 1 << 20 && !text.bytes().any(control) && !text.trim().is_empty()
}

fn is_code(text: &str) -> bool {
    let mut before = ' ';
    for letter in text.chars() {
        if letter.is_whitespace() && (letter != ' ' || before == ' ') {
            return false;
        }
        before = letter;
    }
    before != ' '
}

fn is_oid(text: &str) -> bool {
    let Some(arcs) = text.strip_prefix("urn:oid:") else {
        return false;
    };
    let good = |arc: &str| {
        !arc.is_empty()
            && arc.bytes().all(|byte| byte.is_ascii_digit())
            && (arc == "0" || !arc.starts_with('0'))
    };
    let mut arcs = arcs.split('.');
    arcs.next()
        .is_some_and(|first| matches!(first, "0" | "1" | "2"))
        && arcs.clone().count() > 0
        && arcs.all(good)
}

fn is_uuid(text: &str) -> bool {
    text.strip_prefix("urn:uuid:").is_some_and(|uuid| {
        uuid.len() == 36
            && uuid.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    })
}

fn is_base64(text: &str) -> bool {
    let mut count = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'=' => padding += 1,
            b'+' | b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' if padding == 0 => {}
            _ => return false,
        }
        count += 1;
    }
    count > 0 && count.is_multiple_of(4) && padding <= 2
}

/// A first fence against active content in narrative; a browser's policy is the second.
fn is_narrative(text: &str) -> bool {
    let text = text.trim();
    if !text.starts_with("<div") || !text.ends_with("</div>") && !text.ends_with("/>") {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    let active = [
        "<script", "<iframe", "<object", "<embed", "<form", "<base", "<link", "<style",
    ];
    !active.iter().any(|tag| lower.contains(tag))
        && !lower.contains("javascript:")
        && !lower
            .split('<')
            .any(|tag| has_event_attribute(tag.split('>').next().unwrap_or("")))
}

fn has_event_attribute(tag: &str) -> bool {
    let attributes = tag
        .split(|letter: char| letter.is_whitespace() || letter == '/')
        .skip(1);
    attributes
        .into_iter()
        .any(|attribute| attribute.starts_with("on") && attribute.contains('='))
}

fn is_date(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.date().is_some() && cursor.at_end()
}

fn is_date_time(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    match cursor.date() {
        Some(_) if cursor.at_end() => true,
        Some(Precision::Day) => cursor.time_and_zone(),
        _ => false,
    }
}

fn is_instant(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.date() == Some(Precision::Day) && cursor.time_and_zone()
}

#[derive(PartialEq, Eq)]
enum Precision {
    Year,
    Month,
    Day,
}

/// Reads dates and times byte by byte.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.as_bytes(),
        }
    }

    fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Exactly `count` digits as a number.
    fn number(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + u32::from(digit - b'0');
        }
        self.rest = rest;
        Some(number)
    }

    fn date(&mut self) -> Option<Precision> {
        let year = self.number(4).filter(|year| *year > 0)?;
        if !self.eat(b'-') {
            return Some(Precision::Year);
        }
        let month = self.number(2).filter(|month| (1..=12).contains(month))?;
        if !self.eat(b'-') {
            return Some(Precision::Month);
        }
        let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        self.number(2).filter(|day| (1..=days).contains(day))?;
        Some(Precision::Day)
    }

    fn time(&mut self) -> Option<()> {
        self.number(2).filter(|hour| *hour < 24)?;
        self.eat(b':').then_some(())?;
        self.number(2).filter(|minute| *minute < 60)?;
        self.eat(b':').then_some(())?;
        // 60 is a leap second.
        self.number(2).filter(|second| *second <= 60)?;
        if self.eat(b'.') {
            let digits = self
                .rest
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            self.rest = self.rest.get(digits..).filter(|_| digits > 0)?;
        }
        Some(())
    }

    fn zone(&mut self) -> Option<()> {
        if self.eat(b'Z') {
            return Some(());
        }
        (self.eat(b'+') || self.eat(b'-')).then_some(())?;
        let hours = self.number(2)?;
        self.eat(b':').then_some(())?;
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        (hours < 14 || hours == 14 && minutes == 0).then_some(())
    }

    fn time_and_zone(mut self) -> bool {
        self.eat(b'T') && self.time().is_some() && self.zone().is_some() && self.at_end()
    }

    fn time_only(mut self) -> bool {
        self.time().is_some() && self.at_end()
    }
}

#[cfg(test)]
mod tests;
