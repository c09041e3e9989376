//! The passes that make a plan of a graph.
//!
//! Owns folding, fusing and the rules by which they are exact. One walk over
//! the graph; the plan's types are in `plan`.

use crate::network::{BatchNorm, Node, Op, Shape, Source, Weights, WeightsError};

use super::error::EngineError;
use super::plan::{Activation, PlanOptions, Step, StepOp, Value};

/// The passes' state while they walk the graph once.
pub(super) struct Planner {
    weights: Weights,
    options: PlanOptions,
    /// How many layers read each node; the output counts as read once more.
    readers: Vec<usize>,
    /// What each node seen so far became.
    made: Vec<Value>,
    steps: Vec<Step>,
}

impl Planner {
    pub(super) fn new(weights: Weights, wiring: &[Vec<Source>], options: PlanOptions) -> Planner {
        let mut readers = vec![0; wiring.len()];
        for source in wiring.iter().flatten() {
            if let Source::Node(index) = source {
                readers[*index] += 1;
            }
        }
        if let Some(last) = readers.last_mut() {
            *last += 1;
        }
        Planner { weights, options, readers, made: Vec::new(), steps: Vec::new() }
    }

    /// Takes the next layer of the graph.
    pub(super) fn node(
        &mut self,
        node: &Node,
        sources: &[Source],
        shape: Shape,
        macs: u64,
    ) -> Result<(), EngineError> {
        if let Some(index) = self.absorb(node, sources)? {
            self.steps[index].absorbed.push(node.name.clone());
            self.made.push(Value::Step(index));
            return Ok(());
        }
        let (op, activation) = self.step_op(node)?;
        let mut inputs: Vec<Value> = sources.iter().map(|source| self.value(*source)).collect();
        let residual = if matches!(node.op, Op::Add) { inputs.pop() } else { None };
        self.made.push(Value::Step(self.steps.len()));
        let (name, kind) = (node.name.clone(), node.op.kind());
        let (absorbed, frees) = (Vec::new(), Vec::new());
        let step =
            Step { name, kind, absorbed, op, activation, inputs, residual, shape, macs, frees };
        self.steps.push(step);
        Ok(())
    }

    /// The steps, and what the last layer became.
    pub(super) fn finish(self) -> (Vec<Step>, Value) {
        let output = self.made.last().copied().unwrap_or(Value::Input);
        (self.steps, output)
    }

    fn value(&self, source: Source) -> Value {
        match source {
            Source::Input => Value::Input,
            Source::Node(index) => self.made[index],
        }
    }

    /// The step that takes `node` in, where one can.
    fn absorb(&mut self, node: &Node, sources: &[Source]) -> Result<Option<usize>, EngineError> {
        match &node.op {
            Op::BatchNorm(norm) if self.options.fold => {
                let Some(index) = self.sole_maker(sources[0]) else {
                    return Ok(None);
                };
                let step = &self.steps[index];
                if step.residual.is_some() || !step.op.has_weights() || !self.is_open(index) {
                    return Ok(None);
                }
                let (scale, shift) = self.norm_affine(&node.name, norm)?;
                self.steps[index].op.fold(&scale, &shift);
                Ok(Some(index))
            }
            Op::Relu | Op::Relu6 | Op::Silu | Op::Sigmoid | Op::Prelu(_) if self.options.fuse => {
                let Some(index) = self.sole_maker(sources[0]) else {
                    return Ok(None);
                };
                if !self.is_open(index) {
                    return Ok(None);
                }
                self.steps[index].activation = self.activation(node)?;
                Ok(Some(index))
            }
            Op::Add if self.options.fuse => Ok(self.absorb_sum(sources)),
            _ => Ok(None),
        }
    }

    /// A sum goes into the later of its two makers, because only then the
    /// other term exists when that step runs.
    fn absorb_sum(&mut self, sources: &[Source]) -> Option<usize> {
        let (first, second) = (self.value(sources[0]), self.value(sources[1]));
        let (later, other) = if first > second { (0, second) } else { (1, first) };
        let index = self.sole_maker(sources[later])?;
        if !self.is_open(index) || self.steps[index].residual.is_some() || first == second {
            return None;
        }
        self.steps[index].residual = Some(other);
        Some(index)
    }

    /// The step that made `source`, where no other layer reads it.
    fn sole_maker(&self, source: Source) -> Option<usize> {
        let Source::Node(node) = source else {
            return None;
        };
        match self.made[node] {
            Value::Step(index) if self.readers[node] == 1 => Some(index),
            Value::Step(_) | Value::Input => None,
        }
    }

    /// Whether more can still be put behind the step's operation.
    fn is_open(&self, index: usize) -> bool {
        let step = &self.steps[index];
        step.op.ends_in_registers() && step.activation == Activation::None
    }

