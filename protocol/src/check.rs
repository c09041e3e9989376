//! What a board's doctor found, as it goes over the wire.
//!
//! Owns one check and how it came out. What is checked is the board's
//! (`agent/src/command/doctor`), how it is shown the host's.

use serde::{Deserialize, Serialize};

/// Most checks that are sent of one board.
pub const CHECKS_MAX: usize = 256;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckOutcome {
    /// As it should be.
    Good,
    /// A result may be affected; a run is possible.
    Warning,
    /// No run, or none that says anything.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: `rails`, `rate 1-0040`.
    pub name: String,
    /// How it came out.
    pub outcome: CheckOutcome,
    /// What was found, with the measured value.
    pub found: String,
    /// How it is mended; empty where it is good.
    pub cure: String,
}
