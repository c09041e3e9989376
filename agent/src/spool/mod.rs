//! The spool: what the board has recorded and has not yet been told to forget.
//!
//! Owns the log of each run, its recovery after any end of the agent, the
//! boot epoch and the board's identity. Does not know what a record means,
//! except RUN_START, RUN_END and which kinds may go first when all is full.
//! The form of this page, and the lesson to keep no ledger, are from the disk
//! buffer of vector (`lib/vector-buffers/src/variants/disk_v2`).
//!
//! # Constraints
//!
//! - One agent holds a spool: the root is locked ([`DiskStorage::open`]).
//! - One writer a run ([`RunLog`]), any number of readers ([`LogCursor`]).
//! - A frame on disk is the frame as recorded, byte for byte. Nothing is
//!   rewritten in place, nothing is appended to a file of an earlier start.
//! - There is no ledger: all is derived from the segments. A second file with
//!   positions is a second truth, and after a crash one of them is wrong.
//! - A frame that waits for the disk is also in memory, at most
//!   [`PENDING_BYTES_MAX`] of them; what is held for a host is there alone, at
//!   most [`HELD_BYTES_MAX`].
//!
//! # Layout
//!
//! ```text
//! lock                     held by the agent, holds its process id
//! board-id                 random identity, made once
//! epoch.0  epoch.1         the epoch of this start and of the one before
//! runs/<run>/00000001.seg  head, frames        4 MiB, then the next ordinal
//! runs/<run>/00000002.seg  head, frames
//! runs/<run>/acked         once a host holds all of a run that is over
//! ```
//! The head of a segment ([`segment`]) lists the ends of all streams that were
//! durable before it. So recovery reads one segment a run, however long the
//! run; a missing segment is a hole with known numbers; and of a frame that
//! was written twice, the copy before the line is known not to count.
//!
//! # How each end leaves it
//!
//! - *Agent killed*: what was written is there, up to the last append.
//! - *Power cut*: the newest segment has a torn tail of zeros, garbage or
//!   nothing. Recovery finds the last whole frame, cuts behind it, and the run
//!   goes on in a new segment.
//! - *Power cut between creating a segment and syncing its folder*: the name is
//!   gone. Nothing in it was promised.
//! - *Power cut while a run is removed*: segments go oldest first, so that the
//!   newest, with RUN_END, says until the last that the run is over.
//! - *A write or a sync fails*: the segment is closed, what was not durable goes
//!   from memory into a new one.
//! - *Room used up* ([`room`]): fetched runs go first; then samples are kept in
//!   memory alone, and what no host took goes, oldest first. The caller gets the
//!   numbers for a gap record and the frames for their aggregates.
//! - *Disk full*: frames wait in memory. At the bound, sample blocks go first,
//!   oldest first, as above.
//! - *A host acknowledges in time*: frames that were held ([`held`]) never touch
//!   the disk. They stay in memory while there is room, for another host; one
//!   that comes later, or after the agent's end, is told of the hole.
//! - *A bit rots*: the reader passes to the next whole frame and says how many
//!   bytes it passed and, as the streams go on, which numbers are absent.
//!
//! # Rules, and the bug that each prevents
//!
//! - Append, sync, then promise. A promise before the sync is lost by a power cut.
//! - The folder is synced before the first promise from a new segment: else the
//!   contents are durable and the name is not.
//! - Never a second sync of a file whose sync failed: the kernel marks pages
//!   that it could not write as clean, and the second sync succeeds without them.
//! - Never an append behind a torn tail: a reader that stops at the tear would
//!   never see what follows.
//! - The epoch is durable before the first sample of a start: else numbers that
//!   the host holds already are given twice, and new samples are dropped as
//!   duplicates.
//! - A held frame that no host has acknowledged is written before a later frame
//!   of its stream, and before the end of the run: else what follows says of it
//!   that it is lost.
//! - Nothing is removed that a host has not acknowledged as durable; and a run
//!   is removed whole, after its end, so that a second host can still fetch it
//!   until the space is needed.

mod acked;
pub mod board_id;
pub mod cursor;
pub mod disk;
pub mod epoch;
mod held;
pub mod log;
pub mod model;
mod newest;
pub mod recover;
mod removal;
mod room;
pub mod segment;
mod slab;
pub mod storage;
pub mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use wattline_protocol::frame::{FrameError, Identity};
use wattline_protocol::planted;
use wattline_protocol::presence::SpoolStanding;
use wattline_protocol::record::{RunId, StreamEnd};

