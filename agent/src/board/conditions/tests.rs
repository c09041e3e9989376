//! A Jetson's and a Raspberry Pi's state, from trees of files.

use std::fs;

use wattline_protocol::record::PowerMode;

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

const JETSON: [(&str, &str); 29] = [
    ("devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil"),
    ("devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1510400"),
    ("devices/system/cpu/cpufreq/policy0/scaling_min_freq", "115200"),
    ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1984000"),
    ("devices/system/cpu/cpufreq/policy4/scaling_governor", "schedutil"),
    ("devices/system/cpu/cpufreq/policy4/scaling_cur_freq", "729600"),
    ("class/devfreq/17000000.gpu/governor", "nvhost_podgov"),
    ("class/devfreq/17000000.gpu/cur_freq", "918000000"),
    ("class/devfreq/17000000.gpu/min_freq", "306000000"),
    ("class/devfreq/17000000.gpu/max_freq", "918000000"),
    ("class/devfreq/15340000.vic/cur_freq", "115200000"),
    ("class/hwmon/hwmon0/name", "pwmfan"),
    ("class/hwmon/hwmon0/pwm1", "128"),
    ("class/hwmon/hwmon1/name", "ina3221"),
    ("class/hwmon/hwmon1/in1_input", "5000"),
    ("class/thermal/thermal_zone0/type", "cpu-thermal"),
    ("class/thermal/thermal_zone0/temp", "48500"),
    ("class/thermal/thermal_zone2/type", "tj-thermal"),
    ("class/thermal/thermal_zone2/temp", "50125"),
    ("class/thermal/cooling_device0/type", "pwm-fan"),
    ("class/thermal/cooling_device0/cur_state", "2"),
    ("class/thermal/cooling_device1/type", "cpu-throttle-alert"),
    ("class/thermal/cooling_device1/cur_state", "1"),
    ("block/zram0/mm_stat", "4096 74 12288 0 12288 0 0 0 0"),
    ("proc/vmstat", "nr_free_pages 7\npswpin 12\npswpout 34\npswpin_x 9"),
    ("proc/meminfo", "MemTotal: 8000000 kB\nSwapTotal: 4000 kB\nSwapFree: 3000 kB"),
    ("etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=MODE_15W >"),
    ("var/lib/nvpmodel/status", "pmode:0002"),
    ("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "5"),
];

#[test]
fn a_jetson_is_read_whole() {
    let root = tree(&JETSON);
    let read = Conditions::find(root.path()).read(BoardTime(7), 3, Moment::Before);
    assert_eq!((read.at, read.trial, read.moment), (BoardTime(7), 3, Moment::Before));
    assert_eq!(read.power_mode, Some(PowerMode { id: 2, name: "MODE_15W".into() }));
    let clocks: Vec<_> =
        read.clocks.iter().map(|c| (c.name.as_str(), c.domain, c.khz, c.khz_max)).collect();
    assert_eq!(
        clocks,
        [
            ("policy0", ClockDomain::Cpu, 1_510_400, 1_984_000),
            ("policy4", ClockDomain::Cpu, 729_600, 0),
            ("15340000.vic", ClockDomain::Other, 115_200, 0),
            ("17000000.gpu", ClockDomain::Gpu, 918_000, 918_000),
        ]
    );
    assert_eq!(read.clocks[3].governor, "nvhost_podgov");
    assert_eq!(read.fans, [Fan { name: "pwmfan 1".into(), pwm: Some(128), rpm: None }]);
    // Zones need not be numbered without holes.
    let zones: Vec<_> =
        read.temperatures.iter().map(|t| (t.zone.as_str(), t.millidegree_c)).collect();
    assert_eq!(zones, [("cpu-thermal", 48_500), ("tj-thermal", 50_125)]);
    let throttles: Vec<_> =
        read.throttles.iter().map(|t| (t.name.as_str(), t.kind, t.value)).collect();
    assert_eq!(
        throttles,
        [
            ("cpu0 core_throttle_count", AlarmKind::Count, 5),
            ("cooling_device1 cur_state", AlarmKind::Flag, 1),
        ]
    );
    assert_eq!(
        read.swapping,
        Some(Swapping { pages_in: 12, pages_out: 34, used_bytes: 1_024_000, zram_bytes: 12_288 })
    );
}

#[test]
fn a_raspberry_pis_firmware_says_what_holds_and_what_held() {
    let root = tree(&[
        ("devices/platform/soc/soc:firmware/get_throttled", "50005"),
        ("class/hwmon/hwmon2/name", "rpi_volt"),
        ("class/hwmon/hwmon2/in0_lcrit_alarm", "1"),
    ]);
    let pi = Conditions::find(root.path());
    let before = pi.read(BoardTime(0), 0, Moment::Before);
    let raised: Vec<&str> =
        before.throttles.iter().filter(|t| t.value != 0).map(|t| t.name.as_str()).collect();
    // Under-voltage and throttling: now (0, 2) and since the start (16, 18).
    assert_eq!(
        raised,
        [
            "hwmon2 in0_lcrit_alarm",
            "get_throttled bit 0",
            "get_throttled bit 16",
            "get_throttled bit 2",
            "get_throttled bit 18"
        ]
    );
    // What held once, in between, leaves its upper bit alone.
    fs::write(root.path().join(GET_THROTTLED[0]), "0\n").unwrap();
    fs::write(root.path().join("class/hwmon/hwmon2/in0_lcrit_alarm"), "0\n").unwrap();
    let calm = pi.read(BoardTime(1), 0, Moment::During);
    assert!(!calm.throttled_since(&calm, ThrottleCause::UnderVoltage));
    fs::write(root.path().join(GET_THROTTLED[0]), "10000\n").unwrap();
    let after = pi.read(BoardTime(2), 0, Moment::After);
    assert!(after.throttled_since(&calm, ThrottleCause::UnderVoltage));
    assert!(!after.throttled_since(&calm, ThrottleCause::Heat));
}

#[test]
fn a_tree_that_is_empty_or_breaks_while_it_is_read_gives_what_is_left() {
    let empty = tempfile::tempdir().unwrap();
    let read = Conditions::find(empty.path()).read(BoardTime(0), 0, Moment::After);
    assert_eq!((read.clocks.len(), read.throttles.len(), read.swapping), (0, 0, None));
    let root = tree(&JETSON);
    let jetson = Conditions::find(root.path());
    fs::write(root.path().join("class/thermal/thermal_zone0/temp"), "N/A").unwrap();
    fs::remove_dir_all(root.path().join("class/devfreq")).unwrap();
    let read = jetson.read(BoardTime(0), 0, Moment::After);
    assert_eq!((read.clocks.len(), read.temperatures.len()), (2, 1));
}
