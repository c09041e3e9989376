//! One axis of time for drawing a run that went over a reboot.
//!
//! Owns the shift of each epoch. The board's clock starts anew with the board;
//! windows and samples keep its readings, and (epoch, time) orders them. Only a
//! drawing needs one axis.

use std::collections::BTreeMap;

use wattline_protocol::units::{BoardTime, Nanos};

use crate::recording::Recording;

/// Distance drawn between two boots where the wall clock does not tell: boards
/// without a battery start in 1970.
const PAUSE_UNKNOWN: Nanos = Nanos::from_secs(1);

/// What is added to an epoch's board time to place it on the first one's axis.
#[derive(Debug, Default)]
pub(super) struct Axis {
    shifts: BTreeMap<u32, Nanos>,
}

impl Axis {
    pub(super) fn of(recording: &Recording) -> Self {
        let mut shifts = BTreeMap::new();
        let Some(first) = recording.starts.first().map(|start| start.record.clock) else {
            return Self { shifts };
        };
        let (mut shift, mut end) = (Nanos(0), first.monotonic);
        for start in &recording.starts {
            let clock = start.record.clock;
            if clock.monotonic + shift < end {
                let wall_ns = clock.realtime_ns.wrapping_sub(first.realtime_ns).cast_signed();
                let place = (first.monotonic + Nanos(wall_ns)).max(end + PAUSE_UNKNOWN);
                shift = place - clock.monotonic;
            }
            end = ended_in(recording, start.epoch).unwrap_or(clock.monotonic) + shift;
            shifts.insert(start.epoch, shift);
        }
        Self { shifts }
    }

    /// Shift of an epoch; zero without a reboot.
    pub(super) fn shift(&self, epoch: u32) -> Nanos {
        self.shifts.range(..=epoch).next_back().map_or(Nanos(0), |(_, shift)| *shift)
    }

    /// Board time of the last thing that is recorded, on the axis.
    pub(super) fn ended(&self, recording: &Recording) -> Option<BoardTime> {
        let end = |epoch: &u32| Some(ended_in(recording, *epoch)? + self.shift(*epoch));
        self.shifts.keys().filter_map(end).max()
    }
}

/// Board time of the last thing that is recorded in an epoch.
fn ended_in(recording: &Recording, epoch: u32) -> Option<BoardTime> {
    let rows = recording.lanes.iter().filter_map(|lane| Some((lane.epoch, lane.span()?.1)));
    let windows = recording.windows.iter().map(|close| (close.epoch, close.record.t1));
    let phases = recording.phases.iter().map(|mark| (mark.epoch, mark.record.at));
    let ends = recording.run_ends.iter().map(|end| (end.epoch, end.record.at));
    let all = rows.chain(windows).chain(phases).chain(ends);
    all.filter(|(of, _)| *of == epoch).map(|(_, at)| at).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    fn resumed(monotonic_s: u64, later_s: u64) -> Axis {
        let mut recording = Synthetic::default().recording();
        let mut start = recording.starts[0].record.clone();
        start.clock.monotonic = BoardTime(monotonic_s * 1_000_000_000);
        start.clock.realtime_ns += later_s * 1_000_000_000;
        recording.starts.push(InEpoch { epoch: 2, record: start });
        Axis::of(&recording)
    }

    #[test]
    fn an_agent_that_came_back_without_a_reboot_goes_on_on_the_same_axis() {
        assert_eq!(resumed(500, 400).shift(2), Nanos(0));
    }

    #[test]
    fn a_reboot_is_placed_by_the_wall_clock() {
        // The run starts at 100 s; the board is back 3,600 s later, at 30 s.
        assert_eq!(resumed(30, 3_600).shift(2), Nanos::from_secs(3_670));
    }

    #[test]
    fn a_wall_clock_that_went_back_leaves_the_order() {
        let shift = resumed(30, 0).shift(2);
        assert!(shift > Nanos::from_secs(70), "{shift:?}");
    }
}
