//! The board's identity: made once, at random, and kept in the spool.
//!
//! Owns one file of one line: the identity and its CRC32C in hexadecimal. A
//! damaged one is replaced: a board with a new name is counted anew from
//! there, a board with a wrong name would be taken for another.

use std::sync::atomic::{AtomicBool, Ordering};

use super::storage::{Operation, Storage, StorageError};

const NAME: &str = "board-id";
/// Longest line that is read.
const LINE_BYTES_MAX: usize = 128;

/// Identity of the board that owns a spool.
#[derive(Debug)]
pub struct BoardId {
    id: String,
    is_stored: AtomicBool,
}

impl BoardId {
    /// The identity on disk, or else `fresh`, which is not stored yet.
    pub(super) fn load(storage: &dyn Storage, fresh: &str) -> Result<Self, StorageError> {
        let failed = |source| StorageError::new(Operation::Read, NAME, source);
        let mut bytes = [0; LINE_BYTES_MAX];
        let names = storage.list("").map_err(failed)?;
        let got = match names.iter().any(|name| name == NAME) {
            true => storage.read_at(NAME, 0, &mut bytes).map_err(failed)?,
            false => 0,
        };
        let found = bytes.get(..got).and_then(|line| std::str::from_utf8(line).ok());
        Ok(match found.and_then(parse) {
            Some(id) => Self { id: id.to_owned(), is_stored: AtomicBool::new(true) },
            None => Self { id: fresh.to_owned(), is_stored: AtomicBool::new(false) },
        })
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// Makes it durable, where it is not.
    pub(super) fn store(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        if self.is_stored.load(Ordering::Acquire) {
            return Ok(());
        }
        super::epoch::replace_file(storage, NAME, line(&self.id).as_bytes())?;
        self.is_stored.store(true, Ordering::Release);
        Ok(())
    }
}

fn line(id: &str) -> String {
    format!("{id} {:08x}\n", crc32c::crc32c(id.as_bytes()))
}

fn parse(text: &str) -> Option<&str> {
    let (id, _) = text.split_once(' ')?;
    if !id.is_empty() && line(id) == text { Some(id) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_makes_an_identity_unreadable() {
        let text = line("6d2f0c1e");
        assert_eq!(parse(&text), Some("6d2f0c1e"));
        for place in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[place] ^= 1;
            assert_eq!(parse(std::str::from_utf8(&damaged).unwrap()), None, "byte {place}");
        }
    }
}
