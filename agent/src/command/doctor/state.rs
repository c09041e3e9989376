//! Checks of the board's own state: power mode, clocks, throttling, heat, swap.
//!
//! Owns what each value means before a run, and its cure. The same files are
//! read around each trial ([`crate::board::conditions`]).

use std::path::Path;

use wattline_protocol::record::{
    AlarmKind, BoardConditions, ClockDomain, ClockState, Moment, PowerMode, Throttle, ThrottleCause,
};

use super::Check;
use crate::board::conditions::Conditions;
use crate::board::mode;
use crate::clock::{Clock, SystemClock};

/// A board that begins this hot throttles soon: Jetsons slow down at 97 to
/// 99 °C, a Raspberry Pi at 80 °C (their makers' documents).
const HOT_MILLIDEGREE_C: i32 = 75_000;

/// All of them, of the tree that stands for `/sys`.
pub(super) fn checks(tree: &Path) -> Vec<Check> {
    let read = Conditions::find(tree).read(SystemClock.now(), 0, Moment::Before);
    of(&read, &mode::modes(tree))
}

fn of(read: &BoardConditions, modes: &[PowerMode]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(read.power_mode.as_ref().map(|mode| power_mode(mode, modes)));
    checks
        .extend(read.clocks.iter().filter(|clock| clock.domain == ClockDomain::Gpu).map(gpu_clock));
    checks.push(throttling(&read.throttles));
    checks.extend(heat(read));
    checks.extend(read.swapping.map(|swap| {
        let mb = |bytes: u64| bytes / 1_000_000;
        let found = format!(
            "{} MB of swap in use, zram takes {} MB",
            mb(swap.used_bytes),
            mb(swap.zram_bytes)
        );
        if swap.used_bytes == 0 {
            return Check::good("swap", "nothing swapped out");
        }
        let cure =
            "free memory, or sudo swapoff -a && sudo swapon -a; a trial that swaps is flagged";
        Check::warning("swap", found, cure)
    }));
    checks
}

fn power_mode(mode: &PowerMode, modes: &[PowerMode]) -> Check {
    let name = |mode: &PowerMode| format!("{} {}", mode.id, mode.name).trim().to_owned();
    let others: Vec<String> = modes.iter().map(name).collect();
    let found = format!("{} of {}", name(mode), others.join(", "));
    // Which mode to measure is the user's; another one after the run is not.
    Check::good("mode", found)
}

fn gpu_clock(clock: &ClockState) -> Check {
    let mhz = |khz: u32| khz / 1_000;
    let found = format!(
        "{} MHz, {} allows {} to {} MHz",
        mhz(clock.khz),
        if clock.governor.is_empty() { "the kernel" } else { &clock.governor },
        mhz(clock.khz_min),
        mhz(clock.khz_max)
    );
    let name = "gpu clock";
    if clock.khz_min == clock.khz_max {
        return Check::good(name, found);
    }
    Check::warning(
        name,
        format!("{found}: the clock follows the load"),
        "on a Jetson sudo jetson_clocks",
    )
}

fn throttling(throttles: &[Throttle]) -> Check {
    let told = |throttle: &Throttle| format!("{} {}", throttle.name, throttle.value);
    let raised = throttles.iter().filter(|throttle| throttle.value != 0);
    let now: Vec<&Throttle> = raised.clone().filter(|one| one.kind == AlarmKind::Flag).collect();
    if !now.is_empty() {
        let found = now.iter().map(|one| told(one)).collect::<Vec<_>>().join(", ");
        let is_low = now.iter().any(|one| one.cause == ThrottleCause::UnderVoltage);
        let cure = if is_low {
            "a supply that holds its voltage under load (a Raspberry Pi 5: 5 V, 5 A), a short thick cable"
        } else {
            "let it cool, drive its fan, or choose a lower power mode"
        };
        return Check::warning("throttling", format!("now: {found}"), cure);
    }
    let before: Vec<String> = raised.map(told).collect();
    Check::good(
        "throttling",
        match (throttles.len(), before.as_slice()) {
            (0, _) => "the kernel shows no flag and no counter of it".to_owned(),
            (count, []) => format!("none; {count} flags and counters can be read"),
            (_, before) => format!("none now; since the start {}", before.join(", ")),
        },
    )
}

fn heat(read: &BoardConditions) -> Option<Check> {
    let hottest = read.temperatures.iter().max_by_key(|zone| zone.millidegree_c)?;
    let found = format!("{} °C at {}", hottest.millidegree_c / 1_000, hottest.zone);
    let fans =
        read.fans.iter().filter_map(|fan| Some(format!("{} at {} of 255", fan.name, fan.pwm?)));
    let found = std::iter::once(found).chain(fans).collect::<Vec<_>>().join(", fan ");
    Some(if hottest.millidegree_c < HOT_MILLIDEGREE_C {
        Check::good("heat", found)
    } else {
        Check::warning("heat", found, "let it cool before the run, and see to its fan")
    })
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{Fan, Swapping, Temperature};
    use wattline_protocol::units::BoardTime;

    use super::super::Outcome;
    use super::*;

    fn read() -> BoardConditions {
        BoardConditions {
            at: BoardTime(0),
            trial: 0,
            moment: Moment::Before,
            power_mode: Some(PowerMode { id: 1, name: "7W".into() }),
            clocks: vec![ClockState {
                name: "17000000.gpu".into(),
                domain: ClockDomain::Gpu,
                governor: "nvhost_podgov".into(),
                khz: 306_000,
                khz_min: 306_000,
                khz_max: 918_000,
            }],
            fans: vec![Fan { name: "pwmfan 1".into(), pwm: Some(60), rpm: None }],
            temperatures: vec![Temperature { zone: "tj-thermal".into(), millidegree_c: 81_500 }],
            throttles: vec![Throttle {
                name: "get_throttled bit 0".into(),
                cause: ThrottleCause::UnderVoltage,
                kind: AlarmKind::Flag,
                value: 1,
            }],
            swapping: Some(Swapping { used_bytes: 3_000_000, ..Swapping::default() }),
        }
    }

    #[test]
    fn each_value_is_told_with_what_it_means_and_a_cure() {
        let modes =
            [PowerMode { id: 0, name: "15W".into() }, PowerMode { id: 1, name: "7W".into() }];
        let told: Vec<String> = of(&read(), &modes).iter().map(|check| check.text(false)).collect();
        let told = told.join("\n");
        for words in [
            "ok   mode           1 7W of 0 15W, 1 7W",
            "warn gpu clock      306 MHz, nvhost_podgov allows 306 to 918 MHz",
            "warn throttling     now: get_throttled bit 0 1  try: a supply",
            "warn heat           81 °C at tj-thermal, fan pwmfan 1 at 60 of 255  try: let it cool",
            "warn swap           3 MB of swap in use",
        ] {
            assert!(told.contains(words), "{words} in\n{told}");
        }
    }

    #[test]
    fn a_calm_board_is_good_and_what_held_once_is_told() {
        let mut calm = read();
        calm.clocks[0].khz_min = 918_000;
        calm.temperatures[0].millidegree_c = 45_000;
        calm.swapping = Some(Swapping::default());
        calm.throttles[0].kind = AlarmKind::Count;
        let checks = of(&calm, &[]);
        assert!(checks.iter().all(|check| check.outcome == Outcome::Good), "{checks:?}");
        assert!(checks.iter().any(|check| check.found.contains("since the start get_throttled")));
    }
}
