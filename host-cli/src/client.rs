//! One conversation with an agent: a link, and the session over it.
//!
//! Owns the loop that moves bytes between the stream and the session's state
//! machine. Keeps no frames: events are handed to whoever waits for them.

use std::collections::VecDeque;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Interval, MissedTickBehavior};
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::clock_sync::schedule::BURST_EXCHANGES;
use wattline_protocol::command::{
    Acknowledge, Command, Farewell, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Side,
};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::presence::{HostName, Introduction, Purpose};
use wattline_protocol::session::SessionError;
use wattline_protocol::session::host::{Event, Session};
use wattline_protocol::units::HostTime;

use crate::board::BoardAddress;
use crate::clock;
use crate::connect::{self, ConnectError, Link};

/// Bytes read from the stream at once.
const READ_BYTES: usize = 64 * 1024;
/// Who this program is to a board, where it is not user and machine.
const NAME_VARIABLE: &str = "WATTLINE_NAME";
/// The session is given the time this often.
const TICK: Duration = Duration::from_secs(1);

/// Why a conversation cannot begin or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no stream.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What is at the other end is not an agent, or not one of this version.
    #[error(
        "what answers at {address} is not a Wattline agent this program can talk to{}",
        tail(said)
    )]
    NotAnAgent {
        /// The board.
        address: String,
        /// What ssh said meanwhile.
        said: String,
        /// What was wrong.
        source: SessionError,
    },
    /// The stream ended before the agent said who it is.
    #[error("{address} closed the connection without a word{}", tail(said))]
    ClosedAtOnce {
        /// The board.
        address: String,
        /// What ssh said meanwhile.
        said: String,
    },
    /// The stream ended.
    #[error("the link to {address} was cut{}", tail(said))]
    Cut {
        /// The board.
        address: String,
        /// What ssh said meanwhile.
        said: String,
    },
    /// The agent ended the session.
    #[error("the agent at {address} ended the session: {}", farewell_text(*farewell))]
    Farewell {
        /// The board.
        address: String,
        /// Its last word.
        farewell: Farewell,
    },
    /// A read or write failed.
    #[error("the link to {address} failed")]
    Io {
        /// The board.
        address: String,
        /// The system's word.
        source: std::io::Error,
    },
}

impl ClientError {
    /// True where another try at the same board may go better.
    #[must_use]
    pub fn may_come_back(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Io { .. } | Self::ClosedAtOnce { .. })
            || matches!(self, Self::Connect(ConnectError::Socket { .. }))
            || matches!(self, Self::Connect(ConnectError::Tls { source, .. })
                if source.may_come_back())
            || matches!(self, Self::Farewell { farewell, .. } if comes_back(*farewell))
    }
}

/// A board that is flooded, or ends to start again, is there a moment later.
const fn comes_back(farewell: Farewell) -> bool {
    match farewell {
        Farewell::Silence | Farewell::Ending | Farewell::TooManySessions => true,
        Farewell::Done | Farewell::Versions { .. } | Farewell::Protocol | Farewell::Replaced => {
            false
        }
    }
}

fn tail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

const fn farewell_text(farewell: Farewell) -> &'static str {
    match farewell {
        Farewell::Done => "nothing more to say",
        Farewell::Versions { .. } => "no protocol version in common",
        Farewell::Protocol => "it did not understand this program",
        Farewell::TooManySessions => "too many hosts ask it at once",
        Farewell::Silence => "it heard nothing for too long",
        Farewell::Ending => "the agent ends",
        Farewell::Replaced => "the same program came back over another link",
    }
}

/// Who this program is to a board: `WATTLINE_NAME`, or user and machine.
#[must_use]
pub fn own_name() -> String {
    let given = std::env::var(NAME_VARIABLE).ok().filter(|name| !name.is_empty());
    given.unwrap_or_else(|| {
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        format!(
            "{}@{}",
            user.unwrap_or_else(|_| nix::unistd::getuid().to_string()),
            machine.unwrap_or_else(|| "localhost".into())
        )
    })
}

