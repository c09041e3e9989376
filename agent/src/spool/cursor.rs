//! Reading a run's log, in the order in which it was appended.
//!
//! Owns a reader's place and what it has seen: each frame comes once, a
//! damaged part is passed and said. Does not wait: at the end it gives
//! nothing, and goes on when more is there.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use wattline_protocol::frame::{Header, Identity};
use wattline_protocol::planted;
use wattline_protocol::record::{Gap, GapReason, RunId, StreamEnd, kind};

use super::SpoolError;
use super::log::{Found, Log, Progress, Segment, SpooledFrame};
use super::segment::{Ends, Piece, SegmentReader, Window, next_sequence, segment_name};
use super::storage::StorageError;

/// Reads one run's log; cheap to clone, one for each session.
#[derive(Debug, Clone)]
pub struct LogReader {
    pub(super) log: Arc<Log>,
}

impl LogReader {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.log.run
    }

    /// How far the log is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.log.state().progress()
    }

    /// Ends of the streams as the disk has them: what may be promised.
    #[must_use]
    pub fn durable_ends(&self) -> Vec<StreamEnd> {
        self.log.state().durable.to_streams()
    }

    /// Ends of the streams, frames in memory included.
    #[must_use]
    pub fn appended_ends(&self) -> Vec<StreamEnd> {
        self.log.state().appended.to_streams()
    }

    /// True where the end of the run is durable.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.log.state().ended
    }

    /// A cursor at the beginning, which passes over frames below `watermarks`.
    #[must_use]
    pub fn cursor(&self, watermarks: &[StreamEnd]) -> LogCursor {
        let late = u64::from(planted!("a reader begins one too late"));
        let seen = watermarks
            .iter()
            .map(|end| ((end.epoch, end.stream), Seen { next: end.next + late, damages: 0 }))
            .collect();
        LogCursor { log: Arc::clone(&self.log), place: Place::default(), seen, damages: 0 }
    }
}

/// What a cursor comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A frame, for the first time.
    Frame(SpooledFrame),
    /// Bytes of a segment that are no frame; the holes they leave follow as
    /// they become known.
    Damage {
        /// Ordinal of the segment.
        segment: u64,
        /// Bytes passed over.
        bytes: u64,
    },
    /// Sequence numbers that never come: damage took them, or the policy
    /// dropped them and says so in a gap record that may lie far behind.
    Hole(Gap),
}

/// A place in a run's log.
#[derive(Debug)]
pub struct LogCursor {
    log: Arc<Log>,
    place: Place,
    seen: HashMap<(u32, u32), Seen>,
    /// Damaged parts passed so far.
    damages: u64,
}

/// How far a stream was read.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    next: u64,
    /// Damaged parts passed when it was last read: a step in the numbers is
    /// theirs where one lies between, else the drop policy's.
    damages: u64,
}

#[derive(Debug, Default)]
struct Place {
    /// The segment that is read, and its ordinal once it was found.
    index: usize,
    ordinal: Option<u64>,
    window: Window,
    /// Streams of the head that are still to be compared with what was seen.
    head: Vec<StreamEnd>,
    /// Of the frames in memory, the first not yet read.
    memory: u64,
    /// Of the held frames, the first not yet read.
    held: u64,
    /// A frame that waits behind held ones which come before it.
    parked: Option<SpooledFrame>,
    /// What waits behind a hole, or behind frames that were found elsewhere.
    ready: VecDeque<Item>,
}

