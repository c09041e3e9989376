//! The measures `store.*`: a night of twelve hours opened, drawn and reported.
//!
//! Owns what is timed and what is counted as memory. The night is made once a
//! call in a temporary folder (`night`), and each reading runs in a process of
//! its own, this program started again, so that the peak is that of the reading
//! alone. The file's pages are dropped from the cache before each, as far as
//! the kernel follows the advice.
//!
//! First picture: the recording opened, board and rails read, and the figure of
//! power over time, 2,000 stretches of least, mean and largest for each of three
//! rails, as the SVG that a report holds.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::{Value, json};
use wattline::analysis::analyse;
use wattline::recording::Recording;
use wattline::report;
use wattline::store::{FILE_NAME, Store};

use crate::figure::Figure;
use crate::night;

const OPEN: &str = "store.open";
const OPEN_MEMORY: &str = "store.open_memory";
const REPORT: &str = "store.report";
const REPORT_MEMORY: &str = "store.report_memory";
const APPEND: &str = "store.append";
const CASE: &str = "12h/3rails/1kSps";
/// Bars for the first picture.
const OPEN_S_MAX: f64 = 0.5;
const OPEN_MB_MAX: f64 = 200.0;

/// Emits the measures whose names start with `name_prefix`.
///
/// # Errors
/// In words: the temporary folder has no room, or a reading fails.
pub(crate) fn run(
    name_prefix: &str,
    from: u64,
    now_ns: fn() -> u64,
    emit: &mut dyn FnMut(Figure),
) -> Result<(), String> {
    let wanted = |measure: &str| measure.starts_with(name_prefix);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join(FILE_NAME);
    let begin_ns = now_ns();
    night::make(&path, from).map_err(|error| error.to_string())?;
    let speed = f64::from(night::NIGHT_S) / seconds(now_ns().saturating_sub(begin_ns));
    let mut figure = |measure, value, unit, bar: Option<f64>| {
        let limit_is = bar.map(|_| "bar");
        emit(Figure { measure, case: CASE.into(), value, unit, limit: bar, limit_is });
    };
    figure(APPEND, speed, "× real time", None);
    if wanted(OPEN) || wanted(OPEN_MEMORY) {
        let read = in_own_process(OPEN, &path)?;
        figure(OPEN, read.seconds, "s", Some(OPEN_S_MAX));
        figure(OPEN_MEMORY, read.megabytes, "MB", Some(OPEN_MB_MAX));
    }
    if wanted(REPORT) || wanted(REPORT_MEMORY) {
        let read = in_own_process(REPORT, &path)?;
        figure(REPORT, read.seconds, "s", None);
        figure(REPORT_MEMORY, read.megabytes, "MB", None);
    }
    Ok(())
}

struct Reading {
    seconds: f64,
    megabytes: f64,
}

fn in_own_process(measure: &str, path: &Path) -> Result<Reading, String> {
    let words = |error: io::Error| error.to_string();
    let file = File::open(path).map_err(words)?;
    file.sync_all().map_err(words)?;
    // Advice only: a kernel that keeps the pages makes the reading faster.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let program = std::env::current_exe().map_err(words)?;
    let output =
        Command::new(program).arg(measure).arg("--read").arg(path).output().map_err(words)?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    let reading: Value = serde_json::from_slice(&output.stdout).map_err(|_| said())?;
    let number = |key: &str| reading.get(key).and_then(Value::as_f64).ok_or_else(said);
    Ok(Reading { seconds: number("seconds")?, megabytes: number("megabytes")? })
}

/// Reads the recording at `path` in this process, and prints time and peak.
pub(crate) fn read(measure: &str, path: &Path, now_ns: fn() -> u64) -> ExitCode {
    let begin_ns = now_ns();
    let read = if measure == REPORT { whole_report(path) } else { first_picture(path) };
    let seconds = seconds(now_ns().saturating_sub(begin_ns));
    let printed = match (read, peak_megabytes()) {
        (Ok(()), Some(megabytes)) => {
            let object = json!({"seconds": seconds, "megabytes": megabytes});
            writeln!(io::stdout(), "{object}").is_ok()
        }
        (Ok(()), None) => false,
        (Err(error), _) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{error}");
            false
        }
    };
    if printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn first_picture(path: &Path) -> Result<(), String> {
    let store = Store::open_read_only(path).map_err(|error| error.to_string())?;
    let recording = Recording::outline(store).map_err(|error| error.to_string())?;
    let analysis = analyse(&recording, &[]).map_err(|error| error.to_string())?;
    let points: usize =
        analysis.traces.iter().flat_map(|trace| &trace.segments).map(Vec::len).sum();
    let picture = report::power_over_time(&analysis)?;
    if points < 3 * 1_000 || !picture.contains("<svg") {
        return Err(format!("a picture of {points} points"));
    }
    Ok(())
}

fn whole_report(path: &Path) -> Result<(), String> {
    let store = Store::open_read_only(path).map_err(|error| error.to_string())?;
    let recording = Recording::from_store(store).map_err(|error| error.to_string())?;
    let analysis = analyse(&recording, &[]).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(path);
    report::write(&analysis, folder).map_err(|error| error.to_string())?;
    Ok(())
}

/// Peak resident memory of this process, in 10⁶ bytes.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0 / 1e6)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
