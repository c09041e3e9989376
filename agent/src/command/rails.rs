//! `rails`: what of this board can be sampled, and what not, and why.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use wattline_protocol::record::SkipReason;

use super::{Failure, line};
use crate::args::RailsArgs;
use crate::clock::SystemClock;
use crate::power::bus::linux::LinuxBus;
use crate::power::discover::{self, ChipRails, DetectedRail};
use crate::power::ring::ring;
use crate::power::sampler::{SamplerCore, SamplerParts};
use crate::sampling::looked_for;

/// Sweeps that the ring of a rate measurement holds; nobody reads them.
const RING_SWEEPS: usize = 1024;

pub(super) fn run(args: &RailsArgs) -> Result<(), Failure> {
    let system = Path::new("/sys");
    let root = args.sysfs_root.as_deref().unwrap_or(system);
    let mut found = discover::find(root);
    if root == system {
        for chip in &found.chips {
            let rate_hz = measured_rate_hz(chip);
            let same = |rail: &&mut DetectedRail| {
                rail.bus == Some(chip.bus) && rail.address == Some(chip.chip.address().get())
            };
            for rail in found.rails.iter_mut().filter(same) {
                rail.rate_hz = rate_hz;
            }
        }
    }
    if !args.json && !found.rails.is_empty() {
        line(
            "rail                 source chip     bus  addr  shunt/ohm  role   rate/Hz  limit/Hz",
        )?;
    }
    for rail in &found.rails {
        line(&if args.json { as_json(rail) } else { as_text(rail) })?;
    }
    if found.rails.iter().any(|rail| rail.skipped.is_none()) {
        return Ok(());
    }
    Err(Failure {
        status: 3,
        what: "no power rail was found on this board".into(),
        because: looked_for(&found),
        mend: "measure on a board with INA monitors, or use `wattline run --on simulated`",
    })
}

/// Fresh conversions a second, read for a moment; `None` where the chip cannot
/// be read (then a run would say why).
fn measured_rate_hz(chip: &ChipRails) -> Option<f64> {
    let (producer, _reader) = ring(RING_SWEEPS);
    let mut core = SamplerCore::configured(SamplerParts {
        chip: chip.chip,
        bus: Box::new(LinuxBus::open(chip.bus).ok()?),
        bus_number: chip.bus,
        bus_clock_hz: chip.bus_clock_hz,
        share: chip.share,
        clock: Arc::new(SystemClock),
        ring: producer,
        lane: 0,
    })
    .ok()?;
    Some(discover::measured_rate_hz(&mut core, &SystemClock))
}

fn as_json(rail: &DetectedRail) -> String {
    json!({
        "rail": rail.name,
        "source": rail.source.name(),
        "chip": rail.chip,
        "bus": rail.bus,
        "address": rail.address,
        "shunt_ohm": rail.shunt_ohm,
        "role": rail.role.name(),
        "rate_hz": rail.rate_hz,
        "limit_hz": rail.limit_hz,
        "skipped": rail.skipped.map(SkipReason::name),
    })
    .to_string()
}

fn as_text(rail: &DetectedRail) -> String {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
    let skipped = rail.skipped.map(|r| format!("  skipped: {}", r.name())).unwrap_or_default();
    format!(
        "{:<20} {:<6} {:<8} {:>3}  {:>4}  {:>9}  {:<5} {:>8} {:>9}{skipped}",
        rail.name,
        rail.source.name(),
        rail.chip,
        rail.bus.map_or("-".into(), |bus| bus.to_string()),
        rail.address.map_or("-".into(), |address| format!("{address:#04x}")),
        rail.shunt_ohm.map_or("-".into(), |ohm| ohm.to_string()),
        rail.role.name(),
        number(rail.rate_hz),
        number(rail.limit_hz),
    )
}
