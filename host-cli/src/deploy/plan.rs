//! What a deployment changes on a board, or why it is refused.
//!
//! Owns the rules; pure. The texts here are what `--dry-run` prints: they name
//! each path that the script on the board writes.

use thiserror::Error;

use super::bundle::Bundle;
use super::probe::{BoardFacts, Machine, RootBy};

/// `systemd-run --pipe --wait --collect`, by which the script outlives a cut
/// link, is in systemd from 236 on; JetPack 4 has 237.
const SYSTEMD_MIN: u32 = 236;

/// Why a board is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanRefusal {
    /// No program for this processor exists.
    #[error("the board's processor is {machine}; there are agents for x86_64 and aarch64")]
    Machine {
        /// As `uname -m` said.
        machine: String,
    },
    /// The program is for another processor.
    #[error("{path} is a program for {program}, the board is {board}")]
    WrongMachine {
        /// The file.
        path: String,
        /// What it is for.
        program: &'static str,
        /// What the board is.
        board: &'static str,
    },
    /// The board is not run by systemd.
    #[error("the board is not run by systemd {SYSTEMD_MIN} or later")]
    NoSystemd,
    /// Root's rights cannot be had.
    #[error("{user} has no sudo on the board")]
    NoSudo {
        /// The user.
        user: String,
    },
    /// `sudo` asks for a password and there is no terminal.
    #[error("sudo asks {user} for a password, and this is no terminal")]
    NoTerminal {
        /// The user.
        user: String,
    },
    /// The user's name cannot be given to a shell.
    #[error("the user name `{user}` is not one this program passes on")]
    User {
        /// The user.
        user: String,
    },
    /// Not enough space.
    #[error("the board has {free_kib} KiB free below /opt, {need_kib} KiB are needed")]
    DiskFull {
        /// Free.
        free_kib: u64,
        /// Needed.
        need_kib: u64,
    },
    /// A Debian package of the agent is installed.
    #[error("the package wattline-agent {version} is installed on the board")]
    Package {
        /// Its version.
        version: String,
    },
    /// Something of somebody else lies where a link of ours goes.
    #[error("{path} lies on the board and is not ours")]
    Foreign {
        /// The path.
        path: String,
    },
    /// Another program has the port that the gate is to have.
    #[error("port {port} of the board is in use by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// There is nothing to go back to.
    #[error("there is no version before the current one on the board")]
    NoPrevious,
    /// Nothing is deployed.
    #[error("nothing of Wattline is deployed on the board")]
    NotDeployed,
}

impl PlanRefusal {
    /// What the user can do.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Machine { .. } => "build wattline-agent on the board and start it by hand",
            Self::WrongMachine { .. } => {
                "name the program for the board's processor with --agent or --cuda-runner"
            }
            Self::NoSystemd => "copy wattline-agent onto the board's PATH; ssh:// needs no service",
            Self::NoSudo { .. } => "log in as root, or give the user sudo",
            Self::NoTerminal { .. } => "deploy from a terminal, or allow sudo without a password",
            Self::User { .. } => "log in as another user",
            Self::DiskFull { .. } => "free some space on the board, or fetch and remove old runs",
            Self::Package { .. } => "remove it with apt on the board, or upgrade it there",
            Self::Foreign { .. } => "move it away on the board",
            Self::PortTaken { .. } => {
                "choose another with --tls; `ss -ltnp` on the board says who has it"
            }
            Self::NoPrevious | Self::NotDeployed => "deploy first: wattline deploy BOARD",
        }
    }
}

/// Checks that `bundle` can go to the board.
///
/// # Errors
/// [`PlanRefusal`].
pub fn check(facts: &BoardFacts, bundle: &Bundle, terminal: bool) -> Result<(), PlanRefusal> {
    check_access(facts, terminal)?;
    let board = machine(facts)?;
    for program in bundle.programs() {
        if program.machine != board {
            return Err(PlanRefusal::WrongMachine {
                path: program.path.display().to_string(),
                program: program.machine.name(),
                board: board.name(),
            });
        }
    }
    if let Some(version) = &facts.package {
        return Err(PlanRefusal::Package { version: version.clone() });
    }
    if let Some(path) = &facts.foreign {
        return Err(PlanRefusal::Foreign { path: path.clone() });
    }
    // Uploaded once, unpacked once.
    let need_kib = bundle.bytes().len() as u64 * 2 / 1024 + 1024;
    match facts.free_kib {
        Some(free_kib) if free_kib < need_kib => Err(PlanRefusal::DiskFull { free_kib, need_kib }),
        _ => Ok(()),
    }
}

