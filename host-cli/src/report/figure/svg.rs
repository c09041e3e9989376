//! SVG by hand: a handful of shapes, text and a frame around them.
//!
//! Owns escaping, coordinates and the outer element. Written by hand because
//! plotters' SVG backend can emit neither classes (so no dark page from the
//! same bytes), nor `<title>` and `<desc>`, nor hatches, and lays text out by
//! guess without a `viewBox`. Source: SVG 1.1, chapters 5, 9 and 10.

/// Margin around a figure that is a file of its own.
const FILE_MARGIN: f64 = 16.0;

/// A place in the drawing, in user units (px at natural size).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// From the left.
    pub(super) x: f64,
    /// From the top.
    pub(super) y: f64,
}

/// An upright rectangle in the drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    /// Left edge.
    pub(super) x: f64,
    /// Upper edge.
    pub(super) y: f64,
    /// Width.
    pub(super) w: f64,
    /// Height.
    pub(super) h: f64,
}

impl Area {
    /// The right edge.
    pub(super) fn right(self) -> f64 {
        self.x + self.w
    }

    /// The lower edge.
    pub(super) fn bottom(self) -> f64 {
        self.y + self.h
    }
}

/// Shape of a marker; a network's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle on its base.
    Up,
    /// A square on its corner.
    Diamond,
    /// A triangle on its tip.
    Down,
    /// A pentagon.
    Pentagon,
}

impl Marker {
    /// All shapes, in the order in which they are given out.
    pub(super) const ALL: [Self; 6] =
        [Self::Circle, Self::Square, Self::Up, Self::Diamond, Self::Down, Self::Pentagon];

    /// Corners around the middle, in units of the marker's radius.
    fn corners(self) -> &'static [(f64, f64)] {
        match self {
            Self::Circle => &[],
            Self::Square => &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
            Self::Up => &[(0.0, -1.15), (1.08, 0.8), (-1.08, 0.8)],
            Self::Down => &[(0.0, 1.15), (1.08, -0.8), (-1.08, -0.8)],
            Self::Diamond => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            Self::Pentagon => {
                &[(0.0, -1.1), (1.05, -0.34), (0.65, 0.89), (-0.65, 0.89), (-1.05, -0.34)]
            }
        }
    }
}

/// A drawing that grows shape by shape.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
    top: f64,
}

impl Svg {
    /// A drawing whose content begins at `top`, below a title.
    pub(super) fn below(top: f64) -> Self {
        Self { body: String::new(), top }
    }

