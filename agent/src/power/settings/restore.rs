//! Working the journal off: what was found is written back, and read.
//!
//! Owns what an entry is worth now, by what stands and by whether the board
//! has booted since. Removes an entry only after its values were read back.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::{error, info};

use super::journal::{Entry, FOLDER, JournalError, Kept, KeptAttribute};
use super::sysfs::same;
use super::{Desk, errno_of};
use crate::power::bus::BusError;
use crate::power::chip::ChipError;
use crate::power::discover::monitor_at;

/// How an entry came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// What was found was written back and read.
    Restored,
    /// It stood already.
    Stood,
    /// The driver began anew since, with settings of its own.
    BeganAnew,
}

/// Why an entry stays in the journal.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The chip is not in the tree.
    #[error("{place} is not below {}", root.display())]
    NoChip {
        /// The chip.
        place: String,
        /// The tree.
        root: PathBuf,
    },
    /// An attribute cannot be read or written.
    #[error("{} cannot be {did}", path.display())]
    File {
        /// The attribute's file.
        path: PathBuf,
        /// `read`, `written` or `opened`.
        did: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The driver shows another value than the one that was written.
    #[error("{} shows {stands}, wrote {found}", path.display())]
    NotTaken {
        /// The attribute's file.
        path: PathBuf,
        /// The value before the run.
        found: String,
        /// The value that it shows.
        stands: String,
    },
    /// Its driver does not take the chip again.
    #[error("driver {driver} does not take {place} again")]
    NotBound {
        /// The chip.
        place: String,
        /// Its driver.
        driver: String,
    },
    /// The chip does not answer.
    #[error("{place} cannot be read or written")]
    Chip {
        /// The chip.
        place: String,
        /// Why.
        source: ChipError,
    },
    /// A register does not hold what was written.
    #[error("{place}, register {register:#04x}: holds {stands:#06x}, wrote {found:#06x}")]
    Register {
        /// The chip.
        place: String,
        /// Its pointer.
        register: u8,
        /// Its value before the run.
        found: u16,
        /// Its value now.
        stands: u16,
    },
    /// The journal itself cannot be read or changed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl RestoreError {
    /// The kernel's error number; 0 where it said none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::File { source, .. } => errno_of(source),
            Self::Journal(error) => super::errno_of_journal(error),
            Self::Chip { source: ChipError::Bus { source, .. }, .. } => match source {
                BusError::Failed { errno, .. } => *errno,
                _ => 0,
            },
            Self::NoChip { .. }
            | Self::NotTaken { .. }
            | Self::NotBound { .. }
            | Self::Chip { .. }
            | Self::Register { .. } => 0,
        }
    }

    /// True where another user may do it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), libc::EACCES | libc::EPERM | libc::EROFS)
    }
}

/// An entry that was worked off, or could not be.
#[derive(Debug)]
pub struct WorkedOff {
    /// What it says; `None` where it could not be read.
    pub entry: Option<Entry>,
    /// How it ended.
    pub ended: Result<Ending, RestoreError>,
}

impl Desk {
    /// Whether a journal lies in the spool at `folder`; nothing is made there.
    #[must_use]
    pub fn has_journal(folder: &Path) -> bool {
        folder.join(FOLDER).exists()
    }

    /// Works off all entries that are left, whoever left them.
    #[must_use]
    pub fn work_off(&self) -> Vec<WorkedOff> {
        self.work_off_in(None)
    }

    /// The same in another tree than the entries' own, where one is given.
    #[must_use]
    pub fn work_off_in(&self, root: Option<&Path>) -> Vec<WorkedOff> {
        let left = self.journal.left().into_iter();
        left.map(|left| match left {
            Ok(mut kept) => {
                if let Some(root) = root {
                    kept.entry.sysfs_root = root.to_owned();
                }
                let ended = self.restore(&kept);
                WorkedOff { entry: Some(kept.entry), ended }
            }
            Err(error) => WorkedOff { entry: None, ended: Err(error.into()) },
        })
        .collect()
    }

    /// Writes back what an entry found, and removes it.
    pub(super) fn restore(&self, kept: &Kept) -> Result<Ending, RestoreError> {
        let ended = self.write_back(&kept.entry).and_then(|ending| {
            self.journal.remove(kept)?;
            Ok(ending)
        });
        let place = kept.entry.place();
        match &ended {
            Ok(ending) => info!(place, ?ending, "A driver's settings are as they were found."),
            Err(error) => error!(
                place,
                error = error as &dyn std::error::Error,
                "A driver's settings are not restored; the journal keeps them."
            ),
        }
        ended
    }

    fn write_back(&self, entry: &Entry) -> Result<Ending, RestoreError> {
        if let Some(registers) = &entry.registers {
            return self.give_back(entry, registers);
        }
        let same_boot = entry.boot == self.boot;
        let root = &entry.sysfs_root;
        let Some(chip) = monitor_at(root, entry.bus, entry.address) else {
            let absent = RestoreError::NoChip { place: entry.place(), root: root.clone() };
            return if same_boot { Err(absent) } else { Ok(Ending::BeganAnew) };
        };
        // A driver that let go of the chip forgot its settings, and sets it
        // anew when it takes it again.
        let (Some(_), Some(folder)) = (&chip.driver, &chip.hwmon) else {
            return Ok(Ending::BeganAnew);
        };
        let mut ending = Ending::Stood;
        for attribute in &entry.attributes {
            match self.attribute_back(folder, attribute, same_boot)? {
                Ending::Stood => {}
                other => ending = other,
            }
        }
        Ok(ending)
    }

    pub(super) fn attribute_back(
        &self,
        folder: &Path,
        attribute: &KeptAttribute,
        same_boot: bool,
    ) -> Result<Ending, RestoreError> {
        let path = folder.join(&attribute.name);
        let failed = |did| {
            let path = path.clone();
            move |source| RestoreError::File { path, did, source }
        };
        let KeptAttribute { found, wanted, .. } = attribute;
        let stands = match self.files.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !same_boot => {
                return Ok(Ending::BeganAnew);
            }
            stands => stands.map_err(failed("read"))?,
        };
        if same(&stands, found) {
            return Ok(Ending::Stood);
        }
        if !same_boot && !same(&stands, wanted) {
            return Ok(Ending::BeganAnew);
        }
        self.files.write(&path, found).map_err(failed("written"))?;
        let stands = self.files.read(&path).map_err(failed("read"))?;
        if same(&stands, found) {
            Ok(Ending::Restored)
        } else {
            Err(RestoreError::NotTaken { path, found: found.clone(), stands })
        }
    }
}
