//! Which rails stand for a cell, and the shunts they are measured over.
//!
//! Owns the correction of shunts, the choice of the total rail, and the way
//! from a rail to its points. Computes no energy.

use wattline_protocol::record::{
    BoardExpectation, ChipDescription, RailDescription, RailRole, RailSource,
};
use wattline_protocol::units::{BoardTime, Nanos};

use super::aggregated;
use super::chips;
use super::drift::off_25_c_k;
use super::energy::{Point, Sensor};
use super::error::AnalysisError;
use crate::recording::Recording;

/// Points this far outside a window are read as well, so that its edges and a
/// gap across them are seen; any gap of that length is beyond every limit.
const MARGIN: Nanos = Nanos::from_millis(500);

/// A shunt as the user knows it, against what the board believed.
#[derive(Debug, Clone, PartialEq)]
pub struct ShuntCorrection {
    /// Name of the rail.
    pub rail: String,
    /// Its resistance, in ohms.
    pub shunt_ohm: f64,
}

/// Puts corrected shunts into `rails`; the rails that were changed come back
/// with their name, the recorded and the corrected resistance in ohms.
///
/// # Errors
/// [`AnalysisError::UnknownRail`] naming the rails there are,
/// [`AnalysisError::BadShunt`] for a resistance that is not above 0.
pub fn with_shunts(
    rails: &mut [RailDescription],
    corrections: &[ShuntCorrection],
) -> Result<Vec<(String, f64, f64)>, AnalysisError> {
    let mut corrected = Vec::new();
    for ShuntCorrection { rail: name, shunt_ohm } in corrections {
        if !(shunt_ohm.is_finite() && *shunt_ohm > 0.0) {
            let (rail, shunt_ohm) = (name.clone(), *shunt_ohm);
            return Err(AnalysisError::BadShunt { rail, shunt_ohm });
        }
        let known = || rails.iter().map(|rail| rail.name.clone()).collect();
        let Some(place) = rails.iter().position(|rail| rail.name == *name) else {
            return Err(AnalysisError::UnknownRail { name: name.clone(), known: known() });
        };
        let scale = &mut rails[place].scale;
        corrected.push((name.clone(), scale.shunt_ohm, *shunt_ohm));
        scale.shunt_ohm = *shunt_ohm;
    }
    Ok(corrected)
}

/// The rails of one epoch whose energies make a cell's.
#[derive(Debug, Clone)]
pub(super) struct Measured<'a> {
    recording: &'a Recording,
    epoch: u32,
    /// Rails with their index in the run's description, and their chips.
    rails: Vec<Described<'a>>,
    /// True where one rail contains all others.
    pub(super) total: bool,
}

impl<'a> Measured<'a> {
    /// The total rail of an epoch, else all its parts but those inside others.
    pub(super) fn of_epoch(
        recording: &'a Recording,
        epoch: u32,
        corrections: &[ShuntCorrection],
    ) -> Result<Self, AnalysisError> {
        let all = rails_of(recording, epoch, corrections)?;
        let is_total = |rail: &RailDescription| rail.role == RailRole::Total;
        let total = all.iter().find(|(_, rail, _)| is_total(rail)).cloned();
        let rails = total.clone().map_or_else(
            || without_inner(all, recording.expectation_of(epoch)),
            |total| vec![total],
        );
        Ok(Self { recording, epoch, rails, total: total.is_some() })
    }

    /// True where a power chip's own converters are among them: what they see
    /// is not what the board takes.
    pub(super) fn is_estimate(&self) -> bool {
        self.rails.iter().any(|(_, rail, _)| rail.source == RailSource::Pmic)
    }

    /// Indices of the rails in the run's description.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.rails.iter().map(|(index, ..)| *index)
    }

    /// Sensor and points of each rail, from `t0` to `t1` and a little beyond.
    pub(super) fn series(
        &self,
        t0: BoardTime,
        t1: BoardTime,
    ) -> Result<Vec<(Sensor, Vec<Point>)>, AnalysisError> {
        let series = self.rails.iter().map(|(index, rail, chip)| {
            let off_k = off_25_c_k(self.recording, self.epoch, t0);
            let (rail, chip) = chips::as_stood(self.recording, self.epoch, (rail, chip), t0);
            let told = self.recording.offsets_of(self.epoch, *index);
            let sensor = Sensor::new(&rail, &chip).off_25_c(off_k).with_offsets(told);
            let points = points(self.recording, self.epoch, &rail, &chip, (t0, t1))?;
            Ok((sensor, points))
        });
        series.collect()
    }

    /// What is in doubt of each rail's energy for samples that are only known by
    /// aggregates, in joules (k = 1); `None` where all are known.
    pub(super) fn doubts_j(&self, t0: BoardTime, t1: BoardTime) -> Vec<Option<f64>> {
        let rails = self.rails.iter();
        rails
            .map(|(_, rail, chip)| {
                aggregated::doubt_j(self.recording, self.epoch, (rail, chip), (t0, t1))
            })
            .collect()
    }

    /// The longest expected time between new values, in seconds.
    pub(super) fn period_s(&self) -> f64 {
        let periods = self.rails.iter().map(|(_, rail, chip)| Sensor::new(rail, chip).period_s());
        periods.fold(0.0, f64::max)
    }
}

type Described<'a> = (usize, RailDescription, &'a ChipDescription);

