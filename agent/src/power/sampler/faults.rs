//! Every chip through every fault of the bus, in virtual time: the shipping
//! sampler, ring and recorder on the simulated board.
//!
//! The current moves in steps that are known, and the chip is without errors, so
//! that each value that is called new must lie between the true ones of the time
//! in which it can have been converted: an invented number cannot hide.

use std::sync::Arc;

use wattline_protocol::block::{self, BlockCodec, SampleBlock, status_of};
use wattline_protocol::frame;
use wattline_protocol::record::{ChipKind, ChipOutcome, NoticeKind, Record, kind};
use wattline_protocol::units::Nanos;

use super::*;
use crate::clock::VirtualClock;
use crate::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER};
use crate::power::bus::sim::{
    ChipErrors, Fault, FaultKind, SimBoard, SimParts, Steps, Waveform, mix, uniform,
};
use crate::power::bus::{Address7, Message};
use crate::power::chip::{Ownership, Profile};
use crate::power::ring::ring;
use crate::recorder::LaneInput;
use crate::recorder::desk::Desk;

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
/// When the fault begins, and how long it lasts; the run goes on for a second.
const BEGINS: Nanos = Nanos::from_millis(700);
const LASTS: Nanos = Nanos::from_millis(300);
const ORIGIN: BoardTime = BoardTime(1_000_000_000);
/// From one step of the current to the next.
const STEP: Nanos = Nanos::from_millis(7);
/// Time after the fault after which all is as before: a look at the setting, and
/// the longest pause after failures.
const RECOVERED: Nanos = Nanos::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nack,
    Stuck,
    Stretch,
    Reset,
    RivalPointer,
    RivalSets,
    Overrange,
    ArbitrationLost,
    PowerLost,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::Nack,
    Trouble::Stuck,
    Trouble::Stretch,
    Trouble::Reset,
    Trouble::RivalPointer,
    Trouble::RivalSets,
    Trouble::Overrange,
    Trouble::ArbitrationLost,
    Trouble::PowerLost,
];

impl Trouble {
    /// `None` for what the current does by itself.
    fn fault(self, kind: ChipKind, seed: u64) -> Option<FaultKind> {
        Some(match self {
            Self::Nack => FaultKind::Nack,
            Self::Stuck => FaultKind::Stuck,
            Self::Stretch => FaultKind::Stretch { by: Nanos::from_micros(1_500) },
            Self::Reset => FaultKind::Reset,
            Self::RivalPointer => {
                FaultKind::Rival { register: u8::try_from(mix(seed) % 8).unwrap() }
            }
            Self::RivalSets => {
                let (register, value) = slow_setting(kind);
                FaultKind::Set { register, value }
            }
            Self::Overrange => return None,
            Self::ArbitrationLost => FaultKind::ArbitrationLost,
            Self::PowerLost => FaultKind::PowerLost,
        })
    }

    fn fails_transfers(self) -> bool {
        matches!(self, Self::Nack | Self::Stuck | Self::ArbitrationLost | Self::PowerLost)
    }

    fn changes_the_chip(self) -> bool {
        matches!(self, Self::Reset | Self::RivalSets | Self::PowerLost)
    }
}

/// What a kernel driver writes: registers and values. The INA219's configuration
/// is that of power-on.
fn driver_setting(kind: ChipKind) -> &'static [(u8, u16)] {
    match kind {
        ChipKind::Ina219 | ChipKind::Ina220 => &[(0x00, 0x399f), (0x05, 0x1000)],
        ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => &[(0x01, 0xfb68), (0x02, 0x4000)],
        ChipKind::Ina260 => &[(0x00, 0x6127)],
        ChipKind::Ina3221 => &[(0x00, 0x7127)],
        _ => &[(0x00, 0x4127), (0x05, 0x0800)],
    }
}

/// A setting with cycles of 8 to 60 ms, and the same steps.
fn slow_setting(kind: ChipKind) -> (u8, u16) {
    match kind {
        ChipKind::Ina219 | ChipKind::Ina220 => (0x00, 0x3ddf),
        ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => (0x01, 0xfff8),
        ChipKind::Ina260 => (0x00, 0x61b7),
        ChipKind::Ina3221 => (0x00, 0x71b7),
        _ => (0x00, 0x41b7),
    }
}

