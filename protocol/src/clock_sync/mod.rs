//! How far the board's clock is from the host's, with a bound.
//!
//! Owns the estimate: bursts of exchanges, the shortest round trip of each, a
//! weighted line through ten minutes of them, steps, and what the truth cannot
//! lie outside of. [`schedule`] says when to ask. Reads no clock and stores
//! nothing: the raw exchanges are kept, and the estimate is made from them.
//! Source: D. L. Mills, "Internet time synchronization" (1991), the clock
//! filter; LSL's `time_correction` asks in bursts and fits off line as well.
//!
//! One exchange is four readings: the host asks at h₁, the board gets it at b₁
//! and answers at b₂, the host gets that at h₂. With the way there and back of
//! unknown shares, board − host lies within half the round trip around
//! `((b₁ − h₁) + (b₂ − h₂)) / 2`, whatever the network does: so the shortest
//! round trip of a burst says most, and the fit weighs each by 1/RTT².
//!
//! A line is evaluated at an instant t; the bound there is, of the bursts before
//! and after it, the larger of: half its round trip, plus what the clocks may have
//! drifted since beyond the line's slope, plus how far the line passes it by.
//! The slope's own error is bounded by the same halves of the round trips.

pub mod schedule;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::units::{BoardTime, HostTime, Nanos};

/// Bursts this far from an instant, on either side, make its line: a window of
/// ten minutes, over which the drift of a crystal by temperature is a line.
const REACH: Nanos = Nanos::from_secs(300);
/// What the rate between two clocks may change against the line, and what a
/// crystal may be off: ±50 ppm is the usual limit of a board's.
const DRIFT: f64 = 50e-6;
/// Exchanges farther apart than this belong to two bursts.
const BURST_PAUSE: Nanos = Nanos::from_millis(500);

/// One exchange of clock readings between host and board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockExchange {
    /// Host's clock when the question left.
    pub host_sent: HostTime,
    /// Board's clock when it arrived.
    pub board_received: BoardTime,
    /// Board's clock when the answer left.
    pub board_sent: BoardTime,
    /// Host's clock when it arrived.
    pub host_received: HostTime,
}

impl ClockExchange {
    /// Round trip without the time at the board; negative where a clock stepped
    /// meanwhile.
    #[must_use]
    pub fn round_trip(&self) -> Nanos {
        (self.host_received - self.host_sent) - (self.board_sent - self.board_received)
    }

    /// Board's clock less the host's, in the middle of the exchange.
    fn offset_ns(&self) -> i64 {
        let there = self.board_received.0.wrapping_sub(self.host_sent.0).cast_signed();
        let back = self.board_sent.0.wrapping_sub(self.host_received.0).cast_signed();
        there.midpoint(back)
    }
}

/// The exchange of a burst that says most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Middle of the exchange.
    pub at: HostTime,
    /// Board's clock less the host's, in ns.
    pub offset_ns: i64,
    /// Its round trip.
    pub round_trip: Nanos,
}

/// Board's clock less the host's at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The offset.
    pub offset: Nanos,
    /// The truth lies within ± this of it.
    pub bound: Nanos,
    /// How much faster the board's clock runs, in 10⁻⁶.
    pub skew_ppm: f64,
}

/// The board's clock as a function of the host's, over one recording.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClockMap {
    /// Stretches without a step, in order of time; none is empty.
    segments: Vec<Vec<Burst>>,
}

impl ClockMap {
    /// The map that a recording's exchanges make, in the order they were made.
    /// Those that cannot be true (an answer before its question) are left out.
    #[must_use]
    pub fn of(exchanges: &[ClockExchange]) -> Self {
        let mut segments: Vec<Vec<Burst>> = Vec::new();
        for burst in bursts(exchanges) {
            match segments.last_mut().filter(|segment| continues(segment, &burst)) {
                Some(segment) => segment.push(burst),
                None => segments.push(vec![burst]),
            }
        }
        Self { segments }
    }

    /// Board's clock less the host's at `at`; `None` without any exchange.
    /// Between two stretches the nearer one holds.
    #[must_use]
    pub fn at(&self, at: HostTime) -> Option<Estimate> {
        let distance = |segment: &&Vec<Burst>| {
            let before = segment.first().map_or(0, |first| (first.at - at).0);
            let after = segment.last().map_or(0, |last| (at - last.at).0);
            before.max(after).max(0)
        };
        self.segments.iter().min_by_key(distance).and_then(|segment| estimate(segment, at))
    }

    /// All bursts, in order of time.
    pub fn bursts(&self) -> impl Iterator<Item = &Burst> {
        self.segments.iter().flatten()
    }

    /// Times that a clock stepped (a suspend, a reboot).
    #[must_use]
    pub fn steps(&self) -> usize {
        self.segments.len().saturating_sub(1)
    }
}

/// The best exchange of each burst.
fn bursts(exchanges: &[ClockExchange]) -> Vec<Burst> {
    let mut bursts: Vec<(HostTime, Burst)> = Vec::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.round_trip() >= Nanos(0)) {
        let half = (exchange.host_received - exchange.host_sent).0 / 2;
        let burst = Burst {
            at: HostTime(exchange.host_sent.0.saturating_add_signed(half)),
            offset_ns: exchange.offset_ns(),
            round_trip: exchange.round_trip(),
        };
        match bursts
            .last_mut()
            .filter(|(last, _)| (Nanos(0)..BURST_PAUSE).contains(&(exchange.host_sent - *last)))
        {
            Some((last, best)) => {
                *last = exchange.host_received;
                if burst.round_trip < best.round_trip {
                    *best = burst;
                }
            }
            None => bursts.push((exchange.host_received, burst)),
        }
    }
    bursts.into_iter().map(|(_, burst)| burst).collect()
}

