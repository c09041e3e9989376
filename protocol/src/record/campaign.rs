//! Records of the campaign: cells, trials, windows, inferences, layers.
//!
//! Owns what was asked of the board and what the board did, in its words:
//! campaign ⊃ run ⊃ trial ⊃ window ⊃ inference ⊃ layer span.

use serde::{Deserialize, Serialize};

use super::power::RailEnergy;
use crate::campaign_spec::Precision;
use crate::units::BoardTime;

/// One combination of the campaign's axes; its repeats are trials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Number of the cell, from 0.
    pub cell: u16,
    /// Network id.
    pub network: String,
    /// Images an inference takes at once.
    pub batch: u32,
    /// Arithmetic.
    pub precision: Precision,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Height and width of an image, in pixels.
    pub size: u32,
    /// Threads of the runner.
    pub threads: u16,
    /// Cores the runner may use, as `0,1` or `0-3`; empty: all.
    pub cores: String,
    /// Where the weights come from: `hashed:SEED` or a file's name.
    pub weights: String,
}

/// One repeat of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Number of the trial, from 0, in the order of the plan.
    pub trial: u32,
    /// Its cell.
    pub cell: u16,
    /// Which repeat of the cell, from 0.
    pub repeat: u16,
}

/// The cells and the order of the trials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// All cells.
    pub cells: Vec<Cell>,
    /// All trials, in order.
    pub trials: Vec<Trial>,
}

/// Write-ahead mark: this trial is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStart {
    /// The trial.
    pub trial: u32,
    /// Which attempt at it, from 0.
    pub attempt: u16,
    /// When.
    pub at: BoardTime,
}

/// One layer of the executable plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescription {
    /// Name of the layer in the graph.
    pub name: String,
    /// Kind of operation, as `conv2d`.
    pub op: String,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

/// The runner holds the network and its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialLoaded {
    /// The trial.
    pub trial: u32,
    /// When the first forward pass could start.
    pub at: BoardTime,
    /// SHA-256 of the weight set.
    pub weights_sha256: [u8; 32],
    /// Parameters of the network.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Operations for one image in the convention of the 2016 paper.
    pub ops_paper: u64,
    /// Threads the runner took.
    pub threads: u16,
    /// True where BatchNorm was folded.
    pub folded: bool,
    /// Layers in order; given with the first trial of a cell, else empty.
    pub layers: Vec<LayerDescription>,
}

/// Phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Waiting for the sampler to show first values.
    Settling,
    /// Measuring the idle board.
    Baseline,
    /// The runner loads a network.
    Loading,
    /// The runner works, until it is steady.
    WarmUp,
    /// A window is open.
    Measuring,
    /// A trial is being closed.
    Judging,
    /// Nothing more to do.
    Done,
}

impl PhaseName {
    /// The phase as words for a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settling => "settling",
            Self::Baseline => "idle baseline",
            Self::Loading => "loading",
            Self::WarmUp => "warm-up",
            Self::Measuring => "measuring",
            Self::Judging => "judging",
            Self::Done => "done",
        }
    }
}

/// The campaign enters a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseMark {
    /// The phase entered.
    pub phase: PhaseName,
    /// The trial it belongs to, if to one.
    pub trial: Option<u32>,
    /// When.
    pub at: BoardTime,
    /// When the run will end, by the estimate of this moment.
    pub run_ends: BoardTime,
}

/// Where in the run an idle baseline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselinePlace {
    /// Before the first trial.
    Before,
    /// Between two trials.
    Between,
    /// After the last trial.
    After,
}

/// What a window measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// The idle board.
    Idle(BaselinePlace),
    /// Back-to-back inferences of one trial.
    Trial(u32),
}

/// A window begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOpen {
    /// Number of the window within the run, from 0.
    pub window: u32,
    /// What it measures.
    pub kind: WindowKind,
    /// Its start.
    pub t0: BoardTime,
}

/// A window ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowClose {
    /// Number of the window.
    pub window: u32,
    /// What it measured.
    pub kind: WindowKind,
    /// Its start.
    pub t0: BoardTime,
    /// Its end.
    pub t1: BoardTime,
    /// Whole inferences from `t0` to `t1`, back to back.
    pub inferences: u64,
    /// Images in them.
    pub images: u64,
    /// True energies where the board is simulated, else empty.
    pub truth: Vec<RailEnergy>,
}

