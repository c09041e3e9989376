//! One column of codes as residuals.
//!
//! Owns lift and foretelling, there and back. Which of them a column gets is
//! chosen in `plan`; how residuals become bits stands in `residual`.
//! Theory: RFC 9639 §4.2 (decorrelation between channels), §9.2.6 (prediction).

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
        code.wrapping_mul(self.gain).wrapping_add(1 << (GAIN_FRACTION - 1)) >> GAIN_FRACTION
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
        Self {
            mean: first.wrapping_shl(MEAN_FRACTION),
            last: first,
            memory: plan.memory,
            to_mean: 8_i32.wrapping_sub(lean),
            to_last: lean.wrapping_shl(MEAN_FRACTION),
        }
    }

    #[inline(always)]
    pub(super) const fn foretell(&self) -> i32 {
        let half = 4 << MEAN_FRACTION;
        let mean = self.mean.wrapping_mul(self.to_mean).wrapping_add(half);
        let last = self.last.wrapping_mul(self.to_last);
        mean.wrapping_add(last) >> (MEAN_FRACTION + 3)
    }

    #[inline(always)]
    pub(super) const fn learn(&mut self, value: i32) {
        let last = self.last.wrapping_shl(MEAN_FRACTION);
        let way = last.wrapping_sub(self.mean);
        self.mean = self.mean.wrapping_add(way.wrapping_shr(self.memory));
        self.last = value;
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
        let lifted =
            codes.iter().zip(reference).map(|(&code, &off)| code.wrapping_sub(lift.of(off)));
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
    let Some(ColumnMut { statuses, before, codes }) = block.split_at_column(column) else {
        return Ok(());
    };
    let rail = column / 2;
    if reader.take_u32(1) == 1 {
        let reference = reader.take_u32(4);
        let gain = reader.take_u32(GAIN_BITS);
        let shift = u32::BITS - GAIN_BITS;
        let gain = gain.wrapping_shl(shift).cast_signed().wrapping_shr(shift);
        let off = usize::try_from(reference).ok().filter(|&at| !is_failed(failed, at / 2));
        let off = off.filter(|_| !is_failed(failed, rail)).and_then(|at| before.get(at));
        let off = off.ok_or(BlockError::Lift { column, reference })?;
        let lift = Lift { reference: 0, gain };
        read_values(codes, column, codec, reader)?;
        for (code, &off) in codes.iter_mut().zip(off) {
            *code = code.wrapping_add(lift.of(off));
        }
        Ok(())
    } else if is_failed(failed, rail) {
        let is_read = |status: &&u32| has_value(**status, rail);
        let count = statuses.iter().filter(is_read).count();
        let values = codes.get_mut(..count).unwrap_or_default();
        read_values(values, column, codec, reader)?;
        spread(codes, statuses, rail, count);
        Ok(())
    } else {
        read_values(codes, column, codec, reader)
    }
}

fn is_failed(failed: &Failed, rail: usize) -> bool {
    failed.get(rail).is_none_or(|&failed| failed)
}

/// Reads as many values as there are slots.
fn read_values(
    slots: &mut [i32],
    column: usize,
    codec: BlockCodec,
    reader: &mut BitReader<'_>,
) -> Result<(), BlockError> {
    let Some((first_slot, slots)) = slots.split_first_mut() else {
        return Ok(());
    };
    let memory = reader.take_u32(3);
    let lean = reader.take_u32(4);
    let value = reader.take_number();
    reader.check()?;
    let first = u32::try_from(value).map_err(|_| BlockError::First { column, value })?;
    let first = unzigzag(first);
    *first_slot = first;
    let plan = Plan { lift: None, memory, lean };
    let mut predictor = Predictor::new(&plan, first);
    residual::read(slots, codec, reader, |residual| {
        let value = predictor.foretell().wrapping_add(unzigzag(residual));
        predictor.learn(value);
        value
    })
}

/// Moves the values at the front of a column to the rows that have one, from
/// the last on, and puts 0 in the others.
fn spread(codes: &mut [i32], statuses: &[u32], rail: usize, mut values: usize) {
    for (row, &status) in statuses.iter().enumerate().rev() {
        let mut code = 0;
        if has_value(status, rail) {
            values = values.saturating_sub(1);
            code = codes.get(values).copied().unwrap_or(0);
        }
        if let Some(slot) = codes.get_mut(row) {
            *slot = code;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_has_no_gap_at_the_ends() {
        for (value, folded) in [(0, 0), (-1, 1), (1, 2), (i32::MAX, u32::MAX - 1)] {
            assert_eq!(zigzag(value), folded);
        }
        for value in [0, -1, 1, i32::MIN, i32::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_column_lifted_off_itself_or_a_failed_rail_is_refused() {
        let failed = |rail: usize| {
            let mut failed = [false; 8];
            failed.iter_mut().skip(rail).take(1).for_each(|failed| *failed = true);
            failed
        };
        // A lift bit, four bits of reference, ten of gain.
        for (reference, failed) in [(2, failed(7)), (15, failed(7)), (0, failed(0)), (1, failed(1))]
        {
            let bytes = [1 | reference << 1, 0, 0, 0];
            let mut block = SampleBlock::with_capacity(0, 0);
            block.reshape(4, 1);
            let mut reader = BitReader::new(&bytes);
            let read = read(&mut block, 2, &failed, BlockCodec::Rice, &mut reader);
            let reference = u32::from(reference);
            assert_eq!(read, Err(BlockError::Lift { column: 2, reference }));
        }
    }

    #[test]
    fn values_spread_to_the_rows_that_have_one() {
        let mut codes = [7, 8, 9, 0, 0];
        spread(&mut codes, &[0x3, 0, 0x5, 0x1, 0x4], 0, 3);
        assert_eq!(codes, [0, 7, 0, 8, 9]);
    }
}
