//! `wattline run`: measure networks on a board and write a report.
//!
//! Checks the campaign here, has the board check it again, collects every
//! record as it is made, and writes the report. The board goes on by itself:
//! when this program ends, `wattline fetch` brings the rest.

use std::path::Path;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use wattline_protocol::campaign_spec::{CampaignFile, CampaignSpec, Mode, SpecError};
use wattline_protocol::command::{Command, GpuPresence, Hello, Reply, Side};
use wattline_protocol::power_modes::power_modes;
use wattline_protocol::presence::Purpose;
use wattline_protocol::record::{RunId, RunSettings};

use super::fleet::{FleetBoard, FleetFolder, Output, Task, together, worst};
use super::report::{self, Made};
use super::{boards, line, modes, refusal, say, unreachable};
use crate::args::RunArgs;
use crate::board::{BoardAddress, NamedBoard};
use crate::client::Client;
use crate::clock;
use crate::collect::{Collected, Collector, OnInterrupt};
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::run_folder::{RUNS, RunFolder, store_failure};
use crate::store::Store;

pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let (campaign, modes) = campaign(&args)?;
    let mut named = boards(args.on.as_deref(), None)?;
    let address = match (named.pop(), named.is_empty()) {
        (Some(board), true) => board.address,
        (last, _) => return on_all(&args, named.into_iter().chain(last).collect()).await,
    };
    let campaign = with_whole_paths(campaign, &address);
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::of(Exit::Failed, "signals cannot be caught", &error, ""))?;
    let client = Client::connect_for(&address, Purpose::Run)
        .await
        .map_err(|error| unreachable(&address, &error))?;
    let id = run_id(&address, client.hello())?;
    if modes.len() > 1 {
        let asked = modes::Asked { args: &args, address: &address, campaign, modes };
        return modes::run(asked, client, &id, &mut interrupts).await;
    }
    let power_mode = modes.first().copied();
    let folder = RunFolder::create(args.out.as_deref(), &id)?;
    let settings = RunSettings { pin: args.pin, power_mode };
    let begun = begin(&args, client, &address, (&campaign, settings), &id, &folder).await;
    let (client, mut store, simulated) = begun.inspect_err(|_| folder.discard())?;
    if args.detach {
        client.close().await;
        store.finish().map_err(|error| store_failure(&error))?;
        line(id.as_str())?;
        return Ok(Exit::Done);
    }
    let mut progress = Progress::new(args.json, simulated);
    let collector = Collector {
        address: &address,
        run: &id,
        store: &mut store,
        observer: &mut progress,
        on_interrupt: OnInterrupt::StopRun,
        purpose: Purpose::Run,
    };
    let collected = collector.collect(Some(client), &mut interrupts).await;
    progress.clear();
    let collected = collected?;
    if collected == Collected::Left {
        say(&format!("the board goes on; later: wattline fetch {id} --on {address}"));
        return Ok(Exit::Interrupted);
    }
    store.finish().map_err(|error| store_failure(&error))?;
    let made = report::make(&folder, &[])?;
    print_end(&args, &made, simulated)?;
    Ok(if collected == Collected::Stopped { Exit::Interrupted } else { made.exit })
}

/// The same campaign on several boards at once.
async fn on_all(args: &RunArgs, named: Vec<NamedBoard>) -> Result<Exit, Failure> {
    let stamp = || format!("{}-boards", clock::compact_utc(clock::unix_ns()));
    let path = args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(stamp()));
    let fleet = FleetFolder::create(&path, &named)?;
    let flags = flags(args);
    let task = |board: &FleetBoard| {
        let out = fleet.run_of(board).display().to_string();
        let own = ["run".to_owned(), "--on".into(), board.address.clone(), "--out".into(), out];
        Task { name: board.name.clone(), args: own.into_iter().chain(flags.clone()).collect() }
    };
    let output = if args.json { Output::Json } else { Output::Named };
    let exits = together(fleet.boards.iter().map(task).collect(), output).await?;
    for (board, exit) in fleet.boards.iter().zip(&exits) {
        if *exit != Exit::Done {
            say(&format!("{}: ended with exit code {}", board.name, exit.code()));
        }
    }
    let exit = worst(&exits);
    if args.detach {
        if !args.json {
            line(&fleet.path().display().to_string())?;
        }
        return Ok(exit);
    }
    let page = report::of_boards(&fleet)?;
    if args.json {
        let done = json!({"event": "boards", "report": page, "exit": exit.code()});
        line(&done.to_string())?;
    } else {
        line(&page.display().to_string())?;
    }
    Ok(exit)
}

