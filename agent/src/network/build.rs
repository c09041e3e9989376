//! Writing a graph layer by layer.
//!
//! Owns the small builder that the catalogue's networks are written with. It
//! counts channels along the way; the checks are those of `shape`.

use super::graph::{
    AdaptiveAvgPool, AvgPool, BatchNorm, ChannelAffine, Conv2d, Graph, INPUT_NAME, Input, Linear,
    MaxPool, Node, Op, PadChannels, Prelu,
};

/// The output of a layer under construction.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    name: String,
    channels: usize,
}

impl Wire {
    pub(super) fn channels(&self) -> usize {
        self.channels
    }
}

/// A convolution but for its input channels, which the builder knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel(Conv2d);

/// A square kernel without bias, stride 1, no padding.
pub(super) fn kernel(out_channels: usize, side: usize) -> Kernel {
    oblong(out_channels, [side, side])
}

/// A kernel of given height and width, otherwise as [`kernel`].
pub(super) fn oblong(out_channels: usize, kernel: [usize; 2]) -> Kernel {
    Kernel(Conv2d {
        in_channels: 0,
        out_channels,
        kernel,
        stride: [1, 1],
        padding: [0, 0],
        dilation: 1,
        groups: 1,
        bias: false,
    })
}

impl Kernel {
    pub(super) fn stride(mut self, step: usize) -> Kernel {
        self.0.stride = [step, step];
        self
    }

    /// Whether the stride leaves height and width as they are.
    pub(super) fn keeps_size(self) -> bool {
        self.0.stride == [1, 1]
    }

    pub(super) fn pad(self, border: usize) -> Kernel {
        self.pads([border, border])
    }

    pub(super) fn pads(mut self, border: [usize; 2]) -> Kernel {
        self.0.padding = border;
        self
    }

    /// Spreads the kernel and pads so that the size stays (3 × 3 kernels).
    pub(super) fn dilate(mut self, distance: usize) -> Kernel {
        self.0.dilation = distance;
        self.pad(distance)
    }

    pub(super) fn groups(mut self, groups: usize) -> Kernel {
        self.0.groups = groups;
        self
    }

    pub(super) fn bias(mut self) -> Kernel {
        self.0.bias = true;
        self
    }
}

/// A square maximum pool without padding.
pub(super) fn max_window(side: usize, step: usize) -> MaxPool {
    let (kernel, stride) = ([side, side], [step, step]);
    MaxPool { kernel, stride, padding: [0, 0], ceil: false }
}

/// The 3 × 3 average pool of the Inception pool branches: same size out.
pub(super) fn avg_same(count_padding: bool) -> AvgPool {
    let (kernel, stride, padding) = ([3, 3], [1, 1], [1, 1]);
    AvgPool { kernel, stride, padding, ceil: false, count_padding }
}

/// A graph under construction.
#[derive(Debug)]
pub(super) struct Builder {
    graph: Graph,
}

impl Builder {
    /// An empty graph for colour images of `size` × `size` pixels.
    pub(super) fn new(id: &str, size: usize) -> (Builder, Wire) {
        let input = Input { channels: 3, size };
        let graph = Graph { id: id.to_owned(), input, nodes: Vec::new() };
        (Builder { graph }, Wire { name: INPUT_NAME.to_owned(), channels: 3 })
    }

    pub(super) fn finish(self) -> Graph {
        self.graph
    }

    /// Adds a layer with `channels` output channels.
    pub(super) fn node(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: &[&Wire],
        channels: usize,
    ) -> Wire {
        let name = name.into();
        let inputs = inputs.iter().map(|wire| wire.name.clone()).collect();
        self.graph.nodes.push(Node { name: name.clone(), op, inputs });
        Wire { name, channels }
    }

    /// Adds a layer that keeps the number of channels.
    pub(super) fn same(&mut self, name: impl Into<String>, op: Op, input: &Wire) -> Wire {
        self.node(name, op, &[input], input.channels)
    }

    pub(super) fn conv(&mut self, name: impl Into<String>, kernel: Kernel, input: &Wire) -> Wire {
        let conv = Conv2d { in_channels: input.channels, ..kernel.0 };
        self.node(name, Op::Conv2d(conv), &[input], conv.out_channels)
    }

