//! The log of one run, as its writer and its readers share it.
//!
//! Owns the list of readable segments, the frames in memory that wait for the
//! disk, and the choice of what goes when that memory is full. Does not
//! touch the disk: so the lock is never held across a system call, and a
//! reader never waits for a sync.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattline_protocol::frame::Header;
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, GapReason, RunId, kind};
use wattline_protocol::units::BoardTime;

use super::held::{Due, HeldFrames, Samples};
use super::room::Room;
use super::segment::{Ends, SEGMENT_BYTES_MAX, next_sequence, run_folder};
use super::storage::Storage;

/// Most bytes of frames that wait for the disk. 8 MiB: 26 minutes of one
/// INA3221 at 5.2 kB/s or 4 of the fastest chip at 37 kB/s; with the held ones
/// well within the 32 MiB that the sampler's process may take.
pub const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory of frames that are held for a host: some 9 minutes of one INA3221, in the
/// chunks that they take.
pub const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is dropped at once when the bound is reached, as a share of it: so that
/// one gap record stands for minutes, not one for each block.
const DROPPED_PART: usize = 64;

/// Bounds of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A segment takes no further frame at this length.
    pub segment_bytes: u64,
    /// Most bytes of frames that wait for the disk, of each run.
    pub pending_bytes: usize,
    /// Bytes of memory for frames that are held for a host, of each run: had when it
    /// begins, and all that it gets.
    pub held_bytes: usize,
}

impl Default for Limits {
    /// [`SEGMENT_BYTES_MAX`], [`PENDING_BYTES_MAX`] and [`HELD_BYTES_MAX`].
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_MAX,
            pending_bytes: PENDING_BYTES_MAX,
            held_bytes: HELD_BYTES_MAX,
        }
    }
}

/// A frame with its header, read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledFrame {
    /// The header.
    pub header: Header,
    /// The whole frame as recorded, checksum included.
    pub bytes: Arc<[u8]>,
}

/// A frame in memory and its place in the order of appending.
#[derive(Debug)]
pub(super) struct Pending {
    place: u64,
    frame: SpooledFrame,
}

/// A segment that readers may read.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) ordinal: u64,
    /// Bytes of its head; 0 where the head is damaged.
    pub(super) head_bytes: u64,
    /// One past the last byte that readers may read.
    pub(super) end: u64,
    /// What was durable before it; `None` where the head is damaged.
    pub(super) before: Option<Arc<Ends>>,
}

/// How far a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Frames appended since the agent's start.
    pub appended: u64,
    /// Of them: durable or dropped by policy.
    pub durable: u64,
}

#[derive(Debug, Default)]
pub(super) struct LogState {
    pub(super) segments: Vec<Segment>,
    pub(super) pending: VecDeque<Pending>,
    pub(super) pending_bytes: usize,
    /// Frames that may never touch the disk.
    pub(super) held: HeldFrames,
    /// Acknowledgements that said something new.
    pub(super) acks: u64,
    /// Place of the next frame that is appended.
    pub(super) next_place: u64,
    /// Ends of the streams, those in memory included.
    pub(super) appended: Ends,
    /// Ends of the streams on disk.
    pub(super) durable: Ends,
    /// What hosts hold durably.
    pub(super) acked: Ends,
    /// A RUN_END is durable.
    pub(super) ended: bool,
    /// A [`RunLog`](super::RunLog) writes it.
    pub(super) has_writer: bool,
    /// The run was removed.
    pub(super) removed: bool,
}

/// One run's log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) run: RunId,
    pub(super) folder: String,
    pub(super) limits: Limits,
    pub(super) room: Arc<Room>,
    state: Mutex<LogState>,
}

/// What a reader finds at its place.
pub(super) enum Found {
    /// Bytes on disk up to `segment.end`, where `limit` cuts off what a later
    /// segment holds again.
    Disk { index: usize, segment: Segment, limit: Option<Arc<Ends>> },
    /// A frame in memory.
    Memory { place: u64, frame: SpooledFrame },
    /// A frame that is held, and may never be on disk.
    Held { place: u64, frame: SpooledFrame },
    /// Nothing more for now; what is durable up to here.
    End { durable: Ends },
    /// The run was removed.
    Removed,
}

