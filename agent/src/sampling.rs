//! What a run samples: chips and meters of this board, started and stopped together.
//!
//! Owns the choice between the simulated board and the real one, and the
//! samplers of one run. Knows neither records' identities nor networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use tracing::warn;
use wattline_protocol::record::{
    AlarmCounts, BoardExpectation, ChipDescription, ChipKind, DriverSetting, RailDescription,
    RailEnergy, SamplerReport, Scheduling, ShuntOffsets, Simulation, SkipReason,
};
use wattline_protocol::units::BoardTime;

use crate::board::keeper::Pinned;
use crate::clock::{Clock, SystemClock};
use crate::power::bus::I2cBus;
use crate::power::bus::linux::LinuxBus;
use crate::power::bus::sim::{LoadMeter, SimBoard};
use crate::power::chip::{ChipError, Profile};
use crate::power::discover::{self, Alarms, ChannelRail, ChipRails, Found, OffsetTable};
use crate::power::meter::{Meter, MeterCore};
use crate::power::ring::{RING_SWEEPS, SweepConsumer, ring};
use crate::power::sampler::{Beat, BusCore, Sampler, SamplerCore, SamplerHandle, Stepped};
use crate::power::settings::exclusive::TakeError;
use crate::power::settings::{Desk, Held};
use crate::recorder::{LANE_CHIPS, LaneInput};

/// The simulated board is one and the same piece at every start: its chip's
/// errors and noise are drawn from this seed unless another is asked for.
pub const SIMULATED_SEED: u64 = 2016;

/// Where a board's power is read.
#[derive(Debug)]
pub enum PowerSource {
    /// A simulated bus, whose load follows the runner.
    Simulated {
        /// The board.
        board: SimBoard,
        /// How its chip divides its time.
        profile: Profile,
        /// The thread that lets the load follow the runner.
        _meter: LoadMeter,
    },
    /// Chips of this machine.
    Real(Found),
}

/// Why nothing can be sampled.
#[derive(Debug, Error)]
pub enum SamplingError {
    /// There is no rail.
    #[error("no rail to sample; looked for {}", looked_for.join(", "))]
    NoRail {
        /// What was looked for.
        looked_for: Vec<String>,
    },
    /// A chip cannot be taken from its driver.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// A chip does not do as it should.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// A thread or the bus could not be had.
    #[error("the sampler could not be started")]
    Start(#[from] std::io::Error),
}

impl SamplingError {
    /// Why the rails of a chip that failed so are skipped.
    fn reason(&self) -> SkipReason {
        match self {
            Self::NoRail { .. } | Self::Take(_) => SkipReason::Unreadable,
            Self::Chip(error) => discover::why_unusable(error),
            Self::Start(error) => discover::why_closed(error),
        }
    }
}

impl PowerSource {
    /// The simulated board with this chip.
    ///
    /// # Errors
    /// The system's error where no thread can be started.
    pub fn simulated(kind: ChipKind, seed: u64) -> std::io::Result<Self> {
        let board = SimBoard::new(kind, seed, Arc::new(SystemClock));
        let meter = board.start_load_meter()?;
        Ok(Self::Simulated { board, profile: Profile::Fast, _meter: meter })
    }

    /// The same with chips that divide their time so, as far as they are ours.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        match self {
            Self::Simulated { board, _meter, .. } => Self::Simulated { board, profile, _meter },
            Self::Real(found) => Self::Real(found.with_ours(&[], profile)),
        }
    }

    /// The model behind the rails; `None` on a real board.
    #[must_use]
    pub fn simulation(&self) -> Option<Simulation> {
        match self {
            Self::Simulated { board, .. } => Some(Simulation {
                chip: board.kind(),
                seed: board.seed(),
                load_model: board.load_model(),
            }),
            Self::Real(_) => None,
        }
    }

    /// Channels that are not sampled, with the reason.
    #[must_use]
    pub fn skipped(&self) -> Vec<(String, SkipReason)> {
        match self {
            Self::Simulated { .. } => Vec::new(),
            Self::Real(found) => found
                .rails
                .iter()
                .filter_map(|rail| Some((rail.name.clone(), rail.skipped?)))
                .collect(),
        }
    }

    /// What the board's profile and the user expect; `None` where neither is
    /// known.
    #[must_use]
    pub fn expectation(&self) -> Option<BoardExpectation> {
        match self {
            Self::Simulated { .. } => None,
            Self::Real(found) => Some(found.expectation.clone())
                .filter(|expectation| *expectation != BoardExpectation::default()),
        }
    }

    /// Tells a simulated board whose work is its load.
    pub fn follow(&self, pid: Option<u32>) {
        if let Self::Simulated { board, .. } = self {
            board.follow(pid);
        }
    }

    /// True energies of `rails` rails over a window; empty on a real board.
    #[must_use]
    pub fn truth(&self, rails: usize, t0: BoardTime, t1: BoardTime) -> Vec<RailEnergy> {
        match self {
            Self::Simulated { board, .. } => (0..rails)
                .map(|rail| RailEnergy {
                    rail: u16::try_from(rail).unwrap_or(u16::MAX),
                    energy_j: board.true_energy(rail, t0, t1).0,
                })
                .collect(),
            Self::Real(_) => Vec::new(),
        }
    }
}

