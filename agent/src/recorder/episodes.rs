//! When a chip's sweeps begin to be worth less, and when they are whole again.
//!
//! Owns the notices about statuses: each episode is said once when it begins and
//! once when it ends, whatever its length. Changes no status.

use wattline_protocol::block::{SampleStatus, status_of};
use wattline_protocol::record::{Notice, NoticeKind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::power::ring::Sweep;

/// Holes are counted over this time, so that a disturbance of some hundred ms is
/// not lost among the sweeps before it.
const HOLES_SPAN: Nanos = Nanos::from_millis(250);
/// Spans without many holes after which they are over: no more than one pair of
/// notices a second.
const QUIET_SPANS: u32 = 4;
/// More than one part in so many of the time, without a new value or in a hole, is
/// worth a notice: looks at the flag leave out one sweep in some hundred. Time and
/// not sweeps: what disturbs a sampler makes its sweeps fewer, too.
const PARTS: i64 = 20;

/// The episodes of one chip.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    /// Failed sweeps, where the bus fails.
    fault: Option<u64>,
    /// Sweeps at the end of the range, where it is reached.
    overrange: Option<u64>,
    /// Sweeps after a hole, and spans since there were many.
    holes: Option<(u64, u32)>,
    span: Span,
    /// End of the sweep before, where it did not fail.
    before: Option<BoardTime>,
}

/// What of the last span was poor.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    begun: BoardTime,
    /// Time before sweeps after a hole.
    poor: Nanos,
    holes: u64,
}

impl Episodes {
    /// What a sweep begins or ends.
    pub(super) fn notices(&mut self, sweep: &Sweep, lane: u8) -> Vec<Notice> {
        let failed = !status_of(sweep.status, 0).is_some_and(SampleStatus::has_value);
        let slots = slots_with(sweep, SampleStatus::Overrange);
        let poor = [SampleStatus::Skipped, SampleStatus::Stale];
        let is_hole = poor.into_iter().any(|status| slots_with(sweep, status) != 0);
        let fault = turned(&mut self.fault, failed).map(|turn| match turn {
            Turn::Began => NoticeKind::BusFaultBegan { lane },
            Turn::Ended(failed) => NoticeKind::BusFaultEnded { lane, failed },
        });
        // A failed sweep says nothing of the range.
        let is_over = if failed { self.overrange.is_some() } else { slots != 0 };
        let overrange = turned(&mut self.overrange, is_over).map(|turn| match turn {
            Turn::Began => NoticeKind::OverrangeBegan { lane, slots },
            Turn::Ended(sweeps) => NoticeKind::OverrangeEnded { lane, sweeps },
        });
        let holes = self.holes(sweep.end, is_hole, lane);
        self.before = (!failed).then_some(sweep.end);
        let kinds = [fault, overrange, holes].into_iter().flatten();
        kinds.map(|what| Notice { at: sweep.end, what }).collect()
    }

    fn holes(&mut self, end: BoardTime, is_hole: bool, lane: u8) -> Option<NoticeKind> {
        if let Some((holes, _)) = &mut self.holes {
            *holes += u64::from(is_hole);
        }
        self.span.holes += u64::from(is_hole);
        if let Some(before) = self.before.filter(|_| is_hole) {
            self.span.poor = self.span.poor + (end - before);
        }
        let length = end - self.span.begun;
        if length < HOLES_SPAN {
            return None;
        }
        let Span { poor, holes, .. } = self.span;
        self.span = Span { begun: end, ..Span::default() };
        let are_many = poor.0.saturating_mul(PARTS) > length.0;
        match (are_many, self.holes) {
            (true, None) => {
                self.holes = Some((holes, 0));
                Some(NoticeKind::HolesBegan { lane })
            }
            (true, Some((holes, _))) => {
                self.holes = Some((holes, 0));
                None
            }
            (false, Some((holes, quiet))) if quiet + 1 < QUIET_SPANS => {
                self.holes = Some((holes, quiet + 1));
                None
            }
            (false, Some((holes, _))) => {
                self.holes = None;
                Some(NoticeKind::HolesEnded { lane, holes })
            }
            (false, None) => None,
        }
    }
}

enum Turn {
    Began,
    /// After so many sweeps.
    Ended(u64),
}

/// Counts `is_so` in `episode`; whether it turned.
fn turned(episode: &mut Option<u64>, is_so: bool) -> Option<Turn> {
    match (is_so, *episode) {
        (true, None) => {
            *episode = Some(1);
            Some(Turn::Began)
        }
        (true, Some(count)) => {
            *episode = Some(count + 1);
            None
        }
        (false, Some(count)) => {
            *episode = None;
            Some(Turn::Ended(count))
        }
        (false, None) => None,
    }
}

/// Slots of this status, a bit each.
fn slots_with(sweep: &Sweep, wanted: SampleStatus) -> u8 {
    if sweep.status == 0 {
        return 0;
    }
    let slots = usize::from(sweep.columns) / 2;
    (0..slots)
        .filter(|&slot| status_of(sweep.status, slot) == Some(wanted))
        .fold(0, |word, slot| word | 1 << slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(end_ms: i64, status: SampleStatus) -> Sweep {
        let end = BoardTime(0) + Nanos::from_millis(end_ms);
        Sweep { end, status: status.nibble(), columns: 2, ..Sweep::default() }
    }

    fn kinds(sweeps: impl IntoIterator<Item = Sweep>) -> Vec<NoticeKind> {
        let mut episodes = Episodes::default();
        let notices = |sweep: Sweep| episodes.notices(&sweep, 16);
        sweeps.into_iter().flat_map(notices).map(|notice| notice.what).collect()
    }

    #[test]
    fn a_range_that_is_left_and_a_bus_that_fails_are_said_once_each() {
        use SampleStatus::{Nack, Ok, Overrange};
        let statuses = [Ok, Overrange, Overrange, Nack, Overrange, Ok, Ok];
        let said = kinds(statuses.into_iter().zip(0..).map(|(status, ms)| sweep(ms, status)));
        assert_eq!(
            said,
            [
                NoticeKind::OverrangeBegan { lane: 16, slots: 1 },
                NoticeKind::BusFaultBegan { lane: 16 },
                NoticeKind::BusFaultEnded { lane: 16, failed: 1 },
                NoticeKind::OverrangeEnded { lane: 16, sweeps: 4 },
            ]
        );
    }

    #[test]
    fn holes_are_said_where_they_are_many() {
        let status = |ms: i64| match ms {
            // One in a hundred, then one in four, then none.
            0..2_000 if ms % 100 == 0 => SampleStatus::Skipped,
            2_000..4_000 if ms % 4 == 0 => SampleStatus::Skipped,
            _ => SampleStatus::Ok,
        };
        let said = kinds((0..7_000).map(|ms| sweep(ms, status(ms))));
        let [NoticeKind::HolesBegan { lane: 16 }, NoticeKind::HolesEnded { lane: 16, holes }] =
            said[..]
        else {
            panic!("{said:?}")
        };
        assert!((450..=500).contains(&holes), "{holes}");
    }
}
