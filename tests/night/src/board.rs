//! The board of a night: a disk, and an agent that lives and dies on it.
//!
//! Owns the order in which the agent's own machines are driven: what its
//! threads do in the product ([`Desk`], [`Writer`], [`Feed`], the campaign) is
//! done here in turn, one step after another. Judges nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wattline_agent::campaign::state::{Campaign, Effect, Event, StartPoint};
use wattline_agent::power::ring::{Sweep, SweepProducer, ring};
use wattline_agent::recorder::desk::Desk;
use wattline_agent::recorder::writer::Writer;
use wattline_agent::recorder::{LANE_CHIPS, LaneInput};
use wattline_agent::server::cut;
use wattline_agent::server::feed::{Feed, Wanted};
use wattline_agent::spool::{Limits, ModelStorage, RecoveredRun, Spool};
use wattline_protocol::command::{Command, Refusal, Reply, Side};
use wattline_protocol::record::{
    BoardState, ClockSnapshot, Gap, Record, RunId, RunOutcome, WindowClose, kind,
};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::runner::Runner;
use crate::{plan, trace};

/// Sweeps a ring holds: few, so that a burst overflows it.
const RING_SWEEPS: usize = 96;
/// Codes of a sweep: two rails.
const COLUMNS: usize = 4;

/// How a night's board is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make {
    pub(crate) limits: Limits,
    pub(crate) chips: u8,
    pub(crate) trials: u32,
}

/// The board.
pub(crate) struct Board {
    pub(crate) disk: ModelStorage,
    pub(crate) make: Make,
    /// World time of the last boot: CLOCK_MONOTONIC counts from there.
    boot: u64,
    /// How often the kernel booted: its boot id.
    boots: u32,
    /// What CLOCK_REALTIME is ahead of the world, by steps of NTP.
    pub(crate) realtime_step_ns: i64,
    /// Suspended time: CLOCK_MONOTONIC stood still.
    pub(crate) suspended: u64,
    pub(crate) agent: Option<Agent>,
}

/// One life of the agent.
pub(crate) struct Agent {
    pub(crate) spool: Spool,
    epoch: Option<u32>,
    ordinal: u32,
    pub(crate) current: Option<Recording>,
    /// Sessions by link.
    pub(crate) feeds: BTreeMap<u64, Feed>,
}

/// A run that is recorded.
pub(crate) struct Recording {
    pub(crate) run: usize,
    id: RunId,
    desk: Desk,
    writer: Writer,
    rings: Vec<SweepProducer>,
    /// Frames between the recorder's thread and the writer's.
    parcels: VecDeque<Vec<u8>>,
    /// What the writer has to say, on its way back.
    tells: VecDeque<Record>,
    campaign: Option<Campaign>,
    pub(crate) runner: Runner,
    over: Option<RunOutcome>,
}

/// Name of a run.
pub(crate) fn run_id(run: usize) -> Option<RunId> {
    RunId::new(&format!("night-{run}")).ok()
}

impl Board {
    pub(crate) fn new(make: Make, disk: ModelStorage) -> Self {
        Self { disk, make, boot: 0, boots: 1, realtime_step_ns: 0, suspended: 0, agent: None }
    }

    /// CLOCK_MONOTONIC at world time `t`.
    pub(crate) fn now(&self, t: u64) -> BoardTime {
        BoardTime(t.saturating_sub(self.boot).saturating_sub(self.suspended))
    }

    pub(crate) fn snapshot(&self, t: u64) -> ClockSnapshot {
        let realtime = t.saturating_add_signed(self.realtime_step_ns);
        ClockSnapshot {
            monotonic: self.now(t),
            monotonic_raw_ns: self.now(t).0,
            boottime_ns: t.saturating_sub(self.boot),
            realtime_ns: realtime,
            bracket_ns: 900,
        }
    }

