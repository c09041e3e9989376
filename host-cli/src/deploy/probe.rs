//! What a board is, asked before anything is changed.
//!
//! Owns the question (a POSIX shell script that only reads) and the meaning of
//! its answer. Pure: [`crate::deploy::remote`] carries both.

use thiserror::Error;

/// Reads and prints, one `key value` a line; changes nothing. Each line stands
/// alone: what a board lacks is an absent line.
pub const SCRIPT: &str = r#"
echo "wattline-probe 1"
echo "machine $(uname -m)"
echo "kernel $(uname -r)"
[ -r /etc/os-release ] && (. /etc/os-release; echo "system ${PRETTY_NAME:-${ID:-}}")
echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ -r /etc/nv_tegra_release ] && echo "l4t $(head -n 1 /etc/nv_tegra_release)"
[ -r /proc/device-tree/model ] && echo "model $(tr -d '\0' </proc/device-tree/model)"
echo "init $(cat "${WATTLINE_ROOT:-}/proc/1/comm" 2>/dev/null)"
command -v systemctl >/dev/null 2>&1 && echo "systemd $(systemctl --version 2>/dev/null | head -n 1)"
echo "user $(id -un)"
if [ "$(id -u)" -eq 0 ]; then echo "root direct"
elif ! command -v sudo >/dev/null 2>&1; then echo "root none"
elif sudo -n true 2>/dev/null; then echo "root sudo"
else echo "root password"; fi
where=/opt; [ -d "$where" ] || where=/
df -Pk "$where" 2>/dev/null | awk 'NR == 2 { print "free_kib " $4 }'
r=${WATTLINE_ROOT:-}
readlink "$r/opt/wattline/current" 2>/dev/null | sed 's/^/current /'
readlink "$r/opt/wattline/previous" 2>/dev/null | sed 's/^/previous /'
systemctl is-active wattline-agent.service 2>/dev/null | sed 's/^/service /'
dpkg-query -W -f 'package ${Version} ${db:Status-Status}\n' wattline-agent 2>/dev/null
b=$r/usr/local/bin/wattline-agent
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print "listens " $2 }'
if systemctl is-active --quiet wattline-gate.service 2>/dev/null; then
  sed -n 's/^WATTLINE_GATE_LISTEN=.*:/gate /p' "$r/etc/wattline/gate.env" 2>/dev/null
