//! The collector: brings a run's frames into its store, over any number of
//! links.
//!
//! Owns coming back after a cut, and the clock exchanges. What is committed
//! and acknowledged, and when, is decided in [`intake`]. Copies frames;
//! understands only those that say where the run is.

pub mod intake;

use std::time::Duration;

use tokio::signal::unix::Signal;
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::clock_sync::schedule::Schedule;
use wattline_protocol::command::{Command, Refusal, Reply};
use wattline_protocol::frame::{self, Frame};
use wattline_protocol::presence::Purpose;
use wattline_protocol::record::RunId;
use wattline_protocol::session::host::Event;
use wattline_protocol::units::{HostTime, Nanos};

use crate::board::BoardAddress;
use crate::client::{Client, ClientError};
use crate::clock;
use crate::command::refusal;
use crate::failure::{Exit, Failure};
use crate::run_folder::store_failure;
use crate::store::{Store, StoreError};
use intake::{Arrived, Intake};

/// Waits between attempts to come back: doubling from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(1);
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
    /// The board refused to end it: somebody else controls it.
    fn not_stopped(&mut self, refusal: &Refusal);
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
    /// What is said to a board that is connected to again.
    pub purpose: Purpose,
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
                None => Client::connect_for(self.address, self.purpose).await,
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
        let mut intake = Intake::new(self.run.clone());
        let fetch = intake.fetch(self.store).map_err(stored)?;
        match client.ask(fetch).await? {
            Reply::Fetching => {}
            Reply::Refused(refusal) => return Err(self.refused(&refusal)),
            _ => return Err(self.refused(&Refusal::NoSuchRun)),
        }
        if *stopping {
            client.tell(Command::Stop { run: self.run.clone() }).await?;
        }
        let mut clocks = Clocks::starting();
        loop {
            let step = tokio::select! {
                event = client.next() => Step::Event(event),
                () = wait_until(intake.due()) => Step::Commit,
                () = wait_until(Some(clocks.schedule.due())) => Step::Ping,
                _ = interrupts.recv() => Step::Interrupt,
            };
            let ended = match step {
                Step::Event(event) => {
                    let event = event?;
                    if let Event::Reply(_, Reply::Refused(refusal)) = &event
                        && *stopping
                        && matches!(refusal, Refusal::Controlled { .. })
                    {
                        // The next Ctrl-C asks again; by then the other may have left.
                        *stopping = false;
                        self.observer.not_stopped(refusal);
                    }
                    self.event(event, client, &mut intake, &mut clocks).await?
                }
                Step::Commit => self.commit(client, &mut intake).await?,
                Step::Ping => {
                    if clocks.schedule.on_time(clock::since_boot()) {
                        client.tell(Command::ClockPing { sent: clock::now() }).await?;
                    }
                    false
                }
                Step::Interrupt if *stopping || self.on_interrupt == OnInterrupt::Leave => {
                    self.commit(client, &mut intake).await?;
                    return Ok(Collected::Left);
                }
                Step::Interrupt => {
                    *stopping = true;
                    self.observer.stopping();
                    client.tell(Command::Stop { run: self.run.clone() }).await?;
                    false
                }
            };
            if ended || intake.is_full() {
                let over = self.commit(client, &mut intake).await?;
                if ended || over {
                    self.last_burst(client, &clocks).await?;
                    return Ok(if *stopping { Collected::Stopped } else { Collected::Whole });
                }
            }
        }
    }

    /// Takes an event; true where the run is over and all was sent.
    async fn event(
        &mut self,
        event: Event,
        client: &mut Client,
        intake: &mut Intake,
        clocks: &mut Clocks,
    ) -> Result<bool, LinkEnd> {
        match intake.take(event, self.store, clock::since_boot()).map_err(stored)? {
            Arrived::Taken => Ok(false),
            Arrived::AllSent => Ok(true),
            Arrived::Other(Event::Reply(_, Reply::Clock { sent, received, answered })) => {
                clocks.burst.push(ClockExchange {
                    host_sent: sent,
                    board_received: received,
                    board_sent: answered,
                    host_received: client.heard(),
                });
                if clocks.schedule.on_answer() {
                    client.tell(Command::ClockPing { sent: clock::now() }).await?;
                } else {
                    self.store.append_clock_exchanges(&clocks.burst).map_err(stored)?;
                    clocks.burst.clear();
                    clocks.stored += 1;
                }
                Ok(false)
            }
            // Answers to Stop, and messages that a collector did not ask for.
            Arrived::Other(_) => Ok(false),
        }
    }

    /// Asks for the board's clock where a link was over before its first burst:
    /// a run that is fetched in the morning has its offset too.
    async fn last_burst(&mut self, client: &mut Client, clocks: &Clocks) -> Result<(), LinkEnd> {
        if clocks.stored == 0
            && let Ok(burst) = client.clock_burst().await
        {
            self.store.append_clock_exchanges(&burst).map_err(stored)?;
        }
        // A link that is cut now has brought all that was asked for.
        Ok(())
    }

    /// Commits, then acknowledges; true where the run's end was among them and
    /// nothing is missing before it.
    async fn commit(&mut self, client: &mut Client, intake: &mut Intake) -> Result<bool, LinkEnd> {
        let committed = intake.commit(self.store).map_err(stored)?;
        if let Some(have) = committed.have {
            client.acknowledge(have).await?;
        }
        for bytes in &committed.frames {
            if let Ok(frame) = frame::decode(bytes) {
                self.observer.frame(&frame);
            }
        }
        Ok(committed.over)
    }

    fn refused(&self, refusal: &Refusal) -> LinkEnd {
        LinkEnd::Failed(Box::new(refusal::failure(refusal, self.address, Some(self.run))))
    }
}

/// Exchanges of clock readings over one link.
struct Clocks {
    schedule: Schedule,
    /// Those of the present burst: they are stored together at its end.
    burst: Vec<ClockExchange>,
    /// Bursts that were stored.
    stored: u32,
}

impl Clocks {
    fn starting() -> Self {
        let schedule = Schedule::starting(clock::since_boot());
        Self { schedule, burst: Vec::new(), stored: 0 }
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

/// Resolves at `due`; never where there is none.
async fn wait_until(due: Option<Nanos>) {
    let Some(due) = due else { return std::future::pending().await };
    let wait = (due - clock::since_boot()).0.max(0);
    tokio::time::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(0))).await;
}
