//! From a finished frame to disk, to the tee and to live listeners.
//!
//! Owns the thread that writes the spool, so that a slow card delays neither
//! sampler nor recorder. Decides nothing: [`super::writer`] does.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tracing::warn;
use wattline_protocol::record::Record;

use super::Recorder;
use super::writer::{Synced, Writer};
use crate::clock::{Clock, SystemClock};
use crate::spool::RunLog;

/// Wait for a frame at most this long, then see whether a sync is due.
const WAIT: Duration = Duration::from_millis(200);
/// Parcels that are taken before it is looked at whether a sync is due: more than
/// the fastest board makes in a minute.
const PARCELS_A_TURN_MAX: usize = 4_096;
/// Frames that a slow live listener may lag behind before it misses some:
/// half a minute of two streams at 16 frames a second.
pub const LIVE_BACKLOG: usize = 1024;

enum Parcel {
    Frame(Vec<u8>),
    Sync(Sender<bool>),
    /// The run is about to end; answered when what that takes is told.
    BeforeEnd(Sender<bool>),
    ReportTo(Recorder),
    /// Called once where there is no room left and the policy is to end the run.
    WhenFull(Box<dyn FnOnce() + Send>),
}

/// Takes finished frames. The thread behind it ends when this is dropped.
#[derive(Debug)]
pub struct Outlet {
    parcels: Sender<Parcel>,
}

/// What others may listen to while frames are written.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Counts up when something more is to be read from the log.
    pub grown: watch::Receiver<u64>,
    /// Every frame as recorded.
    pub live: broadcast::Sender<Arc<[u8]>>,
}

impl Outlet {
    /// Starts writing into `log`, and into `tee` where there is one.
    #[must_use]
    pub fn start(log: RunLog, tee: Option<File>) -> (Self, Listening, JoinHandle<()>) {
        let (parcels, queue) = channel();
        let (grow, grown) = watch::channel(0);
        let (live, _) = broadcast::channel(LIVE_BACKLOG);
        let listening = Listening { grown, live: live.clone() };
        let writer = Writer::new(log, SystemClock.now());
        let thread = Thread { writer, tee, grow, live, report: None, end: None };
        let thread = thread::spawn(move || thread.work(&queue));
        (Self { parcels }, listening, thread)
    }

    /// Takes one frame.
    pub fn frame(&self, bytes: Vec<u8>) {
        let _ = self.parcels.send(Parcel::Frame(bytes));
    }

    /// Syncs and says whether all frames so far are durable.
    pub fn sync(&self, reply: Sender<bool>) {
        let _ = self.parcels.send(Parcel::Sync(reply));
    }

    /// As [`Outlet::sync`], with what is to be recorded before the run's end.
    pub(super) fn before_end(&self, reply: Sender<bool>) {
        let _ = self.parcels.send(Parcel::BeforeEnd(reply));
    }

    /// Calls `end` once where there is no room left and the policy is to end the
    /// run.
    pub(super) fn when_full(&self, end: Box<dyn FnOnce() + Send>) {
        let _ = self.parcels.send(Parcel::WhenFull(end));
    }

    /// Notices and gaps of the disk are recorded there.
    pub(super) fn report_to(&self, recorder: Recorder) {
        let _ = self.parcels.send(Parcel::ReportTo(recorder));
    }
}

struct Thread {
    writer: Writer,
    tee: Option<File>,
    grow: watch::Sender<u64>,
    live: broadcast::Sender<Arc<[u8]>>,
    report: Option<Recorder>,
    end: Option<Box<dyn FnOnce() + Send>>,
}

impl Thread {
    fn work(mut self, queue: &Receiver<Parcel>) {
        loop {
            match queue.recv_timeout(WAIT) {
                // All that waits, then one sync for it: a card whose sync takes longer
                // than the time between two would else take one frame a sync.
                Ok(parcel) => {
                    self.take(parcel);
                    queue.try_iter().take(PARCELS_A_TURN_MAX).for_each(|parcel| self.take(parcel));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let synced = self.writer.close(SystemClock.now());
                    self.told(synced);
                    return;
                }
            }
            if self.writer.is_sync_due(SystemClock.now()) {
                let synced = self.writer.sync(SystemClock.now());
                self.told(synced);
            }
        }
    }

    fn take(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Frame(bytes) => self.frame(&bytes),
            Parcel::Sync(reply) => {
                let synced = self.writer.sync(SystemClock.now());
                let _ = reply.send(self.told(synced));
            }
            Parcel::BeforeEnd(reply) => {
                let gaps = self.writer.give_samples_up();
                self.tell_notes();
                for gap in gaps {
                    self.tell(gap);
                }
                let synced = self.writer.sync(SystemClock.now());
                let _ = reply.send(self.told(synced));
            }
            Parcel::ReportTo(recorder) => self.report = Some(recorder),
            Parcel::WhenFull(end) => self.end = Some(end),
        }
    }

    fn frame(&mut self, bytes: &[u8]) {
        if let Some(tee) = &mut self.tee
            && let Err(error) = tee.write_all(bytes)
        {
            warn!(%error, "The tee takes no more frames; recording goes on without it.");
            self.tee = None;
        }
        let gaps = self.writer.frame(bytes, SystemClock.now());
        self.tell_notes();
        for gap in gaps {
            self.tell(gap);
        }
        // Nobody listening is no fault.
        let _ = self.live.send(Arc::from(bytes));
        self.grow.send_modify(|count| *count += 1);
    }

    /// Records what a sync has to say; true where frames are durable.
    fn told(&mut self, synced: Synced) -> bool {
        self.tell_notes();
        if self.writer.must_end()
            && let Some(end) = self.end.take()
        {
            end();
        }
        for gap in synced.gaps {
            self.tell(gap);
        }
        if let Some(notice) = synced.notice {
            self.tell(notice);
        }
        self.grow.send_modify(|count| *count += 1);
        synced.durable
    }

    /// Aggregates come before the gaps that they stand for.
    fn tell_notes(&mut self) {
        for note in self.writer.take_notes() {
            self.tell(note);
        }
    }

    fn tell(&self, record: impl Into<Record>) {
        if let Some(recorder) = &self.report {
            recorder.record(record);
        }
    }
}
