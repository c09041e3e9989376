//! INA3221: three-channel shunt and bus voltage monitor, 13 bit.
//!
//! Owns the register map, the configuration, the sweep's order and the
//! conversion registers → codes. Knows neither rails nor time.
//! Source: TI SBOS576, "Register Maps", "Basic ADC Functions" and "Electrical
//! Characteristics"; die id and shifts as in Linux `drivers/hwmon/ina3221.c`.

use wattline_protocol::code::RailScale;
use wattline_protocol::record::ErrorLimits;

use super::{
    AVERAGES, CODES_MAX, CONVERSION_US, Flag, Ownership, Profile, Reading, Ready, read_registers,
};
use crate::power::bus::{Address7, BusError, I2cBus};

/// Die id, register 0xFF.
pub const DIE_ID: u16 = 0x3220;
/// Configuration after power-on: three channels, 1.1 ms, averaging 1.
pub const CONFIG_AT_RESET: u16 = 0x7127;
/// Shunt voltage of channel 1; channels 2 and 3 follow at +2 and +4.
pub const SHUNT_1: u8 = 0x01;
/// Bus voltage of channel 1; channels 2 and 3 follow at +2 and +4.
pub const BUS_1: u8 = 0x02;
/// Mask/Enable: alert flags, and the conversion-ready flag that a read clears.
pub const MASK_ENABLE: u8 = 0x0f;
/// CVRF in Mask/Enable: all enabled channels were converted since the last read.
pub const CONVERSION_READY: u16 = 1;
/// Volts across the shunt for one step.
pub const SHUNT_LSB_V: f64 = 40e-6;
/// Volts on the bus for one step.
pub const BUS_LSB_V: f64 = 8e-3;
/// Largest code of a 13-bit register.
pub const CODE_MAX: i32 = 4_095;

/// MODE of CONFIG: shunt and bus, continuously.
const CONTINUOUS: u16 = 7;

/// An INA3221 as the sampler drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ina3221 {
    address: Address7,
    ownership: Ownership,
    channels: [u8; 3],
    used: usize,
    config: u16,
    /// Bus voltages are read one a sweep, in turn.
    in_turn: bool,
}

impl Ina3221 {
    /// The chip at `address` with all three channels.
    #[must_use]
    pub const fn all_channels(address: Address7, profile: Profile, ownership: Ownership) -> Self {
        Self {
            address,
            ownership,
            channels: [1, 2, 3],
            used: 3,
            // Averaging (bits 11:9) stays 1: it is an exponential filter in this
            // chip, through which a short burst's energy comes out wrong.
            config: 0x7000 | profile.conversion_bits() | CONTINUOUS,
            in_turn: false,
        }
    }

