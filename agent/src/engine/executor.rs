//! The executor: a plan, loaded and run on a candle device.
//!
//! Owns what a caller sees: load, layers, one inference with its spans. What a
//! step computes is in `plain` (candle's operations, any device) or in `own`
//! (our kernels, f32 on the CPU). Reads no clock.

use candle_core::{DType, Device, Tensor};

use wattline_protocol::units::Nanos;

use crate::network::{Graph, Weights};

use super::error::EngineError;
use super::own::OwnNetwork;
use super::plain::Place;
use super::plain_network::PlainNetwork;
use super::plan::{Plan, PlanOptions, Step};
use super::stopwatch::Stopwatch;
use super::target::{self, Precision, Processor};

/// Images of one batch: 64 times the largest of the paper, and small enough
/// that no product of sizes leaves 64 bits.
const BATCH_MAX: usize = 4096;

/// Refuses batches of no image and of more than can be meant.
///
/// # Errors
/// [`EngineError::EmptyBatch`] and [`EngineError::BatchTooLarge`].
pub fn check_batch(batch: usize) -> Result<(), EngineError> {
    match batch {
        0 => Err(EngineError::EmptyBatch),
        1..=BATCH_MAX => Ok(()),
        _ => Err(EngineError::BatchTooLarge { batch, limit: BATCH_MAX }),
    }
}

/// How a network is to be executed. All of it is part of a trial's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Images per inference.
    pub batch: usize,
    /// Height and width of the images in pixels.
    pub size: usize,
    /// Where.
    pub processor: Processor,
    /// In which numbers.
    pub precision: Precision,
    /// Whether normalisation is folded into weights.
    pub fold: bool,
    /// Whether activations and sums are fused and our own kernels used where
    /// there are any; without it every layer is a step of candle's operations.
    pub fused: bool,
}

/// What is known of a step before it runs; its index is that of its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLayer {
    /// Name of the graph's layer.
    pub name: String,
    /// Kind of operation, as in a graph file.
    pub kind: &'static str,
    /// Layers that are computed in the same step.
    pub absorbed: Vec<String>,
    /// Multiply-accumulates for the whole batch.
    pub macs: u64,
}

/// Who is told when a layer has been computed.
pub enum Spans<'a> {
    /// Nobody; a GPU runs on without waiting.
    Off,
    /// Called with the layer's index after each layer. A GPU is waited for
    /// after each layer, which costs time: such runs are not timed as a whole.
    Each(&'a mut dyn FnMut(usize)),
}

/// A network ready to run on one of candle's devices.
#[derive(Debug)]
pub struct CandleExecutor {
    layers: Vec<PlannedLayer>,
    network: Network,
    input_dims: Vec<usize>,
    device: Device,
    element: DType,
    stopwatch: Stopwatch,
}

/// Whose kernels compute.
#[derive(Debug)]
enum Network {
    /// candle's, on any device and in any precision.
    Plain(PlainNetwork),
    /// Ours, on the CPU in f32.
    Own(Box<OwnNetwork>),
}

impl CandleExecutor {
    /// Plans the network and moves its weights to where they are used. Takes
    /// the weights, so that they are in memory once.
    ///
    /// # Errors
    /// [`EngineError`]: a wrong graph, weights that do not fit, a processor or
    /// precision that this build or board does not offer.
    pub fn load(
        graph: &Graph,
        weights: Weights,
        options: Options,
    ) -> Result<CandleExecutor, EngineError> {
        check_batch(options.batch)?;
        let device = target::open(options.processor, options.precision)?;
        let element = options.precision.element();
        let passes = PlanOptions { fold: options.fold, fuse: options.fused };
        let plan = Plan::new(graph, weights, options.size, passes)?;
        let input_dims = plan.input.with_batch(options.batch);
        let layers = plan.steps.iter().map(|step| describe(step, options.batch)).collect();
        let ours = device.is_cpu() && element == DType::F32;
        let network = if options.fused && ours {
            let made = OwnNetwork::new(plan, options.batch)
                .map_err(|source| EngineError::Transfer { what: "buffers", source })?;
            Network::Own(Box::new(made))
        } else {
            Network::Plain(PlainNetwork::new(plan, Place { device: &device, element })?)
        };
        let stopwatch = Stopwatch::of(&device)
            .map_err(|source| EngineError::Transfer { what: "events", source })?;
        Ok(CandleExecutor { layers, network, input_dims, device, element, stopwatch })
    }

    /// The layers in the order of execution.
    #[must_use]
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }

    /// Moves a batch (N × C × H × W, any float type) to the device, in the
    /// type that is computed with, so that it need not be moved in each run.
    ///
    /// # Errors
    /// [`EngineError::InputShape`] and [`EngineError::Transfer`].
    pub fn stage(&self, input: &Tensor) -> Result<Tensor, EngineError> {
        if input.dims() != self.input_dims {
            let (expected, found) = (self.input_dims.clone(), input.dims().to_vec());
            return Err(EngineError::InputShape { expected, found });
        }
        let moved = input.to_device(&self.device).and_then(|input| input.to_dtype(self.element));
        moved
            .and_then(|input| input.contiguous())
            .map_err(|source| EngineError::Transfer { what: "input", source })
    }

    /// One inference; the result is in f32 on the CPU, hence complete.
    ///
    /// # Errors
    /// [`EngineError`] naming the layer that failed.
    pub fn run(&mut self, input: &Tensor, mut spans: Spans<'_>) -> Result<Tensor, EngineError> {
        let image = self.stage(input)?;
        let moved = |source| EngineError::Transfer { what: "input", source };
        match &mut self.network {
            Network::Plain(network) => network.accept(image),
            Network::Own(network) => network.accept(&image).map_err(moved)?,
        }
        let timed = |source| EngineError::Transfer { what: "events", source };
        self.stopwatch.start().map_err(timed)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let failed = |source| EngineError::Layer { layer: layer.name.clone(), source };
            match &mut self.network {
                Network::Plain(network) => network.step(index).map_err(failed)?,
                Network::Own(network) => network.step(index).map_err(failed)?,
            }
            if let Spans::Each(layer_done) = &mut spans {
                self.device.synchronize().map_err(failed)?;
                layer_done(index);
            }
        }
        self.stopwatch.stop().map_err(timed)?;
        let answer = match &mut self.network {
            Network::Plain(network) => network.answer(),
            Network::Own(network) => network.answer(),
        };
        answer.map_err(|source| EngineError::Transfer { what: "output", source })
    }
}

impl CandleExecutor {
    /// How long the GPU worked on the last inference, by its own clock; `None`
    /// on a CPU. Waits for nothing after [`CandleExecutor::run`].
    ///
    /// # Errors
    /// [`EngineError::Transfer`] where the events cannot be read.
    pub fn gpu_length(&self) -> Result<Option<Nanos>, EngineError> {
        let read = self.stopwatch.elapsed();
        read.map_err(|source| EngineError::Transfer { what: "events", source })
    }
}

fn describe(step: &Step, batch: usize) -> PlannedLayer {
    PlannedLayer {
        name: step.name.clone(),
        kind: step.kind,
        absorbed: step.absorbed.clone(),
        macs: step.macs.saturating_mul(batch as u64),
    }
}
