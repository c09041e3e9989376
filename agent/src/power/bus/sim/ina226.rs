//! Registers of the simulated INA226, INA230, INA231 and INA260.
//!
//! Owns reset values, masks, the cycle of a configuration, the ready flag and
//! the products with the calibration. Source: TI SBOS547, SBOS656, "Register
//! Maps"; for what the INA230's and INA231's do not list the INA226's is taken.

use wattline_protocol::record::ChipKind;

use super::chip::{Averaging, Conversion, Converter, Cycle, Flag, Quantity, Registers};
use crate::power::chip::{TEXAS_INSTRUMENTS, ina226};

/// CVRF in Mask/Enable, cleared by reading it.
pub(super) const FLAG: Flag = Flag {
    register: ina226::MASK_ENABLE,
    bit: ina226::CONVERSION_READY,
    cleared_by: ina226::MASK_ENABLE,
};

pub(super) const fn reset_values(kind: ChipKind) -> &'static [(u8, u16)] {
    match kind {
        ChipKind::Ina260 => &[(0x00, 0x6127)],
        _ => &[(0x00, ina226::CONFIG_AT_RESET)],
    }
}

/// INA230 and INA231 answer no identity.
pub(super) const fn id(kind: ChipKind, register: u8) -> Option<u16> {
    match (register, ina226::die_id(kind)) {
        (0xfe, Some(_)) => Some(TEXAS_INSTRUMENTS),
        (0xff, die) => die,
        _ => None,
    }
}

/// Bits of a register that a write changes.
pub(super) const fn write_mask(register: u8) -> u16 {
    match register {
        0x00 => 0x0fff,
        0x05 => 0x7fff,
        0x06 => 0xfc03,
        0x07 => 0xffff,
        _ => 0,
    }
}

/// MODE as in the INA3221.
pub(super) fn cycle(registers: &Registers) -> Cycle {
    let config = registers[0];
    let (shunt_ns, bus_ns, average) = ina226::conversion_ns(config);
    let wanted = |bit: u16, register, quantity, length_ns| {
        (config & 4 != 0 && config & bit != 0).then_some(Conversion {
            register,
            channel: 0,
            quantity,
            length_ns,
        })
    };
    Cycle {
        conversions: [
            wanted(1, ina226::SHUNT, Quantity::Shunt, shunt_ns),
            wanted(2, ina226::BUS, Quantity::Bus, bus_ns),
            None,
            None,
            None,
            None,
        ],
        averaging: Averaging::Block(u64::from(average)),
    }
}

pub(super) const fn converter(quantity: Quantity) -> Converter {
    let (lsb_v, lowest) = match quantity {
        Quantity::Bus => (ina226::BUS_LSB_V, 0.0),
        Quantity::Shunt | Quantity::Temperature => (ina226::SHUNT_LSB_V, -32_768.0),
    };
    Converter { lsb_v, lowest, highest: 32_767.0, shift: 0 }
}

/// What the chip makes of its two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Products {
    pub(super) current: u32,
    pub(super) power: u32,
}

/// Current = shunt · calibration / 2048, power = current · bus / 20,000; in the
/// INA260 the current is the shunt's register, and power steps by 10 mW
/// (1.25 mA · 1.25 mV · 6,400).
pub(super) fn products(kind: ChipKind, shunt: u32, bus: u32, calibration: u16) -> Products {
    let shunt = i64::from((shunt << 16).cast_signed() >> 16);
    let (current, divisor) = match kind {
        ChipKind::Ina260 => (shunt, 6_400),
        _ => (shunt * i64::from(calibration) / 2_048, 20_000),
    };
    let power = current.unsigned_abs() * u64::from(bus) / divisor;
    Products {
        current: u32::try_from(current & 0xffff).unwrap_or(0),
        power: u32::try_from(power.min(0xffff)).unwrap_or(0xffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datasheets_example_gives_10_ampere_and_120_watt() {
        // SBOS547, "Programming the Calibration Register": 2 mΩ, 1 mA a step,
        // CAL 0xA00; 20 mV and 11.98 V give current 0x2710 and power 0x12B8.
        let products = products(ChipKind::Ina226, 8_000, 9_584, 0x0a00);
        assert_eq!((products.current, products.power), (10_000, 4_792));
    }
}
