//! A board over the user's own OpenSSH, against a real sshd on loopback.
//!
//! sshd is started for each connection (`sshd -i`), as inetd would: so the port
//! is held by the test from its first moment on, and no daemon is left behind.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wattline_protocol::record::Record;
use wattline_tests::{AgentFlags, Frames, SMALLEST, Sandbox, is_root, program, until};

const SSHD: &str = "/usr/sbin/sshd";

/// A board that is reached by ssh alone.
struct Board {
    port: u16,
    user: String,
    flags: AgentFlags,
    ssh: PathBuf,
    ssh_pids: PathBuf,
}

impl Board {
    fn new(sandbox: &Sandbox) -> Self {
        assert!(
            Path::new(SSHD).is_file(),
            "{SSHD} is not there: apt-get install openssh-server (`make test` does so)"
        );
        let folder = sandbox.path("ssh");
        fs::create_dir(&folder).unwrap();
        for name in ["host", "user"] {
            let key = folder.join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key)
                .status()
                .unwrap();
            assert!(made.success());
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys")).unwrap();
        let flags = AgentFlags::named(sandbox, "board");
        write_agent_wrapper(sandbox, &flags);
        let config = write_sshd_config(sandbox, &folder);
        let ssh_pids = folder.join("pids");
        let ssh = write_ssh_wrapper(&folder, &ssh_pids);
        Self { port: serve(config), user: user(), flags, ssh, ssh_pids }
    }

    fn address(&self) -> String {
        format!("ssh://{}@127.0.0.1:{}", self.user, self.port)
    }

    fn command(&self, sandbox: &Sandbox, args: &[&str]) -> Command {
        let mut command = sandbox.command(program("wattline"));
        command.env("WATTLINE_SSH", &self.ssh).args(args);
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

fn write_sshd_config(sandbox: &Sandbox, folder: &Path) -> PathBuf {
    let config = folder.join("sshd_config");
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    let folder = folder.display();
    let text = format!(
        "HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\n\
         PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
         SetEnv PATH={path}\n"
    );
    fs::write(&config, text).unwrap();
    config
}

/// What `WATTLINE_SSH` names: the user's ssh with this board's key, noting its
/// process id.
fn write_ssh_wrapper(folder: &Path, pids: &Path) -> PathBuf {
    let wrapper = folder.join("ssh");
    let text = format!(
        "#!/bin/sh\necho $$ >> '{}'\nexec ssh -F none -i '{}/user' -o IdentitiesOnly=yes \
         -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile='{1}/known_hosts' \
         -o LogLevel=ERROR \"$@\"\n",
        pids.display(),
        folder.display()
    );
    write_program(&wrapper, &text);
    wrapper
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Serves on a free port of loopback as long as the test process lives.
fn serve(config: PathBuf) -> u16 {
    if is_root() {
        // The service's own start makes it; without that sshd refuses.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve_one(&config, stream.unwrap());
        }
    });
    port
}

fn serve_one(config: &Path, stream: TcpStream) {
    let output = OwnedFd::from(stream.try_clone().unwrap());
    let mut child = Command::new(SSHD)
        .args(["-i", "-e", "-f"])
        .arg(config)
        .stdin(OwnedFd::from(stream))
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::spawn(move || child.wait());
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
    let links = || fs::read_to_string(&board.ssh_pids).unwrap_or_default();
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
    fs::write(sandbox.path("ssh/authorized_keys"), "").unwrap();
    let address = board.address();
    let args = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let outcome = sandbox.start(board.command(&sandbox, &args)).finish();
    outcome.fails_with(1, &[&address, "Permission denied"]);
    assert!(!sandbox.work().join("run").exists());
}
