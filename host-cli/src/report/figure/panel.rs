//! A panel: one plot with two axes, series of marks and their intervals.
//!
//! Owns the geometry of a small plot. Knows neither networks nor units: it is
//! given scales, labels and marks.

use super::axis::{Scale, Tick};
use super::legend;
use super::palette::Look;
use super::svg::{Area, Point, Svg, number, text_width};

/// Natural width: three side by side on a desk, one on a telephone, where it
/// shrinks to 0.86 and its 13 px letters to 11.
pub(super) const WIDTH: f64 = 400.0;
/// Height of the plot itself.
const PLOT_HEIGHT: f64 = 218.0;
/// Space for the label of the y axis, above the plot.
const ABOVE: f64 = 26.0;
/// Space for ticks and label of the x axis, below it.
const BELOW: f64 = 42.0;
/// Half the width of an interval's cap.
const CAP: f64 = 3.0;

/// One axis.
#[derive(Debug)]
pub(super) struct Axis {
    /// The scale.
    pub(super) scale: Scale,
    /// Its ticks.
    pub(super) ticks: Vec<Tick>,
    /// Quantity and unit.
    pub(super) label: String,
}

/// One measured point.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// Value on the x axis.
    pub(super) x: f64,
    /// Value on the y axis.
    pub(super) y: f64,
    /// Half-width of its interval along the measured axis, k = 2; 0 for none.
    pub(super) expanded: f64,
    /// Ends of an upright interval beside it, which need not be symmetric.
    pub(super) range: Option<[f64; 2]>,
    /// True where the cell is invalid: drawn pale, and not joined.
    pub(super) invalid: bool,
    /// What a pointer shows.
    pub(super) tip: String,
}

/// Marks of one look.
#[derive(Debug)]
pub(super) struct Series {
    /// Hue and shape.
    pub(super) look: Look,
    /// How its marks and lines are made.
    pub(super) pen: Pen,
    /// The marks, in order of x.
    pub(super) marks: Vec<Mark>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pen {
    /// Filled marks on a line, intervals upright.
    Solid,
    /// Hollow marks on a dashed line, intervals upright.
    Dashed,
    /// Filled marks alone, intervals level.
    Scattered,
    /// Hollow marks alone, intervals level.
    Hollow,
}

/// A plot ready to be drawn.
#[derive(Debug)]
pub(super) struct Panel {
    /// The horizontal axis.
    pub(super) x: Axis,
    /// The vertical axis.
    pub(super) y: Axis,
    /// What is drawn.
    pub(super) series: Vec<Series>,
    /// Words for solid and dashed, where both are used.
    pub(super) key: Option<[&'static str; 2]>,
}

impl Panel {
    /// Draws the panel and returns its height.
    pub(super) fn draw(&self, svg: &mut Svg) -> f64 {
        let plot = self.plot(svg.top());
        self.draw_axes(svg, plot);
        if let Some(words) = self.key {
            legend::key(svg, plot.right(), words);
        }
        for series in &self.series {
            self.draw_line(svg, plot, series);
        }
        for series in &self.series {
            self.draw_marks(svg, plot, series);
        }
        plot.bottom() + BELOW
    }

    fn plot(&self, top: f64) -> Area {
        let labels = self.y.ticks.iter().filter_map(|tick| tick.label.as_deref());
        let left = 12.0 + labels.map(text_width).fold(20.0, f64::max);
        Area { x: left, y: top + ABOVE, w: WIDTH - left - 10.0, h: PLOT_HEIGHT }
    }

    fn draw_axes(&self, svg: &mut Svg, plot: Area) {
        let (left, right, bottom) = (plot.x, plot.right(), plot.bottom());
        svg.text("l", Point { x: 0.0, y: plot.y - ABOVE + 12.0 }, &self.y.label);
        svg.text("l e", Point { x: right, y: bottom + 36.0 }, &self.x.label);
        for tick in &self.y.ticks {
            let Some(y) = self.y.scale.share(tick.value).map(|share| bottom - share * plot.h)
            else {
                continue;
            };
            let class = if tick.label.is_some() { "grid" } else { "grid minor" };
            svg.line(class, Point { x: left, y }, Point { x: right, y });
            if let Some(label) = &tick.label {
                svg.text("t e", Point { x: left - 6.0, y: y + 4.5 }, label);
            }
        }
        let mut free_from = f64::NEG_INFINITY;
        for tick in &self.x.ticks {
            let Some(x) = self.x.scale.share(tick.value).map(|share| left + share * plot.w) else {
                continue;
            };
            let Some(label) = &tick.label else { continue };
            svg.line("tick", Point { x, y: bottom }, Point { x, y: bottom + 4.0 });
            let half = text_width(label) / 2.0;
            if x - half > free_from {
                svg.text("t m", Point { x, y: bottom + 17.0 }, label);
                free_from = x + half + 5.0;
            }
        }
        svg.line("axis", Point { x: left, y: bottom }, Point { x: right, y: bottom });
    }

