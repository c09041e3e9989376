//! The agent's configuration: rails that the running system does not tell, and
//! what the spool may take.
//!
//! Owns the keys of the TOML file, their defaults and checks, and the files
//! that are read: `/etc/wattline/agent.toml`, then
//! `$XDG_CONFIG_HOME/wattline/agent.toml`, whose keys replace those before it;
//! with `--config FILE` that file alone. Opens no bus.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use wattline_protocol::presence::WhenFull;
use wattline_protocol::record::{ChipKind, RailRole};

use crate::byte_count::ByteCount;
use crate::keyed::{KeyError, Keyed};
use crate::power::bus::Address7;
use crate::power::discover::{GivenRail, SHUNT_TOLERANCE_ASSUMED, inner_shunt_ohm};
use crate::spool::RoomRules;

/// The commented sample, whose every line can be used: `deploy/agent.toml`.
pub const SAMPLE: &str = include_str!("../../deploy/agent.toml");
/// The system's file.
const SYSTEM_FILE: &str = "/etc/wattline/agent.toml";
/// The user's, in the configuration folder.
const USER_FILE: &str = "wattline/agent.toml";
/// Longest file that is read: 64 rails with a comment each fit many times.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Largest shunt, in ohms: beyond it no monitor's range is a current of use.
const SHUNT_OHM_MAX: f64 = 1_000.0;
/// Channel of a chip that has only one.
const CHANNEL_DEFAULT: u8 = 1;
/// A rail is a part unless it is said to be the board's whole input.
const ROLE_DEFAULT: RailRole = RailRole::Part;

const KEYS: [&str; 4] = ["rail", "spool_quota", "spool_reserve", "when_full"];
const RAIL_KEYS: [&str; 8] =
    ["label", "chip", "bus", "address", "channel", "shunt_ohm", "tolerance", "role"];

/// What was configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configuration {
    /// Rails of the user's own.
    pub rails: Vec<GivenRail>,
    /// What the spool may take.
    pub room: RoomKeys,
    /// Files that were read, in their order.
    pub files: Vec<PathBuf>,
}

/// What the spool may take of its disk, as far as it is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomKeys {
    /// Bytes that all runs may take.
    pub quota: Option<ByteCount>,
    /// Bytes that stay free.
    pub reserve: Option<ByteCount>,
    /// What happens when there is no room left.
    pub when_full: Option<WhenFull>,
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that is named or there cannot be read.
    #[error("{}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file holds what is no configuration.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Reads the configuration: `named` alone, or the files there are.
///
/// # Errors
/// [`ConfigError`] naming file, rail and key.
pub fn read(named: Option<&Path>) -> Result<Configuration, ConfigError> {
    if let Some(path) = named {
        return read_files(&[path.to_owned()], Absent::Refused);
    }
    let mut paths = vec![PathBuf::from(SYSTEM_FILE)];
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let folder =
        absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    paths.extend(folder.map(|folder| folder.join(USER_FILE)));
    read_files(&paths, Absent::Skipped)
}

/// What becomes of a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Skipped,
    Refused,
}

