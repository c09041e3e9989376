//! The measures `sampler.*`: how many conversions the sampler catches, whether
//! it knows what it holds, and what a sweep costs.
//!
//! Owns the cases (chip, bus clock, profile) on simulated chips in virtual
//! time: bus and clock are replaced, driver, schedule and ring are those of
//! the board. Says nothing of a real kernel's delays but in `sampler.jitter`,
//! which runs the sampler's thread on this machine.

mod files;
mod truth;

use std::sync::Arc;

use wattline_agent::clock::{Clock, SystemClock, VirtualClock};
use wattline_agent::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER, noise_lsb};
use wattline_agent::power::bus::sim::{ChipErrors, SimBoard, SimParts, Waveform};
use wattline_agent::power::chip::{Chip, ChipError, Flag, Profile};
use wattline_agent::power::discover::limit_hz;
use wattline_agent::power::pace::BusShare;
use wattline_agent::power::ring::{SweepConsumer, ring};
use wattline_agent::power::sampler::{Sampler, SamplerCore, SamplerParts, Stepped};
use wattline_protocol::record::{ChipKind, LatenessHistogram};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::allocations;
use crate::figure::Figure;
use truth::Truth;

const SWEEPS: &str = "sampler.sweeps";
const UNFLAGGED: &str = "sampler.unflagged";
const BITS: &str = "sampler.bits";
const ALLOCATIONS: &str = "sampler.allocations";
const CPU: &str = "sampler.cpu";
const JITTER: &str = "sampler.jitter";

/// All chips that have a driver of ours.
const CHIPS: [ChipKind; 10] = [
    ChipKind::Ina219,
    ChipKind::Ina220,
    ChipKind::Ina226,
    ChipKind::Ina228,
    ChipKind::Ina230,
    ChipKind::Ina231,
    ChipKind::Ina237,
    ChipKind::Ina238,
    ChipKind::Ina260,
    ChipKind::Ina3221,
];
const CLOCKS: [(&str, u32); 3] = [("100k", 100_000), ("400k", 400_000), ("1000k", 1_000_000)];
/// Clocks at which the INA3221's bus voltages are read in turn.
const TURNED: [(&str, u32); 1] = [("100k", 100_000)];
const PROFILES: [Profile; 3] = [Profile::Fast, Profile::Cover, Profile::Total];
/// Virtual time of a measurement, and the time before it in which the
/// schedule finds the chip's cycle.
const MEASURED: Nanos = Nanos::from_secs(10);
const SETTLING: Nanos = Nanos::from_secs(1);
/// Sweeps over which allocations are counted, and time is taken.
const COUNTED_SWEEPS: u32 = 2_000;
/// Time that the sampler's real thread runs.
const JITTER_TIME: Nanos = Nanos::from_secs(5);

/// Emits the measures whose names start with `name_prefix`. `from` seeds noise,
/// load and, for `sampler.unflagged`, the chip's oscillator; for the rates the
/// oscillator is nominal, so that the limit is exact.
pub(crate) fn run(name_prefix: &str, from: u64, emit: &mut dyn FnMut(Figure)) {
    let wanted = |measure: &str| measure.starts_with(name_prefix);
    let of_cases = [SWEEPS, UNFLAGGED, BITS, ALLOCATIONS, CPU];
    if of_cases.into_iter().any(wanted) {
        for kind in CHIPS {
            for (clock, bus_clock_hz) in CLOCKS {
                for profile in PROFILES {
                    let case = Case { kind, bus_clock_hz, profile, turns: false };
                    // The simulated chip answers to its own driver, or a test fails.
                    let name = format!("{}/{clock}/{}", kind.name(), profile.name());
                    let _ = case.measure(&name, &wanted, from, emit);
                }
            }
        }
        // Beside `fast`, which reads each bus voltage in each sweep.
        for (clock, bus_clock_hz) in TURNED {
            let (kind, profile) = (ChipKind::Ina3221, Profile::Fast);
            let case = Case { kind, bus_clock_hz, profile, turns: true };
            let _ = case.measure(&format!("ina3221/{clock}/turn"), &wanted, from, emit);
        }
    }
    if wanted(ALLOCATIONS) {
        for (case, value) in files::allocations() {
            let (limit, limit_is) = (Some(0.0), Some("no allocation"));
            let case = case.to_owned();
            emit(Figure { measure: ALLOCATIONS, case, value, unit: "1/sweep", limit, limit_is });
        }
    }
    if wanted(JITTER) {
        jitter(emit);
    }
}

