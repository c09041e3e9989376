//! Convolution with one filter per channel.
//!
//! Owns the kernel that multiplies channel by channel; the tile kernel would
//! fill one lane of sixteen. Rows of the output are split over threads.

use pulp::Arch;
use rayon::prelude::*;

use crate::network::Conv2d;

use super::super::plan::Activation;
use super::conv::Frame;
use super::elementwise::apply;

/// A convolution whose groups have one channel in and one out.
#[derive(Debug)]
pub(super) struct OwnDepthwise {
    conv: Conv2d,
    frame: Frame,
    /// By kernel position, then channel.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl OwnDepthwise {
    /// Whether this kernel fits.
    pub(super) fn takes(conv: &Conv2d) -> bool {
        conv.groups > 1 && conv.groups == conv.in_channels && conv.groups == conv.out_channels
    }

    pub(super) fn new(
        conv: Conv2d,
        frame: Frame,
        weights: &[f32],
        bias: Option<Vec<f32>>,
        activation: Activation,
    ) -> OwnDepthwise {
        let (channels, positions) = (conv.groups, conv.kernel[0] * conv.kernel[1]);
        let mut turned = vec![0.0; weights.len()];
        for (channel, taps) in weights.chunks_exact(positions).enumerate() {
            for (position, weight) in taps.iter().enumerate() {
                turned[position * channels + channel] = *weight;
            }
        }
        let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
        OwnDepthwise { conv, frame, weights: turned, bias, activation }
    }

    pub(super) fn run(&self, input: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let line = self.frame.output[1] * self.conv.groups;
        out.par_chunks_mut(line).enumerate().for_each(|(index, out)| {
            Arch::new().dispatch(
                #[inline(always)]
                || self.line(input, index, out),
            );
            let residual = residual.map(|residual| &residual[index * line..][..line]);
            apply(&self.activation, residual, out);
        });
    }

    /// One line of pixels, counted over all images.
    #[inline(always)]
    fn line(&self, input: &[f32], line: usize, out: &mut [f32]) {
        let Conv2d { kernel, stride, padding, dilation, groups: channels, .. } = self.conv;
        let [height, width] = self.frame.input;
        let (image, top) = (line / self.frame.output[0], line % self.frame.output[0] * stride[0]);
        for (column, out) in out.chunks_exact_mut(channels).enumerate() {
            out.copy_from_slice(&self.bias);
            for ky in 0..kernel[0] {
                let y = (top + ky * dilation).checked_sub(padding[0]).filter(|y| *y < height);
                let Some(y) = y else { continue };
                for kx in 0..kernel[1] {
                    let x = (column * stride[1] + kx * dilation).checked_sub(padding[1]);
                    let Some(x) = x.filter(|x| *x < width) else {
                        continue;
                    };
                    let start = ((image * height + y) * width + x) * channels;
                    let weights = &self.weights[(ky * kernel[1] + kx) * channels..][..channels];
                    let pixel = &input[start..start + channels];
                    for ((sum, x), weight) in out.iter_mut().zip(pixel).zip(weights) {
                        *sum += x * weight;
                    }
                }
            }
        }
    }
}
