//! A board over the user's own OpenSSH, against a real sshd on loopback.
//!
//! The agent on that board is simulated whatever it is told; ssh, sshd, host and
//! agent are the real ones.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wattline_protocol::record::Record;
use wattline_tests::{AgentFlags, Frames, SMALLEST, Sandbox, Sshd, program, until};

/// A board that is reached by ssh alone.
struct Board {
    flags: AgentFlags,
    sshd: Sshd,
}

impl Board {
    fn new(sandbox: &Sandbox) -> Self {
        let flags = AgentFlags::named(sandbox, "board");
        write_agent_wrapper(sandbox, &flags);
        let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
        let sshd = Sshd::new(sandbox, &[("PATH", path)]);
        Self { flags, sshd }
    }

    fn address(&self) -> String {
        self.sshd.address()
    }

    fn command(&self, sandbox: &Sandbox, args: &[&str]) -> Command {
        let mut command = sandbox.command(program("wattline"));
        command.env("WATTLINE_SSH", &self.sshd.ssh).args(args);
        command
    }
}

/// On the board's PATH lies an agent that is simulated whatever it is told.
fn write_agent_wrapper(sandbox: &Sandbox, flags: &AgentFlags) {
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    let mut told = Command::new(program("wattline-agent"));
    flags.add_to(&mut told);
    let words: Vec<_> = told.get_args().map(|word| format!("'{}'", word.display())).collect();
    let (agent, home) = (told.get_program().display(), sandbox.path("home"));
    let text =
        format!("#!/bin/sh\nHOME='{}' exec '{agent}' \"$@\" {}\n", home.display(), words.join(" "));
    write_program(&bin.join("wattline-agent"), &text);
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_run_over_ssh_ends_with_a_report() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let address = board.address();
    let args = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let outcome = sandbox.start(board.command(&sandbox, &args)).finish();
    // 4: a busy machine left a gap in the window.
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    assert!(outcome.stderr.contains("simulated"), "{outcome:#?}");
    assert!(sandbox.work().join(outcome.last_line()).is_file());
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, Frames::of_tee(&board.flags.tee));
}

#[test]
fn a_run_completes_though_its_ssh_link_is_cut_in_the_middle() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let address = board.address();
    let args = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let host = sandbox.start(board.command(&sandbox, &args));
    until("a trial starts", || {
        let records = Frames::of_tee(&board.flags.tee).records();
        records.iter().any(|record| matches!(record, Record::TrialStart(_))).then_some(())
    });
    let links = || fs::read_to_string(&board.sshd.pids).unwrap_or_default();
    let before = links();
    assert_eq!(before.lines().count(), 1, "one link carries a run");
    kill(Pid::from_raw(before.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    let outcome = host.finish();
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    assert!(links().lines().count() > 1, "the link was not cut");
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    recording.assert_contiguous();
    assert_eq!(recording, Frames::of_tee(&board.flags.tee));
}

#[test]
fn a_host_that_ssh_cannot_reach_fails_with_what_ssh_said() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    // A key that the board does not know.
    board.sshd.forget_user();
    let address = board.address();
    let args = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let outcome = sandbox.start(board.command(&sandbox, &args)).finish();
    outcome.fails_with(1, &[&address, "Permission denied"]);
    assert!(!sandbox.work().join("run").exists());
}