#[derive(Clone, Copy)]
struct Case {
    kind: ChipKind,
    bus_clock_hz: u32,
    profile: Profile,
    /// Bus voltages in turn.
    turns: bool,
}

impl Case {
    fn measure(
        self,
        name: &str,
        wanted: &dyn Fn(&str) -> bool,
        seed: u64,
        emit: &mut dyn FnMut(Figure),
    ) -> Result<(), ChipError> {
        let mut figure = |measure, value, unit, limit, limit_is| {
            emit(Figure { measure, case: name.to_owned(), value, unit, limit, limit_is });
        };
        let nominal = ChipErrors { noise_seed: seed, ..ChipErrors::default() };
        if wanted(SWEEPS) {
            let mut bench = Bench::new(self, nominal)?;
            let limit = limit_hz(bench.core.chip(), Some(self.bus_clock_hz));
            let limit_is = self.limit_is(bench.core.chip());
            figure(SWEEPS, bench.fresh_per_second(), "1/s", limit, Some(limit_is));
        }
        if wanted(UNFLAGGED) {
            // Within ±2 % as such chips are, and at the ends of ±10 %.
            let deviations =
                [ChipErrors::drawn(&NO_LIMITS, seed, SIGNS).cycle_deviation, 0.1, -0.1];
            let mut unflagged = 0;
            for deviation in deviations {
                unflagged += Bench::new(self, nominal.with_cycle_deviation(deviation))?.unflagged();
            }
            figure(UNFLAGGED, as_f64(unflagged), "1", Some(0.0), Some("all are flagged"));
        }
        if wanted(BITS) {
            let mut bench = Bench::new(self, nominal)?;
            bench.core.settle();
            let chip = bench.core.chip();
            let bits = chip.transaction_bits(bench.core.described_flag());
            let least = chip.transaction_bits(Flag::Left);
            let limit_is = Some("the values alone, each with its pointer");
            figure(BITS, f64::from(bits), "bit", Some(f64::from(least)), limit_is);
        }
        if wanted(ALLOCATIONS) {
            let count = Bench::new(self, nominal)?.allocations_per_sweep();
            figure(ALLOCATIONS, count, "1/sweep", Some(0.0), Some("no allocation"));
        }
        if wanted(CPU) {
            let (with, without) = Bench::new(self, nominal)?.microseconds();
            figure(CPU, (with - without).max(0.0), "us/sweep", None, None);
        }
        Ok(())
    }

    /// The datasheets of these families specify fast mode, 400 kHz, and beyond
    /// it high-speed mode with its master code alone; INA228, INA237 and INA238
    /// as well name 400 kHz and 2.94 MHz in that mode.
    fn limit_is(self, chip: &Chip) -> &'static str {
        let is_bus = limit_hz(chip, Some(self.bus_clock_hz))
            .is_some_and(|limit| limit < 0.999 * 1e9 / f64::from(chip.cycle_ns()));
        match (is_bus, self.bus_clock_hz > BUS_CLOCK_HZ) {
            (true, false) => "bus",
            (false, false) => "converter",
            (true, true) => "bus, outside the datasheet (400 kHz)",
            (false, true) => "converter, bus outside the datasheet (400 kHz)",
        }
    }
}

