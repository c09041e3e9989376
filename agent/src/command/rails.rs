//! `rails`: what of this board can be sampled, and what not, and why.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use wattline_protocol::record::{DriverSetting, RailSource, SettingOutcome, SkipReason};

use super::configured::{Configured, configured, found};
use super::measured::{Measured, measured};
use super::sampled::{self, Statuses};
use super::serve::{make_folder, root_failure, spool_folder};
use super::{Failure, line, note};
use crate::args::RailsArgs;
use crate::power::discover::{DetectedRail, Found, SYSTEM_ROOT};
use crate::power::settings::{Desk, Held};
use crate::sampling::{PowerSource, looked_for};
use crate::spool::DiskStorage;

/// A board that cannot be measured so.
const STATUSES: Statuses = Statuses { wrong: 3, not_permitted: 3 };

pub(super) fn run(args: &RailsArgs) -> Result<(), Failure> {
    // Another tree stands for another board: this one's GPUs are not its.
    let root = args.sysfs_root.as_deref().filter(|&root| root != Path::new(SYSTEM_ROOT));
    let configuration = match configured(&args.config, root)? {
        Configured::Read(configuration) => configuration,
        Configured::Printed => return Ok(()),
    };
    let mut found = sampled::shared(found(root, &configuration), args.sampling);
    match root {
        None => measure(&mut found, args)?,
        // Nothing of another board's tree is measured; what is refused there is told.
        Some(root) => {
            let source = PowerSource::Real(found.clone());
            let _ = sampled::exclusive(&source, args.sampling, root, STATUSES)?;
        }
    }
    for mismatch in &found.expectation.mismatches {
        note(&format!("warning: {mismatch}"));
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
        mend: mend(&found),
    })
}

/// Measures the rate of every chip as a run would sample it.
fn measure(found: &mut Found, args: &RailsArgs) -> Result<(), Failure> {
    let (root, profile) = (Path::new(SYSTEM_ROOT), sampled::profile(args.sampling));
    let source = PowerSource::Real(found.clone());
    let held = match sampled::exclusive(&source, args.sampling, root, STATUSES)? {
        None => None,
        Some(_) => {
            let folder = spool_folder(args.spool.as_deref())?;
            make_folder(&folder)?;
            let storage = DiskStorage::open(&folder)
                .map_err(|error| Failure { status: 3, ..root_failure(&folder, &error) })?;
            let taken = Desk::new(Arc::new(storage), root).take(&found.held());
            Some(taken.map_err(|error| {
                Failure::of(3, "exclusive mode cannot be had", &error, "leave --exclusive out")
            })?)
        }
    };
    let taken = held.as_ref().map(Held::taken).unwrap_or_default();
    for chip in found.with_ours(&taken, profile).chips {
        match measured(&chip) {
            Measured::Read(core, rate_hz) => found.sampled_by_registers(&core, rate_hz),
            // A run reads its driver instead; or one is reading it now.
            Measured::Closed(_) if chip.has_driver() => {}
            Measured::Busy => {}
            Measured::Closed(reason) => found.give_up(&chip, reason),
        }
    }
    let is_left =
        |setting: &DriverSetting| matches!(setting.outcome, SettingOutcome::NotRestored { .. });
    if held.map(Held::restore).unwrap_or_default().iter().any(is_left) {
        return Err(Failure {
            status: 1,
            what: "a chip is not given back to its driver".into(),
            because: vec!["the log above says why; the journal keeps what was found".into()],
            mend: "sudo wattline-agent restore",
        });
    }
    Ok(())
}

fn mend(found: &Found) -> &'static str {
    let is_closed = |rail: &DetectedRail| {
        rail.source == RailSource::Rapl && rail.skipped == Some(SkipReason::NoPermission)
    };
    if found.rails.iter().any(is_closed) {
        return "let all read the counters: sudo chmod a+r /sys/class/powercap/*/energy_uj";
    }
    "measure on a board with INA monitors, or use `wattline run --on simulated`"
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
