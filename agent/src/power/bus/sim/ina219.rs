//! Registers of the simulated INA219 and INA220.
//!
//! Owns reset values, masks, the cycle of a configuration, the ready flag and
//! the products with the calibration. Averaged conversions follow one another,
//! so that their mean is one long window. Assumed where the datasheet is
//! silent: fewer bits and a wider gain step the register by powers of two.
//! Source: TI SBOS448, "Register Details".

use super::chip::{Averaging, Conversion, Converter, Cycle, Flag, Quantity, Registers};
use super::ina226::Products;
use crate::power::chip::ina219;

/// CNVR stands in the bus register; a read of the power clears it.
pub(super) const FLAG: Flag =
    Flag { register: ina219::BUS, bit: ina219::CONVERSION_READY, cleared_by: ina219::POWER };
pub(super) const RESET_VALUES: &[(u8, u16)] = &[(0x00, ina219::CONFIG_AT_RESET)];

/// Bits of a register that a write changes.
pub(super) const fn write_mask(register: u8) -> u16 {
    match register {
        0x00 => 0x3fff,
        ina219::CALIBRATION => 0xfffe,
        _ => 0,
    }
}

/// MODE as in the INA3221.
pub(super) fn cycle(registers: &Registers) -> Cycle {
    let config = registers[0];
    let (shunt_ns, bus_ns) = ina219::conversion_ns(config);
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
            wanted(1, ina219::SHUNT, Quantity::Shunt, shunt_ns),
            wanted(2, ina219::BUS, Quantity::Bus, bus_ns),
            None,
            None,
            None,
            None,
        ],
        averaging: Averaging::Block(1),
    }
}

pub(super) fn converter(registers: &Registers, quantity: Quantity) -> Converter {
    let config = registers[0];
    let scale = ina219::scale(config, 1.0);
    let (shunt_max, bus_max) = ina219::code_max(config);
    match quantity {
        Quantity::Bus => Converter {
            lsb_v: scale.bus_lsb_v,
            lowest: 0.0,
            highest: f64::from(bus_max),
            // The value's bit 0 stands at bit 3 of the register.
            shift: 3 + ina219::bus_shift(config),
        },
        Quantity::Shunt | Quantity::Temperature => Converter {
            lsb_v: scale.shunt_lsb_v,
            lowest: -f64::from(shunt_max),
            highest: f64::from(shunt_max),
            shift: ina219::shunt_shift(config),
        },
    }
}

/// Current = shunt · calibration / 4096, power = current · bus / 5,000.
pub(super) fn products(shunt: u32, bus: u32, calibration: u16) -> Products {
    let shunt = i64::from((shunt << 16).cast_signed() >> 16);
    let current = shunt * i64::from(calibration) / 4_096;
    let power = current.unsigned_abs() * u64::from(bus >> 3) / 5_000;
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
        // SBOS448, "Programming the INA219": 2 mΩ, 1 mA a step, CAL 0x5000;
        // 20 mV and 11.98 V give current 0x2710 and power 0x1766 (5,990; table 8).
        let products = products(2_000, 2_995 << 3, 0x5000);
        assert_eq!((products.current, products.power), (10_000, 5_990));
    }
}