impl LogCursor {
    /// What comes next; `None` where nothing more is there yet.
    ///
    /// # Errors
    /// [`SpoolError::Removed`] once the run is removed.
    pub fn next_item(&mut self) -> Result<Option<Item>, SpoolError> {
        loop {
            if let Some(item) = self.place.ready.pop_front() {
                return Ok(Some(item));
            }
            if let Some(frame) = self.place.parked.take() {
                let frame = match self.held_before(&frame.header) {
                    Some(held) => {
                        self.place.parked = Some(frame);
                        held
                    }
                    None => frame,
                };
                if let Some(item) = self.take(frame)? {
                    return Ok(Some(item));
                }
                continue;
            }
            if let Some(hole) = self.hole_before_segment() {
                return Ok(Some(Item::Hole(hole)));
            }
            let offset = self.place.window.offset();
            let Place { index, memory, held, .. } = self.place;
            match self.log.after(index, offset, memory, held) {
                Found::Removed => return Err(self.removed()),
                Found::End { durable } => return Ok(self.hole_at_end(&durable).map(Item::Hole)),
                Found::Memory { place, frame } => {
                    self.place.memory = place + 1;
                    self.place.parked = Some(frame);
                }
                Found::Held { place, frame } => {
                    self.place.held = place + 1;
                    if planted!("a held frame counts as acknowledged once it is read") {
                        self.log.state().acked.raise_over(&frame.header);
                    }
                    if let Some(item) = self.take(frame)? {
                        return Ok(Some(item));
                    }
                }
                Found::Disk { index, segment, limit } => {
                    self.enter(index, &segment);
                    if let Some(item) = self.read(&segment, limit.as_deref())? {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }

    /// A held frame that must be given before one from the disk: an older one
    /// of its stream, or any before the end of the run, which says of all that
    /// did not come that it is lost.
    fn held_before(&mut self, header: &Header) -> Option<SpooledFrame> {
        let identity = header.identity;
        let seen = self.seen.get(&(identity.epoch, identity.stream)).map_or(0, |seen| seen.next);
        let state = self.log.state();
        if header.kind == kind::RUN_END {
            let (place, frame) = state.held.from(self.place.held)?;
            self.place.held = place + 1;
            return Some(frame);
        }
        if identity.sequence <= seen { None } else { state.held.between(seen, header) }
    }

    fn removed(&self) -> SpoolError {
        SpoolError::Removed { run: self.log.run.clone() }
    }

    /// Goes to the start of a segment, unless it is the one that is read.
    fn enter(&mut self, index: usize, segment: &Segment) {
        if self.place.ordinal == Some(segment.ordinal) {
            return;
        }
        self.place.index = index;
        self.place.ordinal = Some(segment.ordinal);
        self.place.window = Window::at(segment.head_bytes);
        self.place.head =
            segment.before.as_ref().map(|before| before.to_streams()).unwrap_or_default();
        self.place.head.reverse();
    }

    /// A segment begins behind what was read before it: the rest is lost.
    fn hole_before_segment(&mut self) -> Option<Gap> {
        while let Some(end) = self.place.head.pop() {
            let seen = self.seen.entry((end.epoch, end.stream)).or_default();
            if seen.next < end.next {
                let from = seen.next;
                *seen = Seen { next: end.next, damages: self.damages };
                if planted!("a hole before a segment is swallowed") {
                    continue;
                }
                return Some(Gap {
                    epoch: end.epoch,
                    stream: end.stream,
                    from,
                    to: end.next,
                    reason: GapReason::DamagedFrame,
                });
            }
        }
        None
    }

    /// All is read, and less of a stream was there than was durable: no frame
    /// behind the damage is left to show it.
    fn hole_at_end(&mut self, durable: &Ends) -> Option<Gap> {
        let mut hole = None;
        durable.all(|(epoch, stream), next| {
            let seen = self.seen.entry((epoch, stream)).or_default();
            if seen.next < next && !planted!("a hole at the end is swallowed") {
                let (from, to) = (seen.next, next);
                *seen = Seen { next, damages: self.damages };
                hole = Some(Gap { epoch, stream, from, to, reason: GapReason::DamagedFrame });
            }
            hole.is_none()
        });
        hole
    }

    /// Reads on in the segment that was entered.
    fn read(
        &mut self,
        segment: &Segment,
        limit: Option<&Ends>,
    ) -> Result<Option<Item>, SpoolError> {
        if !self.place.head.is_empty() {
            return Ok(None);
        }
        if limit.is_some_and(|limit| planted!("a segment is passed over") || self.has_seen(limit)) {
            // What is left of it, whole or torn, the next segment holds again.
            self.place.window = Window::at(segment.end);
            return Ok(None);
        }
        let name = segment_name(&self.log.folder, segment.ordinal);
        let storage = self.log.storage.as_ref();
        let piece = SegmentReader::new(storage, &name, &mut self.place.window).next(segment.end);
        match piece {
            Ok(None) => Ok(None),
            Ok(Some(Piece::Damage { bytes })) => {
                self.damages += 1;
                Ok(Some(Item::Damage { segment: segment.ordinal, bytes }))
            }
            Ok(Some(Piece::Frame { header, bytes })) => {
                let again = limit.is_some_and(|limit| is_behind(limit, &header));
                if again {
                    return Ok(None);
                }
                self.place.parked = Some(SpooledFrame { header, bytes: bytes.into() });
                Ok(None)
            }
            Err(error) => self.without_file(segment, error),
        }
    }

    /// True where all frames before these ends were given or passed over.
    fn has_seen(&self, ends: &Ends) -> bool {
        ends.all(|stream, next| self.seen.get(&stream).is_some_and(|seen| seen.next >= next))
    }

    /// The file is gone. Removed with its run, or lost: then the head of the
    /// next segment tells what was in it.
    fn without_file(
        &mut self,
        segment: &Segment,
        error: StorageError,
    ) -> Result<Option<Item>, SpoolError> {
        if self.log.state().removed {
            return Err(self.removed());
        }
        if error.source.kind() != io::ErrorKind::NotFound {
            return Err(SpoolError::Storage(error));
        }
        let bytes = segment.end.saturating_sub(self.place.window.offset());
        self.place.window = Window::at(segment.end);
        self.damages += 1;
        Ok(Some(Item::Damage { segment: segment.ordinal, bytes }))
    }

    /// Gives a frame that was not yet given, behind what is before it: frames
    /// that lie elsewhere, or a hole.
    fn take(&mut self, frame: SpooledFrame) -> Result<Option<Item>, SpoolError> {
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let next = self.seen.get(&(epoch, stream)).map_or(0, |seen| seen.next);
        if next_sequence(&frame.header) <= next {
            return Ok(None);
        }
        if sequence > next {
            match self.copies((epoch, stream), next..sequence) {
                Ok(copies) => copies.into_iter().for_each(|copy| self.give(copy)),
                Err(error) => {
                    self.place.parked = Some(frame);
                    return Err(error);
                }
            }
        }
        self.give(frame);
        Ok(self.place.ready.pop_front())
    }

    /// Lets a frame be the next one, behind the hole before it.
    fn give(&mut self, frame: SpooledFrame) {
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let next = next_sequence(&frame.header);
        let seen = self.seen.entry((epoch, stream)).or_default();
        let before = std::mem::replace(seen, Seen { next, damages: self.damages });
        if sequence > before.next && !planted!("a hole between frames is swallowed") {
            // A stream is in order in the log: what is stepped over never comes.
            // The gap record that says why may lie far behind.
            let damaged = before.damages < self.damages;
            let reason = if damaged { GapReason::DamagedFrame } else { GapReason::DroppedByPolicy };
            let (from, to) = (before.next, sequence);
            self.place.ready.push_back(Item::Hole(Gap { epoch, stream, from, to, reason }));
        }
        self.place.ready.push_back(Item::Frame(frame));
    }

    /// Frames of a stream that the segment which is read lacks, from those that
    /// follow. A segment whose sync failed may hold its unsynced frames in part;
    /// the head of the next one says so, and where that head is lost, the whole
    /// copies lie behind it.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] where a segment cannot be read for a cause that
    /// says nothing of what it holds.
    fn copies(
        &self,
        stream: (u32, u32),
        sequences: Range<u64>,
    ) -> Result<Vec<SpooledFrame>, SpoolError> {
        let segments = self.log.headless_behind(self.place.index);
        let mut next = sequences.start;
        let mut copies = Vec::new();
        for segment in segments {
            let name = segment_name(&self.log.folder, segment.ordinal);
            let mut window = Window::at(segment.head_bytes);
            loop {
                let storage = self.log.storage.as_ref();
                match SegmentReader::new(storage, &name, &mut window).next(segment.end) {
                    Ok(Some(Piece::Frame { header, bytes })) => {
                        let Identity { epoch, stream: number, sequence } = header.identity;
                        if (epoch, number) == stream && (next..sequences.end).contains(&sequence) {
                            next = next_sequence(&header);
                            copies.push(SpooledFrame { header, bytes: bytes.into() });
                        }
                    }
                    Ok(Some(Piece::Damage { .. })) => {}
                    Ok(None) => break,
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(SpoolError::Storage(error)),
                }
            }
        }
        Ok(copies)
    }
}

/// True for a frame that a later segment holds again.
pub(super) fn is_behind(limit: &Ends, header: &Header) -> bool {
    header.identity.sequence >= limit.next(header.identity)
}
