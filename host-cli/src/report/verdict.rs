//! The verdict of a run: counts, reasons, what is absent, how it was sampled.
//!
//! Owns the first section of the page: what a reader must know before
//! believing any number below.

use std::collections::BTreeMap;

use maud::{Markup, html};
use wattline_protocol::record::{
    ChipDescription, LatenessHistogram, RailRole, RunOutcome, SamplerReport,
};

use super::html::word;
use super::text::{brief, count, gap, outcome, plain, scheduling, span};
use super::{drivers, state};
use crate::analysis::model::{Absence, Analysis, CellResult, ClockOffset, Reason, Verdict};
use crate::analysis::{ChipWarning, TriggerSummary};

/// Warnings of chips that are told before the rest is only counted.
const WARNINGS_MAX: usize = 12;
/// Cells that a reason names before it only counts the rest.
const NAMED_MAX: usize = 6;

/// The section.
pub(super) fn section(analysis: &Analysis) -> Markup {
    html! {
        section #verdict {
            h2 { "Verdict" (word(analysis)) }
            (strip(analysis))
            dl.notes {
                dt { "Outcome" }
                dd class=[(analysis.outcome != Some(RunOutcome::Complete)).then_some("alert")] {
                    (outcome(analysis.outcome))
                }
                dt { "Reasons" }
                dd { (reasons(analysis)) }
                dt { "Missing data" }
                dd { (absences(analysis)) }
                dt { "Uncertainty" }
                dd { "Every ± is an expanded uncertainty, k = 2 (about 95 %): spread over windows, "
                    "chip, shunt, window edges and missing time together. "
                    a href="#budget" { "Budget" } "." }
                dt { "Energy is that of" }
                dd { (energy_source(analysis)) }
                @if !analysis.corrected_shunts.is_empty() {
                    dt { "Corrected shunts" }
                    dd { ul { @for (rail, recorded, used) in &analysis.corrected_shunts {
                        li { (rail) ": " (ohms(*used)) " used, " (ohms(*recorded)) " recorded" }
                    } } }
                }
                (rails(analysis))
                dt { "Sampler" }
                dd { (sampler(analysis)) }
                @if !state::lines(&analysis.state).is_empty() {
                    dt { "Board state" }
                    dd { ul { @for line in state::lines(&analysis.state) { li { (line) } } } }
                }
                @if !analysis.triggers.is_empty() {
                    dt { "Trigger" }
                    dd { ul { @for trigger in &analysis.triggers {
                        li class=[trigger.failed.map(|_| "alert")] { (trigger_text(trigger)) }
                    } } }
                }
                @if let Some(clock) = &analysis.clock {
                    dt { "Board ↔ host clock" }
                    dd { (clock_text(clock)) }
                }
            }
        }
    }
}

/// Terms about rails and chips: what was expected, set and found of them.
fn rails(analysis: &Analysis) -> Markup {
    html! {
        @if let Some(profile) = &analysis.expectation.profile {
            dt { "Board profile" }
            dd { (profile) }
        }
        @if !analysis.expectation.mismatches.is_empty() {
            dt { "Not as expected" }
            dd { ul { @for mismatch in &analysis.expectation.mismatches {
                li.alert { (mismatch) }
            } } }
        }
        @if !analysis.skipped.is_empty() {
            dt { "Not sampled" }
            dd { ul { @for (rail, reason) in &analysis.skipped {
                li { (rail) ": " (reason.name()) }
            } } }
        }
        @if !analysis.driver_changes.is_empty() {
            dt { "Kernel drivers" }
            dd { ul { @for change in &analysis.driver_changes {
                li.alert[drivers::is_alert(change)] { (drivers::text(change)) }
            } } }
        }
        @if !analysis.shunt_offsets.is_empty() {
            dt { "Shunt offsets" }
            dd { ul { @for (rail, general_uv, ranges) in &analysis.shunt_offsets {
                li { (rail) ": the board's table is taken out of every value: " (general_uv)
                    " µV, and " (ranges) " ranges with their own" }
            } } }
        }
        @if !analysis.chip_warnings.is_empty() {
            dt { "Power monitors" }
            dd { ul {
                @for warning in analysis.chip_warnings.iter().take(WARNINGS_MAX) {
                    li.alert { (at_seconds(analysis, warning)) (warning) }
                }
                @if analysis.chip_warnings.len() > WARNINGS_MAX {
                    li { (analysis.chip_warnings.len() - WARNINGS_MAX) " more" }
                }
            } }
        }
    }
}

