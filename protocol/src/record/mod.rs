//! Records: all that makes a measurement, one type a kind.
//!
//! Owns the closed list of kinds, their numbers and their encoding (postcard;
//! sample blocks have a codec of their own, [`crate::block`]). Does not own the
//! frame around a record ([`crate::frame`]) nor its identity, which the
//! recorder gives once.
//!
//! postcard is positional: a field is never reordered or removed, an enum only
//! grows at its end, and growth of a structure is a new kind. Kind numbers are
//! never used again. A kind that a reader does not know is kept as bytes.

mod aggregate;
mod alarms;
mod board;
mod campaign;
mod chip_change;
mod conditions;
mod expectation;
mod offsets;
mod power;
mod settings;
mod trigger;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use aggregate::{AggregatePart, RailAggregate, SampleAggregates};
pub use alarms::{AlarmCount, AlarmCounts, AlarmKind};
pub use board::{
    AgentBuild, BoardDescription, BoardState, ClockSnapshot, EpochEnd, Notice, NoticeKind, RunEnd,
    RunOutcome, RunStart, Scheduling, Simulation, StreamEnd, Temperature,
};
pub use campaign::{
    BaselinePlace, Cell, FailureCause, GpuSpan, GpuSpans, InferenceSpan, InferenceSpans,
    LayerDescription, LayerSpans, PhaseMark, PhaseName, Plan, Trial, TrialEnd, TrialLoaded,
    TrialOutcome, TrialStart, WarmUp, WindowAbandon, WindowClose, WindowKind, WindowOpen,
};
pub use chip_change::{ChipChange, ChipOutcome};
pub use conditions::{
    BoardConditions, ClockDomain, ClockState, Fan, Moment, PinRefusal, PowerMode, RunSettings,
    Swapping, Throttle, ThrottleCause,
};
pub use expectation::{BoardExpectation, Mismatch, RailInside};
pub use offsets::{OffsetRange, ShuntOffsets, without_offset};
pub use power::{
    ChannelTiming, ChipDescription, ChipKind, ErrorLimits, Gap, GapReason, LatenessHistogram,
    RailDescription, RailEnergy, RailRole, RailSource, SamplerReport, SkipReason, SweepsLost,
};
pub use settings::{DriverAttribute, DriverSetting, SettingOutcome};
pub use trigger::{Edge, EdgeOf, TriggerEdge, TriggerEdges, TriggerFault};

/// Most bytes of a structured record's payload; sample blocks and spans stay
/// under it by their own bounds.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Why the payload of a frame is not the record that its kind names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes are not this kind's encoding.
    #[error("record of kind {kind}: {bytes} payload bytes do not decode")]
    Malformed {
        /// Kind number of the frame.
        kind: u8,
        /// Length of the payload.
        bytes: usize,
    },
    /// The encoding ends before the payload does.
    #[error("record of kind {kind}: {left} bytes left over after its end")]
    TrailingBytes {
        /// Kind number of the frame.
        kind: u8,
        /// How many bytes follow the record.
        left: usize,
    },
    /// A record too large for a frame.
    #[error("record of kind {kind} needs {bytes} bytes, a frame takes {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Kind number of the record.
        kind: u8,
        /// Its encoded length.
        bytes: usize,
    },
}

