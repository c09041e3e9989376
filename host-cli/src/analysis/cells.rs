//! A cell: what its windows say together.
//!
//! Owns the step from windows to figures per image with their intervals, and
//! the cell's verdict. Theory: `docs/method.md`, "Uncertainty of a cell".
//!
//! The sensor's errors are the same in every window: their terms are taken
//! once, as the mean over windows, and never divided by n. What differs from
//! window to window is judged by the repeats, s/√n · t₀.₉₇₅(n−1)/2, or by what
//! each window knows of its own edges, gaps and noise, whichever is larger.

use std::collections::BTreeMap;

use wattline_protocol::record::{
    Cell, FailureCause, RunOutcome, TrialEnd, TrialLoaded, TrialOutcome,
};

use super::model::{CellResult, Energy, FailedTrial, Judgement, Reason, Term, Uncertain, Verdict};
use super::statistics::{count, mean, repeat_uncertainty};
use super::verdict::{judge, wide};
use super::window::Measurement;
use crate::recording::Recording;
use crate::store::hex;

/// Millijoules in a joule, milliseconds in a second.
const MILLI: f64 = 1e3;
/// Bytes in a megabyte.
const BYTES_PER_MB: f64 = 1e6;

/// All cells of the plan, in its order.
pub(super) fn cells(
    recording: &Recording,
    measurements: &[Measurement],
    failed: &[FailedTrial],
    outcome: Option<RunOutcome>,
) -> Vec<CellResult> {
    let Some(plan) = recording.plans.first().map(|plan| &plan.record) else { return Vec::new() };
    let trials: BTreeMap<u32, u16> =
        plan.trials.iter().map(|trial| (trial.trial, trial.cell)).collect();
    let cell = |cell: &Cell| {
        let of_cell = |trial: u32| trials.get(&trial) == Some(&cell.cell);
        let loaded = recording.loaded.iter().map(|loaded| &loaded.record);
        let ends = recording.trial_ends.iter().map(|end| &end.record);
        Parts {
            cell,
            planned: trials.values().filter(|&&number| number == cell.cell).count(),
            measurements: measurements.iter().filter(|one| one.result.cell == cell.cell).collect(),
            loaded: loaded.filter(|loaded| of_cell(loaded.trial)).collect(),
            ends: ends.filter(|end| of_cell(end.trial)).collect(),
            failed: failed.iter().filter(|failed| failed.cell == cell.cell).collect(),
            outcome,
        }
        .result()
    };
    plan.cells.iter().map(cell).collect()
}

/// Trials of the plan that ended without a window: the last end counts, and a
/// later attempt that was measured makes good for an earlier one.
pub(super) fn failed_trials(recording: &Recording) -> Vec<FailedTrial> {
    let Some(plan) = recording.plans.first().map(|plan| &plan.record) else { return Vec::new() };
    let failed = plan.trials.iter().filter_map(|trial| {
        let mut ends = recording.trial_ends.iter().map(|end| &end.record);
        let last = ends.rfind(|end| end.trial == trial.trial)?;
        let gave_none = last.outcome != TrialOutcome::Measured;
        gave_none.then_some(FailedTrial {
            trial: trial.trial,
            cell: trial.cell,
            outcome: last.outcome,
        })
    });
    failed.collect()
}

/// All that was recorded of one cell.
struct Parts<'a> {
    cell: &'a Cell,
    planned: usize,
    measurements: Vec<&'a Measurement>,
    loaded: Vec<&'a TrialLoaded>,
    ends: Vec<&'a TrialEnd>,
    failed: Vec<&'a FailedTrial>,
    outcome: Option<RunOutcome>,
}

