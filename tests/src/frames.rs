//! Board frames, wherever they lie.
//!
//! Owns the reading of a tee and of a recording's table as `docs/format.md`
//! has them, and the sum by which two recordings are equal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use wattline_protocol::frame::{self, FrameError, Identity, SESSION_KINDS_FROM};
use wattline_protocol::record::Record;

/// Frames in order of (epoch, stream, first sequence number).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames {
    frames: BTreeMap<Identity, Vec<u8>>,
}

impl Frames {
    /// The frames of a file that the agent's `--tee` wrote; one under way at
    /// its end is left out. An absent file holds none.
    ///
    /// # Panics
    /// Where it holds other bytes, or one identity twice.
    #[must_use]
    pub fn of_tee(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut frames = Self::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match frame::decode(rest) {
                Ok(frame) => {
                    let length = frame.bytes.len();
                    frames.take(frame.bytes);
                    rest = rest.split_at(length).1;
                }
                Err(FrameError::Incomplete { .. }) => break,
                Err(error) => panic!("{} is no tee: {error}", path.display()),
            }
        }
        frames
    }

    /// The frames of a recording.
    ///
    /// # Panics
    /// Where it is none, or holds one identity twice.
    #[must_use]
    pub fn of_recording(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(path, flags).unwrap();
        let mut rows = connection.prepare("SELECT bytes FROM frames").unwrap();
        let rows = rows.query_map((), |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let mut frames = Self::default();
        rows.for_each(|bytes| frames.take(&bytes.unwrap()));
        frames
    }

    /// The numbers that a recording says will never come: epoch, stream, first, and
    /// one past the last.
    ///
    /// # Panics
    /// Where it is no recording.
    #[must_use]
    pub fn gaps(path: &Path) -> Vec<(u32, u32, u64, u64)> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.unwrap();
        let mut rows = connection.prepare("SELECT epoch, stream, first, next FROM gaps").unwrap();
        let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let rows = rows
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, number(row, 2)?, number(row, 3)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The frames of a recording; `None` where it holds one identity twice, or
    /// bytes that are no frame.
    ///
    /// # Panics
    /// Where it is no recording.
    #[must_use]
    pub fn of_recording_if_whole(path: &Path) -> Option<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.unwrap();
        let mut rows = connection.prepare("SELECT bytes FROM frames").unwrap();
        let rows = rows.query_map((), |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let mut frames = BTreeMap::new();
        for bytes in rows {
            let bytes = bytes.unwrap();
            let header = frame::decode(&bytes).ok()?.header;
            if header.kind < SESSION_KINDS_FROM && frames.insert(header.identity, bytes).is_some() {
                return None;
            }
        }
        Some(Self { frames })
    }

    /// The bytes of one.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<&Vec<u8>> {
        self.frames.get(identity)
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, &Vec<u8>)> {
        self.frames.iter()
    }

    fn take(&mut self, bytes: &[u8]) {
        let frame = frame::decode(bytes).unwrap();
        if frame.header.kind < SESSION_KINDS_FROM {
            let before = self.frames.insert(frame.header.identity, frame.bytes.to_vec());
            assert!(before.is_none(), "{:?} is there twice", frame.header.identity);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// SHA-256 over the frames' bytes in their order, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut sum = Sha256::new();
        self.frames.values().for_each(|bytes| sum.update(bytes));
        sum.finalize().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// The structured records among them.
    ///
    /// # Panics
    /// Where one does not decode.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let frames = self.frames.values().map(|bytes| frame::decode(bytes).unwrap());
        frames
            .filter(|frame| frame.header.kind < 32)
            .map(|frame| Record::decode(frame.header.kind, frame.payload).unwrap())
            .collect()
    }

    /// Those of `epoch`.
    #[must_use]
    pub fn of_epoch(&self, epoch: u32) -> Self {
        let of_it = self.frames.iter().filter(|(identity, _)| identity.epoch == epoch);
        Self { frames: of_it.map(|(identity, bytes)| (*identity, bytes.clone())).collect() }
    }

    /// Those that begin before the end that `next` gives for their stream.
    #[must_use]
    pub fn before(&self, next: impl Fn(u32) -> u64) -> Self {
        let early = self.frames.iter().filter(|(at, _)| at.sequence < next(at.stream));
        Self { frames: early.map(|(identity, bytes)| (*identity, bytes.clone())).collect() }
    }

    /// Asserts that the sequence numbers of every stream follow one another
    /// from 0, none twice and none left out.
    ///
    /// # Panics
    /// Where they do not.
    pub fn assert_contiguous(&self) {
        let mut next = BTreeMap::new();
        for (identity, bytes) in &self.frames {
            let due = next.entry((identity.epoch, identity.stream)).or_insert(0);
            assert_eq!(identity.sequence, *due, "a hole or an overlap at {identity:?}");
            *due = frame::decode(bytes).unwrap().next_sequence();
        }
    }
}
