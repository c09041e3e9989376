//! The hub: one task that owns what the agent is doing.
//!
//! Owns the spool, the power source, the run that goes on and the answers to
//! commands. Everything else asks it by message.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{info, warn};
use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::command::{
    BoardReply, Command, CurrentRun, GpuPresence, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal,
    Reply, Side, SpooledRun, StatusReply,
};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::record::{
    AgentBuild, BoardDescription, ChipDescription, Notice, NoticeKind, Plan, RailDescription,
    Record, RunId, RunOutcome, RunSettings, RunStart,
};
use wattline_protocol::session::CommandId;
use wattline_protocol::units::Nanos;

use super::blocks::Blocks;
use super::preflight;
use super::refused::{no_sampling, no_spool};
use super::request::{Request, Visitor};
use super::seats::{Seats, SessionId};
use crate::board::{self, conditions::Conditions, keeper::Keeper};
use crate::campaign::marked::Marked;
use crate::campaign::run::{self, Running};
use crate::campaign::state::{Method, StartPoint};
use crate::campaign::witness::Witness;
use crate::clock::{self, Clock, SystemClock};
use crate::power::sampler::Beat;
use crate::power::settings::Desk;
use crate::recorder::outlet::{Listening, Outlet};
use crate::recorder::{Recorder, RecorderStart};
use crate::runner::gpu;
use crate::runner::process::RunnerPrograms;
use crate::sampling::{PowerSource, Sampling};
use crate::spool::{RunLog, Spool, SpoolError};
use crate::trigger::TriggerSpec;

/// Answers that are kept for a command that comes again: a host repeats the
/// last one or two after a cut.
const ANSWERS_KEPT: usize = 32;

/// What never changes while the agent runs.
#[derive(Debug)]
pub struct Facts {
    board_id: String,
    epoch: u32,
    simulated: Option<wattline_protocol::record::ChipKind>,
}

impl Facts {
    /// The agent's Hello.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            build: env!("CARGO_PKG_VERSION").into(),
            digest: protocol_digest(),
            side: Side::Agent {
                board_id: self.board_id.clone(),
                epoch: self.epoch,
                simulated: self.simulated,
            },
        }
    }
}

/// What the hub begins with.
pub struct HubStart {
    /// The spool.
    pub spool: Spool,
    /// Where power is read.
    pub source: PowerSource,
    /// Where the settings of kernel drivers are kept.
    pub desk: Desk,
    /// Who sets clocks for a run.
    pub keeper: Keeper,
    /// The runners' executables.
    pub programs: RunnerPrograms,
    /// What an external meter is told.
    pub trigger: Option<TriggerSpec>,
    /// Every frame is written there as well.
    pub tee: Option<File>,
    /// The spool's folder, where the blocks of a campaign that are left stand.
    pub folder: PathBuf,
}

/// The hub.
pub struct Hub {
    pub(super) spool: Spool,
    pub(super) source: Arc<PowerSource>,
    desk: Desk,
    pub(super) keeper: Keeper,
    pub(super) programs: RunnerPrograms,
    trigger: Option<TriggerSpec>,
    pub(super) tee: Option<File>,
    pub(super) board: BoardDescription,
    /// `None` while the disk is too full to make it durable.
    pub(super) epoch: Option<u32>,
    run_ordinal: u32,
    pub(super) current: Option<Current>,
    waiting_for_end: Vec<oneshot::Sender<()>>,
    /// Answers to the last commands that changed something.
    answers: VecDeque<(CommandId, Reply)>,
    /// What follows the run that goes on.
    pub(super) blocks: Blocks,
    pub(super) seats: Seats,
    /// How each session that has a seat is told that it has lost it.
    pub(super) replaced: HashMap<SessionId, Arc<Notify>>,
    facts: Arc<Facts>,
}

/// The parts of one run, put together once.
pub(super) struct Begin {
    pub(super) run: RunId,
    pub(super) campaign: CampaignSpec,
    pub(super) plan: Plan,
    pub(super) from: StartPoint,
    pub(super) epoch: u32,
    pub(super) sampling: Sampling,
    pub(super) trigger: Marked,
    pub(super) log: RunLog,
    pub(super) opening: Vec<Record>,
}

