//! What is done on the bus next, when, and whether a sweep held new conversions.
//!
//! Owns the schedule of one chip, as a state machine without a clock: times
//! come in, deadlines, steps and judgements go out. Knows no codes and no bus;
//! what a flag proves of the chip's cycle is [`cycle`]'s.
//!
//! A chip converts by its own oscillator (up to 10 % off nominal) and says of a
//! conversion only, by the ready flag, that one ended since the flag was last
//! cleared. How it is read:
//!
//! - **A sweep takes longer than a cycle.** Sweeps follow back to back; nothing
//!   can be read twice and the flag is left alone: `Mode::ByTime`. So it is
//!   where the flag belongs to a kernel driver; the period is then the longest
//!   cycle that the datasheet allows.
//! - **A cycle is longer.** First the flag alone is polled until length and
//!   phase of the cycle are known (`Mode::Finding`, some tens of cycles). From
//!   then on (`Mode::Locked`) there is one sweep a cycle. Where the flag fits
//!   into it, it is read in the middle, just after the cycle's end, and now and
//!   then in the middle of what is uncertain, which halves it. Where it does not
//!   fit, sweeps hold the values alone, placed so that no register is near its
//!   update, and every few hundred cycles one is left out for a look at the flag.
//!
//! Which conversion a register gave follows from the bounds of the cycle and
//! those of the moment at which it was latched; a sweep is called new only
//! where both leave no doubt.

pub mod cycle;
mod judge;
mod state;
mod timing;

use wattline_protocol::units::{BoardTime, Nanos};

use super::chip::{CODES_MAX, Flag, Ready};
pub use cycle::{Cycle, Within};
use cycle::{nanos, span};
pub use judge::{Conversion, Judgement};
use judge::{Latched, judged_by_cycle, judged_by_time};
use state::{Finding, FlagState, Locked, Mode};
use timing::Typical;
pub use timing::{BusShare, PaceTiming, TransactionTiming};

/// How far a chip's cycle may be from nominal, as a fraction: conversion time
/// +10 % (SBOS576, SBOS547, "Electrical Characteristics"); no least one is
/// named, the same is taken.
const CYCLE_TOLERANCE: f64 = 0.1;
/// How far a cycle that was known may have moved when it is looked for again.
const MOVED: f64 = 0.01;
/// The length must be known as well as this before sweeps are placed by it.
const FOUND: f64 = 0.004;
/// Least part of a cycle that is left beside a sweep that reads the flag.
const SPARE: f64 = 0.004;
/// A sweep shorter than this part of the cycle takes up the search again.
const QUICK: f64 = 0.98;
/// A sweep that reads the flag at the end of a cycle keeps its registers at least
/// this part of a cycle from their updates.
const CLEAR: f64 = 0.06;
/// The flag is read this part of a cycle behind the last moment at which the
/// cycle can have ended.
const GUARD: f64 = 0.002;
/// An uncertainty of the cycle's end above this part of a cycle is halved.
const BISECT: f64 = 0.02;
/// A sweep may come this part of a cycle late; a later one waits for the next.
const LATE: f64 = 0.2;
/// An uncertainty above this part of the least distance from an update, or of
/// half the room that a poll leaves in a cycle, calls for a look at the flag: up
/// to 2 a sweep's conversions are certain, and a look can halve it.
const WIDE: f64 = 1.6;
/// Cycles from one look at the flag to the next where sweeps have no room for it.
const LOOK_CYCLES: i64 = 256;
/// Polls of one look, after which the chip does not convert as it did.
const LOOK_POLLS: u32 = 8;
/// A poll longer than this part of the cycle tells no two ends apart; the same
/// for one with the read that clears the flag.
const COARSE: f64 = 0.55;
const COARSE_PAIR: f64 = 0.65;
/// Contradictions of a search after which the flag is not believed: a chip whose
/// flag no read clears would be searched for ever.
const REFUTED_MAX: u32 = 16;
/// Cycles after which the search is given up: sweeps go by time from then on.
const FIND_CYCLES: f64 = 1_000.0;
/// Cycles without a set flag after which a sweep is made nevertheless, so that
/// the absence of conversions is recorded.
const SILENT_CYCLES: f64 = 4.0;
/// The longest pause after failures, and the first one.
const BACK_OFF_MAX: Nanos = Nanos::from_millis(100);
const BACK_OFF_FIRST: Nanos = Nanos::from_millis(1);

/// What is done on the bus at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A sweep, with the flag or without.
    Sweep(Flag),
    /// A read of the flag alone.
    Poll,
    /// A read that clears the flag, of a chip whose flag stays after its own.
    Clear,
}

