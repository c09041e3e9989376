//! What the board's own state makes of a trial.
//!
//! Owns the limits by which a trial was throttled, had another clock or mode, or
//! swapped, from what was read before, within and after it. Judges no energy.
//! Source: `docs/method.md`, "Verdicts".

use std::collections::{BTreeMap, BTreeSet};

use wattline_protocol::record::{BoardConditions, ClockDomain, Moment, ThrottleCause};

use super::model::Reason;
use crate::recording::Recording;

/// The fastest clock of a window may move by this part: a governor's next step is
/// several times as far, a turbo's one bin is less.
const CLOCK_PART: f64 = 0.05;
/// Pages swapped within a trial beyond which it counts: 1 MiB of 4 KiB pages.
const SWAPPED_PAGES: u64 = 256;

/// Reasons by (epoch, trial).
pub(super) fn reasons(recording: &Recording) -> BTreeMap<(u32, u32), BTreeSet<Reason>> {
    let on_gpu = trials_on_gpu(recording);
    let mut trials: BTreeMap<(u32, u32), Vec<&BoardConditions>> = BTreeMap::new();
    for read in &recording.conditions {
        trials.entry((read.epoch, read.record.trial)).or_default().push(&read.record);
    }
    let judged = trials.into_iter().map(|(key, reads)| {
        let domain = if on_gpu.contains(&key.1) { ClockDomain::Gpu } else { ClockDomain::Cpu };
        (key, of_trial(&reads, domain))
    });
    judged.collect()
}

fn trials_on_gpu(recording: &Recording) -> BTreeSet<u32> {
    let Some(plan) = recording.plans.first().map(|plan| &plan.record) else {
        return BTreeSet::new();
    };
    let on_gpu = |cell: u16| {
        let cell = plan.cells.get(usize::from(cell));
        cell.is_some_and(|cell| cell.device.starts_with("cuda"))
    };
    plan.trials.iter().filter(|trial| on_gpu(trial.cell)).map(|trial| trial.trial).collect()
}

/// Reasons of one trial; `domain` is where its work was done. What an attempt
/// before was read with does not count: the last `Before` begins the trial.
fn of_trial(reads: &[&BoardConditions], domain: ClockDomain) -> BTreeSet<Reason> {
    let begin = reads.iter().rposition(|read| read.moment == Moment::Before).unwrap_or(0);
    let reads = reads.get(begin..).unwrap_or(reads);
    let (Some(first), Some(last)) = (reads.first(), reads.last()) else { return BTreeSet::new() };
    let throttled = |cause| reads.iter().any(|read| read.throttled_since(first, cause));
    let modes = reads.iter().any(|read| read.power_mode != first.power_mode);
    let swapped = first.swapping.zip(last.swapping).is_some_and(|(first, last)| {
        let pages = |now: u64, before: u64| now.saturating_sub(before);
        pages(last.pages_in, first.pages_in) + pages(last.pages_out, first.pages_out)
            > SWAPPED_PAGES
    });
    let found = [
        (throttled(ThrottleCause::Heat), Reason::Throttled),
        (throttled(ThrottleCause::UnderVoltage), Reason::UnderVoltage),
        (moved(reads, domain) || limits_changed(first, last), Reason::FrequencyMoved),
        (modes, Reason::PowerModeChanged),
        (swapped, Reason::Swapped),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason).collect()
}

/// Whether the fastest clock of the work moved while the window was open: others
/// may sleep as they like.
fn moved(reads: &[&BoardConditions], domain: ClockDomain) -> bool {
    let within = reads.iter().filter(|read| read.moment == Moment::During);
    let khz: Vec<u32> = within.filter_map(|read| read.fastest_khz(domain)).collect();
    let (least, most) = (khz.iter().min(), khz.iter().max());
    least
        .zip(most)
        .is_some_and(|(least, most)| f64::from(*least) < (1.0 - CLOCK_PART) * f64::from(*most))
}

/// Whether what a clock is allowed changed between two readings.
fn limits_changed(first: &BoardConditions, last: &BoardConditions) -> bool {
    first.clocks.iter().any(|before| {
        let after = last.clocks.iter().find(|after| after.name == before.name);
        after
            .is_some_and(|after| (after.khz_min, after.khz_max) != (before.khz_min, before.khz_max))
    })
}

