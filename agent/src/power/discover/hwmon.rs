//! The search of the kernel's hwmon tree.
//!
//! Owns the layout of the drivers `ina3221`, `ina2xx`, `ina238`, `iio-hwmon`
//! and of every other that gives watts or joules. Chips are found by
//! `class/hwmon` and below their I²C client alike, each once. Reads files
//! alone.
//! Source: Linux Documentation/hwmon/{ina3221,ina2xx,ina238}.rst and
//! sysfs-interface.rst; facts on JetPack's trees, power-hardware §2.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use wattline_protocol::record::{ChipKind, RailRole, RailSource, SkipReason};

use super::place::{Place, below, kind_named};
use super::search::{Draft, NOT_CONNECTED, Search};
use super::tree::{cell, entries_named, is_shown, name_of, number, skip_reason, text, value};
use crate::power::meter::{Count, CountSource, Files};

/// Millivolts, milliamperes; microwatts, microjoules.
const MILLI: f64 = 1e-3;
const MICRO: f64 = 1e-6;
/// Files of one kind that a driver can have: `amd_energy` has one a core and
/// one a socket, 2 × 256 cores at most.
const FILES_MAX: u16 = 1_024;
/// Pairs of volts and amperes that one driver can have.
const PAIRS_MAX: u8 = 64;

/// A hwmon folder.
struct Hwmon {
    folder: PathBuf,
    name: String,
    place: Option<Place>,
}

/// Lists what hwmon drivers give; returns how many drivers gave something.
pub(super) fn find(search: &mut Search<'_>) -> usize {
    let places: Vec<Place> = search.clients.values().cloned().collect();
    let by_client = places.into_iter().flat_map(|place| {
        below(&place, "hwmon").into_iter().map(move |folder| (folder, Some(place.clone())))
    });
    let class = entries_named(&search.root.join("class/hwmon"), "hwmon");
    let by_class = class.into_iter().map(|folder| {
        let place = Place::above(&folder);
        (folder, place)
    });
    let mut seen = BTreeSet::new();
    let mut given = 0;
    for (folder, place) in by_client.chain(by_class).collect::<Vec<_>>() {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let known = place.as_ref().is_some_and(|place| search.has(place));
        if known || !seen.insert(real) {
            continue;
        }
        let folder = with_attributes(folder);
        let Some(name) = text(&folder.join("name")).or_else(|| own_name(place.as_ref())) else {
            continue;
        };
        given += usize::from(Hwmon { folder, name, place }.list(search));
    }
    given
}

/// Drivers of old kernels keep their files in the device's folder.
pub(super) fn with_attributes(folder: PathBuf) -> PathBuf {
    let device = folder.join("device");
    if !folder.join("name").exists() && device.join("name").exists() { device } else { folder }
}

fn own_name(place: Option<&Place>) -> Option<String> {
    place.and_then(|place| place.names().next())
}

impl Hwmon {
    fn list(&self, search: &mut Search<'_>) -> bool {
        let before = search.drafts.len();
        match self.chip() {
            Some(ChipKind::Ina3221) => self.three_channels(search),
            Some(kind) => self.one_channel(kind.name(), search),
            None if self.name.starts_with("ina") => self.one_channel(&self.name, search),
            None => self.counters_and_meters(search),
        }
        search.drafts.len() > before
    }

    /// The chip behind the folder: `ina226` of itself, of `ina226_u76` (an
    /// `iio-hwmon` bridge, named by the board) or of the I²C client's name.
    fn chip(&self) -> Option<ChipKind> {
        let client = self.place.iter().flat_map(Place::names);
        let names = core::iter::once(self.name.clone()).chain(client);
        names.into_iter().find_map(|name| kind_named(&name))
    }

    /// Whether it is a supply that the kernel shows as a sensor too
    /// (`power_supply_hwmon.c`): what a battery gives or takes is no load.
    fn is_supply(&self) -> bool {
        let real = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let is_below = real.components().any(|part| part.as_os_str() == "power_supply");
        let names = ["BAT", "CMB", "ADP", "ACAD", "ucsi_source_psy"];
        is_below || self.name == "AC" || names.iter().any(|name| self.name.starts_with(name))
    }

