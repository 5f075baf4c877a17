//! Finding the values of a JSON text without re-writing any of them.
//!
//! The text is checked by `serde_json` first, so this scanner only has to find where things begin
//! and end; it still never reads past the text, whatever it is given.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::Error;

/// Deepest nesting accepted. FHIR resources nest about ten levels; `serde_json` refuses 128.
pub const DEPTH_MAX: usize = 100;

/// JSON pointer and byte range of every scalar and every empty container, in document order.
pub(super) fn leaves(text: &str) -> Result<Vec<(String, Range<usize>)>, Error> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Error::Json {
        at: 0,
        problem: "it is not one JSON value",
    })?;
    let mut scanner = Scanner {
        text,
        at: 0,
        pointer: String::with_capacity(64),
        found: Vec::with_capacity(text.len() / 32),
    };
    scanner.value(0)?;
    Ok(scanner.found)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    pointer: String,
    found: Vec<(String, Range<usize>)>,
}

impl Scanner<'_> {
    fn value(&mut self, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(self.error("it is nested too deeply"));
        }
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.container(b'}', depth),
            Some(b'[') => self.container(b']', depth),
            Some(b'"') => {
                self.string()?;
                self.leaf(start..self.at);
                Ok(())
            }
            Some(_) => {
                while self
                    .peek()
                    .is_some_and(|byte| !b",]} \t\r\n".contains(&byte))
                {
                    self.at += 1;
                }
                self.leaf(start..self.at);
                Ok(())
            }
            None => Err(self.error("it ends too early")),
        }
    }

    fn container(&mut self, close: u8, depth: usize) -> Result<(), Error> {
        let start = self.at;
        let length = self.pointer.len();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(close) {
            self.at += 1;
            self.leaf(start..self.at);
            return Ok(());
        }
        let mut index = 0usize;
        loop {
            self.skip_space();
            self.pointer.push('/');
            if close == b'}' {
                self.name()?;
                self.skip_space();
                self.expect(b':')?;
            } else {
                self.pointer.push_str(&index.to_string());
                index += 1;
            }
            self.value(depth + 1)?;
            self.pointer.truncate(length);
            self.skip_space();
            if self.peek() == Some(close) {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Reads a member name and appends it to the pointer, escaped by RFC 6901 §3.
    fn name(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.string()?;
        let literal = self.text.get(start..self.at).unwrap_or_default();
        let decoded;
        let name = if literal.contains('\\') {
            decoded = serde_json::from_str::<String>(literal)
                .map_err(|_| self.error("a member name is malformed"))?;
            decoded.as_str()
        } else {
            literal.trim_matches('"')
        };
        for character in name.chars() {
            match character {
                '~' => self.pointer.push_str("~0"),
                '/' => self.pointer.push_str("~1"),
                other => self.pointer.push(other),
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Error> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(self.error("a string does not end")),
            }
        }
    }

    fn leaf(&mut self, range: Range<usize>) {
        self.found.push((self.pointer.clone(), range));
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error("it is malformed"))
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    const fn error(&self, problem: &'static str) -> Error {
        Error::Json {
            at: self.at,
            problem,
        }
    }
}
