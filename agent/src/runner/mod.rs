//! The runner: a process of its own that owns candle, and nothing else.
//!
//! Owns one trial in one process ([`work`]), the pipe's messages ([`message`])
//! and how the agent starts, hears and ends such a process ([`process`]).
//! Touches no I²C: a crash, a GPU fault or the kernel's out-of-memory kill
//! costs one trial and no sample.

pub mod doorstep;
pub mod gpu;
mod gpu_time;
pub mod message;
pub mod process;
pub mod work;
