//! Writing a run's log.
//!
//! Owns the open segment and the rule that a promise follows a sync. After
//! any error of a write or a sync the segment is closed for good and what was
//! not durable is written again, from memory, into a new one: a kernel that
//! failed to write a page may call the next sync of the same file a success.

use std::io;
use std::sync::{Arc, MutexGuard};

use tracing::{info, warn};
use wattline_protocol::frame::{self, Header};
use wattline_protocol::planted;
use wattline_protocol::presence::{SpoolStanding, WhenFull};
use wattline_protocol::record::{Gap, RunId, StreamEnd, kind};
use wattline_protocol::units::BoardTime;

use super::cursor::LogReader;
use super::held::{Due, Samples};
use super::log::{Dropped, Log, LogState, Progress, Segment, SpooledFrame};
use super::room::Allowed;
use super::segment::{Head, as_u64, segment_name};
use super::storage::{AppendFile, Operation, StorageError};
use super::{Spool, SpoolError};

/// Segments that one sync opens because the one before failed. A disk that
/// fails twice in a row is asked again at the next sync.
const ATTEMPTS_PER_SYNC_MAX: u32 = 2;
/// What is dropped at once of held samples, as a share of the bound: so that one
/// gap record stands for minutes.
const DROPPED_PART: usize = 4;

/// Writes one run's log. There is one for a run at a time.
#[derive(Debug)]
pub struct RunLog {
    /// Its other runs may go for the room that this one needs.
    spool: Spool,
    log: Arc<Log>,
    open: Option<Open>,
    next_ordinal: u64,
    /// Place of the first frame that is not in the open segment.
    unwritten: u64,
    /// The disk refused, and the log was told of it.
    stalled: bool,
    /// What there is room for, as last looked at.
    allowed: Allowed,
    /// Samples that went, whose aggregates are not yet made.
    dropped: Vec<SpooledFrame>,
}

/// A segment that is written.
#[derive(Debug)]
struct Open {
    file: Box<dyn AppendFile>,
    segment: Segment,
    /// Bytes written, durable or not.
    written: u64,
    /// Its name is durable.
    is_named: bool,
}

impl RunLog {
    pub(super) fn new(spool: Spool, log: Arc<Log>, next_ordinal: u64) -> Self {
        let unwritten = log.state().first_pending();
        let (stalled, allowed, dropped) = (false, Allowed::All, Vec::new());
        Self { spool, log, open: None, next_ordinal, unwritten, stalled, allowed, dropped }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.log.run
    }

