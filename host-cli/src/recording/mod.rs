//! A recording as its reader wants it: records by kind, samples by chip.
//!
//! Owns the step from frames to typed records, over all epochs of a run. Does
//! not own the file ([`crate::store`]) nor what the records mean together
//! ([`crate::analysis`]).
//!
//! Frames come in order of (epoch, stream, sequence). A run that was cut or
//! still goes on is a recording as far as it goes; kinds of a later version are
//! counted and left out.

mod lane;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use thiserror::Error;
use wattline_protocol::block::{BlockCodec, BlockError};
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::frame::{self, CRITICAL_FLAGS, Codec, Frame, FrameError, Header, Identity};
use wattline_protocol::record::{
    AlarmCounts, BoardConditions, BoardExpectation, BoardState, ClockSnapshot, DriverSetting,
    EpochEnd, Gap, GapReason, GpuSpans, InferenceSpans, LayerSpans, Notice, PhaseMark, Plan,
    Record, RecordError, RunEnd, RunSettings, RunStart, SampleAggregates, SamplerReport,
    ShuntOffsets, StreamEnd, SweepsLost, TrialEnd, TrialLoaded, TrialStart, TriggerEdges,
    WindowAbandon, WindowClose, WindowOpen, kind,
};

use crate::store::{SamplesError, Store, StoreError, TeeFrames};

pub use lane::{Lane, LaneError, Summary, TICK_NS, instant};

/// Why frames are not a recording.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stream of samples could not be read.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// Bytes that are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame's payload is not the record that its kind names.
    #[error("{}: {source}", name(identity))]
    Record {
        /// Which frame.
        identity: Identity,
        /// What is wrong.
        source: RecordError,
    },
    /// A frame's payload is not a sample block.
    #[error("{}: {source}", name(identity))]
    Block {
        /// Which frame.
        identity: Identity,
        /// What is wrong.
        source: BlockError,
    },
    /// A later version marked the frame as one that must be understood.
    #[error("{}: flags {flags:#04x} or codec {codec} of a later version", name(identity))]
    Later {
        /// Which frame.
        identity: Identity,
        /// Its flag bits.
        flags: u8,
        /// Its codec number.
        codec: u8,
    },
}

fn name(identity: &Identity) -> String {
    format!("frame {} of stream {} in epoch {}", identity.sequence, identity.stream, identity.epoch)
}

/// The codec of a frame's samples, `None` for that of records.
///
/// # Errors
/// [`RecordingError::Later`] where a later version says that it must be
/// understood, or the codec is not known.
fn known_version(frame: &Frame<'_>) -> Result<Option<BlockCodec>, RecordingError> {
    match Codec::from_id(frame.header.codec) {
        _ if frame.header.flags & CRITICAL_FLAGS != 0 => Err(later(frame)),
        Some(Codec::Postcard) => Ok(None),
        Some(Codec::Rice) => Ok(Some(BlockCodec::Rice)),
        Some(Codec::BitPack) => Ok(Some(BlockCodec::BitPack)),
        None => Err(later(frame)),
    }
}

fn later(frame: &Frame<'_>) -> RecordingError {
    let Header { identity, flags, codec, .. } = frame.header;
    RecordingError::Later { identity, flags, codec }
}

/// A record and the epoch of the agent that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct InEpoch<T> {
    /// Epoch of the agent.
    pub epoch: u32,
    /// The record.
    pub record: T,
}

/// All records of one kind, in order of (epoch, stream, sequence).
pub type Records<T> = Vec<InEpoch<T>>;

