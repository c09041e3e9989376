//! The one place on the host where time is read.
//!
//! Owns the host's monotonic and wall clocks and the text of an instant. Waits
//! are tokio's timers. Knows nothing of the board's clock: the map between the
//! two is made of recorded exchanges.
#![expect(clippy::disallowed_methods, reason = "this module is the fence's inside")]

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use wattline_protocol::units::{HostTime, Nanos};

/// Host time now, in ns of CLOCK_MONOTONIC.
#[must_use]
pub fn now() -> HostTime {
    // The clock exists on every kernel that runs this program.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    HostTime(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0))
}

/// Host time now as a span, for the session.
#[must_use]
pub fn since_boot() -> Nanos {
    now() - HostTime(0)
}

/// Nanoseconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|span| u64::try_from(span.as_nanos()).ok())
        .unwrap_or(0)
}

/// `20261123T190946Z`: the instant `unix_ns` in UTC, for names of runs.
#[must_use]
pub fn compact_utc(unix_ns: u64) -> String {
    let (date, time) = (unix_ns / 1_000_000_000 / 86_400, unix_ns / 1_000_000_000 % 86_400);
    let (year, month, day) = civil(date);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Date of a day number since 1970-01-01 in the proleptic Gregorian calendar,
/// by eras of 400 years (146,097 days) that begin on 1 March.
fn civil(day: u64) -> (u64, u64, u64) {
    let from_march = day + 719_468;
    let era = from_march / 146_097;
    let day_of_era = from_march % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_named_by_its_utc_date_and_time() {
        assert_eq!(compact_utc(0), "19700101T000000Z");
        assert_eq!(compact_utc(951_827_696_000_000_000), "20000229T123456Z");
        assert_eq!(compact_utc(1_795_460_986_000_000_000), "20261123T190946Z");
    }
}
