//! The host's store: one SQLite file a run, holding the board's frames.
//!
//! Owns the rules of appending: every frame is checked, sequence numbers are
//! contiguous, rows and watermarks go into one transaction, and what is below
//! a watermark is a duplicate. Does not know what a record means, except a gap
//! record: the one thing that may stand for absent sequence numbers.
//! Source: `docs/format.md`; SQLite, "Write-Ahead Logging".
//!
//! The watermark of a stream is one past the last sequence number that is held
//! or accounted for by a gap record. It is what the host acknowledges, and only
//! after the commit: a crash in between costs a frame sent twice, never one lost.

mod error;
mod schema;
mod tee;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::{Digest, Sha256};
use wattline_protocol::frame::{self, Frame, Identity, SESSION_KINDS_FROM};
use wattline_protocol::record::{Gap, Record, StreamEnd, kind};
use wattline_protocol::units::{BoardTime, HostTime};

pub use error::{Damage, StoreError};
pub use schema::{APPLICATION_ID, VERSION};
pub use tee::{TeeError, TeeFrames, hex, read_tee};

/// Name of the file within a run's directory.
pub const FILE_NAME: &str = "recording.sqlite";

/// An open recording.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
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

/// One exchange of clock readings between host and board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockExchange {
    /// Host's clock when the question left.
    pub host_sent: HostTime,
    /// Board's clock when it arrived.
    pub board_received: BoardTime,
    /// Board's clock when the answer left.
    pub board_sent: BoardTime,
    /// Host's clock when it arrived.
    pub host_received: HostTime,
}

impl Store {
    /// Makes a new, empty recording.
    ///
    /// # Errors
    /// [`StoreError::AlreadyThere`], [`StoreError::DiskFull`], or
    /// [`StoreError::Refused`] with SQLite's words.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::create(path)?, path: path.to_owned() })
    }

    /// Opens a recording that goes on growing.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn open_for_append(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_for_append(path)?, path: path.to_owned() })
    }

    /// Opens a recording that is only read.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_read_only(path)?, path: path.to_owned() })
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
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut batch = Batch { path: &self.path, transaction, touched: BTreeMap::new() };
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
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut batch = Batch { path: &self.path, transaction, touched: BTreeMap::new() };
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
        mut take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let mut statement = self
            .connection
            .prepare("SELECT epoch, stream, first, bytes FROM frames ORDER BY epoch, stream, first")
            .map_err(failed)?;
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

    /// Keeps one exchange of clock readings.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn append_clock_exchange(&mut self, exchange: ClockExchange) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT INTO host_records VALUES (NULL, ?1, ?2, ?3, ?4)",
                params![
                    exchange.host_sent.0,
                    exchange.board_received.0,
                    exchange.board_sent.0,
                    exchange.host_received.0
                ],
            )
            .map(drop)
            .map_err(|error| StoreError::from_sqlite(&self.path, error))
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

enum Taken {
    Stored,
    Duplicate,
}

/// One transaction of an append.
struct Batch<'a> {
    path: &'a Path,
    transaction: Transaction<'a>,
    /// Watermarks of the streams this batch has met, by (epoch, stream).
    touched: BTreeMap<(u32, u32), u64>,
}

impl Batch<'_> {
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(self.path, error)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<Taken, StoreError> {
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let next = frame.next_sequence();
        let watermark = self.watermark(epoch, stream)?;
        if frame.header.count > 0 && next <= watermark {
            return Ok(Taken::Duplicate);
        }
        if sequence > watermark {
            return Err(StoreError::Hole { epoch, stream, expected: watermark, found: sequence });
        }
        if sequence < watermark || frame.header.count == 0 {
            let identity = frame.header.identity;
            return Err(StoreError::Misfit { identity, next, watermark });
        }
        self.insert(frame)?;
        self.touched.insert((epoch, stream), next);
        self.cross_gaps(epoch, stream)?;
        if frame.header.kind == kind::GAP
            && let Ok(Record::Gap(gap)) = Record::decode(kind::GAP, frame.payload)
        {
            self.take_gap(gap)?;
        }
        Ok(Taken::Stored)
    }

    fn insert(&self, frame: &Frame<'_>) -> Result<(), StoreError> {
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let insert = || {
            self.transaction
                .prepare_cached("INSERT INTO frames VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    epoch,
                    stream,
                    sequence,
                    frame.header.count,
                    frame.header.kind,
                    frame.bytes
                ])
        };
        insert().map(drop).map_err(|error| self.failed(error))
    }

    fn watermark(&mut self, epoch: u32, stream: u32) -> Result<u64, StoreError> {
        if let Some(&next) = self.touched.get(&(epoch, stream)) {
            return Ok(next);
        }
        let read = || {
            self.transaction
                .prepare_cached("SELECT next FROM watermarks WHERE epoch = ?1 AND stream = ?2")?
                .query_row([epoch, stream], |row| row.get(0))
                .optional()
        };
        // A stream begins at sequence number 0.
        let next = read().map_err(|error| self.failed(error))?.unwrap_or(0);
        self.touched.insert((epoch, stream), next);
        Ok(next)
    }

    /// Notes a gap, which may be told before the frames in front of it arrive.
    fn take_gap(&mut self, gap: Gap) -> Result<(), StoreError> {
        if gap.to <= gap.from {
            return Ok(());
        }
        let insert = || {
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO gaps VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![gap.epoch, gap.stream, gap.from, gap.to])
        };
        insert().map_err(|error| self.failed(error))?;
        self.watermark(gap.epoch, gap.stream)?;
        self.cross_gaps(gap.epoch, gap.stream)
    }

    /// Moves a watermark over the gaps that begin at or below it. A gap may
    /// begin below: the host can hold live frames that the board then lost.
    fn cross_gaps(&mut self, epoch: u32, stream: u32) -> Result<(), StoreError> {
        let mut watermark = self.watermark(epoch, stream)?;
        while let Some(next) = self.gap_at(epoch, stream, watermark)? {
            watermark = next;
        }
        self.touched.insert((epoch, stream), watermark);
        Ok(())
    }

    fn gap_at(&self, epoch: u32, stream: u32, watermark: u64) -> Result<Option<u64>, StoreError> {
        let read = || {
            self.transaction
                .prepare_cached(
                    "SELECT max(next) FROM gaps
                     WHERE epoch = ?1 AND stream = ?2 AND first <= ?3 AND next > ?3",
                )?
                .query_row(params![epoch, stream, watermark], |row| row.get(0))
        };
        read().map_err(|error| self.failed(error))
    }

    fn commit(self) -> Result<Vec<StreamEnd>, StoreError> {
        let Self { path, transaction, touched } = self;
        let write = || -> rusqlite::Result<()> {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO watermarks VALUES (?1, ?2, ?3)")?;
            for (&(epoch, stream), &next) in &touched {
                statement.execute(params![epoch, stream, next])?;
            }
            Ok(())
        };
        write().map_err(|error| StoreError::from_sqlite(path, error))?;
        transaction.commit().map_err(|error| StoreError::from_sqlite(path, error))?;
        let ends = touched.into_iter();
        Ok(ends.map(|((epoch, stream), next)| StreamEnd { epoch, stream, next }).collect())
    }
}
