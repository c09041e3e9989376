//! Power over time: rails as band and mean, windows shaded by verdict.
//!
//! Owns this figure alone. A gap in the samples stays open: nothing is
//! interpolated. Points are merged to the width of the drawing, extremes kept.

use super::super::text::{fixed, place};
use super::axis::Scale;
use super::legend::{self, Entry, Swatch};
use super::panel::polyline;
use super::svg::{Area, Point, Svg, text_width};
use super::{Canvas, Figure, Sketch, csv, figure as finished, simulated_field, titled};
use crate::analysis::model::{Analysis, TracePoint, Verdict, WindowResult};
use wattline_protocol::record::RailRole;
use wattline_protocol::units::BoardTime;

/// Natural widths: desk, tablet and paper, telephone.
const WIDTHS: [f64; 3] = [1120.0, 700.0, 400.0];
/// Height of the plot itself.
const PLOT_HEIGHT: f64 = 230.0;
/// Height of the strip of verdicts above the plot.
const STRIP: f64 = 6.0;
/// Space for a window's name above the strip.
const NAMES: f64 = 16.0;
/// Points drawn for one px of width, at most.
const POINTS_PER_PX: f64 = 1.0;
/// Px between ticks of the time axis, about.
const TICK_DISTANCE: f64 = 80.0;
/// Hues of the parts; the total has the ink.
const PART_HUES: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// The figure; `Err` says why there is none.
pub(super) fn figure(analysis: &Analysis) -> Result<Figure, &'static str> {
    let has_samples =
        analysis.traces.iter().any(|trace| trace.segments.iter().any(|s| !s.is_empty()));
    if !has_samples {
        return Err(if analysis.windows.is_empty() {
            "No window and no sample: there is no power to draw."
        } else {
            "No sample is in the recording: there is no power to draw."
        });
    }
    let timeline = Timeline::of(analysis);
    let note = if analysis.windows.is_empty() {
        "No window was measured. Line: mean; band: smallest to largest; gaps are left open."
    } else {
        "Line: mean; band: smallest to largest; gaps are left open. Shaded: windows, by verdict."
    };
    let sketch = Sketch {
        stem: "power_over_time".into(),
        title: titled(analysis, "Power over time"),
        description: format!(
            "Power (W) of {} rails over time since the start ({}), with {} windows and {} idle \
             windows.",
            analysis.traces.len(),
            timeline.unit.0,
            analysis.windows.len(),
            analysis.baselines.len()
        ),
        note: note.into(),
        widths: &WIDTHS,
        legend: Vec::new(),
        csv: table(analysis),
    };
    Ok(finished(sketch, |svg, canvas| timeline.draw(svg, canvas)))
}

/// Scales of the drawing.
struct Timeline<'a> {
    analysis: &'a Analysis,
    x: Scale,
    y: Scale,
    /// Unit of time and its length in seconds.
    unit: (&'static str, f64),
}

impl<'a> Timeline<'a> {
    fn of(analysis: &'a Analysis) -> Self {
        let length = (analysis.ended - analysis.started).as_seconds().0;
        let unit = match length {
            short if short < 240.0 => ("s", 1.0),
            medium if medium < 3.0 * 3600.0 => ("min", 60.0),
            _ => ("h", 3600.0),
        };
        let points = || analysis.traces.iter().flat_map(|trace| trace.segments.iter().flatten());
        let values: Vec<f64> = points().flat_map(|point| [point.min_w, point.max_w]).collect();
        Self { analysis, x: Scale::exact(0.0, length / unit.1), y: Scale::from_zero(&values), unit }
    }

    fn draw(&self, svg: &mut Svg, canvas: &Canvas) -> f64 {
        let hatch = format!("{}-hatch", canvas.id);
        svg.hatch(&hatch);
        let corner = Point { x: 0.0, y: svg.top() };
        let legend = legend::draw(svg, corner, canvas.width, &self.legend(&hatch));
        let labels = self.y.ticks().into_iter().filter_map(|tick| tick.label);
        let left = 12.0 + labels.map(|label| text_width(&label)).fold(20.0, f64::max);
        let top = svg.top() + legend + 30.0 + NAMES + STRIP;
        let plot = Area { x: left, y: top, w: canvas.width - left - 12.0, h: PLOT_HEIGHT };
        svg.text("l", Point { x: 0.0, y: svg.top() + legend + 18.0 }, "power (W)");
        self.draw_windows(svg, plot, &hatch);
        self.draw_axes(svg, plot);
        self.draw_traces(svg, plot);
        plot.bottom() + 42.0
    }

