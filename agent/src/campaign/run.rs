//! The loop that performs a campaign's effects, on a thread of its own.
//!
//! Owns the runner of the moment and the run's samplers. Decides nothing: the
//! state machine says what to do, this does it and tells what happened.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use wattline_protocol::command::CurrentRun;
use wattline_protocol::record::{
    Edge, FailureCause, PhaseMark, PhaseName, Plan, Record, RunId, RunOutcome, Trial, WindowClose,
};
use wattline_protocol::units::{BoardTime, Nanos};

use super::marked::Marked;
use super::state::{Campaign, Effect, Event, Method, StartPoint, WindowToken, Work};
use super::witness::Witness;
use crate::board;
use crate::clock::{self, Clock, SystemClock};
use crate::recorder::Recorder;
use crate::runner::message::{FromRunner, Job, ToRunner};
use crate::runner::process::{Heard, Runner, RunnerPrograms};
use crate::sampling::{PowerSource, Sampling, Stopped};

/// A request to end is durable within this time, or the disk is so slow that
/// whoever asks is not kept waiting for it.
pub const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// Inferences of each trial whose layers are recorded.
const LAYER_SPANS: u32 = 20;

/// What the loop needs to begin.
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// Cells and trials.
    pub plan: Plan,
    /// Windows' and warm-up's rules.
    pub method: Method,
    /// Where in the plan it begins.
    pub from: StartPoint,
    /// Where records go.
    pub recorder: Recorder,
    /// The run's samplers.
    pub sampling: Sampling,
    /// Where power is read.
    pub source: Arc<PowerSource>,
    /// The runners' executables.
    pub programs: RunnerPrograms,
    /// The line that tells an external meter of windows or inferences.
    pub trigger: Marked,
    /// Reads the board's own state for each trial.
    pub witness: Witness,
    /// Called once the run is over and recorded; not where it is left to be
    /// resumed.
    pub ended: Box<dyn FnOnce(RunOutcome) + Send>,
}

/// A run at work.
#[derive(Debug)]
pub struct Running {
    messages: Sender<Incoming>,
    /// Where the run is.
    pub status: watch::Receiver<CurrentRun>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

enum Incoming {
    /// End the run; answered once that is durable.
    Stop(Sender<()>),
    /// End the run for want of room.
    NoRoom,
    /// End the process's part of it; answered once all is durable.
    Leave(Sender<()>),
    Runner(u64, Heard),
}

impl Running {
    /// Asks the run to end; it does so after cleaning up. Waits until the
    /// request is durable, at most [`HEARD_WITHIN`].
    pub fn stop(&self) {
        self.ask(Incoming::Stop);
    }

    /// Leaves the run as it is, for the agent's next start to resume: kills
    /// the runner and waits until what was recorded is durable, at most
    /// [`HEARD_WITHIN`].
    pub fn leave(&self) {
        self.ask(Incoming::Leave);
    }

    fn ask(&self, message: impl FnOnce(Sender<()>) -> Incoming) {
        let (reply, heard) = channel();
        // A run that is over already needs no stopping.
        if self.messages.send(message(reply)).is_ok() {
            let _ = heard.recv_timeout(HEARD_WITHIN);
        }
    }
}

/// Starts the loop.
#[must_use]
pub fn start(start: RunStart) -> Running {
    let (messages, queue) = channel();
    let first = CurrentRun {
        run: start.run.clone(),
        phase: PhaseName::Settling,
        trial: None,
        cell: None,
        trials: u32::try_from(start.plan.trials.len()).unwrap_or(u32::MAX),
        ends: SystemClock.now(),
    };
    let (shown, status) = watch::channel(first);
    let own = messages.clone();
    let full = messages.clone();
    // A run that is over by then needs no ending.
    start.recorder.when_full(Box::new(move || drop(full.send(Incoming::NoRoom))));
    let thread = thread::spawn(move || Loop::new(start, own, shown).work(&queue));
    Running { messages, status, thread }
}

struct Loop {
    plan: Plan,
    recorder: Recorder,
    sampling: Option<Sampling>,
    source: Arc<PowerSource>,
    programs: RunnerPrograms,
    trigger: Marked,
    witness: Witness,
    ended: Option<Box<dyn FnOnce(RunOutcome) + Send>>,
    messages: Sender<Incoming>,
    shown: watch::Sender<CurrentRun>,
    campaign: Option<Campaign>,
    first: Vec<Effect>,
    runner: Option<Runner>,
    /// Counts runners, so that the last words of one are not taken for the next's.
    generation: u64,
    peak_memory_bytes: u64,
    described: HashSet<u16>,
    rails: usize,
}

impl Loop {
    fn new(start: RunStart, messages: Sender<Incoming>, shown: watch::Sender<CurrentRun>) -> Self {
        let RunStart {
            plan,
            method,
            from,
            recorder,
            sampling,
            source,
            programs,
            trigger,
            witness,
            ended,
            run: _,
        } = start;
        let (campaign, first) = Campaign::begin(plan.clone(), method, from, SystemClock.now());
        Self {
            plan,
            recorder,
            rails: sampling.rails.len(),
            sampling: Some(sampling),
            source,
            programs,
            trigger,
            witness,
            ended: Some(ended),
            messages,
            shown,
            campaign: Some(campaign),
            first,
            runner: None,
            generation: 0,
            peak_memory_bytes: 0,
            described: HashSet::new(),
        }
    }

