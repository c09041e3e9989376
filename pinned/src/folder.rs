//! A side's folder: its own key, the one before while a rotation goes on, and the
//! pins of its peers.
//!
//! Owns the files' names and every change in them. One change at a time (a lock),
//! each whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::key::write_whole;
use crate::{KeyError, OwnKey, Peer, PeerName, Peers, PeersError, Pin};

const OWN: &str = "own.key";
const OLD: &str = "own.key.old";
const PINS: &str = "peers.pins";
const LOCK: &str = "lock";
const PINS_HEAD: &str = "# Keys that are let in, a line each: PIN NAME. What is removed is out.\n";

/// Where keys and pins lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFolder {
    path: PathBuf,
}

/// Why a change was not made.
#[derive(Debug, Error)]
pub enum KeyFolderError {
    /// The folder cannot be used.
    #[error("folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Of one's own key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Of the peers' pins.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The key before is still there.
    #[error("the rotation before is not settled: {old} is still shown to peers that ask for it")]
    Unsettled {
        /// The key before.
        old: Pin,
    },
    /// There is no key before.
    #[error("no rotation goes on: there is no key before the present one")]
    Settled,
    /// Nobody is called so.
    #[error("`{asked}` is neither a name nor a pin in {}", path.display())]
    NoPeer {
        /// What was asked for.
        asked: String,
        /// The file.
        path: PathBuf,
    },
}

