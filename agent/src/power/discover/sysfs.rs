//! The search of sysfs: chips that kernel drivers hold, and chips that the
//! user names.
//!
//! Owns the layout of three drivers' trees: `ina3221` and `ina2xx` (hwmon,
//! mainline) and `ina3221x` (IIO, JetPack 4). All paths are relative to a root
//! that stands for `/sys`; links inside it are followed as they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wattline_protocol::record::{ChipKind, RailRole, RailSource, SkipReason};

use super::{
    ChannelRail, ChipRails, DetectedRail, Found, LookedFor, SHUNT_TOLERANCE_ASSUMED, role_of,
};
use crate::clock::{Clock, SystemClock};
use crate::power::bus::linux::declared_clock_hz;
use crate::power::bus::{Address7, BusError};
use crate::power::chip::{Chip, Ina226, Ina3221, Ownership, Profile, REGISTER_BITS, bits_ns};
use crate::power::pace::BusShare;

/// ENODATA of Linux: what a disabled channel answers.
const ENODATA: i32 = 61;
/// What a device tree calls a channel that leads nowhere.
const NOT_CONNECTED: &str = "NC";
/// Reads of a value over which a driver's rate is measured.
const RATE_READS: u32 = 10;

/// A chip that the user names, because no driver holds it or tells its shunts.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenChip {
    /// Which.
    pub kind: ChipKind,
    /// Number of the adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: u8,
    /// Its rails.
    pub rails: Vec<GivenRail>,
}

/// A rail that the user names.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenRail {
    /// Channel, from 1.
    pub channel: u8,
    /// Label.
    pub name: String,
    /// Total or part.
    pub role: RailRole,
    /// Shunt, in ohms.
    pub shunt_ohm: f64,
    /// Its tolerance, as a fraction.
    pub shunt_tolerance: f64,
}

