//! The board's own state, read at little cost around and within a trial.
//!
//! Owns where power mode, clocks, fans, temperatures, throttling and swap are
//! shown, searched once, and how each is read. Starts no process and touches no
//! bus: files of sysfs, procfs and the power-mode daemon alone. Judges nothing.
//! Sources: Linux Documentation/admin-guide/pm/cpufreq.rst, ABI/testing/
//! sysfs-class-devfreq and sysfs-class-thermal, hwmon/sysfs-interface.rst; Jetson
//! Linux Developer Guide, "nvpmodel" (`/etc/nvpmodel.conf`, `/var/lib/nvpmodel/
//! status`); Raspberry Pi documentation, `get_throttled`.

use std::path::{Path, PathBuf};

use wattline_protocol::record::{
    AlarmKind, BoardConditions, ClockDomain, ClockState, Fan, Moment, Swapping, Temperature,
    Throttle, ThrottleCause,
};
use wattline_protocol::units::BoardTime;

use super::mode;
use crate::power::discover::tree::{entries_named, name_of, text};

/// Clocks, fans, zones and throttle files that are read at most: a dozen
/// clusters, a handful of fans, and no record near a frame's limit.
const FILES_MAX: usize = 32;
/// Endings of a devfreq folder's name that stand for a GPU: Tegra's by chip
/// (Maxwell to Blackwell), Broadcom's and Arm's by driver.
const GPUS: [&str; 10] = [
    "gpu",
    ".gm20b",
    ".gp10b",
    ".gv11b",
    ".ga10b",
    ".gb10b",
    ".v3d",
    ".mali",
    "gpu-gpc-0",
    ".panfrost",
];
/// Kinds of cooling that slow a clock, unlike a fan's.
const SLOWING: [&str; 5] =
    ["cpufreq", "thermal-cpufreq", "devfreq", "thermal-devfreq", "Processor"];
/// The firmware's word of a Raspberry Pi, below `/sys/devices`.
const GET_THROTTLED: [&str; 2] = [
    "devices/platform/soc/soc:firmware/get_throttled",
    "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
];
/// Bits of it: what holds now, and with 16 added what held since the start.
const THROTTLED_BITS: [(u8, ThrottleCause); 4] = [
    (0, ThrottleCause::UnderVoltage),
    (1, ThrottleCause::Heat),
    (2, ThrottleCause::Heat),
    (3, ThrottleCause::Heat),
];

/// Where a board shows its state.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    root: PathBuf,
    clocks: Vec<(PathBuf, ClockDomain)>,
    zones: Vec<PathBuf>,
    fans: Vec<FanPlace>,
    counters: Vec<PathBuf>,
    cooling: Vec<PathBuf>,
    under_voltage: Vec<PathBuf>,
    firmware: Option<PathBuf>,
    zrams: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
struct FanPlace {
    name: String,
    pwm: PathBuf,
    rpm: PathBuf,
}

impl Conditions {
    /// Searches the tree at `root`, which stands for `/sys`.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        let all = |folder: &str, prefix: &str| {
            let mut found = entries_named(&root.join(folder), prefix);
            found.truncate(FILES_MAX);
            found
        };
        let cpus = all("devices/system/cpu/cpufreq", "policy");
        let others = all("class/devfreq", "");
        let hwmons = all("class/hwmon", "hwmon");
        let type_of = |path: &PathBuf| text(&path.join("type")).unwrap_or_default();
        let slows = |path: &PathBuf| {
            let kind = type_of(path);
            SLOWING.iter().any(|start| kind.starts_with(start)) || kind.contains("throttle")
        };
        let cpu =
            all("devices/system/cpu", "cpu").into_iter().map(|cpu| cpu.join("thermal_throttle"));
        let counters = cpu.flat_map(|folder| {
            ["core_throttle_count", "package_throttle_count"].map(|name| folder.join(name))
        });
        Self {
            root: root.to_owned(),
            clocks: cpus
                .into_iter()
                .map(|path| (path, ClockDomain::Cpu))
                .chain(others.into_iter().map(|path| (path.clone(), domain(name_of(&path)))))
                .collect(),
            zones: all("class/thermal", "thermal_zone"),
            fans: fans(&hwmons),
            counters: counters.filter(|path| path.is_file()).take(FILES_MAX).collect(),
            cooling: all("class/thermal", "cooling_device").into_iter().filter(slows).collect(),
            under_voltage: hwmons
                .iter()
                .filter(|path| text(&path.join("name")).as_deref() == Some("rpi_volt"))
                .map(|path| path.join("in0_lcrit_alarm"))
                .collect(),
            firmware: GET_THROTTLED.iter().map(|path| root.join(path)).find(|path| path.is_file()),
            zrams: all("block", "zram"),
        }
    }

    /// Reads all of it. What cannot be read now is left out.
    #[must_use]
    pub fn read(&self, at: BoardTime, trial: u32, moment: Moment) -> BoardConditions {
        BoardConditions {
            at,
            trial,
            moment,
            power_mode: mode::of(&self.root),
            clocks: self.clocks.iter().filter_map(|(path, of)| clock(path, *of)).collect(),
            fans: self.fans.iter().filter_map(fan).collect(),
            temperatures: self.zones.iter().filter_map(|zone| temperature(zone)).collect(),
            throttles: self.throttles(),
            swapping: self.swapping(),
        }
    }

    fn throttles(&self) -> Vec<Throttle> {
        let (heat, flag, count) = (ThrottleCause::Heat, AlarmKind::Flag, AlarmKind::Count);
        let parent = |path: &Path| {
            let folders: Vec<&str> =
                path.iter().rev().skip(1).filter_map(|name| name.to_str()).collect();
            folders.into_iter().find(|name| *name != "thermal_throttle").unwrap_or("").to_owned()
        };
        let reading = |path: &PathBuf, cause, kind| {
            let value = text(path)?.parse().ok()?;
            let name = format!("{} {}", parent(path), name_of(path));
            Some(Throttle { name, cause, kind, value })
        };
        let counters = self.counters.iter().filter_map(|path| reading(path, heat, count));
        let cooling =
            self.cooling.iter().filter_map(|path| reading(&path.join("cur_state"), heat, flag));
        let low = self.under_voltage.iter();
        let low = low.filter_map(|path| reading(path, ThrottleCause::UnderVoltage, flag));
        let firmware = self.firmware.as_deref().and_then(text);
        let word =
            firmware.and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        counters.chain(cooling).chain(low).chain(word.into_iter().flat_map(firmware_bits)).collect()
    }

    fn swapping(&self) -> Option<Swapping> {
        let vmstat = text_beside(&self.root, "proc/vmstat")?;
        let pages = |name: &str| named(&vmstat, name);
        let memory = text_beside(&self.root, "proc/meminfo").unwrap_or_default();
        let bytes = |name: &str| named(&memory, name).unwrap_or(0).saturating_mul(1_024);
        let zram = |path: &PathBuf| {
            // Third column of mm_stat: all memory that the device takes.
            text(&path.join("mm_stat"))?.split_whitespace().nth(2)?.parse::<u64>().ok()
        };
        Some(Swapping {
            pages_in: pages("pswpin")?,
            pages_out: pages("pswpout")?,
            used_bytes: bytes("SwapTotal:").saturating_sub(bytes("SwapFree:")),
            zram_bytes: self.zrams.iter().filter_map(zram).sum(),
        })
    }
}