/// A current beyond the chip's range over the simulated shunt.
fn surge_a(kind: ChipKind) -> f64 {
    match kind {
        ChipKind::Ina219 | ChipKind::Ina220 => 4.0,
        ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => 20.0,
        ChipKind::Ina260 => 50.0,
        ChipKind::Ina3221 => 40.0,
        _ => 10.0,
    }
}

/// The current in steps: from 0.5 to 2.5 A, drawn by the seed, and where it is
/// asked for a surge in the time of the fault.
struct Current(Vec<(BoardTime, f64)>);

impl Current {
    fn drawn(seed: u64, surge_a: Option<f64>) -> Self {
        let step = |index: i64| {
            let at = ORIGIN + Nanos(index * STEP.0);
            let is_surge = at >= ORIGIN + BEGINS && at < ORIGIN + BEGINS + LASTS;
            let drawn_a = 0.5 + 2.0 * uniform(seed ^ mix(index.cast_unsigned()));
            (at, surge_a.filter(|_| is_surge).unwrap_or(drawn_a))
        };
        Self((0..400).map(step).collect())
    }

    fn waveform(&self) -> Waveform {
        let mut steps = Steps::starting_with(self.0[0].1);
        for &(at, current_a) in &self.0[1..] {
            steps.append((at - ORIGIN).as_seconds().0, current_a);
        }
        Waveform::Steps(steps)
    }

    /// Least and largest current from `from` to `to`.
    fn range(&self, from: BoardTime, to: BoardTime) -> (f64, f64) {
        let ends = self.0.iter().skip(1).map(|(at, _)| *at).chain([BoardTime(u64::MAX)]);
        let within = self.0.iter().zip(ends).filter(|((at, _), end)| *at <= to && *end >= from);
        within.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), ((_, current_a), _)| {
            (least.min(*current_a), most.max(*current_a))
        })
    }
}

/// What a run recorded.
#[derive(Default)]
struct Recorded {
    rows: Vec<(BoardTime, u32, Vec<i32>)>,
    notices: Vec<NoticeKind>,
}

impl Recorded {
    fn take(&mut self, bytes: &[u8], columns: usize) {
        let frame = frame::decode(bytes).unwrap();
        if frame.header.kind != kind::SAMPLE_BLOCK {
            if let Record::Notice(notice) =
                Record::decode(frame.header.kind, frame.payload).unwrap()
            {
                self.notices.push(notice.what);
            }
            return;
        }
        let rows = usize::from(frame.header.count);
        let mut decoded = SampleBlock::with_capacity(columns, rows);
        block::decode(frame.payload, BlockCodec::Rice, rows, &mut decoded).unwrap();
        for row in decoded.rows() {
            let codes = (0..columns).map(|column| row.code(column).unwrap_or(0)).collect();
            self.rows.push((BoardTime(row.time_ticks * 1_000), row.status, codes));
        }
    }

    fn has(&self, is_it: impl Fn(&NoticeKind) -> bool) -> bool {
        self.notices.iter().any(is_it)
    }
}

struct Bench {
    clock: Arc<VirtualClock>,
    board: SimBoard,
    core: SamplerCore,
    desk: Desk,
    columns: usize,
    /// The chip's nominal cycle before any fault.
    cycle_ns: u32,
    current: Current,
    recorded: Recorded,
}

impl Bench {
    fn new(kind: ChipKind, ownership: Ownership, seed: u64, surge_a: Option<f64>) -> Self {
        Self::at_clock(BUS_CLOCK_HZ, kind, ownership, seed, surge_a)
    }

