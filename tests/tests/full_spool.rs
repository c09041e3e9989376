//! A spool without room: refused at the start, thinned or stopped in mid-run.
//!
//! The small disk is a tmpfs in a mount namespace of the agent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use wattline_protocol::record::{NoticeKind, Record, RunEnd, RunOutcome};
use wattline_tests::{Agent, AgentFlags, SMALL, Sandbox, is_root, program};

const DISK_BYTES: u64 = 200 << 20;
const RESERVE_BYTES: u64 = 64 << 20;
/// Less than samples leave to the rest (a twentieth of half of the disk).
const LEFT_BYTES: u64 = 3 << 20;

#[test]
fn a_run_that_does_not_fit_the_quota_is_refused_with_all_numbers() {
    let sandbox = Sandbox::new();
    let quota = ["--spool-quota", "20MB", "--spool-reserve", "1MiB"].map(str::to_owned);
    let flags = AgentFlags { more: quota.to_vec(), ..AgentFlags::named(&sandbox, "board") };
    let agent = Agent::start_with(&sandbox, flags);
    let board = agent.address();
    let many = ["run", "--on", &board, "--networks", "resnet18", "--size", "64", "--batch", "1"];
    let long = [&many[..], &["--windows", "100", "--window-s-min", "60", "--detach"]].concat();
    let refused = sandbox.wattline(&long);
    refused.fails_with(3, &["20.0 MB", "quota", "1.0 MB", "--spool-quota", "fetch"]);
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert_eq!(status["spool"]["quota_bytes"], 20_000_000);
    assert_eq!(status["spool"]["reserve_bytes"], 1 << 20);
    assert_eq!(status["spool"]["when_full"], "drop");
    assert!(status["current"].is_null());
    let told = sandbox.wattline(&["status", "--on", &board]).ends_with(0);
    assert!(told.stdout.contains("of 20 MB used"), "{}", told.stdout);
}

#[test]
fn a_quota_with_which_no_run_begins_is_refused_at_the_start() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(program("wattline-agent"));
    command.args(["serve", "--simulated", "--spool-quota", "1MB"]);
    let outcome = sandbox.start(command).finish();
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
    assert!(outcome.stderr.contains("too few"), "{outcome:#?}");
}

/// A command that starts the agent with `folder` on a small disk; `None` where
/// the kernel lets these tests mount nothing.
fn on_a_small_disk(sandbox: &Sandbox, folder: &Path) -> Option<Command> {
    let unshare: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let script = "mount -t tmpfs -o \"size=$1\" small \"$2\" && shift 2 && exec \"$@\"";
    let common = |what: &Path| {
        let mut command = sandbox.command("unshare");
        command.args(unshare).args(["sh", "-c", script, "sh", &DISK_BYTES.to_string()]);
        command.arg(folder).arg(what);
        command
    };
    std::fs::create_dir_all(folder).unwrap();
    let tried = sandbox.start(common(Path::new("true"))).finish();
    if tried.code != Some(0) {
        println!("skipped: no disk of its own can be mounted here: {}", tried.stderr);
        return None;
    }
    Some(common(&program("wattline-agent")))
}

/// A run on a board whose disk fills up in its middle; its id once it is over.
fn filled_up(sandbox: &Sandbox, policy: &str) -> Option<(Agent, String)> {
    let disk = sandbox.path("disk");
    let command = on_a_small_disk(sandbox, &disk)?;
    let flags = AgentFlags {
        spool: disk.join("spool"),
        more: vec!["--when-full".into(), policy.into()],
        ..AgentFlags::named(sandbox, "board")
    };
    let agent = Agent::start_by(sandbox, command, flags);
    let board = agent.address();
    let run = ["run", "--on", &board, "--detach", "--batch", "1", "--windows", "3"];
    let outcome = sandbox.wattline(&[&run[..], &SMALL].concat()).ends_with(0);
    agent.wait_for_a_trial();
    let free = DISK_BYTES - RESERVE_BYTES - LEFT_BYTES - (1 << 20);
    let mut ballast = File::create(agent.sees(&disk).join("ballast")).unwrap();
    for _ in 0..free / 65_536 {
        ballast.write_all(&[0; 65_536]).unwrap();
    }
    agent.wait_for("the run is over", |record| matches!(record, Record::RunEnd(_)));
    Some((agent, outcome.last_line().to_owned()))
}

fn notices(agent: &Agent, is_it: impl Fn(&NoticeKind) -> bool) -> usize {
    let records = agent.recorded().records();
    records.iter().filter(|r| matches!(r, Record::Notice(n) if is_it(&n.what))).count()
}

#[test]
fn the_policy_to_stop_ends_a_run_in_order_before_anything_is_lost() {
    let sandbox = Sandbox::new();
    let Some((agent, id)) = filled_up(&sandbox, "stop") else { return };
    assert_eq!(notices(&agent, |what| matches!(what, NoticeKind::NoRoom(_))), 1);
    let frames = agent.recorded();
    let records = frames.records();
    let ended = records.iter().find_map(|record| match record {
        Record::RunEnd(RunEnd { outcome, .. }) => Some(*outcome),
        _ => None,
    });
    assert_eq!(ended, Some(RunOutcome::Failed));
    assert!(!records.iter().any(|r| matches!(r, Record::Gap(_) | Record::SampleAggregates(_))));
    let fetch = ["fetch", &id, "--on", &agent.address(), "--json"];
    let fetched = sandbox.wattline(&fetch);
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    assert_eq!(fetched.json()["frames_sha256"], frames.sha256());
}
