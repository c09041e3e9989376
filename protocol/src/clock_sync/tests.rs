//! Tests of the estimate against simulated clocks and links.

use proptest::prelude::*;

use super::schedule::{BURST_EXCHANGES, Schedule};
use super::*;

/// A board's clock against the host's: a rate and steps.
#[derive(Debug, Clone)]
struct Board {
    offset_ns: i64,
    skew_ppm: f64,
    /// From this host time on, in ns, the board's clock is so much further.
    step: (u64, i64),
}

const START: u64 = 50_000_000_000_000;

impl Board {
    #[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
    fn offset_at(&self, host_ns: u64) -> i64 {
        let drift = ((host_ns - START) as f64 * self.skew_ppm * 1e-6).round() as i64;
        let step = if host_ns >= self.step.0 { self.step.1 } else { 0 };
        self.offset_ns + drift + step
    }

    fn read(&self, host_ns: u64) -> BoardTime {
        BoardTime(host_ns.checked_add_signed(self.offset_at(host_ns)).unwrap())
    }

    /// Exchanges of `seconds` over a link with these delays there and back.
    fn exchanges(&self, seconds: i64, mut delay: impl FnMut() -> (u64, u64)) -> Vec<ClockExchange> {
        let mut exchanges = Vec::new();
        let mut schedule = Schedule::starting(Nanos(0));
        while schedule.due() < Nanos::from_secs(seconds) {
            let mut now = START + schedule.due().0.unsigned_abs();
            assert!(schedule.on_time(schedule.due()));
            for _ in 0..BURST_EXCHANGES {
                let (there, back) = delay();
                let (arrives, leaves) = (now + there, now + there + 3_000);
                exchanges.push(ClockExchange {
                    host_sent: HostTime(now),
                    board_received: self.read(arrives),
                    board_sent: self.read(leaves),
                    host_received: HostTime(leaves + back),
                });
                now = leaves + back + 20_000;
                let _ = schedule.on_answer();
            }
        }
        exchanges
    }
}

fn worst_error_ns(board: &Board, map: &ClockMap, seconds: u64) -> (u64, bool) {
    let mut worst = 0;
    let mut inside = true;
    for step in 0..seconds * 2 {
        let host = START + step * 500_000_000;
        let estimate = map.at(HostTime(host)).unwrap();
        let error = estimate.offset.0.abs_diff(board.offset_at(host));
        worst = worst.max(error);
        inside &= error <= estimate.bound.0.unsigned_abs();
    }
    (worst, inside)
}

const NEVER: (u64, i64) = (u64::MAX, 0);

#[test]
fn a_symmetric_link_gives_offset_and_rate_to_the_nanosecond() {
    let board = Board { offset_ns: 1_234_000_000, skew_ppm: 35.0, step: NEVER };
    let map = ClockMap::of(&board.exchanges(1_200, || (80_000, 80_000)));
    let (worst, inside) = worst_error_ns(&board, &map, 1_200);
    assert!(worst <= 5 && inside, "{worst}");
    let middle = map.at(HostTime(START + 600_000_000_000)).unwrap();
    assert!((middle.skew_ppm - 35.0).abs() < 0.01, "{middle:?}");
    assert!(middle.bound <= Nanos(80_100), "{middle:?}");
    let between = map.at(HostTime(START + 605_000_000_000)).unwrap();
    assert!(between.bound <= Nanos(80_000 + 260_000), "{between:?}");
    assert_eq!(map.steps(), 0);
}

#[test]
fn a_reboot_is_a_step_and_no_line_crosses_it() {
    let hour = 3_600_000_000_000;
    let board = Board { offset_ns: hour, skew_ppm: -20.0, step: (START + 300_000_000_000, -hour) };
    let map = ClockMap::of(&board.exchanges(600, || (200_000, 100_000)));
    assert_eq!(map.steps(), 1);
    for host in [START, START + 290_000_000_000, START + 310_000_000_000, START + 590_000_000_000] {
        let estimate = map.at(HostTime(host)).unwrap();
        let error = estimate.offset.0.abs_diff(board.offset_at(host));
        assert!(error <= estimate.bound.0.unsigned_abs(), "{estimate:?}");
    }
}

