//! Why a recording cannot be analysed.

use thiserror::Error;

use crate::recording::LaneError;

/// Why there is no analysis, by what the reader does next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnalysisError {
    /// The record with board, rails and campaign is not there: fetch the rest.
    #[error("the recording holds no start of a run: board, rails and campaign are unknown")]
    NoRunStart,
    /// A shunt was given for a rail that the board lacks: look at the names.
    #[error("no rail `{name}`; this recording has {}", known.join(", "))]
    UnknownRail {
        /// What was given.
        name: String,
        /// Rails of the recording.
        known: Vec<String>,
    },
    /// A resistance that no shunt has: look at the number.
    #[error("a shunt of {shunt_ohm} Ω for `{rail}`: it must be above 0")]
    BadShunt {
        /// The rail.
        rail: String,
        /// What was given.
        shunt_ohm: f64,
    },
    /// Samples cannot be read: fetch the recording again.
    #[error("samples of lane {lane} in epoch {epoch}: {source}")]
    Samples {
        /// Epoch of the agent.
        epoch: u32,
        /// Lane of the chip.
        lane: u8,
        /// What is wrong.
        source: LaneError,
    },
}
