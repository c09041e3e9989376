//! An hour on a healthy link: what of it touches the board's disk.
//!
//! Owns the order in which the shipping machines are driven, in virtual time:
//! ring, desk and writer on the board, cursor, intake and store on the host. The
//! spool lies on real files; what is appended to them is counted by kind.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wattline::collect::intake::Intake;
use wattline::store::Store;
use wattline_agent::power::ring::{Sweep, SweepProducer, ring};
use wattline_agent::recorder::desk::Desk;
use wattline_agent::recorder::writer::Writer;
use wattline_agent::recorder::{LANE_CHIPS, LaneInput};
use wattline_agent::spool::{AppendFile, DiskStorage, Item, LogCursor, Spool, Storage};
use wattline_protocol::frame;
use wattline_protocol::record::{Record, kind};
use wattline_protocol::session::host::Event;
use wattline_protocol::units::{BoardTime, Nanos};

use super::{run_id, words, written};
use crate::night;
use crate::streams::{Case, REGISTERS, Stream};

/// Length of the hour, in seconds.
const HOUR_S: u32 = 3_600;
/// Steps of a second: the recorder empties its rings each 20 ms.
const STEPS: u32 = 50;
/// From a frame's reading to the board's hearing that it is held, beside the
/// host's own commit: a round trip on a wired network, rounded up to a step.
const ROUND_TRIP: Nanos = Nanos::from_millis(20);

/// Bytes of an hour.
pub(super) struct Hour {
    /// Of sample and span streams, appended to files.
    pub(super) streams: u64,
    /// Of all frames and heads, appended to files, slots of the epoch included.
    pub(super) all: u64,
    /// Of pages that the kernel counts as made dirty.
    pub(super) dirtied: u64,
    /// Of frames that the host holds in the end.
    pub(super) collected: u64,
}

pub(super) fn an_hour(seed: u64) -> Result<Hour, String> {
    let folder = tempfile::tempdir().map_err(words)?;
    let count = Arc::new(Count::default());
    let disk = DiskStorage::open(folder.path()).map_err(words)?;
    let before = written()?;
    let storage = Arc::new(Counted { disk, count: Arc::clone(&count) });
    let mut board = Board::begin(storage, seed)?;
    let mut host = Host::begin(&board)?;
    for step in 0..HOUR_S * STEPS {
        board.step(step)?;
        host.step(&board, board.now)?;
    }
    // The run goes on: what the link still holds is no part of this hour.
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Ok(Hour {
        streams: read(&count.streams),
        all: read(&count.all),
        dirtied: written()?.saturating_sub(before),
        collected: host.collected,
    })
}

struct Board {
    spool: Spool,
    desk: Desk,
    writer: Writer,
    ring: SweepProducer,
    stream: Stream,
    now: BoardTime,
}

impl Board {
    fn begin(storage: Arc<Counted>, seed: u64) -> Result<Self, String> {
        let spool = Spool::open(storage, "measure").map_err(words)?;
        let epoch = spool.raise_epoch("measure").map_err(words)?.epoch;
        let log = spool.create_run(&run_id()?).map_err(words)?;
        let now = night::at(0);
        let (producer, ring) = ring(1_024);
        let lanes = vec![LaneInput { lane: LANE_CHIPS, columns: REGISTERS, ring }];
        let desk = Desk::new(epoch, 0, lanes, now);
        let writer = Writer::new(log, now);
        let stream = Stream::new(Case::A, seed);
        let mut board = Self { spool, desk, writer, ring: producer, stream, now };
        board.record(&night::run_start().into());
        board.record(&night::plan().into());
        board.sync()?;
        Ok(board)
    }

