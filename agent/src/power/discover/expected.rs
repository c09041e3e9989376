//! The board's profile against what was found.
//!
//! Owns how a found rail and an expected one are known to be the same, the
//! roles that follow, and the list of what differs. Changes no label and no
//! shunt.

use std::path::Path;

use wattline_protocol::record::{BoardExpectation, Mismatch, RailInside, RailRole};

use super::given::differs;
use super::search::Draft;
use super::tree::{text, texts};
use crate::power::profile::{self, BoardProfile, ExpectedRail};

/// Where a device tree is, from the folder that stands for `/sys`: below it as
/// the kernel has it, or beside it.
const TREES: [&str; 3] = ["firmware/devicetree/base", "../proc/device-tree", "proc/device-tree"];

/// The profile of the board whose tree is at `root`.
pub(super) fn profile_of(root: &Path) -> Option<BoardProfile> {
    TREES.iter().find_map(|tree| {
        let tree = root.join(tree);
        let compatible = texts(&tree.join("compatible"));
        let model = text(&tree.join("model"));
        profile::recognise(&compatible, model.as_deref())
    })
}

/// Whether an expected rail and a found one are the same.
type Way = fn(&ExpectedRail, &Draft) -> bool;

fn by_label(rail: &ExpectedRail, draft: &Draft) -> bool {
    rail.is_called(&draft.label)
}

fn by_place(rail: &ExpectedRail, draft: &Draft) -> bool {
    draft.chip == rail.kind.name()
        && draft.address() == Some(rail.address)
        && draft.channel == rail.channel
        && rail.controller.as_deref().is_none_or(|controller| draft.is_below(controller))
}

/// Which found rail each expected one is.
pub(super) struct Matched<'a> {
    profile: &'a BoardProfile,
    /// One an expected rail.
    drafts: Vec<Option<usize>>,
}

impl<'a> Matched<'a> {
    /// By label first: labels are the running system's word. What is left over
    /// on both sides is matched by chip, address and channel.
    pub(super) fn of(profile: &'a BoardProfile, drafts: &[Draft]) -> Self {
        let mut matched: Vec<Option<usize>> = vec![None; profile.rails.len()];
        let ways: [Way; 2] = [by_label, by_place];
        for way in ways {
            for (place, rail) in profile.rails.iter().enumerate() {
                if matched.get(place).copied().flatten().is_some() {
                    continue;
                }
                let is_free = |index: &usize| !matched.contains(&Some(*index));
                let fits = drafts.iter().enumerate().filter(|(_, draft)| way(rail, draft));
                let found = fits.map(|(index, _)| index).find(is_free);
                if let Some(slot) = matched.get_mut(place) {
                    *slot = found;
                }
            }
        }
        Self { profile, drafts: matched }
    }

    fn pairs(&self) -> impl Iterator<Item = (&ExpectedRail, Option<usize>)> {
        self.profile.rails.iter().zip(self.drafts.iter().copied())
    }

    /// Gives each rail that carries an expected label, or none at all, the
    /// expected role. One under another label keeps what its label says.
    pub(super) fn assign_roles(&self, drafts: &mut [Draft]) {
        for (rail, index) in self.pairs() {
            let Some(draft) = index.and_then(|index| drafts.get_mut(index)) else { continue };
            if rail.is_called(&draft.label) || !draft.is_labelled {
                draft.role = rail.role;
            }
        }
    }

    /// What of the profile does not hold, and what lies inside what.
    pub(super) fn expectation(&self, drafts: &[Draft]) -> BoardExpectation {
        let mut mismatches = Vec::new();
        for (rail, index) in self.pairs() {
            match index.and_then(|index| drafts.get(index)) {
                Some(draft) => mismatches.extend(differences(rail, draft)),
                None if rail.optional => {}
                None => mismatches.push(Mismatch::Missing {
                    rail: rail.label.clone().unwrap_or_else(|| rail.kind.name().to_owned()),
                    chip: rail.kind.name().to_owned(),
                    address: rail.address.get(),
                    channel: rail.channel,
                }),
            }
        }
        let profile = Some(self.profile.name.clone());
        BoardExpectation { profile, inside: self.inside(drafts), mismatches }
    }

    /// Sampled parts inside other sampled parts; a total is never added to.
    fn inside(&self, drafts: &[Draft]) -> Vec<RailInside> {
        let sampled = |index: Option<usize>| {
            index.and_then(|index| drafts.get(index)).filter(|draft| draft.skipped.is_none())
        };
        let inner = |(rail, index): (&ExpectedRail, Option<usize>)| {
            let draft = sampled(index)?;
            let around = rail.inside.as_deref()?;
            let (_, index) = self.pairs().find(|(other, _)| other.is_called(around))?;
            let around = sampled(index).filter(|around| around.role == RailRole::Part)?;
            Some(RailInside { rail: draft.name.clone(), within: around.name.clone() })
        };
        self.pairs().filter_map(inner).collect()
    }
}

fn differences(rail: &ExpectedRail, draft: &Draft) -> Vec<Mismatch> {
    let name = || draft.name.clone();
    let mut found = Vec::new();
    if let Some(expected) = rail.label.clone().filter(|_| !rail.is_called(&draft.label)) {
        found.push(Mismatch::OtherLabel { rail: draft.label.clone(), expected });
    }
    let address = draft.address();
    let is_elsewhere = address != Some(rail.address) || draft.channel != rail.channel;
    // A driver behind a bridge tells no address: nothing to hold against it.
    if is_elsewhere && address.is_some() && rail.is_read("address") {
        found.push(Mismatch::OtherPlace {
            rail: name(),
            expected_address: rail.address.get(),
            expected_channel: rail.channel,
            address: address.map(crate::power::bus::Address7::get),
            channel: draft.channel,
        });
    }
    let shunts = rail.shunt_ohm.filter(|_| rail.is_read("shunt_ohm")).zip(draft.shunt_ohm);
    if let Some((expected_ohm, used_ohm)) = shunts.filter(|(one, other)| differs(*one, *other)) {
        found.push(Mismatch::OtherShunt { rail: name(), expected_ohm, used_ohm });
    }
    if rail.is_called(&draft.label) && draft.role != rail.role {
        let (expected, used) = (rail.role, draft.role);
        found.push(Mismatch::OtherRole { rail: name(), expected, used });
    }
    found
}