/// One transaction, as the schedule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// When the transaction started.
    pub start: BoardTime,
    /// When it ended.
    pub end: BoardTime,
    /// The flag in it.
    pub ready: Ready,
}

/// The schedule of one chip.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    timing: PaceTiming,
    /// Least and largest length of the cycle as far as known, in ns.
    length_ns: (f64, f64),
    found: bool,
    /// The cycle cannot be found on this bus.
    gave_up: bool,
    /// Times the length of a transaction: least distance of two starts.
    stretch: f64,
    plain: Typical,
    flagged: Typical,
    poll: Typical,
    mode: Mode,
    deadline: BoardTime,
    /// The last sweep that succeeded.
    last: Option<Latched>,
    /// Parts of unread conversions that do not make a whole one yet.
    unread: f64,
    failures: u32,
}

/// How a cycle of known length is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Regime {
    /// The bus is slower: back to back.
    Slow,
    /// One sweep a cycle, the flag in each.
    Flagged,
    /// One sweep a cycle, the flag seldom.
    Sparse,
}

impl Pace {
    /// A schedule that starts at `now`.
    #[must_use]
    pub fn new(timing: PaceTiming, share: BusShare, now: BoardTime) -> Self {
        let mut pace = Self {
            timing,
            length_ns: around(timing.cycle_ns, CYCLE_TOLERANCE),
            found: false,
            gave_up: false,
            stretch: share.stretch(),
            plain: Typical::nominal(timing.plain.length_ns),
            flagged: Typical::nominal(timing.flagged.length_ns),
            poll: Typical::nominal(timing.poll.length_ns),
            mode: Mode::ByTime,
            deadline: now,
            last: None,
            unread: 0.0,
            failures: 0,
        };
        pace.restarted(now);
        pace
    }

    /// When the next step is due.
    #[must_use]
    pub const fn deadline(&self) -> BoardTime {
        self.deadline
    }

