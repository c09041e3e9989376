//! From a recording to results: energies, uncertainties, verdicts.
//!
//! Owns the arithmetic between records and figures; pure, no files. Does not
//! own how results are shown ([`crate::report`], [`crate::export`]).
//! Theory: `docs/method.md`.

mod absence;
pub mod accuracy;
mod aggregated;
mod axis;
mod baseline;
mod cells;
mod chips;
mod clock_offset;
pub mod compare;
mod conditions;
pub mod drift;
pub mod energy;
mod error;
pub mod model;
mod rails;
mod scatter;
mod states;
pub mod statistics;
#[cfg(test)]
mod tests;
mod trace;
mod trigger;
pub mod verdict;
mod window;

use std::collections::BTreeMap;

use wattline_protocol::record::{NoticeKind, SamplerReport, SkipReason};

use self::axis::Axis;
use self::model::Analysis;
use self::window::Windows;
use crate::recording::Recording;

pub use self::chips::ChipWarning;
pub use self::clock_offset::clock_offset;
pub use self::conditions::DriverChange;
pub use self::error::AnalysisError;
pub(crate) use self::rails::rails_of;
pub use self::rails::{ShuntCorrection, with_shunts};
pub use self::states::StateSummary;
pub use self::trigger::TriggerSummary;

/// Analyses a recording as far as it goes: a run that was cut or still goes on
/// has the cells and windows that there are.
///
/// # Errors
/// [`AnalysisError::NoRunStart`] where board, rails and campaign are unknown;
/// [`AnalysisError::UnknownRail`] and [`AnalysisError::BadShunt`] for a
/// correction that does not fit; [`AnalysisError::Samples`] for a damaged block.
pub fn analyse(
    recording: &Recording,
    corrections: &[ShuntCorrection],
) -> Result<Analysis, AnalysisError> {
    let start = &recording.starts.first().ok_or(AnalysisError::NoRunStart)?.record;
    let mut rails = start.rails.clone();
    let corrected_shunts = with_shunts(&mut rails, corrections)?;
    let idles = baseline::idle_windows(recording, corrections)?;
    let windows = Windows::new(recording, corrections, &start.campaign, &idles).measure()?;
    let failed = cells::failed_trials(recording);
    let outcome = recording.run_ends.last().map(|end| end.record.outcome);
    let cells = cells::cells(recording, &windows, &failed, outcome);
    let started = start.clock.monotonic;
    let axis = Axis::of(recording);
    let ended = axis.ended(recording).unwrap_or(started);
    Ok(Analysis {
        run: start.run.clone(),
        board: start.board.clone(),
        agent: start.agent.clone(),
        simulation: start.simulation.clone(),
        campaign: start.campaign.clone(),
        started_unix_ns: start.clock.realtime_ns,
        started,
        ended,
        outcome,
        chips: start.chips.clone(),
        rails,
        expectation: recording.expectation_of(u32::MAX).cloned().unwrap_or_default(),
        skipped: skipped(recording),
        driver_changes: conditions::driver_changes(recording),
        chip_warnings: chips::warnings(recording),
        shunt_offsets: shunt_offsets(recording),
        state: states::summary(recording),
        corrected_shunts,
        scheduling: start.scheduling,
        sampler: sampler_reports(recording),
        cells,
        windows: windows.into_iter().map(|window| window.result).collect(),
        baselines: idles.into_iter().map(|idle| idle.result).collect(),
        failed,
        absences: absence::absences(recording),
        traces: trace::traces(recording, corrections, &axis, (started, ended))?,
        clock: clock_offset(&recording.clock_exchanges),
        triggers: trigger::triggers(recording),
        accuracies: Vec::new(),
    })
}

/// Rails with a table of offsets, each once.
fn shunt_offsets(recording: &Recording) -> Vec<(String, i32, usize)> {
    let mut offsets = Vec::new();
    for told in &recording.shunt_offsets {
        let rails = recording.start_of(told.epoch).map(|start| &start.rails);
        let rail = rails.and_then(|rails| rails.get(usize::from(told.record.rail)));
        let Some(rail) = rail else { continue };
        let one = (rail.name.clone(), told.record.general_uv, told.record.ranges.len());
        if !offsets.contains(&one) {
            offsets.push(one);
        }
    }
    offsets
}

/// Rails that were not sampled, each once.
fn skipped(recording: &Recording) -> Vec<(String, SkipReason)> {
    let mut skipped = Vec::new();
    for notice in &recording.notices {
        if let NoticeKind::RailSkipped { rail, reason } = &notice.record.what
            && !skipped.iter().any(|(known, _)| known == rail)
        {
            skipped.push((rail.clone(), *reason));
        }
    }
    skipped
}

/// One report a chip: those of several epochs are added.
fn sampler_reports(recording: &Recording) -> Vec<SamplerReport> {
    let mut by_lane: BTreeMap<u8, SamplerReport> = BTreeMap::new();
    for report in recording.sampler_reports.iter().map(|report| &report.record) {
        let sum = by_lane
            .entry(report.lane)
            .or_insert(SamplerReport { lane: report.lane, ..SamplerReport::default() });
        for (count, more) in [
            (&mut sum.sweeps, report.sweeps),
            (&mut sum.fresh, report.fresh),
            (&mut sum.stale, report.stale),
            (&mut sum.skipped, report.skipped),
            (&mut sum.failed, report.failed),
            (&mut sum.lost, report.lost),
        ] {
            *count = count.saturating_add(more);
        }
        for (count, more) in sum.lateness.buckets.iter_mut().zip(report.lateness.buckets) {
            *count = count.saturating_add(more);
        }
    }
    by_lane.into_values().collect()
}
