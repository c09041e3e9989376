//! Power-monitor chips: a closed set, one file a family.
//!
//! Owns what the families share: the sweep as one combined transaction, its
//! bit times, the profile names, and the enum [`Chip`] that is matched.
//! Knows neither wires nor clocks: the sampler stamps and judges.

pub mod ina219;
pub mod ina226;
pub mod ina228;
pub mod ina3221;
mod layout;
mod setting;
mod single;

use thiserror::Error;
use wattline_protocol::code::RailScale;
use wattline_protocol::record::{ChannelTiming, ChipKind, ErrorLimits};

use super::bus::{Address7, BusError, I2cBus, Message};
pub use ina3221::Ina3221;
pub use layout::REGISTER_BITS;
pub use setting::{Difference, Setting};
pub use single::Single;

/// Most rails of one sweep (a status word has eight nibbles, a sweep eight codes).
pub const SLOTS_MAX: usize = 4;
/// Codes of a sweep: shunt and bus of each slot.
pub const CODES_MAX: usize = 2 * SLOTS_MAX;
/// Manufacturer id of Texas Instruments ("TI"), register 0xFE of both families.
pub(crate) const TEXAS_INSTRUMENTS: u16 = 0x5449;
/// Conversion times by their three-bit code, in µs, typical at 25 °C; the
/// chip's own oscillator makes them up to 10 % longer (SBOS576, SBOS547:
/// "Electrical Characteristics"; the same table in both).
pub(crate) const CONVERSION_US: [u32; 8] = [140, 204, 332, 588, 1_100, 2_116, 4_156, 8_244];
/// Averaging counts by their three-bit code.
pub(crate) const AVERAGES: [u32; 8] = [1, 4, 16, 64, 128, 256, 512, 1_024];

/// How a chip divides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// 140 µs for each conversion: the most sweeps.
    #[default]
    Fast,
    /// 1.1 ms for the shunt, 140 µs for the bus: the load is watched 89 % of
    /// a channel's time (a third of it with three channels).
    Cover,
    /// The first of the channels alone, converted as in `fast`: the most values
    /// of one rail. The same as `fast` for a chip of one channel.
    Total,
}

impl Profile {
    /// Bits 8:3 of the configuration register of INA3221 and INA226 families.
    pub(crate) const fn conversion_bits(self) -> u16 {
        match self {
            Self::Fast | Self::Total => 0,
            Self::Cover => 4 << 3,
        }
    }

    /// The profile's name in measures and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Cover => "cover",
            Self::Total => "total",
        }
    }
}

/// Who configures the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// No kernel driver holds the address: we configure, and read the ready flag.
    Ours,
    /// A kernel driver holds it: no register is written, and the ready flag,
    /// which a read would clear under the driver, is left alone.
    KernelDriver,
}

/// Whether a sweep reads the ready flag beside the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// It does; the flag is cleared.
    Read,
    /// It reads the values alone, the fewest bits there are.
    Left,
}

/// Whether a conversion ended since the flag was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// A cycle of all channels ended since.
    Converted,
    /// None did.
    NotYet,
    /// The flag belongs to a kernel driver and was not read.
    Unread,
}

/// What one sweep's transaction returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Shunt and bus code of each slot in turn, right-aligned and signed.
    pub codes: [i32; CODES_MAX],
    /// How many of them are used.
    pub columns: u8,
    /// Bit `s` is set where slot `s` shows a full-scale code.
    pub overrange: u8,
    /// The conversion-ready flag.
    pub ready: Ready,
}

