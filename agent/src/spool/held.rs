//! Frames in memory that may never touch the disk.
//!
//! Owns the frames that a host is expected to hold before they are due, and of
//! those that one holds the newest, for another host that comes to fetch them.
//! Decides nothing about hosts and times: [`super::RunLog`] is told what is
//! held, and what of it is due.
//!
//! Their memory is had and touched when a run begins, so that it does not grow
//! with the night: frames lie in chunks of one slab ([`Slab`]), and the list of
//! them has room for as many as there are chunks.

use std::collections::VecDeque;

use wattline_protocol::frame::{Header, Identity};
use wattline_protocol::planted;
use wattline_protocol::record::kind;
use wattline_protocol::units::BoardTime;

use super::log::SpooledFrame;
use super::segment::{Ends, next_sequence};
use super::slab::{Lent, Slab};

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

impl Due {
    fn takes(self, held: &Held) -> bool {
        match self {
            Self::Until(time) => held.since <= time,
            Self::Stream { epoch, stream } => stream_of(&held.header) == (epoch, stream),
            Self::All => true,
        }
    }
}

/// What becomes of samples among the held frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    /// They are written when they are due, as all others.
    Due,
    /// There is no room for them on the disk: they stay while there is memory.
    Kept,
}

/// Held frames, in the order of holding.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    frames: VecDeque<Held>,
    slab: Slab,
    next_place: u64,
    /// So many of the oldest are acknowledged; perhaps more.
    acked: usize,
}

/// A frame and its place in the order of holding.
#[derive(Debug, Clone)]
struct Held {
    place: u64,
    since: BoardTime,
    header: Header,
    bytes: Lent,
}

impl HeldFrames {
    /// Room for `bytes` of frames.
    pub(super) fn with_room(bytes: usize) -> Self {
        let slab = Slab::new(bytes);
        let mut frames = VecDeque::with_capacity(slab.chunks());
        // Written once, so that the kernel has given the memory.
        let nothing = Held {
            place: u64::MAX,
            since: BoardTime(u64::MAX),
            header: Header {
                kind: 0,
                length: 0,
                codec: 0,
                flags: 0,
                count: 0,
                identity: Identity::default(),
            },
            bytes: Lent::default(),
        };
        frames.resize(slab.chunks(), nothing);
        frames.clear();
        Self { frames, slab, next_place: 0, acked: 0 }
    }

    /// Holds a frame; false where there is no room for it.
    #[must_use]
    pub(super) fn push(&mut self, frame: &SpooledFrame, since: BoardTime) -> bool {
        let Some(bytes) = self.slab.lend(&frame.bytes) else { return false };
        let (place, header) = (self.next_place, frame.header);
        self.frames.push_back(Held { place, since, header, bytes });
        self.next_place += 1;
        true
    }

    /// Forgets acknowledged frames, oldest first, until one of `bytes` fits; false
    /// where that is not enough.
    pub(super) fn forget(&mut self, bytes: usize, acked: &Ends) -> bool {
        let mut at = 0;
        while !self.slab.fits(bytes) {
            let may_go =
                |held: &Held| is_acked(held, acked) || planted!("what no host holds is forgotten");
            let found = self.frames.iter().skip(at).position(may_go);
            let Some(held) = found.and_then(|skipped| {
                at += skipped;
                self.frames.remove(at)
            }) else {
                return false;
            };
            self.acked = self.acked.saturating_sub(usize::from(at < self.acked));
            self.slab.give_back(held.bytes);
        }
        true
    }

    /// Time of the oldest frame that no host has acknowledged.
    pub(super) fn oldest(&mut self, samples: Samples, acked: &Ends) -> Option<BoardTime> {
        self.pass_acked(acked);
        let waits =
            |held: &&Held| (samples == Samples::Due || !is_samples(held)) && !is_acked(held, acked);
        self.frames.iter().skip(self.acked).find(waits).map(|held| held.since)
    }

    /// Takes out what is due and not acknowledged, in the order of holding.
    pub(super) fn take_due(
        &mut self,
        due: Due,
        samples: Samples,
        acked: &Ends,
    ) -> Vec<SpooledFrame> {
        let kept = |held: &Held| samples == Samples::Kept && is_samples(held);
        let mut taken = self.take(acked, |held, _| due.takes(held) && !kept(held));
        if planted!("a held frame that is due is dropped") {
            taken.clear();
        }
        taken
    }

    /// Takes out samples that no host has acknowledged, oldest first, until no
    /// more than `bytes_max` are held.
    pub(super) fn take_samples(&mut self, bytes_max: usize, acked: &Ends) -> Vec<SpooledFrame> {
        self.take(acked, |held, slab| is_samples(held) && slab.lent_bytes() > bytes_max)
    }

    /// Takes out frames that no host has acknowledged and that `goes` names.
    fn take(&mut self, acked: &Ends, goes: impl Fn(&Held, &Slab) -> bool) -> Vec<SpooledFrame> {
        self.pass_acked(acked);
        let mut taken = Vec::new();
        let mut kept = self.acked;
        for at in self.acked..self.frames.len() {
            let Some(held) = self.frames.get(at) else { break };
            if goes(held, &self.slab) && !is_acked(held, acked) {
                taken.push(SpooledFrame {
                    header: held.header,
                    bytes: self.slab.read(held.bytes).into(),
                });
                self.slab.give_back(held.bytes);
            } else {
                self.frames.swap(kept, at);
                kept += 1;
            }
        }
        self.frames.truncate(kept);
        taken
    }

    /// The first frame at `place` or behind it, in the order of holding.
    pub(super) fn from(&self, place: u64) -> Option<(u64, SpooledFrame)> {
        let at = self.frames.partition_point(|held| held.place < place);
        let held = self.frames.get(at)?;
        Some((held.place, self.copy(held)))
    }

    /// The first frame of the stream of `header` that lies before it and behind
    /// all numbers below `next`.
    pub(super) fn between(&self, next: u64, header: &Header) -> Option<SpooledFrame> {
        let stream = stream_of(header);
        let mut of_stream = self.frames.iter().filter(|held| stream_of(&held.header) == stream);
        let held = of_stream.find(|held| next_sequence(&held.header) > next)?;
        let before = held.header.identity.sequence < header.identity.sequence;
        before.then(|| self.copy(held))
    }

    fn copy(&self, held: &Held) -> SpooledFrame {
        SpooledFrame { header: held.header, bytes: self.slab.read(held.bytes).into() }
    }

    fn pass_acked(&mut self, acked: &Ends) {
        let rest = self.frames.iter().skip(self.acked);
        self.acked += rest.take_while(|held| is_acked(held, acked)).count();
    }
}

fn is_acked(held: &Held, acked: &Ends) -> bool {
    next_sequence(&held.header) <= acked.next(held.header.identity)
}

/// A stream of samples holds nothing else.
fn is_samples(held: &Held) -> bool {
    held.header.kind == kind::SAMPLE_BLOCK
}

fn stream_of(header: &Header) -> (u32, u32) {
    (header.identity.epoch, header.identity.stream)
}
