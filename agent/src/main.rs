//! `wattline-agent`: the program on the board. Its flags are in `args`, its
//! sub-commands in `command`.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use wattline_agent::args::Cli;
use wattline_agent::command;

fn main() -> ExitCode {
    abort_on_panic();
    let filter = EnvFilter::try_from_env("WATTLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // journald stamps the lines; the records have the board's clock.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    command::perform(Cli::parse())
}

/// A thread that panicked leaves a process that looks alive and records
/// nothing: end it, so that systemd starts a clean one.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
}
