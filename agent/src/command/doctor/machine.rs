//! Checks of the machine: scheduling, cores, clocks, GPU, spool and disk.

use std::path::Path;

use super::Check;
use crate::board;
use crate::command::serve;
use crate::realtime;
use crate::runner::gpu;
use crate::runner::process::RunnerPrograms;
use crate::spool::{QUOTA_PART, RoomRules};

/// Bytes that a run of eight hours takes with one INA3221 at full rate, as the
/// preflight reckons (16 KiB a second).
const NIGHT_BYTES: u64 = 8 * 3_600 * 16_384;
/// Bytes below which the agent refuses a run.
const ROOM_BYTES_MIN: u64 = crate::server::ROOM_BYTES_MIN;

/// All of them.
pub(super) fn checks(folder: Option<&Path>, rules: RoomRules) -> Vec<Check> {
    let mut checks = vec![scheduling(), cores(), governor(), kernels(), gpu_of_board()];
    checks.extend(spool(folder, rules));
    checks
}

fn scheduling() -> Check {
    // On a thread of its own, so that this one keeps its class.
    let granted = std::thread::spawn(realtime::request).join().ok();
    match granted.map(|granted| granted.refusal_errno) {
        Some(None) => Check::good("scheduling", "real-time class granted"),
        refused => {
            let errno = refused.flatten().unwrap_or(0);
            Check::failed(
                "scheduling",
                format!("real-time class refused (errno {errno}): samples may come late"),
                "give the user an rtprio limit of 50, or run the agent as its service",
            )
        }
    }
}

fn cores() -> Check {
    let cores = board::cores_online();
    let found = format!("{cores} on line");
    if cores >= 2 {
        return Check::good("cores", found);
    }
    Check::failed("cores", found, "leave one core to the sampler: measure with --cores")
}

fn governor() -> Check {
    let state = board::state(crate::clock::Clock::now(&crate::clock::SystemClock));
    let fastest = state.core_khz.iter().max().map_or(0, |khz| khz / 1_000);
    match state.governor.as_str() {
        "" => Check::good("governor", "the kernel shows no frequencies of the cores"),
        "performance" => Check::good("governor", format!("performance, up to {fastest} MHz now")),
        other => Check::warning(
            "governor",
            format!("{other}, up to {fastest} MHz now: the clock follows the load"),
            "sudo cpupower frequency-set -g performance; on a Jetson sudo jetson_clocks",
        ),
    }
}

/// What this executable computes with, and what the cores offer it.
fn kernels() -> Check {
    let own = if cfg!(feature = "own-kernels") { "own kernels" } else { "candle's kernels" };
    let vectors = vectors();
    let vectors = if vectors.is_empty() { "no vector unit".into() } else { vectors.join(" ") };
    let built = if cfg!(feature = "cudnn") {
        "candle with CUDA and cuDNN"
    } else if cfg!(feature = "cuda") {
        "candle with CUDA"
    } else {
        "candle for the CPU (a GPU has a runner of its own)"
    };
    Check::good("kernels", format!("{own}; {} with {vectors}; {built}", std::env::consts::ARCH))
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Vec<&'static str> {
    let detected = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    detected.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> Vec<&'static str> {
    let detected = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
    ];
    detected.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectors() -> Vec<&'static str> {
    Vec::new()
}

fn gpu_of_board() -> Check {
    let Some(name) = gpu::present() else { return Check::good("gpu", "none seen") };
    let program = RunnerPrograms::beside_this().ok().and_then(|programs| programs.cuda);
    match gpu::check(program.as_deref(), "cuda") {
        Ok(()) => Check::good("gpu", format!("{name}, and a runner that opens it")),
        Err(missing) => {
            Check::warning("gpu", format!("{name}, but {}", missing.describe()), missing.mend())
        }
    }
}

/// The spool's folder, and the room on its disk.
fn spool(folder: Option<&Path>, rules: RoomRules) -> Vec<Check> {
    let folder = serve::spool_folder(folder).and_then(|folder| {
        serve::make_folder(&folder)?;
        Ok(folder)
    });
    let folder = match folder {
        Ok(folder) => folder,
        Err(failure) => {
            return vec![Check::failed("spool", failure.what, "choose a folder with --spool")];
        }
    };
    let mut checks = vec![Check::good("spool", folder.display().to_string())];
    if let Ok(disk) = nix::sys::statvfs::statvfs(&folder) {
        let bytes = disk.blocks_available().saturating_mul(disk.fragment_size());
        checks.push(room(bytes, rules));
    }
    checks
}

/// What runs may take of a disk on which `free` bytes are free, against a night.
fn room(free: u64, rules: RoomRules) -> Check {
    let mb = |bytes: u64| bytes / 1_000_000;
    let quota = rules.quota_bytes.unwrap_or(free / QUOTA_PART);
    let bytes = free.saturating_sub(rules.reserve_bytes).min(quota);
    let found = format!(
        "{} MB free, runs may take {} MB (when full: {}); a night takes up to {} MB",
        mb(free),
        mb(bytes),
        rules.when_full.name(),
        mb(NIGHT_BYTES)
    );
    let cure = "free some, choose another disk with --spool, or give runs more of this one with \
                --spool-quota and --spool-reserve";
    match bytes {
        _ if bytes < ROOM_BYTES_MIN => Check::failed("disk", found, cure),
        _ if bytes < NIGHT_BYTES => Check::warning("disk", found, cure),
        _ => Check::good("disk", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn a_disk_is_judged_by_a_night() {
        let rules = RoomRules::default();
        let outcomes = [0, 2 * ROOM_BYTES_MIN, 2 * NIGHT_BYTES]
            .map(|bytes| room(bytes + rules.reserve_bytes, rules).outcome);
        assert_eq!(outcomes, [Outcome::Failed, Outcome::Warning, Outcome::Good]);
        assert_eq!(
            room(1_000_000_000, rules).found,
            "1000 MB free, runs may take 500 MB (when full: drop); a night takes up to 471 MB"
        );
        let small = RoomRules { quota_bytes: Some(18_000_000), ..rules };
        assert_eq!(room(1_000_000_000, small).outcome, Outcome::Warning);
    }

    #[test]
    fn every_check_of_this_machine_has_words() {
        let folder = tempfile::tempdir().unwrap();
        for check in checks(Some(folder.path()), RoomRules::default()) {
            assert!(!check.found.is_empty(), "{}", check.name);
            assert_eq!(check.outcome == Outcome::Good, check.cure.is_empty(), "{}", check.name);
        }
    }
}
