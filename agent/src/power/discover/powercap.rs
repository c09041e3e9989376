//! The search of RAPL: the energy counters of x86 processors.
//!
//! Owns the layout of powercap's zones, which of them contain others, and the
//! counter's wrap. Reads files alone: the counters are root's since
//! CVE-2020-8694, which is told with its cure.
//! Source: Linux Documentation/power/powercap/powercap.rst.

use std::path::{Path, PathBuf};

use wattline_protocol::record::{RailSource, SkipReason};

use super::search::{Draft, Search};
use super::tree::{entries_named, name_of, number, text};
use crate::power::meter::{Count, Files};

/// Microjoules.
const MICRO: f64 = 1e-6;
/// Time between two readings, in ms: the counter moves about once a
/// millisecond, so that a row's mean is off by 5 % at most, and the next
/// one's by as much the other way.
const PERIOD_MS: f64 = 20.0;

/// The control type that shows the same counters over memory-mapped registers.
const REPEATED: &str = "intel-rapl-mmio";

/// The hwmon driver that shows an AMD processor's counters as well.
const TWIN_DRIVER: &str = "amd_energy";

/// A zone of a control type: `intel-rapl:0`, `intel-rapl:0:1`.
struct Zone {
    folder: PathBuf,
    name: String,
}

impl Zone {
    fn path(&self) -> &str {
        name_of(&self.folder)
    }

    /// The package above a part of it: `intel-rapl:0` of `intel-rapl:0:1`.
    fn is_inner(&self) -> bool {
        self.path().matches(':').count() > 1
    }
}

/// Lists the zones; returns how many there are.
pub(super) fn find(search: &mut Search<'_>) -> usize {
    let zones = zones(search.root);
    let has_total = zones.iter().any(|zone| zone.name == "psys");
    let counted = zones.len();
    for zone in &zones {
        let label = if zone.is_inner() && zone.name != "psys" {
            inner_name(zone, &zones)
        } else {
            zone.name.clone()
        };
        let mut draft = Draft::new(RailSource::Rapl, "rapl", 1, label, None);
        draft.period_ms = Some(PERIOD_MS);
        draft.limit_hz = Some(1e3);
        let wraps_at = number(&zone.folder.join("max_energy_range_uj"));
        draft.take(Files::Energy {
            counter: Count::of_file(zone.folder.join("energy_uj"), MICRO),
            wraps_at: wraps_at.and_then(whole),
        });
        if draft.skipped.is_none() {
            draft.skipped = overlap(zone, &zones, has_total);
        }
        search.add(draft);
    }
    let is_counted = |draft: &Draft| draft.source() == RailSource::Rapl && draft.skipped.is_none();
    if search.drafts.iter().any(is_counted) {
        // AMD's driver reads the same counters of the same packages.
        let twins = search.drafts.iter_mut().filter(|draft| draft.chip == TWIN_DRIVER);
        twins.for_each(|draft| draft.skipped = draft.skipped.or(Some(SkipReason::Derived)));
    }
    counted
}

/// Why a zone is not sampled beside the others. Memory has converters of its
/// own: all other parts of a package are in the package's count.
fn overlap(zone: &Zone, zones: &[Zone], has_total: bool) -> Option<SkipReason> {
    let twin = zone.path().starts_with(REPEATED)
        && zones.iter().any(|other| !other.path().starts_with(REPEATED) && other.name == zone.name);
    match () {
        () if twin => Some(SkipReason::Derived),
        () if !has_total && zone.is_inner() && zone.name != "dram" => Some(SkipReason::Contained),
        () => None,
    }
}

/// `package-0 core` where several packages have one, else `core`.
fn inner_name(zone: &Zone, zones: &[Zone]) -> String {
    let same = zones.iter().filter(|other| other.name == zone.name).count();
    let above = zone.path().rsplit_once(':').map(|(above, _)| above);
    let package = zones.iter().find(|other| Some(other.path()) == above);
    match package {
        Some(package) if same > 1 => format!("{} {}", package.name, zone.name),
        _ => zone.name.clone(),
    }
}

fn zones(root: &Path) -> Vec<Zone> {
    let class = root.join("class/powercap");
    let real = root.join("devices/virtual/powercap");
    let mut folders = entries_named(&class, "intel-rapl");
    if folders.is_empty() {
        folders = entries_named(&real, "intel-rapl")
            .into_iter()
            .flat_map(|control| entries_named(&control, "intel-rapl"))
            .flat_map(|zone| {
                core::iter::once(zone.clone()).chain(entries_named(&zone, "intel-rapl"))
            })
            .collect();
    }
    let named = folders.into_iter().filter_map(|folder| {
        let name = text(&folder.join("name")).filter(|_| name_of(&folder).contains(':'))?;
        Some(Zone { folder, name })
    });
    let mut zones: Vec<Zone> = named.collect();
    // The processor's own counters first: those over memory repeat them.
    zones.sort_by_key(|zone| zone.path().starts_with(REPEATED));
    zones
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate at 0")]
fn whole(count: f64) -> Option<u64> {
    (count > 0.0).then_some(count as u64)
}