/// Leaves out what another of the rails holds already: never added twice.
fn without_inner<'a>(
    all: Vec<Described<'a>>,
    expectation: Option<&BoardExpectation>,
) -> Vec<Described<'a>> {
    let names: Vec<String> = all.iter().map(|(_, rail, _)| rail.name.clone()).collect();
    let is_inner = |name: &str| {
        let inside = expectation.into_iter().flat_map(|expected| &expected.inside);
        inside.filter(|inner| inner.rail == name).any(|inner| names.contains(&inner.within))
    };
    all.into_iter().filter(|(_, rail, _)| !is_inner(&rail.name)).collect()
}

/// All rails of an epoch with their index and chip, shunts corrected. A rail
/// whose chip is not described is left out.
pub(crate) fn rails_of<'a>(
    recording: &'a Recording,
    epoch: u32,
    corrections: &[ShuntCorrection],
) -> Result<Vec<(usize, RailDescription, &'a ChipDescription)>, AnalysisError> {
    let start = recording.start_of(epoch).ok_or(AnalysisError::NoRunStart)?;
    let mut rails = start.rails.clone();
    with_shunts(&mut rails, corrections)?;
    let described = rails.into_iter().enumerate().filter_map(|(index, rail)| {
        let chip = start.chips.get(usize::from(rail.chip))?;
        Some((index, rail, chip))
    });
    Ok(described.collect())
}

/// New conversions of a rail whose rows lie in a stretch of time, or in a
/// margin around it.
fn points(
    recording: &Recording,
    epoch: u32,
    rail: &RailDescription,
    chip: &ChipDescription,
    (t0, t1): (BoardTime, BoardTime),
) -> Result<Vec<Point>, AnalysisError> {
    let sensor = Sensor::new(rail, chip);
    let mut points = Vec::new();
    let (from, to) = (t0 - MARGIN, t1 + MARGIN);
    let aggregated = aggregated::points(recording, epoch, (rail, chip), (from, to));
    let Some(lane) = recording.lane(epoch, chip.lane) else { return Ok(aggregated) };
    let read = lane.for_each_row(from, to, |row| {
        points.extend(sensor.point(row).filter(|point| point.at >= from && point.at <= to));
    });
    read.map_err(|source| AnalysisError::Samples { epoch, lane: chip.lane, source })?;
    if !aggregated.is_empty() {
        // The host may hold samples that the board took for lost: they count, not their sums.
        let half = Nanos::from_secs_f64(sensor.period_s() / 2.0);
        let is_there = |point: &Point| {
            let after = points.partition_point(|known| known.at < point.at - half);
            points.get(after).is_some_and(|known| known.at <= point.at + half)
        };
        let missing: Vec<Point> = aggregated.into_iter().filter(|point| !is_there(point)).collect();
        points.extend(missing);
        points.sort_by_key(|point| point.at);
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use wattline_protocol::record::RailInside;

    use super::*;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;

    #[test]
    fn a_shunt_for_an_unknown_rail_names_the_rails_there_are() {
        let recording = Synthetic::default().recording();
        let mut rails = recording.start_of(1).unwrap().rails.clone();
        let wrong = ShuntCorrection { rail: "VIN".into(), shunt_ohm: 0.01 };
        let error = with_shunts(&mut rails, &[wrong]).unwrap_err();
        assert_eq!(error.to_string(), "no rail `VIN`; this recording has VDD_IN, VDD_CPU_GPU");
        let zero = ShuntCorrection { rail: "VDD_IN".into(), shunt_ohm: 0.0 };
        assert!(matches!(with_shunts(&mut rails, &[zero]), Err(AnalysisError::BadShunt { .. })));
    }

    #[test]
    fn a_corrected_shunt_is_used_and_told() {
        let recording = Synthetic::default().recording();
        let mut rails = recording.start_of(1).unwrap().rails.clone();
        let right = ShuntCorrection { rail: "VDD_IN".into(), shunt_ohm: 0.01 };
        let told = with_shunts(&mut rails, &[right]).unwrap();
        assert_eq!(told, [("VDD_IN".to_owned(), 0.005, 0.01)]);
        assert_eq!(rails[0].scale.shunt_ohm.to_bits(), 0.01_f64.to_bits());
    }

    #[test]
    fn the_total_rail_stands_for_the_board_and_without_it_all_parts() {
        let whole = Synthetic::default().recording();
        let measured = Measured::of_epoch(&whole, 1, &[]).unwrap();
        assert_eq!((measured.total, measured.indices().collect::<Vec<_>>()), (true, vec![0]));
        let parts = Synthetic { parts_only: true, ..Synthetic::default() }.recording();
        let measured = Measured::of_epoch(&parts, 1, &[]).unwrap();
        assert_eq!((measured.total, measured.indices().collect::<Vec<_>>()), (false, vec![0, 1]));
    }

    #[test]
    fn a_part_inside_another_part_is_not_added() {
        let mut parts = Synthetic { parts_only: true, ..Synthetic::default() }.recording();
        let names: Vec<String> =
            parts.start_of(1).unwrap().rails.iter().map(|rail| rail.name.clone()).collect();
        let inner = |rail: &str, within: &str| {
            let inside = vec![RailInside { rail: rail.into(), within: within.into() }];
            let record = BoardExpectation { inside, ..BoardExpectation::default() };
            vec![InEpoch { epoch: 1, record }]
        };
        let indices = |recording: &Recording| -> Vec<usize> {
            Measured::of_epoch(recording, 1, &[]).unwrap().indices().collect()
        };
        parts.expectations = inner(&names[1], &names[0]);
        assert_eq!(indices(&parts), [0]);
        // What would hold it is not sampled: it stands for itself.
        parts.expectations = inner(&names[1], "VIN_SYS_5V0");
        assert_eq!(indices(&parts), [0, 1]);
    }
}
