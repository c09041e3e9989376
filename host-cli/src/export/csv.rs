//! CSV: samples, windows, cells and what stands behind them, as tables.
//!
//! Owns the columns, whose names and order scripts rely on (DESIGN, contract).
//! Source: RFC 4180, with `\n` as the end of a line.
//!
//! `u_` is the expanded uncertainty, k = 2; `true_` is empty where nothing is
//! simulated; an absent or unmeasured number is an empty field.

mod basis;
mod trigger;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use wattline_protocol::block::{SampleRow, SampleStatus, status_of};
use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::record::RailDescription;
use wattline_protocol::units::BoardTime;

use crate::analysis::energy::Sensor;
use crate::analysis::model::{Analysis, CellResult, Energy, Judgement, Uncertain, WindowResult};
use crate::analysis::{AnalysisError, ShuntCorrection, rails_of};
use crate::recording::{Lane, Recording, instant};

const SAMPLE_COLUMNS: &str = "time_ns,rail,shunt_code,bus_code,volts,amperes,watts,status,epoch";
const WINDOW_COLUMNS: &str = "window,cell,network,batch,t0_ns,t1_ns,images,energy_j,u_energy_j,\
     net_energy_j,u_net_energy_j,true_energy_j,verdict,reasons,epoch";
const CELL_COLUMNS: &str = "cell,network,batch,precision,device,threads,ms_per_image,\
     u_ms_per_image,watts,u_watts,mj_per_image_gross,u_mj_per_image_gross,mj_per_image_net,\
     u_mj_per_image_net,images_per_s,memory_mb,windows,verdict,reasons,simulated,\
     true_mj_per_image_gross";

/// Why tables were not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CsvError {
    /// The file could not be written.
    #[error("{path}: {source}", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The samples do not decode.
    #[error(transparent)]
    Samples(#[from] AnalysisError),
}

/// Writes `samples.csv`, `windows.csv`, `cells.csv`, `budget.csv` and
/// `rails.csv` into `folder`, and `triggers.csv` where the run set a line; makes
/// the folder where it is absent, and returns their paths.
///
/// # Errors
/// [`CsvError`] naming the file.
pub fn export(
    recording: &Recording,
    analysis: &Analysis,
    folder: &Path,
) -> Result<Vec<PathBuf>, CsvError> {
    let unwritable = |path: &Path, source| CsvError::Unwritable { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    let file = |name: &str, write: &dyn Fn(&mut dyn Write) -> Result<(), WriteError>| {
        let path = folder.join(name);
        let written = File::create(&path).map_err(WriteError::from).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            Ok(out.flush()?)
        });
        match written {
            Ok(()) => Ok(path),
            Err(WriteError::Io(source)) => Err(unwritable(&path, source)),
            Err(WriteError::Samples(error)) => Err(CsvError::Samples(error)),
        }
    };
    let mut written = vec![
        file("samples.csv", &|out| write_samples(recording, analysis, out))?,
        file("windows.csv", &|out| Ok(write_windows(analysis, out)?))?,
        file("cells.csv", &|out| Ok(write_cells(analysis, out)?))?,
        file("budget.csv", &|out| Ok(basis::write_budget(analysis, out)?))?,
        file("rails.csv", &|out| Ok(basis::write_rails(analysis, out)?))?,
    ];
    if !recording.triggers.is_empty() {
        written.push(file("triggers.csv", &|out| Ok(trigger::write(recording, out)?))?);
    }
    Ok(written)
}

/// Why a table stopped.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The writer refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The samples do not decode.
    #[error(transparent)]
    Samples(#[from] AnalysisError),
}

/// Writes all samples: one line a rail and row, in order of (epoch, lane, row,
/// rail), with the shunts that the analysis used.
///
/// # Errors
/// [`WriteError`] of the writer, or of a block that does not decode.
pub fn write_samples(
    recording: &Recording,
    analysis: &Analysis,
    out: &mut dyn Write,
) -> Result<(), WriteError> {
    writeln!(out, "{SAMPLE_COLUMNS}")?;
    let corrections: Vec<ShuntCorrection> = analysis
        .corrected_shunts
        .iter()
        .map(|(rail, _, used)| ShuntCorrection { rail: rail.clone(), shunt_ohm: *used })
        .collect();
    for lane in &recording.lanes {
        let rails: Vec<Column> = rails_of(recording, lane.epoch, &corrections)?
            .into_iter()
            .filter(|(_, _, chip)| chip.lane == lane.lane)
            .map(|(index, rail, chip)| Column {
                sensor: Sensor::new(&rail, chip)
                    .with_offsets(recording.offsets_of(lane.epoch, index)),
                tells_volts: chip.kind.tells_volts(),
                rail,
            })
            .collect();
        let mut written = Ok(());
        let read = lane.for_each_row(BoardTime(0), BoardTime(u64::MAX), |row| {
            if written.is_ok() {
                written = write_row(lane, &rails, row, out);
            }
        });
        written?;
        read.map_err(|source| AnalysisError::Samples {
            epoch: lane.epoch,
            lane: lane.lane,
            source,
        })?;
    }
    Ok(())
}

