//! Antialiased resize of 8-bit pictures, equal to Pillow's to the last bit.
//!
//! Owns the two filters, their weights in fixed point and the two passes, each
//! rounded to 8 bits; torchvision resizes images by the same code.
//! Source: Pillow, `src/libImaging/Resample.c` (`precompute_coeffs`,
//! `normalize_coeffs_8bpc`, `ImagingResampleHorizontal_8bpc`).

use super::picture::Picture;
use crate::network::Interpolation;

/// Bits behind the point of a weight: 8 are the pixel's, 2 keep sums in range.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Pixels along one axis that make one pixel, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Interpolation {
    /// Half of the filter's width before it is stretched.
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Interpolation::Bilinear if x < 1.0 => 1.0 - x,
            Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Interpolation::Bilinear | Interpolation::Bicubic => 0.0,
        }
    }
}

/// Keys' parameter as Pillow has it.
const A: f64 = -0.5;

/// `picture` with another width and height.
#[must_use]
pub fn resize(picture: &Picture, width: usize, height: usize, filter: Interpolation) -> Picture {
    let wide = if width == picture.width {
        picture.clone()
    } else {
        horizontal(picture, &taps(picture.width, width, filter))
    };
    if height == picture.height {
        wide
    } else {
        vertical(&wide, &taps(picture.height, height, filter))
    }
}

/// Weights for each of `to` pixels out of `from`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C's conversions, on lengths far below 2^31"
)]
fn taps(from: usize, to: usize, filter: Interpolation) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..to)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let mut exact: Vec<f64> = (first..end)
                .map(|source| filter.weight((source as f64 - center + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = exact.iter().sum();
            if sum != 0.0 {
                exact.iter_mut().for_each(|weight| *weight /= sum);
            }
            let one = f64::from(1_u32 << PRECISION_BITS);
            let fixed = |weight: &f64| {
                let half = if *weight < 0.0 { -0.5 } else { 0.5 };
                (half + weight * one) as i32
            };
            Taps { first, weights: exact.iter().map(fixed).collect() }
        })
        .collect()
}

fn horizontal(picture: &Picture, taps: &[Taps]) -> Picture {
    let mut rgb = Vec::with_capacity(taps.len() * picture.height * 3);
    for row in picture.rgb.chunks_exact(picture.width * 3) {
        for tap in taps {
            for channel in 0..3 {
                let pixels = row.iter().skip(tap.first * 3 + channel).step_by(3);
                rgb.push(weighted(&tap.weights, pixels));
            }
        }
    }
    Picture { width: taps.len(), height: picture.height, rgb }
}

fn vertical(picture: &Picture, taps: &[Taps]) -> Picture {
    let stride = picture.width * 3;
    let mut rgb = Vec::with_capacity(taps.len() * stride);
    for tap in taps {
        for column in 0..stride {
            let pixels = picture.rgb.iter().skip(tap.first * stride + column).step_by(stride);
            rgb.push(weighted(&tap.weights, pixels));
        }
    }
    Picture { width: picture.width, height: taps.len(), rgb }
}

fn weighted<'a>(weights: &[i32], pixels: impl Iterator<Item = &'a u8>) -> u8 {
    let half = 1_i32 << (PRECISION_BITS - 1);
    let sum = weights.iter().zip(pixels).fold(half, |sum, (weight, pixel)| {
        sum.wrapping_add(weight.wrapping_mul(i32::from(*pixel)))
    });
    let value = (sum >> PRECISION_BITS).clamp(0, 255);
    u8::try_from(value).unwrap_or(u8::MAX)
}
