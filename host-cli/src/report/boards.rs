//! `boards.html`: the same cells on several boards, side by side.
//!
//! Owns that page. Compares nothing by itself: each board's own report judges its
//! cells, and is linked. "simulated" stands beside each number that is.

use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use wattline_protocol::record::Cell;

use super::text::{NONE, Rounded, rounded};
use super::{REPORT_FILE, ReportError, replace, style};
use crate::analysis::model::{Analysis, CellResult, Uncertain};

/// Name of the page within the run's directory.
pub const BOARDS_FILE: &str = "boards.html";

/// One board of the page.
#[derive(Debug)]
pub struct BoardColumn {
    /// As it was named.
    pub name: String,
    /// Its run's directory, below the page's.
    pub directory: String,
    /// What was measured, or why there is nothing.
    pub result: Result<Analysis, String>,
}

/// Writes the page into `dir`, whole or not at all; returns its path.
///
/// # Errors
/// [`ReportError`] with the path.
pub fn write_boards(boards: &[BoardColumn], dir: &Path) -> Result<PathBuf, ReportError> {
    let page = dir.join(BOARDS_FILE);
    replace(&page, render_boards(boards).as_bytes())?;
    Ok(page)
}

/// The page as text. Pure: the same boards give the same bytes.
#[must_use]
pub fn render_boards(boards: &[BoardColumn]) -> String {
    let all = boards.iter().filter_map(|board| board.result.as_ref().ok());
    let simulated = all.clone().any(|analysis| analysis.simulation.is_some());
    let rows = rows(boards);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Boards side by side · Wattline report" @if simulated { " (simulated)" } }
                style { (PreEscaped(style::for_page())) }
            }
            body {
                header.top {
                    p.kicker { "Wattline report" }
                    h1 { "Boards side by side" }
                    ul.facts { @for board in boards { li { (of_board(board)) } } }
                }
                main {
                    section #cells {
                        h2 { "Cells" }
                        p { "Each board's own report has its windows, its verdicts and how they come "
                            "about. Intervals are k = 2; energies are gross (all of the window) and "
                            "net (above the idle baseline). The fewest joules of a row are no "
                            "verdict where intervals overlap." }
                        div.box tabindex="0" role="region" aria-label="Cells" {
                            table.cells {
                                caption { span { "The same cells on each board"
                                    @if simulated { ", in part or all simulated" } } }
                                (head(boards))
                                tbody { @for cell in &rows { (row(cell, boards)) } }
                            }
                        }
                    }
                }
                footer { p { "Made by Wattline from the recordings below this directory; "
                    code { "wattline report" } " makes it again." } }
            }
        }
    };
    markup.into_string()
}

fn of_board(board: &BoardColumn) -> Markup {
    html! {
        b { (board.name) } " "
        @match &board.result {
            Ok(analysis) => {
                a href=(format!("{}/{REPORT_FILE}", board.directory)) { (analysis.board.model) }
                (word(analysis))
            }
            Err(why) => { "— no result: " (why) }
        }
    }
}

fn word(analysis: &Analysis) -> Markup {
    let word = analysis.simulated_word();
    html! { @if !word.is_empty() { " " span.word { (word) } } }
}

fn head(boards: &[BoardColumn]) -> Markup {
    html! {
        thead {
            tr.over {
                th.of colspan="4" scope="colgroup" { "asked for" }
                @for board in boards {
                    th.of colspan="4" scope="colgroup" { (board.name)
                        @if let Ok(analysis) = &board.result { (word(analysis)) } }
                }
            }
            tr {
                th scope="col" { "network" } th.n scope="col" { "batch" small { "images" } }
                th scope="col" { "as" small { "precision, device, size" } }
                th.n scope="col" { "threads" }
                @for _ in boards {
                    th.n scope="col" { "time" small { "ms/image ±" } }
                    th.n scope="col" { "gross energy" small { "mJ/image ±" } }
                    th.n scope="col" { "net energy" small { "mJ/image ±" } }
                    th scope="col" { "verdict" }
                }
            }
        }
    }
}

/// What makes two boards' cells the same. Threads are left to each board: `0` is one
/// for each of its cores.
fn is_same(a: &Cell, b: &Cell, threads: Threads) -> bool {
    let asked = |cell: &Cell| {
        (cell.network.clone(), cell.batch, cell.precision, cell.device.clone(), cell.size)
    };
    let rest = |cell: &Cell| (cell.cores.clone(), cell.weights.clone());
    let threads_fit = match threads {
        Threads::OfEachBoard => true,
        Threads::Asked => a.threads == b.threads,
    };
    asked(a) == asked(b) && rest(a) == rest(b) && threads_fit
}

