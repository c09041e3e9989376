//! The board's side of a session.
//!
//! Owns handshake, credit and heartbeats of one connection. Performs no
//! command: it hands them out and takes the replies back.

use crate::command::{Acknowledge, Command, Farewell, FetchEnd, Hello, Reply, Side};
use crate::frame::{FrameReader, SESSION_KINDS_FROM};
use crate::planted;
use crate::presence::Introduction;
use crate::record::Gap;
use crate::units::Nanos;

use super::{CommandId, HELLO_BYTES_MAX, HELLO_WITHIN, Heartbeat, Message, SessionError, agree};

/// What the board has to do for a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Perform the command and give its reply to [`Session::reply`].
    Perform(CommandId, Command),
    /// The host holds these frames for good.
    Acknowledged(Acknowledge),
    /// Who the host is.
    Introduced(Introduction),
    /// End the connection, after what was sent before.
    Close(Option<SessionError>),
}

/// States of the board's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitHello { since: Nanos },
    Ready,
    Closed,
}

/// The board's side of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    reader: FrameReader,
    heartbeat: Heartbeat,
    credit: u64,
}

impl Session {
    /// Begins a session: say Hello, and wait for the host's.
    #[must_use]
    pub fn begin(hello: Hello, now: Nanos) -> (Self, Vec<Action>) {
        let session = Self {
            state: State::AwaitHello { since: now },
            reader: FrameReader::new(),
            heartbeat: Heartbeat::starting(now),
            credit: 0,
        };
        (session, vec![Action::Send(Message::Hello(hello).to_frame())])
    }

    /// Takes bytes of the host.
    #[must_use]
    pub fn on_bytes(&mut self, bytes: &[u8], now: Nanos) -> Vec<Action> {
        if self.state == State::Closed {
            return Vec::new();
        }
        self.heartbeat.hear(now);
        self.reader.feed(bytes);
        let mut actions = Vec::new();
        loop {
            match self.next_message() {
                Ok(Some(message)) => self.on_message(message, &mut actions),
                Ok(None) => break,
                Err(error) => {
                    self.close(error, &mut actions);
                    break;
                }
            }
            if self.state == State::Closed {
                break;
            }
        }
        let waiting = matches!(self.state, State::AwaitHello { .. });
        if waiting && self.reader.pending() > HELLO_BYTES_MAX {
            self.close(SessionError::HelloTimeout { within: HELLO_WITHIN }, &mut actions);
        }
        actions
    }

