//! The pure core of Wattline, shared by board and host.
//!
//! Owns units, codes, records, the sample-block codec, frames, commands, the
//! session, the campaign file's types and the constants that were published. Holds no I/O, no async, no clock and
//! no unsafe code: bytes and times come in as arguments.

#![forbid(unsafe_code)]

pub mod block;
pub mod campaign_spec;
pub mod check;
pub mod clock_sync;
pub mod code;
pub mod command;
pub mod digest;
pub mod frame;
pub mod message;
pub mod paper2017;
pub mod planted;
pub mod power_modes;
pub mod presence;
pub mod published;
pub mod record;
pub mod session;
pub mod units;
