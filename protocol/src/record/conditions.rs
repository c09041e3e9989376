//! Records of a board's own state around and within a trial.
//!
//! Owns what is read of power mode, clocks, fans, temperatures, throttling and
//! swapping at one instant. What a change means for a trial is the host's.
//! Sources: Linux Documentation/admin-guide/pm/cpufreq.rst, ABI/testing/
//! sysfs-class-devfreq and sysfs-class-thermal, hwmon/sysfs-interface.rst;
//! Raspberry Pi documentation, `vcgencmd get_throttled`; Jetson Linux Developer
//! Guide, "nvpmodel".

use serde::{Deserialize, Serialize};

use super::alarms::AlarmKind;
use super::board::Temperature;
use crate::units::BoardTime;

/// Where in a trial the board was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the runner starts.
    Before,
    /// While the trial's window is open.
    During,
    /// Once the trial is over.
    After,
}

/// A power mode of the board's maker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerMode {
    /// Its number.
    pub id: u16,
    /// Its name; empty where the board's table does not have it.
    pub name: String,
}

/// What a clock drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockDomain {
    /// Cores of the processor.
    Cpu,
    /// The GPU.
    Gpu,
    /// The memory or another part.
    Other,
}

/// One clock with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Its name in sysfs: `policy0`, `17000000.gpu`.
    pub name: String,
    /// What it drives.
    pub domain: ClockDomain,
    /// Its governor; empty where it has none.
    pub governor: String,
    /// Its frequency, in kHz.
    pub khz: u32,
    /// The least that is allowed now, in kHz; 0 where it is not told.
    pub khz_min: u32,
    /// The most that is allowed now, in kHz; 0 where it is not told.
    pub khz_max: u32,
}

/// One fan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fan {
    /// Name of its driver and its number there: `pwmfan 1`.
    pub name: String,
    /// How strongly it is driven, 0 to 255.
    pub pwm: Option<u32>,
    /// Its speed, in turns a minute.
    pub rpm: Option<u32>,
}

/// Why a board slows itself down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleCause {
    /// Heat, or the firmware does not say why.
    Heat,
    /// The supply's voltage is too low.
    UnderVoltage,
}

/// One flag or counter of throttling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Where it was read: `cpu0 core_throttle_count`, `get_throttled bit 2`.
    pub name: String,
    /// Why.
    pub cause: ThrottleCause,
    /// Flag or count.
    pub kind: AlarmKind,
    /// Its value.
    pub value: u64,
}

/// Swap of the kernel since the board started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Swapping {
    /// Pages that were read back.
    pub pages_in: u64,
    /// Pages that were written out.
    pub pages_out: u64,
    /// Swap in use, in bytes.
    pub used_bytes: u64,
    /// Memory that compressed swap takes, in bytes.
    pub zram_bytes: u64,
}

/// What a run sets of its board's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunSettings {
    /// Clocks are held at their most for the run, and put back after it.
    pub pin: bool,
    /// Power mode that is set before the run and stays after it.
    pub power_mode: Option<u16>,
}

/// Why a board's clocks are not as a run asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinRefusal {
    /// The agent may not, or the system refused.
    NotPermitted,
    /// The board shows no clock that can be held.
    NoClock,
    /// The board has no such power mode.
    NoSuchMode {
        /// Its number.
        id: u16,
    },
    /// The power mode holds after a reboot only.
    NeedsReboot {
        /// Its number.
        id: u16,
    },
}

impl PinRefusal {
    /// Why, in words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::NotPermitted => "the agent may not set its clocks".into(),
            Self::NoClock => "it shows no clock that can be held (cpufreq, a GPU's devfreq)".into(),
            Self::NoSuchMode { id } => format!("it has no power mode {id}"),
            Self::NeedsReboot { id } => format!("its power mode {id} holds after a reboot only"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn mend(self) -> String {
        match self {
            Self::NotPermitted => {
                "install the agent as a service with `wattline deploy`, or start \
                                   it as root"
                    .into()
            }
            Self::NoClock => "measure without --pin: the clocks of this board are its own".into(),
            Self::NoSuchMode { .. } => "see `wattline-agent board show` on the board".into(),
            Self::NeedsReboot { id } => {
                format!(
                    "on the board: sudo nvpmodel -m {id}, let it reboot, and start the run again"
                )
            }
        }
    }
}

/// The board's state at one instant of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardConditions {
    /// When it was read.
    pub at: BoardTime,
    /// The trial.
    pub trial: u32,
    /// Where in the trial.
    pub moment: Moment,
    /// Power mode; `None` where the board has none.
    pub power_mode: Option<PowerMode>,
    /// Clocks; empty where the kernel shows none.
    pub clocks: Vec<ClockState>,
    /// Fans.
    pub fans: Vec<Fan>,
    /// Temperatures.
    pub temperatures: Vec<Temperature>,
    /// Flags and counters of throttling.
    pub throttles: Vec<Throttle>,
    /// Swap; `None` where the kernel shows none.
    pub swapping: Option<Swapping>,
}

impl BoardConditions {
    /// Whether a flag of `cause` is raised, or a counter of it rose since
    /// `before` was read.
    #[must_use]
    pub fn throttled_since(&self, before: &Self, cause: ThrottleCause) -> bool {
        self.throttles.iter().filter(|now| now.cause == cause).any(|now| match now.kind {
            AlarmKind::Flag => now.value != 0,
            AlarmKind::Count => before
                .throttles
                .iter()
                .any(|earlier| earlier.name == now.name && now.value > earlier.value),
        })
    }

    /// The fastest clock of a domain, in kHz; `None` where none is told.
    #[must_use]
    pub fn fastest_khz(&self, domain: ClockDomain) -> Option<u32> {
        self.clocks.iter().filter(|clock| clock.domain == domain).map(|clock| clock.khz).max()
    }
}
