//! `wattline watch`: follow a run, or replay a recorded one.
//!
//! Plain lines, one a second: the power of each rail, the trial and the time
//! left. Copies of frames may be left out under load; the run's own records
//! are not touched. A run that is over is replayed from its recording.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use wattline_protocol::command::{BoardReply, Command, CurrentRun, Refusal, Reply};
use wattline_protocol::frame;
use wattline_protocol::presence::Purpose;
use wattline_protocol::record::{RailDescription, RunId, WindowKind, kind};
use wattline_protocol::session::host::Event;
use wattline_protocol::units::{BoardTime, NANOS_PER_SECOND};

use super::{board, known_run, line, refusal, report, say, status, unreachable};
use crate::args::WatchArgs;
use crate::board::BoardAddress;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::live::LiveRails;
use crate::progress::duration;
use crate::recording::Recording;
use crate::run_folder::RunFolder;

/// A line is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(args: WatchArgs) -> Result<Exit, Failure> {
    let (id, folder, recorded_board) = known_run(&args.run)?;
    let named = args.on.as_deref().or(recorded_board.as_deref());
    if named.is_some() || folder.is_none() {
        let address = board(args.on.as_deref(), recorded_board.as_deref())?;
        match follow(&id, &address).await {
            Ok(Some(exit)) => return Ok(exit),
            Ok(None) if folder.is_none() => {
                return Err(refusal::failure(&Refusal::NoSuchRun, &address, Some(&id)));
            }
            Err(failure) if folder.is_none() => return Err(failure),
            // It is over, or its board is away: the recording is here.
            Ok(None) | Err(_) => {}
        }
    }
    match folder {
        Some(folder) => replay(&folder),
        None => Ok(Exit::Done),
    }
}

/// Follows a run that goes on; `None` where it does not.
async fn follow(id: &RunId, address: &BoardAddress) -> Result<Option<Exit>, Failure> {
    let lost = |error| unreachable(address, &error);
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::of(Exit::Failed, "signals cannot be caught", &error, ""))?;
    let mut client = Client::connect_for(address, Purpose::Watch).await.map_err(lost)?;
    let live = client.ask(Command::Live { run: id.clone() }).await.map_err(lost)?;
    if let Reply::Refused(taken @ Refusal::SessionsTaken { .. }) = &live {
        return Err(refusal::failure(taken, address, Some(id)));
    }
    if live != Reply::Live {
        return Ok(None);
    }
    let Reply::Board(about) = client.ask(Command::Describe).await.map_err(lost)? else {
        return Ok(None);
    };
    let mut rails = LiveRails::new(&about.chips, &about.rails);
    let mut tick = tokio::time::interval(LINE_EVERY);
    // The first line when a second of samples is there.
    tick.reset();
    loop {
        tokio::select! {
            event = client.next() => match event.map_err(lost)? {
                Event::Live(bytes) => {
                    if let Ok(frame) = frame::decode(&bytes) {
                        rails.take(&frame);
                        if frame.header.kind == kind::RUN_END {
                            client.close().await;
                            line(&format!("run {id} is over"))?;
                            return Ok(Some(Exit::Done));
                        }
                    }
                }
                Event::LiveDropped(count) => say(&format!("{count} live frames were left out")),
                _ => {}
            },
            _ = tick.tick() => {
                let now = status::ask(&mut client, address).await?;
                match &now.current {
                    Some(current) if current.run == *id => {
                        line(&live_line(&about, &mut rails, current, now.now))?;
                    }
                    _ => {
                        client.close().await;
                        line(&format!("run {id} is over"))?;
                        return Ok(Some(Exit::Done));
                    }
                }
            }
            _ = interrupts.recv() => {
                client.close().await;
                return Ok(Some(Exit::Interrupted));
            }
        }
    }
}

fn live_line(
    about: &BoardReply,
    rails: &mut LiveRails,
    current: &CurrentRun,
    now: BoardTime,
) -> String {
    let word = if about.simulation.is_some() { "simulated  " } else { "" };
    let watts: Vec<String> = about
        .rails
        .iter()
        .zip(rails.mean_watts())
        .map(|(rail, watts)| power_text(rail, watts.map(|watts| watts.0)))
        .collect();
    let trial = current.trial.map_or_else(String::new, |trial| {
        let what = current
            .cell
            .as_ref()
            .map_or_else(String::new, |cell| format!(" {} batch {}", cell.network, cell.batch));
        format!("  trial {}/{}{what}", trial + 1, current.trials)
    });
    let left = (current.ends - now).0.max(0) / NANOS_PER_SECOND;
    let phase = current.phase.name();
    format!("{word}{}{trial}  {phase}  {} left", watts.join("  "), duration(left))
}

fn power_text(rail: &RailDescription, watts: Option<f64>) -> String {
    watts
        .map_or_else(|| format!("{} - W", rail.name), |watts| format!("{} {watts:.2} W", rail.name))
}

/// Prints what a recorded run did, in its order.
fn replay(folder: &RunFolder) -> Result<Exit, Failure> {
    let (recording, analysis) = report::analysed(folder, &[])?;
    let word = if analysis.simulation.is_some() { "simulated  " } else { "" };
    let at = |time: BoardTime| {
        let seconds = (time - analysis.started).as_seconds().0;
        format!("{word}{seconds:>9.3} s")
    };
    for row in rows(&recording) {
        let (time, text) = row;
        let energy = analysis
            .windows
            .iter()
            .find(|window| window.t1 == time && text.starts_with("window"))
            .map(|window| {
                format!(
                    "  {:.3} J ± {:.3} J  {}",
                    window.energy.joules.0,
                    window.energy.expanded().0,
                    window.judgement.verdict.name()
                )
            })
            .unwrap_or_default();
        line(&format!("{}  {text}{energy}", at(time)))?;
    }
    Ok(Exit::Done)
}

fn rows(recording: &Recording) -> Vec<(BoardTime, String)> {
    let phases = recording.phases.iter().map(|mark| {
        let mark = &mark.record;
        let trial = mark.trial.map_or_else(String::new, |trial| format!(" trial {}", trial + 1));
        (mark.at, format!("{}{trial}", mark.phase.name()))
    });
    let windows = recording.windows.iter().map(|close| {
        let close = &close.record;
        let what = match close.kind {
            WindowKind::Idle(_) => "idle".to_owned(),
            WindowKind::Trial(trial) => {
                format!("trial {}, {} inferences", trial + 1, close.inferences)
            }
        };
        (close.t1, format!("window {} closed ({what})", close.window))
    });
    let mut rows: Vec<_> = phases.chain(windows).collect();
    rows.sort_by_key(|(time, _)| *time);
    rows
}
