//! Checks of rails, chips and buses.
//!
//! Owns what each figure means and its cure: labels against the profile, driver,
//! access, the rate against chip and bus, the configuration as read back. A tree
//! that is not this machine's is judged by its files alone.

use std::path::Path;

use wattline_protocol::record::{ChipKind, RailRole, RailSource, SkipReason};

use super::Check;
use crate::command::drivers;
use crate::command::measured::{Measured, measured};
use crate::power::chip::{Chip, Flag, ina3221};
use crate::power::discover::{ChipRails, DetectedRail, DrivenChip, Found, SYSTEM_ROOT, monitors};
use crate::power::pace::BusShare;
use crate::sampling::looked_for;

/// Share of the possible rate below which something takes time that it should
/// not: a busy bus, or a thread that is not scheduled in time.
const RATE_SHARE_MIN: f64 = 0.9;
/// Averaging of JetPack 4's driver unless its device tree says otherwise.
const JETPACK_4_AVERAGING: u32 = 64;
/// Cycle of that driver's chip with three channels of 1.1 ms, in ns.
const JETPACK_4_CYCLE_NS: u32 = 6_600_000;

/// All checks of what was found; `root` is another board's tree.
pub(super) fn checks(found: &Found, root: Option<&Path>) -> Vec<Check> {
    let mut checks = vec![board(found), rails(found)];
    checks.extend(total(found));
    let tree = root.unwrap_or_else(|| Path::new(SYSTEM_ROOT));
    checks.extend(monitors(tree).iter().map(of_driver));
    checks.push(settings(tree));
    if root.is_none() {
        checks.extend(found.chips.iter().flat_map(of_registers));
    }
    checks.extend(jetpack_4(found));
    checks
}

fn board(found: &Found) -> Check {
    let expectation = &found.expectation;
    let profile = expectation.profile.as_deref().unwrap_or("no profile knows this board");
    if expectation.mismatches.is_empty() {
        return Check::good("board", profile);
    }
    let differences: Vec<String> = expectation.mismatches.iter().map(ToString::to_string).collect();
    Check::warning(
        "board",
        format!("{profile}; {}", differences.join("; ")),
        "see docs/boards.md; a wrong shunt is mended by agent.toml, or by `report --shunt`",
    )
}

fn rails(found: &Found) -> Check {
    let rails = found.rails.iter();
    let good: Vec<&str> =
        rails.filter(|rail| rail.skipped.is_none()).map(|rail| rail.name.as_str()).collect();
    if !good.is_empty() {
        return Check::good("rails", good.join(", "));
    }
    let is_closed = |rail: &DetectedRail| rail.skipped == Some(SkipReason::NoPermission);
    let cure = if found.rails.iter().any(|rail| rail.source == RailSource::Rapl && is_closed(rail))
    {
        "sudo chmod a+r /sys/class/powercap/*/energy_uj, or install deploy/board/70-wattline.rules"
    } else {
        "load the board's INA driver (sudo modprobe ina3221), or name a monitor of your own in \
         /etc/wattline/agent.toml (docs/boards.md)"
    };
    Check::failed("rails", format!("none; looked for {}", looked_for(found).join("; ")), cure)
}

/// Which rail a cell's energy is of.
fn total(found: &Found) -> Option<Check> {
    let mut sampled = found.rails.iter().filter(|rail| rail.skipped.is_none()).peekable();
    sampled.peek()?;
    let total = sampled.find(|rail| rail.role == RailRole::Total);
    let inner: Vec<String> = found
        .expectation
        .inside
        .iter()
        .map(|inner| format!("; {} is inside {} and not added", inner.rail, inner.within))
        .collect();
    Some(match total {
        Some(rail) => Check::good("total", rail.name.clone()),
        None => Check::good(
            "total",
            format!("none: the parts are added, flagged no_total_rail{}", inner.concat()),
        ),
    })
}

fn name(chip: &ChipRails) -> String {
    format!("{}-{:04x}", chip.bus, chip.chip.address().get())
}

