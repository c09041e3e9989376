//! A run that is recorded: desk, writer and campaign, driven in turn.
//!
//! Owns what the threads of a recorder do in the product, one step after another,
//! and the account of the sweeps that a sampler offered. Judges nothing.

use std::collections::VecDeque;

use wattline_agent::campaign::state::{Campaign, Effect, Event};
use wattline_agent::power::ring::{Sweep, SweepProducer};
use wattline_agent::recorder::desk::Desk;
use wattline_agent::recorder::writer::{Synced, Writer};
use wattline_agent::recorder::{LANE_CHIPS, LaneInput};
use wattline_protocol::record::{
    BoardState, ClockSnapshot, Gap, Record, RunId, RunOutcome, WindowClose,
};
use wattline_protocol::units::BoardTime;

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::runner::Runner;
use crate::trace;

/// Codes of a sweep: two rails.
pub(crate) const COLUMNS: usize = 4;
/// What befalls a reading now and then, in all slots: no new conversion, periods
/// that were skipped, no answer, a bus that fails.
const STATUSES: [u32; 4] = [0x1111, 0x2222, 0x3333, 0x5555];

/// A run that is recorded.
pub(crate) struct Recording {
    pub(crate) run: usize,
    pub(crate) id: RunId,
    desk: Desk,
    writer: Writer,
    rings: Vec<Ring>,
    /// Frames between the recorder's thread and the writer's.
    parcels: VecDeque<Vec<u8>>,
    /// What the writer has to say, on its way back.
    pub(crate) tells: VecDeque<Record>,
    campaign: Option<Campaign>,
    runner: Runner,
    pub(crate) over: Option<RunOutcome>,
    /// Whether the disk took all that was due at the last sync.
    synced: bool,
    /// When that was.
    synced_at: BoardTime,
    /// Epoch and ordinal of its streams.
    epoch: u32,
    ordinal: u32,
}

/// The sampler's end of a chip's ring, with the account of what it offered.
pub(crate) struct Ring {
    producer: SweepProducer,
    /// Sweeps offered, and of them those up to the last that the ring took: the
    /// next one that it takes tells of the others.
    offered: u64,
    told: u64,
}

impl Ring {
    pub(crate) fn new(producer: SweepProducer) -> Self {
        Self { producer, offered: 0, told: 0 }
    }

    fn push(&mut self, sweep: Sweep) {
        self.offered += 1;
        if self.producer.push(sweep) {
            self.told = self.offered;
        }
    }
}

impl Recording {
    /// A recording by this desk into this log; without a campaign it is there to
    /// be closed.
    pub(crate) fn new(
        (run, id): (usize, RunId),
        (epoch, ordinal): (u32, u32),
        lanes: Vec<LaneInput>,
        writer: Writer,
        rings: Vec<Ring>,
        campaign: Option<Campaign>,
        now: BoardTime,
    ) -> Self {
        Self {
            run,
            id,
            epoch,
            ordinal,
            desk: Desk::new(epoch, ordinal, lanes, now),
            writer,
            rings,
            parcels: VecDeque::new(),
            tells: VecDeque::new(),
            campaign,
            runner: Runner::default(),
            over: None,
            synced: true,
            synced_at: now,
        }
    }

    pub(crate) fn record(&mut self, record: &Record, ledger: &mut Ledger) {
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
            ledger.taken(&bytes, now);
            let gaps = self.writer.frame(&bytes, now);
            self.tells.extend(self.writer.take_notes());
            self.dropped(gaps, ledger);
        }
    }

    fn dropped(&mut self, gaps: Vec<Gap>, ledger: &mut Ledger) {
        ledger.dropped(self.run, &gaps, self.synced_at);
        for gap in gaps {
            trace!("dropped by policy: {gap:?}");
            self.tells.push_back(gap.into());
        }
    }

    fn sync(&mut self, now: BoardTime, ledger: &mut Ledger) -> bool {
        self.synced_at = now;
        let synced = self.writer.sync(now);
        self.tells.extend(self.writer.take_notes());
        self.told(synced, ledger)
    }

    /// What a sync has to say; true where all that was due is durable.
    fn told(&mut self, synced: Synced, ledger: &mut Ledger) -> bool {
        self.dropped(synced.gaps, ledger);
        self.tells.extend(synced.notice.map(Record::from));
        ledger.promised(self.run, synced.durable, &self.writer.durable_ends());
        self.synced = synced.durable;
        synced.durable
    }

    /// All that was recorded so far goes to the disk; true where it is durable.
    pub(crate) fn settle(&mut self, now: BoardTime, ledger: &mut Ledger) -> bool {
        self.write(usize::MAX, now, ledger);
        self.sync(now, ledger)
    }

    fn tell(&mut self, ledger: &mut Ledger) {
        while let Some(record) = self.tells.pop_front() {
            self.record(&record, ledger);
        }
    }

    pub(crate) fn step(
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
        let due = self.writer.is_sync_due(now);
        if !due && self.synced {
            ledger.no_sync_is_due(self.run, now);
        }
        if due && !(lazy && dice.chance(300)) {
            self.sync(now, ledger);
        }
    }

    /// The chips' sweeps since the last step; a burst overflows the ring.
    fn sample(&mut self, now: BoardTime, dice: &mut Dice) {
        for ring in &mut self.rings {
            let count = if dice.chance(15) { 130 } else { dice.between(0, 24) };
            for back in (0..count).rev() {
                let mut sweep = Sweep {
                    end: BoardTime(now.0.saturating_sub(back * 840_000)),
                    columns: 4,
                    status: if dice.chance(4) { *dice.pick(&STATUSES).unwrap_or(&0) } else { 0 },
                    ..Sweep::default()
                };
                let noise = i32::try_from(dice.below(9)).unwrap_or(0);
                for (code, level) in sweep.codes.iter_mut().zip([120, 5000, 60, 4990]) {
                    *code = if sweep.status == 0 { level + noise } else { 0 };
                }
                ring.push(sweep);
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

    pub(crate) fn perform(
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
    pub(crate) fn finish(
        &mut self,
        outcome: RunOutcome,
        snapshot: ClockSnapshot,
        ledger: &mut Ledger,
    ) {
        let now = snapshot.monotonic;
        self.drain(now, true, ledger);
        self.settle(now, ledger);
        self.tell(ledger);
        self.record(&snapshot.into(), ledger);
        let end = self.desk.end(now, outcome);
        self.record(&end.into(), ledger);
        if self.settle(now, ledger) {
            ledger.ended(self.run);
        }
        let closed = self.writer.close(now);
        self.told(closed, ledger);
        for (ring, lane) in self.rings.iter().zip(LANE_CHIPS..) {
            ledger.swept(self.run, (self.epoch, self.ordinal, lane), ring.told);
        }
        if !self.tells.is_empty() {
            ledger.unsaid(self.run);
        }
        self.over = Some(outcome);
    }
}