pub use board_id::BoardId;
pub use cursor::{Item, LogCursor, LogReader};
pub use disk::{DiskStorage, RootError, random_id};
pub use epoch::{EpochOrigin, RaisedEpoch};
pub use held::Due;
pub use log::{HELD_BYTES_MAX, Limits, PENDING_BYTES_MAX, Progress, SpooledFrame};
pub use model::ModelStorage;
pub use recover::{DamagedPart, RecoveredRun};
pub use room::{QUOTA_PART, RESERVE_BYTES, RoomRules};
pub use segment::SEGMENT_BYTES_MAX;
pub use storage::{AppendFile, Operation, Storage, StorageError};
pub use writer::RunLog;

use held::HeldFrames;
use log::{Log, LogState};
use room::Room;
use segment::{RUNS_FOLDER, run_folder};

/// Why the spool did not do what was asked.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// There is no space. What was appended waits in memory.
    #[error("spool: the board's disk is full")]
    DiskFull {
        /// The call that met it.
        source: StorageError,
    },
    /// A run would not fit.
    #[error(
        "spool: the run needs {needed_bytes} bytes; {} of {} are used, and {} are free, of which {} stay free",
        standing.used_bytes, standing.quota_bytes, standing.free_bytes, standing.reserve_bytes
    )]
    TooLittleSpace {
        /// Bytes that the caller expects to write.
        needed_bytes: u64,
        /// What is taken and free, with the runs removed that may be.
        standing: SpoolStanding,
    },
    /// The disk failed otherwise. What was appended waits in memory.
    #[error(transparent)]
    Storage(StorageError),
    /// No such run is spooled.
    #[error("spool: no run `{run}`")]
    UnknownRun {
        /// The run asked for.
        run: RunId,
    },
    /// A run of this name is spooled already.
    #[error("spool: run `{run}` exists already")]
    RunExists {
        /// The run.
        run: RunId,
    },
    /// A run has one writer.
    #[error("spool: run `{run}` is being written")]
    HasWriter {
        /// The run.
        run: RunId,
    },
    /// The run was removed.
    #[error("spool: run `{run}` was removed")]
    Removed {
        /// The run.
        run: RunId,
    },
    /// A run that goes on, or that no host holds whole, is not removed.
    #[error("spool: run `{run}` is kept until it has ended and a host holds all of it")]
    StillNeeded {
        /// The run.
        run: RunId,
    },
    /// The bytes are not one frame: our own bug.
    #[error("spool: refused bytes that are not one frame")]
    NotAFrame {
        /// What is wrong with them.
        source: FrameError,
    },
    /// A sequence number for the second time: our own bug.
    #[error(
        "spool: sequence number {} of stream {} in epoch {} was given before, the next is {next}",
        identity.sequence, identity.stream, identity.epoch
    )]
    OutOfOrder {
        /// What the frame says.
        identity: Identity,
        /// The number that is next.
        next: u64,
    },
    /// All 2³² epochs are used.
    #[error("spool: the epoch cannot rise above {epoch}")]
    NoEpochLeft {
        /// The last one.
        epoch: u32,
    },
}

impl From<StorageError> for SpoolError {
    fn from(source: StorageError) -> Self {
        if source.is_full() { Self::DiskFull { source } } else { Self::Storage(source) }
    }
}

/// What the spool holds of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStatus {
    /// The run.
    pub run: RunId,
    /// Its end is durable.
    pub ended: bool,
    /// It is being written.
    pub has_writer: bool,
    /// Segments on disk.
    pub segments: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes in memory alone.
    pub pending_bytes: usize,
    /// Ends of its streams, frames in memory included.
    pub ends: Vec<StreamEnd>,
    /// What hosts hold durably, as far as they have said since this start, or
    /// all of it.
    pub acked: Vec<StreamEnd>,
    /// True where that is all of it.
    pub is_acked: bool,
}

/// The board's spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    limits: Limits,
    room: Arc<Room>,
    board: BoardId,
    recovered: Vec<RecoveredRun>,
    logs: Mutex<BTreeMap<RunId, Arc<Log>>>,
}