    fn step_op(&mut self, node: &Node) -> Result<(StepOp, Activation), EngineError> {
        let op = match &node.op {
            Op::Conv2d(conv) => {
                let weight = self.take(node, "weight")?;
                let bias = conv.bias.then(|| self.take(node, "bias")).transpose()?;
                StepOp::Conv { conv: *conv, weight, bias }
            }
            Op::Linear(linear) => {
                let weight = self.take(node, "weight")?;
                let bias = linear.bias.then(|| self.take(node, "bias")).transpose()?;
                StepOp::Linear { linear: *linear, weight, bias }
            }
            Op::BatchNorm(norm) => {
                let (scale, shift) = self.norm_affine(&node.name, norm)?;
                StepOp::Affine { scale: round(&scale), shift: round(&shift) }
            }
            Op::ChannelAffine(affine) => {
                StepOp::Affine { scale: affine.scale.clone(), shift: affine.shift.clone() }
            }
            Op::Relu | Op::Relu6 | Op::Silu | Op::Sigmoid | Op::Prelu(_) | Op::Add => {
                StepOp::Identity
            }
            Op::MaxPool(pool) => StepOp::MaxPool(*pool),
            Op::AvgPool(pool) => StepOp::AvgPool(*pool),
            Op::AdaptiveAvgPool(pool) => StepOp::AdaptiveAvgPool(*pool),
            Op::GlobalAvgPool => StepOp::GlobalAvgPool,
            Op::Flatten => StepOp::Flatten,
            Op::Concat => StepOp::Concat,
            Op::ScaleChannels => StepOp::ScaleChannels,
            Op::PadChannels(pad) => StepOp::PadChannels(pad.channels),
            Op::Lrn(lrn) => StepOp::Lrn(*lrn),
        };
        Ok((op, self.activation(node)?))
    }

    fn activation(&mut self, node: &Node) -> Result<Activation, EngineError> {
        Ok(match &node.op {
            Op::Relu => Activation::Relu,
            Op::Relu6 => Activation::Relu6,
            Op::Silu => Activation::Silu,
            Op::Sigmoid => Activation::Sigmoid,
            Op::Prelu(_) => Activation::Prelu(self.take(node, "weight")?),
            _ => Activation::None,
        })
    }

    fn take(&mut self, node: &Node, leaf: &str) -> Result<Vec<f32>, EngineError> {
        self.take_key(format!("{}.{leaf}", node.name))
    }

    fn take_key(&mut self, key: String) -> Result<Vec<f32>, EngineError> {
        match self.weights.take(&key) {
            Some(tensor) => Ok(tensor.values),
            None => Err(WeightsError::Missing { key, expected: Vec::new() }.into()),
        }
    }

    /// A normalisation as factor and addend per channel, in f64: rounding comes
    /// once, after it has been folded.
    fn norm_affine(
        &mut self,
        layer: &str,
        norm: &BatchNorm,
    ) -> Result<(Vec<f64>, Vec<f64>), EngineError> {
        let gamma = self.take_key(format!("{layer}.weight"))?;
        let beta = self.take_key(format!("{layer}.bias"))?;
        let mean = self.take_key(format!("{layer}.running_mean"))?;
        let variance = self.take_key(format!("{layer}.running_var"))?;
        let affine = (0..norm.channels).map(|channel| {
            let scale =
                f64::from(gamma[channel]) / (f64::from(variance[channel]) + norm.eps).sqrt();
            (scale, f64::from(beta[channel]) - f64::from(mean[channel]) * scale)
        });
        Ok(affine.unzip())
    }
}

impl StepOp {
    /// Whether an executor can apply residual and activation while the result
    /// of this operation is still in registers.
    fn ends_in_registers(&self) -> bool {
        match self {
            StepOp::Conv { .. }
            | StepOp::Linear { .. }
            | StepOp::Affine { .. }
            | StepOp::Identity => true,
            StepOp::MaxPool(_)
            | StepOp::AvgPool(_)
            | StepOp::AdaptiveAvgPool(_)
            | StepOp::GlobalAvgPool
            | StepOp::Flatten
            | StepOp::Concat
            | StepOp::ScaleChannels
            | StepOp::PadChannels(_)
            | StepOp::Lrn(_) => false,
        }
    }

    /// Whether a factor and addend per output channel can go into the weights.
    fn has_weights(&self) -> bool {
        matches!(self, StepOp::Conv { .. } | StepOp::Linear { .. })
    }

    /// Puts x · scale + shift per output channel into weights and bias.
    fn fold(&mut self, scale: &[f64], shift: &[f64]) {
        let (StepOp::Conv { weight, bias, .. } | StepOp::Linear { weight, bias, .. }) = self else {
            return;
        };
        let per_channel = weight.len() / scale.len();
        for (kernel, factor) in weight.chunks_exact_mut(per_channel).zip(scale) {
            for value in kernel {
                *value = narrow(f64::from(*value) * factor);
            }
        }
        let old = bias.take().unwrap_or_else(|| vec![0.0; scale.len()]);
        let folded = old.iter().zip(scale).zip(shift);
        *bias = Some(folded.map(|((old, a), b)| narrow(f64::from(*old) * a + b)).collect());
    }
}

fn round(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| narrow(*value)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the point")]
fn narrow(value: f64) -> f32 {
    value as f32
}
