//! Runs that the agent's last end cut off: the newest goes on, others are closed.
//!
//! Owns the way from what the spool recovered to a run at work. What was made
//! and what was broken is decided in [`crate::campaign::resume`]; whether the
//! board can still serve the plan, in [`super::preflight`].

use tokio::sync::mpsc;
use tracing::{error, info, warn};
use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::command::Refusal;
use wattline_protocol::frame;
use wattline_protocol::record::{
    Notice, NoticeKind, Plan, Record, RunId, RunOutcome, RunSettings, kind,
};

use super::hub::{Begin, Hub};
use super::request::Request;
use super::{cut, preflight};
use crate::campaign::marked::Marked;
use crate::campaign::resume::{History, KINDS, Next, Resumption};
use crate::clock::{Clock, SystemClock};
use crate::recorder::outlet::Outlet;
use crate::recorder::{Recorder, RecorderStart};
use crate::sampling::Sampling;
use crate::spool::{Item, RecoveredRun, SpoolError, SpooledFrame};

/// Items of a log within which its opening lies: board, rails, settings of a
/// dozen chips, notices, and the first seconds of samples.
const OPENING_ITEMS_MAX: usize = 4_096;

impl Hub {
    /// Takes up every run without an end. There is one at most whose campaign
    /// was at work; any other was cut while it was being closed.
    pub(super) fn take_up_cut_runs(&mut self, requests: &mpsc::Sender<Request>) {
        let Some(epoch) = self.epoch else { return };
        let mut cut: Vec<RecoveredRun> =
            self.spool.recovered().iter().filter(|run| !run.ended).cloned().collect();
        cut.sort_by_key(RecoveredRun::last_epoch);
        let newest = cut.pop();
        for older in cut {
            self.close(&older, epoch, Vec::new(), RunOutcome::Failed);
        }
        if let Some(run) = newest {
            self.take_up(&run, epoch, requests);
        }
    }

    fn take_up(&mut self, cut: &RecoveredRun, epoch: u32, requests: &mpsc::Sender<Request>) {
        let Some((campaign, plan)) = asked(cut) else {
            warn!(run = %cut.run, "The plan of a run that was cut is lost.");
            return self.close(cut, epoch, Vec::new(), RunOutcome::Failed);
        };
        let history = match self.history(cut, &plan) {
            Ok(history) => history,
            Err(error) => {
                // Without its history a run would measure anew what a host holds.
                error!(%error, run = %cut.run, "A run that was cut waits for the next start.");
                return;
            }
        };
        let Resumption { from, mut broken, next } = history.resume(&plan, SystemClock.now());
        match next {
            Next::GoOn => {}
            Next::Stop => return self.close(cut, epoch, broken, RunOutcome::Stopped),
            Next::Ended => return,
        }
        let settings = self.settings_of(&cut.run);
        let (sampling, trigger) = match self.again(&campaign, &plan, settings) {
            Ok(served) => served,
            Err(why) => {
                warn!(run = %cut.run, ?why, "A run that was cut cannot go on.");
                let what = NoticeKind::NotResumed { why };
                broken.push(Notice { at: SystemClock.now(), what }.into());
                return self.close(cut, epoch, broken, RunOutcome::Failed);
            }
        };
        let log = match self.spool.resume_run(&cut.run) {
            Ok(log) => log,
            Err(error) => {
                error!(%error, run = %cut.run, "The log of a run that was cut cannot be written.");
                return;
            }
        };
        let mut opening = first_records(cut, epoch);
        opening.extend(self.opening(&cut.run, false, &campaign, &plan, &sampling));
        opening.push(settings.into());
        opening.extend(broken);
        let run = cut.run.clone();
        let begin = Begin { run, campaign, plan, from, epoch, sampling, trigger, log, opening };
        // What is not durable waits in memory: a run that was promised is not given up.
        let (current, _) = self.begin(begin, requests);
        self.current = Some(current);
    }

    /// How the run's clocks are to be, from the records that it opened with; as
    /// the board has them where it opened without.
    fn settings_of(&self, run: &RunId) -> RunSettings {
        let Ok(reader) = self.spool.reader(run) else { return RunSettings::default() };
        let mut cursor = reader.cursor(&[]);
        for _ in 0..OPENING_ITEMS_MAX {
            let Ok(Some(item)) = cursor.next_item() else { break };
            let Item::Frame(frame) = item else { continue };
            let Ok(frame) = frame::decode(&frame.bytes) else { continue };
            match Record::decode(frame.header.kind, frame.payload) {
                Ok(Record::RunSettings(settings)) => return settings,
                Ok(Record::TrialStart(_)) => break,
                Ok(_) | Err(_) => {}
            }
        }
        RunSettings::default()
    }

    fn history(&self, cut: &RecoveredRun, plan: &Plan) -> Result<History, SpoolError> {
        let of = |frames: &[SpooledFrame]| {
            History::of_frames(frames.iter().map(|frame| &frame.bytes[..]))
        };
        let newest = self.spool.newest(&cut.run, &KINDS, |frames| !of(frames).reads_on(plan))?;
        Ok(of(&newest))
    }

    /// Sees that the board still serves the plan that was recorded, and samples.
    fn again(
        &self,
        campaign: &CampaignSpec,
        plan: &Plan,
        settings: RunSettings,
    ) -> Result<(Sampling, Marked), Refusal> {
        let now = preflight::plan(campaign, self.board.cores, &self.programs)?;
        // Graph files are named with their digest: another one is another network.
        if now != *plan {
            return Err(Refusal::BadCampaign);
        }
        let trigger = self.marked()?;
        Ok((self.sample(settings)?, trigger))
    }

    /// Writes the end of a run that does not go on.
    fn close(&mut self, cut: &RecoveredRun, epoch: u32, more: Vec<Record>, outcome: RunOutcome) {
        let log = match self.spool.resume_run(&cut.run) {
            Ok(log) => log,
            Err(error) => {
                error!(%error, run = %cut.run, "A run that was cut cannot be closed.");
                return;
            }
        };
        let tee = self.tee.as_ref().and_then(|tee| tee.try_clone().ok());
        let (outlet, _listening, _writer) = Outlet::start(log, tee);
        let mut first = first_records(cut, epoch);
        first.extend(more);
        let run_ordinal = self.next_ordinal();
        let start = RecorderStart { epoch, run_ordinal, lanes: Vec::new(), outlet, first };
        let (recorder, thread) = Recorder::start(start);
        recorder.finish(outcome, Vec::new());
        let _ = thread.join();
        info!(run = %cut.run, ?outcome, "A run that was cut off by the agent's end is closed.");
    }
}

fn first_records(cut: &RecoveredRun, epoch: u32) -> Vec<Record> {
    cut::epoch_ends(cut, epoch).into_iter().map(Record::from).collect()
}

/// Campaign and plan as the run's first records have them.
fn asked(cut: &RecoveredRun) -> Option<(CampaignSpec, Plan)> {
    let start = Record::decode(kind::RUN_START, cut.first_start.as_deref()?).ok()?;
    let plan = Record::decode(kind::PLAN, cut.first_plan.as_deref()?).ok()?;
    match (start, plan) {
        (Record::RunStart(start), Record::Plan(plan)) => Some((start.campaign, plan)),
        _ => None,
    }
}
