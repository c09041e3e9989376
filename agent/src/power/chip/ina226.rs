//! INA226: one-channel shunt and bus voltage monitor, 16 bit.
//!
//! Owns the register map, the configuration, the sweep's order and the
//! conversion registers → codes. Knows neither rails nor time.
//! Source: TI SBOS547, "Register Maps" and "Electrical Characteristics".

use wattline_protocol::code::RailScale;
use wattline_protocol::record::ErrorLimits;

use super::{
    AVERAGES, CODES_MAX, CONVERSION_US, Ownership, Profile, Reading, Ready, read_registers,
};
use crate::power::bus::{Address7, BusError, I2cBus};

/// Die id, register 0xFF.
pub const DIE_ID: u16 = 0x2260;
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

/// Bits 14:12 of CONFIG read back as 100.
const CONFIG_FIXED: u16 = 0x4000;
/// MODE of CONFIG: shunt and bus, continuously.
const CONTINUOUS: u16 = 7;

/// An INA226 as the sampler drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ina226 {
    address: Address7,
    ownership: Ownership,
    config: u16,
}

impl Ina226 {
    /// The chip at `address`.
    #[must_use]
    pub const fn new(address: Address7, profile: Profile, ownership: Ownership) -> Self {
        Self { address, ownership, config: CONFIG_FIXED | profile.conversion_bits() | CONTINUOUS }
    }

    pub(super) const fn address(&self) -> Address7 {
        self.address
    }

    pub(super) const fn ownership(&self) -> Ownership {
        self.ownership
    }

    pub(super) const fn config(&self) -> u16 {
        self.config
    }

    /// Takes over the configuration that a kernel driver gave the chip.
    pub(super) const fn adopt(&mut self, config: u16) {
        self.config = config;
    }

    /// Lengths of a shunt and of a bus conversion, averaging included, in ns.
    pub(super) fn conversion_ns(&self) -> (u32, u32) {
        let (shunt_ns, bus_ns, average) = conversion_ns(self.config);
        (shunt_ns * average, bus_ns * average)
    }

    pub(super) fn cycle_ns(&self) -> u32 {
        let (shunt_ns, bus_ns) = self.conversion_ns();
        shunt_ns + bus_ns
    }

    /// The flag stands between the two registers, as in the INA3221.
    pub(super) fn sweep(&self, bus: &mut dyn I2cBus) -> Result<Reading, BusError> {
        let (shunt, ready, voltage) = match self.ownership {
            Ownership::Ours => {
                let mut values = [0; 3];
                read_registers(bus, self.address, &[SHUNT, MASK_ENABLE, BUS], &mut values)?;
                let ready = match values[1] & CONVERSION_READY {
                    0 => Ready::NotYet,
                    _ => Ready::Converted,
                };
                (values[0], ready, values[2])
            }
            Ownership::KernelDriver => {
                let mut values = [0; 2];
                read_registers(bus, self.address, &[SHUNT, BUS], &mut values)?;
                (values[0], Ready::Unread, values[1])
            }
        };
        let (shunt, voltage) = (shunt_code_of(shunt), bus_code_of(voltage));
        let mut codes = [0; CODES_MAX];
        codes[0] = shunt;
        codes[1] = voltage;
        let overrange = u8::from(is_full_scale(shunt) || is_full_scale(voltage));
        Ok(Reading { codes, columns: 2, overrange, ready })
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

/// What one step means over a shunt of `shunt_ohm`.
#[must_use]
pub const fn scale(shunt_ohm: f64) -> RailScale {
    RailScale { shunt_lsb_v: SHUNT_LSB_V, bus_lsb_v: BUS_LSB_V, shunt_ohm }
}

/// Largest errors at 25 °C: offset ±10 µV and ±7.5 mV, gain 0.1 % for both
/// (SBOS547, "Electrical Characteristics").
#[must_use]
pub const fn limits(shunt_tolerance: f64) -> ErrorLimits {
    ErrorLimits {
        shunt_offset_v: 10e-6,
        shunt_gain: 0.001,
        bus_offset_v: 7.5e-3,
        bus_gain: 0.001,
        shunt_tolerance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::chip::Chip;
    use crate::power::chip::script::{Script, Step};

    fn chip(ownership: Ownership) -> Chip {
        let address = Address7::new(0x40).unwrap();
        Chip::Ina226(Ina226::new(address, Profile::Fast, ownership))
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
        let reading = chip(Ownership::Ours).sweep(&mut bus).unwrap();
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