/// When a warning was, before its words.
fn at_seconds(analysis: &Analysis, warning: &ChipWarning) -> String {
    format!("{} s: ", brief((warning.at - analysis.started).as_seconds().0))
}

/// The line, its edges and how well their times are known, in words.
fn trigger_text(trigger: &TriggerSummary) -> String {
    let us = |ns: u32| brief(f64::from(ns) / 1e3);
    let line = if trigger.line == "simulated" {
        "simulated line (none was set)".to_owned()
    } else {
        format!("line {}", trigger.line)
    };
    let edges = match (trigger.of_windows, trigger.of_inferences) {
        (0, 0) => "no edge".to_owned(),
        (windows, 0) => format!("{windows} edges of windows"),
        (0, inferences) => format!("{inferences} edges of inferences"),
        (windows, inferences) => {
            format!("{windows} edges of windows, {inferences} of inferences")
        }
    };
    let cost = match trigger.of_windows + trigger.of_inferences {
        0 => String::new(),
        _ => format!(
            ", each within a bracket of two readings of the clock: median {} µs, longest {} µs",
            us(trigger.bracket_median_ns),
            us(trigger.bracket_max_ns)
        ),
    };
    let failed = trigger.failed.map_or_else(String::new, |(times, fault)| {
        let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        format!("; {times} it could not be set: {}", fault.describe())
    });
    format!("{line}: {edges}{cost}{failed}")
}

/// Offset ± bound, rate and steps, in words.
fn clock_text(clock: &ClockOffset) -> String {
    let ms = |ns: i64| brief(ns as f64 / 1e6);
    let steps = match clock.steps {
        0 => String::new(),
        1 => ", one step of a clock recognised".into(),
        more => format!(", {more} steps of a clock recognised"),
    };
    format!(
        "board − host = {:.9} s ± {} ms at the last of {} bursts of exchanges (median ± {} ms, \
         worst ± {} ms), rate {:+.2} ppm{steps}; no result rests on it",
        clock.offset.as_seconds().0,
        ms(clock.bound.0),
        clock.bursts,
        ms(clock.bound_median_ns),
        ms(clock.bound_max_ns),
        clock.skew_ppm,
    )
}

/// Which rail the energies are of, in words.
pub(super) fn energy_source(analysis: &Analysis) -> String {
    let totals: Vec<&str> = analysis
        .rails
        .iter()
        .filter(|rail| rail.role == RailRole::Total)
        .map(|rail| rail.name.as_str())
        .collect();
    match totals.as_slice() {
        [] if analysis.rails.is_empty() => "no rail: none was sampled".into(),
        [] => {
            let inner: Vec<String> = analysis
                .expectation
                .inside
                .iter()
                .map(|inner| format!("; without {}, which {} holds", inner.rail, inner.within))
                .collect();
            format!(
                "the sampled parts, added up: no rail of this board holds all others{}",
                inner.concat()
            )
        }
        [one] => format!("the rail {one}, called total"),
        several => format!("the rails {}, called total", several.join(" + ")),
    }
}

/// A resistance in the unit that shunts are printed with.
pub(super) fn ohms(value: f64) -> String {
    format!("{} mΩ", brief(value * 1e3))
}

fn strip(analysis: &Analysis) -> Markup {
    let all = analysis.cells.len();
    html! {
        div.strip {
            @for verdict in [Verdict::Valid, Verdict::Flagged, Verdict::Invalid] {
                @let cells = analysis.cells.iter();
                @let number = cells.filter(|cell| cell.judgement.verdict == verdict).count();
                div class={ "v-" (verdict.name()) @if number == 0 { " zero" } } {
                    b { (number) }
                    span { (verdict.name()) " of " (all) @if all == 1 { " cell" } @else { " cells" } }
                }
            }
        }
    }
}

fn reasons(analysis: &Analysis) -> Markup {
    let mut cells: BTreeMap<Reason, Vec<&CellResult>> = BTreeMap::new();
    for cell in &analysis.cells {
        for reason in &cell.judgement.reasons {
            cells.entry(*reason).or_default().push(cell);
        }
    }
    html! {
        @if cells.is_empty() { "none" }
        @else { ul { @for (reason, cells) in cells {
            li { (reason.describe()) ": " (names(analysis, &cells)) }
        } } }
    }
}

