//! Where things are in JSON text: byte spans of members, items and values.
//!
//! Everything here works on text that `serde_json` accepts as well (or is about to judge), so
//! punctuation is skipped rather than checked. Malformed text gives `None` or odd spans inside
//! the text, never a panic and never an endless loop.

use std::borrow::Cow;
use std::ops::Range;

/// One member of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The key with its quotes.
    pub(crate) key: Range<usize>,
    /// The value, without surrounding white space.
    pub(crate) value: Range<usize>,
}

/// What [`Scanner`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Key,
    String,
    Scalar,
}

/// One token and its bytes; strings and keys include their quotes.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
}

/// Walks over all tokens of a JSON text without recursion.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// One entry per open container: `true` for an object that expects a key next.
    stack: Vec<Frame>,
}

#[derive(Clone, Copy)]
enum Frame {
    Array,
    ObjectWantsKey,
    ObjectWantsValue,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
            stack: Vec::with_capacity(16),
        }
    }

    /// Number of containers open after the last token.
    pub(crate) fn depth(&self) -> usize {
        self.stack.len()
    }

    fn value_seen(&mut self) {
        if let Some(frame @ Frame::ObjectWantsValue) = self.stack.last_mut() {
            *frame = Frame::ObjectWantsKey;
        }
    }

    fn close(&mut self, kind: Kind, start: usize) -> Token {
        self.stack.pop();
        self.at = start + 1;
        self.value_seen();
        Token {
            kind,
            span: start..self.at,
        }
    }

    fn open(&mut self, kind: Kind, frame: Frame, start: usize) -> Token {
        self.stack.push(frame);
        self.at = start + 1;
        Token {
            kind,
            span: start..self.at,
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = skip_punctuation(self.bytes, self.at);
        let token = match self.bytes.get(start)? {
            b'{' => self.open(Kind::ObjectStart, Frame::ObjectWantsKey, start),
            b'[' => self.open(Kind::ArrayStart, Frame::Array, start),
            b'}' => self.close(Kind::ObjectEnd, start),
            b']' => self.close(Kind::ArrayEnd, start),
            b'"' => {
                self.at = string_end(self.bytes, start)?;
                let kind = match self.stack.last_mut() {
                    Some(frame @ Frame::ObjectWantsKey) => {
                        *frame = Frame::ObjectWantsValue;
                        Kind::Key
                    }
                    _ => {
                        self.value_seen();
                        Kind::String
                    }
                };
                Token {
                    kind,
                    span: start..self.at,
                }
            }
            _ => {
                self.at = scalar_end(self.bytes, start);
                self.value_seen();
                Token {
                    kind: Kind::Scalar,
                    span: start..self.at,
                }
            }
        };
        Some(token)
    }
}

/// The span of the value that begins at or after `at`.
pub(crate) fn value_at(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let start = skip_punctuation(bytes, at);
    let end = match bytes.get(start)? {
        b'"' => string_end(bytes, start)?,
        b'{' | b'[' => container_end(bytes, start)?,
        b'}' | b']' => return None,
        _ => scalar_end(bytes, start),
    };
    Some(start..end)
}

/// The members of the object at `span`, in order; `None` if there is no object.
pub(crate) fn members(text: &str, span: &Range<usize>) -> Option<Vec<Member>> {
    let bytes = text.as_bytes();
    if bytes.get(span.start) != Some(&b'{') {
        return None;
    }
    let mut found = Vec::new();
    let mut at = span.start + 1;
    loop {
        let start = skip_punctuation(bytes, at);
        match bytes.get(start)? {
            b'}' => return Some(found),
            b'"' => {
                let key = start..string_end(bytes, start)?;
                let value = value_at(text, key.end)?;
                at = value.end;
                found.push(Member { key, value });
            }
            _ => return None,
        }
    }
}

/// The items of the array at `span`, in order; `None` if there is no array.
pub(crate) fn items(text: &str, span: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    if bytes.get(span.start) != Some(&b'[') {
        return None;
    }
    let mut found = Vec::new();
    let mut at = span.start + 1;
    loop {
        let start = skip_punctuation(bytes, at);
        if bytes.get(start)? == &b']' {
            return Some(found);
        }
        let value = value_at(text, start)?;
        at = value.end;
        found.push(value);
    }
}

/// The member called `name`, if any; names are compared after unescaping.
pub(crate) fn member<'m>(text: &str, members: &'m [Member], name: &str) -> Option<&'m Member> {
    members
        .iter()
        .find(|member| key_is(text, &member.key, name))
}

/// Whether the string at `span` (with quotes) reads `name`.
pub(crate) fn key_is(text: &str, span: &Range<usize>, name: &str) -> bool {
    unquote(text, span).is_some_and(|key| key == name)
}

/// The content of the string at `span`, unescaped; `None` if it is no string.
pub(crate) fn unquote<'a>(text: &'a str, span: &Range<usize>) -> Option<Cow<'a, str>> {
    let raw = text.get(span.clone())?;
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Line and column of a byte offset, both from 1; columns count characters.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

/// The first byte at or after `at` that is neither white space, comma nor colon.
pub(crate) fn skip_punctuation(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let skipped = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'))
        .unwrap_or(rest.len());
    at + skipped
}

fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let rest = bytes.get(at..)?;
        let step = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        at += step;
        if bytes.get(at)? == &b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn scalar_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = rest
        .iter()
        .position(|byte| {
            matches!(
                byte,
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"'
            )
        })
        .unwrap_or(rest.len());
    start + length.max(1)
}

fn container_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_and_items_in_any_layout() {
        let text = " { \"a\" : [1, {\"x\":\"]}\\\"\"} ,true ] ,\"b\":-1.50e2}";
        let root = value_at(text, 0).unwrap();
        let members = members(text, &root).unwrap();
        let values: Vec<_> = members.iter().map(|m| &text[m.value.clone()]).collect();
        assert_eq!(values, ["[1, {\"x\":\"]}\\\"\"} ,true ]", "-1.50e2"]);
        let items = items(text, &members[0].value).unwrap();
        let items: Vec<_> = items.into_iter().map(|i| &text[i]).collect();
        assert_eq!(items, ["1", "{\"x\":\"]}\\\"\"}", "true"]);
    }

    #[test]
    fn tells_keys_from_strings() {
        let kinds: Vec<_> = Scanner::new(r#"{"a":"b","c":["d",{"e":1}],"f":"g"}"#)
            .map(|t| t.kind)
            .collect();
        use Kind::{ArrayEnd, ArrayStart, Key, ObjectEnd, ObjectStart, Scalar, String};
        assert_eq!(
            kinds,
            [
                ObjectStart,
                Key,
                String,
                Key,
                ArrayStart,
                String,
                ObjectStart,
                Key,
                Scalar,
                ObjectEnd,
                ArrayEnd,
                Key,
                String,
                ObjectEnd
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics_or_hangs(text in "[\\[\\]{}\",:a1\\\\ ]{0,40}") {
            let count = Scanner::new(&text).count();
            assert!(count <= text.len());
            if let Some(span) = value_at(&text, 0) {
                let _ = members(&text, &span);
                let _ = items(&text, &span);
            }
        }
    }
}