const SIGNS: wattline_agent::power::bus::sim::Signs = wattline_agent::power::bus::sim::Signs::Drawn;
const NO_LIMITS: wattline_protocol::record::ErrorLimits = wattline_protocol::record::ErrorLimits {
    shunt_offset_v: 0.0,
    shunt_gain: 0.0,
    bus_offset_v: 0.0,
    bus_gain: 0.0,
    shunt_tolerance: 0.0,
};

struct Bench {
    clock: Arc<VirtualClock>,
    board: SimBoard,
    core: SamplerCore,
    sweeps: SweepConsumer,
}

impl Bench {
    fn new(case: Case, errors: ChipErrors) -> Result<Self, ChipError> {
        let Case { kind, bus_clock_hz, profile, turns } = case;
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(0)));
        let clock_of_all = || Arc::clone(&clock) as Arc<dyn Clock>;
        let (shunt_lsb, bus_lsb) = noise_lsb(kind);
        let current =
            Waveform::Sine { mean_a: 1.0, amplitude_a: 0.6, frequency_hz: 37.0, phase_rad: 0.0 };
        let board = SimBoard::assembled(SimParts {
            kind,
            seed: errors.noise_seed,
            errors: errors.with_noise(shunt_lsb, bus_lsb),
            waveforms: vec![current; 3],
            bus_clock_hz,
            clock: clock_of_all(),
        });
        let (producer, sweeps) = ring(64);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver(profile),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(bus_clock_hz),
            share: BusShare::Whole,
            clock: clock_of_all(),
            ring: producer,
            lane: 0,
        })?;
        let core = if turns { core.in_turn_where_slow() } else { core };
        Ok(Self { clock, board, core, sweeps })
    }

    fn step(&mut self) {
        self.core.step();
        while self.sweeps.pop().is_some() {}
    }

    fn run(&mut self, span: Nanos) {
        let end = self.clock.now() + span;
        while self.clock.now() < end {
            self.step();
        }
    }

    fn fresh_per_second(&mut self) -> f64 {
        self.run(SETTLING);
        let (begun, before) = (self.clock.now(), self.core.report().fresh);
        self.run(MEASURED);
        let fresh = self.core.report().fresh - before;
        as_f64(fresh) / (self.clock.now() - begun).as_seconds().0
    }

    /// Sweeps of a measurement whose status hides that they repeat a conversion
    /// or stand after a hole; the search for the cycle is over by then.
    fn unflagged(&mut self) -> u64 {
        self.run(SETTLING);
        let slots = self.core.chip().channels().len();
        let mut truth = Truth::new(slots, self.stride());
        let end = self.clock.now() + MEASURED;
        while self.clock.now() < end {
            self.core.step();
            let read = self.board.conversions_read();
            while let Some(taken) = self.sweeps.pop() {
                truth.hold(&read, taken.sweep.status);
            }
        }
        truth.unflagged()
    }

    /// Conversions from one sweep to the next that a slow bus leaves unread by
    /// itself: the longest time from one to the next, a look at the setting between
    /// them, over the shortest cycle, rounded up. One where a sweep fits into a cycle.
    fn stride(&self) -> u64 {
        let chip = self.core.chip();
        let hertz = f64::from(self.board.bus_clock_hz());
        let cycles = |bits: u32| f64::from(bits) * 1e9 / hertz / (0.9 * f64::from(chip.cycle_ns()));
        let sweep_bits = chip.transaction_bits(Flag::Left);
        if cycles(sweep_bits) <= 1.0 {
            return 1;
        }
        let longest = cycles(sweep_bits + chip.setting_bits());
        let mut stride = 1;
        while as_f64(stride) < longest {
            stride += 1;
        }
        stride
    }

    fn allocations_per_sweep(&mut self) -> f64 {
        self.run(SETTLING);
        let count = allocations::during(|| {
            for _ in 0..COUNTED_SWEEPS {
                self.step();
            }
        });
        as_f64(count) / f64::from(COUNTED_SWEEPS)
    }

    /// Microseconds of a sampler's step, and of the simulated transaction
    /// alone: their difference is the sampler's own.
    fn microseconds(&mut self) -> (f64, f64) {
        self.run(SETTLING);
        let per_sweep = |begun: BoardTime| {
            (SystemClock.now() - begun).as_seconds().0 * 1e6 / f64::from(COUNTED_SWEEPS)
        };
        let begun = SystemClock.now();
        for _ in 0..COUNTED_SWEEPS {
            self.step();
        }
        let with = per_sweep(begun);
        let (chip, mut bus) = (*self.core.chip(), self.board.bus());
        let flag = self.core.described_flag();
        let begun = SystemClock.now();
        for _ in 0..COUNTED_SWEEPS {
            // The wait of a locked sampler, so that the same is converted.
            self.clock.sleep_until(self.clock.now() + Nanos::from_micros(10));
            let _ = std::hint::black_box(chip.sweep(&mut bus, flag));
        }
        (with, per_sweep(begun))
    }
}