/// Whether a burst lies where the stretch before it leads: within half its own
/// round trip and the bound of the foretelling, 50 ppm of the time between
/// included. Elsewhere a clock has stepped, and no line may cross that.
fn continues(segment: &[Burst], burst: &Burst) -> bool {
    let Some(foretold) = estimate(segment, burst.at) else { return false };
    let Some(last) = segment.last() else { return false };
    let residual = burst.offset_ns.abs_diff(foretold.offset.0);
    let may = foretold.bound.0.saturating_add(burst.round_trip.0 / 2);
    burst.at >= last.at && residual <= may.unsigned_abs()
}

/// The line through the bursts around `at`, and its bound there.
#[expect(clippy::cast_precision_loss, reason = "within a window: ns that fit 53 bits")]
#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
fn estimate(segment: &[Burst], at: HostTime) -> Option<Estimate> {
    let after = segment.partition_point(|burst| burst.at < at);
    let before = after.checked_sub(1).and_then(|place| segment.get(place));
    let after = segment.get(after);
    let nearest = before.or(after)?;
    let origin = match (before, after) {
        (Some(one), Some(other)) if other.at - at < at - one.at => other,
        _ => nearest,
    };
    // The window follows an instant far outside to the bursts that are there.
    let from = segment.partition_point(|burst| origin.at - burst.at > REACH);
    let to = segment.partition_point(|burst| burst.at - origin.at <= REACH);
    let line = Line::through(segment.get(from..to)?, origin)?;
    let seconds = |burst: &Burst| (at - burst.at).0 as f64 * 1e-9;
    let value_ns = line.at(seconds(origin));
    let bound_of = |burst: &Burst| {
        let drift_ns = (DRIFT + line.slope_bound) * seconds(burst).abs() * 1e9;
        let own_ns =
            (burst.offset_ns - origin.offset_ns) as f64 + line.slope * seconds(burst) * 1e9;
        burst.round_trip.0 as f64 / 2.0 + drift_ns + (value_ns - own_ns).abs()
    };
    // At a burst itself no other one need be asked.
    let bound_ns = if (at - origin.at).0.unsigned_abs() <= BURST_PAUSE.0.unsigned_abs() {
        bound_of(origin)
    } else {
        before.into_iter().chain(after).map(bound_of).fold(0.0, f64::max)
    };
    Some(Estimate {
        offset: Nanos(origin.offset_ns.saturating_add(value_ns.round() as i64)),
        // Readings are whole nanoseconds, and so is the estimate.
        bound: Nanos((bound_ns.ceil() as i64).saturating_add(1)),
        skew_ppm: line.slope * 1e6,
    })
}

/// A weighted least-squares line: ns above the origin's offset, over seconds
/// after the origin.
struct Line {
    mean_s: f64,
    mean_ns: f64,
    /// Dimensionless: ns of offset for each ns of host time.
    slope: f64,
    /// How far the slope may be off, each burst being off by up to half its
    /// round trip in the worst sense.
    slope_bound: f64,
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "within a window: ns that fit 53 bits")]
    fn through(bursts: &[Burst], origin: &Burst) -> Option<Self> {
        let point = |burst: &Burst| {
            let half_ns = (burst.round_trip.0 as f64 / 2.0).max(1.0);
            let seconds = (burst.at - origin.at).0 as f64 * 1e-9;
            let above_ns = burst.offset_ns.wrapping_sub(origin.offset_ns) as f64;
            (half_ns, seconds, above_ns, half_ns.powi(-2))
        };
        let sum = |value: &dyn Fn((f64, f64, f64, f64)) -> f64| {
            bursts.iter().map(|burst| value(point(burst))).sum::<f64>()
        };
        let weight = sum(&|(_, _, _, weight)| weight);
        if weight <= 0.0 {
            return None;
        }
        let mean_s = sum(&|(_, seconds, _, weight)| weight * seconds) / weight;
        let mean_ns = sum(&|(_, _, above_ns, weight)| weight * above_ns) / weight;
        let spread = sum(&|(_, seconds, _, weight)| weight * (seconds - mean_s).powi(2));
        // Bursts within a second of each other say nothing of the rate: then two
        // crystals of ±50 ppm each are 100 ppm apart at most.
        if spread / weight < 1.0 {
            return Some(Self { mean_s, mean_ns, slope: 0.0, slope_bound: DRIFT });
        }
        let slope_ns =
            sum(&|(_, s, above_ns, weight)| weight * (s - mean_s) * (above_ns - mean_ns)) / spread;
        let bound_ns =
            sum(&|(half_ns, s, _, weight)| weight * (s - mean_s).abs() * half_ns) / spread;
        Some(Self { mean_s, mean_ns, slope: slope_ns * 1e-9, slope_bound: bound_ns * 1e-9 })
    }

    /// ns above the origin's offset, `seconds` after the origin.
    fn at(&self, seconds: f64) -> f64 {
        self.mean_ns + self.slope * (seconds - self.mean_s) * 1e9
    }
}
