//! What of a chip's setting is read back while it is sampled.
//!
//! Owns which registers tell that a chip was reset, lost its supply or was set
//! by somebody else, and what a setting that was found makes of the driver.
//! Reads alone; never a flag and never a limit. The calibration is among the
//! registers although no value of ours depends on it: a kernel driver writes
//! it, and where its configuration is that of power-on the calibration alone
//! shows that the chip lost its supply.
//! Source: the families' datasheets, "Register Maps"; Linux
//! `drivers/hwmon/ina2xx.c` and `ina238.c`, which both calibrate.

use super::{CONFIG, Chip, ChipError, REGISTER_BITS, Single, read_registers};
use crate::power::bus::I2cBus;

/// Most registers of a setting.
const REGISTERS_MAX: usize = 3;
/// The one stop of a transaction.
const STOP_BITS: u32 = 1;

/// The registers of a chip's setting, as they were read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    registers: &'static [u8],
    values: [u16; REGISTERS_MAX],
}

/// A register that is another one than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Its number.
    pub register: u8,
    /// What it held.
    pub expected: u16,
    /// What it holds.
    pub found: u16,
}

impl Setting {
    /// The first register in which `found` differs.
    #[must_use]
    pub fn difference(&self, found: &Self) -> Option<Difference> {
        let values = self.values.iter().zip(&found.values);
        let pairs = self.registers.iter().zip(values);
        pairs.filter(|(_, (expected, found))| expected != found).map(of_pair).next()
    }

    /// The first register with what it holds, as a difference to itself.
    #[must_use]
    pub fn unchanged(&self) -> Difference {
        let register = self.registers.first().copied().unwrap_or(CONFIG);
        let [value, ..] = self.values;
        Difference { register, expected: value, found: value }
    }
}

fn of_pair((&register, (&expected, &found)): (&u8, (&u16, &u16))) -> Difference {
    Difference { register, expected, found }
}

impl Chip {
    /// The registers of the setting, the configuration first.
    const fn setting_registers(&self) -> &'static [u8] {
        match self {
            Self::Ina3221(_) => &[CONFIG],
            Self::Single(chip) => chip.setting_registers(),
        }
    }

    /// Bit times of the transaction that reads the setting.
    #[must_use]
    pub fn setting_bits(&self) -> u32 {
        let registers = u32::try_from(self.setting_registers().len()).unwrap_or(1);
        registers * REGISTER_BITS + STOP_BITS
    }

    /// Reads the setting in one combined transaction. Allocates nothing.
    ///
    /// # Errors
    /// [`ChipError::Bus`].
    pub fn read_setting(&self, bus: &mut dyn I2cBus) -> Result<Setting, ChipError> {
        let registers = self.setting_registers();
        let mut values = [0; REGISTERS_MAX];
        let read = match *registers {
            [first] => {
                let mut one = [0; 1];
                let read = read_registers(bus, self.address(), &[first], &mut one);
                values[0] = one[0];
                read
            }
            [first, second] => {
                let mut two = [0; 2];
                let read = read_registers(bus, self.address(), &[first, second], &mut two);
                [values[0], values[1]] = two;
                read
            }
            [first, second, third, ..] => {
                read_registers(bus, self.address(), &[first, second, third], &mut values)
            }
            [] => Ok(()),
        };
        let register = registers.first().copied().unwrap_or(CONFIG);
        read.map_err(|source| ChipError::Bus { register, source })?;
        Ok(Setting { registers, values })
    }

    /// The driver of a chip that somebody set so; `None` where it does not
    /// convert all channels of ours again and again, or where a step of its
    /// codes is another one.
    #[must_use]
    pub fn with_setting(&self, found: &Setting) -> Option<Self> {
        let mut chip = *self;
        let [config, range, _] = found.values;
        let is_converting = match &mut chip {
            Self::Ina3221(chip) => {
                chip.adopt(config);
                chip.is_converting()
            }
            Self::Single(chip) => {
                let range = chip.range_register().map(|_| range);
                chip.adopt(config, range);
                chip.is_converting()
            }
        };
        (is_converting && chip.scale(1.0) == self.scale(1.0)).then_some(chip)
    }
}

impl Single {
    const fn setting_registers(&self) -> &'static [u8] {
        match (self.range_register(), self.calibration_register()) {
            (Some(_), _) => {
                &[super::ina228::ADC_CONFIG, super::ina228::CONFIG, super::ina228::SHUNT_CAL]
            }
            (None, Some(_)) => &[CONFIG, super::ina219::CALIBRATION],
            (None, None) => &[CONFIG],
        }
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::ChipKind;

    use super::*;
    use crate::power::bus::Address7;
    use crate::power::chip::script::{Script, Step};
    use crate::power::chip::{ChipSetup, Ownership, Profile};

    fn chip(kind: ChipKind) -> Chip {
        let address = Address7::new(0x40).unwrap();
        let ownership = Ownership::KernelDriver;
        let setup = ChipSetup { address, profile: Profile::Fast, ownership };
        Chip::new(kind, setup, &[1, 2, 3]).unwrap()
    }

    fn read(kind: ChipKind, registers: Vec<(u8, u16)>) -> Setting {
        let mut bus = Script::new(0x40, vec![Step::Read(registers)]);
        let setting = chip(kind).read_setting(&mut bus).unwrap();
        bus.assert_done();
        setting
    }

    #[test]
    fn an_ina219_at_its_power_on_setting_is_told_by_its_calibration() {
        let before = read(ChipKind::Ina219, vec![(0, 0x399f), (5, 0x1000)]);
        let after = read(ChipKind::Ina219, vec![(0, 0x399f), (5, 0)]);
        let difference = Difference { register: 5, expected: 0x1000, found: 0 };
        assert_eq!(before.difference(&after), Some(difference));
        assert_eq!(before.difference(&before), None);
        assert_eq!(chip(ChipKind::Ina219).setting_bits(), 95);
    }

    #[test]
    fn what_does_not_convert_or_counts_other_steps_is_not_adopted() {
        let chip_238 = chip(ChipKind::Ina238);
        let set = |adc, config| read(ChipKind::Ina238, vec![(1, adc), (0, config), (2, 0x4000)]);
        assert!(chip_238.with_setting(&set(0xfb68, 0)).is_some());
        assert_eq!(chip_238.with_setting(&set(0xfb68, 0x10)), None, "another range");
        assert_eq!(chip_238.with_setting(&set(0x0b68, 0)), None, "shut down");
        let set = |config| read(ChipKind::Ina3221, vec![(0, config)]);
        let chip_3221 = chip(ChipKind::Ina3221);
        assert_eq!(chip_3221.with_setting(&set(0x7127)).unwrap().cycle_ns(), 6_600_000);
        for (config, why) in
            [(0x7120, "power down"), (0x5127, "a channel off"), (0x7125, "shunts alone")]
        {
            assert_eq!(chip_3221.with_setting(&set(config)), None, "{why}");
        }
    }
}
