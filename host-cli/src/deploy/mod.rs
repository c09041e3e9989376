//! Bringing the agent to a board, over the user's own OpenSSH.
//!
//! Owns what is asked of a board ([`probe`]), what is brought ([`bundle`]), what
//! that will change ([`plan`], pure) and how it is done ([`remote`]). What runs
//! on the board as root is one script, `deploy/board/board.sh`; the commands are
//! in [`crate::command`].

pub mod bundle;
pub mod plan;
pub mod probe;
pub mod remote;