impl Parts<'_> {
    fn result(&self) -> CellResult {
        let usable: Vec<&Measurement> = self
            .measurements
            .iter()
            .copied()
            .filter(|one| one.result.judgement.verdict != Verdict::Invalid)
            .collect();
        // Invalid data is kept and shown: without a usable window the figures
        // are those of the others, and the verdict says so.
        let shown = if usable.is_empty() { &self.measurements } else { &usable };
        let shown: Vec<&Measurement> =
            shown.iter().copied().filter(|one| has_figures(one)).collect();
        let seconds = |one: &Measurement| one.result.length().as_seconds().0;
        let milli = |one: &Measurement| count_images(one) / MILLI;
        let gross = Repeats::of(&shown, |one| Some(&one.result.energy), milli);
        let net = Repeats::of(&shown, |one| one.result.net_energy.as_ref(), milli);
        let power = Repeats::of(&shown, |one| Some(&one.result.energy), seconds);
        let time = time_per_image(&shown);
        let judgement = self.judge(&shown, usable.len(), gross.as_ref(), time);
        let loaded = self.loaded.first();
        CellResult {
            cell: self.cell.clone(),
            threads: loaded.map_or(0, |loaded| loaded.threads),
            weights_sha256: loaded.map_or_else(String::new, |one| hex(&one.weights_sha256)),
            params: loaded.map_or(0, |loaded| loaded.params),
            macs: loaded.map_or(0, |loaded| loaded.macs),
            ops_paper: loaded.map_or(0, |loaded| loaded.ops_paper),
            ms_per_image: time,
            watts: power.as_ref().map(Repeats::uncertain),
            mj_per_image_gross: gross.as_ref().map(Repeats::uncertain),
            mj_per_image_net: net.as_ref().map(Repeats::uncertain),
            dominant: gross.as_ref().and_then(Repeats::dominant),
            images_per_s: time.map(|time| MILLI / time.value),
            memory_mb: self.memory_mb(),
            windows: u32::try_from(shown.len()).unwrap_or(u32::MAX),
            true_mj_per_image_gross: true_per_image(&shown),
            judgement,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are more than any board has")]
    fn memory_mb(&self) -> Option<f64> {
        let peak = self.ends.iter().map(|end| end.peak_memory_bytes).max()?;
        (peak > 0).then(|| peak as f64 / BYTES_PER_MB)
    }

    fn judge(
        &self,
        shown: &[&Measurement],
        usable: usize,
        gross: Option<&Repeats>,
        time: Option<Uncertain>,
    ) -> Judgement {
        let windows = if usable > 0 { shown } else { self.measurements.as_slice() };
        let mut reasons: Vec<Reason> =
            windows.iter().flat_map(|one| one.result.judgement.reasons.clone()).collect();
        let wide_time = time.is_some_and(|time| wide(time.expanded / 2.0, time.value));
        let wide_energy = gross.is_some_and(|gross| wide(gross.statistical(), gross.value));
        reasons.extend((wide_time || wide_energy).then_some(Reason::Wide));
        reasons.extend((usable < self.planned).then_some(Reason::FewWindows));
        let ended_early = self.outcome.is_some_and(|outcome| outcome != RunOutcome::Complete);
        reasons.extend((usable < self.planned && ended_early).then_some(Reason::Stopped));
        reasons.extend(self.failed.iter().filter_map(|failed| match failed.outcome {
            TrialOutcome::Measured => None,
            TrialOutcome::Failed(FailureCause::Stopped) => Some(Reason::Stopped),
            TrialOutcome::Failed(_) => Some(Reason::TrialFailed),
        }));
        reasons.extend(self.is_mixed().then_some(Reason::Mixed));
        let mut judgement = judge(reasons);
        if usable == 0 {
            judgement.verdict = Verdict::Invalid;
        }
        judgement
    }

    fn is_mixed(&self) -> bool {
        let identity =
            |loaded: &TrialLoaded| (loaded.weights_sha256, loaded.threads, loaded.folded);
        self.loaded.windows(2).any(|pair| identity(pair[0]) != identity(pair[1]))
    }
}

fn has_figures(one: &Measurement) -> bool {
    one.result.images > 0 && one.result.energy.joules.0.is_finite()
}

#[expect(clippy::cast_precision_loss, reason = "no count of ours reaches 2^53")]
fn count_images(one: &Measurement) -> f64 {
    one.result.images as f64
}

fn time_per_image(shown: &[&Measurement]) -> Option<Uncertain> {
    let each: Vec<f64> = shown
        .iter()
        .map(|one| one.result.length().as_seconds().0 * MILLI / count_images(one))
        .collect();
    let within = || Some(shown.first()?.time_s * MILLI / count_images(shown.first()?));
    let standard = repeat_uncertainty(&each).or_else(within)?;
    Some(Uncertain { value: mean(&each)?, expanded: 2.0 * standard })
}

fn true_per_image(shown: &[&Measurement]) -> Option<f64> {
    let each: Option<Vec<f64>> = shown
        .iter()
        .map(|one| Some(one.result.true_energy?.0 * MILLI / count_images(one)))
        .collect();
    mean(&each?)
}

/// A figure over windows, with its budget.
struct Repeats {
    value: f64,
    terms: Vec<(Term, f64)>,
}

impl Repeats {
    /// The mean of `energy` over `divisor`; `None` where a window lacks it.
    fn of<'a>(
        shown: &[&'a Measurement],
        energy: impl Fn(&'a Measurement) -> Option<&'a Energy>,
        divisor: impl Fn(&Measurement) -> f64,
    ) -> Option<Self> {
        let energies: Option<Vec<(&Energy, f64)>> =
            shown.iter().map(|one| Some((energy(one)?, divisor(one)))).collect();
        let energies = energies?;
        let values: Vec<f64> =
            energies.iter().map(|(energy, divisor)| energy.joules.0 / divisor).collect();
        let n = count(values.len());
        let mut terms: BTreeMap<Term, f64> = BTreeMap::new();
        let mut within = 0.0;
        for (energy, divisor) in &energies {
            for (term, uncertainty) in &energy.terms {
                let uncertainty = uncertainty / divisor;
                if values.len() > 1 && is_own(*term) {
                    within += uncertainty.powi(2);
                } else {
                    *terms.entry(*term).or_insert(0.0) += uncertainty / n;
                }
            }
        }
        if let Some(repeats) = repeat_uncertainty(&values) {
            terms.insert(Term::Statistical, repeats.max(within.sqrt() / n));
        }
        Some(Self { value: mean(&values)?, terms: terms.into_iter().collect() })
    }

    fn uncertain(&self) -> Uncertain {
        let squares: f64 = self.terms.iter().map(|(_, standard)| standard.powi(2)).sum();
        Uncertain { value: self.value, expanded: 2.0 * squares.sqrt() }
    }

    fn dominant(&self) -> Option<Term> {
        self.terms.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(term, _)| *term)
    }

    fn statistical(&self) -> f64 {
        let own = self.terms.iter().filter(|(term, _)| is_own(*term));
        own.map(|(_, standard)| standard.powi(2)).sum::<f64>().sqrt()
    }
}

/// Whether a term is a window's own, so that repeats show and average it.
fn is_own(term: Term) -> bool {
    match term {
        Term::Edges | Term::Missing | Term::Statistical | Term::Aggregated | Term::BusAge => true,
        Term::ShuntResistance
        | Term::ShuntGain
        | Term::ShuntOffset
        | Term::BusGain
        | Term::BusOffset
        | Term::Quantisation
        | Term::Temperature
        | Term::Baseline => false,
    }
}
