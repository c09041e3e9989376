//! `networks`: what the catalog holds, as a table, as JSON, or as a graph.

use serde_json::json;

use super::{Failure, line};
use crate::args::NetworksArgs;
use crate::network::{Graph, by_id, catalog, totals};

pub(super) fn run(args: &NetworksArgs) -> Result<(), Failure> {
    match &args.name {
        None => list(args.json),
        Some(name) => {
            let graph = by_id(name).map_err(|error| {
                Failure::of(2, format!("no network `{name}`"), &error, "name one of these")
            })?;
            if args.graph {
                line(toml::to_string(&graph).unwrap_or_default().trim_end())
            } else {
                layers(&graph, args.json)
            }
        }
    }
}

fn list(as_json: bool) -> Result<(), Failure> {
    if !as_json {
        line("network        input    params M    MACs M   G-Ops (paper)   activations M")?;
    }
    for id in catalog() {
        let Ok(graph) = by_id(id) else { continue };
        let size = graph.input.size;
        let Ok(counts) = graph.counts(size) else { continue };
        let total = totals(&counts);
        if as_json {
            let row = json!({
                "id": id,
                "input": [graph.input.channels, size, size],
                "params": total.parameters,
                "macs": total.macs,
                "gops_paper": total.gops_paper,
                "activations": total.activations,
            });
            line(&row.to_string())?;
        } else {
            line(&format!(
                "{id:<14} {:>5}  {:>10.3} {:>9.1}   {:>13.3}   {:>13.3}",
                size,
                millions(total.parameters),
                millions(total.macs),
                total.gops_paper,
                millions(total.activations),
            ))?;
        }
    }
    if as_json {
        return Ok(());
    }
    line("")?;
    line("MACs: multiply-accumulates of convolutions and linear layers, one image.")?;
    line("G-Ops: the convention of arXiv 1605.07678 (2 a MAC, bias, activation, pooling, sums).")
}

fn layers(graph: &Graph, as_json: bool) -> Result<(), Failure> {
    let size = graph.input.size;
    let counts = graph.counts(size).map_err(|error| {
        Failure::of(2, format!("network {} does not fit its own size", graph.id), &error, "")
    })?;
    if !as_json {
        line(&format!("{} at {size} x {size}", graph.id))?;
        line("layer                                      output             params         MACs")?;
    }
    for layer in &counts {
        let dims = layer.shape.with_batch(1);
        let shape: Vec<String> = dims.iter().skip(1).map(usize::to_string).collect();
        if as_json {
            let row = json!({
                "layer": layer.name,
                "shape": dims.get(1..),
                "params": layer.parameters,
                "macs": layer.macs,
                "activations": layer.activations,
            });
            line(&row.to_string())?;
        } else {
            let shape = shape.join("x");
            let (name, params, macs) = (&layer.name, layer.parameters, layer.macs);
            line(&format!("{name:<42} {shape:<14} {params:>11} {macs:>13}"))?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}
