//! Blocks whose bytes are committed: a recording of today opens for ever.
//!
//! The files are hexadecimal, written by this codec in its first version. A
//! later version may write other bytes (it may foretell better), and must then
//! keep these files for its decoder and add its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use wattline_protocol::block::{BlockCodec, SampleBlock, decode, encode};

const ROWS: usize = 100;

const GOLDEN: [(BlockCodec, bool, &str); 4] = [
    (BlockCodec::Rice, false, include_str!("golden/block-rice-ok.hex")),
    (BlockCodec::Rice, true, include_str!("golden/block-rice-failed.hex")),
    (BlockCodec::BitPack, false, include_str!("golden/block-bitpack-ok.hex")),
    (BlockCodec::BitPack, true, include_str!("golden/block-bitpack-failed.hex")),
];

/// Three rails under a load that steps each 16 rows; a late row, and where
/// `with_failures` two failed reads, an overrange and an escape.
fn block(with_failures: bool) -> SampleBlock {
    let mut block = SampleBlock::with_capacity(6, ROWS);
    for row in 0..100_i32 {
        let load = (row / 16 * 37 % 90) + row * row % 7;
        let late = if row == 40 { 230 } else { (row * 5 % 11).cast_unsigned() };
        let time_ticks = 36_000_000_000 + u64::from(row.cast_unsigned()) * 1_000 + u64::from(late);
        let mut codes = [
            60 + load,
            2_375 - load / 4,
            21 + load / 2 + row % 3,
            628 - load / 8,
            -3 - load / 3 + row * 3 % 4,
            622 + row % 2,
        ];
        let mut status = 0;
        if with_failures {
            status = match row {
                20 => 0x003,
                21 => 0x053,
                22 => 0x400,
                50..60 => 0x111,
                _ => 0,
            };
            if row == 70 {
                codes[4] = i32::MIN;
            }
        }
        block.push(time_ticks, status, &codes).unwrap();
    }
    block
}

fn hex(bytes: &[u8]) -> String {
    let line =
        |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[test]
fn the_rows_encode_to_the_golden_bytes() {
    for (codec, with_failures, golden) in GOLDEN {
        let mut payload = Vec::new();
        encode(&block(with_failures), codec, &mut payload);
        assert_eq!(hex(&payload), golden, "{codec:?}, with failures: {with_failures}");
    }
}

#[test]
fn the_golden_bytes_decode_to_the_rows() {
    for (codec, with_failures, golden) in GOLDEN {
        let mut out = SampleBlock::with_capacity(6, ROWS);
        assert_eq!(decode(&bytes(golden), codec, ROWS, &mut out), Ok(()));
        assert_eq!(out, block(with_failures));
    }
}
