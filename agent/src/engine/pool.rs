//! Pooling with candle's operations.
//!
//! candle 0.11 pools without padding, never rounds up, and divides by the whole
//! window. Owns what makes PyTorch's pools of that: borders of −∞ for a
//! maximum (right for any input, also negative ones), borders of zeros and a
//! map of divisors for a mean.

use candle_core::{Result, Tensor};

use crate::network::{AdaptiveAvgPool, AvgPool, MaxPool, pooled_length};

/// Windows along one axis and the border that makes them fit.
#[derive(Clone, Copy, Debug)]
struct Axis {
    length: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    /// Border at the end: the declared one, more where the last window reaches
    /// over, less where no window touches it.
    after: usize,
    windows: usize,
}

impl Axis {
    fn new(length: usize, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Axis {
        let windows = pooled_length(length, kernel, stride, padding, ceil).unwrap_or(0);
        let reach = windows.saturating_sub(1) * stride + kernel;
        let after = reach.saturating_sub(length + padding);
        Axis { length, kernel, stride, before: padding, after, windows }
    }

    /// Elements by which each window's sum is divided.
    fn divisors(&self, count_padding: bool, padding: usize) -> Vec<usize> {
        let count = |window: usize| {
            let (start, end) = (window * self.stride, window * self.stride + self.kernel);
            // Padded coordinates: the image is at before..before + length.
            let (first, last) = if count_padding {
                (0, self.length + 2 * padding)
            } else {
                (self.before, self.before + self.length)
            };
            end.min(last) - start.max(first)
        };
        (0..self.windows).map(count).collect()
    }
}

pub(super) fn max_pool(x: &Tensor, pool: &MaxPool) -> Result<Tensor> {
    let axes = axes(x, pool.kernel, pool.stride, pool.padding, pool.ceil)?;
    let mut x = x.clone();
    for (dim, axis) in (2..).zip(axes) {
        x = border(&x, dim, axis, f64::NEG_INFINITY)?;
    }
    x.max_pool2d_with_stride(pair(pool.kernel), pair(pool.stride))
}

pub(super) fn avg_pool(x: &Tensor, pool: &AvgPool) -> Result<Tensor> {
    let axes = axes(x, pool.kernel, pool.stride, pool.padding, pool.ceil)?;
    let mut padded = x.clone();
    for (dim, axis) in (2..).zip(axes) {
        padded = border(&padded, dim, axis, 0.0)?;
    }
    let mut y = padded.avg_pool2d_with_stride(pair(pool.kernel), pair(pool.stride))?;
    for ((dim, axis), padding) in (2..).zip(axes).zip(pool.padding) {
        let divisors = axis.divisors(pool.count_padding, padding);
        if divisors.iter().any(|divisor| *divisor != axis.kernel) {
            y = y.broadcast_mul(&corrections(x, dim, axis.kernel, &divisors)?)?;
        }
    }
    Ok(y)
}

/// Factors kernel / divisor along one axis, shaped for broadcasting.
#[expect(clippy::cast_precision_loss, reason = "window sizes are small")]
fn corrections(like: &Tensor, dim: usize, kernel: usize, divisors: &[usize]) -> Result<Tensor> {
    let factors: Vec<f32> = divisors.iter().map(|d| kernel as f32 / *d as f32).collect();
    let mut shape = [1; 4];
    shape[dim] = factors.len();
    Tensor::from_vec(factors, &shape, like.device())?.to_dtype(like.dtype())
}

pub(super) fn adaptive_avg_pool(x: &Tensor, pool: &AdaptiveAvgPool) -> Result<Tensor> {
    let mut y = x.clone();
    for (dim, windows) in (2..).zip(pool.output) {
        let length = y.dim(dim)?;
        if windows == length {
            continue;
        }
        // All windows of one output have equal areas along each axis, so the
        // mean over the window is the mean of the means.
        let mean = |window: usize| {
            let start = window * length / windows;
            let end = ((window + 1) * length).div_ceil(windows);
            y.narrow(dim, start, end - start)?.mean_keepdim(dim)
        };
        let means = (0..windows).map(mean).collect::<Result<Vec<_>>>()?;
        y = Tensor::cat(&means, dim)?;
    }
    Ok(y)
}

fn axes(
    x: &Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil: bool,
) -> Result<[Axis; 2]> {
    let (_, _, height, width) = x.dims4()?;
    Ok([
        Axis::new(height, kernel[0], stride[0], padding[0], ceil),
        Axis::new(width, kernel[1], stride[1], padding[1], ceil),
    ])
}

fn border(x: &Tensor, dim: usize, axis: Axis, value: f64) -> Result<Tensor> {
    let strip = |length: usize| {
        let mut shape = x.dims().to_vec();
        shape[dim] = length;
        Tensor::full(value, shape, x.device())?.to_dtype(x.dtype())
    };
    match (axis.before, axis.after) {
        (0, 0) => Ok(x.clone()),
        (0, after) => Tensor::cat(&[x, &strip(after)?], dim),
        (before, 0) => Tensor::cat(&[&strip(before)?, x], dim),
        (before, after) => Tensor::cat(&[&strip(before)?, x, &strip(after)?], dim),
    }
}

fn pair(values: [usize; 2]) -> (usize, usize) {
    (values[0], values[1])
}
