//! `cargo measure [NAME] [--case CASE] [--from SEED] [--seeds N] [--count N]`: the figures
//! Wattline states about itself, one JSON object a line.
//!
//! Owns the list of measures and the form of a line. What a figure means, and
//! the bar it is held against, stands in `docs/measurements.md`. Exit 0 also
//! where a bar is missed: a measure measures; 2 for an unknown name.

mod allocations;
mod clock;
mod codec;
mod energy;
mod figure;
mod io_errors;
mod kills;
mod night;
mod nights;
mod sampler;
mod session;
mod spool;
mod stall;
mod store;
mod streams;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use wattline_agent::clock::{Clock, SystemClock};

use figure::Figure;

/// Names of all measures; once named they stay.
const MEASURES: &[&str] = &[
    "codec.bits_per_row",
    "codec.encode",
    "codec.decode",
    "sampler.sweeps",
    "sampler.unflagged",
    "sampler.bits",
    "sampler.allocations",
    "sampler.cpu",
    "sampler.jitter",
    "energy.coverage",
    "energy.bias",
    "energy.burst",
    "energy.burst_spread",
    "clock.error",
    "clock.bound",
    "clock.outside",
    "spool.write_amplification",
    "spool.healthy_bytes",
    "spool.restart",
    "spool.drain",
    "session.reconnect",
    "stall.missed",
    "stall.skipped",
    "stall.memory",
    "stall.growth",
    "store.append",
    "store.open",
    "store.open_memory",
    "store.report",
    "store.report_memory",
    "io_errors.tried",
    "io_errors.unexplained",
    "kills.lost",
    "kills.doubled",
    "kills.count",
    "nights.lost",
    "nights.doubled",
    "nights.invented",
    "nights.silent_gaps",
    "nights.faults",
    "nights.hours",
    "nights.seconds",
    "mutants.planted",
    "mutants.caught",
    "mutants.seed",
];

/// Measure Wattline.
#[derive(Debug, Parser)]
#[command(name = "cargo measure", max_term_width = 100)]
struct Args {
    /// A measure or the beginning of its name, such as codec or codec.encode [default: all]
    name: Option<String>,
    /// Only cases whose names begin with this, such as ina226/burst
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// First seed of streams and windows
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// Seeds to go through, where a measure goes through seeds
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Windows or repetitions, where a measure counts them
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Of io_errors, this operation alone, told on standard error
    #[arg(long, value_name = "OPERATION", hide = true)]
    only: Option<u64>,
    /// Read this recording in this process: how store.* starts itself
    #[arg(long, value_name = "FILE", hide = true)]
    read: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let name = args.name.as_deref().unwrap_or_default();
    if !MEASURES.iter().any(|measure| is_prefix(name, measure)) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(
            io::stderr(),
            "error: no measure `{name}`\ntry: one of {}",
            MEASURES.join(", ")
        );
        return ExitCode::from(2);
    }
    if let Some(path) = &args.read {
        return store::read(name, path, now_ns);
    }
    let wanted = |group: &str| MEASURES.iter().any(|m| m.starts_with(group) && is_prefix(name, m));
    let case = args.case.as_deref().unwrap_or_default();
    let mut emit = |figure: Figure| {
        if is_prefix(name, figure.measure) && figure.case.starts_with(case) {
            print(&figure);
        }
    };
    if wanted("codec.") {
        codec::run(name, args.from, now_ns, &mut emit);
    }
    if wanted("sampler.") {
        sampler::run(name, args.from, &mut emit);
    }
    if wanted("energy.") {
        energy::run((name, case), args.from, args.count.or(args.seeds), &mut emit);
    }
    if wanted("clock.") {
        clock::run(args.from, args.seeds, &mut emit);
    }
    if wanted("io_errors.") {
        io_errors::run(args.from, args.seeds, args.only, &mut emit);
    }
    if wanted("kills.") {
        kills::run(args.from, args.count, &mut emit);
    }
    if wanted("nights.") {
        nights::nights(args.from, args.seeds, now_ns, &mut emit);
    }
    if wanted("mutants.") {
        nights::mutants(args.from, case, &mut emit);
    }
    if wanted("spool.")
        && let Err(error) = spool::run(name, args.from, &mut emit)
    {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "error: spool: {error}");
        return ExitCode::FAILURE;
    }
    if wanted("session.")
        && let Err(error) = session::run(&mut emit)
    {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "error: session: {error}");
        return ExitCode::FAILURE;
    }
    if wanted("stall.")
        && let Err(error) = stall::run(&mut emit)
    {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "error: stall: {error}");
        return ExitCode::FAILURE;
    }
    if wanted("store.")
        && let Err(error) = store::run(name, args.from, now_ns, &mut emit)
    {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "error: store: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// True where `name` is the measure, its group, or nothing at all.
fn is_prefix(name: &str, measure: &str) -> bool {
    measure.starts_with(name)
}

fn now_ns() -> u64 {
    SystemClock.now().0
}

fn print(figure: &Figure) {
    let mut object = json!({
        "measure": figure.measure,
        "case": figure.case,
        "value": figure.value,
        "unit": figure.unit,
    });
    if let Some(fields) = object.as_object_mut() {
        if let Some(limit) = figure.limit {
            fields.insert("limit".into(), json!(limit));
        }
        if let Some(limit_is) = figure.limit_is {
            fields.insert("limit_is".into(), json!(limit_is));
        }
    }
    if writeln!(io::stdout(), "{object}").is_err() {
        std::process::exit(0);
    }
}
