//! What a run samples: the chips of this board, started and stopped together.
//!
//! Owns the choice between the simulated board and the real one, and the
//! samplers of one run. Knows neither records' identities nor networks.

use std::sync::Arc;

use thiserror::Error;
use wattline_protocol::record::{
    ChipDescription, ChipKind, RailDescription, RailEnergy, SamplerReport, Scheduling, Simulation,
    SkipReason,
};
use wattline_protocol::units::BoardTime;

use crate::clock::SystemClock;
use crate::power::bus::I2cBus;
use crate::power::bus::linux::LinuxBus;
use crate::power::bus::sim::{LoadMeter, SimBoard};
use crate::power::chip::{ChipError, Profile};
use crate::power::discover::{ChipRails, Found};
use crate::power::ring::{RING_SWEEPS, ring};
use crate::power::sampler::{Sampler, SamplerCore, SamplerHandle, SamplerParts};
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
    /// A chip does not do as it should.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// A thread or the bus could not be had.
    #[error("the sampler could not be started")]
    Start(#[from] std::io::Error),
}

impl PowerSource {
    /// The simulated board with this chip.
    ///
    /// # Errors
    /// The system's error where no thread can be started.
    pub fn simulated(kind: ChipKind, seed: u64) -> std::io::Result<Self> {
        let board = SimBoard::new(kind, seed, Arc::new(SystemClock));
        let meter = board.start_load_meter()?;
        Ok(Self::Simulated { board, _meter: meter })
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
    /// How the samplers' threads are scheduled.
    pub scheduling: Scheduling,
    /// The kernel's error where real-time scheduling was refused.
    pub refused_errno: Option<i32>,
    /// Rings for the recorder.
    pub lanes: Vec<LaneInput>,
}

impl Sampling {
    /// Configures the chips and starts their samplers.
    ///
    /// # Errors
    /// [`SamplingError`]: no rail, or a chip that does not answer.
    pub fn start(source: &PowerSource) -> Result<Self, SamplingError> {
        let mut cores = Vec::new();
        let mut lanes = Vec::new();
        let mut rails = Vec::new();
        for (index, (chip, bus)) in chips_of(source)?.into_iter().enumerate() {
            let lane = LANE_CHIPS + u8::try_from(index).unwrap_or(u8::MAX - LANE_CHIPS);
            let (producer, consumer) = ring(RING_SWEEPS);
            let core = SamplerCore::configured(SamplerParts {
                chip: chip.chip,
                bus,
                bus_number: chip.bus,
                bus_clock_hz: chip.bus_clock_hz,
                share: chip.share,
                clock: Arc::new(SystemClock),
                ring: producer,
                lane,
            })?;
            let described = chip.describe(core.chip(), u16::try_from(index).unwrap_or(u16::MAX));
            lanes.push(LaneInput { lane, columns: 2 * described.len(), ring: consumer });
            rails.extend(described);
            cores.push(core);
        }
        let chips = cores.iter().map(SamplerCore::describe).collect();
        let samplers = cores.into_iter().map(Sampler::start).collect::<Result<Vec<_>, _>>()?;
        let granted = samplers.first().map(SamplerHandle::granted);
        let scheduling = granted.map_or(Scheduling::Normal, |granted| granted.scheduling);
        let refused_errno = granted.and_then(|granted| granted.refusal_errno);
        Ok(Self { samplers, chips, rails, scheduling, refused_errno, lanes })
    }

    /// Stops the samplers; their rings can be emptied after.
    #[must_use]
    pub fn stop(self) -> Vec<SamplerReport> {
        self.samplers.into_iter().map(SamplerHandle::stop).collect()
    }
}

/// A chip with its rails, and the bus it is read over.
type ChipOnBus = (ChipRails, Box<dyn I2cBus>);

/// The chips of a source, each with a bus of its own.
fn chips_of(source: &PowerSource) -> Result<Vec<ChipOnBus>, SamplingError> {
    match source {
        PowerSource::Simulated { board, .. } => {
            let bus: Box<dyn I2cBus> = Box::new(board.bus());
            Ok(vec![(ChipRails::simulated(board, Profile::Fast), bus)])
        }
        PowerSource::Real(found) if found.chips.is_empty() => {
            Err(SamplingError::NoRail { looked_for: looked_for(found) })
        }
        PowerSource::Real(found) => found
            .chips
            .iter()
            .map(|chip| {
                let bus: Box<dyn I2cBus> = Box::new(LinuxBus::open(chip.bus)?);
                Ok((chip.clone(), bus))
            })
            .collect(),
    }
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