pub(super) struct Current {
    pub(super) run: RunId,
    campaign: CampaignSpec,
    pub(super) running: Running,
    pub(super) listening: Listening,
    beats: Vec<Beat>,
    chips: Vec<ChipDescription>,
    rails: Vec<RailDescription>,
}

impl Hub {
    /// Raises the epoch. Runs that the agent's last end cut off are taken up
    /// once the hub works.
    ///
    /// # Errors
    /// [`SpoolError`] where the spool cannot be used; a full disk is no error
    /// here: runs are refused until there is room.
    pub fn new(start: HubStart) -> Result<Self, SpoolError> {
        let HubStart { spool, source, desk, keeper, programs, trigger, tee, folder } = start;
        let epoch = match spool.raise_epoch(&clock::boot_id()) {
            Ok(raised) => {
                info!(epoch = raised.epoch, origin = ?raised.origin, "A new epoch begins.");
                Some(raised.epoch)
            }
            Err(SpoolError::DiskFull { source }) => {
                warn!(error = %source, "The disk is full; runs are refused until there is room.");
                None
            }
            Err(error) => return Err(error),
        };
        let mut board = board::describe(spool.board_id());
        let simulated = source.simulation().map(|simulation| simulation.chip);
        if let Some(chip) = simulated {
            board.model = format!("simulated {} board", chip.name().to_uppercase());
        }
        let board_id = spool.board_id().to_owned();
        let facts = Arc::new(Facts { board_id, epoch: epoch.unwrap_or(0), simulated });
        Ok(Self {
            spool,
            source: Arc::new(source),
            desk,
            keeper,
            programs,
            trigger,
            tee,
            board,
            epoch,
            run_ordinal: 0,
            current: None,
            waiting_for_end: Vec::new(),
            answers: VecDeque::new(),
            blocks: Blocks::find(&folder),
            seats: Seats::default(),
            replaced: HashMap::new(),
            facts,
        })
    }

    /// What never changes while the agent runs.
    #[must_use]
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    /// Answers requests until the agent is told to end.
    pub async fn work(
        mut self,
        mut queue: mpsc::Receiver<Request>,
        requests: mpsc::Sender<Request>,
    ) {
        self.take_up_cut_runs(&requests);
        self.next_block(&requests);
        while let Some(request) = queue.recv().await {
            match request {
                Request::Command { visitor, id, command, reply } => {
                    let answer = self.answer_once(&visitor, id, *command, &requests);
                    info!(id = id.0, answer = ?std::mem::discriminant(&answer), "A command.");
                    let ending = answer == Reply::Ending;
                    let _ = reply.send(answer);
                    if ending {
                        // The answer leaves with the session's next write.
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        return;
                    }
                }
                Request::Open { visitor, run, reply } => {
                    let _ = reply.send(self.open(&visitor, &run));
                }
                Request::Left(session) => self.left(session),
                Request::Acknowledge(have) => {
                    if let Err(error) = self.spool.ack(&have.run, &have.have) {
                        warn!(%error, run = %have.run, "An acknowledgement of no run.");
                    }
                }
                Request::IsIdle(reply) => {
                    let _ = reply.send(self.is_idle());
                }
                Request::Beats(reply) => {
                    let beats = self.current.as_ref().map(|current| current.beats.clone());
                    let _ = reply.send(beats.unwrap_or_default());
                }
                Request::StopAll(reply) => match &self.current {
                    Some(current) => {
                        current.running.stop();
                        self.waiting_for_end.push(reply);
                    }
                    None => {
                        let _ = reply.send(());
                    }
                },
                Request::Leave(reply) => {
                    if let Some(current) = self.current.take() {
                        current.running.leave();
                    }
                    let _ = reply.send(());
                }
                Request::Ended(outcome) => self.ended(outcome, &requests),
            }
        }
    }

