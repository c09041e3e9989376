//! What a sweep really held, against what its status says.
//!
//! Owns the comparison with the simulated chip's own count of conversions;
//! knows no schedule. A sweep is stale where a slot's shunt register gave the
//! conversion of the sweep before, and stands after a hole where more
//! conversions went unread than the bus leaves unread by itself.

use wattline_agent::power::bus::sim::ConversionRead;
use wattline_protocol::block::{SampleStatus, status_of};

pub(crate) struct Truth {
    slots: usize,
    /// Conversions from one sweep to the next that are no hole.
    stride: u64,
    before: [Option<ConversionRead>; 6],
    unflagged: u64,
}

impl Truth {
    pub(crate) const fn new(slots: usize, stride: u64) -> Self {
        Self { slots, stride, before: [None; 6], unflagged: 0 }
    }

    /// Takes in a sweep: what its registers gave, and its status word.
    pub(crate) fn hold(&mut self, read: &[Option<ConversionRead>; 6], word: u32) {
        for slot in 0..self.slots {
            let status = status_of(word, slot);
            let two = (self.before[2 * slot], read[2 * slot]);
            let (Some(before), Some(now)) = two else { continue };
            if before.timeline != now.timeline {
                continue;
            }
            let conversions = now.finished - before.finished;
            let is_flagged = match conversions {
                0 => !matches!(status, Some(SampleStatus::Ok | SampleStatus::Skipped)),
                _ if conversions > self.stride => status != Some(SampleStatus::Ok),
                _ => true,
            };
            // Nothing had been converted: what the register gave is no value.
            let is_invented = now.finished == 0 && status == Some(SampleStatus::Ok);
            self.unflagged += u64::from(!is_flagged || is_invented);
        }
        self.before = *read;
    }

    pub(crate) const fn unflagged(&self) -> u64 {
        self.unflagged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattline_protocol::units::BoardTime;

    fn read(finished: u64) -> [Option<ConversionRead>; 6] {
        [Some(ConversionRead { timeline: BoardTime(0), finished }); 6]
    }

    #[test]
    fn a_repeat_and_a_hole_count_unless_the_status_says_so() {
        let counted = |word, finished| {
            let mut truth = Truth::new(1, 2);
            truth.hold(&read(1), 0);
            truth.hold(&read(finished), word);
            truth.unflagged()
        };
        assert_eq!((counted(0, 1), counted(1, 1)), (1, 0));
        assert_eq!((counted(0, 4), counted(2, 4), counted(0, 3)), (1, 0, 0));
    }
}
