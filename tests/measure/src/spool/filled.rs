//! Frames of a run, second by second: what fills a spool.
//!
//! Owns the numbers of the streams. The samples are one drawn second again and
//! again, each time under new numbers; what they measure is how a log bears
//! their length and their rate.

use wattline_agent::recorder::{LANE_CHIPS, LANE_CONTROL, LANE_SPANS, stream_of};
use wattline_protocol::block::{BlockCodec, SampleBlock, encode};
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::record::{Record, RunEnd, RunOutcome, StreamEnd, kind};

use crate::night;
use crate::streams::{Case, REGISTERS, Row, Stream};

const EPOCH: u32 = 1;

/// The frames to come.
pub(super) struct Filling {
    /// A second's blocks, encoded: rows and payload.
    blocks: Vec<(u16, Vec<u8>)>,
    next: [u64; 3],
}

impl Filling {
    pub(super) fn new(case: Case, seed: u64) -> Self {
        let (rows_per_s, rows_per_block) = match case {
            Case::A | Case::B => (1_000, 64),
            Case::C => (7_000, 512),
        };
        let rows: Vec<Row> = Stream::new(case, seed).take(rows_per_s).collect();
        let blocks = rows.chunks(rows_per_block).map(|rows| {
            let mut block = SampleBlock::with_capacity(REGISTERS, rows.len());
            for row in rows {
                // There is room for the rows of a chunk.
                let _ = block.push(row.time_ticks, 0, &row.codes);
            }
            let mut payload = Vec::new();
            encode(&block, BlockCodec::Rice, &mut payload);
            (u16::try_from(rows.len()).unwrap_or(0), payload)
        });
        Self { blocks: blocks.collect(), next: [0; 3] }
    }

    /// The run's first records.
    pub(super) fn opening(&mut self) -> Vec<Vec<u8>> {
        let records = [Record::from(night::run_start()), Record::from(night::plan())];
        records.iter().map(|record| self.record(record)).collect()
    }

    /// All frames of a second of the night.
    pub(super) fn second(&mut self, second: u32) -> Vec<Vec<u8>> {
        let mut frames = self.samples();
        let second = second % night::NIGHT_S;
        for record in night::marks_of(second).into_iter().chain(night::records_of(second)) {
            frames.push(self.record(&record));
        }
        if let Some(spans) = night::spans_of(second) {
            frames.push(self.record(&spans));
        }
        frames
    }

    /// The samples of a second.
    pub(super) fn samples(&mut self) -> Vec<Vec<u8>> {
        let [_, _, next] = &mut self.next;
        let blocks = self.blocks.iter().map(|(rows, payload)| {
            let sequence = *next;
            *next += u64::from(*rows);
            let header =
                Header { count: *rows, ..header(kind::SAMPLE_BLOCK, LANE_CHIPS, sequence) };
            framed(Header { codec: Codec::Rice.id(), ..header }, payload)
        });
        blocks.collect()
    }

    /// The run's last record.
    pub(super) fn end(&mut self, second: u32) -> Vec<u8> {
        let [_, spans, samples] = self.next;
        let end = |lane, next| StreamEnd { epoch: EPOCH, stream: stream_of(0, lane), next };
        let streams = vec![end(LANE_SPANS, spans), end(LANE_CHIPS, samples)];
        let at = night::at(second);
        self.record(&RunEnd { at, outcome: RunOutcome::Complete, streams }.into())
    }

    fn record(&mut self, record: &Record) -> Vec<u8> {
        let [control, spans, _] = &mut self.next;
        let (lane, next) = match record {
            Record::InferenceSpans(_) => (LANE_SPANS, spans),
            _ => (LANE_CONTROL, control),
        };
        let sequence = *next;
        *next += 1;
        let mut payload = Vec::new();
        assert!(record.encode(&mut payload).is_ok(), "a record of the night fits a frame");
        framed(header(record.kind(), lane, sequence), &payload)
    }
}

fn header(kind: u8, lane: u8, sequence: u64) -> Header {
    let identity = Identity { epoch: EPOCH, stream: stream_of(0, lane), sequence };
    Header { kind, length: 0, codec: Codec::Postcard.id(), flags: 0, count: 1, identity }
}

fn framed(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(frame::encode(header, payload, &mut bytes).is_ok(), "a payload fits a frame");
    bytes
}