    fn three_channels(&self, search: &mut Search<'_>) {
        let place = self.place.as_ref();
        // A chip whose driver shows no channel at all is told as one rail.
        let mut seen = false;
        for channel in 1..=3_u8 {
            let file = |name: String| self.folder.join(name);
            let (volts, amperes) =
                (file(format!("in{channel}_input")), file(format!("curr{channel}_input")));
            let label = text(&file(format!("in{channel}_label")));
            if label.is_none() && !is_shown(&volts) && !is_shown(&amperes) {
                continue;
            }
            seen = true;
            let node = place.map(|place| ChannelNode::of(place, channel)).unwrap_or_default();
            let mut draft = self.draft("ina3221", channel, label.or(node.label));
            let micro_ohm = number(&file(format!("shunt{channel}_resistor")));
            draft.shunt_ohm = ohms(micro_ohm).or(node.shunt_ohm);
            draft.limit_hz = self.limit_hz(search.root, 6);
            draft.period_ms = number(&self.folder.join("update_interval"));
            let off = number(&file(format!("in{channel}_enable"))) == Some(0.0);
            if off || node.is_disabled || draft.is_not_connected() {
                draft.skipped = Some(SkipReason::NotConnected);
            } else {
                draft.take(volts_amperes(volts, amperes));
            }
            search.add(draft);
        }
        // The driver's seventh voltage is the sum over the shunts.
        if let Some(label) = text(&self.folder.join("in7_label")) {
            let mut sum = self.draft("ina3221", 0, Some(label));
            sum.skipped = Some(SkipReason::Derived);
            search.add(sum);
        }
        if !seen {
            self.nothing_to_read("ina3221", search);
        }
    }

    fn one_channel(&self, chip: &str, search: &mut Search<'_>) {
        let file = |name: &str| self.folder.join(name);
        let node = self.place.as_ref().map(Place::node);
        let bridged = self.name.contains(['_', '-']).then(|| self.name.clone());
        let label = ["in1_label", "curr1_label", "power1_label", "label"];
        let label = label.iter().find_map(|name| text(&file(name)));
        let label =
            label.or_else(|| node.as_ref().and_then(|node| text(&node.join("label")))).or(bridged);
        let mut draft = self.draft(chip, 1, label);
        let in_node = || {
            let kind = ChipKind::chip_named(chip)?;
            self.place.as_ref().map_or_else(|| inside(kind), |place| shunt_in_node(place, kind))
        };
        draft.shunt_ohm = ohms(number(&file("shunt_resistor"))).or_else(in_node);
        draft.limit_hz = self.limit_hz(search.root, 2);
        draft.period_ms = number(&file("update_interval"));
        // An `iio-hwmon` bridge of an INA226 counts its inputs from 1, the
        // shunt first; the chip's own driver from 0.
        let shunt_is_first = !file("in0_input").exists() && file("in2_input").exists();
        let volts = file(if shunt_is_first { "in2_input" } else { "in1_input" });
        let watts = file("power1_input");
        if draft.is_not_connected() {
            draft.skipped = Some(SkipReason::NotConnected);
        } else {
            draft.take(volts_amperes(volts, file("curr1_input")));
            if draft.skipped.is_some() && watts.exists() {
                draft.take(Files::Power(Count::of_file(watts, MICRO)));
            }
        }
        search.add(draft);
    }

    /// Joules before watts before volts and amperes: what a driver integrates
    /// loses nothing between two readings.
    fn counters_and_meters(&self, search: &mut Search<'_>) {
        if self.rails_of("energy", &["input"], search) {
            return;
        }
        if self.rails_of("power", &["input", "average"], search) {
            return;
        }
        for channel in 1..=PAIRS_MAX {
            let file = |kind: &str, what: &str| self.folder.join(format!("{kind}{channel}_{what}"));
            let (volts, amperes) = (file("in", "input"), file("curr", "input"));
            if is_shown(&volts) && is_shown(&amperes) {
                let label = text(&file("curr", "label")).or_else(|| text(&file("in", "label")));
                let mut draft =
                    self.draft(&self.name, channel, label.or(Some(self.named(u16::from(channel)))));
                draft.take(volts_amperes(volts, amperes));
                if self.is_supply() {
                    draft.skipped = Some(SkipReason::Supply);
                }
                search.add(draft);
            }
        }
    }

