//! Sample blocks come back as they were, and no bytes make the decoder panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use proptest::collection::vec;
use proptest::prelude::*;
use wattline_protocol::block::{
    BlockCodec, BlockError, COLUMNS_MAX, ROWS_MAX, SampleBlock, SampleStatus, decode, encode,
    status_of,
};

const CODECS: [BlockCodec; 2] = [BlockCodec::Rice, BlockCodec::BitPack];

/// A row before the block forgets the codes that were not read.
type Row = (u64, u32, Vec<i32>);

fn code() -> impl Strategy<Value = i32> {
    prop_oneof![
        8 => -40..40,
        4 => -40_000..40_000,
        2 => any::<i32>(),
        1 => prop_oneof![Just(i32::MIN), Just(i32::MAX), Just(0)],
    ]
}

/// A timer's times, or any: backwards, around the end, far apart.
fn times(rows: usize) -> impl Strategy<Value = Vec<u64>> {
    let timer =
        (any::<u32>(), 1..100_000_u64, vec(0..60_u64, rows)).prop_map(|(start, period, late)| {
            let due = |row: u64| u64::from(start) + row * period;
            (0..).zip(late).map(|(row, late)| due(row) + late).collect()
        });
    let any_times = vec(prop_oneof![any::<u64>(), 0..9_u64, u64::MAX - 9..=u64::MAX], rows);
    prop_oneof![2 => timer, 1 => any_times]
}

fn statuses(rows: usize) -> impl Strategy<Value = Vec<u32>> {
    let nibbles = vec(prop_oneof![6 => Just(0_u32), 1 => 0..6_u32], 8);
    let word =
        nibbles.prop_map(|nibbles| nibbles.iter().fold(0, |word, nibble| word << 4 | nibble));
    prop_oneof![Just(vec![0; rows]), vec(word, rows), vec(prop_oneof![Just(0), Just(0x33)], rows)]
}

fn block() -> impl Strategy<Value = SampleBlock> {
    (0..=COLUMNS_MAX, 0..200_usize)
        .prop_flat_map(|(columns, rows)| {
            let codes = vec(vec(code(), columns), rows);
            (Just(columns), times(rows), statuses(rows), codes)
        })
        .prop_map(|(columns, times, statuses, codes)| {
            let rows = times.into_iter().zip(statuses).zip(codes);
            filled(columns, rows.map(|((time, status), codes)| (time, status, codes)).collect())
        })
}

fn filled(columns: usize, rows: Vec<Row>) -> SampleBlock {
    let mut block = SampleBlock::with_capacity(columns, rows.len());
    for (time, status, codes) in rows {
        block.push(time, status, &codes).unwrap();
    }
    block
}

fn encoded(block: &SampleBlock, codec: BlockCodec) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(block, codec, &mut bytes);
    bytes
}

fn decoded(bytes: &[u8], codec: BlockCodec, rows: usize) -> Result<SampleBlock, BlockError> {
    let mut block = SampleBlock::with_capacity(0, 0);
    decode(bytes, codec, rows, &mut block).map(|()| block)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_block_comes_back(block in block()) {
        for codec in CODECS {
            let bytes = encoded(&block, codec);
            let back = decoded(&bytes, codec, block.len());
            prop_assert_eq!(back.as_ref(), Ok(&block));
        }
    }

    #[test]
    fn each_size_is_bounded(block in block()) {
        // 49 bits a code, 64 a time, a status word with its run a row, a header.
        let rows_bits = block.len() * (49 * block.column_count() + 64 + 32 + 16);
        let header_bits = 400 + block.column_count() * (60 + block.len() / 8);
        for codec in CODECS {
            prop_assert!(encoded(&block, codec).len() * 8 <= rows_bits + header_bits);
        }
    }

    #[test]
    fn any_bytes_decode_to_a_block_or_an_error(
        bytes in vec(any::<u8>(), 0..400),
        rows in prop_oneof![0..70_usize, 0..=ROWS_MAX],
    ) {
        for codec in CODECS {
            if let Ok(block) = decoded(&bytes, codec, rows) {
                prop_assert_eq!(block.len(), rows);
                prop_assert!(block.column_count() <= COLUMNS_MAX);
            }
        }
    }

    #[test]
    fn damaged_payloads_decode_to_a_block_or_an_error(
        block in block(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        kept in any::<prop::sample::Index>(),
        rows_wrong_by in 0..3_usize,
    ) {
        for codec in CODECS {
            let mut bytes = encoded(&block, codec);
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] ^= value;
            }
            let rows = block.len() + rows_wrong_by;
            if let Ok(other) = decoded(&bytes, codec, rows) {
                let again = encoded(&other, codec);
                prop_assert_eq!(decoded(&again, codec, rows), Ok(other));
            }
            bytes.truncate(kept.index(bytes.len() + 1));
            let _ = decoded(&bytes, codec, rows);
        }
    }

    #[test]
    fn each_shortened_or_lengthened_payload_is_refused(block in block(), more in any::<u8>()) {
        for codec in CODECS {
            let mut bytes = encoded(&block, codec);
            bytes.push(more);
            prop_assert!(decoded(&bytes, codec, block.len()).is_err());
            bytes.truncate(bytes.len() - 2);
            prop_assert!(decoded(&bytes, codec, block.len()).is_err());
        }
    }
}

