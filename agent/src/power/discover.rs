//! What can be sampled on this board, and as which rails.
//!
//! Owns the search of the running system, the account of where it looked, and
//! the description of rails for the record; each tree's layout is a file of
//! its own. Reads sysfs, and asks the GPUs' driver and a Raspberry Pi's
//! firmware: no register is touched, no address is probed, so that no stranger
//! on the bus is spoken to.
//! Labels and shunts come from the running system; nothing is guessed from the
//! board's name.
//! Source: Linux Documentation/hwmon/ina3221.rst and ina2xx.rst.

mod alarms;
mod driven;
mod expected;
mod given;
mod gpu;
mod hwmon;
mod iio;
mod offsets;
mod ours;
mod place;
mod pmic;
mod powercap;
mod search;
mod sysfs;
pub(crate) mod tree;

use std::path::PathBuf;
use std::sync::Arc;

use wattline_protocol::record::{
    BoardExpectation, RailDescription, RailRole, RailSource, SkipReason,
};
use wattline_protocol::units::Nanos;

use super::bus::sim::SimBoard;
use super::bus::sim::board::{BUS_NUMBER, SHUNT_TOLERANCE};
use super::bus::{BusError, I2cBus};
use super::chip::{Chip, ChipError, Flag, Ownership, Profile, bits_ns};
use super::meter::Meter;
use super::pace::BusShare;
use super::ring::SweepProducer;
use super::sampler::{SamplerCore, SamplerParts};
use crate::clock::Clock;

pub use alarms::Alarms;
pub use driven::{DrivenChip, monitor_at, monitors};
pub use given::GivenRail;
pub use hwmon::inside as inner_shunt_ohm;
pub use offsets::OffsetTable;
pub use sysfs::{SYSTEM_ROOT, find, find_here, find_with};

/// Tolerance of a shunt of which only the value is known, as a fraction: the
/// usual class of the current-sense resistors on such boards.
pub const SHUNT_TOLERANCE_ASSUMED: f64 = 0.01;
/// Sweeps after which a measurement of the rate ends, and its longest time.
const RATE_SWEEPS: u64 = 500;
const RATE_TIME: Nanos = Nanos::from_millis(200);

/// One rail, as `wattline-agent rails` lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectedRail {
    /// Label, or the chip's place and channel where it has none.
    pub name: String,
    /// Where its values come from.
    pub source: RailSource,
    /// Name of the chip.
    pub chip: String,
    /// Number of the adapter.
    pub bus: Option<u8>,
    /// 7-bit address.
    pub address: Option<u8>,
    /// Channel of the chip, from 1.
    pub channel: u8,
    /// Shunt in ohms, where it is known.
    pub shunt_ohm: Option<f64>,
    /// Total or part.
    pub role: RailRole,
    /// Fresh conversions a second, measured; `None` where nothing was read.
    pub rate_hz: Option<f64>,
    /// What bus and converter allow, in conversions a second; `None` where
    /// neither is known.
    pub limit_hz: Option<f64>,
    /// Why it is not sampled; `None` where it can be.
    pub skipped: Option<SkipReason>,
}

/// A place that was searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedFor {
    /// What would have been there.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// How many chips were there.
    pub found: usize,
}

/// A rail on a channel of a chip that registers can be read from.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRail {
    /// Channel, from 1.
    pub channel: u8,
    /// Label.
    pub name: String,
    /// Total or part.
    pub role: RailRole,
    /// Shunt, in ohms.
    pub shunt_ohm: f64,
    /// Its tolerance, as a fraction.
    pub shunt_tolerance: f64,
    /// The board's table of offsets, for what registers say.
    pub offsets: Option<OffsetTable>,
}

/// A chip that can be sampled, with its rails in the order of their slots.
#[derive(Debug, Clone, PartialEq)]
pub struct ChipRails {
    /// The driver, not configured yet.
    pub chip: Chip,
    /// Number of the adapter.
    pub bus: u8,
    /// Clock of the bus in hertz, where it is declared.
    pub bus_clock_hz: Option<u32>,
    /// How much of the bus is ours.
    pub share: BusShare,
    /// Rails, one a slot.
    pub rails: Vec<ChannelRail>,
}

/// What a search brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// All rails, skipped ones with the reason.
    pub rails: Vec<DetectedRail>,
    /// Chips that can be sampled by their registers.
    pub chips: Vec<ChipRails>,
    /// Chips whose registers can be read only once their driver lets go of
    /// them: it writes the configuration behind a reader.
    pub closed_chips: Vec<ChipRails>,
    /// Rails that the kernel reads for us, those of `chips` among them.
    pub meters: Vec<Meter>,
    /// Where was looked, whether or not something was there.
    pub looked_for: Vec<LookedFor>,
    /// What the board's profile and the user expect, and what does not hold.
    pub expectation: BoardExpectation,
}

