//! An agent that a test serves itself.
//!
//! Owns its socket, its spool and its tee; it is killed with its owner.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use wattline_protocol::record::Record;

use crate::frames::Frames;
use crate::process::{Outcome, Process};
use crate::sandbox::{Sandbox, program};
use crate::wait::until;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentFlags {
    /// `--simulated…`, or `--sysfs-root=DIR`.
    pub board: String,
    /// Further flags.
    pub more: Vec<String>,
    /// Where it serves.
    pub socket: PathBuf,
    /// Where it spools.
    pub spool: PathBuf,
    /// Where every frame is written as recorded.
    pub tee: PathBuf,
}

impl AgentFlags {
    /// A simulated board in the sandbox, told from others there by `name`.
    #[must_use]
    pub fn named(sandbox: &Sandbox, name: &str) -> Self {
        Self {
            board: "--simulated".into(),
            more: Vec::new(),
            socket: sandbox.path(&format!("{name}.sock")),
            spool: sandbox.path(&format!("{name}-spool")),
            tee: sandbox.path(&format!("{name}.tee")),
        }
    }

    /// Adds them to a command.
    pub fn add_to(&self, command: &mut Command) {
        command.arg(&self.board).args(&self.more);
        command.arg("--socket").arg(&self.socket).arg("--spool").arg(&self.spool);
        command.arg("--tee").arg(&self.tee);
    }
}

/// An agent that serves.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    flags: AgentFlags,
}

impl Agent {
    /// Starts an agent on the simulated board and waits for `ready`.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, AgentFlags::named(sandbox, "board"))
    }

    /// Starts an agent with other flags and waits for `ready`.
    #[must_use]
    pub fn start_with(sandbox: &Sandbox, flags: AgentFlags) -> Self {
        Self::start_by(sandbox, sandbox.command(program("wattline-agent")), flags)
    }

    /// Starts an agent by a command that ends in the agent's program.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start_by(sandbox: &Sandbox, mut command: Command, flags: AgentFlags) -> Self {
        command.arg("serve");
        flags.add_to(&mut command);
        let mut process = sandbox.start(command);
        let ready = format!("ready {}", flags.socket.display());
        until("the agent serves", || {
            assert!(!process.is_over(), "the agent ended: {}", process.stderr());
            process.stdout().lines().any(|line| line == ready).then_some(())
        });
        Self { process, flags }
    }

    /// The board's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.flags.socket.display())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Its flags.
    #[must_use]
    pub fn flags(&self) -> &AgentFlags {
        &self.flags
    }

    /// What it has recorded so far, as its tee has it.
    #[must_use]
    pub fn recorded(&self) -> Frames {
        Frames::of_tee(&self.flags.tee)
    }

    /// Waits until the runner of a trial was started: the middle of a run.
    pub fn wait_for_a_trial(&self) {
        self.wait_for("a trial starts", |record| matches!(record, Record::TrialStart(_)));
    }

    /// Waits until a record that `is_it` takes was recorded.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Record) -> bool) {
        until(what, || self.recorded().records().iter().any(&is_it).then_some(()));
    }

    /// True while it has not ended.
    pub fn is_alive(&mut self) -> bool {
        !self.process.is_over()
    }

    /// SIGKILL.
    pub fn kill(mut self) -> AgentFlags {
        self.process.kill();
        self.flags.clone()
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> Outcome {
        self.process.signal(Signal::SIGTERM);
        self.process.finish()
    }

    /// A folder as the agent's mount namespace shows it.
    #[must_use]
    pub fn sees(&self, path: &Path) -> PathBuf {
        seen_by(self.process.pid(), path)
    }
}

/// A path as the mount namespace of a process shows it.
pub(crate) fn seen_by(pid: i32, path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    PathBuf::from(format!("/proc/{pid}/root")).join(below)
}
