//! `wattline doctor`: what measuring needs, on this machine and on a board.
//!
//! The board's own checks are made by the agent that serves there, with the rights
//! that a run has. Where none answers, `wattline-agent doctor` is started there, with
//! those of the user who logs in. Each line that fails carries its cure.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command as Program;
use wattline_protocol::check::{self, CheckOutcome};
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::command::{Command, Refusal, Reply, StatusReply};

use super::{board, configuration, line};
use crate::analysis::clock_offset;
use crate::args::DoctorArgs;
use crate::board::BoardAddress;
use crate::client::{Client, ClientError};
use crate::connect::{agent_program, ssh_command};
use crate::failure::{Exit, Failure};

/// Bound of the clocks' offset above which only an external meter would suffer
/// (`docs/method.md`: no result rests on the offset).
const BOUND_MS_MAX: f64 = 1.0;
const SLOW_LINK: &str = "a link with less delay, if an external meter's times are to be joined; \
    no result of Wattline rests on it";
/// What the agent's doctor is asked, on a board.
const REMOTE: &str = "wattline-agent doctor --json";

struct Check {
    place: &'static str,
    name: String,
    good: bool,
    /// It is good enough for a run, and a result may be affected.
    warning: bool,
    found: String,
    cure: String,
}

pub(super) async fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    let mut checks = vec![config(), ssh().await, agent()];
    if let Some(name) = &args.board {
        let address = board(Some(name), None)?;
        // What the board needs of this machine alone.
        if !matches!(address, BoardAddress::Ssh { .. }) {
            checks.retain(|check| check.name != "ssh");
        } else {
            checks.retain(|check| check.name != "agent");
        }
        let session = session(&address).await;
        checks.extend(match session.of_board {
            Some(told) => told,
            None => of_board(&address).await,
        });
        checks.extend(session.checks);
    }
    for check in &checks {
        line(&check.text(args.json))?;
    }
    if checks.iter().all(|check| check.good) {
        return Ok(Exit::Done);
    }
    Err(Failure {
        exit: Exit::Refused,
        what: "not all is ready to measure".into(),
        because: checks.iter().filter(|c| !c.good).map(|c| c.found.clone()).collect(),
        mend: "follow the cures above".into(),
    })
}

impl Check {
    fn new(name: &str, found: Result<String, String>, cure: &str) -> Self {
        let good = found.is_ok();
        let found = found.unwrap_or_else(|missing| missing);
        Self { place: "host", name: name.into(), good, warning: false, found, cure: cure.into() }
    }

    fn of_agent(check: check::Check) -> Self {
        let check::Check { name, outcome, found, cure } = check;
        Self {
            place: "board",
            name,
            good: outcome != CheckOutcome::Failed,
            warning: outcome == CheckOutcome::Warning,
            found,
            cure,
        }
    }

    fn text(&self, as_json: bool) -> String {
        let Self { place, name, good, warning, found, cure } = self;
        if as_json {
            return json!({
                "place": place, "check": name, "good": good, "warning": warning, "found": found,
                "cure": cure,
            })
            .to_string();
        }
        let mark = match (good, warning) {
            (true, false) => "ok  ",
            (true, true) => "warn",
            (false, _) => "FAIL",
        };
        let is_told = !cure.is_empty() && (!good || *warning);
        let cure = if is_told { format!("  try: {cure}") } else { String::new() };
        format!("{mark} {place:<5} {name:<15} {found}{cure}")
    }
}

fn config() -> Check {
    let found = configuration().map(|_| "can be used".to_owned());
    let found = found.map_err(|failure| failure.because.join(": "));
    Check::new("config", found, "mend the file, or name another with WATTLINE_CONFIG")
}

async fn ssh() -> Check {
    let asked = ssh_command(&["-V"], "none", None, "").stdin(Stdio::null()).output().await;
    let found = match asked {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Ok(text.lines().next().unwrap_or("an ssh without a version").to_owned())
        }
        Err(error) => Err(format!("ssh cannot be started: {error}")),
    };
    Check::new("ssh", found, "install OpenSSH's client")
}

fn agent() -> Check {
    let found = agent_program().map(|path| path.display().to_string());
    Check::new(
        "agent",
        found.map_err(|error| error.to_string()),
        "install wattline-agent beside wattline, or name it with WATTLINE_AGENT",
    )
}

