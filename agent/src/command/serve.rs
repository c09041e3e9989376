//! `serve`: the sampler process.
//!
//! Owns the folders it lives in and the order in which it comes up: spool,
//! power, socket, and only then `ready`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wattline_protocol::presence::WhenFull;
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::Nanos;

use super::configured::{Configured, configured_to_serve, found};
use super::sampled::{self, Statuses};
use super::{EX_CONFIG, EX_NOPERM, EX_SOFTWARE, Failure, line};
use crate::args::{DriverSettings, FullPolicy, RoomArgs, ServeArgs, SimulatedChip};
use crate::board::keeper::Keeper;
use crate::config::{Configuration, RoomKeys};
use crate::power::discover::{Found, SYSTEM_ROOT};
use crate::power::settings::Desk;
use crate::runner::process::RunnerPrograms;
use crate::sampling::{PowerSource, SIMULATED_SEED};
use crate::server::examine::Examiner;
use crate::server::hub::{Hub, HubStart};
use crate::server::{self, ServeError};
use crate::spool::{DiskStorage, Limits, RoomRules, RootError, Spool, Storage, random_id};
use crate::trigger::{LineSpec, TriggerSpec};

const STATUSES: Statuses = Statuses { wrong: EX_CONFIG, not_permitted: EX_NOPERM };

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let configuration = match configured_to_serve(&args.config, args.sysfs_root.as_deref())? {
        Configured::Read(configuration) => configuration,
        Configured::Printed => return Ok(()),
    };
    let trigger = trigger(args)?;
    let socket = socket(args.socket.as_deref())?;
    let (spool, desk) = spool(args, &configuration)?;
    let tee = args.tee.as_deref().map(open_tee).transpose()?;
    // Before the search: rates are those of drivers as they were found.
    restore_left(&desk);
    let keeper = keeper(args, &desk)?;
    keeper.restore();
    let root = args.sysfs_root.as_deref().unwrap_or_else(|| Path::new(SYSTEM_ROOT));
    let source = source(args, &configuration)?;
    let desk = match sampled::exclusive(&source, args.sampling, root, STATUSES)? {
        Some(profile) => desk.in_exclusive_mode(profile),
        None => desk,
    };
    let source = match (source, &args.sysfs_root) {
        // Bus numbers of another tree are not this machine's.
        (PowerSource::Real(found), Some(_)) => {
            PowerSource::Real(Found { chips: Vec::new(), ..found })
        }
        (source, _) => source.with_profile(sampled::profile(args.sampling)),
    };
    let mut programs = RunnerPrograms::beside_this()
        .map_err(|error| Failure::of(EX_SOFTWARE, "this executable is not found", &error, ""))?;
    programs.socket.clone_from(&args.runner_socket);
    let folder = spool_folder(args.spool.as_deref())?;
    let examiner = examiner(args, &programs, &folder);
    let hub = HubStart { spool, source, desk, keeper, programs, trigger, tee, folder };
    let hub = Hub::new(hub).map_err(|error| {
        Failure::of(EX_CONFIG, "the spool cannot be used", &error, "choose another with --spool")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(EX_SOFTWARE, "the server cannot start", &error, ""))?;
    let idle_exit = args.idle_exit_s.map(|seconds| Nanos::from_secs(i64::from(seconds)));
    let served = runtime.block_on(async {
        let bound = server::bind(&socket).await?;
        if line(&format!("ready {}", socket.display())).is_err() {
            tracing::warn!("Nobody reads standard output; serving all the same.");
        }
        // A no-op where no systemd started this program.
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "systemd could not be told that the agent is ready.");
        }
        server::serve(bound, hub, examiner, idle_exit).await
    });
    served.map_err(|error| socket_failure(&error))
}

/// Who sets clocks for a run: root's service where one is named, else this process.
/// An agent beside the board's own must not put back what that one holds, so that
/// no socket is looked for.
fn keeper(args: &ServeArgs, desk: &Desk) -> Result<Keeper, Failure> {
    let socket = args.board_socket.clone();
    // Beside the spool, whose folders are runs.
    let mut folder = spool_folder(args.spool.as_deref())?.into_os_string();
    folder.push("-clocks");
    Ok(Keeper::new(socket, desk.sysfs_root(), Path::new(&folder)))
}

/// This executable's `doctor`, with what it has to know of how this agent serves.
fn examiner(args: &ServeArgs, programs: &RunnerPrograms, spool: &Path) -> Examiner {
    if args.simulated.is_some() {
        return Examiner::new(None);
    }
    let mut words: Vec<OsString> = vec!["doctor".into(), "--json".into()];
    words.extend(["--spool".into(), spool.into()]);
    for (flag, path) in [("--config", &args.config.config), ("--sysfs-root", &args.sysfs_root)] {
        words.extend(path.iter().flat_map(|path| [flag.into(), path.into()]));
    }
    let room = args.room;
    let bytes = [("--spool-quota", room.spool_quota), ("--spool-reserve", room.spool_reserve)];
    for (flag, value) in bytes {
        words.extend(value.iter().flat_map(|bytes| [flag.into(), bytes.0.to_string().into()]));
    }
    Examiner::new(Some((programs.cpu.clone(), words)))
}

/// A simulated line beside real rails would record edges that nothing made.
fn trigger(args: &ServeArgs) -> Result<Option<TriggerSpec>, Failure> {
    let simulated = args.trigger.as_ref().is_some_and(|spec| spec.line == LineSpec::Simulated);
    if simulated && args.simulated.is_none() {
        return Err(Failure {
            status: EX_CONFIG,
            what: "--trigger simulated is for the simulated board".into(),
            because: vec!["this board's rails are real, and so must its trigger's line be".into()],
            mend: "name a line, such as --trigger gpiochip0:17, or add --simulated",
        });
    }
    Ok(args.trigger.clone())
}

