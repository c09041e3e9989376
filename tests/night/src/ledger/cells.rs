//! Whether every cell of a campaign is accounted for.
//!
//! Owns the marks of trials and windows in the order in which a run recorded them,
//! over all of its epochs, and the rules that they keep: a trial that was broken is
//! said to be aborted before another begins, one that was measured is not made
//! again, none is left out, no number of a window is given twice, and a run that
//! is complete has an end for each trial of its plan, with its window. What a
//! power cut or damage took excuses no more than itself.

use wattline_agent::campaign::resume::ATTEMPTS_MAX;
use wattline_protocol::record::{
    FailureCause, Plan, Record, RunEnd, RunOutcome, TrialOutcome, TrialStart, WindowClose,
    WindowKind, kind,
};

use super::{Charge, Entry, Ledger, Number};

/// What a run recorded of its campaign.
#[derive(Debug, Default)]
pub(super) struct Cells {
    plan: Option<Plan>,
    marks: Vec<(Number, Record)>,
}

impl Entry {
    /// The disk has it for good.
    pub(super) fn stays(&self) -> bool {
        self.promised && !self.damaged && !self.dropped
    }
}

impl Ledger {
    /// The run recorded this, under this number.
    pub(super) fn marked(&mut self, run: usize, number: Number, record: Record) {
        let wrong = match &record {
            Record::TrialStart(start) => self.begins(run, start),
            Record::WindowOpen(open) => self.opens(run, open.window),
            Record::Plan(plan) => {
                self.cells.entry(run).or_default().plan.get_or_insert_with(|| plan.clone());
                return;
            }
            Record::TrialEnd(_) | Record::WindowClose(_) | Record::RunEnd(_) => None,
            _ => return,
        };
        if let Some(wrong) = wrong {
            self.accuse(Charge::Lost, format!("run {run}, {number:?}: {wrong}"));
        }
        self.cells.entry(run).or_default().marks.push((number, record));
    }

    fn opens(&self, run: usize, window: u32) -> Option<String> {
        let marks = &self.cells.get(&run)?.marks;
        let twice = marks.iter().any(|(number, mark)| {
            let same = matches!(mark, Record::WindowOpen(open) if open.window == window);
            same && self.entries.get(number).is_some_and(Entry::stays)
        });
        twice.then(|| format!("the number of window {window} is given twice"))
    }

    /// What is wrong with a trial that begins now.
    fn begins(&self, run: usize, start: &TrialStart) -> Option<String> {
        let TrialStart { trial, attempt, .. } = *start;
        if self.removed.contains(&run) && !self.end_hurt.contains(&run) {
            return Some(format!("trial {trial} begins in a run that was removed"));
        }
        let Cells { plan, marks } = self.cells.get(&run)?;
        let stays = |number: &Number| self.entries.get(number).is_some_and(Entry::stays);
        let mut under_way = None;
        for (number, mark) in marks {
            match mark {
                Record::TrialStart(begun) if stays(number) => {
                    if begun.trial == trial && begun.attempt >= attempt {
                        return Some(format!("attempt {attempt} at trial {trial} begins twice"));
                    }
                    under_way = Some(begun.trial);
                }
                Record::TrialEnd(end) => {
                    let measured = end.outcome == TrialOutcome::Measured;
                    if end.trial == trial && measured && stays(number) {
                        return Some(format!("trial {trial} was measured, and begins again"));
                    }
                    under_way = under_way.filter(|under_way| *under_way != end.trial);
                }
                Record::RunEnd(_) if stays(number) => {
                    return Some(format!("trial {trial} begins behind the end of the run"));
                }
                _ => {}
            }
        }
        if let Some(broken) = under_way {
            return Some(format!("trial {broken} was broken, and nothing says so"));
        }
        let ended = |of: u32| {
            marks.iter().any(|(_, mark)| matches!(mark, Record::TrialEnd(end) if end.trial == of))
        };
        let before = plan.as_ref()?.trials.iter().take_while(|planned| planned.trial != trial);
        let left_out = before.map(|planned| planned.trial).find(|before| !ended(*before));
        match left_out {
            Some(left_out) => Some(format!("trial {left_out} is left out")),
            None if attempt >= ATTEMPTS_MAX => Some(format!("attempt {attempt} at trial {trial}")),
            None => None,
        }
    }

