//! Where a board is: the addresses a user types, and the configuration.
//!
//! Owns parsing of BOARD and of the configuration file. Connects to nothing:
//! that is [`crate::connect`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use wattline_protocol::record::ChipKind;

/// A board's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardAddress {
    /// An agent on this machine's simulated bus.
    Simulated(ChipKind),
    /// An agent on this machine's real rails.
    Local,
    /// The user's own OpenSSH; the text is what `ssh` is given, and a port.
    Ssh {
        /// `host` or `user@host`, as `ssh` takes it.
        target: String,
        /// Port, where the address has one.
        port: Option<u16>,
    },
    /// The socket of a serving agent.
    Unix(PathBuf),
}

/// Why a text is not a board.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BoardError {
    /// A simulated chip that does not exist.
    #[error("board `{text}`: simulated chips are ina3221 and ina226")]
    Chip {
        /// What was given.
        text: String,
    },
    /// An address without its host or path.
    #[error("board `{text}` names no host or path")]
    Empty {
        /// What was given.
        text: String,
    },
    /// A host that `ssh` would take for an option, or a bad port.
    #[error("board `{text}` is not an address that ssh takes")]
    Ssh {
        /// What was given.
        text: String,
    },
    /// TLS, which this version does not speak.
    #[error("board `{text}`: this version speaks no TLS yet")]
    Tls {
        /// What was given.
        text: String,
    },
    /// Neither an address nor a name of the configuration.
    #[error("board `{text}` is neither an address nor a name in the configuration{}", known(names))]
    Unknown {
        /// What was given.
        text: String,
        /// Names of the configuration.
        names: Vec<String>,
    },
}

fn known(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (known: {})", names.join(", ")) }
}

impl BoardAddress {
    /// Parses BOARD: an address, or a name that `configuration` resolves.
    ///
    /// # Errors
    /// [`BoardError`] naming the text.
    pub fn parse(text: &str, configuration: &Configuration) -> Result<Self, BoardError> {
        if let Some(address) = Self::parse_address(text)? {
            return Ok(address);
        }
        let names = || configuration.boards.keys().cloned().collect();
        let unknown = || BoardError::Unknown { text: text.to_owned(), names: names() };
        let board = configuration.boards.get(text).ok_or_else(unknown)?;
        Self::parse_address(&board.address)?.ok_or_else(unknown)
    }

    fn parse_address(text: &str) -> Result<Option<Self>, BoardError> {
        let owned = || text.to_owned();
        if text == "local" {
            return Ok(Some(Self::Local));
        }
        if let Some(rest) = text.strip_prefix("simulated") {
            return match rest {
                "" | ":ina3221" => Ok(Some(Self::Simulated(ChipKind::Ina3221))),
                ":ina226" => Ok(Some(Self::Simulated(ChipKind::Ina226))),
                _ => Err(BoardError::Chip { text: owned() }),
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(BoardError::Empty { text: owned() });
            }
            return Ok(Some(Self::Unix(PathBuf::from(path))));
        }
        if let Some(host) = text.strip_prefix("ssh://") {
            return Self::parse_ssh(text, host).map(Some);
        }
        if text.starts_with("tls://") {
            return Err(BoardError::Tls { text: owned() });
        }
        Ok(None)
    }

    fn parse_ssh(text: &str, host: &str) -> Result<Self, BoardError> {
        let host = host.trim_end_matches('/');
        if host.is_empty() {
            return Err(BoardError::Empty { text: text.to_owned() });
        }
        let bad = || BoardError::Ssh { text: text.to_owned() };
        let (target, port) = match host.rsplit_once(':') {
            Some((target, port)) if !target.ends_with(':') && !target.contains('[') => {
                (target, Some(port.parse().map_err(|_| bad())?))
            }
            _ => (host, None),
        };
        // A leading hyphen would be an option; a blank or control character no host.
        let clean = target.bytes().all(|byte| byte.is_ascii_graphic());
        if target.is_empty() || target.starts_with('-') || !clean {
            return Err(bad());
        }
        Ok(Self::Ssh { target: target.to_owned(), port })
    }

    /// The word that a run's id ends in: which kind of board it was.
    #[must_use]
    pub fn short_name(&self) -> String {
        let plain = |text: &str| {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .take(32)
                .collect::<String>()
        };
        match self {
            Self::Simulated(_) => "simulated".into(),
            Self::Local => "local".into(),
            Self::Ssh { target, .. } => {
                plain(target.rsplit_once('@').map_or(target.as_str(), |(_, host)| host))
            }
            Self::Unix(path) => plain(&path.file_stem().unwrap_or_default().to_string_lossy()),
        }
    }
}

impl fmt::Display for BoardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated(ChipKind::Ina3221) => f.write_str("simulated"),
            Self::Simulated(chip) => write!(f, "simulated:{}", chip.name()),
            Self::Local => f.write_str("local"),
            Self::Ssh { target, port: None } => write!(f, "ssh://{target}"),
            Self::Ssh { target, port: Some(port) } => write!(f, "ssh://{target}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The configuration file: `wattline/config.toml` in the XDG folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Board that is meant where `--on` is not given.
    pub default_board: Option<String>,
    /// Boards by name.
    #[serde(default)]
    pub boards: BTreeMap<String, BoardEntry>,
}

/// One board of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardEntry {
    /// Its address.
    pub address: String,
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("configuration {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: Box<toml::de::Error>,
    },
}

impl Configuration {
    /// Reads the file at `path`; an absent file is an empty configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigurationError::Read { path: path.to_owned(), source }),
        };
        toml::from_str(&text).map_err(|source| ConfigurationError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BoardAddress, BoardError> {
        BoardAddress::parse(text, &Configuration::default())
    }

    #[test]
    fn every_address_of_the_contract_is_understood_and_printed_back() {
        for text in [
            "simulated",
            "simulated:ina226",
            "local",
            "ssh://user@host",
            "ssh://host:2222",
            "unix:/run/a.sock",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("simulated:ina3221").unwrap(), parse("simulated").unwrap());
    }

    #[test]
    fn an_unknown_board_is_named_with_those_that_are_known() {
        let mut configuration = Configuration::default();
        let entry = BoardEntry { address: "ssh://lab@orin1".into() };
        configuration.boards.insert("orin1".into(), entry);
        let found = BoardAddress::parse("orin1", &configuration).unwrap();
        assert_eq!(found.to_string(), "ssh://lab@orin1");
        let error = BoardAddress::parse("orin2", &configuration).unwrap_err();
        assert!(error.to_string().contains("orin1"), "{error}");
    }

    #[test]
    fn a_host_that_ssh_would_take_for_an_option_is_refused() {
        for bad in ["ssh://-oProxyCommand=x", "ssh://", "ssh://a b", "ssh://h:99999", "unix:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(parse("simulated:ina999"), Err(BoardError::Chip { .. })));
    }
}
