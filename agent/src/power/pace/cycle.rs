//! The chip's own cycle: its length and the ends of its conversions, each
//! between bounds.
//!
//! Owns the arithmetic of what a ready flag proves. A flag found set says that a
//! cycle ended since it was last known to be down, one found clear that none
//! did; both narrow an interval, and every cycle that passes widens it by what
//! is not known of the cycle's length. No estimate is made where a bound will
//! do: a sweep is called new only if it must be. Knows no schedule and no bus.
//! Theory: interval analysis (Moore, Kearfott, Cloud 2009); the bisection of a
//! phase by one bit is that of a bang-bang loop (Alexander 1975).

use wattline_protocol::units::{BoardTime, Nanos};

/// Narrowest interval of the cycle's length, as a fraction on either side: what
/// the oscillator may drift between two anchors, a second apart at most (some
/// tens of ppm a kelvin, and a board does not warm faster than a kelvin or two
/// a second).
const DRIFT: f64 = 1e-4;
/// Cycles after which the length is measured from a newer anchor.
const ANCHOR_CYCLES: f64 = 512.0;
/// Where it is known better than this, as a fraction; else after eight times as
/// many.
const SHARP: f64 = 1e-3;
/// An interval wider than this part of a cycle says nothing of the phase.
const LOST: f64 = 0.8;

/// An instant between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// Not before.
    pub early: BoardTime,
    /// Not after.
    pub late: BoardTime,
}

/// What is known of the cycle. Ends of cycles are counted; number 0 is the
/// first that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// Least and largest length, in ns.
    length_ns: (f64, f64),
    /// The end that the bounds below are about.
    number: i64,
    /// What `end_ns` is counted from.
    origin: BoardTime,
    /// Bounds of that end, in ns after `origin`.
    end_ns: (f64, f64),
    /// An earlier end: its bounds, in ns after `origin`, and cycles since.
    anchor_ns: (f64, f64),
    anchor_cycles: f64,
    /// The last end that a flag found set has told of.
    consumed: i64,
}

/// What was seen contradicts the bounds: the chip was reset, or its oscillator
/// moved by more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

impl Cycle {
    /// From the first end seen: it lies in `end`, the cycle's length in
    /// `length_ns`. `None` where `end` is too wide to tell two ends apart.
    #[must_use]
    pub fn seen(end: Within, length_ns: (f64, f64)) -> Option<Self> {
        let end_ns = (0.0, nanos(end.late - end.early));
        (end_ns.1 < 0.6 * length_ns.0).then_some(Self {
            length_ns,
            number: 0,
            origin: end.early,
            end_ns,
            anchor_ns: end_ns,
            anchor_cycles: 0.0,
            consumed: 0,
        })
    }

    /// The length in ns: the middle of its interval.
    #[must_use]
    pub fn length_ns(&self) -> f64 {
        f64::midpoint(self.length_ns.0, self.length_ns.1)
    }

    /// Least and largest length in ns.
    #[must_use]
    pub const fn length_bounds_ns(&self) -> (f64, f64) {
        self.length_ns
    }

    /// How well the length is known: half its interval, as a fraction.
    #[must_use]
    pub fn length_uncertainty(&self) -> f64 {
        (self.length_ns.1 - self.length_ns.0) / (2.0 * self.length_ns())
    }

    /// Cycles seen since the first end.
    #[must_use]
    pub const fn counted(&self) -> i64 {
        self.number
    }

    /// Number of the end nearest to `at`, and its bounds.
    #[must_use]
    pub fn nearest(&self, at: BoardTime) -> (i64, Within) {
        let middle = f64::midpoint(self.end_ns.0, self.end_ns.1);
        let cycles = ((nanos(at - self.origin) - middle) / self.length_ns()).round();
        (self.number + whole(cycles), self.end_after(cycles))
    }

    /// The first end whose middle is not before `at`, and its bounds.
    #[must_use]
    pub fn next(&self, at: BoardTime) -> (i64, Within) {
        let middle = f64::midpoint(self.end_ns.0, self.end_ns.1);
        let cycles = ((nanos(at - self.origin) - middle) / self.length_ns()).ceil();
        (self.number + whole(cycles), self.end_after(cycles))
    }

    /// Bounds of the end of this number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "cycles from one sweep to the next are few")]
    pub fn end(&self, number: i64) -> Within {
        self.end_after((number - self.number) as f64)
    }

    /// Bounds of the end `cycles` after the one kept.
    fn end_after(&self, cycles: f64) -> Within {
        let (least, largest) = self.length_ns;
        let (first, second) = if cycles < 0.0 { (largest, least) } else { (least, largest) };
        Within {
            early: self.origin + span(self.end_ns.0 + cycles * first),
            late: self.origin + span(self.end_ns.1 + cycles * second),
        }
    }

    /// How many conversions had ended at `at` of a register that is updated
    /// when `part` (0 to 1] of each cycle has passed: least and most.
    #[must_use]
    pub fn conversions(&self, at: Within, part: f64) -> (i64, i64) {
        let count = |at: BoardTime, choose: fn(&Within) -> BoardTime| {
            let (number, end) = self.nearest(at);
            let since = nanos(at - choose(&end)) / self.length_ns() + 1.0 - part;
            number + whole(since.floor())
        };
        (count(at.early, |end| end.late), count(at.late, |end| end.early))
    }