    /// The agent's process ends: what is in its memory is gone.
    pub(crate) fn kill(&mut self, ledger: &mut Ledger) {
        if let Some(agent) = self.agent.take() {
            if let Some(current) = agent.current
                && !current.tells.is_empty()
            {
                ledger.unsaid(current.run);
            }
            ledger.agent_ended();
        }
    }

    /// The power goes, and comes back.
    pub(crate) fn cut_power(&mut self, seed: u64, t: u64, ledger: &mut Ledger) {
        self.kill(ledger);
        self.disk.cut_power(seed);
        self.boot = t;
        self.suspended = 0;
        self.boots += 1;
    }

    /// The agent starts; it may fail and be started again.
    pub(crate) fn start(&mut self, t: u64, ledger: &mut Ledger) {
        let storage = Arc::new(self.disk.clone());
        let spool = match Spool::open_within(storage, "board-1", self.make.limits) {
            Ok(spool) => spool,
            Err(error) => return trace!("the spool does not open: {error}"),
        };
        let epoch = match spool.raise_epoch(&format!("boot-{}", self.boots)) {
            Ok(raised) => Some(raised.epoch),
            Err(wattline_agent::spool::SpoolError::DiskFull { .. }) => None,
            Err(error) => return trace!("no epoch: {error}"),
        };
        for run in spool.recovered() {
            let RecoveredRun { run, ended, ends, torn_bytes, damaged, .. } = run;
            trace!("  {run}: ended {ended}, torn {torn_bytes}, damaged {damaged:?}, {ends:?}");
        }
        trace!("the agent starts in epoch {epoch:?}");
        let feeds = BTreeMap::new();
        let mut agent = Agent { spool, epoch, ordinal: 0, current: None, feeds };
        if let Some(epoch) = epoch {
            let cut: Vec<RecoveredRun> =
                agent.spool.recovered().iter().filter(|run| !run.ended).cloned().collect();
            for recovered in cut {
                self.close_cut(&mut agent, epoch, &recovered, t, ledger);
            }
        }
        self.agent = Some(agent);
    }

    fn close_cut(
        &self,
        agent: &mut Agent,
        epoch: u32,
        recovered: &RecoveredRun,
        t: u64,
        ledger: &mut Ledger,
    ) {
        let Some(run) = number_of(&recovered.run) else { return };
        let log = match agent.spool.resume_run(&recovered.run) {
            Ok(log) => log,
            Err(error) => return trace!("run {run} cannot be closed: {error}"),
        };
        let now = self.now(t);
        let mut recording = Recording {
            run,
            id: recovered.run.clone(),
            desk: Desk::new(epoch, agent.ordinal, Vec::new(), now),
            writer: Writer::new(log, now),
            rings: Vec::new(),
            parcels: VecDeque::new(),
            tells: VecDeque::new(),
            campaign: None,
            runner: Runner::default(),
            over: None,
        };
        agent.ordinal += 1;
        for end in cut::epoch_ends(recovered, epoch) {
            recording.record(&end.into(), ledger);
        }
        recording.finish(RunOutcome::Failed, self.snapshot(t), ledger);
    }

