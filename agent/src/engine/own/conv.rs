//! Convolutions and linear layers: which rows and panels a thread computes.
//!
//! Owns the geometry (where a kernel position lies in the input) and the split
//! of work. A linear layer is a 1 × 1 convolution on one pixel.

use pulp::Arch;
use rayon::prelude::*;

use crate::network::Conv2d;

use super::super::plan::Activation;
use super::elementwise::apply_after;
use super::pack::{Ending, KernelDims, Packed, panel_width};
use super::tile::{Block, PADDING};

/// Below this many input channels a group's rows are gathered first: the inner
/// loop would be shorter than what it costs to start it.
const GATHER_BELOW: usize = 8;
/// Weights that stay in a core's second-level cache while a thread goes from
/// one block of rows to the next; larger ones are read once per thread.
const CACHED_BYTES: usize = 512 << 10;
/// Rows below which splitting channels instead of rows wastes less.
const ROWS_PER_THREAD_MIN: usize = 36;
/// Rows of a block: their inputs and a panel of weights fit that cache.
const ROWS_PER_BLOCK: usize = 192;

/// Heights and widths around a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) batch: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
}

/// A convolution with packed weights.
#[derive(Debug)]
pub(super) struct OwnConv {
    conv: Conv2d,
    frame: Frame,
    packed: Packed,
    zeros: Vec<f32>,
}

