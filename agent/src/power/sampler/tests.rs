//! The sampler on simulated boards in virtual time.

use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::Nanos;

use super::*;
use crate::clock::VirtualClock;
use crate::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER};
use crate::power::bus::sim::{ChipErrors, Fault, FaultKind, Signs, SimBoard, Waveform};
use crate::power::chip::Profile;
use crate::power::ring::{SweepConsumer, ring};

struct Bench {
    board: SimBoard,
    core: SamplerCore,
    sweeps: SweepConsumer,
    clock: Arc<VirtualClock>,
}

impl Bench {
    fn new(kind: ChipKind, errors: ChipErrors, waveforms: Vec<Waveform>) -> Self {
        Self::with_profile(Profile::Fast, kind, errors, waveforms)
    }

    fn with_profile(
        profile: Profile,
        kind: ChipKind,
        errors: ChipErrors,
        waveforms: Vec<Waveform>,
    ) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
        let board = SimBoard::scripted(kind, 1, errors, waveforms, Arc::clone(&clock) as _);
        let (producer, sweeps) = ring(200_000);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver(profile),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(BUS_CLOCK_HZ),
            share: BusShare::Whole,
            clock: Arc::clone(&clock) as _,
            ring: producer,
            lane: 0,
        })
        .unwrap();
        Self { board, core, sweeps, clock }
    }

    fn run(&mut self, span: Nanos) {
        let end = self.clock.now() + span;
        while self.clock.now() < end {
            self.core.step();
        }
    }

    fn drain(&mut self) -> Vec<Sweep> {
        std::iter::from_fn(|| self.sweeps.pop().map(|taken| taken.sweep)).collect()
    }

    /// Energy by trapezoid over the waiting sweeps, against the true one.
    fn relative_error(&mut self, rail: usize) -> f64 {
        let scale = self.core.chip().scale(self.board.rails()[rail].shunt_ohm);
        let sweeps = self.drain();
        let power = |sweep: &Sweep| {
            let (shunt, bus) = (sweep.codes[2 * rail], sweep.codes[2 * rail + 1]);
            scale.power(ShuntCode(shunt), BusCode(bus)).0
        };
        let cell = |two: &[Sweep]| {
            (power(&two[0]) + power(&two[1])) / 2.0 * (two[1].end - two[0].end).as_seconds().0
        };
        let energy: f64 = sweeps.windows(2).map(cell).sum();
        let (from, to) = (sweeps[0].end, sweeps[sweeps.len() - 1].end);
        energy / self.board.true_energy(rail, from, to).0 - 1.0
    }
}

fn constant(current_a: f64) -> Vec<Waveform> {
    vec![Waveform::Constant { current_a }; 3]
}

#[test]
fn every_conversion_is_caught_once_at_each_oscillator() {
    for percent in [0, 1, 2, 5, 8, 10] {
        let deviation = f64::from(percent) / 100.0;
        let errors = ChipErrors::default().with_cycle_deviation(deviation);
        let mut bench = Bench::new(ChipKind::Ina3221, errors, constant(1.0));
        bench.run(Nanos::from_secs(1));
        let before = bench.core.report();
        let begun = bench.clock.now();
        bench.run(Nanos::from_secs(10));
        let cycle_s = 840e-6 * (1.0 + deviation);
        let conversions = (bench.clock.now() - begun).as_seconds().0 / cycle_s;
        let after = bench.core.report();
        let fresh = (after.fresh - before.fresh) as f64;
        assert!((fresh - conversions).abs() <= 1.5, "{percent} %: {fresh} of {conversions}");
        assert_eq!((after.stale, after.skipped), (before.stale, before.skipped), "{percent} %");
        let measured = bench.core.measured_cycle_ns().unwrap();
        assert!((measured * 1e-9 / cycle_s - 1.0).abs() < 1e-3, "{percent} %: {measured}");
    }
}

