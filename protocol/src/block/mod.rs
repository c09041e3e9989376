//! Sample blocks: rows of one chip as the payload of a frame.
//!
//! Owns the columns ([`SampleBlock`]), their bytes in two codecs and the
//! refusal of bytes that are none. Knows nothing of frames, checksums or
//! units, and keeps nothing from one block to the next: each decodes alone.
//! Theory: R. F. Rice, JPL 79-22 (1979); partitions as in FLAC, RFC 9639 §9.2.7.
//!
//! # Bytes
//!
//! A payload is one string of bits, the least significant bit of each byte
//! first; the last byte is filled with zeros. The number of rows stands in the
//! frame's header. A *number* is six bits of length n and the n − 1 bits below
//! its leading one (n = 63: 64 plain bits follow). All arithmetic on codes
//! wraps in 32 bits and on times in 64, so that each difference can be undone.
//!
//! 1. Columns: 5 bits, 0 to 16.
//! 2. Status: one bit, 0 if all readings of all rows are ok. Otherwise runs
//!    until all rows are covered: four bits for each rail, then the length of
//!    the run less one as a number. A reading whose status has no value has no
//!    code in the columns below; it is not written and comes back as absent.
//! 3. Times: a straight line, first the number of its ticks at row 0, five
//!    bits of fraction F, then the number of its period in 2⁻ᶠ ticks. The line
//!    at row i is `start + (i · period >> F)`. One bit says whether a row's
//!    distance above the line needs more than 32 bits; if so all are written
//!    as 64 plain bits, otherwise as residuals (5).
//! 4. Each column in turn: one bit of lift; if set, four bits for an earlier
//!    column and ten for a gain g in 1/128 (two's complement): the column is
//!    then written as what remains of it after g times the earlier one, since
//!    a bus voltage sags and a total rises with a rail's current. Then three
//!    bits of memory s and four of lean l: a value is foretold as
//!    `mean + l/8 · (last − mean)` with a running mean over 2ˢ values, from
//!    plain mean (l = 0) over difference (l = 8) to a damped slope (l > 8).
//!    Exactly, with `>>` an arithmetic shift: the lift is `(g · code + 64) >> 7`;
//!    the mean has six fraction bits and starts at `64 · first`; the foretelling
//!    is `((8 − l) · mean + l · 64 · last + 256) >> 9`, and after it `mean` grows
//!    by `(64 · last − mean) >> s` with the `last` it was made from.
//!    Then the first value as a number (zigzag), and each later one less its
//!    foretelling as residuals (5, zigzag). A column without codes ends after
//!    its lift bit.
//! 5. Residuals, unsigned 32 bits. Codec 1, Rice: for each 64 of them five
//!    bits of parameter k; then each as u >> k zeros, a one, and the low k bits
//!    of u. Sixteen zeros and a one instead announce 32 plain bits. Codec 2,
//!    bit-pack: for each 32 of them six bits of width (0 to 32), then each in
//!    that many bits.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod bits;
mod column;
mod plan;
mod residual;
mod rows;
mod status;
mod time;

pub use rows::{BlockFull, COLUMNS_MAX, ROWS_MAX, SampleBlock, SampleRow, SampleStatus, status_of};

use bits::{BitReader, BitWriter};

/// How residuals are written; the codec id of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockCodec {
    /// Rice codes with a parameter for each 64 values: the compact one.
    Rice = 1,
    /// Plain bits with a width for each 32 values: the simple one.
    BitPack = 2,
}

impl BlockCodec {
    /// The codec of an id; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Rice),
            2 => Some(Self::BitPack),
            _ => None,
        }
    }

    /// The id in a frame's header.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Rice => 1,
            Self::BitPack => 2,
        }
    }
}

