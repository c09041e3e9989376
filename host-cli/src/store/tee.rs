//! Frames in a plain file: what the agent's `--tee` writes.
//!
//! Owns the reading of concatenated frames and the fingerprint that two
//! recordings share when they are equal. Knows nothing of SQLite.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use wattline_protocol::frame::{self, FrameError, Identity, SESSION_KINDS_FROM};

/// Why a file of frames could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TeeError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Bytes that are not a frame.
    #[error("byte {offset}: {source}")]
    Frame {
        /// Where in the file.
        offset: usize,
        /// What is wrong.
        source: FrameError,
    },
}

/// Board frames of a file, each identity once, in order of (epoch, stream,
/// sequence).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TeeFrames {
    frames: BTreeMap<Identity, Vec<u8>>,
}

impl TeeFrames {
    /// Cuts concatenated frames apart; a torn frame at the end is left out, as
    /// an agent that is killed leaves one. Session messages are skipped.
    ///
    /// # Errors
    /// [`TeeError::Frame`] with the offset of bytes that are not a frame.
    pub fn parse(bytes: &[u8]) -> Result<Self, TeeError> {
        let mut frames = BTreeMap::new();
        let mut offset = 0;
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            let frame = match frame::decode(rest) {
                Ok(frame) => frame,
                Err(FrameError::Incomplete { .. }) => break,
                Err(source) => return Err(TeeError::Frame { offset, source }),
            };
            offset += frame.bytes.len();
            if frame.header.kind < SESSION_KINDS_FROM {
                frames.entry(frame.header.identity).or_insert_with(|| frame.bytes.to_vec());
            }
        }
        Ok(Self { frames })
    }

    /// The frames in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.values().map(Vec::as_slice)
    }

    /// Number of frames.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        u64::try_from(self.frames.len()).unwrap_or(u64::MAX)
    }

    /// SHA-256 over the frames' bytes in order, in lower-case hex.
    #[must_use]
    pub fn frames_sha256(&self) -> String {
        let mut sum = Sha256::new();
        self.frames().for_each(|bytes| sum.update(bytes));
        hex(&sum.finalize())
    }
}

/// Reads a file that the agent's `--tee` wrote.
///
/// # Errors
/// [`TeeError`] where it cannot be read, or holds bytes that are no frame.
pub fn read_tee(path: &Path) -> Result<TeeFrames, TeeError> {
    let bytes = std::fs::read(path)
        .map_err(|source| TeeError::Unreadable { path: path.to_owned(), source })?;
    TeeFrames::parse(&bytes)
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
