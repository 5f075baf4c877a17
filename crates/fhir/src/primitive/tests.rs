use serde_json::json;

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn follows_the_specification() {
    use Primitive::*;
    let all: [(Primitive, &[Value], &[Value]); 18] = [
        (Boolean, &[json!(true)], &[json!("true"), json!(1)]),
        (
            Integer,
            &[json!(0), json!(-7), json!(2147483647)],
            &[json!(2147483648_i64), json!(1.5), json!("1")],
        ),
        (PositiveInt, &[json!(1)], &[json!(0), json!(-1)]),
        (UnsignedInt, &[json!(0)], &[json!(-1)]),
        (Decimal, &[json!(1.5), json!(3)], &[json!("1.5")]),
        (
            String,
            &[json!(" a\n")],
            &[json!(""), json!("  "), json!("a\u{1}"), json!(5)],
        ),
        (
            Code,
            &[json!("a b")],
            &[json!(" a"), json!("a "), json!("a  b"), json!("a\tb")],
        ),
        (
            Uri,
            &[json!("urn:x"), json!("http://é")],
            &[json!("a b"), json!("")],
        ),
        (
            Id,
            &[json!("A-1.z")],
            &[json!("a_b"), json!("x".repeat(65))],
        ),
        (
            Oid,
            &[json!("urn:oid:1.2.0.3")],
            &[
                json!("urn:oid:3.1"),
                json!("urn:oid:1.02"),
                json!("1.2"),
                json!("urn:oid:1"),
            ],
        ),
        (
            Uuid,
            &[json!("urn:uuid:c757873d-ec9a-4326-a141-556f43239520")],
            &[json!("c757873d-ec9a-4326-a141-556f43239520")],
        ),
        (
            Date,
            &[json!("2024-02-29"), json!("1900"), json!("1999-12")],
            &[
                json!("2023-02-29"),
                json!("1900-13"),
                json!("0000"),
                json!("2024-1-1"),
                json!("2024-01-01T00:00:00Z"),
            ],
        ),
        (
            DateTime,
            &[
                json!("2024"),
                json!("2024-02-29T23:59:60.123+14:00"),
                json!("2024-01-01T00:00:00Z"),
            ],
            &[
                json!("2024-01-01T00:00Z"),
                json!("2024-01-01T00:00:00"),
                json!("2024-01T00:00:00Z"),
                json!("2024-01-01T24:00:00Z"),
                json!("2024-01-01T00:00:00.Z"),
                json!("2024-01-01T00:00:00+15:00"),
            ],
        ),
        (
            Instant,
            &[json!("2024-01-01T00:00:00.1-05:00")],
            &[json!("2024-01-01"), json!("2024")],
        ),
        (
            Time,
            &[json!("23:59:00")],
            &[json!("24:00:00"), json!("10:00"), json!("10:00:00Z")],
        ),
        (
            Base64Binary,
            &[json!("QUJD"), json!("QU\nI=")],
            &[json!("QUJ"), json!("QU=D"), json!("a-b_")],
        ),
        (
            Xhtml,
            &[json!(
                "<div xmlns=\"http://www.w3.org/1999/xhtml\">on = x</div>"
            )],
            &[
                json!("hello"),
                json!("<div><script>x</script></div>"),
                json!("<div><p onclick=\"x\">a</p></div>"),
                json!("<div><a href=\"JavaScript:x\">a</a></div>"),
            ],
        ),
        (Markdown, &[json!("# a")], &[json!("")]),
    ];
    for (primitive, good, bad) in all {
        for value in good {
            assert_eq!(check(primitive, value), Ok(()), "{primitive:?} {value}");
        }
        for value in bad {
            assert!(check(primitive, value).is_err(), "{primitive:?} {value}");
        }
    }
}

#[test]
fn whole_numbers_may_not_be_written_as_fractions() {
    for literal in ["1.0", "1e3"] {
        let value: Value = serde_json::from_str(literal).unwrap();
        assert!(check(Primitive::Integer, &value).is_err(), "{literal}");
    }
}
