//! Style sheets of the page and of figures that are files.
//!
//! Owns how colours reach both: the page switches by variables between light
//! and dark; a file carries the light values themselves, because converters
//! for print understand classes but not variables.

use super::figure::palette::COLOURS;

const PAGE: &str = include_str!("page.css");
const FIGURE: &str = include_str!("figure.css");
/// Paper is light, and lies on its side: the table of cells is wide.
const PRINT: &str = "@page{size:landscape;margin:12mm}\
    html{font-size:12px}body{font-size:8.5pt}nav,details{display:none}h2,h3{break-after:avoid}\
    h2{margin-top:22px}figure,tr,.strip,pre,dl.notes>*{break-inside:avoid}\
    .box{overflow:visible}table,table.cells,table.cells.wide{font-size:6.6pt}\
    table th,table td,table.cells th,table.cells td{padding:1.5px 3px}\
    td.verdict,td.long{min-width:0;white-space:normal}tbody th.net{position:static}\
    .w0{display:block}.w1,.w2{display:none}\
    .grid3{grid-template-columns:repeat(3,minmax(0,1fr))}";

/// The style sheet of the page.
pub(super) fn for_page() -> String {
    let light = variables(|(_, light, _)| light);
    let dark = variables(|(_, _, dark)| dark);
    format!(
        ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n\
         {PAGE}{FIGURE}@media print{{:root{{color-scheme:light}}{PRINT}}}\n"
    )
}

/// The style sheet of a figure that is a file of its own.
pub(super) fn for_files() -> String {
    COLOURS.iter().fold(FIGURE.to_owned(), |style, (name, light, _)| {
        style.replace(&format!("var(--{name})"), light)
    })
}

type Colour = (&'static str, &'static str, &'static str);

fn variables(value: impl Fn(Colour) -> &'static str) -> String {
    COLOURS.iter().map(|colour| format!("--{}:{};", colour.0, value(*colour))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_no_variables_and_neither_needs_the_network() {
        assert!(!for_files().contains("var("));
        for style in [for_page(), for_files()] {
            assert!(!style.contains("url(") && !style.contains("@import"), "{style}");
        }
    }

    #[test]
    fn colours_that_carry_meaning_stand_out_from_the_page() {
        let paper = COLOURS[0];
        for (name, light, dark) in COLOURS {
            let wanted = match name {
                "paper" | "rule" | "tint" | "warntint" => continue,
                "ink" | "soft" | "link" | "good" | "warn" | "bad" => 4.4,
                _ => 3.0,
            };
            assert!(contrast(light, paper.1) >= wanted, "{name} {}", contrast(light, paper.1));
            assert!(contrast(dark, paper.2) >= wanted, "{name} {}", contrast(dark, paper.2));
        }
    }

    /// Contrast ratio of WCAG 2.2, from relative luminances.
    fn contrast(one: &str, other: &str) -> f64 {
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(colour: &str) -> f64 {
        let part = |from: usize| {
            let value = u8::from_str_radix(&colour[from..from + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }
}