fn socket_failure(error: &ServeError) -> Failure {
    let (status, mend) = match error {
        ServeError::AlreadyServed { .. } => {
            (EX_CONFIG, "use the agent that serves there, or another --socket")
        }
        ServeError::NotASocket { .. } => (EX_CONFIG, "choose another with --socket"),
        ServeError::Bind { source, .. } => {
            (folder_status(source), "choose one in a folder of your own with --socket")
        }
        ServeError::Signals(_) => (EX_SOFTWARE, ""),
    };
    Failure::of(status, "the agent cannot serve", error, mend)
}

/// The socket's path: as asked, else in the runtime folder.
pub(super) fn socket(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(socket) = asked {
        return Ok(socket.to_owned());
    }
    let system = Path::new("/run/wattline/agent.sock");
    if system.exists() {
        return Ok(system.to_owned());
    }
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("wattline"),
        None => state_folder()?,
    };
    make_folder(&folder)?;
    Ok(folder.join("agent.sock"))
}

/// `wattline` in the user's state folder.
pub(super) fn state_folder() -> Result<PathBuf, Failure> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("wattline")).ok_or_else(|| Failure {
        status: EX_CONFIG,
        what: "there is no home folder".into(),
        because: vec!["neither XDG_STATE_HOME nor HOME is set".into()],
        mend: "name the folders with --socket and --spool",
    })
}

pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        let what = format!("folder {} cannot be made", path.display());
        Failure::of(folder_status(&error), what, &error, "choose another with --spool or --socket")
    })
}

/// The spool's folder: as asked, else in the state folder.
pub(super) fn spool_folder(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    asked.map_or_else(|| Ok(state_folder()?.join("spool")), |path| Ok(path.to_owned()))
}

/// What a run that was cut left changed; where it cannot be restored, serving
/// goes on, and the log says what to do.
fn restore_left(desk: &Desk) {
    for left in desk.work_off() {
        if let Err(error) = left.ended {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "A driver's settings are left changed; restore them: sudo wattline-agent restore."
            );
        }
    }
}

/// What the spool may take: by flags, then by the configuration.
pub(super) fn room(args: &RoomArgs, configuration: &Configuration) -> RoomRules {
    let when_full = args.when_full.map(|policy| match policy {
        FullPolicy::Drop => WhenFull::Drop,
        FullPolicy::Stop => WhenFull::Stop,
    });
    let RoomArgs { spool_quota: quota, spool_reserve: reserve, .. } = *args;
    RoomKeys { quota, reserve, when_full }.over(configuration.room).rules()
}

fn spool(args: &ServeArgs, configuration: &Configuration) -> Result<(Spool, Desk), Failure> {
    let path = spool_folder(args.spool.as_deref())?;
    make_folder(&path)?;
    let storage = DiskStorage::open(&path).map_err(|error| root_failure(&path, &error))?;
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let root = args.sysfs_root.as_deref().unwrap_or_else(|| Path::new(SYSTEM_ROOT));
    // The journal is read by programs that stand elsewhere.
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let desk = Desk::new(Arc::clone(&storage), &root);
    let desk = match args.sampling.driver_settings {
        DriverSettings::Fast => desk,
        DriverSettings::Keep => desk.keeping_settings(),
    };
    let fresh = random_id().map_err(|error| {
        Failure::of(EX_SOFTWARE, "the kernel gives no random id", &error, "mount /proc")
    })?;
    let rules = room(&args.room, configuration);
    let opened = Spool::open_with(storage, &fresh, Limits::default(), rules);
    let spool = opened.map_err(|error| {
        let what = format!("spool {} cannot be opened", path.display());
        Failure::of(EX_CONFIG, what, &error, "choose another with --spool")
    })?;
    Ok((spool, desk))
}

pub(super) fn root_failure(path: &Path, error: &RootError) -> Failure {
    let (status, mend) = match error {
        RootError::InUse { .. } => {
            (EX_CONFIG, "end the agent that uses it, or choose another with --spool")
        }
        RootError::Unusable { source, .. } => {
            (folder_status(source), "see to its permissions, or choose another with --spool")
        }
    };
    Failure::of(status, format!("spool {} cannot be used", path.display()), error, mend)
}

/// What is not permitted is told from what is wrong.
fn folder_status(error: &std::io::Error) -> u8 {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => EX_NOPERM,
        _ => EX_CONFIG,
    }
}

fn open_tee(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        let what = format!("tee {} cannot be opened", path.display());
        Failure::of(folder_status(&error), what, &error, "choose another file with --tee")
    })
}

fn source(args: &ServeArgs, configuration: &Configuration) -> Result<PowerSource, Failure> {
    let Some(chip) = args.simulated else {
        let found = found(args.sysfs_root.as_deref(), configuration);
        for mismatch in &found.expectation.mismatches {
            tracing::warn!(%mismatch, "The board is not as expected.");
        }
        return Ok(PowerSource::Real(sampled::shared(found, args.sampling)));
    };
    let kind = match chip {
        SimulatedChip::Ina3221 => ChipKind::Ina3221,
        SimulatedChip::Ina226 => ChipKind::Ina226,
    };
    let seed = args.simulated_seed.unwrap_or(SIMULATED_SEED);
    PowerSource::simulated(kind, seed)
        .map_err(|error| Failure::of(EX_SOFTWARE, "the simulated board cannot start", &error, ""))
}
