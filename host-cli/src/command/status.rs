//! `wattline status`: what a board does and holds.

use serde_json::json;
use wattline_protocol::command::{Command, PowerBlock, Refusal, Reply, StatusReply};
use wattline_protocol::presence::{Occupant, SpoolStanding, Standing};
use wattline_protocol::units::{NANOS_PER_SECOND, Nanos};

use super::fleet::{Output, Task, together, worst};
use super::{boards, clock_json, line, refusal, unreachable};
use crate::analysis::clock_offset;
use crate::analysis::model::ClockOffset;
use crate::args::StatusArgs;
use crate::board::{BoardAddress, NamedBoard};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::progress::duration;

pub(super) async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let mut boards = boards(args.on.as_deref(), None)?;
    match (boards.pop(), boards.is_empty()) {
        (Some(board), true) => of_one(board.address, args.json).await,
        (last, _) => of_all(boards.into_iter().chain(last), args.json).await,
    }
}

async fn of_all(boards: impl Iterator<Item = NamedBoard>, json: bool) -> Result<Exit, Failure> {
    let task = |board: NamedBoard| {
        let mut args = vec!["status".to_owned(), "--on".to_owned(), board.address.to_string()];
        args.extend(json.then(|| "--json".to_owned()));
        Task { name: board.name, args }
    };
    let output = if json { Output::Json } else { Output::Named };
    Ok(worst(&together(boards.map(task).collect(), output).await?))
}

async fn of_one(address: BoardAddress, json: bool) -> Result<Exit, Failure> {
    let mut client =
        Client::connect(&address).await.map_err(|error| unreachable(&address, &error))?;
    let status = ask(&mut client, &address).await?;
    let standing = standing(&mut client, &address).await?;
    let burst = client.clock_burst().await.map_err(|error| unreachable(&address, &error))?;
    client.close().await;
    let clock = clock_offset(&burst);
    if json {
        line(&as_json(&address, &status, standing.as_ref(), clock.as_ref()).to_string())?;
        return Ok(Exit::Done);
    }
    line(&format!("{address}: agent {}", status.build))?;
    match &status.current {
        None => line("no run goes on")?,
        Some(current) => {
            let left = (current.ends - status.now).0.max(0) / NANOS_PER_SECOND;
            let cell = current.cell.as_ref();
            let what = cell.map(|cell| format!("{} batch {}", cell.network, cell.batch));
            let trial =
                current.trial.map(|trial| format!("trial {}/{}", trial + 1, current.trials));
            let phase = Some(current.phase.name().to_owned());
            let left = Some(format!("{} left", duration(left)));
            let parts: Vec<String> = [trial, what, phase, left].into_iter().flatten().collect();
            line(&format!("run {}: {}", current.run, parts.join(", ")))?;
        }
    }
    for block in standing.iter().flat_map(|standing| &standing.waiting) {
        line(&format!("{}  waits, for power mode {}", block.run, block.power_mode))?;
    }
    for run in &status.runs {
        let held = if run.acknowledged { "fetched" } else { "not fetched" };
        line(&format!("{}  {:.1} MB  {held}", run.run, megabytes(run.bytes)))?;
    }
    line(&format!("{:.0} MB free", megabytes(status.free_bytes)))?;
    if let Some(standing) = &standing {
        line(&room(&standing.spool))?;
        for session in &standing.sessions {
            line(&format!("session: {}", session.describe()))?;
        }
    }
    if let Some(clock) = clock {
        let (offset_s, bound) = (clock.offset.as_seconds().0, micros(clock.bound));
        line(&format!("clock: board - host = {offset_s:.6} s ± {bound} µs"))?;
    }
    Ok(Exit::Done)
}

/// Asks a connected agent for its status.
pub(super) async fn ask(
    client: &mut Client,
    address: &BoardAddress,
) -> Result<StatusReply, Failure> {
    match client.ask(Command::Status).await.map_err(|error| unreachable(address, &error))? {
        Reply::Status(status) => Ok(status),
        Reply::Refused(refused) => Err(refusal::failure(&refused, address, None)),
        _ => Err(refusal::failure(&Refusal::BadCampaign, address, None)),
    }
}

/// Asks who has a session and how full the spool is; an agent of an earlier
/// version does not say.
pub(super) async fn standing(
    client: &mut Client,
    address: &BoardAddress,
) -> Result<Option<Standing>, Failure> {
    if !client.knows_all() {
        return Ok(None);
    }
    let reply = client.ask(Command::Standing).await;
    match reply.map_err(|error| unreachable(address, &error))? {
        Reply::Standing(standing) => Ok(Some(*standing)),
        _ => Ok(None),
    }
}

/// How full a spool is, in words.
pub(super) fn room(spool: &SpoolStanding) -> String {
    format!(
        "spool: {:.1} of {:.0} MB used, {:.0} MB of the disk stay free; when full: {}",
        megabytes(spool.used_bytes),
        megabytes(spool.quota_bytes),
        megabytes(spool.reserve_bytes),
        spool.when_full.name()
    )
}

fn as_json(
    address: &BoardAddress,
    status: &StatusReply,
    standing: Option<&Standing>,
    clock: Option<&ClockOffset>,
) -> serde_json::Value {
    let runs: Vec<_> = status
        .runs
        .iter()
        .map(|run| {
            json!({"run": run.run.as_str(), "bytes": run.bytes, "acknowledged": run.acknowledged})
        })
        .collect();
    let current = status.current.as_ref().map(|current| {
        json!({
            "run": current.run.as_str(),
            "phase": current.phase,
            "trial": current.trial,
            "trials": current.trials,
            "network": current.cell.as_ref().map(|cell| cell.network.as_str()),
            "batch": current.cell.as_ref().map(|cell| cell.batch),
            "left_s": (current.ends - status.now).0.max(0) / NANOS_PER_SECOND,
        })
    });
    let sessions = standing.map(|standing| {
        let session = |one: &Occupant| {
            json!({
                "name": one.name.as_str(),
                "purpose": one.purpose.name(),
                "for_s": one.for_s,
                "controls": one.controls,
            })
        };
        standing.sessions.iter().map(session).collect::<Vec<_>>()
    });
    let waiting = standing.map(|standing| {
        let block =
            |one: &PowerBlock| json!({"run": one.run.as_str(), "power_mode": one.power_mode});
        standing.waiting.iter().map(block).collect::<Vec<_>>()
    });
    let spool = standing.map(|standing| {
        json!({
            "used_bytes": standing.spool.used_bytes,
            "quota_bytes": standing.spool.quota_bytes,
            "reserve_bytes": standing.spool.reserve_bytes,
            "when_full": standing.spool.when_full.name(),
        })
    });
    json!({
        "board": address.to_string(),
        "agent": status.build,
        "current": current,
        "runs": runs,
        "free_bytes": status.free_bytes,
        "spool": spool,
        "sessions": sessions,
        "waiting": waiting,
        "clock": clock.map(clock_json),
    })
}

/// Whole microseconds, rounded up as a bound is.
fn micros(span: Nanos) -> i64 {
    span.0.saturating_add(999) / 1_000
}

#[expect(clippy::cast_precision_loss, reason = "for a text with one decimal")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
