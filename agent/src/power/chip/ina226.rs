//! INA226, INA230, INA231, INA260: one-channel shunt and bus voltage monitors,
//! 16 bit.
//!
//! Owns the register map, the configuration and the conversion registers →
//! codes. Knows neither rails nor time.
//! Source: TI SBOS547 (INA226), SBOS601 (INA230), SBOS644 (INA231), SBOS656
//! (INA260), "Register Maps" and "Electrical Characteristics".

use wattline_protocol::code::RailScale;
use wattline_protocol::record::{ChipKind, ErrorLimits};

use super::{AVERAGES, CONVERSION_US, Profile};

/// Die id of the INA226, register 0xFF.
pub const DIE_ID: u16 = 0x2260;
/// Die id of the INA260.
pub const DIE_ID_INA260: u16 = 0x2270;
/// Configuration after power-on: 1.1 ms, averaging 1.
pub const CONFIG_AT_RESET: u16 = 0x4127;
/// Shunt voltage.
pub const SHUNT: u8 = 0x01;
/// Bus voltage.
pub const BUS: u8 = 0x02;
/// Mask/Enable: alert flags, and the conversion-ready flag that a read clears.
pub const MASK_ENABLE: u8 = 0x06;
/// CVRF in Mask/Enable.
pub const CONVERSION_READY: u16 = 1 << 3;
/// Volts across the shunt for one step.
pub const SHUNT_LSB_V: f64 = 2.5e-6;
/// Volts on the bus for one step.
pub const BUS_LSB_V: f64 = 1.25e-3;
/// Largest code of both registers.
pub const CODE_MAX: i32 = 32_767;

/// Bits 14:12 of CONFIG read back as 100; the INA260's as 110.
const CONFIG_FIXED: u16 = 0x4000;
const CONFIG_FIXED_INA260: u16 = 0x6000;
/// MODE of CONFIG: shunt and bus, continuously.
const CONTINUOUS: u16 = 7;
/// The INA260's own shunt, in ohms.
pub const INA260_SHUNT_OHM: f64 = 0.002;

/// The bits of CONFIG that cannot be written.
#[must_use]
pub const fn fixed_bits(kind: ChipKind) -> u16 {
    match kind {
        ChipKind::Ina260 => CONFIG_FIXED_INA260,
        _ => CONFIG_FIXED,
    }
}

/// The configuration register for a profile.
#[must_use]
pub(super) const fn config(kind: ChipKind, profile: Profile) -> u16 {
    fixed_bits(kind) | profile.conversion_bits() | CONTINUOUS
}

/// Die id; `None` for the INA230 and INA231, whose datasheets list none.
#[must_use]
pub const fn die_id(kind: ChipKind) -> Option<u16> {
    match kind {
        ChipKind::Ina226 => Some(DIE_ID),
        ChipKind::Ina260 => Some(DIE_ID_INA260),
        _ => None,
    }
}

/// Lengths of one shunt and one bus conversion for a configuration, in ns, and
/// how many of each a result takes.
#[must_use]
pub fn conversion_ns(config: u16) -> (u32, u32, u32) {
    let code = |shift: u16| usize::from((config >> shift) & 7);
    (CONVERSION_US[code(3)] * 1_000, CONVERSION_US[code(6)] * 1_000, AVERAGES[code(9)])
}

/// Code of the shunt register: 16-bit two's complement.
#[must_use]
pub const fn shunt_code_of(register: u16) -> i32 {
    register.cast_signed() as i32
}

/// Code of the bus register: bit 15 is always 0.
#[must_use]
pub const fn bus_code_of(register: u16) -> i32 {
    (register & 0x7fff) as i32
}

/// Whether a code is at either end of the converter's range.
#[must_use]
pub const fn is_full_scale(code: i32) -> bool {
    code >= CODE_MAX || code < -CODE_MAX
}

/// What one step means over a shunt of `shunt_ohm`. The INA260 tells current,
/// 1.25 mA a step: 2.5 µV over its own 2 mΩ, whatever shunt is named.
#[must_use]
pub const fn scale(kind: ChipKind, shunt_ohm: f64) -> RailScale {
    let shunt_ohm = match kind {
        ChipKind::Ina260 => INA260_SHUNT_OHM,
        _ => shunt_ohm,
    };
    RailScale { shunt_lsb_v: SHUNT_LSB_V, bus_lsb_v: BUS_LSB_V, shunt_ohm }
}

