//! Rows of one chip, kept in columns.
//!
//! Owns the block that sampler and decoder fill, and the status of a reading.
//! Knows nothing of bytes, of units or of what a rail is called.
//! Source: records-and-reliability §1, "Encoding rules to keep".

/// Most columns of a block: shunt and bus of 8 rails, a nibble of status each.
pub const COLUMNS_MAX: usize = 16;

/// Most rows of a block: 2.3 s at 7 kS/s, and 64 KiB for each column.
pub const ROWS_MAX: usize = 16_384;

/// Rows of one chip in columns: time, status and the codes of each register.
///
/// Column 2r is the shunt code of rail r, column 2r + 1 its bus code. Nothing
/// is allocated while rows are pushed, cleared and pushed again.
#[derive(Clone, Debug)]
pub struct SampleBlock {
    capacity: usize,
    times: Vec<u64>,
    statuses: Vec<u32>,
    columns: Vec<Vec<i32>>,
}

impl SampleBlock {
    /// An empty block of `columns` columns and room for `rows` rows.
    ///
    /// # Panics
    /// If there are more columns than [`COLUMNS_MAX`] or more rows than [`ROWS_MAX`].
    #[must_use]
    pub fn with_capacity(columns: usize, rows: usize) -> Self {
        assert!(columns <= COLUMNS_MAX, "{columns} columns, at most {COLUMNS_MAX}");
        assert!(rows <= ROWS_MAX, "{rows} rows, at most {ROWS_MAX}");
        Self {
            capacity: rows,
            times: Vec::with_capacity(rows),
            statuses: Vec::with_capacity(rows),
            columns: (0..columns).map(|_| Vec::with_capacity(rows)).collect(),
        }
    }

    /// Adds a row: board time in ticks of 1 µs, a nibble of status for each
    /// rail, a code for each column.
    ///
    /// The code of a reading without a value is kept as 0; nibbles of rails
    /// that the block lacks are dropped, and a nibble that names no status
    /// becomes [`SampleStatus::Bus`]: what is not known to be read was not.
    ///
    /// # Errors
    /// [`BlockFull`] when the block holds as many rows as it has room for.
    ///
    /// # Panics
    /// If there is not one code for each column.
    #[inline]
    pub fn push(&mut self, time_ticks: u64, status: u32, codes: &[i32]) -> Result<(), BlockFull> {
        assert_eq!(codes.len(), self.columns.len(), "one code for each column");
        if self.times.len() >= self.capacity {
            return Err(BlockFull { rows: self.capacity });
        }
        let status = named(status & rails_mask(self.columns.len()));
        self.times.push(time_ticks);
        self.statuses.push(status);
        for (at, (column, &code)) in self.columns.iter_mut().zip(codes).enumerate() {
            let has_value = status == 0 || has_value(status, at / 2);
            column.push(if has_value { code } else { 0 });
        }
        Ok(())
    }

    /// Forgets the rows, keeps the room.
    pub fn clear(&mut self) {
        self.times.clear();
        self.statuses.clear();
        self.columns.iter_mut().for_each(Vec::clear);
    }

