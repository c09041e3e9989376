//! The parts of the host's program that a simulated night drives: its own
//! sources, compiled with planted bugs to choose from. Holds no code. The unit
//! tests in them run with the product alone, hence `cfg(not(test))`.

#[cfg(not(test))]
#[path = "../../../../host-cli/src/store/mod.rs"]
pub mod store;

#[cfg(not(test))]
#[path = "../../../../host-cli/src/collect"]
pub mod collect {
    //! What is committed and acknowledged, without links.
    pub mod intake;
}
