//! Draws of one window: numbers, errors of its chip, its load.
//!
//! Owns the laws and the load shapes. Everything is a function of the seed.

use wattline::analysis::drift::{Drift, SHUNT_DRIFT_PER_K};
use wattline_agent::power::bus::sim::board::SimRail;
use wattline_agent::power::bus::sim::{ChannelErrors, Steps, Waveform};
use wattline_protocol::record::ErrorLimits;
use wattline_protocol::units::Watts;

/// Power of the total rail: an idle board and a busy one, in watts.
const IDLE_W: (f64, f64) = (3.0, 5.0);
const BUSY_W: (f64, f64) = (6.0, 15.0);
/// An inference and the pause after it, in seconds: a small network on a fast
/// board to a large one on a slow board.
const PERIOD_S: (f64, f64) = (0.02, 0.4);
/// Part of the period that the inference takes.
const DUTY: (f64, f64) = (0.3, 0.95);
/// A layer's time, in seconds, and a ramp's step and length.
const LAYER_S: (f64, f64) = (0.002, 0.05);
const RAMP_STEP_S: f64 = 0.001;
const RAMP_S: (f64, f64) = (0.3, 1.5);
/// Loads go on for so long, in seconds: beyond the longest window's end.
const LOAD_S: f64 = 2.0;

/// How errors are drawn within their limits ±a.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// Normal with σ = a/√3: the standard uncertainty of the budget.
    Gauss,
    /// Anywhere within ±a alike: what a limit promises.
    Rect,
}

impl Law {
    pub(super) const ALL: [Self; 2] = [Self::Gauss, Self::Rect];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gauss => "gauss",
            Self::Rect => "rect",
        }
    }
}

/// What a rail's power does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One power.
    Steady,
    /// Inferences with pauses between them, strictly periodic.
    Burst,
    /// Layers: another power every 2 to 50 ms.
    Step,
    /// A sawtooth.
    Ramp,
    /// One of the four, drawn.
    Mixed,
}

impl Shape {
    pub(super) const ALL: [Self; 4] = [Self::Steady, Self::Burst, Self::Step, Self::Ramp];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Burst => "burst",
            Self::Step => "step",
            Self::Ramp => "ramp",
            Self::Mixed => "mixed",
        }
    }

    /// A load of this shape on `rail`.
    pub(super) fn draw(self, draw: &mut Draw, rail: &SimRail) -> Waveform {
        let (idle_w, busy_w) = (draw.between(IDLE_W), draw.between(BUSY_W));
        let current = |watts: f64| rail.current_for(Watts(watts));
        match self {
            Self::Steady => Waveform::Constant { current_a: current(busy_w) },
            Self::Burst => {
                let period_s = draw.between(PERIOD_S);
                Waveform::Bursts {
                    idle_a: current(idle_w),
                    burst_a: current(busy_w),
                    period_s,
                    burst_s: period_s * draw.between(DUTY),
                    first_s: draw.between((0.0, period_s)),
                }
            }
            Self::Step => {
                let mut at_s = 0.0;
                steps(current(idle_w), || {
                    at_s += draw.between(LAYER_S);
                    (at_s, current(draw.between((idle_w, busy_w))))
                })
            }
            Self::Ramp => {
                let length_s = draw.between(RAMP_S);
                let mut at_s = 0.0;
                steps(current(idle_w), || {
                    at_s += RAMP_STEP_S;
                    let part = (at_s / length_s).fract();
                    (at_s, current(idle_w + (busy_w - idle_w) * part))
                })
            }
            Self::Mixed => {
                let place = usize::try_from(draw.below(4)).unwrap_or(0);
                Self::ALL.get(place).copied().unwrap_or(Self::Steady).draw(draw, rail)
            }
        }
    }
}

/// Steps from `first` on, as `next` gives their times and currents.
pub(super) fn steps(first: f64, mut next: impl FnMut() -> (f64, f64)) -> Waveform {
    let mut steps = Steps::starting_with(first);
    loop {
        let (at_s, current_a) = next();
        if at_s > LOAD_S {
            return Waveform::Steps(steps);
        }
        steps.append(at_s, current_a);
    }
}

/// Errors of a channel and its shunt, `off_25_c_k` away from 25 °C: each limit
/// and each drift is drawn for itself.
pub(super) fn errors(
    draw: &mut Draw,
    law: Law,
    limits: &ErrorLimits,
    drift: Drift,
    off_25_c_k: f64,
) -> ChannelErrors {
    let mut error = |limit: f64, drift_per_k: f64| {
        limit * draw.error(law) + drift_per_k * off_25_c_k * draw.error(law)
    };
    ChannelErrors {
        shunt_offset_v: error(limits.shunt_offset_v, drift.shunt_offset_v_per_k),
        shunt_gain: error(limits.shunt_gain, drift.gain_per_k),
        bus_offset_v: error(limits.bus_offset_v, 0.0),
        bus_gain: error(limits.bus_gain, drift.gain_per_k),
        shunt_resistance: error(limits.shunt_tolerance, SHUNT_DRIFT_PER_K),
    }
}

/// The same errors with their signs turned.
pub(super) fn mirrored(errors: ChannelErrors) -> ChannelErrors {
    ChannelErrors {
        shunt_offset_v: -errors.shunt_offset_v,
        shunt_gain: -errors.shunt_gain,
        bus_offset_v: -errors.bus_offset_v,
        bus_gain: -errors.bus_gain,
        shunt_resistance: -errors.shunt_resistance,
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// Draws of window `seed` of the case `name`: no two share any.
    pub(super) fn of(name: &str, seed: u64) -> Self {
        // FNV-1a.
        let salt = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut salted = Self(seed);
        let start = salted.next() ^ salt;
        Self(start)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * as_f64(self.next() >> 11) / as_f64(1 << 53)
    }

    /// An error as a part of its limit.
    fn error(&mut self, law: Law) -> f64 {
        match law {
            Law::Rect => self.between((-1.0, 1.0)),
            // Box and Muller 1958.
            Law::Gauss => {
                let radius = (-2.0 * (1.0 - self.between((0.0, 1.0))).ln()).sqrt();
                let normal = radius * (core::f64::consts::TAU * self.between((0.0, 1.0))).cos();
                normal / 3.0_f64.sqrt()
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and 53-bit draws are exact")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_laws_have_the_spread_that_the_budget_gives_a_limit() {
        for law in Law::ALL {
            let mut draw = Draw::of("a test", 1);
            let draws: Vec<f64> = (0..20_000).map(|_| draw.error(law)).collect();
            let square = draws.iter().map(|error| error * error).sum::<f64>() / 20_000.0;
            assert!((square.sqrt() * 3.0_f64.sqrt() - 1.0).abs() < 0.02, "{law:?} {square}");
            let beyond = draws.iter().filter(|error| error.abs() > 1.0).count();
            assert_eq!(beyond == 0, law == Law::Rect, "{law:?} {beyond}");
        }
    }
}
