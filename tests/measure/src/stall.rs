//! `stall.*`: what a slow disk, a dead client and a flood of connections do to
//! the sampler, and the memory that its process takes meanwhile.
//!
//! Owns the three disturbances. The slow disk is a seam under the shipping
//! recorder in this process, with the shipping sampler on the simulated board,
//! all in real time; the other two meet the real agent during a real run. A
//! missed sample is one that was taken and is in no record: lost by a full ring,
//! or dropped later. Conversions that came and went while the sampler's thread
//! waited for a core are counted apart, and also without a disturbance.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use wattline_agent::clock::{Clock, SystemClock};
use wattline_agent::recorder::outlet::Outlet;
use wattline_agent::recorder::{Recorder, RecorderStart};
use wattline_agent::sampling::{PowerSource, SIMULATED_SEED, Sampling};
use wattline_agent::spool::{Item, ModelStorage, Spool};
use wattline_protocol::command::{Command, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Side};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::record::{ChipKind, Record, RunId, RunOutcome, kind};
use wattline_protocol::session::host::{Event, Session};
use wattline_protocol::units::Nanos;
use wattline_tests::{Agent, Frames, Sandbox};

use crate::figure::Figure;

mod slow;

/// How long one sync takes.
const SYNC_STALL: Nanos = Nanos::from_secs(2);
/// How long the sampler goes on over a slow disk.
const SLOW_DISK: Nanos = Nanos::from_secs(12);
/// Connections of a flood, and the time they come in.
const CONNECTIONS: u32 = 10_000;
const FLOOD: Nanos = Nanos::from_secs(60);
const AFTER_FLOOD: Nanos = Nanos::from_secs(2);
/// How long a dead client is there.
const DEAD: Nanos = Nanos::from_secs(20);
/// Bar: MiB of resident memory.
const MEMORY_MIB_MAX: f64 = 32.0;
/// Bar: MiB by which it grows once a trial is under way. What is sized for a run is
/// had by then; buffers of links are left, and the simulated board's own currents.
const GROWTH_MIB_MAX: f64 = 1.0;
/// A campaign that outlasts every disturbance; it is stopped then.
const CAMPAIGN: [&str; 10] =
    ["run", "--quick", "--networks", "resnet18", "--size", "64", "--batch", "1", "--windows", "99"];

/// Emits `stall.missed`, `stall.skipped` and `stall.memory`.
///
/// # Errors
/// In words: what could not be measured.
pub(crate) fn run(emit: &mut dyn FnMut(Figure)) -> Result<(), String> {
    let mut figure = |measure, case: &str, value, unit, limit: Option<f64>| {
        let limit_is = limit.map(|_| "bar");
        emit(Figure { measure, case: case.to_owned(), value, unit, limit, limit_is });
    };
    let samples = slow_disk()?;
    figure("stall.missed", "2 s sync stall", as_f64(samples.missed), "samples", Some(0.0));
    figure("stall.skipped", "2 s sync stall", samples.skipped, "conversions/s", None);
    for (case, disturb) in [
        ("nothing", wait_for as fn(&Agent) -> Result<(), String>),
        ("dead client", dead_client),
        ("10,000 connections in a minute", flood),
    ] {
        let (samples, memory) = during(disturb)?;
        figure("stall.missed", case, as_f64(samples.missed), "samples", Some(0.0));
        figure("stall.skipped", case, samples.skipped, "conversions/s", None);
        figure("stall.memory", case, memory.peak_mib, "MiB", Some(MEMORY_MIB_MAX));
        figure("stall.growth", case, memory.growth_mib, "MiB", Some(GROWTH_MIB_MAX));
    }
    Ok(())
}

/// What became of a run's samples.
struct Samples {
    missed: u64,
    skipped: f64,
}

/// What the sampler's process took.
struct Memory {
    peak_mib: f64,
    /// From before the disturbance to its end.
    growth_mib: f64,
}

/// The shipping sampler, recorder and spool over a disk whose every sync takes
/// two seconds.
fn slow_disk() -> Result<Samples, String> {
    let storage = Arc::new(slow::SlowStorage::new(ModelStorage::new(), SYNC_STALL));
    let spool = Spool::open(storage, "measure").map_err(words)?;
    let epoch = spool.raise_epoch("measure").map_err(words)?.epoch;
    let run = RunId::new("measure").map_err(words)?;
    let log = spool.create_run(&run).map_err(words)?;
    let source = PowerSource::simulated(ChipKind::Ina3221, SIMULATED_SEED).map_err(words)?;
    let mut sampling = Sampling::start(&source).map_err(words)?;
    let lanes = std::mem::take(&mut sampling.lanes);
    let (outlet, _listening, _writer) = Outlet::start(log, None);
    let start = RecorderStart { epoch, run_ordinal: 0, lanes, outlet, first: Vec::new() };
    let (recorder, thread) = Recorder::start(start);
    wait(SLOW_DISK);
    let reports = sampling.stop().reports;
    let (mut taken, mut skipped) = (0, 0);
    for report in &reports {
        taken += report.sweeps;
        skipped += report.skipped;
    }
    recorder.finish(RunOutcome::Complete, reports);
    thread.join().map_err(|_| "the recorder panicked".to_owned())?;
    let mut rows = 0;
    let mut cursor = spool.reader(&run).map_err(words)?.cursor(&[]);
    while let Some(item) = cursor.next_item().map_err(words)? {
        if let Item::Frame(frame) = item
            && frame.header.kind == kind::SAMPLE_BLOCK
        {
            rows += u64::from(frame.header.count);
        }
    }
    if rows == 0 {
        return Err("nothing was sampled".to_owned());
    }
    let seconds = as_f64(SLOW_DISK.0.unsigned_abs()) / 1e9;
    Ok(Samples { missed: taken.abs_diff(rows), skipped: as_f64(skipped) / seconds })
}

