//! What became of a chip whose setting changed while it was sampled.
//!
//! Owns the difference as registers show it, and what was done. Why it changed
//! (a lost supply, another program) is for the reader to judge.

use serde::{Deserialize, Serialize};

/// A chip's setting was found to be another one than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipChange {
    /// The first register that differs; the configuration where none does.
    pub register: u8,
    /// What it held.
    pub expected: u16,
    /// What it was found to hold.
    pub found: u16,
    /// What follows for the sweeps after.
    pub outcome: ChipOutcome,
}

/// What became of a chip that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChipOutcome {
    /// It is configured by Wattline, and was configured anew.
    ConfiguredAnew,
    /// It is configured by Wattline, and did not take its configuration yet.
    NotConfigured,
    /// A kernel driver holds it: it is sampled by what was found.
    Adopted {
        /// Its nominal cycle from here on, in ns.
        cycle_ns: u32,
        /// Time between the starts of two sweeps from here on, in ns.
        sweep_period_ns: u32,
        /// Length of a shunt conversion from here on, averaging included, in ns.
        shunt_conversion_ns: u32,
    },
    /// A kernel driver holds it, and its values mean something else, or it does
    /// not convert: its sweeps are marked until it is set as before.
    Unusable,
    /// Its registers stood at 0 and came back, with the setting as it was: it
    /// was reset.
    Restarted,
}
