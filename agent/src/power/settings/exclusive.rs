//! Exclusive mode: a chip is taken from its kernel driver for a run, and given
//! back as it was.
//!
//! Owns which registers of each family are kept, which of their bits are a
//! setting, and the order of taking and giving back. The driver resets its chip
//! when it takes it again (`ina3221_resume` of Linux), and what nvpmodel set
//! through it would be lost: its attributes are therefore kept beside the
//! registers, and written back through the driver first. No limit is changed
//! while the chip is ours, and reset is never written.
//! Source: Linux Documentation/driver-api/driver-model/binding.rst; register
//! maps: TI SBOS576, SBOS547, SBOS448, SLYS021.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use wattline_protocol::record::{ChipKind, DriverAttribute, DriverSetting, SettingOutcome};

use super::journal::{Entry, JournalError, KeptAttribute, KeptRegister};
use super::restore::{Ending, RestoreError};
use super::sysfs::{DriverFiles, WANTED};
use super::{Desk, Held};
use crate::clock::{Clock, SystemClock};
use crate::power::bus::linux::LinuxBus;
use crate::power::bus::{Address7, BusError, I2cBus};
use crate::power::chip::{
    Chip, ChipError, ChipSetup, Ownership, Profile, read_one, write_register,
};
use crate::power::discover::{DrivenChip, SYSTEM_ROOT, monitor_at, monitors};

/// Permission bit of files that their owner may write.
const OWNER_WRITES: u32 = 0o200;

/// The buses of a tree.
pub trait Buses: Debug + Send + Sync {
    /// Opens the adapter with this number of the tree at `root`.
    ///
    /// # Errors
    /// The kernel's; `Unsupported` for a tree that is not this machine's.
    fn open(&self, root: &Path, bus: u8) -> io::Result<Box<dyn I2cBus>>;
}

/// This machine's buses.
#[derive(Debug, Clone, Copy)]
pub struct LinuxBuses;

impl Buses for LinuxBuses {
    fn open(&self, root: &Path, bus: u8) -> io::Result<Box<dyn I2cBus>> {
        if root == Path::new(SYSTEM_ROOT) {
            Ok(Box::new(LinuxBus::open(bus)?))
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the tree is not this machine's"))
        }
    }
}

/// Why a chip could not be taken. What had been taken is given back.
#[derive(Debug, Error)]
pub enum TakeError {
    /// Its bus cannot be opened.
    #[error("bus {bus} of {place} cannot be opened")]
    Bus {
        /// The chip.
        place: String,
        /// Number of the adapter.
        bus: u8,
        /// The kernel's word.
        source: io::Error,
    },
    /// It does not answer as the part that it is named as.
    #[error("{place} is not taken from its driver")]
    Chip {
        /// The chip.
        place: String,
        /// What it answered.
        source: ChipError,
    },
    /// What was found cannot be made durable.
    #[error("{place} is not taken: what it holds cannot be kept")]
    Journal {
        /// The chip.
        place: String,
        /// Why.
        source: JournalError,
    },
    /// The kernel does not let this process take it.
    #[error("driver {driver} does not let go of {place}")]
    Unbind {
        /// The chip.
        place: String,
        /// Its driver.
        driver: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The driver holds it still.
    #[error("driver {driver} still holds {place}")]
    StillBound {
        /// The chip.
        place: String,
        /// Its driver.
        driver: String,
    },
}

impl TakeError {
    /// True where root may do it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let source = match self {
            Self::Bus { source, .. } | Self::Unbind { source, .. } => source,
            Self::Chip { .. } | Self::Journal { .. } | Self::StillBound { .. } => return false,
        };
        source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// A register that is kept, and its bits that are a setting.
type Kept = (u8, u16);

/// Registers that are kept of a chip. The first holds the conversions; reset
/// bits are no settings, nor are flags.
const fn kept_registers(kind: ChipKind) -> &'static [Kept] {
    const ALL: u16 = 0xffff;
    match kind {
        ChipKind::Ina3221 => &[
            (0x00, 0x7fff),
            (0x07, ALL),
            (0x08, ALL),
            (0x09, ALL),
            (0x0a, ALL),
            (0x0b, ALL),
            (0x0c, ALL),
            (0x0e, ALL),
            (0x0f, 0x7c00),
            (0x10, ALL),
            (0x11, ALL),
        ],
        ChipKind::Ina226 | ChipKind::Ina230 | ChipKind::Ina231 => {
            &[(0x00, 0x7fff), (0x05, ALL), (0x06, 0xfc03), (0x07, ALL)]
        }
        ChipKind::Ina260 => &[(0x00, 0x7fff), (0x06, 0xfc03), (0x07, ALL)],
        // Bit 0 of the calibration is void.
        ChipKind::Ina219 | ChipKind::Ina220 => &[(0x00, 0x7fff), (0x05, 0xfffe)],
        ChipKind::Ina228 => &[
            (0x00, 0x3fff),
            (0x01, ALL),
            (0x02, ALL),
            (0x03, ALL),
            (0x0b, 0xf000),
            (0x0c, ALL),
            (0x0d, ALL),
            (0x0e, ALL),
            (0x0f, ALL),
            (0x10, ALL),
            (0x11, ALL),
        ],
        ChipKind::Ina237 | ChipKind::Ina238 => &[
            (0x00, 0x3fff),
            (0x01, ALL),
            (0x02, ALL),
            (0x0b, 0xf000),
            (0x0c, ALL),
            (0x0d, ALL),
            (0x0e, ALL),
            (0x0f, ALL),
            (0x10, ALL),
            (0x11, ALL),
        ],
        ChipKind::Driver | ChipKind::PowerMeter | ChipKind::EnergyCounter => &[],
    }
}

