//! The schedule without a chip, and against one that is a bare cycle: any
//! oscillator, a bus that takes longer than its bits, a thread that wakes late.

use proptest::prelude::*;
use wattline_protocol::record::ChipKind;

use super::*;
use crate::power::bus::Address7;
use crate::power::chip::{Chip, ChipSetup, Ownership, Profile};

fn timing(kind: ChipKind, profile: Profile, ownership: Ownership, clock_hz: u32) -> PaceTiming {
    let address = Address7::new(0x40).unwrap();
    let setup = ChipSetup { address, profile, ownership };
    Chip::new(kind, setup, &[1, 2, 3]).unwrap().pace_timing(clock_hz)
}

#[test]
fn pauses_double_up_to_100_ms_and_end_with_the_first_success() {
    let timing = timing(ChipKind::Ina3221, Profile::Fast, Ownership::Ours, 100_000);
    let mut pace = Pace::new(timing, BusShare::Whole, BoardTime(0));
    let mut now = BoardTime(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pace.failed(now);
        pauses.push((pace.deadline() - now).0 / 1_000_000);
        now = pace.deadline();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    let end = now + Nanos(2_830_000);
    let _ = pace.swept(Swept { start: now, end, ready: Ready::Unread }, Flag::Left);
    pace.failed(end);
    assert_eq!(pace.deadline() - end, Nanos::from_millis(1));
}

#[test]
fn half_a_bus_is_used_half_the_time() {
    let timing = timing(ChipKind::Ina3221, Profile::Fast, Ownership::Ours, 100_000);
    let mut pace = Pace::new(timing, BusShare::Half, BoardTime(0));
    let start = pace.deadline();
    let end = start + Nanos(2_830_000);
    let _ = pace.swept(Swept { start, end, ready: Ready::Unread }, Flag::Left);
    assert_eq!(pace.deadline() - start, Nanos(5_660_000));
}

#[test]
fn a_slow_bus_is_swept_back_to_back_without_the_flag() {
    let timing = timing(ChipKind::Ina3221, Profile::Fast, Ownership::Ours, 100_000);
    let pace = Pace::new(timing, BusShare::Whole, BoardTime(0));
    assert_eq!(pace.step(), Step::Sweep(Flag::Left));
    assert!((pace.period_ns() - 2_830_000.0).abs() < 1.0);
    // Before the longest first cycle has ended the registers hold nothing.
    assert_eq!(pace.deadline(), BoardTime(924_000));
}

#[test]
fn without_the_flag_the_period_is_the_longest_cycle_and_holes_are_seen_by_time() {
    let timing = timing(ChipKind::Ina3221, Profile::Fast, Ownership::KernelDriver, 400_000);
    let mut pace = Pace::new(timing, BusShare::Whole, BoardTime(0));
    let mut judge = |start: u64| {
        let (start, end) = (BoardTime(start), BoardTime(start + 707_500));
        pace.swept(Swept { start, end, ready: Ready::Unread }, Flag::Left).conversions[0]
    };
    let judged = [0, 924_000, 1_848_000, 5_000_000, 5_800_000].map(&mut judge);
    use Conversion::{AfterHole, Fresh, Stale};
    // The last one came 800 µs after: it may be the same conversion.
    assert_eq!(judged, [Fresh, Fresh, Fresh, AfterHole, Stale]);
    assert!((pace.period_ns() - 924_000.0).abs() < 1.0);
}

#[test]
fn a_flag_that_no_read_clears_is_not_waited_for() {
    let timing = timing(ChipKind::Ina3221, Profile::Cover, Ownership::Ours, 400_000);
    let mut pace = Pace::new(timing, BusShare::Whole, BoardTime(0));
    let mut polls = 0;
    while pace.step() == Step::Poll {
        let start = pace.deadline();
        pace.polled(Swept { start, end: start + Nanos(260_000), ready: Ready::Converted });
        polls += 1;
        assert!(polls < 200, "{pace:?}");
    }
    assert_eq!(pace.step(), Step::Sweep(Flag::Left));
    assert!((pace.period_ns() - 1.1 * 3_720_000.0).abs() < 1.0);
}

/// A chip that is a bare cycle, and a bus and a thread that are late.
struct Model {
    timing: PaceTiming,
    length_ns: f64,
    phase_ns: f64,
    /// Ends that the last clearing has taken.
    cleared: i64,
    overhead: f64,
    random: u64,
}

impl Model {
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from(u32::try_from(self.random >> 33).unwrap()) / f64::from(1_u32 << 31)
    }

    /// Updates of a register at `at_ns` that is updated after `part` of a cycle.
    fn updates(&self, at_ns: f64, part: f64) -> i64 {
        cycle::whole(((at_ns - self.phase_ns) / self.length_ns + 1.0 - part).floor())
    }

    /// A transaction from `start_ns`: its end, and where in time a part of it is.
    /// Now and then one is held up, before or behind its bits.
    fn transfer(&mut self, timing: &TransactionTiming, start_ns: f64) -> (f64, f64, f64) {
        let length = timing.length_ns * self.overhead;
        let held = if self.random() < 0.01 { 300_000.0 * self.random() } else { 0.0 };
        let before = if self.random() < 0.5 { held } else { 0.0 };
        (start_ns + before, length, start_ns + length + held)
    }
}

