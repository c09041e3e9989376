//! One chip's sample stream: from the ring's sweeps to frames of blocks.
//!
//! Owns when a block is closed (by count or by age) and the rows' numbers. Has
//! no thread: the recorder's calls it.

use tracing::error;
use wattline_protocol::block::{self, BlockCodec, SampleBlock};
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::planted;
use wattline_protocol::record::{GapReason, Record, SweepsLost, kind};
use wattline_protocol::units::{BoardTime, Nanos};

use super::episodes::Episodes;
use super::held::Held;
use crate::power::ring::{Sweep, SweepConsumer};

/// Rows of a block: 64 ms at 1 kS/s, where a block costs 10 % more bits a row
/// than one of 1,024 and a live view is still live.
const ROWS_PER_BLOCK: usize = 64;
/// A block is closed at this age although it is not full.
const BLOCK_AGE_MAX: Nanos = Nanos::from_millis(250);

/// A chip's ring and what its blocks look like.
#[derive(Debug)]
pub struct LaneInput {
    /// Low byte of the stream's number.
    pub lane: u8,
    /// Codes of a sweep.
    pub columns: usize,
    /// The ring's end.
    pub ring: SweepConsumer,
}

/// The lane as the recorder fills it.
pub(super) struct SampleLane {
    input: LaneInput,
    held: Held,
    block: SampleBlock,
    /// When the block's first row came into it.
    first_row: BoardTime,
    next: u64,
    payload: Vec<u8>,
    notes: Vec<Record>,
    episodes: Episodes,
}

impl SampleLane {
    pub(super) fn new(input: LaneInput) -> Self {
        let block = SampleBlock::with_capacity(input.columns, ROWS_PER_BLOCK);
        Self {
            input,
            held: Held::default(),
            block,
            first_row: BoardTime(0),
            next: 0,
            payload: Vec::new(),
            notes: Vec::new(),
            episodes: Episodes::default(),
        }
    }

    pub(super) fn lane(&self) -> u8 {
        self.input.lane
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Records that the sweeps gave rise to, beside their block.
    pub(super) fn take_notes(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.notes)
    }

    /// Empties the ring; a block that is full, or old, or the last, becomes a frame.
    pub(super) fn drain(
        &mut self,
        now: BoardTime,
        all: bool,
        identity: Identity,
        give: &mut dyn FnMut(Vec<u8>),
    ) {
        while let Some(taken) = self.input.ring.pop() {
            if let Some(hole) = taken.hole
                && !planted!("sweeps that were lost are not told")
            {
                self.notes.push(Record::from(SweepsLost {
                    lane: self.input.lane,
                    count: u64::from(hole.count),
                    from: hole.from,
                    to: hole.to,
                    reason: GapReason::RingFull,
                }));
            }
            if taken.sweep.columns > 0 {
                let notices = self.episodes.notices(&taken.sweep, self.input.lane);
                self.notes.extend(notices.into_iter().map(Record::from));
            }
            let mut held = std::mem::take(&mut self.held);
            held.arrive(&taken.sweep, &mut |row| self.take(row, now, identity, give));
            self.held = held;
        }
        let all = all && !planted!("the last rows are not recorded");
        let mut held = std::mem::take(&mut self.held);
        held.expire(now, all, &mut |row| self.take(row, now, identity, give));
        self.notes.extend(held.notice(self.input.lane, now, all).map(Record::from));
        self.held = held;
        let old = now - self.first_row >= BLOCK_AGE_MAX;
        if !self.block.is_empty() && (all || old) {
            self.close(identity, give);
        }
    }

    /// A row that nothing is awaited for any more.
    fn take(
        &mut self,
        sweep: &Sweep,
        now: BoardTime,
        identity: Identity,
        give: &mut dyn FnMut(Vec<u8>),
    ) {
        if self.block.is_empty() {
            self.first_row = now;
        }
        let codes = sweep.codes.get(..self.input.columns).unwrap_or_default();
        if self.block.push(sweep.end.0 / 1_000, sweep.status, codes).is_err() {
            // The block is closed as soon as it is full: a full one here is our own bug.
            error!(lane = self.input.lane, "A sweep did not fit its block and is lost.");
        }
        if self.block.len() == ROWS_PER_BLOCK {
            self.close(identity, give);
        }
    }

