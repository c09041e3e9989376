//! A gate that a test opens before an agent, and the keys that go to and fro.
//!
//! Owns the gate's process and its folder of keys.

use std::net::TcpListener;
use std::path::PathBuf;

use crate::agent::Agent;
use crate::process::{Outcome, Process};
use crate::sandbox::{Sandbox, program};
use crate::wait::until;

/// A gate on loopback.
#[derive(Debug)]
pub struct Gate {
    process: Process,
    /// Its folder of keys and pins.
    pub keys: PathBuf,
    /// HOST:PORT, as it was told or was given.
    pub place: String,
}

impl Gate {
    /// Listens on a free port; knows nobody, and nobody knows it.
    #[must_use]
    pub fn listening(sandbox: &Sandbox, agent: &Agent) -> Self {
        Self::start(sandbox, agent, &["--listen", "127.0.0.1:0"], "ready ")
    }

    /// Listens on a free port and lets itself be found.
    #[must_use]
    pub fn announced(sandbox: &Sandbox, agent: &Agent) -> Self {
        Self::start(sandbox, agent, &["--listen", "127.0.0.1:0", "--announce"], "ready ")
    }

    /// Dials a port of this machine.
    #[must_use]
    pub fn dialling(sandbox: &Sandbox, agent: &Agent, place: &str) -> Self {
        Self::start(sandbox, agent, &["--dial", place], "ready to dial ")
    }

    fn start(sandbox: &Sandbox, agent: &Agent, way: &[&str], ready: &str) -> Self {
        let keys = sandbox.path("board-keys");
        let mut command = sandbox.command(program("wattline-agent"));
        command.arg("gate").args(way).arg("--keys").arg(&keys);
        command.arg("--socket").arg(&agent.flags().socket);
        let mut process = sandbox.start(command);
        let place = until("the gate is open", || {
            assert!(!process.is_over(), "the gate ended: {}", process.stderr());
            let out = process.stdout();
            out.lines().find_map(|line| line.strip_prefix(ready).map(str::to_owned))
        });
        Self { process, keys, place }
    }

    /// The board's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("tls://{}", self.place)
    }

    /// `wattline-agent keys` on the gate's folder.
    #[must_use]
    pub fn keys(&self, sandbox: &Sandbox, words: &[&str]) -> Outcome {
        let folder = self.keys.display().to_string();
        sandbox.agent(&[&["keys", "--keys", &folder], words].concat())
    }

    /// The board's present pin.
    #[must_use]
    pub fn pin(&self, sandbox: &Sandbox) -> String {
        first_word(&self.keys(sandbox, &["show"]))
    }

    /// Gives each side the other's present key, the board's by `name`.
    ///
    /// # Panics
    /// Where a key is not taken.
    pub fn exchange_keys(&self, sandbox: &Sandbox, name: &str) {
        let host = host_pin(sandbox);
        assert_eq!(self.keys(sandbox, &["add", "ana@desk", &host]).code, Some(0));
        let added = sandbox.wattline(&["keys", "add", name, &self.pin(sandbox)]);
        assert_eq!(added.code, Some(0), "{added:#?}");
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.stderr()
    }
}

/// This machine's present pin.
#[must_use]
pub fn host_pin(sandbox: &Sandbox) -> String {
    first_word(&sandbox.wattline(&["keys", "show"]))
}

/// A port that was free a moment ago.
///
/// # Panics
/// Where none is.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn first_word(outcome: &Outcome) -> String {
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    outcome.stdout.split_whitespace().next().unwrap_or_default().to_owned()
}
