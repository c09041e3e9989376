//! Weights in the order in which the tile kernel reads them.
//!
//! Owns the panel layout: output channels in panels of two vectors, within a
//! panel one row of weights per (kernel position, input channel). Channels
//! that fill up the last panel are zeros.

use pulp::{Arch, Simd, WithSimd};

use super::super::plan::Activation;

/// Vectors side by side in a panel.
pub(super) const VECTORS: usize = 2;

/// Lanes of one f32 vector on this CPU.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        S::F32_LANES
    }
}

/// Output channels of one panel on this CPU.
pub(super) fn panel_width() -> usize {
    VECTORS * Arch::new().dispatch(Lanes)
}

/// What happens to a result in registers; slopes are padded to panels.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    None,
    Relu,
    Relu6,
    Prelu(Vec<f32>),
    /// Sigmoid or SiLU, applied once the rows are written.
    After(Activation),
}

/// A matrix or kernel of `groups` × `outputs` × `depth`, in panels.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) groups: usize,
    /// Output channels of one group.
    pub(super) outputs: usize,
    /// Products per output: kernel positions times input channels of a group.
    pub(super) depth: usize,
    pub(super) width: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    pub(super) ending: Ending,
}

/// One panel's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel<'a> {
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) group: usize,
    /// First output channel.
    pub(super) first: usize,
    /// Output channels that exist.
    pub(super) valid: usize,
    /// Where the panel starts in padded per-channel lists.
    pub(super) padded_first: usize,
}

/// Sizes of an unpacked kernel: `groups` × `outputs` × `channels` × `positions`.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelDims {
    pub(super) groups: usize,
    pub(super) outputs: usize,
    pub(super) channels: usize,
    pub(super) positions: usize,
    /// Output channels per panel; see [`panel_width`].
    pub(super) width: usize,
}

impl Packed {
    pub(super) fn new(
        dims: KernelDims,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: &Activation,
    ) -> Packed {
        let KernelDims { groups, outputs, channels, positions, width } = dims;
        let depth = positions * channels;
        let panels = groups * outputs.div_ceil(width);
        let mut packed = vec![0.0; panels * depth * width];
        for (output, kernel) in weights.chunks_exact(depth).enumerate() {
            let column = padded(output, outputs, width);
            let panel = &mut packed[column / width * depth * width..][..depth * width];
            for (channel, taps) in kernel.chunks_exact(positions).enumerate() {
                for (position, weight) in taps.iter().enumerate() {
                    panel[(position * channels + channel) * width + column % width] = *weight;
                }
            }
        }
        let spread = |values: &[f32]| {
            let mut list = vec![0.0; panels * width];
            for (output, value) in values.iter().enumerate() {
                list[padded(output, outputs, width)] = *value;
            }
            list
        };
        let bias = spread(bias.unwrap_or(&[]));
        let ending = match activation {
            Activation::None => Ending::None,
            Activation::Relu => Ending::Relu,
            Activation::Relu6 => Ending::Relu6,
            Activation::Prelu(slopes) => Ending::Prelu(spread(slopes)),
            Activation::Silu | Activation::Sigmoid => Ending::After(activation.clone()),
        };
        Packed { groups, outputs, depth, width, weights: packed, bias, ending }
    }

    /// Panels of all groups.
    pub(super) fn panels(&self) -> usize {
        self.groups * self.outputs.div_ceil(self.width)
    }

    /// Output channels of all groups.
    pub(super) fn all_outputs(&self) -> usize {
        self.groups * self.outputs
    }

    pub(super) fn bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let per_group = self.outputs.div_ceil(self.width);
        let (group, inside) = (index / per_group, index % per_group * self.width);
        let size = self.depth * self.width;
        Panel {
            weights: &self.weights[index * size..][..size],
            bias: &self.bias[index * self.width..][..self.width],
            group,
            first: group * self.outputs + inside,
            valid: self.width.min(self.outputs - inside),
            padded_first: index * self.width,
        }
    }
}

/// Place of an output channel in lists where each group fills whole panels.
fn padded(output: usize, outputs: usize, width: usize) -> usize {
    output / outputs * outputs.next_multiple_of(width) + output % outputs
}
