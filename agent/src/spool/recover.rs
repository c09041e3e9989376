//! What is on the disk when the agent starts.
//!
//! Owns the scan of a run's newest segment, the cut of its torn tail, and
//! what the recorder must know to write where the last epoch ended. Never
//! fails on damage: damage is found and said. Reads one segment a run, as the
//! head of each tells what lies before it.

use std::sync::Arc;

use tracing::warn;
use wattline_protocol::planted;
use wattline_protocol::record::{RunId, StreamEnd, kind};

use super::acked;
use super::log::{LogState, Segment};
use super::segment::{
    Ends, Piece, SegmentReader, Window, read_head, run_folder, segment_name, segment_ordinal,
};
use super::storage::{Operation, Storage, StorageError};

/// Frames read in search of the first RUN_START and PLAN: they are the first
/// frames of a run; the rest is for damaged ones.
const FIRST_FRAMES_MAX: u32 = 64;

/// A damaged part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedPart {
    /// Ordinal of the segment.
    pub segment: u64,
    /// Bytes of it that are no frame.
    pub bytes: u64,
}

/// A run as the start of the agent found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredRun {
    /// The run.
    pub run: RunId,
    /// Payload of its first RUN_START record; `None` where none is left.
    pub first_start: Option<Vec<u8>>,
    /// Payload of its first PLAN record; `None` where none is left.
    pub first_plan: Option<Vec<u8>>,
    /// A RUN_END record is there.
    pub ended: bool,
    /// Ends of its streams.
    pub ends: Vec<StreamEnd>,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// Damaged parts of the newest segment; older ones are met on reading.
    pub damaged: Vec<DamagedPart>,
}

impl RecoveredRun {
    /// The newest epoch that has a stream in this run.
    #[must_use]
    pub fn last_epoch(&self) -> Option<u32> {
        self.ends.iter().map(|end| end.epoch).max()
    }
}

/// A recovered run with what its log needs.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) found: RecoveredRun,
    pub(super) state: LogState,
}

