//! Axes: from values to places, and where ticks stand.
//!
//! Owns scales and tick labels. Draws nothing.
//! Steps of 1, 2 and 5 after Heckbert, "Nice numbers for graph labels",
//! Graphics Gems (1990).

use super::super::text::{decade, fixed, floor_i32};

/// Ticks that a linear axis aims at.
const LINEAR_TICKS: f64 = 5.0;
/// Share of the range kept free at both ends of a logarithmic axis.
const LOG_MARGIN: f64 = 0.06;

/// A scale of one axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Equal steps.
    Linear {
        /// Value at the start.
        low: f64,
        /// Value at the end.
        high: f64,
    },
    /// Equal ratios; both ends are above zero.
    Log {
        /// Value at the start.
        low: f64,
        /// Value at the end.
        high: f64,
    },
}

/// A mark on an axis; without a label it is a minor one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// Where.
    pub(super) value: f64,
    /// What is written beside it.
    pub(super) label: Option<String>,
}

impl Scale {
    /// A linear scale from zero (or the smallest value, where that is below
    /// it) to a round number at or above the largest.
    pub(super) fn from_zero(values: &[f64]) -> Self {
        let low = finite(values).fold(0.0, f64::min);
        let high = finite(values).fold(0.0, f64::max);
        let high = if high > low { high } else { low + 1.0 };
        let step = nice_step(high - low, LINEAR_TICKS);
        let low = if low < 0.0 { (low / step).floor() * step } else { 0.0 };
        // A little air, so that the topmost marker does not sit on the frame.
        Self::Linear { low, high: ((high + 0.15 * step) / step).ceil() * step }
    }

    /// A linear scale for values whose differences matter: from zero where they
    /// come near it, else from below the smallest. At least a fifth of the
    /// largest value is shown, so that a flat line looks flat.
    pub(super) fn linear(values: &[f64]) -> Self {
        let low = finite(values).fold(f64::INFINITY, f64::min);
        let high = finite(values).fold(0.0, f64::max);
        if !low.is_finite() || low < 0.5 * high || high <= 0.0 {
            return Self::from_zero(values);
        }
        let low = low.min(0.8 * high);
        let step = nice_step(high - low, LINEAR_TICKS);
        let down = ((low - 0.15 * step) / step).floor() * step;
        Self::Linear { low: down, high: ((high + 0.15 * step) / step).ceil() * step }
    }

    /// A linear scale over exactly this range; empty ranges are widened.
    pub(super) fn exact(low: f64, high: f64) -> Self {
        Self::Linear { low, high: if high > low { high } else { low + 1.0 } }
    }

    /// A logarithmic scale around the positive values, at least a factor of
    /// four wide, so that a flat line looks flat.
    pub(super) fn log(values: &[f64]) -> Self {
        let positive = || finite(values).filter(|value| *value > 0.0);
        let low = positive().fold(f64::INFINITY, f64::min);
        let high = positive().fold(0.0, f64::max);
        if high == 0.0 {
            return Self::Log { low: 1.0, high: 10.0 };
        }
        let spare = (4.0 / (high / low)).max(1.0).sqrt();
        let margin = (high / low * spare * spare).powf(LOG_MARGIN);
        Self::Log { low: low / spare / margin, high: high * spare * margin }
    }

    /// Share of the axis before `value`, held within 0 to 1; `None` where the
    /// scale cannot show it.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        let share = match *self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } if value > 0.0 => (value / low).ln() / (high / low).ln(),
            Self::Log { .. } => return None,
        };
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }

    /// The ticks, in rising order.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        self.ticks_about(LINEAR_TICKS)
    }

    /// The ticks, about `wanted` of them where steps are equal.
    pub(super) fn ticks_about(&self, wanted: f64) -> Vec<Tick> {
        match *self {
            Self::Linear { low, high } => linear_ticks(low, high, nice_step(high - low, wanted)),
            Self::Log { low, high } => log_ticks(low, high),
        }
    }
}

fn finite(values: &[f64]) -> impl Iterator<Item = f64> {
    values.iter().copied().filter(|value| value.is_finite())
}

fn nice_step(range: f64, ticks: f64) -> f64 {
    let rough = range / ticks;
    let power = 10_f64.powi(decade(rough));
    let unit = [1.0, 2.0, 5.0].into_iter().find(|unit| rough <= unit * power * 1.001);
    unit.unwrap_or(10.0) * power
}

fn linear_ticks(low: f64, high: f64, step: f64) -> Vec<Tick> {
    let first = (low / step).ceil();
    let count = floor_i32((high / step + 1e-9).floor() - first).clamp(0, 20);
    (0..=count)
        .map(|index| {
            let value = (first + f64::from(index)) * step;
            Tick { value, label: Some(label(value, step)) }
        })
        .collect()
}

/// Every decade is labelled; within less than two decades also 2 and 5.
fn log_ticks(low: f64, high: f64) -> Vec<Tick> {
    let decades = (high / low).log10();
    let mut ticks = Vec::new();
    for exponent in decade(low)..=decade(high) {
        let power = 10_f64.powi(exponent);
        for unit in 1..10_u8 {
            let value = f64::from(unit) * power;
            let named = match unit {
                1 => true,
                2 | 5 => decades < 2.2,
                3 => decades < 1.3,
                4 | 6 | 8 => decades < 0.8,
                _ => false,
            };
            if value >= low * 0.999 && value <= high * 1.001 {
                ticks.push(Tick { value, label: named.then(|| label(value, power)) });
            }
        }
    }
    ticks
}

/// A tick's text: as many decimals as its step has.
fn label(value: f64, step: f64) -> String {
    fixed(value, (-decade(step * 1.0001)).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().filter_map(|tick| tick.label).collect()
    }

    #[test]
    fn a_linear_axis_has_round_ticks_from_zero() {
        assert_eq!(labels(Scale::from_zero(&[3.1, 11.8])), ["0", "5", "10", "15"]);
        assert_eq!(labels(Scale::from_zero(&[0.31])), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
    }

    #[test]
    fn a_linear_axis_leaves_zero_out_only_where_it_is_far() {
        assert_eq!(labels(Scale::linear(&[9.0, 13.3])), ["8", "10", "12", "14"]);
        assert_eq!(labels(Scale::linear(&[3.0, 11.8])), ["0", "5", "10", "15"]);
        assert_eq!(labels(Scale::linear(&[10.0, 10.0])), ["8", "9", "10"]);
    }

    #[test]
    fn a_logarithmic_axis_names_its_decades() {
        assert_eq!(labels(Scale::log(&[0.5, 800.0])), ["1", "10", "100", "1000"]);
        assert_eq!(labels(Scale::log(&[9.0, 60.0])), ["10", "20", "30", "50"]);
    }

    #[test]
    fn odd_inputs_still_give_an_axis() {
        for values in [&[][..], &[0.0], &[-1.0], &[f64::NAN], &[7.0, 7.0], &[1e-9], &[1e12]] {
            for scale in [Scale::log(values), Scale::from_zero(values), Scale::linear(values)] {
                assert!(!labels(scale).is_empty(), "{values:?} {scale:?}");
                assert!(scale.ticks().len() < 200);
            }
        }
    }

    #[test]
    fn a_value_that_a_logarithm_lacks_has_no_place() {
        assert_eq!(Scale::log(&[1.0, 10.0]).share(0.0), None);
        assert_eq!(Scale::from_zero(&[10.0]).share(f64::NAN), None);
    }
}
