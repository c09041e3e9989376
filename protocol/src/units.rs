//! Physical quantities and times as types of their own.
//!
//! Owns the newtypes and the few products that physics allows between them.
//! Does not own codes or scales: see [`crate::code`], the one place where a
//! register code becomes a quantity. Serialized as bare numbers; a field name
//! carries the unit last (`energy_j`, `window_ns`).

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds in one second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $symbol:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
                Self(terms.map(|term| term.0).sum())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str(concat!(" ", $symbol))
            }
        }
    };
}

quantity!(
    /// Electric potential difference, in volts.
    Volts, "V");
quantity!(
    /// Electric current, in amperes.
    Amperes, "A");
quantity!(
    /// Power, in watts.
    Watts, "W");
quantity!(
    /// Energy, in joules.
    Joules, "J");
quantity!(
    /// Resistance, in ohms.
    Ohms, "Ω");
quantity!(
    /// Frequency, in hertz.
    Hertz, "Hz");
quantity!(
    /// A span of time for arithmetic with power, in seconds. Instants and
    /// durations that are stored are [`BoardTime`] and [`Nanos`].
    Seconds, "s");

impl Mul<Amperes> for Volts {
    type Output = Watts;
    fn mul(self, current: Amperes) -> Watts {
        Watts(self.0 * current.0)
    }
}

impl Div<Ohms> for Volts {
    type Output = Amperes;
    fn div(self, resistance: Ohms) -> Amperes {
        Amperes(self.0 / resistance.0)
    }
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

/// A span of board time, in nanoseconds; negative spans are allowed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub i64);

impl Nanos {
    /// A span of whole seconds. Saturates at ±292 years.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// A span of whole milliseconds. Saturates at ±292 years.
    #[must_use]
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// A span of whole microseconds. Saturates at ±292 years.
    #[must_use]
    pub const fn from_micros(microseconds: i64) -> Self {
        Self(microseconds.saturating_mul(1_000))
    }

    /// The span nearest to `seconds`; saturates, and NaN gives zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1e9).round() as i64)
    }

    /// The span in seconds, exact to 1 ns up to 104 days.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns is 104 days")]
    pub fn as_seconds(self) -> Seconds {
        Seconds(self.0 as f64 * 1e-9)
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self(0), Add::add)
    }
}

/// An instant on the board's CLOCK_MONOTONIC, in nanoseconds since boot.
///
/// Two instants subtract to [`Nanos`]; adding two instants does not compile.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BoardTime(pub u64);

impl Sub for BoardTime {
    type Output = Nanos;
    /// Signed span between two instants; exact while both lie within 292 years.
    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.wrapping_sub(earlier.0).cast_signed())
    }
}

impl Add<Nanos> for BoardTime {
    type Output = Self;
    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add_signed(span.0))
    }
}

impl Sub<Nanos> for BoardTime {
    type Output = Self;
    fn sub(self, span: Nanos) -> Self {
        Self(self.0.saturating_add_signed(span.0.saturating_neg()))
    }
}

/// An instant of the host's monotonic clock, in nanoseconds. Never compared
/// with a [`BoardTime`] except through the clock map.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct HostTime(pub u64);

impl Sub for HostTime {
    type Output = Nanos;
    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.wrapping_sub(earlier.0).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_products_of_physics_exist_and_are_right() {
        assert_eq!(Volts(5.0) * Amperes(2.0), Watts(10.0));
        assert_eq!(Volts(0.01) / Ohms(0.005), Amperes(2.0));
        assert_eq!(Watts(10.0) * Seconds(3.0), Joules(30.0));
        assert_eq!(Joules(30.0) / Seconds(3.0), Watts(10.0));
    }

    #[test]
    fn instants_subtract_to_signed_spans() {
        assert_eq!(BoardTime(5) - BoardTime(8), Nanos(-3));
        assert_eq!(BoardTime(5) + Nanos(-9), BoardTime(0));
        assert_eq!(BoardTime(9) - Nanos(4), BoardTime(5));
    }

    #[test]
    fn seconds_round_to_the_nearest_nanosecond() {
        assert_eq!(Nanos::from_secs_f64(1.000_000_000_6), Nanos(1_000_000_001));
        assert_eq!(Nanos::from_secs_f64(f64::NAN), Nanos(0));
        assert_eq!(Nanos::from_millis(1500).as_seconds(), Seconds(1.5));
    }
}
