//! The virtual board: a real Linux guest whose I²C bus is served from here.
//!
//! Owns the bus behind the guest's virtio adapter ([`wire`], [`ring`]), the log of
//! every transfer ([`log`]), faults from outside ([`control`]), the guest itself
//! ([`guest`], [`rails`]) and what a run made of it ([`tables`]). The chips are the
//! agent's own simulated ones, driven by this machine's clock. What it can show and
//! what not: `docs/virtual-board.md`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness that cannot go on fails its test, and there is nobody else to tell"
)]

pub mod control;
pub mod guest;
pub mod log;
pub mod rails;
pub mod ring;
pub mod tables;
pub mod wire;
