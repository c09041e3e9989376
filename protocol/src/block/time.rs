//! The time column: how late each row is against a straight line.
//!
//! Owns the line and its fit. Knows nothing of clocks.
//!
//! A timer with absolute deadlines is late now and then, never early. So the
//! line is the one that lies below all rows and closest to them in sum: the
//! edge of the lower convex hull under the middle row. One late row does not
//! tilt it, as it would tilt a least-squares line, and the distances need no
//! sign. Theory: D. Kirkpatrick, R. Seidel, SIAM J. Comput. 15 (1986), the
//! "bridge" of their hull, sought here by Newton's steps.

use super::bits::{BitReader, BitWriter, low_u32};
use super::residual::{self, CHUNK};
use super::{BlockCodec, BlockError};

/// Fraction bits of the slope while it is sought, and at most on the wire.
const FRACTION: u32 = 16;
/// Span of ticks within which a line is sought: 2⁴⁴ µs are 203 days; 16 bits
/// of fraction and a sign fit above.
const SPAN_MAX: u64 = 1 << 44;
/// Steps of the search; two to four are usual, and any line is a valid one.
const STEPS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    start: u64,
    period: u64,
    fraction: u32,
}

impl Line {
    /// Ticks of row `row` above this line.
    #[inline(always)]
    fn above(self, row: u64, ticks: u64) -> u64 {
        let along = row.wrapping_mul(self.period).wrapping_shr(self.fraction);
        ticks.wrapping_sub(self.start).wrapping_sub(along)
    }

    /// Lets the line start so low that no row is below it; gives the sum of
    /// the distances, 0 where they overflow.
    fn lowered(mut self, times: &[u64]) -> (Self, u64) {
        let mut lowest = i64::MAX;
        let mut sum = 0_u64;
        for (row, &ticks) in (0_u64..).zip(times) {
            let above = self.above(row, ticks);
            lowest = lowest.min(above.cast_signed());
            sum = sum.wrapping_add(above);
        }
        let rows = u64::try_from(times.len()).unwrap_or(0);
        self.start = self.start.wrapping_add_signed(lowest);
        (self, sum.wrapping_sub(rows.wrapping_mul(lowest.cast_unsigned())))
    }
}

/// Writes the line and each row's distance above it.
pub(super) fn write(times: &[u64], codec: BlockCodec, writer: &mut BitWriter<'_>) {
    if times.is_empty() {
        return;
    }
    let line = fit(times);
    writer.put_number(line.start);
    writer.put(u64::from(line.fraction), 5);
    writer.put_number(line.period);
    let rows = (0_u64..).zip(times.iter().copied());
    let all = rows.clone().fold(0, |all, (row, ticks)| all | line.above(row, ticks));
    let is_wide = all > u64::from(u32::MAX);
    writer.put(u64::from(is_wide), 1);
    if is_wide {
        rows.for_each(|(row, ticks)| writer.put_wide(line.above(row, ticks), u64::BITS));
        return;
    }
    let mut buffer = [0_u32; CHUNK];
    let mut row = 0_u64;
    for chunk in times.chunks(CHUNK) {
        for (value, &ticks) in buffer.iter_mut().zip(chunk) {
            *value = low_u32(line.above(row, ticks));
            row = row.wrapping_add(1);
        }
        residual::write(buffer.get(..chunk.len()).unwrap_or(&[]), codec, writer);
    }
}

/// Reads as many times as `times` holds.
pub(super) fn read(
    times: &mut [u64],
    codec: BlockCodec,
    reader: &mut BitReader<'_>,
) -> Result<(), BlockError> {
    if times.is_empty() {
        return Ok(());
    }
    let start = reader.take_number();
    let fraction = reader.take_u32(5);
    let period = reader.take_number();
    let is_wide = reader.take_u32(1) == 1;
    reader.check()?;
    let mut row = 0_u64;
    let mut at = |above: u64| {
        let along = row.wrapping_mul(period).wrapping_shr(fraction);
        row = row.wrapping_add(1);
        start.wrapping_add(along).wrapping_add(above)
    };
    if is_wide {
        for time in times {
            *time = at(reader.take_wide(u64::BITS));
        }
        return reader.check();
    }
    residual::read(times, codec, reader, |above| at(u64::from(above)))
}