/// Largest errors at 25 °C: INA226 ±10 µV, ±7.5 mV, 0.1 % for both channels
/// (SBOS547, "Electrical Characteristics"); INA230 and INA231 ±50 µV and 0.5 %;
/// INA260 5 mA (10 µV over its shunt) and 0.15 % with the shunt inside it.
#[must_use]
pub const fn limits(kind: ChipKind, shunt_tolerance: f64) -> ErrorLimits {
    let (shunt_offset_v, gain, shunt_tolerance) = match kind {
        ChipKind::Ina230 | ChipKind::Ina231 => (50e-6, 0.005, shunt_tolerance),
        ChipKind::Ina260 => (10e-6, 0.0015, 0.0),
        _ => (10e-6, 0.001, shunt_tolerance),
    };
    ErrorLimits {
        shunt_offset_v,
        shunt_gain: gain,
        bus_offset_v: 7.5e-3,
        bus_gain: gain,
        shunt_tolerance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::bus::Address7;
    use crate::power::chip::script::{Script, Step};
    use crate::power::chip::{Chip, ChipSetup, Flag, Ownership, Ready};

    fn chip(ownership: Ownership) -> Chip {
        let address = Address7::new(0x40).unwrap();
        let setup = ChipSetup { address, profile: Profile::Fast, ownership };
        Chip::new(ChipKind::Ina226, setup, &[1]).unwrap()
    }

    #[test]
    fn a_step_of_the_ina260_is_1250_microampere_whatever_shunt_is_named() {
        let scale = scale(ChipKind::Ina260, 0.1);
        assert!((scale.shunt_lsb_v / scale.shunt_ohm - 1.25e-3).abs() < 1e-12);
        assert_eq!(config(ChipKind::Ina260, Profile::Fast), 0x6007);
    }

    #[test]
    fn codes_are_right_at_every_corner() {
        for (register, code) in [(0, 0), (0x7fff, 32_767), (0x8000, -32_768), (0xffff, -1)] {
            assert_eq!(shunt_code_of(register), code, "{register:#06x}");
        }
        // Datasheet, "Programming" example: 80 mV is 0x7D00, 11.98 V is 0x2570.
        assert!((f64::from(shunt_code_of(0x7d00)) * SHUNT_LSB_V - 80e-3).abs() < 1e-12);
        assert!((f64::from(bus_code_of(0x2570)) * BUS_LSB_V - 11.98).abs() < 1e-9);
        assert_eq!(bus_code_of(0xffff), 32_767);
    }

    #[test]
    fn configure_writes_the_fast_profile_with_its_fixed_bits() {
        let mut bus = Script::new(
            0x40,
            vec![
                Step::Read(vec![(0xfe, 0x5449), (0xff, 0x2260)]),
                Step::Write(vec![0x00, 0x40, 0x07]),
                Step::Read(vec![(0x00, 0x4007)]),
            ],
        );
        assert_eq!(chip(Ownership::Ours).configure(&mut bus), Ok(0x4007));
        bus.assert_done();
    }

    #[test]
    fn a_sweep_is_shunt_flag_and_bus_in_one_transaction() {
        let mut bus = Script::new(0x40, vec![Step::Read(vec![(1, 0xffff), (6, 8), (2, 0x2570)])]);
        let reading = chip(Ownership::Ours).sweep(&mut bus, Flag::Read).unwrap();
        assert_eq!(reading.codes[..2], [-1, 0x2570]);
        assert_eq!((reading.overrange, reading.ready), (0, Ready::Converted));
    }

    #[test]
    fn averaging_set_by_a_driver_lengthens_the_cycle() {
        let mut bus = Script::new(
            0x40,
            vec![
                Step::Read(vec![(0xfe, 0x5449), (0xff, 0x2260)]),
                Step::Read(vec![(0x00, 0x4527)]),
            ],
        );
        let mut chip = chip(Ownership::KernelDriver);
        assert_eq!(chip.configure(&mut bus), Ok(0x4527));
        assert_eq!(chip.cycle_ns(), 16 * 2_200_000);
    }
}
