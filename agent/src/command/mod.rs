//! The agent's sub-commands, one file each.
//!
//! Owns what flags mean, exit statuses and what is printed. Results go to
//! standard output, all else to standard error.

mod accuracy;
#[cfg(feature = "mdns")]
mod announce;
mod board;
mod configured;
mod doctor;
mod drivers;
mod gate;
mod hand_over;
mod hello;
mod infer;
mod keys;
mod measured;
mod networks;
mod rails;
mod restore;
mod sampled;
mod serve;
mod stdio;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::{AgentCommand, Cli};
use crate::runner::{doorstep, work};

/// How a sub-command fails: status, what, why, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit status: 1, 2 or 3 as on the host; `serve` alone uses sysexits.
    pub status: u8,
    /// What failed, naming the thing.
    pub what: String,
    /// Why.
    pub because: Vec<String>,
    /// What to do about it.
    pub mend: &'static str,
}

/// `serve`: a program of its own fault (sysexits EX_SOFTWARE).
pub const EX_SOFTWARE: u8 = 70;
/// `serve`: it may not (sysexits EX_NOPERM).
pub const EX_NOPERM: u8 = 77;
/// `serve`: wrong flags or folders (sysexits EX_CONFIG).
pub const EX_CONFIG: u8 = 78;

impl Failure {
    fn of(
        status: u8,
        what: impl Into<String>,
        error: &dyn std::error::Error,
        mend: &'static str,
    ) -> Self {
        let mut because = vec![error.to_string()];
        let mut source = error.source();
        while let Some(below) = source {
            because.push(below.to_string());
            source = below.source();
        }
        Self { status, what: what.into(), because, mend }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for because in &self.because {
            write!(f, "\nbecause: {because}")?;
        }
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\ntry: {}", self.mend) }
    }
}

/// Performs what was typed.
#[must_use]
pub fn perform(cli: Cli) -> ExitCode {
    match hand_over::hand_over(&cli.command) {
        Ok(None) => {}
        Ok(Some(status)) => return status,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            return ExitCode::from(failure.status);
        }
    }
    let result = match cli.command {
        AgentCommand::Serve(args) => serve::run(&args),
        AgentCommand::Stdio(args) => stdio::run(&args),
        AgentCommand::Gate(args) => gate::run(&args),
        AgentCommand::Keys(args) => keys::run(args),
        AgentCommand::Hello(args) => hello::run(&args),
        AgentCommand::Rails(args) => rails::run(&args),
        AgentCommand::Restore(args) => restore::run(&args),
        AgentCommand::Board(args) => board::run(&args),
        AgentCommand::Doctor(args) => doctor::run(&args),
        AgentCommand::Accuracy(args) => accuracy::run(&args),
        AgentCommand::Infer(args) => infer::run(&args),
        AgentCommand::Networks(args) => networks::run(&args),
        AgentCommand::Runner(args) if args.accepted => return ExitCode::from(doorstep::run()),
        AgentCommand::Runner(_) => return ExitCode::from(work::run(io::stdin(), io::stdout())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::from(failure.status)
        }
    }
}

/// Prints one line beside the results; nobody need read it.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints one line; a reader that has gone away is success.
fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::of(1, "standard output cannot be written", &error, "")),
    }
}
