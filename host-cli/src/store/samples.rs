//! Sample blocks read from a store by their time.
//!
//! Owns the search for a stretch of time within a stream, and the reading of a
//! stream's summary levels, made on the fly where the recording is older than
//! they are. Holds one block at a time: a night is 200 MB of payloads.
//!
//! Rows of a stream are in order of time, since the board's monotonic clock
//! never steps within an epoch: a binary search over sequence numbers finds
//! the first block of a stretch in some 25 looks, without an index of times.

use rusqlite::{Row, params};
use thiserror::Error;
use wattline_protocol::block::{self, BlockCodec, BlockError, SampleBlock};
use wattline_protocol::frame::{Codec, Frame, Identity};
use wattline_protocol::record::kind;

use super::levels::{self, Bucket, Sums};
use super::{Store, StoreError, schema};

/// SQLite counts no further.
const MOST: u64 = i64::MAX.unsigned_abs();
/// Sample blocks of one stream, beside or from a sequence number on.
const FIRST_FROM: &str = "SELECT first, bytes FROM frames WHERE epoch = ?1 AND stream = ?2
     AND first >= ?3 AND kind = 32 ORDER BY first LIMIT 1";
const LAST_TO: &str = "SELECT first, bytes FROM frames WHERE epoch = ?1 AND stream = ?2
     AND first <= ?3 AND kind = 32 ORDER BY first DESC LIMIT 1";
const ALL_FROM: &str = "SELECT first, bytes FROM frames WHERE epoch = ?1 AND stream = ?2
     AND first >= ?3 AND kind = 32 ORDER BY first";
const _: () = assert!(kind::SAMPLE_BLOCK == 32, "as the queries have it");

/// Why samples cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// The file refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The payload of a frame is no sample block.
    #[error(
        "frame {} of stream {} in epoch {}: {source}",
        identity.sequence, identity.stream, identity.epoch
    )]
    Block {
        /// Which frame.
        identity: Identity,
        /// What is wrong.
        source: BlockError,
    },
}

/// A stream of samples and where it lies in time, in ticks of 1 µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleStream {
    /// Epoch of the agent.
    pub epoch: u32,
    /// The stream.
    pub stream: u32,
    /// Time of its first row.
    pub first_ticks: u64,
    /// Time of its last row.
    pub last_ticks: u64,
}

/// How the samples of a frame are encoded; `None` where they are none that
/// this version knows.
pub(super) fn block_codec(frame: &Frame<'_>) -> Option<BlockCodec> {
    match Codec::from_id(frame.header.codec)? {
        Codec::Rice => Some(BlockCodec::Rice),
        Codec::BitPack => Some(BlockCodec::BitPack),
        Codec::Postcard => None,
    }
}