fn introduction(purpose: Purpose) -> Introduction {
    Introduction { name: HostName::of(&own_name()), purpose, process: std::process::id() }
}

/// A conversation that has begun.
pub struct Client {
    link: Link,
    session: Session,
    address: String,
    hello: Hello,
    waiting: VecDeque<Event>,
    tick: Interval,
    buffer: Vec<u8>,
    heard: HostTime,
}

impl Client {
    /// Connects to ask something.
    ///
    /// # Errors
    /// As [`Client::connect_for`].
    pub async fn connect(address: &BoardAddress) -> Result<Self, ClientError> {
        Self::connect_for(address, Purpose::Ask).await
    }

    /// Connects, exchanges Hello and says who comes, and what for.
    ///
    /// # Errors
    /// [`ClientError`]: no stream, or nobody of ours at its end.
    pub async fn connect_for(
        address: &BoardAddress,
        purpose: Purpose,
    ) -> Result<Self, ClientError> {
        let link = connect::connect(address).await?;
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            build: env!("CARGO_PKG_VERSION").into(),
            digest: protocol_digest(),
            side: Side::Host,
        };
        let (session, first) = Session::begin(hello.clone(), clock::unix_ns(), clock::since_boot());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let own_agent = matches!(address, BoardAddress::Simulated(_) | BoardAddress::Local);
        let mut client = Self {
            link,
            session,
            address: address.to_string(),
            hello,
            waiting: VecDeque::new(),
            tick,
            buffer: vec![0; READ_BYTES],
            heard: clock::now(),
        };
        // A peer that hangs up at once is told apart below, by what it said.
        let sent = client.send(&first).await;
        match client.next_raw().await {
            Ok(Event::Ready(hello)) => {
                sent?;
                client.hello = hello;
                if own_agent && client.is_outdated() {
                    return client.replaced(address, purpose).await;
                }
                let who = introduction(purpose);
                let bytes = client.session.introduce(who, clock::since_boot());
                client.send(&bytes).await?;
                Ok(client)
            }
            Ok(Event::Failed(source)) => Err(ClientError::NotAnAgent {
                said: client.said(),
                address: client.address,
                source,
            }),
            Ok(Event::Farewell(farewell)) => {
                Err(ClientError::Farewell { address: client.address, farewell })
            }
            Ok(_) | Err(ClientError::Cut { .. }) => {
                // ssh writes its reason just before it ends; give it the moment.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(ClientError::ClosedAtOnce { said: client.said(), address: client.address })
            }
            Err(error) => Err(error),
        }
    }

    /// True where the agent of this machine is of another build than this
    /// program: it was started before an upgrade.
    fn is_outdated(&self) -> bool {
        self.hello.build != env!("CARGO_PKG_VERSION") || self.hello.digest != protocol_digest()
    }

    /// Ends an outdated agent of this machine, if it has nothing to do, and
    /// starts the present one; a busy one is left to its run and talked to.
    async fn replaced(
        mut self,
        address: &BoardAddress,
        purpose: Purpose,
    ) -> Result<Self, ClientError> {
        if self.ask(Command::Shutdown).await? != Reply::Ending {
            return Ok(self);
        }
        // Its end closes the link.
        while self.next().await.is_ok() {}
        Box::pin(Self::connect_for(address, purpose)).await
    }

    /// True where the agent is of this program's build, or one that knows the
    /// same messages: an earlier one would end the session at a later command.
    #[must_use]
    pub fn knows_all(&self) -> bool {
        self.hello.digest == protocol_digest()
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks, and waits for the answer; what comes before it is kept for
    /// [`Client::next`].
    ///
    /// # Errors
    /// [`ClientError`] where the session ends first.
    pub async fn ask(&mut self, command: Command) -> Result<Reply, ClientError> {
        let (asked, bytes) = self.session.command(command, clock::since_boot());
        self.send(&bytes).await?;
        let mut kept = VecDeque::new();
        loop {
            match self.next().await? {
                Event::Reply(id, reply) if id == asked => {
                    kept.append(&mut self.waiting);
                    self.waiting = kept;
                    return Ok(reply);
                }
                // The answer to a question that was given up.
                Event::Reply(..) => {}
                other => kept.push_back(other),
            }
        }
    }

    /// Asks without waiting; the answer comes out of [`Client::next`].
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn tell(&mut self, command: Command) -> Result<(), ClientError> {
        let (_, bytes) = self.session.command(command, clock::since_boot());
        self.send(&bytes).await
    }

    /// Says which frames are committed.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn acknowledge(&mut self, have: Acknowledge) -> Result<(), ClientError> {
        let bytes = self.session.acknowledge(have, clock::since_boot());
        self.send(&bytes).await
    }

    /// The next event; never `Send`, `Failed` or `Farewell`, which are errors
    /// or none of the caller's business. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError`] where the session ends.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        match self.next_raw().await? {
            Event::Failed(SessionError::Silence) => {
                Err(ClientError::Cut { said: self.said(), address: self.address.clone() })
            }
            Event::Failed(source) => Err(ClientError::NotAnAgent {
                address: self.address.clone(),
                said: self.said(),
                source,
            }),
            Event::Farewell(farewell) => {
                Err(ClientError::Farewell { address: self.address.clone(), farewell })
            }
            event => Ok(event),
        }
    }

    /// Host time when the bytes of the last event came: what was done since,
    /// such as a commit, is no part of a round trip.
    #[must_use]
    pub fn heard(&self) -> HostTime {
        self.heard
    }

    /// Makes one burst of clock exchanges; what comes meanwhile is kept.
    ///
    /// # Errors
    /// [`ClientError`] where the session ends first.
    pub async fn clock_burst(&mut self) -> Result<Vec<ClockExchange>, ClientError> {
        let mut exchanges = Vec::new();
        for _ in 0..BURST_EXCHANGES {
            let ping = Command::ClockPing { sent: clock::now() };
            if let Reply::Clock { sent, received, answered } = self.ask(ping).await? {
                exchanges.push(ClockExchange {
                    host_sent: sent,
                    board_received: received,
                    board_sent: answered,
                    host_received: self.heard,
                });
            }
        }
        Ok(exchanges)
    }

    /// An event that is there already; never waits.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.waiting.front() {
            Some(Event::Send(_) | Event::Failed(_) | Event::Farewell(_)) | None => None,
            Some(_) => self.waiting.pop_front(),
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let bytes = self.session.farewell();
        // The other side may be gone first.
        let _ = self.send(&bytes).await;
        let _ = self.link.outgoing.shutdown().await;
    }

    async fn next_raw(&mut self) -> Result<Event, ClientError> {
        loop {
            match self.waiting.pop_front() {
                Some(Event::Send(bytes)) => {
                    self.send(&bytes).await?;
                    continue;
                }
                Some(event) => return Ok(event),
                None => {}
            }
            let events = tokio::select! {
                read = self.link.incoming.read(&mut self.buffer) => match read {
                    Ok(0) => return Err(self.cut()),
                    Ok(count) => {
                        self.heard = clock::now();
                        let bytes = self.buffer.get(..count).unwrap_or_default();
                        self.session.on_bytes(bytes, clock::since_boot())
                    }
                    Err(source) => {
                        return Err(ClientError::Io { address: self.address.clone(), source });
                    }
                },
                _ = self.tick.tick() => self.session.on_timer(clock::since_boot()),
            };
            self.waiting.extend(events);
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let outgoing = &mut self.link.outgoing;
        let sent = async {
            outgoing.write_all(bytes).await?;
            outgoing.flush().await
        };
        sent.await.map_err(|source| match source.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => self.cut(),
            _ => ClientError::Io { address: self.address.clone(), source },
        })
    }

    fn cut(&self) -> ClientError {
        ClientError::Cut { address: self.address.clone(), said: self.said() }
    }

    fn said(&self) -> String {
        self.link.carrier.as_ref().map(connect::Carrier::said).unwrap_or_default()
    }
}
