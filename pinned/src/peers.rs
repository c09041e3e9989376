//! The pins of the other sides, one line each.
//!
//! Owns the file: `PIN NAME`, blank lines, and comments from `#` on. It is read at
//! each question, so that what is added or revoked holds from then on; a file that
//! cannot be read lets nobody in.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{NameError, PeerName, Pin, PinError};

/// Ten thousand pins; a longer file is somebody's mistake.
const FILE_LEN_MAX: u64 = 1 << 20;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The key.
    pub pin: Pin,
    /// Whose it is.
    pub name: PeerName,
}

/// Why the pins cannot be told.
#[derive(Debug, Error)]
pub enum PeersError {
    /// The file cannot be read or written.
    #[error("pins {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A line is not PIN NAME.
    #[error("{} line {line} is not PIN NAME", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A line's pin is none.
    #[error("{} line {line}", path.display())]
    Pin {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: PinError,
    },
    /// A line's name is none.
    #[error("{} line {line}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: NameError,
    },
}

/// Whose keys are taken: those of a file, or of one name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    path: PathBuf,
    only: Option<PeerName>,
}

impl Peers {
    /// All peers of the file at `path`, which may be absent.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), only: None }
    }

    /// Those called `name` alone: another known peer must not stand in for it.
    #[must_use]
    pub fn called(self, name: PeerName) -> Self {
        Self { only: Some(name), ..self }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The peers as the file has them now, in its order.
    ///
    /// # Errors
    /// [`PeersError`] naming file and line.
    pub fn now(&self) -> Result<Vec<Peer>, PeersError> {
        let mut peers = Vec::new();
        for (number, line) in self.text()?.lines().enumerate() {
            if let Some(peer) = self.parse(line, number + 1)? {
                peers.push(peer);
            }
        }
        if let Some(only) = &self.only {
            peers.retain(|peer| peer.name == *only);
        }
        Ok(peers)
    }

    /// The peer with this key; `None` for a stranger.
    ///
    /// # Errors
    /// [`PeersError`].
    pub fn find(&self, pin: Pin) -> Result<Option<Peer>, PeersError> {
        Ok(self.now()?.into_iter().find(|peer| peer.pin == pin))
    }

    /// The file's text; empty where it is absent.
    pub(crate) fn text(&self) -> Result<String, PeersError> {
        let failed = |source| PeersError::File { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            file => file.map_err(failed)?,
        };
        if file.metadata().map_err(failed)?.len() > FILE_LEN_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let mut text = String::new();
        file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// What one line says; `None` for a comment.
    pub(crate) fn parse(&self, line: &str, number: usize) -> Result<Option<Peer>, PeersError> {
        let path = || self.path.clone();
        let said = line.split_once('#').map_or(line, |(said, _)| said);
        let mut words = said.split_whitespace();
        let Some(pin) = words.next() else { return Ok(None) };
        let pin: Pin =
            pin.parse().map_err(|source| PeersError::Pin { path: path(), line: number, source })?;
        let (Some(name), None) = (words.next(), words.next()) else {
            return Err(PeersError::Line { path: path(), line: number });
        };
        let name = name.parse().map_err(|source| PeersError::Name {
            path: path(),
            line: number,
            source,
        })?;
        Ok(Some(Peer { pin, name }))
    }
}