impl Desk {
    /// Takes the chips at `places` from their drivers. One that no driver holds
    /// is nobody's, and left as it is.
    ///
    /// # Errors
    /// [`TakeError`] for the first that cannot be taken; those before it are
    /// given back.
    pub fn take(&self, places: &[(u8, u8)]) -> Result<Held, TakeError> {
        let mut held = Held::new(self);
        for chip in monitors(&self.sysfs_root) {
            if places.contains(&(chip.bus, chip.address)) {
                held.take(&chip)?;
            }
        }
        Ok(held)
    }
}

/// Whether this process may take the chips at `places` of the tree at `root`;
/// changes nothing.
///
/// # Errors
/// [`TakeError::Unbind`] for the first that it may not.
pub fn may_take(
    files: &dyn DriverFiles,
    root: &Path,
    places: &[(u8, u8)],
) -> Result<(), TakeError> {
    for chip in monitors(root) {
        let Some(driver) = chip.driver.clone() else { continue };
        if places.contains(&(chip.bus, chip.address)) {
            let path = driver_file(root, &driver, "unbind");
            let place = name_of(chip.bus, chip.address);
            let unbind = |source| TakeError::Unbind { place, driver, source };
            files.may_write(&path).map_err(unbind)?;
        }
    }
    Ok(())
}

impl Held {
    fn take(&mut self, chip: &DrivenChip) -> Result<(), TakeError> {
        let Some(driver) = &chip.driver else { return Ok(()) };
        let (desk, place) = (self.desk.clone(), name_of(chip.bus, chip.address));
        let entry = desk.entry_of(chip, driver)?;
        let kept = desk
            .journal
            .keep(entry)
            .map_err(|source| TakeError::Journal { place: place.clone(), source })?;
        self.kept.push(kept);
        let unbind = driver_file(&desk.sysfs_root, driver, "unbind");
        desk.files.write(&unbind, &place).map_err(|source| TakeError::Unbind {
            place: place.clone(),
            driver: driver.clone(),
            source,
        })?;
        let now = monitor_at(&desk.sysfs_root, chip.bus, chip.address);
        if now.is_some_and(|chip| chip.driver.is_some()) {
            return Err(TakeError::StillBound { place, driver: driver.clone() });
        }
        tracing::info!(place, driver, "A chip is taken from its driver for the run.");
        self.settings.push(DriverSetting {
            at: SystemClock.now(),
            bus: chip.bus,
            address: chip.address,
            attribute: DriverAttribute::Binding,
            found: 1,
            stands: 0,
            outcome: SettingOutcome::Set,
        });
        Ok(())
    }
}

impl Desk {
    /// What a chip and its driver hold.
    fn entry_of(&self, chip: &DrivenChip, driver: &str) -> Result<Entry, TakeError> {
        let place = name_of(chip.bus, chip.address);
        let failed = |source| TakeError::Chip { place: place.clone(), source };
        let opened = self.buses.open(&self.sysfs_root, chip.bus);
        let mut bus = opened.map_err(|source| TakeError::Bus {
            place: place.clone(),
            bus: chip.bus,
            source,
        })?;
        let address = address_of(chip.address).map_err(failed)?;
        // Ids alone are read: a stranger is neither written nor taken.
        let (profile, ownership) = (Profile::Fast, Ownership::KernelDriver);
        let setup = ChipSetup { address, profile, ownership };
        if let Some(driver) = Chip::new(chip.kind, setup, &[1, 2, 3]) {
            driver.identify(&mut *bus).map_err(failed)?;
        }
        let mut registers = Vec::new();
        for &(register, _) in kept_registers(chip.kind) {
            let found = read_one(&mut *bus, address, register).map_err(failed)?;
            registers.push(KeptRegister { register, found });
        }
        let at = (chip.bus, chip.address);
        let mut entry =
            Entry::new(self.boot.clone(), self.sysfs_root.clone(), at, driver.to_owned());
        entry.attributes = chip.hwmon.iter().flat_map(|folder| self.attributes(folder)).collect();
        entry.registers = Some(registers);
        Ok(entry)
    }

