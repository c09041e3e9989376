//! The search on trees laid out as kernels lay them out.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use wattline_protocol::record::{Mismatch, RailInside, RailRole};
use wattline_protocol::units::BoardTime;

use super::*;
use crate::clock::VirtualClock;
use crate::power::bus::Address7;
use crate::power::chip::Ownership;
use crate::power::gpu::GpuError;
use crate::power::gpu::scripted::{Script, ScriptedGpu};
use crate::power::pace::BusShare;
use crate::power::pmic::tests::{CAPTURE, scripted};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A chip as the kernel lays it out: a folder of the adapter, with
    /// relative links from the driver and from the bus.
    fn bound(&self, driver: &str, name: &str) -> String {
        let real = format!("devices/platform/c240000.i2c/i2c-1/{name}");
        self.file(&format!("{real}/name"), driver);
        for place in [format!("bus/i2c/drivers/{driver}"), "bus/i2c/devices".to_owned()] {
            fs::create_dir_all(self.root().join(&place)).unwrap();
            let up = "../".repeat(place.split('/').count());
            let link = self.root().join(&place).join(name);
            symlink(format!("{up}{real}"), link).unwrap();
        }
        let driver_link = self.root().join(&real).join("driver");
        symlink(format!("../../../../../bus/i2c/drivers/{driver}"), driver_link).unwrap();
        real
    }
}

fn orin(tree: &Tree) {
    let chip = tree.bound("ina3221", "1-0040");
    tree.file("class/i2c-adapter/i2c-1/of_node/clock-frequency", 400_000_u32.to_be_bytes());
    for (channel, label) in [(1, "VDD_IN\n"), (2, "NC\n"), (3, "VDD_SOC\n")] {
        let hwmon = format!("{chip}/hwmon/hwmon3");
        tree.file(&format!("{hwmon}/in{channel}_label"), label);
        tree.file(&format!("{hwmon}/in{channel}_input"), "5008\n");
        tree.file(&format!("{hwmon}/curr{channel}_input"), "816\n");
        tree.file(&format!("{hwmon}/shunt{channel}_resistor"), "5000\n");
    }
    tree.file(&format!("{chip}/hwmon/hwmon3/in7_label"), "sum of shunt voltages\n");
    tree.file(&format!("{chip}/hwmon/hwmon3/update_interval"), "7\n");
}

#[test]
fn an_orin_has_two_rails_and_says_why_not_four() {
    let tree = Tree::new();
    orin(&tree);
    let found = find(tree.root());
    let rails: Vec<_> = found
        .rails
        .iter()
        .map(|rail| (rail.name.as_str(), rail.role, rail.shunt_ohm, rail.skipped))
        .collect();
    assert_eq!(
        rails,
        [
            ("VDD_IN", RailRole::Total, Some(0.005), None),
            ("NC", RailRole::Part, Some(0.005), Some(SkipReason::NotConnected)),
            ("VDD_SOC", RailRole::Part, Some(0.005), None),
            ("sum of shunt voltages", RailRole::Part, None, Some(SkipReason::Derived)),
        ]
    );
    assert!((found.rails[0].limit_hz.unwrap() - 1e3 / 7.0).abs() < 1e-9);
    assert!(found.rails[0].rate_hz.is_some_and(|rate| rate > 0.0));
}

#[test]
fn a_chip_of_a_kernel_driver_is_not_ours_and_samples_its_connected_channels() {
    let tree = Tree::new();
    orin(&tree);
    let found = find(tree.root());
    let chip = &found.chips[0];
    assert_eq!(chip.chip.ownership(), Ownership::KernelDriver);
    assert_eq!((chip.chip.channels(), chip.bus_clock_hz), (&[1, 3][..], Some(400_000)));
    assert_eq!(chip.share, BusShare::Whole);
    tree.bound("tmp102", "1-0048");
    assert_eq!(find(tree.root()).chips[0].share, BusShare::Half);
}

