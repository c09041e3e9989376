//! Bus voltages in turn: one a sweep, all shunts in each.
//!
//! Owns which slot's bus voltage is read next, and the last one of each slot. A
//! row carries the others' last values: how old they may be is in the record
//! (`bus_latch_before_end_ns`), and the host's to state. A value is carried only
//! while nothing is in doubt.

use wattline_protocol::units::{BoardTime, Nanos};

use crate::power::chip::{Reading, SLOTS_MAX};

/// The last bus codes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    next: usize,
    codes: [i32; SLOTS_MAX],
    /// When each was read.
    read: [BoardTime; SLOTS_MAX],
    /// Bit `s`: slot `s` has one.
    known: u8,
}

impl Turn {
    /// The slot whose bus voltage is to be read.
    pub(super) const fn next(&self) -> usize {
        self.next
    }

    /// Nothing that was read is carried on.
    pub(super) const fn forget(&mut self) {
        self.known = 0;
    }

    /// Keeps the bus code that was read and puts the others' last ones into the
    /// reading; bit `s` of what is returned is set where slot `s` has none that is
    /// not older than `oldest`.
    pub(super) fn fill(&mut self, reading: &mut Reading, end: BoardTime, oldest: Nanos) -> u8 {
        let slots = usize::from(reading.columns) / 2;
        let mut missing = 0;
        for slot in 0..slots.min(SLOTS_MAX) {
            let Some(code) = reading.codes.get_mut(2 * slot + 1) else { continue };
            if slot == self.next {
                self.codes[slot] = *code;
                self.read[slot] = end;
                self.known |= 1 << slot;
            } else if self.known & (1 << slot) == 0 || end - self.read[slot] > oldest {
                missing |= 1 << slot;
            } else {
                *code = self.codes[slot];
            }
        }
        self.next = (self.next + 1) % slots.max(1);
        missing
    }
}
