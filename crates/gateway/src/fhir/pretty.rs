//! `_pretty`: white space between the tokens of JSON text, and nothing else. Numbers, strings and the order of
//! members stay as they were written.

/// Valid JSON text, indented by two spaces.
pub(super) fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    let mut depth = 0_usize;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                out.push('"');
                string(&mut characters, &mut out);
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth = depth.saturating_add(1);
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            character if character.is_ascii_whitespace() => {}
            character => out.push(character),
        }
    }
    out
}

/// The rest of a string up to its closing quote.
fn string(characters: &mut impl Iterator<Item = char>, out: &mut String) {
    let mut escaped = false;
    for character in characters {
        out.push(character);
        match character {
            '"' if !escaped => return,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_stay_as_written() {
        let text = r#"{"a":6.30,"b":[ ],"c":{"d":"x, {\"y\"}: \\"} , "e":[1,2e+1]}"#;
        let expected = "{\n  \"a\": 6.30,\n  \"b\": [],\n  \"c\": {\n    \"d\": \"x, {\\\"y\\\"}: \\\\\"\n  },\n  \"e\": [\n    1,\n    2e+1\n  ]\n}";
        assert_eq!(indent(text), expected);
    }

    proptest! {
        #[test]
        fn the_value_is_the_same(keys in proptest::collection::vec("\\PC{0,8}", 0..6), number in any::<i64>()) {
            let members: serde_json::Map<String, serde_json::Value> =
                keys.iter().map(|key| (key.clone(), serde_json::json!([number, key, {}]))).collect();
            let value = serde_json::Value::Object(members);
            let read: serde_json::Value = serde_json::from_str(&indent(&value.to_string())).expect("JSON");
            prop_assert_eq!(read, value);
        }
    }
}