    /// A reader of this log, for any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader { log: Arc::clone(&self.log) }
    }

    /// Frames appended and frames durable.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.log.state().progress()
    }

    /// Ends of the streams as the disk has them: what may be promised.
    #[must_use]
    pub fn durable_ends(&self) -> Vec<StreamEnd> {
        self.log.state().durable.to_streams()
    }

    /// Bytes of frames that are in memory alone, of [`Limits::pending_bytes`](super::Limits).
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.log.state().pending_bytes
    }

    /// Takes one frame, exactly as recorded, behind all held ones of its stream
    /// that no host has; behind those of all streams where it is the run's end.
    /// A refusing disk is no error
    /// here: the frame waits in memory, and [`RunLog::sync`] says so. Returns
    /// what had to be dropped for it once as many wait as may; the
    /// caller records it. Waits for the disk only where a segment is full.
    ///
    /// # Errors
    /// [`SpoolError::NotAFrame`] and [`SpoolError::OutOfOrder`], which only
    /// our own bug can cause; [`SpoolError::Removed`] once the run is removed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<Vec<Gap>, SpoolError> {
        let (frame, mut state) = self.take(bytes)?;
        let Header { kind, identity, .. } = frame.header;
        let due = match kind {
            kind::RUN_END if !planted!("the end of a run overtakes what is held") => Due::All,
            _ => Due::Stream { epoch: identity.epoch, stream: identity.stream },
        };
        // The end says of all that did not come that it is lost: nothing is kept from it.
        let samples = if kind == kind::RUN_END { Samples::Due } else { self.samples() };
        if !planted!("a frame overtakes what is held of its stream") {
            state.release(due, samples);
        }
        state.push(frame);
        drop(state);
        Ok(self.write())
    }

    /// Takes one frame into memory alone: a host is expected to hold it before
    /// it is due ([`RunLog::release`]). Where too many are held, those that no
    /// host has go the way of [`RunLog::append`], and samples for which the disk
    /// has no room are dropped.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub fn hold(&mut self, bytes: &[u8], now: BoardTime) -> Result<Vec<Gap>, SpoolError> {
        let bytes_max = self.log.limits.held_bytes;
        let (frame, mut state) = self.take(bytes)?;
        if state.hold(&frame, now) {
            return Ok(Vec::new());
        }
        state.release(Due::All, self.samples());
        let mut dropped = Dropped::default();
        if !state.hold(&frame, now) {
            let is_kept = self.is_thinning() && frame.header.kind == kind::SAMPLE_BLOCK;
            if is_kept {
                dropped = state.drop_samples(bytes_max - bytes_max / DROPPED_PART);
            }
            if !is_kept {
                state.push(frame);
            } else if !state.hold(&frame, now) {
                state.drop_now(&frame, &mut dropped);
            }
        }
        drop(state);
        let mut gaps = self.gone(dropped);
        gaps.extend(self.write());
        Ok(gaps)
    }

    /// Drops all samples that are kept in memory because the disk has no room for
    /// them: the run is about to end. Their aggregates come out of
    /// [`RunLog::take_dropped`].
    pub fn give_samples_up(&mut self) -> Vec<Gap> {
        if self.is_thinning() { self.drop_samples(0) } else { Vec::new() }
    }

    /// Samples that were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> Vec<SpooledFrame> {
        std::mem::take(&mut self.dropped)
    }

    /// True while there is no room for samples on the disk and the policy is to
    /// let them go.
    #[must_use]
    pub fn is_thinning(&self) -> bool {
        self.allowed < Allowed::All && self.log.room.when_full() == WhenFull::Drop
    }

    /// True where there is no room left and the policy is to end the run: what is
    /// left is for its end.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.allowed < Allowed::All && self.log.room.when_full() == WhenFull::Stop
    }

    /// How full the spool is.
    #[must_use]
    pub fn standing(&self) -> SpoolStanding {
        self.log.room.standing()
    }

    fn samples(&self) -> Samples {
        if self.is_thinning() { Samples::Kept } else { Samples::Due }
    }

    fn drop_samples(&mut self, bytes_max: usize) -> Vec<Gap> {
        let dropped = self.log.state().drop_samples(bytes_max);
        self.gone(dropped)
    }

    fn gone(&mut self, dropped: Dropped) -> Vec<Gap> {
        let Dropped { gaps, samples } = dropped;
        self.dropped.extend(samples);
        if !gaps.is_empty() {
            warn!(run = %self.log.run, gaps = gaps.len(), "Frames dropped for want of room.");
        }
        gaps
    }

    /// Looks at the room, for which runs that a host holds whole go first.
    fn look_at_room(&mut self) {
        let before = self.allowed;
        self.allowed = self.log.room.allowed();
        if self.allowed < Allowed::All {
            // What cannot be made is seen below.
            let _ = self.spool.make_room(self.log.limits.segment_bytes);
            self.allowed = self.log.room.allowed();
        }
        if self.allowed == before {
            return;
        }
        match self.allowed {
            Allowed::All => {
                info!(run = %self.log.run, "There is room on the disk again.");
                // They wait in the order of the log from now on.
                self.log.state().release(Due::All, Samples::Due);
            }
            Allowed::Rest | Allowed::Nothing => {
                let standing = self.log.room.standing();
                warn!(run = %self.log.run, ?standing, "There is no room for samples on the disk.");
            }
        }
    }

    /// Lets the held frames that are due, and that no host has acknowledged, be
    /// written as if they had been appended now.
    pub fn release(&mut self, due: Due) -> Vec<Gap> {
        let samples = self.samples();
        self.log.state().release(due, samples);
        self.write()
    }

    /// Since when the oldest frame is held that no host has acknowledged.
    #[must_use]
    pub fn held_since(&self) -> Option<BoardTime> {
        let mut state = self.log.state();
        let LogState { held, acked, .. } = &mut *state;
        held.oldest(self.samples(), acked)
    }

    /// Acknowledgements so far that said something new.
    #[must_use]
    pub fn acks(&self) -> u64 {
        self.log.state().acks
    }

    /// Writes what waits for the disk; returns what had to be dropped.
    fn write(&mut self) -> Vec<Gap> {
        if !self.stalled {
            let written = self.write_pending();
            if let Err(error) = written.and_then(|()| self.sync_full_segment()) {
                // The next sync tries again, and tells the caller.
                self.fail(&error);
                self.stalled = true;
            }
        }
        if self.pending_bytes() <= self.log.limits.pending_bytes {
            return Vec::new();
        }
        // The last attempt before anything is dropped.
        match self.sync() {
            Ok(()) => Vec::new(),
            Err(_) => self.drop_over_bound(),
        }
    }

    /// Makes all frames durable that are not held. On an error they stay in memory and are
    /// tried again at the next call.
    ///
    /// # Errors
    /// [`SpoolError::DiskFull`] where there is no space,
    /// [`SpoolError::Storage`] where the disk fails otherwise.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.look_at_room();
        let mut attempts = 0;
        loop {
            match self.sync_once() {
                Ok(()) => {
                    if self.stalled {
                        self.stalled = false;
                        info!(run = %self.log.run, "The spool's disk takes frames again.");
                    }
                    return Ok(());
                }
                Err(error) => {
                    attempts += 1;
                    let full = error.is_full();
                    self.fail(&error);
                    if full || attempts >= ATTEMPTS_PER_SYNC_MAX {
                        self.stalled = true;
                        return Err(SpoolError::from(error));
                    }
                }
            }
        }
    }

    /// The frame, and the state that may take it.
    fn take(&self, bytes: &[u8]) -> Result<(SpooledFrame, MutexGuard<'_, LogState>), SpoolError> {
        let frame = frame::decode(bytes).map_err(|source| SpoolError::NotAFrame { source })?;
        let (header, identity) = (frame.header, frame.header.identity);
        let state = self.log.state();
        if state.removed {
            return Err(SpoolError::Removed { run: self.log.run.clone() });
        }
        let next = state.appended.next(identity);
        if identity.sequence < next {
            return Err(SpoolError::OutOfOrder { identity, next });
        }
        Ok((SpooledFrame { header, bytes: frame.bytes.into() }, state))
    }

    fn drop_over_bound(&mut self) -> Vec<Gap> {
        // After a failed sync no segment is open: what is dropped here is in
        // no file that will be synced.
        let dropped = self.log.state().drop_over_bound(self.log.limits.pending_bytes);
        self.gone(dropped)
    }

    fn sync_once(&mut self) -> Result<(), StorageError> {
        loop {
            self.write_pending()?;
            self.sync_open()?;
            if self.log.state().all_durable() {
                return Ok(());
            }
        }
    }

    fn sync_full_segment(&mut self) -> Result<(), StorageError> {
        match &self.open {
            Some(open) if open.written >= self.log.limits.segment_bytes => self.sync_open(),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes what is only in memory, until the segment is full.
    fn write_pending(&mut self) -> Result<(), StorageError> {
        loop {
            let pending = self.log.state().pending_from(self.unwritten);
            let Some((place, bytes)) = pending else {
                return Ok(());
            };
            if self.allowed == Allowed::Nothing {
                // What is written is kept; what is not waits in memory.
                self.sync_open()?;
                let source = io::Error::from(io::ErrorKind::QuotaExceeded);
                return Err(StorageError::new(Operation::Append, &self.log.folder, source));
            }
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(Self::open(&self.log, &mut self.next_ordinal)?),
            };
            // Each takes one frame at least: the head of a run that was taken up often
            // may be as long as a small segment.
            let has_frames = open.written > open.segment.head_bytes;
            if has_frames && open.written >= self.log.limits.segment_bytes {
                return Ok(());
            }
            open.append(&self.log, &bytes)?;
            self.unwritten = place + 1;
        }
    }

    fn open(log: &Log, next_ordinal: &mut u64) -> Result<Open, StorageError> {
        let mut before = log.state().durable.clone();
        if planted!("a head counts what is not durable") {
            before.clone_from(&log.state().appended);
        }
        let ordinal = *next_ordinal;
        // Taken even where the attempt fails: half of it may be on the disk.
        *next_ordinal += 1;
        let name = segment_name(&log.folder, ordinal);
        let head = Head { ordinal, run: log.run.clone(), before };
        let bytes = head.encode();
        let head_bytes = as_u64(bytes.len());
        let file = log
            .storage
            .create(&name)
            .map_err(|source| StorageError::new(Operation::Create, &name, source))?;
        let before = Some(Arc::new(head.before));
        let segment = Segment { ordinal, head_bytes, end: head_bytes, before };
        let mut open = Open { file, segment, written: 0, is_named: false };
        if let Err(error) = open.append(log, &bytes) {
            open.abandon(log, error.is_full());
            return Err(error);
        }
        Ok(open)
    }

    /// Makes the open segment durable and tells the readers.
    fn sync_open(&mut self) -> Result<(), StorageError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let written = open.written;
        if open.segment.end == written {
            return Ok(());
        }
        let name = segment_name(&self.log.folder, open.segment.ordinal);
        let failed = |source| StorageError::new(Operation::Sync, &name, source);
        if !planted!("a segment is not synced") {
            open.file.sync().map_err(failed)?;
        }
        if !open.is_named && !planted!("a folder is not synced") {
            let named = self.log.storage.sync_folder(&self.log.folder).map_err(failed);
            open.is_named = named.is_ok() || planted!("a folder counts as synced that is not");
            if !open.is_named {
                return named;
            }
        }
        open.segment.end = written;
        self.log.state().made_durable(self.unwritten, open.segment.clone());
        if written >= self.log.limits.segment_bytes {
            self.open = None;
        }
        Ok(())
    }

    /// Closes the segment; all that is not durable counts as not written.
    fn fail(&mut self, error: &StorageError) {
        if !self.stalled {
            warn!(run = %self.log.run, %error, cause = %error.source, "Segment closed; its unsynced frames are kept in memory.");
        }
        if planted!("a failed segment is written on") {
            return;
        }
        if let Some(open) = self.open.take() {
            open.abandon(&self.log, error.is_full());
        }
        if !planted!("what a failed segment took is not written again") {
            self.unwritten = self.log.state().first_pending();
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.log.state().has_writer = false;
    }
}

impl Open {
    fn append(&mut self, log: &Log, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.append(bytes).map_err(|source| {
            let name = segment_name(&log.folder, self.segment.ordinal);
            StorageError::new(Operation::Append, &name, source)
        })?;
        self.written += as_u64(bytes.len());
        log.room.take(as_u64(bytes.len()));
        Ok(())
    }

    /// Leaves the segment. Where nothing in it was promised it goes; a full
    /// disk gets back what was not promised. Both may fail: the head of the
    /// next segment tells readers that the rest does not count.
    fn abandon(self, log: &Log, full: bool) {
        let name = segment_name(&log.folder, self.segment.ordinal);
        drop(self.file);
        let storage = &log.storage;
        let promised = self.segment.end > self.segment.head_bytes;
        let (tidied, bytes) = if !promised || planted!("a segment goes with what it promised") {
            (storage.remove(&name), self.written)
        } else if full {
            (storage.truncate(&name, self.segment.end), self.written - self.segment.end)
        } else {
            (Ok(()), 0)
        };
        match tidied {
            Ok(()) => log.room.give(bytes),
            Err(error) => tracing::debug!(name, %error, "An abandoned segment stays as it is."),
        }
    }
}