    fn step(&mut self, step: u32) -> Result<(), String> {
        let second = step / STEPS;
        self.now = night::at(second) + Nanos::from_millis(i64::from(step % STEPS * 1_000 / STEPS));
        for row in self.stream.by_ref().take(usize::try_from(1_000 / STEPS).unwrap_or(0)) {
            let mut sweep = Sweep { end: BoardTime(row.time_ticks * 1_000), ..Sweep::default() };
            sweep.columns = u8::try_from(REGISTERS).unwrap_or(0);
            for (place, code) in sweep.codes.iter_mut().zip(row.codes) {
                *place = code;
            }
            if !self.ring.push(sweep) {
                return Err("the ring overflowed".to_owned());
            }
        }
        let (writer, now) = (&mut self.writer, self.now);
        let mut gaps = 0;
        self.desk.drain(now, false, &mut |bytes| gaps += writer.frame(&bytes, now).len());
        if step.is_multiple_of(STEPS) {
            for mark in night::marks_of(second) {
                self.record(&mark);
                if matches!(mark, Record::TrialStart(_)) {
                    self.sync()?;
                }
            }
            for record in night::records_of(second).iter().chain(&night::spans_of(second)) {
                self.record(record);
            }
        }
        if self.writer.is_sync_due(self.now) {
            self.sync()?;
        }
        if gaps == 0 { Ok(()) } else { Err("frames were dropped".to_owned()) }
    }

    fn record(&mut self, record: &Record) {
        let (writer, now) = (&mut self.writer, self.now);
        self.desk.record(record, &mut |bytes| drop(writer.frame(&bytes, now)));
    }

    fn sync(&mut self) -> Result<(), String> {
        let synced = self.writer.sync(self.now);
        if synced.durable { Ok(()) } else { Err("the disk refuses".to_owned()) }
    }
}

struct Host {
    store: Store,
    intake: Intake,
    cursor: LogCursor,
    /// Acknowledgements on their way, with when they are heard.
    acks: Vec<(BoardTime, wattline_protocol::command::Acknowledge)>,
    collected: u64,
}

impl Host {
    fn begin(board: &Board) -> Result<Self, String> {
        let reader = board.spool.reader(&run_id()?).map_err(words)?;
        Ok(Self {
            store: Store::in_memory().map_err(words)?,
            intake: Intake::new(run_id()?),
            cursor: reader.cursor(&[]),
            acks: Vec::new(),
            collected: 0,
        })
    }

    fn step(&mut self, board: &Board, now: BoardTime) -> Result<(), String> {
        let at = now - BoardTime(0);
        while let Some(item) = self.cursor.next_item().map_err(words)? {
            let Item::Frame(frame) = item else {
                return Err(format!("a healthy link met {item:?}"));
            };
            self.collected += u64::try_from(frame.bytes.len()).unwrap_or(0);
            let event = Event::Frame(frame.bytes.to_vec());
            self.intake.take(event, &mut self.store, at).map_err(words)?;
        }
        if self.intake.due().is_some_and(|due| at >= due) {
            let committed = self.intake.commit(&mut self.store).map_err(words)?;
            self.acks.extend(committed.have.map(|have| (now + ROUND_TRIP, have)));
        }
        for (_, have) in self.acks.extract_if(.., |(heard, _)| *heard <= now) {
            board.spool.ack(&have.run, &have.have).map_err(words)?;
        }
        Ok(())
    }
}

/// Bytes that were appended to files.
#[derive(Debug, Default)]
struct Count {
    streams: AtomicU64,
    all: AtomicU64,
}

/// Real files, with a count of what is appended.
#[derive(Debug)]
struct Counted {
    disk: DiskStorage,
    count: Arc<Count>,
}

#[derive(Debug)]
struct CountedFile {
    file: Box<dyn AppendFile>,
    count: Arc<Count>,
}

impl AppendFile for CountedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        self.count.all.fetch_add(length, Ordering::Relaxed);
        let kinds = [kind::SAMPLE_BLOCK, kind::INFERENCE_SPANS, kind::LAYER_SPANS, kind::GPU_SPANS];
        if frame::decode(bytes).is_ok_and(|frame| kinds.contains(&frame.header.kind)) {
            self.count.streams.fetch_add(length, Ordering::Relaxed);
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Storage for Counted {
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let file = self.disk.create(name)?;
        Ok(Box::new(CountedFile { file, count: Arc::clone(&self.count) }))
    }

    fn create_folder(&self, name: &str) -> io::Result<()> {
        self.disk.create_folder(name)
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        self.disk.sync_folder(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn read_at(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(name, offset, bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.disk.length(name)
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.disk.truncate(name, length)
    }

    fn settle(&self, name: &str) -> io::Result<()> {
        self.disk.settle(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}
