//! Percent-encoding (RFC 3986) and the escapes of FHIR's search values, for conditions by identifier.

/// A text as one component of an address: unreserved characters stay, everything else is encoded.
pub(super) fn component(text: &str) -> String {
    encode(text, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
    })
}

/// A text that already is an address, with what may not stand in one encoded.
pub(super) fn uri(text: &str) -> String {
    encode(text, |byte| {
        byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
    })
}

/// The criteria that find a resource by one identifier.
pub(super) fn by_identifier(system: &str, value: &str) -> String {
    // FHIR R4 search, "Escaping search parameters": these four mean something in a value.
    let escaped = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            if matches!(letter, '\\' | ',' | '|' | '$') {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        component(&escaped)
    };
    format!("identifier={}%7C{}", escaped(system), escaped(value))
}

fn encode(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_any_value() {
        assert_eq!(
            by_identifier("urn:oid:1.2", "a|b,c d/é"),
            "identifier=urn%3Aoid%3A1.2%7Ca%5C%7Cb%5C%2Cc%20d%2F%C3%A9"
        );
        assert_eq!(uri("http://x/y z?a=b"), "http://x/y%20z?a=b");
    }
}
