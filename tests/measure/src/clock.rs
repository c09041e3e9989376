//! The measures `clock.*`: how near the clock map comes to a known truth.
//!
//! Owns the simulated links and what is compared with what. Schedule and
//! estimate are the shipping ones; delays and clocks are simulated, and so is
//! every number here. The board's clock runs 35 ppm fast and 1.234 s ahead.
//! Source of the cases: records-and-reliability §5; delays are a floor and an
//! exponential tail, drawn so that round trips have the source's p50 and p99.

use wattline_protocol::clock_sync::schedule::{BURST_EXCHANGES, Schedule};
use wattline_protocol::clock_sync::{ClockExchange, ClockMap};
use wattline_protocol::units::{BoardTime, HostTime, Nanos};

use crate::figure::Figure;
use crate::streams::SplitMix;

const ERROR: &str = "clock.error";
const BOUND: &str = "clock.bound";
const OUTSIDE: &str = "clock.outside";
/// Seeds of each case, unless `--seeds` says otherwise.
const SEEDS: u64 = 20;
/// Length of a simulated link, in seconds.
const LINK_S: i64 = 1_200;
/// Host time at its start, in ns.
const START: u64 = 50_000_000_000_000;
const SKEW: f64 = 35e-6;
const OFFSET_NS: i64 = 1_234_000_000;
/// Time the board takes between question and answer, in ns.
const BOARD_NS: u64 = 3_000;

/// A simulated link.
struct Link {
    name: &'static str,
    /// Shortest ways there and back, in ns.
    floor_ns: (u64, u64),
    /// Mean of what comes on top, each way, in ns.
    tail_ns: f64,
    /// Part of the exchanges that wait behind something, and how long, in ns.
    late: (f64, f64),
}

const LINKS: [Link; 5] = [
    Link { name: "idle", floor_ns: (7_000, 7_000), tail_ns: 1_000.0, late: (0.03, 70_000.0) },
    Link {
        name: "4 MB/s of frames",
        floor_ns: (7_000, 7_000),
        tail_ns: 8_000.0,
        late: (0.15, 90_000.0),
    },
    Link { name: "wired", floor_ns: (90_000, 90_000), tail_ns: 20_000.0, late: (0.03, 400_000.0) },
    Link {
        name: "asymmetric",
        floor_ns: (100_000, 500_000),
        tail_ns: 20_000.0,
        late: (0.03, 400_000.0),
    },
    Link {
        name: "wi-fi",
        floor_ns: (900_000, 900_000),
        tail_ns: 1_500_000.0,
        late: (0.1, 15_000_000.0),
    },
];

/// Emits all measures over the seeds from `from` on.
pub(crate) fn run(from: u64, seeds: Option<u64>, emit: &mut dyn FnMut(Figure)) {
    for link in &LINKS {
        let (mut raw_us, mut burst_us, mut fit_us) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bounds_us, mut outside) = (Vec::new(), 0_u32);
        for seed in from..from.saturating_add(seeds.unwrap_or(SEEDS)) {
            let exchanges = link.exchanges(&mut SplitMix(seed));
            let map = ClockMap::of(&exchanges);
            raw_us.extend(exchanges.iter().map(|exchange| {
                let there = exchange.board_received.0.wrapping_sub(exchange.host_sent.0);
                let back = exchange.board_sent.0.wrapping_sub(exchange.host_received.0);
                let middle = exchange.host_sent.0.midpoint(exchange.host_received.0);
                micros(there.cast_signed().midpoint(back.cast_signed()).abs_diff(truth(middle)))
            }));
            for burst in map.bursts() {
                burst_us.push(micros(burst.offset_ns.abs_diff(truth(burst.at.0))));
                let Some(estimate) = map.at(burst.at) else { continue };
                fit_us.push(micros(estimate.offset.0.abs_diff(truth(burst.at.0))));
                bounds_us.push(micros(estimate.bound.0.unsigned_abs()));
            }
            // Between bursts as well: once a second.
            for second in 0..LINK_S.unsigned_abs() {
                let at = START + second * 1_000_000_000;
                let inside = map.at(HostTime(at)).is_some_and(|estimate| {
                    estimate.offset.0.abs_diff(truth(at)) <= estimate.bound.0.unsigned_abs()
                });
                outside += u32::from(!inside);
            }
        }
        let mut figure = |measure, case: String, value, unit, limit: Option<f64>| {
            let limit_is = limit.map(|_| "the truth is never outside");
            emit(Figure { measure, case, value, unit, limit, limit_is });
        };
        let case = |what: &str| format!("simulated {}{what}", link.name);
        for (what, errors) in
            [("/raw", &mut raw_us), ("/shortest of 8", &mut burst_us), ("/fit", &mut fit_us)]
        {
            figure(ERROR, case(&format!("{what} p50")), part(errors, 0.5), "µs", None);
            figure(ERROR, case(&format!("{what} p99")), part(errors, 0.99), "µs", None);
        }
        figure(BOUND, case(" p50"), part(&mut bounds_us, 0.5), "µs", None);
        figure(BOUND, case(" p99"), part(&mut bounds_us, 0.99), "µs", None);
        figure(OUTSIDE, case(""), f64::from(outside), "seconds", Some(0.0));
    }
}

impl Link {
    fn exchanges(&self, random: &mut SplitMix) -> Vec<ClockExchange> {
        let mut exchanges = Vec::new();
        let mut schedule = Schedule::starting(Nanos(0));
        while schedule.due() < Nanos::from_secs(LINK_S) {
            let due = schedule.due();
            let mut now = START + due.0.unsigned_abs();
            // The burst is due: the questions are sent one after the other.
            let _ = schedule.on_time(due);
            for _ in 0..BURST_EXCHANGES {
                let arrives = now + self.delay(self.floor_ns.0, random);
                let comes = arrives + BOARD_NS + self.delay(self.floor_ns.1, random);
                exchanges.push(ClockExchange {
                    host_sent: HostTime(now),
                    board_received: board(arrives),
                    board_sent: board(arrives + BOARD_NS),
                    host_received: HostTime(comes),
                });
                now = comes + 20_000;
                let _ = schedule.on_answer();
            }
        }
        exchanges
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "delays are positive and below a second"
    )]
    fn delay(&self, floor_ns: u64, random: &mut SplitMix) -> u64 {
        let mut tail_ns = random.exponential() * self.tail_ns;
        if random.uniform() < self.late.0 {
            tail_ns += random.exponential() * self.late.1;
        }
        floor_ns + tail_ns as u64
    }
}

/// Board's clock less the host's, in ns.
#[expect(clippy::cast_possible_truncation, reason = "some thousand ns")]
fn truth(host_ns: u64) -> i64 {
    OFFSET_NS + (host_ns.saturating_sub(START) as f64 * SKEW).round() as i64
}

fn board(host_ns: u64) -> BoardTime {
    BoardTime(host_ns.saturating_add_signed(truth(host_ns)))
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// The value that a part `share` of all do not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn part(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (share * values.len() as f64) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
