//! What scatter and unwatched time leave open in a trapezoid's energy.
//!
//! Owns the Type A part of a window: noise of the samples, and steps of the
//! load between them. Knows no codes, no sensor and no gaps.
//! Theory: JCGM 100 §4.2; `docs/method.md`, "Uncertainty".
//!
//! The mean of a correlated series is worth s²(1+ρ)/(N(1−ρ)). Here the
//! trapezoid has followed what neighbours share (ρ is the load's own), and two
//! independent parts are left:
//!
//! - **Noise** of variance σ² a sample adds σ² Σ w². σ is taken from the
//!   distance of a sample to the line through its neighbours, whose variance
//!   for white noise is 1.5 σ². Steps of the load are far out in that distance
//!   and are left out of it.
//! - **A step** of the load by d between two samples τ apart may lie anywhere
//!   between them. The trapezoid puts it into the middle: error d·(u − ½)·τ, u
//!   uniform, variance d²τ²/12. Of noise alone the differences have E d² = 2σ²,
//!   so Σ (d² − 2σ²) τ²/12 is what the steps add, with nothing counted twice.

use super::statistics::count;

/// Variance of the distance between a white series and the middle of its two
/// neighbours, in units of the series' own: 1 + 1/4 + 1/4.
const SECOND_DIFFERENCE_VARIANCE: f64 = 1.5;
/// Standard deviation over the median of |x| of a normal law: 1/Φ⁻¹(3/4).
const DEVIATION_PER_MEDIAN: f64 = 1.482_6;
/// A distance beyond so many standard deviations is a step, no noise.
const NOISE_DEVIATIONS: f64 = 5.0;

/// Scatter of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scatter {
    /// Standard deviation of a sample's noise, in watts.
    pub(super) noise_w: f64,
    /// Where between samples the load stepped: standard uncertainty in joules.
    pub(super) steps_j: f64,
}

impl Scatter {
    /// Scatter of `powers` in watts at `times` in seconds, of those from 0 to
    /// `seconds`. Neighbours farther apart than `longest_s` are a gap.
    pub(super) fn of(powers: &[f64], times: &[f64], seconds: f64, longest_s: f64) -> Self {
        let mut distances = Vec::with_capacity(powers.len());
        for (power, time) in powers.windows(3).zip(times.windows(3)) {
            let (before, after) = (time[1] - time[0], time[2] - time[1]);
            let inside = (0.0..=seconds).contains(&time[1]);
            if inside && before > 0.0 && before <= longest_s && after <= longest_s {
                let part = before / (before + after);
                distances.push((power[1] - power[0] * (1.0 - part) - power[2] * part).abs());
            }
        }
        let noise_variance = noise_variance(&mut distances);
        let steps = powers.windows(2).zip(times.windows(2)).map(|(power, time)| {
            let length_s = time[1] - time[0];
            let inside = time[1] > 0.0 && time[0] < seconds && length_s <= longest_s;
            let square = (power[1] - power[0]).powi(2) - 2.0 * noise_variance;
            if inside { square * length_s.powi(2) / 12.0 } else { 0.0 }
        });
        let steps: f64 = steps.sum();
        Self { noise_w: noise_variance.sqrt(), steps_j: steps.max(0.0).sqrt() }
    }
}

/// Variance of the noise behind distances to the neighbours' line: their mean
/// square without the steps among them. Codes that stand still have none.
fn noise_variance(distances: &mut [f64]) -> f64 {
    distances.sort_unstable_by(f64::total_cmp);
    let Some(median) = distances.get(distances.len() / 2) else { return 0.0 };
    let most = NOISE_DEVIATIONS * DEVIATION_PER_MEDIAN * median;
    let noise = &distances[..distances.partition_point(|distance| *distance <= most)];
    let squares: f64 = noise.iter().map(|distance| distance.powi(2)).sum();
    squares / count(noise.len().max(1)) / SECOND_DIFFERENCE_VARIANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of standard deviation 1 without memory: sums of twelve uniforms.
    fn noise(count: usize) -> Vec<f64> {
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            f64::from(u32::try_from(state >> 32).unwrap()) / 4_294_967_296.0
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    fn times(count: u32) -> Vec<f64> {
        (0..count).map(|place| f64::from(place) * 1e-3).collect()
    }

    #[test]
    fn noise_is_no_step_and_steps_are_no_noise() {
        let still = Scatter::of(&noise(10_000), &times(10_000), 10.0, 2.5e-3);
        assert!((still.noise_w - 1.0).abs() < 0.03, "{still:?}");
        assert!(still.steps_j < 2e-3, "{still:?}");
        let stepping: Vec<f64> = noise(10_000)
            .into_iter()
            .zip(0..)
            .map(|(noise, place)| noise + if place / 50 % 2 == 0 { 0.0 } else { 100.0 })
            .collect();
        let stepping = Scatter::of(&stepping, &times(10_000), 10.0, 2.5e-3);
        assert!((stepping.noise_w - 1.0).abs() < 0.1, "{stepping:?}");
        // 199 steps of 100 W, each anywhere within 1 ms.
        let expected = 100.0 * 1e-3 * (199.0_f64 / 12.0).sqrt();
        assert!((stepping.steps_j / expected - 1.0).abs() < 0.03, "{stepping:?}");
    }

    #[test]
    fn a_straight_ramp_and_nothing_at_all_scatter_not() {
        let ramp: Vec<f64> = (0..1_000).map(|place| 0.01 * f64::from(place)).collect();
        let ramp = Scatter::of(&ramp, &times(1_000), 1.0, 2.5e-3);
        assert!(ramp.noise_w < 1e-9 && ramp.steps_j < 1e-4, "{ramp:?}");
        let nothing = Scatter::of(&[], &[], 1.0, 2.5e-3);
        assert_eq!(nothing, Scatter { noise_w: 0.0, steps_j: 0.0 });
    }
}
