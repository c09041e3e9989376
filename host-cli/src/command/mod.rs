//! Sub-commands, one file each; each opens with what it does for a user.
//!
//! Owns what flags mean and what is printed. Results go to standard output,
//! all else to standard error; a reader that goes away is success.

mod accuracy;
mod compare;
mod deploy;
#[cfg(feature = "mdns")]
mod discover;
mod doctor;
mod export;
mod fetch;
mod fleet;
mod keys;
mod modes;
mod networks;
pub mod refusal;
mod report;
mod run;
mod status;
mod stop;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use etcetera::{BaseStrategy, choose_base_strategy};
use wattline_protocol::record::RunId;

use crate::analysis::ShuntCorrection;
use crate::analysis::model::ClockOffset;
use crate::args::{Cli, HostCommand};
use crate::board::{BoardAddress, Configuration, NamedBoard};
use crate::client::ClientError;
use crate::connect::ConnectError;
use crate::failure::{Exit, Failure};
use crate::run_folder::{META_BOARD, META_RUN, RunFolder};
use crate::store::Store;

/// Performs what was typed.
#[must_use]
pub fn perform(cli: Cli) -> ExitCode {
    let result = match cli.command {
        HostCommand::Run(args) => on_runtime(run::run(args)),
        HostCommand::Watch(args) => on_runtime(watch::run(args)),
        HostCommand::Status(args) => on_runtime(status::run(args)),
        HostCommand::Stop(args) => on_runtime(stop::run(args)),
        HostCommand::Fetch(args) => on_runtime(fetch::run(args)),
        HostCommand::Report(args) => report::run(&args),
        HostCommand::Compare(args) => compare::run(&args),
        HostCommand::Export(args) => export::run(&args),
        HostCommand::Accuracy(args) => return accuracy::run(&args),
        HostCommand::Networks(args) => return networks::run(&args),
        HostCommand::Deploy(args) => on_runtime(deploy::run(args)),
        HostCommand::Keys(args) => on_runtime(keys::run(args)),
        #[cfg(feature = "mdns")]
        HostCommand::Discover(args) => discover::run(&args),
        HostCommand::Doctor(args) => on_runtime(doctor::run(args)),
        HostCommand::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "wattline", &mut io::stdout());
            Ok(Exit::Done)
        }
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit.into()
        }
    }
}

fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::of(Exit::Failed, "this program cannot start", &error, ""))?;
    runtime.block_on(command)
}

/// Prints one line of a result.
fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            Err(Failure::of(Exit::Failed, "standard output cannot be written", &error, ""))
        }
    }
}

/// Says something that is no result.
fn say(text: &str) {
    // Talk that nobody can hear is no failure.
    let _ = writeln!(io::stderr(), "{text}");
}

fn configuration() -> Result<Configuration, Failure> {
    let path = std::env::var_os("WATTLINE_CONFIG").map(PathBuf::from).or_else(|| {
        let base = choose_base_strategy().ok()?;
        Some(base.config_dir().join("wattline/config.toml"))
    });
    let Some(path) = path else { return Ok(Configuration::default()) };
    Configuration::read(&path).map_err(|error| {
        Failure::of(
            Exit::Usage,
            "the configuration cannot be used",
            &error,
            "see to the file, or name another with WATTLINE_CONFIG",
        )
    })
}

/// The boards that `--on`, the recording or the configuration names.
fn boards(on: Option<&str>, recorded: Option<&str>) -> Result<Vec<NamedBoard>, Failure> {
    let configuration = configuration()?;
    let text = on.or(recorded).or(configuration.default_board.as_deref());
    let Some(text) = text else {
        return Err(Failure::new(
            Exit::Usage,
            "no board is named",
            "add --on simulated, --on local, --on ssh://user@host, --on tls://host or --on unix:/path",
        ));
    };
    // What a recording names is one address, whatever stands in its path.
    let parsed = match on.or(configuration.default_board.as_deref().filter(|_| recorded.is_none()))
    {
        Some(list) => BoardAddress::parse_list(list, &configuration),
        None => BoardAddress::parse(text, &configuration)
            .map(|address| vec![NamedBoard { name: text.to_owned(), address }]),
    };
    parsed.map_err(|error| {
        Failure::of(
            Exit::Usage,
            "the board cannot be found",
            &error,
            "write simulated, local, ssh://user@host, tls://host:port, listen://address:port, \
             unix:/path, or a name of the configuration; several with commas",
        )
    })
}