async fn of_board(address: &BoardAddress) -> Vec<Check> {
    let command = match address {
        BoardAddress::Ssh { target, port } => Ok(ssh_command(&["-T"], target, *port, REMOTE)),
        // A gate carries sessions alone: what the board itself finds is asked over ssh.
        BoardAddress::Simulated(_) | BoardAddress::Tls { .. } | BoardAddress::Listen { .. } => {
            return Vec::new();
        }
        BoardAddress::Local | BoardAddress::Unix(_) => agent_program().map(|program| {
            let mut command = Program::new(program);
            command.args(["doctor", "--json"]);
            command
        }),
    };
    let failed = |said: String| {
        vec![Check {
            place: "board",
            name: "reach".into(),
            good: false,
            warning: false,
            found: said,
            cure: format!("see that the board can be reached; wattline deploy {address}"),
        }]
    };
    let asked = match command {
        Ok(mut command) => command.stdin(Stdio::null()).output().await,
        Err(error) => return failed(error.to_string()),
    };
    let output = match asked {
        Ok(output) => output,
        Err(error) => return failed(format!("{address} cannot be asked: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let checks: Vec<Check> = text.lines().filter_map(of_line).collect();
    if checks.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return failed(format!("{address}: {}", last.unwrap_or("no answer")));
    }
    checks
}

/// What a session told.
struct Told {
    /// Of the session itself.
    checks: Vec<Check>,
    /// What the agent found; absent where it could not be asked.
    of_board: Option<Vec<Check>>,
}

/// A session as a run has one: the agent's answer, what it finds on its board, what
/// it holds, and its clock against this machine's. Nothing is started for it but
/// what a run starts.
async fn session(address: &BoardAddress) -> Told {
    let told = |checks| Told { checks, of_board: None };
    let asked = async {
        let mut client = Client::connect(address).await?;
        let reply = client.ask(Command::Status).await?;
        let burst = client.clock_burst().await?;
        let examined = examined(&mut client, address).await?;
        client.close().await;
        Ok::<_, ClientError>((reply, burst, examined))
    };
    let (status, burst, of_board) = match asked.await {
        Ok((Reply::Status(status), burst, examined)) => (status, burst, examined),
        Ok((other, ..)) => {
            let said = format!("{address} answers a question for its status with {other:?}");
            let check = Check::new("session", Err(said), "upgrade the older of the two programs");
            return told(vec![Check { place: "board", ..check }]);
        }
        Err(error) => {
            let cure = format!("start the agent there; over ssh: wattline deploy {address}");
            let check = Check::new("session", Err(error.to_string()), &cure);
            return told(vec![Check { place: "board", ..check }]);
        }
    };
    Told { checks: of_session(&status, &burst), of_board }
}

/// What the agent finds on its board; `None` where it is of another build, which
/// would end the session at the question, or of this machine: an agent that was
/// started for the question knows no more than a program that is.
async fn examined(
    client: &mut Client,
    address: &BoardAddress,
) -> Result<Option<Vec<Check>>, ClientError> {
    let is_own = matches!(address, BoardAddress::Simulated(_) | BoardAddress::Local);
    if is_own || !client.knows_all() {
        return Ok(None);
    }
    Ok(match client.ask(Command::Examine).await? {
        // Of a simulated board there is nothing to tell; of its machine there is.
        Reply::Examined(checks) if checks.is_empty() => None,
        Reply::Examined(checks) => Some(checks.into_iter().map(Check::of_agent).collect()),
        Reply::Refused(Refusal::Busy { run }) => {
            let found = format!("not looked at while run {run} goes on");
            let warned = Check::new("checks", Ok(found), "ask again when it is over");
            Some(vec![Check { place: "board", warning: true, ..warned }])
        }
        _ => None,
    })
}

fn of_session(status: &StatusReply, burst: &[ClockExchange]) -> Vec<Check> {
    let waiting = status.runs.iter().filter(|run| !run.acknowledged).count();
    let of_board =
        |name: &str, found: String| Check { place: "board", ..Check::new(name, Ok(found), "") };
    let mut checks = vec![of_board(
        "session",
        format!(
            "agent {} answers; {} runs on it, {waiting} not fetched whole, {} MB free",
            status.build,
            status.runs.len(),
            status.free_bytes / 1_000_000
        ),
    )];
    checks.extend(clock_offset(burst).map(|clock| {
        let offset_s = clock.offset.as_seconds().0;
        let bound_ms = clock.bound.as_seconds().0 * 1e3;
        let found = format!("board - host = {offset_s:.6} s ± {bound_ms:.3} ms");
        Check {
            warning: bound_ms > BOUND_MS_MAX,
            cure: SLOW_LINK.into(),
            ..of_board("clock", found)
        }
    }));
    checks
}

/// One line of the agent's own doctor.
fn of_line(text: &str) -> Option<Check> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let word = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let good = value.get("good")?.as_bool()?;
    Some(Check {
        place: "board",
        name: word("check"),
        good,
        // Agents before it had no warnings.
        warning: value.get("warning").and_then(serde_json::Value::as_bool).unwrap_or(false),
        found: word("found"),
        cure: word("cure"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_of_the_board_is_told_and_is_no_failure() {
        let told = r#"{"check":"board","good":true,"warning":true,"found":"differs","cure":"see"}"#;
        let check = of_line(told).unwrap();
        assert_eq!(check.text(false), "warn board board           differs  try: see");
        // An agent of before, with a cure beside what is good.
        let old = of_line(r#"{"check":"rails","good":true,"found":"VDD_IN","cure":"x"}"#).unwrap();
        assert_eq!(old.text(false), "ok   board rails           VDD_IN");
        assert!(of_line("not json").is_none());
    }
}
