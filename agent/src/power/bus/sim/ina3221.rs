//! Registers of the simulated INA3221.
//!
//! Owns reset values, masks, the cycle of a configuration and the ready flag.
//! Source: TI SBOS576, "Register Maps".

use super::chip::{Averaging, Conversion, Converter, Cycle, Flag, Quantity, Registers};
use crate::power::chip::{AVERAGES, TEXAS_INSTRUMENTS, ina3221};

/// CVRF in Mask/Enable, cleared by reading it.
pub(super) const FLAG: Flag = Flag {
    register: ina3221::MASK_ENABLE,
    bit: ina3221::CONVERSION_READY,
    cleared_by: ina3221::MASK_ENABLE,
};
/// After power-on: limits at the end of their range, power-valid at 10 V and 9 V.
pub(super) const RESET_VALUES: &[(u8, u16)] = &[
    (0x00, ina3221::CONFIG_AT_RESET),
    (0x07, 0x7ff8),
    (0x08, 0x7ff8),
    (0x09, 0x7ff8),
    (0x0a, 0x7ff8),
    (0x0b, 0x7ff8),
    (0x0c, 0x7ff8),
    (0x0e, 0x7ffe),
    (0x0f, 0x0002),
    (0x10, 0x2710),
    (0x11, 0x2328),
];

pub(super) const fn id(register: u8) -> Option<u16> {
    match register {
        0xfe => Some(TEXAS_INSTRUMENTS),
        0xff => Some(ina3221::DIE_ID),
        _ => None,
    }
}

/// Bits of a register that a write changes.
pub(super) const fn write_mask(register: u8) -> u16 {
    match register {
        0x00 => 0x7fff,
        0x07..=0x0c | 0x10 | 0x11 => 0xfff8,
        0x0e => 0xfffe,
        0x0f => 0x7c00,
        _ => 0,
    }
}

/// MODE: bit 2 continuous, bit 1 bus, bit 0 shunt. Triggered and power-down
/// modes convert nothing: the product never uses them.
pub(super) fn cycle(registers: &Registers) -> Cycle {
    let config = registers[0];
    let (shunt_ns, bus_ns) = ina3221::conversion_ns(config);
    let conversion = |index: usize| {
        let channel = index / 2;
        let (quantity, bit, length_ns) = match index % 2 {
            0 => (Quantity::Shunt, 1, shunt_ns),
            _ => (Quantity::Bus, 2, bus_ns),
        };
        let enabled = config & (0x4000 >> channel) != 0 && config & 4 != 0 && config & bit != 0;
        let register = u8::try_from(index + 1).unwrap_or(0);
        enabled.then_some(Conversion { register, channel, quantity, length_ns })
    };
    let average = u64::from(AVERAGES[usize::from((config >> 9) & 7)]);
    Cycle {
        conversions: core::array::from_fn(conversion),
        averaging: Averaging::Exponential(average),
    }
}

pub(super) const fn converter(quantity: Quantity) -> Converter {
    let lsb_v = match quantity {
        Quantity::Bus => ina3221::BUS_LSB_V,
        Quantity::Shunt | Quantity::Temperature => ina3221::SHUNT_LSB_V,
    };
    Converter { lsb_v, lowest: -4_096.0, highest: 4_095.0, shift: 3 }
}
