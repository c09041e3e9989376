//! Wattline on the board: samples power rails, runs networks, keeps records.
//!
//! Owns everything that touches the board. Three kinds of process come out of
//! it: the sampler (`serve`), which owns I²C, recorder, spool and socket, the
//! runner, which owns candle, and where one is asked for the gate, which owns TLS.
//! `ARCHITECTURE.md` has the map.

pub mod accuracy;
pub mod args;
pub mod board;
pub mod byte_count;
pub mod campaign;
pub mod clock;
pub mod command;
pub mod config;
pub mod engine;
pub mod gate;
pub mod infer;
pub mod keyed;
pub mod network;
pub mod power;
pub mod realtime;
pub mod recorder;
pub mod runner;
pub mod sampling;
pub mod server;
pub mod spool;
pub mod trigger;
