//! The tile: rows of pixels times a panel of output channels, in registers.
//!
//! Owns the innermost loops. A row of products is read in place: for each
//! kernel position there is an offset into the input, or [`PADDING`]. Nothing
//! here knows images; `conv` makes the offsets.

use pulp::{Simd, WithSimd};

use super::pack::{Ending, Packed, Panel, VECTORS};

/// Offset of a kernel position that lies outside of the image.
pub(super) const PADDING: usize = usize::MAX;
/// Input channels taken per turn of the inner loop; bounds are checked once
/// for that many.
const TURN: usize = 8;

/// Some rows times some panels.
pub(super) struct Block<'a> {
    pub(super) packed: &'a Packed,
    pub(super) input: &'a [f32],
    /// As many zeros as a group has input channels.
    pub(super) zeros: &'a [f32],
    /// Offsets by row, then kernel position.
    pub(super) offsets: &'a [usize],
    pub(super) positions: usize,
    /// Index of the first row in the whole result.
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) panels: std::ops::Range<usize>,
    /// Added before the activation: the whole tensor, rows of all outputs.
    pub(super) residual: Option<&'a [f32]>,
    /// The rows' results, `stride` apart, from channel `first_column` on.
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) first_column: usize,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for index in self.panels.clone() {
            let panel = self.packed.panel(index);
            // As many rows as the registers hold: 32 vector registers on
            // AVX-512 and NEON, 16 on AVX2; two go to weights, one to inputs.
            match S::F32_LANES {
                16 | 4 => self.column::<S, 12>(simd, panel),
                8 => self.column::<S, 6>(simd, panel),
                _ => self.column::<S, 4>(simd, panel),
            }
        }
    }
}

impl Block<'_> {
    /// All rows of one panel.
    #[inline(always)]
    fn column<S: Simd, const ROWS: usize>(&mut self, simd: S, panel: Panel<'_>) {
        let mut row = 0;
        while row + ROWS <= self.rows {
            self.tile::<S, ROWS>(simd, panel, row);
            row += ROWS;
        }
        while row + 4 <= self.rows {
            self.tile::<S, 4>(simd, panel, row);
            row += 4;
        }
        while row + 2 <= self.rows {
            self.tile::<S, 2>(simd, panel, row);
            row += 2;
        }
        if row < self.rows {
            self.tile::<S, 1>(simd, panel, row);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(&mut self, simd: S, panel: Panel<'_>, row: usize) {
        let sums = self.sums::<S, ROWS>(simd, panel, row);
        for (index, sum) in sums.into_iter().enumerate() {
            let row = row + index;
            let residual = self.residual.map(|residual| {
                let start = (self.first_row + row) * self.packed.all_outputs() + panel.first;
                &residual[start..start + panel.valid]
            });
            let start = row * self.stride + panel.first - self.first_column;
            let out = &mut self.out[start..start + panel.valid];
            finish(simd, &self.packed.ending, panel, sum, residual, out);
        }
    }

    #[inline(always)]
    fn sums<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        panel: Panel<'_>,
        row: usize,
    ) -> [[S::f32s; VECTORS]; ROWS] {
        let channels = self.zeros.len();
        let bias = S::as_simd_f32s(panel.bias).0;
        let mut sums = [[bias[0], bias[1]]; ROWS];
        let mut weights = S::as_simd_f32s(panel.weights).0.as_chunks::<VECTORS>().0;
        for position in 0..self.positions {
            let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
            for (index, slice) in rows.iter_mut().enumerate() {
                let offset = self.offsets[(row + index) * self.positions + position];
                *slice = if offset == PADDING {
                    self.zeros
                } else {
                    &self.input[offset + panel.group * channels..][..channels]
                };
            }
            let (here, rest) = weights.split_at(channels);
            weights = rest;
            multiply(simd, &mut sums, rows, here);
        }
        sums
    }
}

/// Adds the products of one kernel position.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; ROWS],
    rows: [&[f32]; ROWS],
    weights: &[[S::f32s; VECTORS]],
) {
    let mut sum = *sums;
    let (turns, rest) = weights.as_chunks::<TURN>();
    let mut chunks: [&[[f32; TURN]]; ROWS] = [&[]; ROWS];
    for (chunk, row) in chunks.iter_mut().zip(rows) {
        *chunk = row.as_chunks::<TURN>().0;
    }
    for (turn, weights) in turns.iter().enumerate() {
        let mut inputs = [&[0.0; TURN]; ROWS];
        for (input, chunk) in inputs.iter_mut().zip(chunks) {
            *input = &chunk[turn];
        }
        for channel in 0..TURN {
            let [first, second] = weights[channel];
            for row in 0..ROWS {
                let x = simd.splat_f32s(inputs[row][channel]);
                sum[row][0] = simd.mul_add_e_f32s(x, first, sum[row][0]);
                sum[row][1] = simd.mul_add_e_f32s(x, second, sum[row][1]);
            }
        }
    }
    for (channel, [first, second]) in (turns.len() * TURN..).zip(rest) {
        for row in 0..ROWS {
            let x = simd.splat_f32s(rows[row][channel]);
            sum[row][0] = simd.mul_add_e_f32s(x, *first, sum[row][0]);
            sum[row][1] = simd.mul_add_e_f32s(x, *second, sum[row][1]);
        }
    }
    *sums = sum;
}

