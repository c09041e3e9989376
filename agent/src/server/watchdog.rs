//! The watchdog of the service manager: fed only while samples advance.
//!
//! Owns the judgement whether each sampler has moved since the last feed. An
//! agent that answers and no longer samples is worse than one that restarts, so
//! a sampler that hangs in the kernel starves the watchdog, and systemd starts a
//! clean process. A sweep that failed is a sweep: a dead bus is recorded as one
//! and is no reason to end. While nothing is sampled the main loop feeds, and
//! with it the hub, which must have answered.
//! Source: sd_notify(3), `WATCHDOG=1`; systemd.service(5), `WatchdogSec=`.

use crate::power::sampler::Beat;

/// What was seen of the samplers since the last feed.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// Counts at the last feed.
    fed_at: Vec<u64>,
}

impl Watchdog {
    /// Whether to feed now: no sampler is at work, or each has stepped since the
    /// last feed. Samplers of a new run are others: what was counted of those
    /// before says nothing of them.
    pub fn look(&mut self, beats: &[Beat]) -> bool {
        let now: Vec<u64> = beats.iter().map(Beat::count).collect();
        let mut pairs = now.iter().zip(&self.fed_at);
        let feeds = now.len() != self.fed_at.len()
            || pairs.all(|(now, before)| now != before || *now == Beat::STOPPED);
        if feeds {
            self.fed_at = now;
        }
        feeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_agent_feeds_at_every_look() {
        let mut watchdog = Watchdog::default();
        assert!(watchdog.look(&[]) && watchdog.look(&[]));
    }

    #[test]
    fn one_stuck_sampler_of_two_starves_the_watchdog_until_it_steps_again() {
        let beats = [Beat::default(), Beat::default()];
        let mut watchdog = Watchdog::default();
        assert!(watchdog.look(&beats));
        beats[0].step();
        assert!(!watchdog.look(&beats));
        beats[0].step();
        assert!(!watchdog.look(&beats));
        // A slow sampler need not step between two looks, only between two feeds.
        beats[1].step();
        assert!(watchdog.look(&beats));
    }

    #[test]
    fn samplers_that_were_told_to_stop_and_those_of_a_new_run_starve_nothing() {
        let mut watchdog = Watchdog::default();
        let first = [Beat::default(), Beat::default()];
        assert!(watchdog.look(&first));
        first.iter().for_each(Beat::stop);
        assert!(watchdog.look(&first) && watchdog.look(&first));
        assert!(watchdog.look(&[Beat::default()]));
    }
}
