//! The pure core of Wattline, shared by board and host.
//!
//! Owns units, codes, records, the sample-block codec, frames, commands, the
//! session and the campaign file's types. Holds no I/O, no async, no clock and
//! no unsafe code: bytes and times come in as arguments.

#![forbid(unsafe_code)]

pub mod block;
pub mod campaign_spec;
pub mod clock_sync;
pub mod code;
pub mod command;
pub mod digest;
pub mod frame;
pub mod record;
pub mod session;
pub mod units;