/// Whether cells are told apart by their threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// One number of threads a campaign: each board's own.
    OfEachBoard,
    /// Several were asked for.
    Asked,
}

fn threads_of(boards: &[BoardColumn]) -> Threads {
    let mut all = boards.iter().filter_map(|board| board.result.as_ref().ok());
    if all.any(|analysis| analysis.campaign.threads.len() > 1) {
        Threads::Asked
    } else {
        Threads::OfEachBoard
    }
}

/// Cells of all boards, each once, in the order in which they are met.
fn rows(boards: &[BoardColumn]) -> Vec<Cell> {
    let threads = threads_of(boards);
    let mut rows: Vec<Cell> = Vec::new();
    for analysis in boards.iter().filter_map(|board| board.result.as_ref().ok()) {
        for result in &analysis.cells {
            if !rows.iter().any(|row| is_same(row, &result.cell, threads)) {
                rows.push(result.cell.clone());
            }
        }
    }
    rows
}

fn row(cell: &Cell, boards: &[BoardColumn]) -> Markup {
    let threads = threads_of(boards);
    let found: Vec<Option<(&Analysis, &CellResult)>> = boards
        .iter()
        .map(|board| {
            let analysis = board.result.as_ref().ok()?;
            let same = |result: &&CellResult| is_same(cell, &result.cell, threads);
            Some((analysis, analysis.cells.iter().find(same)?))
        })
        .collect();
    let mut taken: Vec<u16> = found.iter().flatten().map(|(_, result)| result.threads).collect();
    taken.dedup();
    let taken: Vec<String> = taken.iter().map(u16::to_string).collect();
    html! {
        tr {
            th.net scope="row" { (cell.network) } td.n { (cell.batch) }
            td { (cell.precision.name()) ", " (cell.device) ", " (cell.size) " px"
                @if !cell.cores.is_empty() { ", cores " (cell.cores) } }
            td.n { (taken.join(" · ")) }
            @for one in &found {
                @match one {
                    Some((analysis, result)) => (of_cell(analysis, result)),
                    None => { td.n { (NONE) } td.n { (NONE) } td.n { (NONE) } td { "not measured" } }
                }
            }
        }
    }
}

fn of_cell(analysis: &Analysis, result: &CellResult) -> Markup {
    let verdict = result.judgement.verdict.name();
    let reasons: Vec<&str> = result.judgement.reasons.iter().map(|r| r.code()).collect();
    html! {
        td.n { (interval(result.ms_per_image)) }
        td.n { (interval(result.mj_per_image_gross)) (word(analysis)) }
        td.n { (interval(result.mj_per_image_net)) (word(analysis)) }
        td.verdict { span class={ "badge v-" (verdict) } { (verdict) } " "
            span.codes { (reasons.join("; ")) } }
    }
}

fn interval(number: Option<Uncertain>) -> Markup {
    html! {
        @match number.map(rounded) {
            Some(Rounded { value, expanded }) => { (value) " ± " (expanded) }
            None => (NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn column(name: &str, result: Result<Analysis, String>) -> BoardColumn {
        BoardColumn { name: name.into(), directory: name.into(), result }
    }

    #[test]
    fn cells_stand_side_by_side_and_simulated_ones_say_so_beside_each_energy() {
        let mut real = example::simulated();
        real.simulation = None;
        let simulated = example::simulated();
        assert!(simulated.simulation.is_some(), "the example is a simulated run");
        let cells = simulated.cells.len();
        let with = |boards: &[BoardColumn]| render_boards(boards);
        let page = with(&[column("desk", Ok(real)), column("model", Ok(simulated))]);
        assert_eq!(page.matches("<th class=\"net\"").count(), cells);
        // Two energies a cell, the column's head, the list of boards.
        assert_eq!(page.matches("<span class=\"word\">simulated</span>").count(), 2 * cells + 2);
        let mut none = example::simulated();
        none.simulation = None;
        let page = with(&[column("desk", Ok(none)), column("gone", Err("out of <reach>".into()))]);
        assert!(!page.contains("simulated"), "a real board's page has the word");
        assert!(page.contains("no result: out of &lt;reach&gt;") && page.contains("not measured"));
    }
}
