//! `wattline run --power-mode 0,2`: the campaign in each of several power modes.
//!
//! Owns the directory with a run for each mode and the way from one to the next. The
//! board makes them by itself, one after the other, also over reboots; this program
//! follows, and comes back when the board does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::Signal;
use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::command::{Command, PowerBlock, Reply};
use wattline_protocol::presence::Purpose;
use wattline_protocol::record::RunId;
use wattline_protocol::units::Nanos;

use super::fleet::{FleetBoard, FleetFolder, worst};
use super::run::ask;
use super::{line, report, say, unreachable};
use crate::args::RunArgs;
use crate::board::BoardAddress;
use crate::client::{Client, ClientError};
use crate::clock;
use crate::collect::{Collected, Collector, OnInterrupt};
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::run_folder::{RUNS, RunFolder, store_failure};
use crate::store::Store;

/// Whether a block has begun is asked this often.
const LOOK: Duration = Duration::from_secs(1);
/// A board that reboots is back within this, or it is left alone.
const AWAY_MAX: Nanos = Nanos::from_secs(900);

/// What is asked of a board.
pub(super) struct Asked<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) address: &'a BoardAddress,
    pub(super) campaign: CampaignSpec,
    pub(super) modes: Vec<u16>,
}

/// One mode's run here.
struct Block {
    run: RunId,
    folder: RunFolder,
    store: Store,
}

pub(super) async fn run(
    asked: Asked<'_>,
    mut client: Client,
    base: &RunId,
    interrupts: &mut Signal,
) -> Result<Exit, Failure> {
    let Asked { args, address, campaign, modes } = &asked;
    if !client.knows_all() {
        return Err(Failure::new(
            Exit::Failed,
            format!("the agent of board {address} is of another version and knows one mode a run"),
            format!("upgrade the older one (wattline deploy {address}), or give one --power-mode"),
        ));
    }
    let path = args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(base.as_str()));
    let called = |mode: &u16| FleetBoard {
        name: format!("mode {mode}"),
        address: address.to_string(),
        directory: format!("mode-{mode}"),
    };
    let fleet = FleetFolder::create_listed(&path, modes.iter().map(called).collect())?;
    let (blocks, made) = blocks(&asked, base, &fleet)?;
    let (campaign, pin) = (Box::new(campaign.clone()), args.pin);
    let started = ask(&mut client, address, Command::StartBlocks { campaign, blocks, pin }, base);
    if let Err(failure) = started.await {
        drop(client);
        for block in made {
            drop(block.store);
            block.folder.discard();
        }
        fleet.discard();
        return Err(failure);
    }
    client.close().await;
    if args.detach {
        for block in made {
            block.store.finish().map_err(|error| store_failure(&error))?;
            line(block.run.as_str())?;
        }
        line(&fleet.path().display().to_string())?;
        return Ok(Exit::Done);
    }
    let exits = follow(&asked, made, &fleet, interrupts).await?;
    let page = report::of_boards(&fleet)?;
    let exit = worst(&exits);
    if args.json {
        line(&json!({"event": "modes", "report": page, "exit": exit.code()}).to_string())?;
    } else {
        line(&page.display().to_string())?;
    }
    Ok(exit)
}

/// The runs to ask for, and their recordings here.
fn blocks(
    asked: &Asked<'_>,
    base: &RunId,
    fleet: &FleetFolder,
) -> Result<(Vec<PowerBlock>, Vec<Block>), Failure> {
    let (mut blocks, mut made) = (Vec::new(), Vec::new());
    for (power_mode, listed) in asked.modes.iter().zip(&fleet.boards) {
        let run = RunId::new(&format!("{}-m{power_mode}", base.as_str())).map_err(|error| {
            let mend = "name the board otherwise in the configuration";
            Failure::of(Exit::Usage, "the board's name makes no run id", &error, mend)
        })?;
        let folder = RunFolder::create(Some(&fleet.run_of(listed)), &run)?;
        let board = asked.address.to_string();
        let store = folder.begin(&run, &board, Some(&asked.campaign))?;
        blocks.push(PowerBlock { run: run.clone(), power_mode: *power_mode });
        made.push(Block { run, folder, store });
    }
    Ok((blocks, made))
}

