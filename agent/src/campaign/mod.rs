//! The campaign: decides trials, drives the runner, asks for windows.
//!
//! Owns the plan ([`plan`]), the state machine ([`state`]), where a run that
//! was cut goes on ([`resume`]), what an external meter is told ([`marked`]),
//! when the board's own state is read ([`witness`]) and the loop that performs the effects
//! ([`run`]). Knows nothing of sockets, chips or candle.

pub mod marked;
pub mod plan;
pub mod resume;
pub mod run;
pub mod state;
pub mod warm_up;
pub mod witness;