impl Log {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        run: RunId,
        limits: Limits,
        room: Arc<Room>,
        state: LogState,
    ) -> Self {
        Self { limits, room, storage, folder: run_folder(&run), run, state: Mutex::new(state) }
    }

    /// The state. A thread that panicked holding it ends the process; in
    /// tests, where it does not, the state is whole between any two calls.
    pub(super) fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows for a reader that has read `segments[index]` up to
    /// `offset`, of the frames in memory all before `place` and of the held
    /// ones all before `held`. One lock for the whole answer: a frame that moves
    /// meanwhile, from held to memory to disk, is found in one of them. Held
    /// ones come last: what a stream has on the disk is older.
    pub(super) fn after(&self, index: usize, offset: u64, place: u64, held: u64) -> Found {
        let state = self.state();
        if state.removed {
            return Found::Removed;
        }
        let ahead = |at: usize| state.segments.get(at).is_some_and(|one| one.end > one.head_bytes);
        let unread = state.segments.get(index).is_some_and(|one| one.end > offset);
        let found = if unread {
            Some(index)
        } else {
            (index + 1..state.segments.len()).find(|&at| ahead(at))
        };
        if let Some(index) = found
            && let Some(segment) = state.segments.get(index)
        {
            let mut later = state.segments.iter().skip(index + 1);
            let limit = later.find_map(|one| one.before.clone());
            return Found::Disk { index, segment: segment.clone(), limit };
        }
        let at = state.pending.partition_point(|pending| pending.place < place);
        match state.pending.get(at) {
            Some(pending) => Found::Memory { place: pending.place, frame: pending.frame.clone() },
            None => match state.held.from(held) {
                Some((place, frame)) => Found::Held { place, frame },
                None => Found::End { durable: state.durable.clone() },
            },
        }
    }
}

impl Log {
    /// The segments right behind `segments[index]` whose heads are lost.
    pub(super) fn headless_behind(&self, index: usize) -> Vec<Segment> {
        let state = self.state();
        let behind = state.segments.iter().skip(index + 1);
        behind.take_while(|segment| segment.before.is_none()).cloned().collect()
    }
}

impl LogState {
    /// Bytes on the disk that readers may read.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// Takes a frame into memory.
    pub(super) fn push(&mut self, frame: SpooledFrame) {
        self.appended.raise_over(&frame.header);
        self.push_due(frame);
    }

    /// Takes a frame that only a host may make durable; false where there is no
    /// room for it behind what no host has.
    #[must_use]
    pub(super) fn hold(&mut self, frame: &SpooledFrame, since: BoardTime) -> bool {
        let held = self.held.forget(frame.bytes.len(), &self.acked) && self.held.push(frame, since);
        if held {
            self.appended.raise_over(&frame.header);
        }
        held
    }

    /// Takes a frame that is dropped at once.
    pub(super) fn drop_now(&mut self, frame: &SpooledFrame, dropped: &mut Dropped) {
        self.appended.raise_over(&frame.header);
        dropped.add(frame);
    }

    /// Lets held frames that are due, and that no host has, wait for the disk.
    pub(super) fn release(&mut self, due: Due, samples: Samples) {
        for frame in self.held.take_due(due, samples, &self.acked) {
            self.push_due(frame);
        }
    }

    fn push_due(&mut self, frame: SpooledFrame) {
        self.pending_bytes += frame.bytes.len();
        self.pending.push_back(Pending { place: self.next_place, frame });
        self.next_place += 1;
    }

    /// The first frame in memory at `place` or behind it.
    pub(super) fn pending_from(&self, place: u64) -> Option<(u64, Arc<[u8]>)> {
        let at = self.pending.partition_point(|pending| pending.place < place);
        let pending = self.pending.get(at)?;
        Some((pending.place, Arc::clone(&pending.frame.bytes)))
    }

    /// Place of the oldest frame in memory, or of the next one to come.
    pub(super) fn first_pending(&self) -> u64 {
        self.pending.front().map_or(self.next_place, |pending| pending.place)
    }

    /// True where no frame waits in memory.
    pub(super) fn all_durable(&self) -> bool {
        self.pending.is_empty()
    }

