//! The measures `energy.*`: do the stated intervals hold the true energy?
//!
//! Owns the loads and the count. Chip, bus, driver and sampler are those of
//! the agent, in virtual time; points, trapezoid and budget those of the host.
//! Nothing in between is replaced, so a term that is wrong, absent or counted
//! twice moves the coverage.
//!
//! Each window has a chip and a load of its own. The chip's errors are Gaussian
//! with σ = limit/√3, the standard uncertainty that the budget gives each
//! limit; then an interval of k = 2 should hold the truth in 95.45 % of the
//! windows (normal law). They come in pairs of opposite signs under the same
//! load: over a pair their linear part cancels, and what is left of the mean
//! relative error is bias of the arithmetic.

use std::sync::Arc;

use wattline::analysis::energy::{Integral, Point, Sensor, integrate};
use wattline_agent::clock::{Clock, VirtualClock};
use wattline_agent::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER, SHUNT_TOLERANCE, SimRail};
use wattline_agent::power::bus::sim::{ChipErrors, Signs, SimBoard, Steps, Waveform};
use wattline_agent::power::chip::{ChipError, Profile, ina3221};
use wattline_agent::power::discover::ChipRails;
use wattline_agent::power::pace::BusShare;
use wattline_agent::power::ring::{SweepConsumer, ring};
use wattline_agent::power::sampler::{SamplerCore, SamplerParts};
use wattline_protocol::block::SampleBlock;
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::{BoardTime, Nanos, Watts};

use crate::figure::Figure;

const COVERAGE: &str = "energy.coverage";
const BIAS: &str = "energy.bias";

/// Windows of a case unless told otherwise: the count of covered ones is then
/// known to 0.23 % (binomial).
const WINDOWS: u64 = 8_000;
/// What k = 2 covers of a normal law.
const COVERED_BY_TWO_SIGMA: f64 = 0.954_5;

/// Virtual time before a window, in which the schedule finds the chip's cycle,
/// and behind it, in which its last conversions arrive.
const BEFORE: Nanos = Nanos::from_millis(150);
const BEHIND: Nanos = Nanos::from_millis(10);
/// Shortest and longest window, in seconds.
const WINDOW_S: (f64, f64) = (1.0, 1.5);
/// Power of the total rail: an idle board and a busy one, in watts.
const IDLE_W: (f64, f64) = (3.0, 5.0);
const BUSY_W: (f64, f64) = (6.0, 15.0);
/// An inference and the pause after it, in seconds: a small network on a fast
/// board to a large one on a slow board.
const PERIOD_S: (f64, f64) = (0.02, 0.4);
/// Part of the period that the inference takes.
const DUTY: (f64, f64) = (0.3, 0.95);
/// A layer's time, in seconds, and a ramp's step.
const LAYER_S: (f64, f64) = (0.002, 0.05);
const RAMP_STEP_S: f64 = 0.005;
/// Noise of the chips (σ, LSB of shunt and bus), as the simulated board has it.
const NOISE_INA3221: (f64, f64) = (1.5, 0.5);
const NOISE_INA226: (f64, f64) = (4.0, 2.0);
/// Threads that share a case's windows.
const THREADS: u64 = 2;

/// Emits the measures whose names start with `name_prefix`; `from` seeds the
/// first pair of windows, `count` is their number (pairs are not split).
pub(crate) fn run(name_prefix: &str, from: u64, count: Option<u64>, emit: &mut dyn FnMut(Figure)) {
    let wanted = |measure: &str| measure.starts_with(name_prefix);
    if !wanted(COVERAGE) && !wanted(BIAS) {
        return;
    }
    let pairs = count.unwrap_or(WINDOWS).div_ceil(2).max(1);
    for kind in [ChipKind::Ina3221, ChipKind::Ina226] {
        let tally = measure(kind, from, pairs);
        let case = || kind.name().to_owned();
        if wanted(COVERAGE) {
            emit(Figure {
                measure: COVERAGE,
                case: case(),
                value: as_f64(tally.covered) / as_f64(tally.windows),
                unit: "1",
                limit: Some(COVERED_BY_TWO_SIGMA),
                limit_is: Some("normal law, k = 2"),
            });
        }
        if wanted(BIAS) {
            emit(Figure {
                measure: BIAS,
                case: case(),
                value: tally.relative_errors / as_f64(tally.windows),
                unit: "1",
                limit: Some(0.0),
                limit_is: Some("no bias"),
            });
        }
    }
}

/// What became of the windows.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    windows: u64,
    covered: u64,
    relative_errors: f64,
}

fn measure(kind: ChipKind, from: u64, pairs: u64) -> Tally {
    let share = |thread: u64| {
        let mut tally = Tally::default();
        for seed in (thread..pairs).step_by(usize::try_from(THREADS).unwrap_or(1)) {
            for signs in [Signs::Drawn, Signs::Mirrored] {
                // The simulated chip answers to its own driver, or a test
                // fails; a window that is not made counts as not covered.
                tally.windows += 1;
                if let Ok(Some(window)) = window(kind, from.wrapping_add(seed), signs) {
                    tally.covered += u64::from(window.is_covered);
                    tally.relative_errors += window.relative_error;
                }
            }
        }
        tally
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || share(thread))).collect();
        let tallies = threads.into_iter().filter_map(|thread| thread.join().ok());
        tallies.fold(Tally::default(), |sum, part| Tally {
            windows: sum.windows + part.windows,
            covered: sum.covered + part.covered,
            relative_errors: sum.relative_errors + part.relative_errors,
        })
    })
}

struct Window {
    is_covered: bool,
    relative_error: f64,
}