/// Checks that the script can run as root on the board at all.
///
/// # Errors
/// [`PlanRefusal`].
pub fn check_access(facts: &BoardFacts, terminal: bool) -> Result<(), PlanRefusal> {
    let user = facts.user.clone();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
        return Err(PlanRefusal::User { user });
    }
    if facts.systemd.is_none_or(|version| version < SYSTEMD_MIN) {
        return Err(PlanRefusal::NoSystemd);
    }
    match facts.root {
        RootBy::Direct | RootBy::Sudo => Ok(()),
        RootBy::Password if terminal => Ok(()),
        RootBy::Password => Err(PlanRefusal::NoTerminal { user }),
        RootBy::None => Err(PlanRefusal::NoSudo { user }),
    }
}

/// Checks that the gate can have `port`; its own service may have it already.
///
/// # Errors
/// [`PlanRefusal::PortTaken`].
pub fn check_port(facts: &BoardFacts, port: u16) -> Result<(), PlanRefusal> {
    if facts.listened.contains(&port) && facts.gate != Some(port) {
        return Err(PlanRefusal::PortTaken { port });
    }
    Ok(())
}

/// The board's processor.
///
/// # Errors
/// [`PlanRefusal::Machine`].
pub fn machine(facts: &BoardFacts) -> Result<Machine, PlanRefusal> {
    facts.machine.clone().map_err(|machine| PlanRefusal::Machine { machine })
}

/// What an installation will do, a line each.
#[must_use]
pub fn describe_install(facts: &BoardFacts, bundle: &Bundle) -> Vec<String> {
    let mut lines = Vec::new();
    for program in bundle.programs() {
        let (name, megabytes) = (program.name, program.bytes_len as f64 / 1e6);
        lines.push(format!("upload {name}, {megabytes:.1} MB, from {}", program.path.display()));
    }
    let version = bundle.version();
    lines.push(format!("unpack into /opt/wattline/versions/{version} and run it once"));
    lines.push("make user wattline and groups i2c, gpio where they are absent".into());
    if facts.user != "root" {
        lines.push(format!("add {} to the group wattline", facts.user));
    }
    lines.extend(OUTSIDE.iter().map(|path| format!("write {path}")));
    if facts.systemd.is_some_and(|version| version < SANDBOX_SYSTEMD) {
        lines.extend(
            UNITS_SANDBOXED
                .map(|unit| format!("write /etc/systemd/system/{unit}.d/20-systemd-237.conf")),
        );
    }
    match &facts.current {
        Some(current) if current == version => {
            lines.push(
                "the same version is current: restart it only where it does not answer".into(),
            );
        }
        Some(current) => lines.push(format!(
            "make it the current version, keep {current} as the one before, restart the service"
        )),
        None => lines.push("enable and start wattline-agent.service".into()),
    }
    lines.push("wait for its hello; without one put back what was there".into());
    lines
}

/// What a removal will do.
#[must_use]
pub fn describe_removal() -> Vec<String> {
    let mut lines = vec!["stop and disable wattline-agent.service".to_owned()];
    lines.extend(OUTSIDE.iter().map(|path| format!("remove {path}")));
    lines.push("remove /opt/wattline, and the gate's keys in /var/lib/wattline-gate".into());
    lines.push("keep /var/lib/wattline, the board's records".into());
    lines
}

/// The systemd that knows the calls which the units allow; one before it gets
/// drop-ins of its own.
const SANDBOX_SYSTEMD: u32 = 239;
const UNITS_SANDBOXED: [&str; 4] = [
    "wattline-agent.service",
    "wattline-runner@.service",
    "wattline-board@.service",
    "wattline-gate.service",
];