    /// Where the content begins.
    pub(super) fn top(&self) -> f64 {
        self.top
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: Point, to: Point) {
        let (x1, y1, x2, y2) = (number(from.x), number(from.y), number(to.x), number(to.y));
        self.push(&format!(r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#));
    }

    /// A rectangle, with a tool tip where there is something to say.
    pub(super) fn rect(&mut self, class: &str, area: Area, tip: &str) {
        let (x, y, w, h) = (number(area.x), number(area.y), number(area.w), number(area.h));
        let start = format!(r#"<rect class="{class}" x="{x}" y="{y}" width="{w}" height="{h}""#);
        self.close(&start, "rect", tip);
    }

    /// A path from ready commands.
    pub(super) fn path(&mut self, class: &str, commands: &str) {
        self.push(&format!(r#"<path class="{class}" d="{commands}"/>"#));
    }

    /// Text; `class` says how it is anchored.
    pub(super) fn text(&mut self, class: &str, at: Point, text: &str) {
        let (x, y) = (number(at.x), number(at.y));
        let text = escaped(text);
        self.push(&format!(r#"<text class="{class}" x="{x}" y="{y}">{text}</text>"#));
    }

    /// A marker with a tool tip.
    pub(super) fn marker(&mut self, marker: Marker, class: &str, at: Point, tip: &str) {
        const RADIUS: f64 = 4.0;
        if marker == Marker::Circle {
            let (x, y) = (number(at.x), number(at.y));
            let start = format!(r#"<circle class="{class}" cx="{x}" cy="{y}" r="{RADIUS}""#);
            return self.close(&start, "circle", tip);
        }
        let corners = marker
            .corners()
            .iter()
            .map(|(x, y)| format!("{},{}", number(at.x + x * RADIUS), number(at.y + y * RADIUS)))
            .collect::<Vec<_>>()
            .join(" ");
        self.close(&format!(r#"<polygon class="{class}" points="{corners}""#), "polygon", tip);
    }

    /// A definition of the diagonal hatch, to be filled by `url(#id)`.
    pub(super) fn hatch(&mut self, id: &str) {
        self.push(&format!(
            "<defs><pattern id=\"{id}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><line class=\"hatch\" x1=\"0\" y1=\"0\" x2=\"0\" \
             y2=\"6\"/></pattern></defs>"
        ));
    }

    /// A hatched rectangle with a tool tip.
    pub(super) fn hatched(&mut self, id: &str, area: Area, tip: &str) {
        let (x, y, w, h) = (number(area.x), number(area.y), number(area.w), number(area.h));
        let start = format!(r#"<rect fill="url(#{id})" x="{x}" y="{y}" width="{w}" height="{h}""#);
        self.close(&start, "rect", tip);
    }

    /// The whole drawing as an element of a page, or as a file of its own
    /// where `style` is given.
    pub(super) fn finish(&self, outer: &Outer<'_>) -> String {
        let Outer { id, title, description, width, height, style } = outer;
        let pad = if style.is_some() { FILE_MARGIN } else { 0.0 };
        let (x, w, h) = (number(-pad), number(width + 2.0 * pad), number(height + 2.0 * pad));
        let style = style.map_or_else(String::new, |style| {
            let paper = format!(r#"x="{x}" y="{x}" width="{w}" height="{h}""#);
            format!(r#"<style>{style}</style><rect class="paper" {paper}/>"#)
        });
        let size =
            if style.is_empty() { String::new() } else { format!(r#"width="{w}" height="{h}""#) };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} class=\"fig\" \
             viewBox=\"{x} {x} {w} {h}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{style}\n{}</svg>",
            escaped(title),
            escaped(description),
            self.body
        )
    }

    /// The drawing as an ornament without words, at its natural size.
    pub(super) fn bare(&self, width: f64, height: f64) -> String {
        let (width, height) = (number(width), number(height));
        format!(
            "<svg class=\"swatch\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\">{}</svg>",
            self.body
        )
    }

    fn close(&mut self, start: &str, name: &str, tip: &str) {
        if tip.is_empty() {
            self.push(&format!("{start}/>"));
        } else {
            self.push(&format!("{start}><title>{}</title></{name}>", escaped(tip)));
        }
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

/// What stands around a drawing.
#[derive(Debug)]
pub(super) struct Outer<'a> {
    /// Unique within the page.
    pub(super) id: &'a str,
    /// The accessible title.
    pub(super) title: &'a str,
    /// The accessible description.
    pub(super) description: &'a str,
    /// Natural width.
    pub(super) width: f64,
    /// Natural height.
    pub(super) height: f64,
    /// Own style sheet: for a file, not for a page.
    pub(super) style: Option<&'a str>,
}

/// A coordinate with one decimal at most.
pub(super) fn number(value: f64) -> String {
    let text = format!("{:.1}", value + 0.0);
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// Width of a text in 13 px of a system font, from the advances of the widest
/// one in use (DejaVu Sans): rather too wide than too narrow, because legends
/// and labels are laid out by it.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars()
        .map(|letter| match letter {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ' ' | '·' => 4.4,
            'm' | 'w' | 'M' | 'W' | '…' => 12.6,
            'A'..='Z' => 9.4,
            _ => 8.2,
        })
        .sum()
}

/// Text with the five characters replaced that XML keeps for itself; control
/// characters, which XML 1.0 forbids, become a replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() && !matches!(control, '\n' | '\t') => {
                out.push('\u{fffd}');
            }
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_have_one_decimal_and_no_negative_zero() {
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(12.0), "12");
        assert_eq!(number(-0.01), "0");
    }

    #[test]
    fn text_cannot_open_an_element_or_leave_an_attribute() {
        assert_eq!(escaped("<a b=\"'\">&\u{1}"), "&lt;a b=&quot;&#39;&quot;&gt;&amp;\u{fffd}");
    }
}
