//! Time as an argument: milliseconds since the Unix epoch, UTC.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds, rounded down: what contracts see.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// From whole seconds; saturates at the end of the range.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Later by so many milliseconds; saturates at the end of the range.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Months since January 1970, the epoch of record keys.
    #[must_use]
    pub fn month(self) -> u16 {
        let date = self.to_utc();
        let months =
            i32::from(u8::from(date.month())) - 1 + (date.year() - 1970).saturating_mul(12);
        u16::try_from(months).unwrap_or(u16::MAX)
    }

    /// The same moment as a calendar date and time in UTC.
    #[must_use]
    pub fn to_utc(self) -> time::OffsetDateTime {
        i128::from(self.0)
            .checked_mul(1_000_000)
            .and_then(|ns| time::OffsetDateTime::from_unix_timestamp_nanos(ns).ok())
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    }

    /// FHIR `instant`: RFC 3339 with milliseconds and `Z`.
    #[must_use]
    pub fn to_instant(self) -> String {
        let utc = self.to_utc();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            utc.year(),
            u8::from(utc.month()),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.millisecond()
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_instant())
    }
}

/// Where the present comes from. The binary gives the system's clock; tests give their own.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn month_counts_from_1970() {
        assert_eq!(Timestamp(0).month(), 0);
        // 2026-11-22T00:00:00Z
        assert_eq!(Timestamp::from_seconds(1_795_305_600).month(), 56 * 12 + 10);
    }

    #[test]
    fn instant_has_milliseconds() {
        assert_eq!(
            Timestamp(1_795_305_600_007).to_instant(),
            "2026-11-22T00:00:00.007Z"
        );
    }
}
