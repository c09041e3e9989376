//! The campaign as a state machine: events in, effects out.
//!
//! Owns the order of phases, the rules for warm-up and windows, and what
//! happens when a runner dies. Pure: performs nothing, reads no clock;
//! [`super::run`] performs the effects. Method: `docs/method.md`.

use wattline_protocol::campaign_spec::{CampaignSpec, Mode};
use wattline_protocol::record::{
    BaselinePlace, FailureCause, InferenceSpan, Notice, NoticeKind, PhaseMark, PhaseName, Plan,
    Record, RunOutcome, Trial, TrialEnd, TrialOutcome, TrialStart, WarmUp, WindowAbandon,
    WindowKind, WindowOpen,
};
use wattline_protocol::units::{BoardTime, Nanos};

use super::warm_up::{Tally, WarmUpRule};

/// Quiet time before an idle window opens, so that a runner's last work has
/// left the rails (board response plus one averaged cycle of a slow chip).
pub const SETTLE: Nanos = Nanos::from_millis(500);
/// Idle windows between trials come this often in a long run.
const BASELINE_EVERY: Nanos = Nanos::from_secs(600);
/// Length of an idle window between trials, at most.
const BASELINE_BETWEEN: Nanos = Nanos::from_secs(10);
/// A runner that neither loads nor infers for this long is given up.
const RUNNER_SILENCE_MAX: Nanos = Nanos::from_secs(600);
/// A runner that was told to end gets this long before it is killed.
const RUNNER_GRACE: Nanos = Nanos::from_secs(10);
/// Time to load and warm a trial, for the first estimate of the run's end.
const TRIAL_OVERHEAD_GUESS: Nanos = Nanos::from_secs(2);

/// What can happen to a campaign.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time passed; sent at the latest at the deadline asked for.
    Tick,
    /// The runner holds the network.
    Loaded,
    /// The runner finished inferences, in order.
    Inferences(Vec<InferenceSpan>),
    /// The runner said why it cannot go on, or died.
    RunnerFailed(FailureCause),
    /// The runner ended as it was told to.
    RunnerEnded {
        /// Its peak memory, in bytes; 0 where it is not known.
        peak_memory_bytes: u64,
    },
    /// Somebody stops the run.
    Stop,
    /// The spool has no room left, and its policy is to end the run.
    NoRoom,
}

/// What has to be done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Record this.
    Record(Record),
    /// Record this and wait until it is durable: what follows must not be
    /// done before. A disk that refuses is no reason to wait longer: the
    /// record is kept in memory then.
    RecordDurable(Record),
    /// Close this window: record it with its truth, where there is one.
    CloseWindow(WindowToken, BoardTime, Work),
    /// Start a runner for the trial; its write-ahead mark comes before.
    StartRunner(Trial),
    /// Let the runner work.
    GoRunner,
    /// Let the runner end by itself.
    EndRunner,
    /// Kill the runner.
    KillRunner,
    /// Read the board's state into a record.
    ReadBoard,
    /// The run is over.
    Finish(RunOutcome),
}

/// Inferences of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Whole inferences.
    pub inferences: u64,
    /// Images in them.
    pub images: u64,
}

/// An open window. Neither `Clone` nor `Copy`: opened once, closed or
/// abandoned once.
#[derive(Debug, PartialEq, Eq)]
pub struct WindowToken {
    /// Number of the window.
    pub window: u32,
    /// What it measures.
    pub kind: WindowKind,
    /// Its start.
    pub t0: BoardTime,
}

/// Lengths and counts that decide when a window may close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Shortest window: the longer of the campaign's and of its sweeps.
    pub window_ns_min: Nanos,
    /// Fewest inferences of a window.
    pub inferences_min: u64,
    /// Idle window before and after.
    pub idle_ns: Nanos,
    /// When the warm-up is over.
    pub warm_up: WarmUpRule,
}