/// Follows one run after the other; how each ended.
async fn follow(
    asked: &Asked<'_>,
    made: Vec<Block>,
    fleet: &FleetFolder,
    interrupts: &mut Signal,
) -> Result<Vec<Exit>, Failure> {
    let Asked { args, address, modes, .. } = asked;
    let mut exits = Vec::new();
    let mut stopped = false;
    for (Block { run, folder, mut store }, mode) in made.into_iter().zip(modes) {
        if stopped {
            continue;
        }
        match begun(address, &run, interrupts).await? {
            Begun::Yes => {}
            Begun::Passed => {
                say(&format!("mode {mode}: the board could not be set to it, and went on"));
                exits.push(Exit::Failed);
                continue;
            }
            Begun::Stopped => {
                exits.push(Exit::Interrupted);
                stopped = true;
                continue;
            }
        }
        say(&format!("mode {mode}: run {run}"));
        let mut progress = Progress::new(args.json, false);
        let collector = Collector {
            address,
            run: &run,
            store: &mut store,
            observer: &mut progress,
            on_interrupt: OnInterrupt::StopRun,
            purpose: Purpose::Run,
        };
        let collected = collector.collect(None, interrupts).await;
        progress.clear();
        let collected = collected?;
        if collected == Collected::Left {
            let path: PathBuf = fleet.path().to_owned();
            say(&format!("the board goes on; later: wattline fetch {}", path.display()));
            exits.push(Exit::Interrupted);
            break;
        }
        store.finish().map_err(|error| store_failure(&error))?;
        let made = report::make(&folder, &[])?;
        stopped = collected == Collected::Stopped;
        exits.push(if stopped { Exit::Interrupted } else { made.exit });
    }
    Ok(exits)
}

/// Whether a run has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Yes,
    /// The board is idle, or busy with a later one: it left this one out.
    Passed,
    /// Ctrl-C: the board was asked to leave it out.
    Stopped,
}

async fn begun(
    address: &BoardAddress,
    run: &RunId,
    interrupts: &mut Signal,
) -> Result<Begun, Failure> {
    let mut heard = clock::now();
    let mut idle_looks = 0;
    loop {
        match look(address, run).await {
            Ok(Seen::Begun) => return Ok(Begun::Yes),
            Ok(Seen::Busy) => (heard, idle_looks) = (clock::now(), 0),
            // Between two blocks a board is idle for a moment, or about to reboot.
            Ok(Seen::Idle) => idle_looks += 1,
            Err(error) if error.may_come_back() && clock::now() - heard < AWAY_MAX => {
                idle_looks = 0;
            }
            Err(error) => return Err(unreachable(address, &error)),
        }
        if idle_looks > IDLE_LOOKS_MAX {
            return Ok(Begun::Passed);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = interrupts.recv() => {
                let stopped = async {
                    let mut client = Client::connect(address).await?;
                    client.ask(Command::Stop { run: run.clone() }).await?;
                    client.close().await;
                    Ok::<(), ClientError>(())
                };
                stopped.await.map_err(|error| unreachable(address, &error))?;
                return Ok(Begun::Stopped);
            }
        }
    }
}

/// A board that was told to reboot goes down within two minutes.
const IDLE_LOOKS_MAX: u32 = 120;

enum Seen {
    Begun,
    Busy,
    Idle,
}

async fn look(address: &BoardAddress, run: &RunId) -> Result<Seen, ClientError> {
    let mut client = Client::connect(address).await?;
    let reply = client.ask(Command::Status).await?;
    client.close().await;
    let Reply::Status(status) = reply else { return Ok(Seen::Idle) };
    let is_held = status.runs.iter().any(|held| held.run == *run);
    Ok(match status.current {
        _ if is_held => Seen::Begun,
        Some(current) if current.run == *run => Seen::Begun,
        Some(_) => Seen::Busy,
        None => Seen::Idle,
    })
}
