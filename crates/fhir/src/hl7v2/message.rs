//! A message taken apart: segments, fields, repetitions, components, subcomponents, with escapes resolved.
//!
//! The structure inside a segment is `hl7-parser`'s. What it leaves open is decided here: where segments end, MSH-2
//! with five characters (2.7 and later), blank lines, and escape sequences in texts beyond ASCII.

use hl7_parser::message::{Component, Separators};

use super::problem::{ErrorCode, Location, Problem};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its delimiters, from MSH-1 and MSH-2.
    pub delimiters: Delimiters,
    /// Its segments in order; the first is MSH.
    pub segments: Vec<Segment>,
}

/// The characters that structure a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiters {
    /// Between fields, usually `|`.
    pub field: char,
    /// Between components, usually `^`.
    pub component: char,
    /// Between repetitions, usually `~`.
    pub repetition: char,
    /// Around escape sequences, usually `\`.
    pub escape: char,
    /// Between subcomponents, usually `&`.
    pub subcomponent: char,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Three letters or digits, such as `PID`.
    pub name: String,
    /// Which of the segments of its name it is, from 1.
    pub sequence: usize,
    fields: Vec<Field>,
}

/// The repetitions of a field; empty ones are left out.
pub type Field = Vec<Value>;

/// One repetition of a field, or a component looked at by itself: components, each with its subcomponents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    components: Vec<Vec<String>>,
}

impl Default for Delimiters {
    fn default() -> Self {
        Self {
            field: '|',
            component: '^',
            repetition: '~',
            escape: '\\',
            subcomponent: '&',
        }
    }
}

impl Message {
    /// Takes the text of a message apart.
    ///
    /// Segments end with a carriage return. A line feed ends one too where another segment follows or nothing does, so
    /// that files written by text editors are read; elsewhere it is part of a text. Blank lines are skipped.
    ///
    /// # Errors
    /// It does not begin with MSH, its delimiters are not usable, or a line is no segment; the place is named.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim_start_matches(['\u{feff}', '\r', '\n']);
        if !text.starts_with("MSH") {
            let what = "a message begins with the segment MSH";
            return Err(Problem::error(ErrorCode::SegmentSequence, what));
        }
        let (delimiters, head_length) = Delimiters::read(text)?;
        let mut segments: Vec<Segment> = Vec::new();
        for (line_number, line) in lines(text, delimiters.field).enumerate() {
            let sequence = |name: &str| {
                let before = segments.iter().filter(|s| s.name == name).count();
                before.saturating_add(1)
            };
            let mut segment = Segment::read(line, line_number, delimiters, head_length)?;
            segment.sequence = sequence(&segment.name);
            segments.push(segment);
        }
        Ok(Self {
            delimiters,
            segments,
        })
    }

    /// The first segment of a name.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.name == name)
    }

    /// All segments of a name.
    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Segment> {
        self.segments
            .iter()
            .filter(move |segment| segment.name == name)
    }
}

impl Delimiters {
    /// Reads MSH-1 and MSH-2; gives also the length in bytes of `MSH` with both.
    fn read(text: &str) -> Result<(Self, usize), Problem> {
        let refuse = |what: &str| {
            Problem::error(ErrorCode::SegmentSequence, what).at(Location::field("MSH", 2))
        };
        let mut letters = text.chars().skip(3);
        let field = letters
            .next()
            .filter(|c| is_delimiter(*c))
            .ok_or_else(|| refuse("MSH-1, the field separator, is missing"))?;
        let encoding: Vec<char> = letters
            .take_while(|c| *c != field && !matches!(c, '\r' | '\n'))
            .collect();
        let [component, repetition, escape, subcomponent, rest @ ..] = encoding.as_slice() else {
            return Err(refuse("MSH-2 has fewer than four encoding characters"));
        };
        let mut all = vec![field];
        all.extend(&encoding);
        let distinct = all
            .iter()
            .enumerate()
            .all(|(n, c)| is_delimiter(*c) && !all.iter().take(n).any(|other| other == c));
        if rest.len() > 1 || !distinct {
            return Err(refuse(
                "MSH-2 has to hold four or five different punctuation characters",
            ));
        }
        let delimiters = Self {
            field,
            component: *component,
            repetition: *repetition,
            escape: *escape,
            subcomponent: *subcomponent,
        };
        Ok((delimiters, encoding.len().saturating_add(4)))
    }

