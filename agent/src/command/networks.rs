//! `networks`: what the catalog holds, as a table, as JSON, or as a graph.

use serde_json::{Value, json};

use super::{Failure, line};
use crate::args::NetworksArgs;
use crate::network::{
    Graph, Published, SERIES, Totals, by_id, catalog, open, paper_2017, published, totals,
};

/// Above this a count that differs from the study's is explained, in percent.
const EXPLAINED_ABOVE_PERCENT: f64 = 1.0;

pub(super) fn run(args: &NetworksArgs) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        return list(args.json);
    };
    let graph = open(name).map_err(|error| {
        let mend = "name one of the list, or a graph file that ends in .toml or .json";
        Failure::of(2, format!("no network {name}"), &error, mend)
    })?;
    if args.graph { print_graph(&graph, args.json) } else { layers(&graph, args.json) }
}

fn print_graph(graph: &Graph, as_json: bool) -> Result<(), Failure> {
    let unwritten = |error: &dyn std::error::Error| {
        Failure::of(1, format!("graph {} cannot be written", graph.id), error, "")
    };
    let text = if as_json {
        serde_json::to_string(graph).map_err(|error| unwritten(&error))?
    } else {
        toml::to_string(graph).map_err(|error| unwritten(&error))?
    };
    line(text.trim_end())
}

/// One network of the list.
struct Row {
    id: &'static str,
    channels: usize,
    size: usize,
    total: Totals,
}

impl Row {
    fn of(id: &'static str) -> Option<Row> {
        let graph = by_id(id).ok()?;
        let (channels, size) = (graph.input.channels, graph.input.size);
        Some(Row { id, channels, size, total: totals(&graph.counts(size).ok()?) })
    }

    fn accuracy(&self) -> (Option<f64>, Option<f64>, Option<String>) {
        published(self.id).map_or((None, None, None), Published::accuracy)
    }

    fn json(&self) -> Value {
        let (top1, top5, source) = self.accuracy();
        let paper = paper_2017(self.id).map(|row| {
            json!({
                "name": row.name, "top1": row.top1_percent, "gops": row.gops,
                "params_m": row.params_m, "difference": text_or_null(row.difference),
            })
        });
        json!({
            "id": self.id,
            "input": [self.channels, self.size, self.size],
            "params": self.total.parameters,
            "macs": self.total.macs,
            "gops_paper": self.total.gops_paper,
            "activations": self.total.activations,
            "top1": top1,
            "top5": top5,
            "source": source,
            "differs": published(self.id).and_then(|entry| entry.differs),
            "paper_2017": paper,
        })
    }

    fn text(&self) -> String {
        let (top1, top5, _) = self.accuracy();
        let number = |value: Option<f64>, width: usize| match value {
            Some(value) => format!("{value:>width$.2}"),
            None => format!("{:>width$}", "-"),
        };
        let paper = paper_2017(self.id);
        format!(
            "{:<15} {:>4} {:>8.2} {:>9} {:>8.1} {:>7.3} {:>9} {:>7.3} {} {} {}",
            self.id,
            self.size,
            millions(self.total.parameters),
            number(paper.map(|row| row.params_m), 9),
            millions(self.total.macs),
            self.total.gops_paper,
            number(paper.map(|row| row.gops), 9),
            millions(self.total.activations),
            number(top1, 6),
            number(top5, 6),
            number(paper.map(|row| row.top1_percent), 9),
        )
    }

    /// Lines under the table: what differs from the study, and why.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(row) = paper_2017(self.id) {
            let columns = [
                ("parameters", millions(self.total.parameters), row.params_m),
                ("operations", self.total.gops_paper, row.gops),
            ];
            for (what, ours, theirs) in columns {
                let percent = (ours / theirs - 1.0) * 100.0;
                if percent.abs() > EXPLAINED_ABOVE_PERCENT {
                    notes.push(format!(
                        "{}: {what} {percent:+.1} % of the study's: {}",
                        self.id, row.difference
                    ));
                }
            }
        }
        if let Some(differs) = published(self.id).and_then(|entry| entry.differs) {
            notes.push(format!("{}: {differs}", self.id));
        }
        notes
    }
}

const HEAD: [&str; 2] = [
    "                       params M             MACs  G-Ops (paper)   activ-   top-1  top-5   top-1",
    "network         size     ours     paper   M, ours  ours     paper ations M      %      %     paper",
];

const CONVENTIONS: &str = "\
size: side of the image in pixels; every count is for one image of that size
params: learnt numbers, 10^6
MACs: multiply-accumulates of convolutions and linear layers, 10^6
G-Ops (paper): the convention of arXiv 1605.07678, 10^9: 2 a MAC, 1 a bias and an activation, \
a pool's window, the terms of a sum
activations: output elements of convolutions and linear layers, 10^6
top-1, top-5: published, one central crop; --json names the source of each";

fn list(as_json: bool) -> Result<(), Failure> {
    let rows: Vec<Row> = catalog().into_iter().filter_map(Row::of).collect();
    if as_json {
        return rows.iter().try_for_each(|row| line(&row.json().to_string()));
    }
    for text in HEAD {
        line(text)?;
    }
    rows.iter().try_for_each(|row| line(&row.text()))?;
    line("")?;
    line(CONVENTIONS)?;
    line(&format!("paper: the constant series \"{SERIES}\", as its authors plotted it"))?;
    line("")?;
    rows.iter().flat_map(Row::notes).try_for_each(|note| line(&note))
}

fn layers(graph: &Graph, as_json: bool) -> Result<(), Failure> {
    let size = graph.input.size;
    let counts = graph.counts(size).map_err(|error| {
        Failure::of(2, format!("network {} does not fit its own size", graph.id), &error, "")
    })?;
    if !as_json {
        line(&format!("{} at {size} x {size}; MACs and outputs for one image", graph.id))?;
        line(&format!(
            "{:<42} {:<18} {:<14} {:>11} {:>14} {:>11}",
            "layer", "operation", "output", "params", "MACs", "outputs"
        ))?;
    }
    for (node, layer) in graph.nodes.iter().zip(&counts) {
        let dims = layer.shape.with_batch(1);
        if as_json {
            let row = json!({
                "layer": layer.name,
                "op": node.op.kind(),
                "inputs": node.inputs,
                "shape": dims.get(1..),
                "params": layer.parameters,
                "macs": layer.macs,
                "ops_paper": layer.paper_ops,
                "activations": layer.activations,
            });
            line(&row.to_string())?;
        } else {
            line(&format!(
                "{:<42} {:<18} {:<14} {:>11} {:>14} {:>11}",
                layer.name,
                node.op.kind(),
                layer.shape.to_string(),
                layer.parameters,
                layer.macs,
                layer.activations
            ))?;
        }
    }
    if as_json { Ok(()) } else { sums(&totals(&counts)) }
}

fn sums(total: &Totals) -> Result<(), Failure> {
    line(&format!(
        "{:<42} {:<18} {:<14} {:>11} {:>14} {:>11}",
        "all", "", "", total.parameters, total.macs, total.outputs
    ))?;
    line(&format!(
        "{:.3} G-Ops (paper's convention); {:.3} M activations of convolutions and linear layers",
        total.gops_paper,
        millions(total.activations)
    ))
}

fn text_or_null(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}
