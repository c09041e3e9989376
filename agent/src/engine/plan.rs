//! The plan: what is computed, in which order, with which weights.
//!
//! Owns the steps and what each reads, adds and lets go: normalisation folded
//! into the convolution or linear layer before it, activations and sums fused
//! into the step that makes their input, values dropped after their last use
//! (the passes are in `planner`; each can be switched off). A pure data
//! structure: it knows no candle, no device.
//!
//! A step keeps the name of the graph's layer that it started from; the layers
//! that it took in are listed with it, so that a span of time still says what
//! was computed in it.

use crate::network::{
    AdaptiveAvgPool, AvgPool, Conv2d, Graph, Linear, Lrn, MaxPool, Shape, Weights,
};

use super::error::EngineError;
use super::planner::Planner;

/// Which passes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Normalisation goes into the weights before it where that is exact.
    pub fold: bool,
    /// Activations and sums go into the step that makes their input.
    pub fuse: bool,
}

/// Steps in the order of execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is computed.
    pub steps: Vec<Step>,
    /// Shape of the image that enters.
    pub input: Shape,
    /// The network's answer.
    pub output: Value,
}

/// Something computed: the image or what a step made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// The image.
    Input,
    /// The result of the step with this index.
    Step(usize),
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the layer it started from.
    pub name: String,
    /// Kind of that layer, as in a graph file.
    pub kind: &'static str,
    /// Names of the layers it took in, in the graph's order.
    pub absorbed: Vec<String>,
    /// What it does.
    pub op: StepOp,
    /// What it does to each element of its result at last.
    pub activation: Activation,
    /// What it reads.
    pub inputs: Vec<Value>,
    /// Added to the result before the activation.
    pub residual: Option<Value>,
    /// Shape of its result for one image.
    pub shape: Shape,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Values that nobody needs after it.
    pub frees: Vec<Value>,
}

/// What a step does before residual and activation.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOp {
    /// Convolution; `weight` is out × in/groups × height × width.
    Conv {
        /// Geometry.
        conv: Conv2d,
        /// The kernel.
        weight: Vec<f32>,
        /// One number per output channel.
        bias: Option<Vec<f32>>,
    },
    /// Matrix product; `weight` is out × in.
    Linear {
        /// Sizes.
        linear: Linear,
        /// The matrix.
        weight: Vec<f32>,
        /// One number per output feature.
        bias: Option<Vec<f32>>,
    },
    /// x · scale + shift per channel.
    Affine {
        /// Factors.
        scale: Vec<f32>,
        /// Addends.
        shift: Vec<f32>,
    },
    /// The input as it is (for an activation that stands alone).
    Identity,
    /// See [`Op::MaxPool`].
    MaxPool(MaxPool),
    /// See [`Op::AvgPool`].
    AvgPool(AvgPool),
    /// See [`Op::AdaptiveAvgPool`].
    AdaptiveAvgPool(AdaptiveAvgPool),
    /// See [`Op::GlobalAvgPool`].
    GlobalAvgPool,
    /// See [`Op::Flatten`].
    Flatten,
    /// See [`Op::Concat`].
    Concat,
    /// See [`Op::ScaleChannels`].
    ScaleChannels,
    /// Zero channels up to this number.
    PadChannels(usize),
    /// See [`Op::Lrn`].
    Lrn(Lrn),
}

/// Applied to each element.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x · sigmoid(x).
    Silu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x where positive, else x times the channel's slope.
    Prelu(Vec<f32>),
}

impl Plan {
    /// Plans `graph` for images of `size` × `size` pixels. Takes the weights,
    /// so that each is held once in memory.
    ///
    /// # Errors
    /// [`EngineError::Graph`] or [`EngineError::Weights`] with layer or key.
    pub fn new(
        graph: &Graph,
        weights: Weights,
        size: usize,
        options: PlanOptions,
    ) -> Result<Plan, EngineError> {
        let counts = graph.counts(size)?;
        let wiring = graph.wiring()?;
        weights.check(graph)?;
        let mut planner = Planner::new(weights, &wiring, options);
        for (index, node) in graph.nodes.iter().enumerate() {
            let (shape, macs) = (counts[index].shape, counts[index].macs);
            planner.node(node, &wiring[index], shape, macs)?;
        }
        let (steps, output) = planner.finish();
        let channels = graph.input.channels;
        let input = Shape::Map { channels, height: size, width: size };
        let mut plan = Plan { steps, input, output };
        plan.free_after_last_use();
        Ok(plan)
    }

    fn free_after_last_use(&mut self) {
        let mut seen = vec![self.output];
        for step in self.steps.iter_mut().rev() {
            let reads = step.inputs.iter().chain(&step.residual).copied().collect::<Vec<_>>();
            for value in reads {
                if !seen.contains(&value) {
                    seen.push(value);
                    step.frees.push(value);
                }
            }
        }
    }
}
