//! Where a board is: the addresses a user types, and the configuration.
//!
//! Owns parsing of BOARD and of the configuration file. Connects to nothing:
//! that is [`crate::connect`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use wattline_pinned::PeerName;
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
    /// A board's gate, over TLS with pinned keys.
    Tls {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A board behind NAT, whose gate dials this machine.
    Listen {
        /// Where this machine listens.
        at: SocketAddr,
        /// The board's name among the pins; any that is known where there is none.
        name: Option<PeerName>,
    },
}

/// A board as it was named, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBoard {
    /// Its name or address, as typed or as the group has it.
    pub name: String,
    /// Where it is.
    pub address: BoardAddress,
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
    /// A gate without its host or port.
    #[error("board `{text}` is not tls://host or tls://host:port")]
    Tls {
        /// What was given.
        text: String,
    },
    /// A place to listen at that is none.
    #[error("board `{text}` is not listen://ADDRESS:PORT or listen://ADDRESS:PORT/NAME")]
    Listen {
        /// What was given.
        text: String,
    },
    /// The same board twice.
    #[error("board `{name}` is named twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// A group that holds none.
    #[error("group `{name}` of the configuration has no boards")]
    NoBoards {
        /// The group.
        name: String,
    },
    /// A name of the configuration that could be either.
    #[error("`{name}` is a board and a group in the configuration")]
    BoardAndGroup {
        /// The name.
        name: String,
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
        let names = || {
            let groups = configuration.groups.keys();
            configuration.boards.keys().chain(groups).cloned().collect()
        };
        let unknown = || BoardError::Unknown { text: text.to_owned(), names: names() };
        let board = configuration.boards.get(text).ok_or_else(unknown)?;
        Self::parse_address(&board.address)?.ok_or_else(unknown)
    }

    /// Parses a list of BOARD and of groups, separated by commas.
    ///
    /// # Errors
    /// [`BoardError`] naming the text that is none, or the board that is there twice.
    pub fn parse_list(
        text: &str,
        configuration: &Configuration,
    ) -> Result<Vec<NamedBoard>, BoardError> {
        let mut boards: Vec<NamedBoard> = Vec::new();
        for name in text.split(',').map(str::trim) {
            let alone = [name.to_owned()];
            let members = match configuration.groups.get(name) {
                Some(_) if configuration.boards.contains_key(name) => {
                    return Err(BoardError::BoardAndGroup { name: name.to_owned() });
                }
                Some(members) if members.is_empty() => {
                    return Err(BoardError::NoBoards { name: name.to_owned() });
                }
                Some(members) => members.as_slice(),
                None => &alone,
            };
            for member in members {
                let address = Self::parse(member, configuration)?;
                if boards.iter().any(|board| board.address == address) {
                    return Err(BoardError::Twice { name: member.clone() });
                }
                boards.push(NamedBoard { name: member.clone(), address });
            }
        }
        Ok(boards)
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
        if let Some(place) = text.strip_prefix("tls://") {
            return Self::parse_tls(place)
                .map(Some)
                .ok_or_else(|| BoardError::Tls { text: owned() });
        }
        if let Some(place) = text.strip_prefix("listen://") {
            return Self::parse_listen(place)
                .map(Some)
                .ok_or_else(|| BoardError::Listen { text: owned() });
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

    /// HOST, HOST:PORT, [IPv6] or [IPv6]:PORT.
    fn parse_tls(place: &str) -> Option<Self> {
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(bracketed) => {
                let (host, rest) = bracketed?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => place.split_once(':').map_or((place, Some("")), |(h, p)| (h, Some(p))),
        };
        let port = match port? {
            "" if !place.ends_with(':') => wattline_pinned::DEFAULT_PORT,
            port => port.parse().ok().filter(|port| *port > 0)?,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        let good = !host.is_empty() && !host.starts_with('-') && host.chars().all(fits);
        good.then(|| Self::Tls { host: host.to_owned(), port })
    }

    fn parse_listen(place: &str) -> Option<Self> {
        let (at, name) = place.split_once('/').map_or((place, None), |(a, n)| (a, Some(n)));
        let name = name.filter(|name| !name.is_empty());
        Some(Self::Listen { at: at.parse().ok()?, name: name.map(str::parse).transpose().ok()? })
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
            Self::Tls { host, .. } => plain(host),
            Self::Listen { name, .. } => plain(name.as_ref().map_or("board", PeerName::as_str)),
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
            Self::Tls { host, port } if host.contains(':') => write!(f, "tls://[{host}]:{port}"),
            Self::Tls { host, port } => write!(f, "tls://{host}:{port}"),
            Self::Listen { at, name: None } => write!(f, "listen://{at}"),
            Self::Listen { at, name: Some(name) } => write!(f, "listen://{at}/{name}"),
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
    /// Boards that are named together: names or addresses.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
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
            "tls://orin:7425",
            "tls://[fe80::1]:7425",
            "listen://0.0.0.0:7425",
            "listen://[::]:7425/orin",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("simulated:ina3221").unwrap(), parse("simulated").unwrap());
        assert_eq!(parse("tls://orin").unwrap().to_string(), "tls://orin:7425");
        assert_eq!(parse("tls://[::1]/").unwrap().to_string(), "tls://[::1]:7425");
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
    fn several_boards_and_groups_become_a_list_without_doubles() {
        let text = "[boards.a]\naddress = 'ssh://lab@a'\n[groups]\n\
            lab = ['a', 'tls://b:7425']\nnone = []\na = ['local']\n";
        let configuration: Configuration = toml::from_str(text).unwrap();
        let list = |text: &str| BoardAddress::parse_list(text, &configuration);
        let names = |boards: Vec<NamedBoard>| -> Vec<String> {
            boards.into_iter().map(|board| format!("{} {}", board.name, board.address)).collect()
        };
        assert_eq!(
            names(list("lab, simulated").unwrap()),
            ["a ssh://lab@a", "tls://b:7425 tls://b:7425", "simulated simulated"]
        );
        assert_eq!(list("lab,tls://b"), Err(BoardError::Twice { name: "tls://b".into() }));
        assert_eq!(list("none"), Err(BoardError::NoBoards { name: "none".into() }));
        assert_eq!(list("a"), Err(BoardError::BoardAndGroup { name: "a".into() }));
        for bad in ["local,", "", "local,nobody"] {
            assert!(matches!(list(bad), Err(BoardError::Unknown { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_host_that_ssh_would_take_for_an_option_is_refused() {
        for bad in ["ssh://-oProxyCommand=x", "ssh://", "ssh://a b", "ssh://h:99999", "unix:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["tls://", "tls://:1", "tls://h:", "tls://h:0", "tls://h:x", "tls://[::1", "tls://-h"]
        {
            assert!(matches!(parse(bad), Err(BoardError::Tls { .. })), "{bad}");
        }
        for bad in ["listen://7425", "listen://host:7425", "listen://0.0.0.0:1/a b"] {
            assert!(matches!(parse(bad), Err(BoardError::Listen { .. })), "{bad}");
        }
        assert!(matches!(parse("simulated:ina999"), Err(BoardError::Chip { .. })));
    }
}
