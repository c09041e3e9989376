//! A board's own table of shunt offsets, as its device tree has it.
//!
//! Owns the table of one rail and what it makes of a voltage. Codes travel raw:
//! the host applies it.
//! Source: NVIDIA L4T `drivers/staging/iio/meter/ina3221.c`, property
//! `shunt-volt-offset-uv`.

use serde::{Deserialize, Serialize};

/// Offsets of one rail's shunt voltage. What is read is farther from 0 than the
/// true voltage by the offset: it is subtracted at 0 and above, added below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuntOffsets {
    /// Index into [`RunStart::rails`](super::RunStart::rails).
    pub rail: u16,
    /// The offset where no range holds the voltage, in µV.
    pub general_uv: i32,
    /// Ranges with an offset of their own; the first that holds the voltage counts.
    pub ranges: Vec<OffsetRange>,
}

/// Shunt voltages that have an offset of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OffsetRange {
    /// Least shunt voltage, in µV.
    pub from_uv: i32,
    /// Largest shunt voltage, in µV.
    pub to_uv: i32,
    /// Its offset, in µV.
    pub offset_uv: i32,
}

/// The shunt voltage without the board's offset, in volts.
#[must_use]
pub fn without_offset(volts: f64, general_uv: i32, ranges: &[OffsetRange]) -> f64 {
    let uv = volts * 1e6;
    let holds =
        |range: &&OffsetRange| uv >= f64::from(range.from_uv) && uv <= f64::from(range.to_uv);
    let offset_uv = ranges.iter().find(holds).map_or(general_uv, |range| range.offset_uv);
    let offset_v = f64::from(offset_uv) * 1e-6;
    if volts >= 0.0 { volts - offset_v } else { volts + offset_v }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_counts_before_the_general_offset_and_the_sign_follows() {
        let range = |from_uv, to_uv, offset_uv| OffsetRange { from_uv, to_uv, offset_uv };
        let ranges = [range(0, 5_000, 80), range(4_000, 20_000, 120)];
        let uv = |read: f64| (without_offset(read * 1e-6, 40, &ranges) * 1e6).round();
        assert_eq!([uv(4_500.0), uv(6_000.0), uv(30_000.0)], [4_420.0, 5_880.0, 29_960.0]);
        // At 0 and above it is subtracted, below added.
        assert_eq!([uv(0.0), uv(-200.0)], [-80.0, -160.0]);
    }
}
