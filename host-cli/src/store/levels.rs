//! Summary levels: the power of each rail over fixed stretches of time.
//!
//! Owns the table `levels`, which is written in the transaction that stores the
//! samples it sums up, so that the two never disagree: a picture of a night
//! reads some thousand rows instead of 43 million samples. Knows neither volts
//! nor rails' names: a *power code* is shunt code × bus code, exact in whole
//! numbers, and a rail's scale makes it watts, a corrected shunt too.
//!
//! A level cuts board time, in ticks of 1 µs, into buckets of 2ⁿ ticks counted
//! from 0, so each bucket of a level is made of whole ones of the level below.
//! A bucket holds the readings whose row ends in it and that are new
//! conversions; a rail without any has a count of 0.
//! Theory: a pyramid of least, mean and largest, as audio editors draw from.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use wattline_protocol::block::{SampleBlock, SampleStatus, status_of};
use wattline_protocol::planted;

/// Length of a bucket of each level, as the power of two of a tick: 1.05 s,
/// 8.4 s and 67 s. Below the first a picture is drawn from the samples: 2,000
/// stretches of a second are 2 million rows, read in a tenth of a second.
pub const LEVEL_BITS: [u32; 3] = [20, 23, 26];

/// Bytes of one rail in a bucket: count, least, largest, sum.
const RAIL_BYTES: usize = 4 + 8 + 8 + 16;

pub(super) const TABLE: &str = "
    CREATE TABLE levels (
        level INTEGER NOT NULL, epoch INTEGER NOT NULL, stream INTEGER NOT NULL,
        bucket INTEGER NOT NULL, rails BLOB NOT NULL,
        PRIMARY KEY (level, epoch, stream, bucket)) WITHOUT ROWID;
";

/// New conversions of one rail within one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RailSummary {
    /// How many.
    pub count: u32,
    /// Least power code; 0 without any.
    pub least: i64,
    /// Largest power code; 0 without any.
    pub largest: i64,
    /// Sum of the power codes.
    pub sum: i128,
}

/// One bucket of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its number: board time in ticks, shifted right by the level's bits.
    pub number: u64,
    /// Its rails, by their slot in the block.
    pub rails: Vec<RailSummary>,
}

impl RailSummary {
    fn add(&mut self, code: i64) {
        if self.count == 0 {
            (self.least, self.largest) = (code, code);
        }
        self.count = self.count.saturating_add(1);
        self.least = self.least.min(code);
        self.largest = self.largest.max(code);
        self.sum = self.sum.saturating_add(i128::from(code));
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count = self.count.saturating_add(other.count);
        self.least = self.least.min(other.least);
        self.largest = self.largest.max(other.largest);
        self.sum = self.sum.saturating_add(other.sum);
    }

    fn to_bytes(self) -> [u8; RAIL_BYTES] {
        let mut bytes = [0; RAIL_BYTES];
        bytes[..4].copy_from_slice(&self.count.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.least.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.largest.to_le_bytes());
        bytes[20..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (least, rest) = rest.split_first_chunk()?;
        let (largest, rest) = rest.split_first_chunk()?;
        let (sum, []) = rest.split_first_chunk()? else { return None };
        Some(Self {
            count: u32::from_le_bytes(*count),
            least: i64::from_le_bytes(*least),
            largest: i64::from_le_bytes(*largest),
            sum: i128::from_le_bytes(*sum),
        })
    }
}

/// Sums of one transaction, by (level, epoch, stream, bucket), before they are
/// merged into those of the table.
#[derive(Debug, Default)]
pub(super) struct Sums {
    buckets: BTreeMap<(u8, u32, u32, u64), Vec<RailSummary>>,
}

impl Sums {
    /// Adds the rows of a block.
    pub(super) fn add(&mut self, epoch: u32, stream: u32, block: &SampleBlock) {
        let bits = LEVEL_BITS[0];
        let mut row = 0;
        for run in block.times().chunk_by(|one, next| one >> bits == next >> bits) {
            let number = run.first().map_or(0, |time| time >> bits);
            let end = row + run.len();
            let rails = self.buckets.entry((0, epoch, stream, number)).or_default();
            rails.resize(rails.len().max(block.column_count() / 2), RailSummary::default());
            for (rail, summary) in rails.iter_mut().enumerate() {
                add_rail(summary, block, rail, row, end);
            }
            row = end;
        }
    }

    /// Notes a stream whose block does not decode: it holds samples, though
    /// nobody can say which; whoever reads them is told.
    pub(super) fn add_unreadable(&mut self, epoch: u32, stream: u32) {
        self.buckets.entry((0, epoch, stream, 0)).or_default();
    }

    /// Merges everything into the table.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.raise();
        let mut read = connection.prepare_cached(
            "SELECT rails FROM levels WHERE level = ?1 AND epoch = ?2 AND stream = ?3 AND bucket = ?4",
        )?;
        let mut write = connection
            .prepare_cached("INSERT OR REPLACE INTO levels VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for (&(level, epoch, stream, bucket), new) in &self.buckets {
            let key = params![level, epoch, stream, bucket];
            let known: Option<Vec<u8>> = read.query_row(key, |row| row.get(0)).optional()?;
            let known = known.filter(|_| !planted!("summaries replace those before"));
            let mut rails = known.map_or_else(Vec::new, |bytes| rails_of(&bytes));
            rails.resize(rails.len().max(new.len()), RailSummary::default());
            rails.iter_mut().zip(new).for_each(|(sum, new)| sum.merge(new));
            let bytes: Vec<u8> = rails.iter().flat_map(|rail| rail.to_bytes()).collect();
            write.execute(params![level, epoch, stream, bucket, bytes])?;
        }
        self.buckets.clear();
        Ok(())
    }

