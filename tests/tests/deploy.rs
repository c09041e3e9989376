//! `wattline deploy` against a real sshd on loopback.
//!
//! The board's root is a folder, and its systemd two short scripts that start
//! and stop the real agent; host, ssh, the script on the board and the agent are
//! the real ones. A board with a real systemd is tests/virtual-board.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use wattline_tests::{Outcome, Sandbox, Sshd, program, until};

/// Starts and stops the agent as the unit says.
const SYSTEMCTL: &str = r#"#!/bin/sh
root=$WATTLINE_ROOT; pid=$root/run/agent.pid; board=$root/opt/wattline/current/board/board.sh
alive() { [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }
halt() { alive && kill "$(cat "$pid")"; while alive; do sleep 0.05; done; rm -f "$pid"; }
echo "$*" >>"$root/systemctl.log"
case "$*" in
--version) echo "systemd 252 (252.38)" ;;
is-active*) alive && { case "$*" in *quiet*) ;; *) echo active ;; esac; } ;;
daemon-reload | enable*) ;;
disable*) halt ;;
"restart wattline-runner.socket" | "restart wattline-board.socket") ;;
restart*)
    halt
    sh "$board" guard
    mkdir -p "$root/run/wattline" "$root/var/lib/wattline"
    setsid "$root/opt/wattline/current/bin/wattline-agent" serve --simulated \
        --socket "$root/run/wattline/agent.sock" --spool "$root/var/lib/wattline" \
        >"$root/run/ready" 2>"$root/run/log" </dev/null &
    echo $! >"$pid"
    tries=0
    until grep -q '^ready' "$root/run/ready"; do
        tries=$((tries + 1))
        { [ "$tries" -lt 200 ] && alive; } || exit 1
        sleep 0.05
    done
    sh "$board" proven
    ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
"#;

/// Runs what follows the flags, out of reach of a cut link.
const SYSTEMD_RUN: &str = "#!/bin/sh\nwhile [ \"$1\" != /bin/sh ]; do shift; done\n\
                           exec setsid --wait \"$@\"\n";

const JOURNALCTL: &str = "#!/bin/sh\ntail -n 2 \"$WATTLINE_ROOT/run/log\"\n";

struct Board {
    sandbox: Sandbox,
    sshd: Sshd,
    root: PathBuf,
}

impl Board {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (root, bin) = (sandbox.path("root"), sandbox.path("stubs"));
        fs::create_dir_all(root.join("proc/1")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        fs::create_dir_all(&bin).unwrap();
        fs::write(root.join("proc/1/comm"), "systemd\n").unwrap();
        for (name, text) in
            [("systemctl", SYSTEMCTL), ("systemd-run", SYSTEMD_RUN), ("journalctl", JOURNALCTL)]
        {
            write_program(&bin.join(name), text);
        }
        let path = format!("{}:{}/usr/local/bin:/usr/bin:/bin", bin.display(), root.display());
        let variables = [
            ("PATH", path),
            ("HOME", sandbox.path("home").display().to_string()),
            ("WATTLINE_ROOT", root.display().to_string()),
            ("WATTLINE_SOCKET", root.join("run/wattline/agent.sock").display().to_string()),
        ];
        // As the board's sudo would be: the test may run as root or not.
        write_program(&bin.join("sudo"), "#!/bin/sh\n[ \"$1\" != -n ] || shift\nexec \"$@\"\n");
        let sshd = Sshd::new(&sandbox, &variables);
        Self { sandbox, sshd, root }
    }

    fn deploy(&self, args: &[&str]) -> Outcome {
        let mut command = self.sandbox.command(program("wattline"));
        command.env("WATTLINE_SSH", &self.sshd.ssh).args(["deploy", &self.sshd.address()]);
        command.args(args);
        self.sandbox.start(command).finish()
    }

    fn current(&self) -> Option<PathBuf> {
        fs::read_link(self.root.join("opt/wattline/current")).ok()
    }

    /// What the agent on the board says of itself.
    fn hello(&self) -> Outcome {
        let mut command = self.sandbox.command(program("wattline-agent"));
        command.arg("hello").arg("--socket").arg(self.root.join("run/wattline/agent.sock"));
        self.sandbox.start(command).finish()
    }

