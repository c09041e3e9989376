//! Runners behind a socket, as systemd has them (`Accept=yes`).
//!
//! The test stands for systemd: it accepts, and starts the real runner with the
//! connection as standard input and output.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use wattline_protocol::record::{FailureCause, Record, TrialOutcome};
use wattline_tests::{Agent, AgentFlags, Sandbox, program};

/// Accepts for ever; counts. A runner gets `memory_mb` of address space at most.
fn serve(path: &Path, memory_mb: Option<u32>) -> Arc<AtomicU32> {
    let listener = UnixListener::bind(path).unwrap();
    let started = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&started);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let input = OwnedFd::from(stream.unwrap());
            let output = input.try_clone().unwrap();
            let limit =
                memory_mb.map_or_else(String::new, |mb| format!("ulimit -v {}; ", mb * 1024));
            let mut runner = Command::new("sh")
                .args(["-c", &format!("{limit}exec \"$0\" runner --accepted")])
                .arg(program("wattline-agent"))
                .stdin(input)
                .stdout(output)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || runner.wait());
        }
    });
    started
}

fn agent(sandbox: &Sandbox, socket: &Path) -> Agent {
    let mut command = sandbox.command(program("wattline-agent"));
    command.env("WATTLINE_RUNNER_SOCKET", socket);
    Agent::start_by(sandbox, command, AgentFlags::named(sandbox, "board"))
}

#[test]
fn each_trial_has_a_process_of_the_service() {
    let sandbox = Sandbox::new();
    let socket = sandbox.path("runner.sock");
    let started = serve(&socket, None);
    let agent = agent(&sandbox, &socket);
    let outcome = sandbox.small_run(&agent.address(), "run");
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    let records = agent.recorded().records();
    let trials = records.iter().filter(|r| matches!(r, Record::TrialStart(_))).count();
    assert!(trials > 0);
    assert_eq!(u32::try_from(trials).unwrap(), started.load(Ordering::Relaxed));
    let measured = |record: &&Record| matches!(record, Record::TrialEnd(end) if end.outcome == TrialOutcome::Measured);
    assert_eq!(records.iter().filter(measured).count(), trials, "{records:#?}");
}

#[test]
fn a_runner_that_runs_out_of_memory_costs_its_trial_alone() {
    let sandbox = Sandbox::new();
    let socket = sandbox.path("runner.sock");
    // Enough to start, too little to load a network.
    let _started = serve(&socket, Some(48));
    let agent = agent(&sandbox, &socket);
    let outcome = sandbox.small_run(&agent.address(), "run");
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    let records = agent.recorded().records();
    let mut ends = records.iter().filter_map(|record| match record {
        Record::TrialEnd(end) => Some(end.outcome),
        _ => None,
    });
    let first = ends.next().unwrap();
    assert!(
        matches!(
            first,
            TrialOutcome::Failed(FailureCause::RunnerGone | FailureCause::RunnerNotStarted)
        ),
        "{first:?}"
    );
    assert!(records.iter().any(|record| matches!(record, Record::RunEnd(_))));
}