    fn close(&mut self, identity: Identity, give: &mut dyn FnMut(Vec<u8>)) {
        let rows = u16::try_from(self.block.len()).unwrap_or(u16::MAX);
        self.payload.clear();
        block::encode(&self.block, BlockCodec::Rice, &mut self.payload);
        self.block.clear();
        let header = Header {
            kind: kind::SAMPLE_BLOCK,
            length: 0,
            codec: Codec::Rice.id(),
            flags: 0,
            count: rows,
            identity: Identity { sequence: self.next, ..identity },
        };
        let room = frame::HEADER_BYTES + self.payload.len() + frame::CRC_BYTES;
        let mut bytes = Vec::with_capacity(room);
        match frame::encode(header, &self.payload, &mut bytes) {
            Ok(()) => {
                self.next += u64::from(rows) + u64::from(planted!("a row too many is counted"));
                give(bytes);
            }
            Err(error) => error!(%error, "A block of samples does not fit a frame and is lost."),
        }
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::block::SampleStatus;
    use wattline_protocol::record::{Notice, NoticeKind};

    use super::*;
    use crate::power::ring::ring;

    fn sweep(end_us: u64, status: u32) -> Sweep {
        let mut codes = [0; block::COLUMNS_MAX];
        codes[0] = 7;
        let mut sweep = Sweep { end: BoardTime(end_us * 1_000), status, ..Sweep::default() };
        sweep.columns = 2;
        for (place, code) in sweep.codes.iter_mut().zip(codes) {
            *place = code;
        }
        sweep
    }

    #[test]
    fn rows_are_numbered_without_a_hole_over_blocks_of_any_size() {
        let (mut producer, consumer) = ring(1024);
        let mut lane = SampleLane::new(LaneInput { lane: 16, columns: 2, ring: consumer });
        let mut frames = Vec::new();
        for row in 0..150 {
            assert!(producer.push(sweep(row * 840, 0)));
        }
        let identity = Identity { epoch: 1, stream: 272, sequence: 0 };
        lane.drain(BoardTime(0), false, identity, &mut |bytes| frames.push(bytes));
        lane.drain(BoardTime(0), true, identity, &mut |bytes| frames.push(bytes));
        let mut next = 0;
        for bytes in &frames {
            let frame = frame::decode(bytes).unwrap();
            assert_eq!(frame.header.identity.sequence, next);
            let rows = usize::from(frame.header.count);
            let mut block = SampleBlock::with_capacity(2, rows);
            block::decode(frame.payload, BlockCodec::Rice, rows, &mut block).unwrap();
            assert_eq!(block.len(), rows);
            next = frame.next_sequence();
        }
        assert_eq!((next, lane.next_sequence()), (150, 150));
    }

    #[test]
    fn a_bus_fault_is_said_once_when_it_begins_and_once_when_it_ends() {
        let (mut producer, consumer) = ring(64);
        let mut lane = SampleLane::new(LaneInput { lane: 16, columns: 2, ring: consumer });
        let nack = SampleStatus::Nack.nibble();
        for (time, status) in [(1, 0), (2, nack), (3, nack), (4, 0)] {
            assert!(producer.push(sweep(time * 1_000, status)));
        }
        lane.drain(BoardTime(0), true, Identity::default(), &mut |_| {});
        let notes = lane.take_notes();
        let began = NoticeKind::BusFaultBegan { lane: 16 };
        let ended = NoticeKind::BusFaultEnded { lane: 16, failed: 2 };
        assert_eq!(
            notes,
            [
                Record::from(Notice { at: BoardTime(2_000_000), what: began }),
                Record::from(Notice { at: BoardTime(4_000_000), what: ended }),
            ]
        );
    }
}