/// The text of a file beside the tree that stands for `/sys`: below it in a copy,
/// next to it on a running system.
pub(super) fn text_beside(root: &Path, name: &str) -> Option<String> {
    let path =
        [root.join(name), root.join("..").join(name)].into_iter().find(|path| path.is_file());
    // Longer than an attribute: /proc/vmstat has a few kilobytes, nvpmodel.conf some.
    std::fs::read_to_string(path?).ok()
}

/// The number behind a name that begins a line.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

/// Whether a devfreq folder's name is a GPU's.
pub(super) fn is_gpu(name: &str) -> bool {
    GPUS.iter().any(|ending| name.ends_with(ending))
}

fn domain(name: &str) -> ClockDomain {
    if is_gpu(name) { ClockDomain::Gpu } else { ClockDomain::Other }
}

/// A processor's policy, in kHz, or a devfreq folder, in Hz.
fn clock(folder: &Path, domain: ClockDomain) -> Option<ClockState> {
    let (prefix, hz_a_khz) = match domain {
        ClockDomain::Cpu => ("scaling_", 1),
        ClockDomain::Gpu | ClockDomain::Other => ("", 1_000),
    };
    let khz = |name: &str| {
        let number: u64 = text(&folder.join(format!("{prefix}{name}")))?.parse().ok()?;
        u32::try_from(number / hz_a_khz).ok()
    };
    Some(ClockState {
        name: name_of(folder).to_owned(),
        domain,
        governor: text(&folder.join(format!("{prefix}governor"))).unwrap_or_default(),
        khz: khz("cur_freq")?,
        khz_min: khz("min_freq").unwrap_or(0),
        khz_max: khz("max_freq").unwrap_or(0),
    })
}

fn fans(hwmons: &[PathBuf]) -> Vec<FanPlace> {
    let places = hwmons.iter().flat_map(|folder| {
        (1..=4).map(|number| FanPlace {
            name: format!("{} {number}", text(&folder.join("name")).unwrap_or_default()),
            pwm: folder.join(format!("pwm{number}")),
            rpm: folder.join(format!("fan{number}_input")),
        })
    });
    places.filter(|fan| fan.pwm.is_file() || fan.rpm.is_file()).take(FILES_MAX).collect()
}

fn fan(place: &FanPlace) -> Option<Fan> {
    let number = |path: &Path| text(path)?.parse().ok();
    let (pwm, rpm) = (number(&place.pwm), number(&place.rpm));
    (pwm.is_some() || rpm.is_some()).then(|| Fan { name: place.name.clone(), pwm, rpm })
}

fn temperature(zone: &Path) -> Option<Temperature> {
    let millidegree_c = text(&zone.join("temp"))?.parse().ok()?;
    Some(Temperature { zone: text(&zone.join("type")).unwrap_or_default(), millidegree_c })
}

/// Now, and once since the start, which rises once.
fn firmware_bits(word: u64) -> impl Iterator<Item = Throttle> {
    THROTTLED_BITS.into_iter().flat_map(move |(bit, cause)| {
        [(bit, AlarmKind::Flag), (bit + 16, AlarmKind::Count)].map(|(bit, kind)| Throttle {
            name: format!("get_throttled bit {bit}"),
            cause,
            kind,
            value: word >> bit & 1,
        })
    })
}

#[cfg(test)]
mod tests;