/// Lateness of the real thread on this machine, from its own histogram: upper
/// ends of the buckets, and of the highest one that holds a wake.
fn jitter(emit: &mut dyn FnMut(Figure)) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = SimBoard::new(ChipKind::Ina3221, 1, Arc::clone(&clock));
    let (producer, mut sweeps) = ring(64);
    let core = SamplerCore::configured(SamplerParts {
        chip: board.driver(Profile::Cover),
        bus: Box::new(board.bus()),
        bus_number: BUS_NUMBER,
        bus_clock_hz: Some(BUS_CLOCK_HZ),
        share: BusShare::Whole,
        clock: Arc::clone(&clock),
        ring: producer,
        lane: 0,
    });
    let Ok(handle) = core.map(|core| Sampler::start(Stepped::chip(core))) else { return };
    let Ok(handle) = handle else { return };
    let end = clock.now() + JITTER_TIME;
    while clock.now() < end {
        clock.sleep_until(clock.now() + Nanos::from_millis(10));
        while sweeps.pop().is_some() {}
    }
    let Some(report) = handle.stop().into_iter().next() else { return };
    let lateness = report.lateness;
    for (case, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        emit(Figure {
            measure: JITTER,
            case: case.to_owned(),
            value: below_us(&lateness, part),
            unit: "us",
            limit: None,
            limit_is: None,
        });
    }
}

/// The upper end, in µs, of the bucket below which `part` of the wakes lie.
fn below_us(lateness: &LatenessHistogram, part: f64) -> f64 {
    let all: u64 = lateness.buckets.iter().sum();
    let mut seen = 0;
    let mut upper_us = 1.0;
    for count in lateness.buckets {
        seen += count;
        if as_f64(seen) >= part * as_f64(all) {
            break;
        }
        upper_us *= 2.0;
    }
    upper_us
}

#[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(name: &str) -> Vec<Figure> {
        let mut figures = Vec::new();
        run(name, 0, &mut |figure| figures.push(figure));
        let files = if name == ALLOCATIONS { 3 } else { 0 };
        let turned = TURNED.len();
        assert_eq!(
            figures.len(),
            90 + turned + files,
            "{name}: ten chips, three clocks, three profiles"
        );
        figures
    }

    #[test]
    fn every_chip_reaches_97_percent_of_its_limit() {
        for figure in figures(SWEEPS) {
            let ratio = figure.value / figure.limit.unwrap();
            assert!((0.97..=1.001).contains(&ratio), "{ratio}: {figure:?}");
        }
    }

    #[test]
    fn no_conversion_goes_unflagged() {
        for figure in figures(UNFLAGGED) {
            assert!(figure.value == 0.0, "{figure:?}");
        }
    }

    #[test]
    fn no_sweep_of_any_chip_allocates() {
        for figure in figures(ALLOCATIONS) {
            assert!(figure.value == 0.0, "{figure:?}");
        }
    }
}
