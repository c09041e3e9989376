//! What an agent's refusal means to a user: exit code, words and mend.

use wattline_protocol::command::Refusal;
use wattline_protocol::presence::Occupant;
use wattline_protocol::record::RunId;

use crate::board::BoardAddress;
use crate::failure::{Exit, Failure};

/// The failure that a refusal becomes.
#[must_use]
pub fn failure(refusal: &Refusal, address: &BoardAddress, run: Option<&RunId>) -> Failure {
    match refusal {
        Refusal::NoRail { .. }
        | Refusal::BoardDiskFull { .. }
        | Refusal::SpoolFull { .. }
        | Refusal::NoTrigger { .. }
        | Refusal::NoPin { .. } => preflight(refusal, address),
        Refusal::NoSuchRun
        | Refusal::Busy { .. }
        | Refusal::RunExists
        | Refusal::SpoolFailed { .. }
        | Refusal::SessionsTaken { .. }
        | Refusal::Controlled { .. }
        | Refusal::TooManySessions => state(refusal, address, run),
        Refusal::BadCampaign
        | Refusal::UnknownNetwork { .. }
        | Refusal::BadSize { .. }
        | Refusal::NoDevice { .. }
        | Refusal::NoPrecision { .. }
        | Refusal::NoCores { .. }
        | Refusal::NoWeights { .. }
        | Refusal::BadGraph { .. }
        | Refusal::BadWeights { .. }
        | Refusal::NoGpu { .. } => campaign(refusal, address),
    }
}

/// A graph file of another machine is that machine's own.
fn graph_mend(address: &BoardAddress) -> String {
    let here = "see to the file; `wattline networks NAME --graph` prints one that loads";
    match address {
        BoardAddress::Simulated(_) | BoardAddress::Local | BoardAddress::Unix(_) => here.into(),
        BoardAddress::Ssh { .. } | BoardAddress::Tls { .. } | BoardAddress::Listen { .. } => {
            format!(
                "the board reads the file on its own disk: copy it there and name its path there \
                 (docs/deploy.md); else {here}"
            )
        }
    }
}

fn preflight(refusal: &Refusal, address: &BoardAddress) -> Failure {
    match refusal {
        Refusal::NoRail { looked_for } => Failure {
            exit: Exit::Refused,
            what: format!("board {address} has no power rail to sample"),
            because: looked_for.iter().map(|place| format!("looked for {place}")).collect(),
            mend: "measure on a board with INA monitors; to see the tool work without one: \
                   --on simulated"
                .into(),
        },
        Refusal::BoardDiskFull { free_bytes, need_bytes } => Failure {
            exit: Exit::Refused,
            what: format!("the disk of board {address} is too full to begin"),
            because: vec![format!(
                "{:.1} MB are free; the run needs {:.1} MB beside a reserve of 64 MiB",
                megabytes(*free_bytes),
                megabytes(*need_bytes)
            )],
            mend: "fetch finished runs so that the board may drop them, make room, or give \
                   the agent another --spool"
                .into(),
        },
        Refusal::SpoolFull { need_bytes, used_bytes, quota_bytes, free_bytes, reserve_bytes } => {
            Failure {
                exit: Exit::Refused,
                what: format!("the spool of board {address} has too little room for the run"),
                because: vec![format!(
                    "the run needs {:.1} MB; runs that are not fetched take {:.1} MB of a quota of \
                     {:.1} MB, and {:.1} MB of the disk are free, of which {:.1} MB stay free",
                    megabytes(*need_bytes),
                    megabytes(*used_bytes),
                    megabytes(*quota_bytes),
                    megabytes(*free_bytes),
                    megabytes(*reserve_bytes)
                )],
                mend: "fetch finished runs so that the board may drop them (wattline status names \
                       them), make room, or start the agent with another --spool, --spool-quota \
                       or --spool-reserve"
                    .into(),
            }
        }
        Refusal::NoTrigger { line, fault } => Failure {
            exit: Exit::Refused,
            what: format!("the trigger line {line} of board {address} cannot be set"),
            because: vec![fault.describe()],
            mend: format!("{}; or start the agent without --trigger", fault.mend()),
        },
        Refusal::NoPin { why } => Failure {
            exit: Exit::Refused,
            what: format!("the clocks of board {address} cannot be set for the run"),
            because: vec![why.describe()],
            mend: why.mend(),
        },
        _ => Failure::new(Exit::Refused, format!("board {address} refuses"), ""),
    }
}

fn state(refusal: &Refusal, address: &BoardAddress, run: Option<&RunId>) -> Failure {
    let run = run.map(RunId::as_str).unwrap_or_default();
    let (what, mend) = match refusal {
        Refusal::NoSuchRun => (
            format!("board {address} holds no run {run}"),
            format!("see which it holds: wattline status --on {address}"),
        ),
        Refusal::Busy { run } => (
            format!("board {address} is busy with run {run}"),
            format!(
                "wait for it (wattline watch {run} --on {address}), or stop it: wattline stop {run} --on {address}"
            ),
        ),
        Refusal::RunExists => (
            format!("board {address} holds a run {run} already"),
            "try again: a new run gets a new id".into(),
        ),
        Refusal::SpoolFailed { errno } => (
            format!("the spool of board {address} cannot be written (errno {errno})"),
            "see to its permissions and its disk".into(),
        ),
        Refusal::SessionsTaken { by } => return taken(by, address),
        Refusal::Controlled { run, by } => (
            format!("run {run} on board {address} is controlled by {}", by.describe()),
            format!(
                "end it there with Ctrl-C, or take over: wattline stop {run} --on {address} \
                 --take-over; control ends by itself 30 s after that host falls silent"
            ),
        ),
        _ => (
            format!("board {address} is asked by too many hosts at once"),
            "ask again in a moment".into(),
        ),
    };
    Failure::new(Exit::Failed, what, mend)
}