    fn place(&self, plot: Area, x: f64, y: f64) -> Option<Point> {
        Some(Point {
            x: plot.x + self.x.scale.share(x)? * plot.w,
            y: plot.bottom() - self.y.scale.share(y)? * plot.h,
        })
    }

    fn draw_line(&self, svg: &mut Svg, plot: Area, series: &Series) {
        let class = match series.pen {
            Pen::Solid => format!("{} line", series.look.class()),
            Pen::Dashed => format!("{} line net", series.look.class()),
            Pen::Scattered | Pen::Hollow => return,
        };
        let joined = series.marks.iter().filter(|mark| !mark.invalid);
        let places: Vec<Point> =
            joined.filter_map(|mark| self.place(plot, mark.x, mark.y)).collect();
        if places.len() > 1 {
            svg.path(&class, &polyline(&places));
        }
    }

    fn draw_marks(&self, svg: &mut Svg, plot: Area, series: &Series) {
        for mark in &series.marks {
            let Some(at) = self.place(plot, mark.x, mark.y) else { continue };
            let pale = if mark.invalid { " pale" } else { "" };
            let hue = series.look.class();
            if let Some(ends) = self.interval(plot, series.pen, mark) {
                draw_interval(svg, &format!("{hue} err{pale}"), ends);
            }
            if let Some([low, high]) = mark.range
                && let (Some(from), Some(to)) =
                    (self.place(plot, mark.x, low), self.place(plot, mark.x, high))
            {
                draw_interval(svg, &format!("{hue} err{pale}"), [from, to]);
            }
            let hollow = match series.pen {
                Pen::Dashed | Pen::Hollow => " hollow",
                Pen::Solid | Pen::Scattered => "",
            };
            svg.marker(series.look.marker, &format!("{hue}{hollow}{pale}"), at, &mark.tip);
        }
    }

    /// Both ends of a mark's interval, cut where the axis ends.
    fn interval(&self, plot: Area, pen: Pen, mark: &Mark) -> Option<[Point; 2]> {
        if !(mark.expanded.is_finite() && mark.expanded > 0.0) {
            return None;
        }
        // Below the smallest value that a logarithmic axis shows, its start.
        let below = |value: f64| if value > mark.expanded { value - mark.expanded } else { 1e-300 };
        match pen {
            Pen::Scattered | Pen::Hollow => Some([
                self.place(plot, below(mark.x), mark.y)?,
                self.place(plot, mark.x + mark.expanded, mark.y)?,
            ]),
            Pen::Solid | Pen::Dashed => Some([
                self.place(plot, mark.x, below(mark.y))?,
                self.place(plot, mark.x, mark.y + mark.expanded)?,
            ]),
        }
    }
}

/// An interval as a line with caps across its ends.
pub(super) fn draw_interval(svg: &mut Svg, class: &str, [from, to]: [Point; 2]) {
    let upright = (from.x - to.x).abs() < 1e-9;
    let (dx, dy) = if upright { (CAP, 0.0) } else { (0.0, CAP) };
    svg.line(class, from, to);
    for end in [from, to] {
        let (start, stop) =
            (Point { x: end.x - dx, y: end.y - dy }, Point { x: end.x + dx, y: end.y + dy });
        svg.line(class, start, stop);
    }
}

/// A path through `places`.
pub(super) fn polyline(places: &[Point]) -> String {
    let mut commands = String::new();
    for (index, place) in places.iter().enumerate() {
        commands.push(if index == 0 { 'M' } else { 'L' });
        commands.push_str(&number(place.x));
        commands.push(' ');
        commands.push_str(&number(place.y));
    }
    commands
}
