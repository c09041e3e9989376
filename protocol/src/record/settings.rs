//! Records of what the agent changed in a kernel driver for a run.
//!
//! Owns the settings of a chip's driver as they were found, as they stand, and
//! whether they were restored. Knows no paths: an attribute is named as sysfs
//! names it.
//! Source: Linux Documentation/hwmon/ina3221.rst and ina2xx.rst.

use serde::{Deserialize, Serialize};

use crate::units::BoardTime;

/// What can be set of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverAttribute {
    /// `samples`: conversions that are averaged; 1 is none.
    Samples,
    /// `update_interval`: time of a cycle, in ms as the driver rounds it.
    UpdateInterval,
    /// Whether the driver holds the chip: 1, or 0 in exclusive mode.
    Binding,
}

impl DriverAttribute {
    /// The attribute as sysfs names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::UpdateInterval => "update_interval",
            Self::Binding => "driver",
        }
    }
}

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingOutcome {
    /// It was set for the run.
    Set,
    /// The kernel lets others write it: the run goes on with what was found.
    NotPermitted,
    /// The driver refused every value that was tried.
    Refused {
        /// The kernel's error number for the last one; 0 where it said none.
        errno: i32,
    },
    /// What was found could not be made durable, so that nothing was changed.
    NotKept {
        /// The disk's error number; 0 where it said none.
        errno: i32,
    },
    /// It is again as it was found.
    Restored,
    /// It could not be restored; the journal keeps what was found.
    NotRestored {
        /// The kernel's error number; 0 where it said none.
        errno: i32,
    },
    /// The driver has no file for it: the run goes on with what it has.
    Fixed,
    /// It was asked to be left as it was found.
    Kept,
}

/// A setting of a chip's kernel driver, at a run's start or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverSetting {
    /// When.
    pub at: BoardTime,
    /// Number of the I²C adapter.
    pub bus: u8,
    /// 7-bit address.
    pub address: u8,
    /// Which setting.
    pub attribute: DriverAttribute,
    /// Its value before the run.
    pub found: i64,
    /// Its value after the change, as the driver shows it.
    pub stands: i64,
    /// What became of it.
    pub outcome: SettingOutcome,
}