#[test]
fn a_chip_is_listed_once_although_two_trees_show_it() {
    let tree = Tree::new();
    orin(&tree);
    fs::create_dir_all(tree.root().join("class/hwmon")).unwrap();
    let real = "../../devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3";
    symlink(real, tree.root().join("class/hwmon/hwmon3")).unwrap();
    assert_eq!(find(tree.root()).rails.len(), 4);
    fs::remove_dir_all(tree.root().join("bus")).unwrap();
    let found = find(tree.root());
    assert_eq!(found.rails.len(), 4);
    assert_eq!((found.rails[0].bus, found.rails[0].address), (Some(1), Some(0x40)));
}

#[test]
fn what_the_kernel_reads_can_be_sampled_without_a_register() {
    let tree = Tree::new();
    orin(&tree);
    let meters = find(tree.root()).meters;
    assert_eq!(meters.len(), 1);
    let names: Vec<&str> = meters[0].rails.iter().map(|rail| rail.name.as_str()).collect();
    assert_eq!((names, meters[0].place), (vec!["VDD_IN", "VDD_SOC"], Some((1, 0x40))));
}

#[test]
fn two_rails_of_one_label_get_two_names() {
    let tree = Tree::new();
    for place in ["1-0040", "1-0041"] {
        let chip = tree.bound("ina2xx", place);
        tree.file(&format!("{chip}/name"), "ina226");
        tree.file(&format!("{chip}/hwmon/hwmon1/label"), "VIN");
        tree.file(&format!("{chip}/hwmon/hwmon1/in1_input"), "12000");
        tree.file(&format!("{chip}/hwmon/hwmon1/curr1_input"), "700");
    }
    let rails = find(tree.root()).rails;
    assert_eq!((rails[0].name.as_str(), rails[1].name.as_str()), ("VIN", "VIN (1-0041)"));
}

#[test]
fn the_clock_of_the_bus_is_found_above_a_multiplexer() {
    let tree = Tree::new();
    orin(&tree);
    let place = |name| Place::above(&tree.root().join("bus/i2c/devices").join(name)).unwrap();
    assert_eq!(place("1-0040").clock_hz(tree.root()), Some(400_000));
    let real = "devices/platform/c240000.i2c";
    fs::remove_dir_all(tree.root().join("class")).unwrap();
    assert_eq!(place("1-0040").clock_hz(tree.root()), None);
    tree.file(&format!("{real}/of_node/clock-frequency"), 100_000_u32.to_be_bytes());
    assert_eq!(place("1-0040").clock_hz(tree.root()), Some(100_000));
}

fn given(kind: ChipKind, address: u8, channel: u8, name: &str) -> GivenRail {
    GivenRail {
        kind,
        bus: 1,
        address: Address7::new(address).unwrap(),
        channel,
        name: name.to_owned(),
        role: RailRole::Part,
        shunt_ohm: 0.1,
        shunt_tolerance: 0.02,
    }
}

fn skipped(found: &Found, name: &str) -> Option<Option<SkipReason>> {
    found.rails.iter().find(|rail| rail.name == name).map(|rail| rail.skipped)
}

#[test]
fn a_given_chip_is_ours_and_read_over_the_users_shunt() {
    let tree = Tree::new();
    orin(&tree);
    let supply = GivenRail { role: RailRole::Total, ..given(ChipKind::Ina226, 0x44, 1, "SUPPLY") };
    let found = find_with(tree.root(), &[supply]);
    let chip = found.chips.iter().find(|chip| chip.chip.address().get() == 0x44).unwrap();
    assert_eq!((chip.chip.kind(), chip.chip.ownership()), (ChipKind::Ina226, Ownership::Ours));
    let rail = &chip.rails[0];
    assert_eq!((rail.shunt_ohm.to_bits(), rail.role), (0.1_f64.to_bits(), RailRole::Total));
    assert_eq!(rail.shunt_tolerance.to_bits(), 0.02_f64.to_bits());
    // The user's total is the only one.
    assert_eq!(found.rails[0].role, RailRole::Part);
}

