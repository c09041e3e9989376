//! Verdicts: which measurements may be used, and why not.
//!
//! Owns the method's limits. Knows neither samples nor figures' arithmetic.
//! Source: `docs/method.md`, "Verdicts"; 0.1 % is EEMBC's limit of lost samples.

use super::model::{Judgement, Reason, Verdict};

/// Share of a window without samples beyond which it is invalid.
const MISSING_MAX: f64 = 0.05;
/// Share beyond which it is flagged.
const MISSING_FLAG: f64 = 0.001;
/// Longest single gap of a window, in seconds.
const GAP_S_MAX: f64 = 0.1;
/// Halves of a window may differ by this part in speed and power.
const UNSTEADY_PART: f64 = 0.03;
/// Idle power before and after may differ by this part of the net power.
const IDLE_DRIFT_PART: f64 = 0.03;
/// Half-width of the repeats' 95 % interval, as a part of the value.
const WIDE_PART: f64 = 0.02;
/// Sampling periods in an inference below which its own energy cannot be told.
const INFERENCE_PERIODS_MIN: f64 = 20.0;
/// A difference below this many standard uncertainties may be chance.
const SIGNIFICANT: f64 = 2.0;

/// What a reason makes of the window or cell that has it.
#[must_use]
pub fn severity(reason: Reason) -> Verdict {
    match reason {
        Reason::Short
        | Reason::Missing
        | Reason::Gap
        | Reason::NoSamples
        | Reason::Overrange
        | Reason::Mixed
        | Reason::OverCurrent
        | Reason::Throttled
        | Reason::PowerModeChanged
        | Reason::Repeated => Verdict::Invalid,
        Reason::Quick
        | Reason::SomeMissing
        | Reason::Unsteady
        | Reason::NotWarm
        | Reason::IdleDrift
        | Reason::NoBaseline
        | Reason::Wide
        | Reason::NoTotalRail
        | Reason::FewWindows
        | Reason::TrialFailed
        | Reason::CurrentAlarm
        | Reason::Averaged
        | Reason::UnderVoltage
        | Reason::FrequencyMoved
        | Reason::Swapped
        | Reason::Aggregated
        | Reason::ChipChanged
        | Reason::Stopped
        | Reason::Estimate => Verdict::Flagged,
        // The mean over a train of inferences is as good as ever.
        Reason::Undersampled => Verdict::Valid,
    }
}

/// The verdict that `reasons` make together.
#[must_use]
pub fn judge(mut reasons: Vec<Reason>) -> Judgement {
    reasons.sort_unstable();
    reasons.dedup();
    let worst = reasons.iter().map(|reason| severity(*reason)).max();
    Judgement { verdict: worst.unwrap_or(Verdict::Valid), reasons }
}

/// Reasons from time without samples: its share of the window, and its longest
/// stretch in seconds.
pub(super) fn missing(share: f64, gap_s: f64) -> impl Iterator<Item = Reason> {
    let share_reason = if share > MISSING_MAX {
        Some(Reason::Missing)
    } else {
        (share > MISSING_FLAG).then_some(Reason::SomeMissing)
    };
    share_reason.into_iter().chain((gap_s > GAP_S_MAX).then_some(Reason::Gap))
}

/// A value in each half of a window with its standard uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Halves {
    pub(super) first: (f64, f64),
    pub(super) second: (f64, f64),
}

impl Halves {
    /// True where the halves differ by more than the method allows and more
    /// than chance explains.
    pub(super) fn differ(&self) -> bool {
        let difference = (self.first.0 - self.second.0).abs();
        let mean = f64::midpoint(self.first.0, self.second.0).abs();
        let uncertainty = self.first.1.hypot(self.second.1);
        difference > UNSTEADY_PART * mean && difference > SIGNIFICANT * uncertainty
    }
}

/// True where the idle power drifted by too much of the net power, both in W.
pub(super) fn drifted(drift_w: f64, net_w: f64) -> bool {
    drift_w.abs() > IDLE_DRIFT_PART * net_w.abs()
}

/// True where inferences of `latency_s` are too short for samples `period_s`
/// apart to tell one from the next.
pub(super) fn undersampled(latency_s: f64, period_s: f64) -> bool {
    latency_s < INFERENCE_PERIODS_MIN * period_s
}

/// True where a repeats' standard uncertainty makes too wide an interval.
pub(super) fn wide(standard: f64, value: f64) -> bool {
    2.0 * standard > WIDE_PART * value.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_reason_gives_the_verdict_and_each_is_told_once() {
        let judged = judge(vec![Reason::Gap, Reason::Quick, Reason::Gap]);
        assert_eq!(judged.verdict, Verdict::Invalid);
        assert_eq!(judged.reasons, [Reason::Quick, Reason::Gap]);
        assert_eq!(judge(Vec::new()).verdict, Verdict::Valid);
    }

    #[test]
    fn missing_time_flags_above_a_thousandth_and_condemns_above_a_twentieth() {
        let reasons = |share, gap_s| missing(share, gap_s).collect::<Vec<_>>();
        assert_eq!(reasons(0.001, 0.01), []);
        assert_eq!(reasons(0.002, 0.01), [Reason::SomeMissing]);
        assert_eq!(reasons(0.06, 0.01), [Reason::Missing]);
        assert_eq!(reasons(0.01, 0.11), [Reason::SomeMissing, Reason::Gap]);
    }

    #[test]
    fn an_undersampled_inference_is_marked_and_its_windows_mean_stays_valid() {
        assert!(undersampled(0.0167, 840e-6) && !undersampled(0.0169, 840e-6));
        let judged = judge(vec![Reason::Undersampled]);
        assert_eq!((judged.verdict, judged.reasons.len()), (Verdict::Valid, 1));
    }

    #[test]
    fn halves_differ_only_beyond_chance() {
        let halves = |u| Halves { first: (10.0, u), second: (10.5, u) };
        assert!(halves(0.1).differ());
        assert!(!halves(0.4).differ());
        assert!(!Halves { first: (10.0, 0.0), second: (10.2, 0.0) }.differ());
    }
}