/// Residual, activation and store for one row of a panel.
#[inline(always)]
fn finish<S: Simd>(
    simd: S,
    ending: &Ending,
    panel: Panel<'_>,
    sum: [S::f32s; VECTORS],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    for (index, sum) in sum.into_iter().enumerate() {
        let first = index * S::F32_LANES;
        if first >= out.len() {
            return;
        }
        let last = out.len().min(first + S::F32_LANES);
        let mut y = sum;
        if let Some(residual) = residual {
            y = simd.add_f32s(y, simd.partial_load_f32s(&residual[first..last]));
        }
        y = match ending {
            Ending::None | Ending::After(_) => y,
            Ending::Relu => simd.max_f32s(y, simd.splat_f32s(0.0)),
            Ending::Relu6 => {
                simd.min_f32s(simd.max_f32s(y, simd.splat_f32s(0.0)), simd.splat_f32s(6.0))
            }
            Ending::Prelu(slopes) => {
                let slope =
                    simd.partial_load_f32s(&slopes[panel.padded_first + first..][..S::F32_LANES]);
                let zero = simd.splat_f32s(0.0);
                simd.mul_add_e_f32s(simd.min_f32s(y, zero), slope, simd.max_f32s(y, zero))
            }
        };
        simd.partial_store_f32s(&mut out[first..last], y);
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, Scalar128b, Scalar256b, Scalar512b};

    use super::super::super::plan::Activation;
    use super::super::pack::KernelDims;
    use super::*;
    use crate::network::hashed_values;

    const ROWS: usize = 23;
    const CHANNELS: usize = 13;
    const OUTPUTS: usize = 37;
    const POSITIONS: usize = 2;

    /// Rows of two positions each; the second of each third row is padding.
    fn offsets() -> Vec<usize> {
        let second = |row: usize| {
            if row.is_multiple_of(3) { PADDING } else { (ROWS - row) * CHANNELS }
        };
        (0..ROWS).flat_map(|row| [row * CHANNELS, second(row)]).collect()
    }

    /// The same in f64 and in the order of the formula.
    fn expected(weights: &[f32], bias: &[f32], input: &[f32]) -> Vec<f64> {
        let offsets = offsets();
        let mut sums = Vec::new();
        for row in 0..ROWS {
            for output in 0..OUTPUTS {
                let mut sum = f64::from(bias[output]);
                for position in 0..POSITIONS {
                    let offset = offsets[row * POSITIONS + position];
                    for channel in 0..CHANNELS {
                        let weight = weights[(output * CHANNELS + channel) * POSITIONS + position];
                        if offset != PADDING {
                            sum += f64::from(input[offset + channel]) * f64::from(weight);
                        }
                    }
                }
                sums.push(sum.max(0.0));
            }
        }
        sums
    }

    fn with<S: Simd>(simd: S) -> Vec<f32> {
        let (weights, bias, input) = numbers();
        let width = VECTORS * S::F32_LANES;
        let (outputs, channels, positions) = (OUTPUTS, CHANNELS, POSITIONS);
        let dims = KernelDims { groups: 1, outputs, channels, positions, width };
        let packed = Packed::new(dims, &weights, Some(&bias), &Activation::Relu);
        let mut out = vec![f32::NAN; ROWS * OUTPUTS];
        simd.vectorize(Block {
            packed: &packed,
            input: &input,
            zeros: &[0.0; CHANNELS],
            offsets: &offsets(),
            positions,
            first_row: 0,
            rows: ROWS,
            panels: 0..packed.panels(),
            residual: None,
            out: &mut out,
            stride: OUTPUTS,
            first_column: 0,
        });
        out
    }

    fn numbers() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let values = |key: &str, count: usize| hashed_values(key, 1, count, -1.0, 1.0);
        let weights = values("weights", OUTPUTS * CHANNELS * POSITIONS);
        (weights, values("bias", OUTPUTS), values("input", (ROWS + 1) * CHANNELS))
    }

    #[test]
    fn vectors_of_every_width_give_the_sums_of_the_formula() {
        let (weights, bias, input) = numbers();
        let expected = expected(&weights, &bias, &input);
        for found in [with(Scalar), with(Scalar128b), with(Scalar256b), with(Scalar512b)] {
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
