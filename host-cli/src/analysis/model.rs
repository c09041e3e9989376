//! What an analysis says about a recording: plain results, ready to be shown.
//!
//! Owns the types between the arithmetic and its readers (report, export,
//! compare). Computes nothing and reads nothing.

use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::record::{
    AgentBuild, BaselinePlace, BoardDescription, BoardExpectation, Cell, ChipDescription,
    GapReason, RailDescription, RunId, RunOutcome, SamplerReport, Scheduling, Simulation,
    SkipReason, TrialOutcome,
};
use wattline_protocol::units::{BoardTime, HostTime, Joules, Nanos, Watts};

use super::chips::ChipWarning;
use super::conditions::DriverChange;
use super::states::StateSummary;
use super::trigger::TriggerSummary;

/// A value with its expanded uncertainty, k = 2 (95.45 % for a normal law).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uncertain {
    /// The estimate, in the unit that the field's name says.
    pub value: f64,
    /// Half-width of the interval, same unit.
    pub expanded: f64,
}

/// One term of an uncertainty budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Term {
    /// Tolerance of the shunt resistor.
    ShuntResistance,
    /// Gain of the shunt channel.
    ShuntGain,
    /// Offset of the shunt channel.
    ShuntOffset,
    /// Gain of the bus channel.
    BusGain,
    /// Offset of the bus channel.
    BusOffset,
    /// Rounding of codes.
    Quantisation,
    /// Where a value lies in time at the window's edges.
    Edges,
    /// Time without samples.
    Missing,
    /// Spread over repeats (or within the window where there is one only).
    Statistical,
    /// The idle power that a net energy subtracts.
    Baseline,
    /// Drift of resistor, gains and offset away from 25 °C.
    Temperature,
    /// Samples that are only known by their sums over a second.
    Aggregated,
    /// Bus voltages that were read in turn, and are older than the current.
    BusAge,
}

impl Term {
    /// The term in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShuntResistance => "shunt resistance",
            Self::ShuntGain => "shunt gain",
            Self::ShuntOffset => "shunt offset",
            Self::BusGain => "bus gain",
            Self::BusOffset => "bus offset",
            Self::Quantisation => "quantisation",
            Self::Edges => "window edges",
            Self::Missing => "missing time",
            Self::Statistical => "repeats",
            Self::Baseline => "idle baseline",
            Self::Temperature => "temperature",
            Self::Aggregated => "aggregated samples",
            Self::BusAge => "age of bus voltages",
        }
    }
}

/// An energy with its uncertainty budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Energy {
    /// The energy.
    pub joules: Joules,
    /// Standard uncertainties (k = 1) in joules, one a term.
    pub terms: Vec<(Term, f64)>,
}

impl Energy {
    /// Expanded uncertainty, k = 2: twice the root of the summed squares.
    #[must_use]
    pub fn expanded(&self) -> Joules {
        Joules(2.0 * self.terms.iter().map(|(_, u)| u * u).sum::<f64>().sqrt())
    }

    /// The largest term; `None` where there is none.
    #[must_use]
    pub fn dominant(&self) -> Option<Term> {
        self.terms.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(term, _)| *term)
    }
}

/// What a window, a cell or a run is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// By the whole method.
    Valid,
    /// Usable, with a reason to look at.
    Flagged,
    /// Not to be used; kept and shown.
    Invalid,
}

impl Verdict {
    /// The verdict as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Flagged => "flagged",
            Self::Invalid => "invalid",
        }
    }
}

/// Why a verdict is not `valid`; `undersampled` alone leaves it so. `code()` is what exports print, joined by `;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The campaign was a first look.
    Quick,
    /// The window is shorter than its rule.
    Short,
    /// More than 5 % of the window is missing.
    Missing,
    /// More than 0.1 % of the window is missing.
    SomeMissing,
    /// One gap of more than 100 ms.
    Gap,
    /// No sample lies in the window.
    NoSamples,
    /// The window's halves differ in speed or power.
    Unsteady,
    /// The warm-up ended at its limit, not at steadiness.
    NotWarm,
    /// Idle power before and after differ by more than 3 % of the net power.
    IdleDrift,
    /// No idle baseline: net energies are absent.
    NoBaseline,
    /// The interval of the cell is wider than 2 %.
    Wide,
    /// The board has no rail that holds all others; the parts were added.
    NoTotalRail,
    /// Codes at the end of the chip's range.
    Overrange,
    /// A window of the cell is missing or invalid.
    FewWindows,
    /// The trial failed.
    TrialFailed,
    /// The run was stopped before the cell was whole.
    Stopped,
    /// Weights or threads differ within the cell.
    Mixed,
    /// A single inference is shorter than 20 sampling periods: only the mean
    /// over the window's inferences is measured, not one of them.
    Undersampled,
    /// The agent ended before the trial did, and it was measured again.
    Repeated,
    /// The rails are a power chip's own converters, which see a part of the
    /// board.
    Estimate,
    /// The board counted an over-current within the trial, and so slowed itself down.
    OverCurrent,
    /// A current was above the limit of an alarm within the trial.
    CurrentAlarm,
    /// A chip averages by a filter that mixes what was before a window into it.
    Averaged,
    /// The board slowed itself down within the trial, by heat or as its firmware says.
    Throttled,
    /// The supply's voltage was too low within the trial.
    UnderVoltage,
    /// A clock that does the work moved, or its limits did, within the trial.
    FrequencyMoved,
    /// The power mode was changed within the trial.
    PowerModeChanged,
    /// Memory was swapped within the trial.
    Swapped,
    /// Samples went for want of room on the board; their sums are used.
    Aggregated,
    /// A chip was reset, or set by others, within the window.
    ChipChanged,
}

