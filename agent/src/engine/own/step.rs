//! One step of a plan with our own kernels, as an operation of candle.
//!
//! Owns the choice of kernel for a step and the door through which it works on
//! candle's storage: the result is written in place into a buffer that exists.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, bail};

use crate::network::{Conv2d, Lrn, Shape};

use super::super::plan::{Activation, Step, StepOp};
use super::conv::{Frame, OwnConv};
use super::depthwise::OwnDepthwise;
use super::elementwise;
use super::window::OwnPool;

/// A step, ready to run.
#[derive(Debug)]
pub(super) struct OwnStep {
    kernel: Kernel,
    /// Elements of the result for the whole batch.
    elements: usize,
}

#[derive(Debug)]
enum Kernel {
    Conv(Box<OwnConv>),
    Depthwise(OwnDepthwise),
    Affine { scale: Vec<f32>, shift: Vec<f32>, activation: Activation },
    Identity { channels: usize, activation: Activation },
    Pool(OwnPool),
    ChannelsFirst { channels: usize, pixels: usize },
    ChannelsLast { channels: usize, pixels: usize },
    Place { first: usize, channels: usize, total: usize },
    ScaleChannels { channels: usize, pixels: usize },
    PadChannels { channels: usize, total: usize },
    Lrn { lrn: Lrn, channels: usize },
}

fn sides(shape: Shape) -> [usize; 2] {
    match shape {
        Shape::Map { height, width, .. } => [height, width],
        Shape::Vector { .. } => [1, 1],
    }
}

impl OwnStep {
    /// The kernel for `step`, whose first input has shape `input`. A
    /// concatenation is made of [`OwnStep::place`] instead.
    pub(super) fn new(step: &mut Step, input: Shape, batch: usize) -> OwnStep {
        let activation = std::mem::replace(&mut step.activation, Activation::None);
        let channels = input.channels();
        let (from, to) = (sides(input), sides(step.shape));
        let frame = Frame { batch, input: from, output: to };
        let kernel = match std::mem::replace(&mut step.op, StepOp::Identity) {
            StepOp::Conv { conv, weight, bias } if OwnDepthwise::takes(&conv) => {
                Kernel::Depthwise(OwnDepthwise::new(conv, frame, &weight, bias, activation))
            }
            StepOp::Conv { conv, weight, bias } => {
                let own = OwnConv::new(conv, frame, &weight, bias.as_deref(), &activation);
                Kernel::Conv(Box::new(own))
            }
            StepOp::Linear { linear, weight, bias } => {
                let conv = Conv2d {
                    in_channels: linear.in_features,
                    out_channels: linear.out_features,
                    kernel: [1, 1],
                    stride: [1, 1],
                    padding: [0, 0],
                    dilation: 1,
                    groups: 1,
                    bias: linear.bias,
                };
                let own = OwnConv::new(conv, frame, &weight, bias.as_deref(), &activation);
                Kernel::Conv(Box::new(own))
            }
            StepOp::Affine { scale, shift } => Kernel::Affine { scale, shift, activation },
            StepOp::Identity => Kernel::Identity { channels, activation },
            StepOp::MaxPool(pool) => Kernel::Pool(OwnPool::max(&pool, channels, from, to)),
            StepOp::AvgPool(pool) => Kernel::Pool(OwnPool::mean(&pool, channels, from, to)),
            StepOp::AdaptiveAvgPool(_) | StepOp::GlobalAvgPool => {
                Kernel::Pool(OwnPool::adaptive(channels, from, to))
            }
            StepOp::Flatten => Kernel::ChannelsFirst { channels, pixels: input.pixels() },
            StepOp::Concat => Kernel::Place { first: 0, channels, total: step.shape.channels() },
            StepOp::ScaleChannels => Kernel::ScaleChannels { channels, pixels: input.pixels() },
            StepOp::PadChannels(total) => Kernel::PadChannels { channels, total },
            StepOp::Lrn(lrn) => Kernel::Lrn { lrn, channels },
        };
        OwnStep { kernel, elements: batch * step.shape.elements() }
    }

    /// Puts an input's channels into a concatenation.
    pub(super) fn place(first: usize, input: Shape, output: Shape, batch: usize) -> OwnStep {
        let (channels, total) = (input.channels(), output.channels());
        let elements = batch * output.elements();
        OwnStep { kernel: Kernel::Place { first, channels, total }, elements }
    }

    /// Turns an image from N × C × H × W to N × H × W × C.
    pub(super) fn channels_last(shape: Shape, batch: usize) -> OwnStep {
        let (channels, pixels) = (shape.channels(), shape.pixels());
        let elements = batch * shape.elements();
        OwnStep { kernel: Kernel::ChannelsLast { channels, pixels }, elements }
    }

    /// Turns a result from N × H × W × C to N × C × H × W.
    pub(super) fn channels_first(shape: Shape, batch: usize) -> OwnStep {
        let (channels, pixels) = (shape.channels(), shape.pixels());
        let elements = batch * shape.elements();
        OwnStep { kernel: Kernel::ChannelsFirst { channels, pixels }, elements }
    }

    fn run(&self, x: &[f32], second: Option<&[f32]>, out: &mut [f32]) {
        match &self.kernel {
            Kernel::Conv(conv) => conv.run(x, second, out),
            Kernel::Depthwise(conv) => conv.run(x, second, out),
            Kernel::Affine { scale, shift, activation } => {
                elementwise::affine(scale, shift, activation, x, second, out);
            }
            Kernel::Identity { channels, activation } => {
                elementwise::identity(*channels, activation, x, second, out);
            }
            Kernel::Pool(pool) => pool.run(x, out),
            Kernel::ChannelsFirst { channels, pixels } => {
                elementwise::channels_first(*channels, *pixels, x, out);
            }
            Kernel::ChannelsLast { channels, pixels } => {
                elementwise::channels_last(*channels, *pixels, x, out);
            }
            Kernel::Place { first, channels, total } => {
                elementwise::place(*first, *channels, *total, x, out);
            }
            Kernel::ScaleChannels { channels, pixels } => {
                elementwise::scale_channels(*channels, *pixels, x, second.unwrap_or(x), out);
            }
            Kernel::PadChannels { channels, total } => {
                elementwise::pad_channels(*channels, *total, x, out);
            }
            Kernel::Lrn { lrn, channels } => elementwise::normalise_locally(lrn, *channels, x, out),
        }
    }
}

/// Name in candle's error texts.
const NAME: &str = "wattline-step";

impl InplaceOp2 for OwnStep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        result: &mut CpuStorage,
        _: &Layout,
        input: &CpuStorage,
        layout: &Layout,
    ) -> Result<()> {
        self.run(values(input, layout)?, None, self.result(result)?);
        Ok(())
    }
}

impl InplaceOp3 for OwnStep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        result: &mut CpuStorage,
        _: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let (x, second) = (values(input, input_layout)?, values(second, second_layout)?);
        self.run(x, Some(second), self.result(result)?);
        Ok(())
    }
}

impl OwnStep {
    /// The part of a buffer that the step writes.
    fn result<'a>(&self, storage: &'a mut CpuStorage) -> Result<&'a mut [f32]> {
        match storage {
            CpuStorage::F32(values) => Ok(&mut values[..self.elements]),
            _ => bail!("{NAME}: a buffer that is not f32"),
        }
    }
}

/// What a step reads: a buffer, or the image where it lies in its storage.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(&values[layout.start_offset()..]),
        _ => bail!("{NAME}: an input that is not f32"),
    }
}