/// Why a chip cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChipError {
    /// The bus did not carry the transaction.
    #[error("register {register:#04x}: {source}")]
    Bus {
        /// The register that was asked for.
        register: u8,
        /// What the bus said.
        source: BusError,
    },
    /// The identity registers are those of another part: nothing was written.
    #[error(
        "{} at {address:#04x}: manufacturer {manufacturer:#06x}, die {die:#06x}; expected \
         manufacturer {TEXAS_INSTRUMENTS:#06x}, die {expected_die:#06x}",
        kind.name()
    )]
    WrongChip {
        /// The chip that was expected.
        kind: ChipKind,
        /// Where.
        address: u8,
        /// Register 0xFE as read.
        manufacturer: u16,
        /// Register 0xFF as read.
        die: u16,
        /// Register 0xFF of the expected chip.
        expected_die: u16,
    },
    /// The chip has no identity register, and its configuration register is
    /// none of the part that it was named as: nothing was written.
    #[error(
        "{} at {address:#04x}: configuration {found:#06x} is none of this chip; \
         check the chip's name",
        kind.name()
    )]
    Contradicted {
        /// The chip that was named.
        kind: ChipKind,
        /// Where.
        address: u8,
        /// The register as read.
        found: u16,
    },
    /// The configuration did not read back as written.
    #[error("{} at {address:#04x}: configuration {found:#06x}, wrote {written:#06x}", kind.name())]
    NotConfigured {
        /// The chip.
        kind: ChipKind,
        /// Where.
        address: u8,
        /// The register as written.
        written: u16,
        /// The register as read back.
        found: u16,
    },
}

/// A power-monitor chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// Three channels, 13 bit.
    Ina3221(Ina3221),
    /// One channel: all other families.
    Single(Single),
}

/// What a driver is made of, whatever the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChipSetup {
    /// 7-bit address.
    pub address: Address7,
    /// How the chip divides its time.
    pub profile: Profile,
    /// Who configures it.
    pub ownership: Ownership,
}

impl Chip {
    /// The driver for a chip with these channels; `None` for a kind that has
    /// no registers of ours, or where it has none of the channels.
    #[must_use]
    pub fn new(kind: ChipKind, setup: ChipSetup, channels: &[u8]) -> Option<Self> {
        let ChipSetup { address, profile, ownership } = setup;
        match kind {
            ChipKind::Ina3221 => {
                Ina3221::with_channels(address, profile, ownership, channels).map(Self::Ina3221)
            }
            _ if channels.contains(&1) => {
                Single::new(kind, address, profile, ownership).map(Self::Single)
            }
            _ => None,
        }
    }

    /// Which chip.
    #[must_use]
    pub const fn kind(&self) -> ChipKind {
        match self {
            Self::Ina3221(_) => ChipKind::Ina3221,
            Self::Single(chip) => chip.kind(),
        }
    }

    /// Its 7-bit address.
    #[must_use]
    pub const fn address(&self) -> Address7 {
        match self {
            Self::Ina3221(chip) => chip.address(),
            Self::Single(chip) => chip.address(),
        }
    }

    /// Who configures it.
    #[must_use]
    pub const fn ownership(&self) -> Ownership {
        match self {
            Self::Ina3221(chip) => chip.ownership(),
            Self::Single(chip) => chip.ownership(),
        }
    }

    /// Reads what the chip shows of its identity; writes nothing. The name
    /// itself comes from the running system or the user's configuration: an id
    /// register, or where the part has none its configuration register, may
    /// only confirm or refuse it.
    ///
    /// # Errors
    /// [`ChipError::WrongChip`] and [`ChipError::Contradicted`] where another
    /// part answers, [`ChipError::Bus`] where none does.
    pub fn identify(&self, bus: &mut dyn I2cBus) -> Result<(), ChipError> {
        match self {
            Self::Ina3221(_) => {
                let expected_die = ina3221::DIE_ID;
                self.expect_ids(
                    bus,
                    [MANUFACTURER_ID, DIE_ID],
                    |die| die == expected_die,
                    expected_die,
                )
            }
            Self::Single(chip) => chip.identify(self, bus),
        }
    }

