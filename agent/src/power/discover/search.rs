//! What a search gathers: one draft a rail, and what is made of all of them.
//!
//! Owns the reasons to skip that no single tree can see, the names (unique, so
//! that a shunt can be corrected by name), the measured rate of a driver, and
//! the grouping of rails into chips and meters. Knows no tree's layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wattline_protocol::record::{ChipKind, ErrorLimits, RailRole, RailSource, SkipReason};

use super::hwmon::{readable, role_of, says_not_connected};
use super::offsets;
use super::place::Place;
use super::{ChannelRail, ChipRails, DetectedRail, Found, SHUNT_TOLERANCE_ASSUMED};
use crate::clock::{Clock, SystemClock};
use crate::power::bus::Address7;
use crate::power::chip::{Chip, ChipSetup, Ownership, Profile, REGISTER_BITS, bits_ns, limits_of};
use crate::power::meter::{Files, Meter, MeterRail};

/// What labels say of a channel that leads nowhere.
pub(super) const NOT_CONNECTED: [&str; 8] =
    ["NC", "N/C", "N.C.", "not connected", "unconnected", "not used", "unused", "none"];
/// Readings over which a driver's rate is measured.
const RATE_READS: u32 = 10;
/// Shortest time between two readings of a file, in ms: a driver that tells
/// no interval converts about as often, and a thread that wakes more often
/// costs the board what it measures.
const PERIOD_MS_MIN: f64 = 10.0;
/// Longest one: beyond it every interval would be a gap (100 ms).
const PERIOD_MS_MAX: f64 = 90.0;
/// Gain error taken where nobody tells one, as a fraction: NVIDIA states ±5 %
/// for its own counter (NVML reference, nvmlDeviceGetPowerUsage), measurements
/// of RAPL against a meter find less (Khan et al., ACM TOMPECS 3(2), 2018).
pub(crate) const GAIN_ASSUMED: f64 = 0.05;

/// A tree that is being searched.
pub(super) struct Search<'a> {
    pub(super) root: &'a Path,
    /// Chips on I²C by adapter and address.
    pub(super) clients: BTreeMap<(u8, u8), Place>,
    pub(super) drafts: Vec<Draft>,
}

/// A rail as a tree shows it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    source: RailSource,
    pub(super) chip: String,
    pub(super) channel: u8,
    pub(super) name: String,
    /// The name before the user gave another.
    pub(super) label: String,
    /// Whether the system tells it, and it is not made of the place.
    pub(super) is_labelled: bool,
    pub(super) role: RailRole,
    pub(super) place: Option<Place>,
    files: Option<Files>,
    pub(super) shunt_ohm: Option<f64>,
    pub(super) shunt_tolerance: f64,
    /// The shunt that the driver's amperes are made with, where it is another.
    pub(super) driver_shunt_ohm: Option<f64>,
    pub(super) limit_hz: Option<f64>,
    pub(super) period_ms: Option<f64>,
    pub(super) rate: Rate,
    pub(super) skipped: Option<SkipReason>,
}

/// How often a rail has a new value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rate {
    /// As often as its driver answers.
    OfReading,
    /// As its values were seen to change, a second; `None` where they did not.
    Seen(Option<f64>),
}

impl Draft {
    pub(super) fn new(
        source: RailSource,
        chip: &str,
        channel: u8,
        name: String,
        place: Option<Place>,
    ) -> Self {
        Self {
            source,
            chip: chip.to_owned(),
            channel,
            role: role_of(&name),
            label: name.clone(),
            is_labelled: true,
            name,
            place,
            files: None,
            shunt_ohm: None,
            shunt_tolerance: SHUNT_TOLERANCE_ASSUMED,
            driver_shunt_ohm: None,
            limit_hz: None,
            period_ms: None,
            rate: Rate::OfReading,
            skipped: None,
        }
    }

    pub(super) fn source(&self) -> RailSource {
        self.source
    }

    /// The chip's address, where it is on I²C.
    pub(super) fn address(&self) -> Option<Address7> {
        self.place.as_ref().map(|place| place.address)
    }

    /// Whether its chip is on the bus of the controller of that name.
    pub(super) fn is_below(&self, controller: &str) -> bool {
        let Some(place) = &self.place else { return false };
        let real = place.path.canonicalize().unwrap_or_else(|_| place.path.clone());
        real.components().any(|part| part.as_os_str() == controller)
    }

    pub(super) fn is_not_connected(&self) -> bool {
        says_not_connected(&self.name)
    }