    fn ended(&mut self, outcome: RunOutcome, requests: &mpsc::Sender<Request>) {
        if let Some(current) = self.current.take() {
            info!(run = %current.run, ?outcome, "A run is over.");
            // The thread that said so has nothing left to do.
            let _ = current.running.thread.join();
            self.seats.run_over();
        }
        // Whoever waits for the end ends the agent: its next start goes on.
        if self.waiting_for_end.is_empty() {
            self.next_block(requests);
        }
        for waiting in self.waiting_for_end.drain(..) {
            let _ = waiting.send(());
        }
    }

    /// Answers a command; one that comes again, over another link perhaps,
    /// gets the answer that was given and is not performed again.
    fn answer_once(
        &mut self,
        visitor: &Visitor,
        id: CommandId,
        command: Command,
        requests: &mpsc::Sender<Request>,
    ) -> Reply {
        let performs = matches!(
            command,
            Command::Start { .. }
                | Command::StartWith { .. }
                | Command::StartBlocks { .. }
                | Command::Stop { .. }
                | Command::TakeOver { .. }
        );
        let given = self.answers.iter().find(|(answered, _)| *answered == id);
        if let Some((_, reply)) = given.filter(|_| performs) {
            return reply.clone();
        }
        let reply = self.command(visitor, command, requests);
        if performs {
            if self.answers.len() == ANSWERS_KEPT {
                self.answers.pop_front();
            }
            self.answers.push_back((id, reply.clone()));
        }
        reply
    }

    fn command(
        &mut self,
        visitor: &Visitor,
        command: Command,
        requests: &mpsc::Sender<Request>,
    ) -> Reply {
        match command {
            Command::Describe => self.describe(),
            Command::Start { run, campaign } => {
                self.started(visitor, &run, *campaign, RunSettings::default(), requests)
            }
            Command::StartWith { run, campaign, settings } => {
                self.started(visitor, &run, *campaign, settings, requests)
            }
            Command::StartBlocks { campaign, blocks, pin } => {
                self.start_blocks(visitor, *campaign, blocks, pin, requests)
            }
            Command::Stop { run } => self.stop(visitor, &run, requests),
            Command::TakeOver { run } => self.take_over(visitor, &run),
            Command::Status => Reply::Status(self.status()),
            Command::Standing => self.standing(),
            Command::Shutdown => match self.busy_with() {
                None => Reply::Ending,
                Some(run) => Reply::Refused(Refusal::Busy { run }),
            },
            // The session looks itself; here is whether it may.
            Command::Examine => match self.busy_with() {
                None => Reply::Examined(Vec::new()),
                Some(run) => Reply::Refused(Refusal::Busy { run }),
            },
            // The session answers these itself.
            Command::Fetch { .. } | Command::Live { .. } | Command::ClockPing { .. } => {
                Reply::Refused(Refusal::NoSuchRun)
            }
        }
    }

    fn describe(&self) -> Reply {
        // While a run goes on its chips are not touched: writing a configuration
        // restarts the conversion under way.
        if let Some(current) = &self.current {
            return self.board_reply(current.chips.clone(), current.rails.clone());
        }
        // Rails are known once a chip is configured.
        match Sampling::start(&self.source) {
            Ok(sampling) => {
                let (chips, rails) = (sampling.chips.clone(), sampling.rails.clone());
                let _ = sampling.stop();
                self.board_reply(chips, rails)
            }
            Err(error) => Reply::Refused(no_sampling(&error)),
        }
    }

    fn board_reply(&self, chips: Vec<ChipDescription>, rails: Vec<RailDescription>) -> Reply {
        Reply::Board(Box::new(BoardReply {
            board: self.board.clone(),
            simulation: self.source.simulation(),
            chips,
            rails,
            skipped: self.source.skipped(),
            gpu: gpu::present().map(|name| {
                let has_runner = self.programs.cuda.is_some();
                GpuPresence { name, has_runner }
            }),
        }))
    }