    fn rails_of(&self, quantity: &str, suffixes: &[&str], search: &mut Search<'_>) -> bool {
        let mut any = false;
        let file = |number: u16, what: &str| self.folder.join(format!("{quantity}{number}_{what}"));
        let numbers = self.numbers(quantity);
        let labels: Vec<String> =
            numbers.iter().filter_map(|&number| text(&file(number, "label"))).collect();
        for of in numbers {
            let paths = suffixes.iter().map(|suffix| file(of, suffix));
            let Some(path) = paths.into_iter().find(|path| is_shown(path)) else { continue };
            any = true;
            // Only a name's number: what is read is the file.
            let channel = u8::try_from(of).unwrap_or(u8::MAX);
            let label = text(&file(of, "label"));
            let inner = label.as_deref().is_some_and(|label| is_contained(label, &labels));
            let mut draft = self.draft(&self.name, channel, label.or(Some(self.named(of))));
            draft.period_ms = number(&self.folder.join(format!("{quantity}{of}_average_interval")))
                .filter(|_| quantity == "power");
            draft.take(match quantity {
                "energy" => Files::Energy { counter: Count::of_file(path, MICRO), wraps_at: None },
                _ => Files::Power(Count::of_file(path, MICRO)),
            });
            if self.is_supply() {
                draft.skipped = Some(SkipReason::Supply);
            }
            if inner && draft.skipped.is_none() {
                draft.skipped = Some(SkipReason::Contained);
            }
            search.add(draft);
        }
        any
    }

    /// Numbers of the driver's files of one quantity (`energy12_input`: 12), in
    /// their order.
    fn numbers(&self, quantity: &str) -> Vec<u16> {
        let names = entries_named(&self.folder, quantity);
        let number = |path: &PathBuf| -> Option<u16> {
            let digits = name_of(path).strip_prefix(quantity)?.split('_').next()?;
            digits.parse().ok().filter(|number| (1..=FILES_MAX).contains(number))
        };
        let numbers: BTreeSet<u16> = names.iter().filter_map(number).collect();
        numbers.into_iter().collect()
    }

    fn named(&self, number: u16) -> String {
        if number == 1 { self.name.clone() } else { format!("{} {number}", self.name) }
    }

    fn nothing_to_read(&self, chip: &str, search: &mut Search<'_>) {
        let mut draft = self.draft(chip, 1, None);
        draft.skipped = Some(SkipReason::Unreadable);
        search.add(draft);
    }

    fn draft(&self, chip: &str, channel: u8, label: Option<String>) -> Draft {
        let place = self.place.clone();
        let at = place.as_ref().map_or_else(|| name_of(&self.folder).to_owned(), Place::name);
        let is_labelled = label.is_some();
        let name = label.unwrap_or_else(|| format!("{chip} {at} channel {channel}"));
        let mut draft = Draft::new(RailSource::Hwmon, chip, channel, name, place);
        draft.is_labelled = is_labelled;
        draft
    }

    /// What the driver's interval allows, and the bus for `registers` a sweep.
    fn limit_hz(&self, root: &Path, registers: u32) -> Option<f64> {
        let interval_ms = number(&self.folder.join("update_interval")).filter(|&ms| ms > 0.0);
        let by_driver = interval_ms.map(|ms| 1e3 / ms);
        let by_bus = self.place.as_ref().and_then(|place| place.limit_hz(root, registers));
        match (by_driver, by_bus) {
            (Some(driver), Some(bus)) => Some(driver.min(bus)),
            (one, other) => one.or(other),
        }
    }
}

/// What the device tree says about a channel of an INA3221, by mainline's
/// binding (`input@0`) or that of JetPack 4 (`channel@0`).
#[derive(Debug, Default)]
pub(super) struct ChannelNode {
    pub(super) label: Option<String>,
    pub(super) shunt_ohm: Option<f64>,
    pub(super) is_disabled: bool,
}

impl ChannelNode {
    pub(super) fn of(place: &Place, channel: u8) -> Self {
        let index = channel.saturating_sub(1);
        let node = |name: &str| place.node().join(format!("{name}@{index}"));
        let (mainline, jetpack_4) = (node("input"), node("channel"));
        let micro_ohm = cell(&mainline.join("shunt-resistor-micro-ohms")).map(f64::from);
        let milli_ohm = cell(&jetpack_4.join("ti,shunt-resistor-mohm")).map(f64::from);
        Self {
            label: text(&mainline.join("label")).or_else(|| text(&jetpack_4.join("ti,rail-name"))),
            shunt_ohm: ohms(micro_ohm.or(milli_ohm.map(|milli| milli * 1e3))),
            is_disabled: [mainline, jetpack_4].iter().any(|node| {
                let status = text(&node.join("status"));
                status.is_some_and(|status| status == "disabled" || status.starts_with("fail"))
            }),
        }
    }
}

