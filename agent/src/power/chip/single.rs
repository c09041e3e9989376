//! The driver of every chip with one channel: which registers a sweep reads,
//! in which order, and what they say.
//!
//! Owns the sweep, the identity and the configuration that the families share;
//! register maps and conversions are each family's file.

use wattline_protocol::code::RailScale;
use wattline_protocol::record::ChipKind;

use super::{
    CODES_MAX, CONFIG, Chip, ChipError, DIE_ID, Flag, MANUFACTURER_ID, Ownership, Profile, Reading,
    Ready, TEXAS_INSTRUMENTS, ina219, ina226, ina228, read_one,
};
use crate::power::bus::{Address7, BusError, I2cBus, Message};

/// Widest register of a sweep, in bytes.
const BYTES_MAX: usize = 3;

/// A chip of one channel as the sampler drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Single {
    kind: ChipKind,
    family: Family,
    address: Address7,
    ownership: Ownership,
    /// Conversion times and mode.
    config: u16,
    /// CONFIG of the INA228 family, where the range stands.
    range: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ina219,
    Ina226,
    Ina228,
}

impl Family {
    const fn of(kind: ChipKind) -> Option<Self> {
        match kind {
            ChipKind::Ina219 | ChipKind::Ina220 => Some(Self::Ina219),
            ChipKind::Ina226 | ChipKind::Ina230 | ChipKind::Ina231 | ChipKind::Ina260 => {
                Some(Self::Ina226)
            }
            ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => Some(Self::Ina228),
            ChipKind::Ina3221
            | ChipKind::Driver
            | ChipKind::PowerMeter
            | ChipKind::EnergyCounter => None,
        }
    }

    /// Registers in the order of a sweep that reads the flag. The flag of the
    /// INA219 comes with the bus voltage, and a read of its power clears it.
    const fn registers(self) -> [u8; 3] {
        match self {
            Self::Ina219 => [ina219::SHUNT, ina219::BUS, ina219::POWER],
            Self::Ina226 => [ina226::SHUNT, ina226::MASK_ENABLE, ina226::BUS],
            Self::Ina228 => [ina228::SHUNT, ina228::DIAG_ALERT, ina228::BUS],
        }
    }

    /// The same without the flag.
    const fn values(self) -> [u8; 2] {
        match self {
            Self::Ina219 => [ina219::SHUNT, ina219::BUS],
            Self::Ina226 => [ina226::SHUNT, ina226::BUS],
            Self::Ina228 => [ina228::SHUNT, ina228::BUS],
        }
    }

    const fn ready_bit(self) -> u16 {
        match self {
            Self::Ina219 => ina219::CONVERSION_READY,
            Self::Ina226 => ina226::CONVERSION_READY,
            Self::Ina228 => ina228::CONVERSION_READY,
        }
    }
}

impl Single {
    /// The chip at `address`; `None` for a kind that has more channels or no
    /// registers.
    #[must_use]
    pub const fn new(
        kind: ChipKind,
        address: Address7,
        profile: Profile,
        ownership: Ownership,
    ) -> Option<Self> {
        let Some(family) = Family::of(kind) else { return None };
        let config = match family {
            Family::Ina219 => ina219::config(profile),
            Family::Ina226 => ina226::config(kind, profile),
            Family::Ina228 => ina228::config(profile),
        };
        Some(Self { kind, family, address, ownership, config, range: 0 })
    }

