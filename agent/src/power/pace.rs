//! When the next sweep starts, and whether the last one held a new conversion.
//!
//! Owns the schedule of one chip, as a state machine without a clock: times
//! come in, deadlines and judgements go out. Knows no codes and no bus.
//!
//! A chip converts by its own oscillator (up to 10 % slower than nominal) and
//! says of a conversion only, by the ready flag, that one ended since the flag
//! was last read. Two cases:
//!
//! - **The transaction takes longer than the cycle.** Sweeps follow back to
//!   back; the flag is always set. [`Mode::Seeking`] for ever.
//! - **The cycle is longer.** Sweeping back to back, the flag is found clear
//!   once a beat: the end of a cycle then follows within the difference of the
//!   two. Two such events give the true cycle. From then on ([`Mode::Locked`])
//!   there is one sweep a cycle, its flag read just after the cycle's end: the
//!   period is a hair under the cycle, and a clear flag (read too early by a
//!   hair) pushes the next sweep back by a few. The flag is thus the phase
//!   detector of a loop (bang-bang, after Alexander, Electronics Letters 1975), and
//!   which conversion a sweep holds is known by counting cycles: every one is
//!   read, once.
//!
//! Where the flag belongs to a kernel driver, the period is the longest cycle
//! that the datasheet allows, so that no conversion is read twice.

use wattline_protocol::units::{BoardTime, Nanos};

use super::chip::Ready;

/// The slowest oscillator of both datasheets: conversion time +10 %.
const CYCLE_STRETCH_MAX: f64 = 1.1;
/// Part of the cycle by which a locked sweep comes earlier than the one before.
const HAIR: f64 = 0.001;
/// A clear flag pushes the next sweep back by this many hairs.
const PUSH_HAIRS: f64 = 4.0;
/// Sweeps in a row with the same flag after which the lock is given up. One
/// clear flag is an early read; after the push a second one means that no
/// conversion ended in a whole period: the chip converts otherwise than it did.
/// Set flags without end mean a cycle shorter than thought.
const CLEAR_ROW_MAX: u32 = 2;
const SET_ROW_MAX: u32 = 256;
/// A locked sweep farther than this part of a cycle from its place may mix
/// two cycles (INA3221 at 400 kHz: registers are safe within 300 µs of 840).
const MISPLACED: f64 = 0.25;
/// One farther than this part from a whole cycle after the one before may
/// repeat a conversion, or have missed one, of a register that lies near its
/// update; it is judged so.
const DOUBTFUL: f64 = 0.1;
/// Cycles over which the true cycle is measured before the next measurement
/// begins: about a second, in which temperature moves no oscillator by a hair.
const MEASURED_CYCLES: f64 = 1_024.0;
/// Cycles after which a running measurement replaces the one before.
const REPLACE_CYCLES: f64 = 64.0;
/// Sweeps back to back may be this much farther apart than the least (a thread
/// wakes tens of µs late). Two ends of a cycle then rarely fall between them; a
/// cycle counted wrong so is refused by the flags once it is locked to.
const CONTIGUOUS: f64 = 1.05;
/// A cycle longer than this many sweeps is found by the set flags, and over
/// this many cycles.
const LONG_CYCLE: f64 = 1.5;
const LONG_CYCLES: f64 = 16.0;
/// The longest pause after failures, and the first one.
const BACK_OFF_MAX: Nanos = Nanos::from_millis(100);
const BACK_OFF_FIRST: Nanos = Nanos::from_millis(1);

/// How much of the bus is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusShare {
    /// Nobody else is on the adapter.
    #[default]
    Whole,
    /// Others are bound on it: half the time at most.
    Half,
}

/// One sweep, as the schedule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// When the transaction started.
    pub start: BoardTime,
    /// When it ended.
    pub end: BoardTime,
    /// The flag in it.
    pub ready: Ready,
}

/// What a sweep holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// A conversion that was not read before.
    Fresh,
    /// The one of the sweep before.
    Stale,
    /// A new one, after a hole of at least one whole cycle.
    AfterHole,
}

/// The judgement on one sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Judgement {
    /// What it holds.
    pub conversion: Conversion,
    /// Conversions before it that were never read, as far as time tells.
    pub missed: u64,
}

/// The schedule of one chip.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    nominal_ns: f64,
    transaction_ns: f64,
    /// From the read of the flag to the transaction's end.
    flag_to_end: Nanos,
    /// Least distance of two starts.
    least_ns: f64,
    mode: Mode,
    deadline: BoardTime,
    /// Flag time of the last sweep that succeeded.
    last: Option<BoardTime>,
    /// Parts of unread conversions that do not make a whole one yet.
    unread: f64,
    failures: u32,
}

