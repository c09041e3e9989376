//! A quantity over the batch size, a line a network.
//!
//! Owns these figures alone: axes by `axis`, drawing by `panel`.

use super::super::text::with_uncertainty;
use super::axis::{Scale, Tick};
use super::facet::Facet;
use super::measure::Measure;
use super::palette::Looks;
use super::panel::{self, Axis, Mark, Panel, Pen, Series};
use super::{Figure, Sketch, csv, figure as finished, legend, simulated_field, titled};
use crate::analysis::model::{Analysis, CellResult, Uncertain, Verdict};

/// Space at both ends of the batch axis, as a ratio.
const BATCH_MARGIN: f64 = 1.25;

/// The figure of `measure`; `Err` says why there is none.
pub(super) fn figure(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
    measure: Measure,
) -> Result<Figure, String> {
    let series = series(facet, looks, measure);
    if series.is_empty() {
        return Err(format!("{}: no cell has a figure.", measure.title()));
    }
    let label = measure.label();
    let panel = Panel {
        x: batch_axis(&facet.batches()),
        y: measured_axis(facet, measure),
        key: has_net(&series).then_some(["gross", "net"]),
        series,
    };
    let title = titled(analysis, &format!("{} over batch size", measure.title()));
    let sketch = Sketch {
        stem: facet.stem(measure.stem()),
        description: format!(
            "{label} over batch size (images) for {}; bars are k = 2 intervals.",
            facet.networks().join(", ")
        ),
        title,
        note: note(facet, measure),
        widths: &[panel::WIDTH],
        legend: entries(facet, looks),
        csv: table(analysis, facet, measure),
    };
    Ok(finished(sketch, |svg, _| panel.draw(svg)))
}

/// The legend of a facet's networks.
pub(super) fn entries(facet: &Facet<'_>, looks: &Looks) -> Vec<legend::Entry> {
    let entry = |name: &str| legend::Entry {
        swatch: legend::Swatch::Network(looks.get(name)),
        name: name.to_owned(),
    };
    facet.networks().into_iter().map(entry).collect()
}

/// The axis of `measure` over all that it draws, intervals included.
pub(super) fn measured_axis(facet: &Facet<'_>, measure: Measure) -> Axis {
    let mut values = Vec::new();
    for cell in &facet.cells {
        for number in [measure.of(cell), measure.net_of(cell)].into_iter().flatten() {
            values.extend([number.value, number.value + number.expanded]);
            // An interval that reaches towards zero must not stretch a logarithm.
            if number.expanded < 0.5 * number.value {
                values.push(number.value - number.expanded);
            }
        }
    }
    let scale = if measure.is_logarithmic() { Scale::log(&values) } else { Scale::linear(&values) };
    Axis { ticks: scale.ticks(), scale, label: measure.label().into() }
}

/// What a reader must know beside the title: what is drawn, and what is not.
pub(super) fn note(facet: &Facet<'_>, measure: Measure) -> String {
    let mut note = measure.note().to_owned();
    let absent = facet.cells.iter().filter(|cell| measure.of(cell).is_none()).count();
    if absent > 0 {
        note.push_str(&format!(" {absent} of {} cells have no figure.", facet.cells.len()));
    }
    let values = facet.cells.iter().flat_map(|cell| [measure.of(cell), measure.net_of(cell)]);
    let hidden = values.flatten().filter(|number| number.value <= 0.0).count();
    if measure.is_logarithmic() && hidden > 0 {
        note.push_str(&format!(" Not drawn: {hidden} at or below zero."));
    }
    note
}

/// The numbers of `measure`, a row a cell.
pub(super) fn table(analysis: &Analysis, facet: &Facet<'_>, measure: Measure) -> String {
    let columns = measure.columns();
    let mut csv = csv::Csv::new(&format!(
        "network,batch_images,precision,device,threads,{columns},verdict,simulated"
    ));
    for cell in &facet.cells {
        let mut row = identity(cell);
        row.extend(measure.fields(cell));
        row.push(cell.judgement.verdict.name().into());
        row.push(simulated_field(analysis));
        csv.row(&row);
    }
    csv.finish()
}

/// The columns that say which cell a row is of.
pub(super) fn identity(cell: &CellResult) -> Vec<String> {
    vec![
        cell.cell.network.clone(),
        cell.cell.batch.to_string(),
        cell.cell.precision.name().into(),
        cell.cell.device.clone(),
        cell.threads.to_string(),
    ]
}

/// A point's words for a pointer.
pub(super) fn tip(cell: &CellResult, number: Uncertain, what: &str) -> String {
    let verdict = match cell.judgement.verdict {
        Verdict::Valid => "",
        Verdict::Flagged => " · flagged",
        Verdict::Invalid => " · invalid",
    };
    let shown = if number.expanded > 0.0 {
        with_uncertainty(number)
    } else {
        super::super::text::plain(number.value)
    };
    format!("{} · batch {} · {shown} {what}{verdict}", cell.cell.network, cell.cell.batch)
}

/// True where the cell is to be drawn pale.
pub(super) fn is_invalid(cell: &CellResult) -> bool {
    cell.judgement.verdict == Verdict::Invalid
}

fn has_net(series: &[Series]) -> bool {
    series.iter().any(|series| series.pen == Pen::Dashed)
}

fn series(facet: &Facet<'_>, looks: &Looks, measure: Measure) -> Vec<Series> {
    let unit = measure.unit();
    let mut all = Vec::new();
    for network in facet.networks() {
        let cells = facet.of_network(network);
        let marks = |pick: &dyn Fn(&CellResult) -> Option<Uncertain>, what: &str| {
            let mark = |cell: &&CellResult| {
                let number = pick(cell)?;
                Some(Mark {
                    x: f64::from(cell.cell.batch),
                    y: number.value,
                    expanded: number.expanded,
                    range: None,
                    invalid: is_invalid(cell),
                    tip: tip(cell, number, what),
                })
            };
            cells.iter().filter_map(mark).collect::<Vec<_>>()
        };
        let look = looks.get(network);
        let net = marks(&|cell| measure.net_of(cell), &format!("{unit} net"));
        let gross = marks(&|cell| measure.of(cell), unit);
        all.push(Series { look, pen: Pen::Dashed, marks: net });
        all.push(Series { look, pen: Pen::Solid, marks: gross });
    }
    all.retain(|series| !series.marks.is_empty());
    all
}

/// The batch axis: base 2, a tick at every batch of the run.
fn batch_axis(batches: &[u32]) -> Axis {
    let first = batches.first().copied().map_or(1.0, f64::from);
    let last = batches.last().copied().map_or(2.0, f64::from);
    let tick = |batch: &u32| Tick { value: f64::from(*batch), label: Some(batch.to_string()) };
    Axis {
        scale: Scale::Log { low: first / BATCH_MARGIN, high: last * BATCH_MARGIN },
        ticks: batches.iter().map(tick).collect(),
        label: "batch size (images)".into(),
    }
}
