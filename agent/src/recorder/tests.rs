//! Writer and thinning over a model of a disk that has little room.

use std::sync::Arc;

use proptest::prelude::*;
use wattline_protocol::block::{self, BlockCodec, SampleBlock};
use wattline_protocol::frame::{self, Frame};
use wattline_protocol::presence::WhenFull;
use wattline_protocol::record::{
    Gap, GapReason, NoticeKind, Record, RunEnd, RunId, RunOutcome, SampleAggregates, StreamEnd,
    WindowClose, WindowKind, WindowOpen, kind,
};
use wattline_protocol::units::BoardTime;

use super::desk::Desk;
use super::writer::Writer;
use super::{LANE_CHIPS, LaneInput, stream_of};
use crate::power::ring::{Sweep, SweepProducer, ring};
use crate::spool::{Item, Limits, ModelStorage, RoomRules, Spool};

const SECOND: u64 = 1_000_000_000;
const PERIOD: u64 = 1_000_000;
/// Half a minute of samples; the last twentieth is more than a second of them.
const QUOTA: u64 = 200_000;
const STREAM: u32 = stream_of(0, LANE_CHIPS);

/// A run on a disk with `quota` bytes.
struct Board {
    spool: Spool,
    run: RunId,
    desk: Desk,
    writer: Writer,
    chip: SweepProducer,
    now: BoardTime,
    rows: u64,
    power: i128,
    gaps: Vec<Gap>,
    notes: Vec<Record>,
}

