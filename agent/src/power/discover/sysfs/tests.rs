//! The search on trees laid out as kernels lay them out.

use std::os::unix::fs::symlink;

use super::*;

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
fn an_ina226_has_its_shunt_from_hwmon_and_an_ina219_is_listed_alone() {
    let tree = Tree::new();
    for (driver_name, place) in [("ina226", "2-0041"), ("ina219", "2-0044")] {
        let chip = tree.bound("ina2xx", place);
        tree.file(&format!("{chip}/name"), driver_name);
        let hwmon = format!("{chip}/hwmon/hwmon1");
        tree.file(&format!("{hwmon}/in1_input"), "12000");
        tree.file(&format!("{hwmon}/curr1_input"), "700");
        tree.file(&format!("{hwmon}/shunt_resistor"), "10000");
    }
    let found = find(tree.root());
    let names: Vec<&str> = found.rails.iter().map(|rail| rail.name.as_str()).collect();
    assert_eq!(names, ["ina226 2-0041 channel 1", "ina219 2-0044 channel 1"]);
    assert_eq!(found.chips.len(), 1);
    assert!((found.chips[0].rails[0].shunt_ohm - 0.01).abs() < 1e-12);
}

#[test]
fn an_empty_tree_has_no_rail_and_tells_where_it_looked() {
    let tree = Tree::new();
    let found = find(tree.root());
    assert!(found.rails.is_empty() && found.chips.is_empty());
    assert_eq!(found.looked_for.len(), 3);
    assert!(found.looked_for[0].path.ends_with("bus/i2c/drivers/ina3221"));
}

#[test]
fn a_channel_without_a_file_for_its_current_cannot_be_read() {
    let tree = Tree::new();
    let chip = tree.bound("ina3221", "1-0041");
    tree.file(&format!("{chip}/hwmon/hwmon0/in1_label"), "VDDQ\n");
    tree.file(&format!("{chip}/hwmon/hwmon0/in1_input"), "1100\n");
    let found = find(tree.root());
    assert_eq!(found.rails[0].skipped, Some(SkipReason::Unreadable));
    assert_eq!(skip_reason(&io::Error::from_raw_os_error(61)), SkipReason::NotConnected);
}

#[test]
fn a_given_chip_is_ours_unless_a_driver_holds_it() {
    let tree = Tree::new();
    orin(&tree);
    let rail = GivenRail {
        channel: 1,
        name: "supply".to_owned(),
        role: RailRole::Total,
        shunt_ohm: 0.1,
        shunt_tolerance: 0.01,
    };
    let mut wanted =
        GivenChip { kind: ChipKind::Ina3221, bus: 1, address: 0x40, rails: vec![rail] };
    let ownership = |chip: &GivenChip| given(tree.root(), chip).unwrap().chip.ownership();
    assert_eq!(ownership(&wanted), Ownership::KernelDriver);
    wanted.address = 0x42;
    assert_eq!(ownership(&wanted), Ownership::Ours);
    wanted.address = 0x03;
    assert!(given(tree.root(), &wanted).is_err());
}