/// How the next start is found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// By the clock alone: the flag is not ours.
    ByTime,
    /// Back to back, until the flag was found clear twice.
    Seeking { anchor: Option<Anchor> },
    /// One sweep a cycle.
    Locked(Lock),
}

/// A flag found clear: the end of a cycle follows within `after_ns`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Anchor {
    at: BoardTime,
    after_ns: f64,
    /// Cycles that ended since.
    cycles: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Lock {
    cycle_ns: f64,
    hair_ns: f64,
    anchor: Anchor,
    /// Sweeps in a row whose flag was clear, and set.
    clear_row: u32,
    set_row: u32,
}

impl Pace {
    /// A schedule that starts at `now`, for a cycle and a transaction of these
    /// nominal lengths, the flag being read `flag_to_end_ns` before the end.
    #[must_use]
    pub fn new(timing: PaceTiming, share: BusShare, now: BoardTime) -> Self {
        let PaceTiming { cycle_ns, transaction_ns, flag_to_end_ns, flag_is_ours } = timing;
        let transaction_ns = f64::from(transaction_ns);
        let stretch = match share {
            BusShare::Whole => 1.0,
            BusShare::Half => 2.0,
        };
        let mode = if flag_is_ours { Mode::Seeking { anchor: None } } else { Mode::ByTime };
        Self {
            nominal_ns: f64::from(cycle_ns),
            transaction_ns,
            flag_to_end: Nanos(i64::from(flag_to_end_ns)),
            least_ns: stretch * transaction_ns,
            mode,
            deadline: now,
            last: None,
            unread: 0.0,
            failures: 0,
        }
    }

    /// When the next sweep starts.
    #[must_use]
    pub const fn deadline(&self) -> BoardTime {
        self.deadline
    }

    /// The period that is aimed at, in ns.
    #[must_use]
    pub fn period_ns(&self) -> f64 {
        match self.mode {
            Mode::ByTime => self.least_ns.max(self.nominal_ns * CYCLE_STRETCH_MAX),
            Mode::Seeking { .. } => self.least_ns.max(self.nominal_ns),
            Mode::Locked(lock) => lock.cycle_ns,
        }
    }

    /// The chip's true cycle in ns, where it is known.
    #[must_use]
    pub const fn measured_cycle_ns(&self) -> Option<f64> {
        match self.mode {
            Mode::Locked(lock) => Some(lock.cycle_ns),
            Mode::ByTime | Mode::Seeking { .. } => None,
        }
    }

    /// Takes in a transaction that failed at `now`: the next try comes after a
    /// pause that doubles up to 100 ms.
    pub fn failed(&mut self, now: BoardTime) {
        let doubled = BACK_OFF_FIRST.0 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.deadline = now + Nanos(doubled.min(BACK_OFF_MAX.0));
        self.seek();
    }

    /// The chip was configured anew: its cycle starts over.
    pub fn restarted(&mut self, now: BoardTime) {
        self.deadline = now;
        self.seek();
    }

    /// Takes in a sweep, sets the next deadline, and says what the sweep holds.
    pub fn swept(&mut self, swept: Swept) -> Judgement {
        self.failures = 0;
        let flag = swept.end - self.flag_to_end;
        let since_ns = self.last.replace(flag).map(|last| nanos(flag - last));
        match (self.mode, swept.ready) {
            (Mode::Locked(lock), ready @ (Ready::Converted | Ready::NotYet)) => {
                self.locked(lock, ready, flag, since_ns.unwrap_or(lock.cycle_ns), swept.end)
            }
            (Mode::Seeking { anchor }, ready @ (Ready::Converted | Ready::NotYet)) => {
                self.deadline = (swept.start + span(self.least_ns)).max(swept.end);
                self.seeking(anchor, ready, flag, since_ns)
            }
            (Mode::ByTime | Mode::Locked(_) | Mode::Seeking { .. }, _) => {
                let next = self.deadline + span(self.period_ns());
                self.deadline = next.max(swept.end);
                self.fresh_by_time(since_ns)
            }
        }
    }

