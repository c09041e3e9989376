//! The graph of a network: named layers in the order of execution.
//!
//! Owns the node and operation types, their serialized form and the wiring
//! between nodes. Shapes are in `shape`, counts in `count`, keys in `keys`.
//! Operations follow PyTorch's definitions at evaluation; dropout is absent.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::shape::Shape;

/// Name under which nodes refer to the image that enters the network.
pub const INPUT_NAME: &str = "input";

/// Nodes that one graph may have: eight times the largest of the catalogue,
/// so that a graph from a file cannot exhaust the board.
const NODES_MAX: usize = 8192;

/// A network: its nodes, each after those it reads; the last one is the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Identity on command lines and in records, with hyphens.
    pub id: String,
    /// What enters the network.
    pub input: Input,
    /// Layers in the order of execution.
    pub nodes: Vec<Node>,
}

/// The image a network expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Colour channels.
    pub channels: usize,
    /// Height and width in pixels for which the network was published.
    pub size: usize,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique; where the layer has weights, the prefix of their keys.
    pub name: String,
    /// What the layer computes.
    pub op: Op,
    /// Names of earlier nodes, or [`INPUT_NAME`].
    pub inputs: Vec<String>,
}

/// What a layer computes. Pairs are (vertical, horizontal).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Two-dimensional convolution.
    Conv2d(Conv2d),
    /// Normalisation by running mean and variance, per channel or feature.
    BatchNorm(BatchNorm),
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x · sigmoid(x).
    Silu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x where positive, else x times a learnt slope per channel.
    Prelu(Prelu),
    /// Largest value of each window; padding never wins.
    MaxPool(MaxPool),
    /// Mean of each window.
    AvgPool(AvgPool),
    /// Mean over windows chosen so that the output has a fixed size.
    AdaptiveAvgPool(AdaptiveAvgPool),
    /// Mean over the whole map; the output is 1 × 1.
    GlobalAvgPool,
    /// Fully connected layer.
    Linear(Linear),
    /// A map as one vector, channels first.
    Flatten,
    /// Sum of two equal shapes.
    Add,
    /// Inputs one after the other along the channels.
    Concat,
    /// A map (first input) times one factor per channel (second, C × 1 × 1).
    ScaleChannels,
    /// Channels of zeros appended at the end.
    PadChannels(PadChannels),
    /// Local response normalisation across channels.
    Lrn(Lrn),
    /// Fixed scale and shift per channel, no learnt weights.
    ChannelAffine(ChannelAffine),
}

/// Two-dimensional convolution with zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps between outputs.
    pub stride: [usize; 2],
    /// Zeros on each of the two sides of an axis.
    pub padding: [usize; 2],
    /// Distance between kernel elements, both axes.
    pub dilation: usize,
    /// Channel groups that do not mix.
    pub groups: usize,
    /// Whether one number per output channel is added.
    pub bias: bool,
}

/// Normalisation by running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Channels of a map, or features of a vector.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f64,
}

/// Parametric ReLU with one slope per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prelu {
    /// Channels, hence slopes.
    pub channels: usize,
}

/// Maximum over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Border on each side that belongs to windows but never wins.
    pub padding: [usize; 2],
    /// Whether a last window that reaches over the end is kept.
    pub ceil: bool,
}

/// Mean over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Whether a last window that reaches over the end is kept.
    pub ceil: bool,
    /// Whether padded zeros count in the divisor.
    pub count_padding: bool,
}

/// Mean over windows from ⌊i·in/out⌋ to ⌈(i+1)·in/out⌉.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool {
    /// Height and width of the output.
    pub output: [usize; 2],
}

/// Fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Features read.
    pub in_features: usize,
    /// Features written.
    pub out_features: usize,
    /// Whether one number per output feature is added.
    pub bias: bool,
}

/// Zero channels at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadChannels {
    /// Channels after padding.
    pub channels: usize,
}

