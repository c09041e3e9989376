//! The page: its head, the order of its sections, its figures.
//!
//! Owns the frame; tables, verdicts and method have files of their own.
//! All text from a recording passes through maud, which escapes it; only the
//! figures' own SVG and our style sheet are inserted as they are.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figure::{Figure, Figures, Group};
use super::text::{span, utc};
use super::{accuracy, method, style, table, verdict};
use crate::analysis::model::Analysis;

/// The whole page.
pub(super) fn page(analysis: &Analysis, figures: &Figures) -> String {
    let word = analysis.simulated_word();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title {
                    (analysis.run.as_str()) " · Wattline report"
                    @if !word.is_empty() { " (" (word) ")" }
                }
                style { (PreEscaped(style::for_page())) }
            }
            body {
                (head(analysis))
                main {
                    (verdict::section(analysis))
                    (cells(analysis))
                    (timeline(analysis, figures))
                    (groups(analysis, figures))
                    (method::section(analysis))
                }
                footer {
                    p { "Made by Wattline from " code { "recording.sqlite" }
                        "; this page and its figures may be deleted and made again by "
                        code { "wattline report" } "." }
                }
            }
        }
    };
    markup.into_string()
}

/// The word "simulated" after a heading; nothing on a real board.
pub(super) fn word(analysis: &Analysis) -> Markup {
    let word = analysis.simulated_word();
    html! { @if !word.is_empty() { " " span.word { (word) } } }
}

fn head(analysis: &Analysis) -> Markup {
    let board = &analysis.board;
    html! {
        header.top {
            p.kicker { "Wattline report" (word(analysis)) }
            h1 { (analysis.run.as_str()) }
            ul.facts {
                li { "board " b { (board.model) } }
                li { "id " b { (board.id) } }
                li { "started " b { (utc(analysis.started_unix_ns)) } }
                li { "length " b { (span(analysis.ended - analysis.started)) } }
                li { "agent " b { (analysis.agent.version) } }
                li { "kernel " b { (board.kernel) } }
            }
            @if let Some(simulation) = &analysis.simulation {
                div.banner role="note" {
                    p { strong { "Simulated board." }
                        " No rail was measured: every power and energy on this page is simulated." }
                    p { "Chip " (simulation.chip.name()) ", seed " (simulation.seed)
                        ". Load model: " (simulation.load_model) }
                }
            }
            nav aria-label="Sections" {
                a href="#verdict" { "Verdict" }
                a href="#cells" { "Cells" }
                a href="#power" { "The run over time" }
                a href="#figures" { "Figures" }
                a href="#method" { "Method and uncertainty" }
                a href="#repeat" { "How to repeat" }
            }
        }
    }
}

fn cells(analysis: &Analysis) -> Markup {
    html! {
        section #cells {
            h2 { "Cells" (word(analysis)) }
            p { "Energies are gross (all of the window) and net (above the idle baseline), both of "
                (verdict::energy_source(analysis)) ". Intervals are k = 2; "
                a href="#method" { "how they come about" } ". Counts are for one image: MACs are "
                "multiply-accumulates of convolutions and linear layers; G-Ops follow the 2016 "
                "paper: two for each MAC, and biases, activations, pooling and additions." }
            (table::cells(analysis))
            (accuracy::table(analysis))
            (table::failed(analysis))
            (table::windows(analysis))
        }
    }
}

fn timeline(analysis: &Analysis, figures: &Figures) -> Markup {
    html! {
        section #power {
            h2 { "The run over time" (word(analysis)) }
            @match &figures.timeline {
                Ok(figure) => (drawn(figure)),
                Err(why) => p { (why) },
            }
            (table::baselines(analysis))
        }
    }
}

fn groups(analysis: &Analysis, figures: &Figures) -> Markup {
    html! {
        section #figures {
            h2 { "Figures" (word(analysis)) }
            @if figures.groups.is_empty() {
                p { "No cell is in the plan: there is nothing to draw." }
            } @else if analysis.windows.is_empty() {
                p { "No window was measured: there is nothing to draw." }
            } @else {
                @for group in &figures.groups { (one_group(group)) }
            }
        }
    }
}

fn one_group(group: &Group) -> Markup {
    html! {
        @if !group.heading.is_empty() { h3 { (group.heading) } }
        @if !group.figures.is_empty() {
            ul.legend aria-label="Networks" {
                @for (swatch, name) in &group.legend { li { (PreEscaped(swatch)) (name) } }
            }
            div.grid3 { @for figure in &group.figures { (drawn(figure)) } }
        }
        @for why in &group.absent { p { (why) } }
    }
}

/// A figure with its caption; of several drawings, the style shows one.
fn drawn(figure: &Figure) -> Markup {
    let several = figure.drawings.len() > 1;
    html! {
        figure id={ "fig-" (figure.stem) } {
            figcaption.lead {
                b { (figure.title) }
                (figure.note) " "
                a href={ "figures/" (figure.stem) ".svg" } { "SVG" } " "
                a href={ "figures/" (figure.stem) ".csv" } { "CSV" }
            }
            @for (index, drawing) in figure.drawings.iter().enumerate() {
                @if several { div class={ "w" (index) } { (PreEscaped(drawing)) } }
                @else { (PreEscaped(drawing)) }
            }
        }
    }
}
