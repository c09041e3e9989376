//! Rails that the user names: a chip that no driver holds, or one whose shunt
//! or label the running system does not tell.
//!
//! Owns how a named rail joins those that the trees show, and why it may not:
//! an address that another driver holds, or that the system names as another
//! chip, is nobody's to read. Whether the chip is the one that it is called is
//! asked of the chip itself, before anything is written to it
//! ([`Chip::configure`](crate::power::chip::Chip::configure)).

use wattline_protocol::record::{ChipKind, Mismatch, RailRole, RailSource, SkipReason};

use super::place::Place;
use super::search::{Draft, Search};
use super::tree::is_shown;
use crate::power::bus::Address7;

/// A rail that the user names.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenRail {
    /// The chip.
    pub kind: ChipKind,
    /// Number of the adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: Address7,
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

/// Difference of two resistances that are told as decimal fractions and mean
/// the same, as a fraction.
const SAME_OHMS: f64 = 1e-6;

/// Puts the user's rails among those of the trees; returns where both tell a
/// shunt and differ.
pub(super) fn apply(search: &mut Search<'_>, rails: &[GivenRail]) -> Vec<Mismatch> {
    // One rail at most is the whole board: the user's, where there is one.
    if rails.iter().any(|rail| rail.role == RailRole::Total) {
        for draft in &mut search.drafts {
            draft.role = RailRole::Part;
        }
    }
    rails.iter().filter_map(|rail| join(search, rail)).collect()
}

fn join(search: &mut Search<'_>, rail: &GivenRail) -> Option<Mismatch> {
    let key = (rail.bus, rail.address.get());
    let client = search.clients.get(&key).cloned();
    let mut of_chip = search.drafts.iter_mut().filter(|draft| draft.key() == Some(key)).peekable();
    let shown_as = of_chip.peek().map(|draft| draft.chip.clone());
    if let Some(draft) = of_chip.find(|draft| draft.is(rail.kind, rail.channel)) {
        return draft.given(rail);
    }
    let mut draft = Draft::of_given(rail, client.clone().unwrap_or_else(|| unlisted(search, rail)));
    draft.skipped = match (&client, shown_as) {
        // The same chip, which shows no such channel.
        (Some(held), Some(chip)) if chip == rail.kind.name() => {
            held.driver.is_some().then_some(SkipReason::Unreadable)
        }
        (Some(held), _) if held.driver.is_some() => Some(SkipReason::OtherDriver),
        (Some(_), _) => Some(SkipReason::OtherChip),
        (None, _) => (!has_bus(search, rail.bus)).then_some(SkipReason::NoBus),
    };
    if draft.skipped.is_none() {
        let registers = if rail.kind == ChipKind::Ina3221 { 7 } else { 3 };
        draft.limit_hz = draft.place.as_ref().and_then(|at| at.limit_hz(search.root, registers));
    }
    search.add(draft);
    None
}

/// The place of a chip that the system does not know.
fn unlisted(search: &Search<'_>, rail: &GivenRail) -> Place {
    let name = format!("{}-{:04x}", rail.bus, rail.address.get());
    let path = search.root.join("bus/i2c/devices").join(name);
    Place { bus: rail.bus, address: rail.address, path, driver: None }
}

/// Whether the tree shows the adapter, or a chip on it.
fn has_bus(search: &Search<'_>, bus: u8) -> bool {
    let adapter = format!("i2c-{bus}");
    let folders = ["class/i2c-adapter", "class/i2c-dev", "bus/i2c/devices"];
    folders.iter().any(|folder| is_shown(&search.root.join(folder).join(&adapter)))
        || search.clients.keys().any(|(on, _)| *on == bus)
}

impl Draft {
    fn of_given(rail: &GivenRail, place: Place) -> Self {
        let source = RailSource::I2c;
        let (kind, name) = (rail.kind.name(), rail.name.clone());
        let mut draft = Self::new(source, kind, rail.channel, name, Some(place));
        draft.role = rail.role;
        draft.shunt_ohm = Some(rail.shunt_ohm);
        draft.shunt_tolerance = rail.shunt_tolerance;
        draft
    }

    fn is(&self, kind: ChipKind, channel: u8) -> bool {
        self.chip == kind.name() && self.channel == channel
    }

    /// Takes the user's word for label, role and shunt.
    fn given(&mut self, rail: &GivenRail) -> Option<Mismatch> {
        let told = self.shunt_ohm.filter(|told| differs(*told, rail.shunt_ohm));
        self.name.clone_from(&rail.name);
        self.role = rail.role;
        self.driver_shunt_ohm = self.shunt_ohm;
        self.shunt_ohm = Some(rail.shunt_ohm);
        self.shunt_tolerance = rail.shunt_tolerance;
        let is_ours = self.place.as_ref().is_some_and(|place| place.driver.is_none());
        self.skipped = match self.skipped {
            Some(SkipReason::NoShunt) => None,
            // Only a description of the board said so, and the user knows it.
            Some(SkipReason::NotConnected) if is_ours => None,
            skipped => skipped,
        };
        told.map(|told_ohm| Mismatch::Overridden {
            rail: rail.name.clone(),
            told_ohm,
            given_ohm: rail.shunt_ohm,
        })
    }
}

/// Whether two resistances, in ohms, are not the same one.
pub(super) fn differs(one: f64, other: f64) -> bool {
    (one - other).abs() > SAME_OHMS * one.abs().max(other.abs())
}