    /// Rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether the next push is refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.times.len() >= self.capacity
    }

    /// Columns of codes, two for each rail.
    #[must_use]
    pub const fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Board time of each row, ticks of 1 µs.
    #[must_use]
    pub fn times(&self) -> &[u64] {
        &self.times
    }

    /// Status of each row, a nibble for each rail.
    #[must_use]
    pub fn statuses(&self) -> &[u32] {
        &self.statuses
    }

    /// Codes of column `column`, 0 where a reading has no value; empty where
    /// the block lacks the column.
    #[must_use]
    pub fn column(&self, column: usize) -> &[i32] {
        self.columns.get(column).map_or(&[], Vec::as_slice)
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = SampleRow<'_>> {
        self.times
            .iter()
            .zip(&self.statuses)
            .enumerate()
            .map(|(row, (&time_ticks, &status))| SampleRow { block: self, row, time_ticks, status })
    }

    /// Makes the block one of `rows` rows and `columns` columns, to be written
    /// in place; codes are 0.
    pub(super) fn reshape(&mut self, columns: usize, rows: usize) {
        self.clear();
        self.columns.resize_with(columns, Vec::new);
        self.times.resize(rows, 0);
        self.statuses.resize(rows, 0);
        for column in &mut self.columns {
            column.resize(rows, 0);
        }
        self.capacity = self.capacity.max(rows);
    }

    pub(super) fn times_mut(&mut self) -> &mut [u64] {
        &mut self.times
    }

    pub(super) fn statuses_mut(&mut self) -> &mut [u32] {
        &mut self.statuses
    }

    /// Column `column` to be written, with what it is written by.
    pub(super) fn split_at_column(&mut self, column: usize) -> Option<ColumnMut<'_>> {
        let (before, rest) = self.columns.split_at_mut_checked(column)?;
        Some(ColumnMut { statuses: &self.statuses, before, codes: rest.first_mut()? })
    }

    pub(super) fn columns(&self) -> &[Vec<i32>] {
        &self.columns
    }
}

/// Blocks are equal when their rows are; room does not count.
impl PartialEq for SampleBlock {
    fn eq(&self, other: &Self) -> bool {
        self.times == other.times
            && self.statuses == other.statuses
            && self.columns == other.columns
    }
}

impl Eq for SampleBlock {}

/// A column to be written.
pub(super) struct ColumnMut<'a> {
    pub(super) statuses: &'a [u32],
    /// The columns before it.
    pub(super) before: &'a [Vec<i32>],
    pub(super) codes: &'a mut [i32],
}

/// One row of a block.
#[derive(Clone, Copy, Debug)]
pub struct SampleRow<'a> {
    block: &'a SampleBlock,
    row: usize,
    /// Board time of the end of the transaction, ticks of 1 µs.
    pub time_ticks: u64,
    /// A nibble of status for each rail.
    pub status: u32,
}

impl SampleRow<'_> {
    /// The code of a column; `None` where its rail's reading has no value.
    #[must_use]
    pub fn code(&self, column: usize) -> Option<i32> {
        let code = self.block.column(column).get(self.row).copied()?;
        has_value(self.status, column / 2).then_some(code)
    }

    /// The codes of all columns in turn.
    pub fn codes(&self) -> impl Iterator<Item = Option<i32>> {
        (0..self.block.column_count()).map(|column| self.code(column))
    }
}

/// What became of one rail's reading in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleStatus {
    /// A new conversion was read.
    Ok = 0,
    /// The conversion that was read before.
    Stale = 1,
    /// The timer skipped periods before this row.
    Skipped = 2,
    /// The chip did not acknowledge; no value.
    Nack = 3,
    /// The register stood at its end or the chip's overflow flag was set.
    Overrange = 4,
    /// The bus failed otherwise; no value.
    Bus = 5,
}

impl SampleStatus {
    /// The status of a nibble; `None` for the ten that name none.
    #[must_use]
    pub const fn from_nibble(nibble: u32) -> Option<Self> {
        match nibble {
            0 => Some(Self::Ok),
            1 => Some(Self::Stale),
            2 => Some(Self::Skipped),
            3 => Some(Self::Nack),
            4 => Some(Self::Overrange),
            5 => Some(Self::Bus),
            _ => None,
        }
    }

    /// The nibble of this status.
    #[must_use]
    pub const fn nibble(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Stale => 1,
            Self::Skipped => 2,
            Self::Nack => 3,
            Self::Overrange => 4,
            Self::Bus => 5,
        }
    }

    /// Whether codes were read.
    #[must_use]
    pub const fn has_value(self) -> bool {
        match self {
            Self::Ok | Self::Stale | Self::Skipped | Self::Overrange => true,
            Self::Nack | Self::Bus => false,
        }
    }

    /// Whether the codes are a conversion that was not read before.
    #[must_use]
    pub const fn is_new(self) -> bool {
        match self {
            Self::Ok | Self::Skipped | Self::Overrange => true,
            Self::Stale | Self::Nack | Self::Bus => false,
        }
    }
}

