//! The executor: a plan, loaded and run on a candle device.
//!
//! Owns the order of steps, the values between them and their release. What a
//! step computes is in `plain` (candle's operations). Reads no clock.

use candle_core::{DType, Device, Tensor};

use crate::network::{Graph, Weights};

use super::error::EngineError;
use super::plain::{Place, PlainStep};
use super::plan::{Plan, PlanOptions, Step, Value};
use super::target::{self, Precision, Processor};

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
    links: Vec<Links>,
    steps: Vec<PlainStep>,
    output: Value,
    input_dims: Vec<usize>,
    device: Device,
    element: DType,
}

/// The part of a step that says what it reads and what nobody needs after it.
#[derive(Debug)]
struct Links {
    inputs: Vec<Value>,
    residual: Option<Value>,
    frees: Vec<Value>,
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
        if options.batch == 0 {
            return Err(EngineError::EmptyBatch);
        }
        let device = target::open(options.processor, options.precision)?;
        let element = options.precision.element();
        let passes = PlanOptions {
            fold: options.fold,
            fuse: options.fused,
        };
        let plan = Plan::new(graph, weights, options.size, passes)?;
        let input_dims = plan.input.with_batch(options.batch);
        let (layers, links) = describe(&plan.steps, options.batch);
        let output = plan.output;
        let place = Place {
            device: &device,
            element,
        };
        let load = |mut step: Step| {
            PlainStep::load(&mut step, place).map_err(|source| EngineError::Layer {
                layer: step.name,
                source,
            })
        };
        let steps = plan
            .steps
            .into_iter()
            .map(load)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(CandleExecutor {
            layers,
            links,
            steps,
            output,
            input_dims,
            device,
            element,
        })
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
        let moved = input
            .to_device(&self.device)
            .and_then(|input| input.to_dtype(self.element));
        moved
            .and_then(|input| input.contiguous())
            .map_err(|source| EngineError::Transfer {
                what: "input",
                source,
            })
    }

    /// One inference; the result is in f32 on the CPU, hence complete.
    ///
    /// # Errors
    /// [`EngineError`] naming the layer that failed.
    pub fn run(&mut self, input: &Tensor, mut spans: Spans<'_>) -> Result<Tensor, EngineError> {
        let input = self.stage(input)?;
        let mut values: Vec<Option<Tensor>> = vec![None; self.steps.len()];
        for index in 0..self.steps.len() {
            let failed = |source| self.failed(index, source);
            let result = self.step(index, &input, &values).map_err(failed)?;
            values[index] = Some(result);
            for value in &self.links[index].frees {
                if let Value::Step(dead) = value {
                    values[*dead] = None;
                }
            }
            if let Spans::Each(layer_done) = &mut spans {
                self.device.synchronize().map_err(failed)?;
                layer_done(index);
            }
        }
        self.value(self.output, &input, &values)
            .and_then(|output| output.to_dtype(DType::F32))
            .and_then(|output| output.to_device(&Device::Cpu))
            .map_err(|source| EngineError::Transfer {
                what: "output",
                source,
            })
    }

    fn step(
        &self,
        index: usize,
        input: &Tensor,
        values: &[Option<Tensor>],
    ) -> candle_core::Result<Tensor> {
        let links = &self.links[index];
        let read = |value: &Value| self.value(*value, input, values);
        let inputs = links
            .inputs
            .iter()
            .map(read)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let residual = links.residual.as_ref().map(read).transpose()?;
        self.steps[index].run(&inputs, residual)
    }

    fn value<'a>(
        &self,
        value: Value,
        input: &'a Tensor,
        values: &'a [Option<Tensor>],
    ) -> candle_core::Result<&'a Tensor> {
        match value {
            Value::Input => Ok(input),
            Value::Step(index) => values[index].as_ref().ok_or_else(|| {
                candle_core::Error::msg(format!("value {index} was freed before its last reader"))
            }),
        }
    }

    fn failed(&self, index: usize, source: candle_core::Error) -> EngineError {
        EngineError::Layer {
            layer: self.layers[index].name.clone(),
            source,
        }
    }
}

fn describe(steps: &[Step], batch: usize) -> (Vec<PlannedLayer>, Vec<Links>) {
    let layer = |step: &Step| PlannedLayer {
        name: step.name.clone(),
        kind: step.kind,
        absorbed: step.absorbed.clone(),
        macs: step.macs.saturating_mul(batch as u64),
    };
    let links = |step: &Step| Links {
        inputs: step.inputs.clone(),
        residual: step.residual,
        frees: step.frees.clone(),
    };
    (
        steps.iter().map(layer).collect(),
        steps.iter().map(links).collect(),
    )
}
