//! Which runs go for the room that others need.
//!
//! Owns the removal of a run, and which one goes first. What is room is
//! [`super::room`]'s. A run that is still needed never goes.

use tracing::{debug, info};
use wattline_protocol::planted;
use wattline_protocol::presence::SpoolStanding;
use wattline_protocol::record::RunId;

use super::segment::{RUNS_FOLDER, run_folder, segment_ordinal};
use super::storage::{Operation, Storage, StorageError};
use super::{RunStatus, Spool, SpoolError};

impl Spool {
    /// Bytes free on the spool's disk.
    ///
    /// # Errors
    /// [`SpoolError::Storage`].
    pub fn free_bytes(&self) -> Result<u64, SpoolError> {
        let free = self.inner.storage.free_bytes();
        Ok(free.map_err(|source| StorageError::new(Operation::Read, "", source))?)
    }

    /// How full the spool is.
    #[must_use]
    pub fn standing(&self) -> SpoolStanding {
        self.inner.room.standing()
    }

    /// Sees that `needed_bytes` fit within the quota and beside the reserve;
    /// removes runs for it that have ended and that a host holds whole, oldest
    /// first. Returns the removed ones.
    ///
    /// # Errors
    /// [`SpoolError::TooLittleSpace`] where that is not enough,
    /// [`SpoolError::Storage`].
    pub fn make_room(&self, needed_bytes: u64) -> Result<Vec<RunId>, SpoolError> {
        // A disk that does not say what is free is no disk to begin on.
        self.free_bytes()?;
        let mut removed = Vec::new();
        let mut candidates = self.runs().into_iter().filter(is_removable);
        loop {
            let standing = self.standing();
            if self.inner.room.fits(needed_bytes, &standing) {
                return Ok(removed);
            }
            let Some(candidate) = candidates.next() else {
                return Err(SpoolError::TooLittleSpace { needed_bytes, standing });
            };
            self.remove_run(&candidate.run)?;
            removed.push(candidate.run);
        }
    }

    /// Removes a run that has ended and that a host holds whole. After an
    /// error it may be called again.
    ///
    /// # Errors
    /// [`SpoolError::StillNeeded`], [`SpoolError::UnknownRun`],
    /// [`SpoolError::Storage`].
    pub fn remove_run(&self, run: &RunId) -> Result<(), SpoolError> {
        let log = self.log(run)?;
        let bytes = {
            let mut state = log.state();
            let is_acked = state.appended.within(&state.acked)
                || planted!("a run is removed before a host holds it");
            let goes_on = !state.ended || state.has_writer;
            let goes_on = goes_on && !planted!("a run that goes on is removed");
            if !state.removed && (goes_on || !is_acked) {
                return Err(SpoolError::StillNeeded { run: run.clone() });
            }
            state.removed = true;
            state.bytes()
        };
        let storage = self.inner.storage.as_ref();
        let failed = |operation, name: &str, source| StorageError::new(operation, name, source);
        let names =
            storage.list(&log.folder).map_err(|e| failed(Operation::Read, &log.folder, e))?;
        // The newest segment has the run's end. It goes once no other can come back:
        // else a power cut would leave a run without an end, which would go on.
        let newest = names.iter().filter(|name| segment_ordinal(name).is_some()).max().cloned();
        let (last, first): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| segment_ordinal(name).is_none() || Some(name) == newest.as_ref());
        for names in [first, last] {
            for name in names {
                let name = format!("{}/{name}", log.folder);
                storage.remove(&name).map_err(|e| failed(Operation::Remove, &name, e))?;
            }
            let folder = &log.folder;
            storage.sync_folder(folder).map_err(|e| failed(Operation::Sync, folder, e))?;
        }
        storage.remove(&log.folder).map_err(|e| failed(Operation::Remove, &log.folder, e))?;
        storage.sync_folder(RUNS_FOLDER).map_err(|e| failed(Operation::Sync, RUNS_FOLDER, e))?;
        // Two may remove it at once: its bytes are given back once.
        if self.logs().remove(run).is_some() {
            self.inner.room.give(bytes);
        }
        info!(%run, "Run removed from the spool; a host holds all of it.");
        Ok(())
    }
}

fn is_removable(status: &RunStatus) -> bool {
    status.ended && status.is_acked && !status.has_writer
}

/// Removes the folder of a run that was never written.
pub(super) fn remove_empty(storage: &dyn Storage, run: &RunId) {
    if let Err(error) = storage.remove(&run_folder(run)) {
        debug!(%run, %error, "An empty run's folder stays.");
    }
}
