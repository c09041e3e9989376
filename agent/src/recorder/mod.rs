//! The recorder: the only giver of identities.
//!
//! Owns the sequence numbers of a run's streams in this epoch, the sample
//! blocks that are being filled, and the thread that does both. What it makes
//! is a finished frame; [`outlet`] takes it from there to disk and readers.
//! Everything ends in a record; a record's identity never changes again.

mod lanes;
pub mod outlet;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::error;
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::record::{Record, RunEnd, RunOutcome, SamplerReport, StreamEnd};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::clock::{self, Clock, SystemClock};
use lanes::SampleLane;
use outlet::Outlet;

pub use lanes::LaneInput;

/// Lane of structured records.
pub const LANE_CONTROL: u8 = 0;
/// Lane of inference and layer spans.
pub const LANE_SPANS: u8 = 1;
/// Lane of the first chip; the next ones follow.
pub const LANE_CHIPS: u8 = 16;

/// The rings are emptied this often: far below the time they hold.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// Four clocks are recorded together this often.
const SNAPSHOT_EVERY: Nanos = Nanos::from_secs(1);

/// Number of a stream: the run's ordinal in the epoch and the lane.
#[must_use]
pub const fn stream_of(run_ordinal: u32, lane: u8) -> u32 {
    run_ordinal.wrapping_mul(256).wrapping_add(lane as u32)
}

enum Order {
    Record(Box<Record>),
    Durable(Box<Record>, Sender<bool>),
    Finish(RunOutcome, Vec<SamplerReport>, Sender<()>),
}

/// A handle to the recorder of one run; clones record into the same streams.
#[derive(Debug, Clone)]
pub struct Recorder {
    orders: Sender<Order>,
}

/// What a recorder needs to begin.
#[derive(Debug)]
pub struct RecorderStart {
    /// The agent's epoch.
    pub epoch: u32,
    /// The run's ordinal in the epoch.
    pub run_ordinal: u32,
    /// Rings of the sampled chips.
    pub lanes: Vec<LaneInput>,
    /// Where finished frames go.
    pub outlet: Outlet,
    /// First records, before any sample.
    pub first: Vec<Record>,
}

impl Recorder {
    /// Starts the recorder's thread.
    #[must_use]
    pub fn start(start: RecorderStart) -> (Self, JoinHandle<()>) {
        let (orders, queue) = channel();
        let recorder = Self { orders };
        start.outlet.report_to(recorder.clone());
        let thread = thread::spawn(move || Desk::new(start).work(&queue));
        (recorder, thread)
    }

    /// Records; the record is on disk within a second.
    pub fn record(&self, record: impl Into<Record>) {
        // The recorder outlives every handle but after Finish, when nothing of the run follows.
        let _ = self.orders.send(Order::Record(Box::new(record.into())));
    }

    /// Records and waits until it is durable. False where the disk refuses:
    /// the record waits in memory then.
    #[must_use]
    pub fn record_durable(&self, record: impl Into<Record>) -> bool {
        let (reply, done) = channel();
        let sent = self.orders.send(Order::Durable(Box::new(record.into()), reply));
        sent.is_ok() && done.recv().unwrap_or(false)
    }

    /// Records the end of the run and waits until everything is on disk, or in
    /// memory where the disk refuses.
    pub fn finish(&self, outcome: RunOutcome, reports: Vec<SamplerReport>) {
        let (reply, done) = channel();
        if self.orders.send(Order::Finish(outcome, reports, reply)).is_ok() {
            let _ = done.recv();
        }
    }
}

/// The recorder's own state, on its thread.
struct Desk {
    epoch: u32,
    run_ordinal: u32,
    next: [u64; 2],
    lanes: Vec<SampleLane>,
    outlet: Outlet,
    last_snapshot: BoardTime,
    payload: Vec<u8>,
}

impl Desk {
    fn new(start: RecorderStart) -> Self {
        let RecorderStart { epoch, run_ordinal, lanes, outlet, first } = start;
        let mut desk = Self {
            epoch,
            run_ordinal,
            next: [0; 2],
            lanes: lanes.into_iter().map(SampleLane::new).collect(),
            outlet,
            last_snapshot: SystemClock.now(),
            payload: Vec::new(),
        };
        for record in first {
            desk.structured(&record);
        }
        desk
    }

