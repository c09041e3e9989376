//! Sample blocks of one chip in one epoch, kept as the bytes they came in.
//!
//! Owns the index from time to block. A night at 1 kS/s is some 270 MB of
//! payloads against 2 GB of rows: blocks are decoded when a stretch of time is
//! asked for, into one scratch block. Knows neither rails nor units.

use wattline_protocol::block::{self, BlockCodec, BlockError, SampleBlock, SampleRow};
use wattline_protocol::units::BoardTime;

/// Nanoseconds in a tick of a row's time.
pub const TICK_NS: u64 = 1_000;

/// One block: its payload and where it lies in time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StoredBlock {
    first: BoardTime,
    last: BoardTime,
    rows: usize,
    codec: BlockCodec,
    payload: Box<[u8]>,
}

/// All blocks of one chip in one epoch, in order of sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Epoch of the agent.
    pub epoch: u32,
    /// Lane of the chip: the low byte of the stream number.
    pub lane: u8,
    blocks: Vec<StoredBlock>,
    rows: u64,
}

impl Lane {
    pub(super) fn new(epoch: u32, lane: u8) -> Self {
        Self { epoch, lane, blocks: Vec::new(), rows: 0 }
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
        self.rows = self.rows.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
        self.blocks.push(StoredBlock {
            first: instant(first),
            last: instant(last),
            rows,
            codec,
            payload: payload.into(),
        });
        Ok(())
    }

    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Board times of the first and the last row; `None` without rows.
    #[must_use]
    pub fn span(&self) -> Option<(BoardTime, BoardTime)> {
        Some((self.blocks.first()?.first, self.blocks.last()?.last))
    }

    /// Gives each row whose block touches the stretch from `from` to `to` to
    /// `take`, in order; rows of these blocks outside the stretch come as well.
    ///
    /// # Errors
    /// [`BlockError`] where a payload does not decode; those of a
    /// [`Recording`](super::Recording) did when it was read.
    pub fn for_each_row(
        &self,
        from: BoardTime,
        to: BoardTime,
        mut take: impl FnMut(&SampleRow<'_>),
    ) -> Result<(), BlockError> {
        let mut scratch = SampleBlock::with_capacity(0, 0);
        // Rows are in order of time within an epoch: its clock never steps.
        let start = self.blocks.partition_point(|block| block.last < from);
        for block in self.blocks.iter().skip(start).take_while(|block| block.first <= to) {
            block::decode(&block.payload, block.codec, block.rows, &mut scratch)?;
            scratch.rows().for_each(|row| take(&row));
        }
        Ok(())
    }
}

/// Board time of a row's ticks.
#[must_use]
pub fn instant(ticks: u64) -> BoardTime {
    BoardTime(ticks.saturating_mul(TICK_NS))
}
