//! The search of the kernel's IIO tree.
//!
//! Owns the layout of JetPack 4's driver `ina3221x` (labels, millivolts,
//! milliamperes, milliwatts) and of `ina2xx-adc` (raw codes with a scale).
//! A chip that a hwmon driver shows as well is left to that.
//! Source: Linux ABI/testing/sysfs-bus-iio; facts, power-hardware §2.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wattline_protocol::record::{ChipKind, RailSource, SkipReason};

use super::hwmon::{ChannelNode, bridges, inside, ohms};
use super::place::{Place, below};
use super::search::{Draft, Search};
use super::tree::{entries_named, is_shown, name_of, number, text};
use crate::power::meter::{Count, Files};

/// Millivolts, milliamperes, milliwatts.
const MILLI: f64 = 1e-3;
/// Above it a shunt is told in µΩ.
const SHUNT_OHM_MAX: f64 = 100.0;

/// Lists what IIO drivers give; returns how many gave something.
pub(super) fn find(search: &mut Search<'_>) -> usize {
    let places: Vec<Place> = search.clients.values().cloned().collect();
    let by_client = places.into_iter().flat_map(|place| {
        below(&place, "iio").into_iter().map(move |folder| (folder, Some(place.clone())))
    });
    let bus = entries_named(&search.root.join("bus/iio/devices"), "iio:device");
    let by_bus = bus.into_iter().map(|folder| {
        let place = Place::above(&folder);
        (folder, place)
    });
    let mut seen = BTreeSet::new();
    let mut given = 0;
    for (folder, place) in by_client.chain(by_bus).collect::<Vec<_>>() {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if place.as_ref().is_some_and(|place| search.has(place)) || !seen.insert(real) {
            continue;
        }
        let before = search.drafts.len();
        if (0..3).any(|index| folder.join(format!("rail_name_{index}")).exists()) {
            jetpack_4(&folder, place.as_ref(), search);
        } else {
            one_channel(&folder, place.as_ref(), search);
        }
        given += usize::from(search.drafts.len() > before);
    }
    given
}

fn jetpack_4(folder: &Path, place: Option<&Place>, search: &mut Search<'_>) {
    for index in 0..3_u8 {
        let file = |name: &str, tail: &str| folder.join(format!("{name}{index}{tail}"));
        let label = text(&file("rail_name_", ""));
        if label.is_none() && !is_shown(&file("in_voltage", "_input")) {
            continue;
        }
        let channel = index + 1;
        let node = place.map(|place| ChannelNode::of(place, channel)).unwrap_or_default();
        let mut draft = draft(folder, place, "ina3221", channel, label.or(node.label));
        draft.shunt_ohm = node.shunt_ohm;
        let milli = |path: PathBuf| Count::of_file(path, MILLI);
        let watts = file("in_power", "_input");
        if node.is_disabled || draft.is_not_connected() {
            draft.skipped = Some(SkipReason::NotConnected);
        } else {
            draft.take(Files::VoltsAmperes {
                volts: milli(file("in_voltage", "_input")),
                amperes: milli(file("in_current", "_input")),
            });
            if draft.skipped.is_some() && watts.exists() {
                draft.take(Files::Power(milli(watts)));
            }
        }
        search.add(draft);
    }
}

/// `ina2xx-adc` and `ina260-adc`: raw codes, each with a scale to milli-units.
fn one_channel(folder: &Path, place: Option<&Place>, search: &mut Search<'_>) {
    let names =
        text(&folder.join("name")).into_iter().chain(place.into_iter().flat_map(Place::names));
    let chip = names
        .into_iter()
        .find_map(|name| ChipKind::chip_named(name.split(['_', '-']).next().unwrap_or_default()));
    let Some(kind) = chip else { return };
    let chip = kind.name();
    // The bridge names the rail as the board does: listed there.
    if bridges(search.root, chip) > 0 {
        return;
    }
    let mut draft = draft(folder, place, chip, 1, text(&folder.join("label")));
    let shunt = ["in_shunt_resistor", "in_current3_shunt_resistor", "shunt_resistor"];
    let shunt = shunt.iter().find_map(|name| number(&folder.join(name)));
    draft.shunt_ohm = ohms(shunt.map(micro_ohm)).or_else(|| inside(kind));
    let raw = |stem: &str| {
        let scale = number(&folder.join(format!("{stem}_scale"))).unwrap_or(1.0);
        Count::of_file(folder.join(format!("{stem}_raw")), scale * MILLI)
    };
    let is_there = |stem: &&&str| folder.join(format!("{stem}_raw")).exists();
    let volts = ["in_voltage1", "in_voltage0"].iter().find(is_there).unwrap_or(&"in_voltage1");
    let amperes = ["in_current3", "in_current0", "in_current"];
    let amperes = amperes.iter().find(is_there).unwrap_or(&"in_current3");
    draft.take(Files::VoltsAmperes { volts: raw(volts), amperes: raw(amperes) });
    search.add(draft);
}

/// A shunt as an IIO driver tells it, in µΩ: in ohms by `ina2xx-adc`, in µΩ by
/// others. No monitor's shunt is above 100 Ω, and none is below 100 µΩ.
fn micro_ohm(told: f64) -> f64 {
    if told > SHUNT_OHM_MAX { told } else { told * 1e6 }
}

fn draft(
    folder: &Path,
    place: Option<&Place>,
    chip: &str,
    channel: u8,
    label: Option<String>,
) -> Draft {
    let at = place.map_or_else(|| name_of(folder).to_owned(), Place::name);
    let is_labelled = label.is_some();
    let name = label.unwrap_or_else(|| format!("{chip} {at} channel {channel}"));
    let mut draft = Draft::new(RailSource::Iio, chip, channel, name, place.cloned());
    draft.is_labelled = is_labelled;
    draft
}