    pub(super) const fn kind(&self) -> ChipKind {
        self.kind
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

    pub(super) const fn config_register(&self) -> u8 {
        match self.family {
            Family::Ina219 | Family::Ina226 => CONFIG,
            Family::Ina228 => ina228::ADC_CONFIG,
        }
    }

    /// The register that holds the range, where it is one of its own.
    pub(super) const fn range_register(&self) -> Option<u8> {
        match self.family {
            Family::Ina219 | Family::Ina226 => None,
            Family::Ina228 => Some(ina228::CONFIG),
        }
    }

    /// The register that a kernel driver calibrates; none in the INA260.
    pub(super) const fn calibration_register(&self) -> Option<u8> {
        match (self.family, self.kind) {
            (_, ChipKind::Ina260) => None,
            (Family::Ina219 | Family::Ina226, _) => Some(ina219::CALIBRATION),
            (Family::Ina228, _) => Some(ina228::SHUNT_CAL),
        }
    }

    /// Whether shunt and bus are converted again and again.
    pub(super) const fn is_converting(&self) -> bool {
        match self.family {
            Family::Ina219 | Family::Ina226 => self.config & 7 == 7,
            // MODE 1011 and, with the temperature, 1111.
            Family::Ina228 => self.config & 0xb000 == 0xb000,
        }
    }

    /// Takes over what a kernel driver gave the chip.
    pub(super) fn adopt(&mut self, config: u16, range: Option<u16>) {
        self.config = config;
        self.range = range.unwrap_or(self.range);
    }

    pub(super) fn identify(&self, chip: &Chip, bus: &mut dyn I2cBus) -> Result<(), ChipError> {
        let ids = [MANUFACTURER_ID, DIE_ID];
        match (self.family, self.kind) {
            (Family::Ina226, kind) => match ina226::die_id(kind) {
                Some(die) => chip.expect_ids(bus, ids, |found| found == die, die),
                None => self.not_contradicted(bus),
            },
            (Family::Ina228, kind) => {
                let ids = [ina228::MANUFACTURER_ID, ina228::DEVICE_ID];
                let expected = ina228::device_id(kind);
                let is_die = |found: u16| expected.is_none_or(|die| found & 0xfff0 == die);
                chip.expect_ids(bus, ids, is_die, expected.unwrap_or(0x2370))
            }
            (Family::Ina219, _) => self.not_contradicted(bus),
        }
    }

    /// Bits of CONFIG that a part without an id always shows: 15 and 14 clear
    /// in the INA219, 14:12 = 100 in the INA230 and INA231. An INA219 has no
    /// manufacturer id either.
    fn not_contradicted(&self, bus: &mut dyn I2cBus) -> Result<(), ChipError> {
        let found = read_one(bus, self.address, CONFIG)?;
        let fits = match self.family {
            Family::Ina219 => {
                found & 0xc000 == 0
                    && read_one(bus, self.address, MANUFACTURER_ID)? != TEXAS_INSTRUMENTS
            }
            Family::Ina226 | Family::Ina228 => found & 0xf000 == ina226::fixed_bits(self.kind),
        };
        if fits {
            return Ok(());
        }
        Err(ChipError::Contradicted { kind: self.kind, address: self.address.get(), found })
    }

    /// Lengths of a shunt and of a bus conversion, averaging included, in ns.
    pub(super) fn conversion_ns(&self) -> (u32, u32) {
        let averaged = |(shunt_ns, bus_ns, average)| (shunt_ns * average, bus_ns * average);
        match self.family {
            Family::Ina219 => ina219::conversion_ns(self.config),
            Family::Ina226 => averaged(ina226::conversion_ns(self.config)),
            Family::Ina228 => averaged(ina228::conversion_ns(self.config)),
        }
    }

    pub(super) fn cycle_ns(&self) -> u32 {
        let (shunt_ns, bus_ns) = self.conversion_ns();
        let temperature_ns = match self.family {
            Family::Ina219 | Family::Ina226 => 0,
            Family::Ina228 => {
                ina228::temperature_ns(self.config) * ina228::conversion_ns(self.config).2
            }
        };
        shunt_ns + bus_ns + temperature_ns
    }

    pub(super) fn scale(&self, shunt_ohm: f64) -> RailScale {
        match self.family {
            Family::Ina219 => ina219::scale(self.config, shunt_ohm),
            Family::Ina226 => ina226::scale(self.kind, shunt_ohm),
            Family::Ina228 => ina228::scale(self.kind, self.range, shunt_ohm),
        }
    }

    /// The register with the ready flag, and the flag's bit.
    pub(super) const fn flag(&self) -> (u8, u16) {
        let register = match self.family {
            Family::Ina219 => ina219::BUS,
            Family::Ina226 => ina226::MASK_ENABLE,
            Family::Ina228 => ina228::DIAG_ALERT,
        };
        (register, self.family.ready_bit())
    }

    /// The register whose read clears the flag, where the flag's own does not.
    pub(super) const fn clearing_register(&self) -> Option<u8> {
        match self.family {
            Family::Ina219 => Some(ina219::POWER),
            Family::Ina226 | Family::Ina228 => None,
        }
    }

    /// Bytes of the shunt and of the bus register.
    pub(super) const fn value_bytes(&self) -> u32 {
        match self.family {
            Family::Ina219 | Family::Ina226 => 2,
            Family::Ina228 => ina228::value_bytes(self.kind) as u32,
        }
    }

    /// Bytes of the register at place `index` of the sweep.
    pub(super) const fn bytes_of(&self, index: u32, flag: Flag) -> u32 {
        match (self.family, flag, index) {
            (Family::Ina228, Flag::Read, 1) => 2,
            _ => self.value_bytes(),
        }
    }

    /// Place of a column in a sweep that reads the flag.
    pub(super) const fn place(&self, column: u32) -> u32 {
        match self.family {
            Family::Ina219 => column,
            Family::Ina226 | Family::Ina228 => 2 * column,
        }
    }

    /// A flag stands between the two registers, as in the INA3221.
    pub(super) fn sweep(&self, bus: &mut dyn I2cBus, flag: Flag) -> Result<Reading, BusError> {
        if flag == Flag::Left {
            let values = self.read(bus, &self.family.values(), flag)?;
            return Ok(self.reading(values, Ready::Unread));
        }
        let values = self.read(bus, &self.family.registers(), flag)?;
        let shunt_and_bus = [self.place(0), self.place(1)]
            .map(|place| usize::try_from(place).map_or(0, |place| values[place]));
        let flags = u16::try_from(values[1] & 0xffff).unwrap_or(0);
        let ready = match flags & self.family.ready_bit() {
            0 => Ready::NotYet,
            _ => Ready::Converted,
        };
        Ok(self.reading(shunt_and_bus, ready))
    }

    /// Reads `registers` in one combined transaction.
    fn read<const N: usize>(
        &self,
        bus: &mut dyn I2cBus,
        registers: &[u8; N],
        flag: Flag,
    ) -> Result<[u32; N], BusError> {
        let mut bytes = [[0; BYTES_MAX]; N];
        let mut pointers = registers.iter();
        let mut index = 0;
        let mut messages = bytes.each_mut().map(|value| {
            let pointer = pointers.next().map_or(&[][..], core::slice::from_ref);
            let width = usize::try_from(self.bytes_of(index, flag)).unwrap_or(BYTES_MAX);
            index += 1;
            [Message::Write(pointer), Message::Read(value.get_mut(..width).unwrap_or_default())]
        });
        bus.transfer(self.address, messages.as_flattened_mut())?;
        let mut index = 0;
        Ok(bytes.map(|[high, middle, low]| {
            let value = u32::from_be_bytes([0, high, middle, low]);
            let unread = 8 * (3 - self.bytes_of(index, flag));
            index += 1;
            value >> unread
        }))
    }

    fn reading(&self, [shunt, voltage]: [u32; 2], ready: Ready) -> Reading {
        let short = |value: u32| u16::try_from(value & 0xffff).unwrap_or(0);
        let (codes, (shunt_max, bus_max), overflow) = match self.family {
            Family::Ina219 => (
                (
                    ina219::shunt_code_of(short(shunt), self.config),
                    ina219::bus_code_of(short(voltage), self.config),
                ),
                ina219::code_max(self.config),
                short(voltage) & ina219::OVERFLOW != 0,
            ),
            Family::Ina226 => (
                (ina226::shunt_code_of(short(shunt)), ina226::bus_code_of(short(voltage))),
                (ina226::CODE_MAX, ina226::CODE_MAX),
                false,
            ),
            Family::Ina228 => {
                let max = ina228::code_max(self.kind);
                (
                    (
                        ina228::shunt_code_of(self.kind, shunt),
                        ina228::bus_code_of(self.kind, voltage),
                    ),
                    (max, max),
                    false,
                )
            }
        };
        let is_over =
            overflow || codes.0 >= shunt_max || codes.0 <= -shunt_max || codes.1 >= bus_max;
        let mut reading =
            Reading { codes: [0; CODES_MAX], columns: 2, overrange: u8::from(is_over), ready };
        (reading.codes[0], reading.codes[1]) = codes;
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::chip::ChipSetup;
    use crate::power::chip::script::{Script, Step};

    fn chip(kind: ChipKind, ownership: Ownership) -> Chip {
        let address = Address7::new(0x44).unwrap();
        let setup = ChipSetup { address, profile: Profile::Fast, ownership };
        Chip::new(kind, setup, &[1]).unwrap()
    }

    #[test]
    fn an_ina219_is_believed_by_its_name_unless_its_registers_contradict() {
        let steps = |config, id| {
            vec![
                Step::Read(vec![(0x00, config)]),
                Step::Read(vec![(0xfe, id)]),
                Step::Write(vec![0x00, 0x38, 0x07]),
                Step::Read(vec![(0x00, 0x3807)]),
            ]
        };
        let mut bus = Script::new(0x44, steps(0x399f, 0x399f));
        assert_eq!(chip(ChipKind::Ina219, Ownership::Ours).configure(&mut bus), Ok(0x3807));
        bus.assert_done();
        // A TI part with an id, and one whose bit 14 is set: nothing is written.
        for (config, id, reads) in [(0x399f, 0x5449, 2), (0x4127, 0, 1)] {
            let mut steps = steps(config, id);
            steps.truncate(reads);
            let mut bus = Script::new(0x44, steps);
            let refused = chip(ChipKind::Ina219, Ownership::Ours).configure(&mut bus);
            assert!(matches!(refused, Err(ChipError::Contradicted { .. })), "{refused:?}");
            bus.assert_done();
        }
    }

    #[test]
    fn an_ina238_is_told_from_an_ina228_before_anything_is_written() {
        let mut bus = Script::new(0x44, vec![Step::Read(vec![(0x3e, 0x5449), (0x3f, 0x2281)])]);
        let refused = chip(ChipKind::Ina238, Ownership::Ours).configure(&mut bus);
        assert!(matches!(refused, Err(ChipError::WrongChip { die: 0x2281, .. })), "{refused:?}");
        let mut bus = Script::new(
            0x44,
            vec![
                Step::Read(vec![(0x3e, 0x5449), (0x3f, 0x2381)]),
                Step::Write(vec![0x00, 0, 0]),
                Step::Write(vec![0x01, 0xb0, 0x00]),
                Step::Read(vec![(0x01, 0xb000)]),
            ],
        );
        assert_eq!(chip(ChipKind::Ina238, Ownership::Ours).configure(&mut bus), Ok(0xb000));
        bus.assert_done();
    }

    #[test]
    fn an_ina219_gives_its_flag_with_the_bus_and_clears_it_by_its_power() {
        let mut bus = Script::new(0x44, vec![Step::Read(vec![(1, 0xffc0), (2, 0x5dc2), (3, 0)])]);
        let reading = chip(ChipKind::Ina219, Ownership::Ours).sweep(&mut bus, Flag::Read).unwrap();
        // −640 µV is one step down; 0x5DC2 >> 3 = 3000 counts = 12 V = 375 steps of 32 mV.
        assert_eq!((reading.codes[..2].to_vec(), reading.ready), (vec![-1, 375], Ready::Converted));
    }

    #[test]
    fn an_overflow_flag_of_the_ina219_is_overrange() {
        let mut bus = Script::new(0x44, vec![Step::Read(vec![(1, 0), (2, 0x5dc3), (3, 0)])]);
        let reading = chip(ChipKind::Ina219, Ownership::Ours).sweep(&mut bus, Flag::Read).unwrap();
        assert_eq!(reading.overrange, 1);
    }

    #[test]
    fn the_range_of_a_kernels_ina238_is_adopted() {
        let mut bus = Script::new(
            0x44,
            vec![
                Step::Read(vec![(0x3e, 0x5449), (0x3f, 0x2380)]),
                Step::Read(vec![(0x01, 0xfb6a)]),
                Step::Read(vec![(0x00, 0x0010)]),
            ],
        );
        let mut chip = chip(ChipKind::Ina238, Ownership::KernelDriver);
        assert_eq!(chip.configure(&mut bus), Ok(0xfb6a));
        assert!((chip.scale(0.01).shunt_lsb_v - 1.25e-6).abs() < 1e-15);
        assert_eq!(chip.cycle_ns(), 16 * 3 * 1_052_000);
    }
}