/// Why bytes are not a block. All of them mean: drop the frame, report the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The payload ends inside a value.
    #[error("sample block ends after {bits} bits, inside a value")]
    Truncated {
        /// Bits of the payload.
        bits: usize,
    },
    /// The payload goes on after the last value.
    #[error("sample block has {bits} bits after its last value")]
    Trailing {
        /// Bits that were not read.
        bits: usize,
    },
    /// The frame announces more rows than a block may have.
    #[error("sample block of {rows} rows, at most {ROWS_MAX}")]
    TooManyRows {
        /// Rows announced.
        rows: usize,
    },
    /// There are more columns than a block may have.
    #[error("sample block of {columns} columns, at most {COLUMNS_MAX}")]
    TooManyColumns {
        /// Columns announced.
        columns: u32,
    },
    /// A status nibble names no status.
    #[error("status {nibble:#x} of rail {rail} names none")]
    Status {
        /// The rail.
        rail: usize,
        /// Its nibble.
        nibble: u32,
    },
    /// A run of statuses covers more rows than are left.
    #[error("run of {run} equal statuses where {left} rows are left")]
    StatusRun {
        /// Rows of the run.
        run: u64,
        /// Rows left.
        left: usize,
    },
    /// A column is lifted off one that does not stand complete before it.
    #[error("column {column} is lifted off column {reference}")]
    Lift {
        /// The column.
        column: usize,
        /// The column it names.
        reference: u32,
    },
    /// A first value does not fit 32 bits.
    #[error("first value {value:#x} of column {column} exceeds 32 bits")]
    First {
        /// The column.
        column: usize,
        /// The zigzag number found.
        value: u64,
    },
    /// A Rice code has more zeros than an escape.
    #[error("Rice code of {zeros} zeros, at most {}", residual::ESCAPE)]
    Zeros {
        /// Zeros found.
        zeros: u32,
    },
    /// A bit-packed width exceeds 32 bits.
    #[error("bit-packed values of {width} bits, at most 32")]
    Width {
        /// Width found.
        width: u32,
    },
}

/// Appends the payload of a block to `out`; allocates only where `out` grows.
pub fn encode(block: &SampleBlock, codec: BlockCodec, out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    let columns = block.column_count();
    writer.put_wide(u64::try_from(columns).unwrap_or(u64::MAX), 5);
    let failed = status::write(block, &mut writer);
    time::write(block.times(), codec, &mut writer);
    let plans = plan::plans(block, &failed);
    for (column, plan) in plans.iter().enumerate().take(columns) {
        column::write(block, column, &failed, plan, codec, &mut writer);
    }
    writer.finish();
}

/// Reads a payload of `row_count` rows into `out`, whose rows are forgotten.
///
/// Work and memory are bounded by rows times columns, whatever the bytes.
///
/// # Errors
/// [`BlockError`] where the bytes are not exactly such a block; `out` is then
/// empty.
pub fn decode(
    bytes: &[u8],
    codec: BlockCodec,
    row_count: usize,
    out: &mut SampleBlock,
) -> Result<(), BlockError> {
    let read = read(bytes, codec, row_count, out);
    if read.is_err() {
        out.clear();
    }
    read
}

fn read(
    bytes: &[u8],
    codec: BlockCodec,
    rows: usize,
    out: &mut SampleBlock,
) -> Result<(), BlockError> {
    if rows > ROWS_MAX {
        return Err(BlockError::TooManyRows { rows });
    }
    let mut reader = BitReader::new(bytes);
    let announced = reader.take_u32(5);
    let columns = usize::try_from(announced).unwrap_or(usize::MAX);
    if columns > COLUMNS_MAX {
        return Err(BlockError::TooManyColumns { columns: announced });
    }
    reader.check()?;
    out.reshape(columns, rows);
    let failed = status::read(columns, out.statuses_mut(), &mut reader)?;
    time::read(out.times_mut(), codec, &mut reader)?;
    for column in 0..columns {
        column::read(out, column, &failed, codec, &mut reader)?;
    }
    reader.finish()
}
