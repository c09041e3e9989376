//! Records of the board, the run and its clocks.
//!
//! Owns what says where and under which conditions a measurement was made.

use serde::{Deserialize, Serialize};

use super::RunId;
use super::power::{ChipDescription, ChipKind, RailDescription};
use crate::campaign_spec::CampaignSpec;
use crate::command::Refusal;
use crate::presence::SpoolStanding;
use crate::units::BoardTime;

/// Four clocks of the board, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSnapshot {
    /// CLOCK_MONOTONIC, the middle of the two reads that bracket the rest.
    pub monotonic: BoardTime,
    /// CLOCK_MONOTONIC_RAW, in ns: without the slew of NTP.
    pub monotonic_raw_ns: u64,
    /// CLOCK_BOOTTIME, in ns: suspended time included.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME, in ns since 1970-01-01 UTC.
    pub realtime_ns: u64,
    /// Distance of the two bracketing reads, in ns.
    pub bracket_ns: i64,
}

/// The machine that is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardDescription {
    /// Identity that outlives reboots.
    pub id: String,
    /// Model, as the device tree or the firmware names it.
    pub model: String,
    /// Kernel name, release and machine.
    pub kernel: String,
    /// Processor cores that are on line.
    pub cores: u16,
    /// Main memory, in bytes.
    pub memory_bytes: u64,
    /// Raspberry Pi model, where `rppal` recognises one.
    pub raspberry_pi: Option<String>,
}

/// The agent that recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBuild {
    /// Version of the package.
    pub version: String,
    /// Digest of the protocol's schema.
    pub protocol_digest: u64,
}

/// Present on a simulated board only: the model behind its rails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// The simulated chip.
    pub chip: ChipKind,
    /// Seed of the chip's errors and noise.
    pub seed: u64,
    /// The model of the load, in words and numbers.
    pub load_model: String,
}

/// How the sampler's thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// SCHED_FIFO with this priority.
    Fifo {
        /// 1 to 99.
        priority: u8,
    },
    /// The kernel's default class: the real-time one was refused.
    Normal,
}

/// A run begins, or goes on in a new epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// False where a run goes on after the agent ended.
    pub first: bool,
    /// The board.
    pub board: BoardDescription,
    /// The agent.
    pub agent: AgentBuild,
    /// The model behind the rails; `None` on a real board.
    pub simulation: Option<Simulation>,
    /// The campaign, with every default filled in.
    pub campaign: CampaignSpec,
    /// Clocks at the start.
    pub clock: ClockSnapshot,
    /// Sampled chips.
    pub chips: Vec<ChipDescription>,
    /// Sampled rails.
    pub rails: Vec<RailDescription>,
    /// Class of the sampler's thread.
    pub scheduling: Scheduling,
}

/// One temperature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temperature {
    /// Name of the thermal zone.
    pub zone: String,
    /// Temperature, in thousandths of a degree Celsius.
    pub millidegree_c: i32,
}

/// State of the board at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardState {
    /// When it was read.
    pub at: BoardTime,
    /// Frequency governor of the first core; empty where there is none.
    pub governor: String,
    /// Frequency of each core, in kHz; empty where the kernel tells none.
    pub core_khz: Vec<u32>,
    /// Temperatures.
    pub temperatures: Vec<Temperature>,
    /// Load average over one minute, in hundredths.
    pub load_hundredths: u32,
}

/// Where the epoch before this one ended: written by recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEnd {
    /// The epoch that ended.
    pub epoch: u32,
    /// Its streams with their ends, as the disk has them.
    pub streams: Vec<StreamEnd>,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Epoch of the stream.
    pub epoch: u32,
    /// The stream.
    pub stream: u32,
    /// One past its last sequence number.
    pub next: u64,
}

/// A line of the log that belongs to the measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: BoardTime,
    /// What.
    pub what: NoticeKind,
}

/// What a notice says; the host has the words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    /// The real-time class was refused: samples may come late.
    NotRealTime {
        /// The kernel's error number.
        errno: i32,
    },
    /// The board's disk took no more; frames wait in memory.
    BoardDiskFull,
    /// The board's disk takes frames again.
    BoardDiskBack,
    /// Recovery skipped a damaged part of a segment.
    DamagedSegment {
        /// Ordinal of the segment.
        segment: u64,
        /// Bytes that were skipped.
        bytes: u64,
    },
    /// A rail of the board is not sampled.
    RailSkipped {
        /// Its name or place.
        rail: String,
        /// Why.
        reason: super::power::SkipReason,
    },
    /// The bus stopped answering.
    BusFaultBegan {
        /// Lane of the chip.
        lane: u8,
    },
    /// The bus answers again.
    BusFaultEnded {
        /// Lane of the chip.
        lane: u8,
        /// Sweeps that failed in between.
        failed: u64,
    },
    /// Somebody asked the run to end: it does not go on after the agent's end.
    StopRequested,
    /// The run was cut by the agent's end and cannot go on.
    NotResumed {
        /// What the board refuses now.
        why: Refusal,
    },
    /// The trigger's line cannot be set any more: its edges end here.
    TriggerFailed {
        /// The line.
        line: String,
        /// Why.
        fault: super::trigger::TriggerFault,
    },
    /// The spool had no room for samples left, and its policy was to end the run.
    NoRoom(SpoolStanding),
    /// The spool has no room for samples: from here on they may go, and their
    /// aggregates stay.
    Thinning(SpoolStanding),
    /// The spool has room for samples again.
    ThinningEnded,
    /// A chip was reset, or set by somebody else. Sweeps since its setting was
    /// last seen in place are marked.
    ChipChanged {
        /// Lane of the chip.
        lane: u8,
        /// The difference, and what was done.
        change: super::chip_change::ChipChange,
        /// Sweeps with values that were marked.
        marked: u64,
    },
    /// A rail's codes stand at the end of the chip's range.
    OverrangeBegan {
        /// Lane of the chip.
        lane: u8,
        /// Rails at the end of their range: bit `s` for slot `s`.
        slots: u8,
    },
    /// All rails are within the chip's range again.
    OverrangeEnded {
        /// Lane of the chip.
        lane: u8,
        /// Sweeps in between.
        sweeps: u64,
    },
    /// More than one sweep in twenty repeats a conversion, or stands after ones
    /// that were never read: the bus or the sampler is slower than it was.
    HolesBegan {
        /// Lane of the chip.
        lane: u8,
    },
    /// Sweeps follow conversions again.
    HolesEnded {
        /// Lane of the chip.
        lane: u8,
        /// Such sweeps in between.
        holes: u64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// All trials were made.
    Complete,
    /// Somebody stopped it.
    Stopped,
    /// The agent could not go on.
    Failed,
}

/// The run is over; nothing of it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// When.
    pub at: BoardTime,
    /// How.
    pub outcome: RunOutcome,
    /// The other streams of this epoch with their ends; the stream of this
    /// record ends with it.
    pub streams: Vec<StreamEnd>,
}