fn read_files(paths: &[PathBuf], absent: Absent) -> Result<Configuration, ConfigError> {
    let mut configuration = Configuration::default();
    for path in paths {
        let text = match text(path) {
            Ok(text) => text,
            // A folder in the way of the user's file is no file either.
            Err(error) if absent == Absent::Skipped && is_absent(&error) => continue,
            Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
        };
        if let Some(rails) = rails(&path.display().to_string(), &text)? {
            configuration.rails = rails;
        }
        let room = room(&path.display().to_string(), &text)?;
        configuration.room = room.over(configuration.room);
        configuration.files.push(path.clone());
    }
    Ok(configuration)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The rails of a file; `None` where it names none.
fn rails(file: &str, text: &str) -> Result<Option<Vec<GivenRail>>, KeyError> {
    let top = Keyed::parse(file, text)?;
    top.only(&KEYS)?;
    let tables = top.tables("rail", "label")?;
    let mut rails: Vec<(String, GivenRail)> = Vec::new();
    for table in &tables {
        let rail = rail(table)?;
        for (other, before) in &rails {
            let same_chip = (before.bus, before.address) == (rail.bus, rail.address);
            if before.name == rail.name {
                return Err(table.twice("label", &rail.name, other));
            }
            if same_chip && before.kind != rail.kind {
                let allowed = format!("{}, the chip of{other} at that address", before.kind.name());
                return Err(table.refused("chip", &allowed));
            }
            if same_chip && before.channel == rail.channel {
                return Err(table.twice("channel", &rail.channel.to_string(), other));
            }
            if (before.role, rail.role) == (RailRole::Total, RailRole::Total) {
                return Err(table.twice("role", "total", other));
            }
        }
        rails.push((table.place().to_owned(), rail));
    }
    let rails: Vec<GivenRail> = rails.into_iter().map(|(_, rail)| rail).collect();
    Ok((!rails.is_empty()).then_some(rails))
}

/// The keys of a file that say what the spool may take.
fn room(file: &str, text: &str) -> Result<RoomKeys, KeyError> {
    let top = Keyed::parse(file, text)?;
    let quota = |text: &str| ByteCount::quota(text).ok();
    let bytes = |text: &str| ByteCount::parse(text).ok();
    let policy =
        |text: &str| [WhenFull::Drop, WhenFull::Stop].into_iter().find(|p| p.name() == text);
    Ok(RoomKeys {
        quota: top.parsed("spool_quota", "a text such as \"2GiB\", of 18MB at least", quota)?,
        reserve: top.parsed("spool_reserve", "a text such as \"64MiB\"", bytes)?,
        when_full: top.parsed("when_full", "drop or stop", policy)?,
    })
}

impl RoomKeys {
    /// These keys, and where one is absent, that of `other`.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            quota: self.quota.or(other.quota),
            reserve: self.reserve.or(other.reserve),
            when_full: self.when_full.or(other.when_full),
        }
    }

    /// The rules that follow; what is said nowhere is as [`RoomRules::default`] has it.
    #[must_use]
    pub fn rules(self) -> RoomRules {
        let unsaid = RoomRules::default();
        RoomRules {
            quota_bytes: self.quota.map(|ByteCount(bytes)| bytes).or(unsaid.quota_bytes),
            reserve_bytes: self.reserve.map_or(unsaid.reserve_bytes, |ByteCount(bytes)| bytes),
            when_full: self.when_full.unwrap_or(unsaid.when_full),
        }
    }
}

fn rail(table: &Keyed<'_>) -> Result<GivenRail, KeyError> {
    table.only(&RAIL_KEYS)?;
    let name = table.there("label", table.text("label")?)?;
    let chips = "ina3221, ina226, ina219, ina220, ina230, ina231, ina260, ina228, ina237, ina238";
    let kind = table.there("chip", table.parsed("chip", chips, ChipKind::chip_named)?)?;
    let bus = table.there("bus", table.whole("bus", 0..=u8::MAX, "0 to 255")?)?;
    let allowed = "0x08 to 0x77, a 7-bit address";
    let address = table.there("address", table.whole("address", 0..=0x7f, allowed)?)?;
    let address = Address7::new(address).map_err(|_| table.refused("address", allowed))?;
    let (last, allowed) = match kind {
        ChipKind::Ina3221 => (3, "1 to 3"),
        _ => (1, "1, the chip's only one"),
    };
    let channel = table.whole("channel", 1..=last, allowed)?.unwrap_or(CHANNEL_DEFAULT);
    let ohms = table.number("shunt_ohm", (0.0, SHUNT_OHM_MAX), "above 0 and up to 1000")?;
    let shunt_ohm = match (inner_shunt_ohm(kind), ohms) {
        (Some(inner), None) => inner,
        (Some(inner), Some(given)) if (given - inner).abs() < f64::EPSILON => inner,
        (Some(inner), Some(_)) => {
            let allowed = format!("{inner} or nothing: the shunt is inside the {}", kind.name());
            return Err(table.refused("shunt_ohm", &allowed));
        }
        (None, ohms) => table.there("shunt_ohm", ohms)?,
    };
    let tolerance = table.number("tolerance", (-f64::MIN_POSITIVE, 0.5), "0 to 0.5, a fraction")?;
    let role =
        |text: &str| [RailRole::Total, RailRole::Part].into_iter().find(|r| r.name() == text);
    Ok(GivenRail {
        kind,
        bus,
        address,
        channel,
        name,
        role: table.parsed("role", "total or part", role)?.unwrap_or(ROLE_DEFAULT),
        shunt_ohm,
        shunt_tolerance: tolerance.unwrap_or(SHUNT_TOLERANCE_ASSUMED),
    })
}