#[test]
fn a_long_cycle_is_read_once_and_not_oversampled() {
    // Profile `cover`: 3.72 ms for three channels, 1.24 ms for one.
    for (kind, cycle_s) in [(ChipKind::Ina3221, 3.72e-3), (ChipKind::Ina226, 1.24e-3)] {
        let errors = ChipErrors::default().with_cycle_deviation(0.031);
        let mut bench = Bench::with_profile(Profile::Cover, kind, errors, constant(1.0));
        bench.run(Nanos::from_secs(1));
        let before = bench.core.report();
        bench.run(Nanos::from_secs(10));
        let after = bench.core.report();
        let conversions = 10.0 / (cycle_s * 1.031);
        let fresh = (after.fresh - before.fresh) as f64;
        assert!((fresh - conversions).abs() <= 2.0, "{kind:?}: {fresh} of {conversions}");
        assert_eq!(after.stale, before.stale, "{kind:?}");
    }
}

#[test]
fn a_pair_of_mirrored_chips_cancels_its_errors() {
    let bursts = Waveform::Bursts {
        idle_a: 0.6,
        burst_a: 2.4,
        period_s: 0.043,
        burst_s: 0.021,
        first_s: 0.0,
    };
    let limits = crate::power::chip::ina3221::limits(0.01);
    let relative_error = |seed, signs| {
        // Noise, so that rounding adds no error of its own.
        let errors = ChipErrors::drawn(&limits, seed, signs).with_noise(1.5, 0.5);
        let mut bench = Bench::new(ChipKind::Ina3221, errors, vec![bursts.clone(); 3]);
        bench.run(Nanos::from_secs(1));
        bench.drain();
        bench.run(Nanos::from_secs(30));
        bench.relative_error(0)
    };
    for seed in 0..4 {
        let drawn = relative_error(seed, Signs::Drawn);
        let mirrored = relative_error(seed, Signs::Mirrored);
        assert!((drawn + mirrored).abs() < 5e-4, "seed {seed}: {drawn} and {mirrored}");
    }
}

#[test]
fn a_faster_oscillator_leaves_the_bus_as_the_limit() {
    for percent in [-10, -5, -3] {
        let errors = ChipErrors::default().with_cycle_deviation(f64::from(percent) / 100.0);
        let mut bench = Bench::new(ChipKind::Ina3221, errors, constant(1.0));
        bench.run(Nanos::from_secs(5));
        let rate = bench.core.report().fresh as f64 / 5.0;
        assert!(rate > 0.99 / 825e-6, "{percent} %: {rate}");
    }
}

#[test]
fn a_locked_sweep_never_mixes_two_cycles() {
    // Steps of 5 A each 20 cycles: within one sweep all three shunts agree,
    // but for the sweep whose own cycle holds the edge.
    let bursts = Waveform::Bursts {
        idle_a: 1.0,
        burst_a: 6.0,
        period_s: 40.0 * 840e-6,
        burst_s: 20.0 * 840e-6,
        first_s: 1e-4,
    };
    let errors = ChipErrors::default().with_cycle_deviation(0.013);
    let mut bench = Bench::new(ChipKind::Ina3221, errors, vec![bursts; 3]);
    bench.run(Nanos::from_secs(1));
    bench.drain();
    bench.run(Nanos::from_secs(2));
    let sweeps = bench.drain();
    let mixed = sweeps.windows(3).filter(|three| {
        let differs = |sweep: &Sweep| sweep.codes[0] != sweep.codes[4];
        differs(&three[0]) && differs(&three[1]) && three[0].codes[0] == three[1].codes[0]
    });
    assert_eq!(mixed.count(), 0);
}

#[test]
fn energy_from_codes_is_the_waveforms_within_quantisation() {
    let sine = Waveform::Sine { mean_a: 2.0, amplitude_a: 1.2, frequency_hz: 37.0, phase_rad: 0.3 };
    for kind in [ChipKind::Ina3221, ChipKind::Ina226] {
        let errors = ChipErrors::default().with_cycle_deviation(0.017);
        let mut bench = Bench::new(kind, errors, vec![sine.clone(); 3]);
        bench.run(Nanos::from_secs(1));
        bench.drain();
        bench.run(Nanos::from_secs(20));
        let error = bench.relative_error(0);
        assert!(error.abs() < 2e-3, "{kind:?}: {error}");
    }
}