/// All that was recorded of one run.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Beginnings: one an epoch.
    pub starts: Records<RunStart>,
    /// Plans; the first one counts.
    pub plans: Records<Plan>,
    /// Trials that were about to start.
    pub trial_starts: Records<TrialStart>,
    /// Networks that were loaded.
    pub loaded: Records<TrialLoaded>,
    /// Phases.
    pub phases: Records<PhaseMark>,
    /// Windows that were opened.
    pub opened: Records<WindowOpen>,
    /// Windows that were closed.
    pub windows: Records<WindowClose>,
    /// Windows that were given up.
    pub abandoned: Records<WindowAbandon>,
    /// Trials that ended.
    pub trial_ends: Records<TrialEnd>,
    /// Inferences.
    pub spans: Records<InferenceSpans>,
    /// GPU time of inferences.
    pub gpu_spans: Records<GpuSpans>,
    /// Over-current alarms and counters, at the start and after each trial.
    pub alarm_counts: Records<AlarmCounts>,
    /// State of the board before, within and after each trial.
    pub conditions: Records<BoardConditions>,
    /// What the run sets of the board's clocks.
    pub run_settings: Records<RunSettings>,
    /// Settings of kernel drivers, at a run's start and end.
    pub driver_settings: Records<DriverSetting>,
    /// Boards' own tables of shunt offsets.
    pub shunt_offsets: Records<ShuntOffsets>,
    /// Edges of the trigger's line.
    pub triggers: Records<TriggerEdges>,
    /// Layers of inferences.
    pub layer_spans: Records<LayerSpans>,
    /// Clocks of the board.
    pub clocks: Records<ClockSnapshot>,
    /// What profile and configuration expect of the rails.
    pub expectations: Records<BoardExpectation>,
    /// States of the board.
    pub states: Records<BoardState>,
    /// Sequence numbers that will never come.
    pub gaps: Records<Gap>,
    /// What is left of samples that went for want of room.
    pub aggregates: Records<SampleAggregates>,
    /// Sweeps that were never recorded.
    pub sweeps_lost: Records<SweepsLost>,
    /// What the samplers did.
    pub sampler_reports: Records<SamplerReport>,
    /// Ends of earlier epochs, by recovery.
    pub epoch_ends: Records<EpochEnd>,
    /// Lines of the log.
    pub notices: Records<Notice>,
    /// The end of the run; empty where it goes on or was cut.
    pub run_ends: Records<RunEnd>,
    /// Samples, by (epoch, lane).
    pub lanes: Vec<Lane>,
    /// One past the last sequence number held, of each stream.
    pub held: Vec<StreamEnd>,
    /// Frames of kinds of a later version, left out.
    pub unknown: u64,
    /// Exchanges of clock readings, by the host.
    pub clock_exchanges: Vec<ClockExchange>,
}

impl Recording {
    /// Reads a store. Every frame's checksum is checked; samples stay in the
    /// store until a stretch of them is asked for.
    ///
    /// # Errors
    /// [`RecordingError`] naming the file or the frame.
    pub fn from_store(store: Store) -> Result<Self, RecordingError> {
        store.for_each_frame_as_stored(|frame| known_version(frame).map(drop))?;
        Self::of_kinds(store, &[])
    }

    /// Reads as much of a store as a first picture needs: board, rails and how
    /// far it goes. Frames are not checked but for those that are read.
    ///
    /// # Errors
    /// [`RecordingError`] naming the file or the frame.
    pub fn outline(store: Store) -> Result<Self, RecordingError> {
        Self::of_kinds(store, &[kind::RUN_START, kind::PHASE_MARK, kind::RUN_END])
    }

    fn of_kinds(store: Store, kinds: &[u8]) -> Result<Self, RecordingError> {
        let mut builder = RecordingBuilder::default();
        store.for_each_record(kinds, |frame| builder.push(frame))?;
        let mut recording = builder.finish();
        recording.held = store.held()?;
        recording.clock_exchanges = store.clock_exchanges()?;
        recording.add_noted_gaps(&store.gaps()?);
        let streams = store.sample_streams()?;
        let store = Rc::new(store);
        let lanes = streams.into_iter().map(|stream| Lane::stored(Rc::clone(&store), stream));
        recording.lanes = lanes.collect();
        Ok(recording)
    }

    /// Gaps that the board told beside its frames: damage of its spool.
    fn add_noted_gaps(&mut self, gaps: &[(u32, u32, u64, u64)]) {
        for &(epoch, stream, from, to) in gaps {
            let known = self.gaps.iter().any(|gap| {
                let gap = &gap.record;
                (gap.epoch, gap.stream, gap.from, gap.to) == (epoch, stream, from, to)
            });
            if !known {
                let reason = GapReason::DamagedFrame;
                let record = Gap { epoch, stream, from, to, reason };
                self.gaps.push(InEpoch { epoch, record });
            }
        }
    }

    /// Reads the frames of a tee file.
    ///
    /// # Errors
    /// [`RecordingError`] naming the frame.
    pub fn from_tee(tee: &TeeFrames) -> Result<Self, RecordingError> {
        let mut builder = RecordingBuilder::default();
        for bytes in tee.frames() {
            builder.push(&frame::decode(bytes)?)?;
        }
        Ok(builder.finish())
    }

    /// Samples of one chip in one epoch.
    #[must_use]
    pub fn lane(&self, epoch: u32, lane: u8) -> Option<&Lane> {
        self.lanes.iter().find(|candidate| candidate.epoch == epoch && candidate.lane == lane)
    }

    /// The board's table of offsets of a rail, by its index in the epoch's start.
    #[must_use]
    pub fn offsets_of(&self, epoch: u32, rail: usize) -> Option<&ShuntOffsets> {
        let of_epoch = self.shunt_offsets.iter().filter(|told| told.epoch == epoch);
        of_epoch.map(|told| &told.record).find(|told| usize::from(told.rail) == rail)
    }

    /// What was expected of the rails in `epoch`.
    #[must_use]
    pub fn expectation_of(&self, epoch: u32) -> Option<&BoardExpectation> {
        let known = self.expectations.iter().rev().find(|expected| expected.epoch <= epoch);
        known.map(|expected| &expected.record)
    }

