//! The measures `energy.*`: do the stated intervals hold the true energy?
//!
//! Owns the cases and the count; how a window is drawn is [`draw`]'s, how it is
//! sampled [`bench`]'s, single bursts are [`burst`]'s. Chip, bus, driver and
//! sampler are those of the agent, in virtual time; points, trapezoid and
//! budget those of the host. Nothing in between is replaced, so a term that is
//! wrong, absent or counted twice moves the coverage.
//!
//! Each window has a chip, a shunt, a temperature and a load of its own. With
//! errors by the law `gauss`, σ = limit/√3 as the budget has it, an interval of
//! k = 2 should hold the truth in 95.45 % of the windows (normal law); by the
//! law `rect`, uniform within the limits, in more: the tails are absent.
//! Windows come in pairs of opposite errors under the same load: over a pair
//! their linear part cancels, and what is left of the mean relative error is
//! bias of the arithmetic. The chip as a case of its own draws one of the
//! shapes for each window.

mod bench;
mod burst;
mod draw;

use std::sync::Arc;

use wattline::analysis::drift::Drift;
use wattline_agent::clock::{Clock, VirtualClock};
use wattline_agent::power::bus::sim::board::{
    BUS_CLOCK_HZ, SHUNT_TOLERANCE, SimParts, noise_lsb, rails_of,
};
use wattline_agent::power::bus::sim::{ChannelErrors, ChipErrors, SimBoard};
use wattline_agent::power::chip::{ChipError, limits_of};
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::{BoardTime, Nanos};

use self::bench::Bench;
use self::draw::{Draw, Law, Shape, as_f64, errors, mirrored};
use crate::figure::Figure;

const COVERAGE: &str = "energy.coverage";
const BIAS: &str = "energy.bias";

/// The chips, each with a simulated twin (the INA220 is an INA219).
const KINDS: [ChipKind; 9] = [
    ChipKind::Ina3221,
    ChipKind::Ina226,
    ChipKind::Ina219,
    ChipKind::Ina230,
    ChipKind::Ina231,
    ChipKind::Ina260,
    ChipKind::Ina228,
    ChipKind::Ina237,
    ChipKind::Ina238,
];
/// Windows of a case unless told otherwise: the count of covered ones is then
/// known to 0.2 % (pairs, binomial). Fewer where everything is measured.
const WINDOWS: u64 = 20_000;
const WINDOWS_OF_ALL: u64 = 2_000;
/// What k = 2 covers of a normal law.
const COVERED_BY_TWO_SIGMA: f64 = 0.954_5;

/// Virtual time before a window, in which the schedule finds the chip's cycle,
/// and behind it, in which its last conversions arrive.
const BEFORE: Nanos = Nanos::from_millis(150);
const BEHIND: Nanos = Nanos::from_millis(10);
/// Shortest and longest window, in seconds.
const WINDOW_S: (f64, f64) = (1.0, 1.5);
/// Temperature of the board above 25 °C, in kelvin: idle in a cool room to
/// busy in a housing.
const OFF_25_C_K: (f64, f64) = (0.0, 40.0);
/// Deviation of the chip's oscillator, as a fraction.
const CYCLE_DEVIATION: (f64, f64) = (-0.02, 0.02);
/// Threads that share a case's windows.
const THREADS: u64 = 2;

/// A case: which windows are drawn.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    kind: ChipKind,
    shape: Shape,
    law: Law,
}

/// All cases: each chip by itself, then chip × shape × law.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let name = kind.name().to_owned();
        cases.push(Case { name, kind, shape: Shape::Mixed, law: Law::Gauss });
        for shape in Shape::ALL {
            cases.extend(Law::ALL.map(|law| {
                let name = format!("{}/{}/{}", kind.name(), shape.name(), law.name());
                Case { name, kind, shape, law }
            }));
        }
    }
    cases
}