/// Who holds a monitor.
fn of_driver(chip: &DrivenChip) -> Check {
    let (kind, place) = (chip.kind.name(), format!("{}-{:04x}", chip.bus, chip.address));
    let who = chip.driver.as_ref().map_or_else(
        || "held by no driver: the agent configures it".to_owned(),
        |driver| format!("held by the driver {driver}: no register is written"),
    );
    Check::good(format!("driver {place}"), format!("{kind}, {who}"))
}

/// Whether the drivers' settings can be set for a run, and what their averaging
/// does where they cannot.
fn settings(tree: &Path) -> Check {
    let (good, found) = drivers::drivers(tree);
    if good {
        return Check::good("settings", found);
    }
    let monitors = monitors(tree);
    let words = monitors.iter().find_map(averaging_of).unwrap_or_default();
    Check::warning("settings", format!("{found}{words}"), drivers::CURE)
}

/// What the driver's averaging does, where it is an INA3221's.
fn averaging_of(chip: &DrivenChip) -> Option<String> {
    let folder = chip.hwmon.as_deref().filter(|_| chip.kind == ChipKind::Ina3221)?;
    let told = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let samples = told("samples").filter(|&samples| samples > 1)?;
    // The driver tells its interval with the averaging in it.
    let cycle_ns = told("update_interval")?.saturating_mul(1_000_000) / samples;
    Some(format!("; {}", filtered(samples, cycle_ns)))
}

/// Access, rate and configuration by the chip's own registers.
fn of_registers(chip: &ChipRails) -> Vec<Check> {
    let access = format!("access i2c-{}", chip.bus);
    match measured(chip) {
        Measured::Busy => vec![Check::good(
            format!("rate {}", name(chip)),
            "not measured: an agent serves here and may be sampling it",
        )],
        Measured::Closed(reason) => vec![closed(access, chip, reason)],
        Measured::Read(core, rate_hz) => {
            let described = core.describe();
            vec![
                Check::good(access, format!("/dev/i2c-{} can be used", chip.bus)),
                rate(chip, core.chip(), rate_hz),
                configuration(&name(chip), core.chip(), described.config_register),
            ]
        }
    }
}

/// What keeps the registers from being read, and how it is mended.
fn closed(access: String, chip: &ChipRails, reason: SkipReason) -> Check {
    let bus = chip.bus;
    let cure = match reason {
        SkipReason::NoBus => "sudo modprobe i2c-dev, and for good: echo i2c-dev | sudo tee \
             /etc/modules-load.d/wattline.conf"
            .to_owned(),
        SkipReason::NoPermission => "sudo usermod -aG i2c $USER and log in again; where the group \
             is not that of /dev/i2c-*, install deploy/board/70-wattline.rules"
            .to_owned(),
        SkipReason::NoAnswer => {
            format!("see wiring, supply and address; `i2cdetect -y {bus}` shows what answers")
        }
        _ => "mend chip and address in agent.toml: nothing was written to it".to_owned(),
    };
    let found = format!("{} at {}: {}", chip.chip.kind().name(), name(chip), reason.name());
    if chip.has_driver() {
        let found = format!("{found}; its driver's files are read instead, some ten times slower");
        return Check::warning(access, found, cure);
    }
    Check::failed(access, found, cure)
}