impl Found {
    /// Adapter and address of every chip of which something can be sampled.
    #[must_use]
    pub fn places(&self) -> Vec<(u8, u8)> {
        let chips = self.chips.iter().map(|chip| (chip.bus, chip.chip.address().get()));
        chips.chain(self.meters.iter().filter_map(|meter| meter.place)).collect()
    }

    /// Lists the rails of `core`'s chip as read by registers, at the rate that
    /// was measured so.
    pub fn sampled_by_registers(&mut self, core: &SamplerCore, rate_hz: f64) {
        let described = core.describe();
        let clock_hz = (described.bus_clock_hz > 0).then_some(described.bus_clock_hz);
        for rail in &mut self.rails {
            let same = rail.bus == Some(described.bus) && rail.address == Some(described.address);
            if same && rail.skipped.is_none() {
                rail.source = RailSource::I2c;
                rail.rate_hz = Some(rate_hz);
                // Without a declared clock the converter's own limit stands.
                let of_chip = 1e9 / f64::from(core.chip().cycle_ns());
                rail.limit_hz = limit_hz(core.chip(), clock_hz).or(Some(of_chip));
            }
        }
    }
}

impl Found {
    /// Gives up a chip that no driver reads for us; its rails are skipped.
    pub fn give_up(&mut self, chip: &ChipRails, reason: SkipReason) {
        let key = (Some(chip.bus), Some(chip.chip.address().get()));
        for rail in self.rails.iter_mut().filter(|rail| (rail.bus, rail.address) == key) {
            rail.skipped = rail.skipped.or(Some(reason));
        }
        self.chips.retain(|other| (Some(other.bus), Some(other.chip.address().get())) != key);
    }
}

impl ChipRails {
    /// Whether somebody reads the chip for us where its registers cannot be.
    #[must_use]
    pub fn has_driver(&self) -> bool {
        self.chip.ownership() == Ownership::KernelDriver
    }

    /// The simulated board's chip and rails.
    #[must_use]
    pub fn simulated(board: &SimBoard, profile: Profile) -> Self {
        let channel_rail = |(index, rail): (usize, &super::bus::sim::board::SimRail)| ChannelRail {
            channel: u8::try_from(index + 1).unwrap_or(u8::MAX),
            name: rail.name.to_owned(),
            role: rail.role,
            shunt_ohm: rail.shunt_ohm,
            shunt_tolerance: SHUNT_TOLERANCE,
            offsets: None,
        };
        let chip = board.driver(profile);
        let channels = chip.channels().len();
        Self {
            chip,
            bus: BUS_NUMBER,
            bus_clock_hz: Some(board.bus_clock_hz()),
            share: BusShare::Whole,
            rails: board.rails().iter().enumerate().map(channel_rail).take(channels).collect(),
        }
    }

    /// A configured sampler for the chip, on `bus`: [`LinuxBus`] or the
    /// simulated one.
    ///
    /// # Errors
    /// [`ChipError`] where the chip does not answer or is another part.
    ///
    /// [`LinuxBus`]: super::bus::linux::LinuxBus
    pub fn sampler(
        &self,
        bus: Box<dyn I2cBus>,
        clock: Arc<dyn Clock>,
        ring: SweepProducer,
        lane: u8,
    ) -> Result<SamplerCore, ChipError> {
        let core = SamplerCore::configured(SamplerParts {
            chip: self.chip,
            bus,
            bus_number: self.bus,
            bus_clock_hz: self.bus_clock_hz,
            share: self.share,
            clock,
            ring,
            lane,
        })?;
        Ok(core.in_turn_where_slow())
    }

    /// The rails for the record. `chip` is the driver as configured (a kernel
    /// driver's configuration is known only then), `flag` the kind of its sweeps
    /// ([`SamplerCore::described_flag`]), `index` its place in
    /// [`RunStart::chips`](wattline_protocol::record::RunStart::chips).
    #[must_use]
    pub fn describe(&self, chip: &Chip, flag: Flag, index: u16) -> Vec<RailDescription> {
        // Without a declared clock: standard mode, the slowest.
        let clock_hz = self.bus_clock_hz.unwrap_or(100_000);
        let describe = |(slot, rail): (usize, &ChannelRail)| RailDescription {
            name: rail.name.clone(),
            role: rail.role,
            source: RailSource::I2c,
            chip: index,
            channel: rail.channel,
            slot: u8::try_from(slot).unwrap_or(u8::MAX),
            scale: chip.scale(rail.shunt_ohm),
            limits: chip.limits(rail.shunt_tolerance),
            timing: chip.timing(slot, flag, clock_hz),
        };
        self.rails.iter().enumerate().map(describe).collect()
    }

