//! `wattline accuracy`: top-1 and top-5 over a folder of labelled images.
//!
//! The board's agent decodes, infers and counts. For `simulated` and `local`
//! that is the agent's program of this machine; for `ssh://` it is the one on
//! the board, with FILE and DIR on the board. Nothing is copied, and no power
//! is measured: a campaign does that.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use super::{board, say};
use crate::args::AccuracyArgs;
use crate::board::BoardAddress;
use crate::connect::agent_program;
use crate::failure::{Exit, Failure};

pub(super) fn run(args: &AccuracyArgs) -> ExitCode {
    match ask(args) {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.to_string());
            failure.exit.into()
        }
    }
}

fn ask(args: &AccuracyArgs) -> Result<ExitCode, Failure> {
    let address = board(args.on.as_deref(), None)?;
    let words = words(args);
    let mut command = match &address {
        BoardAddress::Simulated(_) | BoardAddress::Local => {
            let program = agent_program().map_err(|error| failed(&error))?;
            let mut command = Command::new(program);
            command.args(words);
            command
        }
        BoardAddress::Ssh { target, port } => {
            let program = std::env::var_os("WATTLINE_SSH").unwrap_or_else(|| OsString::from("ssh"));
            let mut command = Command::new(program);
            command.arg("-T");
            if let Some(port) = port {
                command.args(["-p", &port.to_string()]);
            }
            command.args(["--", target, &remote(&words)]);
            command
        }
        BoardAddress::Unix(_) => {
            return Err(Failure::new(
                Exit::Usage,
                format!("board {address} cannot evaluate accuracy: a socket carries no images"),
                "use --on local on that machine, or --on ssh://user@host",
            ));
        }
    };
    let status = command.status().map_err(|error| failed(&error))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::of(
        Exit::Failed,
        "the accuracy cannot be evaluated",
        error,
        "build or install wattline-agent beside wattline, or name it with WATTLINE_AGENT",
    )
}

/// The agent's own command line.
fn words(args: &AccuracyArgs) -> Vec<String> {
    let mut words = vec!["accuracy".to_owned()];
    let flags = [
        ("--network", Some(args.network.clone())),
        ("--weights", Some(args.weights.clone())),
        ("--images", Some(args.images.clone())),
        ("--labels", args.labels.clone()),
        ("--classes", args.classes.map(|number| number.to_string())),
        ("--batch", args.batch.map(|number| number.to_string())),
        ("--device", args.device.clone()),
        ("--precision", args.precision.clone()),
        ("--resize", args.resize.map(|number| number.to_string())),
        ("--interpolation", args.interpolation.clone()),
        ("--out", args.out.clone()),
    ];
    for (flag, value) in flags {
        // Joined, so that a value that begins with a hyphen stays a value.
        words.extend(value.map(|value| format!("{flag}={value}")));
    }
    if args.json {
        words.push("--json".to_owned());
    }
    words
}

/// What the board's shell is given: each word in single quotes.
fn remote(words: &[String]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    let quoted: Vec<String> = quoted.collect();
    format!("wattline-agent {}", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boards_shell_gets_every_word_as_it_was_typed() {
        let words = ["--images=my dir".to_owned(), "--weights=it's; rm".to_owned()];
        assert_eq!(remote(&words), r"wattline-agent '--images=my dir' '--weights=it'\''s; rm'");
    }
}