impl Method {
    /// The method of a campaign on a board whose slowest chip is swept every
    /// `sweep_period`.
    #[must_use]
    pub fn of(spec: &CampaignSpec, sweep_period: Nanos) -> Self {
        let by_sweeps = Nanos(sweep_period.0.saturating_mul(i64::from(spec.sweeps_min)));
        Self {
            window_ns_min: Nanos::from_secs_f64(spec.window_s_min).max(by_sweeps),
            inferences_min: u64::from(spec.inferences_min),
            idle_ns: Nanos::from_secs_f64(spec.idle_s),
            warm_up: match spec.mode {
                Mode::Full => WarmUpRule::FULL,
                Mode::Quick => WarmUpRule::QUICK,
            },
        }
    }
}

/// Where a campaign begins, or goes on after the agent's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartPoint {
    /// Place of the first trial in the plan.
    pub trial: usize,
    /// Which attempt at that trial, from 0.
    pub attempt: u16,
    /// Which attempt at the trial behind it: not 0 where that was begun already.
    pub following: u16,
    /// Number of the next window: no number of a run is given twice.
    pub window: u32,
}

/// Phases, each with what it needs.
#[derive(Debug, PartialEq)]
enum Phase {
    Settling { place: BaselinePlace, until: BoardTime },
    Baseline { token: WindowToken, place: BaselinePlace, until: BoardTime },
    Loading { since: BoardTime },
    WarmUp { tally: Tally, heard: BoardTime },
    Measuring { token: WindowToken, warm_up: WarmUp, inferences: u64, heard: BoardTime },
    Ending { warm_up: WarmUp, outcome: TrialOutcome, until: BoardTime },
    Done,
}

/// Why a campaign ends before its last trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    /// Somebody asked for it.
    Asked,
    /// The spool has no room left.
    NoRoom,
}

/// The campaign of one run.
#[derive(Debug)]
pub struct Campaign {
    plan: Plan,
    method: Method,
    phase: Phase,
    next_trial: usize,
    attempt: u16,
    following: u16,
    windows: u32,
    last_baseline: BoardTime,
    stopping: Option<Stopping>,
    /// Trials that were over when this part of the run began.
    first_trial: usize,
    trials_began: BoardTime,
}

impl Campaign {
    /// A campaign at its first phase, which is the idle baseline wherever in
    /// the plan it begins: a board that was away has another idle power.
    #[must_use]
    pub fn begin(
        plan: Plan,
        method: Method,
        from: StartPoint,
        now: BoardTime,
    ) -> (Self, Vec<Effect>) {
        let mut campaign = Self {
            plan,
            method,
            phase: Phase::Settling { place: BaselinePlace::Before, until: now + SETTLE },
            next_trial: from.trial,
            attempt: from.attempt,
            following: from.following,
            windows: from.window,
            last_baseline: now,
            stopping: None,
            first_trial: from.trial,
            trials_began: now,
        };
        let mark = campaign.mark(PhaseName::Settling, None, now);
        campaign.phase = Phase::Settling { place: BaselinePlace::Before, until: now + SETTLE };
        (campaign, vec![Effect::ReadBoard, mark])
    }

    /// When [`Event::Tick`] is due at the latest; `None` once it is done.
    #[must_use]
    pub fn deadline(&self) -> Option<BoardTime> {
        match &self.phase {
            Phase::Settling { until, .. }
            | Phase::Baseline { until, .. }
            | Phase::Ending { until, .. } => Some(*until),
            Phase::Loading { since } => Some(*since + RUNNER_SILENCE_MAX),
            Phase::WarmUp { heard, .. } | Phase::Measuring { heard, .. } => {
                Some(*heard + RUNNER_SILENCE_MAX)
            }
            Phase::Done => None,
        }
    }

    /// What the campaign does on `event`; performs nothing itself.
    #[must_use]
    pub fn on(mut self, event: Event, now: BoardTime) -> (Self, Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        let effects = match event {
            Event::Tick => self.on_tick(phase, now),
            Event::Loaded => self.on_loaded(phase, now),
            Event::Inferences(spans) => self.on_inferences(phase, &spans, now),
            Event::RunnerFailed(cause) => self.on_runner_failed(phase, cause, now),
            Event::RunnerEnded { peak_memory_bytes } => {
                self.on_runner_ended(phase, peak_memory_bytes, now)
            }
            Event::Stop => self.on_stop(phase, now),
            Event::NoRoom => self.on_no_room(phase, now),
        };
        (self, effects)
    }

