//! Conditions under which a window was measured, as the board's own alarms and
//! drivers tell them.
//!
//! Owns which trials saw an over-current, which epochs were averaged over by a
//! chip's filter, and what was set in drivers for the run. Judges no energy.
//! Source: TI SBOS576, "Averaging" (an exponential filter); Linux
//! Documentation/hwmon/ina3221.rst.

use std::collections::{BTreeMap, BTreeSet};

use wattline_protocol::record::{AlarmCounts, ChipKind, DriverAttribute, SettingOutcome};

use super::model::Reason;
use crate::recording::Recording;

/// Averaging of an INA3221's configuration: bits 11:9, 0 is none (SBOS576).
const AVERAGING_BITS: u16 = 0x0e00;

/// What the alarms say of each trial, by (epoch, trial): a counter that rose tells of
/// an over-current that the board answered by slowing down, an alarm alone that a
/// current was above its limit.
pub(super) fn over_currents(recording: &Recording) -> BTreeMap<(u32, u32), Reason> {
    let mut before: Option<(u32, &AlarmCounts)> = None;
    let mut reasons = BTreeMap::new();
    for counts in &recording.alarm_counts {
        let (epoch, now) = (counts.epoch, &counts.record);
        let earlier = before.filter(|(of, _)| *of == epoch).map(|(_, counts)| counts);
        if let (Some(trial), Some(earlier)) = (now.trial, earlier) {
            let rose = now.rose_since(earlier).then_some(Reason::OverCurrent);
            let reason = rose.or_else(|| now.is_raised().then_some(Reason::CurrentAlarm));
            reasons.extend(reason.map(|reason| ((epoch, trial), reason)));
        }
        before = Some((epoch, now));
    }
    reasons
}

/// Epochs in which an INA3221 averaged: by its configuration, or by a driver
/// whose averaging could not be set.
pub(super) fn averaged(recording: &Recording) -> BTreeSet<u32> {
    let by_configuration = recording.starts.iter().filter(|start| {
        let mut chips = start.record.chips.iter();
        chips.any(|chip| {
            chip.kind == ChipKind::Ina3221 && chip.config_register & AVERAGING_BITS != 0
        })
    });
    let by_driver = recording.driver_settings.iter().filter(|setting| {
        let setting = &setting.record;
        let stays = match setting.outcome {
            SettingOutcome::NotPermitted
            | SettingOutcome::Refused { .. }
            | SettingOutcome::NotKept { .. }
            | SettingOutcome::Fixed
            | SettingOutcome::Kept => true,
            SettingOutcome::Set | SettingOutcome::Restored | SettingOutcome::NotRestored { .. } => {
                false
            }
        };
        setting.attribute == DriverAttribute::Samples && stays && setting.stands > 1
    });
    by_configuration.map(|start| start.epoch).chain(by_driver.map(|one| one.epoch)).collect()
}

/// What a run set, or could not set, in a chip's kernel driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverChange {
    /// The chip as sysfs names it: `1-0040`.
    pub place: String,
    /// Which setting.
    pub attribute: DriverAttribute,
    /// Its value before the run.
    pub found: i64,
    /// Its value within it.
    pub stands: i64,
    /// What became of it at the start.
    pub outcome: SettingOutcome,
    /// Whether the run's records say that it was restored.
    pub is_restored: bool,
}

