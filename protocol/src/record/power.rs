//! Records of rails, chips and the sampler.
//!
//! Owns what a host must know to turn codes into energy with an uncertainty.
//! Holds numbers from datasheets only as values that the agent filled in.

use serde::{Deserialize, Serialize};

use crate::code::RailScale;
use crate::units::BoardTime;

/// What turns a rail's power into codes: a chip that Wattline drives by its
/// registers, or somebody who read one for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChipKind {
    /// TI INA3221: three channels, 13 bit.
    Ina3221,
    /// TI INA226: one channel, 16 bit.
    Ina226,
    /// TI INA219: one channel, 12 bit.
    Ina219,
    /// TI INA220: an INA219 for high-side and low-side use.
    Ina220,
    /// TI INA230: an INA226 for 28 V.
    Ina230,
    /// TI INA231: an INA230 in a smaller package.
    Ina231,
    /// TI INA260: an INA226 with a shunt of 2 mΩ inside.
    Ina260,
    /// TI INA228: one channel, 20 bit.
    Ina228,
    /// TI INA237: one channel, 16 bit, 85 V.
    Ina237,
    /// TI INA238: an INA237 with tighter limits.
    Ina238,
    /// A kernel driver's files that give volts and amperes: current in the
    /// place of the shunt's code, voltage in that of the bus's.
    Driver,
    /// A file that gives watts alone: power in the place of the shunt's code,
    /// and 1 in that of the bus's.
    PowerMeter,
    /// An energy counter: the mean power since the row before, as
    /// [`Self::PowerMeter`] has it.
    EnergyCounter,
}

impl ChipKind {
    /// The chip's name in lower case, as a kernel driver has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ina3221 => "ina3221",
            Self::Ina226 => "ina226",
            Self::Ina219 => "ina219",
            Self::Ina220 => "ina220",
            Self::Ina230 => "ina230",
            Self::Ina231 => "ina231",
            Self::Ina260 => "ina260",
            Self::Ina228 => "ina228",
            Self::Ina237 => "ina237",
            Self::Ina238 => "ina238",
            Self::Driver => "driver",
            Self::PowerMeter => "power meter",
            Self::EnergyCounter => "energy counter",
        }
    }

    /// The chip of that name, as a kernel driver has it; `None` for every
    /// other name, those of what is no chip among them.
    #[must_use]
    pub fn chip_named(name: &str) -> Option<Self> {
        let chips = [
            Self::Ina3221,
            Self::Ina226,
            Self::Ina219,
            Self::Ina220,
            Self::Ina230,
            Self::Ina231,
            Self::Ina260,
            Self::Ina228,
            Self::Ina237,
            Self::Ina238,
        ];
        chips.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its codes tell volts and amperes; else they tell watts alone.
    #[must_use]
    pub const fn tells_volts(self) -> bool {
        !matches!(self, Self::PowerMeter | Self::EnergyCounter)
    }

    /// Whether it is a chip on an I²C bus, with an address.
    #[must_use]
    pub const fn is_on_i2c(self) -> bool {
        !matches!(self, Self::Driver | Self::PowerMeter | Self::EnergyCounter)
    }
}

/// Where a rail's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RailSource {
    /// Registers of a chip, read over I²C.
    I2c,
    /// The kernel's hwmon tree.
    Hwmon,
    /// The kernel's IIO tree.
    Iio,
    /// Running average power limit counters of a processor.
    Rapl,
    /// NVIDIA's management library.
    Nvml,
    /// A power-management chip's own converters; an estimate.
    Pmic,
}

impl RailSource {
    /// The source in lower case, as the command line prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I2c => "i2c",
            Self::Hwmon => "hwmon",
            Self::Iio => "iio",
            Self::Rapl => "rapl",
            Self::Nvml => "nvml",
            Self::Pmic => "pmic",
        }
    }
}

/// Whether a rail is the board's whole input or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RailRole {
    /// Contains all other rails: its energy is the cell's.
    Total,
    /// One consumer among others.
    Part,
}