    /// Takes `files` as what is read, and the reason where they cannot be.
    pub(super) fn take(&mut self, files: Files) {
        self.skipped = readable(&files).err();
        self.files = Some(files);
    }

    pub(super) fn key(&self) -> Option<(u8, u8)> {
        self.place.as_ref().map(Place::key)
    }

    /// Readings that the driver gives a second; no more than bus and chip make
    /// new ones, however fast its files repeat the last.
    fn rate_hz(&self) -> Option<f64> {
        let files = self.files.as_ref().filter(|_| self.skipped.is_none())?;
        if let Rate::Seen(seen_hz) = self.rate {
            return seen_hz;
        }
        let begun = SystemClock.now();
        for _ in 0..RATE_READS {
            // Readable a moment ago; a failure now costs as much time.
            let _ = readable(files);
        }
        let taken = (SystemClock.now() - begun).as_seconds().0;
        let read = f64::from(RATE_READS) / taken.max(f64::MIN_POSITIVE);
        Some(self.limit_hz.map_or(read, |limit| read.min(limit)))
    }

    fn detected(&self) -> DetectedRail {
        DetectedRail {
            name: self.name.clone(),
            source: self.source,
            chip: self.chip.clone(),
            bus: self.place.as_ref().map(|place| place.bus),
            address: self.place.as_ref().map(|place| place.address.get()),
            channel: self.channel,
            shunt_ohm: self.shunt_ohm,
            role: self.role,
            rate_hz: self.rate_hz(),
            limit_hz: self.limit_hz,
            skipped: self.skipped,
        }
    }

    fn meter_rail(&self) -> Option<MeterRail> {
        let files = self.files.clone().filter(|_| self.skipped.is_none())?;
        let chip = ChipKind::chip_named(&self.chip);
        let limits = chip.map_or(ASSUMED, |kind| limits_of(kind, self.shunt_tolerance));
        Some(MeterRail {
            channel: self.channel,
            name: self.name.clone(),
            role: self.role,
            shunt_ohm: self.shunt_ohm,
            driver_shunt_ohm: self.driver_shunt_ohm,
            limits: in_units_of(limits, &files, self.shunt_ohm),
            files,
        })
    }

    fn channel_rail(&self, root: &Path) -> Option<ChannelRail> {
        let shunt_ohm = self.shunt_ohm.filter(|_| self.skipped.is_none())?;
        let table = |place| offsets::table(root, place, self.channel);
        Some(ChannelRail {
            offsets: self.place.as_ref().and_then(table),
            channel: self.channel,
            name: self.name.clone(),
            role: self.role,
            shunt_ohm,
            shunt_tolerance: self.shunt_tolerance,
        })
    }
}

const ASSUMED: ErrorLimits = ErrorLimits {
    shunt_offset_v: 0.0,
    shunt_gain: GAIN_ASSUMED,
    bus_offset_v: 0.0,
    bus_gain: 0.0,
    shunt_tolerance: 0.0,
};

/// Limits of a chip where its offsets can be said in the codes of `files`:
/// an offset in volts needs the shunt, and a voltage of its own.
fn in_units_of(limits: ErrorLimits, files: &Files, shunt_ohm: Option<f64>) -> ErrorLimits {
    match (files, shunt_ohm) {
        (Files::VoltsAmperes { .. }, Some(_)) => limits,
        (Files::VoltsAmperes { .. } | Files::Power(_) | Files::Energy { .. }, _) => ASSUMED,
    }
}

