//! `spool.*`: what the board's log costs the disk, how soon a start with a full
//! one is ready, and how fast a host drains it.
//!
//! Owns what is appended and what is timed; the log is the shipping one on real
//! files below the folder for temporary files, which must lie on a disk: a file
//! system in memory counts no written bytes. Their count is the kernel's for
//! this process (`/proc/self/io`, `write_bytes`: pages made dirty). The streams
//! are those of `streams`, the records those of `night`, the same seconds again
//! and again. Source of the bars: records-and-reliability §3.1 and §7.

mod filled;
mod healthy;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use wattline_agent::campaign::resume::KINDS;
use wattline_agent::clock::{Clock, SystemClock};
use wattline_agent::spool::{DiskStorage, RunLog, Spool, SpooledFrame};
use wattline_protocol::record::{RunId, kind};
use wattline_tests::{Agent, AgentFlags, Sandbox};

use crate::figure::Figure;
use crate::streams::Case;
use filled::Filling;

const WRITE_AMPLIFICATION: &str = "spool.write_amplification";
const HEALTHY_BYTES: &str = "spool.healthy_bytes";
const RESTART: &str = "spool.restart";
const DRAIN: &str = "spool.drain";
/// Bars.
const RESTART_MS_MAX: f64 = 200.0;
const DRAIN_MIN: f64 = 20.0;
/// Seconds of a stream that is appended for an amplification.
const APPENDED_S: u32 = 120;
/// Bytes between two syncs of a log that is filled as fast as it takes: ten
/// batches of a thousand records of 8 bytes, as in the source.
const LOAD_SYNC_BYTES: u64 = 80_000;
/// Bytes of the log that a start finds.
const RESTART_BYTES: u64 = 1 << 30;
/// Seconds of the recordings that a host fetches.
const DRAINED_S: u32 = 1_800;

/// Emits the measures whose names start with `name_prefix`; a seed draws the
/// samples.
///
/// # Errors
/// In words: what could not be measured.
pub(crate) fn run(
    name_prefix: &str,
    seed: u64,
    emit: &mut dyn FnMut(Figure),
) -> Result<(), String> {
    let mut figure = |measure, case: &str, value, unit, limit: Option<f64>| {
        let limit_is = limit.map(|_| "bar");
        emit(Figure { measure, case: case.to_owned(), value, unit, limit, limit_is });
    };
    if WRITE_AMPLIFICATION.starts_with(name_prefix) {
        for (name, case, sync, bar) in [
            ("load", Case::C, Sync::EachBytes(LOAD_SYNC_BYTES), 1.06),
            ("A/1s", Case::A, Sync::EachSecond, 1.9),
            ("C/1s", Case::C, Sync::EachSecond, 1.15),
        ] {
            let value = amplification(case, sync, seed)?;
            figure(WRITE_AMPLIFICATION, name, value, "× frame bytes", Some(bar));
        }
    }
    if HEALTHY_BYTES.starts_with(name_prefix) {
        let hour = healthy::an_hour(seed)?;
        for (case, bytes, bar) in [
            ("samples and spans", hour.streams, Some(0.0)),
            ("all", hour.all, Some(65_536.0)),
            ("pages made dirty", hour.dirtied, None),
        ] {
            figure(HEALTHY_BYTES, case, as_f64(bytes), "B/h", bar);
        }
        figure(HEALTHY_BYTES, "collected", as_f64(hour.collected), "B/h", None);
    }
    if RESTART.starts_with(name_prefix) {
        let (sampling_ms, ready_ms) = restart(seed)?;
        figure(RESTART, "1 GiB, to sampling", sampling_ms, "ms", Some(RESTART_MS_MAX));
        figure(RESTART, "1 GiB, agent ready", ready_ms, "ms", Some(RESTART_MS_MAX));
    }
    if DRAIN.starts_with(name_prefix) {
        for (name, case) in [("A", Case::A), ("C", Case::C)] {
            let value = drain(case, seed)?;
            figure(DRAIN, name, value, "× real time", Some(DRAIN_MIN));
        }
    }
    Ok(())
}

/// When an appended log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    EachSecond,
    EachBytes(u64),
}

fn amplification(case: Case, sync: Sync, seed: u64) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(words)?;
    let (_spool, mut log) = begin(folder.path())?;
    let mut filling = Filling::new(case, seed);
    let (mut bytes, mut since_sync) = (0, 0);
    let before = written()?;
    for second in 0..APPENDED_S {
        for frame in filling.second(second) {
            let length = u64::try_from(frame.len()).unwrap_or(0);
            (bytes, since_sync) = (bytes + length, since_sync + length);
            log.append(&frame).map_err(words)?;
            if sync == Sync::EachBytes(LOAD_SYNC_BYTES) && since_sync >= LOAD_SYNC_BYTES {
                log.sync().map_err(words)?;
                since_sync = 0;
            }
        }
        if sync == Sync::EachSecond {
            log.sync().map_err(words)?;
        }
    }
    log.sync().map_err(words)?;
    let dirtied = written()?.saturating_sub(before);
    if dirtied == 0 {
        return Err(format!("{} counts no bytes: set TMPDIR to a disk", folder.path().display()));
    }
    Ok(as_f64(dirtied) / as_f64(bytes))
}