impl Reason {
    /// The reason as one word of an export.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Short => "short",
            Self::Missing => "missing",
            Self::SomeMissing => "some_missing",
            Self::Gap => "gap",
            Self::NoSamples => "no_samples",
            Self::Unsteady => "unsteady",
            Self::NotWarm => "not_warm",
            Self::IdleDrift => "idle_drift",
            Self::NoBaseline => "no_baseline",
            Self::Wide => "wide",
            Self::NoTotalRail => "no_total_rail",
            Self::Overrange => "overrange",
            Self::FewWindows => "few_windows",
            Self::TrialFailed => "trial_failed",
            Self::Stopped => "stopped",
            Self::Mixed => "mixed",
            Self::Undersampled => "undersampled",
            Self::Repeated => "repeated",
            Self::Estimate => "estimate",
            Self::OverCurrent => "over_current",
            Self::CurrentAlarm => "current_alarm",
            Self::Averaged => "averaged",
            Self::Throttled => "throttled",
            Self::UnderVoltage => "under_voltage",
            Self::FrequencyMoved => "frequency_moved",
            Self::PowerModeChanged => "power_mode_changed",
            Self::Swapped => "swapped",
            Self::Aggregated => "aggregated",
            Self::ChipChanged => "chip_changed",
        }
    }

    /// The reason as a sentence for a person.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Quick => "a quick look: short windows, few repeats",
            Self::Short => "the window is shorter than the method asks for",
            Self::Missing => "more than 5 % of the window has no samples",
            Self::SomeMissing => "more than 0.1 % of the window has no samples",
            Self::Gap => "a gap of more than 100 ms in the samples",
            Self::NoSamples => "no sample lies in the window",
            Self::Unsteady => "speed or power changed within the window",
            Self::NotWarm => "the warm-up hit its time limit before it was steady",
            Self::IdleDrift => "idle power before and after differ by more than 3 % of net power",
            Self::NoBaseline => "no idle baseline, so no net energy",
            Self::Wide => "the interval is wider than ±2 %",
            Self::NoTotalRail => "no rail holds all others: the parts were added up",
            Self::Overrange => "codes at the end of the chip's range",
            Self::FewWindows => "a window of the cell is missing or invalid",
            Self::TrialFailed => "a trial failed",
            Self::Stopped => "the run was stopped first",
            Self::Mixed => "weights or threads differ between windows of the cell",
            Self::Undersampled => {
                "an inference is shorter than 20 sampling periods: the mean over many is measured, \
                 a single one is not"
            }
            Self::Repeated => "the agent ended before the trial did; it was measured again",
            Self::Estimate => {
                "an estimate: the power chip's own converters see a part of the board, not its input"
            }
            Self::OverCurrent => {
                "the board counted an over-current within the trial: it slows itself down then"
            }
            Self::CurrentAlarm => {
                "an over-current alarm was raised within the trial: the board may have been \
                 throttled"
            }
            Self::Aggregated => {
                "the board had no room for all samples; the sums that it kept of them are used"
            }
            Self::Averaged => {
                "the chip's averaging is an exponential filter: what went before a window is mixed \
                 into it"
            }
            Self::Throttled => "the board throttled itself within the trial",
            Self::UnderVoltage => "the supply's voltage was too low within the trial",
            Self::FrequencyMoved => {
                "the fastest clock moved by more than 5 %, or its limits changed, within the trial"
            }
            Self::PowerModeChanged => "the power mode was changed within the trial",
            Self::Swapped => "the board swapped more than 1 MiB of memory within the trial",
            Self::ChipChanged => {
                "a power monitor was reset or set by another program; what it gave meanwhile is \
                 not used"
            }
        }
    }
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Its reasons, sorted, each once; where valid, `undersampled` at most.
    pub reasons: Vec<Reason>,
}

