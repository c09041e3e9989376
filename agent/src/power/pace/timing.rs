//! Lengths: of transactions, and where in them registers are latched.
//!
//! Owns what a driver and its bus promise of a transaction, and how long one
//! really takes: a kernel adds some tens of µs to each message's bits.

use crate::power::chip::CODES_MAX;

/// How much of the bus is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusShare {
    /// Nobody else is on the adapter.
    #[default]
    Whole,
    /// Others are bound on it: half the time at most.
    Half,
}

impl BusShare {
    /// Times the length of a transaction: least distance of two starts.
    pub(super) const fn stretch(self) -> f64 {
        match self {
            Self::Whole => 1.0,
            Self::Half => 2.0,
        }
    }
}

/// A transaction as its bits and the declared bus clock give it. Moments are
/// parts (0 to 1) of the transaction: what the kernel adds lies between the
/// messages, so that they move along.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransactionTiming {
    /// Length, in ns.
    pub length_ns: f64,
    /// When each column's register is latched.
    pub latches: [f64; CODES_MAX],
    /// When the flag is latched; the middle where it is not read.
    pub flag: f64,
    /// When the flag is cleared; the same as `flag` for most chips.
    pub clear: f64,
}

/// What a chip's driver and its bus give for the schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceTiming {
    /// Nominal cycle, in ns.
    pub cycle_ns: f64,
    /// Columns of a sweep: shunt and bus of each slot.
    pub columns: usize,
    /// After which part of the cycle each column's register is updated.
    pub updates: [f64; CODES_MAX],
    /// A sweep of the values alone.
    pub plain: TransactionTiming,
    /// A sweep that reads the flag as well.
    pub flagged: TransactionTiming,
    /// A read of the flag alone.
    pub poll: TransactionTiming,
    /// The read that clears the flag, where its own does not.
    pub clear: Option<TransactionTiming>,
    /// Whether the flag may be read.
    pub flag_is_ours: bool,
}

impl PaceTiming {
    /// How far a sweep of `length_ns` that reads the flag at the end of a cycle
    /// of `cycle_ns` keeps its registers from their updates, in ns.
    #[must_use]
    pub fn clearance(&self, length_ns: f64, cycle_ns: f64) -> f64 {
        let columns = self.updates.iter().zip(self.flagged.latches).take(self.columns);
        let distances = columns.map(|(update, latch)| {
            let since = (latch - self.flagged.flag) * length_ns - update * cycle_ns;
            let since = since.rem_euclid(cycle_ns);
            since.min(cycle_ns - since)
        });
        distances.fold(cycle_ns, f64::min)
    }

    /// Where in the cycle a sweep of the values alone, `length_ns` long, keeps
    /// its registers farthest from their updates: its start after the end of a
    /// cycle of `cycle_ns`, and that distance, in ns.
    #[must_use]
    pub fn clearest(&self, length_ns: f64, cycle_ns: f64) -> (f64, f64) {
        // Starts at which a register would be latched just when it is updated.
        let mut bad = [f64::INFINITY; CODES_MAX];
        let columns = self.columns.clamp(1, CODES_MAX);
        for (column, bad) in bad.iter_mut().enumerate().take(columns) {
            let start = self.updates[column] * cycle_ns - self.plain.latches[column] * length_ns;
            *bad = start.rem_euclid(cycle_ns);
        }
        bad.sort_by(f64::total_cmp);
        let around = bad[0] + cycle_ns;
        let mut widest = (0.0, 0.0);
        for (index, from) in bad.iter().enumerate().take(columns) {
            let to = if index + 1 < columns { bad[index + 1] } else { around };
            if to - from > widest.1 {
                widest = (*from, to - from);
            }
        }
        ((widest.0 + 0.5 * widest.1).rem_euclid(cycle_ns), 0.5 * widest.1)
    }
}

/// How long a kind of transaction takes when nothing comes in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Typical {
    nominal_ns: f64,
    measured_ns: Option<f64>,
}

/// What a measured length gives way, a transaction: so that a bus that has
/// become slower is believed after some hundred.
const GIVES_WAY: f64 = 0.002;

impl Typical {
    pub(super) const fn nominal(nominal_ns: f64) -> Self {
        Self { nominal_ns, measured_ns: None }
    }

    /// Takes in a length; returns what is typical.
    pub(super) fn taken(&mut self, length_ns: f64) -> f64 {
        let typical = match self.measured_ns {
            None => length_ns,
            Some(before) => length_ns.min(before * (1.0 + GIVES_WAY)),
        };
        self.measured_ns = Some(typical);
        typical
    }

    pub(super) const fn measured(&self) -> Option<f64> {
        self.measured_ns
    }

    pub(super) fn ns(&self) -> f64 {
        self.measured_ns.unwrap_or(self.nominal_ns)
    }
}
