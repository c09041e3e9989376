//! The host's store: one SQLite file a run, holding the board's frames.
//!
//! Owns the rules of appending: every frame is checked, sequence numbers are
//! contiguous, rows and watermarks go into one transaction, and what is below
//! a watermark is a duplicate. Does not know what a record means, except a gap
//! record, the one thing that may stand for absent sequence numbers, and sample
//! blocks, whose rows are summed up as they come.
//! Source: `docs/format.md`; SQLite, "Write-Ahead Logging".
//!
//! The watermark of a stream is one past the last sequence number that is held
//! or accounted for by a gap record. It is what the host acknowledges, and only
//! after the commit: a crash in between costs a frame sent twice, never one lost.

mod append;
mod error;
mod levels;
mod samples;
mod schema;
mod tee;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::frame::{self, Frame, Identity, SESSION_KINDS_FROM};
use wattline_protocol::record::{Gap, StreamEnd, kind};
use wattline_protocol::units::{BoardTime, HostTime};

use append::{Batch, Taken};

pub use error::{Damage, StoreError};
pub use levels::{Bucket, LEVEL_BITS, RailSummary};
pub use samples::{SampleStream, SamplesError};
pub use schema::{APPLICATION_ID, VERSION};
pub use tee::{TeeError, TeeFrames, hex, read_tee};

/// Name of the file within a run's directory.
pub const FILE_NAME: &str = "recording.sqlite";

/// An open recording.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// False in a recording of version 1 that is only read.
    has_levels: bool,
}

/// What an append did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "watermarks are to be acknowledged"]
pub struct Appended {
    /// Watermarks of the streams that were touched, duplicates included: an
    /// acknowledgement that was lost is given again.
    pub watermarks: Vec<StreamEnd>,
    /// Frames that were new.
    pub stored: u64,
    /// Frames that the store held already.
    pub duplicates: u64,
}

