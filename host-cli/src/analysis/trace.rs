//! Power over the run, thinned out for drawing.
//!
//! Owns the buckets: least, mean and largest power of each, and the breaks
//! where no sample lies. Integrates nothing.

use wattline_protocol::block::SampleRow;
use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::units::{BoardTime, Nanos};

use super::axis::Axis;
use super::energy::Sensor;
use super::error::AnalysisError;
use super::model::{Trace, TracePoint};
use super::rails::{ShuntCorrection, rails_of};
use crate::recording::{Recording, Summary};

/// Buckets of a run: twice the width of a page's figure in pixels.
const BUCKETS: u64 = 2_000;
/// A bucket holds at least this many expected samples, so that an empty one is
/// a gap and not a short bucket.
const SAMPLES_MIN: f64 = 4.0;

/// Traces of all rails from `from` to `to` on the axis of the run. A lane whose
/// store has summary levels is drawn from them where they are fine enough.
pub(super) fn traces(
    recording: &Recording,
    corrections: &[ShuntCorrection],
    axis: &Axis,
    (from, to): (BoardTime, BoardTime),
) -> Result<Vec<Trace>, AnalysisError> {
    let mut traces: Vec<Trace> = Vec::new();
    for lane in &recording.lanes {
        let shift = axis.shift(lane.epoch);
        let failed = |source| AnalysisError::Samples { epoch: lane.epoch, lane: lane.lane, source };
        let rails = rails_of(recording, lane.epoch, corrections)?.into_iter();
        let mut pens: Vec<(usize, Pen)> = rails
            .filter(|(_, _, chip)| chip.lane == lane.lane)
            .map(|(index, rail, chip)| {
                let slot = usize::from(rail.slot);
                (index, Pen::new(Sensor::new(&rail, chip), slot, from - shift, to - shift))
            })
            .collect();
        let width = pens.iter().map(|(_, pen)| pen.width_ns).max().unwrap_or(0);
        match lane.summary(Nanos(width.cast_signed())).map_err(failed)? {
            Some(summary) => {
                for (_, pen) in &mut pens {
                    pen.draw_summary(&summary);
                }
            }
            None => {
                let draw = |row: &SampleRow<'_>| {
                    pens.iter_mut().for_each(|(_, pen)| pen.draw(row));
                };
                lane.for_each_row(from - shift, to - shift, draw).map_err(failed)?;
            }
        }
        for (index, pen) in pens {
            let segments = pen.finish(shift);
            match traces.iter_mut().find(|trace| trace.rail == index) {
                Some(trace) => trace.segments.extend(segments),
                None => traces.push(Trace { rail: index, segments }),
            }
        }
    }
    traces.sort_by_key(|trace| trace.rail);
    Ok(traces)
}

/// Draws one rail, row by row or from a level.
struct Pen {
    sensor: Sensor,
    /// Place of the rail in its block.
    slot: usize,
    from: BoardTime,
    width_ns: u64,
    bucket: Option<Bucket>,
    /// Number of the bucket that was drawn last.
    last: Option<u64>,
    segments: Vec<Vec<TracePoint>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    number: u64,
    samples: f64,
    min_w: f64,
    sum_w: f64,
    max_w: f64,
}

impl Pen {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few periods in ns"
    )]
    fn new(sensor: Sensor, slot: usize, from: BoardTime, to: BoardTime) -> Self {
        let least_ns = (SAMPLES_MIN * sensor.period_s() * 1e9).max(1.0) as u64;
        let width_ns = (to.0.saturating_sub(from.0) / BUCKETS).max(least_ns);
        Self { sensor, slot, from, width_ns, bucket: None, last: None, segments: Vec::new() }
    }

    fn draw(&mut self, row: &SampleRow<'_>) {
        let Some(point) = self.sensor.point(row) else { return };
        let Some(after) = point.at.0.checked_sub(self.from.0) else { return };
        let watts = self.sensor.power(&point).0;
        let number = after / self.width_ns;
        self.add(Bucket { number, samples: 1.0, min_w: watts, sum_w: watts, max_w: watts });
    }

    /// Draws from a level. Buckets of the drawing are whole numbers of the
    /// level's, so that none is cut; rows are placed by their end, which the
    /// sensor's centre precedes by milliseconds.
    fn draw_summary(&mut self, summary: &Summary) {
        let width_ns = summary.width.0.cast_unsigned().max(1);
        self.width_ns = self.width_ns.div_ceil(width_ns).saturating_mul(width_ns);
        let start = self.from.0 / width_ns;
        let a_bucket = self.width_ns / width_ns;
        self.from = self.sensor.centre(BoardTime(start.saturating_mul(width_ns)));
        // Watts of one power code: shunt code times bus code.
        let step_w = self.sensor.scale().power(ShuntCode(1), BusCode(1)).0;
        for bucket in &summary.buckets {
            let Some(after) = bucket.number.checked_sub(start) else { continue };
            let rail = bucket.rails.get(self.slot).filter(|rail| rail.count > 0);
            let Some(rail) = rail else { continue };
            self.add(Bucket {
                number: after / a_bucket,
                samples: f64::from(rail.count),
                min_w: rail.least as f64 * step_w,
                sum_w: rail.sum as f64 * step_w,
                max_w: rail.largest as f64 * step_w,
            });
        }
    }

    fn add(&mut self, part: Bucket) {
        match self.bucket.as_mut().filter(|bucket| bucket.number == part.number) {
            Some(bucket) => bucket.add(&part),
            None => {
                let full = self.bucket.replace(part);
                self.close(full);
            }
        }
    }

    /// Draws a full bucket; one that does not follow the last begins anew.
    fn close(&mut self, bucket: Option<Bucket>) {
        let Some(bucket) = bucket else { return };
        let start = self.from.0.saturating_add(bucket.number.saturating_mul(self.width_ns));
        let point = TracePoint {
            at: BoardTime(start.saturating_add(self.width_ns / 2)),
            min_w: bucket.min_w,
            mean_w: bucket.sum_w / bucket.samples,
            max_w: bucket.max_w,
        };
        let follows = self.last.is_some_and(|last| last.checked_add(1) == Some(bucket.number));
        match self.segments.last_mut().filter(|_| follows) {
            Some(segment) => segment.push(point),
            None => self.segments.push(vec![point]),
        }
        self.last = Some(bucket.number);
    }

    fn finish(mut self, shift: Nanos) -> Vec<Vec<TracePoint>> {
        let bucket = self.bucket.take();
        self.close(bucket);
        for point in self.segments.iter_mut().flatten() {
            point.at = point.at + shift;
        }
        self.segments
    }
}

