//! Accuracy against operations, time per image and energy per image.
//!
//! Owns these figures alone; which accuracy stands for a cell is the
//! analysis's. After figures 2 and 9 of arXiv 1605.07678, and energy. Filled
//! marks are measured, hollow ones published.

use super::super::text::plain;
use super::axis::Scale;
use super::facet::Facet;
use super::measure::Measure;
use super::operations::{batches, giga};
use super::palette::Looks;
use super::panel::{self, Axis, Mark, Panel, Pen, Series};
use super::{Figure, Sketch, csv, figure as finished, simulated_field, sweep, titled};
use crate::analysis::accuracy::{accuracy_of, image_sets};
use crate::analysis::model::{Accuracy, AccuracyOrigin, Analysis, CellResult, Uncertain};
use wattline_protocol::paper2017::paper_2017;

/// What accuracy is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    /// Operations for one image; the batch does not matter.
    Operations,
    /// A measured quantity at one batch size.
    Measured(Measure),
}

impl Against {
    const fn stem(self) -> &'static str {
        match self {
            Self::Operations => "accuracy_operations",
            Self::Measured(Measure::Energy) => "accuracy_energy",
            Self::Measured(_) => "accuracy_time",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Measured(Measure::Energy) => "energy",
            Self::Measured(_) => "time",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Operations => "operations per image (G-Ops, paper convention)",
            Self::Measured(measure) => measure.label(),
        }
    }

    fn of(self, cell: &CellResult) -> Option<Uncertain> {
        match self {
            Self::Operations if cell.ops_paper == 0 => None,
            Self::Operations => Some(Uncertain { value: giga(cell.ops_paper), expanded: 0.0 }),
            Self::Measured(measure) => measure.of(cell),
        }
    }
}

/// One set of images, and what distinguishes its files and titles.
struct ImageSet<'a> {
    digest: Option<&'a str>,
    stem: String,
    words: String,
}

/// A cell with its accuracy and its place on the other axis.
struct Point<'a> {
    cell: &'a CellResult,
    accuracy: Accuracy,
    x: Uncertain,
}

/// The figures; an `Err` says why they are absent.
pub(super) fn figures(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
) -> Vec<Result<Figure, String>> {
    let mut figures = Vec::new();
    for set in sets(analysis) {
        let drawn = points(analysis, facet, &set, Against::Operations);
        if drawn.len() < 2 {
            let words = &set.words;
            figures.push(Err(format!(
                "Accuracy{words}: needs two networks with an accuracy, measured or published."
            )));
            continue;
        }
        figures.push(Ok(one(analysis, facet, looks, &set, (Against::Operations, None))));
        let timed: Vec<&CellResult> =
            facet.cells.iter().copied().filter(|cell| cell.ms_per_image.is_some()).collect();
        for measure in [Measure::Time, Measure::Energy] {
            for batch in batches(&timed) {
                let what = (Against::Measured(measure), Some(batch));
                figures.push(Ok(one(analysis, facet, looks, &set, what)));
            }
        }
    }
    figures
}

fn sets(analysis: &Analysis) -> Vec<ImageSet<'_>> {
    let digests = image_sets(&analysis.accuracies);
    let several = digests.len() > 1;
    let named = |(index, digest): (usize, &&'_ str)| {
        let number = index + 1;
        let words = if several { format!(" over image set {number}") } else { String::new() };
        let stem = if several { format!("_images_{number}") } else { String::new() };
        (stem, words, (*digest).to_owned())
    };
    if digests.is_empty() {
        return vec![ImageSet { digest: None, stem: String::new(), words: String::new() }];
    }
    let parts: Vec<_> = digests.iter().enumerate().map(named).collect();
    digests
        .into_iter()
        .zip(parts)
        .map(|(digest, (stem, words, _))| ImageSet { digest: Some(digest), stem, words })
        .collect()
}

/// One point a network and set of weights for operations, else one a cell.
fn points<'a>(
    analysis: &Analysis,
    facet: &Facet<'a>,
    set: &ImageSet<'_>,
    against: Against,
) -> Vec<Point<'a>> {
    let mut points: Vec<Point<'a>> = Vec::new();
    for cell in &facet.cells {
        let again = points.iter().any(|point| {
            point.cell.cell.network == cell.cell.network
                && point.cell.weights_sha256 == cell.weights_sha256
        });
        if against == Against::Operations && again {
            continue;
        }
        let Some(accuracy) = accuracy_of(&analysis.accuracies, set.digest, cell) else { continue };
        let Some(x) = against.of(cell) else { continue };
        points.push(Point { cell, accuracy, x });
    }
    points
}