/// x / (k + alpha · mean of x² over `size` channels)^beta.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lrn {
    /// Neighbouring channels, the layer's own in the middle.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// Constant of the denominator.
    pub k: f64,
}

/// x · scale + shift, one pair per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelAffine {
    /// One factor per channel.
    pub scale: Vec<f32>,
    /// One addend per channel.
    pub shift: Vec<f32>,
}

/// Where a node reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The image.
    Input,
    /// The output of the node with this index.
    Node(usize),
}

/// What is wrong with a graph, by layer.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum GraphError {
    /// No node at all.
    #[error("graph {id}: no layers")]
    NoLayers {
        /// The graph.
        id: String,
    },
    /// More nodes than a graph may have.
    #[error("graph {id}: {nodes} layers, at most {limit} are allowed")]
    TooManyLayers {
        /// The graph.
        id: String,
        /// Its nodes.
        nodes: usize,
        /// The bound.
        limit: usize,
    },
    /// Two nodes of one name, or a node named like the input.
    #[error("layer {layer}: the name is taken by an earlier layer or the input")]
    NameTaken {
        /// The later layer.
        layer: String,
    },
    /// An input that no earlier node bears.
    #[error("layer {layer}: reads {input}, which no earlier layer is named")]
    UnknownInput {
        /// The reading layer.
        layer: String,
        /// The name it gives.
        input: String,
    },
    /// An input that is made only later, though it could be made before.
    #[error(
        "layer {layer}: reads {input}, which comes after it; write layers in the order of execution"
    )]
    LaterInput {
        /// The reading layer.
        layer: String,
        /// The name it gives.
        input: String,
    },
    /// Layers that read each other in a circle.
    #[error("layer {layer}: reads {input}, which itself needs {layer} (a cycle)")]
    Cycle {
        /// The layer.
        layer: String,
        /// What it reads.
        input: String,
    },
    /// A number that is infinite, not a number or below zero.
    #[error("layer {layer}: {field} is {found}, expected a finite number{bound}")]
    BadFactor {
        /// The layer.
        layer: String,
        /// The field of the operation.
        field: &'static str,
        /// Its value.
        found: String,
        /// What else is asked of it, in words.
        bound: &'static str,
    },
    /// Too many or too few inputs for the operation.
    #[error("layer {layer}: {kind} takes {expected} input(s), found {found}")]
    InputCount {
        /// The layer.
        layer: String,
        /// Its operation.
        kind: &'static str,
        /// How many it takes.
        expected: &'static str,
        /// How many are given.
        found: usize,
    },
    /// A number that cannot be: zero, out of range, not a divisor.
    #[error("layer {layer}: {field} is {found}, expected {expected}")]
    BadNumber {
        /// The layer.
        layer: String,
        /// The field of the operation.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What is allowed.
        expected: &'static str,
    },
    /// The operation was declared for another number of channels or features.
    #[error("layer {layer}: declared for {declared} channels, its input has {found}")]
    Channels {
        /// The layer.
        layer: String,
        /// The operation's number.
        declared: usize,
        /// The input's number.
        found: usize,
    },
    /// A kernel larger than its padded input.
    #[error("layer {layer}: window of {window} on {length} pixels (padding included)")]
    WindowTooLarge {
        /// The layer.
        layer: String,
        /// Extent of the window, dilation included.
        window: usize,
        /// Extent of the padded input.
        length: usize,
    },
    /// Inputs that must agree do not.
    #[error("layer {layer}: inputs of shapes {first} and {second} do not go together")]
    ShapesDiffer {
        /// The layer.
        layer: String,
        /// Shape of its first input.
        first: Shape,
        /// Shape of the input that disagrees.
        second: Shape,
    },
    /// An operation on maps got a vector, or the other way round.
    #[error("layer {layer}: {kind} cannot take an input of shape {found}")]
    WrongRank {
        /// The layer.
        layer: String,
        /// Its operation.
        kind: &'static str,
        /// The shape it got.
        found: Shape,
    },
    /// More elements than the engine may hold.
    #[error("layer {layer}: more than {limit} elements in its {what}")]
    TooLarge {
        /// The layer.
        layer: String,
        /// Output or weight.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl Op {
    /// The operation's name as written in a graph file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::BatchNorm(_) => "batch_norm",
            Op::Relu => "relu",
            Op::Relu6 => "relu6",
            Op::Silu => "silu",
            Op::Sigmoid => "sigmoid",
            Op::Prelu(_) => "prelu",
            Op::MaxPool(_) => "max_pool",
            Op::AvgPool(_) => "avg_pool",
            Op::AdaptiveAvgPool(_) => "adaptive_avg_pool",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::Linear(_) => "linear",
            Op::Flatten => "flatten",
            Op::Add => "add",
            Op::Concat => "concat",
            Op::ScaleChannels => "scale_channels",
            Op::PadChannels(_) => "pad_channels",
            Op::Lrn(_) => "lrn",
            Op::ChannelAffine(_) => "channel_affine",
        }
    }

    /// Whether `count` inputs are right, and how many are, in words.
    fn takes(&self, count: usize) -> Result<(), &'static str> {
        match self {
            Op::Add | Op::ScaleChannels => (count == 2).then_some(()).ok_or("2"),
            Op::Concat => (count >= 2).then_some(()).ok_or("2 or more"),
            _ => (count == 1).then_some(()).ok_or("1"),
        }
    }
}

