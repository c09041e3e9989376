//! `wattline report`: make the report of a recorded run, with no board.
//!
//! The recording is the truth; the page and its figures may be deleted and are
//! made again. A wrong shunt is mended here with `--shunt RAIL=OHM`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fleet::{FleetBoard, FleetFolder};
use super::{line, say, shunt_corrections};
use crate::accuracy::{self, AccuracyFileError};
use crate::analysis::model::{Analysis, MeasuredAccuracy, Uncertain, Verdict};
use crate::analysis::{self, AnalysisError, ShuntCorrection};
use crate::args::ReportArgs;
use crate::failure::{Exit, Failure};
use crate::recording::{Recording, RecordingError};
use crate::report::{self, BoardColumn, ReportError};
use crate::run_folder::{RunFolder, store_failure};
use crate::store::{SamplesError, Store};

/// A report that was written.
pub(super) struct Made {
    /// What it shows.
    pub(super) analysis: Analysis,
    /// The page.
    pub(super) page: PathBuf,
    /// Exit code: 4 where cells are invalid or data is missing.
    pub(super) exit: Exit,
}

pub(super) fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    if let Some(fleet) = FleetFolder::find(&args.run)? {
        let page = of_boards(&fleet)?;
        line(&page.display().to_string())?;
        open(args, &page);
        return Ok(Exit::Done);
    }
    let folder = RunFolder::find(&args.run)?;
    let made = make(&folder, &shunt_corrections(&args.shunt)?)?;
    for row in table(&made.analysis) {
        line(&row)?;
    }
    line(&made.page.display().to_string())?;
    open(args, &made.page);
    Ok(made.exit)
}

fn open(args: &ReportArgs, page: &Path) {
    if args.open {
        // A machine without a desktop has no xdg-open; the path is printed above.
        let _ = Command::new("xdg-open").arg(page).spawn();
    }
}

/// The page of a run of several boards; a board without a recording stands there as
/// one without a result.
pub(super) fn of_boards(fleet: &FleetFolder) -> Result<PathBuf, Failure> {
    let column = |board: &FleetBoard| {
        let result = RunFolder::find(&fleet.run_of(board).display().to_string())
            .and_then(|folder| analysed(&folder, &[]));
        BoardColumn {
            name: board.name.clone(),
            directory: board.directory.clone(),
            result: result.map(|(_, analysis)| analysis).map_err(|failure| failure.what),
        }
    };
    let columns: Vec<BoardColumn> = fleet.boards.iter().map(column).collect();
    report::write_boards(&columns, fleet.path()).map_err(|error| report_failure(&error))
}

/// Reads, analyses, writes.
pub(super) fn make(folder: &RunFolder, corrections: &[ShuntCorrection]) -> Result<Made, Failure> {
    let (_, mut analysis) = analysed(folder, corrections)?;
    analysis.accuracies = accuracies(folder)?;
    let page = report::write(&analysis, folder.path()).map_err(|error| report_failure(&error))?;
    let exit = if analysis.is_incomplete() { Exit::Incomplete } else { Exit::Done };
    Ok(Made { analysis, page, exit })
}

/// The accuracies that joined the run; one that cannot be read is told and left out.
fn accuracies(folder: &RunFolder) -> Result<Vec<MeasuredAccuracy>, Failure> {
    let failure = |what: String, error: &AccuracyFileError| {
        let mend = "delete it, then: wattline accuracy … --run RUN";
        Failure::of(Exit::Failed, what, error, mend)
    };
    let (read, unread) = accuracy::of_run(folder.path())
        .map_err(|error| failure("the run's accuracies cannot be read".into(), &error))?;
    for error in unread {
        say(&failure("an accuracy is not drawn".into(), &error).to_string());
    }
    Ok(read)
}

/// The recording of a run, and what it says.
pub(super) fn analysed(
    folder: &RunFolder,
    corrections: &[ShuntCorrection],
) -> Result<(Recording, Analysis), Failure> {
    let store = Store::open_read_only(&folder.recording()).map_err(|e| store_failure(&e))?;
    let recording = Recording::from_store(store).map_err(|error| match error {
        RecordingError::Store(error) | RecordingError::Samples(SamplesError::Store(error)) => {
            store_failure(&error)
        }
        other => Failure::of(
            Exit::Failed,
            format!("the recording in {} cannot be read", folder.path().display()),
            &other,
            "use the version of wattline that made it, or a later one",
        ),
    })?;
    let analysis = analysis::analyse(&recording, corrections).map_err(|error| {
        let exit = match error {
            AnalysisError::UnknownRail { .. } | AnalysisError::BadShunt { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        let mend = match exit {
            Exit::Usage => "name a rail of the recording and a resistance in ohms",
            _ => "fetch the run from its board: wattline fetch RUN --on BOARD",
        };
        let what = format!("the run in {} cannot be analysed", folder.path().display());
        Failure::of(exit, what, &error, mend)
    })?;
    Ok((recording, analysis))
}

fn report_failure(error: &ReportError) -> Failure {
    Failure::of(
        Exit::Failed,
        "the report cannot be written; the recording is whole",
        error,
        "make room on the disk, then: wattline report RUN",
    )
}

/// The cells as lines for a terminal.
pub(super) fn table(analysis: &Analysis) -> Vec<String> {
    let simulated = analysis.simulation.is_some();
    let word = if simulated { "  (power and energy: simulated)" } else { "" };
    let mut rows = vec![format!(
        "{:<12} {:>5} {:>18} {:>16} {:>18} {:>18} {:>9} {:>8}  verdict{word}",
        "network", "batch", "ms/image", "W", "mJ/image gross", "mJ/image net", "images/s", "MB"
    )];
    for cell in &analysis.cells {
        let reasons: Vec<&str> =
            cell.judgement.reasons.iter().map(|reason| reason.code()).collect();
        let plain = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
        rows.push(format!(
            "{:<12} {:>5} {:>18} {:>16} {:>18} {:>18} {:>9} {:>8}  {} {}",
            cell.cell.network,
            cell.cell.batch,
            uncertain(cell.ms_per_image),
            uncertain(cell.watts),
            uncertain(cell.mj_per_image_gross),
            uncertain(cell.mj_per_image_net),
            plain(cell.images_per_s),
            plain(cell.memory_mb),
            cell.judgement.verdict.name(),
            reasons.join(";"),
        ));
    }
    let count =
        |verdict| analysis.cells.iter().filter(|cell| cell.judgement.verdict == verdict).count();
    rows.push(format!(
        "{} valid, {} flagged, {} invalid; ± is the expanded uncertainty, k = 2",
        count(Verdict::Valid),
        count(Verdict::Flagged),
        count(Verdict::Invalid)
    ));
    rows
}

fn uncertain(value: Option<Uncertain>) -> String {
    value.map_or_else(|| "-".into(), report::with_uncertainty)
}