/// The real agent's run while `disturb` goes on.
fn during(disturb: impl FnOnce(&Agent) -> Result<(), String>) -> Result<(Samples, Memory), String> {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let started = sandbox.wattline(&[&CAMPAIGN[..], &["--on", &board, "--detach"]].concat());
    let id = started.last_line().to_owned();
    let collector = sandbox.wattline_started(&["fetch", &id, "--on", &board, "--out", "run"]);
    agent.wait_for_a_trial();
    let before = memory_mib(&agent, "VmRSS:")?;
    let begun = SystemClock.now();
    disturb(&agent)?;
    let seconds = as_f64((SystemClock.now() - begun).0.unsigned_abs()) / 1e9;
    let after = memory_mib(&agent, "VmRSS:")?;
    let memory =
        Memory { peak_mib: memory_mib(&agent, "VmHWM:")?, growth_mib: (after - before).max(0.0) };
    let stopped = sandbox.wattline(&["stop", &id, "--on", &board]);
    if stopped.code != Some(0) {
        return Err(format!("stop ended with {:?}: {}", stopped.code, stopped.stderr));
    }
    let collected = collector.finish();
    if !matches!(collected.code, Some(0 | 4)) {
        return Err(format!("fetch ended with {:?}: {}", collected.code, collected.stderr));
    }
    let held = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    let (mut missed, mut skipped) = (0, 0);
    for record in held.records() {
        match record {
            Record::SweepsLost(lost) => missed += lost.count,
            Record::Gap(gap) => missed += gap.to.saturating_sub(gap.from),
            Record::SamplerReport(report) => skipped += report.skipped,
            _ => {}
        }
    }
    Ok((Samples { missed, skipped: as_f64(skipped) / seconds }, memory))
}

fn wait_for(_agent: &Agent) -> Result<(), String> {
    wait(DEAD);
    Ok(())
}

/// A host that asks for everything and reads nothing.
fn dead_client(agent: &Agent) -> Result<(), String> {
    let mut stream = UnixStream::connect(&agent.flags().socket).map_err(words)?;
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: "measure".into(),
        digest: protocol_digest(),
        side: Side::Host,
    };
    let (mut session, bytes) = Session::begin(hello, 1, Nanos(0));
    stream.write_all(&bytes).map_err(words)?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).map_err(words)?;
        let events = session.on_bytes(buffer.get(..count).unwrap_or_default(), Nanos(0));
        if events.iter().any(|event| matches!(event, Event::Ready(_))) {
            break;
        }
        if count == 0 {
            return Err("the agent does not greet".to_owned());
        }
    }
    let run = agent.recorded().records().into_iter().find_map(|record| match record {
        Record::RunStart(start) => Some(start.run),
        _ => None,
    });
    let run = run.ok_or("no run was recorded")?;
    let fetch = Command::Fetch { run: run.clone(), have: Vec::new(), credit: u64::MAX };
    for command in [fetch, Command::Live { run }] {
        let (_, bytes) = session.command(command, Nanos(0));
        stream.write_all(&bytes).map_err(words)?;
    }
    wait(DEAD);
    Ok(())
}

/// Connections that come evenly and are left at once, every eighth one after a
/// while.
fn flood(agent: &Agent) -> Result<(), String> {
    let begun = SystemClock.now();
    let mut lingering = std::collections::VecDeque::new();
    for number in 0..CONNECTIONS {
        let due = FLOOD.0 / i64::from(CONNECTIONS) * i64::from(number);
        SystemClock.sleep_until(begun + Nanos(due));
        // A full backlog is the agent's right.
        if let Ok(stream) = UnixStream::connect(&agent.flags().socket)
            && number % 8 == 0
        {
            lingering.push_back(stream);
        }
        if lingering.len() > 64 {
            lingering.pop_front();
        }
    }
    // The last of them are gone before a host of ours comes.
    drop(lingering);
    wait(AFTER_FLOOD);
    Ok(())
}

/// A line of the agent's `/proc/PID/status`, in MiB.
fn memory_mib(agent: &Agent, line: &str) -> Result<f64, String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).map_err(words)?;
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib / 1_024.0).ok_or_else(|| format!("no {line}"))
}

fn wait(length: Nanos) {
    SystemClock.sleep_until(SystemClock.now() + length);
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn words(error: impl ToString) -> String {
    error.to_string()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
