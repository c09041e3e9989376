//! Raw register codes, and the scales that turn them into quantities.
//!
//! The one place where a code becomes a volt. Knows neither rails' names nor
//! time; chips' register maps are the agent's.
//! Source of the LSBs: TI SBOS576 (INA3221), SBOS547 (INA226).

use serde::{Deserialize, Serialize};

use crate::units::{Amperes, Ohms, Volts, Watts};

/// Shunt voltage register, right-aligned two's complement, reserved bits
/// already shifted out. Multiply by the scale's `shunt_lsb_v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShuntCode(pub i32);

/// Bus voltage register, right-aligned, reserved bits already shifted out.
/// Multiply by the scale's `bus_lsb_v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BusCode(pub i32);

/// What one code step of a rail's channel means, and the resistor it is
/// measured over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RailScale {
    /// Volts across the shunt for one step of a [`ShuntCode`].
    pub shunt_lsb_v: f64,
    /// Volts on the bus for one step of a [`BusCode`].
    pub bus_lsb_v: f64,
    /// Resistance of the shunt, in ohms.
    pub shunt_ohm: f64,
}

impl RailScale {
    /// Voltage across the shunt, in volts.
    #[must_use]
    pub fn shunt_voltage(&self, code: ShuntCode) -> Volts {
        Volts(f64::from(code.0) * self.shunt_lsb_v)
    }

    /// Voltage of the rail, in volts.
    #[must_use]
    pub fn bus_voltage(&self, code: BusCode) -> Volts {
        Volts(f64::from(code.0) * self.bus_lsb_v)
    }

    /// Current through the shunt, in amperes; negative codes are real.
    #[must_use]
    pub fn current(&self, code: ShuntCode) -> Amperes {
        self.shunt_voltage(code) / Ohms(self.shunt_ohm)
    }

    /// Power of the rail from one pair of codes, in watts.
    #[must_use]
    pub fn power(&self, shunt: ShuntCode, bus: BusCode) -> Watts {
        self.bus_voltage(bus) * self.current(shunt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INA3221_5_MILLIOHM: RailScale =
        RailScale { shunt_lsb_v: 40e-6, bus_lsb_v: 8e-3, shunt_ohm: 0.005 };

    #[test]
    fn one_step_of_an_ina3221_over_5_milliohm_is_8_milliampere() {
        let current = INA3221_5_MILLIOHM.current(ShuntCode(1));
        assert!((current.0 - 0.008).abs() < 1e-15);
    }

    #[test]
    fn minus_one_step_stays_negative() {
        let power = INA3221_5_MILLIOHM.power(ShuntCode(-1), BusCode(625));
        assert!((power.0 + 0.04).abs() < 1e-12);
    }
}
