//! The tables of a report: cells, failed trials, windows, idle windows.
//!
//! Owns their columns and their rounding on the page. Every table scrolls in
//! its own box, has a caption, and says "simulated" where that is the case.

use std::collections::BTreeSet;

use maud::{Markup, html};
use wattline_protocol::record::TrialOutcome;

use super::text::{NONE, Rounded, fixed, place, plain, rounded, span};
use super::verdict;
use crate::analysis::model::{
    Analysis, CellResult, Energy, Judgement, Reason, Uncertain, Verdict, WindowResult,
};

/// The table of cells: one group of rows a network.
pub(super) fn cells(analysis: &Analysis) -> Markup {
    if analysis.cells.is_empty() {
        return html! { p { "No cell is in the recording." } };
    }
    let (has_sizes, has_cores) = (analysis.campaign.size.len() > 1, has_cores(analysis));
    let groups = analysis.cells.chunk_by(|a, b| a.cell.network == b.cell.network);
    let table = html! {
        table class={ "cells" @if analysis.simulation.is_some() { " wide" } } {
            caption { span { "Cells in the order of the plan" (comma_word(analysis)) } }
            (cells_head(analysis, has_sizes, has_cores))
            @for group in groups {
                tbody { @for (index, cell) in group.iter().enumerate() {
                    tr class=[is_invalid(&cell.judgement).then_some("invalid")] {
                        @if index == 0 {
                            th.net scope="rowgroup" rowspan=(group.len()) { (cell.cell.network) }
                        }
                        (cell_row(analysis, cell, has_sizes, has_cores))
                    }
                } }
            }
        }
    };
    let of_windows = analysis.windows.iter().map(|window| &window.judgement);
    let judgements = analysis.cells.iter().map(|cell| &cell.judgement).chain(of_windows);
    html! {
        (boxed("Cells", &table))
        (code_legend(judgements))
    }
}

fn has_cores(analysis: &Analysis) -> bool {
    analysis.cells.iter().any(|cell| !cell.cell.cores.is_empty())
}

fn cells_head(analysis: &Analysis, has_sizes: bool, has_cores: bool) -> Markup {
    let simulated = analysis.simulation.is_some();
    let word = if simulated { "simulated" } else { "measured" };
    let asked = 5 + usize::from(has_sizes) + usize::from(has_cores);
    html! {
        thead {
            tr.over {
                th.of colspan=(asked) scope="colgroup" { "asked for" }
                th.of colspan=(6 + 2 * usize::from(simulated)) scope="colgroup" { (word) }
                th.of colspan="2" scope="colgroup" { "counted" }
                th.of colspan="2" scope="colgroup" { "judged" }
            }
            tr {
                th scope="col" { "network" } th.n scope="col" { "batch" small { "images" } }
                @if has_sizes { th.n scope="col" { "size" small { "px" } } }
                th scope="col" { "preci\u{ad}sion" } th scope="col" { "device" }
                th.n scope="col" { "threads" }
                @if has_cores { th scope="col" { "cores" } }
                th.n scope="col" { "time" small { "ms/image ±" } }
                th.n scope="col" { "power" small { "W ±" } }
                th.n scope="col" { "gross energy" small { "mJ/image ±" } }
                @if simulated {
                    th.n scope="col" { "true gross" small { "mJ/image" } }
                    th scope="col" { "inside" small { "gross ±" } }
                }
                th.n scope="col" { "net energy" small { "mJ/image ±" } }
                th.n scope="col" { "rate" small { "images/s" } }
                th.n scope="col" { "memory" small { "MB" } }
                th.n scope="col" { "MACs" small { "10⁹" } }
                th.n scope="col" { "G\u{2011}Ops" small { "paper" } }
                th.n scope="col" { "win\u{ad}dows" small { "used" } }
                th scope="col" { "verdict" small { "with its reasons" } }
            }
        }
    }
}

fn cell_row(analysis: &Analysis, cell: &CellResult, has_sizes: bool, has_cores: bool) -> Markup {
    let asked = &cell.cell;
    let judgement = &cell.judgement;
    let number = |value: Option<f64>| value.map_or_else(|| NONE.into(), plain);
    html! {
            th.n scope="row" { (asked.batch) }
            @if has_sizes { td.n { (asked.size) } }
            td { (asked.precision.name()) } td { (asked.device) } td.n { (threads(cell)) }
            @if has_cores { td { @if asked.cores.is_empty() { "all" } @else { (asked.cores) } } }
            (interval(cell.ms_per_image)) (interval(cell.watts)) (interval(cell.mj_per_image_gross))
            @if analysis.simulation.is_some() { (truth(cell)) }
            (interval(cell.mj_per_image_net))
            td.n { (number(cell.images_per_s)) } td.n { (memory(cell.memory_mb)) }
            td.n { (giga(cell.macs)) } td.n { (giga(cell.ops_paper)) }
            td.n { (cell.windows) "/" (analysis.campaign.windows) }
            (judged(judgement))
    }
}

