//! A board over the user's own OpenSSH.
//!
//! Owns the `ssh` child process. The user's configuration, keys, agent, jump
//! hosts and known hosts are OpenSSH's business; nothing of it is overridden.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{ConnectError, Link};

/// What runs on the board at the other end.
const REMOTE_COMMAND: &str = "wattline-agent stdio";
/// Lines of ssh's own words that are kept for an error's text.
const LINES_KEPT: usize = 10;

/// The `ssh` under a link. Dropping it ends the process.
pub struct Carrier {
    _child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl Carrier {
    /// The last lines that ssh, or the agent through it, wrote to stderr.
    #[must_use]
    pub fn said(&self) -> String {
        let lines = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("; ")
    }
}

/// The user's `ssh` with `flags`, told to run `remote` on the board.
pub(crate) fn ssh_command(
    flags: &[&str],
    target: &str,
    port: Option<u16>,
    remote: &str,
) -> Command {
    let mut command = Command::new(ssh_program());
    command.args(flags);
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", target, remote]);
    command
}

/// WATTLINE_SSH is to ssh what GIT_SSH is to git.
fn ssh_program() -> PathBuf {
    std::env::var_os("WATTLINE_SSH").map_or_else(|| PathBuf::from("ssh"), PathBuf::from)
}

pub(super) fn open(target: &str, port: Option<u16>) -> Result<Link, ConnectError> {
    let program = ssh_program();
    let mut child = ssh_command(&["-T"], target, port, REMOTE_COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ConnectError::Start { program: program.clone(), source })?;
    let taken = || std::io::Error::other("its pipes are not there");
    let missing = || ConnectError::Start { program: program.clone(), source: taken() };
    let incoming = child.stdout.take().ok_or_else(missing)?;
    let outgoing = child.stdin.take().ok_or_else(missing)?;
    let errors = child.stderr.take().ok_or_else(missing)?;
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&said);
    tokio::spawn(async move {
        let mut lines = BufReader::new(errors).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    Ok(Link {
        incoming: Box::new(incoming),
        outgoing: Box::new(outgoing),
        carrier: Some(Carrier { _child: child, said }),
    })
}
