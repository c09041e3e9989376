//! Commands and replies: the whole conversation on one screen.
//!
//! Owns what a host may ask and what an agent may answer, as enums; the host
//! has the words. Everything that follows a command is visible as records, not
//! as replies: a host that comes back at dawn learns from the stream.

use serde::{Deserialize, Serialize};

use crate::campaign_spec::CampaignSpec;
use crate::check::Check;
use crate::presence::{Occupant, Standing};
use crate::record::{
    BoardDescription, Cell, ChipDescription, ChipKind, PhaseName, PinRefusal, RailDescription,
    RunId, RunOutcome, RunSettings, Simulation, SkipReason, StreamEnd, TriggerFault,
};
use crate::units::{BoardTime, HostTime};

/// Lowest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Highest protocol version this build speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// First message of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest protocol version spoken.
    pub protocol_min: u16,
    /// Highest protocol version spoken.
    pub protocol_max: u16,
    /// Version of the program.
    pub build: String,
    /// Digest of the schema, see [`crate::digest`].
    pub digest: u64,
    /// Which side this is.
    pub side: Side,
}

/// The two sides of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The board.
    Agent {
        /// Identity of the board.
        board_id: String,
        /// Boot epoch; 0 while none could be made durable.
        epoch: u32,
        /// The simulated chip, on a simulated board.
        simulated: Option<ChipKind>,
    },
    /// The host.
    Host,
}

/// What a host may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Board, chips and rails. Answer: [`Reply::Board`].
    Describe,
    /// Start a run. Answer: [`Reply::Started`]; the same run and campaign
    /// again: the same answer, and no second run.
    Start {
        /// Id of the run, chosen by the host.
        run: RunId,
        /// The campaign, checked.
        campaign: Box<CampaignSpec>,
    },
    /// End a run after cleaning up; what was measured stays. Answer: [`Reply::Stopping`].
    Stop {
        /// The run.
        run: RunId,
    },
    /// What the agent does and holds. Answer: [`Reply::Status`].
    Status,
    /// Send the frames of a run that the host lacks, and go on as more are
    /// recorded. Answer: [`Reply::Fetching`], then frames, then [`FetchEnd`].
    Fetch {
        /// The run.
        run: RunId,
        /// What the host holds: frames below are not sent.
        have: Vec<StreamEnd>,
        /// Bytes that may be sent before the host grants more.
        credit: u64,
    },
    /// Send copies of frames as they are recorded; some may be left out under
    /// load, and are counted. Answer: [`Reply::Live`].
    Live {
        /// The run.
        run: RunId,
    },
    /// Read the board's clock. Answer: [`Reply::Clock`].
    ClockPing {
        /// Host time at sending; comes back unchanged.
        sent: HostTime,
    },
    /// End the agent, if no run is going on. Answer: [`Reply::Ending`].
    Shutdown,
    /// As [`Command::Start`], with the board's clocks set for the run.
    StartWith {
        /// Name of the run, chosen by the host.
        run: RunId,
        /// What to measure.
        campaign: Box<CampaignSpec>,
        /// How the board's clocks are to be.
        settings: RunSettings,
    },
    /// Control the run that goes on, whoever controls it now. Answer: [`Reply::Controls`].
    TakeOver {
        /// The run.
        run: RunId,
    },
    /// Who has a session, how full the spool is, and what waits. Answer: [`Reply::Standing`].
    Standing,
    /// Run a campaign once in each of several power modes, one after the other, also
    /// over reboots that a mode asks for; the mode before is set again at the end.
    /// Answer: [`Reply::Started`].
    StartBlocks {
        /// What to measure in each.
        campaign: Box<CampaignSpec>,
        /// The runs, in order.
        blocks: Vec<PowerBlock>,
        /// Clocks are held at their most for each run.
        pin: bool,
    },
    /// What measuring needs, checked by the agent with its own rights and limits.
    /// Answer: [`Reply::Examined`]; refused while a run goes on.
    Examine,
}

