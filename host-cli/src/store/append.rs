//! One transaction of an append: frames, watermarks, gaps and summary levels.
//!
//! Owns what may follow what. A frame is taken at its stream's watermark and
//! nowhere else; a gap record alone moves a watermark over absent numbers.
//! Decides nothing about when frames are committed: that is the collector's.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use wattline_protocol::block::{self, SampleBlock};
use wattline_protocol::frame::{Frame, Identity};
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, GapReason, Record, StreamEnd, kind};

use super::error::StoreError;
use super::levels::Sums;
use super::samples::block_codec;

pub(super) enum Taken {
    Stored,
    Duplicate,
}

/// One transaction of an append.
pub(super) struct Batch<'a> {
    path: &'a Path,
    transaction: Transaction<'a>,
    /// Watermarks of the streams this batch has met, by (epoch, stream).
    touched: BTreeMap<(u32, u32), u64>,
    sums: Sums,
    scratch: SampleBlock,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(
        path: &'a Path,
        connection: &'a mut Connection,
    ) -> Result<Self, StoreError> {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| StoreError::from_sqlite(path, error))?;
        let (touched, sums) = (BTreeMap::new(), Sums::default());
        Ok(Self { path, transaction, touched, sums, scratch: SampleBlock::with_capacity(0, 0) })
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(self.path, error)
    }

    pub(super) fn take(&mut self, frame: &Frame<'_>) -> Result<Taken, StoreError> {
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let next = frame.next_sequence();
        let watermark = self.watermark(epoch, stream)?;
        let duplicate = next <= watermark && !planted!("a duplicate is not dropped");
        if frame.header.count > 0 && duplicate {
            return Ok(Taken::Duplicate);
        }
        if sequence > watermark && !planted!("a hole is stored over") {
            return Err(StoreError::Hole { epoch, stream, expected: watermark, found: sequence });
        }
        if sequence < watermark || frame.header.count == 0 {
            let identity = frame.header.identity;
            return Err(StoreError::Misfit { identity, next, watermark });
        }
        self.insert(frame)?;
        self.sum_up(frame);
        if planted!("a block is summed up twice") {
            self.sum_up(frame);
        }
        self.touched.insert((epoch, stream), next);
        self.cross_gaps(epoch, stream)?;
        match frame.header.kind {
            kind::GAP | kind::EPOCH_END | kind::RUN_END => self.take_statement(frame)?,
            _ => {}
        }
        Ok(Taken::Stored)
    }

    /// Takes what a record says of other streams. The log is in order: what an
    /// end counts and the board did not send before it, its disk has lost.
    fn take_statement(&mut self, frame: &Frame<'_>) -> Result<(), StoreError> {
        let ends = match Record::decode(frame.header.kind, frame.payload) {
            Ok(Record::Gap(gap)) => return self.take_gap(gap),
            Ok(Record::EpochEnd(end)) => end.streams,
            Ok(Record::RunEnd(end)) => end.streams,
            // A record that this version cannot read says nothing to it.
            Ok(_) | Err(_) => return Ok(()),
        };
        for StreamEnd { epoch, stream, next: to } in ends {
            let from = self.watermark(epoch, stream)?;
            self.take_gap(Gap { epoch, stream, from, to, reason: GapReason::DamagedFrame })?;
        }
        Ok(())
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

    /// Adds a sample block to the summary levels; every other frame has none.
    fn sum_up(&mut self, frame: &Frame<'_>) {
        if frame.header.kind != kind::SAMPLE_BLOCK {
            return;
        }
        let Identity { epoch, stream, .. } = frame.header.identity;
        let rows = usize::from(frame.header.count);
        let is_read = block_codec(frame).is_some_and(|codec| {
            block::decode(frame.payload, codec, rows, &mut self.scratch).is_ok()
        });
        if is_read {
            self.sums.add(epoch, stream, &self.scratch);
        } else {
            self.sums.add_unreadable(epoch, stream);
        }
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

    /// Notes a gap, which may be told before the frames in front of it arrive,
    /// and twice: by the board's reader as a whole and by records in parts.
    pub(super) fn take_gap(&mut self, gap: Gap) -> Result<(), StoreError> {
        if gap.to <= gap.from {
            return Ok(());
        }
        let insert = || {
            self.transaction
                .prepare_cached(
                    "INSERT INTO gaps VALUES (?1, ?2, ?3, ?4) ON CONFLICT
                     DO UPDATE SET next = max(next, excluded.next)",
                )?
                .execute(params![gap.epoch, gap.stream, gap.from, gap.to])
        };
        insert().map_err(|error| self.failed(error))?;
        self.watermark(gap.epoch, gap.stream)?;
        if planted!("a gap does not move the watermark") {
            return Ok(());
        }
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

    pub(super) fn commit(self) -> Result<Vec<StreamEnd>, StoreError> {
        let Self { path, transaction, touched, mut sums, .. } = self;
        let mut write = || -> rusqlite::Result<()> {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO watermarks VALUES (?1, ?2, ?3)")?;
            for (&(epoch, stream), &next) in &touched {
                statement.execute(params![epoch, stream, next])?;
            }
            sums.write(&transaction)
        };
        if planted!("frames are committed before their watermark") {
            let early = transaction.execute_batch("COMMIT; BEGIN");
            early.map_err(|error| StoreError::from_sqlite(path, error))?;
        }
        let written = write().map_err(|error| StoreError::from_sqlite(path, error));
        if !planted!("a failed write is acknowledged") {
            written?;
        }
        transaction.commit().map_err(|error| StoreError::from_sqlite(path, error))?;
        let ends = touched.into_iter();
        Ok(ends.map(|((epoch, stream), next)| StreamEnd { epoch, stream, next }).collect())
    }
}
