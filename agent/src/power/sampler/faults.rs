//! Every chip through every fault of the bus, in virtual time.
//!
//! The current is constant and the chip without errors, so that each value
//! that is called new must be the true one: an invented number cannot hide.

use wattline_protocol::block::status_of;
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::Nanos;

use super::*;
use crate::clock::VirtualClock;
use crate::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER};
use crate::power::bus::sim::{ChipErrors, Fault, FaultKind, SimBoard, SimParts, Waveform, uniform};
use crate::power::chip::Profile;
use crate::power::ring::{SweepConsumer, ring};

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
const FAULTS: [FaultKind; 5] = [
    FaultKind::Nack,
    FaultKind::Stuck,
    FaultKind::Reset,
    FaultKind::Stretch { by: Nanos::from_micros(700) },
    FaultKind::Rival { register: 0x00 },
];
const CURRENT_A: f64 = 1.0;

fn bench(kind: ChipKind, seed: u64) -> (Arc<VirtualClock>, SimBoard, SamplerCore, SweepConsumer) {
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let deviation = 0.04 * (uniform(seed) - 0.5);
    let board = SimBoard::assembled(SimParts {
        kind,
        seed,
        errors: ChipErrors::default().with_cycle_deviation(deviation),
        waveforms: vec![Waveform::Constant { current_a: CURRENT_A }; 3],
        bus_clock_hz: BUS_CLOCK_HZ,
        clock: Arc::clone(&clock) as _,
    });
    let (producer, sweeps) = ring(100_000);
    let core = SamplerCore::configured(SamplerParts {
        chip: board.driver(Profile::Fast),
        bus: Box::new(board.bus()),
        bus_number: BUS_NUMBER,
        bus_clock_hz: Some(BUS_CLOCK_HZ),
        share: BusShare::Whole,
        clock: Arc::clone(&clock) as _,
        ring: producer,
        lane: 0,
    })
    .unwrap();
    (clock, board, core, sweeps)
}

#[test]
fn no_fault_of_any_chip_invents_a_number_and_sampling_goes_on() {
    for kind in CHIPS {
        for fault in FAULTS {
            for seed in 0..3 {
                through(kind, fault, seed);
            }
        }
    }
}

fn through(kind: ChipKind, fault: FaultKind, seed: u64) {
    let what = format!("{} {fault:?} seed {seed}", kind.name());
    let (clock, board, mut core, mut sweeps) = bench(kind, seed);
    let run_until = |core: &mut SamplerCore, end: BoardTime| {
        while clock.now() < end {
            core.step();
        }
    };
    let from = clock.now() + Nanos::from_secs_f64(0.5 + 1e-3 * uniform(seed ^ 7));
    let to = from + Nanos::from_millis(300);
    run_until(&mut core, from);
    board.inject(Fault { kind: fault, from: clock.now(), to });
    let (from, to) = (clock.now(), to);
    run_until(&mut core, to + Nanos::from_secs(1));
    let (mut inside, mut failed, mut marked, mut after) = (0, 0, 0, 0);
    while let Some(taken) = sweeps.pop() {
        let sweep = taken.sweep;
        for (slot, rail) in (0..usize::from(sweep.columns) / 2).zip(board.rails()) {
            let status = status_of(sweep.status, slot).unwrap();
            let is_new = matches!(status, SampleStatus::Ok | SampleStatus::Skipped);
            if is_new {
                let scale = core.chip().scale(rail.shunt_ohm);
                let amperes =
                    f64::from(sweep.codes[2 * slot]) * scale.shunt_lsb_v / scale.shunt_ohm;
                let volts = f64::from(sweep.codes[2 * slot + 1]) * scale.bus_lsb_v;
                let step_a = scale.shunt_lsb_v / scale.shunt_ohm;
                assert!((amperes - CURRENT_A).abs() <= step_a, "{what}: {amperes} A");
                assert!(
                    (volts - rail.voltage(CURRENT_A)).abs() <= scale.bus_lsb_v,
                    "{what}: {volts} V"
                );
            }
            let during = sweep.end > from && sweep.end <= to;
            inside += u32::from(during && is_new);
            failed += u32::from(!status.has_value());
            marked += u32::from(sweep.end > from && status != SampleStatus::Ok);
            after += u32::from(sweep.end > to + Nanos::from_millis(200) && is_new);
        }
    }
    let is_dead = matches!(fault, FaultKind::Nack | FaultKind::Stuck);
    assert_eq!(failed > 0, is_dead, "{what}");
    assert_eq!(inside == 0, is_dead, "{what}: {inside} new values in the fault");
    let is_harmless = matches!(fault, FaultKind::Rival { .. });
    assert!(marked > 0 || is_harmless, "{what}: nothing is marked");
    assert!(after > 700, "{what}: {after} new values in the 0.8 s behind it");
}