fn names(analysis: &Analysis, cells: &[&CellResult]) -> String {
    if cells.len() == analysis.cells.len() {
        return if cells.len() == 1 { "the only cell".into() } else { "all cells".into() };
    }
    let mut names: Vec<String> = cells.iter().take(NAMED_MAX).map(|cell| name(cell)).collect();
    if cells.len() > NAMED_MAX {
        names.push(format!("and {} more", cells.len() - NAMED_MAX));
    }
    names.join(", ")
}

/// A cell in a few words.
pub(super) fn name(cell: &CellResult) -> String {
    let cell = &cell.cell;
    format!("{} batch {} {} {}", cell.network, cell.batch, cell.precision.name(), cell.device)
}

fn absences(analysis: &Analysis) -> Markup {
    html! {
        @if analysis.absences.is_empty() { "none: every sequence number and every sweep is there" }
        @else { ul { @for absence in &analysis.absences {
            li class=[absence.reason.is_none().then_some("alert")] { (absent(analysis, absence)) }
        } } }
    }
}

fn absent(analysis: &Analysis, absence: &Absence) -> String {
    let place = absence.span.map_or_else(String::new, |(from, to)| {
        let (after, length) = (span(from - analysis.started), span(to - from));
        format!(", {after} after the start, {length} long")
    });
    format!("{}: {}{place} — {}", absence.what, count(absence.count), gap(absence.reason))
}

fn sampler(analysis: &Analysis) -> Markup {
    html! {
        ul {
            li { (scheduling(analysis.scheduling)) }
            @for report in &analysis.sampler { li { (lane(analysis, report)) } }
            @if analysis.sampler.is_empty() { li { "its own report is not in the recording" } }
        }
    }
}

/// Rate, failures and lateness of one chip's sampler.
fn lane(analysis: &Analysis, report: &SamplerReport) -> String {
    let seconds = (analysis.ended - analysis.started).as_seconds().0;
    let chip = analysis.chips.iter().find(|chip| chip.lane == report.lane);
    let name = chip.map_or_else(|| format!("lane {}", report.lane), ChipDescription::name);
    let aim = chip.filter(|chip| chip.sweep_period_ns > 0).map_or_else(String::new, |chip| {
        format!(" (aim {}/s)", plain(1e9 / f64::from(chip.sweep_period_ns)))
    });
    let rate = |count: u64| plain(count as f64 / seconds.max(1e-9));
    let mut text = format!(
        "{name}: {} sweeps/s{aim}, {} fresh conversions/s; {} repeats, {} conversions unread, {} \
         failed, {} lost",
        rate(report.sweeps),
        rate(report.fresh),
        count(report.stale),
        count(report.skipped),
        count(report.failed),
        count(report.lost)
    );
    if let (Some(half), Some(most)) = (late(&report.lateness, 0.5), late(&report.lateness, 0.999)) {
        text.push_str(&format!("; woke {half} late (median), {most} (99.9 %)"));
    }
    text
}

/// Bound below which a share of the wakes were late: the end of its bucket.
fn late(histogram: &LatenessHistogram, share: f64) -> Option<String> {
    let total: u64 = histogram.buckets.iter().sum();
    let mut seen = 0_u64;
    for (index, count) in histogram.buckets.iter().enumerate() {
        seen = seen.saturating_add(*count);
        if seen > 0 && seen as f64 >= share * total as f64 {
            return Some(match index {
                0..=9 => format!("< {} µs", 1_u32 << index),
                10..=14 => format!("< {} ms", brief(f64::from(1_u32 << index) / 1000.0)),
                _ => "≥ 16 ms".into(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_as_the_end_of_its_bucket() {
        let mut histogram = LatenessHistogram::default();
        assert_eq!(late(&histogram, 0.5), None);
        for late_ns in [500, 5_000, 6_000, 40_000_000] {
            histogram.add(late_ns);
        }
        assert_eq!(late(&histogram, 0.5).unwrap(), "< 8 µs");
        assert_eq!(late(&histogram, 0.999).unwrap(), "≥ 16 ms");
    }
}
