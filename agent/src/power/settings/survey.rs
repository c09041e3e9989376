//! What a run could set of the drivers that hold INA monitors: asked, not done.
//!
//! Owns the account for `wattline-agent doctor`. Changes nothing.

use std::io;
use std::path::Path;

use super::sysfs::{DriverFiles, WANTED};
use crate::power::discover::monitors;

/// One chip's driver.
#[derive(Debug)]
pub struct SurveyedDriver {
    /// The chip: `1-0040`.
    pub place: String,
    /// Its driver.
    pub driver: String,
    /// Attributes that a run sets, with what they show now.
    pub attributes: Vec<(&'static str, i64)>,
    /// Why one of them that differs from what is wanted may not be written.
    pub refused: Option<io::Error>,
}

/// Asks the drivers in the tree at `root`; those without such attributes are
/// not told.
#[must_use]
pub fn survey(files: &dyn DriverFiles, root: &Path) -> Vec<SurveyedDriver> {
    let mut surveyed = Vec::new();
    for chip in monitors(root) {
        let (Some(driver), Some(folder)) = (chip.driver, chip.hwmon) else { continue };
        let (mut attributes, mut refused) = (Vec::new(), None);
        for (attribute, values) in WANTED {
            let path = folder.join(attribute.name());
            let shown = files.read(&path).ok().and_then(|text| text.parse::<i64>().ok());
            let Some(shown) = shown else { continue };
            attributes.push((attribute.name(), shown));
            if values.first() != Some(&shown) {
                refused = refused.or(files.may_write(&path).err());
            }
        }
        if !attributes.is_empty() {
            let place = format!("{}-{:04x}", chip.bus, chip.address);
            surveyed.push(SurveyedDriver { place, driver, attributes, refused });
        }
    }
    surveyed
}
