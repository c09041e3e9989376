//! What happened to the chips themselves within a run, as their notices tell.
//!
//! Owns a chip's setting as it stood at a time, which windows saw a change of it,
//! and the account for a report. Decides no status: rows that a change put in
//! doubt were marked on the board.

use core::fmt;

use wattline_protocol::record::{
    ChipChange, ChipDescription, ChipOutcome, NoticeKind, RailDescription,
};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::recording::Recording;

/// Longest time between a change and the look at the setting that found it, with
/// the pause after a bus that failed.
const FOUND_WITHIN: Nanos = Nanos::from_millis(500);

/// Something that a chip's samples suffered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipWarning {
    /// Which chip.
    pub chip: String,
    /// When, on the board's clock.
    pub at: BoardTime,
    /// What.
    pub what: NoticeKind,
}

/// Changes of the setting of the chip of `lane` in an epoch, in order.
fn changes(
    recording: &Recording,
    epoch: u32,
    of: u8,
) -> impl Iterator<Item = (BoardTime, &ChipChange)> {
    let ours = recording.notices.iter().filter(move |notice| notice.epoch == epoch);
    ours.filter_map(move |notice| match &notice.record.what {
        NoticeKind::ChipChanged { lane, change, .. } if *lane == of => {
            Some((notice.record.at, change))
        }
        _ => None,
    })
}

/// A rail and its chip as they stood at `at`: after a change that the sampler
/// went on by, a row lies elsewhere in time.
pub(super) fn as_stood(
    recording: &Recording,
    epoch: u32,
    (rail, chip): (&RailDescription, &ChipDescription),
    at: BoardTime,
) -> (RailDescription, ChipDescription) {
    let (mut rail, mut chip) = (rail.clone(), chip.clone());
    let last = changes(recording, epoch, chip.lane)
        .take_while(|(found, _)| *found <= at)
        .filter_map(|(_, change)| match change.outcome {
            ChipOutcome::Adopted { cycle_ns, sweep_period_ns, shunt_conversion_ns } => {
                Some((cycle_ns, sweep_period_ns, shunt_conversion_ns))
            }
            _ => None,
        })
        .last();
    if let Some((cycle_ns, sweep_period_ns, shunt_conversion_ns)) = last {
        (chip.cycle_ns, chip.sweep_period_ns) = (cycle_ns, sweep_period_ns);
        rail.timing.shunt_conversion_ns = shunt_conversion_ns;
    }
    (rail, chip)
}

/// Whether a chip was reset or set by others within a stretch of time.
pub(super) fn changed_within(
    recording: &Recording,
    epoch: u32,
    t0: BoardTime,
    t1: BoardTime,
) -> bool {
    recording.notices.iter().any(|notice| {
        let is_change = matches!(notice.record.what, NoticeKind::ChipChanged { .. });
        let at = notice.record.at;
        is_change && notice.epoch == epoch && at >= t0 && at <= t1 + FOUND_WITHIN
    })
}

/// All that the chips' samples suffered, in order.
pub(super) fn warnings(recording: &Recording) -> Vec<ChipWarning> {
    let of_chip = recording.notices.iter().filter_map(|notice| {
        let lane = match notice.record.what {
            NoticeKind::ChipChanged { lane, .. }
            | NoticeKind::OverrangeEnded { lane, .. }
            | NoticeKind::HolesEnded { lane, .. }
            | NoticeKind::BusFaultEnded { lane, .. } => lane,
            _ => return None,
        };
        let start = recording.start_of(notice.epoch)?;
        let chip = start.chips.iter().find(|chip| chip.lane == lane)?;
        Some(ChipWarning {
            chip: chip.name(),
            at: notice.record.at,
            what: notice.record.what.clone(),
        })
    });
    of_chip.collect()
}

impl fmt::Display for ChipWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.chip)?;
        match &self.what {
            NoticeKind::ChipChanged { change, marked, .. } => {
                let ChipChange { register, expected, found, outcome } = change;
                match outcome {
                    ChipOutcome::Restarted => write!(f, "its registers were 0 for a moment")?,
                    _ => write!(
                        f,
                        "register {register:#04x} went from {expected:#06x} to {found:#06x}"
                    )?,
                }
                let after = match outcome {
                    ChipOutcome::ConfiguredAnew => "it was configured again",
                    ChipOutcome::NotConfigured => "it did not take its configuration",
                    ChipOutcome::Adopted { .. } => "it is read by its new setting",
                    ChipOutcome::Unusable => "it is not usable so, and its sweeps are marked",
                    ChipOutcome::Restarted => "it was reset",
                };
                write!(f, "; {after}; {marked} sweeps before it are marked stale")
            }
            NoticeKind::OverrangeEnded { sweeps, .. } => {
                write!(f, "{sweeps} sweeps at the end of its range")
            }
            NoticeKind::HolesEnded { holes, .. } => {
                write!(f, "{holes} sweeps repeated a conversion or stood after a hole")
            }
            NoticeKind::BusFaultEnded { failed, .. } => write!(f, "{failed} sweeps failed"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::Notice;

    use super::*;
    use crate::analysis::analyse;
    use crate::analysis::model::Reason;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    #[test]
    fn a_chip_that_changed_flags_its_window_and_moves_its_rows_in_time() {
        let mut recording = Synthetic::default().recording();
        let start = &recording.starts[0].record;
        let (rail, chip) = (start.rails[0].clone(), start.chips[0].clone());
        let (epoch, second) = (recording.starts[0].epoch, recording.windows[1].record.clone());
        let outcome = ChipOutcome::Adopted {
            cycle_ns: 6_600_000,
            sweep_period_ns: 7_260_000,
            shunt_conversion_ns: 1_100_000,
        };
        let change = ChipChange { register: 0, expected: 0x7007, found: 0x7127, outcome };
        let at = second.t0 + Nanos::from_millis(10);
        let what = NoticeKind::ChipChanged { lane: chip.lane, change, marked: 200 };
        recording.notices.push(InEpoch { epoch, record: Notice { at, what } });
        let before = as_stood(&recording, epoch, (&rail, &chip), second.t0);
        assert_eq!(before, (rail.clone(), chip.clone()));
        let (_, after) = as_stood(&recording, epoch, (&rail, &chip), at);
        assert_eq!((after.cycle_ns, after.sweep_period_ns), (6_600_000, 7_260_000));
        let analysis = analyse(&recording, &[]).unwrap();
        let flagged = |window: u32| {
            let result = analysis.windows.iter().find(|result| result.window == window).unwrap();
            result.judgement.reasons.contains(&Reason::ChipChanged)
        };
        assert!(flagged(second.window));
        let others = analysis.windows.iter().filter(|one| one.t1 < second.t0).count();
        assert!(
            analysis
                .windows
                .iter()
                .filter(|one| one.t1 < second.t0)
                .all(|one| !flagged(one.window)),
            "{others}"
        );
        let said = analysis.chip_warnings[0].to_string();
        assert!(said.contains("0x7127") && said.contains("200 sweeps"), "{said}");
    }
}