/// The board's state over a run, for the report: ranges over all readings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateSummary {
    /// Power modes that held, in their order, each once.
    pub power_modes: Vec<String>,
    /// Governors of clocks, each once: `policy0 schedutil`.
    pub governors: Vec<String>,
    /// Least and largest of the fastest clock within windows, in kHz, by domain.
    pub clocks: Vec<(ClockDomain, u32, u32)>,
    /// Least and largest temperature of each zone, in thousandths of a degree.
    pub temperatures: Vec<(String, i32, i32)>,
    /// Least and largest drive of each fan, of 255.
    pub fans: Vec<(String, u32, u32)>,
    /// Pages that were swapped in and out from the first reading to the last.
    pub swapped_pages: u64,
    /// How often the board was read.
    pub readings: usize,
    /// Whether the run held clocks at their most.
    pub is_pinned: bool,
}

/// All readings of the run together.
pub(super) fn summary(recording: &Recording) -> StateSummary {
    let mut summary = StateSummary { readings: recording.conditions.len(), ..Default::default() };
    for read in recording.conditions.iter().map(|read| &read.record) {
        if let Some(mode) = &read.power_mode {
            once(&mut summary.power_modes, format!("{} {}", mode.id, mode.name).trim().to_owned());
        }
        for clock in read.clocks.iter().filter(|clock| !clock.governor.is_empty()) {
            once(&mut summary.governors, format!("{} {}", clock.name, clock.governor));
        }
        for zone in &read.temperatures {
            widen(&mut summary.temperatures, &zone.zone, zone.millidegree_c);
        }
        for fan in &read.fans {
            if let Some(pwm) = fan.pwm {
                widen(&mut summary.fans, &fan.name, pwm);
            }
        }
        if read.moment == Moment::During {
            for domain in [ClockDomain::Cpu, ClockDomain::Gpu] {
                if let Some(khz) = read.fastest_khz(domain) {
                    widen(&mut summary.clocks, &domain, khz);
                }
            }
        }
    }
    summary.swapped_pages = swapped(recording);
    summary.is_pinned = recording.run_settings.iter().any(|settings| settings.record.pin);
    summary
}

/// Pages of each epoch added up: counters begin anew with the board.
fn swapped(recording: &Recording) -> u64 {
    let pages = |read: &BoardConditions| read.swapping.map(|swap| swap.pages_in + swap.pages_out);
    let mut epochs: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for read in &recording.conditions {
        if let Some(pages) = pages(&read.record) {
            epochs.entry(read.epoch).or_insert((pages, pages)).1 = pages;
        }
    }
    epochs.values().map(|(first, last)| last.saturating_sub(*first)).sum()
}

