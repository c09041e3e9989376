//! Parameters, multiply-accumulates, operations and activations per layer.
//!
//! Two conventions, never mixed: MACs of convolutions and linear layers, and
//! the operation count of the paper (arXiv 1605.07678), which is that of
//! torch-opCounter: two per MAC, one per bias, one per element of an
//! activation, the window's area per pooled output, and for a sum the
//! elements times the inputs. Normalisation counts as folded, hence zero.
//! Sums of a graph from a file may be absurd; they saturate.

use super::graph::{Graph, GraphError, Node, Op, Source};
use super::keys::WeightKey;
use super::shape::Shape;

/// What one layer costs for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCounts {
    /// Name of the layer.
    pub name: String,
    /// Shape of its output.
    pub shape: Shape,
    /// Learnt numbers.
    pub parameters: u64,
    /// Running statistics, which are stored but not learnt.
    pub statistics: u64,
    /// Multiply-accumulates; only convolutions and linear layers have any.
    pub macs: u64,
    /// Operations in the paper's convention.
    pub paper_ops: u64,
    /// Elements of the output.
    pub activations: u64,
}

/// Sums over a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Learnt numbers.
    pub parameters: u64,
    /// Running statistics.
    pub statistics: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Operations for one image, in the paper's convention.
    pub ops_paper: u64,
    /// The same in units of 10⁹.
    pub gops_paper: f64,
    /// Output elements of convolutions and linear layers for one image.
    pub activations: u64,
    /// Output elements of all layers for one image.
    pub outputs: u64,
}

/// Sums of `layers`.
#[must_use]
pub fn totals(layers: &[LayerCounts]) -> Totals {
    let sum = |of: fn(&LayerCounts) -> u64| layers.iter().map(of).fold(0, u64::saturating_add);
    let ops_paper = sum(|layer| layer.paper_ops);
    Totals {
        parameters: sum(|layer| layer.parameters),
        statistics: sum(|layer| layer.statistics),
        macs: sum(|layer| layer.macs),
        ops_paper,
        gops_paper: giga(ops_paper),
        activations: sum(|layer| if layer.macs > 0 { layer.activations } else { 0 }),
        outputs: sum(|layer| layer.activations),
    }
}

/// `count` in units of 10⁹; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn giga(count: u64) -> f64 {
    count as f64 / 1e9
}

impl Graph {
    /// Costs of each layer for one image of `size` × `size` pixels.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn counts(&self, size: usize) -> Result<Vec<LayerCounts>, GraphError> {
        let shapes = self.shapes(size)?;
        let wiring = self.wiring()?;
        let image = Shape::Map { channels: self.input.channels, height: size, width: size };
        let layers = self.nodes.iter().zip(&wiring).zip(&shapes);
        let counted = layers.map(|((node, sources), shape)| {
            let input = match sources[0] {
                Source::Input => image,
                Source::Node(index) => shapes[index],
            };
            node.counts(input, *shape)
        });
        Ok(counted.collect())
    }
}

impl Node {
    fn counts(&self, input: Shape, output: Shape) -> LayerCounts {
        let keys = self.weight_keys();
        let elements = |learnt: bool| -> u64 {
            keys.iter()
                .filter(|key| key.is_parameter() == learnt)
                .map(|key| wide(key.elements()))
                .sum()
        };
        let macs = self.macs(&keys, output);
        LayerCounts {
            name: self.name.clone(),
            shape: output,
            parameters: elements(true),
            statistics: elements(false),
            macs,
            paper_ops: macs.saturating_mul(2).saturating_add(self.other_ops(input, output)),
            activations: wide(output.elements()),
        }
    }

    /// Outputs times the kernel elements that each of them reads.
    fn macs(&self, keys: &[WeightKey], output: Shape) -> u64 {
        match self.op {
            Op::Conv2d(_) | Op::Linear(_) => {
                let kernel = keys[0].elements() / keys[0].shape[0];
                wide(output.elements()).saturating_mul(wide(kernel))
            }
            _ => 0,
        }
    }

    fn other_ops(&self, input: Shape, output: Shape) -> u64 {
        let outputs = wide(output.elements());
        match &self.op {
            Op::Conv2d(conv) => outputs * u64::from(conv.bias),
            Op::Linear(linear) => outputs * u64::from(linear.bias),
            Op::Relu | Op::Relu6 | Op::Silu | Op::Sigmoid | Op::Prelu(_) => outputs,
            Op::MaxPool(pool) => outputs.saturating_mul(area(pool.kernel)),
            Op::AvgPool(pool) => outputs.saturating_mul(area(pool.kernel)),
            Op::AdaptiveAvgPool(_) | Op::GlobalAvgPool => {
                outputs.saturating_mul(wide(input.pixels().div_ceil(output.pixels())))
            }
            Op::Add => outputs * wide(self.inputs.len()),
            Op::ScaleChannels => outputs,
            Op::BatchNorm(_)
            | Op::Flatten
            | Op::Concat
            | Op::PadChannels(_)
            | Op::Lrn(_)
            | Op::ChannelAffine(_) => 0,
        }
    }
}

/// Elements of a window; sides are at most 2²⁰.
fn area([height, width]: [usize; 2]) -> u64 {
    wide(height).saturating_mul(wide(width))
}

/// A count as 64 bits; `usize` is never wider on a board we run on.
fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