#[test]
fn a_given_rail_of_a_drivers_chip_takes_the_users_words_and_says_so() {
    let tree = Tree::new();
    orin(&tree);
    let found = find_with(tree.root(), &[given(ChipKind::Ina3221, 0x40, 1, "MODULE")]);
    assert_eq!(found.rails.len(), 4);
    let told = Mismatch::Overridden { rail: "MODULE".into(), told_ohm: 0.005, given_ohm: 0.1 };
    assert_eq!(found.expectation.mismatches, [told]);
    assert_eq!(found.chips[0].chip.ownership(), Ownership::KernelDriver);
    assert_eq!(found.chips[0].rails[0].shunt_ohm.to_bits(), 0.1_f64.to_bits());
    // The driver's amperes were made with its own shunt: 20 times too many.
    let scale = found.meters[0].rails[0].scale();
    let amperes = 816.0 * scale.shunt_lsb_v / scale.shunt_ohm;
    assert!((amperes - 0.816 / 20.0).abs() < 1e-12, "{amperes}");
}

#[test]
fn a_given_rail_where_another_chip_is_known_is_refused() {
    let tree = Tree::new();
    orin(&tree);
    tree.bound("tmp102", "1-0048");
    let stranger = tree.bound("none", "1-0049");
    tree.file(&format!("{stranger}/name"), "pca9685");
    for link in ["devices/platform/c240000.i2c/i2c-1/1-0049/driver", "bus/i2c/drivers/none/1-0049"]
    {
        fs::remove_file(tree.root().join(link)).unwrap();
    }
    let other_bus = GivenRail { bus: 9, ..given(ChipKind::Ina226, 0x44, 1, "NO BUS") };
    let rails = [
        given(ChipKind::Ina219, 0x48, 1, "A THERMOMETER"),
        given(ChipKind::Ina219, 0x49, 1, "A FAN"),
        given(ChipKind::Ina226, 0x40, 1, "ANOTHER MONITOR"),
        given(ChipKind::Ina3221, 0x40, 2, "NC CHANNEL"),
        other_bus,
    ];
    let found = find_with(tree.root(), &rails);
    assert_eq!(skipped(&found, "A THERMOMETER"), Some(Some(SkipReason::OtherDriver)));
    assert_eq!(skipped(&found, "A FAN"), Some(Some(SkipReason::OtherChip)));
    assert_eq!(skipped(&found, "ANOTHER MONITOR"), Some(Some(SkipReason::OtherDriver)));
    // Its driver leaves it off.
    assert_eq!(skipped(&found, "NC CHANNEL"), Some(Some(SkipReason::NotConnected)));
    assert_eq!(skipped(&found, "NO BUS"), Some(Some(SkipReason::NoBus)));
    assert_eq!(found.chips.len(), 1);
}

#[test]
fn a_given_shunt_makes_a_chip_of_the_device_tree_usable() {
    let tree = Tree::new();
    let chip = tree.bound("none", "1-0045");
    tree.file(&format!("{chip}/name"), "ina226");
    fs::remove_dir_all(tree.root().join("bus/i2c/drivers")).unwrap();
    fs::remove_file(tree.root().join(&chip).join("driver")).unwrap();
    assert_eq!(find(tree.root()).rails[0].skipped, Some(SkipReason::NoShunt));
    let found = find_with(tree.root(), &[given(ChipKind::Ina226, 0x45, 1, "SUPPLY")]);
    assert_eq!((found.rails.len(), skipped(&found, "SUPPLY")), (1, Some(None)));
    assert_eq!(found.chips[0].rails[0].name, "SUPPLY");
}

fn with_gpus(tree: &Tree, opened: Result<Gpus, GpuError>, clock: &VirtualClock) -> Found {
    find_among(tree.root(), &[], |search| vec![gpu::find(search, opened, clock)])
}

