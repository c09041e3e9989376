//! When a runner is warm: the rule, and the tally it judges.
//!
//! Pure. Owns the thresholds of the warm-up; knows nothing of windows.
//! Time-based settling instead of a count, after Zeus (ml-energy/zeus#263):
//! a count that suits one network is far off for another.

use wattline_protocol::record::WarmUp;
use wattline_protocol::units::Nanos;

/// Most lengths a tally keeps: the newest decide.
const KEPT: usize = 512;

/// When a warm-up is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUpRule {
    /// Least time of inferences.
    pub least: Nanos,
    /// Least inferences.
    pub inferences_min: u32,
    /// Largest change between the mean lengths of the last two thirds, in
    /// thousandths; `None`: steadiness is not judged.
    pub change_permille_max: Option<u32>,
    /// Time at which the warm-up ends whether steady or not.
    pub most: Nanos,
}

impl WarmUpRule {
    /// The whole method: 3 s and 6 inferences at least, means of the last two
    /// thirds within 2 %, 60 s at most.
    pub const FULL: Self = Self {
        least: Nanos::from_secs(3),
        inferences_min: 6,
        change_permille_max: Some(20),
        most: Nanos::from_secs(60),
    };

    /// A first look: one inference and 0.2 s.
    pub const QUICK: Self = Self {
        least: Nanos::from_millis(200),
        inferences_min: 1,
        change_permille_max: None,
        most: Nanos::from_secs(5),
    };

    /// `None` while the warm-up goes on, else whether it ended steady.
    #[must_use]
    pub fn judge(&self, tally: &Tally) -> Option<bool> {
        let enough = tally.inferences >= self.inferences_min && tally.length >= self.least;
        let steady = match self.change_permille_max {
            None => true,
            Some(limit) => tally.change_permille().is_some_and(|change| change <= limit),
        };
        if enough && steady {
            Some(true)
        } else if tally.length >= self.most && tally.inferences > 0 {
            Some(false)
        } else {
            None
        }
    }
}

/// Inferences of a warm-up so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    inferences: u32,
    length: Nanos,
    lengths: Vec<i64>,
}

impl Tally {
    /// Counts one inference.
    pub fn add(&mut self, length: Nanos) {
        self.inferences = self.inferences.saturating_add(1);
        self.length = self.length + length;
        if self.lengths.len() == KEPT {
            self.lengths.remove(0);
        }
        self.lengths.push(length.0);
    }

    /// The warm-up as a record.
    #[must_use]
    pub fn report(&self, steady: bool) -> WarmUp {
        WarmUp {
            inferences: self.inferences,
            length_ns: u64::try_from(self.length.0).unwrap_or(0),
            steady,
        }
    }

    /// Change between the mean lengths of the last and the second-last third,
    /// in thousandths of the latter; `None` below six inferences.
    #[must_use]
    pub fn change_permille(&self) -> Option<u32> {
        let third = self.lengths.len() / 3;
        if third < 2 {
            return None;
        }
        let (before, last) = self.lengths.get(self.lengths.len() - 2 * third..)?.split_at(third);
        let (before, last) = (before.iter().sum::<i64>(), last.iter().sum::<i64>());
        let change =
            (i128::from(last) - i128::from(before)).abs() * 1000 / i128::from(before.max(1));
        u32::try_from(change).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lengths_ms: impl IntoIterator<Item = i64>) -> Tally {
        let mut tally = Tally::default();
        for length in lengths_ms {
            tally.add(Nanos::from_millis(length));
        }
        tally
    }

    #[test]
    fn equal_inferences_are_steady_after_three_seconds() {
        assert_eq!(WarmUpRule::FULL.judge(&tally([500; 5])), None);
        assert_eq!(WarmUpRule::FULL.judge(&tally([500; 6])), Some(true));
    }

    #[test]
    fn inferences_that_still_get_faster_are_not_steady() {
        assert_eq!(WarmUpRule::FULL.judge(&tally((1..=9).map(|i| 1000 - 50 * i))), None);
    }

    #[test]
    fn a_warm_up_ends_at_its_limit_and_says_that_it_was_not_steady() {
        assert_eq!(WarmUpRule::FULL.judge(&tally([61_000])), Some(false));
    }

    #[test]
    fn one_inference_is_enough_for_a_quick_look() {
        assert_eq!(WarmUpRule::QUICK.judge(&tally([199])), None);
        assert_eq!(WarmUpRule::QUICK.judge(&tally([200])), Some(true));
    }
}
