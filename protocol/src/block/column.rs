//! One column of codes as residuals.
//!
//! Owns lift and foretelling, there and back. Which of them a column gets is
//! chosen in `plan`; how residuals become bits stands in `residual`.
//! Theory: RFC 9639 §4.2.2 (decorrelation between channels) and §9.2.5.

use super::bits::{BitReader, BitWriter};
use super::residual::{self, CHUNK};
use super::rows::{ColumnMut, has_value};
use super::status::Failed;
use super::{BlockCodec, BlockError, SampleBlock};

/// Fraction bits of a lift's gain.
pub(super) const GAIN_FRACTION: u32 = 7;
/// Bits of a lift's gain on the wire, two's complement: −4 to +4.
const GAIN_BITS: u32 = 10;
/// Largest gain, in 1/128.
pub(super) const GAIN_MAX: i32 = (1 << (GAIN_BITS - 1)) - 1;
/// Fraction bits of the running mean: a 20-bit code and a lean of 15 fit above.
const MEAN_FRACTION: u32 = 6;

/// How a column is foretold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) lift: Option<Lift>,
    /// The running mean moves by 2⁻ᵐᵉᵐᵒʳʸ of its distance, 0 to 7.
    pub(super) memory: u32,
    /// Eighths of the way from the mean to the last value, 0 to 15.
    pub(super) lean: u32,
}

/// A multiple of an earlier column that is taken off first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lift {
    pub(super) reference: usize,
    /// In 1/128, ±[`GAIN_MAX`].
    pub(super) gain: i32,
}

impl Lift {
    /// What the code of the earlier column foretells of this one's.
    #[inline(always)]
    pub(super) const fn of(self, code: i32) -> i32 {
        code.wrapping_mul(self.gain)
            .wrapping_add(1 << (GAIN_FRACTION - 1))
            >> GAIN_FRACTION
    }
}

/// Foretells a value from those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predictor {
    mean: i32,
    last: i32,
    memory: u32,
    to_mean: i32,
    to_last: i32,
}

impl Predictor {
    pub(super) fn new(plan: &Plan, first: i32) -> Self {
        let lean = plan.lean.cast_signed();
        let first = first.wrapping_shl(MEAN_FRACTION);
        let to_mean = 8_i32.wrapping_sub(lean);
        Self {
            mean: first,
            last: first,
            memory: plan.memory,
            to_mean,
            to_last: lean,
        }
    }

    #[inline(always)]
    pub(super) const fn foretell(&self) -> i32 {
        let mean = self.mean.wrapping_mul(self.to_mean);
        let last = self.last.wrapping_mul(self.to_last);
        mean.wrapping_add(last).wrapping_add(4 << MEAN_FRACTION) >> (MEAN_FRACTION + 3)
    }

    #[inline(always)]
    pub(super) const fn learn(&mut self, value: i32) {
        let way = self.last.wrapping_sub(self.mean);
        self.mean = self.mean.wrapping_add(way.wrapping_shr(self.memory));
        self.last = value.wrapping_shl(MEAN_FRACTION);
    }
}

/// Writes column `column` by its plan.
pub(super) fn write(
    block: &SampleBlock,
    column: usize,
    failed: &Failed,
    plan: &Plan,
    codec: BlockCodec,
    writer: &mut BitWriter<'_>,
) {
    let codes = block.column(column);
    if let Some(lift) = plan.lift {
        let gain = u64::from(lift.gain.cast_unsigned()) & ((1 << GAIN_BITS) - 1);
        writer.put(1, 1);
        writer.put_wide(u64::try_from(lift.reference).unwrap_or(0), 4);
        writer.put(gain, GAIN_BITS);
        let reference = block.column(lift.reference);
        let lifted = codes
            .iter()
            .zip(reference)
            .map(|(&code, &off)| code.wrapping_sub(lift.of(off)));
        write_values(lifted, plan, codec, writer);
    } else if is_failed(failed, column / 2) {
        writer.put(0, 1);
        let rows = codes.iter().zip(block.statuses());
        let read = rows.filter(|&(_, &status)| has_value(status, column / 2));
        write_values(read.map(|(&code, _)| code), plan, codec, writer);
    } else {
        writer.put(0, 1);
        write_values(codes.iter().copied(), plan, codec, writer);
    }
}