/// The samplers of one run.
pub struct Sampling {
    samplers: Vec<SamplerHandle>,
    /// Chips as configured.
    pub chips: Vec<ChipDescription>,
    /// Rails that are sampled.
    pub rails: Vec<RailDescription>,
    /// The board's tables of offsets for rails among them.
    pub offsets: Vec<ShuntOffsets>,
    /// How the samplers' threads are scheduled.
    pub scheduling: Scheduling,
    /// The kernel's error where real-time scheduling was refused.
    pub refused_errno: Option<i32>,
    /// Rings for the recorder.
    pub lanes: Vec<LaneInput>,
    /// Rails whose chip was there and cannot be used, with the reason.
    pub refused: Vec<(String, SkipReason)>,
    /// Kernel drivers that are set for the run. Dropped after the samplers.
    held: Option<Held>,
    alarms: Alarms,
    /// Clocks that are held for the run; put back behind all else.
    pinned: Pinned,
}

/// What is known at the end of a run's sampling.
#[derive(Debug, Default)]
pub struct Stopped {
    /// What each sampler did.
    pub reports: Vec<SamplerReport>,
    /// What became of the drivers' settings.
    pub settings: Vec<DriverSetting>,
}

impl Sampling {
    /// Configures the chips and starts their samplers.
    ///
    /// # Errors
    /// [`SamplingError`]: no rail, or a chip that does not answer.
    pub fn start(source: &PowerSource) -> Result<Self, SamplingError> {
        Self::start_with(source, None)
    }

    /// As [`Sampling::start`], with the chips' kernel drivers set for a run
    /// until it is stopped or dropped.
    ///
    /// # Errors
    /// [`SamplingError`]; the drivers are restored then.
    pub fn start_held(source: &PowerSource, desk: &Desk) -> Result<Self, SamplingError> {
        match source {
            PowerSource::Simulated { .. } => Self::start(source),
            PowerSource::Real(found) => {
                let started = match desk.exclusive() {
                    None => Self::start_with(source, Some(desk.hold(&found.places())))?,
                    Some(profile) => {
                        let held = desk.take(&found.held())?;
                        let ours = found.with_ours(&held.taken(), profile);
                        Self::start_with(&PowerSource::Real(ours), Some(held))?
                    }
                };
                Ok(Self { alarms: desk.alarms(), ..started })
            }
        }
    }

    /// The same, with clocks that are held as long as it samples.
    #[must_use]
    pub fn with_clocks(self, pinned: Pinned) -> Self {
        Self { pinned, ..self }
    }

    /// Over-current alarms and counters now; `trial` has just ended.
    #[must_use]
    pub fn alarm_counts(&self, trial: Option<u32>) -> Option<AlarmCounts> {
        self.alarms.read(SystemClock.now(), trial)
    }