    /// Compares manufacturer and die id.
    fn expect_ids(
        &self,
        bus: &mut dyn I2cBus,
        registers: [u8; 2],
        is_die: impl Fn(u16) -> bool,
        expected_die: u16,
    ) -> Result<(), ChipError> {
        let mut ids = [0; 2];
        read_registers(bus, self.address(), &registers, &mut ids)
            .map_err(|source| ChipError::Bus { register: registers[0], source })?;
        let [manufacturer, die] = ids;
        if manufacturer == TEXAS_INSTRUMENTS && is_die(die) {
            return Ok(());
        }
        let (kind, address) = (self.kind(), self.address().get());
        Err(ChipError::WrongChip { kind, address, manufacturer, die, expected_die })
    }

    /// Identifies the chip, writes its configuration and reads it back;
    /// returns the register as the chip holds it. Where a kernel driver owns
    /// the chip nothing is written, and the driver's configuration is adopted.
    ///
    /// # Errors
    /// [`ChipError`]; nothing is written to a chip that is not identified.
    pub fn configure(&mut self, bus: &mut dyn I2cBus) -> Result<u16, ChipError> {
        self.identify(bus)?;
        let (kind, address, wanted) = (self.kind(), self.address(), self.config());
        let register = self.config_register();
        if self.ownership() == Ownership::Ours {
            if let Self::Single(chip) = self
                && let Some(range) = chip.range_register()
            {
                write_register(bus, address, range, 0)?;
            }
            write_register(bus, address, register, wanted)?;
        }
        let found = self.read_config(bus)?;
        match self.ownership() {
            Ownership::Ours if found == wanted => Ok(found),
            Ownership::Ours => {
                let address = address.get();
                Err(ChipError::NotConfigured { kind, address, written: wanted, found })
            }
            Ownership::KernelDriver => {
                match self {
                    Self::Ina3221(chip) => chip.adopt(found),
                    Self::Single(chip) => {
                        let range = chip.range_register();
                        let range =
                            range.map(|register| read_one(bus, address, register)).transpose()?;
                        chip.adopt(found, range);
                    }
                }
                Ok(found)
            }
        }
    }

    /// The register that holds conversion times and mode.
    const fn config_register(&self) -> u8 {
        match self {
            Self::Ina3221(_) => CONFIG,
            Self::Single(chip) => chip.config_register(),
        }
    }

    /// The configuration register as the chip holds it now.
    ///
    /// # Errors
    /// [`ChipError::Bus`].
    pub fn read_config(&self, bus: &mut dyn I2cBus) -> Result<u16, ChipError> {
        read_one(bus, self.address(), self.config_register())
    }

    /// The configuration register as this program wants it.
    #[must_use]
    pub const fn config(&self) -> u16 {
        match self {
            Self::Ina3221(chip) => chip.config(),
            Self::Single(chip) => chip.config(),
        }
    }

    /// Reads all channels in one combined transaction. Allocates nothing. The
    /// flag of a chip that is not ours is left alone, whatever is asked.
    ///
    /// # Errors
    /// [`BusError`] where the transaction did not happen.
    pub fn sweep(&self, bus: &mut dyn I2cBus, flag: Flag) -> Result<Reading, BusError> {
        let flag = self.allowed(flag);
        match self {
            Self::Ina3221(chip) => chip.sweep(bus, flag),
            Self::Single(chip) => chip.sweep(bus, flag),
        }
    }

    /// Whether bus voltages are read one a sweep, in turn: what a slow bus saves
    /// by it, all shunts gain.
    #[must_use]
    pub const fn is_in_turn(&self) -> bool {
        match self {
            Self::Ina3221(chip) => chip.is_in_turn(),
            Self::Single(_) => false,
        }
    }

    /// The same chip with bus voltages in turn, or all of them in each sweep; a
    /// chip of one channel reads both always.
    #[must_use]
    pub const fn with_turns(self, in_turn: bool) -> Self {
        match self {
            Self::Ina3221(chip) => Self::Ina3221(chip.with_turns(in_turn)),
            Self::Single(chip) => Self::Single(chip),
        }
    }

