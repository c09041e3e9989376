//! Who may come in: limits on peers that have asked for nothing yet.
//!
//! Owns the count of new connections. Pure: [`super::serve`] and the gate accept, and
//! turn away whom the door does not let in. A peer that is turned away costs one
//! accepted socket and a farewell of a few bytes, and no memory after that.
//! Source of the bounds: records-and-reliability §4, "Exposure and limits".

use wattline_protocol::units::{BoardTime, Nanos};

/// Peers at a time that have asked for nothing yet.
pub(super) const PENDING_MAX: usize = 8;
/// New peers in a second.
pub(super) const NEW_A_SECOND_MAX: u32 = 10;
const SECOND: Nanos = Nanos::from_secs(1);

/// Counts new peers by the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door {
    since: BoardTime,
    let_in: u32,
    turned_away: u64,
}

impl Door {
    /// A door that nobody came through.
    #[must_use]
    pub(crate) const fn new(now: BoardTime) -> Self {
        Self { since: now, let_in: 0, turned_away: 0 }
    }

    /// A peer knocks; false where too many came within this second.
    #[must_use]
    pub(crate) fn knock(&mut self, now: BoardTime) -> bool {
        if now - self.since >= SECOND {
            (self.since, self.let_in) = (now, 0);
        }
        let may_enter = self.let_in < NEW_A_SECOND_MAX;
        if may_enter {
            self.let_in += 1;
        }
        may_enter
    }

    /// True where nobody came within this second.
    #[must_use]
    pub(crate) fn is_quiet(&self, now: BoardTime) -> bool {
        now - self.since >= SECOND
    }

    /// A peer was turned away, for whatever reason; true where that is to be
    /// said: at the first, the tenth, the hundredth, so that a flood of them
    /// does not fill the journal.
    #[must_use]
    pub(crate) fn turn_away(&mut self) -> bool {
        self.turned_away = self.turned_away.saturating_add(1);
        self.turned_away == 10_u64.saturating_pow(self.turned_away.ilog10())
    }

    /// Peers turned away so far.
    #[must_use]
    pub(crate) const fn turned_away(&self) -> u64 {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_ten_a_second_come_in() {
        let mut door = Door::new(BoardTime(0));
        let knocks = (0..10_000_u64).map(|knock| BoardTime(knock * 6_000_000));
        let let_in = knocks.filter(|&now| door.knock(now)).count();
        assert!((590..=610).contains(&let_in), "{let_in} in a minute");
    }

    #[test]
    fn a_host_that_comes_back_now_and_then_is_always_let_in() {
        let mut door = Door::new(BoardTime(0));
        assert!((0..1_000_u64).all(|knock| door.knock(BoardTime(knock * 200_000_000))));
    }

    #[test]
    fn a_flood_is_said_in_few_lines() {
        let mut door = Door::new(BoardTime(0));
        let said = (0..10_000).filter(|_| door.turn_away()).count();
        assert_eq!((said, door.turned_away()), (5, 10_000));
    }
}
