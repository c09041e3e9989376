//! Legends: swatches with names, laid out in rows that cannot overlap.
//!
//! Owns the flow of entries over a width, and the swatch of a network for the
//! page. Decides no colours: see `palette`.

use super::palette::Look;
use super::svg::{Area, Marker, Point, Svg, text_width};

/// Height of a row.
const ROW: f64 = 18.0;
/// Width of a swatch with the space after it.
const SWATCH: f64 = 24.0;
/// Space after an entry.
const SPACE: f64 = 16.0;
/// Letters of a name that are shown; names come from the board.
const NAME_MAX: usize = 28;

/// What is drawn before a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Swatch {
    /// A line with a network's marker.
    Network(Look),
    /// A line of this class.
    Line(String),
    /// A filled box of this class.
    Box(&'static str),
    /// A hatched box with this pattern.
    Hatched(String),
}

/// An entry: swatch and name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The swatch.
    pub(super) swatch: Swatch,
    /// The name, cut to a sensible length when drawn.
    pub(super) name: String,
}

/// Draws `entries` in rows from `corner` within `width`; returns their height.
pub(super) fn draw(svg: &mut Svg, corner: Point, width: f64, entries: &[Entry]) -> f64 {
    let mut at = corner;
    for entry in entries {
        let name = short(&entry.name, NAME_MAX);
        let length = SWATCH + text_width(&name) + SPACE;
        if at.x > corner.x && at.x + length - SPACE > corner.x + width {
            at = Point { x: corner.x, y: at.y + ROW };
        }
        swatch(svg, at, &entry.swatch);
        svg.text("s", Point { x: at.x + SWATCH, y: at.y + 13.0 }, &name);
        at.x += length;
    }
    if entries.is_empty() { 0.0 } else { at.y + ROW - corner.y }
}

fn swatch(svg: &mut Svg, at: Point, swatch: &Swatch) {
    let middle = at.y + 9.0;
    let ends = |class: &str, svg: &mut Svg| {
        svg.line(class, Point { x: at.x, y: middle }, Point { x: at.x + 18.0, y: middle });
    };
    let frame = Area { x: at.x, y: middle - 5.0, w: 18.0, h: 10.0 };
    match swatch {
        Swatch::Network(look) => {
            ends(&format!("{} line", look.class()), svg);
            svg.marker(look.marker, &look.class(), Point { x: at.x + 9.0, y: middle }, "");
        }
        Swatch::Line(class) => ends(class, svg),
        Swatch::Box(class) => svg.rect(class, frame, ""),
        Swatch::Hatched(id) => svg.hatched(id, frame, ""),
    }
}

/// A network's swatch as a small picture within a line of the page's text;
/// the name stands beside it, so that a screen reader may skip it.
pub(super) fn inline(look: Look) -> String {
    let mut svg = Svg::default();
    let class = look.class();
    svg.line(&format!("{class} line"), Point { x: 0.0, y: 6.0 }, Point { x: 20.0, y: 6.0 });
    svg.marker(look.marker, &class, Point { x: 10.0, y: 6.0 }, "");
    svg.bare(20.0, 12.0)
}

/// The key within a panel: filled and hollow markers with their words.
pub(super) fn key(svg: &mut Svg, right: f64, words: [&str; 2]) {
    let mut x = right;
    for (index, word) in words.into_iter().enumerate().rev() {
        x -= text_width(word);
        svg.text("s", Point { x, y: 12.0 + svg.top() }, word);
        x -= SWATCH;
        let y = 8.0 + svg.top();
        let class = if index == 0 { "neutral line" } else { "neutral line net" };
        svg.line(class, Point { x, y }, Point { x: x + 18.0, y });
        let class = if index == 0 { "neutral" } else { "neutral hollow" };
        svg.marker(Marker::Circle, class, Point { x: x + 9.0, y }, "");
        x -= SPACE * 0.75;
    }
}

/// A name cut to `most` letters, the cut marked.
pub(super) fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
