//! Where a chip is on I²C: adapter, address, folder.
//!
//! Owns the form of a client's name (`1-0040`), the way from any folder below
//! it back to it, and what the tree says about the bus. Reads no value.
//! Source: Linux Documentation/i2c/i2c-sysfs.rst.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wattline_protocol::record::ChipKind;

use super::tree::{cell, entries, entries_named, name_of, text};
use crate::power::bus::Address7;
use crate::power::pace::BusShare;

/// A chip's place: `1-0040`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bus: u8,
    pub(super) address: Address7,
    /// The client's folder.
    pub(super) path: PathBuf,
    /// The driver that holds it; `None` where none does.
    pub(super) driver: Option<String>,
}

impl Place {
    fn new(path: PathBuf) -> Option<Self> {
        let (bus, address) = parse(name_of(&path))?;
        // The link's own words: in a copy of a tree its end may be missing.
        let driver = std::fs::read_link(path.join("driver")).ok();
        let driver = driver.map(|driver| name_of(&driver).to_owned());
        Some(Self { bus, address, path, driver })
    }

    /// The client above a folder such as `hwmon3`, as its real path or its
    /// link `device` tells.
    pub(super) fn above(folder: &Path) -> Option<Self> {
        let real = folder.canonicalize().ok()?;
        let link = folder.join("device");
        let device = link.canonicalize().ok();
        let above = real.ancestors().chain(device.as_deref().into_iter().flat_map(Path::ancestors));
        let is_client = |path: &PathBuf| parse(name_of(path)).is_some();
        // In a copy of a tree the link's end may be missing; its words are there.
        let told = || std::fs::read_link(&link).ok().map(|target| folder.join(target));
        let above = above.map(Path::to_owned).find(is_client);
        Self::new(above.or_else(|| told().filter(is_client))?)
    }

    /// Adapter and address: no two chips share them.
    pub(super) fn key(&self) -> (u8, u8) {
        (self.bus, self.address.get())
    }

    /// `1-0040`.
    pub(super) fn name(&self) -> String {
        format!("{}-{:04x}", self.bus, self.address.get())
    }

    /// The client's own node of the device tree.
    pub(super) fn node(&self) -> PathBuf {
        self.path.join("of_node")
    }

    /// The chip that the client is called: by its own name, else by its driver.
    pub(super) fn kind(&self) -> Option<ChipKind> {
        self.names().find_map(|name| kind_named(&name))
    }

    /// What the client is called: by its own name, else by its driver.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        text(&self.path.join("name")).into_iter().chain(self.driver.clone())
    }

    /// Half the bus where any driver but this chip's is bound on the adapter.
    pub(super) fn share(&self, root: &Path) -> BusShare {
        let others = clients(root).into_values().any(|place| {
            place.bus == self.bus && place.address != self.address && place.driver.is_some()
        });
        if others { BusShare::Half } else { BusShare::Whole }
    }

    /// Clock of the bus in hertz, as the device tree declares it for the
    /// adapter or, behind a multiplexer, for the adapter above.
    pub(super) fn clock_hz(&self, root: &Path) -> Option<u32> {
        let name = format!("i2c-{}", self.bus);
        let classes = ["class/i2c-adapter", "bus/i2c/devices", "class/i2c-dev"];
        let links = classes.map(|class| root.join(class).join(&name));
        let root = root.canonicalize().ok()?;
        let real = links.iter().chain([&self.path]).filter_map(|link| link.canonicalize().ok());
        real.flat_map(|real| real.ancestors().map(Path::to_owned).collect::<Vec<_>>())
            .filter(|folder| folder.starts_with(&root))
            .filter_map(|folder| cell(&folder.join("of_node/clock-frequency")))
            .find(|hertz| CLOCKS_HZ.contains(hertz))
    }
}

/// Bus clocks that I²C has, in hertz (UM10204: up to 3.4 MHz); what a node
/// above the adapter declares beyond it is the clock of something else.
const CLOCKS_HZ: core::ops::RangeInclusive<u32> = 1_000..=3_400_000;

/// All clients in the tree by place: those of the bus, and those that only a
/// driver's folder shows.
pub(super) fn clients(root: &Path) -> BTreeMap<(u8, u8), Place> {
    let mut clients = BTreeMap::new();
    for path in entries(&root.join("bus/i2c/devices")) {
        clients.extend(Place::new(path).map(|place| (place.key(), place)));
    }
    for driver in entries(&root.join("bus/i2c/drivers")) {
        for mut place in entries(&driver).into_iter().filter_map(Place::new) {
            place.driver = Some(name_of(&driver).to_owned());
            clients
                .entry(place.key())
                .and_modify(|known: &mut Place| known.driver.clone_from(&place.driver))
                .or_insert(place);
        }
    }
    clients
}

/// Folders below a client that begin with `prefix`, a level or two down:
/// `hwmon/hwmon3`, `hwmon3`, `iio:device0`.
pub(super) fn below(place: &Place, prefix: &str) -> Vec<PathBuf> {
    let numbered = |path: &PathBuf| name_of(path) != prefix;
    let direct = entries_named(&place.path, prefix).into_iter().filter(numbered);
    entries_named(&place.path.join(prefix), prefix).into_iter().chain(direct).collect()
}

/// The chip of a client's or a driver's name: `ina226`, `ina3221x` (JetPack 4),
/// `ina226_u76` and `ina226-u76` (bridges, named by the board), `INA231` (Odroid).
pub(super) fn kind_named(name: &str) -> Option<ChipKind> {
    let chip = name.split(['_', '-']).next().unwrap_or_default().to_ascii_lowercase();
    ChipKind::chip_named(chip.trim_end_matches('x'))
}

fn parse(name: &str) -> Option<(u8, Address7)> {
    let (bus, address) = name.split_once('-')?;
    let digits = |text: &str, radix| text.chars().all(|c: char| c.is_digit(radix));
    if bus.is_empty() || address.len() != 4 || !digits(bus, 10) || !digits(address, 16) {
        return None;
    }
    let address = u8::try_from(u16::from_str_radix(address, 16).ok()?).ok()?;
    Some((bus.parse().ok()?, Address7::new(address).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clients_name_is_a_place() {
        let at = |name| parse(name).map(|(bus, address)| (bus, address.get()));
        assert_eq!(at("1-0040"), Some((1, 0x40)));
        assert_eq!(at("12-004f"), Some((12, 0x4f)));
        for other in ["i2c-1", "1-40", "1-1040", "1-0003", "-0040", "+1-0040", "x-0040", "1-+040"] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