    /// Takes the time, at least once a second.
    #[must_use]
    pub fn on_timer(&mut self, now: Nanos) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.state {
            State::AwaitHello { since } if now - since >= HELLO_WITHIN => {
                self.close(SessionError::HelloTimeout { within: HELLO_WITHIN }, &mut actions);
            }
            State::Ready if self.heartbeat.silent(now) => {
                self.close(SessionError::Silence, &mut actions);
            }
            State::Ready if self.heartbeat.ping_due(now) => {
                self.heartbeat.say(now);
                actions.push(Action::Send(Message::Ping.to_frame()));
            }
            State::AwaitHello { .. } | State::Ready | State::Closed => {}
        }
        actions
    }

    /// The reply to a command, as bytes to send.
    #[must_use]
    pub fn reply(&mut self, id: CommandId, reply: Reply, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::Reply(id, Box::new(reply)).to_frame()
    }

    /// The end of a fetch, as bytes to send.
    #[must_use]
    pub fn fetch_end(&mut self, end: FetchEnd, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::FetchEnd(end).to_frame()
    }

    /// A live copy, as bytes to send; credit is not asked for, because copies
    /// may be left out.
    #[must_use]
    pub fn live(&mut self, frame: &[u8], now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::Live(frame.to_vec()).to_frame()
    }

    /// So many live copies were left out, as bytes to send.
    #[must_use]
    pub fn live_dropped(&mut self, count: u64, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::LiveDropped(count).to_frame()
    }

    /// Sequence numbers that the spool lost, as bytes to send.
    #[must_use]
    pub fn hole(&mut self, gap: Gap, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::Hole(gap).to_frame()
    }

    /// The last message, as bytes to send.
    #[must_use]
    pub fn farewell(&mut self, farewell: Farewell) -> Vec<u8> {
        self.state = State::Closed;
        Message::Farewell(farewell).to_frame()
    }

    /// True while the host allows more recorded frames.
    #[must_use]
    pub fn may_send_frame(&self) -> bool {
        self.state == State::Ready && self.credit > 0
    }

    /// Books a recorded frame of `bytes` that is sent as it is.
    pub fn frame_sent(&mut self, bytes: usize, now: Nanos) {
        self.heartbeat.say(now);
        // The last frame may overdraw: credit is a brake, not a budget.
        self.credit = self.credit.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// True once nothing more will happen.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn next_message(&mut self) -> Result<Option<Message>, SessionError> {
        match self.reader.next_frame()? {
            None => Ok(None),
            // A host records nothing: whatever it sends below is skipped.
            Some(frame) if frame.header.kind < SESSION_KINDS_FROM => {
                Ok(Some(Message::Unknown(frame.header.kind)))
            }
            Some(frame) => Message::from_frame(frame.header.kind, frame.payload).map(Some),
        }
    }

    fn on_message(&mut self, message: Message, actions: &mut Vec<Action>) {
        match (self.state, message) {
            (State::AwaitHello { .. }, Message::Hello(hello)) => match agree(&hello) {
                Ok(()) if hello.side == Side::Host => self.state = State::Ready,
                Ok(()) => self.close(SessionError::SameSide, actions),
                Err(error) => self.close(error, actions),
            },
            (State::AwaitHello { .. }, other) => {
                self.close(SessionError::NoHello { kind: kind_of(&other) }, actions);
            }
            (State::Ready, Message::Command(id, command)) => {
                if let Command::Fetch { credit, .. } = *command {
                    self.credit = credit;
                }
                actions.push(Action::Perform(id, *command));
            }
            (State::Ready, Message::Acknowledge(have)) => {
                if !planted!("credit is not renewed") {
                    self.credit = self.credit.saturating_add(have.credit);
                }
                actions.push(Action::Acknowledged(have));
            }
            (State::Ready, Message::Introduction(who)) => actions.push(Action::Introduced(who)),
            (State::Ready, Message::Farewell(_)) => {
                self.state = State::Closed;
                actions.push(Action::Close(None));
            }
            // A second Hello, an answer nobody asked for, or a message of a
            // later version: skipped, as the format promises.
            (State::Ready | State::Closed, _) => {}
        }
    }

    fn close(&mut self, error: SessionError, actions: &mut Vec<Action>) {
        self.state = State::Closed;
        let farewell = match error {
            SessionError::Versions { .. } => Farewell::Versions {
                min: crate::command::PROTOCOL_MIN,
                max: crate::command::PROTOCOL_MAX,
            },
            SessionError::Silence | SessionError::HelloTimeout { .. } => Farewell::Silence,
            SessionError::Frame(_)
            | SessionError::Malformed { .. }
            | SessionError::NoHello { .. }
            | SessionError::SameSide => Farewell::Protocol,
        };
        actions.push(Action::Send(Message::Farewell(farewell).to_frame()));
        actions.push(Action::Close(Some(error)));
    }
}

fn kind_of(message: &Message) -> u8 {
    match message {
        Message::Unknown(kind) => *kind,
        Message::Hello(_)
        | Message::Command(..)
        | Message::Reply(..)
        | Message::Acknowledge(_)
        | Message::FetchEnd(_)
        | Message::Live(_)
        | Message::LiveDropped(_)
        | Message::Hole(_)
        | Message::Ping
        | Message::Introduction(_)
        | Message::Farewell(_) => message.to_frame().get(3).copied().unwrap_or_default(),
    }
}