    fn on_tick(&mut self, phase: Phase, now: BoardTime) -> Vec<Effect> {
        match phase {
            Phase::Settling { place, until } if now >= until => self.open_baseline(place, now),
            Phase::Baseline { token, place, until } if now >= until => {
                let mut effects = vec![
                    Effect::CloseWindow(token, until, Work { inferences: 0, images: 0 }),
                    Effect::ReadBoard,
                ];
                self.last_baseline = now;
                effects.extend(match place {
                    BaselinePlace::Before => {
                        self.trials_began = now;
                        self.next(now)
                    }
                    BaselinePlace::Between => self.next(now),
                    BaselinePlace::After => self.finish(now),
                });
                effects
            }
            Phase::Loading { since } if now - since >= RUNNER_SILENCE_MAX => {
                self.abandon(None, WarmUp::default(), FailureCause::RunnerSilent, now)
            }
            Phase::WarmUp { tally, heard } if now - heard >= RUNNER_SILENCE_MAX => {
                self.abandon(None, tally.report(false), FailureCause::RunnerSilent, now)
            }
            Phase::Measuring { token, warm_up, heard, .. } if now - heard >= RUNNER_SILENCE_MAX => {
                self.abandon(Some(token), warm_up, FailureCause::RunnerSilent, now)
            }
            Phase::Ending { warm_up, outcome, until } if now >= until => {
                self.phase = Phase::Ending { warm_up, outcome, until: now + RUNNER_GRACE };
                vec![Effect::KillRunner]
            }
            early => {
                self.phase = early;
                Vec::new()
            }
        }
    }

