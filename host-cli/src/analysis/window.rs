//! One window of a trial: its energies, and its verdict with reasons.
//!
//! Owns what is judged from a single window. Knows nothing of repeats.
//! Theory: `docs/method.md`.

use std::collections::{BTreeMap, BTreeSet};

use wattline_protocol::campaign_spec::{CampaignSpec, Mode};
use wattline_protocol::record::{InferenceSpan, RailEnergy, TrialEnd, WindowClose, WindowKind};
use wattline_protocol::units::{BoardTime, Joules};

use super::baseline::{Idle, Level, level_at};
use super::chips;
use super::conditions;
use super::energy::{Integral, Point, Sensor, integrate};
use super::error::AnalysisError;
use super::model::{Energy, Reason, Term, WindowResult};
use super::rails::{Measured, ShuntCorrection};
use super::states;
use super::statistics::{count, deviation, mean};
use super::verdict::{Halves, drifted, judge, missing, undersampled};
use crate::recording::Recording;

/// Fewest inferences in each half of a window for a comparison of their speed.
const HALF_INFERENCES_MIN: usize = 2;

/// A window's result with what its cell needs beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measurement {
    pub(super) result: WindowResult,
    /// Standard uncertainty of the window's length as that of so many
    /// inferences, in seconds: s·√N over single inferences.
    pub(super) time_s: f64,
}

/// What all windows of a run are measured against.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    recording: &'a Recording,
    corrections: &'a [ShuntCorrection],
    campaign: &'a CampaignSpec,
    cells: BTreeMap<u32, u16>,
    spans: BTreeMap<(u32, u32), Vec<InferenceSpan>>,
    ends: BTreeMap<(u32, u32), TrialEnd>,
    idles: &'a [Idle],
    over_currents: BTreeMap<(u32, u32), Reason>,
    averaged: BTreeSet<u32>,
    states: BTreeMap<(u32, u32), BTreeSet<Reason>>,
}

impl<'a> Windows<'a> {
    pub(super) fn new(
        recording: &'a Recording,
        corrections: &'a [ShuntCorrection],
        campaign: &'a CampaignSpec,
        idles: &'a [Idle],
    ) -> Self {
        let plan = recording.plans.first().map(|plan| &plan.record);
        let trials = plan.into_iter().flat_map(|plan| &plan.trials);
        let mut spans: BTreeMap<(u32, u32), Vec<InferenceSpan>> = BTreeMap::new();
        for batch in &recording.spans {
            let key = (batch.epoch, batch.record.trial);
            spans.entry(key).or_default().extend(&batch.record.spans);
        }
        let ends = recording.trial_ends.iter();
        Self {
            recording,
            corrections,
            campaign,
            cells: trials.map(|trial| (trial.trial, trial.cell)).collect(),
            spans,
            ends: ends.map(|end| ((end.epoch, end.record.trial), end.record)).collect(),
            idles,
            over_currents: conditions::over_currents(recording),
            averaged: conditions::averaged(recording),
            states: states::reasons(recording),
        }
    }

    /// All windows of trials that the plan knows, in order of (epoch, time).
    pub(super) fn measure(&self) -> Result<Vec<Measurement>, AnalysisError> {
        let mut closes: Vec<_> = self.recording.windows.iter().collect();
        closes.sort_by_key(|close| (close.epoch, close.record.t0));
        // A trial that the agent's end broke behind its window is made again.
        let last: BTreeMap<u32, u32> = closes
            .iter()
            .filter_map(|close| match close.record.kind {
                WindowKind::Trial(trial) => Some((trial, close.record.window)),
                WindowKind::Idle(_) => None,
            })
            .collect();
        let mut measurements = Vec::new();
        for close in closes {
            if let WindowKind::Trial(trial) = close.record.kind
                && let Some(&cell) = self.cells.get(&trial)
            {
                let mut one = self.one(close.epoch, trial, cell, &close.record)?;
                if last.get(&trial) != Some(&close.record.window) {
                    let mut reasons = one.result.judgement.reasons;
                    reasons.push(Reason::Repeated);
                    one.result.judgement = judge(reasons);
                }
                measurements.push(one);
            }
        }
        Ok(measurements)
    }

