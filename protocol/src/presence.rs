//! Who is at a board: how a host introduces itself, and who has the sessions.
//!
//! Owns names and purposes, as they go over the wire, and the spool's standing
//! beside them. Does not own who may do what: that is the board's
//! (`agent/src/server/seats.rs`).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::command::PowerBlock;
use crate::units::BoardTime;

/// Most bytes of a host's name.
pub const HOST_NAME_BYTES_MAX: usize = 64;
/// Name of a host that gives none.
const UNNAMED: &str = "a host without a name";

/// What a host calls itself: user and machine, as people know them. 1 to 64
/// bytes of printable text, because it is shown in other people's terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// A text that is not a host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a host's name is 1 to {HOST_NAME_BYTES_MAX} bytes of printable text, this has {bytes}")]
pub struct HostNameError {
    /// Bytes of the text.
    pub bytes: usize,
}

impl HostName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`HostNameError`] where it is empty, too long or not printable.
    pub fn new(text: &str) -> Result<Self, HostNameError> {
        let fits = (1..=HOST_NAME_BYTES_MAX).contains(&text.len());
        if fits && !text.chars().any(is_unprintable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostNameError { bytes: text.len() })
        }
    }

    /// The name that `text` gives once what is not printable is left out and the
    /// rest is cut to its length.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut name = String::new();
        for letter in text.chars().filter(|letter| !is_unprintable(*letter)) {
            if name.len() + letter.len_utf8() > HOST_NAME_BYTES_MAX {
                break;
            }
            name.push(letter);
        }
        if name.is_empty() { Self::default() } else { Self(name) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters move a terminal's cursor, and marks of direction turn
/// what follows them around.
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl Default for HostName {
    fn default() -> Self {
        Self(UNNAMED.to_owned())
    }
}

impl core::fmt::Display for HostName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;
    fn try_from(text: String) -> Result<Self, HostNameError> {
        Self::new(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// What a host has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Purpose {
    /// A question, such as `status` or `stop`.
    #[default]
    Ask,
    /// To start a run and collect it.
    Run,
    /// To collect a run.
    Fetch,
    /// To look on.
    Watch,
}

impl Purpose {
    /// The purpose as the command that people type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ask => "a question",
            Self::Run => "wattline run",
            Self::Fetch => "wattline fetch",
            Self::Watch => "wattline watch",
        }
    }
}

/// What a host says of itself after its Hello. One that says nothing is unnamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Introduction {
    /// Its name.
    pub name: HostName,
    /// What it has come for.
    pub purpose: Purpose,
    /// The process, by its number on its machine: it takes its own place again
    /// over a new link before the board knows that the old one is dead. 0: it
    /// takes nobody's place.
    pub process: u32,
}

/// One who has a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Who it is.
    pub name: HostName,
    /// What for.
    pub purpose: Purpose,
    /// For so many seconds.
    pub for_s: u32,
    /// It controls the run that goes on.
    pub controls: bool,
}

impl Occupant {
    /// The occupant in words: `anna@desk (wattline run, for 312 s)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { name, purpose, for_s, controls } = self;
        let controls = if *controls { ", controls the run" } else { "" };
        format!("{name} ({}, for {for_s} s{controls})", purpose.name())
    }
}

/// What happens when there is no room left for a run that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WhenFull {
    /// Raw samples go, their aggregates stay; the run goes on.
    #[default]
    Drop,
    /// The run ends in order, and all that it has is kept.
    Stop,
}

impl WhenFull {
    /// The policy as flags and keys name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Stop => "stop",
        }
    }
}

/// How full a board's spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStanding {
    /// Bytes of runs on its disk.
    pub used_bytes: u64,
    /// Bytes that they may take.
    pub quota_bytes: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// Bytes of it that stay free.
    pub reserve_bytes: u64,
    /// What happens when there is no room left.
    pub when_full: WhenFull,
}

/// Answer to [`crate::command::Command::Standing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The board's clock.
    pub now: BoardTime,
    /// Who has a session.
    pub sessions: Vec<Occupant>,
    /// How full the spool is.
    pub spool: SpoolStanding,
    /// Runs in power modes that follow the one that goes on, or a reboot.
    pub waiting: Vec<PowerBlock>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_cannot_write_on_another_users_terminal() {
        for bad in ["", "\u{1b}[2J", "a\nb", "\u{202E}exe", &"x".repeat(65)] {
            assert!(HostName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(HostName::of("\u{1b}[2Janna@desk\n").as_str(), "[2Janna@desk");
        assert_eq!(HostName::of("\n").as_str(), UNNAMED);
        assert_eq!(HostName::new("Zoë@büro").map(|name| name.to_string()), Ok("Zoë@büro".into()));
    }

    proptest! {
        #[test]
        fn what_is_made_of_any_text_is_a_name(text: String) {
            let name = HostName::of(&text);
            prop_assert_eq!(HostName::new(name.as_str()), Ok(name));
        }

        #[test]
        fn an_introduction_of_any_bytes_is_none_or_one_that_can_be_shown(bytes: Vec<u8>) {
            if let Some(who) = crate::message::value_of::<Introduction>(&bytes) {
                prop_assert!(HostName::new(who.name.as_str()).is_ok());
            }
        }
    }
}
