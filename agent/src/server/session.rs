//! One connection: bytes between the stream and the session's state machine.
//!
//! Owns the outgoing bytes, the fetch and the live copies of one host. Asks the
//! hub for everything else. Frames are read from the spool as they lie there.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};
use wattline_protocol::command::{Command, Farewell, FetchEnd, Refusal, Reply};
use wattline_protocol::session::agent::{Action, Session};
use wattline_protocol::session::{CommandId, Message};
use wattline_protocol::units::{BoardTime, Nanos};

use super::hub::{Facts, Opened, Request};
use crate::clock::{Clock, SystemClock};
use crate::spool::{Item, LogCursor, LogReader, SpoolError};

/// Bytes that wait for a slow host: more frames are read from the spool only
/// below this, so a stalled link costs no memory.
const OUTGOING_MAX: usize = 256 * 1024;
/// Bytes read from the stream at once.
const READ_BYTES: usize = 16 * 1024;
/// The session is given the time this often.
const TICK: Duration = Duration::from_secs(1);

/// Tells a host that there is no place for it.
pub(super) async fn turn_away(mut stream: UnixStream) {
    let bytes = Message::Farewell(Farewell::TooManySessions).to_frame();
    let _ = stream.write_all(&bytes).await;
}

/// Serves one host until either side ends.
pub(super) async fn serve(stream: UnixStream, facts: Arc<Facts>, requests: mpsc::Sender<Request>) {
    let (incoming, outgoing) = stream.into_split();
    let (session, actions) = Session::begin(facts.hello(), now());
    let mut host =
        Host { session, outgoing: Vec::new(), requests, fetch: None, live: None, closing: false };
    host.perform(actions).await;
    if let Err(error) = host.talk(incoming, outgoing).await {
        debug!(%error, "A link was cut.");
    }
}

fn now() -> Nanos {
    SystemClock.now() - BoardTime(0)
}

struct Fetch {
    reader: LogReader,
    cursor: LogCursor,
    grown: Option<watch::Receiver<u64>>,
    ended: bool,
}

struct Host {
    session: Session,
    outgoing: Vec<u8>,
    requests: mpsc::Sender<Request>,
    fetch: Option<Fetch>,
    live: Option<broadcast::Receiver<Arc<[u8]>>>,
    closing: bool,
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
            self.fill();
            if self.closing && self.outgoing.is_empty() {
                return Ok(());
            }
            let room = self.outgoing.len() < OUTGOING_MAX;
            tokio::select! {
                read = incoming.read(&mut buffer), if !self.closing => {
                    let count = read?;
                    if count == 0 {
                        return Ok(());
                    }
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let actions = self.session.on_bytes(bytes, now());
                    self.perform(actions).await;
                }
                written = outgoing.write(&self.outgoing), if !self.outgoing.is_empty() => {
                    let count = written?;
                    self.outgoing.drain(..count);
                }
                () = grown(self.fetch.as_mut()), if room && self.session.may_send_frame() => {}
                copy = live_copy(self.live.as_mut()), if room => self.live(copy),
                _ = tick.tick() => {
                    let actions = self.session.on_timer(now());
                    self.perform(actions).await;
                }
            }
        }
    }

    async fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(bytes) => self.outgoing.extend(bytes),
                Action::Perform(id, command) => {
                    let reply = self.answer(id, command).await;
                    let bytes = self.session.reply(id, reply, now());
                    self.outgoing.extend(bytes);
                }
                Action::Acknowledged(have) => {
                    let _ = self.requests.send(Request::Acknowledge(have)).await;
                }
                Action::Close(error) => {
                    if let Some(error) = error {
                        warn!(%error, "A peer is turned away.");
                    }
                    self.closing = true;
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
                Ok(opened) => {
                    let cursor = opened.reader.cursor(&have);
                    let Opened { reader, listening } = opened;
                    let grown = listening.map(|listening| listening.grown);
                    self.fetch = Some(Fetch { reader, cursor, grown, ended: false });
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

    /// Takes frames from the spool while the host allows it and there is room.
    /// The reads are short and from the page cache, but for a fetch of an old
    /// run; the sampler is on a thread of its own either way.
    fn fill(&mut self) {
        let Some(fetch) = &mut self.fetch else { return };
        while !fetch.ended && self.outgoing.len() < OUTGOING_MAX && self.session.may_send_frame() {
            // Whether the run has ended must be read first: what is appended
            // after the cursor came to its end is then seen in the next round.
            let over = fetch.grown.is_none() || fetch.reader.ended();
            match fetch.cursor.next_item() {
                Ok(Some(Item::Frame(frame))) => {
                    self.outgoing.extend_from_slice(&frame.bytes);
                    self.session.frame_sent(frame.bytes.len(), now());
                }
                Ok(Some(Item::Hole(gap))) => {
                    let bytes = self.session.hole(gap, now());
                    self.outgoing.extend(bytes);
                }
                Ok(Some(Item::Damage { segment, bytes })) => {
                    warn!(segment, bytes, "A damaged part of the spool was passed over.");
                }
                Ok(None) if over => {
                    fetch.ended = true;
                    let run = fetch.reader.run().clone();
                    let end = FetchEnd { run, ends: fetch.reader.appended_ends() };
                    let bytes = self.session.fetch_end(end, now());
                    self.outgoing.extend(bytes);
                }
                Ok(None) => return,
                Err(SpoolError::Removed { .. }) => {
                    fetch.ended = true;
                    return;
                }
                Err(error) => {
                    warn!(%error, "The spool cannot be read; the host may ask again.");
                    self.closing = true;
                    return;
                }
            }
        }
    }

    fn live(&mut self, copy: Result<Arc<[u8]>, RecvError>) {
        match copy {
            Ok(frame) => {
                let bytes = self.session.live(&frame, now());
                self.outgoing.extend(bytes);
            }
            Err(RecvError::Lagged(count)) => {
                let bytes = self.session.live_dropped(count, now());
                self.outgoing.extend(bytes);
            }
            Err(RecvError::Closed) => self.live = None,
        }
    }
}

/// Resolves when the log has grown; never where nothing is fetched.
async fn grown(fetch: Option<&mut Fetch>) {
    match fetch.and_then(|fetch| if fetch.ended { None } else { fetch.grown.as_mut() }) {
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
