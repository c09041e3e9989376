//! The measures `codec.*`: how compact the sample-block codec is, and how fast.
//!
//! Owns the cases (stream and rows a block), the bits of a row and the two
//! speeds. Knows nothing of the streams' making, see `streams`, and does not
//! count the frame's 28 bytes of header.
//! Source of cases and limits: records-and-reliability §1.
//!
//! The order-1 entropy is the bound of a coder that sees one register and one
//! step back. This codec also sees the other registers of a row, and so may
//! come in below it where rails share a load; above it, it has lost something.

use wattline_protocol::block::{BlockCodec, SampleBlock, decode, encode};

use crate::figure::Figure;
use crate::streams::{Case, REGISTERS, Row, Stream, order_one_entropy_bits};

const BITS_PER_ROW: &str = "codec.bits_per_row";
const ENCODE: &str = "codec.encode";
const DECODE: &str = "codec.decode";

/// Rows of each stream, for the entropy's estimate as for the codec.
const ROWS: usize = 1_000_000;
/// Times that each speed is measured; the best counts, since whatever else the
/// machine does only takes time away.
const REPEATS: usize = 5;

/// The cases: name, stream, rows a block.
const CASES: [(&str, Case, usize); 4] = [
    ("A/64", Case::A, 64),
    ("B/64", Case::B, 64),
    ("C/256", Case::C, 256),
    ("A/1024", Case::A, 1_024),
];

/// Emits the measures whose names start with `name_prefix`, on the streams of
/// seed `from`. `now_ns` is a clock that never goes back.
pub(crate) fn run(name_prefix: &str, from: u64, now_ns: fn() -> u64, emit: &mut dyn FnMut(Figure)) {
    let wanted = |measure: &str| measure.starts_with(name_prefix);
    if ![BITS_PER_ROW, ENCODE, DECODE].into_iter().any(wanted) {
        return;
    }
    for (name, case, rows_a_block) in CASES {
        let rows: Vec<Row> = Stream::new(case, from).take(ROWS).collect();
        let blocks = blocks(&rows, rows_a_block);
        let payloads = Payloads::of(&blocks);
        let mut figure = |measure, value, unit, limit: Option<f64>| {
            if wanted(measure) {
                let limit_is = limit.map(|_| "order-1 entropy");
                emit(Figure { measure, case: name.to_owned(), value, unit, limit, limit_is });
            }
        };
        if wanted(BITS_PER_ROW) {
            let entropy = order_one_entropy_bits(&rows);
            figure(BITS_PER_ROW, payloads.bits_per_row(&blocks), "bit", Some(entropy));
        }
        if wanted(ENCODE) {
            figure(ENCODE, encode_mrows_per_s(&blocks, now_ns), "Mrow/s", None);
        }
        if wanted(DECODE) {
            figure(DECODE, payloads.decode_mrows_per_s(&blocks, now_ns), "Mrow/s", None);
        }
    }
}

/// The rows in blocks; what does not fill a last one is left out.
fn blocks(rows: &[Row], rows_a_block: usize) -> Vec<SampleBlock> {
    let block = |rows: &[Row]| {
        let mut block = SampleBlock::with_capacity(REGISTERS, rows_a_block);
        let pushed = rows.iter().try_for_each(|row| block.push(row.time_ticks, 0, &row.codes));
        assert!(pushed.is_ok(), "a block has room for its rows");
        block
    };
    rows.chunks_exact(rows_a_block).map(block).collect()
}

/// The payloads of blocks, one after the other.
struct Payloads {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Payloads {
    /// Encodes the blocks, and holds that each comes back.
    fn of(blocks: &[SampleBlock]) -> Self {
        let mut bytes = Vec::new();
        let mut lengths = Vec::new();
        let mut back = SampleBlock::with_capacity(REGISTERS, 0);
        for block in blocks {
            let start = bytes.len();
            encode(block, BlockCodec::Rice, &mut bytes);
            let decoded = decode(&bytes[start..], BlockCodec::Rice, block.len(), &mut back);
            assert!(decoded.is_ok() && back == *block, "a block comes back as it was");
            lengths.push(bytes.len() - start);
        }
        Self { bytes, lengths }
    }

    fn bits_per_row(&self, blocks: &[SampleBlock]) -> f64 {
        8.0 * self.bytes.len() as f64 / rows_of(blocks)
    }

    fn decode_mrows_per_s(&self, blocks: &[SampleBlock], now_ns: fn() -> u64) -> f64 {
        let mut out = SampleBlock::with_capacity(REGISTERS, 0);
        fastest_mrows_per_s(blocks, now_ns, || {
            let mut rest = self.bytes.as_slice();
            for (block, &length) in blocks.iter().zip(&self.lengths) {
                let (payload, after) = rest.split_at(length);
                let decoded = decode(payload, BlockCodec::Rice, block.len(), &mut out);
                assert!(decoded.is_ok(), "a payload that was decoded before");
                rest = after;
            }
        })
    }
}

fn encode_mrows_per_s(blocks: &[SampleBlock], now_ns: fn() -> u64) -> f64 {
    let mut bytes = Vec::new();
    fastest_mrows_per_s(blocks, now_ns, || {
        bytes.clear();
        blocks.iter().for_each(|block| encode(block, BlockCodec::Rice, &mut bytes));
    })
}

/// Million rows a second of the fastest pass over all blocks.
fn fastest_mrows_per_s(blocks: &[SampleBlock], now_ns: fn() -> u64, mut pass: impl FnMut()) -> f64 {
    let mut fastest_ns = u64::MAX;
    for _ in 0..REPEATS {
        let begin_ns = now_ns();
        pass();
        fastest_ns = fastest_ns.min(now_ns().saturating_sub(begin_ns));
    }
    rows_of(blocks) * 1_000.0 / fastest_ns.max(1) as f64
}

fn rows_of(blocks: &[SampleBlock]) -> f64 {
    blocks.iter().map(SampleBlock::len).sum::<usize>() as f64
}