    fn at_clock(
        bus_clock_hz: u32,
        kind: ChipKind,
        ownership: Ownership,
        seed: u64,
        surge_a: Option<f64>,
    ) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(ORIGIN));
        let deviation = 0.04 * (uniform(seed) - 0.5);
        let current = Current::drawn(seed, surge_a);
        let board = SimBoard::assembled(SimParts {
            kind,
            seed,
            errors: ChipErrors::default().with_cycle_deviation(deviation),
            waveforms: vec![current.waveform(); 3],
            bus_clock_hz,
            clock: Arc::clone(&clock) as _,
        });
        if ownership == Ownership::KernelDriver {
            write(&board, driver_setting(kind));
        }
        clock.sleep_until(clock.now() + Nanos::from_millis(20));
        let (producer, sweeps) = ring(8_192);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver_of(Profile::Fast, ownership),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(bus_clock_hz),
            share: BusShare::Whole,
            clock: Arc::clone(&clock) as _,
            ring: producer,
            lane: 16,
        })
        .unwrap()
        .in_turn_where_slow();
        let columns = 2 * core.chip().channels().len();
        let lane = LaneInput { lane: 16, columns, ring: sweeps };
        let desk = Desk::new(1, 1, vec![lane], clock.now());
        let (cycle_ns, recorded) = (core.chip().cycle_ns(), Recorded::default());
        Self { clock, board, core, desk, columns, cycle_ns, current, recorded }
    }

    fn run_until(&mut self, end: BoardTime) {
        while self.clock.now() < end {
            self.core.step();
            self.drain(false);
        }
    }

    fn drain(&mut self, all: bool) {
        let Self { desk, recorded, columns, clock, .. } = self;
        desk.drain(clock.now(), all, &mut |bytes| recorded.take(&bytes, *columns));
    }

    fn finish(&mut self) {
        self.core.finish();
        self.drain(true);
    }

    /// How long before a row's end its values may have begun to be converted.
    fn reach(&self, end: BoardTime, changed: BoardTime) -> Nanos {
        // Of a chip that others set, both settings count after the change.
        let now_ns = if end >= changed { self.core.chip().cycle_ns() } else { 0 };
        let bits_ns = bits_ns(self.core.describe().transaction_bits, self.board.bus_clock_hz());
        Nanos(i64::from(2 * self.cycle_ns.max(now_ns) + 2 * bits_ns)) + Nanos::from_millis(2)
    }

    /// Each new value lies between the true ones of its time.
    fn hold_against_truth(&self, what: &str, changed: BoardTime) {
        for (end, status, codes) in &self.recorded.rows {
            for (slot, rail) in (0..self.columns / 2).zip(self.board.rails()) {
                let status = status_of(*status, slot).unwrap();
                if !matches!(status, SampleStatus::Ok | SampleStatus::Skipped) {
                    continue;
                }
                let scale = self.core.chip().scale(rail.shunt_ohm);
                let step_a = scale.shunt_lsb_v / scale.shunt_ohm;
                let amperes = f64::from(codes[2 * slot]) * step_a;
                let volts = f64::from(codes[2 * slot + 1]) * scale.bus_lsb_v;
                let (least, most) = self.current.range(*end - self.reach(*end, changed), *end);
                let is_true = amperes >= least - step_a && amperes <= most + step_a;
                let at_s = (*end - ORIGIN).as_seconds().0;
                assert!(is_true, "{what}: {amperes} A at {at_s} s, {least} to {most}");
                let (high, low) = (rail.voltage(least), rail.voltage(most));
                let is_true = volts >= low - scale.bus_lsb_v && volts <= high + scale.bus_lsb_v;
                assert!(is_true, "{what}: {volts} V at {at_s} s, {low} to {high}");
            }
        }
    }

    fn count(&self, from: BoardTime, to: BoardTime, is_it: impl Fn(SampleStatus) -> bool) -> usize {
        let rows = self.recorded.rows.iter().filter(|(end, ..)| *end > from && *end <= to);
        rows.filter(|(_, status, _)| is_it(status_of(*status, 0).unwrap())).count()
    }
}

fn write(board: &SimBoard, registers: &[(u8, u16)]) {
    let address: Address7 = board.address();
    for &(register, value) in registers {
        let [high, low] = value.to_be_bytes();
        let bytes = [register, high, low];
        board.bus().transfer(address, &mut [Message::Write(&bytes)]).unwrap();
    }
}

const OWNERSHIPS: [Ownership; 2] = [Ownership::Ours, Ownership::KernelDriver];

#[test]
fn no_fault_of_any_chip_invents_a_number_and_sampling_goes_on() {
    let mut failed = 0;
    for kind in CHIPS {
        for trouble in TROUBLES {
            for ownership in OWNERSHIPS {
                for seed in 0..3 {
                    // Each case by itself, so that a failure names all of them.
                    let case = || through(BUS_CLOCK_HZ, kind, trouble, ownership, seed);
                    failed += u32::from(std::panic::catch_unwind(case).is_err());
                }
            }
        }
    }
    assert_eq!(failed, 0, "cases that failed, each said above");
}

