//! CSV of the trigger's edges, for the owner of an external meter.
//!
//! Owns the columns of `triggers.csv`, which is written where a line was set.
//! `time_ns` is the middle between the clock before and after the call that set
//! the line, on the clock of `samples.csv` and `windows.csv`; the edge lies
//! within ± `bound_ns` of it.

use std::io::{self, Write};

use wattline_protocol::record::{EdgeOf, WindowKind};

use super::text;
use crate::recording::Recording;

const COLUMNS: &str = "time_ns,bound_ns,line,of,trial,number,edge,epoch";

/// Writes one line an edge: `of` is `window` or `inference`, `number` that of
/// the window within the run or of the inference within its trial; `trial` is
/// empty for an idle window.
pub(super) fn write(recording: &Recording, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{COLUMNS}")?;
    let trial_of = |window: u32| {
        let opened = recording.opened.iter().find(|open| open.record.window == window);
        match opened.map(|open| open.record.kind) {
            Some(WindowKind::Trial(trial)) => trial.to_string(),
            Some(WindowKind::Idle(_)) | None => String::new(),
        }
    };
    for record in &recording.triggers {
        for edge in &record.record.edges {
            let (of, trial, number) = match edge.of {
                EdgeOf::Window(window) => ("window", trial_of(window), window),
                EdgeOf::Inference { trial, inference } => {
                    ("inference", trial.to_string(), inference)
                }
            };
            let (time, bound, line) = (edge.at().0, edge.bound_ns(), text(&record.record.line));
            let (edge, epoch) = (edge.edge.name(), record.epoch);
            writeln!(out, "{time},{bound},{line},{of},{trial},{number},{edge},{epoch}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::{Edge, TriggerEdge, TriggerEdges, WindowOpen};
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::recording::InEpoch;

    #[test]
    fn each_edge_is_a_line_with_its_bound() {
        let mut recording = Recording::default();
        let open = WindowOpen { window: 4, kind: WindowKind::Trial(2), t0: BoardTime(0) };
        recording.opened.push(InEpoch { epoch: 1, record: open });
        let edge = |of, edge| TriggerEdge { of, edge, before: BoardTime(1_000), bracket_ns: 501 };
        let inference = EdgeOf::Inference { trial: 2, inference: 61 };
        let edges = vec![
            edge(EdgeOf::Window(3), Edge::Rise),
            edge(EdgeOf::Window(4), Edge::Fall),
            edge(inference, Edge::Rise),
        ];
        let record = TriggerEdges { line: "simulated".into(), edges };
        recording.triggers.push(InEpoch { epoch: 1, record });
        let mut out = Vec::new();
        write(&recording, &mut out).unwrap();
        let expected = "\
time_ns,bound_ns,line,of,trial,number,edge,epoch
1250,251,simulated,window,,3,rise,1
1250,251,simulated,window,2,4,fall,1
1250,251,simulated,inference,2,61,rise,1
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
