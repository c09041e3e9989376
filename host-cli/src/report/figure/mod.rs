//! The figures of a report: drawings, their files and their numbers.
//!
//! Owns which figures a run gets, and puts frame, title and legend around
//! each drawing. Computes no measured figure: scales and buckets only.
//! What is drawn follows arXiv 1605.07678, figures 2 to 7 and 9, and adds energy.

mod accuracy;
mod axis;
mod csv;
mod facet;
mod legend;
mod measure;
mod operations;
pub(super) mod palette;
mod panel;
mod ranking;
mod svg;
mod sweep;
mod timeline;

use self::facet::Facet;
use self::legend::Entry;
use self::palette::Looks;
use self::svg::{Outer, Point, Svg};
use super::style;
use crate::analysis::model::Analysis;

/// Height of the title in a figure that is a file of its own.
const TITLE_HEIGHT: f64 = 30.0;

/// A figure: for the page, as a file, and as numbers.
#[derive(Debug)]
pub(super) struct Figure {
    /// Name of its files, and its anchor in the page.
    pub(super) stem: String,
    /// Its title, with the word "simulated" where it applies.
    pub(super) title: String,
    /// What a reader must know beside the title.
    pub(super) note: String,
    /// Drawings for the page, of falling width; the page shows one.
    pub(super) drawings: Vec<String>,
    /// The drawing as a file of its own.
    pub(super) file: String,
    /// The numbers that are drawn.
    pub(super) csv: String,
}

/// Figures that share conditions and a legend.
#[derive(Debug)]
pub(super) struct Group {
    /// The conditions in words; empty where the run has one set only.
    pub(super) heading: String,
    /// Swatches with the names of their networks.
    pub(super) legend: Vec<(String, String)>,
    /// The figures.
    pub(super) figures: Vec<Figure>,
    /// What cannot be drawn, and why.
    pub(super) absent: Vec<String>,
}

/// All figures of a run.
#[derive(Debug)]
pub(super) struct Figures {
    /// Power over time; `Err` says why there is none.
    pub(super) timeline: Result<Figure, &'static str>,
    /// Figures of the cells, one group for each set of conditions.
    pub(super) groups: Vec<Group>,
}

impl Figures {
    /// Draws all figures of `analysis`.
    pub(super) fn of(analysis: &Analysis) -> Self {
        let looks = Looks::of(analysis.cells.iter().map(|cell| cell.cell.network.as_str()));
        let facets = facet::of(analysis);
        let groups = facets.iter().map(|facet| group(analysis, facet, &looks)).collect();
        Self { timeline: timeline::figure(analysis), groups }
    }

    /// Every figure, in the order of the page.
    pub(super) fn all(&self) -> impl Iterator<Item = &Figure> {
        let cells = self.groups.iter().flat_map(|group| &group.figures);
        self.timeline.as_ref().ok().into_iter().chain(cells)
    }
}

/// Power over time alone; `Err` says why there is none.
pub(super) fn power_over_time(analysis: &Analysis) -> Result<Figure, &'static str> {
    timeline::figure(analysis)
}

/// What a figure says beside its drawing.
#[derive(Debug)]
struct Sketch<'a> {
    stem: String,
    title: String,
    /// For a reader who does not see the drawing.
    description: String,
    note: String,
    /// Natural widths, falling; the first is that of the file.
    widths: &'a [f64],
    /// Entries below the drawing in its file.
    legend: Vec<Entry>,
    csv: String,
}

/// Where a drawing is being made.
#[derive(Debug)]
struct Canvas {
    /// Prefix of its ids, unique within the page.
    id: String,
    /// Its width.
    width: f64,
}

/// Draws a figure in all its widths; `draw` returns the height it took.
fn figure(sketch: Sketch<'_>, draw: impl Fn(&mut Svg, &Canvas) -> f64) -> Figure {
    let Sketch { stem, title, description, note, widths, legend, csv } = sketch;
    let (title_text, description) = (title.as_str(), description.as_str());
    let drawing = |width: &f64| {
        let canvas = Canvas { id: format!("{stem}-{}", svg::number(*width)), width: *width };
        let mut svg = Svg::default();
        let height = draw(&mut svg, &canvas);
        let Canvas { id, width } = &canvas;
        let (title, width) = (title_text, *width);
        svg.finish(&Outer { id, title, description, width, height, style: None })
    };
    let drawings = widths.iter().map(drawing).collect();
    let width = widths.first().copied().unwrap_or(panel::WIDTH);
    let mut svg = Svg::below(TITLE_HEIGHT);
    svg.text("h", Point { x: 0.0, y: 13.0 }, &title);
    let mut height = draw(&mut svg, &Canvas { id: format!("{stem}-file"), width });
    height += legend::draw(&mut svg, Point { x: 0.0, y: height + 8.0 }, width, &legend) + 8.0;
    let style = style::for_files();
    let outer =
        Outer { id: "figure", title: title_text, description, width, height, style: Some(&style) };
    let file = svg.finish(&outer);
    Figure { stem, title, note, drawings, file, csv }
}

fn group(analysis: &Analysis, facet: &Facet<'_>, looks: &Looks) -> Group {
    let mut figures = Vec::new();
    let mut absent = Vec::new();
    let mut take = |made: Result<Figure, String>| match made {
        Ok(figure) => figures.push(figure),
        Err(why) => absent.push(why),
    };
    let ranked = facet.batches().len() == 1;
    for measure in measure::Measure::ALL {
        take(if ranked {
            ranking::figure(analysis, facet, looks, measure)
        } else {
            sweep::figure(analysis, facet, looks, measure)
        });
    }
    operations::figures(analysis, facet, looks).into_iter().for_each(&mut take);
    accuracy::figures(analysis, facet, looks).into_iter().for_each(take);
    let named = |name: &str| (legend::inline(looks.get(name)), legend::short(name, 40));
    let legend = facet.networks().into_iter().map(named).collect();
    Group { heading: facet.label.clone(), legend, figures, absent }
}

/// A figure's title with the word that a simulated board demands.
fn titled(analysis: &Analysis, title: &str) -> String {
    match analysis.simulated_word() {
        "" => title.to_owned(),
        word => format!("{title} · {word}"),
    }
}

/// The last column of every table of numbers.
fn simulated_field(analysis: &Analysis) -> String {
    let word = analysis.simulated_word();
    if word.is_empty() { "no".into() } else { word.into() }
}
