//! `wattline compare`: hold a run against an earlier one, cell by cell.
//!
//! Exit 8 with `--fail-above` where a cell got worse by more than that and by
//! more than its uncertainty; a change whose interval is too wide to tell is
//! printed as undecided and does not fail.

use serde_json::json;

use super::{line, report};
use crate::analysis::compare::{Change, Comparison, compare};
use crate::analysis::model::Analysis;
use crate::args::CompareArgs;
use crate::failure::{Exit, Failure};
use crate::report::with_uncertainty;
use crate::run_folder::RunFolder;

/// Changes above this are called out where `--fail-above` names none.
const LIMIT_DEFAULT: f64 = 0.05;

pub(super) fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let limit = args.fail_above.as_deref().map(percent).transpose()?;
    let (_, before) = report::analysed(&RunFolder::find(&args.before)?, &[])?;
    let (_, after) = report::analysed(&RunFolder::find(&args.after)?, &[])?;
    let comparison = compare(&before, &after, limit.unwrap_or(LIMIT_DEFAULT));
    if comparison.changes.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            "the two runs have no cell in common",
            "compare runs of the same networks, batches, threads and weights",
        ));
    }
    if args.json {
        for change in &comparison.changes {
            line(&as_json(&after, change).to_string())?;
        }
    } else {
        print(&before, &after, &comparison)?;
    }
    let failed = limit.is_some() && comparison.has_regression();
    Ok(if failed { Exit::Regression } else { Exit::Done })
}

/// `5%` or `0.05` as a fraction.
fn percent(text: &str) -> Result<f64, Failure> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let fraction = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    fraction.filter(|limit| limit.is_finite() && *limit >= 0.0).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("--fail-above {text} is not a share"),
            "write a percentage such as 5%",
        )
    })
}

fn print(before: &Analysis, after: &Analysis, comparison: &Comparison) -> Result<(), Failure> {
    let word = match (before.simulation.is_some(), after.simulation.is_some()) {
        (false, false) => "",
        (true, true) => "  (power and energy: simulated)",
        (true, false) => "  (power and energy of the first: simulated)",
        (false, true) => "  (power and energy of the second: simulated)",
    };
    line(&format!(
        "{:<14} {:>5} {:<15} {:>18} {:>18} {:>16}  outcome{word}",
        "network", "batch", "figure", "before", "after", "change %"
    ))?;
    for change in &comparison.changes {
        let cell = after.cells.iter().find(|cell| cell.cell.cell == change.cell);
        let (network, batch) =
            cell.map_or(("", 0), |cell| (cell.cell.network.as_str(), cell.cell.batch));
        let percent = crate::analysis::model::Uncertain {
            value: 100.0 * change.relative.value,
            expanded: 100.0 * change.relative.expanded,
        };
        line(&format!(
            "{network:<14} {batch:>5} {:<15} {:>18} {:>18} {:>16}  {}",
            change.figure.name(),
            with_uncertainty(change.before),
            with_uncertainty(change.after),
            with_uncertainty(percent),
            change.outcome.name()
        ))?;
    }
    for (cells, what, analysis) in [
        (&comparison.missing, "only in the first run", before),
        (&comparison.added, "only in the second run", after),
    ] {
        for number in cells {
            if let Some(cell) = analysis.cells.iter().find(|cell| cell.cell.cell == *number) {
                line(&format!("{:<14} {:>5} {what}", cell.cell.network, cell.cell.batch))?;
            }
        }
    }
    Ok(())
}

fn as_json(after: &Analysis, change: &Change) -> serde_json::Value {
    let cell = after.cells.iter().find(|cell| cell.cell.cell == change.cell);
    json!({
        "network": cell.map(|cell| cell.cell.network.as_str()),
        "batch": cell.map(|cell| cell.cell.batch),
        "figure": change.figure.name(),
        "before": change.before.value,
        "u_before": change.before.expanded,
        "after": change.after.value,
        "u_after": change.after.expanded,
        "change": change.relative.value,
        "u_change": change.relative.expanded,
        "outcome": change.outcome.name(),
        "simulated": after.simulation.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_percentage_or_a_fraction_and_nothing_else() {
        assert_eq!(percent("5%").unwrap(), 0.05);
        assert_eq!(percent("0.1").unwrap(), 0.1);
        for bad in ["five", "-1%", "nan", ""] {
            assert_eq!(percent(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