/// Searches the tree at `root` (`/sys`, or a copy of it).
#[must_use]
pub fn find(root: &Path) -> Found {
    let mut found = Found::default();
    let drivers = root.join("bus/i2c/drivers");
    let places: [(&'static str, &str); 3] = [
        ("an INA3221 of the kernel's hwmon driver", "ina3221"),
        ("an INA219, INA226 or the like of the kernel's hwmon driver", "ina2xx"),
        ("an INA3221 of JetPack 4's IIO driver", "ina3221x"),
    ];
    for (what, driver) in places {
        let path = drivers.join(driver);
        let chips = chips_of(&path);
        for place in &chips {
            match driver {
                "ina3221" => three_channels(root, place, &mut found),
                "ina2xx" => one_channel(root, place, &mut found),
                _ => jetpack_4(place, &mut found),
            }
        }
        found.looked_for.push(LookedFor { what, path, found: chips.len() });
    }
    found
}

/// The chip that the user named, with what the tree at `root` says about its
/// bus and about a kernel driver that holds it.
///
/// # Errors
/// [`BusError::ReservedAddress`] for an address that I²C reserves.
pub fn given(root: &Path, chip: &GivenChip) -> Result<ChipRails, BusError> {
    let address = Address7::new(chip.address)?;
    let name = format!("{}-{:04x}", chip.bus, chip.address);
    let path = root.join("bus/i2c/devices").join(name);
    let ownership =
        if path.join("driver").exists() { Ownership::KernelDriver } else { Ownership::Ours };
    let mut rails: Vec<ChannelRail> = chip
        .rails
        .iter()
        .map(|rail| ChannelRail {
            channel: rail.channel,
            name: rail.name.clone(),
            role: rail.role,
            shunt_ohm: rail.shunt_ohm,
            shunt_tolerance: rail.shunt_tolerance,
        })
        .collect();
    rails.sort_by_key(|rail| rail.channel);
    let place = Place { bus: chip.bus, address, path };
    Ok(place.chip_rails(root, chip.kind, ownership, rails))
}

/// Where a chip is: `1-0040`.
struct Place {
    bus: u8,
    address: Address7,
    path: PathBuf,
}

impl Place {
    fn new(path: PathBuf) -> Option<Self> {
        let (bus, address) = path.file_name()?.to_str()?.split_once('-')?;
        let address = u8::try_from(u16::from_str_radix(address, 16).ok()?).ok()?;
        Some(Self { bus: bus.parse().ok()?, address: Address7::new(address).ok()?, path })
    }

    fn chip_rails(
        &self,
        root: &Path,
        kind: ChipKind,
        ownership: Ownership,
        rails: Vec<ChannelRail>,
    ) -> ChipRails {
        let channels: Vec<u8> = rails.iter().map(|rail| rail.channel).collect();
        let profile = Profile::Fast;
        let chip = match kind {
            ChipKind::Ina3221 => Chip::Ina3221(
                Ina3221::with_channels(self.address, profile, ownership, &channels)
                    .unwrap_or(Ina3221::all_channels(self.address, profile, ownership)),
            ),
            ChipKind::Ina226 => Chip::Ina226(Ina226::new(self.address, profile, ownership)),
        };
        ChipRails {
            chip,
            bus: self.bus,
            bus_clock_hz: declared_clock_hz(root, self.bus),
            share: self.share(root),
            rails,
        }
    }

    /// Half the bus where any driver but this chip's is bound on the adapter.
    fn share(&self, root: &Path) -> BusShare {
        let prefix = format!("{}-", self.bus);
        let others = entries(&root.join("bus/i2c/devices")).into_iter().any(|path| {
            let on_bus = name_of(&path).starts_with(&prefix);
            on_bus && name_of(&path) != name_of(&self.path) && path.join("driver").exists()
        });
        if others { BusShare::Half } else { BusShare::Whole }
    }

    /// What the driver's interval allows, and the bus for `registers` a sweep.
    fn limit_hz(&self, root: &Path, hwmon: &Path, registers: u32) -> Option<f64> {
        let interval_ms = number(&hwmon.join("update_interval")).filter(|&ms| ms > 0.0);
        let by_driver = interval_ms.map(|ms| 1e3 / ms);
        let by_bus = declared_clock_hz(root, self.bus)
            .map(|clock_hz| 1e9 / f64::from(bits_ns(REGISTER_BITS * registers + 1, clock_hz)));
        match (by_driver, by_bus) {
            (Some(driver), Some(bus)) => Some(driver.min(bus)),
            (one, other) => one.or(other),
        }
    }

    fn rail(
        &self,
        chip: &str,
        source: RailSource,
        channel: u8,
        label: Option<String>,
    ) -> DetectedRail {
        let unnamed = || format!("{chip} {} channel {channel}", name_of(&self.path));
        let name = label.unwrap_or_else(unnamed);
        let role = role_of(&name);
        DetectedRail {
            name,
            source,
            chip: chip.to_owned(),
            bus: Some(self.bus),
            address: Some(self.address.get()),
            channel,
            shunt_ohm: None,
            role,
            rate_hz: None,
            limit_hz: None,
            skipped: None,
        }
    }
}

/// A channel's files below `hwmonN`.
struct Files {
    label: PathBuf,
    voltage: PathBuf,
    current: PathBuf,
    shunt: PathBuf,
}

fn three_channels(root: &Path, place: &Place, found: &mut Found) {
    let Some(hwmon) = hwmon_of(&place.path) else {
        return;
    };
    let limit_hz = place.limit_hz(root, &hwmon, 6);
    let mut usable = Vec::new();
    for channel in 1..=3 {
        let files = Files {
            label: hwmon.join(format!("in{channel}_label")),
            voltage: hwmon.join(format!("in{channel}_input")),
            current: hwmon.join(format!("curr{channel}_input")),
            shunt: hwmon.join(format!("shunt{channel}_resistor")),
        };
        if !files.label.exists() && !files.voltage.exists() {
            continue;
        }
        let mut rail = place.rail("ina3221", RailSource::Hwmon, channel, text(&files.label));
        rail.limit_hz = limit_hz;
        read_channel(&files, &mut rail);
        usable.extend(channel_rail(&rail));
        found.rails.push(rail);
    }
    // The driver's seventh voltage is the sum over the shunts.
    if let Some(label) = text(&hwmon.join("in7_label")) {
        let mut sum = place.rail("ina3221", RailSource::Hwmon, 0, Some(label));
        sum.skipped = Some(SkipReason::Derived);
        found.rails.push(sum);
    }
    if !usable.is_empty() {
        let ownership = Ownership::KernelDriver;
        found.chips.push(place.chip_rails(root, ChipKind::Ina3221, ownership, usable));
    }
}

fn one_channel(root: &Path, place: &Place, found: &mut Found) {
    let Some(hwmon) = hwmon_of(&place.path) else {
        return;
    };
    let chip = text(&place.path.join("name")).or_else(|| text(&hwmon.join("name")));
    let chip = chip.unwrap_or_else(|| "ina2xx".to_owned());
    let files = Files {
        label: hwmon.join("in1_label"),
        voltage: hwmon.join("in1_input"),
        current: hwmon.join("curr1_input"),
        shunt: hwmon.join("shunt_resistor"),
    };
    let label = text(&files.label)
        .or_else(|| text(&hwmon.join("label")))
        .or_else(|| text(&place.path.join("of_node/label")));
    let mut rail = place.rail(&chip, RailSource::Hwmon, 1, label);
    rail.limit_hz = place.limit_hz(root, &hwmon, 2);
    read_channel(&files, &mut rail);
    if chip == ChipKind::Ina226.name()
        && let Some(usable) = channel_rail(&rail)
    {
        let ownership = Ownership::KernelDriver;
        found.chips.push(place.chip_rails(root, ChipKind::Ina226, ownership, vec![usable]));
    }
    found.rails.push(rail);
}

/// JetPack 4 tells labels and values, and no shunt: listed, not sampled by
/// registers.
fn jetpack_4(place: &Place, found: &mut Found) {
    let within = entries(&place.path).into_iter();
    let Some(iio) = within.into_iter().find(|path| name_of(path).starts_with("iio")) else {
        return;
    };
    for index in 0..3 {
        let Some(label) = text(&iio.join(format!("rail_name_{index}"))) else {
            continue;
        };
        let mut rail = place.rail("ina3221", RailSource::Iio, index + 1, Some(label));
        rail.skipped = Some(if rail.name == NOT_CONNECTED {
            SkipReason::NotConnected
        } else {
            SkipReason::NoShunt
        });
        found.rails.push(rail);
    }
}

/// Fills in the shunt, the rate at which the driver answers, and a reason to
/// skip the channel.
fn read_channel(files: &Files, rail: &mut DetectedRail) {
    rail.shunt_ohm = number(&files.shunt).filter(|&micro| micro > 0.0).map(|micro| micro * 1e-6);
    if rail.name == NOT_CONNECTED {
        rail.skipped = Some(SkipReason::NotConnected);
        return;
    }
    match fs::read_to_string(&files.voltage).and_then(|_| fs::read_to_string(&files.current)) {
        Ok(_) => rail.rate_hz = Some(driver_rate_hz(files)),
        Err(error) => rail.skipped = Some(skip_reason(&error)),
    }
    if rail.skipped.is_none() && rail.shunt_ohm.is_none() {
        rail.skipped = Some(SkipReason::NoShunt);
    }
}

/// Pairs of voltage and current that the driver gives a second.
fn driver_rate_hz(files: &Files) -> f64 {
    let begun = SystemClock.now();
    for _ in 0..RATE_READS {
        // Readable a moment ago; a failure now costs as much time.
        let _ = fs::read(&files.voltage);
        let _ = fs::read(&files.current);
    }
    let taken = (SystemClock.now() - begun).as_seconds().0;
    f64::from(RATE_READS) / taken.max(f64::MIN_POSITIVE)
}

fn skip_reason(error: &io::Error) -> SkipReason {
    if error.raw_os_error() == Some(ENODATA) {
        SkipReason::NotConnected
    } else {
        SkipReason::Unreadable
    }
}

fn channel_rail(rail: &DetectedRail) -> Option<ChannelRail> {
    let shunt_ohm = rail.shunt_ohm.filter(|_| rail.skipped.is_none())?;
    Some(ChannelRail {
        channel: rail.channel,
        name: rail.name.clone(),
        role: rail.role,
        shunt_ohm,
        shunt_tolerance: SHUNT_TOLERANCE_ASSUMED,
    })
}

fn chips_of(driver: &Path) -> Vec<Place> {
    entries(driver).into_iter().filter_map(Place::new).collect()
}

fn hwmon_of(chip: &Path) -> Option<PathBuf> {
    entries(&chip.join("hwmon")).into_iter().find(|path| name_of(path).starts_with("hwmon"))
}

/// Entries of a folder in the order of their names; none where it is absent.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// The text of an attribute without its line end (a device tree ends in NUL).
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests;
