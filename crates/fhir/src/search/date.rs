//! Dates as the spans of time they stand for.

use time::{Date, Month};

/// Half-open span in milliseconds since 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

/// When a FHIR `date`, `dateTime` or `instant` begins, in milliseconds since 1970-01-01T00:00Z: a year with its first
/// day, a time without a zone in UTC. `None` for text that is none of them.
#[must_use]
pub fn begin_ms(text: &str) -> Option<i64> {
    parse(text).map(|span| span.start_ms)
}

/// Parses a FHIR `date`, `dateTime` or `instant`, or a date in a search, where seconds and zone
/// may be missing. `2020` is the year, `2020-02-29T10:30` the minute, up to three decimals of the
/// second count. A time without a zone is taken as UTC, and so is a date: the specification
/// leaves it to the server, and one rule for both sides makes a search find what it names.
///
/// A blank before the zone's digits is read as `+`, which an unescaped `+` in a URL turns into.
pub(crate) fn parse(text: &str) -> Option<Span> {
    let (date, clock) = match text.split_once('T') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = i32::try_from(digits(parts.next()?, 4)?).ok()?;
    let month = parts
        .next()
        .map(|part| digits(part, 2))
        .map_or(Some(None), |m| m.map(Some))?;
    let day = parts
        .next()
        .map(|part| digits(part, 2))
        .map_or(Some(None), |d| d.map(Some))?;
    if parts.next().is_some() || (clock.is_some() && day.is_none()) {
        return None;
    }
    let Some(month) = month else {
        return Some(Span {
            start_ms: midnight(year, 1, 1)?,
            end_ms: midnight(year + 1, 1, 1)?,
        });
    };
    let Some(day) = day else {
        let (next_year, next) = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
        let start_ms = midnight(year, month, 1)?;
        return Some(Span {
            start_ms,
            end_ms: midnight(next_year, next, 1)?,
        });
    };
    let start = midnight(year, month, day)?;
    match clock {
        None => Some(Span {
            start_ms: start,
            end_ms: start + DAY_MS,
        }),
        Some(clock) => {
            let (within, length) = time_of_day(clock)?;
            Some(Span {
                start_ms: start + within,
                end_ms: start + within + length,
            })
        }
    }
}

/// Milliseconds from midnight UTC (negative or over a day with a zone) and the precision's length.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let zone_at = text.find(['Z', '+', '-', ' ']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(zone_at)?;
    let mut parts = clock.split(':');
    let hour = i64::from(digits(parts.next()?, 2)?);
    let minute = i64::from(digits(parts.next()?, 2)?);
    let (second_ms, length) = match parts.next() {
        None => (0, MINUTE_MS),
        Some(second) => second_ms(second)?,
    };
    if parts.next().is_some() || hour > 24 || minute > 59 {
        return None;
    }
    let within = hour * HOUR_MS + minute * MINUTE_MS + second_ms;
    if within > DAY_MS {
        return None;
    }
    Some((within - zone_ms(zone)?, length))
}

/// `ss` or `ss.fraction`; a leap second counts as the last moment of its minute.
fn second_ms(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let whole = i64::from(digits(whole, 2)?);
    if whole > 60 {
        return None;
    }
    let whole_ms = whole.min(59) * SECOND_MS;
    let Some(fraction) = fraction else {
        return Some((whole_ms, SECOND_MS));
    };
    let known = fraction.get(..fraction.len().min(3))?;
    if known.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = match known.len() {
        1 => 100,
        2 => 10,
        _ => 1,
    };
    Some((whole_ms + known.parse::<i64>().ok()? * unit, unit))
}

/// Offset of a zone from UTC; none is UTC.
fn zone_ms(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1) {
        None => return text.is_empty().then_some(0),
        Some(("Z", rest)) => return rest.is_empty().then_some(0),
        Some(("+" | " ", rest)) => (1, rest),
        Some((_, rest)) => (-1, rest),
    };
    let (hour, minute) = rest.split_once(':')?;
    let (hour, minute) = (i64::from(digits(hour, 2)?), i64::from(digits(minute, 2)?));
    (hour <= 14 && minute <= 59).then_some(sign * (hour * HOUR_MS + minute * MINUTE_MS))
}

fn midnight(year: i32, month: u32, day: u32) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?);
    // The first day after year 9999 is past what `time` holds; nothing in FHIR lies beyond it.
    let Ok(date) = date else {
        return (year == 10_000).then_some(AFTER_LAST_YEAR_MS);
    };
    Some(date.midnight().assume_utc().unix_timestamp() * SECOND_MS)
}

/// Exactly `count` ASCII digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    let proper = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if proper { text.parse().ok() } else { None }
}

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 10000-01-01T00:00Z.
const AFTER_LAST_YEAR_MS: i64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<(i64, i64)>) {
        assert_eq!(
            parse(text).map(|span| (span.start_ms, span.end_ms)),
            expected,
            "{text}"
        );
    }

    #[test]
    fn precision_is_the_length() {
        check("1970", Some((0, 365 * DAY_MS)));
        check("2020-02", Some((1_580_515_200_000, 1_583_020_800_000)));
        check("2020-02-29", Some((1_582_934_400_000, 1_583_020_800_000)));
        check("1970-01-01T00:01", Some((60_000, 120_000)));
        check("1970-01-01T00:00:01Z", Some((1000, 2000)));
        check("1970-01-01T00:00:00.5Z", Some((500, 600)));
        check("1970-01-01T00:00:00.123456789Z", Some((123, 124)));
        check(
            "9999-12",
            Some((AFTER_LAST_YEAR_MS - 31 * DAY_MS, AFTER_LAST_YEAR_MS)),
        );
    }

    #[test]
    fn zones_shift() {
        check("1970-01-01T01:00:00+01:00", Some((0, 1000)));
        check("1970-01-01T01:00:00 01:00", Some((0, 1000)));
        check("1969-12-31T19:00:00-05:00", Some((0, 1000)));
        check("1970-01-01T05:45:00+05:45", Some((0, 1000)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "20",
            "2020-1",
            "2020-13",
            "2020-02-30",
            "2020-02-01T",
            "2020-02T10:00",
            "2020-02-01T25:00",
            "2020-02-01T24:01",
            "2020-02-01T10:00:00.",
            "2020-02-01T10:00+1",
            "2020-02-01T10:00:00Zx",
            "2020-02-01-01",
            "2020-02-01T10:00:00+15:00",
            "١٩٧٠",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_near_dates(text in "[0-9]{4}(-[0-9]{2}){0,3}(T[0-9:.+Z -]{0,20})?") {
            if let Some(span) = parse(&text) {
                prop_assert!(span.start_ms < span.end_ms);
            }
        }

        /// A date written with less precision covers the same date written with more.
        #[test]
        fn spans_nest(y in 1..9999_i32, m in 1..=12, d in 1..=28, h in 0..24, n in 0..60, s in 0..60) {
            let full = format!("{y:04}-{m:02}-{d:02}T{h:02}:{n:02}:{s:02}");
            let spans: Vec<Span> =
                [4, 7, 10, 16, 19].iter().map(|length| parse(&full[..*length]).unwrap()).collect();
            for pair in spans.windows(2) {
                prop_assert!(pair[0].start_ms <= pair[1].start_ms);
                prop_assert!(pair[1].end_ms <= pair[0].end_ms);
            }
        }
    }
}
