//! Where GPU work lies on the board's clock, and how sure that is.
//!
//! Owns the arithmetic alone. A GPU tells how long it worked, not when: its
//! clock is not the board's. What is known: the work began after the board's
//! time was read before the first launch, and had ended when it was read after
//! waiting. So the start lies between `before` and `after − length`; its middle
//! is told, and half of that slack, with the events' own resolution, is the
//! bound. No drift enters, since each inference has a bracket of its own.

use wattline_protocol::record::GpuSpan;
use wattline_protocol::units::{BoardTime, Nanos};

/// Resolution of a time between two events: 0.5 µs for each (CUDA driver API,
/// cuEventElapsedTime).
const RESOLUTION: Nanos = Nanos(1_000);

/// The board's time before the first launch and after the last wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bracket {
    /// Before anything was given to the GPU.
    pub(super) before: BoardTime,
    /// After it was seen to be done.
    pub(super) after: BoardTime,
}

/// The span of GPU work of `length` within its bracket; `None` where it is
/// longer than that by more than the resolution: then one of the clocks lies.
pub(super) fn placed(inference: u32, bracket: Bracket, length: Nanos) -> Option<GpuSpan> {
    let slack = (bracket.after - bracket.before).0.checked_sub(length.0)?;
    if length.0 < 0 || slack < -RESOLUTION.0 {
        return None;
    }
    let half = slack.max(0) / 2;
    let bound = (slack.max(0) - half).saturating_add(RESOLUTION.0);
    Some(GpuSpan {
        inference,
        start: bracket.before + Nanos(half),
        length_ns: u64::try_from(length.0).ok()?,
        bound_ns: u32::try_from(bound).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bracket(before: u64, after: u64) -> Bracket {
        Bracket { before: BoardTime(before), after: BoardTime(after) }
    }

    #[test]
    fn gpu_work_lies_in_the_middle_of_its_slack() {
        let span = placed(3, bracket(1_000_000, 1_101_000), Nanos(80_000)).unwrap();
        assert_eq!(span.start, BoardTime(1_010_500));
        assert_eq!((span.length_ns, span.bound_ns), (80_000, 11_500));
    }

    #[test]
    fn work_longer_than_its_bracket_is_not_placed() {
        assert!(placed(3, bracket(0, 80_000), Nanos(81_001)).is_none());
        assert!(placed(3, bracket(0, 80_000), Nanos(-1)).is_none());
        // Within the events' resolution it fills the bracket.
        let span = placed(3, bracket(5, 80_005), Nanos(80_900)).unwrap();
        assert_eq!((span.start, span.bound_ns), (BoardTime(5), 1_000));
    }

    proptest! {
        #[test]
        fn the_true_start_is_within_the_bound(
            before in 0_u64..1 << 50, launch in 0_i64..200_000, work in 0_i64..1 << 32,
            wake in 0_i64..200_000, error in -500_i64..=500,
        ) {
            let start = BoardTime(before) + Nanos(launch);
            let after = start + Nanos(work) + Nanos(wake);
            let told = Nanos((work + error).max(0));
            let span = placed(3, Bracket { before: BoardTime(before), after }, told).unwrap();
            let off = (span.start - start).0.abs();
            prop_assert!(off <= i64::from(span.bound_ns), "{off} > {}", span.bound_ns);
        }
    }
}