    /// All numbers of a driver that can be set: averaging and interval first,
    /// then limits, enables and whatever else it has.
    fn attributes(&self, folder: &Path) -> Vec<KeptAttribute> {
        let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&entry.metadata().ok()?.permissions());
            let name = entry.file_name().into_string().ok()?;
            let is_file = entry.file_type().ok()?.is_file();
            (is_file && mode & OWNER_WRITES != 0 && name != "uevent").then_some(name)
        });
        let mut names: Vec<String> = files.collect();
        let rank = |name: &str| WANTED.iter().position(|(one, _)| one.name() == name);
        names.sort_by_key(|name| (rank(name).unwrap_or(WANTED.len()), name.clone()));
        let kept = |name: String| {
            let found = self.files.read(&folder.join(&name)).ok()?;
            let _: i64 = found.parse().ok()?;
            Some(KeptAttribute { name, wanted: found.clone(), found })
        };
        names.into_iter().filter_map(kept).collect()
    }

    /// Gives a chip back to its driver, with what both held.
    pub(super) fn give_back(
        &self,
        entry: &Entry,
        registers: &[KeptRegister],
    ) -> Result<Ending, RestoreError> {
        let root = &entry.sysfs_root;
        let chip = || {
            let place = entry.place();
            monitor_at(root, entry.bus, entry.address)
                .ok_or_else(|| RestoreError::NoChip { place, root: root.clone() })
        };
        if entry.boot != self.boot {
            // The drivers of this boot found their chips by themselves.
            return Ok(Ending::BeganAnew);
        }
        let kind = chip()?.kind;
        if chip()?.driver.is_none() {
            // Before the driver has it, so that it is right whatever comes after;
            // the driver may reset it, and it is looked at once more below.
            let _ = self.registers_back(entry, kind, registers);
            let path = driver_file(root, &entry.driver, "bind");
            self.files.write(&path, &entry.place()).map_err(|source| RestoreError::File {
                path,
                did: "written",
                source,
            })?;
        }
        let bound = chip()?;
        let (Some(_), folder) = (&bound.driver, &bound.hwmon) else {
            let (place, driver) = (entry.place(), entry.driver.clone());
            return Err(RestoreError::NotBound { place, driver });
        };
        if let Some(folder) = folder {
            for attribute in &entry.attributes {
                self.attribute_back(folder, attribute, true)?;
            }
        }
        self.registers_back(entry, kind, registers)?;
        Ok(Ending::Restored)
    }

    /// Writes registers whose settings differ from what was found, and reads
    /// them back.
    fn registers_back(
        &self,
        entry: &Entry,
        kind: ChipKind,
        registers: &[KeptRegister],
    ) -> Result<(), RestoreError> {
        let place = entry.place();
        let opened = self.buses.open(&entry.sysfs_root, entry.bus);
        let mut bus = opened.map_err(|source| RestoreError::File {
            path: PathBuf::from(format!("/dev/i2c-{}", entry.bus)),
            did: "opened",
            source,
        })?;
        let failed = |source| RestoreError::Chip { place: place.clone(), source };
        let address = address_of(entry.address).map_err(failed)?;
        for &KeptRegister { register, found } in registers {
            let of = kept_registers(kind).iter().find(|(kept, _)| *kept == register);
            let Some(&(_, settings)) = of else { continue };
            let stands = read_one(&mut *bus, address, register).map_err(failed)?;
            if (stands ^ found) & settings == 0 {
                continue;
            }
            write_register(&mut *bus, address, register, found & settings).map_err(failed)?;
            let stands = read_one(&mut *bus, address, register).map_err(failed)?;
            if (stands ^ found) & settings != 0 {
                let place = place.clone();
                return Err(RestoreError::Register { place, register, found, stands });
            }
        }
        Ok(())
    }
}

fn address_of(address: u8) -> Result<Address7, ChipError> {
    Address7::new(address).map_err(|source: BusError| ChipError::Bus { register: 0, source })
}

fn driver_file(root: &Path, driver: &str, name: &str) -> PathBuf {
    root.join("bus/i2c/drivers").join(driver).join(name)
}

fn name_of(bus: u8, address: u8) -> String {
    format!("{bus}-{address:04x}")
}

#[cfg(test)]
mod tests;
