//! What was found, as it is sampled once chips are ours to drive.
//!
//! Owns which rails a profile reads, and what becomes of a driver's files while
//! its chip is taken from it. Takes nothing itself: that is
//! [`crate::power::settings::exclusive`]'s.

use wattline_protocol::record::RailRole;

use super::{ChannelRail, ChipRails, Found};
use crate::power::chip::{Chip, ChipSetup, Ownership, Profile};
use crate::power::meter::Meter;
use crate::power::pace::BusShare;

impl Found {
    /// What is sampled while the chips at `taken` (adapter and address) are
    /// taken from their drivers: these are ours, and what their drivers showed
    /// is gone. `profile` is that of every chip that is ours.
    #[must_use]
    pub fn with_ours(&self, taken: &[(u8, u8)], profile: Profile) -> Self {
        let is_taken = |chip: &ChipRails| taken.contains(&chip.place());
        let closed = self.closed_chips.iter().filter(|chip| is_taken(chip));
        let of = |chip: &ChipRails| {
            if is_taken(chip) || !chip.has_driver() {
                chip.as_ours(profile)
            } else {
                Some(chip.clone())
            }
        };
        let is_left = |meter: &&Meter| !meter.place.is_some_and(|place| taken.contains(&place));
        Self {
            chips: self.chips.iter().chain(closed).filter_map(of).collect(),
            meters: self.meters.iter().filter(is_left).cloned().collect(),
            ..self.clone()
        }
    }

    /// Chips that a kernel driver holds and that could be ours, by adapter and
    /// address.
    #[must_use]
    pub fn held(&self) -> Vec<(u8, u8)> {
        let chips = self.chips.iter().chain(&self.closed_chips);
        chips.filter(|chip| chip.has_driver()).map(ChipRails::place).collect()
    }

    /// The same with another share of every bus.
    #[must_use]
    pub fn with_share(mut self, share: BusShare) -> Self {
        for chip in self.chips.iter_mut().chain(&mut self.closed_chips) {
            chip.share = share;
        }
        self
    }
}

impl ChipRails {
    /// Adapter and address.
    #[must_use]
    pub fn place(&self) -> (u8, u8) {
        (self.bus, self.chip.address().get())
    }

    /// The chip as we drive it ourselves, with the rails that `profile` reads:
    /// all, or for `total` the one whose role is that, else the first.
    fn as_ours(&self, profile: Profile) -> Option<Self> {
        let total = self.rails.iter().find(|rail| rail.role == RailRole::Total);
        let rails: Vec<ChannelRail> = match (profile, total.or_else(|| self.rails.first())) {
            (Profile::Total, Some(one)) => vec![one.clone()],
            (Profile::Total | Profile::Fast | Profile::Cover, _) => self.rails.clone(),
        };
        let channels: Vec<u8> = rails.iter().map(|rail| rail.channel).collect();
        let (address, ownership) = (self.chip.address(), Ownership::Ours);
        let setup = ChipSetup { address, profile, ownership };
        let chip = Chip::new(self.chip.kind(), setup, &channels)?;
        Some(Self { chip, rails, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::bus::Address7;
    use crate::power::discover::Found;
    use wattline_protocol::record::ChipKind;

    fn chip(address: u8, ownership: Ownership, total: u8) -> ChipRails {
        let setup = ChipSetup {
            address: Address7::new(address).unwrap(),
            profile: Profile::Fast,
            ownership,
        };
        let rail = |channel| ChannelRail {
            channel,
            name: format!("rail {channel}"),
            role: if channel == total { RailRole::Total } else { RailRole::Part },
            shunt_ohm: 0.005,
            shunt_tolerance: 0.01,
            offsets: None,
        };
        ChipRails {
            chip: Chip::new(ChipKind::Ina3221, setup, &[1, 2, 3]).unwrap(),
            bus: 1,
            bus_clock_hz: Some(400_000),
            share: BusShare::Half,
            rails: [1, 2, 3].map(rail).to_vec(),
        }
    }

    #[test]
    fn total_reads_the_total_rail_wherever_it_is_and_leaves_what_a_driver_holds() {
        let (ours, theirs) = (Ownership::Ours, Ownership::KernelDriver);
        let chips = vec![chip(0x40, ours, 3), chip(0x41, theirs, 1)];
        let closed_chips = vec![chip(0x42, theirs, 0)];
        let found = Found { chips, closed_chips, ..Found::default() };
        assert_eq!(found.held(), [(1, 0x41), (1, 0x42)]);
        let sampled = found.with_ours(&[(1, 0x42)], Profile::Total);
        let channels: Vec<_> = sampled.chips.iter().map(|chip| chip.chip.channels()).collect();
        assert_eq!(channels, [&[3][..], &[1, 2, 3], &[1]]);
        assert_eq!(sampled.chips[0].rails[0].name, "rail 3");
        assert!(sampled.chips[1].has_driver() && !sampled.chips[2].has_driver());
        // 140 µs for one channel's two conversions.
        assert_eq!(sampled.chips[0].chip.config(), 0x1007);
        let whole = found.with_share(BusShare::Whole);
        assert!(whole.chips.iter().all(|chip| chip.share == BusShare::Whole));
    }
}
