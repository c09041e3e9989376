//! Numbers, dates and words as a person reads them.
//!
//! Owns rounding and wording alone; knows neither HTML nor figures.
//! Rounding: uncertainty to two significant digits, value to the same place
//! (JCGM 100:2008, §7.2.6).

use wattline_protocol::record::{BaselinePlace, GapReason, RunOutcome, Scheduling};
use wattline_protocol::units::Nanos;

use crate::analysis::model::Uncertain;

/// Significant digits of an uncertainty.
const UNCERTAINTY_DIGITS: i32 = 2;
/// Significant digits of a value that has no uncertainty beside it.
const PLAIN_DIGITS: i32 = 4;
/// Decimals beyond which a number is noise, not information.
const DECIMALS_MAX: i32 = 9;

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// A value and its uncertainty, rounded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rounded {
    /// The value, to the last place of the uncertainty.
    pub(super) value: String,
    /// The expanded uncertainty, to two significant digits.
    pub(super) expanded: String,
}

/// The pair as a person reads it: `12.34` and `0.12`. An uncertainty of zero
/// or none leaves the value at four significant digits.
pub(super) fn rounded(number: Uncertain) -> Rounded {
    let Uncertain { value, expanded } = number;
    if !value.is_finite() {
        return Rounded { value: NONE.into(), expanded: NONE.into() };
    }
    if !expanded.is_finite() || expanded <= 0.0 {
        let expanded = if expanded == 0.0 { "0".into() } else { NONE.into() };
        return Rounded { value: plain(value), expanded };
    }
    let decimals = decimals(expanded, UNCERTAINTY_DIGITS);
    Rounded { value: fixed(value, decimals), expanded: fixed(expanded, decimals) }
}

/// `12.34 ± 0.12`, for text and tool tips.
#[must_use]
pub fn with_uncertainty(number: Uncertain) -> String {
    let Rounded { value, expanded } = rounded(number);
    format!("{value} ± {expanded}")
}

/// A value without an uncertainty, to four significant digits.
pub(super) fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return NONE.into();
    }
    fixed(value, decimals(value, PLAIN_DIGITS).max(-2))
}

/// A value to four significant digits without the zeros at its end: for what
/// was set, not measured.
pub(super) fn brief(value: f64) -> String {
    let text = plain(value);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with thin spaces between groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The exponent of ten of a number's first digit; 0 for zero.
pub(super) fn decade(value: f64) -> i32 {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    floor_i32(value.abs().log10())
}

/// The whole number at or below `value`, saturated to the range of `i32`.
#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
pub(super) fn floor_i32(value: f64) -> i32 {
    value.floor() as i32
}

/// Decimals that leave `digits` significant ones; negative: places before the
/// point. Rounding may carry (0.0996 is 0.10 at two digits), hence twice.
fn decimals(value: f64, digits: i32) -> i32 {
    let first = (digits - 1 - decade(value)).min(DECIMALS_MAX);
    let carried = round_to(value, first);
    (digits - 1 - decade(carried)).min(DECIMALS_MAX)
}

fn round_to(value: f64, decimals: i32) -> f64 {
    let step = 10_f64.powi(decimals);
    (value * step).round() / step
}

/// `value` with so many decimals; with negative ones, rounded before the point.
pub(super) fn fixed(value: f64, decimals: i32) -> String {
    let places = usize::try_from(decimals).unwrap_or(0);
    // Adding zero turns −0 into 0.
    let text = format!("{:.places$}", round_to(value, decimals) + 0.0);
    text.replacen('-', "−", 1)
}

/// A span as a person says it: `850 ms`, `12.5 s`, `4 min 05 s`, `7 h 12 min`.
pub(super) fn span(length: Nanos) -> String {
    let seconds = length.as_seconds().0;
    let whole = length.0 / 1_000_000_000;
    if seconds.abs() < 1e-3 {
        format!("{} µs", plain(seconds * 1e6))
    } else if seconds.abs() < 1.0 {
        format!("{} ms", fixed(seconds * 1e3, 0))
    } else if seconds < 120.0 {
        format!("{} s", fixed(seconds, 1))
    } else if seconds < 7200.0 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
    }
}

