//! Inside the runner: load one network, infer until told to end.
//!
//! Owns the loop and its stamps. Knows neither windows nor rails: the campaign
//! cuts a window out of the spans it is sent.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use candle_core::{Device, Tensor};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tracing::error;
use wattline_protocol::campaign_spec::{Precision as AskedPrecision, parse_cores};
use wattline_protocol::frame::FrameReader;
use wattline_protocol::record::{
    Cell, Edge, EdgeOf, FailureCause, GpuSpan, GpuSpans, InferenceSpan, InferenceSpans,
    LayerDescription, LayerSpans, TrialLoaded, TriggerFault,
};
use wattline_protocol::units::{BoardTime, Nanos};

use super::gpu_time::{Bracket, placed};
use super::message::{FromRunner, Job, ToRunner};
use crate::clock::{Clock, SystemClock};
use crate::engine::{CandleExecutor, EngineError, Options, Precision, Processor, Spans};
use crate::network::{self, Graph, Weights, hashed_input, totals};
use crate::trigger::Trigger;

/// Spans are sent this often, and at the latest after [`SPANS_MAX`].
const SEND_EVERY: Nanos = Nanos::from_millis(50);
/// Most spans in one message: 13 bytes each at most, far below a frame.
const SPANS_MAX: usize = 1024;
/// Score that makes the kernel end the runner, not the sampler, when memory is
/// short (proc(5), oom_score_adj: 1000 is the most).
const OOM_SCORE: &str = "1000";
/// Seed of the images that are inferred; their values do not change the time.
const INPUT_SEED: u64 = 1;

/// Runs one trial over a pipe and returns the process's exit status: 0 where
/// it ended as it was told to, 1 where it said why it could not.
pub fn run(input: impl Read + Send + 'static, mut output: impl Write) -> u8 {
    // Not being allowed to volunteer is no reason not to work.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let orders = listen(input);
    let Ok(ToRunner::Job(job)) = orders.queue.recv() else { return 1 };
    let mut spoken = Speech { output: &mut output };
    let result = Trial::load(&job, &mut spoken)
        .and_then(|mut trial| trial.infer_until_told(&orders, &mut spoken));
    match result {
        Ok(()) => spoken.say(&FromRunner::Ended { peak_memory_bytes: peak_memory_bytes() }),
        Err(cause) => spoken.say(&FromRunner::Failed(cause)),
    }
    u8::from(result.is_err())
}

struct Orders {
    queue: Receiver<ToRunner>,
    end: Arc<AtomicBool>,
}

/// Reads orders on a thread of their own; the agent's end of the pipe closing
/// means that the agent is gone, and the runner with it.
fn listen(mut input: impl Read + Send + 'static) -> Orders {
    let (sender, queue): (Sender<ToRunner>, _) = channel();
    let end = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&end);
    thread::spawn(move || {
        let mut reader = FrameReader::new();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = input.read(&mut bytes) {
            reader.feed(bytes.get(..count).unwrap_or_default());
            while let Ok(Some(order)) = ToRunner::next(&mut reader) {
                if order == ToRunner::End {
                    told.store(true, Ordering::Release);
                }
                if sender.send(order).is_err() {
                    return;
                }
            }
        }
        std::process::exit(1);
    });
    Orders { queue, end }
}

struct Speech<'a, W: Write> {
    output: &'a mut W,
}

impl<W: Write> Speech<'_, W> {
    fn say(&mut self, message: &FromRunner) {
        let sent = self.output.write_all(&message.to_bytes()).and_then(|()| self.output.flush());
        // Nobody listens any more: the same as the closing of the orders' pipe.
        if sent.is_err() {
            std::process::exit(1);
        }
    }
}

struct Trial {
    number: u32,
    executor: CandleExecutor,
    input: Tensor,
    layer_spans: u32,
    done: u32,
    layer_times: Vec<BoardTime>,
    gpu: Vec<GpuSpan>,
    trigger: Option<Trigger>,
}