macro_rules! records {
    ($($(#[$doc:meta])* $number:literal $constant:ident $variant:ident,)*) => {
        /// Kind numbers, as in byte 3 of a frame.
        pub mod kind {
            $($(#[$doc])* pub const $constant: u8 = $number;)*
            /// A block of samples of one chip; its payload is [`crate::block`]'s.
            pub const SAMPLE_BLOCK: u8 = 32;
        }

        /// Any structured record.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(clippy::large_enum_variant, reason = "records are few and pass by quickly")]
        pub enum Record {
            $($(#[$doc])* $variant($variant),)*
            /// A kind of a later version, kept as it came.
            Unknown {
                /// Its kind number.
                kind: u8,
                /// Its payload.
                bytes: Vec<u8>,
            },
        }

        impl Record {
            /// The kind number that names this record in a frame.
            #[must_use]
            pub fn kind(&self) -> u8 {
                match self {
                    $(Self::$variant(_) => $number,)*
                    Self::Unknown { kind, .. } => *kind,
                }
            }

            /// Appends the payload to `out`.
            ///
            /// # Errors
            /// [`RecordError::TooLarge`] above [`RECORD_BYTES_MAX`].
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
                let bytes = match self {
                    $(Self::$variant(record) => to_bytes($number, record)?,)*
                    Self::Unknown { bytes, .. } => bytes.clone(),
                };
                if bytes.len() > RECORD_BYTES_MAX {
                    return Err(RecordError::TooLarge { kind: self.kind(), bytes: bytes.len() });
                }
                out.extend_from_slice(&bytes);
                Ok(())
            }

            /// Decodes the payload of a frame of `kind`.
            ///
            /// # Errors
            /// [`RecordError`] where the bytes are not exactly one such record.
            pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, RecordError> {
                match kind {
                    $($number => Ok(Self::$variant(from_bytes(kind, payload)?)),)*
                    _ => Ok(Self::Unknown { kind, bytes: payload.to_vec() }),
                }
            }
        }

        $(impl From<$variant> for Record {
            fn from(record: $variant) -> Self {
                Self::$variant(record)
            }
        })*
    };
}

records! {
    /// A run begins, or goes on in a new epoch.
    1 RUN_START RunStart,
    /// The cells and the order of the trials.
    2 PLAN Plan,
    /// Write-ahead mark: this trial is about to start.
    3 TRIAL_START TrialStart,
    /// The runner holds the network and its weights.
    4 TRIAL_LOADED TrialLoaded,
    /// The campaign enters a phase.
    5 PHASE_MARK PhaseMark,
    /// A window begins.
    6 WINDOW_OPEN WindowOpen,
    /// A window ends, with what was done in it.
    7 WINDOW_CLOSE WindowClose,
    /// A window that was opened will not be closed.
    8 WINDOW_ABANDON WindowAbandon,
    /// A trial is over, well or not.
    9 TRIAL_END TrialEnd,
    /// Start and length of inferences.
    10 INFERENCE_SPANS InferenceSpans,
    /// Lengths of the layers of one inference.
    11 LAYER_SPANS LayerSpans,
    /// Four clocks of the board at one instant.
    12 CLOCK_SNAPSHOT ClockSnapshot,
    /// Governors, frequencies, temperatures.
    13 BOARD_STATE BoardState,
    /// Sequence numbers that will never come, with the reason.
    14 GAP Gap,
    /// Sweeps that were never recorded, with the reason.
    15 SWEEPS_LOST SweepsLost,
    /// What the sampler did during the run.
    16 SAMPLER_REPORT SamplerReport,
    /// Where the epoch before this one ended.
    17 EPOCH_END EpochEnd,
    /// A line of the log.
    18 NOTICE Notice,
    /// The run is over; nothing of it follows.
    19 RUN_END RunEnd,
    /// Work of a GPU, placed on the board's clock.
    20 GPU_SPANS GpuSpans,
    /// Edges of a line for an external meter.
    21 TRIGGER_EDGES TriggerEdges,
    /// What the board's profile and its user expect of the rails.
    22 BOARD_EXPECTATION BoardExpectation,
    /// What was set in a chip's kernel driver for the run, and restored.
    23 DRIVER_SETTING DriverSetting,
    /// Over-current alarms and event counters, at the start and after a trial.
    24 ALARM_COUNTS AlarmCounts,
    /// Power mode, clocks, fans, throttling and swap, before, within and after a trial.
    31 BOARD_CONDITIONS BoardConditions,
    /// What the run sets of the board's clocks.
    33 RUN_SETTINGS RunSettings,
    /// A board's own table of a rail's shunt offsets.
    34 SHUNT_OFFSETS ShuntOffsets,
    /// What is left of samples that went for want of room.
    28 SAMPLE_AGGREGATES SampleAggregates,
}

fn to_bytes<T: Serialize>(kind: u8, record: &T) -> Result<Vec<u8>, RecordError> {
    // postcard fails here only for lengths that are not known in advance, which no record has.
    postcard::to_stdvec(record).map_err(|_| RecordError::Malformed { kind, bytes: 0 })
}

fn from_bytes<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, RecordError> {
    match postcard::take_from_bytes(payload) {
        Ok((record, [])) => Ok(record),
        Ok((_, left)) => Err(RecordError::TrailingBytes { kind, left: left.len() }),
        Err(_) => Err(RecordError::Malformed { kind, bytes: payload.len() }),
    }
}

/// Name of a run: the same on board and host, and a directory's name on both.
/// 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot or a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that is not a run id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a run id (1 to 64 of A-Z a-z 0-9 . _ -, first a letter or digit)")]
pub struct RunIdError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

impl RunId {
    /// Parses a run id.
    ///
    /// # Errors
    /// [`RunIdError`] with the text.
    pub fn new(text: &str) -> Result<Self, RunIdError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RunIdError { text: text.chars().take(80).collect() })
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for RunId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;
    fn try_from(text: String) -> Result<Self, RunIdError> {
        Self::new(&text)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::BoardTime;

    #[test]
    fn a_kind_of_a_later_version_survives_unchanged() {
        let record = Record::decode(200, &[1, 2, 3]).unwrap();
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        assert_eq!((record.kind(), bytes), (200, vec![1, 2, 3]));
    }

    #[test]
    fn bytes_after_a_record_are_an_error_that_counts_them() {
        let mut bytes = Vec::new();
        let shot = ClockSnapshot {
            monotonic: BoardTime(1),
            monotonic_raw_ns: 2,
            boottime_ns: 3,
            realtime_ns: 4,
            bracket_ns: 5,
        };
        Record::from(shot).encode(&mut bytes).unwrap();
        bytes.push(0);
        assert_eq!(
            Record::decode(kind::CLOCK_SNAPSHOT, &bytes),
            Err(RecordError::TrailingBytes { kind: kind::CLOCK_SNAPSHOT, left: 1 })
        );
    }

    #[test]
    fn a_run_id_cannot_leave_its_directory() {
        for bad in ["", "..", ".hidden", "-x", "a/b", "a b", &"x".repeat(65)] {
            assert!(RunId::new(bad).is_err(), "{bad}");
        }
        assert!(RunId::new("20261123T190946Z-simulated").is_ok());
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(kind: u8, bytes: Vec<u8>) {
            let _ = Record::decode(kind, &bytes);
        }

        #[test]
        fn spans_come_back_as_they_went(
            trial: u32,
            spans in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..50),
        ) {
            let record = Record::from(InferenceSpans {
                trial,
                first: 0,
                spans: spans
                    .into_iter()
                    .map(|(start, length_ns)| InferenceSpan { start: BoardTime(start), length_ns })
                    .collect(),
            });
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            prop_assert_eq!(Record::decode(kind::INFERENCE_SPANS, &bytes).unwrap(), record);
        }
    }
}
