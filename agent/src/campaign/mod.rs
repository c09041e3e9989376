//! The campaign: decides trials, drives the runner, asks for windows.
//!
//! Owns the plan ([`plan`]), the state machine ([`state`]) and the loop that
//! performs its effects ([`run`]). Knows nothing of sockets, chips or candle.

pub mod plan;
pub mod run;
pub mod state;
pub mod warm_up;
