//! `wattline accuracy`: top-1 and top-5 over a folder of labelled images.
//!
//! The board's agent decodes, infers and counts. For `simulated` and `local`
//! that is the agent's program of this machine; for `ssh://` it is the one on
//! the board, with FILE and DIR on the board. Nothing is copied, and no power
//! is measured: a campaign does that. With `--run RUN` the result joins that
//! run, and its report draws accuracy against operations, time and energy.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use super::{board, line, say};
use crate::accuracy;
use crate::args::AccuracyArgs;
use crate::board::BoardAddress;
use crate::connect::agent_program;
use crate::failure::{Exit, Failure};
use crate::run_folder::RunFolder;

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
    // Before the hours of an evaluation: whether there is a run to join.
    let run = args.run.as_deref().map(RunFolder::find).transpose()?;
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
        BoardAddress::Unix(_) | BoardAddress::Tls { .. } | BoardAddress::Listen { .. } => {
            return Err(Failure::new(
                Exit::Usage,
                format!("board {address} cannot evaluate accuracy: this link carries no images"),
                "use --on local on that machine, or --on ssh://user@host",
            ));
        }
    };
    let Some(run) = run else {
        let status = command.status().map_err(|error| failed(&error))?;
        return Ok(code_of(status.code()));
    };
    // Progress and errors pass through; the one object on standard output is kept.
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| failed(&error))?;
    if output.status.success() {
        joined(args, &run, &output.stdout)?;
    }
    Ok(code_of(output.status.code()))
}

fn code_of(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Puts the summary into the run and tells it.
fn joined(args: &AccuracyArgs, run: &RunFolder, summary: &[u8]) -> Result<(), Failure> {
    let file = accuracy::join(run.path(), summary).map_err(|error| {
        let mend = "see to the disk, then the same command again: what was answered is kept";
        Failure::of(Exit::Failed, "the accuracy does not join the run", &error, mend)
    })?;
    let text = String::from_utf8_lossy(summary);
    if args.json {
        line(text.trim_end())?;
    } else {
        let summary: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = |share: &str, end: &str| summary[share][end].as_f64().unwrap_or(f64::NAN);
        let corrupt = summary["corrupt"].as_array().map_or(0, Vec::len);
        line(&format!("{}: {} images, {corrupt} corrupt", args.network, summary["images"]))?;
        for (name, share) in [("top-1", "top1"), ("top-5", "top5")] {
            let [percent, low, high] =
                ["percent", "low_percent", "high_percent"].map(|end| number(share, end));
            line(&format!("{name} {percent:.2} % ({low:.2} to {high:.2})"))?;
        }
    }
    say(&format!("joined the run: {}", file.display()));
    say(&format!("draw it with: wattline report {}", run.path().display()));
    Ok(())
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
    if args.json || args.run.is_some() {
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
