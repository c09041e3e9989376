//! A host of a night: stores that outlive it, and a collector that does not.
//!
//! Owns the host's end of a link and the crash of the host between any two
//! statements of a transaction. What is committed and acknowledged is decided
//! by the shipping [`Intake`] and [`Store`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use wattline::collect::intake::{Arrived, Intake};
use wattline::store::{Store, StoreError};
use wattline_protocol::command::{Command, Refusal, Reply, Side};
use wattline_protocol::frame;
use wattline_protocol::record::kind;
use wattline_protocol::session::CommandId;
use wattline_protocol::session::host::{Event, Session};
use wattline_protocol::units::Nanos;

use crate::board::run_id;
use crate::dice::Dice;
use crate::trace;

/// What dies where: 0 nowhere, 1 at a frame, 2 at a watermark.
const TRIP: &str = "
    CREATE TABLE trip (at INTEGER NOT NULL); INSERT INTO trip VALUES (0);
    CREATE TRIGGER trip_frames BEFORE INSERT ON frames
        WHEN (SELECT at FROM trip) = 1 AND NEW.first % 3 = 1
        BEGIN SELECT RAISE(ABORT, 'the host dies here'); END;
    CREATE TRIGGER trip_watermarks BEFORE INSERT ON watermarks
        WHEN (SELECT at FROM trip) = 2
        BEGIN SELECT RAISE(ABORT, 'the host dies here'); END;";

/// SQLite's own bound of a file's pages.
const PAGES_MAX: u64 = 0xFFFF_FFFE;

/// Summary levels: level, epoch, stream and number of a bucket, and its rails.
pub(crate) type Levels = BTreeMap<(u8, u32, u32, u64), Vec<u8>>;

/// The recording of one run at one host.
pub(crate) struct Book {
    name: String,
    /// Holds the memory that is the host's disk while no store is open.
    disk: Connection,
    pub(crate) store: Store,
    /// The run's end is here, and all before it.
    pub(crate) whole: bool,
    /// The board has sent all that it has, with or without an end.
    pub(crate) all_sent: bool,
    /// The board has no such run any more.
    pub(crate) gone: bool,
    /// What was acknowledged.
    pub(crate) acked: BTreeMap<(u32, u32), u64>,
}

impl Book {
    pub(crate) fn new() -> Result<Self, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("file:night-{count}?mode=memory&cache=shared");
        let disk = connect(&name)?;
        let store = Store::within(connect(&name)?)?;
        disk.execute_batch(TRIP).map_err(StoreError::within)?;
        Ok(Self {
            name,
            disk,
            store,
            whole: false,
            all_sent: false,
            gone: false,
            acked: BTreeMap::new(),
        })
    }

    /// The host dies: its open transaction is rolled back.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        self.set_trip(0)?;
        self.store = Store::within(connect(&self.name)?)?;
        Ok(())
    }

    /// Pages of the recording.
    pub(crate) fn pages(&self) -> u64 {
        self.disk.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap_or(0)
    }

    /// The table of summary levels, as it is.
    pub(crate) fn levels(&self) -> rusqlite::Result<Levels> {
        let query = "SELECT level, epoch, stream, bucket, rails FROM levels";
        let mut rows = self.disk.prepare(query)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?))
        };
        rows.query_map([], row)?.collect()
    }

    /// Bounds the recording: SQLite meets a full disk behind so many pages.
    pub(crate) fn set_pages_max(&self, pages: Option<u64>) -> Result<(), StoreError> {
        let pages = pages.unwrap_or(PAGES_MAX);
        let set = format!("PRAGMA max_page_count = {pages}");
        self.disk.query_row(&set, [], |_| Ok(())).map_err(StoreError::within)
    }

    /// The next transaction dies `at` a place of [`TRIP`].
    pub(crate) fn set_trip(&self, at: u8) -> Result<(), StoreError> {
        let set = self.disk.execute("UPDATE trip SET at = ?1", [at]);
        set.map(drop).map_err(StoreError::within)
    }
}

fn connect(name: &str) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(name, flags).map_err(StoreError::within)
}

/// Bytes on their way, each chunk with the time of its arrival.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    chunks: VecDeque<(u64, Vec<u8>)>,
    last: u64,
}

impl Pipe {
    pub(crate) fn push(&mut self, bytes: Vec<u8>, arrives: u64) {
        if !bytes.is_empty() {
            self.last = arrives.max(self.last);
            self.chunks.push_back((self.last, bytes));
        }
    }

    pub(crate) fn pop(&mut self, t: u64) -> Option<Vec<u8>> {
        match self.chunks.front() {
            Some((arrives, _)) if *arrives <= t => self.chunks.pop_front().map(|(_, bytes)| bytes),
            Some(_) | None => None,
        }
    }
}

