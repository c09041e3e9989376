//! One connection: bytes between the stream and the feed.
//!
//! Owns the socket and the listening for what is recorded. Decides nothing:
//! [`super::feed`] says what is sent, the hub answers everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::debug;
use wattline_protocol::command::{Acknowledge, Command, Farewell, Refusal, Reply};
use wattline_protocol::session::{CommandId, Message};
use wattline_protocol::units::{BoardTime, Nanos};

use super::feed::{Feed, Wanted};
use super::hub::{Facts, Opened, Request};
use crate::clock::{Clock, SystemClock};

/// Bytes read from the stream at once.
const READ_BYTES: usize = 16 * 1024;
/// The session is given the time this often.
const TICK: Duration = Duration::from_secs(1);

/// Tells a host that there is no place for it, without waiting for it.
pub(super) fn turn_away(stream: &UnixStream) {
    let bytes = Message::Farewell(Farewell::TooManySessions).to_frame();
    let _ = stream.try_write(&bytes);
}

/// Serves one host until either side ends. It has its `place` among the peers
/// that have asked for nothing yet until it asks for something.
pub(super) async fn serve(
    stream: UnixStream,
    place: OwnedSemaphorePermit,
    facts: Arc<Facts>,
    requests: mpsc::Sender<Request>,
) {
    let (incoming, outgoing) = stream.into_split();
    let feed = Feed::begin(facts.hello(), now());
    let mut host = Host { feed, requests, place: Some(place), grown: None, live: None };
    if let Err(error) = host.talk(incoming, outgoing).await {
        debug!(%error, "A link was cut.");
    }
}

fn now() -> Nanos {
    SystemClock.now() - BoardTime(0)
}

struct Host {
    feed: Feed,
    requests: mpsc::Sender<Request>,
    place: Option<OwnedSemaphorePermit>,
    /// Tells that the fetched run's log has grown, while the run goes on.
    grown: Option<watch::Receiver<u64>>,
    live: Option<broadcast::Receiver<Arc<[u8]>>>,
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
                _ = tick.tick() => {
                    let wanted = self.feed.on_timer(now());
                    self.serve(wanted).await;
                }
            }
        }
    }

    async fn serve(&mut self, wanted: Vec<Wanted>) {
        for wanted in wanted {
            self.place = None;
            match wanted {
                Wanted::Answer(id, command) => {
                    let reply = self.answer(id, command).await;
                    self.feed.reply(id, reply, now());
                }
                Wanted::Acknowledge(have) => {
                    let _ = self.requests.send(Request::Acknowledge(have)).await;
                }
            }
        }
    }

    async fn answer(&mut self, id: CommandId, command: Command) -> Reply {
        match command {
            Command::ClockPing { sent } => {
                let received = SystemClock.now();
                Reply::Clock { sent, received, answered: SystemClock.now() }
            }
            Command::Fetch { run, have, .. } => match self.open(Request::open(run)).await {
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
            Command::Live { run } => match self.open(Request::open(run)).await {
                Ok(Opened { listening: Some(listening), .. }) => {
                    self.live = Some(listening.live.subscribe());
                    Reply::Live
                }
                Ok(Opened { listening: None, .. }) => Reply::Refused(Refusal::NoSuchRun),
                Err(refusal) => Reply::Refused(refusal),
            },
            other => {
                let (reply, answer) = oneshot::channel();
                let asked = Request::Command { id, command: Box::new(other), reply };
                let sent = self.requests.send(asked).await;
                match (sent, answer.await) {
                    (Ok(()), Ok(reply)) => reply,
                    // The hub ends only with the agent.
                    _ => Reply::Ending,
                }
            }
        }
    }

    async fn open(
        &self,
        (request, answer): (Request, oneshot::Receiver<Result<Opened, Refusal>>),
    ) -> Result<Opened, Refusal> {
        let sent = self.requests.send(request).await;
        match (sent, answer.await) {
            (Ok(()), Ok(opened)) => opened,
            _ => Err(Refusal::NoSuchRun),
        }
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
