//! What `doctor` says of kernel drivers that hold INA monitors.
//!
//! Owns the words; what may be set is asked in [`crate::power::settings`].

use std::path::Path;

use crate::power::settings::survey::{SurveyedDriver, survey};
use crate::power::settings::sysfs::SysfsFiles;

/// Cure where a run may not set a driver.
pub(super) const CURE: &str = "install the udev rule of `wattline deploy` \
    (deploy/board/70-wattline.rules) and join the group wattline, or run the agent as root";

/// Whether a run may set all drivers of the tree at `root`, and what was found.
pub(super) fn drivers(root: &Path) -> (bool, String) {
    let surveyed = survey(&SysfsFiles, root);
    if surveyed.is_empty() {
        return (true, "no INA monitor is held by a kernel driver".into());
    }
    let good = surveyed.iter().all(|driver| driver.refused.is_none());
    (good, surveyed.iter().map(text).collect::<Vec<_>>().join("; "))
}

fn text(one: &SurveyedDriver) -> String {
    let shown: Vec<String> =
        one.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let (place, driver, shown) = (&one.place, &one.driver, shown.join(", "));
    match &one.refused {
        None => format!("{place} by {driver}: {shown}; set to the fastest for a run"),
        Some(error) => format!("{place} by {driver}: {shown}; stays so in a run ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_driver_is_told_with_what_it_shows_and_whether_it_may_be_set() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(
            drivers(tree.path()),
            (true, "no INA monitor is held by a kernel driver".into())
        );
        let client = tree.path().join("bus/i2c/devices/1-0040");
        let folder = client.join("hwmon/hwmon2");
        fs::create_dir_all(&folder).unwrap();
        fs::write(client.join("name"), "ina3221\n").unwrap();
        fs::write(folder.join("name"), "ina3221\n").unwrap();
        fs::write(folder.join("samples"), "1\n").unwrap();
        fs::write(folder.join("update_interval"), "7\n").unwrap();
        let (good, found) = drivers(tree.path());
        let shown = "1-0040 by ina3221: samples 1, update_interval 7";
        assert_eq!((good, found), (true, format!("{shown}; set to the fastest for a run")));
        // A number that the kernel lets nobody write, root included.
        fs::remove_file(folder.join("update_interval")).unwrap();
        let closed = "/proc/sys/kernel/ngroups_max";
        std::os::unix::fs::symlink(closed, folder.join("update_interval")).unwrap();
        let (good, found) = drivers(tree.path());
        assert!(!good && found.contains("stays so in a run (Permission denied"), "{found}");
    }
}