    /// A host asks for a run. False where the board refuses.
    pub(crate) fn begin(
        &mut self,
        run: usize,
        t: u64,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) -> bool {
        let (now, snapshot) = (self.now(t), self.snapshot(t));
        let (chips, trials, boots) = (self.make.chips, self.make.trials, self.boots);
        let Some(agent) = &mut self.agent else { return false };
        if agent.current.is_some() {
            return false;
        }
        let raised = agent.spool.raise_epoch_once(&mut agent.epoch, boots);
        let (Some(epoch), Some(id)) = (raised, run_id(run)) else { return false };
        let log = match agent.spool.create_run(&id) {
            Ok(log) => log,
            Err(error) => {
                trace!("run {run} is refused: {error}");
                return false;
            }
        };
        let mut rings = Vec::new();
        let mut lanes = Vec::new();
        for chip in 0..chips {
            let (producer, consumer) = ring(RING_SWEEPS);
            rings.push(producer);
            lanes.push(LaneInput { lane: LANE_CHIPS + chip, columns: COLUMNS, ring: consumer });
        }
        let plan = plan(trials, dice);
        let (campaign, effects) =
            Campaign::begin(plan.clone(), crate::method(), StartPoint::default(), now);
        let mut recording = Recording {
            run,
            id,
            desk: Desk::new(epoch, agent.ordinal, lanes, now),
            writer: Writer::new(log, now),
            rings,
            parcels: VecDeque::new(),
            tells: VecDeque::new(),
            campaign: Some(campaign),
            runner: Runner::default(),
            over: None,
        };
        agent.ordinal += 1;
        trace!("run {run} begins");
        let start = Record::Unknown { kind: kind::RUN_START, bytes: vec![7; 90] };
        recording.record(&start, ledger);
        recording.record(&Record::from(plan.clone()), ledger);
        recording.record(&snapshot.into(), ledger);
        let durable = recording.settle(now, ledger);
        recording.perform(effects, snapshot, dice, ledger);
        if !durable {
            recording.happen(Event::Stop, snapshot, dice, ledger);
        }
        agent.current = Some(recording);
        true
    }

    /// Lets the agent work up to world time `t`.
    pub(crate) fn step(&mut self, t: u64, lazy: bool, dice: &mut Dice, ledger: &mut Ledger) {
        let (now, snapshot) = (self.now(t), self.snapshot(t));
        let Some(agent) = &mut self.agent else { return };
        if let Some(current) = &mut agent.current {
            current.step(now, snapshot, lazy, dice, ledger);
            if current.over.is_some() {
                trace!("run {} is over: {:?}", current.run, current.over);
                agent.current = None;
            }
        }
        let nanos = now - BoardTime(0);
        for feed in agent.feeds.values_mut() {
            feed.fill(nanos);
        }
    }

    /// The board's Hello to a host that connects.
    pub(crate) fn connect(&mut self, link: u64, t: u64) {
        let now = self.now(t) - BoardTime(0);
        let Some(agent) = &mut self.agent else { return };
        let side = Side::Agent {
            board_id: agent.spool.board_id().to_owned(),
            epoch: agent.epoch.unwrap_or(0),
            simulated: None,
        };
        agent.feeds.insert(link, Feed::begin(crate::hello(side), now));
    }

    /// Bytes of a host.
    pub(crate) fn on_bytes(&mut self, link: u64, bytes: &[u8], t: u64) {
        let now = self.now(t) - BoardTime(0);
        let Some(agent) = &mut self.agent else { return };
        let Some(mut feed) = agent.feeds.remove(&link) else { return };
        for wanted in feed.on_bytes(bytes, now) {
            agent.serve(&mut feed, wanted, now);
        }
        agent.feeds.insert(link, feed);
    }

    /// The time, for a session's heartbeats; true where the link is over.
    pub(crate) fn on_timer(&mut self, link: u64, t: u64) -> bool {
        let now = self.now(t) - BoardTime(0);
        let Some(agent) = &mut self.agent else { return true };
        let Some(feed) = agent.feeds.get_mut(&link) else { return true };
        let _ = feed.on_timer(now);
        feed.is_over()
    }
}

/// `Some` where an epoch is there or could be raised now, as the hub does it.
trait RaiseOnce {
    fn raise_epoch_once(&self, epoch: &mut Option<u32>, boots: u32) -> Option<u32>;
}

impl RaiseOnce for Spool {
    fn raise_epoch_once(&self, epoch: &mut Option<u32>, boots: u32) -> Option<u32> {
        if epoch.is_none() {
            *epoch = self.raise_epoch(&format!("boot-{boots}")).ok().map(|raised| raised.epoch);
        }
        *epoch
    }
}