/// What all blocks of one call share.
#[derive(Clone, Copy)]
struct Call<'a> {
    input: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl OwnConv {
    pub(super) fn new(
        conv: Conv2d,
        frame: Frame,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: &Activation,
    ) -> OwnConv {
        let groups = conv.groups;
        let (outputs, channels) = (conv.out_channels / groups, conv.in_channels / groups);
        let positions = conv.kernel[0] * conv.kernel[1];
        let dims = KernelDims { groups, outputs, channels, positions, width: panel_width() };
        let packed = Packed::new(dims, weights, bias, activation);
        let row = if gathers(&conv) { packed.depth } else { channels };
        OwnConv { conv, frame, packed, zeros: vec![0.0; row] }
    }

    /// Writes the result for `input`, both N × H × W × C.
    pub(super) fn run(&self, input: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let call = Call { input, residual };
        let rows = self.frame.batch * self.frame.output[0] * self.frame.output[1];
        let threads = rayon::current_num_threads();
        if rows < threads * ROWS_PER_THREAD_MIN && self.packed.panels() > 1 {
            return self.run_by_channels(call, rows, threads, out);
        }
        let share = rows.div_ceil(threads);
        let block = if self.packed.bytes() > CACHED_BYTES {
            share.min(4 * ROWS_PER_BLOCK)
        } else {
            share.div_ceil(4).clamp(12, ROWS_PER_BLOCK)
        };
        let block = block.next_multiple_of(12);
        let outputs = self.packed.all_outputs();
        out.par_chunks_mut(block * outputs).enumerate().for_each(|(index, out)| {
            self.block(call, index * block, 0..self.packed.panels(), out);
            if let Ending::After(activation) = &self.packed.ending {
                apply_after(activation, out);
            }
        });
    }

    /// Few rows: each thread takes some panels and writes them apart, for they
    /// do not lie side by side in the result.
    fn run_by_channels(&self, call: Call<'_>, rows: usize, threads: usize, out: &mut [f32]) {
        let panels = self.packed.panels();
        let share = panels.div_ceil(2 * threads).max(1);
        let starts: Vec<usize> = (0..panels).step_by(share).collect();
        let parts: Vec<(usize, Vec<f32>)> = starts
            .into_par_iter()
            .map(|start| {
                let range = start..panels.min(start + share);
                let (first, end) = self.columns(&range);
                let mut part = vec![0.0; rows * (end - first)];
                self.block(call, 0, range, &mut part);
                if let Ending::After(activation) = &self.packed.ending {
                    apply_after(activation, &mut part);
                }
                (first, part)
            })
            .collect();
        let outputs = self.packed.all_outputs();
        for (first, part) in parts {
            let width = part.len() / rows;
            for (row, values) in part.chunks_exact(width).enumerate() {
                out[row * outputs + first..][..width].copy_from_slice(values);
            }
        }
    }

    /// First and last-but-one output channel of some panels.
    fn columns(&self, panels: &std::ops::Range<usize>) -> (usize, usize) {
        let last = self.packed.panel(panels.end - 1);
        (self.packed.panel(panels.start).first, last.first + last.valid)
    }

    fn block(
        &self,
        call: Call<'_>,
        first_row: usize,
        panels: std::ops::Range<usize>,
        out: &mut [f32],
    ) {
        let (first_column, end) = self.columns(&panels);
        let stride = end - first_column;
        let rows = out.len() / stride;
        let gathered;
        let (input, offsets, positions) = if gathers(&self.conv) {
            gathered = self.gather(call.input, first_row, rows);
            (gathered.as_slice(), (0..rows).map(|row| row * self.packed.depth).collect(), 1)
        } else {
            let [kh, kw] = self.conv.kernel;
            (call.input, self.offsets(first_row, rows), kh * kw)
        };
        Arch::new().dispatch(Block {
            packed: &self.packed,
            input,
            zeros: &self.zeros,
            offsets: &offsets,
            positions,
            first_row,
            rows,
            panels,
            residual: call.residual,
            out,
            stride,
            first_column,
        });
    }

    /// Where each kernel position of each row lies in the input.
    fn offsets(&self, first_row: usize, rows: usize) -> Vec<usize> {
        let Conv2d { kernel, stride, padding, dilation, in_channels, .. } = self.conv;
        let ([height, width], [out_h, out_w]) = (self.frame.input, self.frame.output);
        let mut offsets = Vec::with_capacity(rows * kernel[0] * kernel[1]);
        for row in first_row..first_row + rows {
            let (image, pixel) = (row / (out_h * out_w), row % (out_h * out_w));
            let (top, left) = (pixel / out_w * stride[0], pixel % out_w * stride[1]);
            for ky in 0..kernel[0] {
                let y = (top + ky * dilation).checked_sub(padding[0]).filter(|y| *y < height);
                for kx in 0..kernel[1] {
                    let x = (left + kx * dilation).checked_sub(padding[1]).filter(|x| *x < width);
                    offsets.push(match (y, x) {
                        (Some(y), Some(x)) => ((image * height + y) * width + x) * in_channels,
                        _ => PADDING,
                    });
                }
            }
        }
        offsets
    }

    /// The rows of products side by side, zeros for padding.
    fn gather(&self, input: &[f32], first_row: usize, rows: usize) -> Vec<f32> {
        let Conv2d { kernel, stride, padding, in_channels: channels, .. } = self.conv;
        let ([height, width], [out_h, out_w]) = (self.frame.input, self.frame.output);
        let mut gathered = vec![0.0; rows * self.packed.depth];
        let line = kernel[1] * channels;
        for (row, to) in (first_row..).zip(gathered.chunks_exact_mut(self.packed.depth)) {
            let (image, pixel) = (row / (out_h * out_w), row % (out_h * out_w));
            let (top, left) = (pixel / out_w * stride[0], pixel % out_w * stride[1]);
            // Columns of the kernel that lie inside of the image.
            let first = padding[1].saturating_sub(left).min(kernel[1]);
            let last = (width + padding[1]).saturating_sub(left).clamp(first, kernel[1]);
            for (ky, to) in to.chunks_exact_mut(line).enumerate() {
                let y = (top + ky).checked_sub(padding[0]).filter(|y| *y < height);
                let Some(y) = y.filter(|_| first < last) else {
                    continue;
                };
                let from = ((image * height + y) * width + left + first - padding[1]) * channels;
                let count = (last - first) * channels;
                to[first * channels..][..count].copy_from_slice(&input[from..from + count]);
            }
        }
        gathered
    }
}

/// Whether rows are gathered: few input channels, all in one group, a line of
/// the kernel in one piece.
fn gathers(conv: &Conv2d) -> bool {
    conv.groups == 1 && conv.dilation == 1 && conv.in_channels < GATHER_BELOW
}