#[test]
fn true_energy_is_additive_and_a_sines_is_closed() {
    let sine = Waveform::Sine { mean_a: 2.0, amplitude_a: 1.2, frequency_hz: 37.0, phase_rad: 0.0 };
    let bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), vec![sine]);
    let start = BoardTime(1_000_000_000);
    let (middle, end) = (start + Nanos::from_millis(4_321), start + Nanos::from_secs(10));
    let board = &bench.board;
    let whole = board.true_energy(0, start, end).0;
    let parts = board.true_energy(0, start, middle).0 + board.true_energy(0, middle, end).0;
    assert!((whole - parts).abs() < 1e-9);
    // Whole periods: 5 V · 2 A · 10 s − 15 mΩ · (2² + 1.2²/2) A² · 10 s.
    let closed = 5.0 * 2.0 * 10.0 - 0.015 * (4.0 + 0.72) * 10.0;
    assert!((whole - closed).abs() < 1e-6, "{whole} J of {closed} J");
}

#[test]
fn the_ready_flag_clears_on_a_mask_read() {
    let mut bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), constant(1.0));
    let mut bus = bench.board.bus();
    let chip = *bench.core.chip();
    bench.clock.sleep_until(bench.clock.now() + Nanos::from_millis(5));
    let first = chip.sweep(&mut bus, Flag::Read).unwrap().ready;
    // 825 µs later: less than a cycle, and its end may lie anywhere.
    let flags: Vec<_> = (0..60).map(|_| chip.sweep(&mut bus, Flag::Read).unwrap().ready).collect();
    assert_eq!(first, Ready::Converted);
    let clear = flags.iter().filter(|flag| **flag == Ready::NotYet).count();
    assert_eq!(clear, 1, "one sweep a beat of 56 finds no conversion");
    bench.core.step();
}

#[test]
fn full_scale_is_overrange_and_a_negative_current_stays_negative() {
    let currents = [40.0, -0.009, 1.0].map(|current_a| Waveform::Constant { current_a });
    let mut bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), currents.to_vec());
    bench.run(Nanos::from_millis(50));
    let last = bench.drain().pop().unwrap();
    assert_eq!(last.status & 0xfff, 0x004);
    assert_eq!((last.codes[0], last.codes[2]), (4_095, -1));
}

#[test]
fn a_dead_bus_is_a_status_and_sampling_goes_on_when_it_recovers() {
    for (kind, status) in [(FaultKind::Nack, 0x333), (FaultKind::Stuck, 0x555)] {
        let mut bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), constant(1.0));
        bench.run(Nanos::from_secs(1));
        bench.drain();
        let from = bench.clock.now();
        bench.board.inject(Fault { kind, from, to: from + Nanos::from_secs(2) });
        bench.run(Nanos::from_secs(4));
        let sweeps = bench.drain();
        let failed = sweeps.iter().filter(|sweep| sweep.status == status).count();
        assert!((10..40).contains(&failed), "{kind:?}: {failed} tries in 2 s");
        assert_eq!(bench.core.report().failed, failed as u64);
        let after: Vec<_> = sweeps.iter().filter(|sweep| sweep.status == 0x222).collect();
        assert_eq!(after.len(), 1, "{kind:?}: the first sweep after the hole says so");
        let ok = sweeps.iter().filter(|sweep| sweep.status == 0).count();
        assert!(ok > 2_000, "{kind:?}: {ok} sweeps in the rest");
    }
}

#[test]
fn a_chip_that_lost_power_is_configured_again() {
    let mut bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), constant(1.0));
    bench.run(Nanos::from_secs(1));
    let now = bench.clock.now();
    bench.board.inject(Fault { kind: FaultKind::Reset, from: now, to: now });
    bench.run(Nanos::from_millis(500));
    bench.drain();
    bench.run(Nanos::from_secs(1));
    let ok = bench.drain().iter().filter(|sweep| sweep.status == 0).count();
    assert!(ok > 1_150, "{ok}");
}

