//! From finished frames to the log: what is written at all, when to sync, and
//! what is to be said.
//!
//! Owns the rhythm of syncs, the choice of frames that a host may take before
//! they touch the disk, the notices of a full disk and the aggregates of what
//! goes for it. Has no thread and
//! asks no clock: [`super::outlet`]'s thread drives it, and so does the
//! simulator.

use tracing::error;
use wattline_protocol::frame;
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, Notice, NoticeKind, Record, StreamEnd, kind};
use wattline_protocol::units::{BoardTime, Nanos};

use super::thinning::Thinning;
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
    thinning: Thinning,
    is_thinning: bool,
    must_end: bool,
    /// To be recorded beside the gaps.
    notes: Vec<Record>,
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
        Self {
            log,
            synced: now,
            full: false,
            acks,
            acked: now,
            thinning: Thinning::default(),
            is_thinning: false,
            must_end: false,
            notes: Vec::new(),
        }
    }

    /// Takes one frame; the gaps returned are to be recorded.
    #[must_use]
    pub fn frame(&mut self, bytes: &[u8], now: BoardTime) -> Vec<Gap> {
        let decoded = frame::decode(bytes);
        let kind = decoded.as_ref().map_or(0, |frame| frame.header.kind);
        if let Ok(frame) = &decoded {
            self.thinning.see(frame);
        }
        // Without room on the disk, samples stay in memory for a host as long as they can.
        let held_by_kind = may_bypass(kind) || planted!("marks are held for a host");
        let no_room = kind == kind::SAMPLE_BLOCK && self.log.is_thinning();
        let taken = if no_room || (held_by_kind && self.keeps_pace(now)) {
            self.log.hold(bytes, now)
        } else {
            self.log.append(bytes)
        };
        self.note_dropped();
        match taken {
            Ok(gaps) if !planted!("a gap is not recorded") => gaps,
            Ok(_) => Vec::new(),
            Err(error) => {
                error!(%error, "The spool refused a frame.");
                Vec::new()
            }
        }
    }

    /// Drops the samples that wait in memory because the disk has no room for
    /// them: the run is about to end, and their aggregates belong before its
    /// end.
    #[must_use]
    pub fn give_samples_up(&mut self) -> Vec<Gap> {
        let gaps = self.log.give_samples_up();
        self.note_dropped();
        gaps
    }

    /// What is to be recorded beside the gaps: aggregates of samples that went,
    /// and that they begin to go.
    #[must_use]
    pub fn take_notes(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.notes)
    }

    /// True where there is no room left and the policy is to end the run.
    #[must_use]
    pub const fn must_end(&self) -> bool {
        self.must_end
    }

    fn note_dropped(&mut self) {
        let dropped = self.log.take_dropped();
        if !dropped.is_empty() {
            self.notes.extend(self.thinning.aggregates(&dropped));
        }
    }

    /// Says once that the room for samples is used up, and once that it is back.
    fn note_room(&mut self, now: BoardTime) {
        let (is_thinning, must_end) = (self.log.is_thinning(), self.log.must_end());
        let standing = self.log.standing();
        let what = if must_end && !self.must_end {
            Some(NoticeKind::NoRoom(standing))
        } else if is_thinning && !self.is_thinning {
            Some(NoticeKind::Thinning(standing))
        } else if self.is_thinning && !is_thinning {
            Some(NoticeKind::ThinningEnded)
        } else {
            None
        };
        self.notes.extend(what.map(|what| Record::from(Notice { at: now, what })));
        self.is_thinning = is_thinning;
        // Whoever has to end does, also where room comes back meanwhile.
        self.must_end |= must_end;
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
        self.note_dropped();
        self.note_room(now);
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