/// The shunt of a one-channel chip, in ohms, as the device tree tells it.
pub(super) fn shunt_in_node(place: &Place, kind: ChipKind) -> Option<f64> {
    let cells = ["shunt-resistor", "shunt-resistor-micro-ohms"];
    let micro_ohm = cells.iter().find_map(|name| cell(&place.node().join(name)));
    ohms(micro_ohm.map(f64::from)).or_else(|| inside(kind))
}

/// The shunt inside the chip, in ohms: 2 mΩ in an INA260 (SBOS656).
#[must_use]
pub fn inside(kind: ChipKind) -> Option<f64> {
    (kind == ChipKind::Ina260).then_some(0.002)
}

fn volts_amperes(volts: PathBuf, amperes: PathBuf) -> Files {
    let in_milli = |path| Count::of_file(path, MILLI);
    Files::VoltsAmperes { volts: in_milli(volts), amperes: in_milli(amperes) }
}

/// A shunt in ohms; 0 and below is how a driver says that it knows none.
pub(super) fn ohms(micro_ohm: Option<f64>) -> Option<f64> {
    micro_ohm.filter(|&micro| micro > 0.0).map(|micro| micro / 1e6)
}

/// Labels of what is a part of another rail of the same driver: the outputs
/// of a converter whose input is measured (PMBus: `pin`, `pout1`), and the
/// cores of a socket (`amd_energy`: `Esocket0`, `Ecore000`).
fn is_contained(label: &str, all: &[String]) -> bool {
    let has = |prefix: &str| all.iter().any(|other| other.starts_with(prefix));
    let is_inner =
        (label.starts_with("pout") && has("pin")) || (label.starts_with("Ecore") && has("Esocket"));
    // A supply's sum over its outputs (`corsair-psu`: `power total`, `power +12v`).
    is_inner || (label != SUPPLY_TOTAL && has(SUPPLY_TOTAL))
}

/// What a power supply's driver calls the sum of its outputs.
const SUPPLY_TOTAL: &str = "power total";

/// Whether the hwmon driver is a bridge over an IIO device of such a chip.
pub(super) fn bridges(root: &Path, chip: &str) -> usize {
    let folders = entries_named(&root.join("class/hwmon"), "hwmon");
    let names = folders.iter().filter_map(|folder| text(&folder.join("name")));
    names.filter(|name| name.starts_with(chip) && name.contains(['_', '-'])).count()
}

/// Labels under which boards have their whole input, and a module its whole
/// supply.
const TOTAL_LABELS: [&str; 8] =
    ["VDD_IN", "VIN", "POM_5V_IN", "POM_VDD_IN", "ina260_u14", "psys", "power_meter", SUPPLY_TOTAL];

/// Total or part, by the label.
pub(super) fn role_of(label: &str) -> RailRole {
    // `iio-hwmon` writes `_` where the device tree's node has `-`.
    let label = if label.starts_with("ina") { label.replace('-', "_") } else { label.to_owned() };
    if TOTAL_LABELS.contains(&label.as_str()) { RailRole::Total } else { RailRole::Part }
}

/// Whether a label says that the channel leads nowhere.
pub(super) fn says_not_connected(label: &str) -> bool {
    NOT_CONNECTED.iter().any(|name| label.eq_ignore_ascii_case(name))
}

/// A reading of all counts of a rail, in the order in which a sampler reads.
pub(super) fn readable(files: &Files) -> Result<(), SkipReason> {
    match files {
        Files::VoltsAmperes { volts, amperes } => is_told(volts).and_then(|()| is_told(amperes)),
        Files::Power(count) => is_told(count),
        Files::Energy { counter, .. } => is_told(counter),
    }
}

fn is_told(count: &Count) -> Result<(), SkipReason> {
    let error = match &count.source {
        CountSource::File(path) => return value(path).map(|_| ()),
        CountSource::Gpu(counter) => counter.read().err().map(io::Error::from),
        CountSource::Pmic(converter) => converter.read().err(),
    };
    error.map_or(Ok(()), |error| Err(skip_reason(&error)))
}