#[test]
fn hardware_averaging_of_the_ina3221_is_exponential() {
    // A step of 1 A to 2 A, 64 averages of 280 µs cycles of one channel: after
    // n cycles the result is 2 − (1 − 1/64)^n.
    let step =
        Waveform::Bursts { idle_a: 1.0, burst_a: 2.0, period_s: 1e3, burst_s: 1e3, first_s: 1.0 };
    let bench = Bench::new(ChipKind::Ina3221, ChipErrors::default(), vec![step]);
    let mut bus = bench.board.bus();
    let address = bench.board.address();
    use crate::power::bus::Message;
    bus.transfer(address, &mut [Message::Write(&[0, 0x46, 0x07])]).unwrap();
    let origin = BoardTime(1_000_000_000);
    let read = |bus: &mut crate::power::bus::sim::SimBus, at_s: f64| {
        bench.clock.sleep_until(origin + Nanos::from_secs_f64(at_s));
        let mut value = [0; 2];
        let mut messages = [Message::Write(&[1]), Message::Read(&mut value)];
        bus.transfer(address, &mut messages).unwrap();
        f64::from(u16::from_be_bytes(value) >> 3)
    };
    assert_eq!(read(&mut bus, 0.999), 125.0);
    let halfway = read(&mut bus, 1.0 + 64.0 * 280e-6);
    let expected = 125.0 + 125.0 * (1.0 - (1.0 - 1.0 / 64.0_f64).powi(64));
    assert!((halfway - expected).abs() <= 2.0, "{halfway} against {expected}");
}

#[test]
fn a_thread_samples_in_real_time_and_stops_when_told() {
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let board = SimBoard::new(ChipKind::Ina3221, 5, Arc::clone(&clock));
    let (producer, mut sweeps) = ring(8_192);
    let core = SamplerCore::configured(SamplerParts {
        chip: board.driver(Profile::Fast),
        bus: Box::new(board.bus()),
        bus_number: BUS_NUMBER,
        bus_clock_hz: Some(BUS_CLOCK_HZ),
        share: BusShare::Whole,
        clock: Arc::clone(&clock),
        ring: producer,
        lane: 3,
    })
    .unwrap();
    let handle = Sampler::start(Stepped::chip(core)).unwrap();
    while sweeps.waiting() < 20 {
        clock.sleep_until(clock.now() + Nanos::from_millis(1));
    }
    let report = handle.stop()[0];
    assert_eq!(report.lane, 3);
    assert_eq!(report.sweeps, report.fresh + report.stale + report.failed);
    assert!(sweeps.pop().is_some());
}

#[test]
fn a_slow_bus_reads_shunts_each_sweep_and_bus_voltages_in_turn() {
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let board = SimBoard::assembled(crate::power::bus::sim::SimParts {
        kind: ChipKind::Ina3221,
        seed: 1,
        errors: ChipErrors::default(),
        waveforms: [1.0, 2.0, 3.0].map(|current_a| Waveform::Constant { current_a }).to_vec(),
        bus_clock_hz: 100_000,
        clock: Arc::clone(&clock) as _,
    });
    let (producer, mut sweeps) = ring(200_000);
    let core = SamplerCore::configured(SamplerParts {
        chip: board.driver(Profile::Fast),
        bus: Box::new(board.bus()),
        bus_number: BUS_NUMBER,
        bus_clock_hz: Some(100_000),
        share: BusShare::Whole,
        clock: Arc::clone(&clock) as _,
        ring: producer,
        lane: 0,
    });
    let mut core = core.unwrap().in_turn_where_slow();
    // Three shunts and one bus voltage: 189 bits for 283.
    assert_eq!(core.describe().transaction_bits, 189);
    let timing = core.chip().timing(0, core.described_flag(), 100_000);
    assert_eq!(timing.shunt_latch_before_end_ns, 1_600_000);
    // The oldest bus voltage in a row: of two sweeps before.
    assert_eq!(timing.bus_latch_before_end_ns, 190_000 + 2 * 1_890_000);
    let end = clock.now() + Nanos::from_secs(10);
    while clock.now() < end {
        core.step();
    }
    let rate = core.report().fresh as f64 / 10.0;
    assert!(rate > 0.98 * 100_000.0 / 189.0, "{rate} sweeps a second");
    let mut seen = 0;
    while let Some(taken) = sweeps.pop() {
        let sweep = taken.sweep;
        for slot in (0..3).filter(|slot| sweep.status >> (4 * slot) & 0xf == 0) {
            seen += 1;
            let current_a = [1.0, 2.0, 3.0][slot];
            let volts = board.rails()[slot].voltage(current_a);
            let code = f64::from(sweep.codes[2 * slot + 1]);
            assert!((code - volts / 8e-3).abs() < 0.51, "{code}: {volts} V");
        }
    }
    assert!(seen > 15_000, "{seen} values");
}
