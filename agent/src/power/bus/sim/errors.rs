//! Errors of one simulated chip: what its datasheet allows, drawn by a seed.
//!
//! Owns the errors' values and how they are drawn. The limits themselves are
//! the chip driver's ([`crate::power::chip`]).

use wattline_protocol::record::ErrorLimits;

use super::{normal, uniform};

/// The largest deviation of the oscillator that is drawn; a chip may have up to
/// +10 % (SBOS576, conversion time: 140 µs typical, 154 µs maximum).
const CYCLE_DEVIATION_DRAWN: f64 = 0.02;

/// Errors of one channel and its shunt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ChannelErrors {
    /// Shunt voltage offset, in volts.
    pub shunt_offset_v: f64,
    /// Shunt voltage gain error, as a fraction.
    pub shunt_gain: f64,
    /// Bus voltage offset, in volts.
    pub bus_offset_v: f64,
    /// Bus voltage gain error, as a fraction.
    pub bus_gain: f64,
    /// How far the resistor is from its nominal value, as a fraction.
    pub shunt_resistance: f64,
}

/// Errors, noise and oscillator of one chip.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ChipErrors {
    /// By channel, from the first.
    pub channels: [ChannelErrors; 3],
    /// How much longer than nominal the cycle is, as a fraction (−0.1 to 0.1).
    pub cycle_deviation: f64,
    /// Gaussian noise of a shunt conversion (σ), in LSB.
    pub shunt_noise_lsb: f64,
    /// Gaussian noise of a bus conversion (σ), in LSB.
    pub bus_noise_lsb: f64,
    /// Seed of the noise: equal seeds give equal noise to equal conversions.
    pub noise_seed: u64,
}

/// Which of a pair of mirrored chips is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// As drawn.
    Drawn,
    /// Every error of the channels with its sign turned: the mean over the
    /// pair is free of their linear part.
    Mirrored,
}

impl ChipErrors {
    /// Draws the channels' errors, each Gaussian with σ = limit/√3 (the
    /// standard uncertainty that the budget gives the same limit), and the
    /// oscillator uniformly within ±2 %. Noise is off.
    #[must_use]
    pub fn drawn(limits: &ErrorLimits, seed: u64, signs: Signs) -> Self {
        let sign = match signs {
            Signs::Drawn => 1.0,
            Signs::Mirrored => -1.0,
        };
        let mut draws = 0_u64;
        let mut draw = |limit: f64| {
            draws += 1;
            sign * normal(seed.wrapping_mul(0x1_0000).wrapping_add(draws)) * limit / 3.0_f64.sqrt()
        };
        let channels = core::array::from_fn(|_| ChannelErrors {
            shunt_offset_v: draw(limits.shunt_offset_v),
            shunt_gain: draw(limits.shunt_gain),
            bus_offset_v: draw(limits.bus_offset_v),
            bus_gain: draw(limits.bus_gain),
            shunt_resistance: draw(limits.shunt_tolerance),
        });
        let oscillator = uniform(seed.wrapping_mul(0x1_0000));
        Self {
            channels,
            cycle_deviation: CYCLE_DEVIATION_DRAWN * (2.0 * oscillator - 1.0),
            noise_seed: seed,
            ..Self::default()
        }
    }

    /// The same chip with Gaussian noise of these standard deviations, in LSB.
    #[must_use]
    pub const fn with_noise(mut self, shunt_lsb: f64, bus_lsb: f64) -> Self {
        self.shunt_noise_lsb = shunt_lsb;
        self.bus_noise_lsb = bus_lsb;
        self
    }

    /// The same chip with another oscillator.
    #[must_use]
    pub const fn with_cycle_deviation(mut self, fraction: f64) -> Self {
        self.cycle_deviation = fraction;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::chip::ina3221;

    #[test]
    fn drawn_errors_have_the_spread_that_the_budget_assumes() {
        let limits = ina3221::limits(0.01);
        let squares: f64 = (0..4_000)
            .map(|seed| ChipErrors::drawn(&limits, seed, Signs::Drawn).channels[0].shunt_offset_v)
            .map(|offset| offset * offset)
            .sum();
        let spread = (squares / 4_000.0).sqrt();
        let expected = limits.shunt_offset_v / 3.0_f64.sqrt();
        assert!((spread / expected - 1.0).abs() < 0.05, "{spread} against {expected}");
    }

    #[test]
    fn a_mirrored_chip_has_the_opposite_errors_and_the_same_oscillator() {
        let limits = ina3221::limits(0.01);
        let drawn = ChipErrors::drawn(&limits, 7, Signs::Drawn);
        let mirrored = ChipErrors::drawn(&limits, 7, Signs::Mirrored);
        assert_eq!(drawn.channels[2].bus_gain, -mirrored.channels[2].bus_gain);
        assert_eq!(drawn.cycle_deviation, mirrored.cycle_deviation);
        assert!(drawn.cycle_deviation.abs() <= 0.02);
    }
}