    pub(super) fn norm(&mut self, name: impl Into<String>, eps: f64, input: &Wire) -> Wire {
        self.same(name, Op::BatchNorm(BatchNorm { channels: input.channels, eps }), input)
    }

    pub(super) fn relu(&mut self, name: impl Into<String>, input: &Wire) -> Wire {
        self.same(name, Op::Relu, input)
    }

    pub(super) fn prelu(&mut self, name: impl Into<String>, input: &Wire) -> Wire {
        self.same(name, Op::Prelu(Prelu { channels: input.channels }), input)
    }

    /// Convolution, normalisation (ε = 10⁻³) and ReLU: the unit of the
    /// Inception family, keys `NAME.conv` and `NAME.bn`.
    pub(super) fn unit(&mut self, name: impl Into<String>, kernel: Kernel, input: &Wire) -> Wire {
        let name = name.into();
        let mut wire = self.conv(format!("{name}.conv"), kernel, input);
        wire = self.norm(format!("{name}.bn"), 1e-3, &wire);
        self.relu(format!("{name}.relu"), &wire)
    }

    /// Units one after the other, named by `name` and a number from `first` on.
    pub(super) fn units(
        &mut self,
        name: &str,
        first: usize,
        kernels: &[Kernel],
        input: &Wire,
    ) -> Wire {
        let mut wire = input.clone();
        for (index, kernel) in (first..).zip(kernels) {
            wire = self.unit(format!("{name}{index}"), *kernel, &wire);
        }
        wire
    }

    /// Per channel x · (std / 0.5) + (mean − 0.5) / 0.5: public weights of
    /// torchvision's Inception nets were trained on images scaled to ±1, while
    /// its images come normalised by ImageNet's mean and deviation.
    pub(super) fn rescaled(&mut self, input: &Wire) -> Wire {
        let scale = vec![0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5];
        let shift = vec![(0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5];
        self.same("transform_input", Op::ChannelAffine(ChannelAffine { scale, shift }), input)
    }

    pub(super) fn max_pool(
        &mut self,
        name: impl Into<String>,
        pool: MaxPool,
        input: &Wire,
    ) -> Wire {
        self.same(name, Op::MaxPool(pool), input)
    }

    pub(super) fn avg_pool(
        &mut self,
        name: impl Into<String>,
        pool: AvgPool,
        input: &Wire,
    ) -> Wire {
        self.same(name, Op::AvgPool(pool), input)
    }

    pub(super) fn adaptive(&mut self, name: &str, side: usize, input: &Wire) -> Wire {
        self.same(name, Op::AdaptiveAvgPool(AdaptiveAvgPool { output: [side, side] }), input)
    }

    pub(super) fn pad_channels(&mut self, name: String, channels: usize, input: &Wire) -> Wire {
        self.node(name, Op::PadChannels(PadChannels { channels }), &[input], channels)
    }

    pub(super) fn add(&mut self, name: impl Into<String>, first: &Wire, second: &Wire) -> Wire {
        self.node(name, Op::Add, &[first, second], first.channels)
    }

    pub(super) fn concat(&mut self, name: impl Into<String>, inputs: &[&Wire]) -> Wire {
        let channels = inputs.iter().map(|wire| wire.channels).sum();
        self.node(name, Op::Concat, inputs, channels)
    }

    /// A map of `side` × `side` pixels as one vector.
    pub(super) fn flatten(&mut self, side: usize, input: &Wire) -> Wire {
        self.node("flatten", Op::Flatten, &[input], input.channels * side * side)
    }

    /// A linear layer with bias.
    pub(super) fn linear(&mut self, name: &str, out_features: usize, input: &Wire) -> Wire {
        let linear = Linear { in_features: input.channels, out_features, bias: true };
        self.node(name, Op::Linear(linear), &[input], out_features)
    }

    /// Mean over the map, flattened, and the last linear layer.
    pub(super) fn mean_and_linear(&mut self, pool: &str, linear: &str, input: &Wire) {
        let mean = self.same(pool, Op::GlobalAvgPool, input);
        let flat = self.flatten(1, &mean);
        self.linear(linear, 1000, &flat);
    }
}
