//! Wattline on the host: connect, run, watch, fetch, keep, analyse, report.
//!
//! Owns everything a person touches. Knows neither I²C nor candle; talks to
//! boards through `wattline-protocol` alone. `ARCHITECTURE.md` has the map.

pub mod accuracy;
pub mod analysis;
pub mod args;
pub mod board;
pub mod client;
pub mod clock;
pub mod collect;
pub mod command;
pub mod connect;
pub mod deploy;
pub mod export;
pub mod failure;
pub mod live;
pub mod progress;
pub mod recording;
pub mod report;
pub mod run_folder;
pub mod store;
