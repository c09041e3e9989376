//! Frames in memory that may never touch the disk.
//!
//! Owns the frames that a host is expected to hold before they are due, and of
//! those that one holds the newest, for another host that comes to fetch them.
//! Decides nothing about hosts and times: [`super::RunLog`] is told what is
//! held, and what of it is due.

use std::collections::{BTreeMap, VecDeque};

use wattline_protocol::frame::Header;
use wattline_protocol::planted;
use wattline_protocol::record::kind;
use wattline_protocol::units::BoardTime;

use super::log::SpooledFrame;
use super::segment::{Ends, next_sequence};

/// Which of the held frames that no host has acknowledged are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those that were taken at this time or before.
    Until(BoardTime),
    /// Those of one stream: a later frame of it is written.
    Stream {
        /// Epoch of the stream.
        epoch: u32,
        /// The stream.
        stream: u32,
    },
    /// All.
    All,
}

/// What becomes of samples among the held frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    /// They are written when they are due, as all others.
    Due,
    /// There is no room for them on the disk: they stay while there is memory.
    Kept,
}

/// Held frames, by stream and in order within each.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    streams: BTreeMap<(u32, u32), VecDeque<Held>>,
    bytes: usize,
    next_place: u64,
}

/// A frame and its place in the order of holding.
#[derive(Debug)]
struct Held {
    place: u64,
    since: BoardTime,
    frame: SpooledFrame,
}

impl HeldFrames {
    pub(super) fn push(&mut self, frame: SpooledFrame, since: BoardTime) {
        self.bytes += frame.bytes.len();
        let stream = self.streams.entry(stream_of(&frame.header)).or_default();
        stream.push_back(Held { place: self.next_place, since, frame });
        self.next_place += 1;
    }

    /// Time of the oldest frame that no host has acknowledged.
    pub(super) fn oldest(&self, samples: Samples, acked: &Ends) -> Option<BoardTime> {
        let waiting = self.streams.values().filter_map(|held| held.get(acked_of(held, acked)));
        let waiting = waiting.filter(|held| samples == Samples::Due || !is_samples(held));
        waiting.map(|held| held.since).min()
    }

    /// Takes out what is due and not acknowledged, in the order of holding.
    pub(super) fn take_due(
        &mut self,
        due: Due,
        samples: Samples,
        acked: &Ends,
    ) -> Vec<SpooledFrame> {
        let mut taken = Vec::new();
        for (&(epoch, stream), held) in &mut self.streams {
            if samples == Samples::Kept && held.front().is_some_and(is_samples) {
                continue;
            }
            let from = acked_of(held, acked);
            let to = match due {
                Due::Until(time) => held.partition_point(|held| held.since <= time),
                Due::Stream { .. } if due == (Due::Stream { epoch, stream }) => held.len(),
                Due::Stream { .. } => from,
                Due::All => held.len(),
            };
            taken.extend(held.drain(from..to.max(from)));
        }
        taken.sort_by_key(|held| held.place);
        self.bytes -= taken.iter().map(|held| held.frame.bytes.len()).sum::<usize>();
        if planted!("a held frame that is due is dropped") {
            taken.clear();
        }
        taken.into_iter().map(|held| held.frame).collect()
    }

    /// Forgets acknowledged frames, oldest first, until no more than
    /// `bytes_max` are held; false where that is not enough.
    pub(super) fn forget(&mut self, bytes_max: usize, acked: &Ends) -> bool {
        while self.bytes > bytes_max {
            let may_go = |held: &&mut VecDeque<Held>| {
                acked_of(held, acked) > 0 || planted!("what no host holds is forgotten")
            };
            let oldest = self.streams.values_mut().filter(may_go);
            let oldest = oldest.min_by_key(|held| held.front().map(|held| held.place));
            let Some(Held { frame, .. }) = oldest.and_then(VecDeque::pop_front) else {
                return false;
            };
            self.bytes -= frame.bytes.len();
        }
        true
    }

    /// Takes out samples that no host has acknowledged, oldest first, until no
    /// more than `bytes_max` are held.
    pub(super) fn take_samples(&mut self, bytes_max: usize, acked: &Ends) -> Vec<SpooledFrame> {
        let mut taken = Vec::new();
        while self.bytes > bytes_max {
            let streams = self.streams.values_mut();
            let waiting = streams.filter_map(|held| {
                let at = acked_of(held, acked);
                let place = held.get(at).filter(|held| is_samples(held))?.place;
                Some((place, at, held))
            });
            let oldest = waiting.min_by_key(|(place, ..)| *place);
            let Some(Held { frame, .. }) = oldest.and_then(|(_, at, held)| held.remove(at)) else {
                break;
            };
            self.bytes -= frame.bytes.len();
            taken.push(frame);
        }
        taken
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.bytes = 0;
    }

    /// The first frame at `place` or behind it, in the order of holding.
    pub(super) fn from(&self, place: u64) -> Option<(u64, SpooledFrame)> {
        let next = |held: &VecDeque<Held>| {
            let at = held.partition_point(|held| held.place < place);
            held.get(at).map(|held| (held.place, held.frame.clone()))
        };
        self.streams.values().filter_map(next).min_by_key(|(place, _)| *place)
    }

    /// The first frame of the stream of `header` that lies before it and behind
    /// all numbers below `next`.
    pub(super) fn between(&self, next: u64, header: &Header) -> Option<SpooledFrame> {
        let held = self.streams.get(&stream_of(header))?;
        let at = held.partition_point(|held| next_sequence(&held.frame.header) <= next);
        let frame = &held.get(at)?.frame;
        let before = frame.header.identity.sequence < header.identity.sequence;
        before.then(|| frame.clone())
    }
}

/// How many frames of a stream, from its oldest on, a host holds.
fn acked_of(held: &VecDeque<Held>, acked: &Ends) -> usize {
    held.partition_point(|held| {
        next_sequence(&held.frame.header) <= acked.next(held.frame.header.identity)
    })
}

/// A stream of samples holds nothing else.
fn is_samples(held: &Held) -> bool {
    held.frame.header.kind == kind::SAMPLE_BLOCK
}

fn stream_of(header: &Header) -> (u32, u32) {
    (header.identity.epoch, header.identity.stream)
}
