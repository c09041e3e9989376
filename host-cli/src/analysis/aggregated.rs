//! Samples that went for want of room, by what is left of them.
//!
//! Owns the way from a part's sums to points that have the same energy, and what
//! is in doubt about it. Which samples went was the board's to decide.
//!
//! The points of a part are as many as the conversions were and lie evenly
//! between the first and the last one; the sum of their power codes is that of
//! the conversions. So the energy of a window that holds the whole part is what
//! it was, but for how the load lay within the part. That is stated: as if each
//! conversion lay anywhere between the least and the largest (a rectangular law,
//! JCGM 100, 4.3.7), and where a window's edge cuts the part, as if all that is on
//! the shorter side of the cut did.

use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::record::{AggregatePart, ChipDescription, RailAggregate, RailDescription};
use wattline_protocol::units::{BoardTime, Nanos};

use super::energy::{Point, Sensor};
use crate::recording::Recording;

/// Points of a part at most: so many in each period expected. A part that says
/// more is not believed, and no file makes us hold more points than that.
const POINTS_A_PERIOD: f64 = 2.0;

/// A part of a rail, as far as its energy goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    from: BoardTime,
    to: BoardTime,
    sums: RailAggregate,
}

/// The parts of a rail that touch a stretch of time, in order and apart.
fn parts(
    recording: &Recording,
    epoch: u32,
    (rail, chip): (&RailDescription, &ChipDescription),
    (t0, t1): (BoardTime, BoardTime),
) -> Vec<Part> {
    let slot = usize::from(rail.slot);
    let ours = recording.aggregates.iter().map(|record| &record.record).filter(|record| {
        let [lane, ..] = record.stream.to_le_bytes();
        (record.epoch, lane) == (epoch, chip.lane)
    });
    let touching = ours.flat_map(|record| &record.parts).filter_map(|part| {
        let AggregatePart { from, to, rails, .. } = part;
        let sums = *rails.get(slot)?;
        let touches = *from <= t1 && *to >= t0 && from <= to && sums.count > 0;
        touches.then_some(Part { from: *from, to: *to, sums })
    });
    let mut parts: Vec<Part> = touching.collect();
    parts.sort_by_key(|part| part.from);
    parts.dedup_by(|later, before| later.from <= before.to);
    parts
}

/// Points that stand for the aggregates of a rail in a stretch of time, in order.
pub(super) fn points(
    recording: &Recording,
    epoch: u32,
    described: (&RailDescription, &ChipDescription),
    stretch: (BoardTime, BoardTime),
) -> Vec<Point> {
    let sensor = Sensor::new(described.0, described.1);
    parts(recording, epoch, described, stretch)
        .iter()
        .flat_map(|part| part.points(&sensor))
        .collect()
}

/// Standard uncertainty, in joules, of a rail's energy in a stretch of time for
/// what is only known by aggregates; `None` where nothing is.
pub(super) fn doubt_j(
    recording: &Recording,
    epoch: u32,
    described: (&RailDescription, &ChipDescription),
    (t0, t1): (BoardTime, BoardTime),
) -> Option<f64> {
    let sensor = Sensor::new(described.0, described.1);
    let parts = parts(recording, epoch, described, (t0, t1));
    let doubts = parts.iter().map(|part| part.doubt_j(&sensor, t0, t1).powi(2));
    let squares: f64 = doubts.sum();
    (!parts.is_empty()).then_some(squares.sqrt())
}

