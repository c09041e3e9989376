//! How each column of a block is best foretold.
//!
//! Owns the search; the decoder needs none of it, so it may grow cleverer
//! without a change of format. It looks at a few stretches of the block only,
//! in whole numbers, so that every machine writes the same bytes.
//! Theory: least squares with one unknown, twice.

use super::column::{GAIN_FRACTION, GAIN_MAX, Lift, Plan, Predictor};
use super::residual::CHUNK;
use super::status::Failed;
use super::{COLUMNS_MAX, SampleBlock};

/// Stretches of a block that are looked at.
const STRETCHES: usize = 4;
/// Rows of a stretch.
const STRETCH: usize = CHUNK;
/// Differences are cut off here in the sums: 64 squares then fit 32 bits.
const DIFFERENCE_MAX: i32 = 4_095;
/// A lift is taken where it removes this part of a difference's energy.
const LIFT_WORTH: i64 = 16;
/// Memories that are tried.
const MEMORIES: [u32; 3] = [0, 2, 4];
/// Largest lean.
const LEAN_MAX: i64 = 15;

/// The plan of each column.
pub(super) fn plans(block: &SampleBlock, failed: &Failed) -> [Plan; COLUMNS_MAX] {
    let mut plans = [Plan::default(); COLUMNS_MAX];
    let energies = Energies::of(block, failed);
    for (column, plan) in plans.iter_mut().enumerate().take(block.column_count()) {
        plan.lift = energies.lift(column);
        (plan.memory, plan.lean) = prediction(block, column, plan.lift);
    }
    plans
}

/// Sums of products of the columns' differences.
struct Energies([[i64; COLUMNS_MAX]; COLUMNS_MAX]);

impl Energies {
    fn of(block: &SampleBlock, failed: &Failed) -> Self {
        let mut energies = Self([[0; COLUMNS_MAX]; COLUMNS_MAX]);
        let mut differences = [[0_i16; STRETCH]; COLUMNS_MAX];
        for at in stretches(block.len()) {
            for ((column, row), codes) in differences.iter_mut().enumerate().zip(block.columns()) {
                let is_whole = failed.get(column / 2).is_some_and(|failed| !failed);
                let codes = stretch(codes, at);
                row.fill(0);
                if is_whole {
                    for (slot, pair) in row.iter_mut().zip(codes.windows(2)) {
                        *slot = difference(pair);
                    }
                }
            }
            energies.add(&differences, block.column_count());
        }
        energies
    }

    fn add(&mut self, differences: &[[i16; STRETCH]; COLUMNS_MAX], columns: usize) {
        for (column, (sums, one)) in self.0.iter_mut().zip(differences).enumerate().take(columns) {
            for (sum, other) in sums
                .iter_mut()
                .zip(differences)
                .take(column.saturating_add(1))
            {
                *sum = sum.wrapping_add(i64::from(product(one, other)));
            }
        }
    }

    /// The earlier column, and its gain, that foretells most of a column.
    fn lift(&self, column: usize) -> Option<Lift> {
        let sums = self.0.get(column)?;
        let own = *sums.get(column)?;
        let mut best = (own.checked_div(LIFT_WORTH)?, None);
        for (reference, (&both, row)) in sums.iter().zip(&self.0).enumerate().take(column) {
            let energy = row.get(reference).copied().filter(|&energy| energy > 0);
            let Some(energy) = energy else { continue };
            let gain = both.wrapping_shl(GAIN_FRACTION).wrapping_add(energy / 2);
            let gain = gain.div_euclid(energy);
            let gain = i32::try_from(gain).unwrap_or(0).clamp(-GAIN_MAX, GAIN_MAX);
            // What least squares with this gain removes: g · (2·both − g·energy).
            let wide = i64::from(gain);
            let twice = both.wrapping_shl(GAIN_FRACTION + 1);
            let removed = twice
                .wrapping_sub(wide.wrapping_mul(energy))
                .wrapping_mul(wide)
                >> (2 * GAIN_FRACTION);
            if removed > best.0 {
                best = (removed, Some(Lift { reference, gain }));
            }
        }
        best.1
    }
}

