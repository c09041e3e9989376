//! The board as the running system describes it.
//!
//! Owns what is read of model, kernel, governors and temperatures. What is read
//! of each trial is in [`conditions`]. Changes nothing. Every file may be absent: then the value is empty, not a failure.

pub mod conditions;
pub mod keeper;
pub mod mode;
pub mod pin;
pub mod verb;

use std::fs;
use std::path::Path;

use wattline_protocol::record::{BoardDescription, BoardState, Temperature};
use wattline_protocol::units::BoardTime;

use crate::power::discover;

/// Thermal zones that are read at most; boards have up to a dozen.
const ZONES_MAX: usize = 32;

/// The board.
#[must_use]
pub fn describe(id: &str) -> BoardDescription {
    let raspberry_pi = discover::raspberry_pi();
    let model = ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]
        .into_iter()
        .map(text)
        .find(|model| !model.is_empty())
        .or_else(|| raspberry_pi.clone())
        .unwrap_or_else(|| "unknown".into());
    let memory = text("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .unwrap_or(0_u64);
    BoardDescription {
        id: id.to_owned(),
        model,
        kernel: format!(
            "{} {} {}",
            text("/proc/sys/kernel/ostype"),
            text("/proc/sys/kernel/osrelease"),
            std::env::consts::ARCH
        ),
        cores: cores_online(),
        memory_bytes: memory.saturating_mul(1024),
        raspberry_pi,
    }
}

/// Cores that this process may use.
#[must_use]
pub fn cores_online() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// The board's state now.
#[must_use]
pub fn state(at: BoardTime) -> BoardState {
    let core = |number: u16, file: &str| {
        text(&format!("/sys/devices/system/cpu/cpu{number}/cpufreq/{file}"))
    };
    let load = text("/proc/loadavg");
    let load = load.split(' ').next().and_then(|one| {
        let (whole, hundredths) = one.split_once('.')?;
        Some(whole.parse::<u32>().ok()? * 100 + hundredths.parse::<u32>().ok()?)
    });
    BoardState {
        at,
        governor: core(0, "scaling_governor"),
        core_khz: (0..cores_online())
            .filter_map(|number| core(number, "scaling_cur_freq").parse().ok())
            .collect(),
        temperatures: temperatures(),
        load_hundredths: load.unwrap_or(0),
    }
}

fn temperatures() -> Vec<Temperature> {
    (0..ZONES_MAX)
        .map(|number| format!("/sys/class/thermal/thermal_zone{number}"))
        .take_while(|zone| Path::new(zone).exists())
        .filter_map(|zone| {
            let millidegree_c = text(&format!("{zone}/temp")).parse().ok()?;
            Some(Temperature { zone: text(&format!("{zone}/type")), millidegree_c })
        })
        .collect()
}

fn text(path: &str) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_cores_and_memory() {
        let board = describe("id");
        assert!(board.kernel.starts_with("Linux "));
        assert!(board.cores >= 1 && board.memory_bytes > 1_000_000);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_empty_text() {
        assert_eq!(text("/no/such/file"), "");
    }
}
