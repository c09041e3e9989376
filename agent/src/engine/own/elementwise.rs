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
    Arch::new().dispatch(
        #[inline(always)]
        || match activation {
            Activation::Silu => {
                for x in values {
                    *x /= 1.0 + exponential(-*x);
                }
            }
            Activation::Sigmoid => {
                for x in values {
                    *x = 1.0 / (1.0 + exponential(-*x));
                }
            }
            Activation::None | Activation::Relu | Activation::Relu6 | Activation::Prelu(_) => {}
        },
    );
}

/// eˣ with a relative error below 3·10⁻⁷, in operations that a compiler turns
/// into vectors. Beyond ±87 it stays at the value there: 1 + eˣ is then 1 or
/// so large that the result is 0 in either case.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ is its Taylor series to the sixth power
/// (remainder below 2·10⁻⁷ of it), 2ⁿ is made of bits. ln 2 is in two parts,
/// the first of which has zeros enough for n·ln 2 to be exact.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which is then in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut power = 1.0 / 720.0;
    for term in series {
        power = power * r + term;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127);
    power * f32::from_bits(exponent << 23)
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
                Activation::Relu => {
                    for x in &mut *values {
                        *x = x.max(0.0);
                    }
                }
                Activation::Relu6 => {
                    for x in &mut *values {
                        *x = x.clamp(0.0, 6.0);
                    }
                }
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
        for (y, x) in out.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
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
        for (y, x) in out.chunks_exact_mut(total).zip(input.chunks_exact(channels)) {
            y[first..first + channels].copy_from_slice(x);
        }
    });
}

/// Appends zero channels.
pub(super) fn pad_channels(channels: usize, total: usize, input: &[f32], out: &mut [f32]) {
    by_pixels(total, out, |pixel, out| {
        let input = &input[pixel * channels..];
        for (y, x) in out.chunks_exact_mut(total).zip(input.chunks_exact(channels)) {
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
        let pairs = out.chunks_exact_mut(channels).zip(input.chunks_exact(channels));
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
    let (alpha, beta, k) = ((lrn.alpha / lrn.size as f64) as f32, lrn.beta as f32, lrn.k as f32);
    by_pixels(channels, out, |first, out| {
        let input = &input[first * channels..][..out.len()];
        for (y, x) in out.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_library_to_a_few_units() {
        let mut worst = 0.0_f64;
        for step in -86_900_i32..=86_900 {
            let x = f64::from(step) / 1000.0;
            #[expect(clippy::cast_possible_truncation)]
            let x = x as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exponential(x)) - exact).abs() / exact);
        }
        assert!(worst < 3e-7, "{worst:e}");
    }
}