    /// Reads all shunts and the bus voltage of slot `turn` in one combined
    /// transaction; the other bus codes are 0. Allocates nothing.
    ///
    /// # Errors
    /// [`BusError`] where the transaction did not happen.
    pub fn sweep_turn(&self, bus: &mut dyn I2cBus, turn: usize) -> Result<Reading, BusError> {
        match self {
            Self::Ina3221(chip) => chip.sweep_turn(bus, turn),
            Self::Single(chip) => chip.sweep(bus, Flag::Left),
        }
    }

    /// Reads the ready flag alone, which clears it in every family but the
    /// INA219's. Unread where the chip is not ours.
    ///
    /// # Errors
    /// [`BusError`] where the transaction did not happen.
    pub fn poll(&self, bus: &mut dyn I2cBus) -> Result<Ready, BusError> {
        if self.ownership() == Ownership::KernelDriver {
            return Ok(Ready::Unread);
        }
        let (register, bit) = match self {
            Self::Ina3221(_) => (ina3221::MASK_ENABLE, ina3221::CONVERSION_READY),
            Self::Single(chip) => chip.flag(),
        };
        let mut value = [0; 1];
        read_registers(bus, self.address(), &[register], &mut value)?;
        Ok(if value[0] & bit == 0 { Ready::NotYet } else { Ready::Converted })
    }

    /// The register whose read clears the flag, where the flag's own does not.
    #[must_use]
    pub const fn clearing_register(&self) -> Option<u8> {
        match self {
            Self::Ina3221(_) => None,
            Self::Single(chip) => chip.clearing_register(),
        }
    }

    /// Reads the register that clears the flag; nothing where there is none.
    ///
    /// # Errors
    /// [`BusError`] where the transaction did not happen.
    pub fn clear(&self, bus: &mut dyn I2cBus) -> Result<(), BusError> {
        match (self.ownership(), self.clearing_register()) {
            (Ownership::Ours, Some(register)) => {
                read_registers(bus, self.address(), &[register], &mut [0; 1])
            }
            (Ownership::Ours, None) | (Ownership::KernelDriver, _) => Ok(()),
        }
    }

    /// The flag of a kernel driver's chip is never read.
    fn allowed(&self, flag: Flag) -> Flag {
        match self.ownership() {
            Ownership::Ours => flag,
            Ownership::KernelDriver => Flag::Left,
        }
    }

    /// Sampled channels, numbered from 1, in the order of their slots.
    #[must_use]
    pub fn channels(&self) -> &[u8] {
        match self {
            Self::Ina3221(chip) => chip.channels(),
            Self::Single(_) => &[1],
        }
    }

    /// Nominal time in which all channels are converted once, in ns.
    #[must_use]
    pub fn cycle_ns(&self) -> u32 {
        match self {
            Self::Ina3221(chip) => chip.cycle_ns(),
            Self::Single(chip) => chip.cycle_ns(),
        }
    }

    /// What one code step means for a rail over `shunt_ohm`.
    #[must_use]
    pub fn scale(&self, shunt_ohm: f64) -> RailScale {
        match self {
            Self::Ina3221(_) => ina3221::scale(shunt_ohm),
            Self::Single(chip) => chip.scale(shunt_ohm),
        }
    }

    /// Error limits at 25 °C for a shunt of the given tolerance (a fraction).
    #[must_use]
    pub const fn limits(&self, shunt_tolerance: f64) -> ErrorLimits {
        limits_of(self.kind(), shunt_tolerance)
    }