/// What was set in drivers, each change once.
pub(super) fn driver_changes(recording: &Recording) -> Vec<DriverChange> {
    let settings = &recording.driver_settings;
    let mut changes: Vec<DriverChange> = Vec::new();
    for (index, one) in settings.iter().enumerate() {
        let (epoch, setting) = (one.epoch, &one.record);
        let is_end = matches!(
            setting.outcome,
            SettingOutcome::Restored | SettingOutcome::NotRestored { .. }
        );
        if is_end {
            continue;
        }
        let key = (epoch, setting.bus, setting.address, setting.attribute);
        let is_restored = settings.iter().skip(index).any(|later| {
            let at = &later.record;
            (later.epoch, at.bus, at.address, at.attribute) == key
                && at.outcome == SettingOutcome::Restored
        });
        let change = DriverChange {
            place: format!("{}-{:04x}", setting.bus, setting.address),
            attribute: setting.attribute,
            found: setting.found,
            stands: setting.stands,
            outcome: setting.outcome,
            is_restored,
        };
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{AlarmCount, AlarmKind, DriverSetting};
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::analysis::analyse;
    use crate::analysis::model::{Analysis, Verdict};
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    fn counts(epoch: u32, trial: Option<u32>, value: u64) -> InEpoch<AlarmCounts> {
        let (name, kind) = ("oc1_event_cnt".into(), AlarmKind::Count);
        let counts = vec![AlarmCount { name, kind, value }];
        InEpoch { epoch, record: AlarmCounts { at: BoardTime(0), trial, counts } }
    }

    #[test]
    fn a_counter_that_rose_makes_a_trial_invalid_and_an_alarm_alone_flags_it() {
        let mut recording = Synthetic::default().recording();
        let whole = analyse(&recording, &[]).unwrap();
        let first = &whole.windows[0];
        let (epoch, trial) = (first.epoch, first.trial);
        recording.alarm_counts =
            vec![counts(epoch, None, 3), counts(epoch, Some(trial), 5), counts(epoch, Some(99), 5)];
        let analysis = analyse(&recording, &[]).unwrap();
        let with = |analysis: &Analysis, reason| -> Vec<(u32, Verdict)> {
            let windows = analysis.windows.iter();
            let windows = windows.filter(|w| w.judgement.reasons.contains(&reason));
            windows.map(|w| (w.trial, w.judgement.verdict)).collect()
        };
        assert_eq!(with(&analysis, Reason::OverCurrent), [(trial, Verdict::Invalid)]);
        let cell_of = |analysis: &Analysis| {
            let mut cells = analysis.cells.iter();
            cells.find(|cell| cell.cell.cell == first.cell).unwrap().judgement.clone()
        };
        assert!(cell_of(&analysis).reasons.contains(&Reason::FewWindows));
        let name = "1-0040 curr1_crit_alarm".into();
        let mut alarm = counts(epoch, Some(trial), 3);
        alarm.record.counts.push(AlarmCount { name, kind: AlarmKind::Flag, value: 1 });
        recording.alarm_counts = vec![counts(epoch, None, 3), alarm];
        let alarmed = analyse(&recording, &[]).unwrap();
        assert_eq!(with(&alarmed, Reason::OverCurrent), []);
        let [(of, verdict)] = with(&alarmed, Reason::CurrentAlarm)[..] else { panic!() };
        assert!(of == trial && verdict < Verdict::Invalid);
        assert!(cell_of(&alarmed).reasons.contains(&Reason::CurrentAlarm));
        // A counter of another start of the agent began elsewhere.
        recording.alarm_counts = vec![counts(epoch + 1, None, 3), counts(epoch, Some(trial), 5)];
        assert!(over_currents(&recording).is_empty());
    }

    #[test]
    fn averaging_that_stays_flags_every_window_and_averaging_that_was_set_off_none() {
        let mut recording = Synthetic::default().recording();
        let epoch = recording.starts[0].epoch;
        let setting = |stands, outcome| InEpoch {
            epoch,
            record: DriverSetting {
                at: BoardTime(0),
                bus: 1,
                address: 0x40,
                attribute: DriverAttribute::Samples,
                found: 64,
                stands,
                outcome,
            },
        };
        recording.driver_settings =
            vec![setting(1, SettingOutcome::Set), setting(64, SettingOutcome::Restored)];
        assert!(averaged(&recording).is_empty());
        let changes = driver_changes(&recording);
        assert_eq!((changes.len(), changes[0].place.as_str()), (1, "1-0040"));
        assert!(changes[0].is_restored);
        recording.driver_settings.pop();
        assert!(!driver_changes(&recording)[0].is_restored);
        recording.driver_settings = vec![setting(64, SettingOutcome::Fixed)];
        let analysis = analyse(&recording, &[]).unwrap();
        let mut windows = analysis.windows.iter();
        assert!(windows.all(|window| window.judgement.reasons.contains(&Reason::Averaged)));
        // By the chip's own configuration: AVG 64 at 1.1 ms, then none.
        recording.driver_settings.clear();
        for (config, is_averaged) in [(0x7727, true), (0x7127, false)] {
            for chip in recording.starts.iter_mut().flat_map(|start| &mut start.record.chips) {
                (chip.kind, chip.config_register) = (ChipKind::Ina3221, config);
            }
            assert_eq!(averaged(&recording).contains(&epoch), is_averaged);
        }
    }
}