/// The host's end of a connection, and what is on its way in it.
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) run: usize,
    session: Session,
    intake: Intake,
    asked: Option<CommandId>,
    /// Towards the board, and from it.
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// Cut, and nobody has noticed yet.
    pub(crate) dead: bool,
    /// A frame that came, for a relay that sends it once more.
    replay: Option<Vec<u8>>,
    /// A frame that a relay keeps back until the next one of its stream is through.
    kept_back: Option<Vec<u8>>,
    /// One did overtake another, or took its place.
    overtaken: bool,
}

/// How a step of a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    GoOn,
    /// The link is closed, by either side.
    Close,
    /// The host died over its store.
    Died,
    /// The store refuses what the board sends: no fault of this night's does that.
    Refused,
}

/// What becomes of frames between a board and a host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Relay {
    /// Frames come twice so often, in a thousand.
    pub(crate) duplicates: u64,
    /// Frames are lost, or overtake each other, so often, in a thousand.
    pub(crate) muddles: u64,
    /// What the board may send before some of it is committed, in bytes; `None`:
    /// what the collector grants.
    pub(crate) credit: Option<u64>,
}

/// A host.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) books: BTreeMap<usize, Book>,
    pub(crate) link: Option<Link>,
    /// Takes part from this world time on.
    pub(crate) from: u64,
    /// No new link before this world time.
    pub(crate) away_until: u64,
    /// What its clock jumped ahead.
    pub(crate) ahead: u64,
    /// What stands between it and the board.
    pub(crate) relay: Relay,
    /// Its disk is full behind so many pages of a recording.
    pub(crate) pages_max: Option<u64>,
    /// Crashes between commit and acknowledgement, in a thousand commits.
    pub(crate) forgets: u64,
}

impl Host {
    pub(crate) fn now(&self, t: u64) -> Nanos {
        Nanos(i64::try_from(t + self.ahead).unwrap_or(i64::MAX))
    }

    /// A run that is not yet here, of those that were begun.
    pub(crate) fn wanted(&mut self, begun: usize) -> Option<usize> {
        (0..begun).find(|run| self.books.get(run).is_none_or(|book| !book.whole && !book.gone))
    }

    /// Begins a conversation about `run`; the board is told of it by the caller.
    pub(crate) fn connect(&mut self, id: u64, run: usize, t: u64) -> Result<(), StoreError> {
        let Some(name) = run_id(run) else { return Ok(()) };
        if let Entry::Vacant(place) = self.books.entry(run) {
            place.insert(Book::new()?).set_pages_max(self.pages_max)?;
        }
        if let Some(book) = self.books.get_mut(&run) {
            book.all_sent = false;
        }
        let (session, hello) = Session::begin(crate::hello(Side::Host), t, self.now(t));
        let mut up = Pipe::default();
        up.push(hello, t);
        self.link = Some(Link {
            id,
            run,
            session,
            intake: Intake::new(name),
            asked: None,
            up,
            down: Pipe::default(),
            dead: false,
            replay: None,
            kept_back: None,
            overtaken: false,
        });
        Ok(())
    }

    /// Takes what has arrived and commits what is due.
    pub(crate) fn step(&mut self, t: u64, delay: u64, dice: &mut Dice) -> After {
        let now = self.now(t);
        let Some(mut link) = self.link.take() else { return After::GoOn };
        let Some(book) = self.books.get_mut(&link.run) else { return After::Close };
        let mut after = link.timer(now, t + delay);
        while after == After::GoOn
            && !link.dead
            && let Some(bytes) = link.down.pop(t)
        {
            let events = link.session.on_bytes(&bytes, now);
            for event in events {
                if after == After::GoOn {
                    after = link.event(event, book, (now, t + delay), &self.relay, dice);
                }
            }
        }
        if after == After::GoOn
            && let Err(died) = link.give_kept_back(book, now)
        {
            after = died;
        }
        let due = link.intake.due().is_some_and(|due| now >= due) || link.intake.is_full();
        if after == After::GoOn && due {
            after = link.commit(book, (now, t + delay), self.forgets, dice);
        }
        self.link = Some(link);
        after
    }
}

impl Link {
    fn timer(&mut self, now: Nanos, arrives: u64) -> After {
        for event in self.session.on_timer(now) {
            match event {
                Event::Send(bytes) => self.up.push(bytes, arrives),
                Event::Failed(error) => {
                    trace!("a host gives up its link: {error}");
                    return After::Close;
                }
                _ => {}
            }
        }
        After::GoOn
    }

