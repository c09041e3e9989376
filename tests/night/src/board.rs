//! The board of a night: a disk, and an agent that lives and dies on it.
//!
//! Owns the order in which the agent's own machines are driven: what its
//! threads do in the product (recorder, writer, [`Feed`], the campaign) is
//! done here in turn, one step after another. Judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattline_agent::campaign::state::{Campaign, Event, StartPoint};
use wattline_agent::power::ring::ring;
use wattline_agent::recorder::writer::Writer;
use wattline_agent::recorder::{LANE_CHIPS, LaneInput};
use wattline_agent::server::feed::{Feed, Wanted};
use wattline_agent::spool::{Limits, ModelStorage, RecoveredRun, Spool};
use wattline_protocol::command::{Command, Refusal, Reply, Side};
use wattline_protocol::record::{ClockSnapshot, Record, RunId, kind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::recording::{COLUMNS, Recording, Ring};
use crate::{plan, trace};

/// Sweeps a ring holds: few, so that a burst overflows it.
const RING_SWEEPS: usize = 96;

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
    pub(crate) epoch: Option<u32>,
    pub(crate) ordinal: u32,
    pub(crate) current: Option<Recording>,
    /// Sessions by link.
    pub(crate) feeds: BTreeMap<u64, Feed>,
}

/// The first record of a run. Of what it says, a night needs nothing.
pub(crate) fn run_start() -> Record {
    Record::Unknown { kind: kind::RUN_START, bytes: vec![7; 90] }
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
    pub(crate) fn start(&mut self, t: u64, dice: &mut Dice, ledger: &mut Ledger) {
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
        if epoch.is_some() {
            self.take_up_cut_runs(&mut agent, t, dice, ledger);
        }
        self.agent = Some(agent);
    }

    /// Rings of the chips, and their lanes.
    pub(crate) fn chips(&self) -> (Vec<LaneInput>, Vec<Ring>) {
        let chip = |chip: u8| {
            let (producer, consumer) = ring(RING_SWEEPS);
            let lane = LaneInput { lane: LANE_CHIPS + chip, columns: COLUMNS, ring: consumer };
            (lane, Ring::new(producer))
        };
        (0..self.make.chips).map(chip).unzip()
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
        let (trials, boots) = (self.make.trials, self.boots);
        let (lanes, rings) = self.chips();
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
        let plan = plan(trials, dice);
        let (campaign, effects) =
            Campaign::begin(plan.clone(), crate::method(), StartPoint::default(), now);
        let streams = (epoch, agent.ordinal);
        let writer = Writer::new(log, now);
        let mut recording =
            Recording::new((run, id), streams, lanes, writer, rings, Some(campaign), now);
        agent.ordinal += 1;
        trace!("run {run} begins");
        recording.record(&run_start(), ledger);
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
    /// The run goes on.
    pub(crate) fn records(&self, run: usize) -> bool {
        self.current.as_ref().is_some_and(|current| current.run == run)
    }

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
            Wanted::Know(_) => {}
            Wanted::Acknowledge(have) => {
                // An acknowledgement of a run that was removed meanwhile is nothing new.
                let _ = self.spool.ack(&have.run, &have.have);
            }
        }
    }
}

/// The number in a run's name.
pub(crate) fn number_of(id: &RunId) -> Option<usize> {
    id.as_str().strip_prefix("night-")?.parse().ok()
}
