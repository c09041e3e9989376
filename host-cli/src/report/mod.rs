//! The report: one page that needs no network, and its figures as files.
//!
//! Owns how an [`Analysis`] is shown. Computes no measured figure: what is not
//! in the analysis is not in the report. The same analysis gives the same
//! bytes: no time of day, no random names.

mod accuracy;
mod boards;
mod drivers;
mod figure;
mod html;
mod method;
mod state;
mod style;
mod table;
mod text;
mod verdict;

#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use boards::{BOARDS_FILE, BoardColumn, render_boards, write_boards};
pub use text::with_uncertainty;

use thiserror::Error;

use self::figure::Figures;
use crate::analysis::model::Analysis;

/// Name of the page within a run's directory.
pub const REPORT_FILE: &str = "report.html";
/// Name of the folder of figures within a run's directory.
pub const FIGURES_DIR: &str = "figures";

/// Why a report could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The host's disk, or the user's share of it, took no more.
    #[error("no space left for {}", path.display())]
    DiskFull {
        /// The file that did not fit.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes page, figures and their tables into `dir`, each whole or not at
/// all; returns the page's path. Older files of the same names are replaced.
///
/// # Errors
/// [`ReportError::DiskFull`] and [`ReportError::Write`], with the path.
pub fn write(analysis: &Analysis, dir: &Path) -> Result<PathBuf, ReportError> {
    let figures = Figures::of(analysis);
    let folder = dir.join(FIGURES_DIR);
    fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    for figure in figures.all() {
        replace(&folder.join(format!("{}.svg", figure.stem)), figure.file.as_bytes())?;
        replace(&folder.join(format!("{}.csv", figure.stem)), figure.csv.as_bytes())?;
    }
    // The page last: where it is new, the figures that it names are new.
    let page = dir.join(REPORT_FILE);
    replace(&page, html::page(analysis, &figures).as_bytes())?;
    Ok(page)
}

/// The page as text. Pure: the same analysis gives the same bytes.
#[must_use]
pub fn render(analysis: &Analysis) -> String {
    html::page(analysis, &Figures::of(analysis))
}

/// The figure of power over time alone, as an SVG file's text.
///
/// # Errors
/// Why there is nothing to draw, in words.
pub fn power_over_time(analysis: &Analysis) -> Result<String, &'static str> {
    figure::power_over_time(analysis).map(|figure| figure.file)
}

/// Writes `bytes` beside `path`, then puts them in its place.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // Half a file is of no use to anybody; the first error is the one to tell.
        let _ = fs::remove_file(&part);
        failed(path, source)
    })
}

fn failed(path: &Path, source: io::Error) -> ReportError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ReportError::DiskFull { path, source }
        }
        _ => ReportError::Write { path, source },
    }
}
