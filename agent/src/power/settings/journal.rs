//! The journal: what was found before anything was changed, kept until it is
//! restored.
//!
//! Owns a folder beside the records, one file an entry, and when an entry may
//! be relied on. Knows neither sysfs nor chips.
//!
//! An entry is one line of JSON and its CRC32C in hexadecimal. It is durable,
//! with its name, before the first change that it covers; it is removed only
//! after the restore was read back. A file that a power cut tore is therefore
//! one before whose change the power failed: nothing is owed by it. An entry
//! that comes back after its removal is restored once more, to what stands.
//! A change of an entry would need a rename to be whole; entries are never
//! changed, so that the spool's storage (which has no rename) serves.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::spool::{Operation, Storage, StorageError};

/// The folder below the spool's root.
pub(super) const FOLDER: &str = "settings";
/// Version of an entry's form.
const VERSION: u32 = 1;
/// Longest entry that is read: a chip has below 20 registers and attributes.
const ENTRY_BYTES_MAX: usize = 16 * 1024;
/// Entries of one chip that can be there at once: after a few power cuts.
const ENTRIES_A_CHIP_MAX: u32 = 1_000;

/// One attribute of a driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAttribute {
    /// Its file's name: `update_interval`.
    pub name: String,
    /// Its text before the change.
    pub found: String,
    /// The text that is written for the run; the same as `found` where it is
    /// kept for the driver's own doing.
    pub wanted: String,
}

/// One register of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRegister {
    /// Its pointer.
    pub register: u8,
    /// Its value before the change, two bytes.
    pub found: u16,
}

/// What was found of one chip and its driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this form.
    pub version: u32,
    /// The kernel's boot id when it was found.
    pub boot: String,
    /// Folder that stood for `/sys`.
    pub sysfs_root: PathBuf,
    /// Number of the adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: u8,
    /// The driver that held the chip.
    pub driver: String,
    /// Its attributes, in the order in which they are written back.
    pub attributes: Vec<KeptAttribute>,
    /// The chip's registers; present where the driver is let go of the chip.
    pub registers: Option<Vec<KeptRegister>>,
}

impl Entry {
    /// An entry without anything kept yet.
    #[must_use]
    pub fn new(boot: String, sysfs_root: PathBuf, place: (u8, u8), driver: String) -> Self {
        let (bus, address) = place;
        let (attributes, registers) = (Vec::new(), None);
        Self { version: VERSION, boot, sysfs_root, bus, address, driver, attributes, registers }
    }

    /// The chip as sysfs names it: `1-0040`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}-{:04x}", self.bus, self.address)
    }
}

/// An entry that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    name: String,
    /// What it says.
    pub entry: Entry,
}

/// Why an entry could not be read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A newer agent wrote it.
    #[error("journal {name}: version {version}, this agent reads up to {VERSION}")]
    Newer {
        /// Its file.
        name: String,
        /// Its version.
        version: u32,
    },
    /// It cannot be said as text: the tree's folder is no UTF-8.
    #[error("journal: an entry cannot be written as text")]
    NotText(#[source] serde_json::Error),
    /// A chip has more entries than power cuts can leave.
    #[error("journal {FOLDER}/{place}: {ENTRIES_A_CHIP_MAX} entries are left")]
    TooMany {
        /// The chip.
        place: String,
    },
}

/// What an entry's file holds.
enum Read {
    Whole(Kept),
    /// The power failed while it was written: nothing was changed after it.
    Torn,
}

/// The journal of one spool.
#[derive(Debug, Clone)]
pub struct Journal {
    storage: Arc<dyn Storage>,
}

