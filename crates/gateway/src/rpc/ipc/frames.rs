//! Where one JSON value ends and the next begins: only brackets and strings are looked at. Whether a value is good JSON
//! is for its reader to say.

/// Splits a stream of bytes into JSON objects and arrays.
#[derive(Debug)]
pub(super) struct Frames {
    message: Vec<u8>,
    depth: u32,
    text: Text,
    max: u32,
}

/// Whether a byte stands in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Something stands between messages, or a bracket too many.
    NotJson,
    /// A message is over the limit of bytes.
    TooLong,
}

impl Frames {
    pub(super) const fn new(max: u32) -> Self {
        Self {
            message: Vec::new(),
            depth: 0,
            text: Text::Outside,
            max,
        }
    }

    /// Takes one byte; yields the message that it ends.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Vec<u8>>, Unreadable> {
        if self.depth == 0 && byte.is_ascii_whitespace() {
            return Ok(None);
        }
        let over = u32::try_from(self.message.len()).is_ok_and(|length| length >= self.max);
        if over {
            return Err(Unreadable::TooLong);
        }
        self.text = match (self.text, byte) {
            (Text::Inside, b'\\') => Text::Escaped,
            (Text::Inside, b'"') => Text::Outside,
            (Text::Inside | Text::Escaped, _) => Text::Inside,
            (Text::Outside, b'"') if self.depth > 0 => Text::Inside,
            (Text::Outside, b'{' | b'[') => {
                self.depth = self.depth.saturating_add(1);
                Text::Outside
            }
            (Text::Outside, _) if self.depth == 0 => return Err(Unreadable::NotJson),
            (Text::Outside, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                Text::Outside
            }
            (Text::Outside, _) => Text::Outside,
        };
        self.message.push(byte);
        Ok((self.depth == 0).then(|| std::mem::take(&mut self.message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, expected: &[&str]) {
        let mut frames = Frames::new(64);
        let mut found = Vec::new();
        for byte in stream.bytes() {
            found.extend(frames.push(byte).unwrap());
        }
        let found: Vec<_> = found
            .iter()
            .map(|m| std::str::from_utf8(m).unwrap())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn messages_end_with_their_last_bracket() {
        check(
            r#"{"a":1}{"b":[2]} [3]"#,
            &[r#"{"a":1}"#, r#"{"b":[2]}"#, "[3]"],
        );
        check("\n{}\r\n\t[]", &["{}", "[]"]);
        check(r#"{"a":"}\"]"}[1"#, &[r#"{"a":"}\"]"}"#]);
        check(r#"{"a":"\\"}{}"#, &[r#"{"a":"\\"}"#, "{}"]);
    }

    #[test]
    fn what_is_no_message_ends_the_stream() {
        for text in ["x", "1", "\"{}\"", "}", "]"] {
            let byte = text.bytes().next().unwrap();
            assert_eq!(
                Frames::new(64).push(byte),
                Err(Unreadable::NotJson),
                "{text}"
            );
        }
        let mut frames = Frames::new(3);
        for byte in b"[1," {
            assert_eq!(frames.push(*byte), Ok(None));
        }
        assert_eq!(frames.push(b'2'), Err(Unreadable::TooLong));
    }
}
