//! The trigger of a run: how many edges, and how well their times are known.
//!
//! Owns what a report says of a line. The edges themselves are exported.

use wattline_protocol::record::{EdgeOf, NoticeKind, TriggerFault};

use crate::recording::Recording;

/// What a line did in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerSummary {
    /// The line: `gpiochip0:17`, or `simulated`.
    pub line: String,
    /// Edges of windows.
    pub of_windows: usize,
    /// Edges of inferences.
    pub of_inferences: usize,
    /// Median time between the clock before and after an edge, in ns.
    pub bracket_median_ns: u32,
    /// Longest such time, in ns.
    pub bracket_max_ns: u32,
    /// Times it could not be set, and why the last time.
    pub failed: Option<(usize, TriggerFault)>,
}

/// Each line of the run; `of_windows` and `of_inferences` are 0 for one that
/// could never be set.
pub(super) fn triggers(recording: &Recording) -> Vec<TriggerSummary> {
    let failed: Vec<(&str, TriggerFault)> = recording
        .notices
        .iter()
        .filter_map(|notice| match &notice.record.what {
            NoticeKind::TriggerFailed { line, fault } => Some((line.as_str(), *fault)),
            _ => None,
        })
        .collect();
    let set = recording.triggers.iter().map(|edges| edges.record.line.as_str());
    let mut lines: Vec<&str> = set.chain(failed.iter().map(|(line, _)| *line)).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().map(|line| summary(recording, line, &failed)).collect()
}

fn summary(recording: &Recording, line: &str, failed: &[(&str, TriggerFault)]) -> TriggerSummary {
    let records = recording.triggers.iter().map(|edges| &edges.record);
    let edges = || records.clone().filter(|record| record.line == line).flat_map(|r| &r.edges);
    let mut brackets: Vec<u32> = edges().map(|edge| edge.bracket_ns).collect();
    brackets.sort_unstable();
    let of_windows = edges().filter(|edge| matches!(edge.of, EdgeOf::Window(_))).count();
    let faults: Vec<TriggerFault> =
        failed.iter().filter(|(of, _)| *of == line).map(|(_, fault)| *fault).collect();
    TriggerSummary {
        line: line.to_owned(),
        of_windows,
        of_inferences: brackets.len() - of_windows,
        bracket_median_ns: brackets.get(brackets.len() / 2).copied().unwrap_or(0),
        bracket_max_ns: brackets.last().copied().unwrap_or(0),
        failed: faults.last().map(|fault| (faults.len(), *fault)),
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{Edge, Notice, TriggerEdge, TriggerEdges};
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::recording::InEpoch;

    fn edges(line: &str, of: EdgeOf, brackets: &[u32]) -> InEpoch<TriggerEdges> {
        let edge = |&bracket_ns: &u32| TriggerEdge {
            of,
            edge: Edge::Rise,
            before: BoardTime(1),
            bracket_ns,
        };
        let edges = brackets.iter().map(edge).collect();
        InEpoch { epoch: 1, record: TriggerEdges { line: line.into(), edges } }
    }

    #[test]
    fn a_line_is_summed_over_its_records_and_a_failed_one_is_told() {
        let mut recording = Recording::default();
        assert_eq!(triggers(&recording), []);
        let inference = EdgeOf::Inference { trial: 0, inference: 1 };
        recording.triggers = vec![
            edges("gpiochip0:17", EdgeOf::Window(1), &[900, 100]),
            edges("gpiochip0:17", inference, &[300]),
        ];
        for line in ["gpiochip0:17", "gpiochip0:18"] {
            let (line, fault) = (line.into(), TriggerFault::Busy);
            let record =
                Notice { at: BoardTime(2), what: NoticeKind::TriggerFailed { line, fault } };
            recording.notices.push(InEpoch { epoch: 1, record });
        }
        let [one, other] = &triggers(&recording)[..] else { panic!("two lines") };
        assert_eq!((one.of_windows, one.of_inferences), (2, 1));
        assert_eq!((one.bracket_median_ns, one.bracket_max_ns), (300, 900));
        assert_eq!(one.failed, Some((1, TriggerFault::Busy)));
        assert_eq!((other.of_windows, other.of_inferences), (0, 0));
    }
}
