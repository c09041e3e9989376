//! Settings of the kernel's drivers: set for a run, and restored after it.
//!
//! Owns the order of keeping, changing, reading back and restoring. Knows no
//! records' identities and no networks; how an entry is made durable is
//! [`journal`]'s, how a file is written [`sysfs`]'s.
//!
//! By default no register of a chip that a driver holds is written: the
//! driver's own attributes are. Each change is kept in the journal before it
//! is made. In exclusive mode the chip is taken from its driver ([`exclusive`]),
//! and the same journal keeps its registers. An entry is worked off by whoever comes first: the end of the run's
//! sampling, `wattline-agent restore` (after the service's end, however it
//! ended), or the agent's next start. After another boot the driver began
//! anew: then only what still stands as it was set is restored.
//! Source: Linux Documentation/hwmon/ina3221.rst; facts, power-hardware §0.

pub mod exclusive;
pub mod journal;
mod restore;
pub mod survey;
pub mod sysfs;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};
use wattline_protocol::record::{ChipKind, DriverAttribute, DriverSetting, SettingOutcome};

use self::exclusive::{Buses, LinuxBuses};
use self::journal::{Entry, Journal, JournalError, Kept, KeptAttribute};
use self::sysfs::{DriverFiles, SysfsFiles, WANTED};
use super::bus::Address7;
use super::chip::{AVERAGES, Chip, ChipSetup, Ownership, Profile};
use super::discover::{Alarms, DrivenChip, monitors};
use crate::clock::{self, Clock, SystemClock};
use crate::spool::Storage;

pub use restore::{Ending, RestoreError, WorkedOff};

/// Averaging of L4T's `ina3221x` in continuous mode: CONFIG 0x7727
/// (`INA3221_CONT_CONFIG_DATA`).
const L4T_AVERAGING: i64 = 64;

/// Where settings are kept, and through which tree they are changed.
#[derive(Debug, Clone)]
pub struct Desk {
    journal: Journal,
    files: Arc<dyn DriverFiles>,
    buses: Arc<dyn Buses>,
    sysfs_root: PathBuf,
    boot: String,
    exclusive: Option<Profile>,
    /// Drivers' settings are left as they are found.
    keeps: bool,
}

impl Desk {
    /// The desk of the agent whose spool is behind `storage`, over the tree at
    /// `sysfs_root`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, sysfs_root: &Path) -> Self {
        Self {
            journal: Journal::new(storage),
            files: Arc::new(SysfsFiles),
            buses: Arc::new(LinuxBuses),
            sysfs_root: sysfs_root.to_owned(),
            boot: clock::boot_id(),
            exclusive: None,
            keeps: false,
        }
    }

    /// The same, where drivers' settings are left as they are found.
    #[must_use]
    pub fn keeping_settings(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// The same, where chips are taken from their drivers for a run and driven
    /// with `profile`.
    #[must_use]
    pub fn in_exclusive_mode(self, profile: Profile) -> Self {
        Self { exclusive: Some(profile), ..self }
    }

    /// Over-current alarms and counters of the same tree.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        Alarms::find(&self.sysfs_root)
    }

    /// The folder that stands for `/sys`.
    #[must_use]
    pub fn sysfs_root(&self) -> &Path {
        &self.sysfs_root
    }

    /// The profile of exclusive mode; `None` by default.
    #[must_use]
    pub const fn exclusive(&self) -> Option<Profile> {
        self.exclusive
    }

    /// Sets the drivers of the chips at `places` (adapter and address) for a
    /// run. What a driver does not take is no error: the run goes on with what
    /// stands, and the settings say so.
    #[must_use]
    pub fn hold(&self, places: &[(u8, u8)]) -> Held {
        let mut held = Held::new(self);
        for chip in monitors(&self.sysfs_root) {
            if places.contains(&(chip.bus, chip.address)) {
                held.set(&chip);
            }
        }
        held
    }
}

/// Drivers that are set for a run; dropping it restores them.
#[derive(Debug)]
pub struct Held {
    desk: Desk,
    kept: Vec<Kept>,
    /// What was found and what stands.
    settings: Vec<DriverSetting>,
}