    fn start_with(source: &PowerSource, held: Option<Held>) -> Result<Self, SamplingError> {
        let mut made = Made::default();
        match source {
            PowerSource::Simulated { board, profile, .. } => {
                made.configure(&ChipRails::simulated(board, *profile), Box::new(board.bus()))?;
                made.start_buses();
            }
            PowerSource::Real(found) => made.all_of(found, held.as_ref())?,
        }
        let Made { cores, chips, rails, offsets, lanes, refused, .. } = made;
        let samplers = cores.into_iter().map(Sampler::start).collect::<Result<Vec<_>, _>>()?;
        let granted = samplers.first().map(SamplerHandle::granted);
        let scheduling = granted.map_or(Scheduling::Normal, |granted| granted.scheduling);
        let refused_errno = granted.and_then(|granted| granted.refusal_errno);
        Ok(Self {
            samplers,
            chips,
            rails,
            offsets,
            scheduling,
            refused_errno,
            lanes,
            refused,
            held,
            alarms: Alarms::default(),
            pinned: Pinned::default(),
        })
    }

    /// What shows that each sampler steps.
    #[must_use]
    pub fn beats(&self) -> Vec<Beat> {
        self.samplers.iter().map(SamplerHandle::beat).collect()
    }

    /// What is set of the chips' kernel drivers.
    #[must_use]
    pub fn settings(&self) -> &[DriverSetting] {
        self.held.as_ref().map_or(&[], Held::settings)
    }

    /// Stops the samplers, whose rings can be emptied after, and restores the
    /// drivers.
    #[must_use]
    pub fn stop(self) -> Stopped {
        let reports = self.samplers.into_iter().flat_map(SamplerHandle::stop).collect();
        drop(self.pinned);
        Stopped { reports, settings: self.held.map(Held::restore).unwrap_or_default() }
    }
}

/// What the samplers of one run are made of.
#[derive(Default)]
struct Made {
    /// Chips that are configured and not described yet, by adapter.
    configured: BTreeMap<u8, Vec<Configured>>,
    /// Lanes that were given.
    lanes_given: u8,
    cores: Vec<Stepped>,
    chips: Vec<ChipDescription>,
    rails: Vec<RailDescription>,
    offsets: Vec<ShuntOffsets>,
    lanes: Vec<LaneInput>,
    refused: Vec<(String, SkipReason)>,
}

/// A chip that is configured.
struct Configured {
    rails: ChipRails,
    core: SamplerCore,
    lane: u8,
    ring: SweepConsumer,
}

impl Made {
    /// Chips by their registers; those that cannot be read so by their
    /// driver's files; and whatever else the kernel reads for us.
    fn all_of(&mut self, found: &Found, held: Option<&Held>) -> Result<(), SamplingError> {
        let (mut by_register, mut refused) = (Vec::new(), None);
        for chip in &found.chips {
            let made = LinuxBus::open(chip.bus)
                .map_err(SamplingError::Start)
                .and_then(|bus| self.configure(chip, Box::new(bus)));
            match made {
                Ok(()) => by_register.push((chip.bus, chip.chip.address().get())),
                Err(error) => {
                    let (bus, address) = (chip.bus, chip.chip.address().get());
                    let error_shown = &error as &dyn std::error::Error;
                    warn!(
                        error = error_shown,
                        bus, address, "Registers cannot be read; its driver is, where it has one."
                    );
                    if !chip.has_driver() {
                        let reason = error.reason();
                        let names = chip.rails.iter().map(|rail| (rail.name.clone(), reason));
                        self.refused.extend(names);
                    }
                    refused = Some(error);
                }
            }
        }
        self.start_buses();
        for meter in &found.meters {
            if meter.place.is_none_or(|place| !by_register.contains(&place)) {
                let interval_ms = held.zip(meter.place).and_then(|(held, at)| held.interval_ms(at));
                self.meter(&meter.clone().with_interval_ms(interval_ms))?;
            }
        }
        match refused {
            _ if !self.cores.is_empty() => Ok(()),
            Some(error) => Err(error),
            None => Err(SamplingError::NoRail { looked_for: looked_for(found) }),
        }
    }

    fn configure(&mut self, rails: &ChipRails, bus: Box<dyn I2cBus>) -> Result<(), SamplingError> {
        let (producer, ring) = ring(RING_SWEEPS);
        let lane = LANE_CHIPS.saturating_add(self.lanes_given);
        let core = rails.sampler(bus, Arc::new(SystemClock), producer, lane)?;
        self.lanes_given += 1;
        let configured = Configured { rails: rails.clone(), core, lane, ring };
        self.configured.entry(rails.bus).or_default().push(configured);
        Ok(())
    }

