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
//!
//! A sync that failed may leave a later page on the disk and not an earlier one: a
//! trial's mark without the end of the trial before it. That one is made again too.

use std::collections::{BTreeMap, BTreeSet};

use wattline_protocol::frame;
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

/// How far a run came, by its newest records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    trial: Option<Begun>,
    /// Newest attempt of each trial whose mark is among the records.
    attempts: BTreeMap<u32, u16>,
    /// Trials whose first mark is among them.
    firsts: BTreeSet<u32>,
    /// The trial whose mark is the newest.
    last_mark: Option<u32>,
    /// Trials whose end stands behind their newest mark.
    ended_trials: BTreeSet<u32>,
    has_window: bool,
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
    before: Before,
}

/// What stands before the mark of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// No mark or end of a trial is among the records.
    Unread,
    /// The trial of the newest mark, where there is one beside ends.
    Seen(Option<u32>),
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
    /// The history in frames, in the order of the log; those that do not decode say
    /// nothing.
    #[must_use]
    pub fn of_frames<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut history = Self::default();
        for bytes in frames {
            let decoded = frame::decode(bytes).ok();
            let record =
                decoded.and_then(|frame| Record::decode(frame.header.kind, frame.payload).ok());
            if let Some(record) = record {
                history.push(&record);
            }
        }
        history
    }

    /// True where records before these are needed, if the run has any: to see the first
    /// mark of the last trial, the last window, and whether the trial before that mark
    /// came to its end.
    #[must_use]
    pub fn reads_on(&self, plan: &Plan) -> bool {
        let Some(begun) = self.trial else { return true };
        let is_marked = self.firsts.contains(&begun.trial);
        let in_doubt = begun.before == Before::Unread && before_in(plan, begun.trial).is_some();
        !self.has_window || !is_marked || in_doubt
    }

    /// Takes one record; records come in the order of the log.
    pub fn push(&mut self, record: &Record) {
        match record {
            Record::TrialStart(start) => {
                let attempt = start.attempt;
                let before = match self.trial {
                    Some(_) => Before::Seen(self.last_mark),
                    None => Before::Unread,
                };
                self.attempts.insert(start.trial, attempt);
                if attempt == 0 {
                    self.firsts.insert(start.trial);
                }
                self.last_mark = Some(start.trial);
                self.ended_trials.remove(&start.trial);
                self.trial = Some(Begun { trial: start.trial, attempt, end: None, before });
            }
            Record::TrialEnd(end) => {
                let begun = self.trial.filter(|begun| begun.trial == end.trial);
                let (attempt, before) =
                    begun.map_or((0, Before::Unread), |begun| (begun.attempt, begun.before));
                let outcome = Some(end.outcome);
                self.trial = Some(Begun { trial: end.trial, attempt, end: outcome, before });
                self.ended_trials.insert(end.trial);
            }
            Record::WindowOpen(open) => {
                self.has_window = true;
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
        let Some(begun) = self.trial else {
            return StartPoint { window, ..StartPoint::default() };
        };
        let Begun { trial, attempt, end, .. } = begun;
        let place = plan.trials.iter().position(|planned| planned.trial == trial);
        // A mark of no trial of the plan: another plan's, which cannot be.
        let place = place.unwrap_or(plan.trials.len());
        let aborted = TrialOutcome::Failed(FailureCause::AgentEnded);
        let lost = self.lost_before(plan, &begun);
        if end.is_none() && !planted!("a broken trial is not said to be aborted") {
            let warm_up = WarmUp::default();
            let end = TrialEnd { trial, at: now, outcome: aborted, peak_memory_bytes: 0, warm_up };
            broken.push(end.into());
        }
        if let Some((before, made)) = lost {
            let attempt = made.saturating_add(1);
            if attempt < ATTEMPTS_MAX {
                return self.from(plan, before, attempt);
            }
            // What is recorded of the trial after it stays the newest.
            let trial = plan.trials.get(before).map_or(0, |planned| planned.trial);
            let (at, warm_up) = (now, WarmUp::default());
            let end = TrialEnd { trial, at, outcome: aborted, peak_memory_bytes: 0, warm_up };
            broken.insert(0, end.into());
        }
        let again = end.unwrap_or(aborted) == aborted && attempt.saturating_add(1) < ATTEMPTS_MAX;
        if again && !planted!("a broken trial is not made again") {
            self.from(plan, place, attempt + 1)
        } else {
            let next = place.saturating_add(1 + usize::from(planted!("a trial is left out")));
            self.from(plan, next, self.next_attempt(plan, next))
        }
    }

    fn from(&self, plan: &Plan, trial: usize, attempt: u16) -> StartPoint {
        let following = self.next_attempt(plan, trial.saturating_add(1));
        StartPoint { trial, attempt, following, window: self.next_window }
    }

    /// The attempt that comes next at a place of the plan: no mark is made twice.
    fn next_attempt(&self, plan: &Plan, place: usize) -> u16 {
        let made = plan.trials.get(place).and_then(|planned| self.attempts.get(&planned.trial));
        made.map_or(0, |attempt| attempt.saturating_add(1))
    }

    /// The place of the trial before the last mark and how often it was tried, where
    /// its end is missing: it was lost, for a mark is made only behind the end before it.
    fn lost_before(&self, plan: &Plan, begun: &Begun) -> Option<(usize, u16)> {
        let (place, trial) = before_in(plan, begun.trial)?;
        let Before::Seen(mark) = begun.before else { return None };
        // What stands before another attempt is no trial that came before it.
        let follows = begun.attempt == 0 || mark == Some(trial);
        let made = self.attempts.get(&trial).copied().unwrap_or(0);
        (follows && !self.ended_trials.contains(&trial)).then_some((place, made))
    }
}

/// Place and number of the trial before this one in the plan; `None` for the first.
fn before_in(plan: &Plan, trial: u32) -> Option<(usize, u32)> {
    let place = plan.trials.iter().position(|planned| planned.trial == trial)?;
    let before = place.checked_sub(1)?;
    Some((before, plan.trials.get(before)?.trial))
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
        StartPoint { trial, attempt, window, following: 0 }
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
    fn a_trial_whose_end_was_lost_before_the_next_ones_mark_is_made_again() {
        let measured = |trial| end(trial, TrialOutcome::Measured);
        let lost = [start(0, 0), measured(0), start(1, 0), open(3), close(3), start(2, 0)];
        let first = resumed(&lost);
        // The trial behind it has had its first attempt.
        let back = |attempt| StartPoint { following: 1, ..point(1, attempt, 4) };
        assert_eq!(first.from, back(1));
        assert_eq!(first.broken, [end(2, ABORTED)]);
        // Cut again before the new attempt's mark is durable: the same.
        let again = [&lost[..], &[end(2, ABORTED)]].concat();
        assert_eq!(resumed(&again).from, back(1));
        // Cut in the new attempt, and behind it.
        let anew = [&again[..], &[start(1, 1)]].concat();
        assert_eq!(resumed(&anew).from, back(2));
        let made = [&anew[..], &[measured(1)]].concat();
        assert_eq!(resumed(&made).from, point(2, 1, 4));
        let next = [&made[..], &[start(2, 1)]].concat();
        assert_eq!(resumed(&next).from, point(2, 2, 4));
        // The same loss once more.
        let once_more = [&anew[..], &[start(2, 1)]].concat();
        let back_again = StartPoint { attempt: 2, following: 2, ..back(1) };
        assert_eq!(resumed(&once_more).from, back_again);
        // The first mark of an attempt rotted: nothing says that the end before it did.
        let rotten = [start(1, 0), measured(1), end(2, ABORTED), start(2, 1)];
        assert_eq!(resumed(&rotten).from, point(2, 2, 0));
        // Broken every time: given up.
        let broken = [start(1, ATTEMPTS_MAX - 1), open(3), start(2, 0)];
        let given_up = resumed(&broken);
        assert_eq!(given_up.from, point(2, 1, 4));
        assert!(given_up.broken.starts_with(&[end(1, ABORTED)]), "{:?}", given_up.broken);
    }

    #[test]
    fn older_records_are_read_until_the_trial_before_is_seen() {
        let of = |records: &[Record]| {
            let mut history = History::default();
            records.iter().for_each(|record| history.push(record));
            history
        };
        let plan = plan();
        let newest = [start(2, 0), open(4)];
        assert!(of(&[]).reads_on(&plan) && of(&newest).reads_on(&plan));
        // Where there are no older ones, nothing says that an end was lost.
        assert_eq!(of(&newest).resume(&plan, NOW).from, point(2, 1, 5));
        let seen = [&[end(1, TrialOutcome::Measured)], &newest[..]].concat();
        assert!(!of(&seen).reads_on(&plan));
        assert!(!of(&[start(0, 0), open(0)]).reads_on(&plan), "none comes before the first");
        let attempts = [start(2, 0), open(0), end(2, ABORTED), start(2, 1)];
        assert!(of(&attempts[1..]).reads_on(&plan), "its first mark is not there");
        assert!(!of(&attempts).reads_on(&plan));
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
    }
}