    /// The flag was found clear: no end lies between `from`, when it was known
    /// to be down, and `to`.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub fn no_end(&mut self, from: BoardTime, to: BoardTime) -> Result<(), Contradiction> {
        self.move_to(to)?;
        let (from, to) = (nanos(from - self.origin), nanos(to - self.origin));
        if self.end_ns.0 >= from {
            self.end_ns.0 = self.end_ns.0.max(to);
        } else if self.end_ns.1 <= to {
            self.end_ns.1 = self.end_ns.1.min(from);
        }
        self.narrowed()
    }

    /// The flag was found set at `read`: an end lies between `down`, when it was
    /// known to be down, and then. Returns whether that told which end it was.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub fn some_end(&mut self, down: Within, read: Within) -> Result<bool, Contradiction> {
        self.move_to(read.late)?;
        let after = |at: BoardTime| nanos(at - self.origin);
        let (from_ns, read_ns, to_ns) = (after(down.early), after(read.early), after(read.late));
        let bounds = |cycles: f64| {
            let end = self.end_after(cycles);
            (nanos(end.early - self.origin), nanos(end.late - self.origin))
        };
        // Which of the ends about here may it have been, and which is certain to
        // have been cleared with it?
        let mut fitting = None;
        let mut fits = 0;
        let mut consumed = self.consumed;
        for cycles in [-2.0, -1.0, 0.0, 1.0] {
            let (early, late) = bounds(cycles);
            let number = self.number + whole(cycles);
            if number > self.consumed && late > from_ns && early <= to_ns {
                fits += 1;
                fitting = Some(cycles);
            }
            if late <= read_ns {
                consumed = consumed.max(number);
            }
        }
        let told = match (fits, fitting) {
            (0, _) => return Err(Contradiction),
            (1, Some(cycles)) => {
                let (early, late) = bounds(cycles);
                self.number += whole(cycles);
                self.anchor_cycles += cycles;
                self.end_ns = (early.max(from_ns), late.min(to_ns));
                consumed = consumed.max(self.number);
                true
            }
            _ => false,
        };
        self.consumed = consumed;
        self.narrowed()?;
        Ok(told)
    }

    /// Keeps the end nearest to `at` from now on.
    fn move_to(&mut self, at: BoardTime) -> Result<(), Contradiction> {
        let middle = f64::midpoint(self.end_ns.0, self.end_ns.1);
        let cycles = ((nanos(at - self.origin) - middle) / self.length_ns()).round();
        if cycles > 0.0 {
            let (least, largest) = self.length_ns;
            self.end_ns = (self.end_ns.0 + cycles * least, self.end_ns.1 + cycles * largest);
            self.number += whole(cycles);
            self.anchor_cycles += cycles;
        }
        // Small numbers keep their nanoseconds.
        let shift = span(self.end_ns.0);
        let shift_ns = nanos(shift);
        self.origin = self.origin + shift;
        for bounds in [&mut self.end_ns, &mut self.anchor_ns] {
            *bounds = (bounds.0 - shift_ns, bounds.1 - shift_ns);
        }
        if self.end_ns.1 - self.end_ns.0 > LOST * self.length_ns() {
            return Err(Contradiction);
        }
        Ok(())
    }

    /// From the anchor to here are whole cycles: what that says of their length.
    fn narrowed(&mut self) -> Result<(), Contradiction> {
        if self.end_ns.0 > self.end_ns.1 {
            return Err(Contradiction);
        }
        let cycles = self.anchor_cycles;
        if cycles < 1.0 {
            return Ok(());
        }
        let seen = (
            (self.end_ns.0 - self.anchor_ns.1) / cycles,
            (self.end_ns.1 - self.anchor_ns.0) / cycles,
        );
        let both = (self.length_ns.0.max(seen.0), self.length_ns.1.min(seen.1));
        let is_sharp = seen.1 - seen.0 <= SHARP * self.length_ns();
        let is_old = cycles >= if is_sharp { ANCHOR_CYCLES } else { 8.0 * ANCHOR_CYCLES };
        // Where the two exclude each other the oscillator has drifted.
        let length = if is_old || both.0 > both.1 { seen } else { both };
        let middle = f64::midpoint(length.0, length.1);
        self.length_ns =
            (length.0.min(middle * (1.0 - DRIFT)), length.1.max(middle * (1.0 + DRIFT)));
        if is_old {
            self.anchor_ns = self.end_ns;
            self.anchor_cycles = 0.0;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans of a schedule are far below 2^53 ns")]
pub(super) const fn nanos(span: Nanos) -> f64 {
    span.0 as f64
}

#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
pub(super) fn span(ns: f64) -> Nanos {
    Nanos(ns.round() as i64)
}

/// A count that is whole already.
#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
pub(super) const fn whole(count: f64) -> i64 {
    count as i64
}
