//! Idle power around a window, and what it is worth.
//!
//! Owns the choice of neighbouring idle windows, the straight line between
//! them and its uncertainty. Theory: `docs/method.md`, "Net of idle".

use wattline_protocol::record::WindowKind;
use wattline_protocol::units::{BoardTime, Watts};

use super::energy::{IdleRate, Integral, integrate};
use super::error::AnalysisError;
use super::model::BaselineResult;
use super::rails::{Measured, ShuntCorrection};
use crate::recording::Recording;

/// One idle window with the means of each measured rail.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Idle {
    epoch: u32,
    pub(super) result: BaselineResult,
    rates: Vec<IdleRate>,
    /// Rounding of codes, standard uncertainty of the mean in watts.
    rounding_w: f64,
}

/// Idle power at the time of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    /// Means of each measured rail.
    pub(super) rates: Vec<IdleRate>,
    /// Standard uncertainty of their sum, in watts.
    pub(super) uncertainty_w: f64,
    /// Idle power after less before, in watts; 0 with one neighbour only.
    pub(super) drift_w: f64,
}

/// All idle windows with samples, in order of (epoch, time).
pub(super) fn idle_windows(
    recording: &Recording,
    corrections: &[ShuntCorrection],
) -> Result<Vec<Idle>, AnalysisError> {
    let mut idles = Vec::new();
    for close in &recording.windows {
        let WindowKind::Idle(place) = close.record.kind else { continue };
        let measured = Measured::of_epoch(recording, close.epoch, corrections)?;
        let (t0, t1) = (close.record.t0, close.record.t1);
        let series = measured.series(t0, t1)?;
        let integrals: Option<Vec<Integral>> = series
            .iter()
            .map(|(sensor, points)| integrate(points, sensor, t0, t1))
            .map(|integral| integral.filter(|integral| integral.points > 0))
            .collect();
        let Some(mut integrals) = integrals else { continue };
        for (integral, doubt_j) in integrals.iter_mut().zip(measured.doubts_j(t0, t1)) {
            integral.aggregated_j = doubt_j.unwrap_or(0.0);
        }
        let square_sum = |value: fn(&Integral) -> f64| {
            integrals.iter().map(|integral| value(integral).powi(2)).sum::<f64>().sqrt()
        };
        let rates: Vec<IdleRate> = integrals.iter().map(Integral::idle_rate).collect();
        idles.push(Idle {
            epoch: close.epoch,
            result: BaselineResult {
                place,
                t0,
                t1,
                power: Watts(rates.iter().map(|rate| rate.watts).sum()),
                scatter_w: square_sum(|integral| {
                    integral.process_w.hypot(integral.aggregated_j / integral.seconds)
                }),
            },
            rates,
            rounding_w: square_sum(|integral| integral.quantisation_j / integral.seconds),
        });
    }
    idles.sort_by_key(|idle| (idle.epoch, idle.result.t0));
    Ok(idles)
}

/// Idle power in the middle of a window: on the straight line between the idle
/// windows before and after it, or that of the one there is. An idle window of
/// another epoch counts only where this epoch has none: its clock is another.
pub(super) fn level_at(idles: &[Idle], epoch: u32, t0: BoardTime, t1: BoardTime) -> Option<Level> {
    let key = (epoch, t0);
    let after = idles.partition_point(|idle| (idle.epoch, idle.result.t0) <= key);
    let before = after.checked_sub(1).and_then(|place| idles.get(place));
    let after = idles.get(after);
    let here = |idle: &&Idle| idle.epoch == epoch;
    match (before.filter(here), after.filter(here)) {
        (Some(before), Some(after)) => Some(between(before, after, middle(t0, t1))),
        (Some(only), None) | (None, Some(only)) => Some(alone(only)),
        (None, None) => before.or(after).map(alone),
    }
}

fn middle(t0: BoardTime, t1: BoardTime) -> BoardTime {
    BoardTime(t0.0.midpoint(t1.0))
}

fn alone(idle: &Idle) -> Level {
    Level {
        rates: idle.rates.clone(),
        uncertainty_w: idle.result.scatter_w.hypot(idle.rounding_w),
        drift_w: 0.0,
    }
}

/// The line between two idle windows. Its uncertainty: the scatter of both
/// ends, their rounding, and half the drift as a rectangular bound, because
/// nothing says that the idle power moved along a straight line.
fn between(before: &Idle, after: &Idle, at: BoardTime) -> Level {
    let from = middle(before.result.t0, before.result.t1);
    let to = middle(after.result.t0, after.result.t1);
    let part = ((at - from).as_seconds().0 / (to - from).as_seconds().0).clamp(0.0, 1.0);
    let mix = |first: f64, second: f64| first * (1.0 - part) + second * part;
    let rates = before.rates.iter().zip(&after.rates).map(|(first, second)| IdleRate {
        watts: mix(first.watts, second.watts),
        volts: mix(first.volts, second.volts),
        amperes: mix(first.amperes, second.amperes),
    });
    let drift_w = after.result.power.0 - before.result.power.0;
    let scatter_w = (before.result.scatter_w * (1.0 - part)).hypot(after.result.scatter_w * part);
    let drift_bound_w = drift_w.abs() / 2.0 / 3.0_f64.sqrt();
    let rounding_w = mix(before.rounding_w, after.rounding_w);
    Level {
        rates: rates.collect(),
        uncertainty_w: scatter_w.hypot(drift_bound_w).hypot(rounding_w),
        drift_w,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::synthetic::Synthetic;

    fn level(idle_w: (f64, f64), cut: bool) -> Level {
        let night = Synthetic { idle_w, cut, ..Synthetic::default() };
        let recording = night.recording();
        let idles = idle_windows(&recording, &[]).unwrap();
        let t0 = BoardTime(night.start + night.window_start(3));
        level_at(&idles, 1, t0, BoardTime(t0.0 + 1_000_000_000)).unwrap()
    }

    #[test]
    fn idle_power_lies_on_the_line_between_its_neighbours() {
        let level = level((3.0, 4.0), false);
        assert!((level.rates[0].watts - 3.5).abs() < 0.05, "{level:?}");
        assert!((level.drift_w - 0.8).abs() < 0.2, "{level:?}");
        assert!(level.uncertainty_w > 0.8 / 2.0 / 2.0);
    }

    #[test]
    fn without_an_idle_window_after_the_one_before_holds() {
        let level = level((3.0, 3.0), true);
        assert!((level.rates[0].watts - 3.0).abs() < 0.05);
        assert_eq!(level.drift_w.to_bits(), 0.0_f64.to_bits());
    }
}
