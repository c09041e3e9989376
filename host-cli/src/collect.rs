//! The collector: brings a run's frames into its store, over any number of
//! links.
//!
//! Owns commit before acknowledgement, coming back after a cut, and the clock
//! exchanges. Copies frames; understands only those that say where the run is.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};
use wattline_protocol::command::{Acknowledge, Command, Refusal, Reply};
use wattline_protocol::frame::{self, Frame};
use wattline_protocol::record::{Record, RunEnd, RunId, kind};
use wattline_protocol::session::host::Event;
use wattline_protocol::units::{HostTime, Nanos};

use crate::board::BoardAddress;
use crate::client::{Client, ClientError};
use crate::clock;
use crate::command::refusal;
use crate::failure::{Exit, Failure};
use crate::run_folder::store_failure;
use crate::store::{ClockExchange, Store, StoreError};

/// Bytes the board may send before the host has committed some.
const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// Frames are committed at the latest at this age: what a crash of this
/// program makes the board send again.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// Bytes that are committed at once at most.
const COMMIT_BYTES: usize = 1024 * 1024;
/// Exchanges of clocks when a link begins, and the wait between later ones.
const PINGS_FIRST: u32 = 8;
const PING_EVERY: Duration = Duration::from_secs(10);
/// Waits between attempts to come back: doubling from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// A board that is away for this long is left alone; it keeps its records.
const AWAY_MAX: Nanos = Nanos::from_secs(300);

/// What is told while frames arrive.
pub trait Observer {
    /// A frame was committed.
    fn frame(&mut self, frame: &Frame<'_>);
    /// The link was cut, and the board is asked again.
    fn away(&mut self, error: &ClientError);
    /// Ctrl-C: the run is asked to end.
    fn stopping(&mut self);
}

/// What Ctrl-C means to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// End the run on the board, and collect its end.
    StopRun,
    /// Leave; the board goes on.
    Leave,
}

/// How collecting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// All frames of an ended run are here.
    Whole,
    /// All frames of an ended run are here; Ctrl-C had ended it.
    Stopped,
    /// Ctrl-C: the board goes on.
    Left,
}

/// A collector of one run.
pub struct Collector<'a> {
    /// Where the board is.
    pub address: &'a BoardAddress,
    /// The run.
    pub run: &'a RunId,
    /// Where frames go.
    pub store: &'a mut Store,
    /// Who is told.
    pub observer: &'a mut dyn Observer,
    /// What Ctrl-C means.
    pub on_interrupt: OnInterrupt,
}