fn is_invalid(judgement: &Judgement) -> bool {
    judgement.verdict == Verdict::Invalid
}

/// A verdict with its reasons, in one cell.
fn judged(judgement: &Judgement) -> Markup {
    let name = judgement.verdict.name();
    html! {
        td.verdict { span class={ "badge v-" (name) } { (name) } " "
            span.codes { (codes(judgement)) } }
    }
}

/// Reasons by their words in exports; the legend under the table has sentences.
fn codes(judgement: &Judgement) -> String {
    judgement.reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>().join("; ")
}

/// What the words of the column of reasons mean; nothing where there are none.
fn code_legend<'a>(judgements: impl Iterator<Item = &'a Judgement>) -> Markup {
    let used: BTreeSet<Reason> = judgements.flat_map(|j| j.reasons.iter().copied()).collect();
    html! {
        @if !used.is_empty() {
            p.codes { "Reasons: "
                @for (index, reason) in used.iter().enumerate() {
                    @if index > 0 { "; " }
                    b { (reason.code()) } " — " (reason.describe())
                } "." }
        }
    }
}

/// Threads taken; where no trial was loaded, those asked for.
fn threads(cell: &CellResult) -> String {
    match (cell.threads, cell.cell.threads) {
        (0, 0) => "each core".into(),
        (0, asked) => format!("({asked})"),
        (taken, _) => taken.to_string(),
    }
}

/// True energy, and whether the interval holds it.
fn truth(cell: &CellResult) -> Markup {
    let digits = |value: f64| match cell.mj_per_image_gross {
        Some(gross) => rounded(Uncertain { value, expanded: gross.expanded }).value,
        None => plain(value),
    };
    let inside = cell.true_mj_per_image_gross.zip(cell.mj_per_image_gross).map(|(truth, gross)| {
        if (truth - gross.value).abs() <= gross.expanded { "yes" } else { "no" }
    });
    html! {
        td.n { (cell.true_mj_per_image_gross.map_or_else(|| NONE.into(), digits)) }
        td { (inside.unwrap_or(NONE)) }
    }
}

fn interval(number: Option<Uncertain>) -> Markup {
    let Some(Rounded { value, expanded }) = number.map(rounded) else {
        return html! { td.n { (NONE) span.u {} } };
    };
    html! { td.n { (value) span.u { "± " (expanded) } } }
}

fn memory(megabytes: Option<f64>) -> String {
    megabytes.map_or_else(|| NONE.into(), |value| fixed(value, if value < 10.0 { 1 } else { 0 }))
}

fn giga(count: u64) -> String {
    if count == 0 { NONE.into() } else { plain(count as f64 / 1e9) }
}

/// Trials without a window; nothing where there are none.
pub(super) fn failed(analysis: &Analysis) -> Markup {
    if analysis.failed.is_empty() {
        return html! {};
    }
    let cause = |outcome: TrialOutcome| match outcome {
        TrialOutcome::Failed(cause) => cause.describe(),
        TrialOutcome::Measured => "its window is not in the recording".into(),
    };
    boxed(
        "Failed trials",
        &html! {
            table {
                caption { span { "Trials without a window" (comma_word(analysis)) "." } }
                thead { tr { th.n scope="col" { "trial" } th scope="col" { "cell" }
                    th scope="col" { "cause" } } }
                tbody { @for trial in &analysis.failed {
                    tr { th.n scope="row" { (trial.trial) } td { (cell_name(analysis, trial.cell)) }
                        td.long { (cause(trial.outcome)) } }
                } }
            }
        },
    )
}

/// All windows, folded away.
pub(super) fn windows(analysis: &Analysis) -> Markup {
    if analysis.windows.is_empty() {
        return html! { p { "No window was measured." } };
    }
    let simulated = analysis.simulation.is_some();
    html! { details {
        summary { "All " (analysis.windows.len()) " windows" (comma_word(analysis)) }
        (boxed("Windows", &html! { table {
            caption { span { "Windows in order of time" (comma_word(analysis))
                "; energies of the whole window." } }
            thead { tr {
                th.n scope="col" { "window" } th scope="col" { "cell" }
                th.n scope="col" { "start" small { "s" } }
                th.n scope="col" { "length" small { "s" } } th.n scope="col" { "images" }
                th.n scope="col" { "gross energy" small { "J ±" } }
                @if simulated { th.n scope="col" { "true gross" small { "J, simulated" } } }
                th.n scope="col" { "net energy" small { "J ±" } }
                th scope="col" { "dominant term" small { "gross / net" } }
                th.n scope="col" { "missing" small { "%" } } th scope="col" { "verdict" small { "with its reasons" } }
            } }
            tbody { @for window in &analysis.windows { (window_row(analysis, window)) } }
        } }))
    } }
}