    fn separators(self) -> Separators {
        Separators {
            field: self.field,
            component: self.component,
            repetition: self.repetition,
            escape: self.escape,
            subcomponent: self.subcomponent,
            lenient_newlines: false,
        }
    }

    /// A text with everything escaped that would structure a message.
    #[must_use]
    pub fn escape(self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            let code = match letter {
                c if c == self.field => "F",
                c if c == self.component => "S",
                c if c == self.repetition => "R",
                c if c == self.escape => "E",
                c if c == self.subcomponent => "T",
                '\r' | '\n' => ".br",
                c => {
                    escaped.push(c);
                    continue;
                }
            };
            escaped.push(self.escape);
            escaped.push_str(code);
            escaped.push(self.escape);
        }
        escaped
    }

    /// A text with its escape sequences resolved (HL7 v2.9, 2.7). Highlighting is dropped, line breaks become line
    /// feeds; local and character-set escapes, and what is none, stay as written. Control characters become spaces.
    #[must_use]
    pub fn unescape(self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(self.escape) {
            plain.push_str(before);
            let known = after
                .split_once(self.escape)
                .and_then(|(code, behind)| Some((self.meaning(code)?, behind)));
            match known {
                Some((meaning, behind)) => {
                    plain.push_str(&meaning);
                    rest = behind;
                }
                None => {
                    plain.push(self.escape);
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        plain
            .chars()
            .map(|c| match c {
                '\r' => '\n',
                c if c.is_control() && !matches!(c, '\n' | '\t') => ' ',
                c => c,
            })
            .collect()
    }

    /// What an escape sequence stands for; `None` if it is not understood.
    fn meaning(self, code: &str) -> Option<String> {
        let repeated = |text: &str, count: &str| {
            let count: usize = count.trim_start_matches('+').parse().unwrap_or(1);
            text.repeat(count.min(80))
        };
        Some(match code {
            "F" => self.field.to_string(),
            "S" => self.component.to_string(),
            "R" => self.repetition.to_string(),
            "E" => self.escape.to_string(),
            "T" => self.subcomponent.to_string(),
            "P" => "#".into(),
            "H" | "N" | ".fi" | ".nf" => String::new(),
            ".br" | ".ce" => "\n".into(),
            other => {
                if let Some(hexadecimal) = other.strip_prefix('X') {
                    return bytes(hexadecimal);
                }
                match other.get(..3)? {
                    ".sp" => repeated("\n", other.get(3..)?),
                    ".sk" => repeated(" ", other.get(3..)?),
                    ".in" | ".ti" => String::new(),
                    _ => return None,
                }
            }
        })
    }
}

/// `\Xdd…\`: characters by their bytes, UTF-8 where they are that, else Latin-1.
fn bytes(hexadecimal: &str) -> Option<String> {
    let digits: Vec<u8> = hexadecimal
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.as_bytes().iter().map(|b| char::from(*b)).collect(),
    })
}

/// Anything printable but letters, digits and the quotation mark, which `""` needs.
fn is_delimiter(letter: char) -> bool {
    letter.is_ascii_graphic() && !letter.is_ascii_alphanumeric() && letter != '"'
}

/// The segments of a message as text, with blank lines left out.
fn lines(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split('\r')
        .flat_map(move |part| split_line_feeds(part, separator))
        .filter(|line| !line.trim().is_empty())
}

/// Splits at line feeds that end a segment.
fn split_line_feeds(part: &str, separator: char) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, _) in part.match_indices('\n') {
        let next = at.saturating_add(1);
        let behind = part.get(next..).unwrap_or_default();
        if begins_segment(behind, separator) || behind.trim().is_empty() || start == at {
            found.extend(part.get(start..at));
            start = next;
        }
    }
    found.extend(part.get(start..));
    found
}

