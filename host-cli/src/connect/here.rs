//! The agents of this machine: `simulated` and `local`.
//!
//! Owns where their sockets and spools lie (the XDG folders) and how one is
//! started: detached, so that it outlives this program. The same protocol as
//! to any board; there is no second path.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use etcetera::{BaseStrategy, choose_base_strategy};
use wattline_protocol::units::Nanos;

use super::ConnectError;
use crate::board::BoardAddress;
use crate::clock;

/// A starting agent is waited for this long: recovery of a large spool and a
/// busy machine included.
const READY_WITHIN_S: u64 = 30;
/// The agent ends by itself this long after all was acknowledged.
const IDLE_EXIT_S: u64 = 600;

/// Where an agent of this machine lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlace {
    /// Its socket.
    pub socket: PathBuf,
    /// Its spool.
    pub spool: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Arguments that choose its board.
    arguments: Vec<String>,
}

impl AgentPlace {
    /// The place of the agent for `simulated` or `local`.
    ///
    /// # Errors
    /// [`ConnectError::Folder`] where there is no home folder.
    pub fn of(address: &BoardAddress) -> Result<Self, ConnectError> {
        let (name, arguments) = match address {
            BoardAddress::Simulated(chip) => {
                (format!("simulated-{}", chip.name()), vec![format!("--simulated={}", chip.name())])
            }
            BoardAddress::Local
            | BoardAddress::Ssh { .. }
            | BoardAddress::Unix(_)
            | BoardAddress::Tls { .. }
            | BoardAddress::Listen { .. } => ("local".to_owned(), Vec::new()),
        };
        let base = choose_base_strategy().map_err(|_| ConnectError::Folder {
            path: PathBuf::from("~"),
            source: std::io::Error::other("there is no home folder"),
        })?;
        let state =
            base.state_dir().unwrap_or_else(|| base.data_dir()).join("wattline").join(&name);
        let runtime = base.runtime_dir().map_or_else(|| state.clone(), |dir| dir.join("wattline"));
        Ok(Self {
            socket: runtime.join(format!("{name}.sock")),
            spool: state.join("spool"),
            log: state.join("agent.log"),
            arguments,
        })
    }

    /// Starts the agent and waits until it serves.
    ///
    /// # Errors
    /// [`ConnectError`]: no program, no folder, or it ended or stayed silent.
    pub async fn start(&self) -> Result<(), ConnectError> {
        for folder in [self.socket.parent(), Some(self.spool.as_path()), self.log.parent()] {
            private_folder(folder.unwrap_or(Path::new("/")))?;
        }
        let program = agent_program()?;
        let log = File::create(&self.log)
            .map_err(|source| ConnectError::Folder { path: self.log.clone(), source })?;
        let mut child = Command::new(&program)
            .arg("serve")
            .args(&self.arguments)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--spool")
            .arg(&self.spool)
            .args(["--idle-exit-s", &IDLE_EXIT_S.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A group of its own: Ctrl-C at this terminal is not for the agent.
            .process_group(0)
            .spawn()
            .map_err(|source| ConnectError::Start { program, source })?;
        let deadline = clock::now();
        loop {
            if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(ConnectError::AgentEnded { status, said: self.last_words() });
            }
            if clock::now() - deadline > Nanos::from_secs(READY_WITHIN_S.cast_signed()) {
                return Err(ConnectError::AgentSlow { seconds: READY_WITHIN_S });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut log| log.read_to_string(&mut text));
        if read.is_err() {
            return String::new();
        }
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

/// The agent's program: `WATTLINE_AGENT`, else beside this program, else on
/// the PATH, else the one for boards that this program's package holds.
///
/// # Errors
/// [`ConnectError::NoAgent`].
pub fn agent_program() -> Result<PathBuf, ConnectError> {
    if let Some(program) = std::env::var_os("WATTLINE_AGENT") {
        return Ok(PathBuf::from(program));
    }
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name("wattline-agent"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("wattline-agent"));
    let packaged = std::env::current_exe().ok().and_then(|this| {
        let prefix = this.parent()?.parent()?;
        let boards = prefix.join("lib/wattline/boards").join(std::env::consts::ARCH);
        Some(boards.join("wattline-agent"))
    });
    beside
        .into_iter()
        .chain(on_path)
        .chain(packaged)
        .find(|file| file.is_file())
        .ok_or(ConnectError::NoAgent)
}

fn private_folder(path: &Path) -> Result<(), ConnectError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ConnectError::Folder { path: path.to_owned(), source })
}
