//! The status column: one bit when all is well, runs otherwise.
//!
//! Owns how statuses are written and which rails miss a code in some row.
//! Knows nothing of codes. Source: records-and-reliability §1.

use super::bits::{BitReader, BitWriter};
use super::rows::{has_value, rails_mask, unnamed};
use super::{BlockError, COLUMNS_MAX, SampleBlock};

/// For each rail whether some row has no code for it.
pub(super) type Failed = [bool; COLUMNS_MAX / 2];

/// Writes the statuses; gives the rails with failed readings.
pub(super) fn write(block: &SampleBlock, writer: &mut BitWriter<'_>) -> Failed {
    let statuses = block.statuses();
    let mut failed = [false; COLUMNS_MAX / 2];
    if statuses.iter().fold(0, |all, &status| all | status) == 0 {
        writer.put(0, 1);
        return failed;
    }
    writer.put(1, 1);
    let bits = rails_mask(block.column_count()).count_ones();
    for run in statuses.chunk_by(|a, b| a == b) {
        let status = run.first().copied().unwrap_or(0);
        writer.put(u64::from(status), bits);
        writer.put_number(u64::try_from(run.len()).unwrap_or(u64::MAX).saturating_sub(1));
        mark(status, block.column_count(), &mut failed);
    }
    failed
}

/// Reads as many statuses as `statuses` holds; gives the rails with failed readings.
pub(super) fn read(
    columns: usize,
    mut statuses: &mut [u32],
    reader: &mut BitReader<'_>,
) -> Result<Failed, BlockError> {
    let mut failed = [false; COLUMNS_MAX / 2];
    if reader.take_u32(1) == 0 {
        return Ok(failed);
    }
    let bits = rails_mask(columns).count_ones();
    while !statuses.is_empty() {
        let status = reader.take_u32(bits);
        let run = reader.take_number().saturating_add(1);
        reader.check()?;
        if let Some((rail, nibble)) = unnamed(status) {
            return Err(BlockError::Status { rail, nibble });
        }
        let left = statuses.len();
        let covered = usize::try_from(run).unwrap_or(usize::MAX);
        let (these, rest) =
            statuses.split_at_mut_checked(covered).ok_or(BlockError::StatusRun { run, left })?;
        these.fill(status);
        statuses = rest;
        mark(status, columns, &mut failed);
    }
    Ok(failed)
}

fn mark(status: u32, columns: usize, failed: &mut Failed) {
    for (rail, failed) in failed.iter_mut().enumerate().take(columns.div_ceil(2)) {
        *failed |= !has_value(status, rail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_past_the_last_row_is_refused() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        writer.put(1, 1);
        writer.put(0x3, 4);
        writer.put_number(3);
        writer.finish();
        let read = read(2, &mut [0; 3], &mut BitReader::new(&bytes));
        assert_eq!(read, Err(BlockError::StatusRun { run: 4, left: 3 }));
    }

    #[test]
    fn statuses_that_are_all_ok_cost_one_bit() {
        let mut block = SampleBlock::with_capacity(2, 9);
        (0..9).for_each(|row| block.push(row, 0, &[1, 2]).unwrap());
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        assert_eq!(write(&block, &mut writer), [false; 8]);
        writer.finish();
        assert_eq!(bytes, [0]);
    }
}
