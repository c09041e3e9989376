//! The recorder: the only giver of identities.
//!
//! Owns the thread that numbers records and fills sample blocks ([`desk`]).
//! What it makes is a finished frame; [`outlet`] takes it from there to disk
//! and readers.
//! Everything ends in a record; a record's identity never changes again.

pub mod desk;
mod episodes;
mod held;
mod lanes;
pub mod outlet;
#[cfg(test)]
mod tests;
mod thinning;
pub mod writer;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wattline_protocol::record::{Record, RunOutcome, SamplerReport};
use wattline_protocol::units::BoardTime;

use crate::clock::{self, Clock, SystemClock};
use desk::Desk;
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

/// Number of a stream: the run's ordinal in the epoch and the lane.
#[must_use]
pub const fn stream_of(run_ordinal: u32, lane: u8) -> u32 {
    run_ordinal.wrapping_mul(256).wrapping_add(lane as u32)
}

enum Order {
    Record(Box<Record>),
    Durable(Box<Record>, Sender<bool>),
    Finish(RunOutcome, Vec<SamplerReport>, Sender<()>),
    WhenFull(Box<dyn FnOnce() + Send>),
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
        let thread = thread::spawn(move || Thread::new(start).work(&queue));
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

    /// Calls `end` once where the spool has no room left and its policy is to end
    /// the run.
    pub fn when_full(&self, end: Box<dyn FnOnce() + Send>) {
        let _ = self.orders.send(Order::WhenFull(end));
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

/// The recorder's thread.
struct Thread {
    desk: Desk,
    outlet: Outlet,
}

impl Thread {
    fn new(start: RecorderStart) -> Self {
        let RecorderStart { epoch, run_ordinal, lanes, outlet, first } = start;
        let desk = Desk::new(epoch, run_ordinal, lanes, SystemClock.now());
        let mut thread = Self { desk, outlet };
        for record in first {
            thread.record(&record);
        }
        thread
    }

    fn work(mut self, queue: &Receiver<Order>) {
        loop {
            match queue.recv_timeout(DRAIN_EVERY) {
                Ok(Order::Record(record)) => self.record(&record),
                Ok(Order::Durable(record, reply)) => {
                    self.record(&record);
                    self.outlet.sync(reply);
                }
                Ok(Order::Finish(outcome, reports, reply)) => {
                    self.finish(outcome, reports, queue);
                    let _ = reply.send(());
                    return;
                }
                Ok(Order::WhenFull(end)) => self.outlet.when_full(end),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = SystemClock.now();
            self.drain(now, false);
            if self.desk.is_snapshot_due(now)
                && let Some(snapshot) = clock::tight_snapshot()
            {
                self.record(&snapshot.into());
            }
        }
    }

    fn record(&mut self, record: &Record) {
        self.desk.record(record, &mut |bytes| self.outlet.frame(bytes));
    }

    fn drain(&mut self, now: BoardTime, all: bool) {
        self.desk.drain(now, all, &mut |bytes| self.outlet.frame(bytes));
    }

    fn finish(
        &mut self,
        outcome: RunOutcome,
        reports: Vec<SamplerReport>,
        queue: &Receiver<Order>,
    ) {
        self.drain(SystemClock.now(), true);
        // What others recorded just before the end still belongs to the run,
        // and so does what the disk has to say of the frames so far.
        let (reply, done) = channel();
        self.outlet.before_end(reply);
        let _ = done.recv();
        while let Ok(order) = queue.try_recv() {
            match order {
                Order::Record(record) => self.record(&record),
                Order::Durable(record, reply) => {
                    self.record(&record);
                    self.outlet.sync(reply);
                }
                Order::Finish(_, _, reply) => {
                    let _ = reply.send(());
                }
                // It ends already.
                Order::WhenFull(_) => {}
            }
        }
        self.record(&clock::snapshot().into());
        for report in reports {
            self.record(&report.into());
        }
        let end = self.desk.end(SystemClock.now(), outcome);
        self.record(&end.into());
        self.sync();
    }

    /// Waits until everything is on disk, or in memory where the disk refuses.
    fn sync(&self) {
        let (reply, done) = channel();
        self.outlet.sync(reply);
        let _ = done.recv();
    }
}
