//! What can go wrong between a graph and its output.

use thiserror::Error;

use super::target::{Precision, Processor};
use crate::network::{GraphError, WeightsError};

/// Why a network cannot be loaded or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The graph itself is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fill the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// This executable links no CUDA.
    #[error("device cuda: this executable has no CUDA in it; wattline-runner-cuda has")]
    CudaNotBuilt,
    /// TF32 exists on GPUs alone.
    #[error("precision tf32: not on the cpu; f32 is what it computes with")]
    Tf32OnCpu,
    /// candle's CPU kernels do not take this type.
    #[error("precision {precision}: not offered on the cpu")]
    PrecisionNotOffered {
        /// What was asked for.
        precision: Precision,
        /// candle's word.
        source: candle_core::Error,
    },
    /// The GPU does not open.
    #[error("device {processor}: cannot be opened")]
    Open {
        /// Which.
        processor: Processor,
        /// candle's word.
        source: candle_core::Error,
    },
    /// A batch of no images.
    #[error("batch 0: at least one image is needed")]
    EmptyBatch,
    /// More images than a batch may hold.
    #[error("batch {batch}: at most {limit} images")]
    BatchTooLarge {
        /// What was asked for.
        batch: usize,
        /// The bound.
        limit: usize,
    },
    /// The input is not what the plan was made for.
    #[error("input: shape {found:?}, the plan is for {expected:?}")]
    InputShape {
        /// N, channels, height, width.
        expected: Vec<usize>,
        /// What came.
        found: Vec<usize>,
    },
    /// A layer failed while loading or running.
    #[error("layer {layer}: failed")]
    Layer {
        /// The layer.
        layer: String,
        /// candle's word.
        source: candle_core::Error,
    },
    /// The input or output could not be converted or moved.
    #[error("{what}: cannot be converted, moved or read")]
    Transfer {
        /// Input, output or the GPU's events.
        what: &'static str,
        /// candle's word.
        source: candle_core::Error,
    },
}