/// Whether a text begins like a segment: a name, then the field separator or the end.
fn begins_segment(text: &str, separator: char) -> bool {
    let mut letters = text.chars();
    let named = letters.next().is_some_and(|c| c.is_ascii_uppercase())
        && (0..2).all(|_| {
            letters
                .next()
                .is_some_and(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        });
    named
        && letters
            .next()
            .is_none_or(|c| c == separator || matches!(c, '\r' | '\n'))
}

impl Segment {
    fn read(
        line: &str,
        line_number: usize,
        delimiters: Delimiters,
        head_length: usize,
    ) -> Result<Self, Problem> {
        let refuse = || {
            let number = line_number.saturating_add(1);
            Problem::error(
                ErrorCode::SegmentSequence,
                format!(
                    "line {number} is no segment: three capital letters or digits, then the field separator"
                ),
            )
        };
        if !begins_segment(line, delimiters.field) {
            return Err(refuse());
        }
        let name = line.get(..3).ok_or_else(refuse)?;
        let is_header = line_number == 0 && name == "MSH";
        let (body, mut fields) = if is_header {
            // MSH-1 and MSH-2 hold the delimiters themselves and are not taken apart.
            let encoding = line.get(4..head_length).unwrap_or_default();
            let body = line.get(head_length..).unwrap_or_default();
            let given = vec![
                vec![Value::single(delimiters.field.to_string())],
                vec![Value::single(encoding.to_owned())],
            ];
            (body, given)
        } else {
            (line.get(3..).unwrap_or_default(), Vec::new())
        };
        if !body.is_empty() {
            let written = format!("{name}{body}");
            let parsed = hl7_parser::parser::parse_segment_with_separators(
                &written,
                delimiters.separators(),
            )
            .map_err(|_| refuse())?;
            if parsed.raw_value().len() != written.len() {
                return Err(refuse());
            }
            fields.extend(parsed.fields().map(|field| {
                field
                    .repeats()
                    .map(|repeat| Value::of(repeat.components(), delimiters))
                    .filter(|value| !value.is_empty())
                    .collect::<Field>()
            }));
        }
        Ok(Self {
            name: name.to_owned(),
            sequence: 1,
            fields,
        })
    }

    /// The repetitions of a field, by its number from 1; none if it is empty.
    #[must_use]
    pub fn field(&self, number: usize) -> &[Value] {
        number
            .checked_sub(1)
            .and_then(|index| self.fields.get(index))
            .map_or(&[], Vec::as_slice)
    }

    /// The first repetition of a field.
    #[must_use]
    pub fn first(&self, number: usize) -> Option<&Value> {
        self.field(number).first()
    }

    /// The first component of the first repetition of a field.
    #[must_use]
    pub fn text(&self, number: usize) -> Option<&str> {
        self.first(number)?.text(1)
    }

    /// Where a field of this segment stands.
    #[must_use]
    pub fn at(&self, field: usize) -> Location {
        Location {
            segment: self.name.clone(),
            sequence: self.sequence,
            field: Some(field),
        }
    }

    /// Where this segment stands.
    #[must_use]
    pub fn here(&self) -> Location {
        Location {
            field: None,
            ..self.at(1)
        }
    }
}

impl Value {
    fn of<'m>(components: impl Iterator<Item = &'m Component<'m>>, delimiters: Delimiters) -> Self {
        Self {
            components: components
                .map(|component| {
                    component
                        .subcomponents()
                        .map(|part| delimiters.unescape(part.raw_value()))
                        .collect()
                })
                .collect(),
        }
    }

    pub(crate) fn single(text: String) -> Self {
        Self {
            components: vec![vec![text]],
        }
    }

    /// The first subcomponent of a component, by its number from 1, without spaces around it. `None` if it is empty or
    /// the null `""`.
    #[must_use]
    pub fn text(&self, component: usize) -> Option<&str> {
        self.part(component, 1)
    }

    /// A subcomponent, by numbers from 1.
    #[must_use]
    pub fn part(&self, component: usize, subcomponent: usize) -> Option<&str> {
        let text = self
            .components
            .get(component.checked_sub(1)?)?
            .get(subcomponent.checked_sub(1)?)?
            .trim();
        (!text.is_empty() && text != NULL).then_some(text)
    }

    /// A component as a value of its own, whose components are the subcomponents.
    #[must_use]
    pub fn component(&self, number: usize) -> Self {
        let parts = number
            .checked_sub(1)
            .and_then(|index| self.components.get(index));
        Self {
            components: parts
                .into_iter()
                .flatten()
                .map(|part| vec![part.clone()])
                .collect(),
        }
    }

    /// Whether nothing stands in it but delimiters and spaces.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts().all(|part| part.trim().is_empty())
    }

    /// Whether it is the null `""`, which says that a value is to be deleted.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.components
            .first()
            .and_then(|c| c.first())
            .map(String::as_str)
            == Some(NULL)
    }

    /// How many components it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// All texts in it, in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.components.iter().flatten().map(String::as_str)
    }

    /// Its components that hold something, with a space between them: for people to read.
    #[must_use]
    pub fn words(&self) -> String {
        let words: Vec<&str> = self
            .parts()
            .map(str::trim)
            .filter(|part| !part.is_empty() && *part != NULL)
            .collect();
        words.join(" ")
    }
}