/// One window of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowResult {
    /// Number of the window within the run.
    pub window: u32,
    /// Its cell.
    pub cell: u16,
    /// Its trial.
    pub trial: u32,
    /// Epoch of the agent.
    pub epoch: u32,
    /// Start.
    pub t0: BoardTime,
    /// End.
    pub t1: BoardTime,
    /// Whole inferences in it.
    pub inferences: u64,
    /// Images in it.
    pub images: u64,
    /// Gross energy of the total rail (or of the parts, summed).
    pub energy: Energy,
    /// Energy above idle; `None` without a baseline.
    pub net_energy: Option<Energy>,
    /// True gross energy where the board is simulated.
    pub true_energy: Option<Joules>,
    /// Share of the window without samples, 0 to 1.
    pub missing: f64,
    /// Its verdict.
    pub judgement: Judgement,
}

impl WindowResult {
    /// Length of the window.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.t1 - self.t0
    }
}

/// An idle window.
#[derive(Debug, Clone, PartialEq)]
pub struct BaselineResult {
    /// Where in the run.
    pub place: BaselinePlace,
    /// Start.
    pub t0: BoardTime,
    /// End.
    pub t1: BoardTime,
    /// Mean power of the total rail (or of the parts, summed).
    pub power: Watts,
    /// Standard uncertainty of that mean from its scatter alone, in watts.
    pub scatter_w: f64,
}

/// One cell: all repeats of one combination.
#[derive(Debug, Clone, PartialEq)]
pub struct CellResult {
    /// What was asked for.
    pub cell: Cell,
    /// Threads the runner took; 0 where no trial was loaded.
    pub threads: u16,
    /// SHA-256 of the weights, in hex; empty where no trial was loaded.
    pub weights_sha256: String,
    /// Parameters of the network.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Operations for one image in the convention of the 2016 paper.
    pub ops_paper: u64,
    /// Time per image, in ms; the figures below are `None` without a window.
    pub ms_per_image: Option<Uncertain>,
    /// Mean gross power, in W.
    pub watts: Option<Uncertain>,
    /// Gross energy per image, in mJ.
    pub mj_per_image_gross: Option<Uncertain>,
    /// Energy per image above idle, in mJ.
    pub mj_per_image_net: Option<Uncertain>,
    /// Largest term of the gross energy's budget.
    pub dominant: Option<Term>,
    /// Images per second.
    pub images_per_s: Option<f64>,
    /// Peak memory of the runner, in 10⁶ bytes.
    pub memory_mb: Option<f64>,
    /// Windows that the figures rest on.
    pub windows: u32,
    /// True gross energy per image, in mJ, where the board is simulated.
    pub true_mj_per_image_gross: Option<f64>,
    /// Its verdict.
    pub judgement: Judgement,
}

/// A trial that gave no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedTrial {
    /// The trial.
    pub trial: u32,
    /// Its cell.
    pub cell: u16,
    /// How it ended.
    pub outcome: TrialOutcome,
}

/// A stretch of absent data, with its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Absence {
    /// What is absent, in words (a stream, a rail).
    pub what: String,
    /// How many sequence numbers or sweeps.
    pub count: u64,
    /// Where in time, if known.
    pub span: Option<(BoardTime, BoardTime)>,
    /// Why; `None` means that the recording cannot tell: data is missing.
    pub reason: Option<GapReason>,
}

/// What `wattline accuracy` found, as it joined the run.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredAccuracy {
    /// Id of the network, or its graph file with digest.
    pub network: String,
    /// SHA-256 of the weights, in hex.
    pub weights_sha256: String,
    /// The arithmetic, as typed.
    pub precision: String,
    /// `cpu`, `cuda:N`.
    pub device: String,
    /// Classes that the network tells.
    pub classes: u64,
    /// Side of the images that entered the network, in pixels.
    pub size: u32,
    /// SHA-256 over the images' names and classes, in hex.
    pub images_sha256: String,
    /// Images that were answered.
    pub images: u64,
    /// Images that could not be read.
    pub corrupt: u64,
    /// Top-1 share and the ends of its 95 % interval, in percent.
    pub top1: [f64; 3],
    /// The same for the best five.
    pub top5: Option<[f64; 3]>,
}

/// The accuracy that stands for a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Top-1 and the ends of its interval, in percent; all equal where published.
    pub top1: [f64; 3],
    /// The same for the best five.
    pub top5: Option<[f64; 3]>,
    /// Who says so.
    pub origin: AccuracyOrigin,
}

