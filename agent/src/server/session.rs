//! One connection: bytes between the stream and the feed.
//!
//! Owns the socket, the listening for what is recorded, and how long one may
//! stay that has no seat. Decides nothing else: [`super::feed`] says what is
//! sent, the hub answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::debug;
use wattline_protocol::check::Check;
use wattline_protocol::command::{Acknowledge, Command, Farewell, Refusal, Reply};
use wattline_protocol::presence::Introduction;
use wattline_protocol::record::RunId;
use wattline_protocol::session::{CommandId, Message};
use wattline_protocol::units::{BoardTime, Nanos};

use super::About;
use super::feed::{Feed, Wanted};
use super::request::{Opened, Request, Visitor};
use super::seats::{Caller, SessionId};
use crate::clock::{Clock, SystemClock};

/// Bytes read from the stream at once.
const READ_BYTES: usize = 16 * 1024;
/// The session is given the time this often.
const TICK: Duration = Duration::from_secs(1);

/// A host without a seat that asks nothing for so long is sent away: it has a
/// visitor's place that another may need.
const VISIT_MAX: Nanos = Nanos::from_secs(30);
/// A last word that is not taken within so many ticks is not waited for: the
/// peer is gone, and what the session has is needed.
const GOODBYE_TICKS: u8 = 2;

/// Tells a host that there is no place for it, without waiting for it.
pub(super) fn turn_away(stream: &UnixStream) {
    let bytes = Message::Farewell(Farewell::TooManySessions).to_frame();
    let _ = stream.try_write(&bytes);
}

/// What a new peer has: its place among those that have asked for nothing yet,
/// and where it goes from there.
pub(super) struct Entrance {
    pub(super) id: SessionId,
    pub(super) pending: OwnedSemaphorePermit,
    /// Places of those that ask and have no seat.
    pub(super) visits: Arc<Semaphore>,
}

/// Serves one host until either side ends.
pub(super) async fn serve(
    stream: UnixStream,
    entrance: Entrance,
    about: Arc<About>,
    requests: mpsc::Sender<Request>,
) {
    let (incoming, outgoing) = stream.into_split();
    let feed = Feed::begin(about.facts.hello(), now());
    let Entrance { id, pending, visits } = entrance;
    let caller = Caller { session: id, who: Introduction::default() };
    let visitor = Visitor { caller, replaced: Arc::new(Notify::new()) };
    let place = Place::Pending(Stay { since: now(), _place: pending });
    let mut host = Host {
        feed,
        requests,
        visitor,
        place,
        visits,
        about,
        grown: None,
        live: None,
        examining: None,
    };
    if let Err(error) = host.talk(incoming, outgoing).await {
        debug!(%error, "A link was cut.");
    }
    let _ = host.requests.send(Request::Left(id)).await;
}

fn now() -> Nanos {
    SystemClock.now() - BoardTime(0)
}

/// Where a session is counted.
enum Place {
    /// It has asked for nothing yet.
    Pending(Stay),
    /// It asks.
    Visit(Stay),
    /// The hub gave it a seat.
    Seat,
}

/// A place that is free again when this goes.
struct Stay {
    /// When it came, or asked last.
    since: Nanos,
    _place: OwnedSemaphorePermit,
}

/// A look at the board that goes on beside the session.
type Looking = Pin<Box<dyn Future<Output = Vec<Check>> + Send>>;

struct Host {
    feed: Feed,
    requests: mpsc::Sender<Request>,
    visitor: Visitor,
    place: Place,
    visits: Arc<Semaphore>,
    about: Arc<About>,
    /// Tells that the fetched run's log has grown, while the run goes on.
    grown: Option<watch::Receiver<u64>>,
    live: Option<broadcast::Receiver<Arc<[u8]>>>,
    /// The board is looked at for this question; dropped, the look ends.
    examining: Option<(CommandId, Looking)>,
}

impl Host {
    async fn talk(
        &mut self,
        mut incoming: OwnedReadHalf,
        mut outgoing: OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let replaced = Arc::clone(&self.visitor.replaced);
        let mut goodbye_ticks = 0;
        loop {
            self.feed.fill(now());
            if self.feed.is_over() {
                return Ok(());
            }
            let room = self.feed.has_room();
            tokio::select! {
                read = incoming.read(&mut buffer), if !self.feed.is_closing() => {
                    let count = read?;
                    if count == 0 {
                        return Ok(());
                    }
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let wanted = self.feed.on_bytes(bytes, now());
                    self.serve(wanted).await;
                }
                written = outgoing.write(self.feed.outgoing()), if !self.feed.outgoing().is_empty() => {
                    let count = written?;
                    self.feed.sent(count);
                }
                () = grown(self.grown.as_mut()), if self.feed.wants_frames() => {}
                copy = live_copy(self.live.as_mut()), if room => self.live(copy),
                (id, checks) = looked(&mut self.examining) => {
                    self.examining = None;
                    self.feed.reply(id, Reply::Examined(checks), now());
                }
                () = replaced.notified() => self.feed.farewell(Farewell::Replaced),
                _ = tick.tick() => {
                    goodbye_ticks += u8::from(self.feed.is_closing());
                    if goodbye_ticks > GOODBYE_TICKS {
                        return Ok(());
                    }
                    self.send_away();
                    let wanted = self.feed.on_timer(now());
                    self.serve(wanted).await;
                }
            }
        }
    }