impl RailRole {
    /// The role in lower case, as the command line prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Part => "part",
        }
    }
}

/// Why a channel is not sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The board leaves the channel unconnected.
    NotConnected,
    /// Its value cannot be read.
    Unreadable,
    /// Nobody said which resistor it is measured over.
    NoShunt,
    /// It repeats other channels (a sum).
    Derived,
    /// The kernel lets others read it.
    NoPermission,
    /// What is read of it is no number.
    NotANumber,
    /// Another rail contains it, and no rail is the whole board.
    Contained,
    /// A kernel driver of another chip holds its address.
    OtherDriver,
    /// Another chip than the named one answers at its address.
    OtherChip,
    /// Nothing answers at its address.
    NoAnswer,
    /// The kernel offers no such I²C bus.
    NoBus,
    /// Whoever is asked for it does not count it.
    NotSupported,
    /// It is what a battery or a charger gives, and no load.
    Supply,
}

impl SkipReason {
    /// The reason as words of a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotConnected => "not connected",
            Self::Unreadable => "cannot be read",
            Self::NoShunt => "no shunt given",
            Self::Derived => "derived from other channels",
            Self::NoPermission => "permission denied",
            Self::NotANumber => "its file holds no number",
            Self::Contained => "contained in another rail",
            Self::OtherDriver => "another driver holds its address",
            Self::OtherChip => "another chip is at its address",
            Self::NoAnswer => "nothing answers at its address",
            Self::NoBus => "no such I2C bus",
            Self::NotSupported => "not supported by its driver",
            Self::Supply => "a battery or charger, not a load",
        }
    }
}

/// Error limits of one channel at 25 °C: each value is the ± bound that the
/// datasheet promises (rectangular: u = limit/√3, JCGM 100 §4.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorLimits {
    /// Shunt voltage offset, in volts.
    pub shunt_offset_v: f64,
    /// Shunt voltage gain error, as a fraction.
    pub shunt_gain: f64,
    /// Bus voltage offset, in volts.
    pub bus_offset_v: f64,
    /// Bus voltage gain error, as a fraction.
    pub bus_gain: f64,
    /// Tolerance of the shunt resistor, as a fraction.
    pub shunt_tolerance: f64,
}

/// When, within a chip's cycle, a channel's two conversions happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTiming {
    /// Start of the shunt conversion after the start of the cycle, in ns.
    pub shunt_start_ns: u32,
    /// Length of the shunt conversion, averaging included, in ns.
    pub shunt_conversion_ns: u32,
    /// Start of the bus conversion after the start of the cycle, in ns.
    pub bus_start_ns: u32,
    /// Length of the bus conversion, averaging included, in ns.
    pub bus_conversion_ns: u32,
    /// How long before the end of the transaction the shunt register was
    /// latched, in ns.
    pub shunt_latch_before_end_ns: u32,
    /// How long before the end of the transaction the bus register was
    /// latched, in ns; the longest, where a slow bus reads one bus voltage a
    /// sweep in turn: it is more than a transaction's length then.
    pub bus_latch_before_end_ns: u32,
}

/// A rail: a named place where power is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RailDescription {
    /// Name, as the running system labels it.
    pub name: String,
    /// Total or part.
    pub role: RailRole,
    /// What its values come from.
    pub source: RailSource,
    /// Index into [`RunStart::chips`](super::RunStart::chips).
    pub chip: u16,
    /// Channel of the chip, from 1.
    pub channel: u8,
    /// Place among the rails of its block: columns 2·slot and 2·slot + 1,
    /// status nibble `slot`.
    pub slot: u8,
    /// Meaning of its codes.
    pub scale: RailScale,
    /// Error limits for the uncertainty.
    pub limits: ErrorLimits,
    /// Conversion timing.
    pub timing: ChannelTiming,
}

