//! What goes wrong with a recording's file, told by what its reader does next.
//!
//! Owns the error type and the sorting of SQLite's codes into it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;
use wattline_protocol::frame::{FrameError, Identity};

/// Why a recording could not be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no file: look at the name.
    #[error("{path}: no such recording", path = path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// A recording is there already: choose another place.
    #[error("{path}: there is a file already", path = path.display())]
    AlreadyThere {
        /// What was to be created.
        path: PathBuf,
    },
    /// Not SQLite, or a database of another program: look at the name.
    #[error("{path}: not a Wattline recording", path = path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version: update the host program.
    #[error(
        "{path}: recording of version {found}, this program reads up to {known}",
        path = path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// The file is damaged: fetch it again from the board, or use a copy.
    #[error("{path}: damaged recording: {damage}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Another program writes it: wait.
    #[error("{path}: another program holds the recording", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The host's disk is full: make room; the board keeps what is not acknowledged.
    #[error("{path}: the disk is full", path = path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A frame that skips sequence numbers without a gap record: fetch again
    /// from the watermark.
    #[error("stream {stream} of epoch {epoch} goes on at {found}, expected {expected}")]
    Hole {
        /// Epoch of the stream.
        epoch: u32,
        /// The stream.
        stream: u32,
        /// The store's watermark.
        expected: u64,
        /// First sequence number of the frame.
        found: u64,
    },
    /// A frame that begins before the watermark and ends behind it, or takes
    /// no sequence number: the agent is not one of ours.
    #[error(
        "frame {} to {next} of stream {} in epoch {} does not fit the watermark {watermark}",
        identity.sequence, identity.stream, identity.epoch
    )]
    Misfit {
        /// Identity of the frame.
        identity: Identity,
        /// One past its last sequence number.
        next: u64,
        /// The store's watermark.
        watermark: u64,
    },
    /// Bytes that are not a frame.
    #[error("frame {place} of what arrived: {source}")]
    Frame {
        /// Place among the frames given, from 0.
        place: usize,
        /// What is wrong.
        source: FrameError,
    },
    /// The file system or SQLite refused for another cause.
    #[error("{path}: {source}", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
}

/// What is wrong with a damaged recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends before its pages do.
    #[error("cut short, {have} bytes of {need}")]
    Truncated {
        /// Length of the file.
        have: u64,
        /// Length that its header asks for.
        need: u64,
    },
    /// SQLite finds its structures broken.
    #[error("the database is malformed")]
    Malformed,
    /// The bytes of a frame fail their check.
    #[error(
        "frame {} of stream {} in epoch {}: {source}",
        identity.sequence, identity.stream, identity.epoch
    )]
    Frame {
        /// Identity by which it is stored.
        identity: Identity,
        /// What is wrong.
        source: FrameError,
    },
    /// The bytes of a frame are whole, but those of another one.
    #[error(
        "frame {} of stream {} in epoch {} holds the bytes of another",
        identity.sequence, identity.stream, identity.epoch
    )]
    WrongFrame {
        /// Identity by which it is stored.
        identity: Identity,
    },
}

impl StoreError {
    /// An error of SQLite in a connection without a file.
    #[must_use]
    pub fn within(source: rusqlite::Error) -> Self {
        Self::from_sqlite(Path::new(":memory:"), source)
    }

    /// Sorts an error of SQLite.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            // The statements are ours and fit the tables: where one does not
            // compile ("no such table"), the schema's page was damaged.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::Unknown) => {
                Self::Damaged { path, damage: Damage::Malformed }
            }
            Some(ErrorCode::NotADatabase) => Self::NotARecording { path },
            _ => match source {
                // A column that holds another type than was written.
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::QueryReturnedNoRows => {
                    Self::Damaged { path, damage: Damage::Malformed }
                }
                source => Self::Refused { path, source },
            },
        }
    }
}