    fn work(mut self, queue: &Receiver<Order>) {
        loop {
            match queue.recv_timeout(DRAIN_EVERY) {
                Ok(Order::Record(record)) => self.structured(&record),
                Ok(Order::Durable(record, reply)) => {
                    self.structured(&record);
                    self.outlet.sync(reply);
                }
                Ok(Order::Finish(outcome, reports, reply)) => {
                    self.finish(outcome, reports, queue);
                    let _ = reply.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = SystemClock.now();
            self.drain(now, false);
            if now - self.last_snapshot >= SNAPSHOT_EVERY {
                self.last_snapshot = now;
                self.structured(&clock::snapshot().into());
            }
        }
    }

    /// Takes what the rings hold; whole blocks, and old ones, become frames.
    fn drain(&mut self, now: BoardTime, all: bool) {
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in &mut lanes {
            let identity = Identity {
                epoch: self.epoch,
                stream: stream_of(self.run_ordinal, lane.lane()),
                sequence: 0,
            };
            lane.drain(now, all, identity, &mut |bytes| self.outlet.frame(bytes));
            for record in lane.take_notes() {
                self.structured(&record);
            }
        }
        self.lanes = lanes;
    }

    fn structured(&mut self, record: &Record) {
        let lane = lane_of(record);
        self.payload.clear();
        if let Err(error) = record.encode(&mut self.payload) {
            error!(%error, "A record is too large for a frame and is lost.");
            return;
        }
        let slot = usize::from(lane.min(LANE_SPANS));
        let sequence = self.next.get(slot).copied().unwrap_or(0);
        let header = Header {
            kind: record.kind(),
            length: 0,
            codec: Codec::Postcard.id(),
            flags: 0,
            count: 1,
            identity: Identity {
                epoch: self.epoch,
                stream: stream_of(self.run_ordinal, lane),
                sequence,
            },
        };
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + self.payload.len() + 4);
        if let Err(error) = frame::encode(header, &self.payload, &mut bytes) {
            error!(%error, "A record is too large for a frame and is lost.");
            return;
        }
        if let Some(next) = self.next.get_mut(slot) {
            *next += 1;
        }
        self.outlet.frame(bytes);
    }

    fn finish(
        &mut self,
        outcome: RunOutcome,
        reports: Vec<SamplerReport>,
        queue: &Receiver<Order>,
    ) {
        let now = SystemClock.now();
        self.drain(now, true);
        // What others recorded just before the end still belongs to the run.
        while let Ok(order) = queue.try_recv() {
            match order {
                Order::Record(record) => self.structured(&record),
                Order::Durable(record, reply) => {
                    self.structured(&record);
                    self.outlet.sync(reply);
                }
                Order::Finish(_, _, reply) => {
                    let _ = reply.send(());
                }
            }
        }
        self.structured(&clock::snapshot().into());
        for report in reports {
            self.structured(&report.into());
        }
        let end = RunEnd { at: SystemClock.now(), outcome, streams: self.ends() };
        self.structured(&end.into());
        let (reply, done) = channel();
        self.outlet.sync(reply);
        let _ = done.recv();
    }

    /// Ends of all streams but that of structured records, which ends with
    /// the record that holds this.
    fn ends(&self) -> Vec<StreamEnd> {
        let end = |lane: u8, next: u64| StreamEnd {
            epoch: self.epoch,
            stream: stream_of(self.run_ordinal, lane),
            next,
        };
        let spans = self.next.get(usize::from(LANE_SPANS)).copied().unwrap_or(0);
        let mut ends = vec![end(LANE_SPANS, spans)];
        ends.extend(self.lanes.iter().map(|lane| end(lane.lane(), lane.next_sequence())));
        ends.retain(|end| end.next > 0);
        ends
    }
}

fn lane_of(record: &Record) -> u8 {
    match record {
        Record::InferenceSpans(_) | Record::LayerSpans(_) => LANE_SPANS,
        _ => LANE_CONTROL,
    }
}
