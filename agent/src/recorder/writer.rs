//! From finished frames to the log: what is written at all, when to sync, and
//! what is to be said.
//!
//! Owns the rhythm of syncs, the choice of frames that a host may take before
//! they touch the disk, and the notices of a full disk. Has no thread and
//! asks no clock: [`super::outlet`]'s thread drives it, and so does the
//! simulator.

use tracing::error;
use wattline_protocol::frame;
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, Notice, NoticeKind, StreamEnd, kind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::spool::{Due, RunLog, SpoolError};

/// Frames are synced this often: what a power cut may cost.
const SYNC_EVERY: Nanos = Nanos::from_secs(1);
/// A held frame that no host has acknowledged is written at this age: it costs a
/// power cut no more than a frame that waits for its sync. A host commits each
/// 250 ms and its acknowledgement takes a round trip.
const HELD_MAX: Nanos = Nanos::from_secs(1);
/// A host keeps pace while acknowledgements come at least this often.
const ACKNOWLEDGED_WITHIN: Nanos = Nanos::from_secs(2);

/// True for the kinds whose frames a host may take before they touch the disk.
/// All others are what a run is taken up from after a cut, or say what is absent.
#[must_use]
pub const fn may_bypass(kind: u8) -> bool {
    matches!(
        kind,
        kind::SAMPLE_BLOCK
            | kind::INFERENCE_SPANS
            | kind::LAYER_SPANS
            | kind::GPU_SPANS
            | kind::TRIGGER_EDGES
            | kind::CLOCK_SNAPSHOT
            | kind::BOARD_STATE
            | kind::PHASE_MARK
            | kind::TRIAL_LOADED
    )
}

/// Writes the frames of one run.
#[derive(Debug)]
pub struct Writer {
    log: RunLog,
    synced: BoardTime,
    full: bool,
    /// Acknowledgements so far, and when the last one was noticed.
    acks: u64,
    acked: BoardTime,
}

/// What a sync came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "only what is durable may be promised"]
pub struct Synced {
    /// All frames so far are durable, but those that are held for a host.
    pub durable: bool,
    /// To be recorded: the disk is full, or takes frames again.
    pub notice: Option<Notice>,
    /// To be recorded: what had to be dropped.
    pub gaps: Vec<Gap>,
}

impl Writer {
    /// A writer into `log`, which was synced just now.
    #[must_use]
    pub fn new(log: RunLog, now: BoardTime) -> Self {
        let acks = log.acks();
        // A run begins as if a host kept pace: one that is there acknowledges the
        // first frames before they are due.
        Self { log, synced: now, full: false, acks, acked: now }
    }

    /// Takes one frame; the gaps returned are to be recorded.
    #[must_use]
    pub fn frame(&mut self, bytes: &[u8], now: BoardTime) -> Vec<Gap> {
        let may_bypass = frame::decode(bytes).is_ok_and(|frame| may_bypass(frame.header.kind))
            || planted!("marks are held for a host");
        let taken = if may_bypass && self.keeps_pace(now) {
            self.log.hold(bytes, now)
        } else {
            self.log.append(bytes)
        };
        match taken {
            Ok(gaps) if !planted!("a gap is not recorded") => gaps,
            Ok(_) => Vec::new(),
            Err(error) => {
                error!(%error, "The spool refused a frame.");
                Vec::new()
            }
        }
    }

    /// True while a host acknowledges what it is sent.
    fn keeps_pace(&mut self, now: BoardTime) -> bool {
        let acks = self.log.acks();
        if acks != self.acks {
            self.acks = acks;
            self.acked = now;
        }
        now - self.acked <= ACKNOWLEDGED_WITHIN
    }

    /// True where frames have waited for a sync, or been held, long enough.
    #[must_use]
    pub fn is_sync_due(&self, now: BoardTime) -> bool {
        let held = self.log.held_since();
        let timely = now - self.synced >= SYNC_EVERY && !planted!("no sync is due");
        timely || held.is_some_and(|since| now - since >= HELD_MAX)
    }

    /// Ends of the streams as the disk, or a host, has them.
    #[must_use]
    pub fn durable_ends(&self) -> Vec<StreamEnd> {
        self.log.durable_ends()
    }

    /// Makes all frames durable, held ones among them, where the disk does.
    pub fn close(&mut self, now: BoardTime) -> Synced {
        self.sync_with(Due::All, now)
    }

    /// Makes all frames durable, where the disk does, but those that are held
    /// for a host and are not yet due.
    pub fn sync(&mut self, now: BoardTime) -> Synced {
        let due = if self.keeps_pace(now) { Due::Until(now - HELD_MAX) } else { Due::All };
        self.sync_with(due, now)
    }

    fn sync_with(&mut self, due: Due, now: BoardTime) -> Synced {
        self.synced = now;
        let gaps = self.log.release(due);
        let result = self.log.sync();
        let full = match &result {
            Ok(()) => false,
            Err(SpoolError::DiskFull { .. }) => true,
            Err(error) => {
                error!(%error, "The spool could not be synced; frames wait in memory.");
                self.full
            }
        };
        let notice = (full != self.full).then(|| {
            self.full = full;
            let what = if full { NoticeKind::BoardDiskFull } else { NoticeKind::BoardDiskBack };
            Notice { at: now, what }
        });
        let durable = result.is_ok() || planted!("a failed sync is promised");
        Synced { durable, notice, gaps }
    }
}
