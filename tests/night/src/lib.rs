//! Simulated nights: the shipping recorder, spool, session, collector, store
//! and campaign, against a disk, a link, hosts and a power supply that fail.
//!
//! Owns the world of one night, in virtual time and by one seed: the same
//! seed is the same night to the last byte. What is under test is the
//! product's code itself, driven by its own state machines; the model of the
//! disk is [`wattline_agent::spool::model`]. `docs/reliability.md` says what
//! is proven and what is not.

mod board;
mod dice;
mod host;
mod ledger;
#[cfg(feature = "planted")]
pub mod mutants;
mod night;
mod pool;
mod recording;
mod refusal;
mod resume;
mod runner;
mod sums;
mod weather;

use std::cell::Cell;

use wattline_agent::campaign::state::Method;
use wattline_agent::campaign::warm_up::WarmUpRule;
use wattline_protocol::campaign_spec::Precision;
use wattline_protocol::command::{Hello, PROTOCOL_MAX, PROTOCOL_MIN, Side};
use wattline_protocol::record::{Cell as PlanCell, Plan, Trial};
use wattline_protocol::units::Nanos;

use dice::Dice;

pub use ledger::{Charge, Finding};
pub use pool::{Hung, each};
pub use refusal::{ERRORS, Reach, Refusal, reach};

/// What a night came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What it is accused of; empty for a night in which nothing was lost.
    pub findings: Vec<Finding>,
    /// Faults that struck.
    pub faults: u64,
    /// Length of the night, in seconds of its own time.
    pub length_s: f64,
    /// Frames that were recorded.
    pub frames: u64,
    /// Calls that the spool made of its disk.
    pub calls: u64,
    /// Pages of the largest recording.
    pub pages: u64,
}

impl Outcome {
    /// How often the night is accused of this.
    #[must_use]
    pub fn count(&self, charge: Charge) -> usize {
        self.findings.iter().filter(|finding| finding.charge == charge).count()
    }
}

/// One night.
#[must_use]
pub fn night(seed: u64) -> Outcome {
    held(|| night::World::new(seed).run())
}

/// One night of ends and beginnings in which a disk refuses what it is told to
/// refuse, and nothing else.
#[must_use]
pub fn refusing_night(seed: u64, refusal: &Refusal) -> Outcome {
    held(|| night::World::refusing(seed, refusal).run())
}

/// A night in which the product panics is lost; the world is dropped whole.
fn held(night: impl FnOnce() -> Outcome + std::panic::UnwindSafe) -> Outcome {
    let ran = std::panic::catch_unwind(night);
    ran.unwrap_or_else(|_| {
        let text = "the night ends in a panic".into();
        Outcome { findings: vec![Finding { charge: Charge::Lost, text }], ..Outcome::default() }
    })
}

/// One night, told on standard error as it goes.
#[must_use]
pub fn traced_night(seed: u64) -> Outcome {
    traced(|| night(seed))
}

/// What a night comes to, told on standard error as it goes.
pub fn traced(night: impl FnOnce() -> Outcome) -> Outcome {
    TRACED.set(true);
    let outcome = night();
    TRACED.set(false);
    outcome
}

thread_local! {
    static TRACED: Cell<bool> = const { Cell::new(false) };
}

fn is_traced() -> bool {
    TRACED.get()
}

/// A line on standard error, where the night is told.
macro_rules! trace {
    ($($words:tt)*) => {
        if $crate::is_traced() {
            eprintln!($($words)*);
        }
    };
}
use trace;

/// Windows of a night: short, by the rules of the product.
fn method() -> Method {
    Method {
        window_ns_min: Nanos::from_millis(1_500),
        inferences_min: 2,
        idle_ns: Nanos::from_millis(700),
        warm_up: WarmUpRule {
            least: Nanos::from_millis(300),
            inferences_min: 1,
            change_permille_max: None,
            most: Nanos::from_secs(3),
        },
    }
}

fn plan(trials: u32, dice: &mut Dice) -> Plan {
    let cell = |cell: u16| PlanCell {
        cell,
        network: "enet".into(),
        batch: 1 + u32::from(cell),
        precision: Precision::F32,
        device: "cpu".into(),
        size: 64,
        threads: 1,
        cores: String::new(),
        weights: "hashed:1".into(),
    };
    let cells = u16::try_from(dice.between(1, 2)).unwrap_or(1);
    let trials = (0..trials).map(|trial| Trial {
        trial,
        cell: u16::try_from(trial).unwrap_or(0) % cells,
        repeat: u16::try_from(trial).unwrap_or(0) / cells,
    });
    Plan { cells: (0..cells).map(cell).collect(), trials: trials.collect() }
}

fn hello(side: Side) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: "night".into(),
        digest: 0,
        side,
    }
}
