//! What a board's profile and the user's configuration make of a run.
//!
//! The agent samples a tree laid out as a Jetson AGX Orin's; its files stand
//! still, so that every power is known.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::path::{Path, PathBuf};

use wattline_protocol::record::{BoardExpectation, Mismatch, RailInside, Record};
use wattline_tests::{Agent, AgentFlags, SMALLEST, Sandbox, Table};

/// Rails with milliamperes at 5 V and microohms: 5, 2 and 10 W, and 2.5 W of
/// the last; the first over another shunt than the module's.
const RAILS: [(&str, u8, &str, u32, u32); 4] = [
    ("1-0040", 1, "VDD_GPU_SOC", 1_000, 4_000),
    ("1-0040", 2, "VDD_CPU_CV", 400, 2_000),
    ("1-0040", 3, "VIN_SYS_5V0", 2_000, 2_000),
    ("1-0041", 2, "VDDQ_VDD2_1V8AO", 500, 2_000),
];

fn agx_orin(sandbox: &Sandbox) -> PathBuf {
    let root = sandbox.path("sys");
    let file = |path: &str, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let compatible = "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0";
    file("firmware/devicetree/base/compatible", compatible.into());
    fs::create_dir_all(root.join("bus/i2c/drivers/ina3221")).unwrap();
    for (place, channel, label, milliamperes, micro_ohm) in RAILS {
        let client = format!("bus/i2c/devices/{place}");
        let hwmon = format!("{client}/hwmon/hwmon1");
        file(&format!("{client}/name"), "ina3221\n".into());
        file(&format!("{hwmon}/name"), "ina3221\n".into());
        file(&format!("{hwmon}/in{channel}_label"), format!("{label}\n"));
        file(&format!("{hwmon}/in{channel}_input"), "5000\n".into());
        file(&format!("{hwmon}/curr{channel}_input"), format!("{milliamperes}\n"));
        file(&format!("{hwmon}/shunt{channel}_resistor"), format!("{micro_ohm}\n"));
        let driver = root.join(&client).join("driver");
        if !driver.exists() {
            std::os::unix::fs::symlink("../../drivers/ina3221", driver).unwrap();
        }
    }
    root
}

/// Runs the smallest campaign on the tree at `root`; what was expected, by the
/// agent's own records.
fn run(sandbox: &Sandbox, root: &Path, more: &[&str]) -> BoardExpectation {
    let board = format!("--sysfs-root={}", root.display());
    let more = more.iter().map(|&flag| flag.to_owned()).collect();
    let flags = AgentFlags { board, more, ..AgentFlags::named(sandbox, "board") };
    let agent = Agent::start_with(sandbox, flags);
    let on = ["run", "--on", &agent.address(), "--out", "run"];
    let ran = sandbox.wattline(&[&on[..], &SMALLEST[..]].concat());
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    let expected = agent.recorded().records().into_iter().find_map(|record| match record {
        Record::BoardExpectation(expected) => Some(expected),
        _ => None,
    });
    assert_eq!(agent.terminate().code, Some(0));
    expected.unwrap()
}

/// Mean power of the one cell, in watts, and its reasons.
fn cell(sandbox: &Sandbox) -> (f64, String) {
    sandbox.wattline(&["export", "run", "--to", "csv"]).ends_with(0);
    let cells = Table::read(&sandbox.work().join("run/export/cells.csv"));
    (cells.texts("watts")[0].parse().unwrap(), cells.texts("reasons")[0].to_owned())
}

#[test]
fn a_run_without_a_total_adds_no_part_twice_and_its_report_tells_what_differs() {
    let sandbox = Sandbox::new();
    let root = agx_orin(&sandbox);
    let expected = run(&sandbox, &root, &[]);
    assert_eq!(expected.profile.as_deref(), Some("jetson-agx-orin"));
    let inner = RailInside { rail: "VDDQ_VDD2_1V8AO".into(), within: "VIN_SYS_5V0".into() };
    assert_eq!(expected.inside, [inner]);
    let rail = "VDD_GPU_SOC".to_owned();
    let shunt = Mismatch::OtherShunt { rail, expected_ohm: 0.002, used_ohm: 0.004 };
    assert_eq!(expected.mismatches, [shunt]);
    let (watts, reasons) = cell(&sandbox);
    assert!((watts - 17.0).abs() < 0.01, "{watts}");
    assert!(reasons.contains("no_total_rail"), "{reasons}");
    let page = fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    for words in [
        "Not as expected",
        "rail VDD_GPU_SOC is measured over 0.004 Ω, expected 0.002 Ω",
        "without VDDQ_VDD2_1V8AO, which VIN_SYS_5V0 holds",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_rail_of_the_configuration_is_the_total_over_the_users_shunt() {
    let sandbox = Sandbox::new();
    let root = agx_orin(&sandbox);
    let config = sandbox.file(
        "agent.toml",
        "[[rail]]\nlabel = \"SUPPLY\"\nchip = \"ina3221\"\nbus = 1\naddress = 0x40\n\
         channel = 3\nshunt_ohm = 0.001\nrole = \"total\"\n",
    );
    let expected = run(&sandbox, &root, &["--config", config.to_str().unwrap()]);
    let rail = "SUPPLY".to_owned();
    let told = Mismatch::Overridden { rail, told_ohm: 0.002, given_ohm: 0.001 };
    assert!(expected.mismatches.contains(&told), "{expected:?}");
    // The driver's 2 A were made with twice the resistance.
    let (watts, reasons) = cell(&sandbox);
    assert!((watts - 20.0).abs() < 0.01, "{watts}");
    assert!(!reasons.contains("no_total_rail"), "{reasons}");
}