impl Journal {
    /// The journal in the spool behind `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Makes an entry durable; only then may anything be changed.
    ///
    /// # Errors
    /// [`JournalError`]: then nothing of it is relied on.
    pub fn keep(&self, entry: Entry) -> Result<Kept, JournalError> {
        let failed = |operation, name: &str| {
            let name = name.to_owned();
            move |source| StorageError { operation, name, source }
        };
        self.storage.create_folder(FOLDER).map_err(failed(Operation::Create, FOLDER))?;
        self.storage.sync_folder("").map_err(failed(Operation::Sync, FOLDER))?;
        let (place, line) = (entry.place(), line(&entry)?);
        for ordinal in 0..ENTRIES_A_CHIP_MAX {
            let name = format!("{FOLDER}/{place}.{ordinal}");
            let mut file = match self.storage.create(&name) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(failed(Operation::Create, &name))?,
            };
            let written = file
                .append(line.as_bytes())
                .map_err(failed(Operation::Append, &name))
                .and_then(|()| file.sync().map_err(failed(Operation::Sync, &name)))
                .and_then(|()| {
                    self.storage.sync_folder(FOLDER).map_err(failed(Operation::Sync, FOLDER))
                });
            if let Err(error) = written {
                // What is left of it is torn, or restores what stands.
                let _ = self.storage.remove(&name);
                return Err(error.into());
            }
            return Ok(Kept { name, entry });
        }
        Err(JournalError::TooMany { place })
    }

    /// Removes an entry whose restore was read back.
    ///
    /// # Errors
    /// [`JournalError::Storage`]: it is restored once more at the next start.
    pub fn remove(&self, kept: &Kept) -> Result<(), JournalError> {
        self.remove_name(&kept.name)
    }

    fn remove_name(&self, name: &str) -> Result<(), JournalError> {
        let name = name.to_owned();
        let failed = |operation| {
            let name = name.clone();
            move |source| StorageError { operation, name, source }
        };
        self.storage.remove(&name).map_err(failed(Operation::Remove))?;
        self.storage.sync_folder(FOLDER).map_err(failed(Operation::Sync))?;
        Ok(())
    }

    /// Entries that are left, the newest of each chip first: the oldest, which
    /// knows what stood before all of them, is restored last. Torn ones are
    /// removed.
    ///
    /// # Errors
    /// [`JournalError`] for each that cannot be read, in its place.
    pub fn left(&self) -> Vec<Result<Kept, JournalError>> {
        let mut names = match self.storage.list(FOLDER) {
            Ok(names) => names,
            Err(source) => {
                let (operation, name) = (Operation::Read, FOLDER.to_owned());
                return vec![Err(StorageError { operation, name, source }.into())];
            }
        };
        names.sort_by_key(|name| {
            let (place, ordinal) = name.rsplit_once('.').unwrap_or((name, ""));
            let newest_first = std::cmp::Reverse(ordinal.parse::<u32>().unwrap_or(0));
            (place.to_owned(), newest_first)
        });
        let read = names.into_iter().map(|name| self.read(&format!("{FOLDER}/{name}")));
        read.filter_map(|read| match read {
            Ok(Read::Whole(kept)) => Some(Ok(kept)),
            Ok(Read::Torn) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
    }

    fn read(&self, name: &str) -> Result<Read, JournalError> {
        let mut bytes = vec![0; ENTRY_BYTES_MAX];
        let got = self.storage.read_at(name, 0, &mut bytes).map_err(|source| StorageError {
            operation: Operation::Read,
            name: name.to_owned(),
            source,
        })?;
        let text = bytes.get(..got).and_then(|bytes| std::str::from_utf8(bytes).ok());
        match text.and_then(checked) {
            Some(json) => match serde_json::from_str::<Entry>(json) {
                Ok(entry) if entry.version == VERSION => {
                    Ok(Read::Whole(Kept { name: name.to_owned(), entry }))
                }
                Ok(Entry { version, .. }) => {
                    Err(JournalError::Newer { name: name.to_owned(), version })
                }
                // Whole by its sum and of another form: no agent of this version wrote it.
                Err(_) => Err(JournalError::Newer { name: name.to_owned(), version: VERSION + 1 }),
            },
            None => {
                tracing::warn!(
                    name,
                    "An entry of the settings' journal is torn; nothing had been changed after it."
                );
                // Found again at the next start where it cannot be removed now.
                let _ = self.remove_name(name);
                Ok(Read::Torn)
            }
        }
    }
}

fn line(entry: &Entry) -> Result<String, JournalError> {
    let json = serde_json::to_string(entry).map_err(JournalError::NotText)?;
    Ok(format!("{json} {:08x}\n", crc32c::crc32c(json.as_bytes())))
}

fn checked(line: &str) -> Option<&str> {
    let (json, sum) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32c::crc32c(json.as_bytes())).then_some(json)
}
