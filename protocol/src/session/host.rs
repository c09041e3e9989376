//! The host's side of a session.
//!
//! Owns handshake and heartbeats of one connection, and numbers the commands.
//! Does not keep frames: it hands them out as they came.

use crate::command::{Acknowledge, Command, Farewell, FetchEnd, Hello, Reply, Side};
use crate::frame::{FrameReader, SESSION_KINDS_FROM};
use crate::presence::Introduction;
use crate::record::Gap;
use crate::units::Nanos;

use super::{ANSWER_WITHIN, CommandId, Heartbeat, Message, SessionError, agree};

/// What happened in a session, as the host sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Send these bytes.
    Send(Vec<u8>),
    /// The agent is one of ours, and this is what it said of itself.
    Ready(Hello),
    /// The answer to a command.
    Reply(CommandId, Reply),
    /// A recorded frame, whole and checked.
    Frame(Vec<u8>),
    /// A live copy of a recorded frame.
    Live(Vec<u8>),
    /// So many live copies were left out.
    LiveDropped(u64),
    /// Sequence numbers that the board's spool lost.
    Hole(Gap),
    /// All of a run was sent.
    FetchEnd(FetchEnd),
    /// The agent ended the session.
    Farewell(Farewell),
    /// The session failed.
    Failed(SessionError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitHello { since: Nanos },
    Ready,
    Closed,
}

/// The host's side of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    reader: FrameReader,
    heartbeat: Heartbeat,
    next_id: u64,
}

impl Session {
    /// Begins a session. Command ids count from `first_id`: a number that no
    /// other session of this host begins near (taken from the clock).
    #[must_use]
    pub fn begin(hello: Hello, first_id: u64, now: Nanos) -> (Self, Vec<u8>) {
        let session = Self {
            state: State::AwaitHello { since: now },
            reader: FrameReader::new(),
            heartbeat: Heartbeat::starting(now),
            next_id: first_id,
        };
        (session, Message::Hello(hello).to_frame())
    }

    /// Takes bytes of the agent.
    #[must_use]
    pub fn on_bytes(&mut self, bytes: &[u8], now: Nanos) -> Vec<Event> {
        let mut events = Vec::new();
        if self.state == State::Closed {
            return events;
        }
        self.heartbeat.hear(now);
        self.reader.feed(bytes);
        while self.state != State::Closed {
            match self.next_event() {
                Ok(Some(event)) => events.extend(event),
                Ok(None) => break,
                Err(error) => {
                    self.state = State::Closed;
                    events.push(Event::Failed(error));
                }
            }
        }
        events
    }

    /// Takes the time, at least once a second.
    #[must_use]
    pub fn on_timer(&mut self, now: Nanos) -> Vec<Event> {
        match self.state {
            State::AwaitHello { since } if now - since >= ANSWER_WITHIN => {
                self.state = State::Closed;
                vec![Event::Failed(SessionError::HelloTimeout { within: ANSWER_WITHIN })]
            }
            State::Ready if self.heartbeat.silent(now) => {
                self.state = State::Closed;
                vec![Event::Failed(SessionError::Silence)]
            }
            State::Ready if self.heartbeat.ping_due(now) => {
                self.heartbeat.say(now);
                vec![Event::Send(Message::Ping.to_frame())]
            }
            State::AwaitHello { .. } | State::Ready | State::Closed => Vec::new(),
        }
    }

    /// Who this host is, as bytes to send; said once, before the first command.
    #[must_use]
    pub fn introduce(&mut self, who: Introduction, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::Introduction(who).to_frame()
    }

    /// A command with its id, as bytes to send.
    #[must_use]
    pub fn command(&mut self, command: Command, now: Nanos) -> (CommandId, Vec<u8>) {
        let id = CommandId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.heartbeat.say(now);
        (id, Message::Command(id, Box::new(command)).to_frame())
    }

    /// Frames are committed: bytes that say so.
    #[must_use]
    pub fn acknowledge(&mut self, have: Acknowledge, now: Nanos) -> Vec<u8> {
        self.heartbeat.say(now);
        Message::Acknowledge(have).to_frame()
    }

    /// The last message, as bytes to send.
    #[must_use]
    pub fn farewell(&mut self) -> Vec<u8> {
        self.state = State::Closed;
        Message::Farewell(Farewell::Done).to_frame()
    }

    fn next_event(&mut self) -> Result<Option<Option<Event>>, SessionError> {
        let state = self.state;
        let Some(frame) = self.reader.next_frame()? else {
            return Ok(None);
        };
        let kind = frame.header.kind;
        if let State::AwaitHello { .. } = state {
            let hello = match Message::from_frame(kind, frame.payload)? {
                Message::Hello(hello) => hello,
                // Turned away before a word was said: it says why.
                farewell @ Message::Farewell(_) => return Ok(Some(self.on_message(farewell))),
                _ => return Err(SessionError::NoHello { kind }),
            };
            agree(&hello)?;
            if hello.side == Side::Host {
                return Err(SessionError::SameSide);
            }
            self.state = State::Ready;
            return Ok(Some(Some(Event::Ready(hello))));
        }
        if kind < SESSION_KINDS_FROM {
            return Ok(Some(Some(Event::Frame(frame.bytes.to_vec()))));
        }
        let message = Message::from_frame(kind, frame.payload)?;
        Ok(Some(self.on_message(message)))
    }

    fn on_message(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Reply(id, reply) => Some(Event::Reply(id, *reply)),
            Message::Live(bytes) => Some(Event::Live(bytes)),
            Message::LiveDropped(count) => Some(Event::LiveDropped(count)),
            Message::Hole(gap) => Some(Event::Hole(gap)),
            Message::FetchEnd(end) => Some(Event::FetchEnd(end)),
            Message::Farewell(Farewell::Versions { min, max }) => {
                self.state = State::Closed;
                Some(Event::Failed(SessionError::Versions { min, max }))
            }
            Message::Farewell(farewell) => {
                self.state = State::Closed;
                Some(Event::Farewell(farewell))
            }
            // A second Hello, what only a host says, and later versions' messages.
            Message::Hello(_)
            | Message::Command(..)
            | Message::Acknowledge(_)
            | Message::Introduction(_)
            | Message::Ping
            | Message::Unknown(_) => None,
        }
    }
}