    /// The chip with the channels `wanted` (1 to 3) alone; `None` where none
    /// of them exists.
    #[must_use]
    pub fn with_channels(
        address: Address7,
        profile: Profile,
        ownership: Ownership,
        wanted: &[u8],
    ) -> Option<Self> {
        let mut chip = Self::all_channels(address, profile, ownership);
        let mut used = 0;
        let mut enables = 0;
        let channels_max = match profile {
            Profile::Fast | Profile::Cover => 3,
            Profile::Total => 1,
        };
        let there = (1..=3).filter(|channel| wanted.contains(channel));
        for channel in there.take(channels_max) {
            chip.channels[used] = channel;
            used += 1;
            enables |= 0x8000 >> channel;
        }
        chip.used = used;
        chip.config = (chip.config & 0x0fff) | enables;
        (used > 0).then_some(chip)
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

    pub(super) fn channels(&self) -> &[u8] {
        &self.channels[..self.used]
    }

    /// Takes over the configuration that a kernel driver gave the chip.
    pub(super) const fn adopt(&mut self, config: u16) {
        self.config = config;
    }

    /// How many slots there are.
    pub(super) const fn slots(&self) -> usize {
        self.used
    }

    pub(super) const fn is_in_turn(&self) -> bool {
        self.in_turn
    }

    /// The same, with bus voltages one a sweep or all in each.
    pub(super) const fn with_turns(self, in_turn: bool) -> Self {
        Self { in_turn: in_turn && self.used > 1, ..self }
    }

    /// All shunts, and the bus voltage of slot `turn` alone: the other bus codes
    /// are 0 and were not read.
    pub(super) fn sweep_turn(
        &self,
        bus: &mut dyn I2cBus,
        turn: usize,
    ) -> Result<Reading, BusError> {
        match self.used {
            2 => self.sweep_shunts::<3>(bus, turn),
            _ => self.sweep_shunts::<4>(bus, turn),
        }
    }

    fn sweep_shunts<const N: usize>(
        &self,
        bus: &mut dyn I2cBus,
        turn: usize,
    ) -> Result<Reading, BusError> {
        let turn = turn % self.used.max(1);
        let mut registers = [self.register(2 * turn + 1); N];
        for (slot, register) in registers.iter_mut().enumerate().take(self.used) {
            *register = self.register(2 * slot);
        }
        let mut values = [0; N];
        read_registers(bus, self.address, &registers, &mut values)?;
        let mut reading = Reading {
            codes: [0; CODES_MAX],
            columns: u8::try_from(2 * self.used).unwrap_or(0),
            overrange: 0,
            ready: Ready::Unread,
        };
        let columns = (0..self.used).map(|slot| 2 * slot).chain([2 * turn + 1]);
        for (column, value) in columns.zip(values) {
            reading.codes[column] = code_of(value);
            if is_full_scale(reading.codes[column]) {
                reading.overrange |= 1 << (column / 2);
            }
        }
        Ok(reading)
    }

    /// Whether shunt and bus of the sampled channels are converted again and
    /// again.
    pub(super) fn is_converting(&self) -> bool {
        let is_enabled = |&channel: &u8| self.config & (0x8000 >> channel) != 0;
        self.config & CONTINUOUS == CONTINUOUS && self.channels().iter().all(is_enabled)
    }

    /// Lengths of a shunt and of a bus conversion, in ns.
    pub(super) fn conversion_ns(&self) -> (u32, u32) {
        conversion_ns(self.config)
    }

    pub(super) fn cycle_ns(&self) -> u32 {
        let (shunt_ns, bus_ns) = self.conversion_ns();
        // Enabled channels take part in the cycle, sampled or not.
        ((self.config >> 12) & 7).count_ones().max(1) * (shunt_ns + bus_ns)
    }

    /// A flag is read in the middle of the transaction: with the sampler
    /// locked to the end of the cycle ([`crate::power::pace`]), the channels
    /// before it have just been converted and are not yet again, and those
    /// after it are read well before their next conversion ends. At 400 kHz
    /// each register stays 300 µs or more away from its own update, so that a
    /// sweep never mixes two cycles.
    pub(super) fn sweep(&self, bus: &mut dyn I2cBus, flag: Flag) -> Result<Reading, BusError> {
        match (self.used, flag) {
            (1, Flag::Read) => self.sweep_registers::<3>(bus, flag),
            (1, Flag::Left) => self.sweep_registers::<2>(bus, flag),
            (2, Flag::Read) => self.sweep_registers::<5>(bus, flag),
            (2, Flag::Left) => self.sweep_registers::<4>(bus, flag),
            (_, Flag::Read) => self.sweep_registers::<7>(bus, flag),
            (_, Flag::Left) => self.sweep_registers::<6>(bus, flag),
        }
    }

    fn sweep_registers<const N: usize>(
        &self,
        bus: &mut dyn I2cBus,
        flag: Flag,
    ) -> Result<Reading, BusError> {
        let mut registers = [MASK_ENABLE; N];
        let columns = 2 * self.used;
        for column in 0..columns {
            registers[self.place(column, flag)] = self.register(column);
        }
        let mut values = [0; N];
        read_registers(bus, self.address, &registers, &mut values)?;
        let mut reading = Reading {
            codes: [0; CODES_MAX],
            columns: u8::try_from(columns).unwrap_or(0),
            overrange: 0,
            ready: Ready::Unread,
        };
        for (column, code) in reading.codes.iter_mut().enumerate().take(columns) {
            *code = code_of(values[self.place(column, flag)]);
            if is_full_scale(*code) {
                reading.overrange |= 1 << (column / 2);
            }
        }
        if flag == Flag::Read {
            reading.ready = match values[self.used] & CONVERSION_READY {
                0 => Ready::NotYet,
                _ => Ready::Converted,
            };
        }
        Ok(reading)
    }

    /// Place of a column in the transaction: after half of them stands the flag.
    const fn place(&self, column: usize, flag: Flag) -> usize {
        match flag {
            Flag::Read if column >= self.used => column + 1,
            Flag::Read | Flag::Left => column,
        }
    }

    fn register(&self, column: usize) -> u8 {
        let first = if column.is_multiple_of(2) { SHUNT_1 } else { BUS_1 };
        first + 2 * (self.channels[column / 2] - 1)
    }
}

/// How many conversions the exponential filter takes together, by bits 11:9.
#[must_use]
pub fn averaging(config: u16) -> u32 {
    AVERAGES[usize::from((config >> 9) & 7)]
}

/// Lengths of a shunt and of a bus conversion for a configuration, in ns.
#[must_use]
pub fn conversion_ns(config: u16) -> (u32, u32) {
    let time = |shift: u16| CONVERSION_US[usize::from((config >> shift) & 7)] * 1_000;
    (time(3), time(6))
}

/// Code of a shunt or bus register: two's complement in bits 15:3, the three
/// reserved bits dropped by an arithmetic shift, so that −1 stays −1.
#[must_use]
pub const fn code_of(register: u16) -> i32 {
    (register.cast_signed() >> 3) as i32
}

/// Whether a code is at either end of the converter's range: the true value
/// may be beyond it.
#[must_use]
pub const fn is_full_scale(code: i32) -> bool {
    code >= CODE_MAX || code < -CODE_MAX
}

/// What one step means over a shunt of `shunt_ohm`.
#[must_use]
pub const fn scale(shunt_ohm: f64) -> RailScale {
    RailScale { shunt_lsb_v: SHUNT_LSB_V, bus_lsb_v: BUS_LSB_V, shunt_ohm }
}

/// Largest errors at 25 °C: offset ±80 µV and ±16 mV, gain 0.25 % for both
/// (SBOS576, "Electrical Characteristics").
#[must_use]
pub const fn limits(shunt_tolerance: f64) -> ErrorLimits {
    ErrorLimits {
        shunt_offset_v: 80e-6,
        shunt_gain: 0.0025,
        bus_offset_v: 16e-3,
        bus_gain: 0.0025,
        shunt_tolerance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::chip::script::{Script, Step};
    use crate::power::chip::{Chip, ChipError};

    fn chip(ownership: Ownership) -> Chip {
        let address = Address7::new(0x40).unwrap();
        Chip::Ina3221(Ina3221::all_channels(address, Profile::Fast, ownership))
    }

    #[test]
    fn codes_are_right_at_every_corner() {
        let corners = [(0x0000, 0), (0x7ff8, 4_095), (0x8000, -4_096), (0xfff8, -1), (0x0008, 1)];
        for (register, code) in corners {
            assert_eq!(code_of(register), code, "{register:#06x}");
        }
        // Datasheet, "Shunt Voltage": −80 mV is 0xC180.
        assert_eq!(f64::from(code_of(0xc180)) * SHUNT_LSB_V, -80e-3);
    }

    #[test]
    fn reserved_bits_change_no_code() {
        for register in [0x0000_u16, 0x7ff8, 0x8000, 0xfff8] {
            assert_eq!(code_of(register | 7), code_of(register));
        }
    }

    #[test]
    fn configure_identifies_first_then_writes_and_reads_back() {
        let mut bus = Script::new(
            0x40,
            vec![
                Step::Read(vec![(0xfe, 0x5449), (0xff, 0x3220)]),
                Step::Write(vec![0x00, 0x70, 0x07]),
                Step::Read(vec![(0x00, 0x7007)]),
            ],
        );
        assert_eq!(chip(Ownership::Ours).configure(&mut bus), Ok(0x7007));
        bus.assert_done();
    }

    #[test]
    fn nothing_is_written_to_a_chip_that_is_another_part() {
        let mut bus = Script::new(0x40, vec![Step::Read(vec![(0xfe, 0), (0xff, 0x11)])]);
        let refused = chip(Ownership::Ours).configure(&mut bus);
        assert!(matches!(refused, Err(ChipError::WrongChip { die: 0x11, .. })), "{refused:?}");
        bus.assert_done();
    }

    #[test]
    fn a_chip_of_the_kernel_is_never_written_and_its_flag_never_read() {
        let mut bus = Script::new(
            0x40,
            vec![
                Step::Read(vec![(0xfe, 0x5449), (0xff, 0x3220)]),
                Step::Read(vec![(0x00, 0x7127)]),
                Step::Read(vec![(1, 8), (2, 16), (3, 24), (4, 32), (5, 40), (6, 48)]),
            ],
        );
        let mut chip = chip(Ownership::KernelDriver);
        assert_eq!(chip.configure(&mut bus), Ok(0x7127));
        assert_eq!(chip.cycle_ns(), 6_600_000);
        let reading = chip.sweep(&mut bus, Flag::Read).unwrap();
        assert_eq!((reading.codes, reading.ready), ([1, 2, 3, 4, 5, 6, 0, 0], Ready::Unread));
        bus.assert_done();
    }

    #[test]
    fn a_sweep_reads_the_flag_between_the_conversions_of_channel_two() {
        let mut bus = Script::new(
            0x40,
            vec![Step::Read(vec![
                (1, 0xfff8),
                (2, 0x1388),
                (3, 8),
                (0x0f, 1),
                (4, 0x7ff8),
                (5, 0x8000),
                (6, 16),
            ])],
        );
        let reading = chip(Ownership::Ours).sweep(&mut bus, Flag::Read).unwrap();
        assert_eq!(reading.codes, [-1, 625, 1, 4_095, -4_096, 2, 0, 0]);
        assert_eq!((reading.overrange, reading.ready), (0b110, Ready::Converted));
    }

    #[test]
    fn an_unconnected_channel_is_neither_converted_nor_read() {
        let address = Address7::new(0x41).unwrap();
        let chip = Ina3221::with_channels(address, Profile::Fast, Ownership::Ours, &[2]).unwrap();
        assert_eq!((chip.config(), chip.cycle_ns()), (0x2007, 280_000));
        let mut bus = Script::new(0x41, vec![Step::Read(vec![(3, 80), (0x0f, 0), (4, 160)])]);
        let reading = chip.sweep(&mut bus, Flag::Read).unwrap();
        assert_eq!((reading.codes[..2].to_vec(), reading.ready), (vec![10, 20], Ready::NotYet));
        assert_eq!(Ina3221::with_channels(address, Profile::Fast, Ownership::Ours, &[]), None);
    }
}
