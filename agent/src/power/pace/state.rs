//! The states of the schedule, and what of the flag they remember.
//!
//! Owns the data of each state and the account of when the flag was last known
//! to be down. Plans nothing.

use wattline_protocol::units::BoardTime;

use super::cycle::{Contradiction, Cycle, Within};
use crate::power::chip::Ready;

/// How the next start is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// By the clock alone.
    ByTime,
    /// Polls of the flag, until length and phase of the cycle are known.
    Finding(Finding),
    /// One sweep a cycle.
    Locked(Locked),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Finding {
    pub(super) cycle: Option<Cycle>,
    pub(super) flag: FlagState,
    /// When the search began.
    pub(super) begun: BoardTime,
    /// The last end, or the beginning.
    pub(super) since: BoardTime,
    pub(super) silent: bool,
    /// How often a reading contradicted what was thought of the cycle.
    pub(super) refuted: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Locked {
    pub(super) cycle: Cycle,
    pub(super) flag: FlagState,
    /// The last reading found the flag clear: the end after it is still open.
    pub(super) early: bool,
    /// Polls of a look at the flag in place of a sweep that has no room for
    /// it; `None` while sweeps follow each other.
    pub(super) look: Option<u32>,
    /// Number of the end at the last look.
    pub(super) looked: i64,
    /// Number of the end that the last sweep was placed by.
    pub(super) aimed: i64,
}

/// When the flag was last known to be down.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct FlagState {
    pub(super) down: Option<Within>,
    pub(super) to_clear: bool,
}

impl Locked {
    /// The first end from `at` on by which no sweep was placed yet.
    pub(super) fn aim(&mut self, at: BoardTime) -> Within {
        let (number, end) = self.cycle.next(at);
        if number > self.aimed {
            self.aimed = number;
            return end;
        }
        self.aimed += 1;
        self.cycle.end(self.aimed)
    }

    /// What a reading of the flag tells of the cycle; whether it told an end.
    pub(super) fn see(
        &mut self,
        ready: Ready,
        read: Within,
        cleared: Option<Within>,
    ) -> Result<bool, Contradiction> {
        let told = match (ready, self.flag.down) {
            (Ready::Converted, Some(down)) => self.cycle.some_end(down, read)?,
            (Ready::NotYet, Some(down)) => {
                self.cycle.no_end(down.late, read.early)?;
                false
            }
            (Ready::Converted | Ready::NotYet, None) | (Ready::Unread, _) => false,
        };
        self.flag.after(ready, read, cleared);
        self.early = ready == Ready::NotYet;
        Ok(told)
    }
}

impl FlagState {
    /// After a reading at `read`; `cleared` is when it, or what followed it,
    /// cleared the flag.
    pub(super) fn after(&mut self, ready: Ready, read: Within, cleared: Option<Within>) {
        match (cleared, ready) {
            (Some(cleared), _) => *self = Self { down: Some(cleared), to_clear: false },
            (None, Ready::Converted) => self.to_clear = true,
            (None, Ready::NotYet | Ready::Unread) => self.down = Some(read),
        }
    }
}
