//! How a command fails: an exit code, what, why, and the mend.
//!
//! Owns the exit codes of the contract and the shape of an error on the
//! terminal. Every error of the library becomes a [`Failure`] at the command
//! that knows what the user can do about it.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of `wattline`; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, flagged cells included.
    Done,
    /// Failed: damaged file, no such recording, unreachable board, full disk.
    Failed,
    /// Wrong arguments, campaign, configuration or graph.
    Usage,
    /// Refused by preflight: no rail, the board's disk is full.
    Refused,
    /// Done, with invalid cells or missing data.
    Incomplete,
    /// `compare` found a regression.
    Regression,
    /// Ended by Ctrl-C, cleanly.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Incomplete => 4,
            Self::Regression => 8,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure as it is shown: `error:`, `because:`, `try:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed, naming the thing.
    pub what: String,
    /// Why, in the words of the layer that knows; may be empty.
    pub because: Vec<String>,
    /// What to do about it; may be empty.
    pub mend: String,
}

impl Failure {
    /// A failure without a cause below it.
    pub fn new(exit: Exit, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit, what: what.into(), because: Vec::new(), mend: mend.into() }
    }

    /// A failure whose causes are those of `error`.
    pub fn of(
        exit: Exit,
        what: impl Into<String>,
        error: &dyn std::error::Error,
        mend: impl Into<String>,
    ) -> Self {
        let mut because = vec![error.to_string()];
        let mut source = error.source();
        while let Some(below) = source {
            let text = below.to_string();
            if because.last().is_none_or(|last| !last.ends_with(&text)) {
                because.push(text);
            }
            source = below.source();
        }
        Self { exit, what: what.into(), because, mend: mend.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for because in &self.because {
            write!(f, "\nbecause: {because}")?;
        }
        if !self.mend.is_empty() {
            write!(f, "\ntry: {}", self.mend)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_the_mend_in_three_lines() {
        let cause = std::io::Error::other("disk gone");
        let failure = Failure::of(Exit::Failed, "run r1 cannot be kept", &cause, "use --out");
        assert_eq!(
            failure.to_string(),
            "error: run r1 cannot be kept\nbecause: disk gone\ntry: use --out"
        );
    }
}
