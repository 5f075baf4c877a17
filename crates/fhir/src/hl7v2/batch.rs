//! Files of messages: one, many after another, or a batch with FHS, BHS, BTS and FTS around them (HL7 v2.9, 2.10.3);
//! plain text, or in MLLP frames.

use super::frame::{Event, Framer};

/// The messages of a file, each as it stands there.
#[must_use]
pub fn messages(file: &[u8]) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(usize::MAX);
    framer.push(file);
    framer.finish();
    let framed: Vec<Vec<u8>> = std::iter::from_fn(|| framer.next_event())
        .filter_map(|event| match event {
            Event::Message(bytes) => Some(bytes),
            Event::Oversized { .. } | Event::Truncated { .. } | Event::Garbage { .. } => None,
        })
        .collect();
    if framed.is_empty() {
        split(file)
    } else {
        framed.iter().flat_map(|bytes| split(bytes)).collect()
    }
}

/// Splits where a line begins with MSH; lines of the envelope and what stands before the first MSH are left out.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found: Vec<Vec<u8>> = Vec::new();
    for line in text.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
        if line.starts_with(b"MSH") {
            found.push(line.to_vec());
        } else if ENVELOPE.iter().any(|name| line.starts_with(*name)) {
            continue;
        } else if let Some(current) = found.last_mut() {
            current.extend_from_slice(line);
        }
    }
    for message in &mut found {
        let end = message
            .iter()
            .rposition(|byte| !byte.is_ascii_whitespace())
            .map_or(0, |at| at.saturating_add(1));
        message.truncate(end);
    }
    found
}

const ENVELOPE: [&[u8; 4]; 4] = [b"FHS|", b"BHS|", b"BTS|", b"FTS|"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_many_or_a_batch() {
        let cases: [(&str, &[&str]); 5] = [
            ("MSH|a\rPID|1\r", &["MSH|a\rPID|1"]),
            ("MSH|a\nPID|1\n\nMSH|b\n", &["MSH|a\nPID|1", "MSH|b"]),
            (
                "FHS|^~\\&\rBHS|^~\\&\rMSH|a\rPID|1\rBTS|1\rFTS|1\r",
                &["MSH|a\rPID|1"],
            ),
            (
                "\u{b}MSH|a\r\u{1c}\r\u{b}MSH|b\u{1c}\r",
                &["MSH|a", "MSH|b"],
            ),
            ("no message", &[]),
        ];
        for (file, expected) in cases {
            let found = messages(file.as_bytes());
            let found: Vec<_> = found.iter().map(|m| String::from_utf8_lossy(m)).collect();
            assert_eq!(found, expected, "{file:?}");
        }
    }
}
