//! A temporary folder that a test has for itself.
//!
//! Owns HOME and the XDG folders of every process the test starts, and leaves
//! none of them behind, detached agents included: they are known by the
//! folder's name in their environment or on their command line.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process::{Outcome, Process};
use crate::wait::while_true;

/// Flags of a small campaign: one small network, windows of a second.
pub const SMALL: [&str; 5] = ["--quick", "--networks", "resnet18", "--size", "64"];
/// Flags of the smallest one.
pub const SMALLEST: [&str; 9] =
    ["--quick", "--networks", "resnet18", "--size", "64", "--batch", "1", "--windows", "1"];

/// The path of a binary of this build.
///
/// # Panics
/// Where it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    // A test lies in deps/, the binaries one folder above; `cargo measure` beside them.
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    let folder = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there: run `make build` first", path.display());
    path
}

/// True where the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The folder.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
    started: AtomicU32,
}

impl Sandbox {
    /// A clean folder; its name is short, as sockets' paths must be.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("wl-").tempdir().unwrap();
        for name in ["home", "run", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path().join("run"), private).unwrap();
        Self { folder, started: AtomicU32::new(0) }
    }

    /// A path below the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that processes are started in.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Writes a file below the working folder and gives its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A command that sees nothing of the user's own folders and settings.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    /// Starts a prepared command.
    pub fn start(&self, command: Command) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Process::start(command, self.folder.path(), &format!("process-{number}"))
    }

    /// Starts `wattline`.
    pub fn wattline_started(&self, args: &[&str]) -> Process {
        let mut command = self.command(program("wattline"));
        command.args(args);
        self.start(command)
    }

    /// Runs `wattline` to its end.
    pub fn wattline(&self, args: &[&str]) -> Outcome {
        self.wattline_started(args).finish()
    }

    /// Runs `wattline-agent` to its end.
    pub fn agent(&self, args: &[&str]) -> Outcome {
        let mut command = self.command(program("wattline-agent"));
        command.args(args);
        self.start(command).finish()
    }

    /// Runs the smallest campaign on `board`, recorded in `out`.
    pub fn small_run(&self, board: &str, out: &str) -> Outcome {
        self.wattline(&[&["run", "--on", board, "--out", out], &SMALLEST[..]].concat())
    }

    /// Ids of the processes that belong to the folder.
    ///
    /// # Panics
    /// Where `/proc` is not mounted.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != own && self.owns(*pid)).collect()
    }

    fn owns(&self, pid: i32) -> bool {
        let name = self.folder.path().as_os_str().as_encoded_bytes();
        ["environ", "cmdline"].into_iter().any(|file| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(name.len()).any(|part| part == name)
        })
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        while_true("a process of the test is left", || {
            let left = self.processes();
            for pid in &left {
                // Gone since it was listed is as good.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            !left.is_empty()
        });
    }
}
