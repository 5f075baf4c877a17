//! Decimals and the intervals that their written digits stand for.

use super::ast::NumberRange;

/// Parses a decimal as written in a request (FHIR R4, Search §3.1.1.4.6).
///
/// `100` is `[99.5, 100.5)`, `6.30` is `[6.295, 6.305)`; with an exponent the interval is a digit
/// finer, as the specification's example says: `1e2` is `[95, 105)`. Bounds are computed on the
/// digits and rounded once, so the same text always gives the same bounds.
pub(crate) fn parse(text: &str) -> Option<NumberRange> {
    let value = point(text)?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.parse::<i32>().ok()?)),
        None => (text, None),
    };
    let decimals = mantissa
        .split_once('.')
        .map_or(0, |(_, decimals)| decimals.len());
    let digits: String = mantissa
        .chars()
        .filter(|c| !matches!(c, '.' | '+'))
        .collect();
    let last = exponent
        .unwrap_or(0)
        .checked_sub(i32::try_from(decimals).ok()?)?;
    // 38 digits fill an i128; longer numbers are finer than a double can tell anyway.
    let Ok(digits) = digits.parse::<i128>() else {
        return Some(NumberRange {
            value,
            low: value,
            high: value,
        });
    };
    let (scale, finer) = if exponent.is_some() {
        (100, 2)
    } else {
        (10, 1)
    };
    let bound = |half: i128| -> Option<f64> {
        let scaled = digits.checked_mul(scale)?.checked_add(half)?;
        format!("{scaled}e{}", last.checked_sub(finer)?)
            .parse()
            .ok()
    };
    let (low, high) = (bound(-5).unwrap_or(value), bound(5).unwrap_or(value));
    Some(NumberRange { value, low, high })
}

/// Parses a decimal as one point: the nearest double. Refuses what JSON would not call a number,
/// but allows a leading `+`.
pub(crate) fn point(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let proper = unsigned.starts_with(|c: char| c.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = if proper {
        text.parse().ok()?
    } else {
        return None;
    };
    value.is_finite().then_some(value)
}

/// A JSON number as one point.
pub(crate) fn of_json(value: &serde_json::Value) -> Option<f64> {
    point(value.as_number()?.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<(f64, f64, f64)>) {
        assert_eq!(
            parse(text).map(|n| (n.low, n.value, n.high)),
            expected,
            "{text}"
        );
    }

    #[test]
    fn written_digits_decide() {
        check("100", Some((99.5, 100.0, 100.5)));
        check("100.00", Some((99.995, 100.0, 100.005)));
        check("6.30", Some((6.295, 6.3, 6.305)));
        check("6.3", Some((6.25, 6.3, 6.35)));
        check("1e2", Some((95.0, 100.0, 105.0)));
        check("-0.5", Some((-0.55, -0.5, -0.45)));
        check("0", Some((-0.5, 0.0, 0.5)));
        check("+5", Some((4.5, 5.0, 5.5)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "", "-", "abc", "1e", "1.2.3", "0x10", "inf", "NaN", ".5", "1e999", "1 ",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+0-9eE.]{0,50}") {
            if let Some(number) = parse(&text) {
                prop_assert!(number.low <= number.value && number.value <= number.high);
            }
        }

        /// More digits, narrower interval.
        #[test]
        fn intervals_nest(whole in -100_000..100_000_i32, tenths in 0..10) {
            let coarse = parse(&whole.to_string()).unwrap();
            let fine = parse(&format!("{whole}.{tenths}")).unwrap();
            prop_assert!(fine.high - fine.low < coarse.high - coarse.low);
        }
    }
}