/// Runs the schedule for `sweeps` sweeps; returns repeats and holes that were
/// called new, and how many sweeps were new, of how many conversions.
fn run(mut model: Model, share: BusShare, sweeps: u32) -> (u32, u32, u32, f64) {
    let at = |ns: f64| BoardTime(0) + span(ns);
    let mut pace = Pace::new(model.timing, share, BoardTime(0));
    let mut before: Option<i64> = None;
    let (mut repeats, mut holes, mut fresh, mut done) = (0, 0, 0, 0);
    let (mut begun_ns, mut now_ns) = (0.0_f64, 0.0_f64);
    let mut steps = 0;
    while done < sweeps {
        steps += 1;
        assert!(steps < 20 * sweeps, "{pace:?}");
        let late = 20_000.0 * model.random();
        let start_ns = nanos(pace.deadline() - BoardTime(0)).max(now_ns) + late;
        let (timing, kind) = match pace.step() {
            Step::Sweep(Flag::Read) => (model.timing.flagged, 0),
            Step::Sweep(Flag::Left) => (model.timing.plain, 1),
            Step::Poll => (model.timing.poll, 2),
            Step::Clear => (model.timing.clear.unwrap(), 3),
        };
        let (bits_ns, length, end_ns) = model.transfer(&timing, start_ns);
        let end_of = |model: &Model, part: f64| model.updates(bits_ns + part * length, 1.0);
        let ready = if end_of(&model, timing.flag) > model.cleared {
            Ready::Converted
        } else {
            Ready::NotYet
        };
        let clears = kind == 0 || kind == 3 || (kind == 2 && model.timing.clear.is_none());
        if clears {
            model.cleared = end_of(&model, timing.clear);
        }
        now_ns = end_ns;
        let swept = Swept { start: at(start_ns), end: at(end_ns), ready };
        match kind {
            2 => pace.polled(swept),
            3 => pace.cleared(swept),
            _ => {
                let flag = if kind == 0 { Flag::Read } else { Flag::Left };
                let ready = if kind == 0 { ready } else { Ready::Unread };
                let judged = pace.swept(Swept { ready, ..swept }, flag).conversions[0];
                let count =
                    model.updates(bits_ns + timing.latches[0] * length, model.timing.updates[0]);
                let passed = before.map_or(1, |before| count - before);
                before = Some(count);
                done += 1;
                if done == sweeps / 2 {
                    (fresh, begun_ns) = (0, now_ns);
                }
                fresh += u32::from(judged != Conversion::Stale);
                repeats += u32::from(judged == Conversion::Fresh && passed < 1);
                let stride = (pace.period_ns() / (0.89 * model.length_ns)).ceil().max(1.0);
                holes +=
                    u32::from(judged == Conversion::Fresh && passed > cycle::whole(2.0 * stride));
            }
        }
    }
    (repeats, holes, fresh, (now_ns - begun_ns) / model.length_ns)
}

const KINDS: [ChipKind; 5] =
    [ChipKind::Ina219, ChipKind::Ina226, ChipKind::Ina228, ChipKind::Ina238, ChipKind::Ina3221];
const PROFILES: [Profile; 3] = [Profile::Fast, Profile::Cover, Profile::Total];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_repeat_is_called_new_on_a_late_thread_and_a_slow_kernel(
        kind in 0_usize..5,
        profile in 0_usize..3,
        clock_hz in prop_oneof![Just(100_000_u32), Just(400_000), Just(1_000_000)],
        deviation in -0.1_f64..0.1,
        phase in 0.0_f64..1.0,
        overhead in 1.0_f64..1.6,
        is_half in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let timing = timing(KINDS[kind], PROFILES[profile], Ownership::Ours, clock_hz);
        let length_ns = timing.cycle_ns * (1.0 + deviation);
        let phase_ns = phase * length_ns;
        let model = Model { timing, length_ns, phase_ns, cleared: 0, overhead, random: seed };
        let share = if is_half { BusShare::Half } else { BusShare::Whole };
        let (repeats, holes, fresh, _) = run(model, share, 3_000);
        prop_assert_eq!((repeats, holes), (0, 0));
        prop_assert!(fresh > 1_000, "{} new of 1,500", fresh);
    }
}