    fn on_loaded(&mut self, phase: Phase, now: BoardTime) -> Vec<Effect> {
        match phase {
            Phase::Loading { .. } => {
                self.phase = Phase::WarmUp { tally: Tally::default(), heard: now };
                vec![self.mark(PhaseName::WarmUp, self.trial_number(), now), Effect::GoRunner]
            }
            // A runner that was given up meanwhile.
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn on_inferences(
        &mut self,
        phase: Phase,
        spans: &[InferenceSpan],
        now: BoardTime,
    ) -> Vec<Effect> {
        let mut phase = phase;
        let mut effects = Vec::new();
        for span in spans {
            phase = self.on_inference(phase, *span, now, &mut effects);
        }
        self.phase = phase;
        effects
    }

    fn on_inference(
        &mut self,
        phase: Phase,
        span: InferenceSpan,
        now: BoardTime,
        effects: &mut Vec<Effect>,
    ) -> Phase {
        let end = span.start + Nanos(i64::try_from(span.length_ns).unwrap_or(i64::MAX));
        match phase {
            Phase::WarmUp { mut tally, .. } => {
                tally.add(Nanos(i64::try_from(span.length_ns).unwrap_or(i64::MAX)));
                match self.method.warm_up.judge(&tally) {
                    None => Phase::WarmUp { tally, heard: now },
                    Some(steady) => {
                        let warm_up = tally.report(steady);
                        let token = self.open_window(self.trial_window(), end, now, effects);
                        Phase::Measuring { token, warm_up, inferences: 0, heard: now }
                    }
                }
            }
            Phase::Measuring { token, warm_up, inferences, .. } => {
                let inferences = inferences + 1;
                let long = end - token.t0 >= self.method.window_ns_min;
                if !long || inferences < self.method.inferences_min {
                    return Phase::Measuring { token, warm_up, inferences, heard: now };
                }
                let images = inferences.saturating_mul(u64::from(self.batch()));
                effects.push(Effect::CloseWindow(token, end, Work { inferences, images }));
                effects.push(Effect::EndRunner);
                effects.push(self.mark(PhaseName::Judging, self.trial_number(), now));
                let until = now + RUNNER_GRACE;
                Phase::Ending { warm_up, outcome: TrialOutcome::Measured, until }
            }
            // Inferences after the window closed, or of a runner given up.
            other => other,
        }
    }

    fn on_runner_failed(
        &mut self,
        phase: Phase,
        cause: FailureCause,
        now: BoardTime,
    ) -> Vec<Effect> {
        match phase {
            Phase::Loading { .. } => self.fail_trial(None, WarmUp::default(), cause, now),
            Phase::WarmUp { tally, .. } => self.fail_trial(None, tally.report(false), cause, now),
            Phase::Measuring { token, warm_up, .. } => {
                self.fail_trial(Some(token), warm_up, cause, now)
            }
            // It was on its way out; its window, if closed, stands.
            Phase::Ending { warm_up, outcome, .. } => self.close_trial(warm_up, outcome, 0, now),
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn on_runner_ended(&mut self, phase: Phase, peak: u64, now: BoardTime) -> Vec<Effect> {
        match phase {
            Phase::Ending { warm_up, outcome, .. } => self.close_trial(warm_up, outcome, peak, now),
            // It ended without being told to.
            other => self.on_runner_failed(other, FailureCause::RunnerExited { status: 0 }, now),
        }
    }

    fn on_stop(&mut self, phase: Phase, now: BoardTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stopping.is_none() && phase != Phase::Done {
            // Before anything is ended: whoever was told that the run stops must
            // not see it go on after a power cut.
            let notice = Notice { at: now, what: NoticeKind::StopRequested };
            effects.push(Effect::RecordDurable(notice.into()));
        }
        self.stopping = self.stopping.or(Some(Stopping::Asked));
        effects.extend(self.end_phase(phase, FailureCause::Stopped, now));
        effects
    }

    /// Ends in order while there is room for the end; that there was none is
    /// recorded by who noticed it.
    fn on_no_room(&mut self, phase: Phase, now: BoardTime) -> Vec<Effect> {
        self.stopping = self.stopping.or(Some(Stopping::NoRoom));
        self.end_phase(phase, FailureCause::NoRoom, now)
    }

    fn end_phase(&mut self, phase: Phase, cause: FailureCause, now: BoardTime) -> Vec<Effect> {
        match phase {
            Phase::Settling { .. } => self.finish(now),
            Phase::Baseline { token, .. } => {
                let mut effects = vec![abandoned(token, cause)];
                effects.extend(self.finish(now));
                effects
            }
            Phase::Loading { .. } => self.abandon(None, WarmUp::default(), cause, now),
            Phase::WarmUp { tally, .. } => self.abandon(None, tally.report(false), cause, now),
            Phase::Measuring { token, warm_up, .. } => {
                self.abandon(Some(token), warm_up, cause, now)
            }
            other @ (Phase::Ending { .. } | Phase::Done) => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    /// Gives a living runner up: its window is void, and it is killed.
    fn abandon(
        &mut self,
        token: Option<WindowToken>,
        warm_up: WarmUp,
        cause: FailureCause,
        now: BoardTime,
    ) -> Vec<Effect> {
        let mut effects: Vec<Effect> =
            token.into_iter().map(|token| abandoned(token, cause)).collect();
        effects.push(Effect::KillRunner);
        let outcome = TrialOutcome::Failed(cause);
        self.phase = Phase::Ending { warm_up, outcome, until: now + RUNNER_GRACE };
        effects
    }

    /// Books the trial of a dead runner as failed and goes on.
    fn fail_trial(
        &mut self,
        token: Option<WindowToken>,
        warm_up: WarmUp,
        cause: FailureCause,
        now: BoardTime,
    ) -> Vec<Effect> {
        let mut effects: Vec<Effect> =
            token.into_iter().map(|token| abandoned(token, cause)).collect();
        effects.extend(self.close_trial(warm_up, TrialOutcome::Failed(cause), 0, now));
        effects
    }

    fn close_trial(
        &mut self,
        warm_up: WarmUp,
        outcome: TrialOutcome,
        peak_memory_bytes: u64,
        now: BoardTime,
    ) -> Vec<Effect> {
        let trial = self.trial_number().unwrap_or_default();
        let end = TrialEnd { trial, at: now, outcome, peak_memory_bytes, warm_up };
        self.next_trial += 1;
        self.attempt = std::mem::take(&mut self.following);
        let mut effects = vec![Effect::Record(end.into())];
        effects.extend(self.next(now));
        effects
    }

    /// What follows a trial or an idle window.
    fn next(&mut self, now: BoardTime) -> Vec<Effect> {
        if self.stopping.is_some() {
            return self.finish(now);
        }
        let Some(trial) = self.plan.trials.get(self.next_trial).copied() else {
            return self.settle(BaselinePlace::After, now);
        };
        let due = now - self.last_baseline >= BASELINE_EVERY;
        if due && self.method.idle_ns >= BASELINE_BETWEEN {
            return self.settle(BaselinePlace::Between, now);
        }
        self.phase = Phase::Loading { since: now };
        // Write-ahead: after a crash the recording tells which trial was under way.
        let start = TrialStart { trial: trial.trial, attempt: self.attempt, at: now };
        vec![
            self.mark(PhaseName::Loading, Some(trial.trial), now),
            Effect::RecordDurable(start.into()),
            Effect::StartRunner(trial),
        ]
    }

    fn settle(&mut self, place: BaselinePlace, now: BoardTime) -> Vec<Effect> {
        self.phase = Phase::Settling { place, until: now + SETTLE };
        vec![self.mark(PhaseName::Settling, None, now)]
    }

    fn open_baseline(&mut self, place: BaselinePlace, now: BoardTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        let kind = WindowKind::Idle(place);
        let token = self.open_window(kind, now, now, &mut effects);
        let length = match place {
            BaselinePlace::Before | BaselinePlace::After => self.method.idle_ns,
            BaselinePlace::Between => BASELINE_BETWEEN,
        };
        self.phase = Phase::Baseline { token, place, until: now + length };
        effects
    }

    fn open_window(
        &mut self,
        kind: WindowKind,
        t0: BoardTime,
        now: BoardTime,
        effects: &mut Vec<Effect>,
    ) -> WindowToken {
        let window = self.windows;
        self.windows += 1;
        let (name, trial) = match kind {
            WindowKind::Idle(_) => (PhaseName::Baseline, None),
            WindowKind::Trial(trial) => (PhaseName::Measuring, Some(trial)),
        };
        effects.push(self.mark(name, trial, now));
        effects.push(Effect::Record(WindowOpen { window, kind, t0 }.into()));
        WindowToken { window, kind, t0 }
    }

    fn finish(&mut self, now: BoardTime) -> Vec<Effect> {
        self.phase = Phase::Done;
        let outcome = match self.stopping {
            None => RunOutcome::Complete,
            Some(Stopping::Asked) => RunOutcome::Stopped,
            Some(Stopping::NoRoom) => RunOutcome::Failed,
        };
        vec![Effect::ReadBoard, self.mark(PhaseName::Done, None, now), Effect::Finish(outcome)]
    }

    fn trial_window(&self) -> WindowKind {
        WindowKind::Trial(self.trial_number().unwrap_or_default())
    }

    fn trial_number(&self) -> Option<u32> {
        self.plan.trials.get(self.next_trial).map(|trial| trial.trial)
    }

    fn batch(&self) -> u32 {
        self.plan
            .trials
            .get(self.next_trial)
            .and_then(|trial| self.plan.cells.get(usize::from(trial.cell)))
            .map_or(1, |cell| cell.batch)
    }

    fn mark(&self, phase: PhaseName, trial: Option<u32>, at: BoardTime) -> Effect {
        let run_ends = if phase == PhaseName::Done { at } else { at + self.left(at) };
        Effect::Record(PhaseMark { phase, trial, at, run_ends }.into())
    }

    /// Time left: the trials to come at the mean of those done, or at the
    /// method's least before the first is done, and the last idle window.
    fn left(&self, now: BoardTime) -> Nanos {
        let left =
            i64::try_from(self.plan.trials.len() - self.next_trial.min(self.plan.trials.len()))
                .unwrap_or(i64::MAX);
        let done = i64::try_from(self.next_trial - self.first_trial).unwrap_or(0);
        let each = if done > 0 {
            Nanos((now - self.trials_began).0 / done)
        } else {
            self.method.window_ns_min + self.method.warm_up.least + TRIAL_OVERHEAD_GUESS
        };
        let idle = if done > 0 || matches!(self.phase, Phase::Loading { .. }) { 1 } else { 2 };
        Nanos(each.0.saturating_mul(left)) + Nanos(self.method.idle_ns.0 * idle) + SETTLE
    }
}

/// Consumes the window: it is over without a close.
fn abandoned(WindowToken { window, .. }: WindowToken, cause: FailureCause) -> Effect {
    Effect::Record(WindowAbandon { window, cause }.into())
}

#[cfg(test)]
mod tests;