/// What the script writes outside /opt/wattline; a test holds it against the
/// script's own list.
const OUTSIDE: [&str; 15] = [
    "/etc/systemd/system/wattline-agent.service",
    "/etc/systemd/system/wattline-agent.service.d/10-deploy.conf",
    "/etc/systemd/system/wattline-runner.socket",
    "/etc/systemd/system/wattline-runner@.service",
    "/etc/systemd/system/wattline-runner@.service.d/10-deploy.conf",
    "/etc/systemd/system/wattline-board.socket",
    "/etc/systemd/system/wattline-board@.service",
    "/etc/systemd/system/wattline-board@.service.d/10-deploy.conf",
    "/etc/systemd/system/wattline-gate.service",
    "/etc/systemd/system/wattline-gate.service.d/10-deploy.conf",
    "/etc/sysusers.d/wattline.conf",
    "/etc/udev/rules.d/70-wattline.rules",
    "/etc/modules-load.d/wattline.conf",
    "/etc/tmpfiles.d/wattline.conf",
    "/usr/local/bin/wattline-agent",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::bundle::{BOARD_SCRIPT, program_for_tests};

    fn facts() -> BoardFacts {
        let text = "wattline-probe 1\nmachine aarch64\ninit systemd\nsystemd systemd 249\n\
                    user lab\nroot sudo\nfree_kib 8123456\n";
        BoardFacts::parse(text).unwrap()
    }

    fn bundle() -> Bundle {
        Bundle::of(vec![program_for_tests(Machine::Arm64)]).unwrap()
    }

    #[test]
    fn a_usual_board_is_taken() {
        assert_eq!(check(&facts(), &bundle(), false), Ok(()));
    }

    #[test]
    fn each_obstacle_is_named_and_has_a_mend() {
        let with = |change: fn(&mut BoardFacts)| {
            let mut facts = facts();
            change(&mut facts);
            let refused = check(&facts, &bundle(), false).unwrap_err();
            assert!(!refused.mend().is_empty());
            refused
        };
        assert!(matches!(with(|f| f.root = RootBy::None), PlanRefusal::NoSudo { .. }));
        assert!(matches!(with(|f| f.root = RootBy::Password), PlanRefusal::NoTerminal { .. }));
        assert!(matches!(with(|f| f.systemd = None), PlanRefusal::NoSystemd));
        assert!(matches!(with(|f| f.systemd = Some(229)), PlanRefusal::NoSystemd));
        assert!(matches!(with(|f| f.free_kib = Some(1)), PlanRefusal::DiskFull { .. }));
        assert!(matches!(with(|f| f.user = "a;b".into()), PlanRefusal::User { .. }));
        assert!(matches!(with(|f| f.package = Some("1".into())), PlanRefusal::Package { .. }));
        assert!(matches!(with(|f| f.foreign = Some("/x".into())), PlanRefusal::Foreign { .. }));
        assert!(matches!(with(|f| f.machine = Err("riscv64".into())), PlanRefusal::Machine { .. }));
        let mut taken = facts();
        taken.listened = vec![22, 7425];
        assert_eq!(check_port(&taken, 7425), Err(PlanRefusal::PortTaken { port: 7425 }));
        assert_eq!(check_port(&taken, 7426), Ok(()));
        taken.gate = Some(7425);
        assert_eq!(check_port(&taken, 7425), Ok(()));
        assert!(matches!(
            with(|f| f.machine = Ok(Machine::Amd64)),
            PlanRefusal::WrongMachine { program: "aarch64", board: "x86_64", .. }
        ));
    }

    #[test]
    fn a_terminal_may_be_asked_for_a_password() {
        let mut facts = facts();
        facts.root = RootBy::Password;
        assert_eq!(check(&facts, &bundle(), true), Ok(()));
    }

    #[test]
    fn jetpack_4_is_told_of_its_drop_ins() {
        let mut facts = facts();
        let lines = |facts: &BoardFacts| describe_install(facts, &bundle()).join("\n");
        assert!(!lines(&facts).contains("20-systemd-237.conf"));
        facts.systemd = Some(237);
        assert_eq!(lines(&facts).matches("20-systemd-237.conf").count(), 4);
        assert!(BOARD_SCRIPT.contains(&format!("-lt {SANDBOX_SYSTEMD}")));
    }

    #[test]
    fn what_is_announced_is_what_the_script_writes() {
        for path in OUTSIDE {
            let (_, name) = path.rsplit_once('/').unwrap();
            let written = path.replace("wattline-agent.service", "$unit");
            let found = BOARD_SCRIPT.contains(&format!("$root{written}"));
            assert!(found, "{path} ({name}) is not in board.sh");
        }
    }
}