    /// The run's description as it held in `epoch`: that epoch's own, or the
    /// last one before it.
    #[must_use]
    pub fn start_of(&self, epoch: u32) -> Option<&RunStart> {
        let known = self.starts.iter().rev().find(|start| start.epoch <= epoch);
        known.or(self.starts.first()).map(|start| &start.record)
    }
}

/// Sorts frames into a [`Recording`].
#[derive(Debug, Default)]
pub struct RecordingBuilder {
    recording: Recording,
    held: BTreeMap<(u32, u32), u64>,
}

impl RecordingBuilder {
    /// Takes one frame; frames come in order of (epoch, stream, sequence).
    ///
    /// # Errors
    /// [`RecordingError`] naming the frame.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), RecordingError> {
        let identity = frame.header.identity;
        let codec = known_version(frame)?;
        self.held.insert((identity.epoch, identity.stream), frame.next_sequence());
        match codec {
            Some(codec) if frame.header.kind == kind::SAMPLE_BLOCK => {
                let rows = usize::from(frame.header.count);
                let block = self.lane(identity).push(frame.payload, codec, rows);
                block.map_err(|source| RecordingError::Block { identity, source })
            }
            None if frame.header.kind != kind::SAMPLE_BLOCK => {
                let record = Record::decode(frame.header.kind, frame.payload)
                    .map_err(|source| RecordingError::Record { identity, source })?;
                self.keep(identity.epoch, record);
                Ok(())
            }
            Some(_) | None => Err(later(frame)),
        }
    }

    /// The recording.
    #[must_use]
    pub fn finish(self) -> Recording {
        let mut recording = self.recording;
        recording.held = self
            .held
            .into_iter()
            .map(|((epoch, stream), next)| StreamEnd { epoch, stream, next })
            .collect();
        recording
    }

    fn lane(&mut self, identity: Identity) -> &mut Lane {
        let lane = identity.stream.to_le_bytes()[0];
        let lanes = &mut self.recording.lanes;
        let known =
            lanes.iter().position(|known| known.epoch == identity.epoch && known.lane == lane);
        let place = known.unwrap_or(lanes.len());
        if known.is_none() {
            lanes.push(Lane::new(identity.epoch, lane));
        }
        &mut lanes[place]
    }

    fn keep(&mut self, epoch: u32, record: Record) {
        let to = &mut self.recording;
        match record {
            Record::RunStart(record) => put(&mut to.starts, epoch, record),
            Record::Plan(record) => put(&mut to.plans, epoch, record),
            Record::TrialStart(record) => put(&mut to.trial_starts, epoch, record),
            Record::TrialLoaded(record) => put(&mut to.loaded, epoch, record),
            Record::PhaseMark(record) => put(&mut to.phases, epoch, record),
            Record::WindowOpen(record) => put(&mut to.opened, epoch, record),
            Record::WindowClose(record) => put(&mut to.windows, epoch, record),
            Record::WindowAbandon(record) => put(&mut to.abandoned, epoch, record),
            Record::TrialEnd(record) => put(&mut to.trial_ends, epoch, record),
            Record::InferenceSpans(record) => put(&mut to.spans, epoch, record),
            Record::LayerSpans(record) => put(&mut to.layer_spans, epoch, record),
            Record::GpuSpans(record) => put(&mut to.gpu_spans, epoch, record),
            Record::AlarmCounts(record) => put(&mut to.alarm_counts, epoch, record),
            Record::BoardConditions(record) => put(&mut to.conditions, epoch, record),
            Record::RunSettings(record) => put(&mut to.run_settings, epoch, record),
            Record::TriggerEdges(record) => put(&mut to.triggers, epoch, record),
            Record::DriverSetting(record) => put(&mut to.driver_settings, epoch, record),
            Record::ShuntOffsets(record) => put(&mut to.shunt_offsets, epoch, record),
            Record::ClockSnapshot(record) => put(&mut to.clocks, epoch, record),
            Record::BoardExpectation(record) => put(&mut to.expectations, epoch, record),
            Record::BoardState(record) => put(&mut to.states, epoch, record),
            Record::Gap(record) => put(&mut to.gaps, epoch, record),
            Record::SweepsLost(record) => put(&mut to.sweeps_lost, epoch, record),
            Record::SamplerReport(record) => put(&mut to.sampler_reports, epoch, record),
            Record::EpochEnd(record) => put(&mut to.epoch_ends, epoch, record),
            Record::Notice(record) => put(&mut to.notices, epoch, record),
            Record::RunEnd(record) => put(&mut to.run_ends, epoch, record),
            Record::SampleAggregates(record) => put(&mut to.aggregates, epoch, record),
            Record::Unknown { .. } => to.unknown = to.unknown.saturating_add(1),
        }
    }
}

fn put<T>(list: &mut Records<T>, epoch: u32, record: T) {
    list.push(InEpoch { epoch, record });
}