impl KeyFolder {
    /// The folder at `path`, which may be absent.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The peers' pins.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::of(&self.path.join(PINS))
    }

    /// One's own keys: the present one, and behind it the one before while a
    /// rotation goes on.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::Missing`] where none was made yet.
    pub fn own(&self) -> Result<Vec<OwnKey>, KeyError> {
        let mut keys = vec![OwnKey::read(&self.path.join(OWN))?];
        match OwnKey::read(&self.path.join(OLD)) {
            Ok(old) => keys.push(old),
            Err(KeyError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(keys)
    }

    /// As [`Self::own`]; makes the first key where there is none.
    ///
    /// # Errors
    /// [`KeyFolderError`].
    pub fn own_or_made(&self) -> Result<Vec<OwnKey>, KeyFolderError> {
        let lock = self.locked()?;
        let keys = match self.own() {
            Err(KeyError::Missing { .. }) => vec![OwnKey::make(&self.path.join(OWN))?],
            keys => keys?,
        };
        drop(lock);
        Ok(keys)
    }

    /// Lets a peer in; false where it was already.
    ///
    /// # Errors
    /// [`KeyFolderError`].
    pub fn add(&self, pin: Pin, name: &PeerName) -> Result<bool, KeyFolderError> {
        let lock = self.locked()?;
        let peers = self.peers();
        if peers.now()?.iter().any(|peer| peer.pin == pin && peer.name == *name) {
            return Ok(false);
        }
        let mut text = peers.text()?;
        if text.is_empty() {
            text.push_str(PINS_HEAD);
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{pin} {name}\n"));
        self.write_pins(&text)?;
        drop(lock);
        Ok(true)
    }

    /// Lets the peers of that name, or with that pin, in no more; comments stay.
    ///
    /// # Errors
    /// [`KeyFolderError::NoPeer`] where there is none, and as the others.
    pub fn revoke(&self, asked: &str) -> Result<Vec<Peer>, KeyFolderError> {
        let lock = self.locked()?;
        let peers = self.peers();
        let (mut kept, mut gone) = (String::new(), Vec::new());
        for (number, line) in peers.text()?.lines().enumerate() {
            match peers.parse(line, number + 1)? {
                Some(peer) if peer.name.as_str() == asked || peer.pin.to_string() == asked => {
                    gone.push(peer);
                }
                Some(_) | None => {
                    kept.push_str(line);
                    kept.push('\n');
                }
            }
        }
        if gone.is_empty() {
            let path = peers.path().to_owned();
            return Err(KeyFolderError::NoPeer { asked: asked.to_owned(), path });
        }
        self.write_pins(&kept)?;
        drop(lock);
        Ok(gone)
    }

    /// Makes a new key of one's own; the one before stays beside it until
    /// [`Self::settle`]. Returns the new one and that.
    ///
    /// # Errors
    /// [`KeyFolderError::Unsettled`] while an earlier one is there, and as the others.
    pub fn rotate(&self) -> Result<(Pin, Pin), KeyFolderError> {
        let lock = self.locked()?;
        let keys = self.own()?;
        if let Some(old) = keys.get(1) {
            return Err(KeyFolderError::Unsettled { old: old.pin() });
        }
        let (own, old) = (self.path.join(OWN), self.path.join(OLD));
        let failed = |source| KeyError::File { path: old.clone(), source };
        let bytes = fs::read(&own).map_err(failed)?;
        // The old one is there twice before it is there once: a power cut loses none.
        write_whole(&old, &bytes, 0o600).map_err(failed)?;
        let made = OwnKey::make(&own)?;
        drop(lock);
        let before = keys.first().map_or_else(|| made.pin(), OwnKey::pin);
        Ok((made.pin(), before))
    }

    /// Ends a rotation: the key before is removed. Returns its pin.
    ///
    /// # Errors
    /// [`KeyFolderError::Settled`] where none goes on, and as the others.
    pub fn settle(&self) -> Result<Pin, KeyFolderError> {
        let lock = self.locked()?;
        let keys = self.own()?;
        let old = keys.get(1).ok_or(KeyFolderError::Settled)?.pin();
        let path = self.path.join(OLD);
        fs::remove_file(&path).map_err(|source| KeyError::File { path, source })?;
        drop(lock);
        Ok(old)
    }

    fn write_pins(&self, text: &str) -> Result<(), PeersError> {
        let path = self.path.join(PINS);
        write_whole(&path, text.as_bytes(), 0o600)
            .map_err(|source| PeersError::File { path, source })
    }

    /// Makes the folder and waits until nobody else changes it.
    fn locked(&self) -> Result<File, KeyFolderError> {
        let failed = |source| KeyFolderError::Folder { path: self.path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join(LOCK))
            .map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = KeyFolder::at(&place.path().join("keys"));
        (place, folder)
    }

    fn name(text: &str) -> PeerName {
        text.parse().unwrap()
    }

    #[test]
    fn who_was_added_is_found_until_revoked_and_comments_stay() {
        let (_place, folder) = folder();
        let (_other_place, other) = self::folder();
        let pin = other.own_or_made().unwrap()[0].pin();
        assert!(folder.peers().now().unwrap().is_empty());
        assert!(folder.add(pin, &name("orin:7425")).unwrap());
        assert!(!folder.add(pin, &name("orin:7425")).unwrap());
        assert!(folder.add(pin, &name("10.0.0.4:7425")).unwrap());
        let text = fs::read_to_string(folder.peers().path()).unwrap();
        fs::write(folder.peers().path(), format!("{text}# the lab's own\n")).unwrap();
        assert!(folder.peers().find(pin).unwrap().is_some());
        let only = folder.peers().called(name("nano:7425"));
        assert!(only.find(pin).unwrap().is_none(), "a board stood in for another");

        let gone = folder.revoke("orin:7425").unwrap();
        assert_eq!(gone, [Peer { pin, name: name("orin:7425") }]);
        assert_eq!(folder.peers().now().unwrap().len(), 1);
        folder.revoke(&pin.to_string()).unwrap();
        assert!(folder.peers().find(pin).unwrap().is_none());
        assert!(matches!(folder.revoke("orin:7425"), Err(KeyFolderError::NoPeer { .. })));
        let text = fs::read_to_string(folder.peers().path()).unwrap();
        assert!(text.contains("the lab's own"));
    }

    #[test]
    fn a_rotation_keeps_both_keys_until_it_is_settled() {
        let (_place, folder) = folder();
        assert!(matches!(folder.rotate(), Err(KeyFolderError::Key(KeyError::Missing { .. }))));
        let first = folder.own_or_made().unwrap()[0].pin();
        assert_eq!(folder.own_or_made().unwrap()[0].pin(), first);
        assert!(matches!(folder.settle(), Err(KeyFolderError::Settled)));
        let (new, old) = folder.rotate().unwrap();
        assert!(old == first && new != first);
        let pins: Vec<Pin> = folder.own().unwrap().iter().map(OwnKey::pin).collect();
        assert_eq!(pins, [new, first]);
        assert!(matches!(folder.rotate(), Err(KeyFolderError::Unsettled { .. })));
        assert_eq!(folder.settle().unwrap(), first);
        assert_eq!(folder.own().unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_pin_is_named_and_lets_nobody_in() {
        let (_place, folder) = folder();
        let pin = folder.own_or_made().unwrap()[0].pin();
        folder.add(pin, &name("good")).unwrap();
        for (line, words) in [
            ("nonsense orin", "line 3"),
            (&format!("{pin}"), "line 3 is not PIN NAME"),
            (&format!("{pin} a b"), "line 3 is not PIN NAME"),
            (&format!("{pin} a$b"), "line 3"),
        ] {
            fs::write(folder.peers().path(), format!("# ours\n{pin} good\n{line}\n")).unwrap();
            let error = folder.peers().find(pin).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
