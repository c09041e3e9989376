//! Where a run that was cut goes on: from its own records to a start point.
//!
//! Pure. Owns the reading of a run's newest records and what is recorded
//! about the trial that was broken. Neither finds the records (the spool
//! does) nor judges whether the board can still serve the plan (preflight).
//!
//! Trials follow the plan's order and each has a durable mark before it
//! starts, so the newest records tell all: those from the last mark and the
//! last window's opening on. A trial counts as made once its end is recorded;
//! any other is made again, and the host takes a trial's last window.

use wattline_protocol::planted;
use wattline_protocol::record::{
    FailureCause, Notice, NoticeKind, Plan, Record, TrialEnd, TrialOutcome, WarmUp, WindowAbandon,
    kind,
};
use wattline_protocol::units::BoardTime;

use super::state::StartPoint;

/// A trial that the agent's end broke this often is failed for good: it may be
/// what ends the agent, by drawing more current than the supply gives.
pub const ATTEMPTS_MAX: u16 = 3;

/// Kinds that [`History::push`] reads.
pub const KINDS: [u8; 7] = [
    kind::TRIAL_START,
    kind::TRIAL_END,
    kind::WINDOW_OPEN,
    kind::WINDOW_CLOSE,
    kind::WINDOW_ABANDON,
    kind::NOTICE,
    kind::RUN_END,
];

/// Kinds of which the newest must be among the records of a [`History`],
/// unless the run has none.
pub const NEEDED: [u8; 2] = [kind::TRIAL_START, kind::WINDOW_OPEN];

/// How far a run came, by its newest records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    trial: Option<Begun>,
    next_window: u32,
    open_window: Option<u32>,
    stopping: bool,
    ended: bool,
}

/// The last trial that was marked as about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    trial: u32,
    attempt: u16,
    end: Option<TrialOutcome>,
}

/// How a run goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumption {
    /// Where in the plan.
    pub from: StartPoint,
    /// What is recorded about what was broken, before anything else.
    pub broken: Vec<Record>,
    /// Whether it measures on.
    pub next: Next,
}

/// What becomes of a run that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It measures on.
    GoOn,
    /// Somebody had asked it to end: it ends.
    Stop,
    /// It had ended.
    Ended,
}

impl History {
    /// Takes one record; records come in the order of the log.
    pub fn push(&mut self, record: &Record) {
        match record {
            Record::TrialStart(start) => {
                let attempt = start.attempt;
                self.trial = Some(Begun { trial: start.trial, attempt, end: None });
            }
            Record::TrialEnd(end) => {
                let attempt = self.trial.filter(|begun| begun.trial == end.trial);
                let attempt = attempt.map_or(0, |begun| begun.attempt);
                self.trial = Some(Begun { trial: end.trial, attempt, end: Some(end.outcome) });
            }
            Record::WindowOpen(open) => {
                let next = open.window.saturating_add(1);
                let next =
                    next - u32::from(planted!("the number of a broken window is given again"));
                self.next_window = self.next_window.max(next);
                self.open_window = Some(open.window);
            }
            Record::WindowClose(close) => {
                self.next_window = self.next_window.max(close.window.saturating_add(1));
                self.open_window = None;
            }
            Record::WindowAbandon(_) => self.open_window = None,
            Record::Notice(Notice {
                what: NoticeKind::StopRequested | NoticeKind::NoRoom(_),
                ..
            }) => self.stopping = true,
            Record::RunEnd(_) => self.ended = true,
            _ => {}
        }
    }

    /// How the run goes on over `plan`; what is recorded about the break is
    /// stamped `now`.
    #[must_use]
    pub fn resume(&self, plan: &Plan, now: BoardTime) -> Resumption {
        let mut broken = Vec::new();
        if let Some(window) = self.open_window {
            broken.push(WindowAbandon { window, cause: FailureCause::AgentEnded }.into());
        }
        let next = match (self.ended, self.stopping) {
            (true, _) => Next::Ended,
            (false, true) => Next::Stop,
            (false, false) => Next::GoOn,
        };
        let from = self.point(plan, now, &mut broken);
        Resumption { from, broken, next }
    }