impl Trial {
    fn load<W: Write>(job: &Job, speech: &mut Speech<'_, W>) -> Result<Self, FailureCause> {
        let cell = &job.cell;
        pin(&cell.cores)?;
        let graph = network::open(&cell.network).map_err(|source| {
            error!(error = &source as &dyn std::error::Error, "The network cannot be opened.");
            FailureCause::UnknownNetwork
        })?;
        let size = usize::try_from(cell.size).unwrap_or(usize::MAX);
        let batch = usize::try_from(cell.batch).unwrap_or(usize::MAX);
        let weights = weights(&graph, cell)?;
        let digest = digest_bytes(&weights.digest());
        let options = options(job, batch, size)?;
        let channels = graph.input.channels;
        let counts = graph.counts(size).map_err(|source| said(&source.into()))?;
        let total = totals(&counts);
        let executor =
            CandleExecutor::load(&graph, weights, options).map_err(|source| said(&source))?;
        let input = Tensor::from_vec(
            hashed_input(INPUT_SEED, batch, channels, size),
            (batch, channels, size, size),
            &Device::Cpu,
        )
        .map_err(|_| FailureCause::Engine)?;
        let input = executor.stage(&input).map_err(|source| said(&source))?;
        let layers = if job.describe_layers { layers(&executor, cell.batch) } else { Vec::new() };
        speech.say(&FromRunner::Loaded(Box::new(TrialLoaded {
            trial: job.trial,
            at: SystemClock.now(),
            weights_sha256: digest,
            params: total.parameters,
            macs: total.macs,
            ops_paper: total.ops_paper,
            threads: cell.threads,
            folded: job.fold,
            layers,
        })));
        let layer_times = Vec::with_capacity(executor.layers().len());
        let (number, layer_spans) = (job.trial, job.layer_spans);
        Ok(Self {
            number,
            executor,
            input,
            layer_spans,
            done: 0,
            layer_times,
            gpu: Vec::new(),
            trigger: None,
        })
    }

    fn infer_until_told<W: Write>(
        &mut self,
        orders: &Orders,
        speech: &mut Speech<'_, W>,
    ) -> Result<(), FailureCause> {
        let mut order = orders.queue.recv();
        if let Ok(ToRunner::Trigger(line)) = &order {
            self.trigger = Trigger::open(line).map_err(|fault| lost(speech, fault)).ok();
            order = orders.queue.recv();
        }
        match order {
            Ok(ToRunner::Go) => {}
            Ok(ToRunner::Job(_) | ToRunner::End | ToRunner::Trigger(_)) | Err(_) => return Ok(()),
        }
        if let Some(trigger) = &mut self.trigger {
            trigger.reserve(2 * SPANS_MAX);
        }
        let mut spans = Vec::with_capacity(SPANS_MAX);
        let mut sent = SystemClock.now();
        while !orders.end.load(Ordering::Acquire) {
            let span = self.infer(speech)?;
            spans.push(span);
            let now = SystemClock.now();
            if now - sent >= SEND_EVERY || spans.len() == SPANS_MAX {
                sent = now;
                self.send(&mut spans, speech);
            }
        }
        self.send(&mut spans, speech);
        Ok(())
    }

    fn infer<W: Write>(
        &mut self,
        speech: &mut Speech<'_, W>,
    ) -> Result<InferenceSpan, FailureCause> {
        let layered = self.done < self.layer_spans;
        self.layer_times.clear();
        let times = &mut self.layer_times;
        let mut stamp = |_: usize| times.push(SystemClock.now());
        let spans = if layered { Spans::Each(&mut stamp) } else { Spans::Off };
        edge(&mut self.trigger, self.number, self.done, Edge::Rise, speech);
        let start = SystemClock.now();
        let output = self.executor.run(&self.input, spans).map_err(|source| said(&source))?;
        let end = SystemClock.now();
        edge(&mut self.trigger, self.number, self.done, Edge::Fall, speech);
        let length = end - start;
        // A span that contradicts the board's clock is left out, not bent.
        let gpu = self.executor.gpu_length().map_err(|source| said(&source))?;
        let bracket = Bracket { before: start, after: end };
        self.gpu.extend(gpu.and_then(|length| placed(self.done, bracket, length)));
        if layered {
            speech.say(&FromRunner::Layers(self.layer_record(start)));
        }
        self.done = self.done.saturating_add(1);
        finite(&output)?;
        Ok(InferenceSpan { start, length_ns: u64::try_from(length.0).unwrap_or(0) })
    }

    fn layer_record(&self, start: BoardTime) -> LayerSpans {
        let mut before = start;
        let mut lengths_ns = Vec::with_capacity(self.layer_times.len());
        for time in &self.layer_times {
            lengths_ns.push(u32::try_from((*time - before).0).unwrap_or(u32::MAX));
            before = *time;
        }
        LayerSpans { trial: self.number, inference: self.done, start, lengths_ns }
    }

