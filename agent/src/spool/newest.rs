//! The first and the newest frames of a run, without reading the run.
//!
//! Owns the walk from the newest segment back. A night's log is some hundred
//! megabytes and a start has 200 ms: what a start must know lies at the end.

use std::io;

use wattline_protocol::frame::{self, Header};
use wattline_protocol::planted;
use wattline_protocol::record::{Record, RunId};

use super::cursor::is_behind;
use super::log::SpooledFrame;
use super::segment::{Piece, SegmentReader, Window, segment_name};
use super::{Item, Spool, SpoolError};

impl Spool {
    /// The record that a run begins with; `None` where there is no such run,
    /// or where its first frame is lost.
    #[must_use]
    pub fn first_record(&self, run: &RunId) -> Option<Record> {
        let mut cursor = self.reader(run).ok()?.cursor(&[]);
        loop {
            if let Item::Frame(frame) = cursor.next_item().ok()?? {
                let frame = frame::decode(&frame.bytes).ok()?;
                return Record::decode(frame.header.kind, frame.payload).ok();
            }
        }
    }

    /// Frames of the run whose kind is one of `kinds`, in the order of the log, from
    /// a segment on with which they are enough; all of them where there is no such
    /// segment. What a segment holds behind the line
    /// that the next one draws does not count, as for every reader: its sync failed,
    /// and the record of where the epoch ended denies it.
    ///
    /// # Errors
    /// [`SpoolError::UnknownRun`]; [`SpoolError::Storage`] where a segment cannot
    /// be read for a cause that says nothing of what it holds. One that is gone
    /// is passed over.
    pub fn newest(
        &self,
        run: &RunId,
        kinds: &[u8],
        mut are_enough: impl FnMut(&[SpooledFrame]) -> bool,
    ) -> Result<Vec<SpooledFrame>, SpoolError> {
        let log = self.log(run)?;
        let segments = log.state().segments.clone();
        let mut newest: Vec<SpooledFrame> = Vec::new();
        for (place, segment) in segments.iter().enumerate().rev() {
            let mut later = segments.iter().skip(place + 1);
            let limit = later.find_map(|one| one.before.clone());
            let counts = |header: &Header| {
                !limit.as_deref().is_some_and(|limit| is_behind(limit, header))
                    || planted!("a start goes on from what does not count")
            };
            let name = segment_name(&log.folder, segment.ordinal);
            let mut window = Window::at(segment.head_bytes);
            let mut frames = Vec::new();
            loop {
                let storage = log.storage.as_ref();
                let piece = SegmentReader::new(storage, &name, &mut window).next(segment.end);
                match piece {
                    Ok(Some(Piece::Frame { header, bytes }))
                        if kinds.contains(&header.kind) && counts(&header) =>
                    {
                        frames.push(SpooledFrame { header, bytes: bytes.into() });
                    }
                    Ok(Some(Piece::Frame { .. } | Piece::Damage { .. })) => {}
                    Ok(None) => break,
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(SpoolError::Storage(error)),
                }
            }
            frames.append(&mut newest);
            newest = frames;
            if are_enough(&newest) {
                break;
            }
        }
        Ok(newest)
    }
}