impl Board {
    fn with(quota: u64, when_full: WhenFull) -> Self {
        let limits = Limits { segment_bytes: 4096, pending_bytes: 16 * 1024, held_bytes: 8 * 1024 };
        let rules = RoomRules { quota_bytes: Some(quota), reserve_bytes: 0, when_full };
        let disk = Arc::new(ModelStorage::new());
        let spool = Spool::open_with(disk, "board-1", limits, rules).unwrap();
        let run = RunId::new("night-1").unwrap();
        let (chip, consumer) = ring(8192);
        let now = BoardTime(100 * SECOND);
        let lane = LaneInput { lane: LANE_CHIPS, columns: 4, ring: consumer };
        Self {
            desk: Desk::new(1, 0, vec![lane], now),
            writer: Writer::new(spool.create_run(&run).unwrap(), now),
            spool,
            run,
            chip,
            now,
            rows: 0,
            power: 0,
            gaps: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn record(&mut self, record: impl Into<Record>) {
        let mut frames = Vec::new();
        self.desk.record(&record.into(), &mut |bytes| frames.push(bytes));
        self.write(frames);
    }

    fn write(&mut self, frames: Vec<Vec<u8>>) {
        for bytes in frames {
            self.gaps.extend(self.writer.frame(&bytes, self.now));
            self.notes.extend(self.writer.take_notes());
        }
    }

    /// Samples for a second, then a sync; what the writer says is recorded.
    fn second(&mut self) {
        for row in 1..=1000_u64 {
            let end = BoardTime(self.now.0 + row * PERIOD);
            let noise = i32::try_from((self.rows * 7919) % 97).unwrap();
            let mut sweep = Sweep { end, columns: 4, ..Sweep::default() };
            for (code, level) in sweep.codes.iter_mut().zip([400, 620, 90, 610]) {
                *code = level + noise;
            }
            self.power += i128::from(400 + noise) * i128::from(620 + noise);
            self.rows += 1;
            assert!(self.chip.push(sweep));
        }
        self.now = BoardTime(self.now.0 + SECOND);
        let mut frames = Vec::new();
        self.desk.drain(self.now, true, &mut |bytes| frames.push(bytes));
        self.write(frames);
        self.settle();
    }

    /// Until there is no room for samples, and so many seconds more.
    fn past_the_room(&mut self, seconds: u32) {
        let mut before = 0;
        while noticed(self, |what| matches!(what, NoticeKind::Thinning(_))) == 0 {
            self.second();
            before += 1;
            assert!(before < 200, "the quota is never reached");
        }
        for _ in 0..seconds {
            self.second();
        }
    }

    fn settle(&mut self) {
        let synced = self.writer.sync(self.now);
        self.gaps.extend(synced.gaps);
        self.notes.extend(self.writer.take_notes());
        self.tell();
    }

    fn tell(&mut self) {
        for record in std::mem::take(&mut self.notes) {
            self.record(record);
        }
        for gap in self.gaps.clone().iter().skip(self.told_gaps()) {
            self.record(*gap);
        }
    }

    fn told_gaps(&self) -> usize {
        self.read().iter().filter(|record| matches!(record, Record::Gap(_))).count()
    }

    fn end(&mut self) {
        self.gaps.extend(self.writer.give_samples_up());
        self.notes.extend(self.writer.take_notes());
        self.settle();
        let RunEnd { outcome, .. } = self.desk.end(self.now, RunOutcome::Complete);
        self.record(self.desk.end(self.now, outcome));
        let synced = self.writer.sync(self.now);
        assert!(synced.durable);
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let mut cursor = self.spool.reader(&self.run).unwrap().cursor(&[]);
        let mut frames = Vec::new();
        while let Some(item) = cursor.next_item().unwrap() {
            if let Item::Frame(frame) = item {
                frames.push(frame.bytes.to_vec());
            }
        }
        frames
    }

    fn read(&self) -> Vec<Record> {
        let frames = self.frames();
        let records = frames.iter().filter_map(|bytes| {
            let Frame { header, payload, .. } = frame::decode(bytes).unwrap();
            (header.kind != kind::SAMPLE_BLOCK)
                .then(|| Record::decode(header.kind, payload).unwrap())
        });
        records.collect()
    }

    fn aggregates(&self) -> Vec<SampleAggregates> {
        let all = self.read().into_iter().filter_map(|record| match record {
            Record::SampleAggregates(aggregates) => Some(aggregates),
            _ => None,
        });
        all.collect()
    }

    /// Rows and power codes of the first rail, as samples and as aggregates.
    fn accounted(&self) -> (u64, i128) {
        let (mut rows, mut power) = (0, 0);
        for bytes in self.frames() {
            let frame = frame::decode(&bytes).unwrap();
            if frame.header.kind != kind::SAMPLE_BLOCK {
                continue;
            }
            let mut block = SampleBlock::with_capacity(4, 64);
            let count = usize::from(frame.header.count);
            block::decode(frame.payload, BlockCodec::Rice, count, &mut block).unwrap();
            for row in block.rows() {
                rows += 1;
                power += i128::from(row.code(0).unwrap()) * i128::from(row.code(1).unwrap());
            }
        }
        for part in self.aggregates().iter().flat_map(|aggregates| &aggregates.parts) {
            rows += u64::from(part.rows);
            power += part.rails[0].power_sum;
        }
        (rows, power)
    }

    fn acknowledge_all(&self) {
        let mut next = std::collections::BTreeMap::new();
        for bytes in self.frames() {
            let frame = frame::decode(&bytes).unwrap();
            next.insert(frame.header.identity.stream, frame.next_sequence());
        }
        let ends: Vec<StreamEnd> =
            next.into_iter().map(|(stream, next)| StreamEnd { epoch: 1, stream, next }).collect();
        self.spool.ack(&self.run, &ends).unwrap();
    }
}

fn noticed(board: &Board, is_it: impl Fn(&NoticeKind) -> bool) -> usize {
    let records = board.read();
    records.iter().filter(|r| matches!(r, Record::Notice(n) if is_it(&n.what))).count()
}

#[test]
fn without_room_samples_go_and_their_sums_stay_within_the_quota() {
    let mut board = Board::with(QUOTA, WhenFull::Drop);
    board.past_the_room(20);
    board.end();
    assert_eq!(board.accounted(), (board.rows, board.power));
    let parts: usize = board.aggregates().iter().map(|one| one.parts.len()).sum();
    assert!(parts >= 10, "{parts} parts");
    let gone: u64 = board.gaps.iter().map(|gap| gap.to - gap.from).sum();
    let summed: u64 = board.aggregates().iter().map(|one| one.next - one.first).sum();
    assert_eq!(gone, summed, "what a gap names and what was summed");
    assert!(board.gaps.iter().all(|gap| gap.stream == STREAM));
    assert!(board.gaps.iter().all(|gap| gap.reason == GapReason::DroppedByPolicy));
    let standing = board.spool.standing();
    assert!(standing.used_bytes <= standing.quota_bytes, "{standing:?}");
    assert_eq!(noticed(&board, |what| matches!(what, NoticeKind::Thinning(_))), 1);
    assert!(matches!(board.read().last(), Some(Record::RunEnd(_))));
}

#[test]
fn a_host_that_takes_them_in_time_gets_every_sample_of_a_board_without_room() {
    let mut board = Board::with(QUOTA, WhenFull::Drop);
    board.past_the_room(5);
    let before = board.gaps.len();
    for _ in 0..20 {
        board.acknowledge_all();
        board.second();
        board.acknowledge_all();
    }
    assert_eq!(board.gaps.len(), before, "nothing goes that a host takes in time");
}

#[test]
fn the_policy_to_stop_says_so_once_and_keeps_what_is_recorded_until_the_end() {
    let mut board = Board::with(QUOTA, WhenFull::Stop);
    let mut seconds = 0;
    while !board.writer.must_end() {
        board.second();
        seconds += 1;
        assert!(seconds < 200, "the quota is never reached");
    }
    // The campaign needs a moment to end.
    board.second();
    board.end();
    assert_eq!(noticed(&board, |what| matches!(what, NoticeKind::NoRoom(_))), 1);
    assert_eq!(board.accounted(), (board.rows, board.power));
    assert_eq!((board.gaps.len(), board.aggregates().len()), (0, 0));
    assert!(matches!(board.read().last(), Some(Record::RunEnd(_))));
}

#[test]
fn samples_are_written_again_once_there_is_room() {
    let mut board = Board::with(QUOTA, WhenFull::Drop);
    // Another run of the same size was fetched meanwhile.
    let other = RunId::new("before").unwrap();
    let mut log = board.spool.create_run(&other).unwrap();
    let end = RunEnd { at: BoardTime(0), outcome: RunOutcome::Complete, streams: Vec::new() };
    let mut desk = Desk::new(1, 1, Vec::new(), BoardTime(0));
    let mut filler = Record::Unknown { kind: 200, bytes: vec![7; 2000] };
    for last in [false, true] {
        let count = if last { 1 } else { 20 };
        for _ in 0..count {
            desk.record(&filler, &mut |bytes| drop(log.append(&bytes).unwrap()));
        }
        filler = end.clone().into();
    }
    log.sync().unwrap();
    drop(log);
    while noticed(&board, |what| matches!(what, NoticeKind::Thinning(_))) == 0 {
        board.second();
    }
    board.spool.ack(&other, &[StreamEnd { epoch: 1, stream: 256, next: 21 }]).unwrap();
    board.second();
    assert_eq!(noticed(&board, |what| matches!(what, NoticeKind::ThinningEnded)), 1);
    assert!(board.spool.runs().iter().all(|run| run.run != other), "the fetched run goes first");
    board.end();
    assert_eq!(board.accounted(), (board.rows, board.power));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn no_part_crosses_a_second_or_the_edge_of_a_window(
        edges in proptest::collection::vec((20_000_u64..90_000, 1_u64..3_000), 0..6),
    ) {
        let mut board = Board::with(QUOTA, WhenFull::Drop);
        let mut at = Vec::new();
        for (window, (start, length)) in (0..).zip(edges) {
            let t0 = BoardTime(100 * SECOND + start * PERIOD + 300);
            let t1 = BoardTime(t0.0 + length * PERIOD);
            at.extend([t0, t1]);
            let kind = WindowKind::Trial(0);
            board.record(WindowOpen { window, kind, t0 });
            let (inferences, images, truth) = (1, 1, Vec::new());
            board.record(WindowClose { window, kind, t0, t1, inferences, images, truth });
        }
        board.past_the_room(15);
        board.end();
        prop_assert_eq!(board.accounted(), (board.rows, board.power));
        prop_assert!(!board.aggregates().is_empty());
        for part in board.aggregates().iter().flat_map(|aggregates| &aggregates.parts) {
            prop_assert_eq!(part.from.0 / SECOND, part.to.0 / SECOND);
            prop_assert!(at.iter().all(|edge| *edge <= part.from || part.to < *edge));
        }
    }
}
