//! The search of sysfs: what kernel drivers show, chips that none holds, and
//! chips that the user names.
//!
//! Owns the order of the search and the account of where was looked; each
//! tree's layout is a file of its own. All paths are relative to a root that
//! stands for `/sys`; links inside it are followed as they are.

use std::path::Path;

use wattline_protocol::record::{ChipKind, RailRole, RailSource, SkipReason};

use super::hwmon::{self, ChannelNode};
use super::place::{Place, below, clients};
use super::search::{Draft, Search};
use super::{ChannelRail, ChipRails, Found, LookedFor, gpu, iio, pmic, powercap};
use crate::clock::SystemClock;
use crate::power::bus::{Address7, BusError};
use crate::power::chip::Ownership;
use crate::power::gpu::Gpus;
use crate::power::pmic::Pmic;

/// Where the kernel shows what it knows.
pub const SYSTEM_ROOT: &str = "/sys";

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
    find_with(root, |_| Vec::new())
}

/// Searches this machine: `/sys`, the GPUs' driver and a Raspberry Pi's firmware.
#[must_use]
pub fn find_here() -> Found {
    find_with(Path::new(SYSTEM_ROOT), |search| {
        let gpus = gpu::find(search, Gpus::open(), &SystemClock);
        vec![gpus, pmic::find(search, Pmic::open())]
    })
}

/// Searches the tree at `root`, and then what `others` searches.
fn find_with(root: &Path, others: impl FnOnce(&mut Search<'_>) -> Vec<LookedFor>) -> Found {
    let mut search = Search { root, clients: clients(root), drafts: Vec::new() };
    let mut looked_for = Vec::new();
    let mut look = |what, path: &str, found| {
        looked_for.push(LookedFor { what, path: root.join(path), found });
    };
    look("a power monitor of a kernel driver", "class/hwmon", hwmon::find(&mut search));
    look("an INA monitor of an IIO driver", "bus/iio/devices", iio::find(&mut search));
    look("an INA monitor on I²C", "bus/i2c/devices", remaining_clients(&mut search));
    look("RAPL counters of the processor", "class/powercap", powercap::find(&mut search));
    looked_for.extend(others(&mut search));
    Found { looked_for, ..search.finish() }
}

/// Chips that neither tree shows: without a driver they are ours to drive,
/// with one that gives no files they cannot be read.
fn remaining_clients(search: &mut Search<'_>) -> usize {
    let clients: Vec<Place> = search.clients.values().cloned().collect();
    let mut found = 0;
    for place in clients.into_iter().filter(|place| !search.has(place)).collect::<Vec<_>>() {
        let kinds = place.names().find_map(|name| ChipKind::chip_named(name.trim_end_matches('x')));
        let Some(kind) = kinds else { continue };
        // Listed by the bridge that reads its IIO device.
        if hwmon::bridges(search.root, kind.name()) > 0 && !below(&place, "iio").is_empty() {
            continue;
        }
        found += 1;
        let channels = if kind == ChipKind::Ina3221 { 1..=3 } else { 1..=1 };
        for channel in channels {
            let node = ChannelNode::of(&place, channel);
            let unnamed = || format!("{} {} channel {channel}", kind.name(), place.name());
            let name = node.label.clone().unwrap_or_else(unnamed);
            let source = if place.driver.is_some() { RailSource::Hwmon } else { RailSource::I2c };
            let mut draft = Draft::new(source, kind.name(), channel, name, Some(place.clone()));
            draft.shunt_ohm = node.shunt_ohm.or_else(|| hwmon::shunt_in_node(&place, kind));
            let registers = if kind == ChipKind::Ina3221 { 7 } else { 3 };
            draft.limit_hz = place.limit_hz(search.root, registers);
            draft.skipped = match (node.is_disabled || draft.is_not_connected(), &place.driver) {
                (true, _) => Some(SkipReason::NotConnected),
                (false, Some(_)) => Some(SkipReason::Unreadable),
                (false, None) if draft.shunt_ohm.is_none() => Some(SkipReason::NoShunt),
                (false, None) => None,
            };
            search.add(draft);
        }
    }
    found
}

/// The chip that the user named, with what the tree at `root` says about its
/// bus and about a kernel driver that holds it; `None` for a kind that no
/// driver of ours knows.
///
/// # Errors
/// [`BusError::ReservedAddress`] for an address that I²C reserves.
pub fn given(root: &Path, chip: &GivenChip) -> Result<Option<ChipRails>, BusError> {
    let address = Address7::new(chip.address)?;
    let known = clients(root).remove(&(chip.bus, chip.address));
    let place = known.unwrap_or_else(|| {
        let path = root.join(format!("bus/i2c/devices/{}-{:04x}", chip.bus, chip.address));
        Place { bus: chip.bus, address, path, driver: None }
    });
    let ownership = if place.driver.is_some() { Ownership::KernelDriver } else { Ownership::Ours };
    let rail = |rail: &GivenRail| ChannelRail {
        channel: rail.channel,
        name: rail.name.clone(),
        role: rail.role,
        shunt_ohm: rail.shunt_ohm,
        shunt_tolerance: rail.shunt_tolerance,
    };
    let mut rails: Vec<ChannelRail> = chip.rails.iter().map(rail).collect();
    rails.sort_by_key(|rail| rail.channel);
    Ok(place.chip_rails(root, chip.kind, ownership, rails))
}

#[cfg(test)]
mod tests;
