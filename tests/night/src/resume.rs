//! What a start of the agent makes of the runs that its last end cut off.
//!
//! Owns the order of the hub's steps (`agent/src/server/resume.rs`): the newest
//! cut run goes on where the shipping [`History`] says, any other is closed, and
//! so is one that the board can serve no longer. Judges nothing.

use wattline_agent::campaign::resume::{History, KINDS, Next, Resumption};
use wattline_agent::campaign::state::Campaign;
use wattline_agent::recorder::writer::Writer;
use wattline_agent::server::cut;
use wattline_agent::spool::{RecoveredRun, SpoolError, SpooledFrame};
use wattline_protocol::command::Refusal;
use wattline_protocol::record::{Notice, NoticeKind, Plan, Record, RunOutcome, kind};
use wattline_protocol::units::BoardTime;

use crate::board::{Agent, Board, number_of, run_start};
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::recording::Recording;
use crate::trace;

/// The board serves the plan of a cut run no longer, in a thousand times: its
/// rails or its cores are others.
const REFUSED: u64 = 60;

impl Board {
    /// Takes up every run without an end.
    pub(crate) fn take_up_cut_runs(
        &self,
        agent: &mut Agent,
        t: u64,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) {
        let mut cut: Vec<RecoveredRun> =
            agent.spool.recovered().iter().filter(|run| !run.ended).cloned().collect();
        cut.sort_by_key(RecoveredRun::last_epoch);
        let newest = cut.pop();
        for older in cut {
            self.close(agent, &older, Vec::new(), RunOutcome::Failed, t, ledger);
        }
        if let Some(run) = newest {
            self.take_up(agent, &run, t, dice, ledger);
        }
    }

    fn take_up(
        &self,
        agent: &mut Agent,
        cut: &RecoveredRun,
        t: u64,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) {
        let (now, snapshot) = (self.now(t), self.snapshot(t));
        let Some(run) = number_of(&cut.run) else { return };
        let Some(plan) = plan_of(cut) else {
            return self.close(agent, cut, Vec::new(), RunOutcome::Failed, t, ledger);
        };
        let history = match history(agent, cut, &plan) {
            Ok(history) => history,
            Err(error) => return trace!("run {run} waits for the next start: {error}"),
        };
        let Resumption { from, mut broken, next } = history.resume(&plan, now);
        trace!("run {run} was cut: {from:?}, {next:?}");
        match next {
            Next::GoOn => {}
            Next::Stop => return self.close(agent, cut, broken, RunOutcome::Stopped, t, ledger),
            Next::Ended => return,
        }
        if dice.chance(REFUSED) {
            let what = NoticeKind::NotResumed { why: Refusal::BadCampaign };
            broken.push(Notice { at: now, what }.into());
            return self.close(agent, cut, broken, RunOutcome::Failed, t, ledger);
        }
        let (lanes, rings) = self.chips();
        let (campaign, effects) = Campaign::begin(plan.clone(), crate::method(), from, now);
        let Some(mut recording) = open(agent, cut, (lanes, rings, Some(campaign)), now, ledger)
        else {
            return;
        };
        recording.record(&run_start(), ledger);
        recording.record(&plan.into(), ledger);
        for record in broken {
            recording.record(&record, ledger);
        }
        recording.settle(now, ledger);
        recording.perform(effects, snapshot, dice, ledger);
        agent.current = Some(recording);
    }

    /// Writes the end of a run that does not go on.
    fn close(
        &self,
        agent: &mut Agent,
        cut: &RecoveredRun,
        more: Vec<Record>,
        outcome: RunOutcome,
        t: u64,
        ledger: &mut Ledger,
    ) {
        let parts = (Vec::new(), Vec::new(), None);
        let Some(mut recording) = open(agent, cut, parts, self.now(t), ledger) else { return };
        for record in more {
            recording.record(&record, ledger);
        }
        recording.finish(outcome, self.snapshot(t), ledger);
    }
}

type Parts =
    (Vec<wattline_agent::recorder::LaneInput>, Vec<crate::recording::Ring>, Option<Campaign>);

/// The recording of a cut run in this epoch, with its first records.
fn open(
    agent: &mut Agent,
    cut: &RecoveredRun,
    (lanes, rings, campaign): Parts,
    now: BoardTime,
    ledger: &mut Ledger,
) -> Option<Recording> {
    let (run, epoch) = (number_of(&cut.run)?, agent.epoch?);
    let log = match agent.spool.resume_run(&cut.run) {
        Ok(log) => log,
        Err(error) => {
            trace!("the log of run {run} cannot be written: {error}");
            return None;
        }
    };
    let (name, streams) = ((run, cut.run.clone()), (epoch, agent.ordinal));
    let writer = Writer::new(log, now);
    let mut recording = Recording::new(name, streams, lanes, writer, rings, campaign, now);
    agent.ordinal += 1;
    for end in cut::epoch_ends(cut, epoch) {
        recording.record(&end.into(), ledger);
    }
    Some(recording)
}

fn history(agent: &Agent, cut: &RecoveredRun, plan: &Plan) -> Result<History, SpoolError> {
    let of =
        |frames: &[SpooledFrame]| History::of_frames(frames.iter().map(|frame| &frame.bytes[..]));
    let newest = agent.spool.newest(&cut.run, &KINDS, |frames| !of(frames).reads_on(plan))?;
    Ok(of(&newest))
}

/// The plan as the run's first records have it; none where one of them is lost.
fn plan_of(cut: &RecoveredRun) -> Option<Plan> {
    cut.first_start.as_ref()?;
    match Record::decode(kind::PLAN, cut.first_plan.as_deref()?) {
        Ok(Record::Plan(plan)) => Some(plan),
        Ok(_) | Err(_) => None,
    }
}
