//! The session: what two programs say to each other over one byte stream.
//!
//! Owns the messages, the handshake, heartbeats and credit, as state machines
//! without I/O: bytes and the time go in, actions come out. [`agent`] is the
//! board's side, [`host`] the other. Does not own sockets, the spool or the
//! store, and reads no clock.
//!
//! A session is a stream of frames in both directions. Kinds from 0x80 are
//! messages; every other frame is a recorded one, sent as it lies in the spool.
//!
//! ```text
//! host                          agent
//! Hello ───────────────────────► Hello            versions: the intersection
//! Introduction ────────────────►                  who asks, and what for
//! Command{id} ─────────────────► Reply{id}
//! Command Fetch ───────────────► Reply, frame, frame, …   while credit lasts
//! Acknowledge{have, credit} ───►                  after the host's commit
//!             ◄───────────────── FetchEnd         the run is over and sent
//! Ping / Ping                                     when nothing else was said
//! ```

pub mod agent;
pub mod host;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::command::{Acknowledge, Command, Farewell, FetchEnd, Hello, Reply};
use crate::frame::FrameError;
use crate::message::{framed, framed_bytes, value_of};
use crate::planted;
use crate::presence::Introduction;
use crate::record::Gap;
use crate::units::Nanos;

/// A side that said nothing for this long says Ping.
pub const PING_AFTER: Nanos = Nanos::from_secs(5);
/// A side that heard nothing for this long ends the session.
pub const SILENCE_MAX: Nanos = Nanos::from_secs(30);
/// A peer of an agent that has not said Hello by then is not one of ours.
pub const HELLO_WITHIN: Nanos = Nanos::from_secs(5);
/// A host waits so long for its agent's: the time holds a login over SSH, which takes
/// a slow or busy board many seconds.
pub const ANSWER_WITHIN: Nanos = Nanos::from_secs(30);
/// Bytes a peer may send before its Hello is understood.
pub const HELLO_BYTES_MAX: usize = 4096;

const HELLO: u8 = 0x80;
const COMMAND: u8 = 0x81;
const REPLY: u8 = 0x82;
const ACKNOWLEDGE: u8 = 0x83;
const FETCH_END: u8 = 0x84;
const LIVE: u8 = 0x85;
const LIVE_DROPPED: u8 = 0x86;
const PING: u8 = 0x87;
const FAREWELL: u8 = 0x88;
const HOLE: u8 = 0x89;
const INTRODUCTION: u8 = 0x8A;

/// Ties a reply to its command; chosen by the host, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

/// One message of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// First message of each side.
    Hello(Hello),
    /// A question.
    Command(CommandId, Box<Command>),
    /// Its answer.
    Reply(CommandId, Box<Reply>),
    /// The host holds frames for good.
    Acknowledge(Acknowledge),
    /// All of a run was sent.
    FetchEnd(FetchEnd),
    /// A copy of a recorded frame.
    Live(Vec<u8>),
    /// So many copies were left out.
    LiveDropped(u64),
    /// Sequence numbers that the spool lost, found while sending.
    Hole(Gap),
    /// Still here.
    Ping,
    /// The last message.
    Farewell(Farewell),
    /// Who the host is; an agent of an earlier version skips it.
    Introduction(Introduction),
    /// A message of a later version; skipped.
    Unknown(u8),
}

/// Why the bytes of a peer are not a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message whose payload does not decode.
    #[error("session message {kind:#04x} does not decode")]
    Malformed {
        /// Kind of the message.
        kind: u8,
    },
    /// Something other than Hello came first.
    #[error("the peer sent kind {kind:#04x} before its hello")]
    NoHello {
        /// Kind of the frame.
        kind: u8,
    },
    /// No Hello came in time.
    #[error("the peer said no hello within {} s", within.0 / 1_000_000_000)]
    HelloTimeout {
        /// How long was waited.
        within: Nanos,
    },
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} s", SILENCE_MAX.0 / 1_000_000_000)]
    Silence,
    /// No protocol version in common.
    #[error(
        "the peer speaks protocol {min} to {max}, this program {} to {}",
        crate::command::PROTOCOL_MIN,
        crate::command::PROTOCOL_MAX
    )]
    Versions {
        /// Lowest version of the peer.
        min: u16,
        /// Highest version of the peer.
        max: u16,
    },
    /// The peer is on the wrong side: host to host, or agent to agent.
    #[error("the peer is on the same side of the session")]
    SameSide,
}

