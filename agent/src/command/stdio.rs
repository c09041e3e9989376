//! `stdio`: the other end of an SSH link.
//!
//! Bridges standard input and output to a serving agent. Where none serves it
//! starts one, detached, with the same flags: so the link may be cut, and the
//! night goes on.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::{AsyncWriteExt, copy, stdin, stdout};
use tokio::net::UnixStream;

use super::serve::{make_folder, socket, state_folder};
use super::{EX_SOFTWARE, Failure};
use crate::args::{ServeArgs, SimulatedChip};
use crate::byte_count::ByteCount;
use crate::clock::{Clock, SystemClock};
use wattline_protocol::units::Nanos;

/// A starting agent is waited for this long.
const READY_WITHIN: Nanos = Nanos::from_secs(30);
/// An agent that nobody installed as a service ends this long after all was
/// acknowledged.
const IDLE_EXIT_S: u32 = 600;

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let path = socket(args.socket.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(EX_SOFTWARE, "the bridge cannot start", &error, ""))?;
    let bridged = runtime.block_on(async {
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(_) => start(args, &path).await?,
        };
        bridge(stream).await;
        Ok(())
    });
    // Standard input is read on a thread that cannot be woken.
    runtime.shutdown_background();
    bridged
}

async fn bridge(stream: UnixStream) {
    let (mut incoming, mut outgoing) = stream.into_split();
    let (mut input, mut output) = (stdin(), stdout());
    let from_host = async {
        let _ = copy(&mut input, &mut outgoing).await;
        let _ = outgoing.shutdown().await;
    };
    let to_host = async {
        let _ = copy(&mut incoming, &mut output).await;
        let _ = output.flush().await;
    };
    // Whichever side ends, the bridge has nothing left to carry.
    tokio::select! {
        () = from_host => {}
        () = to_host => {}
    }
}

/// A value as it is typed.
fn value_name(value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The flags of this command are those of the agent that it starts.
fn same_flags(command: &mut Command, args: &ServeArgs) {
    if let Some(chip) = args.simulated {
        command.arg(match chip {
            SimulatedChip::Ina3221 => "--simulated=ina3221",
            SimulatedChip::Ina226 => "--simulated=ina226",
        });
    }
    if let Some(seed) = args.simulated_seed {
        command.args(["--simulated-seed", &seed.to_string()]);
    }
    if args.sampling.exclusive {
        command.arg("--exclusive");
    }
    command.arg("--profile").arg(value_name(&args.sampling.profile));
    if let Some(part) = args.sampling.bus_share {
        command.arg("--bus-share").arg(value_name(&part));
    }
    command.arg("--driver-settings").arg(value_name(&args.sampling.driver_settings));
    if let Some(trigger) = &args.trigger {
        command.arg("--trigger").arg(trigger.to_string());
    }
    let room = args.room;
    let bytes = [("--spool-quota", room.spool_quota), ("--spool-reserve", room.spool_reserve)];
    for (flag, value) in bytes {
        if let Some(ByteCount(bytes)) = value {
            command.arg(flag).arg(bytes.to_string());
        }
    }
    if let Some(policy) = room.when_full {
        command.arg("--when-full").arg(value_name(&policy));
    }
    let files = [
        ("--spool", &args.spool),
        ("--tee", &args.tee),
        ("--sysfs-root", &args.sysfs_root),
        ("--config", &args.config.config),
        ("--runner-socket", &args.runner_socket),
    ];
    for (flag, value) in files {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
}

async fn start(args: &ServeArgs, path: &Path) -> Result<UnixStream, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::of(EX_SOFTWARE, "an agent cannot be started", error, "start it by hand: serve")
    };
    let state = state_folder()?;
    make_folder(&state)?;
    let log_path = state.join("agent.log");
    let log = File::create(&log_path).map_err(|error| failed(&error))?;
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--socket").arg(path);
    same_flags(&mut command, args);
    let idle_exit_s = args.idle_exit_s.unwrap_or(IDLE_EXIT_S);
    let mut child = command
        .args(["--idle-exit-s", &idle_exit_s.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // A group of its own: the link's end is not the agent's.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&error))?;
    let deadline = SystemClock.now() + READY_WITHIN;
    while SystemClock.now() < deadline {
        if let Ok(stream) = UnixStream::connect(path).await {
            return Ok(stream);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            let because = std::iter::once(format!("it ended with {status}"))
                .chain(said.lines().map(str::to_owned))
                .take(8)
                .collect();
            let what = "the agent did not come up".to_owned();
            return Err(Failure { status: EX_SOFTWARE, what, because, mend: "" });
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Err(Failure {
        status: EX_SOFTWARE,
        what: "the agent did not come up in time".into(),
        because: vec![format!("its log is {}", log_path.display())],
        mend: "",
    })
}