/// A run of a campaign in one power mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerBlock {
    /// Id of the run, chosen by the host.
    pub run: RunId,
    /// Number of the mode in the board's own table.
    pub power_mode: u16,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Board, chips and rails.
    Board(Box<BoardReply>),
    /// The run goes on.
    Started,
    /// The run will end; its last record says when it has.
    Stopping,
    /// What the agent does and holds.
    Status(StatusReply),
    /// Frames follow.
    Fetching,
    /// Live copies follow.
    Live,
    /// The board's clock.
    Clock {
        /// Host time at sending, as it came.
        sent: HostTime,
        /// Board time when the question came.
        received: BoardTime,
        /// Board time when the answer went.
        answered: BoardTime,
    },
    /// The agent ends.
    Ending,
    /// No, and why.
    Refused(Refusal),
    /// The host that asked controls the run.
    Controls {
        /// Who did before.
        before: Option<Occupant>,
    },
    /// Who has a session, and how full the spool is.
    Standing(Box<Standing>),
    /// What was checked; nothing on a simulated board, whose rails lack nothing.
    Examined(Vec<Check>),
}

/// Why an agent refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No run of that id is here.
    NoSuchRun,
    /// Another run goes on.
    Busy {
        /// The one that does.
        run: RunId,
    },
    /// A run of that id is here already, with another campaign.
    RunExists,
    /// There is no rail to sample.
    NoRail {
        /// What was looked for, and what was found of it.
        looked_for: Vec<String>,
    },
    /// The spool's disk has too little room.
    BoardDiskFull {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes needed to begin.
        need_bytes: u64,
    },
    /// The spool cannot be written.
    SpoolFailed {
        /// The kernel's error number; 0 where there is none.
        errno: i32,
    },
    /// The campaign does not pass the agent's own check.
    BadCampaign,
    /// A network that this agent does not have.
    UnknownNetwork {
        /// The one asked for.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// A network does not work at this image size.
    BadSize {
        /// The network.
        network: String,
        /// The size asked for, in pixels.
        size: u32,
    },
    /// A device that this board or this agent cannot use.
    NoDevice {
        /// The one asked for.
        device: String,
    },
    /// A precision that the device does not compute in.
    NoPrecision {
        /// The precision asked for.
        precision: String,
        /// The device.
        device: String,
    },
    /// Cores that this board does not have.
    NoCores {
        /// The set asked for.
        cores: String,
        /// Cores on line.
        online: u16,
    },
    /// Weights that are not there or cannot be read.
    NoWeights {
        /// The file or folder asked for.
        path: String,
    },
    /// Too many sessions are open.
    TooManySessions,
    /// A user's graph file that is none, or whose layers make no network.
    BadGraph {
        /// The file.
        file: String,
        /// The layer and why, in the words of the agent: there are as many
        /// reasons as a graph has numbers.
        reason: String,
    },
    /// A weight file that does not fill its network.
    BadWeights {
        /// The file.
        path: String,
        /// The key and why, in the words of the agent.
        reason: String,
    },
    /// A GPU that cannot be used, and what is missing for it.
    NoGpu {
        /// The device asked for.
        device: String,
        /// What is missing.
        missing: GpuPart,
    },
    /// The trigger's line cannot be set.
    NoTrigger {
        /// The line.
        line: String,
        /// Why.
        fault: TriggerFault,
    },
    /// The board's clocks cannot be as the run asks.
    NoPin {
        /// Why.
        why: PinRefusal,
    },
    /// All sessions that stay are taken.
    SessionsTaken {
        /// By whom.
        by: Vec<Occupant>,
    },
    /// Another host controls the run.
    Controlled {
        /// The run.
        run: RunId,
        /// The one that does.
        by: Occupant,
    },
    /// The spool has too little room.
    SpoolFull {
        /// Bytes that the run needs to begin.
        need_bytes: u64,
        /// Bytes that runs take which no host has fetched, or that go on.
        used_bytes: u64,
        /// Bytes that all runs may take.
        quota_bytes: u64,
        /// Bytes free on the disk.
        free_bytes: u64,
        /// Bytes of it that stay free.
        reserve_bytes: u64,
    },
}