impl Store {
    /// Makes a new, empty recording.
    ///
    /// # Errors
    /// [`StoreError::AlreadyThere`], [`StoreError::DiskFull`], or
    /// [`StoreError::Refused`] with SQLite's words.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(schema::create(path)?, path, true))
    }

    /// A recording without a file, for simulations: it is gone with its value,
    /// and cannot be finished.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with SQLite's words.
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        Ok(Self::of(schema::in_memory(path)?, path, true))
    }

    /// Opens a recording that goes on growing; one of version 1 is given its
    /// summary levels first.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn open_for_append(path: &Path) -> Result<Self, StoreError> {
        let (connection, version) = schema::open_for_append(path)?;
        let mut store = Self::of(connection, path, version >= schema::LEVELS_SINCE);
        if !store.has_levels {
            store.add_levels()?;
        }
        Ok(store)
    }

    /// A recording within a connection of the caller's own, which is made
    /// where there is none: a simulation crashes it and opens it again.
    ///
    /// # Errors
    /// [`StoreError::NotARecording`], or [`StoreError::Refused`] with SQLite's words.
    pub fn within(connection: Connection) -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        schema::within(path, &connection)?;
        Ok(Self::of(connection, path, true))
    }

    /// Opens a recording that is only read.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let (connection, version) = schema::open_read_only(path)?;
        Ok(Self::of(connection, path, version >= schema::LEVELS_SINCE))
    }

    fn of(connection: Connection, path: &Path, has_levels: bool) -> Self {
        Self { connection, path: path.to_owned(), has_levels }
    }

    /// Where the recording lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores frames and watermarks in one transaction; all or nothing.
    /// Session messages among them are left out.
    ///
    /// # Errors
    /// [`StoreError::Frame`] where bytes fail their check,
    /// [`StoreError::Hole`] where sequence numbers are absent without a gap
    /// record, [`StoreError::Misfit`] where a frame overlaps what is held, and
    /// those of the file.
    pub fn append(&mut self, frames: &[&[u8]]) -> Result<Appended, StoreError> {
        let mut batch = Batch::begin(&self.path, &mut self.connection)?;
        let mut appended = Appended::default();
        for (place, bytes) in frames.iter().enumerate() {
            let frame =
                frame::decode(bytes).map_err(|source| StoreError::Frame { place, source })?;
            if frame.header.kind >= SESSION_KINDS_FROM {
                continue;
            }
            match batch.take(&frame)? {
                Taken::Stored => appended.stored += 1,
                Taken::Duplicate => appended.duplicates += 1,
            }
        }
        appended.watermarks = batch.commit()?;
        Ok(appended)
    }

    /// Notes a gap that the board found in its spool while sending: it is no
    /// frame of the board, but the stream goes on behind it.
    ///
    /// # Errors
    /// Those of the file.
    pub fn note_gap(&mut self, gap: &Gap) -> Result<(), StoreError> {
        let mut batch = Batch::begin(&self.path, &mut self.connection)?;
        batch.take_gap(*gap)?;
        batch.commit().map(drop)
    }

    /// Gaps that are known, by frame or by note: epoch, stream, first absent
    /// number, first present one.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn gaps(&self) -> Result<Vec<(u32, u32, u64, u64)>, StoreError> {
        self.collect("SELECT epoch, stream, first, next FROM gaps ORDER BY 1, 2, 3", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
    }

    /// Watermarks of all streams, in order of (epoch, stream).
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn watermarks(&self) -> Result<Vec<StreamEnd>, StoreError> {
        self.collect("SELECT epoch, stream, next FROM watermarks ORDER BY epoch, stream", |row| {
            Ok(StreamEnd { epoch: row.get(0)?, stream: row.get(1)?, next: row.get(2)? })
        })
    }

    /// Gives each frame to `take`, in order of (epoch, stream, sequence), its
    /// checksum checked anew.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the frame that fails its check; else the
    /// first error that `take` gives.
    pub fn for_each_frame<E: From<StoreError>>(
        &self,
        take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let order = "ORDER BY epoch, stream, first";
        self.frames_of(&format!("SELECT epoch, stream, first, bytes FROM frames {order}"), take)
    }

    /// Gives each frame that is no block of samples to `take`, kind by kind, and
    /// within a kind in order of (epoch, stream, sequence). `kinds` names those
    /// that are wanted; without any, all are.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the frame that fails its check; else the
    /// first error that `take` gives.
    pub fn for_each_record<E: From<StoreError>>(
        &self,
        kinds: &[u8],
        take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let names: Vec<String> = kinds.iter().map(u8::to_string).collect();
        let wanted = match names.join(", ") {
            all if all.is_empty() => String::new(),
            names => format!("AND kind IN ({names})"),
        };
        let query = format!(
            "SELECT epoch, stream, first, bytes FROM frames WHERE kind <> {} {wanted}
             ORDER BY kind, epoch, stream, first",
            kind::SAMPLE_BLOCK
        );
        self.frames_of(&query, take)
    }

    /// Gives each frame to `take` as it lies in the file, which is how it came:
    /// the fastest way through a whole night. Its checksum is checked anew.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the frame that fails its check; else the
    /// first error that `take` gives.
    pub fn for_each_frame_as_stored<E: From<StoreError>>(
        &self,
        take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.frames_of("SELECT epoch, stream, first, bytes FROM frames", take)
    }

    /// One past the last sequence number held of each stream, in order of
    /// (epoch, stream): numbers that a gap stands for at a stream's end are not.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn held(&self) -> Result<Vec<StreamEnd>, StoreError> {
        let mut held = Vec::new();
        for StreamEnd { epoch, stream, .. } in self.watermarks()? {
            let last = self
                .connection
                .prepare_cached(
                    "SELECT first + count FROM frames WHERE epoch = ?1 AND stream = ?2
                     ORDER BY first DESC LIMIT 1",
                )
                .and_then(|mut last| last.query_row([epoch, stream], |row| row.get(0)).optional())
                .map_err(|error| StoreError::from_sqlite(&self.path, error))?;
            held.extend(last.map(|next| StreamEnd { epoch, stream, next }));
        }
        Ok(held)
    }

    /// Gives the frames of a query (epoch, stream, first, bytes) to `take`.
    fn frames_of<E: From<StoreError>>(
        &self,
        query: &str,
        mut take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let mut statement = self.connection.prepare(query).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let identity = identity(row).map_err(failed)?;
            let bytes = row.get_ref(3).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
            take(&self.check(identity, bytes)?)?;
        }
        Ok(())
    }

    fn check<'a>(&self, identity: Identity, bytes: &'a [u8]) -> Result<Frame<'a>, StoreError> {
        let damaged = |damage| StoreError::Damaged { path: self.path.clone(), damage };
        let frame =
            frame::decode(bytes).map_err(|source| damaged(Damage::Frame { identity, source }))?;
        if frame.header.identity != identity || frame.bytes.len() != bytes.len() {
            return Err(damaged(Damage::WrongFrame { identity }));
        }
        Ok(frame)
    }

    /// Number of board frames.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn frame_count(&self) -> Result<u64, StoreError> {
        self.connection
            .query_row("SELECT count(*) FROM frames", [], |row| row.get(0))
            .map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// SHA-256 over all board frames' bytes in order of (epoch, stream,
    /// sequence), in lower-case hex: equal for equal recordings.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the frame that fails its check.
    pub fn frames_sha256(&self) -> Result<String, StoreError> {
        let mut sum = Sha256::new();
        self.for_each_frame(|frame| -> Result<(), StoreError> {
            sum.update(frame.bytes);
            Ok(())
        })?;
        Ok(hex(&sum.finalize()))
    }

    /// Keeps a word about the recording, replacing the one before.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn set_meta(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.connection
            .execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])
            .map(drop)
            .map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// A word kept about the recording.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// Keeps exchanges of clock readings, in one transaction.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn append_clock_exchanges(
        &mut self,
        exchanges: &[ClockExchange],
    ) -> Result<(), StoreError> {
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            let mut insert = transaction
                .prepare_cached("INSERT INTO host_records VALUES (NULL, ?1, ?2, ?3, ?4)")?;
            for exchange in exchanges {
                insert.execute(params![
                    exchange.host_sent.0,
                    exchange.board_received.0,
                    exchange.board_sent.0,
                    exchange.host_received.0
                ])?;
            }
            drop(insert);
            transaction.commit()
        };
        write(&mut self.connection).map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// All exchanges of clock readings, in order.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn clock_exchanges(&self) -> Result<Vec<ClockExchange>, StoreError> {
        let query = "SELECT host_sent_ns, board_received_ns, board_sent_ns, host_received_ns
                     FROM host_records ORDER BY id";
        self.collect(query, |row| {
            Ok(ClockExchange {
                host_sent: HostTime(row.get(0)?),
                board_received: BoardTime(row.get(1)?),
                board_sent: BoardTime(row.get(2)?),
                host_received: HostTime(row.get(3)?),
            })
        })
    }

    /// Brings everything into the one file and ends the write-ahead log, so
    /// that it can be copied and opened where nothing can be written.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another program reads it: the recording is
    /// whole, but keeps its log beside it.
    pub fn finish(self) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(failed)?;
        let mode: String = self
            .connection
            .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
            .map_err(failed)?;
        if mode == "delete" { Ok(()) } else { Err(StoreError::Locked { path: self.path.clone() }) }
    }

    fn collect<T>(
        &self,
        query: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare(query)?.query_map([], read)?.collect()
        };
        rows().map_err(|error| StoreError::from_sqlite(&self.path, error))
    }
}

fn identity(row: &rusqlite::Row<'_>) -> rusqlite::Result<Identity> {
    Ok(Identity { epoch: row.get(0)?, stream: row.get(1)?, sequence: row.get(2)? })
}