/// A window that was opened will not be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowAbandon {
    /// Number of the window.
    pub window: u32,
    /// Why.
    pub cause: FailureCause,
}

/// Why a trial or a window failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The runner could not be started.
    RunnerNotStarted,
    /// The runner was killed by this signal.
    RunnerKilled {
        /// Signal number; 9 is what the kernel sends when memory is short.
        signal: i32,
    },
    /// The runner ended by itself with this status.
    RunnerExited {
        /// Exit status.
        status: i32,
    },
    /// The runner said nothing for too long.
    RunnerSilent,
    /// The runner does not know the network.
    UnknownNetwork,
    /// The weights could not be used.
    BadWeights,
    /// The device is not there, or this runner cannot use it.
    NoDevice,
    /// The device does not compute in this precision.
    NoPrecision,
    /// The engine failed while running.
    Engine,
    /// An output was not a number.
    NotFinite,
    /// Somebody stopped the run.
    Stopped,
    /// The agent ended.
    AgentEnded,
    /// The threads or cores asked for are not on this board.
    NoCores,
    /// The link to the runner's service closed without a word.
    RunnerGone,
    /// The board's spool had no room left, and its policy was to end the run.
    NoRoom,
}

impl FailureCause {
    /// The cause as words for a person.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::RunnerNotStarted => "the runner could not be started".into(),
            Self::RunnerKilled { signal: 9 } => {
                "the runner was killed by signal 9 (out of memory?)".into()
            }
            Self::RunnerKilled { signal } => format!("the runner was killed by signal {signal}"),
            Self::RunnerExited { status } => format!("the runner exited with status {status}"),
            Self::RunnerSilent => "the runner said nothing for too long".into(),
            Self::UnknownNetwork => "the runner does not know the network".into(),
            Self::BadWeights => "the weights could not be used".into(),
            Self::NoDevice => "the device is not there, or this runner cannot use it".into(),
            Self::NoPrecision => "the device does not compute in this precision".into(),
            Self::Engine => "the engine failed".into(),
            Self::NotFinite => "an output was not a number".into(),
            Self::Stopped => "stopped".into(),
            Self::AgentEnded => "the agent ended".into(),
            Self::NoCores => "the threads or cores asked for are not on this board".into(),
            Self::RunnerGone => "the runner's service ended without a word (out of memory?)".into(),
            Self::NoRoom => "the board's spool had no room left (--when-full stop)".into(),
        }
    }
}

/// What was done before the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WarmUp {
    /// Inferences before the window.
    pub inferences: u32,
    /// Their time in all, in ns.
    pub length_ns: u64,
    /// False where the warm-up hit its limit before it was steady.
    pub steady: bool,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialOutcome {
    /// Its window was closed.
    Measured,
    /// It gave no window.
    Failed(FailureCause),
}

/// A trial is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialEnd {
    /// The trial.
    pub trial: u32,
    /// When.
    pub at: BoardTime,
    /// How.
    pub outcome: TrialOutcome,
    /// Peak memory of the runner, in bytes; 0 where it is not known.
    pub peak_memory_bytes: u64,
    /// The warm-up.
    pub warm_up: WarmUp,
}

/// Start and length of one inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceSpan {
    /// When its forward pass began.
    pub start: BoardTime,
    /// How long it took, in ns.
    pub length_ns: u64,
}

/// Inferences in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceSpans {
    /// The trial.
    pub trial: u32,
    /// Number of the first one within the trial, warm-up included.
    pub first: u32,
    /// The spans.
    pub spans: Vec<InferenceSpan>,
}

/// What a GPU did for one inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSpan {
    /// Number of the inference within the trial, warm-up included.
    pub inference: u32,
    /// When it began, on the board's clock.
    pub start: BoardTime,
    /// How long it took on the GPU's own clock, in ns.
    pub length_ns: u64,
    /// How far off `start` can be, in ns.
    pub bound_ns: u32,
}

/// GPU time of inferences in order, by events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSpans {
    /// The trial.
    pub trial: u32,
    /// The spans; an inference may be absent.
    pub spans: Vec<GpuSpan>,
}

/// Lengths of the layers of one inference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpans {
    /// The trial.
    pub trial: u32,
    /// Number of the inference within the trial.
    pub inference: u32,
    /// Start of the first layer.
    pub start: BoardTime,
    /// Length of each layer in the order of
    /// [`TrialLoaded::layers`], in ns; a layer begins where the one before ends.
    pub lengths_ns: Vec<u32>,
}