    /// One thread's work for each adapter; its chips are described as they are
    /// swept when their cycles are known.
    fn start_buses(&mut self) {
        for (_, chips) in std::mem::take(&mut self.configured) {
            let (mut cores, mut others) = (Vec::new(), Vec::new());
            for Configured { rails, core, lane, ring } in chips {
                cores.push(core);
                others.push((rails, lane, ring));
            }
            let mut bus = BusCore::new(cores);
            bus.settle();
            for (core, (rails, lane, ring)) in bus.chips().iter().zip(others) {
                let mut described =
                    rails.describe(core.chip(), core.described_flag(), self.index());
                core.state_ages(&mut described);
                self.lanes.push(LaneInput { lane, columns: 2 * described.len(), ring });
                for (rail, index) in rails.rails.iter().zip(self.rails.len()..) {
                    self.offsets.extend(offsets_of(rail, index));
                }
                self.rails.extend(described);
                self.chips.push(core.describe());
            }
            self.cores.push(Stepped::Bus(Box::new(bus)));
        }
    }

    fn meter(&mut self, meter: &Meter) -> Result<(), SamplingError> {
        let (index, lane) = (self.index(), LANE_CHIPS.saturating_add(self.lanes_given));
        let (producer, consumer) = ring(RING_SWEEPS);
        let core = MeterCore::opened(meter, Arc::new(SystemClock), producer, lane)?;
        self.lanes_given += 1;
        self.lanes.push(LaneInput { lane, columns: 2 * meter.rails.len(), ring: consumer });
        self.rails.extend(meter.describe_rails(index));
        self.chips.push(meter.describe(lane));
        self.cores.push(Stepped::Meter(Box::new(core)));
        Ok(())
    }

    /// Place of the next one among the chips.
    fn index(&self) -> u16 {
        u16::try_from(self.chips.len()).unwrap_or(u16::MAX)
    }
}

/// The table of a rail that stands at `index` in the run's description.
fn offsets_of(rail: &ChannelRail, index: usize) -> Option<ShuntOffsets> {
    let OffsetTable { general_uv, ranges } = rail.offsets.clone()?;
    Some(ShuntOffsets { rail: u16::try_from(index).ok()?, general_uv, ranges })
}

/// What was looked for, where, and with which result, one line each.
#[must_use]
pub fn looked_for(found: &Found) -> Vec<String> {
    let skipped = found.rails.iter().filter_map(|rail| {
        Some(format!("{} on {}: {}", rail.name, rail.chip, rail.skipped?.name()))
    });
    found
        .looked_for
        .iter()
        .map(|place| format!("{} at {}: {}", place.what, place.path.display(), place.found))
        .chain(skipped)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::discover;

    #[test]
    fn a_processors_counters_are_rails_of_a_run() {
        let root = tempfile::tempdir().unwrap();
        for (zone, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:0:1", "dram")] {
            let folder = root.path().join("class/powercap").join(zone);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("name"), name).unwrap();
            std::fs::write(folder.join("energy_uj"), "1000\n").unwrap();
            std::fs::write(folder.join("max_energy_range_uj"), "262143328850\n").unwrap();
        }
        let source = PowerSource::Real(discover::find(root.path()));
        let mut sampling = Sampling::start(&source).unwrap();
        let names: Vec<&str> = sampling.rails.iter().map(|rail| rail.name.as_str()).collect();
        assert_eq!(names, ["package-0", "dram"]);
        assert_eq!(sampling.chips[0].kind, ChipKind::EnergyCounter);
        let mut lane = sampling.lanes.remove(0);
        while lane.ring.waiting() < 2 {
            std::thread::yield_now();
        }
        // A counter that stands still is no power.
        assert_eq!(lane.ring.pop().unwrap().sweep.codes[..4], [0, 1, 0, 1]);
        assert_eq!(sampling.stop().reports[0].failed, 0);
    }

    #[test]
    fn a_machine_without_rails_says_where_it_looked() {
        let root = tempfile::tempdir().unwrap();
        let refused = Sampling::start(&PowerSource::Real(discover::find(root.path()))).err();
        let Some(SamplingError::NoRail { looked_for }) = refused else { panic!("another error") };
        assert_eq!(looked_for.len(), 4);
        assert!(looked_for[3].contains("powercap"), "{looked_for:?}");
    }
}
