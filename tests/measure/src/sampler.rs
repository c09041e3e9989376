//! The measures `sampler.*`: how many conversions the sampler catches, and
//! what a sweep costs in allocations.
//!
//! Owns the cases (chip, bus clock, profile) on simulated chips in virtual
//! time: bus and clock are replaced, driver, schedule and ring are those of
//! the board. Says nothing of a real kernel's delays.

use std::sync::Arc;

use wattline_agent::clock::{Clock, VirtualClock};
use wattline_agent::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER};
use wattline_agent::power::bus::sim::{ChipErrors, SimBoard, Waveform};
use wattline_agent::power::chip::{ChipError, Profile};
use wattline_agent::power::discover::limit_hz;
use wattline_agent::power::pace::BusShare;
use wattline_agent::power::ring::{SweepConsumer, ring};
use wattline_agent::power::sampler::{SamplerCore, SamplerParts};
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::{BoardTime, Nanos};

use crate::allocations;
use crate::figure::Figure;

const SWEEPS: &str = "sampler.sweeps";
const ALLOCATIONS: &str = "sampler.allocations";

/// The cases: name and chip; 400 kHz and the profile `fast`.
const CASES: [(&str, ChipKind); 2] =
    [("ina3221/400k/fast", ChipKind::Ina3221), ("ina226/400k/fast", ChipKind::Ina226)];
/// Virtual time of a measurement, and the time before it in which the
/// schedule finds the chip's cycle.
const MEASURED: Nanos = Nanos::from_secs(60);
const SETTLING: Nanos = Nanos::from_secs(1);
/// Sweeps over which allocations are counted.
const COUNTED_SWEEPS: u32 = 10_000;

/// Emits the measures whose names start with `name_prefix`. `from` seeds the
/// noise; the chips' oscillators are nominal, so that the limit is exact.
pub(crate) fn run(name_prefix: &str, from: u64, emit: &mut dyn FnMut(Figure)) {
    for (case, kind) in CASES {
        let Ok(mut bench) = Bench::new(kind, from) else {
            // The simulated chip answers to its own driver, or a test fails.
            continue;
        };
        let case = || case.to_owned();
        if SWEEPS.starts_with(name_prefix) {
            emit(Figure {
                measure: SWEEPS,
                case: case(),
                value: bench.fresh_per_second(),
                unit: "1/s",
                limit: limit_hz(bench.core.chip(), Some(BUS_CLOCK_HZ)),
                limit_is: Some("slower of bus and converter"),
            });
        }
        if ALLOCATIONS.starts_with(name_prefix) {
            emit(Figure {
                measure: ALLOCATIONS,
                case: case(),
                value: bench.allocations_per_sweep(),
                unit: "1/sweep",
                limit: Some(0.0),
                limit_is: Some("no allocation"),
            });
        }
    }
}

struct Bench {
    clock: Arc<VirtualClock>,
    core: SamplerCore,
    sweeps: SweepConsumer,
}

impl Bench {
    fn new(kind: ChipKind, seed: u64) -> Result<Self, ChipError> {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(0)));
        let errors = ChipErrors { noise_seed: seed, ..ChipErrors::default() }.with_noise(1.5, 0.5);
        let current =
            Waveform::Sine { mean_a: 1.5, amplitude_a: 1.0, frequency_hz: 37.0, phase_rad: 0.0 };
        let clock_of_all = || Arc::clone(&clock) as Arc<dyn Clock>;
        let board = SimBoard::scripted(kind, seed, errors, vec![current; 3], clock_of_all());
        let (producer, sweeps) = ring(64);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver(Profile::Fast),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(BUS_CLOCK_HZ),
            share: BusShare::Whole,
            clock: clock_of_all(),
            ring: producer,
            lane: 0,
        })?;
        Ok(Self { clock, core, sweeps })
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

    fn allocations_per_sweep(&mut self) -> f64 {
        self.run(SETTLING);
        let count = allocations::during(|| {
            for _ in 0..COUNTED_SWEEPS {
                self.step();
            }
        });
        as_f64(count) / f64::from(COUNTED_SWEEPS)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampler_reaches_97_percent_of_its_limit_and_allocates_nothing() {
        let mut figures = Vec::new();
        run("sampler", 0, &mut |figure| figures.push(figure));
        assert_eq!(figures.len(), 4);
        for figure in figures {
            let limit = figure.limit.unwrap();
            let ratio = figure.value / limit;
            let reached =
                if limit > 0.0 { (0.97..=1.001).contains(&ratio) } else { figure.value == 0.0 };
            assert!(reached, "{figure:?}");
        }
    }
}
