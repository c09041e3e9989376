//! What is done element by element: affine maps, sums, activations, copies.
//!
//! Activations are N × H × W × C, so lists per channel repeat in each pixel.

use pulp::Arch;
use rayon::prelude::*;

use crate::network::Lrn;

use super::super::plan::Activation;

/// Elements per task: large beside what it costs to start one.
const TASK: usize = 16 << 10;

/// Sigmoid and SiLU, which need an exponential.
pub(super) fn apply_after(activation: &Activation, values: &mut [f32]) {
    match activation {
        Activation::Silu => values.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp()),
        Activation::Sigmoid => values
            .iter_mut()
            .for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        Activation::None | Activation::Relu | Activation::Relu6 | Activation::Prelu(_) => {}
    }
}

/// Adds `residual` and applies the activation; `values` are whole pixels.
pub(super) fn apply(activation: &Activation, residual: Option<&[f32]>, values: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            if let Some(residual) = residual {
                for (value, more) in values.iter_mut().zip(residual) {
                    *value += more;
                }
            }
            match activation {
                Activation::None | Activation::Silu | Activation::Sigmoid => {}
                Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
                Activation::Relu6 => values.iter_mut().for_each(|x| *x = x.clamp(0.0, 6.0)),
                Activation::Prelu(slopes) => {
                    for pixel in values.chunks_exact_mut(slopes.len()) {
                        for (x, slope) in pixel.iter_mut().zip(slopes) {
                            *x = x.max(0.0) + x.min(0.0) * slope;
                        }
                    }
                }
            }
        },
    );
    apply_after(activation, values);
}

/// Calls `fill` with the index of the first pixel and a run of whole pixels.
pub(super) fn by_pixels(
    channels: usize,
    out: &mut [f32],
    fill: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    let pixels = (TASK / channels).max(1);
    out.par_chunks_mut(pixels * channels)
        .enumerate()
        .for_each(|(index, out)| fill(index * pixels, out));
}

/// x · scale + shift, plus residual, then the activation.
pub(super) fn affine(
    scale: &[f32],
    shift: &[f32],
    activation: &Activation,
    input: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let channels = scale.len();
    by_pixels(channels, out, |pixel, out| {
        let input = &input[pixel * channels..][..out.len()];
        for (y, x) in out
            .chunks_exact_mut(channels)
            .zip(input.chunks_exact(channels))
        {
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = x * scale + shift;
            }
        }
        let residual = residual.map(|residual| &residual[pixel * channels..][..out.len()]);
        apply(activation, residual, out);
    });
}

/// The input itself, plus residual, then the activation.
pub(super) fn identity(
    channels: usize,
    activation: &Activation,
    input: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    by_pixels(channels, out, |pixel, out| {
        out.copy_from_slice(&input[pixel * channels..][..out.len()]);
        let residual = residual.map(|residual| &residual[pixel * channels..][..out.len()]);
        apply(activation, residual, out);
    });
}

/// Puts `input`'s channels into each pixel of `out`, from channel `first` on.
pub(super) fn place(first: usize, channels: usize, total: usize, input: &[f32], out: &mut [f32]) {
    by_pixels(total, out, |pixel, out| {
        let input = &input[pixel * channels..];
        for (y, x) in out
            .chunks_exact_mut(total)
            .zip(input.chunks_exact(channels))
        {
            y[first..first + channels].copy_from_slice(x);
        }
    });
}

/// Appends zero channels.
pub(super) fn pad_channels(channels: usize, total: usize, input: &[f32], out: &mut [f32]) {
    by_pixels(total, out, |pixel, out| {
        let input = &input[pixel * channels..];
        for (y, x) in out
            .chunks_exact_mut(total)
            .zip(input.chunks_exact(channels))
        {
            y[..channels].copy_from_slice(x);
            y[channels..].fill(0.0);
        }
    });
}

/// Each image's channels times its factors.
pub(super) fn scale_channels(
    channels: usize,
    pixels: usize,
    input: &[f32],
    factors: &[f32],
    out: &mut [f32],
) {
    by_pixels(channels, out, |first, out| {
        let input = &input[first * channels..][..out.len()];
        let pairs = out
            .chunks_exact_mut(channels)
            .zip(input.chunks_exact(channels));
        for (pixel, (y, x)) in (first..).zip(pairs) {
            let factors = &factors[pixel / pixels * channels..][..channels];
            for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
                *y = x * factor;
            }
        }
    });
}

/// Local response normalisation; see [`Lrn`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "constants rounded to the precision that is computed with"
)]
pub(super) fn normalise_locally(lrn: &Lrn, channels: usize, input: &[f32], out: &mut [f32]) {
    let (before, after) = (lrn.size / 2, (lrn.size - 1) / 2);
    let (alpha, beta, k) = (
        (lrn.alpha / lrn.size as f64) as f32,
        lrn.beta as f32,
        lrn.k as f32,
    );
    by_pixels(channels, out, |first, out| {
        let input = &input[first * channels..][..out.len()];
        for (y, x) in out
            .chunks_exact_mut(channels)
            .zip(input.chunks_exact(channels))
        {
            for (channel, y) in y.iter_mut().enumerate() {
                let window = channel.saturating_sub(before)..channels.min(channel + after + 1);
                let squares: f32 = x[window].iter().map(|x| x * x).sum();
                *y = x[channel] / (k + alpha * squares).powf(beta);
            }
        }
    });
}

/// N × C × P to N × P × C.
pub(super) fn channels_last(channels: usize, pixels: usize, input: &[f32], out: &mut [f32]) {
    by_pixels(channels, out, |first, out| {
        for (pixel, y) in (first..).zip(out.chunks_exact_mut(channels)) {
            let start = pixel / pixels * pixels * channels + pixel % pixels;
            for (channel, y) in y.iter_mut().enumerate() {
                *y = input[start + channel * pixels];
            }
        }
    });
}

/// N × P × C to N × C × P.
pub(super) fn channels_first(channels: usize, pixels: usize, input: &[f32], out: &mut [f32]) {
    by_pixels(pixels, out, |first, out| {
        for (plane, y) in (first..).zip(out.chunks_exact_mut(pixels)) {
            let start = plane / channels * channels * pixels + plane % channels;
            for (pixel, y) in y.iter_mut().enumerate() {
                *y = input[start + pixel * channels];
            }
        }
    });
}
