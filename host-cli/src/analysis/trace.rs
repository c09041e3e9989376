//! Power over the run, thinned out for drawing.
//!
//! Owns the buckets: least, mean and largest power of each, and the breaks
//! where no sample lies. Integrates nothing.

use wattline_protocol::block::SampleRow;
use wattline_protocol::units::{BoardTime, Nanos};

use super::axis::Axis;
use super::energy::Sensor;
use super::error::AnalysisError;
use super::model::{Trace, TracePoint};
use super::rails::{ShuntCorrection, rails_of};
use crate::recording::Recording;

/// Buckets of a run: twice the width of a page's figure in pixels.
const BUCKETS: u64 = 2_000;
/// A bucket holds at least this many expected samples, so that an empty one is
/// a gap and not a short bucket.
const SAMPLES_MIN: f64 = 4.0;

/// Traces of all rails from `from` to `to` on the axis of the run.
pub(super) fn traces(
    recording: &Recording,
    corrections: &[ShuntCorrection],
    axis: &Axis,
    (from, to): (BoardTime, BoardTime),
) -> Result<Vec<Trace>, AnalysisError> {
    let mut traces: Vec<Trace> = Vec::new();
    for lane in &recording.lanes {
        let shift = axis.shift(lane.epoch);
        let rails = rails_of(recording, lane.epoch, corrections)?.into_iter();
        let mut pens: Vec<(usize, Pen)> = rails
            .filter(|(_, _, chip)| chip.lane == lane.lane)
            .map(|(index, rail, chip)| {
                (index, Pen::new(Sensor::new(&rail, chip), from - shift, to - shift))
            })
            .collect();
        let read = lane.for_each_row(from - shift, to - shift, |row| {
            pens.iter_mut().for_each(|(_, pen)| pen.draw(row));
        });
        read.map_err(|source| AnalysisError::Samples {
            epoch: lane.epoch,
            lane: lane.lane,
            source,
        })?;
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

/// Draws one rail, row by row.
struct Pen {
    sensor: Sensor,
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
    samples: u32,
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
    fn new(sensor: Sensor, from: BoardTime, to: BoardTime) -> Self {
        let least_ns = (SAMPLES_MIN * sensor.period_s() * 1e9).max(1.0) as u64;
        let width_ns = (to.0.saturating_sub(from.0) / BUCKETS).max(least_ns);
        Self { sensor, from, width_ns, bucket: None, last: None, segments: Vec::new() }
    }

    fn draw(&mut self, row: &SampleRow<'_>) {
        let Some(point) = self.sensor.point(row) else { return };
        let Some(after) = point.at.0.checked_sub(self.from.0) else { return };
        let watts = self.sensor.power(&point).0;
        let number = after / self.width_ns;
        match self.bucket.as_mut().filter(|bucket| bucket.number == number) {
            Some(bucket) => bucket.add(watts),
            None => {
                let full = self.bucket.replace(Bucket::first(number, watts));
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
            mean_w: bucket.sum_w / f64::from(bucket.samples),
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
    fn first(number: u64, watts: f64) -> Self {
        Self { number, samples: 1, min_w: watts, sum_w: watts, max_w: watts }
    }

    fn add(&mut self, watts: f64) {
        self.samples = self.samples.saturating_add(1);
        self.min_w = self.min_w.min(watts);
        self.sum_w += watts;
        self.max_w = self.max_w.max(watts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::synthetic::Synthetic;

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
}