#[test]
fn gpus_are_rails_beside_a_processors_counters() {
    let tree = Tree::new();
    tree.file("class/powercap/intel-rapl:0/name", "package-0\n");
    tree.file("class/powercap/intel-rapl:0/energy_uj", "1000\n");
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(0)));
    let old = ScriptedGpu { energy: Err(GpuError::NotSupported), ..ScriptedGpu::of_watts(9) };
    let gpus = vec![ScriptedGpu::of_watts(70), old, ScriptedGpu::of_a_jetson()];
    let found = with_gpus(&tree, Ok(Script::new(Arc::clone(&clock), gpus).gpus()), &clock);
    let rails: Vec<_> =
        found.rails.iter().map(|r| (r.name.as_str(), r.source.name(), r.skipped)).collect();
    let not_supported = Some(SkipReason::NotSupported);
    assert_eq!(
        rails,
        [
            ("package-0", "rapl", None),
            ("GPU 0", "nvml", None),
            ("GPU 1", "nvml", None),
            ("GPU 2", "nvml", not_supported)
        ]
    );
    assert_eq!(found.rails[1].chip, "scripted GPU of place 0");
    assert!((found.rails[1].rate_hz.unwrap() - 50.0).abs() < 1.0);
    // A power that stands still tells no rate.
    assert_eq!(found.rails[2].rate_hz, None);
    let meters: Vec<_> = found.meters.iter().map(|m| (m.source, m.kind, m.period_ns)).collect();
    assert_eq!(meters.len(), 3, "{meters:?}");
    assert_eq!((meters[1].0, meters[1].1), (RailSource::Nvml, ChipKind::EnergyCounter));
    assert!((19_000_000..=21_000_000).contains(&meters[1].2), "{meters:?}");
    assert_eq!(meters[2], (RailSource::Nvml, ChipKind::PowerMeter, 50_000_000));
    let last = found.looked_for.last().unwrap();
    assert_eq!((last.what, last.found), ("NVIDIA GPUs (NVML)", 3));
}

#[test]
fn what_is_missing_of_the_gpus_driver_is_told() {
    let tree = Tree::new();
    let clock = VirtualClock::starting_at(BoardTime(0));
    for (error, said) in [
        (GpuError::NoLibrary, "not installed"),
        (GpuError::NoDriver, "not loaded"),
        (GpuError::Failed, "does not start"),
    ] {
        let found = with_gpus(&tree, Err(error), &clock);
        let last = found.looked_for.last().unwrap();
        assert!(last.what.contains(said) && last.found == 0, "{last:?}");
        assert!(found.rails.is_empty() && found.meters.is_empty());
    }
}

#[test]
fn a_pi_5_has_twelve_parts_and_no_total() {
    let tree = Tree::new();
    let (chip, _) = scripted(CAPTURE);
    let found = find_among(tree.root(), &[], |search| vec![pmic::find(search, Ok(chip))]);
    assert_eq!(found.rails.len(), 12);
    for rail in &found.rails {
        assert_eq!(
            (rail.source, rail.role, rail.skipped),
            (RailSource::Pmic, RailRole::Part, None)
        );
        assert_eq!((rail.chip.as_str(), rail.shunt_ohm), ("da9091", None));
        assert!(rail.rate_hz.is_some());
    }
    let shape: Vec<_> = found.meters.iter().map(|m| (m.rails.len(), m.period_ns)).collect();
    assert_eq!(shape, [(4, 50_000_000); 3]);
}

#[test]
fn a_firmware_that_may_not_or_cannot_be_asked_gives_no_rail() {
    let tree = Tree::new();
    let older = b"error=1 error_msg=\"Command not registered\"";
    let closed = Err(std::io::ErrorKind::PermissionDenied.into());
    let absent = Err(std::io::ErrorKind::NotFound.into());
    for (opened, cure) in [(Ok(scripted(older).0), false), (closed, true), (absent, false)] {
        let found = find_among(tree.root(), &[], |search| vec![pmic::find(search, opened)]);
        let last = found.looked_for.last().unwrap();
        assert!(found.rails.is_empty() && last.found == 0);
        assert_eq!(last.what.contains("join the group video"), cure, "{last:?}");
    }
}

