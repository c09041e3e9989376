//! Executing a network on this board.
//!
//! Owns the plan (what is computed, in which order, with which weights) and
//! the executor over candle's CPU and CUDA devices. Reads no clock: whoever
//! wants times passes a callback and stamps there. Knows no rails, no records.

// Until the manifest has the feature (and with it rayon and pulp).
#![allow(unexpected_cfgs)]

mod error;
mod executor;
#[cfg(feature = "own-kernels")]
mod own;
#[cfg(not(feature = "own-kernels"))]
#[path = "no_own.rs"]
mod own;
mod plain;
mod plain_network;
mod plan;
mod planner;
mod pool;
mod target;

pub use error::EngineError;
pub use executor::{CandleExecutor, Options, PlannedLayer, Spans};
pub use plan::{Activation, Plan, PlanOptions, Step, StepOp, Value};
pub use target::{Precision, Processor, TargetError};
