//! What a row of a meter allocates: rails that the kernel reads for us.
//!
//! Owns three meters on files of a temporary folder, one of each kind. Knows
//! nothing of a GPU's library and a Raspberry Pi's firmware.

use std::io;
use std::sync::Arc;

use wattline_agent::clock::VirtualClock;
use wattline_agent::power::meter::{Count, Files, Meter, MeterCore, MeterRail};
use wattline_agent::power::ring::ring;
use wattline_protocol::record::{ChipKind, ErrorLimits, RailRole, RailSource};
use wattline_protocol::units::BoardTime;

use crate::allocations;

const ROWS: u32 = 2_000;
const LIMITS: ErrorLimits = ErrorLimits {
    shunt_offset_v: 0.0,
    shunt_gain: 0.0,
    bus_offset_v: 0.0,
    bus_gain: 0.0,
    shunt_tolerance: 0.0,
};

/// Allocations a row, by case: `hwmon` (volts and amperes), `power` and `rapl`
/// (a counter of energy). None where no folder can be made.
pub(super) fn allocations() -> Vec<(&'static str, f64)> {
    ["hwmon", "power", "rapl"]
        .into_iter()
        .filter_map(|case| Some((case, a_row_of(case).ok()?)))
        .collect()
}

fn a_row_of(case: &str) -> io::Result<f64> {
    let folder = tempfile::tempdir()?;
    let count = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "123456\n")?;
        io::Result::Ok(Count::of_file(path, 1e-6))
    };
    let files = match case {
        "hwmon" => Files::VoltsAmperes { volts: count("volts")?, amperes: count("amperes")? },
        "power" => Files::Power(count("power")?),
        _ => Files::Energy { counter: count("energy")?, wraps_at: Some(1 << 32) },
    };
    let rail = MeterRail {
        channel: 1,
        name: case.to_owned(),
        role: RailRole::Part,
        shunt_ohm: None,
        driver_shunt_ohm: None,
        limits: LIMITS,
        files,
    };
    let meter = Meter {
        kind: ChipKind::Driver,
        source: RailSource::Hwmon,
        place: None,
        period_ns: 20_000_000,
        rails: vec![rail],
    };
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let (producer, mut rows) = ring(64);
    let mut core = MeterCore::opened(&meter, clock, producer, 0)?;
    core.step();
    let made = allocations::during(|| {
        for _ in 0..ROWS {
            core.step();
            while rows.pop().is_some() {}
        }
    });
    Ok(f64::from(u32::try_from(made).unwrap_or(u32::MAX)) / f64::from(ROWS))
}