/// Fresh conversions a second against what chip and bus allow.
fn rate(chip: &ChipRails, configured: &Chip, rate_hz: f64) -> Check {
    let name = format!("rate {}", name(chip));
    let chip_hz = 1e9 / f64::from(configured.cycle_ns());
    let bus_hz = chip
        .bus_clock_hz
        .map(|hertz| f64::from(hertz) / f64::from(configured.transaction_bits(Flag::Left)));
    let clock = chip.bus_clock_hz.map_or_else(
        || "the bus's clock is not declared".to_owned(),
        |hertz| format!("bus at {} kHz allows {:.0}", hertz / 1_000, bus_hz.unwrap_or(0.0)),
    );
    let limit_hz = bus_hz.map_or(chip_hz, |bus| bus.min(chip_hz));
    let found =
        format!("{rate_hz:.0} sweeps/s of {limit_hz:.0}; chip allows {chip_hz:.0}, {clock}");
    if rate_hz >= RATE_SHARE_MIN * limit_hz {
        return Check::good(name, found);
    }
    let cure = match (chip.share, bus_hz.is_some_and(|bus| bus < chip_hz)) {
        (BusShare::Half, _) => {
            "others are bound on this bus, and half of it is left to them: nothing is wrong"
        }
        (_, true) => "a faster bus (Raspberry Pi: dtparam=i2c_arm_baudrate=400000), or less on it",
        (_, false) => "see the check `scheduling`, and what else runs on this board",
    };
    Check::warning(name, found, cure)
}

/// The configuration register as read back, in words.
fn configuration(place: &str, chip: &Chip, register: u16) -> Check {
    let name = format!("config {place}");
    let timing = chip.timing(0, Flag::Left, 400_000);
    let us = |ns: u32| ns / 1_000;
    let cycle_us = us(chip.cycle_ns());
    let said = format!(
        "{register:#06x}: shunt {} µs, bus {} µs, cycle {cycle_us} µs",
        us(timing.shunt_conversion_ns),
        us(timing.bus_conversion_ns)
    );
    let averaging = match chip.kind() {
        ChipKind::Ina3221 => ina3221::averaging(register),
        _ => 1,
    };
    if averaging > 1 {
        return Check::warning(
            name,
            format!("{said}; {}", filtered(averaging, chip.cycle_ns())),
            SET_SAMPLES,
        );
    }
    Check::good(name, said)
}

const SET_SAMPLES: &str = "let the agent set the driver (docs/driver-settings.md), or \
    echo 1 | sudo tee /sys/bus/i2c/devices/*/hwmon/hwmon*/samples";

/// What averaging does in an INA3221: an exponential filter (SBOS576, 8.4.1).
fn filtered(averaging: u32, cycle_ns: u32) -> String {
    let ms = f64::from(averaging) * f64::from(cycle_ns) / 1e6;
    format!(
        "averaging {averaging} is an exponential filter with a time constant of {ms:.0} ms: the \
         energy of anything shorter than some seconds comes out wrong"
    )
}

