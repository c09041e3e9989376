//! What a collector does with what arrives: commit, then acknowledge.
//!
//! Owns the frames that are not yet committed, when they are, and what may be
//! acknowledged. Has no link and asks no clock: [`super::Collector`] drives it,
//! and so does the simulator. One for each link: what a cut link leaves
//! uncommitted is forgotten, and the board sends it again.

use wattline_protocol::command::{Acknowledge, Command};
use wattline_protocol::frame::{self, Frame};
use wattline_protocol::planted;
use wattline_protocol::record::{Record, RunEnd, RunId, kind};
use wattline_protocol::session::host::Event;
use wattline_protocol::units::Nanos;

use crate::store::{Store, StoreError};

/// Bytes the board may send before the host has committed some.
const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// Frames are committed at the latest at this age: what a crash of this
/// program makes the board send again.
const COMMIT_EVERY: Nanos = Nanos::from_millis(250);
/// Bytes that are committed at once at most.
const COMMIT_BYTES: usize = 1024 * 1024;

/// Frames on their way from a link into the store.
#[derive(Debug)]
pub struct Intake {
    run: RunId,
    frames: Vec<Vec<u8>>,
    bytes: usize,
    due: Nanos,
}

/// What an event was to the intake.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Arrived {
    /// Taken.
    Taken,
    /// The board has sent all of the run: commit, and it is whole.
    AllSent,
    /// None of the intake's business.
    Other(Event),
}

/// What a commit came to.
#[derive(Debug, Default)]
#[must_use = "the board waits for the acknowledgement"]
pub struct Committed {
    /// The frames that are now held for good.
    pub frames: Vec<Vec<u8>>,
    /// To be sent to the board.
    pub have: Option<Acknowledge>,
    /// The run's end was among them, and nothing before it is missing.
    pub over: bool,
}

impl Intake {
    /// Nothing has arrived.
    #[must_use]
    pub fn new(run: RunId) -> Self {
        Self { run, frames: Vec::new(), bytes: 0, due: Nanos(0) }
    }

    /// Asks the board for all that the store lacks.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file.
    pub fn fetch(&self, store: &Store) -> Result<Command, StoreError> {
        let have = store.watermarks()?;
        Ok(Command::Fetch { run: self.run.clone(), have, credit: CREDIT_BYTES })
    }

    /// Takes an event of the session.
    ///
    /// # Errors
    /// Any [`StoreError`] about the file, where a hole cannot be noted.
    pub fn take(
        &mut self,
        event: Event,
        store: &mut Store,
        now: Nanos,
    ) -> Result<Arrived, StoreError> {
        match event {
            Event::Frame(bytes) => {
                if self.frames.is_empty() {
                    self.due = now + COMMIT_EVERY;
                }
                if frame::decode(&bytes).is_ok_and(|frame| run_end(&frame).is_some()) {
                    self.due = now;
                }
                self.bytes += bytes.len();
                self.frames.push(bytes);
                Ok(Arrived::Taken)
            }
            Event::Hole(gap) => {
                store.note_gap(&gap)?;
                Ok(Arrived::Taken)
            }
            Event::FetchEnd(end) if end.run == self.run => Ok(Arrived::AllSent),
            other => Ok(Arrived::Other(other)),
        }
    }

    /// When the frames that wait are to be committed; `None` where none do.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        (!self.frames.is_empty()).then_some(self.due)
    }

    /// True where so much waits that it is to be committed now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= COMMIT_BYTES
    }

    /// Commits what waits; only then is there something to acknowledge.
    ///
    /// # Errors
    /// Any [`StoreError`]: nothing was committed, nothing may be acknowledged.
    pub fn commit(&mut self, store: &mut Store) -> Result<Committed, StoreError> {
        if self.frames.is_empty() {
            return Ok(Committed::default());
        }
        let frames: Vec<&[u8]> = self.frames.iter().map(Vec::as_slice).collect();
        let mut appended = store.append(&frames)?;
        let more = u64::from(planted!("a host acknowledges one too many"));
        appended.watermarks.iter_mut().for_each(|end| end.next += more);
        let have = Acknowledge {
            run: self.run.clone(),
            have: appended.watermarks,
            credit: u64::try_from(self.bytes).unwrap_or(0),
        };
        let mut over = false;
        for bytes in &self.frames {
            let Ok(frame) = frame::decode(bytes) else { continue };
            if let Some(end) = run_end(&frame) {
                over = holds_all_before(store, &end)?;
            }
        }
        self.bytes = 0;
        Ok(Committed { frames: std::mem::take(&mut self.frames), have: Some(have), over })
    }
}

fn holds_all_before(store: &Store, end: &RunEnd) -> Result<bool, StoreError> {
    let have = store.watermarks()?;
    let held = |epoch, stream| {
        have.iter().find(|one| (one.epoch, one.stream) == (epoch, stream)).map_or(0, |w| w.next)
    };
    Ok(end.streams.iter().all(|stream| held(stream.epoch, stream.stream) >= stream.next))
}

fn run_end(frame: &Frame<'_>) -> Option<RunEnd> {
    if frame.header.kind != kind::RUN_END {
        return None;
    }
    match Record::decode(frame.header.kind, frame.payload) {
        Ok(Record::RunEnd(end)) => Some(end),
        _ => None,
    }
}