impl Message {
    /// The message as a frame.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => framed(HELLO, hello),
            Self::Command(id, command) => framed(COMMAND, &(id, command)),
            Self::Reply(id, reply) => framed(REPLY, &(id, reply)),
            Self::Acknowledge(have) => framed(ACKNOWLEDGE, have),
            Self::FetchEnd(end) => framed(FETCH_END, end),
            // A live copy whose frame leaves no room for a second header is left out.
            Self::Live(bytes) => framed_bytes(LIVE, bytes),
            Self::LiveDropped(count) => framed(LIVE_DROPPED, count),
            Self::Hole(gap) => framed(HOLE, gap),
            Self::Ping => framed_bytes(PING, &[]),
            Self::Farewell(farewell) => framed(FAREWELL, farewell),
            Self::Introduction(who) => framed(INTRODUCTION, who),
            Self::Unknown(kind) => framed_bytes(*kind, &[]),
        }
    }

    /// Decodes the message in a frame of kind 0x80 and above.
    ///
    /// # Errors
    /// [`SessionError::Malformed`] with the kind.
    pub fn from_frame(kind: u8, payload: &[u8]) -> Result<Self, SessionError> {
        let message = match kind {
            HELLO => Self::Hello(decode(kind, payload)?),
            COMMAND => {
                let (id, command) = decode(kind, payload)?;
                Self::Command(id, command)
            }
            REPLY => {
                let (id, reply) = decode(kind, payload)?;
                Self::Reply(id, reply)
            }
            ACKNOWLEDGE => Self::Acknowledge(decode(kind, payload)?),
            FETCH_END => Self::FetchEnd(decode(kind, payload)?),
            LIVE => Self::Live(payload.to_vec()),
            LIVE_DROPPED => Self::LiveDropped(decode(kind, payload)?),
            HOLE => Self::Hole(decode(kind, payload)?),
            PING => Self::Ping,
            FAREWELL => Self::Farewell(decode(kind, payload)?),
            INTRODUCTION => Self::Introduction(decode(kind, payload)?),
            _ => Self::Unknown(kind),
        };
        Ok(message)
    }
}

/// When something was last said and heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    said: Nanos,
    heard: Nanos,
}

impl Heartbeat {
    pub(crate) fn starting(now: Nanos) -> Self {
        Self { said: now, heard: now }
    }

    pub(crate) fn say(&mut self, now: Nanos) {
        self.said = now;
    }

    pub(crate) fn hear(&mut self, now: Nanos) {
        self.heard = now;
    }

    /// True where a Ping is due.
    pub(crate) fn ping_due(&self, now: Nanos) -> bool {
        now - self.said >= PING_AFTER
    }

    /// True where the peer is gone.
    pub(crate) fn silent(&self, now: Nanos) -> bool {
        now - self.heard >= SILENCE_MAX && !planted!("silence is not noticed")
    }
}

/// Checks a peer's Hello.
///
/// # Errors
/// [`SessionError::Versions`] where no version is common.
pub(crate) fn agree(hello: &Hello) -> Result<(), SessionError> {
    let (min, max) = (hello.protocol_min, hello.protocol_max);
    if min > crate::command::PROTOCOL_MAX || max < crate::command::PROTOCOL_MIN {
        return Err(SessionError::Versions { min, max });
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, SessionError> {
    value_of(payload).ok_or(SessionError::Malformed { kind })
}

#[cfg(test)]
mod tests;
