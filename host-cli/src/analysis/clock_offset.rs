//! Board's clock against the host's, as a run's exchanges tell it.
//!
//! Owns the few numbers that stand for a whole run. The estimate itself is
//! [`wattline_protocol::clock_sync`]'s; no energy rests on it.

use wattline_protocol::clock_sync::{Burst, ClockExchange, ClockMap, Estimate};

use super::model::ClockOffset;

/// What the exchanges say; `None` without any.
#[must_use]
pub fn clock_offset(exchanges: &[ClockExchange]) -> Option<ClockOffset> {
    let map = ClockMap::of(exchanges);
    let at_bursts: Vec<(&Burst, Estimate)> =
        map.bursts().filter_map(|burst| Some((burst, map.at(burst.at)?))).collect();
    let (last, estimate) = at_bursts.last()?;
    let mut bounds: Vec<i64> = at_bursts.iter().map(|(_, estimate)| estimate.bound.0).collect();
    bounds.sort_unstable();
    Some(ClockOffset {
        offset: estimate.offset,
        bound: estimate.bound,
        at: last.at,
        skew_ppm: estimate.skew_ppm,
        bound_median_ns: bounds.get(bounds.len() / 2).copied().unwrap_or(0),
        bound_max_ns: bounds.last().copied().unwrap_or(0),
        bursts: at_bursts.len(),
        steps: map.steps(),
    })
}

#[cfg(test)]
mod tests {
    use wattline_protocol::units::{BoardTime, HostTime, Nanos};

    use super::*;

    #[test]
    fn the_last_burst_stands_for_the_run_and_the_worst_is_told() {
        let exchange = |second: u64, there: u64, back: u64| ClockExchange {
            host_sent: HostTime(second * 1_000_000_000),
            board_received: BoardTime(second * 1_000_000_000 + 500 + there),
            board_sent: BoardTime(second * 1_000_000_000 + 500 + there),
            host_received: HostTime(second * 1_000_000_000 + there + back),
        };
        let exchanges =
            [exchange(10, 100, 100), exchange(20, 4_000, 4_000), exchange(30, 200, 200)];
        let clock = clock_offset(&exchanges).unwrap();
        assert_eq!((clock.bursts, clock.steps), (3, 0));
        assert!((clock.offset - Nanos(500)).0.abs() <= 1, "{clock:?}");
        assert!((200..220).contains(&clock.bound.0), "{clock:?}");
        assert!((4_000..4_020).contains(&clock.bound_max_ns), "{clock:?}");
        assert_eq!(clock_offset(&[]), None);
    }
}