fn one(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
    set: &ImageSet<'_>,
    (against, batch): (Against, Option<u32>),
) -> Figure {
    let all = points(analysis, facet, set, against);
    // Panels of all batches share their axes, so that they can be held side by side.
    let x = Scale::log(&all.iter().map(|point| point.x.value).collect::<Vec<f64>>());
    let y = Scale::linear(&all.iter().flat_map(|point| point.accuracy.top1).collect::<Vec<f64>>());
    let points: Vec<Point<'_>> = all
        .into_iter()
        .filter(|point| batch.is_none_or(|batch| point.cell.cell.batch == batch))
        .collect();
    let panel = Panel {
        x: Axis { ticks: x.ticks(), scale: x, label: against.label().into() },
        y: Axis { ticks: y.ticks(), scale: y, label: "top-1 accuracy (%)".into() },
        series: points.iter().map(|point| series(point, against, looks)).collect(),
        key: Some(["measured", "published"]),
    };
    let at = batch.map_or_else(String::new, |batch| format!(", batch {batch}"));
    let stem = batch.map_or_else(
        || format!("{}{}", against.stem(), set.stem),
        |batch| format!("{}{}_batch_{batch}", against.stem(), set.stem),
    );
    let title = format!("Accuracy against {}{at}{}", against.words(), set.words);
    let sketch = Sketch {
        stem: facet.stem(&stem),
        title: titled(analysis, &title),
        description: format!(
            "top-1 accuracy (%) against {}{at}; upright bars are 95 % intervals (Wilson) of \
             measured accuracies, level ones k = 2; hollow marks are published accuracies.",
            against.label()
        ),
        note: note(&points),
        widths: &[panel::WIDTH],
        legend: sweep::entries(facet, looks),
        csv: table(analysis, against, &points),
    };
    finished(sketch, |svg, _| panel.draw(svg))
}

fn note(points: &[Point<'_>]) -> String {
    let measured = points.iter().filter(|point| is_measured(point)).count();
    match (measured, points.len()) {
        (0, _) => "Every accuracy here is published, none was measured (ImageNet-1k, one central \
                   crop); the sources are in the CSV."
            .into(),
        (measured, all) if measured == all => "One central crop; bars are 95 % intervals.".into(),
        _ => "Filled: measured over this run's images. Hollow: published, not measured \
              (ImageNet-1k, one central crop); the sources are in the CSV."
            .into(),
    }
}

fn is_measured(point: &Point<'_>) -> bool {
    matches!(point.accuracy.origin, AccuracyOrigin::Measured { .. })
}

fn series(point: &Point<'_>, against: Against, looks: &Looks) -> Series {
    let [top1, low, high] = point.accuracy.top1;
    let cell = point.cell;
    let (origin, pen) = match &point.accuracy.origin {
        AccuracyOrigin::Measured { images, .. } => {
            (format!("measured over {images} images"), Pen::Scattered)
        }
        AccuracyOrigin::Published { source } => (format!("published: {source}"), Pen::Hollow),
    };
    let place = match against {
        Against::Operations => format!("{} G-Ops", plain(point.x.value)),
        Against::Measured(measure) => {
            format!("batch {} · {} {}", cell.cell.batch, plain(point.x.value), measure.unit())
        }
    };
    let params = plain(cell.params as f64 / 1e6);
    let mark = Mark {
        x: point.x.value,
        y: top1,
        expanded: point.x.expanded,
        range: is_measured(point).then_some([low, high]),
        invalid: against != Against::Operations && sweep::is_invalid(cell),
        tip: format!(
            "{} · top-1 {} % · {place} · {params} M parameters · {origin}",
            cell.cell.network,
            plain(top1)
        ),
    };
    Series { look: looks.get(&cell.cell.network), pen, marks: vec![mark] }
}

fn table(analysis: &Analysis, against: Against, points: &[Point<'_>]) -> String {
    let columns = match against {
        Against::Operations => "gops_paper_per_image,u_gops_paper_per_image",
        Against::Measured(Measure::Energy) => "mj_per_image_gross,u_mj_per_image_gross",
        Against::Measured(_) => "ms_per_image,u_ms_per_image",
    };
    let mut csv = csv::Csv::new(&format!(
        "network,batch_images,precision,device,threads,{columns},params_count,top1_percent,\
         top1_low_percent,top1_high_percent,top5_percent,accuracy,accuracy_source,\
         top1_paper_2017_percent,gops_paper_2017,verdict,simulated"
    ));
    for point in points {
        let cell = point.cell;
        let [top1, low, high] = point.accuracy.top1;
        let (kind, source) = match &point.accuracy.origin {
            AccuracyOrigin::Measured { images, device } => {
                ("measured", format!("{images} images on {device}"))
            }
            AccuracyOrigin::Published { source } => ("published", source.clone()),
        };
        let measured = is_measured(point);
        let paper = paper_2017(&cell.cell.network);
        let mut row = sweep::identity(cell);
        row.extend([csv::number(Some(point.x.value)), csv::number(Some(point.x.expanded))]);
        row.push(cell.params.to_string());
        row.push(csv::number(Some(top1)));
        row.push(csv::number(measured.then_some(low)));
        row.push(csv::number(measured.then_some(high)));
        row.push(csv::number(point.accuracy.top5.map(|[percent, ..]| percent)));
        row.extend([kind.to_owned(), source]);
        row.push(csv::number(paper.map(|row| row.top1_percent)));
        row.push(csv::number(paper.map(|row| row.gops)));
        row.push(cell.judgement.verdict.name().into());
        row.push(simulated_field(analysis));
        csv.row(&row);
    }
    csv.finish()
}
