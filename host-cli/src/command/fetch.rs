//! `wattline fetch`: bring a run's records from its board.
//!
//! Goes on where an earlier fetch or a killed `run` ended. A run that still
//! goes on is followed to its end; Ctrl-C leaves it to the board.

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use wattline_protocol::presence::Purpose;
use wattline_protocol::record::RunId;

use super::fleet::{FleetBoard, FleetFolder, Output, Task, together, worst};
use super::report::{self, Made};
use super::{board, boards, clock_json, known_run, line, say};
use crate::args::FetchArgs;
use crate::collect::{Collected, Collector, OnInterrupt};
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::run_folder::{CAMPAIGN, RunFolder, store_failure};
use crate::store::Store;

pub(super) async fn run(args: FetchArgs) -> Result<Exit, Failure> {
    if let Some(fleet) = FleetFolder::find(&args.run)? {
        return of_fleet(&args, &fleet).await;
    }
    let (id, here, recorded_board) = known_run(&args.run)?;
    let address = board(args.on.as_deref(), recorded_board.as_deref())?;
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::of(Exit::Failed, "signals cannot be caught", &error, ""))?;
    let (folder, mut store) = open(&args, here, &id, &address.to_string())?;
    let mut progress = Progress::new(false, false);
    let collector = Collector {
        address: &address,
        run: &id,
        store: &mut store,
        observer: &mut progress,
        on_interrupt: OnInterrupt::Leave,
        purpose: Purpose::Fetch,
    };
    let collected = collector.collect(None, &mut interrupts).await;
    progress.clear();
    let frames = store.frame_count().map_err(|error| store_failure(&error))?;
    if let Err(failure) = &collected
        && frames == 0
    {
        drop(store);
        folder.discard();
        return Err(failure.clone());
    }
    if collected? == Collected::Left {
        say(&format!("the board goes on; later: wattline fetch {id} --on {address}"));
        return Ok(Exit::Interrupted);
    }
    let frames_sha256 = store.frames_sha256().map_err(|error| store_failure(&error))?;
    store.finish().map_err(|error| store_failure(&error))?;
    let Made { analysis, page, exit } = report::make(&folder, &[])?;
    if !folder.path().join(CAMPAIGN).exists() {
        folder.write_campaign(&analysis.campaign)?;
    }
    if args.json {
        let object = json!({
            "run": id.as_str(),
            "directory": folder.path(),
            "frames": frames,
            "frames_sha256": frames_sha256,
            "report": page,
            "simulated": analysis.simulation.is_some(),
            "clock": analysis.clock.as_ref().map(clock_json),
        });
        line(&object.to_string())?;
    } else {
        say(&format!("{frames} frames of run {id}, sha256 {frames_sha256}"));
        line(&page.display().to_string())?;
    }
    Ok(exit)
}

/// Each board's part of a run of several.
async fn of_fleet(args: &FetchArgs, fleet: &FleetFolder) -> Result<Exit, Failure> {
    if args.out.is_some() {
        let mend = "fetch it where it lies, or one board's directory below it with --out";
        return Err(Failure::new(Exit::Usage, "a run of several boards has its directory", mend));
    }
    let on = args.on.as_deref().map(|on| boards(Some(on), None)).transpose()?;
    let task = |board: &FleetBoard| {
        let run = fleet.run_of(board).display().to_string();
        let mut words = vec!["fetch".to_owned(), run, "--on".to_owned(), board.address.clone()];
        words.extend(args.json.then(|| "--json".to_owned()));
        Task { name: board.name.clone(), args: words }
    };
    let tasks = fleet.chosen(on.as_deref())?.iter().map(task).collect();
    let output = if args.json { Output::Json } else { Output::Named };
    let exit = worst(&together(tasks, output).await?);
    let page = report::of_boards(fleet)?;
    if !args.json {
        line(&page.display().to_string())?;
    }
    Ok(exit)
}

fn open(
    args: &FetchArgs,
    here: Option<RunFolder>,
    id: &RunId,
    board: &str,
) -> Result<(RunFolder, Store), Failure> {
    match (&args.out, here) {
        (None, Some(folder)) => {
            let store = Store::open_for_append(&folder.recording())
                .map_err(|error| store_failure(&error))?;
            Ok((folder, store))
        }
        (Some(out), _) if out.join(crate::run_folder::RECORDING).exists() => {
            let folder = RunFolder::find(&out.display().to_string())?;
            let store = Store::open_for_append(&folder.recording())
                .map_err(|error| store_failure(&error))?;
            Ok((folder, store))
        }
        (out, _) => {
            let folder = RunFolder::create(out.as_deref(), id)?;
            let store = folder.begin(id, board, None)?;
            Ok((folder, store))
        }
    }
}
