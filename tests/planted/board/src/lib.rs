//! The parts of the agent that a simulated night drives: its own sources,
//! compiled with planted bugs to choose from.
//!
//! Holds no code. What a night does not touch (engine, networks, sockets) is
//! left out, so that this compiles in seconds. The unit tests in the sources run
//! with the product alone, hence `cfg(not(test))`.

#[cfg(not(test))]
#[path = "../../../../agent/src/clock.rs"]
pub mod clock;
#[cfg(not(test))]
#[path = "../../../../agent/src/keyed.rs"]
pub mod keyed;
#[cfg(not(test))]
#[path = "../../../../agent/src/power/mod.rs"]
pub mod power;
#[cfg(not(test))]
#[path = "../../../../agent/src/realtime.rs"]
pub mod realtime;
#[cfg(not(test))]
#[path = "../../../../agent/src/recorder/mod.rs"]
pub mod recorder;
#[cfg(not(test))]
#[path = "../../../../agent/src/spool/mod.rs"]
pub mod spool;

#[cfg(not(test))]
#[path = "../../../../agent/src/campaign"]
pub mod campaign {
    //! Decisions of the campaign, without the loop that performs them.
    pub mod resume;
    pub mod state;
    pub mod warm_up;
}

#[cfg(not(test))]
#[path = "../../../../agent/src/server"]
pub mod server {
    //! Decisions of the server, without sockets and tasks.
    pub mod cut;
    pub mod feed;
}
