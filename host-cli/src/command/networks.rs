//! `wattline networks`: list the networks, or print one.
//!
//! The catalog is the agent's: this asks the agent's program of this machine,
//! without a board.

use std::io::Write;
use std::process::{Command, ExitCode};

use crate::args::NetworksArgs;
use crate::connect::agent_program;
use crate::failure::{Exit, Failure};

pub(super) fn run(args: &NetworksArgs) -> ExitCode {
    match ask(args) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit.into()
        }
    }
}

fn ask(args: &NetworksArgs) -> Result<ExitCode, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::of(
            Exit::Failed,
            "the catalog of networks cannot be read",
            error,
            "build or install wattline-agent beside wattline, or name it with WATTLINE_AGENT",
        )
    };
    let program = agent_program().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg("networks").args(&args.name);
    for (flag, given) in [("--graph", args.graph), ("--json", args.json)] {
        if given {
            command.arg(flag);
        }
    }
    let status = command.status().map_err(|error| failed(&error))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