/// A sampled chip, as it was configured for the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChipDescription {
    /// Which chip.
    pub kind: ChipKind,
    /// Number of the I²C adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: u8,
    /// Lane of its sample stream: the low byte of the stream number.
    pub lane: u8,
    /// The configuration register, as read back.
    pub config_register: u16,
    /// Clock of the bus, in hertz; 0 where it is not known.
    pub bus_clock_hz: u32,
    /// Bit times of one sweep's transaction, start and stop included.
    pub transaction_bits: u32,
    /// The chip's nominal cycle: all channels converted once, in ns.
    pub cycle_ns: u32,
    /// Time between the starts of two sweeps that the sampler aims at, in ns.
    pub sweep_period_ns: u32,
}

impl ChipDescription {
    /// `ina3221 at 1-0040`; the kind alone where it is no chip on I²C.
    #[must_use]
    pub fn name(&self) -> String {
        match self.address {
            0 => self.kind.name().to_owned(),
            address => format!("{} at {}-{address:04x}", self.kind.name(), self.bus),
        }
    }
}

/// Sweeps that were never recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepsLost {
    /// Lane of the sample stream.
    pub lane: u8,
    /// How many sweeps.
    pub count: u64,
    /// Last sweep before the hole.
    pub from: BoardTime,
    /// First sweep after it.
    pub to: BoardTime,
    /// Why.
    pub reason: GapReason,
}

/// Why records or sweeps are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The ring between sampler and recorder was full.
    RingFull,
    /// The epoch ended before they were durable.
    PowerCut,
    /// The disk was full and the policy chose them.
    DroppedByPolicy,
    /// A frame on disk failed its check.
    DamagedFrame,
    /// The bus gave no answer.
    BusFault,
}

impl GapReason {
    /// The reason as one word of an export.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::PowerCut => "power_cut",
            Self::DroppedByPolicy => "dropped_by_policy",
            Self::DamagedFrame => "damaged_frame",
            Self::BusFault => "bus_fault",
        }
    }
}

/// Sequence numbers of a stream that will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Epoch of the stream.
    pub epoch: u32,
    /// The stream.
    pub stream: u32,
    /// First absent sequence number.
    pub from: u64,
    /// First present one after the hole.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

/// True energy of one rail over a window: known only where the board is
/// simulated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RailEnergy {
    /// Index into [`RunStart::rails`](super::RunStart::rails).
    pub rail: u16,
    /// Energy of the simulated waveform, in joules.
    pub energy_j: f64,
}

/// How late the sampler woke: bucket `i` counts wakes less than 2^i µs late
/// and not in a bucket before it; the last one takes the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatenessHistogram {
    /// Counts, from < 1 µs to ≥ 16 ms.
    pub buckets: [u64; 16],
}

impl LatenessHistogram {
    /// Counts one wake that was `late_ns` after its deadline.
    pub fn add(&mut self, late_ns: u64) {
        let micros = late_ns / 1_000;
        let bucket = (u64::BITS - micros.leading_zeros()).min(15);
        if let Some(count) = self.buckets.get_mut(usize::try_from(bucket).unwrap_or(15)) {
            *count = count.saturating_add(1);
        }
    }
}

/// What the sampler of one chip did during the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SamplerReport {
    /// Lane of the sample stream.
    pub lane: u8,
    /// Transactions performed.
    pub sweeps: u64,
    /// Sweeps that held a conversion not read before.
    pub fresh: u64,
    /// Sweeps that repeated the conversion of the one before.
    pub stale: u64,
    /// Conversions that came and went unread.
    pub skipped: u64,
    /// Transactions that failed.
    pub failed: u64,
    /// Sweeps that the full ring did not take.
    pub lost: u64,
    /// How late the thread woke.
    pub lateness: LatenessHistogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_buckets_double() {
        let mut histogram = LatenessHistogram::default();
        for late_ns in [0, 999, 1_000, 1_999, 2_000, 3_999, 1_000_000_000] {
            histogram.add(late_ns);
        }
        assert_eq!(histogram.buckets[0], 2);
        assert_eq!(histogram.buckets[1], 2);
        assert_eq!(histogram.buckets[2], 2);
        assert_eq!(histogram.buckets[15], 1);
    }
}