    fn legend(&self, hatch: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (class, name) in self.rails() {
            entries.push(Entry { swatch: Swatch::Line(format!("{class} line")), name });
        }
        for verdict in [Verdict::Valid, Verdict::Flagged, Verdict::Invalid] {
            if self.analysis.windows.iter().any(|w| w.judgement.verdict == verdict) {
                let name = format!("window: {}", verdict.name());
                entries.push(Entry { swatch: Swatch::Box(strip_class(verdict)), name });
            }
        }
        if !self.analysis.baselines.is_empty() {
            entries.push(Entry { swatch: Swatch::Hatched(hatch.into()), name: "idle".into() });
        }
        entries
    }

    /// Class and name of every trace's rail.
    fn rails(&self) -> Vec<(String, String)> {
        let mut parts = PART_HUES.iter().cycle();
        let traces = self.analysis.traces.iter();
        traces
            .map(|trace| match self.analysis.rails.get(trace.rail) {
                Some(rail) if rail.role == RailRole::Total => {
                    ("c0 total".to_owned(), format!("{} (total)", legend::short(&rail.name, 20)))
                }
                other => {
                    let hue = parts.next().copied().unwrap_or(1);
                    let name = other.map_or("rail", |rail| rail.name.as_str());
                    (format!("c{hue}"), legend::short(name, 20))
                }
            })
            .collect()
    }

    /// Where an instant lies; instants outside the run lie on its edges.
    fn at(&self, plot: Area, time: BoardTime) -> f64 {
        let since = (time - self.analysis.started).as_seconds().0 / self.unit.1;
        plot.x + self.x.share(since).unwrap_or(0.0) * plot.w
    }

    fn height(&self, plot: Area, watts: f64) -> f64 {
        plot.bottom() - self.y.share(watts).unwrap_or(0.0) * plot.h
    }

    fn draw_windows(&self, svg: &mut Svg, plot: Area, hatch: &str) {
        for idle in &self.analysis.baselines {
            let tip = format!("idle, {}", place(idle.place));
            svg.hatched(hatch, self.shade(plot, idle.t0, idle.t1), &tip);
        }
        for window in &self.analysis.windows {
            let area = self.shade(plot, window.t0, window.t1);
            let verdict = window.judgement.verdict;
            let (name, tip) = self.words(window);
            svg.rect(shade_class(verdict), area, &tip);
            let strip = Area { y: plot.y - STRIP, h: STRIP, ..area };
            svg.rect(strip_class(verdict), strip, &tip);
            if text_width(&name) + 6.0 < area.w {
                let middle = Point { x: area.x + area.w / 2.0, y: plot.y - STRIP - 5.0 };
                svg.text("t m", middle, &name);
            }
        }
    }

    fn shade(&self, plot: Area, from: BoardTime, to: BoardTime) -> Area {
        let (x, end) = (self.at(plot, from), self.at(plot, to));
        Area { x, y: plot.y, w: (end - x).max(0.5), h: plot.h }
    }

    fn words(&self, window: &WindowResult) -> (String, String) {
        let cell = self.analysis.cells.iter().find(|cell| cell.cell.cell == window.cell);
        let name = cell.map_or_else(
            || format!("cell {}", window.cell),
            |cell| format!("{} · {}", legend::short(&cell.cell.network, 20), cell.cell.batch),
        );
        let length = fixed(window.length().as_seconds().0, 1);
        let verdict = window.judgement.verdict.name();
        let tip = format!("window {}: {name}, {length} s, {verdict}", window.window);
        (name, tip)
    }

    fn draw_axes(&self, svg: &mut Svg, plot: Area) {
        let bottom = plot.bottom();
        for tick in self.y.ticks() {
            let y = self.height(plot, tick.value);
            svg.line("grid", Point { x: plot.x, y }, Point { x: plot.right(), y });
            let label = tick.label.unwrap_or_default();
            svg.text("t e", Point { x: plot.x - 6.0, y: y + 4.5 }, &label);
        }
        for tick in self.x.ticks_about(plot.w / TICK_DISTANCE) {
            let x = plot.x + self.x.share(tick.value).unwrap_or(0.0) * plot.w;
            svg.line("tick", Point { x, y: bottom }, Point { x, y: bottom + 4.0 });
            svg.text("t m", Point { x, y: bottom + 17.0 }, &tick.label.unwrap_or_default());
        }
        svg.line("axis", Point { x: plot.x, y: bottom }, Point { x: plot.right(), y: bottom });
        let label = format!("time since the start ({})", self.unit.0);
        svg.text("l e", Point { x: plot.right(), y: bottom + 36.0 }, &label);
    }