fi
if [ -e "$b" ] || [ -L "$b" ]; then
  case $(readlink "$b" 2>/dev/null) in "$r"/opt/wattline/*) ;; *) echo "foreign $b" ;; esac
fi
exit 0
"#;

/// A processor that Wattline has programs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Machine {
    /// As `uname -m` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// From `uname -m`.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "amd64" => Some(Self::Amd64),
            "aarch64" | "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// The machine of an ELF program, by `e_machine` (ELF-64 Object File
    /// Format, "ELF Header"); `None` for another file or processor.
    #[must_use]
    pub fn of_program(bytes: &[u8]) -> Option<Self> {
        // 64 bit, little-endian.
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        match u16::from_le_bytes([*bytes.get(18)?, *bytes.get(19)?]) {
            0x3e => Some(Self::Amd64),
            0xb7 => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// How root's rights are had on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootBy {
    /// The user is root.
    Direct,
    /// `sudo` without a password.
    Sudo,
    /// `sudo` that asks for a password: a terminal is needed.
    Password,
    /// Not at all.
    None,
}

/// What a board said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardFacts {
    /// `uname -m` as it was, and what it means.
    pub machine: Result<Machine, String>,
    /// Distribution, in its own words.
    pub system: String,
    /// Kernel release.
    pub kernel: String,
    /// C library, such as `glibc 2.31`.
    pub libc: String,
    /// NVIDIA's release line, on a Jetson.
    pub l4t: Option<String>,
    /// The device tree's model.
    pub model: Option<String>,
    /// Version of systemd where it runs the board.
    pub systemd: Option<u32>,
    /// The user that SSH logs in as.
    pub user: String,
    /// How root's rights are had.
    pub root: RootBy,
    /// Space where versions go, in KiB.
    pub free_kib: Option<u64>,
    /// The version that is current.
    pub current: Option<String>,
    /// The version before.
    pub previous: Option<String>,
    /// The service runs.
    pub active: bool,
    /// Version of an installed Debian package.
    pub package: Option<String>,
    /// Something that is not ours lies where our link goes.
    pub foreign: Option<String>,
    /// TCP ports that somebody listens at.
    pub listened: Vec<u16>,
    /// The port of the gate, where it runs and listens.
    pub gate: Option<u16>,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// The answer does not begin as the script's does.
    #[error("the board's shell answered otherwise than asked: `{said}`")]
    NotAnAnswer {
        /// Its first line.
        said: String,
    },
}

impl BoardFacts {
    /// Reads the answer to [`SCRIPT`]. Lines of a login's greeting may stand
    /// before it.
    ///
    /// # Errors
    /// [`ProbeError`] where the answer is not there.
    pub fn parse(text: &str) -> Result<Self, ProbeError> {
        let mut lines = text.lines().map(str::trim);
        if !lines.any(|line| line == "wattline-probe 1") {
            let said = text.lines().next().unwrap_or_default().to_owned();
            return Err(ProbeError::NotAnAnswer { said });
        }
        let mut facts = Self {
            machine: Err(String::new()),
            system: String::new(),
            kernel: String::new(),
            libc: String::new(),
            l4t: None,
            model: None,
            systemd: None,
            user: String::new(),
            root: RootBy::None,
            free_kib: None,
            current: None,
            previous: None,
            active: false,
            package: None,
            foreign: None,
            listened: Vec::new(),
            gate: None,
        };
        let mut is_systemd = false;
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let value = value.trim();
            match key {
                "init" => is_systemd = value == "systemd",
                "systemd" => facts.systemd = systemd_version(value),
                _ => facts.take(key, value),
            }
        }
        if !is_systemd {
            facts.systemd = None;
        }
        Ok(facts)
    }

    fn take(&mut self, key: &str, value: &str) {
        let text = || (!value.is_empty()).then(|| value.to_owned());
        let version = || value.strip_prefix("versions/").map(str::to_owned);
        match key {
            "machine" => self.machine = Machine::of(value).ok_or_else(|| value.to_owned()),
            "system" => value.clone_into(&mut self.system),
            "kernel" => value.clone_into(&mut self.kernel),
            "libc" => value.clone_into(&mut self.libc),
            "l4t" => self.l4t = text().map(|line| l4t_release(&line)),
            "model" => self.model = text(),
            "user" => value.clone_into(&mut self.user),
            "root" => {
                self.root = match value {
                    "direct" => RootBy::Direct,
                    "sudo" => RootBy::Sudo,
                    "password" => RootBy::Password,
                    _ => RootBy::None,
                }
            }
            "free_kib" => self.free_kib = value.parse().ok(),
            "current" => self.current = version(),
            "previous" => self.previous = version(),
            "service" => self.active = value == "active",
            "package" => {
                self.package = value.strip_suffix(" installed").map(str::to_owned);
            }
            "foreign" => self.foreign = text(),
            // ADDRESS:PORT in hexadecimal: proc(5), "/proc/net/tcp".
            "listens" => self.listened.extend(
                value.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok()),
            ),
            "gate" => self.gate = value.parse().ok(),
            // A line of a later script.
            _ => {}
        }
    }

    /// The board in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let machine = match &self.machine {
            Ok(machine) => machine.name(),
            Err(name) => name,
        };
        let parts = [
            Some(machine),
            self.model.as_deref(),
            Some(self.system.as_str()),
            self.l4t.as_deref(),
            Some(self.libc.as_str()),
        ];
        let named: Vec<&str> = parts.into_iter().flatten().filter(|p| !p.is_empty()).collect();
        let kernel = if self.kernel.is_empty() { "unknown" } else { &self.kernel };
        format!("{}, kernel {kernel}", named.join(" · "))
    }
}

/// `systemd 252 (252.38-1~deb12u1)` → 252.
fn systemd_version(text: &str) -> Option<u32> {
    text.split_whitespace().nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `# R36 (release), REVISION: 4.4, …` → `L4T R36.4.4`.
fn l4t_release(line: &str) -> String {
    let major = line.split_whitespace().find(|word| word.starts_with('R'));
    let minor = line.split_once("REVISION:").map(|(_, rest)| {
        rest.trim_start().split(|c: char| c == ',' || c.is_whitespace()).next().unwrap_or_default()
    });
    match (major, minor) {
        (Some(major), Some(minor)) => format!("L4T {major}.{minor}"),
        _ => "L4T of an unknown release".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIN: &str = "Welcome to the lab\nwattline-probe 1\nmachine aarch64\nkernel 5.15.148-tegra\n\
        system Ubuntu 22.04.4 LTS\nlibc glibc 2.35\n\
        l4t # R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n\
        model NVIDIA Jetson Orin Nano Developer Kit\ninit systemd\n\
        systemd systemd 249 (249.11-0ubuntu3.12)\nuser lab\nroot sudo\nfree_kib 8123456\n\
        current versions/0123456789abcdef\nservice active\n\
        listens 00000000:0016\nlistens 00000000000000000000000000000000:1D01\ngate 7425\n";

    #[test]
    fn a_jetson_is_read_from_its_answer_behind_a_greeting() {
        let facts = BoardFacts::parse(ORIN).unwrap();
        assert_eq!(facts.machine, Ok(Machine::Arm64));
        assert_eq!(facts.l4t.as_deref(), Some("L4T R36.4.4"));
        assert_eq!((facts.systemd, facts.root), (Some(249), RootBy::Sudo));
        assert_eq!(facts.current.as_deref(), Some("0123456789abcdef"));
        assert_eq!((facts.previous.as_deref(), facts.active), (None, true));
        assert_eq!((facts.listened, facts.gate), (vec![22, 7425], Some(7425)));
        let facts = BoardFacts::parse(ORIN).unwrap();
        assert_eq!(
            facts.summary(),
            "aarch64 · NVIDIA Jetson Orin Nano Developer Kit · Ubuntu 22.04.4 LTS · L4T R36.4.4 · \
             glibc 2.35, kernel 5.15.148-tegra"
        );
    }

    #[test]
    fn a_board_without_systemd_and_of_another_processor_is_said_to_be_one() {
        let text =
            "wattline-probe 1\nmachine riscv64\ninit runit\nsystemd systemd 252\nroot none\n";
        let facts = BoardFacts::parse(text).unwrap();
        assert_eq!(facts.machine, Err("riscv64".to_owned()));
        assert_eq!((facts.systemd, facts.root), (None, RootBy::None));
    }

    #[test]
    fn a_shell_that_says_something_else_is_no_board() {
        let refused = BoardFacts::parse("This account is not available.\n");
        assert_eq!(
            refused,
            Err(ProbeError::NotAnAnswer { said: "This account is not available.".into() })
        );
    }

    #[test]
    fn programs_are_told_apart_by_their_elf_header() {
        let mut header = [0_u8; 20];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 0xb7;
        assert_eq!(Machine::of_program(&header), Some(Machine::Arm64));
        header[18] = 0x3e;
        assert_eq!(Machine::of_program(&header), Some(Machine::Amd64));
        header[4] = 1;
        assert_eq!(Machine::of_program(&header), None, "32 bit");
        assert_eq!(Machine::of_program(b"#!/bin/sh"), None);
    }

    #[test]
    fn the_script_is_one_that_a_posix_shell_takes() {
        let output = std::process::Command::new("sh").args(["-n", "-c", SCRIPT]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