#[test]
fn no_fault_invents_a_number_where_bus_voltages_are_read_in_turn() {
    for trouble in TROUBLES {
        for seed in 0..5 {
            through(100_000, ChipKind::Ina3221, trouble, Ownership::Ours, seed);
        }
    }
}

fn through(clock_hz: u32, kind: ChipKind, trouble: Trouble, ownership: Ownership, seed: u64) {
    let what = format!("{} {trouble:?} {ownership:?} seed {seed}", kind.name());
    let surge_a = (trouble == Trouble::Overrange).then(|| surge_a(kind));
    let mut bench = Bench::at_clock(clock_hz, kind, ownership, seed, surge_a);
    let from = ORIGIN + BEGINS + Nanos::from_secs_f64(1e-3 * uniform(seed ^ 7));
    let to = ORIGIN + BEGINS + LASTS;
    bench.run_until(from - Nanos::from_millis(20));
    let is_silent_before = bench.recorded.notices.is_empty();
    assert!(is_silent_before, "{what}: {:?}", bench.recorded.notices);
    bench.run_until(from);
    let from = bench.clock.now();
    if let Some(fault) = trouble.fault(kind, seed) {
        bench.board.inject(Fault { kind: fault, from, to });
    }
    bench.run_until(to + Nanos::from_secs(1));
    bench.finish();
    bench.hold_against_truth(&what, from);

    let recorded = &bench.recorded;
    let failed = bench.count(from, to + RECOVERED, |status| !status.has_value());
    assert_eq!(failed > 0, trouble.fails_transfers(), "{what}: {failed} failed");
    let began = recorded.has(|what| matches!(what, NoticeKind::BusFaultBegan { .. }));
    let ended = recorded.has(|what| matches!(what, NoticeKind::BusFaultEnded { .. }));
    let fails = trouble.fails_transfers();
    assert_eq!((began, ended), (fails, fails), "{what}: {:?}", recorded.notices);

    // Whether the change is seen in registers, or by zeros that come and go.
    let changed = recorded.has(|what| matches!(what, NoticeKind::ChipChanged { .. }));
    assert!(
        changed || !trouble.changes_the_chip() || is_unseen(kind, trouble, ownership),
        "{what}"
    );
    assert!(!changed || trouble.changes_the_chip(), "{what}: {:?}", recorded.notices);
    if changed && ownership == Ownership::Ours {
        let anew = recorded.has(|what| match what {
            NoticeKind::ChipChanged { change, .. } => change.outcome == ChipOutcome::ConfiguredAnew,
            _ => false,
        });
        assert!(anew, "{what}: {:?}", recorded.notices);
    }
    let over = bench.count(from, to, |status| status == SampleStatus::Overrange);
    assert_eq!(over > 0, trouble == Trouble::Overrange, "{what}: {over} over the range");
    let said = recorded.has(|what| matches!(what, NoticeKind::OverrangeEnded { .. }));
    assert_eq!(said, trouble == Trouble::Overrange, "{what}: {:?}", recorded.notices);
    // A transfer that is held up for less than the chip's own cycle loses nothing.
    if trouble == Trouble::Stretch && bench.cycle_ns < 1_400_000 {
        let said = recorded.has(|what| matches!(what, NoticeKind::HolesBegan { .. }));
        let holes = bench.count(from, to, |status| status == SampleStatus::Skipped);
        assert!(said && holes > 3, "{what}: {holes}, {:?}", recorded.notices);
    }
    let marked = bench
        .count(from - Nanos::from_millis(250), to + RECOVERED, |status| status != SampleStatus::Ok);
    let is_harmless = trouble == Trouble::RivalPointer
        || (trouble == Trouble::Reset && is_unseen(kind, trouble, ownership))
        || (trouble == Trouble::Stretch && bench.cycle_ns >= 1_400_000);
    assert!(marked > 0 || is_harmless, "{what}: nothing is marked");

    let end = to + Nanos::from_secs(1);
    let after = bench.count(to + RECOVERED, end, SampleStatus::is_new) as f64;
    let transaction_ns = bits_ns(bench.core.describe().transaction_bits, clock_hz);
    let cycle_ns = f64::from(bench.core.chip().cycle_ns().max(transaction_ns));
    let possible = (end - to - RECOVERED).as_seconds().0 * 1e9 / (1.12 * cycle_ns);
    assert!(after > 0.9 * possible, "{what}: {after} new values of {possible:.0}");
}

