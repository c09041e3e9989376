//! Executing a network on this board.
//!
//! Owns the plan (what is computed, in which order, with which weights) and
//! the executor over candle's CPU and CUDA devices. Reads no clock: whoever
//! wants times passes a callback and stamps there. Knows no rails, no records.

mod error;
mod executor;
mod own;
mod plain;
mod plain_network;
mod plan;
mod planner;
mod pool;
mod stopwatch;
mod target;

pub use error::EngineError;
pub use executor::{CandleExecutor, Options, PlannedLayer, Spans, check_batch};
pub use plan::{Activation, Plan, PlanOptions, Step, StepOp, Value};
pub use target::{Precision, Processor, TargetError, probe_cuda};