impl Store {
    /// Streams that hold sample blocks, in order of (epoch, stream).
    ///
    /// # Errors
    /// [`SamplesError`] of the file, or of a stream's first or last block.
    pub fn sample_streams(&self) -> Result<Vec<SampleStream>, SamplesError> {
        let by_level = "SELECT DISTINCT epoch, stream FROM levels WHERE level = 2 ORDER BY 1, 2";
        let by_frame = format!(
            "SELECT DISTINCT epoch, stream FROM frames WHERE kind = {} ORDER BY 1, 2",
            kind::SAMPLE_BLOCK
        );
        let query = if self.has_levels { by_level } else { &by_frame };
        let names: Vec<(u32, u32)> = self.collect(query, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut scratch = SampleBlock::with_capacity(0, 0);
        let mut streams = Vec::new();
        for (epoch, stream) in names {
            self.one_block((epoch, stream), FIRST_FROM, 0, &mut scratch)?;
            let first = scratch.times().first().copied();
            self.one_block((epoch, stream), LAST_TO, MOST, &mut scratch)?;
            let last = scratch.times().last().copied();
            if let Some((first_ticks, last_ticks)) = first.zip(last) {
                streams.push(SampleStream { epoch, stream, first_ticks, last_ticks });
            }
        }
        Ok(streams)
    }

    /// Gives each block of a stream that touches the stretch of time from
    /// `from_ticks` to `to_ticks` to `take`, in order.
    ///
    /// # Errors
    /// [`SamplesError`] of the file, or naming the block that does not decode.
    pub fn for_each_block(
        &self,
        (epoch, stream): (u32, u32),
        (from_ticks, to_ticks): (u64, u64),
        mut take: impl FnMut(&SampleBlock),
    ) -> Result<(), SamplesError> {
        let mut scratch = SampleBlock::with_capacity(0, 0);
        let start = self.sequence_at((epoch, stream), from_ticks, &mut scratch)?;
        let failed = |error| StoreError::from_sqlite(self.path(), error);
        let mut statement = self.connection.prepare_cached(ALL_FROM).map_err(failed)?;
        let mut rows = statement.query(params![epoch, stream, start]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            self.read_block((epoch, stream), row, &mut scratch)?;
            match (scratch.times().first(), scratch.times().last()) {
                (Some(&first), _) if first > to_ticks => break,
                (_, Some(&last)) if last >= from_ticks => take(&scratch),
                _ => {}
            }
        }
        Ok(())
    }

    /// Buckets of a stream at a level of [`LEVEL_BITS`](super::LEVEL_BITS), in
    /// order of time. A recording of version 1 has none: they are made from all
    /// its samples.
    ///
    /// # Errors
    /// [`SamplesError`] of the file, or naming a block that does not decode.
    pub fn level(&self, epoch: u32, stream: u32, level: u8) -> Result<Vec<Bucket>, SamplesError> {
        if self.has_levels {
            return levels::read(&self.connection, level, epoch, stream)
                .map_err(|error| StoreError::from_sqlite(self.path(), error).into());
        }
        let mut sums = Sums::default();
        self.for_each_block((epoch, stream), (0, u64::MAX), |block| {
            sums.add(epoch, stream, block);
        })?;
        Ok(sums.buckets(level, epoch, stream))
    }

    /// Gives a recording of version 1 its summary levels, in one transaction.
    pub(super) fn add_levels(&mut self) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_sqlite(self.path(), error);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let mut sums = Sums::default();
        let query = format!(
            "SELECT DISTINCT epoch, stream FROM frames WHERE kind = {}",
            kind::SAMPLE_BLOCK
        );
        let streams: Vec<(u32, u32)> =
            self.collect(&query, |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (epoch, stream) in streams {
            let read = self.for_each_block((epoch, stream), (0, u64::MAX), |block| {
                sums.add(epoch, stream, block);
            });
            match read {
                Ok(()) => {}
                Err(SamplesError::Block { .. }) => sums.add_unreadable(epoch, stream),
                Err(SamplesError::Store(error)) => return Err(error),
            }
        }
        schema::to_version_2(&transaction).map_err(failed)?;
        sums.write(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.has_levels = true;
        Ok(())
    }

    /// Sequence number to begin reading at for rows from `ticks` on: that of
    /// the last block that begins at or before it.
    fn sequence_at(
        &self,
        stream: (u32, u32),
        ticks: u64,
        scratch: &mut SampleBlock,
    ) -> Result<u64, SamplesError> {
        let last = self.one_block(stream, LAST_TO, MOST, scratch)?;
        let (mut begins, mut low, mut high) = (0, 0, last.map_or(0, |(first, _)| first) + 1);
        while low < high {
            let middle = low.midpoint(high);
            match self.one_block(stream, LAST_TO, middle, scratch)? {
                Some((first, next)) if scratch.times().first().is_some_and(|&at| at <= ticks) => {
                    begins = first;
                    low = next.max(middle + 1);
                }
                Some((first, _)) => high = first,
                None => low = middle + 1,
            }
        }
        Ok(begins)
    }

    /// Reads the one block that a query finds beside a sequence number; its
    /// first sequence number and the one past its last.
    fn one_block(
        &self,
        (epoch, stream): (u32, u32),
        query: &str,
        sequence: u64,
        out: &mut SampleBlock,
    ) -> Result<Option<(u64, u64)>, SamplesError> {
        let failed = |error| StoreError::from_sqlite(self.path(), error);
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        let mut rows = statement.query(params![epoch, stream, sequence]).map_err(failed)?;
        match rows.next().map_err(failed)? {
            Some(row) => self.read_block((epoch, stream), row, out).map(Some),
            None => {
                out.clear();
                Ok(None)
            }
        }
    }

    fn read_block(
        &self,
        (epoch, stream): (u32, u32),
        row: &Row<'_>,
        out: &mut SampleBlock,
    ) -> Result<(u64, u64), SamplesError> {
        let failed = |error| StoreError::from_sqlite(self.path(), error);
        let sequence = row.get(0).map_err(failed)?;
        let bytes = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
        let identity = Identity { epoch, stream, sequence };
        let frame = self.check(identity, bytes)?;
        let codec = block_codec(&frame).unwrap_or(BlockCodec::Rice);
        block::decode(frame.payload, codec, usize::from(frame.header.count), out)
            .map_err(|source| SamplesError::Block { identity, source })?;
        Ok((sequence, frame.next_sequence()))
    }
}
