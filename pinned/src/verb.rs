//! What `keys` does on either side, and what it says.
//!
//! Owns the lines that are printed: the first word of each is a pin, for scripts
//! and for the other side.

use crate::{KeyError, KeyFolder, KeyFolderError, PeerName, Pin};

/// One thing to do with a side's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyVerb {
    /// Print one's own pins; the first key is made where there is none.
    Show,
    /// Print the peers' pins.
    List,
    /// Let a peer in.
    Add {
        /// Whose key it is.
        name: PeerName,
        /// The key.
        pin: Pin,
    },
    /// Let a peer in no more.
    Revoke {
        /// Its name or pin.
        who: String,
    },
    /// Make a new key, and keep the one before.
    Rotate,
    /// Remove the key before.
    Settle,
}

impl KeyVerb {
    /// Does it, and returns the lines to print.
    ///
    /// # Errors
    /// [`KeyFolderError`]; [`KeyFolderError::mend`] says what to do.
    pub fn perform(&self, folder: &KeyFolder) -> Result<Vec<String>, KeyFolderError> {
        Ok(match self {
            Self::Show => {
                let keys = folder.own_or_made()?;
                let words = ["present", "before, shown until `keys settle`"];
                keys.iter().zip(words).map(|(key, word)| format!("{} {word}", key.pin())).collect()
            }
            Self::List => {
                let peers = folder.peers().now()?;
                peers.iter().map(|peer| format!("{} {}", peer.pin, peer.name)).collect()
            }
            Self::Add { name, pin } => {
                let word = if folder.add(*pin, name)? { "added" } else { "known already" };
                vec![format!("{pin} {name}: {word}")]
            }
            Self::Revoke { who } => {
                let gone = folder.revoke(who)?;
                let line = |peer: &crate::Peer| format!("{} {}: revoked", peer.pin, peer.name);
                gone.iter().map(line).collect()
            }
            Self::Rotate => {
                let (new, old) = folder.rotate()?;
                vec![format!("{new} present"), format!("{old} before, shown until `keys settle`")]
            }
            Self::Settle => vec![format!("{}: removed", folder.settle()?)],
        })
    }
}

impl KeyFolderError {
    /// What the user can do.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "see to its permissions, or name another with --keys",
            Self::Key(error) => error.mend(),
            Self::Peers(_) => "see to the file: a line is PIN NAME, and # begins a comment",
            Self::Unsettled { .. } => {
                "give the present pin to all peers (keys exchange), then `keys settle`"
            }
            Self::Settled => "`keys rotate` begins one",
            Self::NoPeer { .. } => "see who is there: keys list",
        }
    }
}

impl KeyError {
    /// What the user can do.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "make one: keys show",
            Self::Open { .. } => "chmod 600 it; where others may have read it: keys rotate",
            Self::File { .. } => "see to its permissions, or name another folder with --keys",
            Self::NotAKey { .. } => "remove the file and make another: keys show",
            Self::Random => "mount /dev, or use a kernel with getrandom",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_says_a_pin_first() {
        let place = tempfile::tempdir().unwrap();
        let folder = KeyFolder::at(place.path());
        let first =
            |lines: &[String]| lines[0].split(' ').next().unwrap().trim_end_matches(':').to_owned();
        let shown = KeyVerb::Show.perform(&folder).unwrap();
        let own: Pin = first(&shown).parse().unwrap();
        let name: PeerName = "ana@desk".parse().unwrap();
        let add = KeyVerb::Add { name, pin: own };
        assert!(add.perform(&folder).unwrap()[0].ends_with("added"));
        assert!(add.perform(&folder).unwrap()[0].ends_with("known already"));
        assert_eq!(KeyVerb::List.perform(&folder).unwrap(), [format!("{own} ana@desk")]);
        let rotated = KeyVerb::Rotate.perform(&folder).unwrap();
        assert_ne!(first(&rotated), own.to_string());
        assert_eq!(KeyVerb::Show.perform(&folder).unwrap().len(), 2);
        assert_eq!(first(&KeyVerb::Settle.perform(&folder).unwrap()), own.to_string());
        let gone = KeyVerb::Revoke { who: "ana@desk".into() }.perform(&folder).unwrap();
        assert_eq!(first(&gone), own.to_string());
        let error = KeyVerb::Settle.perform(&folder).unwrap_err();
        assert!(!error.mend().is_empty());
    }
}
