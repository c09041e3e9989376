//! Pooling of every kind, as lists of windows along both axes.
//!
//! Owns the windows: each is a range of the image and the number by which a
//! sum along it is divided, so that padding, rounding up and adaptive sizes
//! need no code of their own. Padding is never read.

use pulp::Arch;
use rayon::prelude::*;

use crate::network::{AvgPool, MaxPool};

/// A window along one axis.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: usize,
    end: usize,
    divisor: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    Max,
    Mean,
}

/// A pool for images of one size.
#[derive(Debug)]
pub(super) struct OwnPool {
    reduction: Reduction,
    rows: Vec<Window>,
    columns: Vec<Window>,
    channels: usize,
    input: [usize; 2],
}

impl OwnPool {
    pub(super) fn max(
        pool: &MaxPool,
        channels: usize,
        input: [usize; 2],
        output: [usize; 2],
    ) -> OwnPool {
        let axis = |axis: usize| {
            let (kernel, stride) = (pool.kernel[axis], pool.stride[axis]);
            sliding(kernel, stride, pool.padding[axis], true, input[axis], output[axis])
        };
        let (rows, columns) = (axis(0), axis(1));
        OwnPool { reduction: Reduction::Max, rows, columns, channels, input }
    }

    pub(super) fn mean(
        pool: &AvgPool,
        channels: usize,
        input: [usize; 2],
        output: [usize; 2],
    ) -> OwnPool {
        let axis = |axis: usize| {
            let (kernel, stride) = (pool.kernel[axis], pool.stride[axis]);
            let counted = pool.count_padding;
            sliding(kernel, stride, pool.padding[axis], counted, input[axis], output[axis])
        };
        let (rows, columns) = (axis(0), axis(1));
        OwnPool { reduction: Reduction::Mean, rows, columns, channels, input }
    }

    /// Mean over windows that share the image out evenly.
    pub(super) fn adaptive(channels: usize, input: [usize; 2], output: [usize; 2]) -> OwnPool {
        let axis = |axis: usize| {
            let (length, count) = (input[axis], output[axis]);
            let window = |index: usize| {
                let start = index * length / count;
                let end = ((index + 1) * length).div_ceil(count);
                Window { start, end, divisor: end - start }
            };
            (0..count).map(window).collect()
        };
        let (rows, columns) = (axis(0), axis(1));
        OwnPool { reduction: Reduction::Mean, rows, columns, channels, input }
    }

    pub(super) fn run(&self, input: &[f32], out: &mut [f32]) {
        let line = self.columns.len() * self.channels;
        out.par_chunks_mut(line).enumerate().for_each(|(index, out)| {
            Arch::new().dispatch(
                #[inline(always)]
                || self.line(input, index, out),
            );
        });
    }

    /// One line of windows, counted over all images.
    #[inline(always)]
    fn line(&self, input: &[f32], line: usize, out: &mut [f32]) {
        let [height, width] = self.input;
        let (image, row) = (line / self.rows.len(), self.rows[line % self.rows.len()]);
        for (out, column) in out.chunks_exact_mut(self.channels).zip(&self.columns) {
            out.fill(if self.reduction == Reduction::Max { f32::NEG_INFINITY } else { 0.0 });
            for y in row.start..row.end {
                let start = (image * height + y) * width;
                let pixels = &input[(start + column.start) * self.channels..]
                    [..(column.end - column.start) * self.channels];
                for pixel in pixels.chunks_exact(self.channels) {
                    match self.reduction {
                        Reduction::Max => {
                            for (y, x) in out.iter_mut().zip(pixel) {
                                *y = if *x > *y { *x } else { *y };
                            }
                        }
                        Reduction::Mean => {
                            for (y, x) in out.iter_mut().zip(pixel) {
                                *y += x;
                            }
                        }
                    }
                }
            }
            if self.reduction == Reduction::Mean {
                divide(out, row.divisor * column.divisor);
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^24 pixels")]
fn divide(values: &mut [f32], count: usize) {
    let factor = 1.0 / count as f32;
    for value in values {
        *value *= factor;
    }
}

/// Windows at equal steps, cut to the image. Where padding counts, the divisor
/// is the window's extent cut to the padded image instead (PyTorch's rule).
fn sliding(
    kernel: usize,
    stride: usize,
    padding: usize,
    count_padding: bool,
    length: usize,
    count: usize,
) -> Vec<Window> {
    let window = |index: usize| {
        let (from, to) = (index * stride, index * stride + kernel);
        let start = from.max(padding) - padding;
        let end = to.min(padding + length) - padding;
        let counted = to.min(length + 2 * padding) - from;
        Window { start, end, divisor: if count_padding { counted } else { end - start } }
    };
    (0..count).map(window).collect()
}
