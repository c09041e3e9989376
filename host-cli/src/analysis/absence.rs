//! What is absent from a recording, with the reason where one was recorded.
//!
//! Owns the comparison of what streams should hold with what they do. A gap
//! without a reason is missing data.

use std::collections::BTreeSet;

use wattline_protocol::record::{Gap, RunStart, StreamEnd};

use super::model::Absence;
use crate::recording::Recording;

/// Bits of a stream number that are its lane.
const LANE_BITS: u32 = 8;

/// Gaps, lost sweeps, and ends of streams that were announced and not reached.
pub(super) fn absences(recording: &Recording) -> Vec<Absence> {
    let gaps = recording.gaps.iter().map(|gap| Absence {
        what: name(recording.start_of(gap.record.epoch), gap.record.epoch, gap.record.stream),
        count: gap.record.to.saturating_sub(gap.record.from),
        span: None,
        reason: Some(gap.record.reason),
    });
    let lost = recording.sweeps_lost.iter().map(|lost| Absence {
        what: samples(recording.start_of(lost.epoch), lost.record.lane),
        count: lost.record.count,
        span: Some((lost.record.from, lost.record.to)),
        reason: Some(lost.record.reason),
    });
    gaps.chain(lost).chain(unreached(recording)).collect()
}

/// Streams of this run that end before their announced end. An epoch's end
/// names the streams of other runs as well: those are not ours to miss.
fn unreached(recording: &Recording) -> impl Iterator<Item = Absence> {
    let ours: BTreeSet<(u32, u32)> =
        recording.held.iter().map(|held| (held.epoch, held.stream >> LANE_BITS)).collect();
    let by_run = recording.run_ends.iter().flat_map(|end| &end.record.streams);
    let by_epoch = recording.epoch_ends.iter().flat_map(|end| &end.record.streams);
    let announced: BTreeSet<(u32, u32, u64)> = by_run
        .chain(by_epoch)
        .filter(|end| ours.contains(&(end.epoch, end.stream >> LANE_BITS)))
        .map(|end| (end.epoch, end.stream, end.next))
        .collect();
    announced.into_iter().filter_map(|(epoch, stream, next)| {
        let count = next.saturating_sub(accounted(recording, epoch, stream));
        (count > 0).then(|| Absence {
            what: name(recording.start_of(epoch), epoch, stream),
            count,
            span: None,
            reason: None,
        })
    })
}

/// One past the last sequence number that is held or named by a gap.
fn accounted(recording: &Recording, epoch: u32, stream: u32) -> u64 {
    let is_it = |held: &&StreamEnd| held.epoch == epoch && held.stream == stream;
    let held = recording.held.iter().find(is_it).map_or(0, |held| held.next);
    let gap_over = |next: u64| {
        let gaps = recording.gaps.iter().map(|gap| &gap.record);
        let covers = |gap: &&Gap| {
            gap.epoch == epoch && gap.stream == stream && gap.from <= next && gap.to > next
        };
        gaps.filter(covers).map(|gap| gap.to).max()
    };
    std::iter::successors(Some(held), |&next| gap_over(next)).last().unwrap_or(held)
}

fn name(start: Option<&RunStart>, epoch: u32, stream: u32) -> String {
    let [lane, ..] = stream.to_le_bytes();
    let is_chip = start.is_some_and(|start| start.chips.iter().any(|chip| chip.lane == lane));
    if is_chip { samples(start, lane) } else { format!("records of epoch {epoch}") }
}

fn samples(start: Option<&RunStart>, lane: u8) -> String {
    let chip = start.and_then(|start| start.chips.iter().find(|chip| chip.lane == lane));
    match chip {
        Some(chip) => {
            format!("samples of {}", chip.name())
        }
        None => format!("samples of lane {lane}"),
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{EpochEnd, GapReason};

    use super::*;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    fn with_end(stream: u32, beyond: u64) -> Recording {
        let mut recording = Synthetic::default().recording();
        let held = recording.held.iter().find(|held| held.stream == stream).copied();
        let next = held.map_or(0, |held| held.next) + beyond;
        let streams = vec![StreamEnd { epoch: 1, stream, next }];
        let record = EpochEnd { epoch: 1, streams, torn_bytes: 0 };
        recording.epoch_ends.push(InEpoch { epoch: 2, record });
        recording
    }

    #[test]
    fn a_stream_that_ends_early_is_missing_data() {
        assert_eq!(absences(&with_end(257, 0)), []);
        let absent = absences(&with_end(257, 7));
        assert_eq!((absent[0].count, absent[0].reason), (7, None));
        assert_eq!(absent[0].what, "samples of ina3221 at 1-0040");
    }

    #[test]
    fn a_gap_that_reaches_the_end_accounts_for_it() {
        let mut recording = with_end(257, 7);
        let from = accounted(&recording, 1, 257);
        let gap = Gap { epoch: 1, stream: 257, from, to: from + 7, reason: GapReason::PowerCut };
        recording.gaps.push(InEpoch { epoch: 2, record: gap });
        let absent = absences(&recording);
        assert_eq!(absent.len(), 1);
        assert_eq!(absent[0].reason, Some(GapReason::PowerCut));
    }

    #[test]
    fn a_stream_of_another_run_is_not_missed() {
        assert_eq!(absences(&with_end(0x0301, 7)), []);
    }
}
