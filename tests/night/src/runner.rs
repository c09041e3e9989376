//! A runner of a night: it loads, infers, ends, and sometimes dies or hangs.

use wattline_agent::campaign::state::Event;
use wattline_protocol::record::{
    FailureCause, InferenceSpan, InferenceSpans, Record, Trial, TrialLoaded,
};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::dice::Dice;

/// Inferences that are told at once.
const SPANS: u64 = 3;

/// What a runner does.
#[derive(Debug, Default)]
enum Doing {
    #[default]
    Nothing,
    Loading {
        until: BoardTime,
    },
    Loaded,
    Inferring {
        next: BoardTime,
    },
    Ending {
        until: BoardTime,
    },
    Hanging,
    Killed,
}

/// One runner's process.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    doing: Doing,
    trial: u32,
    done: u32,
    /// Length of an inference, in ns.
    length: u64,
}

/// What the campaign hears of it.
pub(crate) struct Heard {
    pub(crate) records: Vec<Record>,
    pub(crate) event: Event,
}

impl Runner {
    pub(crate) fn start(trial: Trial, now: BoardTime, dice: &mut Dice) -> Self {
        let load = Nanos::from_millis(i64::try_from(dice.between(20, 900)).unwrap_or(20));
        let doing =
            if dice.chance(10) { Doing::Hanging } else { Doing::Loading { until: now + load } };
        Self { doing, trial: trial.trial, done: 0, length: dice.between(40, 300) * 1_000_000 }
    }

    pub(crate) fn go(&mut self, now: BoardTime) {
        if matches!(self.doing, Doing::Loaded) {
            self.doing = Doing::Inferring { next: now };
        }
    }

    pub(crate) fn end(&mut self, now: BoardTime, dice: &mut Dice) {
        let until = now + Nanos::from_millis(i64::try_from(dice.between(1, 400)).unwrap_or(1));
        // Now and then one that was told to end does not, and is killed.
        self.doing = if dice.chance(30) { Doing::Hanging } else { Doing::Ending { until } };
    }

    pub(crate) fn kill(&mut self) {
        if !matches!(self.doing, Doing::Nothing) {
            self.doing = Doing::Killed;
        }
    }

    /// What is heard of it up to `now`; call until nothing is.
    pub(crate) fn step(&mut self, now: BoardTime, dice: &mut Dice) -> Option<Heard> {
        match self.doing {
            Doing::Nothing | Doing::Loaded | Doing::Hanging => None,
            Doing::Killed => {
                self.gone(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }))
            }
            Doing::Ending { until } if now >= until => {
                self.gone(Event::RunnerEnded { peak_memory_bytes: 1 << 20 })
            }
            Doing::Loading { until } if now >= until => {
                if dice.chance(30) {
                    return self.gone(Event::RunnerFailed(FailureCause::BadWeights));
                }
                self.doing = Doing::Loaded;
                Some(Heard { records: vec![self.loaded(now)], event: Event::Loaded })
            }
            Doing::Inferring { next } if now.0 >= next.0 + SPANS * self.length => {
                if dice.chance(20) {
                    return self
                        .gone(Event::RunnerFailed(FailureCause::RunnerExited { status: 1 }));
                }
                Some(self.infer(next))
            }
            Doing::Ending { .. } | Doing::Loading { .. } | Doing::Inferring { .. } => None,
        }
    }

    fn gone(&mut self, event: Event) -> Option<Heard> {
        self.doing = Doing::Nothing;
        Some(Heard { records: Vec::new(), event })
    }

    fn infer(&mut self, next: BoardTime) -> Heard {
        let spans: Vec<InferenceSpan> = (0..SPANS)
            .map(|place| InferenceSpan {
                start: BoardTime(next.0 + place * self.length),
                length_ns: self.length,
            })
            .collect();
        self.doing = Doing::Inferring { next: BoardTime(next.0 + SPANS * self.length) };
        let first = self.done;
        self.done += 3;
        let record = InferenceSpans { trial: self.trial, first, spans: spans.clone() };
        Heard { records: vec![record.into()], event: Event::Inferences(spans) }
    }

    fn loaded(&self, now: BoardTime) -> Record {
        TrialLoaded {
            trial: self.trial,
            at: now,
            weights_sha256: [7; 32],
            params: 1,
            macs: 1,
            ops_paper: 2,
            threads: 1,
            folded: true,
            layers: Vec::new(),
        }
        .into()
    }
}
