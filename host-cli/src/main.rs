//! `wattline`: the program on the host. Its flags are in `args`, its
//! sub-commands in `command`.

use std::process::ExitCode;

use clap::Parser;
use wattline::args::Cli;
use wattline::command;

fn main() -> ExitCode {
    abort_on_panic();
    command::perform(Cli::parse())
}

/// One kind of end for a bug, whichever thread it is in.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
}
