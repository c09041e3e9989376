//! When the board's own state is read for a trial: before, within and after.
//!
//! Owns the times of the readings. What is read is the board's
//! ([`crate::board::conditions`]), what it means the host's. Within a window it is
//! read at both ends and every [`EVERY`] between: some dozens of small files, a
//! millisecond of one core, and never a chip's bus.

use wattline_protocol::record::{BoardConditions, Moment, Record, WindowKind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::board::conditions::Conditions;

/// Time between two readings within a window: seldom enough to cost less than a
/// thousandth of the load, often enough that a window of 10 s has six.
pub const EVERY: Nanos = Nanos::from_secs(2);

/// The readings of one run.
#[derive(Debug, Default)]
pub struct Witness {
    conditions: Conditions,
    /// The trial whose window is open, and when it is read next.
    open: Option<(u32, BoardTime)>,
}

impl Witness {
    /// Reads where `conditions` were found.
    #[must_use]
    pub const fn of(conditions: Conditions) -> Self {
        Self { conditions, open: None }
    }

    /// When [`Self::due`] has something to read; `None` outside windows.
    #[must_use]
    pub fn next(&self) -> Option<BoardTime> {
        self.open.map(|(_, next)| next)
    }

    /// What is read because `record` was recorded.
    pub fn after(&mut self, record: &Record, now: BoardTime) -> Option<BoardConditions> {
        match record {
            Record::TrialStart(start) => Some(self.read(start.trial, Moment::Before, now)),
            Record::WindowOpen(open) => self.opened(open.kind, now),
            Record::WindowClose(_) => {
                let (trial, _) = self.open.take()?;
                // The runner works until it is told to end: this is still the load.
                Some(self.read(trial, Moment::During, now))
            }
            Record::WindowAbandon(_) => {
                self.open = None;
                None
            }
            Record::TrialEnd(end) => Some(self.read(end.trial, Moment::After, now)),
            _ => None,
        }
    }

    /// The reading that is due within an open window.
    pub fn due(&mut self, now: BoardTime) -> Option<BoardConditions> {
        let (trial, next) = self.open?;
        if now < next {
            return None;
        }
        self.open = Some((trial, now + EVERY));
        Some(self.read(trial, Moment::During, now))
    }

    fn opened(&mut self, kind: WindowKind, now: BoardTime) -> Option<BoardConditions> {
        let WindowKind::Trial(trial) = kind else { return None };
        self.open = Some((trial, now + EVERY));
        Some(self.read(trial, Moment::During, now))
    }

    fn read(&self, trial: u32, moment: Moment, now: BoardTime) -> BoardConditions {
        self.conditions.read(now, trial, moment)
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{
        BaselinePlace, TrialEnd, TrialOutcome, TrialStart, WarmUp, WindowClose, WindowOpen,
    };

    use super::*;

    fn moment(read: Option<BoardConditions>) -> Option<(u32, Moment)> {
        read.map(|read| (read.trial, read.moment))
    }

    #[test]
    fn a_trial_is_read_before_within_and_after_and_an_idle_window_is_not() {
        let mut witness = Witness::default();
        let at = |s: i64| BoardTime(0) + Nanos::from_secs(s);
        let open = |kind| Record::from(WindowOpen { window: 1, kind, t0: at(1) });
        let idle = open(WindowKind::Idle(BaselinePlace::Before));
        assert_eq!((moment(witness.after(&idle, at(0))), witness.next()), (None, None));
        let start = TrialStart { trial: 4, attempt: 0, at: at(0) }.into();
        assert_eq!(moment(witness.after(&start, at(0))), Some((4, Moment::Before)));
        let opened = witness.after(&open(WindowKind::Trial(4)), at(1));
        assert_eq!(moment(opened), Some((4, Moment::During)));
        assert_eq!(witness.next(), Some(at(3)));
        assert_eq!(moment(witness.due(at(2))), None);
        assert_eq!(moment(witness.due(at(9))), Some((4, Moment::During)));
        // A reading that came late is not made up for.
        assert_eq!(witness.next(), Some(at(11)));
        let close = WindowClose {
            window: 1,
            kind: WindowKind::Trial(4),
            t0: at(1),
            t1: at(10),
            inferences: 1,
            images: 1,
            truth: Vec::new(),
        };
        assert_eq!(moment(witness.after(&close.into(), at(10))), Some((4, Moment::During)));
        assert_eq!(witness.next(), None);
        let end = TrialEnd {
            trial: 4,
            at: at(11),
            outcome: TrialOutcome::Measured,
            peak_memory_bytes: 0,
            warm_up: WarmUp::default(),
        };
        assert_eq!(moment(witness.after(&end.into(), at(11))), Some((4, Moment::After)));
    }
}
