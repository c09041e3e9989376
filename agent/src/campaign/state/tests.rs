use proptest::prelude::*;
use wattline_protocol::campaign_spec::{CampaignFile, Precision};
use wattline_protocol::record::Cell;

use super::*;

const MS: i64 = 1_000_000;

fn plan(trials: u32) -> Plan {
    let cell = Cell {
        cell: 0,
        network: "enet".into(),
        batch: 4,
        precision: Precision::F32,
        device: "cpu".into(),
        size: 64,
        threads: 2,
        cores: String::new(),
        weights: "hashed:1".into(),
    };
    let trials = (0..trials).map(|trial| Trial { trial, cell: 0, repeat: 0 }).collect();
    Plan { cells: vec![cell], trials }
}

fn quick() -> Method {
    let spec = CampaignFile::parse("networks = ['enet']").unwrap().resolve(Mode::Quick).unwrap();
    Method::of(&spec, Nanos::from_micros(840))
}

struct Drive {
    campaign: Option<Campaign>,
    now: BoardTime,
    effects: Vec<Effect>,
}

impl Drive {
    fn of(trials: u32) -> Self {
        let now = BoardTime(1_000_000_000);
        let (campaign, effects) =
            Campaign::begin(plan(trials), quick(), StartPoint::default(), now);
        Self { campaign: Some(campaign), now, effects }
    }

    fn on(&mut self, event: Event) -> &mut Self {
        let (campaign, effects) = self.campaign.take().unwrap().on(event, self.now);
        self.campaign = Some(campaign);
        self.effects.extend(effects);
        self
    }

    fn tick(&mut self) -> &mut Self {
        self.now = self.campaign.as_ref().unwrap().deadline().unwrap_or(self.now);
        self.on(Event::Tick)
    }

    /// One inference of `ms`, ending now.
    fn infer(&mut self, ms: i64) -> &mut Self {
        let start = self.now;
        self.now = self.now + Nanos(ms * MS);
        let length_ns = u64::try_from(ms * MS).unwrap();
        self.on(Event::Inferences(vec![InferenceSpan { start, length_ns }]))
    }

    fn trial_ends(&self) -> Vec<TrialOutcome> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(Record::TrialEnd(end)) => Some(end.outcome),
                _ => None,
            })
            .collect()
    }

    fn opened_and_ended(&self) -> (usize, usize) {
        let opened = |effect: &&Effect| matches!(effect, Effect::Record(Record::WindowOpen(_)));
        let ended = |effect: &&Effect| {
            matches!(effect, Effect::CloseWindow(..) | Effect::Record(Record::WindowAbandon(_)))
        };
        (self.effects.iter().filter(opened).count(), self.effects.iter().filter(ended).count())
    }

    fn finished(&self) -> Option<RunOutcome> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Finish(outcome) => Some(*outcome),
            _ => None,
        })
    }
}

#[test]
fn a_run_is_idle_trial_idle_and_complete() {
    let mut run = Drive::of(1);
    run.tick().tick().on(Event::Loaded).infer(300).infer(600).infer(600);
    run.on(Event::RunnerEnded { peak_memory_bytes: 7 }).tick().tick();
    assert_eq!(run.finished(), Some(RunOutcome::Complete));
    assert_eq!(run.trial_ends(), [TrialOutcome::Measured]);
    assert_eq!(run.opened_and_ended(), (3, 3));
}

#[test]
fn a_window_begins_where_the_warm_up_ends_and_counts_whole_inferences() {
    let mut run = Drive::of(1);
    run.tick().tick().on(Event::Loaded).infer(300);
    let t0 = run.now;
    run.infer(400).infer(400).infer(400);
    let closed = run.effects.iter().find_map(|effect| match effect {
        Effect::CloseWindow(token, t1, work) if work.inferences > 0 => Some((token.t0, *t1, *work)),
        _ => None,
    });
    assert_eq!(closed, Some((t0, run.now, Work { inferences: 3, images: 12 })));
}

#[test]
fn a_killed_runner_costs_one_trial_and_the_night_goes_on() {
    let mut run = Drive::of(2);
    run.tick().tick().on(Event::Loaded).infer(300).infer(100);
    run.on(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }));
    run.on(Event::Loaded).infer(300).infer(600).infer(600);
    run.on(Event::RunnerEnded { peak_memory_bytes: 0 });
    let killed = TrialOutcome::Failed(FailureCause::RunnerKilled { signal: 9 });
    assert_eq!(run.trial_ends(), [killed, TrialOutcome::Measured]);
    assert_eq!(run.opened_and_ended(), (3, 3));
}

#[test]
fn a_runner_that_says_nothing_is_killed_and_the_trial_is_failed() {
    let mut run = Drive::of(1);
    run.tick().tick().tick();
    assert!(run.effects.contains(&Effect::KillRunner));
    run.on(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }));
    assert_eq!(run.trial_ends(), [TrialOutcome::Failed(FailureCause::RunnerSilent)]);
}

#[test]
fn a_stop_abandons_the_window_and_finishes_as_stopped() {
    let mut run = Drive::of(3);
    run.tick().tick().on(Event::Loaded).infer(300).infer(100).on(Event::Stop);
    run.on(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }));
    assert_eq!(run.finished(), Some(RunOutcome::Stopped));
    assert_eq!(run.trial_ends(), [TrialOutcome::Failed(FailureCause::Stopped)]);
    assert_eq!(run.opened_and_ended(), (2, 2));
}

#[test]
fn a_runner_that_ignores_its_end_is_killed_and_its_window_stands() {
    let mut run = Drive::of(1);
    run.tick().tick().on(Event::Loaded).infer(300).infer(600).infer(600).tick();
    assert_eq!(run.effects.last(), Some(&Effect::KillRunner));
    run.on(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }));
    assert_eq!(run.trial_ends(), [TrialOutcome::Measured]);
}

#[test]
fn the_estimated_end_never_lies_before_now() {
    let mut run = Drive::of(4);
    run.tick().tick().on(Event::Loaded).infer(300).infer(600).infer(600);
    for effect in &run.effects {
        if let Effect::Record(Record::PhaseMark(mark)) = effect {
            assert!(mark.run_ends >= mark.at);
        }
    }
}

fn any_event() -> impl Strategy<Value = u8> {
    0_u8..7
}

proptest! {
    #[test]
    fn whatever_happens_each_window_ends_once_and_a_stop_finishes(
        events in proptest::collection::vec(any_event(), 0..80),
    ) {
        let mut run = Drive::of(3);
        for event in events {
            match event {
                0 => run.tick(),
                1 => run.on(Event::Loaded),
                2 | 3 => run.infer(400),
                4 => run.on(Event::RunnerFailed(FailureCause::Engine)),
                5 => run.on(Event::RunnerEnded { peak_memory_bytes: 1 }),
                _ => run.on(Event::Tick),
            };
        }
        run.on(Event::Stop);
        for _ in 0..3 {
            run.on(Event::RunnerFailed(FailureCause::RunnerKilled { signal: 9 }));
        }
        prop_assert!(run.finished().is_some());
        let (opened, ended) = run.opened_and_ended();
        prop_assert_eq!(opened, ended);
    }
}