/// An attribute that is about to be set.
struct Change {
    attribute: DriverAttribute,
    path: PathBuf,
    found: i64,
    values: &'static [i64],
}

impl Held {
    fn new(desk: &Desk) -> Self {
        Self { desk: desk.clone(), kept: Vec::new(), settings: Vec::new() }
    }

    /// Adapter and address of the chips that were taken from their drivers.
    #[must_use]
    pub fn taken(&self) -> Vec<(u8, u8)> {
        let taken = self.settings.iter().filter(|setting| {
            setting.attribute == DriverAttribute::Binding && setting.outcome == SettingOutcome::Set
        });
        taken.map(|setting| (setting.bus, setting.address)).collect()
    }

    /// What was found and what stands, for the run's records.
    #[must_use]
    pub fn settings(&self) -> &[DriverSetting] {
        &self.settings
    }

    /// The interval that the driver of a chip shows now, in ms.
    #[must_use]
    pub fn interval_ms(&self, (bus, address): (u8, u8)) -> Option<i64> {
        let last = self.settings.iter().rfind(|setting| {
            (setting.bus, setting.address) == (bus, address)
                && setting.attribute == DriverAttribute::UpdateInterval
        });
        last.map(|setting| setting.stands)
    }

    /// Restores what was found; returns what became of each setting.
    #[must_use]
    pub fn restore(mut self) -> Vec<DriverSetting> {
        self.restore_all()
    }

    fn restore_all(&mut self) -> Vec<DriverSetting> {
        // The last one that was set is the first to go.
        let mut kept = std::mem::take(&mut self.kept);
        kept.reverse();
        let ended: Vec<(Kept, Result<Ending, RestoreError>)> =
            kept.into_iter().map(|kept| (kept.clone(), self.desk.restore(&kept))).collect();
        let outcome_of = |setting: &DriverSetting| {
            let place = (setting.bus, setting.address);
            let of = ended.iter().find(|(kept, _)| (kept.entry.bus, kept.entry.address) == place);
            of.map(|(_, ended)| match ended {
                Ok(_) => SettingOutcome::Restored,
                Err(error) => SettingOutcome::NotRestored { errno: error.errno() },
            })
        };
        let at = SystemClock.now();
        let set = self.settings.iter().filter(|setting| setting.outcome == SettingOutcome::Set);
        set.filter_map(|setting| {
            let outcome = outcome_of(setting)?;
            let stands = match outcome {
                SettingOutcome::Restored => setting.found,
                _ => setting.stands,
            };
            Some(DriverSetting { at, stands, outcome, ..*setting })
        })
        .collect()
    }