    /// The rails as the command line lists them, with a measured rate where
    /// there is one.
    #[must_use]
    pub fn detected(&self, rate_hz: Option<f64>) -> Vec<DetectedRail> {
        let detect = |rail: &ChannelRail| DetectedRail {
            name: rail.name.clone(),
            source: RailSource::I2c,
            chip: self.chip.kind().name().to_owned(),
            bus: Some(self.bus),
            address: Some(self.chip.address().get()),
            channel: rail.channel,
            shunt_ohm: Some(rail.shunt_ohm),
            role: rail.role,
            rate_hz,
            limit_hz: limit_hz(&self.chip, self.bus_clock_hz),
            skipped: None,
        };
        self.rails.iter().map(detect).collect()
    }
}

/// Why the rails of a chip are skipped that cannot be configured.
#[must_use]
pub const fn why_unusable(error: &ChipError) -> SkipReason {
    match error {
        ChipError::WrongChip { .. } | ChipError::Contradicted { .. } => SkipReason::OtherChip,
        ChipError::Bus { source: BusError::NoAnswer { .. }, .. } => SkipReason::NoAnswer,
        ChipError::Bus { .. } | ChipError::NotConfigured { .. } => SkipReason::Unreadable,
    }
}

/// Why the rails of a bus are skipped that cannot be opened.
#[must_use]
pub fn why_closed(error: &std::io::Error) -> SkipReason {
    match error.kind() {
        std::io::ErrorKind::NotFound => SkipReason::NoBus,
        std::io::ErrorKind::PermissionDenied => SkipReason::NoPermission,
        _ => SkipReason::Unreadable,
    }
}

/// Conversions a second that bus and converter allow: the slower of the
/// sweep's own transaction and the chip's nominal cycle. `None` where the
/// bus's clock is not declared.
#[must_use]
pub fn limit_hz(chip: &Chip, bus_clock_hz: Option<u32>) -> Option<f64> {
    let transaction_ns = bits_ns(chip.transaction_bits(Flag::Left), bus_clock_hz?);
    Some(1e9 / f64::from(transaction_ns.max(chip.cycle_ns())))
}

/// Fresh conversions a second, measured over at most 500 sweeps or 0.2 s.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "hundreds of sweeps")]
pub fn measured_rate_hz(core: &mut SamplerCore, clock: &dyn Clock) -> f64 {
    core.settle();
    let (begun, before) = (clock.now(), core.report());
    while core.report().sweeps - before.sweeps < RATE_SWEEPS && clock.now() - begun < RATE_TIME {
        core.step();
    }
    let fresh = core.report().fresh - before.fresh;
    fresh as f64 / (clock.now() - begun).as_seconds().0
}

/// The Raspberry Pi this is, as rppal recognises it from the device tree;
/// `None` on every other board.
#[must_use]
pub fn raspberry_pi() -> Option<String> {
    let board = rppal::system::DeviceInfo::new().ok()?;
    Some(format!("{} ({})", board.model(), board.soc()))
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::ChipKind;
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::clock::VirtualClock;

    #[test]
    fn a_simulated_board_has_its_rails_with_timing_and_limits() {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(0)));
        let board = SimBoard::new(ChipKind::Ina3221, 1, clock);
        let found = ChipRails::simulated(&board, Profile::Fast);
        let rails = found.describe(&found.chip, Flag::Read, 0);
        let names: Vec<&str> = rails.iter().map(|rail| rail.name.as_str()).collect();
        assert_eq!(names, ["VDD_IN", "VDD_CPU_GPU", "VDD_SOC"]);
        assert_eq!(rails[0].role, RailRole::Total);
        let timing = rails[2].timing;
        assert_eq!((timing.shunt_start_ns, timing.bus_start_ns), (560_000, 700_000));
        // The last register: two bytes and the stop, 19 bits of 2.5 µs.
        assert_eq!(timing.bus_latch_before_end_ns, 47_500);
        // The first: 330 − 29 bits.
        assert_eq!(rails[0].timing.shunt_latch_before_end_ns, 752_500);
        let limit = found.detected(None)[0].limit_hz.unwrap();
        assert!((limit - 1e6 / 840.0).abs() < 1e-6);
    }

    #[test]
    fn the_load_model_says_that_it_is_simulated() {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(0)));
        assert!(SimBoard::new(ChipKind::Ina226, 1, clock).load_model().contains("simulated"));
    }
}