/// Looks at one run. `None` where its folder holds no segment.
///
/// # Errors
/// [`StorageError`] where the folder cannot be listed.
pub(super) fn recover(
    storage: &dyn Storage,
    run: &RunId,
) -> Result<Option<Recovery>, StorageError> {
    let folder = run_folder(run);
    let listed =
        storage.list(&folder).map_err(|e| StorageError::new(Operation::Read, &folder, e))?;
    let mut ordinals: Vec<u64> = listed.iter().filter_map(|name| segment_ordinal(name)).collect();
    ordinals.sort_unstable();
    let mut segments = Vec::new();
    for ordinal in ordinals {
        segments.push(look_at(storage, run, &segment_name(&folder, ordinal), ordinal)?);
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let mut scan = Scan::of(storage, &folder, &mut segments)?;
    if !scan.ended {
        settle(storage, run, &folder, &mut segments)?;
        scan = Scan::of(storage, &folder, &mut segments)?;
    }
    for (name, end) in &scan.torn {
        cut(storage, name, *end);
    }
    let First { start: first_start, plan: first_plan } = first(storage, &folder, &segments)?;
    let found = RecoveredRun {
        run: run.clone(),
        first_start,
        first_plan,
        ended: scan.ended,
        ends: scan.ends.to_streams(),
        torn_bytes: scan.torn_bytes,
        damaged: scan.damaged,
    };
    let state = LogState {
        segments,
        appended: scan.ends.clone(),
        durable: scan.ends,
        acked: acked::read(storage, &folder),
        ended: scan.ended,
        ..LogState::default()
    };
    Ok(Some(Recovery { found, state }))
}

/// The newest segment that has a head: it tells what lies before it.
fn newest_headed(segments: &[Segment]) -> usize {
    segments.iter().rposition(|segment| segment.before.is_some()).unwrap_or(0)
}

/// Brings the segments that a run goes on from to what the disk has of them. After
/// a killed agent they may lie in the kernel's memory alone, and where a sync
/// failed they stay there for good: what the run goes on behind would be gone
/// with the power, and nobody would make it again. A disk that refuses is no
/// obstacle: what can be read is read.
///
/// # Errors
/// [`StorageError`] where a segment cannot be read for a cause that says nothing of
/// what it holds.
fn settle(
    storage: &dyn Storage,
    run: &RunId,
    folder: &str,
    segments: &mut [Segment],
) -> Result<(), StorageError> {
    let mut settled = segments.len();
    // A head may turn out not to be on the disk: then the one before it counts.
    while settled > newest_headed(segments) {
        let from = newest_headed(segments);
        for segment in segments.iter_mut().take(settled).skip(from) {
            let name = segment_name(folder, segment.ordinal);
            if let Err(error) = storage.settle(&name) {
                warn!(name, %error, "A segment could not be synced; what the disk has of it counts.");
            }
            *segment = look_at(storage, run, &name, segment.ordinal)?;
        }
        settled = from;
    }
    if let Err(error) = storage.sync_folder(folder) {
        warn!(folder, %error, "The names of a run's segments could not be synced.");
    }
    Ok(())
}

/// Length and head of a segment.
fn look_at(
    storage: &dyn Storage,
    run: &RunId,
    name: &str,
    ordinal: u64,
) -> Result<Segment, StorageError> {
    let end = storage.length(name).map_err(|e| StorageError::new(Operation::Read, name, e))?;
    let head =
        read_head(storage, name)?.filter(|(head, _)| head.ordinal == ordinal && head.run == *run);
    Ok(match head {
        Some((head, head_bytes)) => {
            Segment { ordinal, head_bytes, end, before: Some(Arc::new(head.before)) }
        }
        None => Segment { ordinal, head_bytes: 0, end, before: None },
    })
}

#[derive(Debug, Default)]
struct Scan {
    ends: Ends,
    ended: bool,
    torn_bytes: u64,
    /// Segments with a torn tail, and where it begins.
    torn: Vec<(String, u64)>,
    damaged: Vec<DamagedPart>,
}

impl Scan {
    /// Reads from the newest segment that has a head on.
    fn of(
        storage: &dyn Storage,
        folder: &str,
        segments: &mut [Segment],
    ) -> Result<Self, StorageError> {
        let mut scan = Self::default();
        let from = newest_headed(segments);
        if let Some(before) = segments.get(from).and_then(|segment| segment.before.clone())
            && !planted!("a start forgets what lies before the newest segment")
        {
            scan.ends = Ends::clone(&before);
        }
        let alone = usize::from(planted!("a start reads the newest segment alone"));
        let newest = (alone * segments.len()).saturating_sub(1);
        for segment in segments.iter_mut().skip(from.max(newest)) {
            scan.segment(storage, folder, segment)?;
        }
        Ok(scan)
    }

    /// Reads one segment; it ends behind its last frame.
    fn segment(
        &mut self,
        storage: &dyn Storage,
        folder: &str,
        segment: &mut Segment,
    ) -> Result<(), StorageError> {
        let name = segment_name(folder, segment.ordinal);
        let mut window = Window::at(segment.head_bytes);
        let mut last_frame = segment.head_bytes;
        let mut tail = 0;
        while let Some(piece) = SegmentReader::new(storage, &name, &mut window).next(segment.end)? {
            match piece {
                Piece::Damage { bytes } => tail = bytes,
                Piece::Frame { header, .. } => {
                    if tail > 0 {
                        self.damaged.push(DamagedPart { segment: segment.ordinal, bytes: tail });
                        tail = 0;
                    }
                    last_frame = window.offset();
                    if !planted!("recovery trusts the head alone") {
                        self.ends.raise_over(&header);
                    }
                    self.ended |= header.kind == kind::RUN_END;
                }
            }
        }
        self.torn_bytes += tail;
        // What the disk would not read now it may read another day: it is left.
        if tail > 0 && !window.unreadable() {
            self.torn.push((name, last_frame));
        }
        segment.end = last_frame;
        Ok(())
    }
}

/// Cuts a torn tail. A disk that refuses is no obstacle: readers stop before the
/// tail, and nothing is ever appended behind it.
fn cut(storage: &dyn Storage, name: &str, length: u64) {
    if let Err(error) = storage.truncate(name, length) {
        warn!(name, %error, "A segment could not be cut behind its last frame.");
    }
}

/// Payloads of the records that a run begins with.
#[derive(Debug, Default)]
struct First {
    start: Option<Vec<u8>>,
    plan: Option<Vec<u8>>,
}

fn first(storage: &dyn Storage, folder: &str, segments: &[Segment]) -> Result<First, StorageError> {
    let mut first = First::default();
    let mut looked_at = 0;
    for segment in segments {
        let name = segment_name(folder, segment.ordinal);
        let mut window = Window::at(segment.head_bytes);
        while let Some(piece) = SegmentReader::new(storage, &name, &mut window).next(segment.end)? {
            let Piece::Frame { header, bytes } = piece else { continue };
            let place = match header.kind {
                kind::RUN_START => &mut first.start,
                kind::PLAN => &mut first.plan,
                _ => &mut None,
            };
            if place.is_none() {
                let frame = wattline_protocol::frame::decode(&bytes);
                *place = frame.ok().map(|frame| frame.payload.to_vec());
            }
            looked_at += 1;
            let found = first.start.is_some() && first.plan.is_some();
            if found || looked_at >= FIRST_FRAMES_MAX {
                return Ok(first);
            }
        }
    }
    Ok(first)
}
