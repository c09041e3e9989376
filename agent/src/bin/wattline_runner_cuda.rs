//! `wattline-runner-cuda`: the agent's runner with CUDA in it.
//!
//! Owns nothing: without arguments it is the runner of one trial, driven over
//! a pipe; with `--probe N` it opens GPU N and says whether that went well; with
//! others it is the agent's own `infer` and `accuracy`, which the agent hands
//! over for `--device cuda`. An executable of its own, because a program that
//! links CUDA does not start where the driver is missing.

use std::process::ExitCode;

use clap::Parser;
use wattline_agent::args::Cli;
use wattline_agent::{command, engine, runner};

fn main() -> ExitCode {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => ExitCode::from(runner::work::run(std::io::stdin(), std::io::stdout())),
        [probe, number] if probe == "--probe" => match number.parse().map(engine::probe_cuda) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(_)) | Err(_) => ExitCode::FAILURE,
        },
        _ => command::perform(Cli::parse()),
    }
}