    /// When the conversions of slot `slot` happen and when its registers are
    /// latched by sweeps of this kind, for a bus of `clock_hz`.
    #[must_use]
    pub fn timing(&self, slot: usize, flag: Flag, clock_hz: u32) -> ChannelTiming {
        let (shunt_ns, bus_ns) = match self {
            Self::Ina3221(chip) => chip.conversion_ns(),
            Self::Single(chip) => chip.conversion_ns(),
        };
        let slot = u32::try_from(slot).unwrap_or(0);
        let start = slot * (shunt_ns + bus_ns);
        let latch = |column: u32| bits_ns(self.latch_bits_before_end(column, flag), clock_hz);
        // In turn, a bus voltage is carried over all sweeps but its own.
        let carried = match (self, flag) {
            (Self::Ina3221(chip), Flag::Left) if chip.is_in_turn() => {
                u32::try_from(chip.slots() - 1).unwrap_or(0)
            }
            _ => 0,
        };
        let carried_ns = carried * bits_ns(self.transaction_bits(flag), clock_hz);
        ChannelTiming {
            shunt_start_ns: start,
            shunt_conversion_ns: shunt_ns,
            bus_start_ns: start + shunt_ns,
            bus_conversion_ns: bus_ns,
            shunt_latch_before_end_ns: latch(2 * slot),
            bus_latch_before_end_ns: latch(2 * slot + 1) + carried_ns,
        }
    }
}

/// Error limits at 25 °C of a chip over a shunt of the given tolerance.
#[must_use]
pub const fn limits_of(kind: ChipKind, shunt_tolerance: f64) -> ErrorLimits {
    match kind {
        ChipKind::Ina3221 => ina3221::limits(shunt_tolerance),
        ChipKind::Ina219 | ChipKind::Ina220 => ina219::limits(shunt_tolerance),
        ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => {
            ina228::limits(kind, shunt_tolerance)
        }
        _ => ina226::limits(kind, shunt_tolerance),
    }
}

/// Configuration register of both families.
pub(crate) const CONFIG: u8 = 0x00;
/// Manufacturer id of both families.
const MANUFACTURER_ID: u8 = 0xfe;
/// Die id of both families.
const DIE_ID: u8 = 0xff;

/// Duration of `bits` bit times on a bus of `clock_hz`, in ns, rounded up.
#[must_use]
pub fn bits_ns(bits: u32, clock_hz: u32) -> u32 {
    let ns = (u64::from(bits) * 1_000_000_000).div_ceil(u64::from(clock_hz.max(1)));
    u32::try_from(ns).unwrap_or(u32::MAX)
}

pub(super) fn write_register(
    bus: &mut dyn I2cBus,
    address: Address7,
    register: u8,
    value: u16,
) -> Result<(), ChipError> {
    let [high, low] = value.to_be_bytes();
    bus.transfer(address, &mut [Message::Write(&[register, high, low])])
        .map_err(|source| ChipError::Bus { register, source })
}

/// Reads one register of two bytes.
pub(super) fn read_one(
    bus: &mut dyn I2cBus,
    address: Address7,
    register: u8,
) -> Result<u16, ChipError> {
    let mut value = [0; 1];
    read_registers(bus, address, &[register], &mut value)
        .map_err(|source| ChipError::Bus { register, source })?;
    Ok(value[0])
}

/// Reads `registers` in one combined transaction, in their order.
fn read_registers<const N: usize>(
    bus: &mut dyn I2cBus,
    address: Address7,
    registers: &[u8; N],
    values: &mut [u16; N],
) -> Result<(), BusError> {
    let mut bytes = [[0; 2]; N];
    let mut pointers = registers.iter();
    let mut messages = bytes.each_mut().map(|value| {
        let pointer = pointers.next().map_or(&[][..], core::slice::from_ref);
        [Message::Write(pointer), Message::Read(value)]
    });
    bus.transfer(address, messages.as_flattened_mut())?;
    *values = bytes.map(u16::from_be_bytes);
    Ok(())
}

#[cfg(test)]
pub(crate) mod script;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_registers_at_400_khz_take_825_microseconds() {
        let chip = Chip::Ina3221(Ina3221::all_channels(
            Address7::new(0x40).unwrap(),
            Profile::Fast,
            Ownership::Ours,
        ));
        assert_eq!(chip.transaction_bits(Flag::Read), 330);
        assert_eq!(bits_ns(chip.transaction_bits(Flag::Read), 400_000), 825_000);
        assert_eq!(chip.transaction_bits(Flag::Left), 283);
        assert_eq!(chip.cycle_ns(), 840_000);
    }
}
