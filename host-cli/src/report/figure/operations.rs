//! Operations against time per image, a panel a batch size.
//!
//! Owns these figures alone. The paper shows batch 1 and 16; so do we where
//! the run has them, else the smallest and the largest batch.

use super::super::text::{plain, with_uncertainty};
use super::axis::Scale;
use super::facet::Facet;
use super::palette::Looks;
use super::panel::{self, Axis, Mark, Panel, Pen, Series};
use super::{Figure, Sketch, csv, figure as finished, simulated_field, sweep, titled};
use crate::analysis::model::{Analysis, CellResult};

/// The second batch size of the paper's figure 7.
const PAPER_BATCH: u32 = 16;

/// The panels; an `Err` says why one is absent.
pub(super) fn figures(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
) -> Vec<Result<Figure, String>> {
    let drawn: Vec<&CellResult> = facet
        .cells
        .iter()
        .copied()
        .filter(|cell| cell.ms_per_image.is_some() && cell.ops_paper > 0)
        .collect();
    let mut networks: Vec<&str> = drawn.iter().map(|cell| cell.cell.network.as_str()).collect();
    networks.sort_unstable();
    networks.dedup();
    if networks.len() < 2 {
        let why = "Operations against time per image: needs two networks with a figure.";
        return vec![Err(why.into())];
    }
    batches(&drawn)
        .into_iter()
        .map(|batch| Ok(one(analysis, facet, looks, &drawn, batch)))
        .collect()
}

/// The smallest batch, and 16 or the largest.
pub(super) fn batches(drawn: &[&CellResult]) -> Vec<u32> {
    let all = || drawn.iter().map(|cell| cell.cell.batch);
    let first = all().min();
    let second = all().find(|batch| *batch == PAPER_BATCH).or_else(|| all().max());
    let mut both: Vec<u32> = first.into_iter().chain(second).collect();
    both.dedup();
    both
}

fn one(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
    drawn: &[&CellResult],
    batch: u32,
) -> Figure {
    // All panels share their axes, so that they can be held side by side.
    let x: Vec<f64> = drawn.iter().filter_map(|cell| cell.ms_per_image).map(|n| n.value).collect();
    let y: Vec<f64> = drawn.iter().map(|cell| giga(cell.ops_paper)).collect();
    let (x, y) = (Scale::log(&x), Scale::log(&y));
    let cells: Vec<&CellResult> =
        drawn.iter().copied().filter(|cell| cell.cell.batch == batch).collect();
    let panel = Panel {
        x: Axis { ticks: x.ticks(), scale: x, label: "time per image (ms)".into() },
        y: Axis {
            ticks: y.ticks(),
            scale: y,
            label: "operations per image (G-Ops, paper convention)".into(),
        },
        series: cells.iter().filter_map(|cell| series(cell, looks)).collect(),
        key: None,
    };
    let title = format!("Operations against time, batch {batch}");
    let sketch = Sketch {
        stem: facet.stem(&format!("operations_batch_{batch}")),
        title: titled(analysis, &title),
        description: format!(
            "operations per image (G-Ops, paper convention) against time per image (ms) at batch \
             {batch}; bars are k = 2 intervals."
        ),
        note: "G-Ops in the 2016 paper's convention; MACs are in the table.".into(),
        widths: &[panel::WIDTH],
        legend: sweep::entries(facet, looks),
        csv: table(analysis, &cells),
    };
    finished(sketch, |svg, _| panel.draw(svg))
}

fn series(cell: &CellResult, looks: &Looks) -> Option<Series> {
    let time = cell.ms_per_image?;
    let operations = giga(cell.ops_paper);
    let tip = format!(
        "{} · {} ms · {} G-Ops · {} G-MACs",
        cell.cell.network,
        with_uncertainty(time),
        plain(operations),
        plain(giga(cell.macs))
    );
    let mark = Mark {
        x: time.value,
        y: operations,
        expanded: time.expanded,
        range: None,
        invalid: sweep::is_invalid(cell),
        tip,
    };
    Some(Series { look: looks.get(&cell.cell.network), pen: Pen::Scattered, marks: vec![mark] })
}

fn table(analysis: &Analysis, cells: &[&CellResult]) -> String {
    let mut csv = csv::Csv::new(
        "network,batch_images,precision,device,threads,ms_per_image,u_ms_per_image,\
         gops_paper_per_image,gmacs_per_image,params_count,verdict,simulated",
    );
    for cell in cells {
        let mut row = sweep::identity(cell);
        row.push(csv::number(cell.ms_per_image.map(|time| time.value)));
        row.push(csv::number(cell.ms_per_image.map(|time| time.expanded)));
        row.push(csv::number(Some(giga(cell.ops_paper))));
        row.push(csv::number(Some(giga(cell.macs))));
        row.push(cell.params.to_string());
        row.push(cell.judgement.verdict.name().into());
        row.push(simulated_field(analysis));
        csv.row(&row);
    }
    csv.finish()
}

/// In 10⁹.
pub(super) fn giga(count: u64) -> f64 {
    count as f64 / 1e9
}