#[test]
fn one_answer_before_its_question_is_left_out() {
    let board = Board { offset_ns: 5, skew_ppm: 0.0, step: NEVER };
    let mut exchanges = board.exchanges(5, || (1_000, 1_000));
    exchanges[3].host_received = HostTime(exchanges[3].host_sent.0 - 9);
    assert_eq!(ClockMap::of(&exchanges).bursts().count(), 5);
    assert_eq!(ClockMap::of(&[]).at(HostTime(0)), None);
}

#[test]
fn the_shortest_round_trip_of_a_burst_counts() {
    let board = Board { offset_ns: -7_000, skew_ppm: 0.0, step: NEVER };
    let mut turn = 0;
    let exchanges = board.exchanges(30, || {
        turn += 1;
        if turn % 8 == 5 { (10_000, 10_000) } else { (900_000, 10_000) }
    });
    let estimate = ClockMap::of(&exchanges).at(HostTime(START + 5_000_000_000)).unwrap();
    assert_eq!(estimate.offset, Nanos(-7_000));
}

/// Deterministic delays with a floor and rare long ones.
fn delays(mut state: u64, floor: (u64, u64), spread: u64) -> impl FnMut() -> (u64, u64) {
    move || {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let draw = state >> 33;
            let long = if draw.is_multiple_of(13) { 20 } else { 1 };
            draw % (spread * long + 1)
        };
        (floor.0 + next(), floor.1 + next())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_truth_lies_within_the_bound(
        offset_ns in -40_000_000_000_000_i64..40_000_000_000_000,
        skew_ppm in -50.0_f64..50.0,
        there in 1_000_u64..5_000_000,
        back in 1_000_u64..5_000_000,
        spread in 0_u64..3_000_000,
        seed in any::<u64>(),
    ) {
        let board = Board { offset_ns, skew_ppm, step: NEVER };
        let map = ClockMap::of(&board.exchanges(900, delays(seed, (there, back), spread)));
        prop_assert_eq!(map.steps(), 0, "no step was made");
        let (worst, inside) = worst_error_ns(&board, &map, 890);
        prop_assert!(inside, "an error of {} ns is outside", worst);
        // Half the asymmetry is what no exchange can show.
        prop_assert!(worst <= there.abs_diff(back) / 2 + 11 * spread + 300_000, "{}", worst);
    }

    #[test]
    fn a_step_is_seen_or_is_within_the_bound(
        step_ns in -50_000_000_i64..50_000_000,
        at in 50_u64..550,
        floor in 10_000_u64..1_000_000,
        spread in 0_u64..1_000_000,
        seed in any::<u64>(),
    ) {
        let step = (START + at * 1_000_000_000 + 5_500_000_000, step_ns);
        let board = Board { offset_ns: 40_000_000_000, skew_ppm: 12.0, step };
        let map = ClockMap::of(&board.exchanges(620, delays(seed, (floor, floor), spread)));
        // Between the bursts on either side nobody can know when it was.
        let away = |host: u64| host.abs_diff(step.0) > 10_000_000_000;
        for host in (0..600).map(|second| START + second * 1_000_000_000).filter(|&host| away(host)) {
            let estimate = map.at(HostTime(host)).unwrap();
            let error = estimate.offset.0.abs_diff(board.offset_at(host));
            prop_assert!(error <= estimate.bound.0.unsigned_abs(), "{} {:?}", error, estimate);
        }
        if step_ns.unsigned_abs() > 2 * (2 * floor + 41 * spread) + 1_200_000 {
            prop_assert_eq!(map.steps(), 1);
        }
    }

    #[test]
    fn any_readings_give_an_estimate_or_none(
        readings in prop::collection::vec(any::<[u64; 4]>(), 0..40),
        at in any::<u64>(),
    ) {
        let exchanges: Vec<ClockExchange> = readings
            .iter()
            .map(|&[sent, received, answered, came]| ClockExchange {
                host_sent: HostTime(sent),
                board_received: BoardTime(received),
                board_sent: BoardTime(answered),
                host_received: HostTime(came),
            })
            .collect();
        let _ = ClockMap::of(&exchanges).at(HostTime(at));
    }
}