    /// Forgets the frames before `place`: they are durable in `segment`.
    pub(super) fn made_durable(&mut self, place: u64, segment: Segment) {
        let place = place + u64::from(planted!("one frame too many counts as durable"));
        while self.pending.front().is_some_and(|pending| pending.place < place) {
            let Some(Pending { frame, .. }) = self.pending.pop_front() else {
                break;
            };
            self.pending_bytes -= frame.bytes.len();
            self.durable.raise_over(&frame.header);
            self.ended |= frame.header.kind == kind::RUN_END;
        }
        match self.segments.last_mut() {
            Some(last) if last.ordinal == segment.ordinal => *last = segment,
            Some(_) | None => self.segments.push(segment),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { appended: self.next_place, durable: self.first_pending() }
    }

    /// Drops frames until the memory is below its bound again: sample blocks
    /// first, then spans, then the rest, oldest first within each.
    pub(super) fn drop_over_bound(&mut self, bound_bytes: usize) -> Dropped {
        let mut dropped = Dropped::default();
        if self.pending_bytes <= bound_bytes {
            return dropped;
        }
        let bytes_kept = bound_bytes - bound_bytes / DROPPED_PART;
        let mut classes = [DropClass::Samples, DropClass::Spans, DropClass::Rest];
        if planted!("marks are dropped before samples") {
            classes.reverse();
        }
        for class in classes {
            self.drop_class(class, bytes_kept, &mut dropped);
        }
        dropped
    }

    /// Drops held samples that no host has until no more than `bytes_max` are
    /// held.
    pub(super) fn drop_samples(&mut self, bytes_max: usize) -> Dropped {
        let mut dropped = Dropped::default();
        for frame in self.held.take_samples(bytes_max, &self.acked) {
            dropped.add(&frame);
        }
        dropped
    }

    fn drop_class(&mut self, class: DropClass, bytes_kept: usize, dropped: &mut Dropped) {
        let mut over = self.pending_bytes.saturating_sub(bytes_kept);
        let mut bytes = 0;
        self.pending.retain(|Pending { frame, .. }| {
            if over == 0 || DropClass::of(frame.header.kind) != class {
                return true;
            }
            over = over.saturating_sub(frame.bytes.len());
            bytes += frame.bytes.len();
            dropped.add(frame);
            false
        });
        self.pending_bytes -= bytes;
    }
}

/// What went for want of room.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Its numbers.
    pub(super) gaps: Vec<Gap>,
    /// The samples among it, whose aggregates are to be recorded.
    pub(super) samples: Vec<SpooledFrame>,
}

impl Dropped {
    fn add(&mut self, frame: &SpooledFrame) {
        add_gap(&mut self.gaps, &frame.header);
        if frame.header.kind == kind::SAMPLE_BLOCK {
            self.samples.push(frame.clone());
        }
    }
}

/// What goes first when memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DropClass {
    /// Raw samples: the bulk, and a hole in them is stated in the uncertainty.
    Samples,
    /// Spans of inferences and layers.
    Spans,
    /// Windows, results, clocks, gaps: without them the rest has no meaning.
    Rest,
}

impl DropClass {
    fn of(kind: u8) -> Self {
        match kind {
            kind::SAMPLE_BLOCK => Self::Samples,
            kind::INFERENCE_SPANS | kind::LAYER_SPANS | kind::GPU_SPANS | kind::TRIGGER_EDGES => {
                Self::Spans
            }
            _ => Self::Rest,
        }
    }
}

/// Notes a dropped frame, joined to the gap before it where they touch.
fn add_gap(gaps: &mut Vec<Gap>, header: &Header) {
    if planted!("dropped spans are not told") && header.kind != kind::SAMPLE_BLOCK {
        return;
    }
    let identity = header.identity;
    let to = next_sequence(header) - u64::from(planted!("a gap is told one short"));
    let touching = gaps.iter_mut().rev().find(|gap| {
        (gap.epoch, gap.stream, gap.to) == (identity.epoch, identity.stream, identity.sequence)
    });
    match touching {
        Some(gap) => gap.to = to,
        None => gaps.push(Gap {
            epoch: identity.epoch,
            stream: identity.stream,
            from: identity.sequence,
            to,
            reason: GapReason::DroppedByPolicy,
        }),
    }
}