    fn one(
        &self,
        epoch: u32,
        trial: u32,
        cell: u16,
        close: &WindowClose,
    ) -> Result<Measurement, AnalysisError> {
        let measured = Measured::of_epoch(self.recording, epoch, self.corrections)?;
        let doubts = measured.doubts_j(close.t0, close.t1);
        let series = measured.series(close.t0, close.t1)?;
        let rails = Rails::integrate(series, &doubts, close.t0, close.t1);
        let level = level_at(self.idles, epoch, close.t0, close.t1);
        let net = rails.as_ref().zip(level.as_ref()).map(|(rails, level)| rails.net(level));
        let lengths = self.inferences(epoch, trial, close);
        let mut reasons = self.length_reasons(close, measured.period_s());
        reasons.extend((!measured.total).then_some(Reason::NoTotalRail));
        reasons.extend(measured.is_estimate().then_some(Reason::Estimate));
        reasons.extend(self.warm_up_reason((epoch, trial)));
        reasons.extend(self.over_currents.get(&(epoch, trial)));
        reasons.extend(self.states.get(&(epoch, trial)).into_iter().flatten());
        let is_averaged = self.averaged.contains(&epoch);
        reasons.extend(is_averaged.then_some(Reason::Averaged));
        let is_changed = chips::changed_within(self.recording, epoch, close.t0, close.t1);
        reasons.extend(is_changed.then_some(Reason::ChipChanged));
        let is_aggregated = doubts.iter().any(Option::is_some);
        reasons.extend(is_aggregated.then_some(Reason::Aggregated));
        reasons.extend(level.is_none().then_some(Reason::NoBaseline));
        reasons.extend(drift_reason(level.as_ref(), net.as_ref(), close));
        reasons.extend(speed_differs(close, &lengths).then_some(Reason::Unsteady));
        let whole = rails.as_ref().is_some_and(Rails::has_samples);
        match rails.as_ref().filter(|_| whole) {
            Some(rails) => reasons.extend(rails.reasons(close.t0, close.t1)),
            None => reasons.push(Reason::NoSamples),
        }
        let result = WindowResult {
            window: close.window,
            cell,
            trial,
            epoch,
            t0: close.t0,
            t1: close.t1,
            inferences: close.inferences,
            images: close.images,
            energy: rails.as_ref().filter(|_| whole).map_or_else(unknown, Rails::gross),
            net_energy: net.filter(|_| whole),
            true_energy: true_energy(&measured, &close.truth),
            missing: rails.as_ref().map_or(1.0, Rails::missing_share),
            judgement: judge(reasons),
        };
        let seconds: Vec<f64> = lengths.iter().map(|length| length.1).collect();
        let time_s = deviation(&seconds).unwrap_or(0.0) * count(seconds.len()).sqrt();
        Ok(Measurement { result, time_s })
    }

    /// Start after the window's start and length of its inferences, in seconds.
    fn inferences(&self, epoch: u32, trial: u32, close: &WindowClose) -> Vec<(f64, f64)> {
        let spans = self.spans.get(&(epoch, trial)).map_or(&[][..], Vec::as_slice);
        let inside = spans.iter().filter(|span| span.start >= close.t0 && span.start < close.t1);
        inside
            .map(|span| {
                let start = (span.start - close.t0).as_seconds().0;
                let end = BoardTime(span.start.0.saturating_add(span.length_ns));
                (start, (end - span.start).as_seconds().0)
            })
            .collect()
    }

    fn length_reasons(&self, close: &WindowClose, period_s: f64) -> Vec<Reason> {
        let seconds = (close.t1 - close.t0).as_seconds().0;
        let sweeps_s = f64::from(self.campaign.sweeps_min) * period_s;
        let short = seconds < self.campaign.window_s_min.max(sweeps_s)
            || close.inferences < u64::from(self.campaign.inferences_min)
            || close.images == 0;
        let latency_s = (close.inferences > 0).then(|| seconds / inferences(close));
        let marked = latency_s.is_some_and(|latency_s| undersampled(latency_s, period_s));
        let quick = self.campaign.mode == Mode::Quick;
        let short = short.then_some(Reason::Short);
        let marked = marked.then_some(Reason::Undersampled);
        short.into_iter().chain(quick.then_some(Reason::Quick)).chain(marked).collect()
    }

    fn warm_up_reason(&self, key: (u32, u32)) -> Option<Reason> {
        let end = self.ends.get(&key)?;
        (!end.warm_up.steady).then_some(Reason::NotWarm)
    }
}

#[expect(clippy::cast_precision_loss, reason = "no count of ours reaches 2^53")]
fn inferences(close: &WindowClose) -> f64 {
    close.inferences as f64
}

/// The energy of a window without samples: not a number, rather than a number
/// that nobody measured.
fn unknown() -> Energy {
    Energy { joules: Joules(f64::NAN), terms: Vec::new() }
}

fn true_energy(measured: &Measured<'_>, truth: &[RailEnergy]) -> Option<Joules> {
    let of_rail = |index| truth.iter().find(|energy| usize::from(energy.rail) == index);
    measured.indices().map(|index| of_rail(index).map(|energy| Joules(energy.energy_j))).sum()
}

fn drift_reason(
    level: Option<&Level>,
    net: Option<&Energy>,
    close: &WindowClose,
) -> Option<Reason> {
    let net_w = net?.joules.0 / (close.t1 - close.t0).as_seconds().0;
    drifted(level?.drift_w, net_w).then_some(Reason::IdleDrift)
}