/// A chip whose driver keeps the setting of power-on, and that has no calibration:
/// where no sweep saw its zeros, a loss of power changes nothing.
fn is_unseen(kind: ChipKind, trouble: Trouble, ownership: Ownership) -> bool {
    ownership == Ownership::KernelDriver
        && trouble != Trouble::RivalSets
        && matches!(kind, ChipKind::Ina260 | ChipKind::Ina3221)
}

#[test]
fn an_ina219_of_a_driver_that_lost_its_power_gives_no_0_volt_as_new() {
    for seed in 0..20 {
        let mut bench = Bench::new(ChipKind::Ina219, Ownership::KernelDriver, seed, None);
        bench.run_until(ORIGIN + BEGINS + Nanos(i64::try_from(mix(seed) % 2_000_000).unwrap()));
        let from = bench.clock.now();
        bench.board.inject(Fault { kind: FaultKind::Reset, from, to: from });
        bench.run_until(from + Nanos::from_secs(1));
        bench.finish();
        bench.hold_against_truth("ina219", from);
        // Its configuration is that of power-on: the calibration tells.
        let told = bench.recorded.notices.iter().find_map(|what| match what {
            NoticeKind::ChipChanged { change, marked, .. } => Some((*change, *marked)),
            _ => None,
        });
        let (change, marked) = told.unwrap();
        assert_eq!((change.register, change.expected, change.found), (5, 0x1000, 0), "seed {seed}");
        assert!(matches!(change.outcome, ChipOutcome::Adopted { cycle_ns: 1_064_000, .. }));
        assert!((1..300).contains(&marked), "seed {seed}: {marked}");
    }
}

#[test]
fn a_rail_that_is_switched_off_is_believed_after_eight_milliseconds() {
    // The supply's resistance takes all of its 5 V.
    let kind = ChipKind::Ina3221;
    let mut bench = Bench::new(kind, Ownership::KernelDriver, 1, Some(5.0 / 0.015));
    bench.run_until(ORIGIN + BEGINS + Nanos::from_millis(200));
    bench.finish();
    let zeros: Vec<u32> = bench
        .recorded
        .rows
        .iter()
        .filter(|(end, _, codes)| *end > ORIGIN + BEGINS && codes[1] == 0)
        .map(|(_, status, _)| status & 0xf)
        .collect();
    let stale = zeros.iter().filter(|status| **status == SampleStatus::Stale.nibble()).count();
    assert!((1..=4).contains(&stale) && zeros.len() > 10, "{zeros:?}");
    assert_eq!(zeros.last(), Some(&SampleStatus::Overrange.nibble()));
}

#[test]
fn a_drivers_chip_in_power_down_is_marked_until_it_converts_again() {
    for kind in CHIPS {
        let mut bench = Bench::new(kind, Ownership::KernelDriver, 3, None);
        bench.run_until(ORIGIN + BEGINS);
        let (register, value) = driver_setting(kind)[0];
        let off = if register == 1 { value & 0x0fff } else { value & !7 };
        write(&bench.board, &[(register, off)]);
        let from = bench.clock.now();
        bench.run_until(from + Nanos::from_secs(1));
        write(&bench.board, driver_setting(kind));
        let back = bench.clock.now();
        bench.run_until(back + Nanos::from_secs(1));
        bench.finish();
        let what = kind.name();
        bench.hold_against_truth(what, from);
        let new = bench.count(from, back, SampleStatus::is_new);
        assert_eq!(new, 0, "{what}: {new} new values of a chip that is off");
        let new = bench.count(back + RECOVERED, back + Nanos::from_secs(1), SampleStatus::is_new);
        assert!(new > 50, "{what}: {new} new values behind it");
        let outcomes: Vec<ChipOutcome> = bench
            .recorded
            .notices
            .iter()
            .filter_map(|what| match what {
                NoticeKind::ChipChanged { change, .. } => Some(change.outcome),
                _ => None,
            })
            .collect();
        assert!(
            matches!(outcomes[..], [ChipOutcome::Unusable, ChipOutcome::Adopted { .. }]),
            "{what}: {outcomes:?}"
        );
    }
}
