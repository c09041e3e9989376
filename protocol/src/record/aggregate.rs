//! What is left of samples that went for want of room.
//!
//! Owns the sums over a second, or less, of one chip's rows. In codes, as the
//! samples were: a wrong shunt is still corrected afterwards. Makes no energy
//! of them.

use serde::{Deserialize, Serialize};

use crate::units::BoardTime;

/// Aggregates of rows that a gap record, or a hole, says are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleAggregates {
    /// Epoch of the rows.
    pub epoch: u32,
    /// Stream of the rows.
    pub stream: u32,
    /// Number of the first row.
    pub first: u64,
    /// One past the number of the last row.
    pub next: u64,
    /// In order of time, not overlapping; no part crosses a whole second of the
    /// board's clock, nor the edge of a window that was known.
    pub parts: Vec<AggregatePart>,
}

/// Rows that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregatePart {
    /// End of the first row.
    pub from: BoardTime,
    /// End of the last row; the same where it is one.
    pub to: BoardTime,
    /// Rows, those without a new conversion among them.
    pub rows: u32,
    /// By the slot of the rail on the chip.
    pub rails: Vec<RailAggregate>,
}

/// Sums over the rows of a part that are new conversions of the rail. A *power
/// code* is shunt code × bus code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RailAggregate {
    /// New conversions.
    pub count: u32,
    /// Least power code; 0 where the count is.
    pub least: i64,
    /// Largest power code; 0 where the count is.
    pub largest: i64,
    /// Sum of the power codes.
    pub power_sum: i128,
    /// Sum of the shunt codes.
    pub shunt_sum: i64,
    /// Sum of the bus codes.
    pub bus_sum: i64,
}

impl RailAggregate {
    /// Adds a row's codes.
    pub fn add(&mut self, shunt: i32, bus: i32) {
        let power = i64::from(shunt) * i64::from(bus);
        let first = self.count == 0;
        self.count = self.count.saturating_add(1);
        self.least = if first { power } else { self.least.min(power) };
        self.largest = if first { power } else { self.largest.max(power) };
        self.power_sum = self.power_sum.saturating_add(i128::from(power));
        self.shunt_sum = self.shunt_sum.saturating_add(i64::from(shunt));
        self.bus_sum = self.bus_sum.saturating_add(i64::from(bus));
    }

    /// Adds the sums of other rows.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let first = self.count == 0;
        self.count = self.count.saturating_add(other.count);
        self.least = if first { other.least } else { self.least.min(other.least) };
        self.largest = if first { other.largest } else { self.largest.max(other.largest) };
        self.power_sum = self.power_sum.saturating_add(other.power_sum);
        self.shunt_sum = self.shunt_sum.saturating_add(other.shunt_sum);
        self.bus_sum = self.bus_sum.saturating_add(other.bus_sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Record, kind};

    proptest! {
        #[test]
        fn the_mean_lies_between_the_least_and_the_largest(
            codes in proptest::collection::vec((any::<i32>(), any::<i32>()), 1..200),
        ) {
            let mut rail = RailAggregate::default();
            for &(shunt, bus) in &codes {
                rail.add(shunt, bus);
            }
            let count = i128::from(rail.count);
            prop_assert_eq!(usize::try_from(rail.count), Ok(codes.len()));
            prop_assert!(i128::from(rail.least) * count <= rail.power_sum);
            prop_assert!(i128::from(rail.largest) * count >= rail.power_sum);
        }

        #[test]
        fn sums_of_parts_are_the_sum_of_the_whole(
            codes in proptest::collection::vec((any::<i32>(), any::<i32>()), 0..100),
            cut in 0_usize..100,
        ) {
            let sum = |codes: &[(i32, i32)]| {
                let mut rail = RailAggregate::default();
                codes.iter().for_each(|&(shunt, bus)| rail.add(shunt, bus));
                rail
            };
            let (before, after) = codes.split_at(cut.min(codes.len()));
            let mut merged = sum(before);
            merged.merge(&sum(after));
            prop_assert_eq!(merged, sum(&codes));
        }

        #[test]
        fn aggregates_come_back_as_they_went(
            first: u64,
            parts in proptest::collection::vec((any::<u64>(), any::<u32>(), any::<i32>(), any::<i32>()), 0..50),
        ) {
            let part = |&(from, rows, shunt, bus): &(u64, u32, i32, i32)| {
                let mut rail = RailAggregate::default();
                rail.add(shunt, bus);
                AggregatePart { from: BoardTime(from), to: BoardTime(from), rows, rails: vec![rail; 3] }
            };
            let parts = parts.iter().map(part).collect();
            let record = Record::from(SampleAggregates { epoch: 1, stream: 16, first, next: first, parts });
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            prop_assert_eq!(Record::decode(kind::SAMPLE_AGGREGATES, &bytes).unwrap(), record);
        }
    }
}