/// Whether inferences of the first half take another time than of the second.
fn speed_differs(close: &WindowClose, inferences: &[(f64, f64)]) -> bool {
    let middle = (close.t1 - close.t0).as_seconds().0 / 2.0;
    let cut = inferences.partition_point(|inference| inference.0 < middle);
    let half = |part: &[(f64, f64)]| {
        let lengths: Vec<f64> = part.iter().map(|inference| inference.1).collect();
        let uncertainty = deviation(&lengths)? / count(lengths.len()).sqrt();
        (lengths.len() >= HALF_INFERENCES_MIN).then_some((mean(&lengths)?, uncertainty))
    };
    let halves = half(&inferences[..cut]).zip(half(&inferences[cut..]));
    halves.is_some_and(|(first, second)| Halves { first, second }.differ())
}

/// The measured rails of one window.
struct Rails {
    series: Vec<(Sensor, Vec<Point>)>,
    integrals: Vec<Integral>,
}

impl Rails {
    fn integrate(
        series: Vec<(Sensor, Vec<Point>)>,
        doubts_j: &[Option<f64>],
        t0: BoardTime,
        t1: BoardTime,
    ) -> Option<Self> {
        let integrals: Option<Vec<Integral>> =
            series.iter().map(|(sensor, points)| integrate(points, sensor, t0, t1)).collect();
        let mut integrals = integrals.filter(|integrals| !integrals.is_empty())?;
        for (integral, doubt_j) in integrals.iter_mut().zip(doubts_j) {
            integral.aggregated_j = doubt_j.unwrap_or(0.0);
        }
        Some(Self { series, integrals })
    }

    fn has_samples(&self) -> bool {
        self.integrals.iter().all(|integral| integral.points > 0)
    }

    fn sensors(&self) -> impl Iterator<Item = (&Sensor, &Integral)> {
        self.series.iter().map(|(sensor, _)| sensor).zip(&self.integrals)
    }

    fn gross(&self) -> Energy {
        sum(self.sensors().map(|(sensor, integral)| integral.gross(sensor)))
    }

    fn net(&self, level: &Level) -> Energy {
        let rails = self.sensors().zip(&level.rates);
        let mut net = sum(rails.map(|((sensor, integral), rate)| integral.above(sensor, rate)));
        let seconds = self.integrals.first().map_or(0.0, |integral| integral.seconds);
        net.terms.push((Term::Baseline, level.uncertainty_w * seconds));
        net
    }

    /// Share of the window without samples, of the rail that misses most.
    fn missing_share(&self) -> f64 {
        let shares = self.integrals.iter().map(|integral| integral.missing_s / integral.seconds);
        shares.fold(0.0, f64::max)
    }

    fn reasons(&self, t0: BoardTime, t1: BoardTime) -> Vec<Reason> {
        let gap_s = self.integrals.iter().map(|integral| integral.gap_s).fold(0.0, f64::max);
        let mut reasons: Vec<Reason> = missing(self.missing_share(), gap_s).collect();
        let over = self.integrals.iter().any(|integral| integral.overrange > 0);
        reasons.extend(over.then_some(Reason::Overrange));
        reasons.extend(self.power_differs(t0, t1).then_some(Reason::Unsteady));
        reasons
    }

    fn power_differs(&self, t0: BoardTime, t1: BoardTime) -> bool {
        let middle = BoardTime(t0.0.midpoint(t1.0));
        let half = |from, to| -> Option<(f64, f64)> {
            let parts: Option<Vec<Integral>> = self
                .series
                .iter()
                .map(|(sensor, points)| integrate(points, sensor, from, to))
                .collect();
            let parts = parts?;
            let watts = parts.iter().map(|part| part.joules / part.seconds).sum();
            let square: f64 = parts.iter().map(|part| part.process_w.powi(2)).sum();
            Some((watts, square.sqrt()))
        };
        let halves = half(t0, middle).zip(half(middle, t1));
        halves.is_some_and(|(first, second)| Halves { first, second }.differ())
    }
}

/// Energies of several rails, added. Gains of one chip, its temperature, the
/// placement in time and gaps move all rails together: their terms add. Resistors, offsets,
/// rounding and noise are each rail's own: their squares add.
fn sum(energies: impl Iterator<Item = Energy>) -> Energy {
    let mut joules = Joules(0.0);
    let mut terms: BTreeMap<Term, f64> = BTreeMap::new();
    for energy in energies {
        joules += energy.joules;
        for (term, uncertainty) in energy.terms {
            let sum = terms.entry(term).or_insert(0.0);
            *sum = if is_common(term) { *sum + uncertainty } else { sum.hypot(uncertainty) };
        }
    }
    Energy { joules, terms: terms.into_iter().collect() }
}

fn is_common(term: Term) -> bool {
    match term {
        Term::ShuntGain
        | Term::BusGain
        | Term::Temperature
        | Term::Edges
        | Term::Missing
        | Term::Aggregated
        | Term::BusAge => true,
        Term::ShuntResistance
        | Term::ShuntOffset
        | Term::BusOffset
        | Term::Quantisation
        | Term::Statistical
        | Term::Baseline => false,
    }
}
