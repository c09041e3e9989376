//! Starts the real binaries for the end-to-end tests.
//!
//! Owns the temporary folders, the processes in them and the reading of what
//! they leave behind. Knows the contract (names, flags, exit codes, formats)
//! and nothing of the programs' insides.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness that cannot go on fails its test, and there is nobody else to tell"
)]

mod agent;
mod frames;
mod gate;
mod glibc;
mod process;
mod sandbox;
mod session;
mod sshd;
mod table;
mod wait;

pub use agent::{Agent, AgentFlags};
pub use frames::Frames;
pub use gate::{Gate, free_port, host_pin};
pub use glibc::{Glibc, needed_glibc};
pub use process::{Outcome, Process};
pub use sandbox::{SMALL, SMALLEST, Sandbox, is_root, program};
pub use session::{Pipe, Say};
pub use sshd::Sshd;
pub use table::Table;
pub use wait::{until, until_within, while_true};