fn write_values(
    mut values: impl Iterator<Item = i32>,
    plan: &Plan,
    codec: BlockCodec,
    writer: &mut BitWriter<'_>,
) {
    let Some(first) = values.next() else { return };
    writer.put(u64::from(plan.memory), 3);
    writer.put(u64::from(plan.lean), 4);
    writer.put_number(u64::from(zigzag(first)));
    let mut predictor = Predictor::new(plan, first);
    let mut buffer = [0_u32; CHUNK];
    loop {
        let mut count = 0_usize;
        for (slot, value) in buffer.iter_mut().zip(&mut values) {
            *slot = zigzag(value.wrapping_sub(predictor.foretell()));
            predictor.learn(value);
            count = count.wrapping_add(1);
        }
        if count == 0 {
            return;
        }
        residual::write(buffer.get(..count).unwrap_or(&[]), codec, writer);
    }
}

/// Reads column `column` of `block`; those before it are there.
pub(super) fn read(
    block: &mut SampleBlock,
    column: usize,
    failed: &Failed,
    codec: BlockCodec,
    reader: &mut BitReader<'_>,
) -> Result<(), BlockError> {
    let Some(ColumnMut {
        statuses,
        before,
        codes,
    }) = block.split_at_column(column)
    else {
        return Ok(());
    };
    let rail = column / 2;
    let rows = codes.len();
    if reader.take_u32(1) == 1 {
        let reference = reader.take_u32(4);
        let gain = reader.take_u32(GAIN_BITS);
        let shift = u32::BITS - GAIN_BITS;
        let gain = gain.wrapping_shl(shift).cast_signed().wrapping_shr(shift);
        let off = usize::try_from(reference)
            .ok()
            .filter(|&at| !is_failed(failed, at / 2));
        let off = off
            .filter(|_| !is_failed(failed, rail))
            .and_then(|at| before.get(at));
        let off = off.ok_or(BlockError::Lift { column, reference })?;
        let lift = Lift { reference: 0, gain };
        read_values(codes.iter_mut(), rows, column, codec, reader)?;
        for (code, &off) in codes.iter_mut().zip(off) {
            *code = code.wrapping_add(lift.of(off));
        }
        Ok(())
    } else if is_failed(failed, rail) {
        let is_read = |status: &u32| has_value(*status, rail);
        let count = statuses.iter().filter(|status| is_read(status)).count();
        let read = codes
            .iter_mut()
            .zip(statuses)
            .filter(|(_, status)| is_read(status));
        read_values(read.map(|(code, _)| code), count, column, codec, reader)
    } else {
        read_values(codes.iter_mut(), rows, column, codec, reader)
    }
}

fn is_failed(failed: &Failed, rail: usize) -> bool {
    failed.get(rail).is_none_or(|&failed| failed)
}

fn read_values<'a>(
    mut slots: impl Iterator<Item = &'a mut i32>,
    count: usize,
    column: usize,
    codec: BlockCodec,
    reader: &mut BitReader<'_>,
) -> Result<(), BlockError> {
    let Some(first_slot) = slots.next() else {
        return Ok(());
    };
    let memory = reader.take_u32(3);
    let lean = reader.take_u32(4);
    let value = reader.take_number();
    reader.check()?;
    let first = u32::try_from(value).map_err(|_| BlockError::First { column, value })?;
    let first = unzigzag(first);
    *first_slot = first;
    let mut predictor = Predictor::new(
        &Plan {
            lift: None,
            memory,
            lean,
        },
        first,
    );
    let mut buffer = [0_u32; CHUNK];
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let values = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
        left = left.saturating_sub(CHUNK);
        residual::read(values, codec, reader)?;
        for (&mut residual, slot) in values.iter_mut().zip(&mut slots) {
            let value = predictor.foretell().wrapping_add(unzigzag(residual));
            predictor.learn(value);
            *slot = value;
        }
    }
    Ok(())
}

/// 0, −1, 1, −2, … as 0, 1, 2, 3, …
#[inline(always)]
pub(super) const fn zigzag(value: i32) -> u32 {
    (value.wrapping_shl(1) ^ (value >> 31)).cast_unsigned()
}

#[inline(always)]
const fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}
