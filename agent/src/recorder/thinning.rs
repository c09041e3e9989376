//! From samples that go to the aggregates that stay.
//!
//! Owns the cut of rows into parts and the edges of windows that it is made at.
//! Pure; which samples go is decided in [`crate::spool`].
//!
//! A part is at most a second of the board's clock and never crosses the edge of
//! a window: so the energy of a window is that of its own parts, and only the
//! half period at either edge is in doubt.

use std::collections::VecDeque;

use tracing::error;
use wattline_protocol::block::{self, BlockCodec, SampleBlock, SampleStatus, status_of};
use wattline_protocol::frame::{self, Codec, Identity};
use wattline_protocol::record::{AggregatePart, RailAggregate, Record, SampleAggregates, kind};
use wattline_protocol::units::BoardTime;

use crate::spool::SpooledFrame;

/// A part never crosses a whole second.
/// Source: records-and-reliability §3.3, "Drop order when full".
const PART_NS: u64 = 1_000_000_000;
/// Edges of windows that are remembered: samples wait in memory for minutes
/// before they go, in which a campaign makes tens of windows.
const EDGES_MAX: usize = 256;
/// Parts of one record: at most 32 kB for a chip of eight rails.
const PARTS_MAX: usize = 64;
/// Rows that the decoder's buffer begins with.
const ROWS: usize = 64;

/// Makes aggregates of samples that go.
#[derive(Debug, Default)]
pub(super) struct Thinning {
    /// Edges of windows, in the order in which they were recorded.
    edges: VecDeque<BoardTime>,
}

impl Thinning {
    /// Notes the edges of windows among the records that pass.
    pub(super) fn see(&mut self, frame: &frame::Frame<'_>) {
        if !matches!(frame.header.kind, kind::WINDOW_OPEN | kind::WINDOW_CLOSE) {
            return;
        }
        match Record::decode(frame.header.kind, frame.payload) {
            Ok(Record::WindowOpen(open)) => self.note(open.t0),
            Ok(Record::WindowClose(close)) => self.note(close.t1),
            Ok(_) | Err(_) => {}
        }
    }

    fn note(&mut self, edge: BoardTime) {
        if self.edges.len() == EDGES_MAX {
            self.edges.pop_front();
        }
        self.edges.push_back(edge);
    }

    /// The aggregates of samples that go, in their order.
    pub(super) fn aggregates(&self, samples: &[SpooledFrame]) -> Vec<Record> {
        let mut made: Vec<SampleAggregates> = Vec::new();
        for frame in samples {
            let Some(block) = decoded(frame) else {
                error!("A block of samples that goes does not decode; its numbers are a gap.");
                continue;
            };
            let Identity { epoch, stream, sequence } = frame.header.identity;
            let next = sequence + u64::from(frame.header.count);
            let parts = self.parts(&block);
            let open = made.iter_mut().rev().find(|one| (one.epoch, one.stream) == (epoch, stream));
            match open {
                Some(one) if one.next == sequence && one.parts.len() + parts.len() <= PARTS_MAX => {
                    one.next = next;
                    self.join(&mut one.parts, parts);
                }
                Some(_) | None => {
                    made.push(SampleAggregates { epoch, stream, first: sequence, next, parts });
                }
            }
        }
        made.into_iter().map(Record::from).collect()
    }

    fn parts(&self, block: &SampleBlock) -> Vec<AggregatePart> {
        let mut parts: Vec<AggregatePart> = Vec::new();
        for row in block.rows() {
            let end = BoardTime(row.time_ticks.saturating_mul(1_000));
            let rails = block.column_count() / 2;
            let part = match parts.last_mut() {
                Some(part) if self.is_one_part(part.to, end) => part,
                Some(_) | None => {
                    parts.push(AggregatePart {
                        from: end,
                        to: end,
                        rows: 0,
                        rails: vec![RailAggregate::default(); rails],
                    });
                    let Some(part) = parts.last_mut() else { return parts };
                    part
                }
            };
            part.to = end;
            part.rows += 1;
            for (slot, rail) in part.rails.iter_mut().enumerate() {
                // A conversion that is read twice counts once, as in an energy.
                let is_new = status_of(row.status, slot).is_some_and(SampleStatus::is_new);
                if is_new
                    && let (Some(shunt), Some(bus)) = (row.code(2 * slot), row.code(2 * slot + 1))
                {
                    rail.add(shunt, bus);
                }
            }
        }
        parts
    }

    /// Puts the parts of a block behind those of the blocks before it.
    fn join(&self, parts: &mut Vec<AggregatePart>, more: Vec<AggregatePart>) {
        for part in more {
            match parts.last_mut() {
                Some(last) if self.is_one_part(last.to, part.from) => merge(last, &part),
                Some(_) | None => parts.push(part),
            }
        }
    }

    /// True where no whole second and no window's edge lies between the ends of
    /// two rows.
    fn is_one_part(&self, before: BoardTime, after: BoardTime) -> bool {
        before.0 / PART_NS == after.0 / PART_NS
            && !self.edges.iter().any(|edge| before < *edge && *edge <= after)
    }
}

fn merge(last: &mut AggregatePart, part: &AggregatePart) {
    last.to = part.to;
    last.rows = last.rows.saturating_add(part.rows);
    for (rail, more) in last.rails.iter_mut().zip(&part.rails) {
        rail.merge(more);
    }
}

fn decoded(frame: &SpooledFrame) -> Option<SampleBlock> {
    let frame = frame::decode(&frame.bytes).ok()?;
    let codec = match Codec::from_id(frame.header.codec)? {
        Codec::Rice => BlockCodec::Rice,
        Codec::BitPack => BlockCodec::BitPack,
        Codec::Postcard => return None,
    };
    let mut block = SampleBlock::with_capacity(block::COLUMNS_MAX, ROWS);
    let rows = usize::from(frame.header.count);
    block::decode(frame.payload, codec, rows, &mut block).ok()?;
    Some(block)
}
