//! Whether a recording's summary levels say what its frames hold.
//!
//! Owns the sums, made anew from the blocks that the host holds: count, least,
//! largest and sum of shunt code × bus code of each rail, over stretches of 2ⁿ
//! µs. Written down from `docs/format.md`, not from the code under test.

use std::collections::BTreeMap;

use wattline::store::{LEVEL_BITS, Store, StoreError};
use wattline_protocol::block::{self, BlockCodec, SampleBlock, SampleStatus, status_of};
use wattline_protocol::record::kind;

/// Level, epoch, stream and number of a bucket.
type Key = (u8, u32, u32, u64);
/// Count, least, largest and sum of each rail.
type Rails = Vec<(u32, i64, i64, i128)>;

/// The first bucket that the table has otherwise than the frames; `None` where
/// they agree. `table` is the table as the file has it.
pub(crate) fn first_wrong(
    store: &Store,
    table: &BTreeMap<Key, Vec<u8>>,
) -> Result<Option<Key>, StoreError> {
    let mut sums: BTreeMap<Key, Rails> = BTreeMap::new();
    let mut block = SampleBlock::with_capacity(0, 0);
    store.for_each_frame(|frame| -> Result<(), StoreError> {
        let identity = frame.header.identity;
        let rows = usize::from(frame.header.count);
        if frame.header.kind == kind::SAMPLE_BLOCK
            && block::decode(frame.payload, BlockCodec::Rice, rows, &mut block).is_ok()
        {
            for (level, bits) in (0..).zip(LEVEL_BITS) {
                add(&mut sums, (level, identity.epoch, identity.stream), bits, &block);
            }
        }
        Ok(())
    })?;
    let sums: BTreeMap<Key, Vec<u8>> =
        sums.into_iter().map(|(key, rails)| (key, bytes_of(&rails))).collect();
    let differs = |(key, rails): (&Key, &Vec<u8>)| (table.get(key) != Some(rails)).then_some(*key);
    let more = table.keys().find(|key| !sums.contains_key(key)).copied();
    Ok(sums.iter().find_map(differs).or(more))
}

fn add(
    sums: &mut BTreeMap<Key, Rails>,
    (level, epoch, stream): (u8, u32, u32),
    bits: u32,
    block: &SampleBlock,
) {
    for (row, (time, status)) in block.times().iter().zip(block.statuses()).enumerate() {
        let rails = sums.entry((level, epoch, stream, time >> bits)).or_default();
        rails.resize(block.column_count() / 2, (0, 0, 0, 0));
        for (rail, sum) in rails.iter_mut().enumerate() {
            let code = |column: usize| block.column(column).get(row).copied().map_or(0, i64::from);
            if status_of(*status, rail).is_some_and(SampleStatus::is_new) {
                let code = code(2 * rail) * code(2 * rail + 1);
                let (count, least, largest, total) = *sum;
                let (least, largest) =
                    if count == 0 { (code, code) } else { (least.min(code), largest.max(code)) };
                *sum = (count + 1, least, largest, total + i128::from(code));
            }
        }
    }
}

fn bytes_of(rails: &Rails) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (count, least, largest, sum) in rails {
        bytes.extend(count.to_le_bytes());
        bytes.extend(least.to_le_bytes());
        bytes.extend(largest.to_le_bytes());
        bytes.extend(sum.to_le_bytes());
    }
    bytes
}
