//! Two runs held against each other, cell by cell.
//!
//! Pure. Owns which cells are the same and what counts as a change. A change
//! is stated with its uncertainty: two intervals that overlap decide nothing.

use super::model::{Analysis, CellResult, Uncertain};

/// A figure of a cell that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Time per image.
    Time,
    /// Gross energy per image.
    GrossEnergy,
    /// Energy per image above idle.
    NetEnergy,
}

impl Figure {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Time, Self::GrossEnergy, Self::NetEnergy];

    /// Name with unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "ms/image",
            Self::GrossEnergy => "mJ/image gross",
            Self::NetEnergy => "mJ/image net",
        }
    }

    fn of(self, cell: &CellResult) -> Option<Uncertain> {
        match self {
            Self::Time => cell.ms_per_image,
            Self::GrossEnergy => cell.mj_per_image_gross,
            Self::NetEnergy => cell.mj_per_image_net,
        }
    }
}

/// What a change amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Within the limit.
    Same,
    /// Better than before by more than its uncertainty.
    Better,
    /// Worse by more than the limit and by more than its uncertainty.
    Regression,
    /// Worse by more than the limit, but the intervals are too wide to tell.
    Undecided,
}

impl Outcome {
    /// The outcome as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Regression => "regression",
            Self::Undecided => "undecided",
        }
    }
}

/// One figure of one cell, before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Number of the cell in the second run.
    pub cell: u16,
    /// Which figure.
    pub figure: Figure,
    /// In the first run.
    pub before: Uncertain,
    /// In the second run.
    pub after: Uncertain,
    /// (after − before) ÷ before, with its expanded uncertainty (k = 2).
    pub relative: Uncertain,
    /// What it amounts to.
    pub outcome: Outcome,
}

/// Two runs held against each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Changes, in the order of the second run's cells.
    pub changes: Vec<Change>,
    /// Cells of the first run that the second lacks, by number.
    pub missing: Vec<u16>,
    /// Cells of the second run that the first lacks, by number.
    pub added: Vec<u16>,
}

impl Comparison {
    /// True where a regression was found.
    #[must_use]
    pub fn has_regression(&self) -> bool {
        self.changes.iter().any(|change| change.outcome == Outcome::Regression)
    }
}

/// Holds `after` against `before`; `limit` is the largest relative change for
/// the worse that is let pass, as a fraction.
#[must_use]
pub fn compare(before: &Analysis, after: &Analysis, limit: f64) -> Comparison {
    let mut comparison = Comparison::default();
    for cell in &after.cells {
        match before.cells.iter().find(|other| same_cell(other, cell)) {
            None => comparison.added.push(cell.cell.cell),
            Some(other) => comparison.changes.extend(changes(other, cell, limit)),
        }
    }
    let lacks = |cell: &&CellResult| !after.cells.iter().any(|other| same_cell(other, cell));
    comparison.missing = before.cells.iter().filter(lacks).map(|cell| cell.cell.cell).collect();
    comparison
}

/// The number of a cell says nothing: everything that was asked for does.
fn same_cell(a: &CellResult, b: &CellResult) -> bool {
    let (x, y) = (&a.cell, &b.cell);
    (&x.network, x.batch, x.precision, &x.device, x.size)
        == (&y.network, y.batch, y.precision, &y.device, y.size)
        && (x.threads, &x.cores, &a.weights_sha256) == (y.threads, &y.cores, &b.weights_sha256)
}

fn changes(before: &CellResult, after: &CellResult, limit: f64) -> Vec<Change> {
    Figure::ALL
        .into_iter()
        .filter_map(|figure| {
            let (old, new) = (figure.of(before)?, figure.of(after)?);
            let relative = relative(old, new)?;
            let outcome = judge(relative, limit);
            Some(Change {
                cell: after.cell.cell,
                figure,
                before: old,
                after: new,
                relative,
                outcome,
            })
        })
        .collect()
}

/// Relative change, its uncertainty by the law of propagation (JCGM 100 §5.1.2)
/// for independent values. Two runs of one board share its shunt and chip, so
/// this is wider than it need be: a regression that is found stands.
fn relative(old: Uncertain, new: Uncertain) -> Option<Uncertain> {
    if old.value.abs() <= f64::MIN_POSITIVE {
        return None;
    }
    let ratio = new.value / old.value;
    let expanded = (new.expanded / old.value).hypot(ratio * old.expanded / old.value);
    Some(Uncertain { value: ratio - 1.0, expanded: expanded.abs() })
}

fn judge(change: Uncertain, limit: f64) -> Outcome {
    if change.value > limit {
        if change.value > change.expanded { Outcome::Regression } else { Outcome::Undecided }
    } else if -change.value > change.expanded {
        Outcome::Better
    } else {
        Outcome::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: f64, expanded: f64) -> Uncertain {
        Uncertain { value, expanded }
    }

    #[test]
    fn a_clear_change_for_the_worse_is_a_regression_and_a_blurred_one_is_not() {
        let clear = relative(value(10.0, 0.1), value(12.0, 0.1)).unwrap();
        assert!((clear.value - 0.2).abs() < 1e-12);
        assert_eq!(judge(clear, 0.05), Outcome::Regression);
        let blurred = relative(value(10.0, 3.0), value(12.0, 3.0)).unwrap();
        assert_eq!(judge(blurred, 0.05), Outcome::Undecided);
    }

    #[test]
    fn a_change_below_the_limit_is_the_same_and_a_gain_is_better() {
        let small = relative(value(10.0, 0.01), value(10.3, 0.01)).unwrap();
        assert_eq!(judge(small, 0.05), Outcome::Same);
        let gain = relative(value(10.0, 0.1), value(8.0, 0.1)).unwrap();
        assert_eq!(judge(gain, 0.05), Outcome::Better);
    }

    #[test]
    fn a_relative_uncertainty_holds_both_runs() {
        let change = relative(value(100.0, 3.0), value(100.0, 4.0)).unwrap();
        assert!((change.expanded - 0.05).abs() < 1e-12);
        assert_eq!(relative(value(0.0, 1.0), value(1.0, 1.0)), None);
    }
}
