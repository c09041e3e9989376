//! Over-current alarms of INA monitors, and the events that a Jetson counts.
//!
//! Owns where they are and how they are read. Judges nothing: the host compares
//! what was read before and after a trial. Read at a run's start and after each
//! trial alone, never between sweeps: a driver reads a chip's flags for it,
//! which clears them.
//! Source: Linux Documentation/hwmon/ina3221.rst; Jetson Linux Developer Guide,
//! "Over-current Throttling" (JetPack 5 and later).

use std::path::{Path, PathBuf};

use wattline_protocol::record::{AlarmCount, AlarmCounts, AlarmKind};
use wattline_protocol::units::BoardTime;

use super::driven::monitors;
use super::tree::{entries_named, name_of, text};

/// Alarms that are read at most: four chips of three channels, two limits
/// each, and a handful of counters.
const ALARMS_MAX: usize = 64;

/// Where alarms and counters are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarms {
    files: Vec<(String, AlarmKind, PathBuf)>,
}

impl Alarms {
    /// Searches the tree at `root`.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        let mut files = Vec::new();
        for chip in monitors(root) {
            let folders = chip.hwmon.iter();
            for path in folders.flat_map(|folder| entries_named(folder, "curr")) {
                let name = name_of(&path);
                if name.ends_with("_crit_alarm") || name.ends_with("_max_alarm") {
                    let name = format!("{}-{:04x} {name}", chip.bus, chip.address);
                    files.push((name, AlarmKind::Flag, path));
                }
            }
        }
        let folders = entries_named(&root.join("class/hwmon"), "hwmon");
        for path in folders.iter().flat_map(|folder| entries_named(folder, "oc")) {
            if name_of(&path).ends_with("_event_cnt") {
                files.push((name_of(&path).to_owned(), AlarmKind::Count, path));
            }
        }
        files.truncate(ALARMS_MAX);
        Self { files }
    }

    /// Reads all of them; `None` where the board has none.
    #[must_use]
    pub fn read(&self, at: BoardTime, trial: Option<u32>) -> Option<AlarmCounts> {
        let counts = self.files.iter().filter_map(|(name, kind, path)| {
            let value = text(path)?.parse().ok()?;
            Some(AlarmCount { name: name.clone(), kind: *kind, value })
        });
        let counts: Vec<AlarmCount> = counts.collect();
        (!counts.is_empty()).then_some(AlarmCounts { at, trial, counts })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn alarms_of_a_chip_and_counters_of_the_board_are_read_by_name() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(Alarms::find(tree.path()).read(BoardTime(1), None), None);
        let client = tree.path().join("bus/i2c/devices/1-0040");
        let monitor = client.join("hwmon/hwmon3");
        let counters = tree.path().join("class/hwmon/hwmon5");
        for (folder, name, value) in [
            (&client, "name", "ina3221"),
            (&monitor, "name", "ina3221"),
            (&monitor, "curr1_crit_alarm", "1"),
            (&monitor, "curr1_max_alarm", "0"),
            (&monitor, "curr1_crit", "8000"),
            (&counters, "name", "soctherm_oc"),
            (&counters, "oc1_event_cnt", "3"),
            (&counters, "oc1_throt_en", "1"),
        ] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
        let alarms = Alarms::find(tree.path());
        let read = alarms.read(BoardTime(1), Some(4)).unwrap();
        let counts: Vec<_> = read.counts.iter().map(|c| (c.name.as_str(), c.value)).collect();
        let expected =
            [("1-0040 curr1_crit_alarm", 1), ("1-0040 curr1_max_alarm", 0), ("oc1_event_cnt", 3)];
        assert_eq!((counts, read.trial), (expected.to_vec(), Some(4)));
        // A driver that let go of its chip: what is left is read.
        fs::remove_dir_all(&monitor).unwrap();
        assert_eq!(alarms.read(BoardTime(2), None).unwrap().counts.len(), 1);
    }
}