impl Part {
    /// Points with the part's sum of power codes and of bus codes.
    fn points(&self, sensor: &Sensor) -> Vec<Point> {
        let seconds = (self.to - self.from).as_seconds().0;
        let most = seconds / sensor.period_s() * POINTS_A_PERIOD + 1.0;
        let count = f64::from(self.sums.count).min(most).max(1.0);
        let step_ns = if count > 1.0 { seconds * 1e9 / (count - 1.0) } else { 0.0 };
        let points = whole(count);
        let sums = [i128::from(self.sums.bus_sum), self.sums.power_sum];
        // What a sum is after so many points, each of which has its share.
        let conversions = i128::from(self.sums.count);
        let after = |sum: i128, place: i64| {
            rounded(saturating(sum, i128::from(place)), conversions.min(i128::from(points)))
        };
        let [bus_sum, power_sum] = sums.map(|sum| {
            if conversions <= i128::from(points) {
                return sum;
            }
            rounded(saturating(sum, i128::from(points)), conversions)
        });
        let mut made = 0_i128;
        let point = |place: i64| {
            let bus = after(bus_sum, place + 1) - after(bus_sum, place);
            let shunt = rounded(after(power_sum, place + 1) - made, bus);
            made = made.saturating_add(saturating(shunt, bus));
            #[expect(clippy::cast_possible_truncation, reason = "below a second's nanoseconds")]
            #[expect(clippy::cast_precision_loss, reason = "points of a second are few")]
            let later = Nanos((place as f64 * step_ns) as i64);
            Point {
                at: sensor.centre(self.from + later),
                shunt: ShuntCode(code(shunt)),
                bus: BusCode(code(bus)),
                overrange: false,
            }
        };
        (0..points).map(point).collect()
    }

    /// What is in doubt about the energy within a stretch, in joules (k = 1).
    fn doubt_j(&self, sensor: &Sensor, t0: BoardTime, t1: BoardTime) -> f64 {
        let span_w = self.span_w(sensor);
        let period_s = sensor.period_s();
        let (from, to) = (sensor.centre(self.from), sensor.centre(self.to));
        let length_s = (to - from).as_seconds().0 + period_s;
        let inside = (to.min(t1) - from.max(t0)).as_seconds().0 + period_s;
        let inside = inside.clamp(0.0, length_s);
        let cut_s = inside.min(length_s - inside);
        let conversions = f64::from(self.sums.count.max(1));
        let within_s = inside / conversions.sqrt();
        // Half a width of a rectangle over √3.
        span_w / 12.0_f64.sqrt() * cut_s.hypot(within_s).hypot(period_s)
    }

    /// From the least to the largest power, in watts.
    fn span_w(&self, sensor: &Sensor) -> f64 {
        let scale = sensor.scale();
        let watts_a_code = scale.shunt_lsb_v / scale.shunt_ohm * scale.bus_lsb_v;
        let codes = i128::from(self.sums.largest) - i128::from(self.sums.least);
        #[expect(clippy::cast_precision_loss, reason = "an uncertainty of 53 bits is enough")]
        let codes = codes as f64;
        codes.abs() * watts_a_code.abs()
    }
}

/// The product; sums of a file that lies saturate.
const fn saturating(one: i128, other: i128) -> i128 {
    one.saturating_mul(other)
}

/// The quotient, rounded to the nearest; 0 for a divisor of 0.
fn rounded(number: i128, divisor: i128) -> i128 {
    if divisor == 0 {
        return 0;
    }
    let (number, divisor) =
        if divisor < 0 { (number.saturating_neg(), -divisor) } else { (number, divisor) };
    number.saturating_add(divisor / 2).div_euclid(divisor)
}

fn code(value: i128) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

