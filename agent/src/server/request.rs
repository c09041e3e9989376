//! What the sessions and the process ask of the hub.
//!
//! Owns the messages. Answers none.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use wattline_protocol::command::{Acknowledge, Command, Refusal, Reply};
use wattline_protocol::record::{RunId, RunOutcome};
use wattline_protocol::session::CommandId;

use super::seats::{Caller, SessionId};
use crate::power::sampler::Beat;
use crate::recorder::outlet::Listening;
use crate::spool::LogReader;

/// A session, and how it is told that its place was taken.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who asks.
    pub caller: Caller,
    /// Told where the same program came back over another link.
    pub replaced: Arc<Notify>,
}

/// What is asked of the hub.
pub enum Request {
    /// A command of a host.
    Command {
        /// Whose it is.
        visitor: Visitor,
        /// Its id.
        id: CommandId,
        /// The command.
        command: Box<Command>,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// The log of a run, and a seat to be sent it.
    Open {
        /// Who asks.
        visitor: Visitor,
        /// The run.
        run: RunId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Opened, Refusal>>,
    },
    /// A session is over.
    Left(SessionId),
    /// A host holds frames for good.
    Acknowledge(Acknowledge),
    /// Is there nothing to do, and everything acknowledged?
    IsIdle(oneshot::Sender<bool>),
    /// What shows that the samplers of the run that goes on step; empty without one.
    Beats(oneshot::Sender<Vec<Beat>>),
    /// End the run that goes on; answered when its end is recorded.
    StopAll(oneshot::Sender<()>),
    /// Leave the run that goes on to the agent's next start; answered when
    /// what was recorded is durable.
    Leave(oneshot::Sender<()>),
    /// The run that went on is over.
    Ended(RunOutcome),
}

impl Request {
    /// A question for a run's log, and where its answer comes.
    pub(super) fn open(
        visitor: Visitor,
        run: RunId,
    ) -> (Self, oneshot::Receiver<Result<Opened, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        (Self::Open { visitor, run, reply }, answer)
    }
}

/// A run's log, and what tells that it grows.
pub struct Opened {
    /// Reads the log.
    pub reader: LogReader,
    /// Present while the run goes on.
    pub listening: Option<Listening>,
}
