//! Records of the trigger: edges of a line for an external meter.
//!
//! Owns when a line was set and for what. The line itself is the agent's.

use serde::{Deserialize, Serialize};

use crate::units::BoardTime;

/// Which way the line went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// To its active level: what it stands for begins.
    Rise,
    /// Back: it ends.
    Fall,
}

impl Edge {
    /// The edge as one word of an export.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rise => "rise",
            Self::Fall => "fall",
        }
    }
}

/// What an edge begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeOf {
    /// The window of this number.
    Window(u32),
    /// One inference.
    Inference {
        /// The trial.
        trial: u32,
        /// Number of the inference within the trial, warm-up included.
        inference: u32,
    },
}

/// One edge: the line was set between `before` and `bracket_ns` later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerEdge {
    /// What it begins or ends.
    pub of: EdgeOf,
    /// Which way.
    pub edge: Edge,
    /// The clock before the line was set.
    pub before: BoardTime,
    /// From there to the clock after it, in ns.
    pub bracket_ns: u32,
}

impl TriggerEdge {
    /// Middle of the bracket: when the edge was, to within [`Self::bound_ns`].
    #[must_use]
    pub const fn at(&self) -> BoardTime {
        BoardTime(self.before.0.saturating_add(self.bracket_ns as u64 / 2))
    }

    /// How far from [`Self::at`] the edge can lie, in ns.
    #[must_use]
    pub const fn bound_ns(&self) -> u32 {
        self.bracket_ns.div_ceil(2)
    }
}

/// Edges of one line, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerEdges {
    /// The line: `gpiochip0:17`, or `simulated`.
    pub line: String,
    /// Its edges.
    pub edges: Vec<TriggerEdge>,
}

/// Why a line cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerFault {
    /// There is no GPIO chip of that name.
    NoChip,
    /// The chip has fewer lines.
    NoLine,
    /// Somebody else uses the line.
    Busy,
    /// The kernel lets others set it.
    NoPermission,
    /// The kernel's error; 0 where it told none.
    Failed {
        /// Error number.
        errno: i32,
    },
}

impl TriggerFault {
    /// What is wrong, in words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::NoChip => "there is no GPIO chip of that name".into(),
            Self::NoLine => "the GPIO chip has no line of that number".into(),
            Self::Busy => "another program or driver uses the line".into(),
            Self::NoPermission => "permission denied".into(),
            Self::Failed { errno } => format!("the kernel refuses (errno {errno})"),
        }
    }

    /// How to mend it.
    #[must_use]
    pub const fn mend(self) -> &'static str {
        match self {
            Self::NoChip => "see `ls /dev/gpiochip*` for the names there are",
            Self::NoLine => "see `gpioinfo` for the chip's lines; numbers begin at 0",
            Self::Busy => "free it (`gpioinfo` names who uses it), or choose another line",
            Self::NoPermission => "let the agent's user into the group `gpio`",
            Self::Failed { .. } => "see the kernel's log (dmesg), or choose another line",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_lies_within_its_bound() {
        for bracket_ns in [0, 1, 2, 4_001, u32::MAX] {
            let edge = TriggerEdge {
                of: EdgeOf::Window(1),
                edge: Edge::Rise,
                before: BoardTime(100),
                bracket_ns,
            };
            let (at, bound) = (edge.at().0, u64::from(edge.bound_ns()));
            assert!(at <= 100 + bound && at + bound >= 100 + u64::from(bracket_ns));
        }
    }
}
