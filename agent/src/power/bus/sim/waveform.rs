//! The current through a simulated rail, with its integrals.
//!
//! Owns waveforms of current over time and their two moments: the charge
//! Q(t) = ∫ I dt and the square S(t) = ∫ I² dt, both from the waveform's
//! origin, in closed form. With a rail's voltage V = V₀ − R·I the mean of a
//! conversion window is a difference of Q, and the energy V₀·ΔQ − R·ΔS is
//! exact. Knows neither rails nor registers. Times are seconds since the origin.

use std::collections::VecDeque;

/// Steps older than this are thinned to checkpoints, in seconds; younger ones where
/// there are too many.
const EXACT_S: f64 = 120.0;
/// Steps kept exact at most: a thousand a second for half a minute, or what a load
/// meter makes of a usual load in two.
const STEPS_MAX: usize = 32_768;
/// Distance of checkpoints in the thinned past, in seconds. A window that
/// opened there has its edge placed within it: at most 11 W × 0.05 s = 0.5 J
/// of the 500 J and more that such a window holds.
const CHECKPOINT_S: f64 = 0.1;
/// Checkpoints kept: two hours, twice the longest window.
const CHECKPOINTS_MAX: usize = 72_000;

/// Charge and square of a current since the origin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// ∫ I dt, in A·s.
    pub charge: f64,
    /// ∫ I² dt, in A²·s.
    pub square: f64,
}

/// A current over time, in amperes.
#[derive(Debug, Clone, PartialEq)]
pub enum Waveform {
    /// Always the same.
    Constant {
        /// The current.
        current_a: f64,
    },
    /// Rectangular bursts, the first at `first_s`.
    Bursts {
        /// Current between bursts.
        idle_a: f64,
        /// Current in a burst.
        burst_a: f64,
        /// From one burst's start to the next one's.
        period_s: f64,
        /// Length of a burst.
        burst_s: f64,
        /// Start of the first burst.
        first_s: f64,
    },
    /// A sine around a mean.
    Sine {
        /// The mean.
        mean_a: f64,
        /// Amplitude.
        amplitude_a: f64,
        /// Frequency.
        frequency_hz: f64,
        /// Phase at the origin.
        phase_rad: f64,
    },
    /// Steps appended in time.
    Steps(Steps),
}

impl Waveform {
    /// The moments at `time_s` ≥ 0; of a waveform of steps, before the last
    /// two minutes at most, linear between checkpoints 0.1 s apart.
    #[must_use]
    pub fn moments(&self, time_s: f64) -> Moments {
        match *self {
            Self::Constant { current_a } => {
                Moments { charge: current_a * time_s, square: current_a * current_a * time_s }
            }
            Self::Bursts { idle_a, burst_a, period_s, burst_s, first_s } => {
                let running_s = (time_s - first_s).max(0.0);
                let bursts = (running_s / period_s).floor();
                let on_s = bursts * burst_s + (running_s - bursts * period_s).min(burst_s);
                let off_s = time_s - on_s;
                Moments {
                    charge: idle_a * off_s + burst_a * on_s,
                    square: idle_a * idle_a * off_s + burst_a * burst_a * on_s,
                }
            }
            Self::Sine { mean_a, amplitude_a, frequency_hz, phase_rad } => {
                let angular = core::f64::consts::TAU * frequency_hz;
                let phase = angular * time_s + phase_rad;
                // ∫ sin and ∫ sin² from 0 to t.
                let sine = (phase_rad.cos() - phase.cos()) / angular;
                let sine_squared = time_s / 2.0
                    - ((2.0 * phase).sin() - (2.0 * phase_rad).sin()) / (4.0 * angular);
                Moments {
                    charge: mean_a * time_s + amplitude_a * sine,
                    square: mean_a * mean_a * time_s
                        + 2.0 * mean_a * amplitude_a * sine
                        + amplitude_a * amplitude_a * sine_squared,
                }
            }
            Self::Steps(ref steps) => steps.moments(time_s),
        }
    }

    /// Mean current from `from_s` to the later `to_s`, in amperes.
    #[must_use]
    pub fn mean(&self, from_s: f64, to_s: f64) -> f64 {
        (self.moments(to_s).charge - self.moments(from_s).charge) / (to_s - from_s)
    }
}

/// A current that changes in steps; the past is thinned, never changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    steps: VecDeque<Step>,
    thinned: VecDeque<(f64, Moments)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    start_s: f64,
    current_a: f64,
    before: Moments,
}

impl Step {
    fn moments(&self, time_s: f64) -> Moments {
        let length_s = time_s - self.start_s;
        Moments {
            charge: self.before.charge + self.current_a * length_s,
            square: self.before.square + self.current_a * self.current_a * length_s,
        }
    }
}

