//! Samples of one chip in one epoch: blocks in memory, or still in their store.
//!
//! Owns the way from a stretch of time to its rows. Blocks of a store stay
//! there, one being read at a time: a night at 1 kS/s is 200 MB of payloads and
//! 2 GB of rows. Knows neither rails nor units.

use std::rc::Rc;

use thiserror::Error;
use wattline_protocol::block::{self, BlockCodec, BlockError, SampleBlock, SampleRow};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::store::{Bucket, LEVEL_BITS, SampleStream, SamplesError, Store};

/// Nanoseconds in a tick of a row's time.
pub const TICK_NS: u64 = 1_000;

/// Why samples cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaneError {
    /// A payload is no sample block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The store cannot give it.
    #[error(transparent)]
    Store(#[from] SamplesError),
}

/// One block: its payload and where it lies in time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldBlock {
    first: BoardTime,
    last: BoardTime,
    rows: usize,
    codec: BlockCodec,
    payload: Box<[u8]>,
}

/// All blocks of one chip in one epoch, in order of sequence numbers.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Epoch of the agent.
    pub epoch: u32,
    /// Lane of the chip: the low byte of the stream number.
    pub lane: u8,
    blocks: Blocks,
}

#[derive(Debug, Clone)]
enum Blocks {
    Held(Vec<HeldBlock>),
    Stored { store: Rc<Store>, stream: SampleStream },
}

/// A level of a lane's store.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Length of a bucket.
    pub width: Nanos,
    /// Its buckets, in order of time.
    pub buckets: Vec<Bucket>,
}

impl Lane {
    pub(super) fn new(epoch: u32, lane: u8) -> Self {
        Self { epoch, lane, blocks: Blocks::Held(Vec::new()) }
    }

    pub(super) fn stored(store: Rc<Store>, stream: SampleStream) -> Self {
        let [lane, ..] = stream.stream.to_le_bytes();
        Self { epoch: stream.epoch, lane, blocks: Blocks::Stored { store, stream } }
    }

    /// Takes a block; decodes it once, to know that it can be and where it lies.
    pub(super) fn push(
        &mut self,
        payload: &[u8],
        codec: BlockCodec,
        rows: usize,
    ) -> Result<(), BlockError> {
        let mut scratch = SampleBlock::with_capacity(0, 0);
        block::decode(payload, codec, rows, &mut scratch)?;
        let (Some(&first), Some(&last)) = (scratch.times().first(), scratch.times().last()) else {
            return Ok(());
        };
        if let Blocks::Held(blocks) = &mut self.blocks {
            let (first, last) = (instant(first), instant(last));
            blocks.push(HeldBlock { first, last, rows, codec, payload: payload.into() });
        }
        Ok(())
    }

    /// Board times of the first and the last row; `None` without rows.
    #[must_use]
    pub fn span(&self) -> Option<(BoardTime, BoardTime)> {
        match &self.blocks {
            Blocks::Held(blocks) => Some((blocks.first()?.first, blocks.last()?.last)),
            Blocks::Stored { stream, .. } => {
                Some((instant(stream.first_ticks), instant(stream.last_ticks)))
            }
        }
    }

    /// Gives each row whose block touches the stretch from `from` to `to` to
    /// `take`, in order; rows of these blocks outside the stretch come as well.
    ///
    /// # Errors
    /// [`LaneError`] where a block cannot be read or does not decode; those in
    /// memory did when they were taken.
    pub fn for_each_row(
        &self,
        from: BoardTime,
        to: BoardTime,
        mut take: impl FnMut(&SampleRow<'_>),
    ) -> Result<(), LaneError> {
        match &self.blocks {
            Blocks::Held(blocks) => {
                let mut scratch = SampleBlock::with_capacity(0, 0);
                // Rows are in order of time within an epoch: its clock never steps.
                let start = blocks.partition_point(|block| block.last < from);
                for block in blocks.iter().skip(start).take_while(|block| block.first <= to) {
                    block::decode(&block.payload, block.codec, block.rows, &mut scratch)?;
                    scratch.rows().for_each(|row| take(&row));
                }
                Ok(())
            }
            Blocks::Stored { store, stream } => {
                let ticks = (from.0 / TICK_NS, to.0.div_ceil(TICK_NS));
                store.for_each_block((stream.epoch, stream.stream), ticks, |block| {
                    block.rows().for_each(|row| take(&row));
                })?;
                Ok(())
            }
        }
    }

    /// The coarsest level that cuts a stretch of `width` into four buckets at
    /// least; `None` where there is none, and the rows have to be read.
    ///
    /// # Errors
    /// [`LaneError`] of the store.
    pub fn summary(&self, width: Nanos) -> Result<Option<Summary>, LaneError> {
        let Blocks::Stored { store, stream } = &self.blocks else { return Ok(None) };
        let fits = |bits: u32| width.0 / 4 >= bucket_width(bits).0;
        let Some(level) = LEVEL_BITS.into_iter().rposition(fits) else { return Ok(None) };
        let level_number = u8::try_from(level).unwrap_or(0);
        let buckets = store.level(stream.epoch, stream.stream, level_number)?;
        Ok(Some(Summary { width: bucket_width(LEVEL_BITS[level]), buckets }))
    }
}

fn bucket_width(bits: u32) -> Nanos {
    Nanos(i64::try_from(TICK_NS << bits).unwrap_or(i64::MAX))
}

/// Board time of a row's ticks.
#[must_use]
pub fn instant(ticks: u64) -> BoardTime {
    BoardTime(ticks.saturating_mul(TICK_NS))
}
