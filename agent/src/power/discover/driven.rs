//! Chips on I²C that a kernel driver holds, and where its attributes are.
//!
//! Owns the way from a chip's place to its driver's hwmon folder, whose number
//! changes at every boot. Reads names alone; what is set is
//! [`crate::power::settings`]'s.
//! Source: Linux Documentation/hwmon/sysfs-interface.rst.

use std::path::{Path, PathBuf};

use wattline_protocol::record::ChipKind;

use super::hwmon::with_attributes;
use super::place::{Place, below, clients};
use super::tree::{entries_named, text};

/// A chip with its kernel driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrivenChip {
    /// Number of the adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: u8,
    /// Which chip.
    pub kind: ChipKind,
    /// The driver that holds it; `None` where none does.
    pub driver: Option<String>,
    /// The folder of the driver's attributes; `None` where it shows none.
    pub hwmon: Option<PathBuf>,
}

/// All power monitors on I²C in the tree at `root`.
#[must_use]
pub fn monitors(root: &Path) -> Vec<DrivenChip> {
    let by_class: Vec<(Place, PathBuf)> = entries_named(&root.join("class/hwmon"), "hwmon")
        .into_iter()
        .filter_map(|folder| Some((Place::above(&folder)?, folder)))
        .collect();
    let of = |place: Place| {
        let kind = place.kind()?;
        let folder = below(&place, "hwmon").into_iter().next().or_else(|| {
            let same = by_class.iter().find(|(other, _)| other.key() == place.key());
            same.map(|(_, folder)| folder.clone())
        });
        let hwmon = folder.map(with_attributes);
        // A copy of a tree may lack the link: whoever shows attributes is a driver.
        let shown = || hwmon.as_ref().and_then(|folder| text(&folder.join("name")));
        Some(DrivenChip {
            bus: place.bus,
            address: place.address.get(),
            kind,
            driver: place.driver.or_else(shown),
            hwmon,
        })
    };
    clients(root).into_values().filter_map(of).collect()
}

/// The monitor at one place of the tree at `root`.
#[must_use]
pub fn monitor_at(root: &Path, bus: u8, address: u8) -> Option<DrivenChip> {
    monitors(root).into_iter().find(|chip| (chip.bus, chip.address) == (bus, address))
}