/// Milliseconds from opening a spool of a run that was cut to where its sampling
/// begins again, and from starting an agent on it to its `ready`.
fn restart(seed: u64) -> Result<(f64, f64), String> {
    let sandbox = Sandbox::new();
    let flags = AgentFlags::named(&sandbox, "board");
    fill(&flags.spool, Case::C, seed, |bytes, _| bytes < RESTART_BYTES, Ending::Cut)?;
    drop_pages(&flags.spool)?;
    let begun = SystemClock.now();
    let spool = open(&flags.spool)?;
    spool.raise_epoch("measure").map_err(words)?;
    let log = spool.resume_run(&run_id()?).map_err(words)?;
    let are_enough = |frames: &[SpooledFrame]| {
        let has = |kind: &u8| frames.iter().any(|frame| frame.header.kind == *kind);
        [kind::TRIAL_START, kind::WINDOW_OPEN].iter().all(has)
    };
    let newest = spool.newest(log.run(), &KINDS, are_enough).map_err(words)?;
    let sampling = SystemClock.now() - begun;
    if newest.is_empty() {
        return Err("the run has no history".to_owned());
    }
    drop((log, spool));
    drop_pages(&flags.spool)?;
    let begun = SystemClock.now();
    let agent = Agent::start_with(&sandbox, flags);
    let ready = SystemClock.now() - begun;
    drop(agent);
    Ok((milliseconds(sampling), milliseconds(ready)))
}

/// How many seconds of a spooled run a host fetches in one: real programs, the
/// start of the host's among them, pages of the spool not in memory.
fn drain(case: Case, seed: u64) -> Result<f64, String> {
    let sandbox = Sandbox::new();
    let flags = AgentFlags::named(&sandbox, "board");
    fill(&flags.spool, case, seed, |_, seconds| seconds < DRAINED_S, Ending::Ended)?;
    drop_pages(&flags.spool)?;
    let agent = Agent::start_with(&sandbox, flags);
    let begun = SystemClock.now();
    let id = run_id()?.to_string();
    let fetched = sandbox.wattline(&["fetch", &id, "--on", &agent.address(), "--out", "run"]);
    let took = SystemClock.now() - begun;
    // 4: done; a second that is repeated makes no valid windows.
    if !matches!(fetched.code, Some(0 | 4)) {
        return Err(format!("fetch ended with {:?}: {}", fetched.code, fetched.stderr));
    }
    Ok(f64::from(DRAINED_S) * 1e3 / milliseconds(took))
}

/// How a filled spool's run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cut,
    Ended,
}

/// Fills a spool with one run while `goes_on` (bytes, seconds) says so.
fn fill(
    folder: &Path,
    case: Case,
    seed: u64,
    goes_on: impl Fn(u64, u32) -> bool,
    ending: Ending,
) -> Result<(), String> {
    let (_spool, mut log) = begin(folder)?;
    let mut filling = Filling::new(case, seed);
    let (mut bytes, mut second) = (0, 0);
    let mut frames = filling.opening();
    while goes_on(bytes, second) {
        frames.extend(filling.second(second));
        for frame in frames.drain(..) {
            bytes += u64::try_from(frame.len()).unwrap_or(0);
            log.append(&frame).map_err(words)?;
        }
        second += 1;
    }
    if ending == Ending::Ended {
        log.append(&filling.end(second)).map_err(words)?;
    }
    log.sync().map_err(words)
}

fn open(folder: &Path) -> Result<Spool, String> {
    let storage = DiskStorage::open(folder).map_err(words)?;
    Spool::open(Arc::new(storage), "measure").map_err(words)
}

fn begin(folder: &Path) -> Result<(Spool, RunLog), String> {
    let spool = open(folder)?;
    spool.raise_epoch("measure").map_err(words)?;
    let log = spool.create_run(&run_id()?).map_err(words)?;
    Ok((spool, log))
}

fn run_id() -> Result<RunId, String> {
    RunId::new("measure").map_err(words)
}

/// Drops a spool's pages from the kernel's cache, as a reboot does.
fn drop_pages(folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(words)? {
        let path = entry.map_err(words)?.path();
        if path.is_dir() {
            drop_pages(&path)?;
            continue;
        }
        let file = File::open(&path).map_err(words)?;
        file.sync_all().map_err(words)?;
        // Advice only: a kernel that keeps the pages makes the start faster.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    Ok(())
}

/// Bytes of pages that this process has made dirty so far.
fn written() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/self/io").map_err(words)?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| "no write_bytes".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn words(error: impl ToString) -> String {
    error.to_string()
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a measure are below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "no measure takes 2^53 ns")]
fn milliseconds(length: wattline_protocol::units::Nanos) -> f64 {
    length.0 as f64 / 1e6
}