impl Agent {
    /// The run is over, and the disk has it so.
    pub(crate) fn has_ended(&self, run: usize) -> bool {
        let name = run_id(run);
        self.spool.runs().iter().any(|status| Some(&status.run) == name.as_ref() && status.ended)
    }

    /// The disk was too full at its start to close what was cut.
    pub(crate) fn leaves_runs_open(&self) -> bool {
        self.spool.runs().iter().any(|run| !run.ended && !run.has_writer)
    }

    fn serve(&mut self, feed: &mut Feed, wanted: Wanted, now: Nanos) {
        match wanted {
            Wanted::Answer(id, Command::Fetch { run, have, .. }) => {
                let reply = match self.spool.reader(&run) {
                    Ok(reader) => {
                        let current = self.current.as_ref();
                        let goes_on = current.is_some_and(|current| current.id == run);
                        feed.fetch(reader, &have, goes_on);
                        Reply::Fetching
                    }
                    Err(_) => Reply::Refused(Refusal::NoSuchRun),
                };
                feed.reply(id, reply, now);
            }
            Wanted::Answer(id, _) => feed.reply(id, Reply::Refused(Refusal::NoSuchRun), now),
            Wanted::Acknowledge(have) => {
                // An acknowledgement of a run that was removed meanwhile is nothing new.
                let _ = self.spool.ack(&have.run, &have.have);
            }
        }
    }
}

impl Recording {
    fn record(&mut self, record: &Record, ledger: &mut Ledger) {
        let (run, parcels) = (self.run, &mut self.parcels);
        self.desk.record(record, &mut |bytes| {
            ledger.given(run, &bytes);
            parcels.push_back(bytes);
        });
    }

    fn drain(&mut self, now: BoardTime, all: bool, ledger: &mut Ledger) {
        let (run, parcels) = (self.run, &mut self.parcels);
        self.desk.drain(now, all, &mut |bytes| {
            ledger.given(run, &bytes);
            parcels.push_back(bytes);
        });
    }

    /// The writer takes up to `most` frames.
    fn write(&mut self, most: usize, now: BoardTime, ledger: &mut Ledger) {
        for _ in 0..most {
            let Some(bytes) = self.parcels.pop_front() else { return };
            ledger.taken(&bytes);
            let gaps = self.writer.frame(&bytes, now);
            self.dropped(gaps, ledger);
        }
    }

    fn dropped(&mut self, gaps: Vec<Gap>, ledger: &mut Ledger) {
        for gap in gaps {
            trace!("dropped by policy: {gap:?}");
            ledger.dropped(self.run, &gap);
            self.tells.push_back(gap.into());
        }
    }

    fn sync(&mut self, now: BoardTime, ledger: &mut Ledger) -> bool {
        let synced = self.writer.sync(now);
        self.dropped(synced.gaps, ledger);
        self.tells.extend(synced.notice.map(Record::from));
        ledger.promised(self.run, synced.durable, &self.writer.durable_ends());
        synced.durable
    }

    /// All that was recorded so far goes to the disk; true where it is durable.
    fn settle(&mut self, now: BoardTime, ledger: &mut Ledger) -> bool {
        self.write(usize::MAX, now, ledger);
        self.sync(now, ledger)
    }

    fn tell(&mut self, ledger: &mut Ledger) {
        while let Some(record) = self.tells.pop_front() {
            self.record(&record, ledger);
        }
    }

    fn step(
        &mut self,
        now: BoardTime,
        snapshot: ClockSnapshot,
        lazy: bool,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) {
        if self.over.is_some() {
            return;
        }
        self.sample(now, dice);
        self.drain(now, false, ledger);
        self.tell(ledger);
        if self.desk.is_snapshot_due(now) {
            self.record(&snapshot.into(), ledger);
        }
        while self.over.is_none()
            && let Some(heard) = self.runner.step(now, dice)
        {
            for record in heard.records {
                self.record(&record, ledger);
            }
            self.happen(heard.event, snapshot, dice, ledger);
        }
        let due = self.campaign.as_ref().and_then(Campaign::deadline);
        if self.over.is_none() && due.is_some_and(|due| now >= due) {
            self.happen(Event::Tick, snapshot, dice, ledger);
        }
        if self.over.is_some() {
            return;
        }
        let most = if lazy { dice.place(6) } else { usize::MAX };
        self.write(most, now, ledger);
        if self.writer.is_sync_due(now) && !(lazy && dice.chance(300)) {
            self.sync(now, ledger);
        }
    }