/// Date and time in UTC: `2026-11-23 19:09:46 UTC`. Gregorian, from the days
/// since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
pub(super) fn utc(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// How a run ended, in words.
pub(super) const fn outcome(outcome: Option<RunOutcome>) -> &'static str {
    match outcome {
        Some(RunOutcome::Complete) => "complete: every trial of the plan was made",
        Some(RunOutcome::Stopped) => "stopped before the plan was done",
        Some(RunOutcome::Failed) => "failed: the agent could not go on",
        None => "unknown: the end of the run is not in the recording",
    }
}

/// Why records or sweeps are absent, in words.
pub(super) const fn gap(reason: Option<GapReason>) -> &'static str {
    match reason {
        Some(GapReason::RingFull) => "the ring between sampler and recorder was full",
        Some(GapReason::PowerCut) => "the epoch ended before they were durable",
        Some(GapReason::DroppedByPolicy) => "the board's disk was full",
        Some(GapReason::DamagedFrame) => "a frame on disk failed its check",
        Some(GapReason::BusFault) => "the bus gave no answer",
        None => "not known: data is missing",
    }
}

/// The sampler's class, in words.
pub(super) fn scheduling(scheduling: Scheduling) -> String {
    match scheduling {
        Scheduling::Fifo { priority } => format!("SCHED_FIFO, priority {priority}"),
        Scheduling::Normal => "normal class (the real-time one was refused)".into(),
    }
}

/// Where an idle window stands, in words.
pub(super) const fn place(place: BaselinePlace) -> &'static str {
    match place {
        BaselinePlace::Before => "before the first trial",
        BaselinePlace::Between => "between trials",
        BaselinePlace::After => "after the last trial",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(value: f64, expanded: f64) -> (String, String) {
        let both = rounded(Uncertain { value, expanded });
        (both.value, both.expanded)
    }

    fn text(value: &str, expanded: &str) -> (String, String) {
        (value.into(), expanded.into())
    }

    #[test]
    fn an_uncertainty_has_two_digits_and_the_value_the_same_place() {
        assert_eq!(pair(12.3456, 0.1234), text("12.35", "0.12"));
        assert_eq!(pair(0.001_234_5, 0.000_017), text("0.001235", "0.000017"));
        assert_eq!(pair(45_678.0, 1_234.0), text("45700", "1200"));
        assert_eq!(pair(3.0, 15.0), text("3", "15"));
    }

    #[test]
    fn a_rounding_that_carries_keeps_two_digits() {
        assert_eq!(pair(5.0, 0.0996), text("5.00", "0.10"));
        assert_eq!(pair(5.0, 0.996), text("5.0", "1.0"));
        assert_eq!(pair(512.0, 99.7), text("510", "100"));
    }

    #[test]
    fn no_uncertainty_leaves_four_digits_and_says_so() {
        assert_eq!(pair(12.3456, 0.0), text("12.35", "0"));
        assert_eq!(pair(12.3456, f64::NAN), text("12.35", NONE));
        assert_eq!(pair(f64::INFINITY, 1.0), text(NONE, NONE));
    }

    #[test]
    fn negative_values_have_a_true_minus_and_zero_has_none() {
        assert_eq!(pair(-1.26, 0.12), text("−1.26", "0.12"));
        assert_eq!(pair(-0.001, 0.12), text("0.00", "0.12"));
    }

    #[test]
    fn plain_numbers_have_four_digits() {
        assert_eq!(plain(0.0), "0");
        assert_eq!(plain(1.0), "1.000");
        assert_eq!(plain(1234.56), "1235");
        assert_eq!(plain(61_100_840.0), "61100800");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234), "1234");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_461_006_000_000_000), "2026-11-23 19:10:06 UTC");
    }

    #[test]
    fn spans_read_as_spoken() {
        assert_eq!(span(Nanos::from_millis(850)), "850 ms");
        assert_eq!(span(Nanos::from_millis(12_500)), "12.5 s");
        assert_eq!(span(Nanos::from_secs(245)), "4 min 05 s");
        assert_eq!(span(Nanos::from_secs(25_930)), "7 h 12 min");
    }
}