struct Batch {
    frames: Vec<Vec<u8>>,
    bytes: usize,
    due: Instant,
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Step {
    Event(Result<Event, ClientError>),
    Commit,
    Ping,
    Interrupt,
}

impl Collector<'_> {
    /// Collects until the run's end is here.
    ///
    /// # Errors
    /// [`Failure`]: the board does not know the run or stays away, the store
    /// refuses.
    pub async fn collect(
        mut self,
        mut client: Option<Client>,
        interrupts: &mut Signal,
    ) -> Result<Collected, Failure> {
        let mut stopping = false;
        let mut away_since: Option<HostTime> = None;
        let mut retry = RETRY_FIRST;
        loop {
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => Client::connect(self.address).await,
            };
            let error = match connected {
                Ok(mut client) => {
                    away_since = None;
                    retry = RETRY_FIRST;
                    match self.link(&mut client, interrupts, &mut stopping).await {
                        Ok(collected) => {
                            client.close().await;
                            return Ok(collected);
                        }
                        Err(LinkEnd::Failed(failure)) => return Err(*failure),
                        Err(LinkEnd::Cut(error)) => error,
                    }
                }
                Err(error) => error,
            };
            let since = *away_since.get_or_insert_with(clock::now);
            if !error.may_come_back() || clock::now() - since > AWAY_MAX {
                return Err(self.gone(&error));
            }
            self.observer.away(&error);
            tokio::select! {
                () = tokio::time::sleep(retry) => retry = (retry * 2).min(RETRY_LAST),
                _ = interrupts.recv() => return Ok(Collected::Left),
            }
        }
    }

    fn gone(&self, error: &ClientError) -> Failure {
        let what = format!("board {} is out of reach", self.address);
        let mend = format!(
            "the board goes on and keeps its records; later: wattline fetch {} --on {}",
            self.run, self.address
        );
        Failure::of(Exit::Failed, what, error, mend)
    }

    async fn link(
        &mut self,
        client: &mut Client,
        interrupts: &mut Signal,
        stopping: &mut bool,
    ) -> Result<Collected, LinkEnd> {
        let have = self.store.watermarks().map_err(stored)?;
        let fetch = Command::Fetch { run: self.run.clone(), have, credit: CREDIT_BYTES };
        match client.ask(fetch).await? {
            Reply::Fetching => {}
            Reply::Refused(refusal) => return Err(self.refused(&refusal)),
            _ => return Err(self.refused(&Refusal::NoSuchRun)),
        }
        if *stopping {
            client.tell(Command::Stop { run: self.run.clone() }).await?;
        }
        for _ in 0..PINGS_FIRST {
            client.tell(Command::ClockPing { sent: clock::now() }).await?;
        }
        let mut batch = Batch { frames: Vec::new(), bytes: 0, due: Instant::from_std(far()) };
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.reset();
        loop {
            let step = tokio::select! {
                event = client.next() => Step::Event(event),
                () = sleep_until(batch.due), if !batch.frames.is_empty() => Step::Commit,
                _ = ping.tick() => Step::Ping,
                _ = interrupts.recv() => Step::Interrupt,
            };
            let ended = match step {
                Step::Event(event) => self.event(event?, &mut batch)?,
                Step::Commit => self.commit(client, &mut batch).await?,
                Step::Ping => {
                    client.tell(Command::ClockPing { sent: clock::now() }).await?;
                    false
                }
                Step::Interrupt if *stopping || self.on_interrupt == OnInterrupt::Leave => {
                    self.commit(client, &mut batch).await?;
                    return Ok(Collected::Left);
                }
                Step::Interrupt => {
                    *stopping = true;
                    self.observer.stopping();
                    client.tell(Command::Stop { run: self.run.clone() }).await?;
                    false
                }
            };
            let full = batch.bytes >= COMMIT_BYTES;
            if ended || full {
                let over = self.commit(client, &mut batch).await?;
                if ended || over {
                    return Ok(if *stopping { Collected::Stopped } else { Collected::Whole });
                }
            }
        }
    }

    /// Takes an event; true where the run is over and all was sent.
    fn event(&mut self, event: Event, batch: &mut Batch) -> Result<bool, LinkEnd> {
        match event {
            Event::Frame(bytes) => {
                if batch.frames.is_empty() {
                    batch.due = Instant::from_std(soon());
                }
                let ends = frame::decode(&bytes)
                    .is_ok_and(|frame| frame.header.kind == kind::RUN_END && is_end(&frame));
                batch.bytes += bytes.len();
                batch.frames.push(bytes);
                if ends {
                    batch.due = Instant::from_std(now());
                }
                Ok(false)
            }
            Event::Hole(gap) => {
                self.store.note_gap(&gap).map_err(stored)?;
                Ok(false)
            }
            Event::FetchEnd(end) => Ok(end.run == *self.run),
            Event::Reply(_, Reply::Clock { sent, received, answered }) => {
                let exchange = ClockExchange {
                    host_sent: sent,
                    board_received: received,
                    board_sent: answered,
                    host_received: clock::now(),
                };
                self.store.append_clock_exchange(exchange).map_err(stored)?;
                Ok(false)
            }
            // Answers to Stop, and messages that a collector did not ask for.
            _ => Ok(false),
        }
    }

    /// Commits, then acknowledges; true where the run's end was among them and
    /// nothing is missing before it.
    async fn commit(&mut self, client: &mut Client, batch: &mut Batch) -> Result<bool, LinkEnd> {
        if batch.frames.is_empty() {
            return Ok(false);
        }
        let frames: Vec<&[u8]> = batch.frames.iter().map(Vec::as_slice).collect();
        let appended = self.store.append(&frames).map_err(stored)?;
        let have = Acknowledge {
            run: self.run.clone(),
            have: appended.watermarks,
            credit: u64::try_from(batch.bytes).unwrap_or(0),
        };
        client.acknowledge(have).await?;
        let mut over = false;
        for bytes in &batch.frames {
            let Ok(frame) = frame::decode(bytes) else { continue };
            self.observer.frame(&frame);
            if let Some(end) = run_end(&frame) {
                over = self.holds_all_before(&end)?;
            }
        }
        batch.frames.clear();
        batch.bytes = 0;
        Ok(over)
    }

    fn holds_all_before(&self, end: &RunEnd) -> Result<bool, LinkEnd> {
        let have = self.store.watermarks().map_err(stored)?;
        let held = |epoch, stream| {
            have.iter().find(|one| (one.epoch, one.stream) == (epoch, stream)).map_or(0, |w| w.next)
        };
        Ok(end.streams.iter().all(|stream| held(stream.epoch, stream.stream) >= stream.next))
    }

    fn refused(&self, refusal: &Refusal) -> LinkEnd {
        LinkEnd::Failed(Box::new(refusal::failure(refusal, self.address, Some(self.run))))
    }
}

enum LinkEnd {
    Cut(ClientError),
    Failed(Box<Failure>),
}

impl From<ClientError> for LinkEnd {
    fn from(error: ClientError) -> Self {
        Self::Cut(error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn stored(error: StoreError) -> LinkEnd {
    LinkEnd::Failed(Box::new(store_failure(&error)))
}

fn is_end(frame: &Frame<'_>) -> bool {
    run_end(frame).is_some()
}

fn run_end(frame: &Frame<'_>) -> Option<RunEnd> {
    match Record::decode(frame.header.kind, frame.payload) {
        Ok(Record::RunEnd(end)) => Some(end),
        _ => None,
    }
}

fn now() -> std::time::Instant {
    clock::instant()
}

fn soon() -> std::time::Instant {
    clock::instant() + COMMIT_EVERY
}

/// A day: a deadline that is always replaced before it comes.
fn far() -> std::time::Instant {
    clock::instant() + Duration::from_secs(86_400)
}
