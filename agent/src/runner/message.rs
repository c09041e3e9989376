//! What the agent and one runner say to each other.
//!
//! Owns the messages of the pipe between the two processes on the board: the
//! frame format of the wire, with kinds of its own. Knows nothing of processes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wattline_protocol::frame::{FrameError, FrameReader};
use wattline_protocol::message::{framed, value_of};
use wattline_protocol::record::{
    Cell, FailureCause, GpuSpans, InferenceSpans, LayerSpans, TrialLoaded, TriggerEdges,
    TriggerFault,
};

use crate::trigger::LineSpec;

const JOB: u8 = 0xC0;
const GO: u8 = 0xC1;
const END: u8 = 0xC2;
const TRIGGER: u8 = 0xC3;
const LOADED: u8 = 0xC8;
const INFERENCES: u8 = 0xC9;
const LAYERS: u8 = 0xCA;
const ENDED: u8 = 0xCB;
const FAILED: u8 = 0xCC;
const STARTED: u8 = 0xCD;
const GPU_SPANS: u8 = 0xCE;
const EDGES: u8 = 0xCF;
const NO_EDGES: u8 = 0xD0;

/// What a runner is to do: one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Number of the trial.
    pub trial: u32,
    /// What to run.
    pub cell: Cell,
    /// Fold BatchNorm into the layer before it.
    pub fold: bool,
    /// Send the layers' names with the first trial of a cell only.
    pub describe_layers: bool,
    /// Inferences whose layer spans are recorded, from the first.
    pub layer_spans: u32,
}

/// From the agent to the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToRunner {
    /// Load this.
    Job(Box<Job>),
    /// Infer, back to back, until told to end.
    Go,
    /// End after the inference at hand.
    End,
    /// Set this line at the start and the end of each inference; said before
    /// [`Self::Go`], where at all.
    Trigger(LineSpec),
}

/// From the runner to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRunner {
    /// The network is loaded.
    Loaded(Box<TrialLoaded>),
    /// Inferences, in order.
    Inferences(InferenceSpans),
    /// Layers of one inference.
    Layers(LayerSpans),
    /// GPU time of inferences, in order.
    GpuSpans(GpuSpans),
    /// Edges of the trigger's line, in order.
    Edges(TriggerEdges),
    /// The trigger's line cannot be set: no edge of this trial follows.
    NoEdges(TriggerFault),
    /// The last message of a runner that ends well.
    Ended {
        /// Peak resident memory, in bytes.
        peak_memory_bytes: u64,
    },
    /// The last message of one that does not.
    Failed(FailureCause),
    /// First message of a runner that the agent did not start itself.
    Started {
        /// Its process id.
        pid: u32,
    },
}

/// Why bytes on the pipe are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PipeError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is not a message of this direction.
    #[error("runner message {kind:#04x} does not decode")]
    Malformed {
        /// Its kind.
        kind: u8,
    },
}

impl ToRunner {
    /// The message as bytes for the pipe.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Job(job) => framed(JOB, job),
            Self::Go => framed(GO, &()),
            Self::End => framed(END, &()),
            Self::Trigger(line) => framed(TRIGGER, line),
        }
    }

    /// The next message in `reader`; `None` until more bytes come.
    ///
    /// # Errors
    /// [`PipeError`] where the bytes can never become one.
    pub fn next(reader: &mut FrameReader) -> Result<Option<Self>, PipeError> {
        let Some(frame) = reader.next_frame()? else { return Ok(None) };
        let kind = frame.header.kind;
        match kind {
            JOB => read(kind, frame.payload).map(Self::Job),
            GO => Ok(Self::Go),
            END => Ok(Self::End),
            TRIGGER => read(kind, frame.payload).map(Self::Trigger),
            _ => Err(PipeError::Malformed { kind }),
        }
        .map(Some)
    }
}

impl FromRunner {
    /// The message as bytes for the pipe.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Loaded(loaded) => framed(LOADED, loaded),
            Self::Inferences(spans) => framed(INFERENCES, spans),
            Self::Layers(spans) => framed(LAYERS, spans),
            Self::GpuSpans(spans) => framed(GPU_SPANS, spans),
            Self::Edges(edges) => framed(EDGES, edges),
            Self::NoEdges(fault) => framed(NO_EDGES, fault),
            Self::Ended { peak_memory_bytes } => framed(ENDED, peak_memory_bytes),
            Self::Failed(cause) => framed(FAILED, cause),
            Self::Started { pid } => framed(STARTED, pid),
        }
    }

    /// The next message in `reader`; `None` until more bytes come.
    ///
    /// # Errors
    /// [`PipeError`] where the bytes can never become one.
    pub fn next(reader: &mut FrameReader) -> Result<Option<Self>, PipeError> {
        let Some(frame) = reader.next_frame()? else { return Ok(None) };
        let (kind, payload) = (frame.header.kind, frame.payload);
        match kind {
            LOADED => read(kind, payload).map(Self::Loaded),
            INFERENCES => read(kind, payload).map(Self::Inferences),
            LAYERS => read(kind, payload).map(Self::Layers),
            GPU_SPANS => read(kind, payload).map(Self::GpuSpans),
            EDGES => read(kind, payload).map(Self::Edges),
            NO_EDGES => read(kind, payload).map(Self::NoEdges),
            ENDED => read(kind, payload).map(|peak_memory_bytes| Self::Ended { peak_memory_bytes }),
            FAILED => read(kind, payload).map(Self::Failed),
            STARTED => read(kind, payload).map(|pid| Self::Started { pid }),
            _ => Err(PipeError::Malformed { kind }),
        }
        .map(Some)
    }
}

fn read<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, PipeError> {
    value_of(payload).ok_or(PipeError::Malformed { kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_both_directions_come_back_as_they_went() {
        let mut reader = FrameReader::new();
        let line = ToRunner::Trigger(LineSpec::Gpio { chip: "gpiochip0".into(), offset: 17 });
        reader.feed(&line.to_bytes());
        assert_eq!(ToRunner::next(&mut reader), Ok(Some(line)));
        reader.feed(&ToRunner::Go.to_bytes());
        reader.feed(&ToRunner::End.to_bytes());
        assert_eq!(ToRunner::next(&mut reader), Ok(Some(ToRunner::Go)));
        assert_eq!(ToRunner::next(&mut reader), Ok(Some(ToRunner::End)));
        let failed = FromRunner::Failed(FailureCause::RunnerKilled { signal: 9 });
        reader.feed(&failed.to_bytes());
        reader.feed(&FromRunner::Ended { peak_memory_bytes: 5 }.to_bytes());
        assert_eq!(FromRunner::next(&mut reader), Ok(Some(failed)));
        let ended = FromRunner::Ended { peak_memory_bytes: 5 };
        assert_eq!(FromRunner::next(&mut reader), Ok(Some(ended)));
    }

    #[test]
    fn a_message_of_the_other_direction_is_refused() {
        let mut reader = FrameReader::new();
        reader.feed(&ToRunner::Go.to_bytes());
        assert_eq!(FromRunner::next(&mut reader), Err(PipeError::Malformed { kind: GO }));
    }
}