    /// Parts first, so that the total lies on top.
    fn draw_traces(&self, svg: &mut Svg, plot: Area) {
        let mut traces: Vec<_> = self.analysis.traces.iter().zip(self.rails()).collect();
        traces.sort_by_key(|(_, (class, _))| class.contains("total"));
        for (trace, (class, _)) in traces {
            let points: usize = trace.segments.iter().map(Vec::len).sum();
            for segment in trace.segments.iter().filter(|segment| !segment.is_empty()) {
                let share = (points as f64 / (plot.w * POINTS_PER_PX)).max(1.0);
                self.draw_segment(svg, plot, &class, &merged(segment, share));
            }
        }
    }

    fn draw_segment(&self, svg: &mut Svg, plot: Area, class: &str, points: &[TracePoint]) {
        let place = |point: &TracePoint, watts: f64| Point {
            x: self.at(plot, point.at),
            y: self.height(plot, watts),
        };
        let upper = points.iter().map(|point| place(point, point.max_w));
        let lower = points.iter().rev().map(|point| place(point, point.min_w));
        let band: Vec<Point> = upper.chain(lower).collect();
        svg.path(&format!("{class} band"), &format!("{}Z", polyline(&band)));
        let mut line: Vec<Point> = points.iter().map(|point| place(point, point.mean_w)).collect();
        // A stretch of one point is drawn as a short dash.
        if let [only] = line.as_slice() {
            line.push(Point { x: only.x + 1.0, y: only.y });
        }
        svg.path(&format!("{class} line"), &polyline(&line));
    }
}

/// `points` merged in runs of about `share`; extremes stay, means are averaged.
fn merged(points: &[TracePoint], share: f64) -> Vec<TracePoint> {
    let run = usize::try_from(super::super::text::floor_i32(share.ceil())).unwrap_or(1).max(1);
    let merge = |run: &[TracePoint]| {
        let middle = run.get(run.len() / 2)?;
        Some(TracePoint {
            at: middle.at,
            min_w: run.iter().map(|point| point.min_w).fold(f64::INFINITY, f64::min),
            mean_w: run.iter().map(|point| point.mean_w).sum::<f64>() / run.len() as f64,
            max_w: run.iter().map(|point| point.max_w).fold(f64::NEG_INFINITY, f64::max),
        })
    };
    points.chunks(run).filter_map(merge).collect()
}

const fn shade_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "shade good",
        Verdict::Flagged => "shade warn",
        Verdict::Invalid => "shade bad",
    }
}

const fn strip_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "good",
        Verdict::Flagged => "warn",
        Verdict::Invalid => "bad",
    }
}

/// Rows of kind `rail` (a bucket of a trace), `window` and `idle`.
fn table(analysis: &Analysis) -> String {
    let mut csv = csv::Csv::new(
        "kind,name,segment,from_s,to_s,min_power_w,mean_power_w,max_power_w,verdict,simulated",
    );
    let since = |time: BoardTime| format!("{:.6}", (time - analysis.started).as_seconds().0);
    let word = simulated_field(analysis);
    for trace in &analysis.traces {
        let name = analysis.rails.get(trace.rail).map_or("", |rail| rail.name.as_str());
        for (index, segment) in trace.segments.iter().enumerate() {
            for point in segment {
                let at = since(point.at);
                let watts = [point.min_w, point.mean_w, point.max_w];
                let mut row = vec!["rail".into(), name.into(), index.to_string(), at.clone(), at];
                row.extend(watts.map(|watts| csv::number(Some(watts))));
                row.extend([String::new(), word.clone()]);
                csv.row(&row);
            }
        }
    }
    let mut span = |kind: &str, name: String, [from, to]: [BoardTime; 2], watts, verdict: &str| {
        let power = csv::number(watts);
        let (empty, kind, verdict) = (String::new(), kind.into(), verdict.into());
        let (from, to) = (since(from), since(to));
        let row = [
            kind,
            name,
            empty.clone(),
            from,
            to,
            empty.clone(),
            power,
            empty,
            verdict,
            word.clone(),
        ];
        csv.row(&row);
    };
    for idle in &analysis.baselines {
        let name = place(idle.place).to_owned();
        span("idle", name, [idle.t0, idle.t1], Some(idle.power.0), "");
    }
    for window in &analysis.windows {
        let verdict = window.judgement.verdict.name();
        span("window", window.window.to_string(), [window.t0, window.t1], None, verdict);
    }
    csv.finish()
}
