//! The search of sysfs: what kernel drivers show, chips that none holds, and
//! chips that the user names.
//!
//! Owns the order of the search and the account of where was looked; each
//! tree's layout is a file of its own. All paths are relative to a root that
//! stands for `/sys`; links inside it are followed as they are.

use std::path::Path;

use wattline_protocol::record::{BoardExpectation, ChipKind, RailSource, SkipReason};

use super::expected::{self, Matched};
use super::given::{self, GivenRail};
use super::hwmon::{self, ChannelNode};
use super::place::{Place, below, clients};
use super::search::{Draft, Search};
use super::{Found, LookedFor, gpu, iio, pmic, powercap};
use crate::clock::SystemClock;
use crate::power::gpu::Gpus;
use crate::power::pmic::Pmic;

/// Where the kernel shows what it knows.
pub const SYSTEM_ROOT: &str = "/sys";

/// Searches the tree at `root` (`/sys`, or a copy of it).
#[must_use]
pub fn find(root: &Path) -> Found {
    find_with(root, &[])
}

/// Searches the tree at `root`, and puts the user's rails among those of it.
#[must_use]
pub fn find_with(root: &Path, rails: &[GivenRail]) -> Found {
    find_among(root, rails, |_| Vec::new())
}

/// Searches this machine: `/sys`, the GPUs' driver and a Raspberry Pi's
/// firmware, the user's rails among what is found.
#[must_use]
pub fn find_here(rails: &[GivenRail]) -> Found {
    find_among(Path::new(SYSTEM_ROOT), rails, |search| {
        let gpus = gpu::find(search, Gpus::open(), &SystemClock);
        vec![gpus, pmic::find(search, Pmic::open())]
    })
}

/// Searches the tree at `root`, then what `others` searches.
fn find_among(
    root: &Path,
    rails: &[GivenRail],
    others: impl FnOnce(&mut Search<'_>) -> Vec<LookedFor>,
) -> Found {
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
    let profile = expected::profile_of(root);
    let matched = profile.as_ref().map(|profile| Matched::of(profile, &search.drafts));
    if let Some(matched) = &matched {
        matched.assign_roles(&mut search.drafts);
    }
    let overridden = given::apply(&mut search, rails);
    if !rails.is_empty() {
        let what = "rails of the configuration";
        looked_for.push(LookedFor { what, path: "agent.toml".into(), found: rails.len() });
    }
    search.name_each_once();
    let mut expectation = matched
        .map_or_else(BoardExpectation::default, |matched| matched.expectation(&search.drafts));
    expectation.mismatches.extend(overridden);
    Found { looked_for, expectation, ..search.finish() }
}

/// Chips that neither tree shows: without a driver they are ours to drive,
/// with one that gives no files they cannot be read.
fn remaining_clients(search: &mut Search<'_>) -> usize {
    let clients: Vec<Place> = search.clients.values().cloned().collect();
    let mut found = 0;
    for place in clients.into_iter().filter(|place| !search.has(place)).collect::<Vec<_>>() {
        let Some(kind) = place.kind() else { continue };
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
            draft.is_labelled = node.label.is_some();
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

#[cfg(test)]
mod tests;
