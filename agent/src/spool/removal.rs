//! Room on the disk: what is free, and which runs may go for it.
//!
//! Owns the reserve and the removal of a run. Decides nothing about frames of
//! a run that is still needed: those never go.

use tracing::{debug, info};
use wattline_protocol::planted;
use wattline_protocol::record::RunId;

use super::segment::{RUNS_FOLDER, run_folder, segment_ordinal};
use super::storage::{Operation, Storage, StorageError};
use super::{RunStatus, Spool, SpoolError};

/// Stays free for the rest of the system: the journal, the package manager and
/// a login need some; 64 MiB is what the smallest board image leaves at least.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

impl Spool {
    /// Bytes free on the spool's disk.
    ///
    /// # Errors
    /// [`SpoolError::Storage`].
    pub fn free_bytes(&self) -> Result<u64, SpoolError> {
        let free = self.inner.storage.free_bytes();
        Ok(free.map_err(|source| StorageError::new(Operation::Read, "", source))?)
    }

    /// Sees that `needed_bytes` fit beside [`RESERVE_BYTES`]; removes runs for
    /// it that have ended and that a host holds whole, oldest first. Returns
    /// the removed ones.
    ///
    /// # Errors
    /// [`SpoolError::TooLittleSpace`] where that is not enough,
    /// [`SpoolError::Storage`].
    pub fn make_room(&self, needed_bytes: u64) -> Result<Vec<RunId>, SpoolError> {
        let wanted = needed_bytes.saturating_add(RESERVE_BYTES);
        let mut removed = Vec::new();
        let mut candidates = self.runs().into_iter().filter(is_removable);
        loop {
            let free_bytes = self.free_bytes()?;
            if free_bytes >= wanted {
                return Ok(removed);
            }
            let Some(candidate) = candidates.next() else {
                let reserve_bytes = RESERVE_BYTES;
                return Err(SpoolError::TooLittleSpace { free_bytes, needed_bytes, reserve_bytes });
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
        {
            let mut state = log.state();
            let is_acked = state.appended.within(&state.acked)
                || planted!("a run is removed before a host holds it");
            let goes_on = !state.ended || state.has_writer;
            let goes_on = goes_on && !planted!("a run that goes on is removed");
            if !state.removed && (goes_on || !is_acked) {
                return Err(SpoolError::StillNeeded { run: run.clone() });
            }
            state.removed = true;
        }
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
        self.logs().remove(run);
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