fn taken(by: &[Occupant], address: &BoardAddress) -> Failure {
    Failure {
        exit: Exit::Failed,
        what: format!("both sessions of board {address} are taken"),
        because: by.iter().map(Occupant::describe).collect(),
        mend: "end one of them; a session ends by itself 30 s after its host falls silent \
               (status and stop need none, nor does run --detach once it has started)"
            .into(),
    }
}

fn campaign(refusal: &Refusal, address: &BoardAddress) -> Failure {
    let (what, mend) = match refusal {
        Refusal::UnknownNetwork { name, known } => {
            (format!("unknown network `{name}`"), format!("name one of: {}", known.join(", ")))
        }
        Refusal::BadSize { network, size } => (
            format!("network {network} does not work on images of {size} x {size}"),
            "choose a larger --size, or leave it out".into(),
        ),
        Refusal::NoDevice { device } => (
            format!("board {address} cannot run on `{device}`"),
            "install wattline-runner-cuda beside wattline-agent on a board with an NVIDIA GPU, \
             or use --device cpu"
                .into(),
        ),
        Refusal::NoPrecision { precision, device } => (
            format!("`{device}` does not compute in {precision}"),
            "choose another --precision or --device".into(),
        ),
        Refusal::NoCores { cores, online } => (
            format!("cores `{cores}` are not all on board {address}"),
            format!("it has cores 0 to {}", online.saturating_sub(1)),
        ),
        Refusal::NoWeights { path } => (
            format!("weights {path} cannot be read on board {address}"),
            "put the file on the board, or use --weights hashed:1".into(),
        ),
        Refusal::BadGraph { file, reason } => {
            return Failure {
                exit: Exit::Usage,
                what: format!("the network of {file} cannot be run"),
                because: vec![reason.clone()],
                mend: graph_mend(address),
            };
        }
        Refusal::BadWeights { path, reason } => {
            return Failure {
                exit: Exit::Usage,
                what: format!("weights {path} do not fill the network"),
                because: vec![reason.clone()],
                mend: "use a safetensors or zip .pth file with the network's PyTorch names, or \
                       --weights hashed:1"
                    .into(),
            };
        }
        Refusal::NoGpu { device, missing } => {
            let (because, mend) = (missing.describe(), missing.mend());
            return Failure {
                exit: Exit::Usage,
                what: format!("board {address} cannot run on `{device}`"),
                because: vec![because],
                mend: format!("{mend}, or use --device cpu"),
            };
        }
        _ => (
            format!("board {address} does not accept the campaign"),
            "use the same version of wattline on host and board".into(),
        ),
    };
    Failure::new(Exit::Usage, what, mend)
}

#[expect(clippy::cast_precision_loss, reason = "for a text with one decimal")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::TriggerFault;

    use super::*;
    use crate::board::Configuration;

    #[test]
    fn every_refusal_has_the_contracts_exit_code() {
        let code = |refusal: &Refusal| failure(refusal, &BoardAddress::Local, None).exit.code();
        assert_eq!(code(&Refusal::NoRail { looked_for: Vec::new() }), 3);
        assert_eq!(code(&Refusal::BoardDiskFull { free_bytes: 1, need_bytes: 2 }), 3);
        let line = "gpiochip0:17".to_owned();
        assert_eq!(code(&Refusal::NoTrigger { line, fault: TriggerFault::Busy }), 3);
        assert_eq!(code(&Refusal::NoSuchRun), 1);
        assert_eq!(code(&Refusal::BadCampaign), 2);
        let unknown = Refusal::UnknownNetwork { name: "x".into(), known: vec!["enet".into()] };
        assert_eq!(code(&unknown), 2);
        assert!(failure(&unknown, &BoardAddress::Local, None).to_string().contains("enet"));
    }

    #[test]
    fn a_graph_file_that_a_remote_board_lacks_is_to_be_copied_there() {
        let refusal = Refusal::BadGraph { file: "tiny.toml".into(), reason: "absent".into() };
        let remote = BoardAddress::parse("ssh://board@orin", &Configuration::default()).unwrap();
        assert!(failure(&refusal, &remote, None).to_string().contains("copy it there"));
        let here = failure(&refusal, &BoardAddress::Local, None).to_string();
        assert!(here.contains("see to the file") && !here.contains("copy"), "{here}");
    }

    #[test]
    fn no_rail_names_what_was_looked_for_and_the_simulated_board() {
        let refusal = Refusal::NoRail { looked_for: vec!["an INA3221".into()] };
        let text = failure(&refusal, &BoardAddress::Local, None).to_string();
        assert!(text.contains("looked for an INA3221") && text.contains("--on simulated"));
    }
}
