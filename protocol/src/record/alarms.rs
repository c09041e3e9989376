//! Records of over-current alarms and of the events that a board counts.
//!
//! Owns what is read of them at one instant. What a rise means is the host's.
//! Source: Linux Documentation/hwmon/ina3221.rst (`curr*_crit_alarm`), Jetson
//! Linux Developer Guide, "Over-current Throttling" (`oc*_event_cnt`).

use serde::{Deserialize, Serialize};

use crate::units::BoardTime;

/// What a value of an alarm says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// 1 while a current is, or since the last reading was, above its limit.
    Flag,
    /// Events since the board started.
    Count,
}

/// One alarm or counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmCount {
    /// Its chip, where it has one, and its file: `1-0040 curr1_crit_alarm`.
    pub name: String,
    /// Flag or count.
    pub kind: AlarmKind,
    /// Its value.
    pub value: u64,
}

/// All alarms and counters of the board at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmCounts {
    /// When they were read.
    pub at: BoardTime,
    /// The trial that had just ended; `None` before the first of this epoch.
    pub trial: Option<u32>,
    /// Their values; one that could not be read is absent.
    pub counts: Vec<AlarmCount>,
}

impl AlarmCounts {
    /// Whether an alarm stands, or stood since the reading before.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.counts.iter().any(|now| now.kind == AlarmKind::Flag && now.value != 0)
    }

    /// Whether a counter of events rose since `before` was read.
    #[must_use]
    pub fn rose_since(&self, before: &Self) -> bool {
        let mut counters = self.counts.iter().filter(|now| now.kind == AlarmKind::Count);
        counters.any(|now| {
            let mut earlier = before.counts.iter().filter(|earlier| earlier.name == now.name);
            earlier.any(|earlier| now.value > earlier.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_and_a_risen_counter_are_events_and_a_new_name_is_none() {
        let counts = |trial, counts: &[(&str, AlarmKind, u64)]| AlarmCounts {
            at: BoardTime(0),
            trial,
            counts: counts
                .iter()
                .map(|&(name, kind, value)| AlarmCount { name: name.into(), kind, value })
                .collect(),
        };
        let (flag, count) = (AlarmKind::Flag, AlarmKind::Count);
        let before = counts(None, &[("a", flag, 1), ("oc1", count, 7)]);
        let seen = |now: &[(&str, AlarmKind, u64)]| {
            let now = counts(Some(0), now);
            (now.is_raised(), now.rose_since(&before))
        };
        assert_eq!(seen(&[("a", flag, 0), ("oc1", count, 7)]), (false, false));
        assert_eq!(seen(&[("a", flag, 1), ("oc1", count, 7)]), (true, false));
        assert_eq!(seen(&[("oc1", count, 8)]), (false, true));
        assert_eq!(seen(&[("oc2", count, 9)]), (false, false));
    }
}