impl Steps {
    /// A current of `current_a` from the origin on.
    #[must_use]
    pub fn starting_with(current_a: f64) -> Self {
        let first = Step { start_s: 0.0, current_a, before: Moments::default() };
        // Written once from end to end: the memory of a run is had before it begins.
        let mut steps = VecDeque::from(vec![first; STEPS_MAX]);
        steps.truncate(1);
        let mut thinned = VecDeque::from(vec![(1.0, first.before); CHECKPOINTS_MAX + 1]);
        thinned.clear();
        Self { steps, thinned }
    }

    /// Lets the current be `current_a` from `time_s` on; times before the last
    /// step's start are taken as that.
    pub fn append(&mut self, time_s: f64, current_a: f64) {
        let Some(last) = self.steps.back() else {
            return;
        };
        let start_s = time_s.max(last.start_s);
        let before = last.moments(start_s);
        self.steps.push_back(Step { start_s, current_a, before });
        self.thin(start_s - EXACT_S);
    }

    fn thin(&mut self, until_s: f64) {
        // A step may go once its successor covers the whole exact past, and must where
        // there is no room for another.
        let is_full = |steps: &VecDeque<Step>| steps.len() >= STEPS_MAX;
        while self.steps.get(1).is_some_and(|second| second.start_s <= until_s)
            || is_full(&self.steps)
        {
            let Some(old) = self.steps.pop_front() else {
                return;
            };
            let since = self.thinned.back().map_or(f64::INFINITY, |last| old.start_s - last.0);
            if since >= CHECKPOINT_S {
                self.thinned.push_back((old.start_s, old.before));
            }
            if self.thinned.len() > CHECKPOINTS_MAX {
                self.thinned.pop_front();
            }
        }
    }

    fn moments(&self, time_s: f64) -> Moments {
        let later = self.steps.partition_point(|step| step.start_s <= time_s);
        if let Some(step) = later.checked_sub(1).and_then(|index| self.steps.get(index)) {
            return step.moments(time_s);
        }
        let later = self.thinned.partition_point(|point| point.0 <= time_s);
        let before = later.checked_sub(1).and_then(|index| self.thinned.get(index)).copied();
        let after = self.thinned.get(later).copied();
        let after = after.or_else(|| self.steps.front().map(|step| (step.start_s, step.before)));
        let (Some(before), Some(after)) = (before, after) else {
            return before.or(after).map_or(Moments::default(), |point| point.1);
        };
        let part = (time_s - before.0) / (after.0 - before.0).max(f64::MIN_POSITIVE);
        let between = |a: f64, b: f64| a + (b - a) * part;
        Moments {
            charge: between(before.1.charge, after.1.charge),
            square: between(before.1.square, after.1.square),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(waveform: &Waveform, instant: impl Fn(f64) -> f64, to_s: f64) {
        let cells = 200_000;
        let width = to_s / f64::from(cells);
        let (mut charge, mut square) = (0.0, 0.0);
        for cell in 0..cells {
            let current = instant((f64::from(cell) + 0.5) * width);
            charge += current * width;
            square += current * current * width;
        }
        let exact = waveform.moments(to_s);
        assert!((exact.charge / charge - 1.0).abs() < 1e-4, "{exact:?} against {charge}");
        assert!((exact.square / square - 1.0).abs() < 1e-4, "{exact:?} against {square}");
    }

    #[test]
    fn the_moments_of_a_sine_are_those_of_its_riemann_sum() {
        let sine =
            Waveform::Sine { mean_a: 2.0, amplitude_a: 1.5, frequency_hz: 3.7, phase_rad: 0.4 };
        let angular = core::f64::consts::TAU * 3.7;
        sum_of(&sine, |t| 2.0 + 1.5 * (angular * t + 0.4).sin(), 1.3);
    }

    #[test]
    fn the_moments_of_bursts_are_those_of_their_riemann_sum() {
        let bursts = Waveform::Bursts {
            idle_a: 0.6,
            burst_a: 2.4,
            period_s: 0.05,
            burst_s: 0.02,
            first_s: 0.011,
        };
        let instant = |t: f64| {
            let on = t >= 0.011 && (t - 0.011).rem_euclid(0.05) < 0.02;
            if on { 2.4 } else { 0.6 }
        };
        sum_of(&bursts, instant, 1.0);
    }

    #[test]
    fn thinning_keeps_the_recent_exact_and_the_old_close() {
        let mut steps = Steps::starting_with(1.0);
        for index in 1..400_000 {
            steps.append(f64::from(index) * 1e-3, 1.0 + f64::from(index % 2));
        }
        assert_eq!(steps.steps.len(), STEPS_MAX - 1);
        assert_eq!(steps.steps.capacity(), STEPS_MAX, "memory grew");
        // 1.5 A on average; exact at even milliseconds.
        let recent = steps.moments(399.0).charge - steps.moments(398.0).charge;
        let old = steps.moments(399.0).charge - steps.moments(33.0).charge;
        assert!((recent - 1.5).abs() < 1e-9, "{recent}");
        assert!((old / (366.0 * 1.5) - 1.0).abs() < 1e-5, "{old}");
    }
}
