//! Whether a sweep's registers held new conversions.
//!
//! Owns the judgement from bounds: when a register was latched, and when it is
//! updated. What may be a repeat is called stale, what may follow a hole is
//! said to. Decides nothing about the next sweep.

use wattline_protocol::units::BoardTime;

use super::Swept;
use super::cycle::{Cycle, Within, nanos, span, whole};
use super::timing::{PaceTiming, TransactionTiming};
use crate::power::chip::{CODES_MAX, SLOTS_MAX};

/// Cycles by which a distance may seem short for its rounding to whole ns.
const ROUNDING: f64 = 1e-5;

/// What a slot of a sweep holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// A conversion that was not read before.
    Fresh,
    /// The one of the sweep before, or perhaps so.
    Stale,
    /// A new one, after a hole of at least one whole cycle, or perhaps so.
    AfterHole,
}

/// The judgement on one sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Judgement {
    /// What each slot holds.
    pub conversions: [Conversion; SLOTS_MAX],
    /// Conversions before it that were never read, as far as time tells.
    pub missed: u64,
}

impl Judgement {
    /// The same for all slots.
    pub(super) const fn of_all(conversion: Conversion) -> Self {
        Self { conversions: [conversion; SLOTS_MAX], missed: 0 }
    }

    /// The judgement of a sweep whose cycle has turned out not to be known: a
    /// new value may stand after a hole.
    pub(super) fn doubted(mut self) -> Self {
        for conversion in &mut self.conversions {
            if *conversion == Conversion::Fresh {
                *conversion = Conversion::AfterHole;
            }
        }
        self
    }
}

/// When a sweep's registers were latched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latched {
    registers: [Within; CODES_MAX],
    pub(super) flag: Within,
    pub(super) cleared: Within,
    /// Of each register, how many conversions had ended: least and most.
    pub(super) conversions: Option<[(i64, i64); CODES_MAX]>,
}

impl Latched {
    /// Moments of a transaction that takes `length_ns` by itself: what this one
    /// took beyond may lie before or behind each of them.
    pub(super) fn of(timing: &TransactionTiming, length_ns: f64, swept: Swept) -> Self {
        let at = |part: f64| Within {
            early: swept.start + span(part * length_ns),
            late: swept.end - span((1.0 - part) * length_ns),
        };
        Self {
            registers: timing.latches.map(at),
            flag: at(timing.flag),
            cleared: at(timing.clear),
            conversions: None,
        }
    }

    /// What a transaction took beyond what it takes by itself, in ns.
    fn excess_ns(&self) -> f64 {
        nanos(self.flag.late - self.flag.early)
    }
}

/// By the cycle's bounds. Also gives the conversions of each register, for the
/// next judgement.
pub(super) fn judged_by_cycle(
    columns: usize,
    (cycle, timing): (&Cycle, &PaceTiming),
    before: Option<&Latched>,
    now: &Latched,
) -> (Judgement, Option<[(i64, i64); CODES_MAX]>) {
    let mut counts = [(0, 0); CODES_MAX];
    for (column, count) in counts.iter_mut().enumerate().take(columns) {
        *count = cycle.conversions(now.registers[column], timing.updates[column]);
    }
    let Some(before) = before else {
        return (Judgement::of_all(Conversion::Fresh), Some(counts));
    };
    let length_ns = cycle.length_bounds_ns();
    let passed = |column: usize| {
        let by_time = passed_by_time(before, now, column, length_ns);
        match before.conversions {
            None => by_time,
            Some(earlier) => (
                by_time.0.max(counts[column].0 - earlier[column].1),
                by_time.1.min(counts[column].1 - earlier[column].0),
            ),
        }
    };
    let mut judgement = of_slots(columns, &passed, is_displaced(before, now, length_ns.0), 1);
    let first = passed(0).1;
    judgement.missed = u64::try_from(first - 1).unwrap_or(0);
    (judgement, Some(counts))
}

/// By time alone: `length_ns` are the bounds of the cycle, `period_ns` is the
/// distance of sweeps that is aimed at.
pub(super) fn judged_by_time(
    columns: usize,
    before: Option<&Latched>,
    now: &Latched,
    length_ns: (f64, f64),
    period_ns: f64,
) -> Judgement {
    let Some(before) = before else { return Judgement::of_all(Conversion::Fresh) };
    let passed = |column: usize| passed_by_time(before, now, column, length_ns);
    // A bus that is by itself this slow makes no hole, its sweeps are simply
    // far apart.
    let apart_ns = nanos(now.flag.late - before.flag.early);
    let is_hole = apart_ns >= 1.5 * period_ns;
    let allowed = if is_hole { 1 } else { i64::MAX };
    of_slots(columns, &passed, is_displaced(before, now, length_ns.0), allowed)
}

/// Whether one of two transactions was held up by so much that bounds do not
/// tell where in it registers were latched.
fn is_displaced(before: &Latched, now: &Latched, least_ns: f64) -> bool {
    before.excess_ns().max(now.excess_ns()) > 0.25 * least_ns
}

fn of_slots(
    columns: usize,
    passed: &dyn Fn(usize) -> (i64, i64),
    is_displaced: bool,
    allowed: i64,
) -> Judgement {
    let mut judgement = Judgement::of_all(Conversion::Fresh);
    for (slot, conversion) in judgement.conversions.iter_mut().enumerate().take(columns / 2) {
        let (shunt, bus) = (passed(2 * slot), passed(2 * slot + 1));
        let (least, most) = (shunt.0.min(bus.0), shunt.1.max(bus.1));
        *conversion = if least >= 1 && most <= allowed {
            Conversion::Fresh
        } else if least >= 1 || (is_displaced && most >= 1) {
            // Held up, most likely before its bits: new, but not as planned.
            Conversion::AfterHole
        } else {
            Conversion::Stale
        };
    }
    judgement
}

/// How many updates of a register lie between two latches: least and most.
fn passed_by_time(
    before: &Latched,
    now: &Latched,
    column: usize,
    (least_ns, largest_ns): (f64, f64),
) -> (i64, i64) {
    let (earlier, later) = (before.registers[column], now.registers[column]);
    let between = |from: BoardTime, to: BoardTime| nanos(to - from).max(0.0);
    (
        whole((between(earlier.late, later.early) / largest_ns + ROUNDING).floor()),
        whole((between(earlier.early, later.late) / least_ns).ceil()),
    )
}