    fn event(
        &mut self,
        event: Event,
        book: &mut Book,
        (now, arrives): (Nanos, u64),
        relay: &Relay,
        dice: &mut Dice,
    ) -> After {
        if !matches!(event, Event::Frame(_))
            && let Err(after) = self.give_kept_back(book, now)
        {
            return after;
        }
        match event {
            Event::Send(bytes) => self.up.push(bytes, arrives),
            Event::Ready(_) => match self.intake.fetch(&book.store) {
                Ok(mut fetch) => {
                    if let Command::Fetch { credit, .. } = &mut fetch {
                        *credit = relay.credit.unwrap_or(*credit);
                    }
                    let (id, bytes) = self.session.command(fetch, now);
                    self.asked = Some(id);
                    self.up.push(bytes, arrives);
                }
                Err(error) => return self.died(&error),
            },
            Event::Reply(id, Reply::Refused(Refusal::NoSuchRun)) if self.asked == Some(id) => {
                trace!("run {} is gone", self.run);
                book.gone = true;
                return After::Close;
            }
            Event::Failed(error) => {
                trace!("a session failed: {error}");
                return After::Close;
            }
            Event::Farewell(_) => return After::Close,
            Event::Frame(bytes) => {
                for frame in self.relayed(bytes, relay, dice) {
                    let taken = self.intake.take(Event::Frame(frame), &mut book.store, now);
                    if let Err(error) = taken {
                        return self.died(&error);
                    }
                }
            }
            other => match self.intake.take(other, &mut book.store, now) {
                Ok(Arrived::AllSent) => {
                    trace!("all of run {} was sent", self.run);
                    let after = self.commit(book, (now, arrives), 0, dice);
                    // Without a RUN_END it is only all that the board has now.
                    book.all_sent |= after != After::Died;
                    book.whole |= after != After::Died && has_end(&book.store);
                    return if after == After::Died { after } else { After::Close };
                }
                Ok(Arrived::Taken | Arrived::Other(_)) => {}
                Err(error) => return self.died(&error),
            },
        }
        After::GoOn
    }

    /// What a relay makes of one frame that comes.
    fn relayed(&mut self, bytes: Vec<u8>, relay: &Relay, dice: &mut Dice) -> Vec<Vec<u8>> {
        let mut through = Vec::new();
        let states = is_statement(&bytes);
        if let Some(kept) = self.kept_back.take() {
            if !states && stream_of(&kept) == stream_of(&bytes) {
                trace!("a relay lets a frame overtake another");
                self.overtaken = true;
                through.push(bytes);
                if dice.chance(500) {
                    through.push(kept);
                }
                return through;
            }
            if states {
                through.push(kept);
            } else {
                self.kept_back = Some(kept);
            }
        }
        if !states && self.kept_back.is_none() && dice.chance(relay.muddles) {
            self.kept_back = Some(bytes);
            return through;
        }
        let again = if dice.chance(relay.duplicates) { Some(bytes.clone()) } else { None };
        for frame in [Some(bytes), again, self.replay.take()].into_iter().flatten() {
            if dice.chance(relay.duplicates) {
                self.replay = Some(frame.clone());
            }
            through.push(frame);
        }
        through
    }

    /// What was kept back goes through, behind nothing of its stream.
    fn give_kept_back(&mut self, book: &mut Book, now: Nanos) -> Result<(), After> {
        let Some(kept) = self.kept_back.take() else { return Ok(()) };
        let taken = self.intake.take(Event::Frame(kept), &mut book.store, now);
        taken.map(drop).map_err(|error| self.died(&error))
    }

    fn died(&self, error: &StoreError) -> After {
        trace!("the host dies: {error}");
        match error {
            // The traps of this module: see TRIP, and a full disk.
            StoreError::Refused { .. } | StoreError::DiskFull { .. } => After::Died,
            // What the relay made of the frames is refused, as it must be.
            StoreError::Hole { .. } if self.overtaken => After::Died,
            _ => After::Refused,
        }
    }

    fn commit(
        &mut self,
        book: &mut Book,
        (now, arrives): (Nanos, u64),
        forgets: u64,
        dice: &mut Dice,
    ) -> After {
        let committed = match self.intake.commit(&mut book.store) {
            Ok(committed) => committed,
            Err(error) => return self.died(&error),
        };
        if dice.chance(forgets) {
            trace!("the host dies between commit and acknowledgement");
            return After::Died;
        }
        if let Some(have) = committed.have {
            for end in &have.have {
                let mark = book.acked.entry((end.epoch, end.stream)).or_insert(0);
                *mark = end.next.max(*mark);
            }
            self.up.push(self.session.acknowledge(have, now), arrives);
        }
        if committed.over {
            trace!("run {} is whole", self.run);
            book.whole = true;
            // The acknowledgement leaves before the link is closed.
            self.up.push(self.session.farewell(), arrives);
            return After::Close;
        }
        After::GoOn
    }
}

/// Epoch and stream of a frame.
fn stream_of(bytes: &[u8]) -> Option<(u32, u32)> {
    let identity = frame::decode(bytes).ok()?.header.identity;
    Some((identity.epoch, identity.stream))
}

/// True for a frame that says what is absent: where it comes before others, these
/// are absent, whatever comes later.
fn is_statement(bytes: &[u8]) -> bool {
    let statements = [kind::GAP, kind::EPOCH_END, kind::RUN_END];
    bytes.get(3).is_some_and(|kind| statements.contains(kind))
}

fn has_end(store: &Store) -> bool {
    let mut found = false;
    let looked = store.for_each_frame(|frame| -> Result<(), StoreError> {
        found |= frame.header.kind == kind::RUN_END;
        Ok(())
    });
    looked.is_ok() && found
}
