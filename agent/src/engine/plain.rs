//! Steps as candle operations, on any of candle's devices.
//!
//! Owns the weights as candle tensors and one function per kind of step.
//! Right first: what candle lacks is made of what it has (see `pool`, and the
//! notes at `convolve`). Activations are N × C × H × W.

use candle_core::{DType, Device, Result, Tensor};

use crate::network::{Conv2d, Lrn};

use super::plan::{Activation, Step, StepOp};
use super::pool;

/// A step's weights as tensors, ready to broadcast.
#[derive(Debug)]
pub(super) struct PlainStep {
    op: PlainOp,
    activation: PlainActivation,
}

#[derive(Debug)]
enum PlainOp {
    Conv {
        conv: Conv2d,
        weight: Tensor,
        bias: Option<Tensor>,
    },
    Linear {
        weight: Tensor,
        bias: Option<Tensor>,
    },
    Affine {
        scale: Tensor,
        shift: Tensor,
    },
    /// Everything that has no weights.
    Weightless(StepOp),
}

#[derive(Debug)]
enum PlainActivation {
    Simple(Activation),
    Prelu { slope: Tensor },
}

/// Where and in which type tensors are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) device: &'a Device,
    pub(super) element: DType,
}

impl Place<'_> {
    fn tensor(self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(values, shape, self.device)?.to_dtype(self.element)
    }
}

impl PlainStep {
    /// Moves a step's weights to where they are used.
    pub(super) fn load(step: &mut Step, place: Place<'_>) -> Result<PlainStep> {
        let rank = step.shape.with_batch(1).len();
        let per_channel = |values: Vec<f32>| {
            let mut shape = vec![1; rank];
            shape[1] = values.len();
            place.tensor(values, &shape)
        };
        let op = match std::mem::replace(&mut step.op, StepOp::Identity) {
            StepOp::Conv { conv, weight, bias } => {
                let [kh, kw] = conv.kernel;
                let shape = [conv.out_channels, conv.in_channels / conv.groups, kh, kw];
                let bias = bias.map(per_channel).transpose()?;
                PlainOp::Conv { conv, weight: place.tensor(weight, &shape)?, bias }
            }
            StepOp::Linear { linear, weight, bias } => {
                let weight = place.tensor(weight, &[linear.out_features, linear.in_features])?;
                PlainOp::Linear { weight: weight.t()?, bias: bias.map(per_channel).transpose()? }
            }
            StepOp::Affine { scale, shift } => {
                PlainOp::Affine { scale: per_channel(scale)?, shift: per_channel(shift)? }
            }
            weightless => PlainOp::Weightless(weightless),
        };
        let activation = match std::mem::replace(&mut step.activation, Activation::None) {
            Activation::Prelu(slope) => PlainActivation::Prelu { slope: per_channel(slope)? },
            simple => PlainActivation::Simple(simple),
        };
        Ok(PlainStep { op, activation })
    }

    /// The step's result for `inputs`.
    pub(super) fn run(&self, inputs: &[&Tensor], residual: Option<&Tensor>) -> Result<Tensor> {
        let x = inputs[0];
        let y = match &self.op {
            PlainOp::Conv { conv, weight, bias } => {
                plus(convolve(x, weight, conv)?, bias.as_ref())?
            }
            PlainOp::Linear { weight, bias } => plus(x.matmul(weight)?, bias.as_ref())?,
            PlainOp::Affine { scale, shift } => x.broadcast_mul(scale)?.broadcast_add(shift)?,
            PlainOp::Weightless(op) => weightless(op, inputs)?,
        };
        let y = match residual {
            Some(residual) => (y + residual)?,
            None => y,
        };
        self.activation.apply(y)
    }
}

impl PlainActivation {
    fn apply(&self, x: Tensor) -> Result<Tensor> {
        match self {
            PlainActivation::Prelu { slope } => {
                x.relu()? + x.minimum(0_f64)?.broadcast_mul(slope)?
            }
            PlainActivation::Simple(activation) => match activation {
                Activation::Relu => x.relu(),
                Activation::Relu6 => x.clamp(0_f64, 6_f64),
                Activation::Silu => x.silu(),
                Activation::Sigmoid => candle_nn::ops::sigmoid(&x),
                Activation::None | Activation::Prelu(_) => Ok(x),
            },
        }
    }
}

fn weightless(op: &StepOp, inputs: &[&Tensor]) -> Result<Tensor> {
    let x = inputs[0];
    match op {
        StepOp::MaxPool(pool) => pool::max_pool(x, pool),
        StepOp::AvgPool(pool) => pool::avg_pool(x, pool),
        StepOp::AdaptiveAvgPool(pool) => pool::adaptive_avg_pool(x, pool),
        StepOp::GlobalAvgPool => x.mean_keepdim((2, 3)),
        StepOp::Flatten => x.flatten_from(1),
        StepOp::Concat => Tensor::cat(inputs, 1),
        StepOp::ScaleChannels => x.broadcast_mul(inputs[1]),
        StepOp::PadChannels(channels) => x.pad_with_zeros(1, 0, channels - x.dim(1)?),
        StepOp::Lrn(lrn) => normalise_locally(x, lrn),
        StepOp::Identity | StepOp::Conv { .. } | StepOp::Linear { .. } | StepOp::Affine { .. } => {
            Ok(x.clone())
        }
    }
}

fn plus(x: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => x.broadcast_add(bias),
        None => Ok(x),
    }
}

/// candle has one padding and one stride for both axes: where they differ the
/// image is padded by a copy, and outputs between the strides are dropped.
fn convolve(x: &Tensor, weight: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    let ([pad_h, pad_w], [step_h, step_w]) = (conv.padding, conv.stride);
    let padded = if pad_h == pad_w {
        x.clone()
    } else {
        x.pad_with_zeros(2, pad_h, pad_h)?.pad_with_zeros(3, pad_w, pad_w)?
    };
    let padding = if pad_h == pad_w { pad_h } else { 0 };
    if step_h == step_w {
        return padded.conv2d(weight, padding, step_h, conv.dilation, conv.groups);
    }
    let dense = padded.conv2d(weight, padding, 1, conv.dilation, conv.groups)?;
    every(&every(&dense, 2, step_h)?, 3, step_w)
}

/// Every `step`-th slice along `dim`, from the first.
fn every(x: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    let kept: Vec<u32> = (0_u32..).take(x.dim(dim)?).step_by(step).collect();
    let count = kept.len();
    x.index_select(&Tensor::from_vec(kept, count, x.device())?, dim)
}

/// PyTorch's `local_response_norm`: the window's missing channels are zeros
/// and count in the mean.
#[expect(clippy::cast_precision_loss, reason = "a window of a few channels")]
fn normalise_locally(x: &Tensor, lrn: &Lrn) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let squares = x.sqr()?.pad_with_zeros(1, lrn.size / 2, (lrn.size - 1) / 2)?;
    let mut sum = squares.narrow(1, 0, channels)?;
    for offset in 1..lrn.size {
        sum = (sum + squares.narrow(1, offset, channels)?)?;
    }
    let denominator = sum.affine(lrn.alpha / lrn.size as f64, lrn.k)?.powf(lrn.beta)?;
    x / denominator
}