    async fn serve(&mut self, wanted: Vec<Wanted>) {
        for wanted in wanted {
            match wanted {
                Wanted::Know(who) => {
                    // One that has a seat has it under the name it took it by.
                    if !matches!(self.place, Place::Seat) {
                        self.visitor.caller.who = who;
                    }
                }
                Wanted::Answer(id, command) => {
                    let looks = command == Command::Examine;
                    let reply = self.answer(id, command).await;
                    if looks && matches!(reply, Reply::Examined(_)) {
                        let about = Arc::clone(&self.about);
                        let look = async move { about.examiner.examine().await };
                        self.examining = Some((id, Box::pin(look)));
                        continue;
                    }
                    self.feed.reply(id, reply, now());
                }
                Wanted::Acknowledge(have) => {
                    let _ = self.requests.send(Request::Acknowledge(have)).await;
                }
            }
        }
    }

    /// A place among those that ask; false where there is none. One with a seat
    /// needs none, and one that asks for a seat gets that or nothing.
    fn may_ask(&mut self, command: &Command) -> bool {
        match &mut self.place {
            Place::Seat => return true,
            Place::Visit(stay) => {
                stay.since = now();
                return true;
            }
            Place::Pending(_) => {}
        }
        if matches!(command, Command::Fetch { .. } | Command::Live { .. }) {
            return true;
        }
        match Arc::clone(&self.visits).try_acquire_owned() {
            Ok(visit) => {
                self.place = Place::Visit(Stay { since: now(), _place: visit });
                true
            }
            Err(_) => false,
        }
    }

    /// Ends a visit that asks nothing, or no more.
    fn send_away(&mut self) {
        let (Place::Pending(stay) | Place::Visit(stay)) = &self.place else { return };
        let waits = self.examining.is_some() || self.feed.is_closing();
        if now() - stay.since >= VISIT_MAX && !waits {
            self.feed.farewell(Farewell::Silence);
        }
    }

    async fn answer(&mut self, id: CommandId, command: Command) -> Reply {
        if !self.may_ask(&command) {
            return Reply::Refused(Refusal::TooManySessions);
        }
        match command {
            Command::ClockPing { sent } => {
                let received = SystemClock.now();
                Reply::Clock { sent, received, answered: SystemClock.now() }
            }
            Command::Fetch { run, have, .. } => match self.open(run).await {
                Ok(Opened { reader, listening }) => {
                    // What a host begins behind it has committed, perhaps to an agent
                    // that ended before it was told.
                    let run = reader.run().clone();
                    let held = Acknowledge { run, have: have.clone(), credit: 0 };
                    let _ = self.requests.send(Request::Acknowledge(held)).await;
                    self.feed.fetch(reader, &have, listening.is_some());
                    self.grown = listening.map(|listening| listening.grown);
                    Reply::Fetching
                }
                Err(refusal) => Reply::Refused(refusal),
            },
            Command::Live { run } => match self.open(run).await {
                Ok(Opened { listening: Some(listening), .. }) => {
                    self.live = Some(listening.live.subscribe());
                    Reply::Live
                }
                Ok(Opened { listening: None, .. }) => Reply::Refused(Refusal::NoSuchRun),
                Err(refusal) => Reply::Refused(refusal),
            },
            other => {
                let (reply, answer) = oneshot::channel();
                let visitor = self.visitor.clone();
                let starts = matches!(
                    other,
                    Command::Start { .. } | Command::StartWith { .. } | Command::StartBlocks { .. }
                );
                let asked = Request::Command { visitor, id, command: Box::new(other), reply };
                let sent = self.requests.send(asked).await;
                match (sent, answer.await) {
                    (Ok(()), Ok(reply)) => {
                        if starts && reply == Reply::Started {
                            self.place = Place::Seat;
                        }
                        reply
                    }
                    // The hub ends only with the agent.
                    _ => Reply::Ending,
                }
            }
        }
    }

    async fn open(&mut self, run: RunId) -> Result<Opened, Refusal> {
        let (request, answer) = Request::open(self.visitor.clone(), run);
        let sent = self.requests.send(request).await;
        let opened = match (sent, answer.await) {
            (Ok(()), Ok(opened)) => opened?,
            _ => return Err(Refusal::NoSuchRun),
        };
        self.place = Place::Seat;
        Ok(opened)
    }

    fn live(&mut self, copy: Result<Arc<[u8]>, RecvError>) {
        match copy {
            Ok(frame) => self.feed.live(&frame, now()),
            Err(RecvError::Lagged(count)) => self.feed.live_dropped(count, now()),
            Err(RecvError::Closed) => self.live = None,
        }
    }
}

/// Resolves when the log has grown; never where nothing is fetched.
async fn grown(grown: Option<&mut watch::Receiver<u64>>) {
    match grown {
        Some(grown) => {
            if grown.changed().await.is_err() {
                // The writer is gone: the run is over, and the fill sees its end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Resolves when the look has ended; never where there is none.
async fn looked(examining: &mut Option<(CommandId, Looking)>) -> (CommandId, Vec<Check>) {
    match examining {
        Some((id, look)) => (*id, look.await),
        None => std::future::pending().await,
    }
}

async fn live_copy(
    live: Option<&mut broadcast::Receiver<Arc<[u8]>>>,
) -> Result<Arc<[u8]>, RecvError> {
    match live {
        Some(live) => match live.try_recv() {
            Ok(frame) => Ok(frame),
            Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
            Err(TryRecvError::Empty) => live.recv().await,
        },
        None => std::future::pending().await,
    }
}