/// Where an accuracy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccuracyOrigin {
    /// Measured with the cell's own weights.
    Measured {
        /// Images that were answered.
        images: u64,
        /// Where they were.
        device: String,
    },
    /// Published by others, for their weights.
    Published {
        /// Who.
        source: String,
    },
}

/// One bucket of a drawn trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TracePoint {
    /// Middle of the bucket.
    pub at: BoardTime,
    /// Smallest power in it, in W.
    pub min_w: f64,
    /// Mean power, in W.
    pub mean_w: f64,
    /// Largest power, in W.
    pub max_w: f64,
}

/// Power of one rail over the run, for drawing; a gap ends a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Index into `Analysis::rails`.
    pub rail: usize,
    /// Unbroken stretches.
    pub segments: Vec<Vec<TracePoint>>,
}

/// The board's clock against the host's: board less host, both monotonic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockOffset {
    /// The offset at the last burst of exchanges.
    pub offset: Nanos,
    /// The truth lies within ± this of it.
    pub bound: Nanos,
    /// When that was, on the host's clock.
    pub at: HostTime,
    /// How much faster the board's clock ran then, in 10⁻⁶.
    pub skew_ppm: f64,
    /// Median over all bursts of the bound, in ns.
    pub bound_median_ns: i64,
    /// Largest bound at any burst, in ns.
    pub bound_max_ns: i64,
    /// Bursts of exchanges.
    pub bursts: usize,
    /// Steps of a clock that were recognised (a suspend, a reboot).
    pub steps: usize,
}

/// All that a report shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// The run.
    pub run: RunId,
    /// The board.
    pub board: BoardDescription,
    /// The agent.
    pub agent: AgentBuild,
    /// The model behind the rails; `None` on a real board.
    pub simulation: Option<Simulation>,
    /// The campaign.
    pub campaign: CampaignSpec,
    /// CLOCK_REALTIME at the start, ns since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// Board time of the start.
    pub started: BoardTime,
    /// Board time of the last record.
    pub ended: BoardTime,
    /// How the run ended; `None` where its end is not in the recording.
    pub outcome: Option<RunOutcome>,
    /// Sampled chips.
    pub chips: Vec<ChipDescription>,
    /// Sampled rails; shunts as corrected on the command line.
    pub rails: Vec<RailDescription>,
    /// What the board's profile expects, and what of it does not hold.
    pub expectation: BoardExpectation,
    /// Rails of the board that are not sampled, with the reason.
    pub skipped: Vec<(String, SkipReason)>,
    /// What the run set in kernel drivers.
    pub driver_changes: Vec<DriverChange>,
    /// What the chips' samples suffered.
    pub chip_warnings: Vec<ChipWarning>,
    /// Rails whose shunt voltage is corrected by the board's table: name, general
    /// offset in µV, ranges with their own.
    pub shunt_offsets: Vec<(String, i32, usize)>,
    /// The board's own state over the run.
    pub state: StateSummary,
    /// Shunts that were corrected: rail name, recorded Ω, Ω used.
    pub corrected_shunts: Vec<(String, f64, f64)>,
    /// Scheduling class of the sampler.
    pub scheduling: Scheduling,
    /// The sampler's own report, one a chip.
    pub sampler: Vec<SamplerReport>,
    /// Cells, in the order of the plan.
    pub cells: Vec<CellResult>,
    /// Windows, in order of time.
    pub windows: Vec<WindowResult>,
    /// Idle windows, in order of time.
    pub baselines: Vec<BaselineResult>,
    /// Trials without a window.
    pub failed: Vec<FailedTrial>,
    /// What is absent.
    pub absences: Vec<Absence>,
    /// Power over time.
    pub traces: Vec<Trace>,
    /// Board's clock against the host's, where it was measured.
    pub clock: Option<ClockOffset>,
    /// Lines that told an external meter of windows or inferences.
    pub triggers: Vec<TriggerSummary>,
    /// Accuracies that were measured apart and joined the run.
    pub accuracies: Vec<MeasuredAccuracy>,
}

impl Analysis {
    /// The word that stands beside every simulated number; empty on a real board.
    #[must_use]
    pub fn simulated_word(&self) -> &'static str {
        if self.simulation.is_some() { "simulated" } else { "" }
    }

    /// True where a cell is invalid or data is missing: exit code 4.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.outcome != Some(RunOutcome::Complete)
            || self.absences.iter().any(|absence| absence.reason.is_none())
            || self.cells.iter().any(|cell| cell.judgement.verdict == Verdict::Invalid)
    }
}