    fn work(mut self, queue: &Receiver<Incoming>) {
        self.record_alarms(None);
        let first = std::mem::take(&mut self.first);
        self.perform(first);
        while let Some(deadline) = self.campaign.as_ref().and_then(Campaign::deadline) {
            let deadline = self.witness.next().map_or(deadline, |next| next.min(deadline));
            let wait = (deadline - SystemClock.now()).0.max(0);
            let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(0));
            match queue.recv_timeout(wait) {
                Ok(Incoming::Stop(heard)) => {
                    self.happen(Event::Stop);
                    let _ = heard.send(());
                }
                Ok(Incoming::NoRoom) => self.happen(Event::NoRoom),
                Ok(Incoming::Leave(left)) => {
                    self.leave();
                    let _ = left.send(());
                    return;
                }
                Ok(Incoming::Runner(generation, heard)) if generation == self.generation => {
                    self.hear(heard);
                }
                // The last words of a runner that was given up.
                Ok(Incoming::Runner(..)) => {}
                Err(RecvTimeoutError::Timeout) => self.happen(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => self.happen(Event::Stop),
            }
            if let Some(conditions) = self.witness.due(SystemClock.now()) {
                self.recorder.record(conditions);
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Said(FromRunner::Loaded(loaded)) => {
                self.recorder.record(*loaded);
                self.happen(Event::Loaded);
            }
            Heard::Said(FromRunner::Inferences(spans)) => {
                self.recorder.record(spans.clone());
                self.happen(Event::Inferences(spans.spans));
            }
            Heard::Said(FromRunner::Layers(spans)) => self.recorder.record(spans),
            Heard::Said(FromRunner::GpuSpans(spans)) => self.recorder.record(spans),
            Heard::Said(FromRunner::Edges(edges)) => self.recorder.record(edges),
            Heard::Said(FromRunner::NoEdges(fault)) => {
                self.recorder.record(self.trigger.failed(fault));
            }
            Heard::Said(FromRunner::Ended { peak_memory_bytes }) => {
                self.peak_memory_bytes = peak_memory_bytes;
            }
            // The process's end, which follows, carries the cause; its start is told
            // by the runner's own number.
            Heard::Said(FromRunner::Failed(_) | FromRunner::Started { .. }) => {}
            Heard::Gone(end) => {
                self.runner = None;
                self.source.follow(None);
                let peak_memory_bytes = std::mem::take(&mut self.peak_memory_bytes);
                self.happen(match end {
                    Ok(()) => Event::RunnerEnded { peak_memory_bytes },
                    Err(cause) => Event::RunnerFailed(cause),
                });
            }
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(campaign) = self.campaign.take() {
            let (campaign, effects) = campaign.on(event, SystemClock.now());
            self.campaign = Some(campaign);
            self.perform(effects);
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.record(record),
                // Refused by a full disk, it waits in memory; the run goes on.
                Effect::RecordDurable(record) => {
                    let read = self.witness.after(&record, SystemClock.now());
                    let _ = self.recorder.record_durable(record);
                    read.into_iter().for_each(|read| self.recorder.record(read));
                }
                Effect::CloseWindow(token, t1, work) => {
                    self.edge(token.window, Edge::Fall);
                    self.close_window(&token, t1, work);
                }
                Effect::StartRunner(trial) => self.start_runner(trial),
                Effect::GoRunner => self.tell(&ToRunner::Go),
                Effect::EndRunner => self.tell(&ToRunner::End),
                Effect::KillRunner => {
                    if let Some(runner) = &mut self.runner {
                        runner.kill();
                    }
                }
                Effect::ReadBoard => self.recorder.record(board::state(SystemClock.now())),
                Effect::Finish(outcome) => self.finish(outcome),
            }
        }
    }

    fn record(&mut self, record: Record) {
        if let Record::PhaseMark(PhaseMark { phase, trial, run_ends, .. }) = &record {
            let cell = trial.and_then(|trial| {
                let trial = self.plan.trials.iter().find(|one| one.trial == trial)?;
                self.plan.cells.get(usize::from(trial.cell)).cloned()
            });
            self.shown.send_modify(|shown| {
                shown.cell = cell;
                shown.phase = *phase;
                shown.trial = *trial;
                shown.ends = *run_ends;
            });
        }
        let ended = match &record {
            Record::TrialEnd(end) => Some(end.trial),
            _ => None,
        };
        // The window is over or begins: its record waits, the line does not.
        match &record {
            Record::WindowOpen(open) => self.edge(open.window, Edge::Rise),
            Record::WindowAbandon(abandon) => self.edge(abandon.window, Edge::Fall),
            _ => {}
        }
        self.record_with_board(record);
        if ended.is_some() {
            self.record_alarms(ended);
        }
    }

    /// Records it, and the board's own state where it is read with it.
    fn record_with_board(&mut self, record: Record) {
        let read = self.witness.after(&record, SystemClock.now());
        self.recorder.record(record);
        read.into_iter().for_each(|read| self.recorder.record(read));
    }

    /// What the board counts of over-currents, after a trial or before the first.
    fn record_alarms(&self, trial: Option<u32>) {
        let counts = self.sampling.as_ref().and_then(|sampling| sampling.alarm_counts(trial));
        if let Some(counts) = counts {
            self.recorder.record(counts);
        }
    }

    fn edge(&mut self, window: u32, edge: Edge) {
        for record in self.trigger.edge(window, edge, &SystemClock) {
            self.recorder.record(record);
        }
    }

    fn close_window(&mut self, token: &WindowToken, t1: BoardTime, work: Work) {
        // The simulated load is known up to now; a window never ends later.
        let truth = self.source.truth(self.rails, token.t0, t1);
        let close = Record::from(WindowClose {
            window: token.window,
            kind: token.kind,
            t0: token.t0,
            t1,
            inferences: work.inferences,
            images: work.images,
            truth,
        });
        self.record_with_board(close);
    }

    fn start_runner(&mut self, trial: Trial) {
        self.generation += 1;
        let generation = self.generation;
        let started = match self.plan.cells.get(usize::from(trial.cell)) {
            Some(cell) => {
                let job = Job {
                    trial: trial.trial,
                    cell: cell.clone(),
                    fold: true,
                    describe_layers: self.described.insert(trial.cell),
                    layer_spans: LAYER_SPANS,
                };
                let messages = self.messages.clone();
                Runner::start(&self.programs, &job, move |heard| {
                    let _ = messages.send(Incoming::Runner(generation, heard));
                })
            }
            None => Err(FailureCause::RunnerNotStarted),
        };
        match started {
            Ok(mut runner) => {
                if let Marked::Inferences(line) = &self.trigger {
                    runner.tell(&ToRunner::Trigger(line.clone()));
                }
                self.source.follow(Some(runner.pid()));
                self.runner = Some(runner);
            }
            Err(cause) => {
                let gone = Incoming::Runner(generation, Heard::Gone(Err(cause)));
                let _ = self.messages.send(gone);
            }
        }
    }

    fn tell(&mut self, order: &ToRunner) {
        if let Some(runner) = &mut self.runner {
            runner.tell(order);
        }
    }

    /// Ends this process's part of the run: no end of the run is recorded.
    fn leave(&mut self) {
        if let Some(runner) = &mut self.runner {
            runner.kill();
        }
        let stopped = self.sampling.take().map(Sampling::stop).unwrap_or_default();
        for setting in stopped.settings {
            self.recorder.record(setting);
        }
        let _ = self.recorder.record_durable(clock::snapshot());
    }

    fn finish(&mut self, outcome: RunOutcome) {
        // The last samples of the last window are still in the chip's pipeline.
        SystemClock.sleep_until(SystemClock.now() + LAST_SAMPLES);
        let Stopped { reports, settings } =
            self.sampling.take().map(Sampling::stop).unwrap_or_default();
        for setting in settings {
            self.recorder.record(setting);
        }
        self.recorder.finish(outcome, reports);
        if let Some(ended) = self.ended.take() {
            ended(outcome);
        }
    }
}

/// Samples go on this long after the last window, so that its edge lies
/// between two samples of the slowest configuration.
const LAST_SAMPLES: Nanos = Nanos::from_millis(100);