    fn point(&self, plan: &Plan, now: BoardTime, broken: &mut Vec<Record>) -> StartPoint {
        let window = self.next_window;
        let Some(Begun { trial, attempt, end }) = self.trial else {
            return StartPoint { trial: 0, attempt: 0, window };
        };
        let place = plan.trials.iter().position(|planned| planned.trial == trial);
        // A mark of no trial of the plan: another plan's, which cannot be.
        let place = place.unwrap_or(plan.trials.len());
        let aborted = TrialOutcome::Failed(FailureCause::AgentEnded);
        if end.is_none() && !planted!("a broken trial is not said to be aborted") {
            let warm_up = WarmUp::default();
            let end = TrialEnd { trial, at: now, outcome: aborted, peak_memory_bytes: 0, warm_up };
            broken.push(end.into());
        }
        let again = end.unwrap_or(aborted) == aborted && attempt.saturating_add(1) < ATTEMPTS_MAX;
        if again && !planted!("a broken trial is not made again") {
            StartPoint { trial: place, attempt: attempt + 1, window }
        } else {
            let next = place.saturating_add(1 + usize::from(planted!("a trial is left out")));
            StartPoint { trial: next, attempt: 0, window }
        }
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::campaign_spec::Precision;
    use wattline_protocol::record::{
        Cell, RunEnd, RunOutcome, Trial, TrialStart, WindowClose, WindowKind, WindowOpen,
    };

    use super::*;

    const NOW: BoardTime = BoardTime(9);

    fn plan() -> Plan {
        let cell = Cell {
            cell: 0,
            network: "enet".into(),
            batch: 1,
            precision: Precision::F32,
            device: "cpu".into(),
            size: 64,
            threads: 1,
            cores: String::new(),
            weights: "hashed:1".into(),
        };
        let trials = (0..4).map(|trial| Trial { trial, cell: 0, repeat: 0 }).collect();
        Plan { cells: vec![cell], trials }
    }

    fn start(trial: u32, attempt: u16) -> Record {
        TrialStart { trial, attempt, at: NOW }.into()
    }

    fn end(trial: u32, outcome: TrialOutcome) -> Record {
        let warm_up = WarmUp::default();
        TrialEnd { trial, at: NOW, outcome, peak_memory_bytes: 0, warm_up }.into()
    }

    fn open(window: u32) -> Record {
        WindowOpen { window, kind: WindowKind::Trial(0), t0: NOW }.into()
    }

    fn close(window: u32) -> Record {
        let kind = WindowKind::Trial(0);
        let truth = Vec::new();
        WindowClose { window, kind, t0: NOW, t1: NOW, inferences: 1, images: 1, truth }.into()
    }

    fn resumed(records: &[Record]) -> Resumption {
        let mut history = History::default();
        for record in records {
            history.push(record);
        }
        history.resume(&plan(), NOW)
    }

    fn point(trial: usize, attempt: u16, window: u32) -> StartPoint {
        StartPoint { trial, attempt, window }
    }

    const ABORTED: TrialOutcome = TrialOutcome::Failed(FailureCause::AgentEnded);

    #[test]
    fn a_run_that_made_nothing_begins_at_the_beginning() {
        let resumed = resumed(&[]);
        assert_eq!((resumed.from, resumed.next), (StartPoint::default(), Next::GoOn));
        assert_eq!(resumed.broken, []);
    }

    #[test]
    fn a_broken_trial_is_aborted_and_made_again_with_a_new_window() {
        let resumed = resumed(&[open(0), close(0), start(0, 0), open(1)]);
        assert_eq!(resumed.from, point(0, 1, 2));
        let window = WindowAbandon { window: 1, cause: FailureCause::AgentEnded };
        assert_eq!(resumed.broken, [window.into(), end(0, ABORTED)]);
    }

    #[test]
    fn between_two_trials_nothing_is_broken() {
        let resumed = resumed(&[start(1, 0), open(3), close(3), end(1, TrialOutcome::Measured)]);
        assert_eq!(resumed.from, point(2, 0, 4));
        assert_eq!(resumed.broken, []);
    }

    #[test]
    fn a_trial_whose_end_is_not_recorded_is_made_again_though_its_window_was_closed() {
        let resumed = resumed(&[start(1, 0), open(3), close(3)]);
        assert_eq!(resumed.from, point(1, 1, 4));
        assert_eq!(resumed.broken, [end(1, ABORTED)]);
    }

    #[test]
    fn an_abort_that_was_recorded_is_not_recorded_again() {
        let resumed = resumed(&[start(2, 0), open(5), end(2, ABORTED)]);
        assert_eq!(resumed.from, point(2, 1, 6));
        // The window of the attempt was left open by the first resumption's crash.
        assert_eq!(resumed.broken.len(), 1);
    }

    #[test]
    fn a_trial_that_breaks_every_time_is_failed_and_the_night_goes_on() {
        let resumed = resumed(&[open(7), start(2, ATTEMPTS_MAX - 1)]);
        assert_eq!(resumed.from, point(3, 0, 8));
        assert!(resumed.broken.contains(&end(2, ABORTED)));
    }

    #[test]
    fn a_run_that_was_being_stopped_stays_stopped() {
        let asked = Notice { at: NOW, what: NoticeKind::StopRequested };
        assert_eq!(resumed(&[start(0, 0), asked.into()]).next, Next::Stop);
    }

    #[test]
    fn a_run_that_ended_is_over() {
        let over = RunEnd { at: NOW, outcome: RunOutcome::Complete, streams: Vec::new() };
        assert_eq!(resumed(&[start(0, 0), over.into()]).next, Next::Ended);
    }

    #[test]
    fn every_kind_that_is_read_is_asked_for() {
        for record in [start(0, 0), end(0, ABORTED), open(0), close(0)] {
            assert!(KINDS.contains(&record.kind()));
        }
        assert!(NEEDED.iter().all(|kind| KINDS.contains(kind)));
    }
}