#[test]
fn a_profile_says_what_lies_inside_what_and_which_is_the_total() {
    let tree = Tree::new();
    tree.file("firmware/devicetree/base/compatible", "nvidia,p3701-0000\0nvidia,tegra234\0");
    for (place, channels) in [
        ("1-0040", &[(1, "VDD_GPU_SOC"), (2, "VDD_CPU_CV"), (3, "VIN_SYS_5V0")][..]),
        ("1-0041", &[(2, "VDDQ_VDD2_1V8AO")]),
    ] {
        let chip = tree.bound("ina3221", place);
        for (channel, label) in channels {
            let hwmon = format!("{chip}/hwmon/hwmon3");
            tree.file(&format!("{hwmon}/in{channel}_label"), label);
            tree.file(&format!("{hwmon}/in{channel}_input"), "5008\n");
            tree.file(&format!("{hwmon}/curr{channel}_input"), "816\n");
            tree.file(&format!("{hwmon}/shunt{channel}_resistor"), "2000\n");
        }
    }
    let expectation = find(tree.root()).expectation;
    assert_eq!(expectation.profile.as_deref(), Some("jetson-agx-orin"));
    assert_eq!(expectation.mismatches, []);
    let inner = RailInside { rail: "VDDQ_VDD2_1V8AO".into(), within: "VIN_SYS_5V0".into() };
    assert_eq!(expectation.inside, [inner]);
    // A total of the user's makes it a difference, and nothing is added up.
    let total = GivenRail {
        role: RailRole::Total,
        shunt_ohm: 0.002,
        ..given(ChipKind::Ina3221, 0x40, 3, "VIN_SYS_5V0")
    };
    let expectation = find_with(tree.root(), &[total]).expectation;
    assert_eq!(expectation.inside, []);
    let (expected, used) = (RailRole::Part, RailRole::Total);
    let role = Mismatch::OtherRole { rail: "VIN_SYS_5V0".into(), expected, used };
    assert_eq!(expectation.mismatches, [role]);
}

#[test]
fn a_rail_without_a_label_has_the_role_that_the_profile_gives_its_place() {
    let tree = Tree::new();
    orin(&tree);
    let chip = "devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3";
    fs::remove_file(tree.root().join(chip).join("in1_label")).unwrap();
    assert_eq!(find(tree.root()).rails[0].role, RailRole::Part);
    // Beside the tree, as in a copy of a whole board.
    let root = tree.root().join("sys");
    fs::create_dir(&root).unwrap();
    for folder in ["devices", "bus", "class"] {
        fs::rename(tree.root().join(folder), root.join(folder)).unwrap();
    }
    tree.file("proc/device-tree/model", "NVIDIA Jetson Orin NX 16GB\0");
    let found = find(&root);
    assert_eq!(found.rails[0].role, RailRole::Total);
    assert_eq!(found.expectation.profile.as_deref(), Some("jetson-orin-nx"));
}

#[test]
fn all_counters_of_a_large_processor_are_seen_and_its_cores_are_in_its_sockets() {
    let tree = Tree::new();
    let hwmon = "class/hwmon/hwmon0";
    tree.file(&format!("{hwmon}/name"), "amd_energy\n");
    for number in 1..=258_u32 {
        let label = match number {
            1..=256 => format!("Ecore{:03}", number - 1),
            _ => format!("Esocket{}", number - 257),
        };
        tree.file(&format!("{hwmon}/energy{number}_label"), label);
        tree.file(&format!("{hwmon}/energy{number}_input"), "1000000\n");
    }
    let found = find(tree.root());
    assert_eq!(found.rails.len(), 258);
    let sampled: Vec<&str> = found
        .rails
        .iter()
        .filter(|rail| rail.skipped.is_none())
        .map(|rail| rail.name.as_str())
        .collect();
    assert_eq!(sampled, ["Esocket0", "Esocket1"]);
    assert_eq!(skipped(&found, "Ecore200"), Some(Some(SkipReason::Contained)));
}