/// The status of rail `rail` in a row's status word; `None` for a nibble that
/// names none and for a rail past the eighth.
#[must_use]
pub fn status_of(word: u32, rail: usize) -> Option<SampleStatus> {
    SampleStatus::from_nibble(nibble(word, rail)?)
}

/// The block holds as many rows as it has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sample block is full at {rows} rows")]
pub struct BlockFull {
    /// Rows it has room for.
    pub rows: usize,
}

/// Whether rail `rail` has codes in a row of this status.
#[inline]
pub(super) fn has_value(word: u32, rail: usize) -> bool {
    status_of(word, rail).is_some_and(SampleStatus::has_value)
}

/// The bits of a status word that belong to the rails of `columns` columns.
pub(super) fn rails_mask(columns: usize) -> u32 {
    (0..columns.div_ceil(2)).fold(0_u32, |mask, _| mask.wrapping_shl(4) | 0xf)
}

/// The first rail whose nibble names no status, and that nibble.
pub(super) fn unnamed(word: u32) -> Option<(usize, u32)> {
    (0..COLUMNS_MAX / 2)
        .filter_map(|rail| Some((rail, nibble(word, rail)?)))
        .find(|&(_, nibble)| SampleStatus::from_nibble(nibble).is_none())
}

fn named(mut word: u32) -> u32 {
    while let Some((rail, wrong)) = unnamed(word) {
        let bits = (wrong ^ SampleStatus::Bus.nibble()).checked_shl(shift(rail));
        word ^= bits.unwrap_or(0);
    }
    word
}

#[inline]
fn nibble(word: u32, rail: usize) -> Option<u32> {
    word.checked_shr(shift(rail)).map(|bits| bits & 0xf)
}

#[inline]
fn shift(rail: usize) -> u32 {
    u32::try_from(rail).map_or(u32::MAX, |rail| rail.saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_is_absent_and_its_neighbours_are_not() {
        let mut block = SampleBlock::with_capacity(4, 2);
        block.push(7, 0x30, &[1, 2, 3, 4]).unwrap();
        let row = block.rows().next().unwrap();
        assert_eq!(row.codes().collect::<Vec<_>>(), [Some(1), Some(2), None, None]);
        assert_eq!(block.column(2), [0]);
    }

    #[test]
    fn a_full_block_refuses_and_a_cleared_one_takes() {
        let mut block = SampleBlock::with_capacity(1, 1);
        assert_eq!(block.push(0, 0, &[1]), Ok(()));
        assert!(block.is_full());
        assert_eq!(block.push(1, 0, &[2]), Err(BlockFull { rows: 1 }));
        block.clear();
        assert_eq!(block.push(1, 0, &[2]), Ok(()));
    }

    #[test]
    fn each_nibble_has_one_meaning_or_none() {
        for nibble in 0..16 {
            let status = SampleStatus::from_nibble(nibble);
            assert_eq!(status.is_some(), nibble < 6);
            assert!(status.is_none_or(|status| status.nibble() == nibble));
        }
        assert_eq!(status_of(0x5000_0000, 7), Some(SampleStatus::Bus));
        assert_eq!(status_of(0, 8), None);
    }

    #[test]
    fn a_status_without_a_name_counts_as_not_read() {
        let mut block = SampleBlock::with_capacity(3, 1);
        block.push(0, 0xffff_ff1f, &[9, 9, 9]).unwrap();
        assert_eq!(block.statuses(), [0x15]);
        assert_eq!(block.rows().next().unwrap().code(0), None);
        assert_eq!(block.rows().next().unwrap().code(2), Some(9));
    }
}
