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
const STRETCHES: usize = 2;
/// Rows of a stretch.
const STRETCH: usize = CHUNK;
/// Differences are cut off here in the sums: 64 squares then fit 32 bits.
const DIFFERENCE_MAX: i16 = 4_095;
/// A lift is taken where it removes more than one part in so many of the
/// energy of a column's differences.
const LIFT_WORTH: i64 = 16;
/// Memories that are tried.
const MEMORIES: [u32; 2] = [0, 3];
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
                match Stretch::of(codes, at).filter(|_| is_whole) {
                    Some(stretch) => differences_of(&stretch.before(), &stretch.0, row),
                    None => *row = [0; STRETCH],
                }
            }
            energies.add(&differences, block.column_count());
        }
        energies
    }

    fn add(&mut self, differences: &[[i16; STRETCH]; COLUMNS_MAX], columns: usize) {
        for (column, (sums, one)) in self.0.iter_mut().zip(differences).enumerate().take(columns) {
            for (sum, other) in sums.iter_mut().zip(differences).take(column.saturating_add(1)) {
                *sum = sum.wrapping_add(product(one, other));
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
            let removed = twice.wrapping_sub(wide.wrapping_mul(energy)).wrapping_mul(wide)
                >> (2 * GAIN_FRACTION);
            if removed > best.0 {
                best = (removed, Some(Lift { reference, gain }));
            }
        }
        best.1
    }
}

/// Not inlined, as [`product`]: a loop by itself is made of vector instructions.
#[inline(never)]
fn differences_of(before: &[i32; STRETCH], after: &[i32; STRETCH], out: &mut [i16; STRETCH]) {
    for ((slot, &before), &after) in out.iter_mut().zip(before).zip(after) {
        let cut = after.wrapping_sub(before).clamp(-32_768, 32_767);
        *slot = i16::try_from(cut).unwrap_or(0);
    }
    // Apart from the cut above, which is one instruction for eight values.
    for slot in out {
        *slot = (*slot).clamp(-DIFFERENCE_MAX, DIFFERENCE_MAX);
    }
}

/// Not inlined: see [`differences_of`].
#[inline(never)]
fn product(one: &[i16; STRETCH], other: &[i16; STRETCH]) -> i64 {
    let products = one.iter().zip(other).map(|(&a, &b)| i32::from(a).wrapping_mul(i32::from(b)));
    i64::from(products.fold(0_i32, i32::wrapping_add))
}

/// Memory and lean that leave least energy in a column.
fn prediction(block: &SampleBlock, column: usize, lift: Option<Lift>) -> (u32, u32) {
    let mut sums = [Fit::default(); MEMORIES.len()];
    let (mut goals, mut steps) = ([0; STRETCH], [0; STRETCH]);
    let codes = block.column(column);
    for at in stretches(codes.len()) {
        let Some(mut values) = Stretch::of(codes, at) else {
            continue;
        };
        let off =
            lift.and_then(|lift| Some((lift, Stretch::of(block.column(lift.reference), at)?)));
        if let Some((lift, off)) = off {
            for (value, off) in values.0.iter_mut().zip(off.0) {
                *value = value.wrapping_sub(lift.of(off));
            }
        }
        let lasts = values.before();
        for (memory, fit) in MEMORIES.into_iter().zip(&mut sums) {
            let middles = values.means(memory);
            differences_of(&middles, &values.0, &mut goals);
            differences_of(&middles, &lasts, &mut steps);
            fit.add(&goals, &steps);
        }
    }
    let fits = MEMORIES.into_iter().zip(&sums).map(|(memory, fit)| {
        let lean = fit.lean();
        (fit.left(lean), memory, lean)
    });
    fits.min().map_or((0, 8), |(_, memory, lean)| (memory, u32::try_from(lean).unwrap_or(8)))
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
    fn add(&mut self, goals: &[i16; STRETCH], steps: &[i16; STRETCH]) {
        self.goal_goal = self.goal_goal.wrapping_add(product(goals, goals));
        self.goal_step = self.goal_step.wrapping_add(product(goals, steps));
        self.step_step = self.step_step.wrapping_add(product(steps, steps));
    }

    /// The lean of least squares, in eighths.
    fn lean(&self) -> i64 {
        let eighths = self.goal_step.wrapping_mul(8).wrapping_add(self.step_step / 2);
        eighths.checked_div_euclid(self.step_step).unwrap_or(0).clamp(0, LEAN_MAX)
    }

    /// Energy that a lean leaves, times 64.
    fn left(&self, lean: i64) -> i64 {
        let linear = self.goal_step.wrapping_mul(lean).wrapping_mul(16);
        let square = self.step_step.wrapping_mul(lean).wrapping_mul(lean);
        self.goal_goal.wrapping_mul(64).wrapping_sub(linear).wrapping_add(square)
    }
}

/// Codes of a column one after the other; a short one goes on with its last.
/// All have one length so that the loops over them need no ends.
struct Stretch([i32; STRETCH]);

impl Stretch {
    /// The codes from row `at` on; `None` where the column ends before.
    fn of(codes: &[i32], at: usize) -> Option<Self> {
        let rest = codes.get(at..)?;
        if let Some(codes) = rest.first_chunk() {
            return Some(Self(*codes));
        }
        let mut values = [*rest.last()?; STRETCH];
        values.iter_mut().zip(rest).for_each(|(value, &code)| *value = code);
        Some(Self(values))
    }

    /// The value before each; the first has itself.
    fn before(&self) -> [i32; STRETCH] {
        let [first, ..] = self.0;
        let mut before = [first; STRETCH];
        let later = before.iter_mut().skip(1);
        later.zip(&self.0).for_each(|(slot, &value)| *slot = value);
        before
    }

    /// The running mean that foretells each value.
    fn means(&self, memory: u32) -> [i32; STRETCH] {
        if memory == 0 {
            return Self(self.before()).before();
        }
        let [first, ..] = self.0;
        let plan = Plan { lift: None, memory, lean: 0 };
        let mut predictor = Predictor::new(&plan, first);
        self.0.map(|value| {
            let mean = predictor.foretell();
            predictor.learn(value);
            mean
        })
    }
}

/// First rows of the stretches that are looked at.
fn stretches(rows: usize) -> impl Iterator<Item = usize> {
    let apart = (rows / STRETCHES).max(STRETCH);
    (0..rows).step_by(apart).take(STRETCHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(rows: impl Iterator<Item = [i32; 2]>) -> Plan {
        let mut block = SampleBlock::with_capacity(2, 256);
        rows.for_each(|codes| block.push(0, 0, &codes).unwrap());
        let [_, plan, ..] = plans(&block, &[false; COLUMNS_MAX / 2]);
        plan
    }

    #[test]
    fn a_bus_that_sags_with_its_shunt_is_lifted_off_it() {
        let plan = plan_of((0..64).map(|row| [row * 37 % 100, 600 - (row * 37 % 100) / 4]));
        let lift = plan.lift.unwrap();
        assert_eq!(lift.reference, 0);
        assert!((-36..=-28).contains(&lift.gain), "{lift:?} is about −1/4");
    }

    #[test]
    fn a_ramp_is_foretold_from_the_last_value_and_noise_from_the_mean() {
        let ramp = plan_of((0..256).map(|row| [0, row * 50]));
        assert!(ramp.lean > 8, "{ramp:?}");
        let noise = plan_of((0..256).map(|row| [0, 1_000 + row * row * 7 % 11]));
        assert!(noise.memory > 0 && noise.lean < 4, "{noise:?}");
    }
}
