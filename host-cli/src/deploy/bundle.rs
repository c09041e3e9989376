//! What is brought to a board: one tar file, named by its contents.
//!
//! Owns the list of files in it and where programs are looked for. The same
//! programs make the same bytes, so that a board that has them is not sent
//! them again. Knows nothing of the board but its processor.

use std::fs;
use std::path::{Path, PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::probe::Machine;
use crate::connect::agent_program;
use crate::store::hex;

/// What runs on the board as root.
pub const BOARD_SCRIPT: &str = include_str!("../../../deploy/board/board.sh");

macro_rules! profile {
    ($name:literal) => {
        (
            concat!("boards/", $name, ".toml"),
            include_str!(concat!("../../../deploy/boards/", $name, ".toml")),
        )
    };
}

/// What a unit needs under systemd before 239.
macro_rules! drop_in {
    ($unit:literal) => {
        (
            concat!("board/237/", $unit, ".conf"),
            include_str!(concat!("../../../systemd/237/", $unit, ".conf")),
        )
    };
}

/// Files beside the programs, by their name in a version's folder.
const FILES: [(&str, &str); 20] = [
    ("board/board.sh", BOARD_SCRIPT),
    ("board/wattline-agent.service", include_str!("../../../systemd/wattline-agent.service")),
    ("board/10-deploy.conf", include_str!("../../../deploy/board/10-deploy.conf")),
    ("board/wattline-runner.socket", include_str!("../../../systemd/wattline-runner.socket")),
    ("board/wattline-runner@.service", include_str!("../../../systemd/wattline-runner@.service")),
    ("board/10-deploy-runner.conf", include_str!("../../../deploy/board/10-deploy-runner.conf")),
    ("board/wattline-board.socket", include_str!("../../../systemd/wattline-board.socket")),
    ("board/wattline-board@.service", include_str!("../../../systemd/wattline-board@.service")),
    ("board/10-deploy-board.conf", include_str!("../../../deploy/board/10-deploy-board.conf")),
    ("board/wattline-gate.service", include_str!("../../../systemd/wattline-gate.service")),
    ("board/10-deploy-gate.conf", include_str!("../../../deploy/board/10-deploy-gate.conf")),
    drop_in!("wattline-agent.service"),
    drop_in!("wattline-runner@.service"),
    drop_in!("wattline-board@.service"),
    drop_in!("wattline-gate.service"),
    ("board/wattline.tmpfiles.conf", include_str!("../../../systemd/wattline.tmpfiles.conf")),
    ("board/wattline.sysusers.conf", include_str!("../../../systemd/wattline.sysusers.conf")),
    ("board/70-wattline.rules", include_str!("../../../deploy/board/70-wattline.rules")),
    ("board/modules-load.conf", include_str!("../../../deploy/board/modules-load.conf")),
    ("board/agent.toml", include_str!("../../../deploy/agent.toml")),
];

/// The board profiles that the agent was compiled with, for people to read.
const PROFILES: [(&str, &str); 17] = [
    profile!("igx-orin"),
    profile!("jetson-agx-orin"),
    profile!("jetson-agx-thor"),
    profile!("jetson-agx-xavier"),
    profile!("jetson-nano"),
    profile!("jetson-nano-2gb"),
    profile!("jetson-orin-nano"),
    profile!("jetson-orin-nx"),
    profile!("jetson-tx1"),
    profile!("jetson-tx2"),
    profile!("jetson-tx2-nx"),
    profile!("jetson-tx2i"),
    profile!("jetson-xavier-nx"),
    profile!("kria-kr260"),
    profile!("kria-kv260"),
    profile!("raspberry-pi-4"),
    profile!("raspberry-pi-5"),
];
/// Hexadecimal digits of the digest that name a version.
const VERSION_DIGITS: usize = 16;

/// Why there is no bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// No agent for the board's processor lies on this machine.
    #[error("no wattline-agent for {} on this machine; looked at {}", machine.name(), listed(places))]
    NoAgent {
        /// The board's processor.
        machine: Machine,
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// A program cannot be read.
    #[error("program {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file is not a program for a board.
    #[error("{} is not a 64-bit Linux program for x86_64 or aarch64", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
    },
    /// The tar file cannot be made.
    #[error("the bundle cannot be packed")]
    Pack(#[source] std::io::Error),
}

fn listed(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A program of the bundle.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in `bin/`.
    pub name: &'static str,
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// What it runs on.
    pub machine: Machine,
    /// Its size.
    pub bytes_len: usize,
    bytes: Vec<u8>,
}

impl Program {
    /// Reads the program at `path`, to be `name` on the board.
    ///
    /// # Errors
    /// [`BundleError::Unreadable`], [`BundleError::NotAProgram`].
    pub fn read(name: &'static str, path: &Path) -> Result<Self, BundleError> {
        let path = path.to_owned();
        let bytes = fs::read(&path)
            .map_err(|source| BundleError::Unreadable { path: path.clone(), source })?;
        match Machine::of_program(&bytes) {
            None => Err(BundleError::NotAProgram { path }),
            Some(machine) => Ok(Self { name, path, machine, bytes_len: bytes.len(), bytes }),
        }
    }

    /// The agent for `machine`: beside this program in `boards/MACHINE/`, where a
    /// package puts it, in the user's or the system's share folder, or this
    /// machine's own agent where the processor is the same.
    ///
    /// # Errors
    /// [`BundleError::NoAgent`] with the places, and those of [`Program::read`].
    pub fn agent_for(machine: Machine) -> Result<Self, BundleError> {
        let below =
            |folder: PathBuf| folder.join("boards").join(machine.name()).join("wattline-agent");
        let mut places = Vec::new();
        if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            places.push(below(folder.to_owned()));
            // As packages lay it out: this program in PREFIX/bin.
            places.push(below(folder.with_file_name("lib").join("wattline")));
        }
        if let Ok(base) = choose_base_strategy() {
            places.push(below(base.data_dir().join("wattline")));
        }
        places.push(below(PathBuf::from("/usr/share/wattline")));
        places.push(below(PathBuf::from("/usr/local/share/wattline")));
        if let Some(place) = places.iter().find(|place| place.is_file()) {
            return Self::read("wattline-agent", place);
        }
        if let Ok(own) = agent_program() {
            let program = Self::read("wattline-agent", &own)?;
            if program.machine == machine {
                return Ok(program);
            }
            places.push(own);
        }
        Err(BundleError::NoAgent { machine, places })
    }
}