    /// Makes the upper levels of this transaction's sums from the lowest.
    fn raise(&mut self) {
        let lowest = std::mem::take(&mut self.buckets);
        for ((_, epoch, stream, number), rails) in lowest {
            for (level, bits) in (0..).zip(LEVEL_BITS) {
                let key = (level, epoch, stream, number >> (bits - LEVEL_BITS[0]));
                let sums = self.buckets.entry(key).or_default();
                sums.resize(sums.len().max(rails.len()), RailSummary::default());
                sums.iter_mut().zip(&rails).for_each(|(sum, rail)| sum.merge(rail));
            }
        }
    }

    /// The buckets of one stream at one level, in order of time.
    pub(super) fn buckets(mut self, level: u8, epoch: u32, stream: u32) -> Vec<Bucket> {
        self.raise();
        let of_stream = self
            .buckets
            .into_iter()
            .filter(|((at, of, name, _), _)| (*at, *of, *name) == (level, epoch, stream));
        of_stream.map(|((.., number), rails)| Bucket { number, rails }).collect()
    }
}

fn add_rail(summary: &mut RailSummary, block: &SampleBlock, rail: usize, from: usize, to: usize) {
    let rows = |column: usize| block.column(column).get(from..to).unwrap_or_default();
    let statuses = block.statuses().get(from..to).unwrap_or_default();
    for ((&shunt, &bus), &status) in rows(2 * rail).iter().zip(rows(2 * rail + 1)).zip(statuses) {
        let is_new = status == 0 || status_of(status, rail).is_some_and(SampleStatus::is_new);
        if is_new {
            // Two 32-bit numbers multiply within 64 bits.
            summary.add(i64::from(shunt) * i64::from(bus));
        }
    }
}

/// Reads the buckets of one stream at one level, in order of time.
pub(super) fn read(
    connection: &Connection,
    level: u8,
    epoch: u32,
    stream: u32,
) -> rusqlite::Result<Vec<Bucket>> {
    let mut statement = connection.prepare_cached(
        "SELECT bucket, rails FROM levels WHERE level = ?1 AND epoch = ?2 AND stream = ?3
         ORDER BY bucket",
    )?;
    let rows = statement.query_map(params![level, epoch, stream], |row| {
        let rails = row.get_ref(1)?.as_blob()?;
        Ok(Bucket { number: row.get(0)?, rails: rails_of(rails) })
    })?;
    rows.collect()
}

/// The rails of a bucket; bytes that do not fill one are left out.
fn rails_of(bytes: &[u8]) -> Vec<RailSummary> {
    bytes.chunks_exact(RAIL_BYTES).filter_map(RailSummary::from_bytes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(rows: &[(u64, u32, [i32; 4])]) -> SampleBlock {
        let mut block = SampleBlock::with_capacity(4, rows.len());
        for (time, status, codes) in rows {
            block.push(*time, *status, codes).unwrap();
        }
        block
    }

    #[test]
    fn a_stale_or_failed_reading_is_not_summed() {
        let rows = [(5, 0x10, [3, 4, 1, 1]), (6, 0x03, [9, 9, -2, 5]), (7, 0, [-1, 4, 2, 5])];
        let mut sums = Sums::default();
        sums.add(1, 16, &block(&rows));
        let buckets = sums.buckets(2, 1, 16);
        let rail = |count, least, largest, sum| RailSummary { count, least, largest, sum };
        assert_eq!(buckets.len(), 1);
        assert_eq!(buckets[0].rails, [rail(2, -4, 12, 8), rail(2, -10, 10, 0)]);
    }

    #[test]
    fn the_largest_codes_do_not_overflow() {
        let mut sums = Sums::default();
        let rows: Vec<_> = (0..4).map(|row| (row, 0, [i32::MIN; 4])).collect();
        sums.add(1, 16, &block(&rows));
        assert_eq!(sums.buckets(0, 1, 16)[0].rails[0].sum, 1 << 64);
    }

    #[test]
    fn a_summary_comes_back_from_its_bytes() {
        let one = RailSummary { count: 7, least: i64::MIN, largest: -1, sum: i128::MIN / 3 };
        assert_eq!(rails_of(&one.to_bytes()), [one]);
        assert_eq!(rails_of(&[0; RAIL_BYTES - 1]), []);
    }

    proptest! {
        #[test]
        fn levels_agree_however_the_rows_were_cut_into_transactions(
            steps in prop::collection::vec((1_u64..3_000_000, -50_i32..50), 1..60),
            cut in 1_usize..20,
        ) {
            let mut time = 0;
            let rows: Vec<_> = steps
                .iter()
                .map(|&(step, code)| { time += step; (time, 0, [code, 3, code, -7]) })
                .collect();
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(TABLE).unwrap();
            for part in rows.chunks(cut) {
                let mut sums = Sums::default();
                sums.add(2, 17, &block(part));
                sums.write(&connection).unwrap();
            }
            for level in 0..3 {
                let mut whole = Sums::default();
                whole.add(2, 17, &block(&rows));
                let buckets = read(&connection, level, 2, 17).unwrap();
                let count: u32 = buckets.iter().map(|bucket| bucket.rails[0].count).sum();
                prop_assert_eq!(usize::try_from(count).unwrap(), rows.len());
                prop_assert_eq!(buckets, whole.buckets(level, 2, 17));
            }
        }
    }
}