    fn send<W: Write>(&mut self, spans: &mut Vec<InferenceSpan>, speech: &mut Speech<'_, W>) {
        if spans.is_empty() {
            return;
        }
        let count = u32::try_from(spans.len()).unwrap_or(u32::MAX);
        let first = self.done.saturating_sub(count);
        speech.say(&FromRunner::Inferences(InferenceSpans {
            trial: self.number,
            first,
            spans: std::mem::take(spans),
        }));
        spans.reserve(SPANS_MAX);
        if !self.gpu.is_empty() {
            let (trial, spans) = (self.number, std::mem::take(&mut self.gpu));
            speech.say(&FromRunner::GpuSpans(GpuSpans { trial, spans }));
        }
        if let Some(edges) = self.trigger.as_mut().and_then(Trigger::take) {
            speech.say(&FromRunner::Edges(edges));
        }
    }
}

/// One edge of an inference, outside of its span. A line that fails is given
/// up for the trial, which goes on.
fn edge<W: Write>(
    trigger: &mut Option<Trigger>,
    trial: u32,
    inference: u32,
    edge: Edge,
    speech: &mut Speech<'_, W>,
) {
    let Some(line) = trigger else { return };
    let of = EdgeOf::Inference { trial, inference };
    if let Err(fault) = line.set(of, edge, &SystemClock) {
        if let Some(edges) = line.take() {
            speech.say(&FromRunner::Edges(edges));
        }
        *trigger = None;
        lost(speech, fault);
    }
}

fn lost<W: Write>(speech: &mut Speech<'_, W>, fault: TriggerFault) {
    error!(?fault, "The trigger's line cannot be set; the trial goes on without.");
    speech.say(&FromRunner::NoEdges(fault));
}

fn pin(cores: &str) -> Result<(), FailureCause> {
    let cores = parse_cores(cores).map_err(|_| FailureCause::NoCores)?;
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        set.set(usize::from(core)).map_err(|_| FailureCause::NoCores)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|_| FailureCause::NoCores)
}

fn weights(graph: &Graph, cell: &Cell) -> Result<Weights, FailureCause> {
    if let Some(seed) = cell.weights.strip_prefix("hashed:") {
        let seed = seed.parse().map_err(|_| FailureCause::BadWeights)?;
        return Ok(Weights::hashed(graph, seed));
    }
    let file = network::weights_file(Path::new(&cell.weights), graph);
    Weights::from_file(&file, graph).map_err(|source| said(&source.into()))
}

fn options(job: &Job, batch: usize, size: usize) -> Result<Options, FailureCause> {
    let processor: Processor = job.cell.device.parse().map_err(|_| FailureCause::NoDevice)?;
    let precision = match job.cell.precision {
        AskedPrecision::F32 => Precision::F32,
        AskedPrecision::Tf32 => Precision::Tf32,
        AskedPrecision::F16 => Precision::F16,
        AskedPrecision::Bf16 => Precision::Bf16,
    };
    Ok(Options { batch, size, processor, precision, fold: job.fold, fused: true })
}

fn layers(executor: &CandleExecutor, batch: u32) -> Vec<LayerDescription> {
    executor
        .layers()
        .iter()
        .map(|layer| LayerDescription {
            name: layer.name.clone(),
            op: layer.kind.to_owned(),
            macs: layer.macs / u64::from(batch.max(1)),
        })
        .collect()
}

/// Logs what the engine said and names it for the record.
fn said(error: &EngineError) -> FailureCause {
    let cause = match error {
        EngineError::Weights(_) => FailureCause::BadWeights,
        EngineError::CudaNotBuilt | EngineError::Open { .. } => FailureCause::NoDevice,
        EngineError::Tf32OnCpu | EngineError::PrecisionNotOffered { .. } => {
            FailureCause::NoPrecision
        }
        _ => FailureCause::Engine,
    };
    error!(error = error as &dyn std::error::Error, "The trial cannot run.");
    cause
}

fn finite(output: &Tensor) -> Result<(), FailureCause> {
    let values: Vec<f32> =
        output.flatten_all().and_then(|flat| flat.to_vec1()).map_err(|_| FailureCause::Engine)?;
    if values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(FailureCause::NotFinite) }
}

fn digest_bytes(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, place) in bytes.iter_mut().zip((0..hex.len()).step_by(2)) {
        let digits = hex.get(place..place + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    bytes
}

/// Peak resident memory of this process, in bytes: VmHWM of proc(5); 0 where
/// the kernel does not tell.
#[must_use]
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_in_hex_becomes_its_bytes() {
        let bytes = digest_bytes(&"0aff".repeat(16));
        assert_eq!(bytes.get(..4), Some([0x0A, 0xFF, 0x0A, 0xFF].as_slice()));
    }

    #[test]
    fn this_process_has_a_peak_memory() {
        assert!(peak_memory_bytes() > 100_000);
    }
}