fn difference(pair: &[i32]) -> i16 {
    let &[before, after] = pair else { return 0 };
    let difference = after
        .wrapping_sub(before)
        .clamp(-DIFFERENCE_MAX, DIFFERENCE_MAX);
    i16::try_from(difference).unwrap_or(0)
}

fn product(one: &[i16; STRETCH], other: &[i16; STRETCH]) -> i32 {
    one.iter().zip(other).fold(0, |sum, (&a, &b)| {
        sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)))
    })
}

/// Memory and lean that leave least energy in a column.
fn prediction(block: &SampleBlock, column: usize, lift: Option<Lift>) -> (u32, u32) {
    let mut sums = [Fit::default(); MEMORIES.len()];
    let codes = block.column(column);
    let reference = lift.map_or(&[][..], |lift| block.column(lift.reference));
    for at in stretches(codes.len()) {
        let mut values = [0_i32; STRETCH];
        let codes = stretch(codes, at);
        let values = values.get_mut(..codes.len()).unwrap_or_default();
        values.copy_from_slice(codes);
        if let Some(lift) = lift {
            for (value, &off) in values.iter_mut().zip(stretch(reference, at)) {
                *value = value.wrapping_sub(lift.of(off));
            }
        }
        for (memory, fit) in MEMORIES.into_iter().zip(&mut sums) {
            fit.add(values, memory);
        }
    }
    let fits = MEMORIES.into_iter().zip(&sums).map(|(memory, fit)| {
        let lean = fit.lean();
        (fit.left(lean), memory, lean)
    });
    fits.min().map_or((0, 8), |(_, memory, lean)| {
        (memory, u32::try_from(lean).unwrap_or(8))
    })
}

/// Sums for the lean of one memory: with m the mean and l the last value,
/// v − m is foretold as lean · (l − m) / 8.
#[derive(Clone, Copy, Default)]
struct Fit {
    goal_goal: i64,
    goal_step: i64,
    step_step: i64,
}

impl Fit {
    fn add(&mut self, values: &[i32], memory: u32) {
        let Some((&first, rest)) = values.split_first() else {
            return;
        };
        let mut mean = Predictor::new(
            &Plan {
                lift: None,
                memory,
                lean: 0,
            },
            first,
        );
        let mut last = first;
        for &value in rest {
            let middle = mean.foretell();
            let goal = i64::from(value.wrapping_sub(middle).clamp(-32_768, 32_767));
            let step = i64::from(last.wrapping_sub(middle).clamp(-32_768, 32_767));
            self.goal_goal = self.goal_goal.wrapping_add(goal.wrapping_mul(goal));
            self.goal_step = self.goal_step.wrapping_add(goal.wrapping_mul(step));
            self.step_step = self.step_step.wrapping_add(step.wrapping_mul(step));
            mean.learn(value);
            last = value;
        }
    }

    /// The lean of least squares, in eighths.
    fn lean(&self) -> i64 {
        let eighths = self
            .goal_step
            .wrapping_mul(8)
            .wrapping_add(self.step_step / 2);
        eighths
            .checked_div_euclid(self.step_step)
            .unwrap_or(0)
            .clamp(0, LEAN_MAX)
    }

    /// Energy that a lean leaves, times 64.
    fn left(&self, lean: i64) -> i64 {
        let linear = self.goal_step.wrapping_mul(lean).wrapping_mul(16);
        let square = self.step_step.wrapping_mul(lean).wrapping_mul(lean);
        self.goal_goal
            .wrapping_mul(64)
            .wrapping_sub(linear)
            .wrapping_add(square)
    }
}

/// First rows of the stretches that are looked at.
fn stretches(rows: usize) -> impl Iterator<Item = usize> {
    let apart = (rows / STRETCHES).max(STRETCH);
    (0..rows).step_by(apart).take(STRETCHES)
}

fn stretch(codes: &[i32], at: usize) -> &[i32] {
    let rest = codes.get(at..).unwrap_or(&[]);
    rest.get(..STRETCH).unwrap_or(rest)
}
