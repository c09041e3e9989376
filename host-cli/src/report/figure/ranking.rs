//! A quantity over networks, a row each: for a run with one batch size.
//!
//! Owns these figures alone; a line over a single batch would be no line.

use super::axis::Scale;
use super::facet::Facet;
use super::measure::Measure;
use super::palette::Looks;
use super::svg::{Area, Point, Svg, text_width};
use super::{Figure, Sketch, figure as finished, legend, panel, sweep, titled};
use crate::analysis::model::{Analysis, CellResult, Uncertain};

/// Height of a row.
const ROW: f64 = 22.0;
/// Space above the rows, for the label of the rows and the key.
const ABOVE: f64 = 26.0;
/// Space below them, for ticks and label.
const BELOW: f64 = 42.0;
/// Letters of a network's name that are shown.
const NAME_MAX: usize = 17;

/// The figure of `measure`; `Err` says why there is none.
pub(super) fn figure(
    analysis: &Analysis,
    facet: &Facet<'_>,
    looks: &Looks,
    measure: Measure,
) -> Result<Figure, String> {
    let rows: Vec<&CellResult> =
        facet.cells.iter().copied().filter(|cell| measure.of(cell).is_some()).collect();
    let Some(first) = rows.first() else {
        return Err(format!("{}: no cell has a figure.", measure.title()));
    };
    let batch = first.cell.batch;
    let axis = sweep::measured_axis(facet, measure);
    let title = titled(analysis, &format!("{} at batch {batch}", measure.title()));
    let sketch = Sketch {
        stem: facet.stem(measure.stem()),
        description: format!(
            "{} at batch size {batch} (images) for {}; bars are k = 2 intervals.",
            measure.label(),
            facet.networks().join(", ")
        ),
        title,
        note: sweep::note(facet, measure),
        widths: &[panel::WIDTH],
        legend: Vec::new(),
        csv: sweep::table(analysis, facet, measure),
    };
    let ranking = Ranking { rows, looks, measure, axis, batch };
    Ok(finished(sketch, |svg, _| ranking.draw(svg)))
}

/// Rows ready to be drawn.
struct Ranking<'a> {
    rows: Vec<&'a CellResult>,
    looks: &'a Looks,
    measure: Measure,
    axis: panel::Axis,
    batch: u32,
}

impl Ranking<'_> {
    fn draw(&self, svg: &mut Svg) -> f64 {
        let names = self.rows.iter().map(|cell| legend::short(&cell.cell.network, NAME_MAX));
        let left = names.map(|name| text_width(&name)).fold(40.0, f64::max) + 14.0;
        let plot = Area {
            x: left,
            y: svg.top() + ABOVE,
            w: panel::WIDTH - left - 14.0,
            h: ROW * self.rows.len() as f64,
        };
        self.draw_axis(svg, plot);
        for (index, cell) in self.rows.iter().enumerate() {
            let y = plot.y + ROW * (index as f64 + 0.5);
            let name = legend::short(&cell.cell.network, NAME_MAX);
            let class = if sweep::is_invalid(cell) { "s e pale" } else { "s e" };
            svg.text(class, Point { x: left - 8.0, y: y + 4.5 }, &name);
            svg.line("grid", Point { x: left, y }, Point { x: plot.right(), y });
            self.draw_mark(svg, plot, y, cell, self.measure.net_of(cell), "hollow");
            self.draw_mark(svg, plot, y, cell, self.measure.of(cell), "");
        }
        plot.bottom() + BELOW
    }

    fn draw_axis(&self, svg: &mut Svg, plot: Area) {
        let (bottom, right) = (plot.bottom(), plot.right());
        let rows = format!("network (batch {} images)", self.batch);
        svg.text("l", Point { x: 0.0, y: plot.y - ABOVE + 12.0 }, &rows);
        if self.rows.iter().any(|cell| self.measure.net_of(cell).is_some()) {
            legend::key(svg, right, ["gross", "net"]);
        }
        let mut free_from = f64::NEG_INFINITY;
        for tick in &self.axis.ticks {
            let Some(share) = self.axis.scale.share(tick.value) else { continue };
            let Some(label) = &tick.label else { continue };
            let x = plot.x + share * plot.w;
            svg.line("grid minor", Point { x, y: plot.y }, Point { x, y: bottom });
            let half = text_width(label) / 2.0;
            if x - half > free_from {
                svg.text("t m", Point { x, y: bottom + 17.0 }, label);
                free_from = x + half + 5.0;
            }
        }
        svg.line("axis", Point { x: plot.x, y: bottom }, Point { x: right, y: bottom });
        svg.text("l e", Point { x: right, y: bottom + 36.0 }, &self.axis.label);
    }

    fn draw_mark(
        &self,
        svg: &mut Svg,
        plot: Area,
        y: f64,
        cell: &CellResult,
        number: Option<Uncertain>,
        kind: &str,
    ) {
        let place = |value: f64| {
            self.axis.scale.share(value).map(|share| Point { x: plot.x + share * plot.w, y })
        };
        let Some((number, at)) = number.and_then(|n| Some((n, place(n.value)?))) else { return };
        let look = self.looks.get(&cell.cell.network);
        let pale = if sweep::is_invalid(cell) { "pale" } else { "" };
        let low = match self.axis.scale {
            Scale::Log { low, .. } => low.max(number.value - number.expanded),
            Scale::Linear { .. } => number.value - number.expanded,
        };
        if number.expanded > 0.0
            && let (Some(from), Some(to)) = (place(low), place(number.value + number.expanded))
        {
            panel::draw_interval(svg, &format!("{} err {pale}", look.class()), [from, to]);
        }
        let net = if kind.is_empty() { "" } else { " net" };
        let tip = sweep::tip(cell, number, &format!("{}{net}", self.measure.unit()));
        svg.marker(look.marker, &format!("{} {kind} {pale}", look.class()), at, &tip);
    }
}
