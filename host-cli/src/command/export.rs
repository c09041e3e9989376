//! `wattline export`: write a recorded run in other formats.
//!
//! `--to csv` writes samples.csv, windows.csv and cells.csv into RUN/export, and
//! with them budget.csv (terms of each energy's uncertainty) and rails.csv
//! (shunts as recorded and as used); of a run with a trigger triggers.csv (each
//! edge with its time and bound).

use super::{line, report, shunt_corrections};
use crate::args::ExportArgs;
use crate::export::csv;
use crate::failure::{Exit, Failure};
use crate::run_folder::RunFolder;

/// Formats that can be written.
const FORMATS: [&str; 1] = ["csv"];

pub(super) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    if let Some(unknown) = args.to.iter().find(|format| !FORMATS.contains(&format.as_str())) {
        return Err(Failure::new(
            Exit::Usage,
            format!("format `{unknown}` is not known"),
            format!("use --to {}", FORMATS.join(",")),
        ));
    }
    let folder = RunFolder::find(&args.run)?;
    let (recording, analysis) = report::analysed(&folder, &shunt_corrections(&args.shunt)?)?;
    let out = args.out.clone().unwrap_or_else(|| folder.path().join("export"));
    let files = csv::export(&recording, &analysis, &out).map_err(|error| {
        Failure::of(
            Exit::Failed,
            format!("the export into {} failed", out.display()),
            &error,
            "make room on the disk, or choose another folder with --out",
        )
    })?;
    for file in files {
        line(&file.display().to_string())?;
    }
    Ok(Exit::Done)
}