fn once(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

fn widen<K: PartialEq + Clone, V: Ord + Copy>(ranges: &mut Vec<(K, V, V)>, name: &K, value: V) {
    match ranges.iter_mut().find(|(known, ..)| known == name) {
        Some((_, least, most)) => (*least, *most) = ((*least).min(value), (*most).max(value)),
        None => ranges.push((name.clone(), value, value)),
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{AlarmKind, ClockState, PowerMode, Swapping, Throttle};
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::analysis::analyse;
    use crate::analysis::model::Verdict;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    fn read(moment: Moment) -> BoardConditions {
        let clock = |name: &str, domain, khz| ClockState {
            name: name.into(),
            domain,
            governor: "schedutil".into(),
            khz,
            khz_min: 100_000,
            khz_max: 2_000_000,
        };
        BoardConditions {
            at: BoardTime(0),
            trial: 0,
            moment,
            power_mode: Some(PowerMode { id: 0, name: "15W".into() }),
            clocks: vec![
                clock("policy0", ClockDomain::Cpu, 2_000_000),
                clock("policy4", ClockDomain::Cpu, 100_000),
                clock("17000000.gpu", ClockDomain::Gpu, 900_000),
            ],
            fans: Vec::new(),
            temperatures: Vec::new(),
            throttles: vec![Throttle {
                name: "cpu0 core_throttle_count".into(),
                cause: ThrottleCause::Heat,
                kind: AlarmKind::Count,
                value: 7,
            }],
            swapping: Some(Swapping { pages_in: 10, pages_out: 0, used_bytes: 0, zram_bytes: 0 }),
        }
    }

    fn of(change: impl Fn(&mut [BoardConditions; 4]), domain: ClockDomain) -> Vec<Reason> {
        let mut reads =
            [read(Moment::Before), read(Moment::During), read(Moment::During), read(Moment::After)];
        change(&mut reads);
        let reads: Vec<&BoardConditions> = reads.iter().collect();
        of_trial(&reads, domain).into_iter().collect()
    }

    #[test]
    fn a_quiet_board_gives_no_reason_and_each_event_its_own() {
        let cpu = |change: fn(&mut [BoardConditions; 4])| of(change, ClockDomain::Cpu);
        assert_eq!(cpu(|_| {}), []);
        // Cores that nobody works on sleep, and so does the load's clock outside windows.
        assert_eq!(cpu(|reads| reads[2].clocks[1].khz = 1_000_000), []);
        assert_eq!(cpu(|reads| reads[3].clocks[0].khz = 100_000), []);
        assert_eq!(cpu(|reads| reads[2].clocks[0].khz = 1_950_000), []);
        assert_eq!(cpu(|reads| reads[2].clocks[0].khz = 1_500_000), [Reason::FrequencyMoved]);
        assert_eq!(cpu(|reads| reads[3].clocks[2].khz_max = 600_000), [Reason::FrequencyMoved]);
        assert_eq!(cpu(|reads| reads[3].throttles[0].value = 8), [Reason::Throttled]);
        assert_eq!(cpu(|reads| reads[2].power_mode = None), [Reason::PowerModeChanged]);
        assert_eq!(
            cpu(|reads| reads[3].swapping = Some(Swapping { pages_in: 300, ..Default::default() })),
            [Reason::Swapped]
        );
        assert_eq!(
            cpu(|reads| {
                let throttle = &mut reads[1].throttles[0];
                (throttle.cause, throttle.kind) = (ThrottleCause::UnderVoltage, AlarmKind::Flag);
            }),
            [Reason::UnderVoltage]
        );
    }

    #[test]
    fn the_gpus_clock_counts_for_work_on_the_gpu_alone() {
        let slow = |reads: &mut [BoardConditions; 4]| reads[2].clocks[2].khz = 300_000;
        assert_eq!(of(slow, ClockDomain::Cpu), []);
        assert_eq!(of(slow, ClockDomain::Gpu), [Reason::FrequencyMoved]);
    }

    #[test]
    fn what_an_attempt_before_was_read_with_does_not_count() {
        let mut reads = [read(Moment::Before), read(Moment::Before), read(Moment::After)];
        reads[0].throttles[0].value = 1;
        let reads: Vec<&BoardConditions> = reads.iter().collect();
        assert!(of_trial(&reads, ClockDomain::Cpu).is_empty());
    }

    #[test]
    fn a_throttled_trials_window_is_invalid_and_others_stay() {
        let mut recording = Synthetic::default().recording();
        let first = analyse(&recording, &[]).unwrap().windows[0].clone();
        let mut reads = vec![read(Moment::Before), read(Moment::During), read(Moment::After)];
        reads[1].throttles[0].value = 9;
        recording.conditions = reads
            .into_iter()
            .map(|read| InEpoch {
                epoch: first.epoch,
                record: BoardConditions { trial: first.trial, ..read },
            })
            .collect();
        let analysis = analyse(&recording, &[]).unwrap();
        for window in &analysis.windows {
            let is_throttled = window.judgement.reasons.contains(&Reason::Throttled);
            assert_eq!(is_throttled, window.trial == first.trial);
            assert!(!is_throttled || window.judgement.verdict == Verdict::Invalid);
        }
        assert_eq!(analysis.state.power_modes, ["0 15W"]);
        assert_eq!(analysis.state.clocks[0], (ClockDomain::Cpu, 2_000_000, 2_000_000));
        assert_eq!(analysis.state.readings, 3);
    }
}