fn fit(times: &[u64]) -> Line {
    let start = times.first().copied().unwrap_or(0);
    let span = times.iter().fold(0, |span, &ticks| span.max(ticks.wrapping_sub(start)));
    let slope = if span < SPAN_MAX { bridge(times, start) } else { 0 };
    let whole = slope.wrapping_add(1 << (FRACTION - 1)).wrapping_shr(FRACTION);
    let (whole, whole_sum) = Line { start, period: whole, fraction: 0 }.lowered(times);
    if slope.trailing_zeros() >= FRACTION {
        return whole;
    }
    // A fraction of four bits below one tick over the block is exact enough.
    let rows = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let fraction = rows.ilog2().saturating_add(3).min(FRACTION);
    let period = slope.wrapping_shr(FRACTION.wrapping_sub(fraction));
    let (fine, fine_sum) = Line { start, period, fraction }.lowered(times);
    let worth = u64::from(rows.wrapping_shr(3));
    if whole_sum <= fine_sum.saturating_add(worth) { whole } else { fine }
}

/// Slope of the line below all rows and closest to them, in 2⁻¹⁶ ticks a row.
fn bridge(times: &[u64], start: u64) -> u64 {
    let rows = u64::try_from(times.len()).unwrap_or(0);
    let last = times.last().copied().unwrap_or(start).wrapping_sub(start);
    let mut slope = last.wrapping_shl(FRACTION).checked_div(rows.wrapping_sub(1)).unwrap_or(0);
    let (left, right) = times.split_at(times.len() / 2);
    let middle = u64::try_from(left.len()).unwrap_or(0);
    for _ in 0..STEPS_MAX {
        let (left_row, left_ticks) = lowest(left, 0, start, slope);
        let (right_row, right_ticks) = lowest(right, middle, start, slope);
        let rise = right_ticks.saturating_sub(left_ticks).wrapping_shl(FRACTION);
        let steeper = rise.checked_div(right_row.wrapping_sub(left_row)).unwrap_or(slope);
        if steeper == slope {
            break;
        }
        slope = steeper;
    }
    slope
}

/// The row that is lowest against a slope, and its ticks since `start`.
fn lowest(times: &[u64], first_row: u64, start: u64, slope: u64) -> (u64, u64) {
    let mut found = (first_row, 0);
    let mut least = i64::MAX;
    let mut along = first_row.wrapping_mul(slope);
    for (row, &ticks) in (first_row..).zip(times) {
        let ticks = ticks.wrapping_sub(start);
        let above = ticks.wrapping_shl(FRACTION).wrapping_sub(along).cast_signed();
        if above < least {
            least = above;
            found = (row, ticks);
        }
        along = along.wrapping_add(slope);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(times: &[u64]) -> usize {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        write(times, BlockCodec::Rice, &mut writer);
        writer.finish();
        let mut back = vec![0; times.len()];
        let mut reader = BitReader::new(&bytes);
        assert_eq!(read(&mut back, BlockCodec::Rice, &mut reader), Ok(()));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(back, times);
        bytes.len()
    }

    #[test]
    fn times_that_run_backwards_or_around_come_back() {
        for times in [
            &[][..],
            &[0],
            &[u64::MAX],
            &[u64::MAX, 0, 1 << 63, 5],
            &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
            &[0, 1 << 50, 0, u64::MAX],
            &[3; 200],
        ] {
            there_and_back(times);
        }
    }

    #[test]
    fn an_exact_timer_costs_a_bit_a_row_and_its_line() {
        let times: Vec<u64> = (0..512).map(|row| (1 << 30) + row * 1_000).collect();
        assert!(there_and_back(&times) < 512 / 8 + 16);
        let sevenths: Vec<u64> = (0..1_024).map(|row| 5_000 + row * 1_000_000 / 7_000).collect();
        assert!(there_and_back(&sevenths) < 1_024 * 2 / 8);
    }

    #[test]
    fn one_late_row_does_not_tilt_the_line() {
        let late = |row| if row == 63 { 900 } else { row % 3 };
        let times: Vec<u64> = (0..64).map(|row| row * 1_000 + late(row)).collect();
        assert_eq!(fit(&times), Line { start: 0, period: 1_000, fraction: 0 });
    }
}
