//! Which operation of a disk is refused, and with which error.
//!
//! Owns the errors that are tried and how far a night reaches: the calls that
//! its spool makes of a disk, the pages that its recordings take. Each can be
//! refused in turn. The idea is SQLite's ("How SQLite Is Tested", "I/O Error
//! Testing"): let the n-th call fail, once and from there on, for every n.

use std::ops::Range;

use crate::refusing_night;

/// The errors that are tried: name and Linux's number. A full disk, a full
/// quota, a broken disk, a file system that its kernel made read-only after an
/// error, no file descriptor left, and a signal.
pub const ERRORS: [(&str, i32); 6] =
    [("ENOSPC", 28), ("EDQUOT", 122), ("EIO", 5), ("EROFS", 30), ("EMFILE", 24), ("EINTR", 4)];

/// What a disk refuses in a night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    Nothing,
    /// The board's disk refuses these calls, reads among them.
    Board {
        /// Numbers of the calls; the first is 0.
        calls: Range<u64>,
        /// The error number.
        errno: i32,
    },
    /// The host's disk takes no more than so many pages of a recording, until
    /// the morning.
    Host {
        /// Pages of SQLite.
        pages: u64,
    },
}

/// How far a night without refusals goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Calls that the spool makes of the board's disk.
    pub calls: u64,
    /// Pages of the largest recording.
    pub pages: u64,
}

/// How far the night of this seed goes when nothing is refused.
#[must_use]
pub fn reach(seed: u64) -> Reach {
    let outcome = refusing_night(seed, &Refusal::Nothing);
    Reach { calls: outcome.calls, pages: outcome.pages }
}
