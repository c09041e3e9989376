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

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use wattline_tests::{Outcome, Sandbox, Sshd, free_port, program, until};

/// Starts and stops agent and gate as their units say.
const SYSTEMCTL: &str = r#"#!/bin/sh
root=$WATTLINE_ROOT; run=$root/run; bin=$root/opt/wattline/current/bin/wattline-agent
board=$root/opt/wattline/current/board/board.sh
alive() { [ -s "$run/$1.pid" ] && kill -0 "$(cat "$run/$1.pid")" 2>/dev/null; }
halt() { alive "$1" && kill "$(cat "$run/$1.pid")"; while alive "$1"; do sleep 0.05; done; rm -f "$run/$1.pid"; }
await() { # NAME: until it says that it is ready
    tries=0
    until grep -q '^ready' "$run/$1.ready"; do
        tries=$((tries + 1))
        { [ "$tries" -lt 400 ] && alive "$1"; } || exit 1
        sleep 0.05
    done
}
open_gate() {
    halt gate
    set -a; . "$root/etc/wattline/gate.env"; set +a
    setsid "$bin" gate --keys "$root/var/lib/wattline-gate" --socket "$run/wattline/agent.sock" \
        >"$run/gate.ready" 2>"$run/gate.log" </dev/null &
    echo $! >"$run/gate.pid"
    await gate
}
echo "$*" >>"$run/systemctl.log"
case "$*" in
--version) echo "systemd 252 (252.38)" ;;
is-active*gate*) alive gate ;;
is-active*) alive agent && { case "$*" in *quiet*) ;; *) echo active ;; esac; } ;;
daemon-reload | enable*) ;;
disable*gate*agent*) halt gate; halt agent ;;
disable*gate*) halt gate ;;
disable*) halt agent ;;
"restart wattline-runner.socket" | "restart wattline-board.socket") ;;
try-restart*gate*) ! alive gate || open_gate ;;
restart*gate*) open_gate ;;
restart*)
    halt agent
    sh "$board" guard
    mkdir -p "$run/wattline" "$root/var/lib/wattline"
    setsid "$bin" serve --simulated --socket "$run/wattline/agent.sock" \
        --spool "$root/var/lib/wattline" >"$run/agent.ready" 2>"$run/agent.log" </dev/null &
    echo $! >"$run/agent.pid"
    await agent
    sh "$board" proven
    ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
"#;

/// Runs what follows the flags, out of reach of a cut link.
const SYSTEMD_RUN: &str = "#!/bin/sh\nwhile [ \"$1\" != /bin/sh ]; do shift; done\n\
                           exec setsid --wait \"$@\"\n";