/// The tar file.
#[derive(Debug)]
pub struct Bundle {
    programs: Vec<Program>,
    bytes: Vec<u8>,
    sha256: String,
}

impl Bundle {
    /// Packs `programs` and what belongs to them.
    ///
    /// # Errors
    /// [`BundleError::Pack`].
    pub fn of(programs: Vec<Program>) -> Result<Self, BundleError> {
        let mut tar = tar::Builder::new(Vec::new());
        for program in &programs {
            let name = format!("bin/{}", program.name);
            add(&mut tar, &name, 0o755, &program.bytes).map_err(BundleError::Pack)?;
        }
        for (name, text) in FILES.into_iter().chain(PROFILES) {
            add(&mut tar, name, 0o644, text.as_bytes()).map_err(BundleError::Pack)?;
        }
        let bytes = tar.into_inner().map_err(BundleError::Pack)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { programs, bytes, sha256 })
    }

    /// Programs in it.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the file, hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Name of the version on the board.
    #[must_use]
    pub fn version(&self) -> &str {
        self.sha256.get(..VERSION_DIGITS).unwrap_or(&self.sha256)
    }
}

/// Owner, group and time are zero: the bytes depend on the contents alone.
fn add(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// A program that is nothing but an ELF header.
#[cfg(test)]
pub(crate) fn program_for_tests(machine: Machine) -> Program {
    let bytes = b"\x7fELF\x02\x01".to_vec();
    let path = PathBuf::from("/nowhere/wattline-agent");
    Program { name: "wattline-agent", path, machine, bytes_len: bytes.len(), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_programs_make_the_same_version_and_others_another() {
        let packed = |machine| Bundle::of(vec![program_for_tests(machine)]).unwrap();
        let (one, two) = (packed(Machine::Arm64), packed(Machine::Arm64));
        assert_eq!(one.version(), two.version());
        assert_eq!((one.version().len(), one.sha256().len()), (16, 64));
        let mut other = program_for_tests(Machine::Arm64);
        other.bytes.push(0);
        assert_ne!(Bundle::of(vec![other]).unwrap().version(), one.version());
    }

    #[test]
    fn the_bundle_holds_the_programs_and_all_that_the_script_copies() {
        let bundle = Bundle::of(vec![program_for_tests(Machine::Amd64)]).unwrap();
        let mut archive = tar::Archive::new(bundle.bytes());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.contains(&"bin/wattline-agent".to_owned()), "{names:?}");
        for line in BOARD_SCRIPT.lines().filter(|line| line.starts_with("board/")) {
            let from = line.split(' ').next().unwrap();
            assert!(names.iter().any(|name| name == from), "{from} is not in the bundle");
        }
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/boards");
        for profile in fs::read_dir(profiles).unwrap() {
            let name = format!("boards/{}", profile.unwrap().file_name().display());
            assert!(names.contains(&name), "{name} is not in the bundle");
        }
    }

    #[test]
    fn a_script_is_not_a_program() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "#!/bin/sh\n").unwrap();
        let refused = Program::read("wattline-agent", file.path());
        assert!(matches!(refused, Err(BundleError::NotAProgram { .. })), "{refused:?}");
    }
}