/// As [`boards`], for a command that takes one.
fn board(on: Option<&str>, recorded: Option<&str>) -> Result<BoardAddress, Failure> {
    let mut boards = boards(on, recorded)?;
    match (boards.pop(), boards.is_empty()) {
        (Some(board), true) => Ok(board.address),
        _ => Err(Failure::new(
            Exit::Usage,
            "several boards are named, and this command takes one",
            "name one board; run, fetch, status and stop take several",
        )),
    }
}

/// Board's clock against the host's, as `--json` has it.
fn clock_json(clock: &ClockOffset) -> serde_json::Value {
    serde_json::json!({
        "offset_ns": clock.offset.0,
        "bound_ns": clock.bound.0,
        "bound_max_ns": clock.bound_max_ns,
        "skew_ppm": clock.skew_ppm,
        "bursts": clock.bursts,
        "steps": clock.steps,
    })
}

/// RUN as a run id, and its directory and board where it is recorded here.
fn known_run(run: &str) -> Result<(RunId, Option<RunFolder>, Option<String>), Failure> {
    if let Ok(folder) = RunFolder::find(run) {
        let store = Store::open_read_only(&folder.recording())
            .map_err(|error| crate::run_folder::store_failure(&error))?;
        let meta = |key| store.meta(key).ok().flatten();
        if let Some(id) = meta(META_RUN).and_then(|id| RunId::new(&id).ok()) {
            return Ok((id, Some(folder), meta(META_BOARD)));
        }
    }
    let id = RunId::new(run).map_err(|error| {
        Failure::of(
            Exit::Failed,
            format!("no such recording: {run}"),
            &error,
            "name the directory of a run, or a run id",
        )
    })?;
    Ok((id, None, None))
}

fn unreachable(address: &BoardAddress, error: &ClientError) -> Failure {
    let mend = match (error, address) {
        (ClientError::Connect(ConnectError::Tls { source, .. }), _) => source.mend(),
        (
            ClientError::ClosedAtOnce { .. },
            BoardAddress::Tls { .. } | BoardAddress::Listen { .. },
        ) => "its gate runs and its agent does not: systemctl status wattline-agent on the board",
        (ClientError::NotAnAgent { .. } | ClientError::ClosedAtOnce { .. }, _) => {
            "name the socket of a wattline-agent; over ssh, see that `wattline-agent` is on \
             the board's PATH and that nothing prints at login"
        }
        (ClientError::Connect(ConnectError::NoAgent), _) => {
            "build or install wattline-agent beside wattline, or name it with WATTLINE_AGENT"
        }
        (ClientError::Connect(ConnectError::Socket { .. }), _) => {
            "start `wattline-agent serve --socket PATH` there, or name another board"
        }
        (_, BoardAddress::Ssh { .. }) => "see that `ssh` reaches the board by itself",
        _ => "see that the agent runs",
    };
    Failure::of(Exit::Failed, format!("board {address} cannot be reached"), error, mend)
}

fn shunt_corrections(texts: &[String]) -> Result<Vec<ShuntCorrection>, Failure> {
    let bad = |text: &str| {
        Failure::new(
            Exit::Usage,
            format!("--shunt {text} is not RAIL=OHM"),
            "write the rail's name and a resistance above zero, such as --shunt VDD_IN=0.005",
        )
    };
    texts
        .iter()
        .map(|text| {
            let (rail, ohm) = text.rsplit_once('=').ok_or_else(|| bad(text))?;
            let shunt_ohm: f64 = ohm.trim().parse().map_err(|_| bad(text))?;
            let sensible = shunt_ohm.is_finite() && shunt_ohm > 0.0;
            if sensible && !rail.is_empty() {
                Ok(ShuntCorrection { rail: rail.to_owned(), shunt_ohm })
            } else {
                Err(bad(text))
            }
        })
        .collect()
}