impl Configuration {
    /// The configuration as a file that says the same: the sample with every
    /// default, and the rails that were read.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# read: {}", file.display());
        }
        let RoomKeys { quota, reserve, when_full } = self.room;
        for (key, bytes) in [("spool_quota", quota), ("spool_reserve", reserve)] {
            let _ = bytes.map(|ByteCount(bytes)| writeln!(text, "{key} = \"{bytes}\""));
        }
        let _ = when_full.map(|policy| writeln!(text, "when_full = \"{}\"", policy.name()));
        if self.rails.is_empty() {
            text.push_str(SAMPLE);
        }
        for rail in &self.rails {
            let quoted = toml::Value::String(rail.name.clone());
            let _ = write!(
                text,
                "\n[[rail]]\nlabel = {quoted}\nchip = \"{}\"\nbus = {}\naddress = {:#04x}\n\
                 channel = {}\nshunt_ohm = {}\ntolerance = {}\nrole = \"{}\"\n",
                rail.kind.name(),
                rail.bus,
                rail.address.get(),
                rail.channel,
                rail.shunt_ohm,
                rail.shunt_tolerance,
                rail.role.name(),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[rail]]\nlabel = \"VIN\"\nchip = \"ina226\"\nbus = 1\naddress = 0x44\n\
                       shunt_ohm = 0.01\n";

    fn error(text: &str) -> String {
        rails("agent.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_rail_has_a_channel_a_tolerance_and_a_role_unless_told_otherwise() {
        let rail = rails("agent.toml", ONE).unwrap().unwrap().remove(0);
        assert_eq!((rail.kind, rail.bus, rail.address.get()), (ChipKind::Ina226, 1, 0x44));
        assert_eq!((rail.channel, rail.role), (1, RailRole::Part));
        assert_eq!((rail.shunt_ohm.to_bits(), rail.shunt_tolerance.to_bits()), {
            (0.01_f64.to_bits(), 0.01_f64.to_bits())
        });
    }

    #[test]
    fn a_bad_key_is_named_with_file_rail_and_what_is_allowed() {
        for (text, said) in [
            (
                ONE.replace("shunt_ohm", "shunt"),
                "agent.toml rail 1 (VIN): unknown key `shunt`, did you mean `shunt_ohm`?",
            ),
            ("[[rails]]\n".into(), "agent.toml: unknown key `rails`, did you mean `rail`?"),
            (
                ONE.replace("0x44", "0x80"),
                "agent.toml rail 1 (VIN): `address` is 128, allowed is 0x08 to 0x77, a 7-bit address",
            ),
            (
                ONE.replace("0x44", "0x03"),
                "agent.toml rail 1 (VIN): `address` is 3, allowed is 0x08 to 0x77, a 7-bit address",
            ),
            (
                ONE.replace("ina226", "ina999"),
                "agent.toml rail 1 (VIN): `chip` is \"ina999\", allowed is ina3221, ina226, ina219, ina220, ina230, ina231, ina260, ina228, ina237, ina238",
            ),
            (
                ONE.replace("0.01", "-0.01"),
                "agent.toml rail 1 (VIN): `shunt_ohm` is -0.01, allowed is above 0 and up to 1000",
            ),
            (
                ONE.replace("0.01", "nan"),
                "agent.toml rail 1 (VIN): `shunt_ohm` is nan, allowed is above 0 and up to 1000",
            ),
            (
                ONE.replace("shunt_ohm = 0.01\n", ""),
                "agent.toml rail 1 (VIN): `shunt_ohm` is missing",
            ),
            (
                ONE.to_owned() + "channel = 2\n",
                "agent.toml rail 1 (VIN): `channel` is 2, allowed is 1, the chip's only one",
            ),
            (
                ONE.replace("ina226", "ina260"),
                "agent.toml rail 1 (VIN): `shunt_ohm` is 0.01, allowed is 0.002 or nothing: the shunt is inside the ina260",
            ),
            (
                "rail = 3\n".into(),
                "agent.toml: `rail` is 3, allowed is tables [[rail]], 64 at most",
            ),
            (
                "[[rail]]\nlabel = \"\"\n".into(),
                "agent.toml rail 1 (): `label` is \"\", allowed is a text of 1 to 200 printable letters",
            ),
        ] {
            assert_eq!(error(&text), said);
        }
        assert!(error("[[rail]]\nlabel = \n").starts_with("agent.toml, line 2: "));
    }

    #[test]
    fn two_rails_are_not_one_and_the_same() {
        let two = |change: (&str, &str)| format!("{ONE}{}", ONE.replace(change.0, change.1));
        let at = "agent.toml rail 2";
        assert_eq!(
            error(&two(("0x44", "0x45"))),
            format!("{at} (VIN): `label` is VIN, as in rail 1 (VIN)")
        );
        assert_eq!(
            error(&two(("VIN", "A"))),
            format!("{at} (A): `channel` is 1, as in rail 1 (VIN)")
        );
        let other_chip = two(("VIN\"\nchip = \"ina226", "A\"\nchip = \"ina219"));
        let said =
            "`chip` is \"ina219\", allowed is ina226, the chip of rail 1 (VIN) at that address";
        assert_eq!(error(&other_chip), format!("{at} (A): {said}"));
        let total = format!("{ONE}role = \"total\"\n");
        let totals = total.clone() + &total.replace("VIN", "A").replace("0x44", "0x45");
        assert_eq!(error(&totals), format!("{at} (A): `role` is total, as in rail 1 (VIN)"));
    }

    #[test]
    fn the_sample_is_a_configuration_commented_or_not() {
        assert_eq!(rails("deploy/agent.toml", SAMPLE).unwrap(), None);
        let used: String = SAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
            .collect();
        let rails = rails("deploy/agent.toml", &used).unwrap().unwrap();
        assert_eq!(rails.len(), 3);
        assert_eq!(rails[0].role, RailRole::Total);
    }

    #[test]
    fn what_the_spool_may_take_is_said_in_a_file_and_a_later_one_replaces_it() {
        let text = "spool_quota = \"2GiB\"\nwhen_full = \"stop\"\n";
        let keys = room("agent.toml", text).unwrap();
        let rules = keys.rules();
        assert_eq!((rules.quota_bytes, rules.when_full), (Some(2 << 30), WhenFull::Stop));
        assert_eq!(rules.reserve_bytes, RoomRules::default().reserve_bytes);
        let later = room("agent.toml", "spool_quota = \"1GB\"").unwrap().over(keys);
        assert_eq!(later.quota, Some(ByteCount(1_000_000_000)));
        assert_eq!(later.when_full, Some(WhenFull::Stop));
        let printed = Configuration { room: keys, ..Configuration::default() }.to_toml();
        assert_eq!(room("again", &printed).unwrap(), keys);
        for (text, said) in [
            ("spool_quota = \"1MB\"", "`spool_quota` is \"1MB\", allowed is a text such as"),
            ("when_full = \"wait\"", "`when_full` is \"wait\", allowed is drop or stop"),
            ("spool_quotas = \"1GB\"", "did you mean `spool_quota`?"),
        ] {
            let error = room("agent.toml", text).map(drop).and(rails("agent.toml", text).map(drop));
            assert!(error.unwrap_err().to_string().contains(said), "{text}");
        }
    }

    #[test]
    fn what_is_printed_says_the_same() {
        let text = ONE.replace("VIN", "a \\\"b\\\"");
        let rails_read = rails("agent.toml", &text).unwrap().unwrap();
        let configuration = Configuration {
            rails: rails_read.clone(),
            files: vec!["a.toml".into()],
            ..Configuration::default()
        };
        assert_eq!(rails("again", &configuration.to_toml()).unwrap(), Some(rails_read));
        assert_eq!(Configuration::default().to_toml(), SAMPLE);
    }

    #[test]
    fn the_later_file_replaces_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one.toml", "two.toml", "none.toml"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], ONE).unwrap();
        std::fs::write(&paths[1], "# nothing\n").unwrap();
        let read = read_files(&paths, Absent::Skipped).unwrap();
        assert_eq!((read.rails.len(), read.files.len()), (1, 2));
        std::fs::write(&paths[1], ONE.replace("VIN", "OTHER")).unwrap();
        assert_eq!(read_files(&paths, Absent::Skipped).unwrap().rails[0].name, "OTHER");
        assert!(read_files(&paths[2..], Absent::Refused).is_err());
    }
}