const JOURNALCTL: &str = "#!/bin/sh\ncase $* in *gate*) name=gate ;; *) name=agent ;; esac\n\
                          tail -n 4 \"$WATTLINE_ROOT/run/$name.log\"\n";

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

    /// `wattline` as whoever sits at the desk.
    fn wattline(&self, args: &[&str]) -> Outcome {
        let mut command = self.sandbox.command(program("wattline"));
        command.env("WATTLINE_SSH", &self.sshd.ssh).env("WATTLINE_NAME", "ana@desk").args(args);
        self.sandbox.start(command).finish()
    }

    /// What the board has but for its records and what runs: each file's or link's
    /// contents by its name.
    fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                let below = path.strip_prefix(&self.root).unwrap().to_owned();
                if below == Path::new("run") || below == Path::new("var/lib/wattline") {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_symlink() {
                    let target = fs::read_link(&path).unwrap();
                    found.insert(below, target.into_os_string().into_encoded_bytes());
                } else {
                    found.insert(below, Sha256::digest(fs::read(&path).unwrap()).to_vec());
                }
            }
        }
        found
    }

    /// The script on the board, as root there runs it, with `path` before its commands.
    fn script(&self, path: &str, words: &[&str]) -> Outcome {
        let mut command = self.sandbox.command("sh");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/board/board.sh");
        command.arg(script).args(words).env("WATTLINE_ROOT", &self.root);
        command.env("PATH", format!("{path}{}:/usr/sbin:/usr/bin:/sbin:/bin", self.stubs()));
        self.sandbox.start(command).finish()
    }

    fn stubs(&self) -> String {
        self.sandbox.path("stubs").display().to_string()
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

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
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

#[test]
fn a_gate_is_opened_with_keys_that_went_over_ssh_and_closed_again() {
    let board = Board::new();
    let port = free_port();
    let place = format!("127.0.0.1:{port}");
    let opened = board.wattline(&["deploy", &board.sshd.address(), "--tls", &place]);
    assert_eq!(opened.code, Some(0), "{opened:#?}");
    assert!(opened.last_line().contains(&format!("tls://{place}")), "{opened:#?}");
    let status = ["status", "--on", &format!("tls://{place}")];
    let _ = board.wattline(&status).ends_with(0);
    let listed = board.wattline(&["keys", "list", "--on", &board.sshd.address()]).ends_with(0);
    assert!(listed.stdout.trim_end().ends_with(" ana@desk"), "{listed:#?}");
    let again = board.wattline(&["deploy", &board.sshd.address(), "--tls", &place]);
    assert_eq!(again.code, Some(0), "{again:#?}");
    let own = board.wattline(&["keys", "list"]).ends_with(0);
    assert_eq!(own.stdout.lines().count(), 1, "{own:#?}");
    // An upgrade of the agent leaves the gate open.
    let upgraded = board.deploy(&["--agent", &board.other_agent()]);
    assert_eq!(upgraded.code, Some(0), "{upgraded:#?}");
    let _ = board.wattline(&status).ends_with(0);
    let revoked = board.wattline(&["keys", "revoke", "ana@desk", "--on", &board.sshd.address()]);
    assert_eq!(revoked.code, Some(0), "{revoked:#?}");
    board.wattline(&status).fails_with(1, &["does not take this side's key"]);
    let closed = board.wattline(&["deploy", &board.sshd.address(), "--tls", "off"]);
    assert_eq!(closed.code, Some(0), "{closed:#?}");
    board.wattline(&status).fails_with(1, &["nobody listens there"]);
    assert!(!board.root.join("etc/wattline/gate.env").exists());
}

#[test]
fn a_port_that_is_taken_leaves_a_board_as_it_was() {
    let board = Board::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let before = board.tree();
    let refused = board.deploy(&["--tls", &place]);
    refused.fails_with(3, &[&port, "in use", "ss -ltnp"]);
    assert_eq!(board.tree(), before);
    // Taken between the question and the answer: the agent is there, the gate is not.
    assert_eq!(board.deploy(&[]).code, Some(0));
    let before = board.tree();
    let pin = board.wattline(&["keys", "show"]).ends_with(0).stdout;
    let pin = pin.split(' ').next().unwrap();
    let refused = board.script("", &["gate", "on", "listen", &place, "ana@desk", pin]);
    assert_eq!(refused.code, Some(10), "{refused:#?}");
    assert!(refused.stdout.contains("in use"), "{refused:#?}");
    assert_eq!(board.tree(), before);
    board.deploy(&["--tls", "http"]).ends_with(2);
}

#[test]
fn a_board_without_sudo_or_room_is_left_as_it_was() {
    let board = Board::new();
    let before = board.tree();
    let full = "#!/bin/sh\nprintf 'a b c d\\nx 1 1 512 1%% /\\n'\n";
    write_program(&board.sandbox.path("stubs/df"), full);
    board.deploy(&[]).fails_with(3, &["512 KiB free", "free some space"]);
    // Filled up between the question and the upload's end.
    let bundle = board.sandbox.file("bundle.tar", "not looked into");
    let sha = sha256(b"not looked into");
    let words = ["install", &bundle.display().to_string(), &sha, "root"];
    let refused = board.script("", &words);
    assert_eq!(refused.code, Some(10), "{refused:#?}");
    assert!(refused.stdout.contains("512 KiB free"), "{refused:#?}");
    fs::remove_file(board.sandbox.path("stubs/df")).unwrap();
    let torn = board.script("", &["install", words[1], &"0".repeat(64), "root"]);
    assert!(torn.stdout.contains("not what was sent"), "{torn:#?}");
    // Whoever logs in is no root, and sudo is not for them.
    write_program(
        &board.sandbox.path("stubs/id"),
        "#!/bin/sh\n[ \"$1\" = -un ] && echo lab || echo 1000\n",
    );
    write_program(&board.sandbox.path("stubs/sudo"), "#!/bin/sh\nexit 1\n");
    let refused = board.deploy(&[]);
    refused.fails_with(3, &["lab", "sudo"]);
    assert_eq!(board.tree(), before);
}

/// Commands of the script that may fail, or not be there.
const COMMANDS: [&str; 19] = [
    "awk",
    "cat",
    "chmod",
    "chown",
    "cp",
    "df",
    "head",
    "ln",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sync",
    "systemctl",
    "tar",
    "wc",
    "journalctl",
];

/// Counts calls of all commands, notes each, and lets the one whose number is in `at`
/// fail. What systemctl starts is not counted.
fn write_faults(board: &Board) -> PathBuf {
    let folder = board.sandbox.path("faults");
    fs::create_dir_all(&folder).unwrap();
    let stubs = board.stubs();
    for name in COMMANDS {
        let text = format!(
            "#!/bin/sh\nf={0}\nexec 9>$f/lock; /usr/bin/flock 9\n\
             n=$(($(/bin/cat $f/count) + 1)); echo $n >$f/count; echo {name} >>$f/calls\n\
             exec 9>&-\n[ $n -ne \"$(/bin/cat $f/at)\" ] || exit 1\n\
             PATH={stubs}:/usr/sbin:/usr/bin:/sbin:/bin exec {name} \"$@\"\n",
            folder.display()
        );
        write_program(&folder.join(name), &text);
    }
    write_program(&folder.join("sleep"), "#!/bin/sh\nexec /bin/sleep 0.02\n");
    folder
}

/// First and last call of each command.
fn chosen(calls: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for name in COMMANDS {
        let of_name = calls.lines().enumerate().filter(|(_, call)| *call == name);
        let places: Vec<usize> = of_name.map(|(place, _)| place + 1).collect();
        numbers.extend([places.first(), places.last()].into_iter().flatten());
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn whatever_step_fails_the_version_before_runs_and_the_board_is_as_it_was() {
    let board = Board::new();
    // The new version's bundle, as a deployment leaves it on the board.
    assert_eq!(board.deploy(&["--agent", &board.other_agent()]).code, Some(0));
    let bundle = board.sandbox.path("new.tar");
    fs::copy(board.sandbox.path("home/.cache/wattline/bundle.tar"), &bundle).unwrap();
    let sha = sha256(&fs::read(&bundle).unwrap());
    assert_eq!(board.deploy(&["--remove"]).code, Some(0));
    assert_eq!(board.deploy(&[]).code, Some(0));
    let (old, before) = (board.current().unwrap(), board.tree());
    let new = PathBuf::from("versions").join(&sha[..16]);
    let faults = write_faults(&board);
    let path = format!("{}:", faults.display());
    let install = |at: usize| {
        fs::write(faults.join("at"), at.to_string()).unwrap();
        for (name, text) in [("count", "0\n"), ("calls", "")] {
            fs::write(faults.join(name), text).unwrap();
        }
        let bundle = bundle.display().to_string();
        let outcome = board.script(&path, &["install", &bundle, &sha, "root"]);
        (outcome, fs::read_to_string(faults.join("calls")).unwrap())
    };
    let back = || {
        let outcome = board.script("", &["rollback"]);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        fs::remove_dir_all(board.root.join("opt/wattline").join(&new)).unwrap();
        fs::remove_file(board.root.join("opt/wattline/previous")).unwrap();
    };
    let (good, calls) = install(0);
    assert_eq!(good.code, Some(0), "{good:#?}");
    back();
    assert_eq!(board.tree(), before, "the test's own way back");
    let numbers = chosen(&calls);
    assert!(numbers.len() > 20, "{calls}");
    let mut failed = 0;
    for at in numbers {
        let (outcome, calls) = install(at);
        let what = calls.lines().nth(at - 1).unwrap_or("none").to_owned();
        let current = board.current();
        assert_eq!(board.hello().code, Some(0), "{what} ({at}): nothing runs: {outcome:#?}");
        if outcome.code == Some(0) {
            // Nothing hung on it.
            assert_eq!(current.as_ref(), Some(&new), "{what} ({at}): {outcome:#?}");
            back();
        } else {
            failed += 1;
            assert!(matches!(outcome.code, Some(10..=12)), "{what} ({at}): {outcome:#?}");
            assert!(outcome.stdout.contains("error "), "{what} ({at}): {outcome:#?}");
            assert_eq!(current.as_ref(), Some(&old), "{what} ({at}): {outcome:#?}");
        }
        assert_eq!(board.tree(), before, "{what} ({at}): {outcome:#?}");
    }
    assert!(failed > 12, "{failed} failures alone");
}