/// Emits the measures whose names, and of them the cases whose names, start
/// with the given ones; `from` seeds the first pair of windows, `count` is
/// their number (pairs are not split).
pub(crate) fn run(
    (name_prefix, case_prefix): (&str, &str),
    from: u64,
    count: Option<u64>,
    emit: &mut dyn FnMut(Figure),
) {
    burst::run((name_prefix, case_prefix), from, count, emit);
    let wanted = |measure: &str| measure.starts_with(name_prefix);
    if !wanted(COVERAGE) && !wanted(BIAS) {
        return;
    }
    let windows = if name_prefix.is_empty() { WINDOWS_OF_ALL } else { WINDOWS };
    let pairs = count.unwrap_or(windows).div_ceil(2).max(1);
    for case in cases().into_iter().filter(|case| case.name.starts_with(case_prefix)) {
        let tally = measure(&case, from, pairs);
        emit(Figure {
            measure: COVERAGE,
            case: case.name.clone(),
            value: as_f64(tally.covered) / as_f64(tally.windows),
            unit: "1",
            limit: (case.law == Law::Gauss).then_some(COVERED_BY_TWO_SIGMA),
            limit_is: (case.law == Law::Gauss).then_some("normal law, k = 2"),
        });
        emit(Figure {
            measure: BIAS,
            case: case.name,
            value: tally.relative_errors / as_f64(tally.windows),
            unit: "1",
            limit: Some(0.0),
            limit_is: Some("no bias"),
        });
    }
}

/// What became of the windows.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    windows: u64,
    covered: u64,
    relative_errors: f64,
}

fn measure(case: &Case, from: u64, pairs: u64) -> Tally {
    let share = |thread: u64| {
        let mut tally = Tally::default();
        for seed in (thread..pairs).step_by(usize::try_from(THREADS).unwrap_or(1)) {
            for turn in [core::convert::identity, mirrored] {
                // The simulated chip answers to its own driver, or a test
                // fails; a window that is not made counts as not covered.
                tally.windows += 1;
                if let Ok(Some(window)) = window(case, from.wrapping_add(seed), turn) {
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

fn window(
    case: &Case,
    seed: u64,
    turn: fn(ChannelErrors) -> ChannelErrors,
) -> Result<Option<Window>, ChipError> {
    let mut draw = Draw::of(&case.name, seed);
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let Some(total) = rails_of(case.kind).first() else { return Ok(None) };
    let off_25_c_k = draw.between(OFF_25_C_K);
    let errors = chip_errors(case, &mut draw, off_25_c_k, turn);
    let load = case.shape.draw(&mut draw, total);
    let length = Nanos::from_secs_f64(draw.between(WINDOW_S));
    let t0 = clock.now() + BEFORE + Nanos::from_secs_f64(draw.between((0.0, 0.005)));
    let t1 = t0 + length;
    let board = SimBoard::assembled(SimParts {
        kind: case.kind,
        seed,
        errors,
        waveforms: vec![load],
        bus_clock_hz: BUS_CLOCK_HZ,
        clock: Arc::clone(&clock) as _,
    });
    let mut bench = Bench::new(&board, Arc::clone(&clock))?;
    bench.run_until(t1 + BEHIND);
    let Some((sensor, integral)) = bench.integrate((t0, t1), off_25_c_k) else { return Ok(None) };
    let energy = integral.gross(&sensor);
    let truth = board.true_energy(0, t0, t1);
    let error = energy.joules.0 - truth.0;
    Ok(Some(Window {
        is_covered: error.abs() <= energy.expanded().0,
        relative_error: error / truth.0,
    }))
}

/// Errors of the total rail's channel; the others are exact and idle.
fn chip_errors(
    case: &Case,
    draw: &mut Draw,
    off_25_c_k: f64,
    turn: fn(ChannelErrors) -> ChannelErrors,
) -> ChipErrors {
    let limits = limits_of(case.kind, SHUNT_TOLERANCE);
    let total = errors(draw, case.law, &limits, Drift::of(case.kind), off_25_c_k);
    let (shunt_lsb, bus_lsb) = noise_lsb(case.kind);
    let mut errors = ChipErrors { noise_seed: draw.next(), ..ChipErrors::default() };
    errors.channels[0] = turn(total);
    errors.with_noise(shunt_lsb, bus_lsb).with_cycle_deviation(draw.between(CYCLE_DEVIATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A coarse net under the full measure: few windows a case, whose coverage
    /// is looked at over all cases of a law.
    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        for law in Law::ALL {
            let mut sum = Tally::default();
            for case in cases().into_iter().filter(|case| case.law == law) {
                let tally = measure(&case, 77, 15);
                let bias = tally.relative_errors / as_f64(tally.windows);
                assert!(bias.abs() < 1e-3, "{case:?}: {bias}");
                assert!(10 * tally.covered > 7 * tally.windows, "{case:?}: {tally:?}");
                sum.windows += tally.windows;
                sum.covered += tally.covered;
            }
            let coverage = as_f64(sum.covered) / as_f64(sum.windows);
            let most = if law == Law::Gauss { 0.985 } else { 1.0 };
            assert!((0.92..=most).contains(&coverage), "{law:?}: {coverage}");
        }
    }
}