    fn set(&mut self, chip: &DrivenChip) {
        let (Some(driver), Some(folder)) = (&chip.driver, &chip.hwmon) else {
            return self.say_fixed(chip);
        };
        let (allowed, closed) = self.desk.changes(folder);
        if self.desk.keeps {
            let all = allowed.iter().chain(closed.iter().map(|(change, _)| change));
            return all
                .for_each(|change| self.say(chip, change, change.found, SettingOutcome::Kept));
        }
        for (change, errno) in closed {
            let outcome = match errno {
                libc::EACCES | libc::EPERM | libc::EROFS => SettingOutcome::NotPermitted,
                errno => SettingOutcome::Refused { errno },
            };
            self.say(chip, &change, change.found, outcome);
        }
        if allowed.is_empty() {
            return;
        }
        let place = (chip.bus, chip.address);
        let desk = &self.desk;
        let mut entry =
            Entry::new(desk.boot.clone(), desk.sysfs_root.clone(), place, driver.clone());
        entry.attributes = allowed.iter().map(Change::kept).collect();
        let kept = match desk.journal.keep(entry) {
            Ok(kept) => kept,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "Settings cannot be kept; nothing is changed."
                );
                let outcome = SettingOutcome::NotKept { errno: errno_of_journal(&error) };
                for change in &allowed {
                    self.say(chip, change, change.found, outcome);
                }
                return;
            }
        };
        // Held before the first change: a panic's abort leaves the journal.
        self.kept.push(kept);
        for change in &allowed {
            let (stands, outcome) = self.desk.try_values(change);
            self.say(chip, change, stands, outcome);
        }
    }

    /// JetPack 4's `ina3221x` shows no averaging and has one: as the chip says,
    /// or where it is not asked, as the driver sets it for continuous mode.
    fn say_fixed(&mut self, chip: &DrivenChip) {
        if chip.driver.is_none() || chip.kind != ChipKind::Ina3221 {
            return;
        }
        let found = self.desk.averaging_of(chip).unwrap_or(L4T_AVERAGING);
        let (attribute, outcome) = (DriverAttribute::Samples, SettingOutcome::Fixed);
        let (at, bus, address) = (SystemClock.now(), chip.bus, chip.address);
        let stands = found;
        self.settings.push(DriverSetting { at, bus, address, attribute, found, stands, outcome });
    }

    fn say(&mut self, chip: &DrivenChip, change: &Change, stands: i64, outcome: SettingOutcome) {
        let (bus, address, attribute, found) =
            (chip.bus, chip.address, change.attribute, change.found);
        info!(
            bus,
            address,
            attribute = attribute.name(),
            found,
            stands,
            ?outcome,
            "A driver's setting."
        );
        let at = SystemClock.now();
        self.settings.push(DriverSetting { at, bus, address, attribute, found, stands, outcome });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.restore_all();
    }
}

impl Change {
    fn kept(&self) -> KeptAttribute {
        let wanted = self.values.first().copied().unwrap_or(self.found);
        KeptAttribute {
            name: self.attribute.name().to_owned(),
            found: self.found.to_string(),
            wanted: wanted.to_string(),
        }
    }
}

impl Desk {
    /// Averaging that an INA3221's configuration holds; nothing is written.
    fn averaging_of(&self, chip: &DrivenChip) -> Option<i64> {
        let mut bus = self.buses.open(&self.sysfs_root, chip.bus).ok()?;
        let address = Address7::new(chip.address).ok()?;
        let ownership = Ownership::KernelDriver;
        let setup = ChipSetup { address, profile: Profile::Fast, ownership };
        let chip = Chip::new(chip.kind, setup, &[1])?;
        chip.identify(&mut *bus).ok()?;
        let config = chip.read_config(&mut *bus).ok()?;
        AVERAGES.get(usize::from(config >> 9 & 7)).copied().map(i64::from)
    }

    /// Attributes in a driver's folder that differ from what is wanted and may
    /// be written, and those that may not with the kernel's error.
    fn changes(&self, folder: &Path) -> (Vec<Change>, Vec<(Change, i32)>) {
        let (mut allowed, mut closed) = (Vec::new(), Vec::new());
        for (attribute, values) in WANTED {
            let path = folder.join(attribute.name());
            let found = self.files.read(&path).ok().and_then(|text| text.parse::<i64>().ok());
            let Some(found) = found.filter(|found| values.first() != Some(found)) else { continue };
            let change = Change { attribute, path, found, values };
            match self.files.may_write(&change.path) {
                Ok(()) => allowed.push(change),
                Err(error) => closed.push((change, errno_of(&error))),
            }
        }
        (allowed, closed)
    }

    /// Writes the first value that the driver takes; what it shows then.
    fn try_values(&self, change: &Change) -> (i64, SettingOutcome) {
        let mut errno = 0;
        for value in change.values {
            match self.files.write(&change.path, &value.to_string()) {
                Ok(()) => {
                    let shown = self.files.read(&change.path).ok();
                    let stands = shown.and_then(|text| text.parse().ok()).unwrap_or(*value);
                    return (stands, SettingOutcome::Set);
                }
                Err(error) => errno = errno_of(&error),
            }
        }
        (change.found, SettingOutcome::Refused { errno })
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn errno_of_journal(error: &JournalError) -> i32 {
    match error {
        JournalError::Storage(error) => errno_of(&error.source),
        JournalError::Newer { .. } | JournalError::NotText(_) | JournalError::TooMany { .. } => 0,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