    fn seeking(
        &mut self,
        anchor: Option<Anchor>,
        ready: Ready,
        flag: BoardTime,
        since_ns: Option<f64>,
    ) -> Judgement {
        let Some(since_ns) = since_ns else {
            // Nothing has been converted yet: the registers hold no value.
            let conversion = match ready {
                Ready::NotYet => Conversion::Stale,
                Ready::Converted | Ready::Unread => Conversion::Fresh,
            };
            return Judgement { conversion, missed: 0 };
        };
        if self.nominal_ns > LONG_CYCLE * self.least_ns {
            return self.seeking_long(anchor, ready, flag, since_ns);
        }
        // Only back to back is a set flag one cycle, and a clear one its edge.
        let contiguous = since_ns < self.least_ns * CONTIGUOUS;
        let mut anchor = anchor.filter(|_| contiguous);
        if ready == Ready::Converted {
            if let Some(anchor) = &mut anchor {
                anchor.cycles += 1.0;
            }
            self.mode = Mode::Seeking { anchor };
            return self.fresh_by_time(Some(since_ns));
        }
        let after_ns = (self.nominal_ns * CYCLE_STRETCH_MAX - since_ns).max(0.0);
        match anchor {
            Some(anchor) if anchor.cycles >= 1.0 => {
                if let Some(lock) = self.lock(anchor, flag) {
                    let start = flag + self.flag_to_end - span(self.transaction_ns);
                    self.deadline = start + span(lock.pushed_ns(since_ns));
                }
            }
            Some(_) | None => {
                let here = Anchor { at: flag, after_ns, cycles: 0.0 };
                self.mode = Mode::Seeking { anchor: contiguous.then_some(here) };
            }
        }
        Judgement { conversion: Conversion::Stale, missed: 0 }
    }

    /// Several sweeps fit into a cycle: each set flag is one cycle, its end
    /// between this read of the flag and the one before.
    fn seeking_long(
        &mut self,
        anchor: Option<Anchor>,
        ready: Ready,
        flag: BoardTime,
        since_ns: f64,
    ) -> Judgement {
        if ready == Ready::NotYet {
            return Judgement { conversion: Conversion::Stale, missed: 0 };
        }
        let here = Anchor { at: flag, after_ns: since_ns, cycles: 0.0 };
        let mut anchor = anchor.filter(|_| since_ns < 0.5 * self.nominal_ns).unwrap_or(here);
        if anchor.at < flag {
            anchor.cycles += 1.0;
        }
        self.mode = Mode::Seeking { anchor: Some(anchor) };
        if anchor.cycles >= LONG_CYCLES
            && let Some(lock) = self.lock(anchor, flag)
        {
            let start = flag + self.flag_to_end - span(self.transaction_ns);
            self.deadline = start + span(lock.cycle_ns - lock.hair_ns);
        }
        Judgement { conversion: Conversion::Fresh, missed: 0 }
    }

    /// From the anchor to here, as many cycles as flags were set lie between.
    fn lock(&mut self, anchor: Anchor, flag: BoardTime) -> Option<Lock> {
        let cycle_ns = nanos(flag - anchor.at) / anchor.cycles;
        let plausible = (cycle_ns / self.nominal_ns - 1.0).abs() < 2.0 * (CYCLE_STRETCH_MAX - 1.0);
        if !plausible {
            self.seek();
            return None;
        }
        let hair_ns = HAIR * cycle_ns + anchor.after_ns / anchor.cycles;
        let lock = Lock { cycle_ns, hair_ns, anchor, clear_row: 0, set_row: 0 };
        self.mode = Mode::Locked(lock);
        Some(lock)
    }

    fn locked(
        &mut self,
        mut lock: Lock,
        ready: Ready,
        flag: BoardTime,
        since_ns: f64,
        end: BoardTime,
    ) -> Judgement {
        let cycles = (since_ns / lock.cycle_ns).round();
        let misplaced = (since_ns - cycles * lock.cycle_ns).abs() > MISPLACED * lock.cycle_ns;
        lock.anchor.cycles += cycles;
        let step_ns = if ready == Ready::NotYet {
            lock.clear_row += 1;
            lock.set_row = 0;
            lock.measure(flag);
            lock.pushed_ns(since_ns)
        } else {
            lock.clear_row = 0;
            lock.set_row += 1;
            lock.cycle_ns - lock.hair_ns
        };
        self.mode = Mode::Locked(lock);
        let next = self.deadline + span(step_ns);
        let overrun = nanos(end - next) > MISPLACED * lock.cycle_ns;
        self.deadline = next;
        if misplaced || overrun || lock.clear_row > CLEAR_ROW_MAX || lock.set_row > SET_ROW_MAX {
            self.seek();
            self.deadline = end;
        }
        let beyond = since_ns / lock.cycle_ns - cycles;
        if cycles < 1.0 || lock.clear_row > 1 || (cycles < 2.0 && beyond < -DOUBTFUL) {
            return Judgement { conversion: Conversion::Stale, missed: 0 };
        }
        let is_next = cycles < 2.0 && beyond <= DOUBTFUL;
        let conversion = if is_next { Conversion::Fresh } else { Conversion::AfterHole };
        Judgement { conversion, missed: whole(cycles - 1.0) }
    }