const NULL: &str = "\"\"";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn a_message_is_taken_apart() {
        let text = "MSH|^~\\&|APP|FAC\rPID|1||A^^^N&1.2&ISO~B||Doe^J\\T\\J\r\rZZZ|x\nmore\nOBX|1|FT|||a\\.br\\b\\X41\\\\Zlocal\\";
        let read = message(text);
        let names: Vec<&str> = read.segments.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["MSH", "PID", "ZZZ", "OBX"]);
        let pid = read.segment("PID").unwrap();
        assert_eq!(pid.field(3).len(), 2);
        assert_eq!(pid.field(3)[0].part(4, 2), Some("1.2"));
        assert_eq!(pid.field(3)[0].component(4).text(3), Some("ISO"));
        assert_eq!(pid.field(5)[0].text(2), Some("J&J"));
        assert_eq!(read.segment("ZZZ").unwrap().text(1), Some("x\nmore"));
        assert_eq!(
            read.segment("OBX").unwrap().text(5),
            Some("a\nbA\\Zlocal\\")
        );
        assert_eq!(read.segment("MSH").unwrap().text(4), Some("FAC"));
    }

    /// Version 2.7 added a fifth character, which must not move the fields behind it.
    #[test]
    fn msh_2_may_have_five_characters() {
        let read = message("MSH|^~\\&#|APP|FAC\nPID|1");
        let msh = read.segment("MSH").unwrap();
        assert_eq!((msh.text(2), msh.text(3)), (Some("^~\\&#"), Some("APP")));
        let other = message("MSH$%~\\&$APP$A%B");
        assert_eq!(other.segments[0].first(4).unwrap().text(2), Some("B"));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_place() {
        for (text, says) in [
            ("", "begins with the segment MSH"),
            ("PID|1", "begins with the segment MSH"),
            ("MSH", "MSH-1"),
            ("MSH|^~", "fewer than four"),
            ("MSH|^~\\&#!|", "four or five"),
            ("MSH|^^\\&|", "different"),
            ("MSH|^~\\&|A\rpid|1", "line 2"),
            ("MSH|^~\\&|A\rPID1|1", "line 2"),
        ] {
            let problem = Message::parse(text).unwrap_err().to_string();
            assert!(problem.contains(says), "{text:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "(MSH\\|\\^~\\\\&)?[ -~éß\r\n]{0,120}") {
            if let Ok(read) = Message::parse(&text) {
                prop_assert!(!read.segments.is_empty());
            }
        }

        #[test]
        fn escapes_come_back(text in "[ -~éß]{0,40}") {
            let delimiters = Delimiters::default();
            prop_assert_eq!(delimiters.unescape(&delimiters.escape(&text)), text);
        }
    }
}
