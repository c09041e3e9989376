//! `wattline status`: what a board does and holds.

use serde_json::json;
use wattline_protocol::command::{Command, Refusal, Reply, StatusReply};
use wattline_protocol::units::{NANOS_PER_SECOND, Nanos};

use super::{board, clock_json, line, refusal, unreachable};
use crate::analysis::clock_offset;
use crate::analysis::model::ClockOffset;
use crate::args::StatusArgs;
use crate::board::BoardAddress;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::progress::duration;

pub(super) async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let address = board(args.on.as_deref(), None)?;
    let mut client =
        Client::connect(&address).await.map_err(|error| unreachable(&address, &error))?;
    let status = ask(&mut client, &address).await?;
    let burst = client.clock_burst().await.map_err(|error| unreachable(&address, &error))?;
    client.close().await;
    let clock = clock_offset(&burst);
    if args.json {
        line(&as_json(&address, &status, clock.as_ref()).to_string())?;
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
    for run in &status.runs {
        let held = if run.acknowledged { "fetched" } else { "not fetched" };
        line(&format!("{}  {:.1} MB  {held}", run.run, megabytes(run.bytes)))?;
    }
    line(&format!("{:.0} MB free", megabytes(status.free_bytes)))?;
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

fn as_json(
    address: &BoardAddress,
    status: &StatusReply,
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
    json!({
        "board": address.to_string(),
        "agent": status.build,
        "current": current,
        "runs": runs,
        "free_bytes": status.free_bytes,
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