#[test]
fn the_largest_block_comes_back_and_one_row_more_is_refused() {
    let mut block = SampleBlock::with_capacity(COLUMNS_MAX, ROWS_MAX);
    for row in 0..ROWS_MAX {
        let row = i32::try_from(row).unwrap();
        let codes: Vec<i32> = (0..16).map(|column| (row * (column + 3)) % 97).collect();
        block.push(u64::from(row.cast_unsigned()) * 143, 0, &codes).unwrap();
    }
    for codec in CODECS {
        let bytes = encoded(&block, codec);
        assert_eq!(decoded(&bytes, codec, ROWS_MAX).as_ref(), Ok(&block));
        let rows = ROWS_MAX + 1;
        assert_eq!(decoded(&bytes, codec, rows), Err(BlockError::TooManyRows { rows }));
    }
}

#[test]
fn a_block_decodes_without_the_one_before_it() {
    let row = |at: i32| (u64::from(at.cast_unsigned()) * 1_000, 0, vec![at % 5, -at]);
    let first = filled(2, (0..64).map(row).collect());
    let second = filled(2, (64..100).map(row).collect());
    let mut out = SampleBlock::with_capacity(2, 64);
    for block in [&second, &first, &second] {
        let bytes = encoded(block, BlockCodec::Rice);
        decode(&bytes, BlockCodec::Rice, block.len(), &mut out).unwrap();
        assert_eq!(out, *block);
    }
}

#[test]
fn a_failed_read_is_absent_and_never_a_number() {
    let rows = (0..64).map(|at| (at, if at % 7 == 3 { 0x3 } else { 0 }, vec![1_000, 2_000, 3, 4]));
    for codec in CODECS {
        let bytes = encoded(&filled(4, rows.clone().collect()), codec);
        let block = decoded(&bytes, codec, 64).unwrap();
        for row in block.rows() {
            let is_read = status_of(row.status, 0) == Some(SampleStatus::Ok);
            assert_eq!(is_read, row.time_ticks % 7 != 3);
            let codes: Vec<_> = row.codes().collect();
            let first = is_read.then_some(1_000);
            assert_eq!(codes, [first, first.map(|_| 2_000), Some(3), Some(4)]);
        }
    }
}

#[test]
fn a_status_nibble_without_a_meaning_is_refused() {
    // Two columns, status runs follow, nibble 6: 5 + 1 + 4 bits.
    let bytes = [0b1010_0010, 0b01, 0, 0];
    let refused = Err(BlockError::Status { rail: 0, nibble: 6 });
    assert_eq!(decoded(&bytes, BlockCodec::Rice, 1), refused);
}

#[test]
fn seventeen_columns_are_refused() {
    let refused = Err(BlockError::TooManyColumns { columns: 17 });
    assert_eq!(decoded(&[17], BlockCodec::Rice, 0), refused);
}

#[test]
fn a_refused_payload_leaves_no_rows() {
    let mut out = filled(1, vec![(1, 0, vec![1])]);
    assert!(decode(&[1, 2, 3], BlockCodec::Rice, 9, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn a_codec_id_names_its_codec_or_none() {
    for id in 0..=u8::MAX {
        let codec = BlockCodec::from_id(id);
        assert_eq!(codec.is_some(), id == 1 || id == 2);
        assert!(codec.is_none_or(|codec| codec.id() == id));
    }
}