/// What a GPU needs to be measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GpuPart {
    /// `wattline-runner-cuda` beside the agent.
    Runner,
    /// NVIDIA's kernel driver.
    Driver,
    /// A shared library, by its file's name.
    Library(String),
    /// The runner starts, but opens no such GPU.
    Ordinal,
}

impl GpuPart {
    /// What is missing, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Runner => "wattline-runner-cuda is not beside wattline-agent".into(),
            Self::Driver => "no NVIDIA driver is loaded (libcuda.so.1 is missing)".into(),
            Self::Library(name) => format!("the library {name} is missing"),
            Self::Ordinal => "the runner starts, but opens no such GPU".into(),
        }
    }

    /// How to get it.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Runner => {
                "build it with deploy/build-cuda-runner.sh (docs/gpu.md) and install it beside \
                 the agent"
            }
            Self::Driver => "install NVIDIA's driver; on a Jetson it comes with L4T",
            Self::Library(_) => {
                "install CUDA's run-time libraries of the version the runner was built for \
                 (docs/gpu.md)"
            }
            Self::Ordinal => "name one that `nvidia-smi` lists, such as cuda:0",
        }
    }
}

/// Answer to [`Command::Describe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardReply {
    /// The board.
    pub board: BoardDescription,
    /// The model behind the rails; `None` on a real board.
    pub simulation: Option<Simulation>,
    /// Chips that a run would sample.
    pub chips: Vec<ChipDescription>,
    /// Rails that a run would sample.
    pub rails: Vec<RailDescription>,
    /// Channels that it would not, with the reason.
    pub skipped: Vec<(String, SkipReason)>,
    /// The board's GPU, where it has one.
    pub gpu: Option<GpuPresence>,
}

/// A GPU that is there, usable or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPresence {
    /// Its name.
    pub name: String,
    /// Whether `wattline-runner-cuda` is beside the agent.
    pub has_runner: bool,
}

/// Answer to [`Command::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The agent's version.
    pub build: String,
    /// The board's clock.
    pub now: BoardTime,
    /// The run that goes on.
    pub current: Option<CurrentRun>,
    /// Runs in the spool.
    pub runs: Vec<SpooledRun>,
    /// Bytes free on the spool's disk.
    pub free_bytes: u64,
}

/// The run that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentRun {
    /// The run.
    pub run: RunId,
    /// Where it is.
    pub phase: PhaseName,
    /// The trial it is at.
    pub trial: Option<u32>,
    /// What that trial runs.
    pub cell: Option<Cell>,
    /// Trials in all.
    pub trials: u32,
    /// When it will end, by estimate.
    pub ends: BoardTime,
}

/// A run in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledRun {
    /// The run.
    pub run: RunId,
    /// Bytes on disk.
    pub bytes: u64,
    /// How it ended; `None`: it goes on, or its end is not recorded.
    pub outcome: Option<RunOutcome>,
    /// True where a host holds all of it.
    pub acknowledged: bool,
}

/// No more frames of the run will come: it is over, and all was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchEnd {
    /// The run.
    pub run: RunId,
    /// Ends of all its streams.
    pub ends: Vec<StreamEnd>,
}

/// The host holds these frames for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The run.
    pub run: RunId,
    /// Ends of the streams that the host holds.
    pub have: Vec<StreamEnd>,
    /// Bytes that may be sent in addition.
    pub credit: u64,
}

/// Why a side ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Farewell {
    /// Nothing more to say.
    Done,
    /// No protocol version in common.
    Versions {
        /// Lowest version the speaker knows.
        min: u16,
        /// Highest version the speaker knows.
        max: u16,
    },
    /// A message that breaks the protocol.
    Protocol,
    /// Too many sessions are open.
    TooManySessions,
    /// Nothing was heard for too long.
    Silence,
    /// The agent ends.
    Ending,
    /// The same program came back over another link.
    Replaced,
}
