//! From finished frames to the log: when to sync, and what is to be said.
//!
//! Owns the rhythm of syncs and the notices of a full disk. Has no thread and
//! asks no clock: [`super::outlet`]'s thread drives it, and so does the
//! simulator.

use tracing::error;
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, Notice, NoticeKind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::spool::{RunLog, SpoolError};

/// Frames are synced this often: what a power cut may cost.
const SYNC_EVERY: Nanos = Nanos::from_secs(1);

/// Writes the frames of one run.
#[derive(Debug)]
pub struct Writer {
    log: RunLog,
    synced: BoardTime,
    full: bool,
}

/// What a sync came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "only what is durable may be promised"]
pub struct Synced {
    /// All frames so far are durable.
    pub durable: bool,
    /// To be recorded: the disk is full, or takes frames again.
    pub notice: Option<Notice>,
}

impl Writer {
    /// A writer into `log`, which was synced just now.
    #[must_use]
    pub fn new(log: RunLog, now: BoardTime) -> Self {
        Self { log, synced: now, full: false }
    }

    /// Takes one frame; the gaps returned are to be recorded.
    #[must_use]
    pub fn frame(&mut self, bytes: &[u8]) -> Vec<Gap> {
        match self.log.append(bytes) {
            Ok(gaps) if !planted!("a gap is not recorded") => gaps,
            Ok(_) => Vec::new(),
            Err(error) => {
                error!(%error, "The spool refused a frame.");
                Vec::new()
            }
        }
    }

    /// True where frames have waited for a sync long enough.
    #[must_use]
    pub fn is_sync_due(&self, now: BoardTime) -> bool {
        now - self.synced >= SYNC_EVERY
    }

    /// Makes all frames durable, where the disk does.
    pub fn sync(&mut self, now: BoardTime) -> Synced {
        self.synced = now;
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
        Synced { durable, notice }
    }
}