    /// The agent with a byte more: the same program, another version.
    fn other_agent(&self) -> String {
        let path = self.sandbox.path("other-agent");
        let mut bytes = fs::read(program("wattline-agent")).unwrap();
        bytes.push(0);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// A program that says its version and cannot serve.
    fn broken_agent(&self) -> String {
        let path = self.sandbox.path("broken-agent");
        fs::copy("/bin/echo", &path).unwrap();
        path.display().to_string()
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_fresh_board_gets_an_agent_that_answers_and_a_second_time_changes_nothing() {
    let board = Board::new();
    let dry = board.deploy(&["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry:#?}");
    assert!(dry.stdout.contains("/etc/systemd/system/wattline-agent.service"), "{dry:#?}");
    assert!(board.current().is_none(), "a dry run changed the board");

    let first = board.deploy(&[]);
    assert_eq!(first.code, Some(0), "{first:#?}");
    assert!(first.last_line().contains("answers"), "{first:#?}");
    let version = board.current().unwrap();
    assert_eq!(board.hello().code, Some(0));

    let second = board.deploy(&[]);
    assert_eq!(second.code, Some(0), "{second:#?}");
    assert!(second.stdout.contains("it runs already"), "{second:#?}");
    assert!(second.stderr.contains("holds these files already"), "{second:#?}");
    assert_eq!(board.current().unwrap(), version);
}

#[test]
fn a_new_version_replaces_the_old_and_a_rollback_brings_it_back() {
    let board = Board::new();
    assert_eq!(board.deploy(&[]).code, Some(0));
    let old = board.current().unwrap();
    let none = board.deploy(&["--rollback"]);
    none.fails_with(3, &["no version before"]);

    let upgraded = board.deploy(&["--agent", &board.other_agent()]);
    assert_eq!(upgraded.code, Some(0), "{upgraded:#?}");
    assert_ne!(board.current().unwrap(), old);
    let back = board.deploy(&["--rollback"]);
    assert_eq!(back.code, Some(0), "{back:#?}");
    assert_eq!(board.current().unwrap(), old);
    assert_eq!(board.hello().code, Some(0));
}

#[test]
fn a_version_that_does_not_serve_is_put_back_by_the_board() {
    let board = Board::new();
    assert_eq!(board.deploy(&[]).code, Some(0));
    let old = board.current().unwrap();
    let refused = board.deploy(&["--agent", &board.broken_agent()]);
    refused.fails_with(1, &["does not answer", "the version before runs"]);
    assert_eq!(board.current().unwrap(), old);
    assert_eq!(board.hello().code, Some(0), "the old version does not run");
}

#[test]
fn a_power_cut_after_the_switch_is_mended_by_the_guard() {
    let board = Board::new();
    assert_eq!(board.deploy(&[]).code, Some(0));
    let (old, home) = (board.current().unwrap(), board.root.join("opt/wattline"));
    // As a cut leaves it: the switch is made, nobody has seen the version work.
    let bad = home.join("versions/bad");
    fs::create_dir_all(bad.join("bin")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(home.join(&old).join("board")).arg(&bad).status();
    assert!(copied.unwrap().success());
    fs::copy("/bin/false", bad.join("bin/wattline-agent")).unwrap();
    fs::write(home.join("unproven"), format!("{}\n", old.display())).unwrap();
    fs::remove_file(home.join("current")).unwrap();
    std::os::unix::fs::symlink("versions/bad", home.join("current")).unwrap();
    let script = home.join(&old).join("board/board.sh");
    let path = format!("{}:/usr/bin:/bin", board.sandbox.path("stubs").display());
    for start in 1..=6 {
        let mut guard = Command::new("sh");
        guard.arg(&script).arg("guard").env("WATTLINE_ROOT", &board.root).env("PATH", &path);
        assert!(guard.status().unwrap().success());
        assert_eq!(board.current().unwrap() == old, start == 6, "start {start}");
    }
}

#[test]
fn what_is_removed_leaves_the_records() {
    let board = Board::new();
    board.deploy(&["--remove"]).fails_with(3, &["nothing of Wattline is deployed"]);
    assert_eq!(board.deploy(&[]).code, Some(0));
    let records = board.root.join("var/lib/wattline");
    assert!(records.join("board-id").is_file());
    let removed = board.deploy(&["--remove"]);
    assert_eq!(removed.code, Some(0), "{removed:#?}");
    assert!(removed.stdout.contains("records that no host may have"), "{removed:#?}");
    assert!(!board.root.join("opt/wattline").exists());
    assert!(!board.root.join("etc/systemd/system/wattline-agent.service").exists());
    assert!(records.join("board-id").is_file(), "records were removed");
    assert_eq!(board.hello().code, Some(1));
}

#[test]
fn a_link_that_is_cut_does_not_leave_a_board_half_way() {
    let board = Board::new();
    let mut command = board.sandbox.command(program("wattline"));
    command.env("WATTLINE_SSH", &board.sshd.ssh).args(["deploy", &board.sshd.address()]);
    let mut host = board.sandbox.start(command);
    until("the script is at work on the board", || {
        board.root.join("opt/wattline/versions").exists().then_some(())
    });
    host.kill();
    until("the board has finished by itself", || {
        (board.hello().code == Some(0) && !board.root.join("opt/wattline/unproven").exists())
            .then_some(())
    });
}

#[test]
fn a_board_that_cannot_be_deployed_to_is_left_as_it_was() {
    let board = Board::new();
    let script = board.sandbox.path("script");
    write_program(&script, "#!/bin/sh\n");
    board
        .deploy(&["--agent", &script.display().to_string()])
        .fails_with(1, &["not a 64-bit Linux program", "--agent"]);
    // An aarch64 program by its header, on this x86-64 or arm64 machine the other way round.
    let foreign = board.sandbox.path("foreign");
    let mut header = fs::read(program("wattline-agent")).unwrap();
    header[18] = if header[18] == 0x3e { 0xb7 } else { 0x3e };
    fs::write(&foreign, header).unwrap();
    board
        .deploy(&["--agent", &foreign.display().to_string()])
        .fails_with(3, &["is a program for", "the board is"]);
    fs::write(board.root.join("proc/1/comm"), "runit\n").unwrap();
    board
        .deploy(&[])
        .fails_with(3, &["not run by systemd", "wattline-agent onto the board's PATH"]);
    assert!(board.current().is_none());
    assert!(!board.root.join("etc").exists());
}

#[test]
fn only_a_board_behind_ssh_is_deployed_to() {
    let sandbox = Sandbox::new();
    sandbox.wattline(&["deploy", "simulated"]).fails_with(2, &["ssh://user@host"]);
    sandbox.wattline(&["deploy", "ssh://"]).fails_with(2, &["ssh://"]);
}

#[test]
fn another_host_key_than_the_known_one_is_refused() {
    let board = Board::new();
    assert_eq!(board.deploy(&["--dry-run"]).code, Some(0));
    board.sshd.change_host_key();
    board.deploy(&[]).fails_with(1, &["host key", "ssh-keygen -R"]);
    assert!(board.current().is_none());
}