    /// What the next step is.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.mode {
            Mode::ByTime => Step::Sweep(Flag::Left),
            Mode::Finding(Finding { silent: true, .. }) => Step::Sweep(Flag::Left),
            Mode::Finding(Finding { flag, .. })
            | Mode::Locked(Locked { flag, look: Some(_), .. })
                if flag.to_clear =>
            {
                Step::Clear
            }
            Mode::Finding(_) | Mode::Locked(Locked { look: Some(_), .. }) => Step::Poll,
            Mode::Locked(Locked { look: None, cycle, .. }) => {
                match self.regime(cycle.length_bounds_ns()) {
                    Regime::Flagged => Step::Sweep(Flag::Read),
                    Regime::Slow | Regime::Sparse => Step::Sweep(Flag::Left),
                }
            }
        }
    }

    /// The period that is aimed at, in ns.
    #[must_use]
    pub fn period_ns(&self) -> f64 {
        match self.mode {
            Mode::ByTime => self.period_by_time_ns(),
            Mode::Finding(_) => self.timing.cycle_ns.max(self.stretch * self.plain.ns()),
            Mode::Locked(locked) => locked.cycle.length_ns(),
        }
    }

    fn period_by_time_ns(&self) -> f64 {
        (self.stretch * self.plain.ns()).max(self.length_ns.1)
    }

    /// The chip's true cycle in ns, where it is known.
    #[must_use]
    pub fn measured_cycle_ns(&self) -> Option<f64> {
        self.found.then(|| f64::midpoint(self.length_ns.0, self.length_ns.1))
    }

    /// Whether the cycle is being looked for: sweeps come when it is found.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        matches!(self.mode, Mode::Finding(_))
    }

    /// Whether the sweeps read the flag.
    #[must_use]
    pub fn flag_of_sweeps(&self) -> Flag {
        match self.mode {
            Mode::Locked(locked)
                if self.regime(locked.cycle.length_bounds_ns()) == Regime::Flagged =>
            {
                Flag::Read
            }
            Mode::ByTime | Mode::Finding(_) | Mode::Locked(_) => Flag::Left,
        }
    }

    /// Takes in a transaction that failed at `now`: the next try comes after a
    /// pause that doubles up to 100 ms.
    pub fn failed(&mut self, now: BoardTime) {
        let doubled = BACK_OFF_FIRST.0 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        if !matches!(self.mode, Mode::ByTime) {
            self.find(now);
        }
        self.deadline = now + Nanos(doubled.min(BACK_OFF_MAX.0));
    }

    /// The chip was configured anew: its cycle starts over.
    pub fn restarted(&mut self, now: BoardTime) {
        self.length_ns = around(self.timing.cycle_ns, CYCLE_TOLERANCE);
        self.found = false;
        self.gave_up = false;
        self.last = None;
        self.deadline = now;
        let is_slow = self.stretch * self.plain.ns() >= self.length_ns.1;
        if !self.timing.flag_is_ours {
            self.mode = Mode::ByTime;
        } else if is_slow {
            self.mode = Mode::ByTime;
            // Before, the registers hold no value.
            self.deadline = now + span(self.length_ns.1);
        } else {
            self.find(now);
        }
    }

    /// All chips of the bus ask for `demand` times what it carries: sweeps are as
    /// much farther apart.
    pub fn crowded(&mut self, demand: f64, now: BoardTime) {
        if demand > 1.0 {
            self.stretch *= demand;
            self.restarted(now);
        }
    }

    /// Nothing is swept before a whole cycle has passed from `now` on.
    pub fn pass_a_cycle(&mut self, now: BoardTime) {
        self.deadline = now + span(self.length_ns.1);
    }

    fn find(&mut self, now: BoardTime) {
        let finding = Finding {
            cycle: None,
            flag: FlagState::default(),
            begun: now,
            since: now,
            silent: false,
            refuted: 0,
        };
        self.mode = Mode::Finding(finding);
        self.deadline = now;
        // Ends will be counted anew.
        if let Some(last) = &mut self.last {
            last.conversions = None;
        }
    }

    /// The cycle is not where it should be: its phase is looked for again.
    fn lost(&mut self, cycle: &Cycle, now: BoardTime) {
        self.length_ns = around(cycle.length_ns(), MOVED);
        self.find(now);
    }

    /// Takes in a sweep, sets the next deadline, and says what the sweep holds.
    pub fn swept(&mut self, swept: Swept, flag: Flag) -> Judgement {
        self.failures = 0;
        let (timing, typical) = match flag {
            Flag::Left => (self.timing.plain, &mut self.plain),
            Flag::Read => (self.timing.flagged, &mut self.flagged),
        };
        let length_ns = typical.taken(nanos(swept.end - swept.start));
        let latched = Latched::of(&timing, length_ns, swept);
        let before = self.last.replace(latched);
        match self.mode {
            Mode::ByTime => {
                let (length_ns, period_ns) = (self.length_ns, self.period_by_time_ns());
                let next = swept.start + span(period_ns.ceil());
                self.deadline = next.max(swept.end);
                let mut judgement =
                    judged_by_time(self.columns(), before.as_ref(), &latched, length_ns, period_ns);
                judgement.missed = self.missed_by_time(before.as_ref(), &latched);
                // A bus that was slow for a while leaves room for the flag again.
                let may_find = self.timing.flag_is_ours && !self.gave_up;
                if may_find && self.stretch * self.plain.ns() < QUICK * length_ns.0 {
                    self.length_ns = around(self.timing.cycle_ns, CYCLE_TOLERANCE);
                    self.find(swept.end);
                }
                judgement
            }
            Mode::Finding(mut finding) => {
                // Conversions stay away: what the registers hold is old.
                finding.silent = false;
                finding.since = swept.end;
                self.mode = Mode::Finding(finding);
                self.deadline = swept.end;
                Judgement::of_all(Conversion::Stale)
            }
            Mode::Locked(locked) => self.locked(locked, &latched, before, swept),
        }
    }

    fn locked(
        &mut self,
        mut locked: Locked,
        latched: &Latched,
        before: Option<Latched>,
        swept: Swept,
    ) -> Judgement {
        let read = latched.flag;
        let seen = match swept.ready {
            Ready::Unread => Ok(()),
            ready => locked.see(ready, read, Some(latched.cleared)).map(|_| ()),
        };
        let judgement = judged_by_cycle(
            self.columns(),
            (&locked.cycle, &self.timing),
            before.as_ref(),
            latched,
        );
        if let Some(last) = &mut self.last {
            last.conversions = judgement.1;
        }
        let judgement = judgement.0;
        if seen.is_err() {
            self.lost(&locked.cycle, swept.end);
            // It is not known what was converted, and when.
            return match swept.ready {
                Ready::NotYet => Judgement::of_all(Conversion::Stale),
                Ready::Converted | Ready::Unread => judgement.doubted(),
            };
        }
        self.length_ns = locked.cycle.length_bounds_ns();
        self.aim_sweep(locked, swept.end);
        judgement
    }

    /// Takes in a read of the flag alone.
    pub fn polled(&mut self, swept: Swept) {
        self.failures = 0;
        let length_ns = self.poll.taken(nanos(swept.end - swept.start));
        let read = Latched::of(&self.timing.poll, length_ns, swept).flag;
        let cleared = self.timing.clear.is_none().then_some(read);
        match self.mode {
            Mode::ByTime => self.deadline = swept.end,
            Mode::Finding(finding) => self.finding(finding, (swept.ready, read, cleared), swept),
            Mode::Locked(mut locked) => {
                let polls = locked.look.unwrap_or(0) + 1;
                match locked.see(swept.ready, read, cleared) {
                    Ok(true) => {
                        locked.look = None;
                        locked.looked = locked.cycle.counted();
                        self.length_ns = locked.cycle.length_bounds_ns();
                        self.aim_sweep(locked, swept.end);
                    }
                    Ok(false) if polls < LOOK_POLLS => {
                        locked.look = Some(polls);
                        self.mode = Mode::Locked(locked);
                        self.aim_poll(&locked, swept.end);
                    }
                    Ok(false) | Err(_) => self.lost(&locked.cycle, swept.end),
                }
            }
        }
    }

    /// Takes in a read that cleared the flag.
    pub fn cleared(&mut self, swept: Swept) {
        self.failures = 0;
        self.deadline = swept.end;
        let (Some(clear), Mode::Finding(Finding { flag, .. }) | Mode::Locked(Locked { flag, .. })) =
            (self.timing.clear, &mut self.mode)
        else {
            return;
        };
        let cleared = Latched::of(&clear, clear.length_ns, swept).flag;
        *flag = FlagState { down: Some(cleared), to_clear: false };
        if let Mode::Locked(locked) = self.mode {
            self.aim_poll(&locked, swept.end);
        }
    }

    fn finding(
        &mut self,
        mut finding: Finding,
        (ready, read, cleared): (Ready, Within, Option<Within>),
        swept: Swept,
    ) {
        let down = finding.flag.down;
        let seen = match (&mut finding.cycle, down) {
            (Some(cycle), Some(down)) => match ready {
                Ready::Converted => cycle.some_end(down, read).map(|_| ()),
                Ready::NotYet | Ready::Unread => cycle.no_end(down.late, read.early),
            },
            (cycle @ None, Some(down)) if ready == Ready::Converted => {
                let end = Within { early: down.early, late: read.late };
                *cycle = Cycle::seen(end, self.length_ns);
                Ok(())
            }
            _ => Ok(()),
        };
        if seen.is_err() {
            // Another cycle than was thought.
            self.length_ns = around(self.timing.cycle_ns, CYCLE_TOLERANCE);
            finding.cycle = None;
            finding.refuted += 1;
        }
        finding.flag.after(ready, read, cleared);
        if ready == Ready::Converted {
            finding.since = swept.end;
        }
        let quiet_ns = nanos(swept.end - finding.since);
        finding.silent = quiet_ns > SILENT_CYCLES * self.length_ns.1;
        // Polls too slow to tell two ends apart, a flag that is none, or too few
        // polls that told an end.
        let poll_ns = self.stretch * self.poll.ns();
        let pair_ns = poll_ns * if self.timing.clear.is_some() { 2.0 } else { 1.0 };
        let is_coarse = poll_ns.max(COARSE / COARSE_PAIR * pair_ns) > COARSE * self.length_ns.0;
        let is_long = nanos(swept.end - finding.begun) > FIND_CYCLES * self.length_ns.1;
        let is_untrue = finding.refuted > REFUTED_MAX;
        if is_coarse || is_untrue || (is_long && !finding.silent) {
            self.gave_up = true;
            self.mode = Mode::ByTime;
            self.deadline = swept.end + span(self.length_ns.1);
            return;
        }
        self.mode = Mode::Finding(finding);
        self.deadline = swept.end + span((self.stretch - 1.0) * self.poll.ns());
        let found = finding.cycle.filter(|cycle| {
            ready == Ready::Converted && cycle.counted() > 4 && cycle.length_uncertainty() < FOUND
        });
        if let Some(cycle) = found {
            self.length_ns = cycle.length_bounds_ns();
            self.found = true;
            let flag = finding.flag;
            let (looked, aimed) = (cycle.counted(), cycle.counted());
            let locked = Locked { cycle, flag, early: false, look: None, looked, aimed };
            self.aim_sweep(locked, swept.end);
        }
    }

    /// Plans the next sweep of a locked schedule.
    fn aim_sweep(&mut self, mut locked: Locked, now: BoardTime) {
        let cycle_ns = locked.cycle.length_ns();
        match self.regime(locked.cycle.length_bounds_ns()) {
            Regime::Slow => {
                self.mode = Mode::ByTime;
                self.deadline = now;
                return;
            }
            Regime::Flagged => {
                let lead = span(self.timing.flagged.flag * self.flagged_ns());
                let end = locked.aim(now + lead - span(LATE * cycle_ns));
                let width = nanos(end.late - end.early);
                let is_wide = width > BISECT * cycle_ns && !locked.early;
                let aim = if is_wide {
                    end.early + span(0.5 * width)
                } else {
                    end.late + span(GUARD * cycle_ns)
                };
                self.deadline = (aim - lead).max(now);
            }
            Regime::Sparse => {
                let (offset_ns, margin_ns) = self.timing.clearest(self.plain.ns(), cycle_ns);
                let late_ns = (LATE * cycle_ns).min(0.5 * margin_ns);
                let before = locked.aimed;
                let end = locked.aim(now - span(offset_ns + late_ns));
                let width = nanos(end.late - end.early);
                let start = end.early + span(0.5 * width + offset_ns);
                self.deadline = start.max(now);
                let clear_ns = self.timing.clear.map_or(0.0, |clear| clear.length_ns);
                let room_ns = cycle_ns - self.poll.ns() - clear_ns;
                if width > WIDE * margin_ns.min(0.5 * room_ns)
                    || locked.aimed - locked.looked >= LOOK_CYCLES
                {
                    locked.look = Some(0);
                    // With room for it, the sweep of this end still follows.
                    locked.aimed = before;
                    self.mode = Mode::Locked(locked);
                    self.aim_poll(&locked, now);
                    return;
                }
            }
        }
        self.mode = Mode::Locked(locked);
    }

    /// Plans a poll. Where the flag may be set already the poll is to clear it,
    /// and keeps off the moments at which the next end may come; else it is for
    /// the middle of these moments, which halves them.
    fn aim_poll(&mut self, locked: &Locked, now: BoardTime) {
        let lead = span(self.timing.poll.flag * self.poll.ns());
        let at_once = now + lead;
        let (_, next) = locked.cycle.next(at_once);
        let is_down = locked.flag.down.is_some_and(|down| {
            let (_, first) = locked.cycle.next(down.early);
            first.early >= at_once
        });
        let aim = if is_down {
            next.early + span(0.5 * nanos(next.late - next.early))
        } else {
            let (_, nearest) = locked.cycle.nearest(at_once);
            let is_amid = nearest.early <= at_once && at_once <= nearest.late;
            let behind = nearest.late + span(GUARD * locked.cycle.length_ns());
            if is_amid { behind } else { at_once }
        };
        self.deadline = (aim - lead).max(now);
    }

    fn regime(&self, (least_ns, largest_ns): (f64, f64)) -> Regime {
        let plain_ns = self.stretch * self.plain.ns();
        if plain_ns >= f64::midpoint(least_ns, largest_ns) {
            Regime::Slow
        } else if self.stretch * self.flagged_ns() <= least_ns * (1.0 - SPARE)
            && self.timing.clearance(self.flagged_ns(), least_ns) > CLEAR * least_ns
        {
            Regime::Flagged
        } else {
            Regime::Sparse
        }
    }

    /// Length of a sweep with the flag: as measured, else in the proportion of
    /// the bits to one without.
    fn flagged_ns(&self) -> f64 {
        let proportion = self.timing.flagged.length_ns / self.timing.plain.length_ns;
        self.flagged.measured().unwrap_or(proportion * self.plain.ns())
    }

    const fn columns(&self) -> usize {
        if self.timing.columns < CODES_MAX { self.timing.columns } else { CODES_MAX }
    }

    /// Conversions that went unread, by the nominal cycle.
    fn missed_by_time(&mut self, before: Option<&Latched>, latched: &Latched) -> u64 {
        let Some(before) = before else { return 0 };
        let since_ns = nanos(latched.flag.late - before.flag.late);
        self.unread = (self.unread + since_ns / self.timing.cycle_ns - 1.0).max(0.0);
        let missed = self.unread;
        self.unread = missed.fract();
        u64::try_from(cycle::whole(missed)).unwrap_or(0)
    }
}

fn around(length_ns: f64, tolerance: f64) -> (f64, f64) {
    (length_ns * (1.0 - tolerance), length_ns * (1.0 + tolerance))
}

#[cfg(test)]
mod tests;