/// JetPack 4's driver writes the configuration at each read, so that it cannot
/// be read back: what it does is told.
fn jetpack_4(found: &Found) -> Option<Check> {
    let is_jetpack_4 = |rail: &&DetectedRail| {
        rail.source == RailSource::Iio && rail.chip == "ina3221" && rail.skipped.is_none()
    };
    found.rails.iter().find(is_jetpack_4)?;
    let words = filtered(JETPACK_4_AVERAGING, JETPACK_4_CYCLE_NS);
    Some(Check::warning(
        "config ina3221x",
        format!("not read back; unless the device tree says otherwise, {words}"),
        "measure over long windows (--window-s-min 10), or upgrade to JetPack 5",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::bus::Address7;
    use crate::power::chip::{ChipSetup, Ownership, Profile};
    use crate::power::discover::{self, ChannelRail};

    fn chip(kind: ChipKind, clock_hz: u32, ownership: Ownership) -> ChipRails {
        let setup =
            ChipSetup { address: Address7::new(0x40).unwrap(), profile: Profile::Fast, ownership };
        let rail = |channel| ChannelRail {
            channel,
            name: format!("R{channel}"),
            role: RailRole::Part,
            shunt_ohm: 0.005,
            shunt_tolerance: 0.01,
            offsets: None,
        };
        ChipRails {
            chip: Chip::new(kind, setup, &[1, 2, 3]).unwrap(),
            bus: 1,
            bus_clock_hz: Some(clock_hz),
            share: BusShare::Whole,
            rails: vec![rail(1), rail(2), rail(3)],
        }
    }

    #[test]
    fn a_rate_is_told_against_the_slower_of_chip_and_bus() {
        let slow = chip(ChipKind::Ina3221, 100_000, Ownership::KernelDriver);
        // Six registers: 283 bits of 10 µs.
        let good = rate(&slow, &slow.chip, 350.0);
        assert_eq!(good.found, "350 sweeps/s of 353; chip allows 1190, bus at 100 kHz allows 353");
        assert_eq!(good.cure, "");
        let bad = rate(&slow, &slow.chip, 200.0);
        assert!(bad.cure.contains("i2c_arm_baudrate"), "{}", bad.cure);
        let fast = chip(ChipKind::Ina3221, 400_000, Ownership::KernelDriver);
        assert!(rate(&fast, &fast.chip, 600.0).cure.contains("scheduling"));
    }

    #[test]
    fn an_averaging_ina3221_is_told_with_its_time_constant() {
        let ours = chip(ChipKind::Ina3221, 400_000, Ownership::Ours).chip;
        let plain = configuration("1-0040", &ours, 0x7007);
        assert_eq!(plain.found, "0x7007: shunt 140 µs, bus 140 µs, cycle 840 µs");
        let jetpack_4 = configuration("1-0040", &ours, 0x7607);
        assert!(jetpack_4.found.contains("averaging 64"), "{}", jetpack_4.found);
        assert!(jetpack_4.found.contains("54 ms"), "{}", jetpack_4.found);
        assert!(filtered(JETPACK_4_AVERAGING, JETPACK_4_CYCLE_NS).contains("422 ms"));
    }

    #[test]
    fn what_keeps_a_bus_closed_has_a_cure_of_its_own() {
        let ours = chip(ChipKind::Ina226, 100_000, Ownership::Ours);
        let said = |reason| closed("access i2c-1".into(), &ours, reason);
        assert!(said(SkipReason::NoBus).cure.contains("modprobe i2c-dev"));
        assert!(said(SkipReason::NoPermission).cure.contains("usermod -aG i2c"));
        assert!(said(SkipReason::NoAnswer).cure.contains("i2cdetect -y 1"));
        assert_eq!(said(SkipReason::OtherChip).outcome, super::super::Outcome::Failed);
        let held = chip(ChipKind::Ina3221, 100_000, Ownership::KernelDriver);
        let warned = closed("access i2c-1".into(), &held, SkipReason::NoPermission);
        assert_eq!(warned.outcome, super::super::Outcome::Warning);
    }

    #[test]
    fn another_boards_tree_is_judged_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("proc/device-tree/compatible", "nvidia,p3767-0000\0nvidia,tegra234\0");
        let chip = "bus/i2c/devices/1-0040";
        file(&format!("{chip}/name"), "ina3221\n");
        std::os::unix::fs::symlink("../../drivers/ina3221", root.path().join(chip).join("driver"))
            .unwrap();
        for (name, text) in [
            ("name", "ina3221"),
            ("update_interval", "7"),
            ("in1_label", "VDD_IN"),
            ("in1_input", "5000"),
            ("curr1_input", "800"),
            ("shunt1_resistor", "10000"),
        ] {
            file(&format!("{chip}/hwmon/hwmon1/{name}"), text);
        }
        let found = discover::find(root.path());
        let checks = checks(&found, Some(root.path()));
        let said: Vec<String> = checks.iter().map(|check| check.text(false)).collect();
        let all = said.join("\n");
        for words in [
            "warn board          jetson-orin-nx; rail VDD_IN is measured over 0.01 Ω",
            "rail VDD_SOC is missing",
            "ok   rails          VDD_IN",
            "ok   total          VDD_IN",
            "ok   driver 1-0040  ina3221, held by the driver ina3221",
            "1-0040 by ina3221: update_interval 7",
        ] {
            assert!(all.contains(words), "{words} in\n{all}");
        }
    }
}
