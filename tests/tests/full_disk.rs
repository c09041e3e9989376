//! A disk that is full, on either side.
//!
//! The small disk is a tmpfs in a mount namespace of the process under test:
//! it is gone with the process, whatever happens to the test.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use wattline_protocol::record::{NoticeKind, Record};
use wattline_tests::{Agent, AgentFlags, SMALL, Sandbox, is_root, program};

/// A command that runs `name` with `folder` on a disk of `bytes`; `None` where
/// the kernel lets these tests mount nothing.
fn on_a_small_disk(sandbox: &Sandbox, folder: &Path, bytes: u32, name: &str) -> Option<Command> {
    let unshare: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let script = "mount -t tmpfs -o \"size=$1\" small \"$2\" && shift 2 && exec \"$@\"";
    let common = |what: &Path| {
        let mut command = sandbox.command("unshare");
        command.args(unshare).args(["sh", "-c", script, "sh", &bytes.to_string()]);
        command.arg(folder).arg(what);
        command
    };
    fs::create_dir_all(folder).unwrap();
    let tried = sandbox.start(common(Path::new("true"))).finish();
    if tried.code != Some(0) {
        println!("skipped: no disk of its own can be mounted here: {}", tried.stderr);
        return None;
    }
    Some(common(&program(name)))
}

/// Takes the room that is left on the disk below `folder`.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut ballast = File::create(&path).unwrap();
    // The smallest write that fails tells that not a page is left.
    for size in [65_536, 4_096, 1] {
        let bytes = vec![0; size];
        while ballast.write_all(&bytes).is_ok() {}
    }
    path
}

fn seen_by(pid: i32, folder: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{}", folder.display()))
}

#[test]
fn a_host_disk_full_in_mid_run_loses_nothing_of_the_board() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let disk = sandbox.path("disk");
    let Some(mut command) = on_a_small_disk(&sandbox, &disk, 4 << 20, "wattline") else { return };
    command.args(["run", "--on", &board]).arg("--out").arg(disk.join("run"));
    let host = sandbox.start({
        command.args(SMALL).args(["--batch", "1", "--windows", "1"]);
        command
    });
    agent.wait_for_a_trial();
    fill(&seen_by(host.pid(), &disk));
    let outcome = host.finish();
    let outcome = outcome.fails_with(1, &["full", "make room", "wattline fetch", "--on"]);
    assert!(outcome.stderr.contains("recording.sqlite"), "{outcome:#?}");
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    let id = status["runs"][0]["run"].as_str().unwrap();
    let fetch = sandbox.wattline(&["fetch", id, "--on", &board, "--json"]);
    assert!(matches!(fetch.code, Some(0 | 4)), "{fetch:#?}");
    let frames = agent.recorded();
    frames.assert_contiguous();
    assert_eq!(fetch.json()["frames_sha256"], frames.sha256());
}

#[test]
fn a_host_without_room_starts_nothing_on_the_board() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let disk = sandbox.path("disk");
    let Some(mut command) = on_a_small_disk(&sandbox, &disk, 16_384, "wattline") else { return };
    command.args(["run", "--on", &board]).arg("--out").arg(disk.join("run"));
    command.args(SMALL);
    sandbox.start(command).finish().fails_with(1, &["full", "make room"]);
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert!(status["current"].is_null(), "{status}");
    assert_eq!(agent.recorded().count(), 0);
}

#[test]
fn a_board_without_room_refuses_before_the_start_and_begins_once_there_is_some() {
    let sandbox = Sandbox::new();
    let disk = sandbox.path("disk");
    let size = 200 << 20;
    let Some(command) = on_a_small_disk(&sandbox, &disk, size, "wattline-agent") else { return };
    let flags = AgentFlags { spool: disk.join("spool"), ..AgentFlags::named(&sandbox, "board") };
    let agent = Agent::start_by(&sandbox, command, flags);
    let ballast = fill(&agent.sees(&disk));
    let board = agent.address();
    let refused = sandbox.small_run(&board, "run").fails_with(3, &["disk", "free"]);
    assert!(!sandbox.work().join("run").exists(), "{refused:#?}");
    assert_eq!(agent.recorded().count(), 0);
    fs::remove_file(ballast).unwrap();
    let detached = ["run", "--on", &board, "--detach", "--batch", "1", "--windows", "1"];
    let outcome = sandbox.wattline(&[&detached[..], &SMALL].concat()).ends_with(0);
    agent.wait_for_a_trial();
    sandbox.wattline(&["stop", outcome.last_line(), "--on", &board]).ends_with(0);
}

#[test]
fn a_board_disk_full_in_mid_run_is_stated_and_once_there_is_room_nothing_is_lost() {
    let sandbox = Sandbox::new();
    let disk = sandbox.path("disk");
    let size = 200 << 20;
    let Some(command) = on_a_small_disk(&sandbox, &disk, size, "wattline-agent") else { return };
    let flags = AgentFlags { spool: disk.join("spool"), ..AgentFlags::named(&sandbox, "board") };
    let agent = Agent::start_by(&sandbox, command, flags);
    let board = agent.address();
    let detached = ["run", "--on", &board, "--detach", "--batch", "1", "--windows", "2"];
    let outcome = sandbox.wattline(&[&detached[..], &SMALL].concat()).ends_with(0);
    agent.wait_for_a_trial();
    let ballast = fill(&agent.sees(&disk));
    agent.wait_for("the full disk is noticed", |record| {
        is_notice(record, &NoticeKind::BoardDiskFull)
    });
    fs::remove_file(ballast).unwrap();
    let fetch = ["fetch", outcome.last_line(), "--on", &board, "--json"];
    let fetched = sandbox.wattline(&fetch);
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    let frames = agent.recorded();
    assert_eq!(fetched.json()["frames_sha256"], frames.sha256());
    let back = |record: &Record| is_notice(record, &NoticeKind::BoardDiskBack);
    assert!(frames.records().iter().any(back), "that there is room again is not recorded");
}

fn is_notice(record: &Record, kind: &NoticeKind) -> bool {
    matches!(record, Record::Notice(notice) if notice.what == *kind)
}