impl Spool {
    /// Recovers what is there: torn tails are cut, each run's ends are known.
    /// `fresh_id` becomes the board's identity where it has none
    /// ([`random_id`]). A full disk is no obstacle: what is there can be read.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] where folders cannot be listed.
    pub fn open(storage: Arc<dyn Storage>, fresh_id: &str) -> Result<Self, SpoolError> {
        Self::open_with(storage, fresh_id, Limits::default(), RoomRules::default())
    }

    /// [`Spool::open`] with bounds of one's own, on the whole of a disk: a
    /// simulation fills segments and memory in moments.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_within(
        storage: Arc<dyn Storage>,
        fresh_id: &str,
        limits: Limits,
    ) -> Result<Self, SpoolError> {
        Self::open_with(storage, fresh_id, limits, RoomRules::whole_disk())
    }

    /// [`Spool::open`] with bounds of one's own in memory and on the disk.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_with(
        storage: Arc<dyn Storage>,
        fresh_id: &str,
        limits: Limits,
        rules: RoomRules,
    ) -> Result<Self, SpoolError> {
        let board = BoardId::load(storage.as_ref(), fresh_id)?;
        let mut found = Vec::new();
        let mut recovered = Vec::new();
        let names = storage
            .list(RUNS_FOLDER)
            .map_err(|source| StorageError::new(Operation::Read, RUNS_FOLDER, source))?;
        // A folder with another name is none of ours and is left alone.
        for run in names.iter().filter_map(|name| RunId::new(name).ok()) {
            match recover::recover(storage.as_ref(), &run)? {
                Some(recovery) => {
                    recovered.push(recovery.found);
                    found.push((run, recovery.state));
                }
                // Made and never written: its first segment was not yet durable.
                None => removal::remove_empty(storage.as_ref(), &run),
            }
        }
        let used = found.iter().map(|(_, state)| state.bytes()).sum();
        let room = Arc::new(Room::new(Arc::clone(&storage), rules, used));
        let logs = found.into_iter().map(|(run, state)| {
            let log = Log::new(Arc::clone(&storage), run.clone(), limits, Arc::clone(&room), state);
            (run, Arc::new(log))
        });
        let logs = Mutex::new(logs.collect());
        let inner = Inner { storage, limits, room, board, recovered, logs };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Identity of the board.
    #[must_use]
    pub fn board_id(&self) -> &str {
        self.inner.board.as_str()
    }

    /// The runs as this start found them, by name.
    #[must_use]
    pub fn recovered(&self) -> &[RecoveredRun] {
        &self.inner.recovered
    }

    /// Raises the epoch, durably; called once a start, before the first
    /// sample. `boot_id` is the kernel's, kept beside it.
    ///
    /// # Errors
    /// [`SpoolError::DiskFull`]: nothing can be recorded, runs are refused,
    /// and it may be called again; [`SpoolError::Storage`],
    /// [`SpoolError::NoEpochLeft`].
    pub fn raise_epoch(&self, boot_id: &str) -> Result<RaisedEpoch, SpoolError> {
        let storage = self.inner.storage.as_ref();
        // Without the board's identity on disk an epoch identifies nothing.
        self.inner.board.store(storage)?;
        let newest = self.inner.recovered.iter().filter_map(RecoveredRun::last_epoch).max();
        epoch::raise(storage, boot_id, newest)
    }

    /// Begins the log of a new run.
    ///
    /// # Errors
    /// [`SpoolError::RunExists`], [`SpoolError::DiskFull`], [`SpoolError::Storage`].
    pub fn create_run(&self, run: &RunId) -> Result<RunLog, SpoolError> {
        let mut logs = self.logs();
        if logs.contains_key(run) {
            return Err(SpoolError::RunExists { run: run.clone() });
        }
        let storage = &self.inner.storage;
        for (parent, folder) in [("", RUNS_FOLDER.to_owned()), (RUNS_FOLDER, run_folder(run))] {
            let failed = |operation| {
                let name = folder.clone();
                move |source| StorageError::new(operation, &name, source)
            };
            storage.create_folder(&folder).map_err(failed(Operation::Create))?;
            storage.sync_folder(parent).map_err(failed(Operation::Sync))?;
        }
        // Room for what the new run holds.
        for log in logs.values() {
            let mut state = log.state();
            if !state.has_writer {
                state.held = HeldFrames::default();
            }
        }
        let held = HeldFrames::with_room(self.inner.limits.held_bytes);
        let state = LogState { has_writer: true, held, ..LogState::default() };
        let room = Arc::clone(&self.inner.room);
        let limits = self.inner.limits;
        let log = Arc::new(Log::new(Arc::clone(storage), run.clone(), limits, room, state));
        logs.insert(run.clone(), Arc::clone(&log));
        Ok(RunLog::new(self.clone(), log, 1))
    }

    /// Goes on with a run, in a new segment.
    ///
    /// # Errors
    /// [`SpoolError::UnknownRun`], [`SpoolError::HasWriter`],
    /// [`SpoolError::Storage`] where its folder cannot be listed.
    pub fn resume_run(&self, run: &RunId) -> Result<RunLog, SpoolError> {
        let log = self.log(run)?;
        // From the disk, not from the list of readable segments: the remains of a
        // failed one keep their name.
        let names = log
            .storage
            .list(&log.folder)
            .map_err(|source| StorageError::new(Operation::Read, &log.folder, source))?;
        let last = names.iter().filter_map(|name| segment::segment_ordinal(name)).max();
        {
            let mut state = log.state();
            if state.has_writer {
                return Err(SpoolError::HasWriter { run: run.clone() });
            }
            state.has_writer = true;
            state.held = HeldFrames::with_room(self.inner.limits.held_bytes);
        }
        Ok(RunLog::new(self.clone(), log, last.unwrap_or(0) + 1))
    }

    /// A reader of a run's log.
    ///
    /// # Errors
    /// [`SpoolError::UnknownRun`]; [`SpoolError::Removed`] where its removal
    /// has begun, finished or not.
    pub fn reader(&self, run: &RunId) -> Result<LogReader, SpoolError> {
        let log = self.log(run)?;
        if log.state().removed {
            return Err(SpoolError::Removed { run: run.clone() });
        }
        Ok(LogReader { log })
    }

    /// All runs, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<RunStatus> {
        let mut runs: Vec<RunStatus> = self.logs().values().map(|log| status(log)).collect();
        // Epoch and ordinal within it: names are the host's choice and need not sort.
        runs.sort_by_key(|run| run.ends.first().map(|end| (end.epoch, end.stream)));
        runs
    }

    /// Takes what a host holds durably. Watermarks only rise. True where that
    /// is now all of a run that has ended.
    ///
    /// # Errors
    /// [`SpoolError::UnknownRun`].
    pub fn ack(&self, run: &RunId, watermarks: &[StreamEnd]) -> Result<bool, SpoolError> {
        let log = self.log(run)?;
        let (was_all, is_all, ends) = {
            let mut state = log.state();
            let was_all = state.appended.within(&state.acked);
            if planted!("one acknowledgement counts for all") {
                state.acked = state.appended.clone();
            }
            let more = u64::from(planted!("an acknowledgement counts for one more"));
            for mark in watermarks {
                let new = state.acked.raise(mark.epoch, mark.stream, mark.next + more);
                state.acks += u64::from(new);
            }
            let is_all = state.ended && state.appended.within(&state.acked);
            (was_all, is_all, state.appended.clone())
        };
        // Once a run: its end is the last of its frames to be acknowledged.
        if is_all && !was_all {
            let written = acked::write(log.storage.as_ref(), &log.folder, run, &ends);
            if let Err(error) = written {
                tracing::debug!(%run, %error, "An acknowledgement holds until the agent's end.");
            }
        }
        Ok(is_all)
    }

    fn log(&self, run: &RunId) -> Result<Arc<Log>, SpoolError> {
        let unknown = || SpoolError::UnknownRun { run: run.clone() };
        self.logs().get(run).cloned().ok_or_else(unknown)
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<Log>>> {
        self.inner.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(log: &Log) -> RunStatus {
    let state = log.state();
    RunStatus {
        run: log.run.clone(),
        ended: state.ended,
        has_writer: state.has_writer,
        segments: state.segments.len(),
        bytes: state.bytes(),
        pending_bytes: state.pending_bytes,
        ends: state.appended.to_streams(),
        acked: state.acked.to_streams(),
        is_acked: state.appended.within(&state.acked),
    }
}
