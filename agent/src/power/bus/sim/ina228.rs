//! Registers of the simulated INA228, INA237 and INA238.
//!
//! Owns reset values, masks, widths, the cycle of a configuration and the ready
//! flag. Not modelled: temperature, current, power and the accumulators (they
//! read 0), which the driver never reads.
//! Source: TI SLYS021, SBOSA20, "Register Maps".

use wattline_protocol::record::ChipKind;

use super::chip::{Averaging, Conversion, Converter, Cycle, Flag, Quantity, Registers};
use crate::power::chip::{TEXAS_INSTRUMENTS, ina228};

/// The register whose write starts the conversions anew.
pub(super) const TIMING: u8 = ina228::ADC_CONFIG;
/// CNVRF in DIAG_ALRT, cleared by reading it.
pub(super) const FLAG: Flag = Flag {
    register: ina228::DIAG_ALERT,
    bit: ina228::CONVERSION_READY,
    cleared_by: ina228::DIAG_ALERT,
};
/// SHUNT_CAL and limits at the end of their range; MEMSTAT set.
pub(super) const RESET_VALUES: &[(u8, u16)] = &[
    (0x01, ina228::ADC_CONFIG_AT_RESET),
    (0x02, 0x1000),
    (0x0b, 0x0001),
    (0x0c, 0x7fff),
    (0x0d, 0x8000),
    (0x0e, 0x7fff),
    (0x10, 0x7fff),
    (0x11, 0xffff),
];

pub(super) fn id(kind: ChipKind, register: u8) -> Option<u16> {
    match register {
        ina228::MANUFACTURER_ID => Some(TEXAS_INSTRUMENTS),
        // Revision 1; the INA237's as third-party headers have it.
        ina228::DEVICE_ID => Some(ina228::device_id(kind).unwrap_or(0x2370) | 1),
        _ => None,
    }
}

/// Bits of a register that a write changes.
pub(super) const fn write_mask(register: u8) -> u16 {
    match register {
        0x00 => 0x3ff0,
        0x01 | 0x0c | 0x0d | 0x11 => 0xffff,
        0x02 | 0x0e | 0x0f | 0x10 => 0x7fff,
        0x03 => 0x3fff,
        0x0b => 0xf000,
        _ => 0,
    }
}

/// Bytes of a register.
pub(super) const fn bytes(kind: ChipKind, register: u8) -> usize {
    match register {
        ina228::SHUNT | ina228::BUS => ina228::value_bytes(kind) as usize,
        0x08 => 3,
        _ => 2,
    }
}

/// Bits of shunt and bus register.
pub(super) const fn value_bits(kind: ChipKind) -> u32 {
    8 * ina228::value_bytes(kind) as u32
}

/// MODE: bit 3 continuous, bit 2 temperature, bit 1 shunt, bit 0 bus. Assumed:
/// in the order shunt, bus, temperature.
pub(super) fn cycle(registers: &Registers) -> Cycle {
    let config = registers[usize::from(TIMING)];
    let (shunt_ns, bus_ns, average) = ina228::conversion_ns(config);
    let temperature_ns = ina228::temperature_ns(config);
    let wanted = |bit: u16, register, quantity, length_ns| {
        (config & 0x8000 != 0 && config & bit != 0).then_some(Conversion {
            register,
            channel: 0,
            quantity,
            length_ns,
        })
    };
    Cycle {
        conversions: [
            wanted(0x2000, ina228::SHUNT, Quantity::Shunt, shunt_ns),
            wanted(0x1000, ina228::BUS, Quantity::Bus, bus_ns),
            wanted(0x4000, 0x06, Quantity::Temperature, temperature_ns),
            None,
            None,
            None,
        ],
        averaging: Averaging::Block(u64::from(average)),
    }
}

pub(super) fn converter(kind: ChipKind, registers: &Registers, quantity: Quantity) -> Converter {
    let scale = ina228::scale(kind, registers[0], 1.0);
    let highest = f64::from(ina228::code_max(kind));
    let shift = match kind {
        ChipKind::Ina228 => 4,
        _ => 0,
    };
    match quantity {
        Quantity::Bus => Converter { lsb_v: scale.bus_lsb_v, lowest: 0.0, highest, shift },
        Quantity::Shunt | Quantity::Temperature => {
            Converter { lsb_v: scale.shunt_lsb_v, lowest: -highest - 1.0, highest, shift }
        }
    }
}