/// The flags of a run again, but for its board and its directory.
fn flags(args: &RunArgs) -> Vec<String> {
    let RunArgs {
        campaign,
        on: _,
        networks,
        batch,
        precision,
        device,
        size,
        threads,
        cores,
        windows,
        window_s_min,
        seed,
        weights,
        pin,
        power_mode,
        quick,
        detach,
        out: _,
        json,
    } = args;
    let mut words: Vec<String> = campaign.iter().map(|path| path.display().to_string()).collect();
    let mut add = |flag: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("--{flag}={value}")));
    };
    add("networks", joined(networks));
    add("batch", joined(batch));
    add("precision", joined(precision));
    add("device", joined(device));
    add("size", joined(size));
    add("threads", joined(threads));
    add("cores", joined(cores));
    add("windows", windows.map(|number| number.to_string()));
    add("window-s-min", window_s_min.map(|number| number.to_string()));
    add("seed", seed.map(|number| number.to_string()));
    add("weights", weights.clone());
    add("power-mode", joined(power_mode));
    let switches = [("pin", *pin), ("quick", *quick), ("detach", *detach), ("json", *json)];
    let set = switches.into_iter().filter(|(_, is_set)| *is_set);
    words.extend(set.map(|(flag, _)| format!("--{flag}")));
    words
}

fn joined<T: ToString>(values: &Option<Vec<T>>) -> Option<String> {
    values.as_ref().map(|values| values.iter().map(T::to_string).collect::<Vec<_>>().join(","))
}

fn print_end(args: &RunArgs, made: &Made, simulated: bool) -> Result<(), Failure> {
    if args.json {
        return line(
            &json!({
                "event": "done",
                "run": made.analysis.run.as_str(),
                "report": made.page,
                "simulated": simulated,
                "exit": made.exit.code(),
            })
            .to_string(),
        );
    }
    for row in report::table(&made.analysis) {
        line(&row)?;
    }
    line(&made.page.display().to_string())
}

/// The campaign of file and flags with its power modes, checked.
fn campaign(args: &RunArgs) -> Result<(CampaignSpec, Vec<u16>), Failure> {
    let name = args.campaign.as_deref().map_or("of the flags".into(), |p| p.display().to_string());
    let wrong = |error: &SpecError| {
        Failure::of(
            Exit::Usage,
            format!("campaign {name} cannot be run"),
            error,
            "see `wattline run --help` for keys and ranges; the file has the flags' names with _",
        )
    };
    let file = match &args.campaign {
        Some(path) => read_campaign(path)
            .and_then(|text| CampaignFile::parse(&text).map_err(|error| wrong(&error)))?,
        None => CampaignFile::default(),
    };
    let flags = CampaignFile {
        networks: args.networks.clone(),
        batch: args.batch.clone(),
        precision: args.precision.clone(),
        device: args.device.clone(),
        size: args.size.clone(),
        threads: args.threads.clone(),
        cores: args.cores.clone(),
        windows: args.windows,
        window_s_min: args.window_s_min,
        seed: args.seed,
        weights: args.weights.clone(),
        power_mode: args.power_mode.clone(),
    };
    let mode = if args.quick { Mode::Quick } else { Mode::Full };
    let file = file.overridden_by(flags);
    let modes = power_modes(file.power_mode.as_deref()).map_err(|error| wrong(&error))?;
    Ok((file.resolve(mode).map_err(|error| wrong(&error))?, modes))
}

/// Graph and weight files with their whole paths where the board is this
/// machine, since its agent may stand in another folder. Elsewhere names are
/// the board's own and stay as typed.
fn with_whole_paths(mut campaign: CampaignSpec, address: &BoardAddress) -> CampaignSpec {
    let is_here = match address {
        BoardAddress::Simulated(_) | BoardAddress::Local => true,
        BoardAddress::Ssh { .. }
        | BoardAddress::Unix(_)
        | BoardAddress::Tls { .. }
        | BoardAddress::Listen { .. } => false,
    };
    if !is_here {
        return campaign;
    }
    let whole = |text: &str| {
        std::path::absolute(text)
            .map_or_else(|_| text.to_owned(), |path| path.display().to_string())
    };
    for network in &mut campaign.networks {
        if [".toml", ".json"].iter().any(|ending| network.to_lowercase().ends_with(ending)) {
            *network = whole(network);
        }
    }
    if !campaign.weights.starts_with("hashed:") {
        campaign.weights = whole(&campaign.weights);
    }
    campaign
}