#[expect(clippy::cast_possible_truncation, reason = "a bounded count of points")]
fn whole(count: f64) -> i64 {
    count as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wattline_protocol::record::SampleAggregates;

    use super::*;
    use crate::analysis::energy::integrate;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    const START_NS: u64 = 110_000_000_000;

    fn part(codes: &[(i32, i32)], from_ns: u64, period_ns: u64) -> AggregatePart {
        let mut sums = RailAggregate::default();
        codes.iter().for_each(|&(shunt, bus)| sums.add(shunt, bus));
        let rows = u32::try_from(codes.len()).unwrap();
        let to = BoardTime(from_ns + period_ns * u64::from(rows.saturating_sub(1)));
        AggregatePart { from: BoardTime(from_ns), to, rows, rails: vec![sums; 3] }
    }

    fn with(parts: Vec<AggregatePart>) -> Recording {
        let mut recording = Synthetic::default().recording();
        let lane = recording.start_of(1).unwrap().chips[0].lane;
        let stream = 256 + u32::from(lane);
        let record = SampleAggregates { epoch: 1, stream, first: 0, next: 1, parts };
        recording.aggregates.push(InEpoch { epoch: 1, record });
        recording
    }

    fn described(recording: &Recording) -> (&RailDescription, &ChipDescription) {
        let start = recording.start_of(1).unwrap();
        (&start.rails[0], &start.chips[0])
    }

    #[test]
    fn an_energy_of_aggregates_is_that_of_the_samples_with_a_larger_uncertainty() {
        // A load that jumps: most of what an aggregate hides.
        let codes: Vec<(i32, i32)> =
            (0..1000).map(|row| if row % 100 < 30 { (900, 615) } else { (300, 620) }).collect();
        let recording = with(vec![part(&codes, START_NS, 1_000_000)]);
        let (rail, chip) = described(&recording);
        let sensor = Sensor::new(rail, chip);
        let stretch = (BoardTime(START_NS - 5_000_000), BoardTime(START_NS + 1_005_000_000));
        let points = points(&recording, 1, (rail, chip), stretch);
        assert_eq!(points.len(), 1000);
        let (t0, t1) = (points[0].at, points[999].at);
        let told = integrate(&points, &sensor, t0, t1).unwrap().joules;
        let raw: Vec<Point> = codes
            .iter()
            .zip(&points)
            .map(|(&(shunt, bus), point)| Point {
                shunt: ShuntCode(shunt),
                bus: BusCode(bus),
                ..*point
            })
            .collect();
        let truth = integrate(&raw, &sensor, t0, t1).unwrap().joules;
        let doubt = doubt_j(&recording, 1, (rail, chip), (t0, t1)).unwrap();
        assert!((told / truth - 1.0).abs() < 2e-3, "{told} J against {truth} J");
        assert!((told - truth).abs() < 2.0 * doubt, "{told} J, {truth} J, u = {doubt} J");
        assert!(doubt < 0.05 * truth, "{doubt} J of {truth} J");
    }

    #[test]
    fn a_window_that_cuts_a_part_is_more_in_doubt_than_one_that_holds_it() {
        let codes: Vec<(i32, i32)> = (0..1000).map(|row| (300 + row % 50, 620)).collect();
        let recording = with(vec![part(&codes, START_NS, 1_000_000)]);
        let described = described(&recording);
        let doubt = |t0, t1| doubt_j(&recording, 1, described, (BoardTime(t0), BoardTime(t1)));
        let whole = doubt(START_NS - 10_000_000, START_NS + 1_010_000_000).unwrap();
        let cut = doubt(START_NS + 500_000_000, START_NS + 1_010_000_000).unwrap();
        assert!(cut > 5.0 * whole, "{cut} against {whole}");
        assert_eq!(doubt(START_NS + 2_000_000_000, START_NS + 3_000_000_000), None);
    }

    #[test]
    fn parts_that_overlap_or_claim_too_much_make_no_more_points_than_time_has() {
        let mut liar = part(&[(300, 620); 10], START_NS, 1_000_000);
        for rail in &mut liar.rails {
            rail.count = u32::MAX;
            rail.power_sum = i128::MAX;
            rail.bus_sum = i64::MIN;
        }
        let recording = with(vec![liar; 1000]);
        let stretch = (BoardTime(START_NS - 1), BoardTime(START_NS + 1_000_000_000));
        let points = points(&recording, 1, described(&recording), stretch);
        assert!(points.len() < 100, "{} points", points.len());
    }

    proptest! {
        #[test]
        fn points_have_the_sum_of_the_power_codes_they_stand_for(
            codes in proptest::collection::vec((-4000_i32..4000, 400_i32..4000), 1..300),
        ) {
            let recording = with(vec![part(&codes, START_NS, 1_000_000)]);
            let stretch = (BoardTime(0), BoardTime(u64::MAX / 2));
            let points = points(&recording, 1, described(&recording), stretch);
            let power = |shunt: i32, bus: i32| i64::from(shunt) * i64::from(bus);
            let made: i64 = points.iter().map(|point| power(point.shunt.0, point.bus.0)).sum();
            let truth: i64 = codes.iter().map(|&(shunt, bus)| power(shunt, bus)).sum();
            // The last point's rounding is all that is left.
            prop_assert!((made - truth).abs() <= 4000, "{} against {}", made, truth);
        }
    }
}