impl Bucket {
    fn add(&mut self, part: &Self) {
        self.samples += part.samples;
        self.min_w = self.min_w.min(part.min_w);
        self.sum_w += part.sum_w;
        self.max_w = self.max_w.max(part.max_w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::synthetic::Synthetic;
    use crate::store::Store;

    #[test]
    fn a_gap_of_the_samples_is_a_gap_of_the_trace() {
        let second = 1_000_000_000;
        let night = Synthetic { lost: (2 * second, 3 * second), ..Synthetic::default() };
        let recording = night.recording();
        let (from, to) = recording.lane(1, 1).unwrap().span().unwrap();
        let traces = traces(&recording, &[], &Axis::default(), (from, to)).unwrap();
        assert_eq!(traces.iter().map(|trace| trace.rail).collect::<Vec<_>>(), [0, 1]);
        let segments = &traces[0].segments;
        assert_eq!(segments.len(), 2);
        let gap = segments[1][0].at - segments[0].last().unwrap().at;
        assert!((gap.as_seconds().0 - 1.0).abs() < 0.05, "{gap:?}");
        assert!(segments.iter().map(Vec::len).sum::<usize>() <= 2_001);
    }

    #[test]
    fn a_bucket_holds_least_mean_and_largest() {
        let recording = Synthetic::default().recording();
        let (from, to) = recording.lane(1, 1).unwrap().span().unwrap();
        let trace = traces(&recording, &[], &Axis::default(), (from, to)).unwrap().remove(0);
        let points: Vec<_> = trace.segments.concat();
        assert!(points.iter().all(|p| p.min_w <= p.mean_w && p.mean_w <= p.max_w));
        let top = points.iter().map(|point| point.max_w).fold(0.0, f64::max);
        assert!((top - 12.0).abs() < 0.05, "{top}");
    }

    #[test]
    fn a_picture_from_levels_is_that_of_the_samples() {
        let night = Synthetic { windows: 20, ..Synthetic::default() };
        let mut store = Store::in_memory().unwrap();
        let frames = night.frames();
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let _ = store.append(&slices).unwrap();
        let recording = Recording::outline(store).unwrap();
        let lane = recording.lane(1, 1).unwrap();
        let (from, to) = lane.span().unwrap();
        let (index, rail, chip) = rails_of(&recording, 1, &[]).unwrap().remove(0);
        assert_eq!(index, 0);
        let pen = || {
            let mut pen = Pen::new(Sensor::new(&rail, chip), 0, from, to);
            pen.width_ns = 5_000_000_000;
            pen
        };
        let summary = lane.summary(Nanos::from_secs(5)).unwrap().unwrap();
        let mut drawn = pen();
        drawn.draw_summary(&summary);
        // The same buckets, filled row by row.
        let mut exact = pen();
        (exact.width_ns, exact.from) = (drawn.width_ns, drawn.from);
        lane.for_each_row(from, to, |row| exact.draw(row)).unwrap();
        let [drawn, exact] = [drawn, exact].map(|pen| pen.finish(Nanos(0)));
        assert_eq!((drawn.len(), exact.len()), (1, 1));
        assert!(drawn[0].len() > 12, "{drawn:?}");
        for (one, other) in drawn[0].iter().zip(&exact[0]) {
            assert_eq!(one.at, other.at);
            assert!((one.min_w - other.min_w).abs() < 1e-9, "{one:?} {other:?}");
            assert!((one.max_w - other.max_w).abs() < 1e-9, "{one:?} {other:?}");
            assert!((one.mean_w - other.mean_w).abs() < 1e-9, "{one:?} {other:?}");
        }
    }
}