    /// A whole recording of the run, by its records: every trial of the plan has an
    /// end, or the run does not claim to be complete.
    pub(super) fn accounted(&mut self, place: &str, run: usize, held: &[(Number, Record)]) {
        let Some(Cells { plan: Some(plan), marks }) = self.cells.get(&run) else { return };
        let end = held.iter().find_map(|(number, record)| match record {
            Record::RunEnd(end) => Some((*number, end.clone())),
            _ => None,
        });
        let Some((at, RunEnd { outcome: RunOutcome::Complete, .. })) = end else { return };
        let before = |number: &Number| number.0 <= at.0;
        // What damage took of a trial is stated as a gap, and no more is asked.
        let hurt = |of: &dyn Fn(&Record) -> bool| {
            let is_hurt = |entry: &Entry| entry.damaged || entry.dropped;
            marks
                .iter()
                .any(|(number, mark)| of(mark) && self.entries.get(number).is_some_and(is_hurt))
        };
        // What the finding is about: the marks of a trial, as the ledger has them.
        let marks_of = |trial: u32| {
            let of_trial = marks.iter().filter(move |(_, mark)| match mark {
                Record::TrialStart(start) => start.trial == trial,
                Record::TrialEnd(end) => end.trial == trial,
                _ => false,
            });
            let told = of_trial.map(|(number, _)| (*number, self.entries.get(number)));
            format!("{:?}", told.collect::<Vec<_>>())
        };
        let mut wrong = Vec::new();
        for planned in &plan.trials {
            let trial = planned.trial;
            let ends = |mark: &Record| matches!(mark, Record::TrialEnd(end) if end.trial == trial);
            let closes = |mark: &Record| {
                let of = WindowKind::Trial(trial);
                matches!(mark, Record::WindowClose(WindowClose { kind, .. }) if *kind == of)
            };
            let of_host = || held.iter().filter(|(number, _)| before(number));
            let last = of_host().rev().find(|(_, mark)| ends(mark));
            match last {
                None if !hurt(&ends) => {
                    let marks = marks_of(trial);
                    wrong.push(format!("{place}: complete without trial {trial}: {marks}"));
                }
                Some((number, Record::TrialEnd(end))) if end.outcome == TrialOutcome::Measured => {
                    let closed = of_host().any(|(_, mark)| closes(mark));
                    let at_risk = self.entries.get(number).is_some_and(|entry| entry.at_risk);
                    if !closed && !at_risk && !hurt(&closes) {
                        wrong.push(format!("{place}: trial {trial} was measured in no window"));
                    }
                }
                Some((_, Record::TrialEnd(end)))
                    if end.outcome == TrialOutcome::Failed(FailureCause::AgentEnded) =>
                {
                    let tried = |mark: &&(Number, Record)| matches!(&mark.1, Record::TrialStart(start) if start.trial == trial);
                    let tries = of_host().filter(tried).count();
                    let starts = |mark: &Record| matches!(mark, Record::TrialStart(_));
                    if tries < usize::from(ATTEMPTS_MAX) && !hurt(&starts) && !hurt(&ends) {
                        let marks = marks_of(trial);
                        wrong.push(format!("{place}: trial {trial} not repeated: {marks}"));
                    }
                }
                _ => {}
            }
        }
        for text in wrong {
            self.accuse(Charge::Lost, text);
        }
    }
}

/// Kinds that tell what became of a campaign.
pub(super) const KINDS: [u8; 4] =
    [kind::TRIAL_START, kind::TRIAL_END, kind::WINDOW_CLOSE, kind::RUN_END];