impl Graph {
    /// For each node, where it reads from.
    ///
    /// # Errors
    /// [`GraphError`] naming the first layer whose name is taken, whose input
    /// is no earlier layer, or whose number of inputs is wrong.
    pub fn wiring(&self) -> Result<Vec<Vec<Source>>, GraphError> {
        if self.nodes.is_empty() {
            return Err(GraphError::NoLayers { id: self.id.clone() });
        }
        if self.nodes.len() > NODES_MAX {
            let (id, nodes) = (self.id.clone(), self.nodes.len());
            return Err(GraphError::TooManyLayers { id, nodes, limit: NODES_MAX });
        }
        let mut known = HashMap::from([(INPUT_NAME, Source::Input)]);
        let mut wiring = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let sources = node.sources(&known).map_err(|error| self.later(index, error))?;
            wiring.push(sources);
            if known.insert(&node.name, Source::Node(index)).is_some() {
                return Err(GraphError::NameTaken { layer: node.name.clone() });
            }
        }
        Ok(wiring)
    }

    /// Tells an input that nothing is named from one that comes later, and
    /// that from a cycle. Each layer is looked at once.
    fn later(&self, reader: usize, error: GraphError) -> GraphError {
        let GraphError::UnknownInput { layer, input } = error else {
            return error;
        };
        let places: HashMap<&str, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.name.as_str(), index))
            .collect();
        let Some(first) = places.get(input.as_str()) else {
            return GraphError::UnknownInput { layer, input };
        };
        let mut seen = vec![false; self.nodes.len()];
        let mut open = vec![*first];
        while let Some(index) = open.pop() {
            if index == reader {
                return GraphError::Cycle { layer, input };
            }
            if !std::mem::replace(&mut seen[index], true) {
                let needs = self.nodes[index].inputs.iter();
                open.extend(needs.filter_map(|name| places.get(name.as_str())));
            }
        }
        GraphError::LaterInput { layer, input }
    }
}

impl Node {
    fn sources(&self, known: &HashMap<&str, Source>) -> Result<Vec<Source>, GraphError> {
        if let Err(expected) = self.op.takes(self.inputs.len()) {
            let (kind, found) = (self.op.kind(), self.inputs.len());
            return Err(GraphError::InputCount { layer: self.name.clone(), kind, expected, found });
        }
        let find = |input: &String| {
            known.get(input.as_str()).copied().ok_or_else(|| GraphError::UnknownInput {
                layer: self.name.clone(),
                input: input.clone(),
            })
        };
        self.inputs.iter().map(find).collect()
    }
}