    fn status(&self) -> StatusReply {
        let runs = self.spool.runs().into_iter().map(|status| SpooledRun {
            bytes: status.bytes,
            outcome: None,
            acknowledged: status.is_acked,
            run: status.run,
        });
        let current: Option<CurrentRun> =
            self.current.as_ref().map(|current| current.running.status.borrow().clone());
        StatusReply {
            build: env!("CARGO_PKG_VERSION").into(),
            now: SystemClock.now(),
            current,
            runs: runs.collect(),
            free_bytes: self.spool.free_bytes().unwrap_or(0),
        }
    }

    fn is_idle(&self) -> bool {
        self.current.is_none()
            && self.blocks.is_over()
            && self.spool.runs().iter().all(|run| run.is_acked)
    }

    fn started(
        &mut self,
        visitor: &Visitor,
        run: &RunId,
        campaign: CampaignSpec,
        settings: RunSettings,
        requests: &mpsc::Sender<Request>,
    ) -> Reply {
        match self.start(visitor, run, campaign, settings, requests) {
            Ok(()) => Reply::Started,
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    pub(super) fn start(
        &mut self,
        visitor: &Visitor,
        run: &RunId,
        campaign: CampaignSpec,
        settings: RunSettings,
        requests: &mpsc::Sender<Request>,
    ) -> Result<(), Refusal> {
        if let Some(current) = &self.current {
            let same = current.run == *run && current.campaign == campaign;
            let busy = Refusal::Busy { run: current.run.clone() };
            return if same { self.starts_again(visitor) } else { Err(busy) };
        }
        // After a cut link or the agent's end a host may ask again for what it got.
        match self.spool.first_record(run) {
            Some(Record::RunStart(start)) if start.campaign == campaign => {
                return self.seat(visitor);
            }
            Some(_) => return Err(Refusal::RunExists),
            None => {}
        }
        // Blocks of another campaign wait for the board's reboot.
        if let Some(front) = self.blocks.front().filter(|front| *front != run) {
            return Err(Refusal::Busy { run: front.clone() });
        }
        let plan = preflight::plan(&campaign, self.board.cores, &self.programs)?;
        // Whoever starts a run stays for it, and controls it.
        self.seat(visitor)?;
        self.launch(run, campaign, plan, settings, requests)?;
        let _ = self.seats.take_control(&visitor.caller, SystemClock.now());
        Ok(())
    }

    /// Begins a run that was checked, for whomever.
    pub(super) fn launch(
        &mut self,
        run: &RunId,
        campaign: CampaignSpec,
        plan: Plan,
        settings: RunSettings,
        requests: &mpsc::Sender<Request>,
    ) -> Result<(), Refusal> {
        preflight::room(&self.spool, &campaign, &plan)?;
        let epoch = self.epoch()?;
        let trigger = self.marked()?;
        let sampling = self.sample(settings)?;
        let log = self.spool.create_run(run).map_err(|error| no_spool(&error))?;
        let mut opening = self.opening(run, true, &campaign, &plan, &sampling);
        opening.push(settings.into());
        let from = StartPoint::default();
        let run = run.clone();
        let begun = Begin { run, campaign, plan, from, epoch, sampling, trigger, log, opening };
        let (current, durable) = self.begin(begun, requests);
        self.current = Some(current);
        if durable {
            return Ok(());
        }
        self.give_up();
        Err(preflight::spool_full(preflight::ROOM_BYTES_MIN, self.spool.standing()))
    }

    /// The folder that stands for `/sys`.
    pub(super) fn sysfs_root(&self) -> &Path {
        self.desk.sysfs_root()
    }

    /// Samples for a run, with the chips' kernel drivers set for it, and before
    /// them the clocks: all that is measured has the run's own.
    pub(super) fn sample(&self, settings: RunSettings) -> Result<Sampling, Refusal> {
        let pinned = self.keeper.hold(settings).map_err(|why| Refusal::NoPin { why })?;
        let sampling = Sampling::start_held(&self.source, &self.desk);
        Ok(sampling.map_err(|error| no_sampling(&error))?.with_clocks(pinned))
    }

    /// Starts recorder and campaign; false where the first records are not durable.
    pub(super) fn begin(
        &mut self,
        begin: Begin,
        requests: &mpsc::Sender<Request>,
    ) -> (Current, bool) {
        let Begin { run, campaign, plan, from, epoch, mut sampling, trigger, log, opening } = begin;
        let tee = self.tee.as_ref().and_then(|tee| tee.try_clone().ok());
        let (outlet, listening, _writer) = Outlet::start(log, tee);
        let lanes = std::mem::take(&mut sampling.lanes);
        let (chips, rails) = (sampling.chips.clone(), sampling.rails.clone());
        let beats = sampling.beats();
        let run_ordinal = self.next_ordinal();
        let start = RecorderStart { epoch, run_ordinal, lanes, outlet, first: opening };
        let (recorder, _thread) = Recorder::start(start);
        let durable = recorder.record_durable(clock::snapshot());
        let period = sampling.chips.iter().map(|chip| chip.sweep_period_ns).max().unwrap_or(0);
        let method = Method::of(&campaign, Nanos(i64::from(period)));
        let requests = requests.clone();
        let running = run::start(run::RunStart {
            run: run.clone(),
            plan,
            method,
            from,
            recorder,
            sampling,
            source: Arc::clone(&self.source),
            programs: self.programs.clone(),
            trigger,
            witness: Witness::of(Conditions::find(self.desk.sysfs_root())),
            ended: Box::new(move |outcome| {
                // The hub is gone only with the agent.
                let _ = requests.blocking_send(Request::Ended(outcome));
            }),
        });
        info!(%run, trial = from.trial, attempt = from.attempt, "A run begins or goes on.");
        (Current { run, campaign, running, listening, beats, chips, rails }, durable)
    }

    /// Takes the trigger's line.
    pub(super) fn marked(&self) -> Result<Marked, Refusal> {
        let asked = self.trigger.as_ref();
        Marked::by(asked).map_err(|fault| {
            let line = asked.map(|spec| spec.line.to_string()).unwrap_or_default();
            warn!(line, ?fault, "The trigger's line cannot be had.");
            Refusal::NoTrigger { line, fault }
        })
    }

    /// Number of the next run's streams in this epoch.
    pub(super) fn next_ordinal(&mut self) -> u32 {
        let ordinal = self.run_ordinal;
        self.run_ordinal += 1;
        ordinal
    }

    /// The records that a run, or its part in this epoch, opens with.
    pub(super) fn opening(
        &self,
        run: &RunId,
        first: bool,
        campaign: &CampaignSpec,
        plan: &Plan,
        sampling: &Sampling,
    ) -> Vec<Record> {
        let start = RunStart {
            run: run.clone(),
            first,
            board: self.board.clone(),
            agent: AgentBuild {
                version: env!("CARGO_PKG_VERSION").into(),
                protocol_digest: protocol_digest(),
            },
            simulation: self.source.simulation(),
            campaign: campaign.clone(),
            clock: clock::snapshot(),
            chips: sampling.chips.clone(),
            rails: sampling.rails.clone(),
            scheduling: sampling.scheduling,
        };
        let at = SystemClock.now();
        let mut records = vec![Record::from(start), Record::from(plan.clone())];
        records.extend(self.source.expectation().map(Record::from));
        if let Some(errno) = sampling.refused_errno {
            records.push(Notice { at, what: NoticeKind::NotRealTime { errno } }.into());
        }
        records.extend(sampling.offsets.iter().cloned().map(Record::from));
        records.extend(sampling.settings().iter().copied().map(Record::from));
        for (rail, reason) in self.source.skipped().into_iter().chain(sampling.refused.clone()) {
            records.push(Notice { at, what: NoticeKind::RailSkipped { rail, reason } }.into());
        }
        records
    }

    /// Ends a run that could not be made durable.
    fn give_up(&mut self) {
        if let Some(current) = &self.current {
            current.running.stop();
        }
    }

    fn epoch(&mut self) -> Result<u32, Refusal> {
        if let Some(epoch) = self.epoch {
            return Ok(epoch);
        }
        let raised = self.spool.raise_epoch(&clock::boot_id()).map_err(|error| no_spool(&error))?;
        self.epoch = Some(raised.epoch);
        Ok(raised.epoch)
    }
}