fn window_row(analysis: &Analysis, window: &WindowResult) -> Markup {
    let energy =
        |energy: &Energy| Uncertain { value: energy.joules.0, expanded: energy.expanded().0 };
    let truth = |joules: f64| {
        rounded(Uncertain { value: joules, expanded: window.energy.expanded().0 }).value
    };
    let missing = window.missing * 100.0;
    let dominant = |energy: Option<&Energy>| {
        energy.and_then(Energy::dominant).map_or(NONE, |term| term.name())
    };
    html! {
        tr class=[is_invalid(&window.judgement).then_some("invalid")] {
            th.n scope="row" { (window.window) } td { (cell_name(analysis, window.cell)) }
            td.n { (fixed((window.t0 - analysis.started).as_seconds().0, 1)) }
            td.n { (fixed(window.length().as_seconds().0, 2)) } td.n { (window.images) }
            (interval(Some(energy(&window.energy))))
            @if analysis.simulation.is_some() {
                td.n { (window.true_energy.map_or_else(|| NONE.into(), |j| truth(j.0))) }
            }
            (interval(window.net_energy.as_ref().map(energy)))
            td { (dominant(Some(&window.energy))) " / " (dominant(window.net_energy.as_ref())) }
            td.n { @if missing > 0.0 { (fixed(missing, 2)) } @else { "0" } }
            (judged(&window.judgement))
        }
    }
}

/// Idle windows, or the statement that there are none.
pub(super) fn baselines(analysis: &Analysis) -> Markup {
    if analysis.baselines.is_empty() {
        return html! { p { "No idle window was measured: net energies are absent." } };
    }
    boxed(
        "Idle windows",
        &html! {
            table {
                caption { span { "Idle baseline" (comma_word(analysis))
                    ": mean power of the total; ± is its scatter alone, k = 2." } }
                thead { tr { th scope="col" { "place" } th.n scope="col" { "start" small { "s" } }
                    th.n scope="col" { "length" small { "s" } }
                    th.n scope="col" { "idle power" small { "W ±" } } } }
                tbody { @for idle in &analysis.baselines { tr {
                    th scope="row" { (place(idle.place)) }
                    td.n { (fixed((idle.t0 - analysis.started).as_seconds().0, 1)) }
                    td.n { (fixed((idle.t1 - idle.t0).as_seconds().0, 1)) }
                    (interval(Some(Uncertain { value: idle.power.0, expanded: 2.0 * idle.scatter_w })))
                } } }
            }
        },
    )
}

/// Sampled rails with their chips.
pub(super) fn rails(analysis: &Analysis) -> Markup {
    if analysis.rails.is_empty() {
        return html! { p { "No rail was sampled." } };
    }
    let cycle = |cycle_ns: u32| span(wattline_protocol::units::Nanos(i64::from(cycle_ns)));
    boxed(
        "Rails",
        &html! {
            table {
                caption { span { "Sampled rails" (comma_word(analysis)) "; limits are the datasheet's ±." } }
                thead { tr {
                    th scope="col" { "rail" } th scope="col" { "role" } th scope="col" { "source" }
                    th scope="col" { "chip" } th.n scope="col" { "channel" }
                    th.n scope="col" { "cycle" } th.n scope="col" { "shunt" }
                    th.n scope="col" { "shunt tolerance" small { "%" } }
                    th.n scope="col" { "gain, shunt / bus" small { "%" } }
                    th.n scope="col" { "offset, shunt / bus" small { "µV / mV" } }
                } }
                tbody { @for rail in &analysis.rails {
                    @let chip = analysis.chips.get(usize::from(rail.chip));
                    @let limits = &rail.limits;
                    tr {
                        th scope="row" { (rail.name) } td { (rail.role.name()) }
                        td { (rail.source.name()) }
                        td { @if let Some(chip) = chip {
                            (chip.name())
                        } @else { (NONE) } }
                        td.n { (rail.channel) }
                        td.n { (chip.map_or_else(|| NONE.into(), |chip| cycle(chip.cycle_ns))) }
                        td.n { (verdict::ohms(rail.scale.shunt_ohm)) }
                        td.n { (short(limits.shunt_tolerance * 100.0)) }
                        td.n { (short(limits.shunt_gain * 100.0)) " / " (short(limits.bus_gain * 100.0)) }
                        td.n { (short(limits.shunt_offset_v * 1e6)) " / "
                            (short(limits.bus_offset_v * 1e3)) }
                    }
                } }
            }
        },
    )
}

/// A datasheet's limit: no more digits than it has.
fn short(value: f64) -> String {
    let text = fixed(value, 4);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

fn cell_name(analysis: &Analysis, number: u16) -> String {
    let cell = analysis.cells.iter().find(|cell| cell.cell.cell == number);
    cell.map_or_else(|| format!("cell {number}"), verdict::name)
}

/// `, simulated` within a caption; nothing on a real board.
fn comma_word(analysis: &Analysis) -> String {
    match analysis.simulated_word() {
        "" => String::new(),
        word => format!(", {word}"),
    }
}

/// A table in a box that scrolls by itself, by touch and by keyboard.
pub(super) fn boxed(label: &str, table: &Markup) -> Markup {
    html! { div.box tabindex="0" role="region" aria-label=(label) { (table) } }
}
