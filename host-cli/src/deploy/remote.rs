//! Commands on a board, over the user's own OpenSSH.
//!
//! Owns the child processes and what their exits mean: OpenSSH ends with 255
//! for its own failures, otherwise with the status of what ran on the board.

use std::process::{ExitStatus, Stdio};

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::connect::ssh_command;

/// OpenSSH's status for a failure of its own (ssh(1), "EXIT STATUS").
const SSH_FAILED: i32 = 255;

/// Why nothing ran on the board.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// `ssh` could not be started.
    #[error("ssh could not be started")]
    Start(#[source] std::io::Error),
    /// The host key is not the one that is known.
    #[error("the host key of {target} is not the one that is known ({said})")]
    HostKey {
        /// The board.
        target: String,
        /// What ssh said.
        said: String,
    },
    /// SSH failed in another way: no route, no login.
    #[error("ssh to {target}: {said}")]
    Ssh {
        /// The board.
        target: String,
        /// What ssh said.
        said: String,
    },
    /// The bytes for the board's standard input did not get there.
    #[error("the link to {target} was cut")]
    Cut {
        /// The board.
        target: String,
        /// The system's word.
        source: std::io::Error,
    },
}

impl RemoteError {
    /// What the user can do.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Start(_) => "install OpenSSH's client, or name one with WATTLINE_SSH",
            Self::HostKey { .. } => {
                "see whose key it is; where the board was set up anew: ssh-keygen -R HOST"
            }
            Self::Ssh { .. } => "see that `ssh` reaches the board by itself",
            Self::Cut { .. } => "try again; what was uploaded whole is not sent twice",
        }
    }
}

/// What a command on the board said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit status.
    pub status: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// A board that is reached by SSH.
#[derive(Debug, Clone)]
pub struct Remote {
    /// `host` or `user@host`, as `ssh` takes it.
    pub target: String,
    /// Port, where the address has one.
    pub port: Option<u16>,
}

impl Remote {
    /// Runs `command` in the board's shell with `input` as its standard input.
    ///
    /// # Errors
    /// [`RemoteError`]; a command that ends with a status of its own is an
    /// [`Outcome`].
    pub async fn run(&self, command: &str, input: &[u8]) -> Result<Outcome, RemoteError> {
        let mut child = self
            .command(&["-T"], command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(RemoteError::Start)?;
        let mut stdin = child.stdin.take();
        let fed = async {
            if let Some(stdin) = &mut stdin {
                stdin.write_all(input).await?;
                stdin.shutdown().await?;
            }
            drop(stdin);
            Ok::<(), std::io::Error>(())
        };
        let (fed, ended) = tokio::join!(fed, child.wait_with_output());
        let ended =
            ended.map_err(|source| RemoteError::Cut { target: self.target.clone(), source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let outcome = Outcome {
            status: status_of(ended.status),
            output: text(&ended.stdout),
            errors: text(&ended.stderr),
        };
        if outcome.status == SSH_FAILED {
            return Err(self.failed(&outcome.errors));
        }
        // A command that did not read its input to the end has said why.
        match fed {
            Err(source) if outcome.status == 0 => {
                Err(RemoteError::Cut { target: self.target.clone(), source })
            }
            _ => Ok(outcome),
        }
    }

    /// Runs `command` with this terminal as its own, for a password's sake;
    /// returns its exit status.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn run_on_terminal(&self, command: &str) -> Result<i32, RemoteError> {
        let status = self.command(&["-t"], command).status().await.map_err(RemoteError::Start)?;
        match status_of(status) {
            SSH_FAILED => Err(self.failed("see above")),
            status => Ok(status),
        }
    }

    fn command(&self, flags: &[&str], remote: &str) -> Command {
        ssh_command(flags, &self.target, self.port, remote)
    }

    fn failed(&self, errors: &str) -> RemoteError {
        let target = self.target.clone();
        let lines: Vec<&str> = errors.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let last = lines.last().copied().unwrap_or("it said nothing").to_owned();
        let of_key = ["REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed"];
        if of_key.iter().any(|words| errors.contains(words)) {
            return RemoteError::HostKey { target, said: last };
        }
        RemoteError::Ssh { target, said: last }
    }
}

/// The exit status; a death by a signal as shells tell it, 128 and the signal.
fn status_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
