//! Character sets: which one a message is written in (MSH-18, HL7 table 0211), and its text.

use encoding_rs::Encoding;

use super::problem::{ErrorCode, Location, Problem};

/// The text of a message. Its header is ASCII in every character set that MLLP can carry, so MSH-18 is read first.
///
/// A message that names none (or ASCII) is read as UTF-8, which contains ASCII. A byte-order mark is dropped.
///
/// # Errors
/// The character set is not known here, or the bytes are not of it.
pub fn decode(bytes: &[u8]) -> Result<String, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let name = name_of(bytes);
    match name.as_str() {
        "" | "ASCII" | "UNICODE UTF-8" | "UTF-8" | "UNICODE" => utf8(bytes, &name),
        // The standard's Latin-1, not the Web's: every byte is the character of its number.
        "8859/1" => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        other => match label(other) {
            Some(encoding) => {
                let (text, wrong) = encoding.decode_without_bom_handling(bytes);
                if wrong {
                    return Err(bad_bytes(format!("the bytes are not of the character set {other}")));
                }
                Ok(text.into_owned())
            }
            None => Err(Problem::error(
                ErrorCode::TableValueNotFound,
                "the character set is not supported; send UNICODE UTF-8, ASCII or 8859/1 to 8859/15",
            )
            .at(Location::field("MSH", 18))),
        },
    }
}

fn utf8(bytes: &[u8], name: &str) -> Result<String, Problem> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            let named = if name.is_empty() {
                "MSH-18 names no character set and the bytes are not UTF-8"
            } else {
                "the bytes are not of the character set that MSH-18 names"
            };
            Err(bad_bytes(format!("{named} (byte {at})")))
        }
    }
}

fn bad_bytes(text: String) -> Problem {
    Problem::error(ErrorCode::DataType, text).at(Location::field("MSH", 18))
}

/// The first repetition of MSH-18, from the bytes.
fn name_of(bytes: &[u8]) -> String {
    let line = bytes
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let Some(separator) = line.get(3) else {
        return String::new();
    };
    // The separator itself is MSH-1, so the field after n separators is MSH-(n+1).
    let field = line
        .split(|byte| byte == separator)
        .nth(17)
        .unwrap_or_default();
    let repetition = line.get(5).copied().unwrap_or(b'~');
    let first = field
        .split(|byte| *byte == repetition)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(first).trim().to_uppercase()
}

fn label(name: &str) -> Option<&'static Encoding> {
    let label = match name {
        "GB 18030-2000" | "GB18030" => "gb18030".to_owned(),
        "KS X 1001" => "euc-kr".to_owned(),
        "BIG-5" | "BIG5" => "big5".to_owned(),
        other => {
            let part = other
                .strip_prefix("8859/")
                .or_else(|| other.strip_prefix("ISO-8859-"))?;
            let part: u8 = part.parse().ok()?;
            format!("iso-8859-{part}")
        }
    };
    Encoding::for_label(label.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(charset: &str, name: &[u8]) -> Vec<u8> {
        let bars = "|".repeat(15);
        let mut bytes = format!("MSH|^~\\&{bars}{charset}\rPID|||||").into_bytes();
        bytes.extend_from_slice(name);
        bytes
    }

    #[test]
    fn the_named_character_set_is_used() {
        let cases: [(&str, &[u8], Option<&str>); 9] = [
            ("||", b"Jose", Some("Jose")),
            ("|UNICODE UTF-8|", "José".as_bytes(), Some("José")),
            ("||", "José".as_bytes(), Some("José")),
            ("|8859/1|", b"Jos\xe9", Some("José")),
            ("|8859/2|", b"\xa3ukasz", Some("Łukasz")),
            ("|8859/15|", b"\xa4", Some("€")),
            ("|UNICODE UTF-8~8859/1|", b"Jos\xe9", None),
            ("||", b"Jos\xe9", None),
            ("|ISO IR87|", b"x", None),
        ];
        for (charset, bytes, expected) in cases {
            let bytes = message(charset, bytes);
            let found = decode(&bytes);
            assert_eq!(
                found.as_ref().ok().and_then(|text| text.rsplit('|').next()),
                expected,
                "{charset}: {found:?}"
            );
        }
    }
}
