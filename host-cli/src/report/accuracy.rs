//! The table of accuracies that joined the run.
//!
//! Owns that table alone; which accuracy stands for a cell is the analysis's.

use maud::{Markup, html};

use super::table::boxed;
use super::text::{count, fixed};
use crate::analysis::accuracy::image_sets;
use crate::analysis::model::{Analysis, MeasuredAccuracy};

/// Hexadecimal digits of a digest that are shown.
const DIGITS: usize = 8;

/// Every accuracy measured for this run; nothing where there is none.
pub(super) fn table(analysis: &Analysis) -> Markup {
    let measured = &analysis.accuracies;
    if measured.is_empty() {
        return html! {};
    }
    let sets = image_sets(measured);
    let set = |one: &MeasuredAccuracy| {
        sets.iter().position(|set| *set == one.images_sha256).map_or(0, |place| place + 1)
    };
    let word = analysis.simulated_word();
    boxed(
        "Accuracy",
        &html! {
            table {
                caption { span { "Accuracy, measured apart from this run"
                    @if !word.is_empty() { ", whose power is " (word) }
                    ": one central crop; the range is Wilson's 95 % interval." } }
                thead { tr {
                    th scope="col" { "network" } th scope="col" { "weights" small { "SHA-256" } }
                    th scope="col" { "precision" } th scope="col" { "device" }
                    th.n scope="col" { "image set" } th.n scope="col" { "images" }
                    th.n scope="col" { "corrupt" } th.n scope="col" { "classes" }
                    th.n scope="col" { "top\u{2011}1" small { "%" } }
                    th.n scope="col" { "range" small { "%" } }
                    th.n scope="col" { "top\u{2011}5" small { "%" } }
                    th scope="col" { "drawn beside" }
                } }
                tbody { @for one in measured { tr {
                    th scope="row" { (one.network) }
                    td { (digits(&one.weights_sha256)) }
                    td { (one.precision) } td { (one.device) }
                    td.n { (set(one)) } td.n { (count(one.images)) }
                    td.n { (count(one.corrupt)) } td.n { (count(one.classes)) }
                    td.n { (fixed(one.top1[0], 2)) }
                    td.n { (fixed(one.top1[1], 2)) " to " (fixed(one.top1[2], 2)) }
                    td.n { (one.top5.map_or_else(|| "–".into(), |top5| fixed(top5[0], 2))) }
                    td { (cells(analysis, one)) }
                } } }
            }
        },
    )
}

fn digits(hex: &str) -> String {
    hex.chars().take(DIGITS).collect()
}

/// How many cells of the run have these weights in this precision.
fn cells(analysis: &Analysis, one: &MeasuredAccuracy) -> String {
    let own = analysis.cells.iter().filter(|cell| {
        cell.weights_sha256 == one.weights_sha256
            && cell.cell.precision.name() == one.precision
            && cell.cell.size == one.size
    });
    match own.count() {
        0 => "no cell: other weights, precision or size".into(),
        1 => "1 cell".into(),
        several => format!("{several} cells"),
    }
}