    /// A new conversion; what was missed is judged by the nominal cycle.
    fn fresh_by_time(&mut self, since_ns: Option<f64>) -> Judgement {
        let Some(since_ns) = since_ns else {
            return Judgement { conversion: Conversion::Fresh, missed: 0 };
        };
        let cycles = since_ns / self.nominal_ns;
        self.unread = (self.unread + cycles - 1.0).max(0.0);
        let missed = whole(self.unread);
        self.unread = self.unread.fract();
        // Two cycles from read to read: one came and went whole. A bus that is
        // by itself this slow makes no hole, its sweeps are simply far apart.
        let hole = cycles >= 2.0 && since_ns >= 1.5 * self.period_ns();
        let conversion = if hole { Conversion::AfterHole } else { Conversion::Fresh };
        Judgement { conversion, missed }
    }

    const fn seek(&mut self) {
        self.mode = match self.mode {
            Mode::ByTime => Mode::ByTime,
            Mode::Seeking { .. } | Mode::Locked(_) => Mode::Seeking { anchor: None },
        };
    }
}

/// Lengths that a chip's driver and its bus give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceTiming {
    /// Nominal cycle, in ns.
    pub cycle_ns: u32,
    /// Length of a sweep's transaction, in ns.
    pub transaction_ns: u32,
    /// From the read of the flag to the transaction's end, in ns.
    pub flag_to_end_ns: u32,
    /// Whether the sweep reads the flag.
    pub flag_is_ours: bool,
}

impl Lock {
    /// The step after a clear flag. The read before lay behind the end of its
    /// cycle, so the end missed now follows within the rest of a cycle; beyond
    /// it the next read must come. (Left early by less than a cycle it would
    /// find the flag set each time, and the loop would see nothing.)
    fn pushed_ns(&self, since_ns: f64) -> f64 {
        let early_ns = (self.cycle_ns - since_ns).clamp(0.0, MISPLACED * self.cycle_ns);
        self.cycle_ns + early_ns + PUSH_HAIRS * self.hair_ns
    }

    /// A clear flag lies within a few hairs before the end of a cycle, as the
    /// anchor did: their distance over the cycles between is the true cycle.
    fn measure(&mut self, flag: BoardTime) {
        let Anchor { at, after_ns, cycles } = self.anchor;
        if cycles >= REPLACE_CYCLES || after_ns / cycles < self.hair_ns {
            self.cycle_ns = nanos(flag - at) / cycles;
            self.hair_ns = HAIR * self.cycle_ns + after_ns / cycles;
        }
        if cycles >= MEASURED_CYCLES {
            let after_ns = 2.0 * self.hair_ns;
            self.anchor = Anchor { at: flag, after_ns, cycles: 0.0 };
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans of a schedule are far below 2^53 ns")]
const fn nanos(span: Nanos) -> f64 {
    span.0 as f64
}

#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
fn span(ns: f64) -> Nanos {
    Nanos(ns.round() as i64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate at 0")]
const fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: PaceTiming = PaceTiming {
        cycle_ns: 840_000,
        transaction_ns: 825_000,
        flag_to_end_ns: 400_000,
        flag_is_ours: true,
    };

    #[test]
    fn pauses_double_up_to_100_ms_and_end_with_the_first_success() {
        let mut pace = Pace::new(TIMING, BusShare::Whole, BoardTime(0));
        let mut now = BoardTime(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pace.failed(now);
            pauses.push((pace.deadline() - now).0 / 1_000_000);
            now = pace.deadline();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        let end = now + Nanos(825_000);
        let _ = pace.swept(Swept { start: now, end, ready: Ready::Converted });
        pace.failed(end);
        assert_eq!(pace.deadline() - end, Nanos::from_millis(1));
    }

    #[test]
    fn half_a_bus_is_used_half_the_time() {
        let mut pace = Pace::new(TIMING, BusShare::Half, BoardTime(0));
        let end = BoardTime(825_000);
        let _ = pace.swept(Swept { start: BoardTime(0), end, ready: Ready::Converted });
        assert_eq!(pace.deadline(), BoardTime(1_650_000));
    }

    #[test]
    fn without_the_flag_the_period_is_the_longest_cycle_and_holes_are_seen_by_time() {
        let timing = PaceTiming { flag_is_ours: false, ..TIMING };
        let mut pace = Pace::new(timing, BusShare::Whole, BoardTime(0));
        let mut judge = |start: u64| {
            let (start, end) = (BoardTime(start), BoardTime(start + 825_000));
            pace.swept(Swept { start, end, ready: Ready::Unread }).conversion
        };
        let judged = [0, 924_000, 1_848_000, 5_000_000].map(&mut judge);
        use Conversion::{AfterHole, Fresh};
        assert_eq!(judged, [Fresh, Fresh, Fresh, AfterHole]);
        assert!((pace.period_ns() - 924_000.0).abs() < 1.0);
    }
}
