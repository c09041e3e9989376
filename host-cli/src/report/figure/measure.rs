//! The quantities that are drawn over batch or over networks.
//!
//! Owns their titles, units, scales and columns; reads them from a cell.

use super::csv;
use crate::analysis::model::{CellResult, Uncertain};

/// A quantity of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Time per image.
    Time,
    /// Mean gross power.
    Power,
    /// Energy per image, gross and net.
    Energy,
    /// Peak memory.
    Memory,
}

impl Measure {
    /// All of them, in the order of the page.
    pub(super) const ALL: [Self; 4] = [Self::Time, Self::Power, Self::Energy, Self::Memory];

    /// Name of the file, and of the place in the page.
    pub(super) const fn stem(self) -> &'static str {
        match self {
            Self::Time => "ms_per_image",
            Self::Power => "power",
            Self::Energy => "energy_per_image",
            Self::Memory => "memory",
        }
    }

    /// Title of the figure.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Time => "Time per image",
            Self::Power => "Mean power",
            Self::Energy => "Energy per image",
            Self::Memory => "Peak memory",
        }
    }

    /// Quantity and unit, as beside an axis.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Time => "time per image (ms)",
            Self::Power => "gross power (W)",
            Self::Energy => "energy per image (mJ)",
            Self::Memory => "memory (MB)",
        }
    }

    /// The unit alone.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Time => "ms",
            Self::Power => "W",
            Self::Energy => "mJ",
            Self::Memory => "MB",
        }
    }

    /// True where ratios matter more than differences.
    pub(super) const fn is_logarithmic(self) -> bool {
        !matches!(self, Self::Power)
    }

    /// What the figure's caption adds.
    pub(super) const fn note(self) -> &'static str {
        match self {
            Self::Time => "Whole inferences back to back, divided by their images.",
            Self::Power => "The total rail over the window, idle included.",
            Self::Energy => "Gross: all of the window; net: above the idle baseline.",
            Self::Memory => "Peak resident (or GPU) memory of the runner, 10⁶ bytes.",
        }
    }

    /// The value of a cell; a memory has no interval.
    pub(super) fn of(self, cell: &CellResult) -> Option<Uncertain> {
        match self {
            Self::Time => cell.ms_per_image,
            Self::Power => cell.watts,
            Self::Energy => cell.mj_per_image_gross,
            Self::Memory => cell.memory_mb.map(|value| Uncertain { value, expanded: 0.0 }),
        }
    }

    /// The second value that is drawn beside it, hollow.
    pub(super) fn net_of(self, cell: &CellResult) -> Option<Uncertain> {
        match self {
            Self::Energy => cell.mj_per_image_net,
            Self::Time | Self::Power | Self::Memory => None,
        }
    }

    /// Names of its columns.
    pub(super) const fn columns(self) -> &'static str {
        match self {
            Self::Time => "ms_per_image,u_ms_per_image",
            Self::Power => "watts,u_watts",
            Self::Energy => {
                "mj_per_image_gross,u_mj_per_image_gross,mj_per_image_net,u_mj_per_image_net"
            }
            Self::Memory => "memory_mb",
        }
    }

    /// Its columns for one cell.
    pub(super) fn fields(self, cell: &CellResult) -> Vec<String> {
        let pair = |number: Option<Uncertain>| {
            [csv::number(number.map(|n| n.value)), csv::number(number.map(|n| n.expanded))]
        };
        match self {
            Self::Time | Self::Power => pair(self.of(cell)).into(),
            Self::Energy => [pair(self.of(cell)), pair(self.net_of(cell))].concat(),
            Self::Memory => vec![csv::number(cell.memory_mb)],
        }
    }
}