    /// The chips' sweeps since the last step; a burst overflows the ring.
    fn sample(&mut self, now: BoardTime, dice: &mut Dice) {
        for producer in &mut self.rings {
            let count = if dice.chance(15) { 130 } else { dice.between(0, 24) };
            for back in (0..count).rev() {
                let mut sweep = Sweep {
                    end: BoardTime(now.0.saturating_sub(back * 840_000)),
                    columns: 4,
                    status: if dice.chance(4) { 0x1111 } else { 0 },
                    ..Sweep::default()
                };
                let noise = i32::try_from(dice.below(9)).unwrap_or(0);
                for (code, level) in sweep.codes.iter_mut().zip([120, 5000, 60, 4990]) {
                    *code = if sweep.status == 0 { level + noise } else { 0 };
                }
                let _ = producer.push(sweep);
            }
        }
    }

    /// Something happened to the campaign.
    pub(crate) fn happen(
        &mut self,
        event: Event,
        snapshot: ClockSnapshot,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) {
        if let Some(campaign) = self.campaign.take() {
            let (campaign, effects) = campaign.on(event, snapshot.monotonic);
            self.campaign = Some(campaign);
            self.perform(effects, snapshot, dice, ledger);
        }
    }

    fn perform(
        &mut self,
        effects: Vec<Effect>,
        snapshot: ClockSnapshot,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) {
        let now = snapshot.monotonic;
        for effect in effects {
            match effect {
                Effect::Record(record) => self.record(&record, ledger),
                Effect::RecordDurable(record) => {
                    self.record(&record, ledger);
                    self.settle(now, ledger);
                }
                Effect::CloseWindow(token, t1, work) => {
                    let close = WindowClose {
                        window: token.window,
                        kind: token.kind,
                        t0: token.t0,
                        t1,
                        inferences: work.inferences,
                        images: work.images,
                        truth: Vec::new(),
                    };
                    self.record(&close.into(), ledger);
                }
                Effect::StartRunner(trial) => self.runner = Runner::start(trial, now, dice),
                Effect::GoRunner => self.runner.go(now),
                Effect::EndRunner => self.runner.end(now, dice),
                Effect::KillRunner => self.runner.kill(),
                Effect::ReadBoard => {
                    let state = BoardState {
                        at: now,
                        governor: "performance".into(),
                        core_khz: vec![1_510_000; 4],
                        temperatures: Vec::new(),
                        load_hundredths: 101,
                    };
                    self.record(&state.into(), ledger);
                }
                Effect::Finish(outcome) => self.finish(outcome, snapshot, ledger),
            }
        }
    }

    /// The run's last records, in the order of the recorder's thread.
    fn finish(&mut self, outcome: RunOutcome, snapshot: ClockSnapshot, ledger: &mut Ledger) {
        let now = snapshot.monotonic;
        self.drain(now, true, ledger);
        self.settle(now, ledger);
        self.tell(ledger);
        self.record(&snapshot.into(), ledger);
        let end = self.desk.end(now, outcome);
        self.record(&end.into(), ledger);
        self.settle(now, ledger);
        if !self.tells.is_empty() {
            ledger.unsaid(self.run);
        }
        self.over = Some(outcome);
    }
}

/// The number in a run's name.
pub(crate) fn number_of(id: &RunId) -> Option<usize> {
    id.as_str().strip_prefix("night-")?.parse().ok()
}