fn window(kind: ChipKind, seed: u64, signs: Signs) -> Result<Option<Window>, ChipError> {
    let mut draw = Draw(seed ^ 0x6a09_e667_f3bc_c908);
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let (limits, noise) = match kind {
        ChipKind::Ina3221 => (ina3221::limits(SHUNT_TOLERANCE), NOISE_INA3221),
        // No other kind has a simulated twin.
        _ => (wattline_agent::power::chip::limits_of(kind, SHUNT_TOLERANCE), NOISE_INA226),
    };
    let errors = ChipErrors::drawn(&limits, seed, signs).with_noise(noise.0, noise.1);
    let rails = wattline_agent::power::bus::sim::board::rails_of(kind);
    let Some(total) = rails.first() else { return Ok(None) };
    let load = load(&mut draw, total);
    let length = Nanos::from_secs_f64(draw.between(WINDOW_S));
    let t0 = clock.now() + BEFORE + Nanos::from_secs_f64(draw.between((0.0, 0.005)));
    let t1 = t0 + length;
    let board = SimBoard::scripted(kind, seed, errors, vec![load], Arc::clone(&clock) as _);
    let mut bench = Bench::new(&board, Arc::clone(&clock))?;
    bench.run_until(t1 + BEHIND);
    let Some((sensor, integral)) = bench.integrate(t0, t1) else { return Ok(None) };
    let energy = integral.gross(&sensor);
    let truth = board.true_energy(0, t0, t1);
    let error = energy.joules.0 - truth.0;
    Ok(Some(Window {
        is_covered: error.abs() <= energy.expanded().0,
        relative_error: error / truth.0,
    }))
}

/// A load of one of four kinds on `rail`.
fn load(draw: &mut Draw, rail: &SimRail) -> Waveform {
    let (idle_w, busy_w) = (draw.between(IDLE_W), draw.between(BUSY_W));
    let current = |watts: f64| rail.current_for(Watts(watts));
    match draw.below(4) {
        0 => Waveform::Constant { current_a: current(busy_w) },
        1 => {
            let period_s = draw.between(PERIOD_S);
            Waveform::Bursts {
                idle_a: current(idle_w),
                burst_a: current(busy_w),
                period_s,
                burst_s: period_s * draw.between(DUTY),
                first_s: draw.between((0.0, period_s)),
            }
        }
        2 => {
            let mut at_s = 0.0;
            steps(current(idle_w), || {
                at_s += draw.between(LAYER_S);
                (at_s, current(draw.between((idle_w, busy_w))))
            })
        }
        _ => {
            let length_s = draw.between(WINDOW_S);
            let mut at_s = 0.0;
            steps(current(idle_w), || {
                at_s += RAMP_STEP_S;
                let part = (at_s / length_s).fract();
                (at_s, current(idle_w + (busy_w - idle_w) * part))
            })
        }
    }
}

/// Steps from `first` on, as `next` gives their times and currents, until the
/// longest window is over.
fn steps(first: f64, mut next: impl FnMut() -> (f64, f64)) -> Waveform {
    let mut steps = Steps::starting_with(first);
    loop {
        let (at_s, current_a) = next();
        if at_s > WINDOW_S.1 + 1.0 {
            return Waveform::Steps(steps);
        }
        steps.append(at_s, current_a);
    }
}

/// A sampler on a simulated board, and the rows it made.
struct Bench {
    rails: ChipRails,
    clock: Arc<VirtualClock>,
    core: SamplerCore,
    sweeps: SweepConsumer,
    rows: Vec<SampleBlock>,
}

/// Rows of a block: as the recorder's, any number would do.
const BLOCK_ROWS: usize = 1_024;

impl Bench {
    fn new(board: &SimBoard, clock: Arc<VirtualClock>) -> Result<Self, ChipError> {
        let (producer, sweeps) = ring(64);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver(Profile::Fast),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(BUS_CLOCK_HZ),
            share: BusShare::Whole,
            clock: Arc::clone(&clock) as _,
            ring: producer,
            lane: 0,
        })?;
        let rails = ChipRails::simulated(board, Profile::Fast);
        Ok(Self { rails, clock, core, sweeps, rows: Vec::new() })
    }

    fn run_until(&mut self, end: BoardTime) {
        while self.clock.now() < end {
            self.core.step();
            while let Some(taken) = self.sweeps.pop() {
                let sweep = taken.sweep;
                let columns = usize::from(sweep.columns);
                if self.rows.last().is_none_or(SampleBlock::is_full) {
                    self.rows.push(SampleBlock::with_capacity(columns, BLOCK_ROWS));
                }
                let ticks = sweep.end.0 / wattline::recording::TICK_NS;
                let codes = sweep.codes.get(..columns).unwrap_or_default();
                if let Some(block) = self.rows.last_mut() {
                    // It was not full a line ago.
                    let _ = block.push(ticks, sweep.status, codes);
                }
            }
        }
    }

    /// The total rail from `t0` to `t1`, as the host computes it.
    fn integrate(&self, t0: BoardTime, t1: BoardTime) -> Option<(Sensor, Integral)> {
        let rails = self.rails.describe(self.core.chip(), 0);
        let sensor = Sensor::new(rails.first()?, &self.core.describe());
        let rows = self.rows.iter().flat_map(SampleBlock::rows);
        let points: Vec<Point> = rows.filter_map(|row| sensor.point(&row)).collect();
        Some((sensor, integrate(&points, &sensor, t0, t1)?))
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * as_f64(self.next() >> 11) / as_f64(1 << 53)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and 53-bit draws are exact")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