/// A rail as its samples are written.
struct Column {
    rail: RailDescription,
    sensor: Sensor,
    /// False where watts alone are measured: volts and amperes stay empty.
    tells_volts: bool,
}

fn write_row(
    lane: &Lane,
    rails: &[Column],
    row: &SampleRow<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for Column { rail, sensor, tells_volts } in rails {
        let slot = usize::from(rail.slot);
        let status = status_of(row.status, slot).unwrap_or(SampleStatus::Bus);
        let time_ns = sensor.centre(instant(row.time_ticks)).0;
        write!(out, "{time_ns},{}", text(&rail.name))?;
        match row.code(2 * slot).zip(row.code(2 * slot + 1)) {
            Some((shunt_code, bus_code)) => {
                let (shunt, bus) = (ShuntCode(shunt_code), BusCode(bus_code));
                let volts = sensor.scale().bus_voltage(bus).0;
                let amperes = sensor.current(shunt).0;
                let watts = volts * amperes;
                write!(out, ",{shunt_code},{bus_code}")?;
                match tells_volts {
                    true => write!(out, ",{volts:.6},{amperes:.6},{watts:.6}")?,
                    false => write!(out, ",,,{watts:.6}")?,
                }
            }
            None => write!(out, ",,,,,")?,
        }
        writeln!(out, ",{},{}", status_name(status), lane.epoch)?;
    }
    Ok(())
}

fn status_name(status: SampleStatus) -> &'static str {
    match status {
        SampleStatus::Ok => "ok",
        SampleStatus::Stale => "stale",
        SampleStatus::Skipped => "skipped",
        SampleStatus::Nack => "nack",
        SampleStatus::Overrange => "overrange",
        SampleStatus::Bus => "bus",
    }
}

/// Writes the windows of trials, in order of time.
///
/// # Errors
/// Those of the writer.
pub fn write_windows(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{WINDOW_COLUMNS}")?;
    for window in &analysis.windows {
        let cell = analysis.cells.iter().find(|cell| cell.cell.cell == window.cell);
        write_window(window, cell, out)?;
    }
    Ok(())
}

fn write_window(
    window: &WindowResult,
    cell: Option<&CellResult>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let network = cell.map_or_else(String::new, |cell| text(&cell.cell.network));
    let batch = cell.map_or_else(String::new, |cell| cell.cell.batch.to_string());
    let (energy_j, u_energy_j) = energy(Some(&window.energy));
    let (net_energy_j, u_net_energy_j) = energy(window.net_energy.as_ref());
    let fields = [
        window.window.to_string(),
        window.cell.to_string(),
        network,
        batch,
        window.t0.0.to_string(),
        window.t1.0.to_string(),
        window.images.to_string(),
        energy_j,
        u_energy_j,
        net_energy_j,
        u_net_energy_j,
        number(window.true_energy.map(|energy| energy.0)),
        window.judgement.verdict.name().to_owned(),
        reasons(&window.judgement),
        window.epoch.to_string(),
    ];
    writeln!(out, "{}", fields.join(","))
}

/// Writes the cells, in the order of the plan.
///
/// # Errors
/// Those of the writer.
pub fn write_cells(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{CELL_COLUMNS}")?;
    for cell in &analysis.cells {
        write_cell(cell, analysis.simulation.is_some(), out)?;
    }
    Ok(())
}

fn write_cell(cell: &CellResult, simulated: bool, out: &mut dyn Write) -> io::Result<()> {
    let (ms, u_ms) = uncertain(cell.ms_per_image);
    let (watts, u_watts) = uncertain(cell.watts);
    let (gross, u_gross) = uncertain(cell.mj_per_image_gross);
    let (net, u_net) = uncertain(cell.mj_per_image_net);
    let fields = [
        cell.cell.cell.to_string(),
        text(&cell.cell.network),
        cell.cell.batch.to_string(),
        cell.cell.precision.name().to_owned(),
        text(&cell.cell.device),
        cell.threads.to_string(),
        ms,
        u_ms,
        watts,
        u_watts,
        gross,
        u_gross,
        net,
        u_net,
        number(cell.images_per_s),
        number(cell.memory_mb),
        cell.windows.to_string(),
        cell.judgement.verdict.name().to_owned(),
        reasons(&cell.judgement),
        simulated.to_string(),
        number(cell.true_mj_per_image_gross),
    ];
    writeln!(out, "{}", fields.join(","))
}

fn reasons(judgement: &Judgement) -> String {
    let codes: Vec<&str> = judgement.reasons.iter().map(|reason| reason.code()).collect();
    codes.join(";")
}

fn energy(energy: Option<&Energy>) -> (String, String) {
    let known = energy.filter(|energy| energy.joules.0.is_finite());
    (number(known.map(|one| one.joules.0)), number(known.map(|one| one.expanded().0)))
}

fn uncertain(value: Option<Uncertain>) -> (String, String) {
    (number(value.map(|one| one.value)), number(value.map(|one| one.expanded)))
}

/// Six decimals: µJ, µW, ns of a millisecond; empty where there is no number.
fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(String::new, |value| format!("{value:.6}"))
}

/// A field of text, quoted where it must be.
fn text(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests;