fn read_campaign(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("campaign {} cannot be read", path.display());
        Failure::of(Exit::Usage, what, &error, "name a TOML file, or give the flags alone")
    })
}

/// Second, board and a tail that tells two runs of one second apart.
fn run_id(address: &BoardAddress, hello: &Hello) -> Result<RunId, Failure> {
    let board = match hello.side {
        Side::Agent { simulated: Some(_), .. } => "simulated".to_owned(),
        Side::Agent { simulated: None, .. } | Side::Host => address.short_name(),
    };
    let base = format!("{}-{board}", clock::compact_utc(clock::unix_ns()));
    let taken = |name: &str| Path::new(RUNS).join(name).exists();
    let mut name = base.clone();
    for number in 2..1000 {
        if !taken(&name) {
            break;
        }
        name = format!("{base}-{number}");
    }
    RunId::new(&name).map_err(|error| {
        Failure::of(Exit::Usage, "the board's name makes no run id", &error, "name it otherwise")
    })
}

/// Asks the board and makes the recording, in that order: a refusal leaves
/// nothing behind, and a host without room starts nothing.
async fn begin(
    args: &RunArgs,
    mut client: Client,
    address: &BoardAddress,
    (campaign, settings): (&CampaignSpec, RunSettings),
    id: &RunId,
    folder: &RunFolder,
) -> Result<(Client, Store, bool), Failure> {
    let described = ask(&mut client, address, Command::Describe, id).await?;
    let Reply::Board(about) = described else {
        return Err(refusal::failure(
            &wattline_protocol::command::Refusal::BadCampaign,
            address,
            Some(id),
        ));
    };
    let simulated = about.simulation.is_some();
    let store = folder.begin(id, &address.to_string(), Some(campaign))?;
    let (run, campaign_asked) = (id.clone(), Box::new(campaign.clone()));
    // Agents of before know runs that leave clocks alone.
    let command = if settings == RunSettings::default() {
        Command::Start { run, campaign: campaign_asked }
    } else {
        Command::StartWith { run, campaign: campaign_asked, settings }
    };
    client = start(client, address, command, id).await?;
    if !args.json {
        let word = if simulated { "simulated " } else { "" };
        let rails: Vec<&str> = about.rails.iter().map(|rail| rail.name.as_str()).collect();
        say(&format!(
            "run {id} on {address}: {} ({word}{} rails: {})",
            about.board.model,
            about.rails.len(),
            rails.join(", ")
        ));
        if let Some(notice) = about.gpu.as_ref().and_then(|gpu| cpu_only(gpu, campaign)) {
            say(&notice);
        }
        if simulated {
            say("every power and energy of this run is simulated; times are this machine's own");
        }
    }
    Ok((client, store, simulated))
}

/// Starts the run. A link that is cut before the answer leaves in doubt
/// whether it was: the same run is asked for once more, and a board that has
/// begun it answers as before.
async fn start(
    mut client: Client,
    address: &BoardAddress,
    command: Command,
    id: &RunId,
) -> Result<Client, Failure> {
    match client.ask(command.clone()).await {
        Err(error) if error.may_come_back() => {
            let lost = |error| unreachable(address, &error);
            let again = Client::connect_for(address, Purpose::Run).await;
            let mut client = again.map_err(lost)?;
            ask(&mut client, address, command, id).await?;
            Ok(client)
        }
        Err(error) => Err(unreachable(address, &error)),
        Ok(Reply::Refused(refused)) => Err(refusal::failure(&refused, address, Some(id))),
        Ok(_) => Ok(client),
    }
}

/// Said where a GPU is there and nothing of the campaign runs on it.
fn cpu_only(gpu: &GpuPresence, campaign: &CampaignSpec) -> Option<String> {
    if campaign.device.iter().any(|device| device != "cpu") {
        return None;
    }
    let mend = if gpu.has_runner {
        "add --device cuda to measure it"
    } else {
        "it cannot be measured: wattline-runner-cuda is not installed (docs/gpu.md)"
    };
    Some(format!("NOTICE: ONLY THE CPU IS MEASURED. This board has a GPU ({}); {mend}.", gpu.name))
}

pub(super) async fn ask(
    client: &mut Client,
    address: &BoardAddress,
    command: Command,
    id: &RunId,
) -> Result<Reply, Failure> {
    match client.ask(command).await.map_err(|error| unreachable(address, &error))? {
        Reply::Refused(refused) => Err(refusal::failure(&refused, address, Some(id))),
        reply => Ok(reply),
    }
}