impl Search<'_> {
    /// Whether a rail of this chip is listed already.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.drafts.iter().any(|draft| draft.key() == Some(place.key()))
    }

    pub(super) fn add(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Rails, chips and meters of all drafts.
    pub(super) fn finish(self) -> Found {
        let rails = self.drafts.iter().map(Draft::detected).collect();
        let (chips, closed_chips) = self.chips();
        Found { rails, chips, closed_chips, meters: self.meters(), ..Found::default() }
    }

    /// Two rails that can be sampled never share a name: the later one gets
    /// its place behind it.
    pub(super) fn name_each_once(&mut self) {
        for index in 0..self.drafts.len() {
            let (before, rest) = self.drafts.split_at_mut(index);
            let Some(draft) = rest.first_mut().filter(|draft| draft.skipped.is_none()) else {
                continue;
            };
            let is_taken = |name: &str| {
                before.iter().any(|other| other.skipped.is_none() && other.name == name)
            };
            if is_taken(&draft.name) {
                let at = draft.place.as_ref().map_or_else(|| draft.chip.clone(), Place::name);
                let candidates = core::iter::once(format!("{} ({at})", draft.name))
                    .chain((2..).map(|count| format!("{} ({at}, {count})", draft.name)));
                if let Some(name) = candidates.into_iter().find(|name| !is_taken(name)) {
                    draft.name = name;
                }
            }
        }
    }

    /// Chips by their registers: those that can be read now, and those that can
    /// be once their driver lets go of them.
    fn chips(&self) -> (Vec<ChipRails>, Vec<ChipRails>) {
        let of = |place: &Place| -> Option<(ChipRails, bool)> {
            let ours = self.drafts.iter().filter(|draft| draft.key() == Some(place.key()));
            let chip = ours.clone().find_map(|draft| ChipKind::chip_named(&draft.chip))?;
            // JetPack 4's driver writes the configuration behind a reader.
            let is_closed = ours.clone().any(|draft| draft.source == RailSource::Iio);
            let rails: Vec<ChannelRail> =
                ours.filter_map(|draft| draft.channel_rail(self.root)).collect();
            let ownership = match place.driver {
                Some(_) => Ownership::KernelDriver,
                None => Ownership::Ours,
            };
            let chip = place.chip_rails(self.root, chip, ownership, rails)?;
            (!chip.rails.is_empty()).then_some((chip, is_closed))
        };
        let mut seen = BTreeSet::new();
        let places = self.drafts.iter().filter_map(|draft| draft.place.as_ref());
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for (chip, is_closed) in places.filter(|place| seen.insert(place.key())).filter_map(of) {
            if is_closed { &mut closed } else { &mut open }.push(chip);
        }
        (open, closed)
    }

    fn meters(&self) -> Vec<Meter> {
        let mut meters: Vec<(&str, Meter)> = Vec::new();
        for draft in &self.drafts {
            let Some(rail) = draft.meter_rail() else { continue };
            let (key, chip) = (draft.key(), draft.chip.as_str());
            let place = meters
                .iter_mut()
                .find(|(of, m)| (*of, m.place, m.source) == (chip, key, draft.source));
            match place {
                Some((_, meter)) => meter.rails.push(rail),
                None => {
                    let kind = rail.files.kind();
                    let period_ns = period_ns(draft.period_ms);
                    let meter = Meter {
                        kind,
                        source: draft.source,
                        place: key,
                        period_ns,
                        rails: vec![rail],
                    };
                    meters.push((chip, meter));
                }
            }
        }
        meters.into_iter().flat_map(|(_, meter)| meter.split()).collect()
    }
}

impl Meter {
    /// The same meter, read as often as its driver converts with an interval
    /// that it was given since the search; unchanged where it was given none.
    #[must_use]
    pub fn with_interval_ms(self, interval_ms: Option<i64>) -> Self {
        let told = interval_ms.and_then(|told| u32::try_from(told).ok()).map(f64::from);
        let period_ns = told.map_or(self.period_ns, |told| period_ns(Some(told)));
        Self { period_ns, ..self }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 90 ms")]
fn period_ns(told_ms: Option<f64>) -> u32 {
    (told_ms.unwrap_or(PERIOD_MS_MIN).clamp(PERIOD_MS_MIN, PERIOD_MS_MAX) * 1e6) as u32
}

impl Place {
    /// The chip of this place as the sampler drives it; `None` for a kind that
    /// it cannot.
    pub(super) fn chip_rails(
        &self,
        root: &Path,
        kind: ChipKind,
        ownership: Ownership,
        rails: Vec<ChannelRail>,
    ) -> Option<ChipRails> {
        let channels: Vec<u8> = rails.iter().map(|rail| rail.channel).collect();
        let (address, profile) = (self.address, Profile::Fast);
        let chip = Chip::new(kind, ChipSetup { address, profile, ownership }, &channels)?;
        let (bus_clock_hz, share) = (self.clock_hz(root), self.share(root));
        Some(ChipRails { chip, bus: self.bus, bus_clock_hz, share, rails })
    }

    /// Sweeps of `registers` that the bus carries a second, where its clock is
    /// declared.
    pub(super) fn limit_hz(&self, root: &Path, registers: u32) -> Option<f64> {
        let bits = REGISTER_BITS * registers + 1;
        Some(1e9 / f64::from(bits_ns(bits, self.clock_hz(root)?)))
    }
}
