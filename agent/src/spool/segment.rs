//! Segments: the files of a run's log, their heads, and the reader that finds
//! the frames in one, damaged or not.
//!
//! Owns the head's layout and the walk over a segment. Does not know which
//! frames were promised, nor who reads them.
//!
//! ```text
//! offset size field
//!      0    8 magic      "WLSEGM01": not a frame's, so that a head is never one
//!      8    4 length     bytes of the whole head, checksum included
//!     12    4 count      streams in the list
//!     16    8 ordinal    the same number as in the name
//!     24    4 run        bytes of the run id
//!     28    r run id
//!   28+r 16·n streams    epoch u32, stream u32, next u64: what is durable before it
//!      …    4 CRC32C     over all before
//! ```
//! Little-endian. The list makes one segment enough for recovery, and it is
//! the line between two segments: of a frame that was written twice, because
//! the sync of the first copy failed, the copy before the line does not count.

use std::collections::BTreeMap;
use std::io;

use wattline_protocol::frame::{self, FRAME_BYTES_MAX, Header, Identity, MAGIC};
use wattline_protocol::planted;
use wattline_protocol::record::{RunId, StreamEnd};

use super::storage::{Storage, StorageError, is_lost};

/// A segment takes no further frame at this length. 4 MiB: recovery reads one
/// in a tenth of a second from an SD card of 40 MB/s, and a run of a night at
/// 5 kB/s has some forty of them.
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes read at once: a few frames of the largest size.
const READ_BYTES: usize = 256 * 1024;
/// What a failed read costs: the sector size that disks repair and report by.
const UNREADABLE_BYTES: u64 = 4096;
/// Reads that a signal may interrupt in a row.
const INTERRUPTIONS_MAX: u32 = 8;
/// Most bytes of a head: 4,000 streams, some 500 restarts of one run.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_MAGIC: [u8; 8] = *b"WLSEGM01";
const HEAD_FIXED_BYTES: usize = 28;
const STREAM_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

const _: () = assert!(READ_BYTES > FRAME_BYTES_MAX && READ_BYTES > HEAD_BYTES_MAX);

/// Ends of streams: one past the last sequence number, by (epoch, stream).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ends(BTreeMap<(u32, u32), u64>);

impl Ends {
    /// One past the last number of the stream; 0 where it has none.
    pub(super) fn next(&self, identity: Identity) -> u64 {
        self.0.get(&(identity.epoch, identity.stream)).copied().unwrap_or(0)
    }

    /// Raises the end of a stream; true where it was below.
    pub(super) fn raise(&mut self, epoch: u32, stream: u32, next: u64) -> bool {
        let end = self.0.entry((epoch, stream)).or_insert(0);
        let raised = *end < next;
        *end = next.max(*end);
        raised
    }

    pub(super) fn raise_over(&mut self, header: &Header) {
        let identity = header.identity;
        self.raise(identity.epoch, identity.stream, next_sequence(header));
    }

    /// True where every end of `self` is reached by `other`.
    pub(super) fn within(&self, other: &Self) -> bool {
        self.all(|stream, next| other.0.get(&stream).is_some_and(|had| *had >= next))
    }

    /// True where `holds` for every (epoch, stream) and its end.
    pub(super) fn all(&self, mut holds: impl FnMut((u32, u32), u64) -> bool) -> bool {
        self.0.iter().all(|(stream, next)| holds(*stream, *next))
    }

    pub(super) fn to_streams(&self) -> Vec<StreamEnd> {
        self.0.iter().map(|(&(epoch, stream), &next)| StreamEnd { epoch, stream, next }).collect()
    }
}

/// One past the last sequence number of a frame.
pub(super) fn next_sequence(header: &Header) -> u64 {
    header.identity.sequence.saturating_add(u64::from(header.count))
}

/// Name of a run's folder.
pub(super) fn run_folder(run: &RunId) -> String {
    format!("{RUNS_FOLDER}/{run}")
}

/// Folder of the runs' folders.
pub(super) const RUNS_FOLDER: &str = "runs";

/// Name of a segment.
pub(super) fn segment_name(folder: &str, ordinal: u64) -> String {
    format!("{folder}/{ordinal:08}.seg")
}

/// Ordinal of a segment's file name; `None` for any other file.
pub(super) fn segment_ordinal(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let plain = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// What stands before the frames of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The same number as in the name.
    pub(super) ordinal: u64,
    /// The run.
    pub(super) run: RunId,
    /// What was durable before this segment.
    pub(super) before: Ends,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let run = self.run.as_str().as_bytes();
        let streams = self.before.to_streams();
        let length = HEAD_FIXED_BYTES + run.len() + STREAM_BYTES * streams.len() + CRC_BYTES;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&HEAD_MAGIC);
        out.extend_from_slice(&number(length));
        out.extend_from_slice(&number(streams.len()));
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend_from_slice(&number(run.len()));
        out.extend_from_slice(run);
        for end in streams {
            out.extend_from_slice(&end.epoch.to_le_bytes());
            out.extend_from_slice(&end.stream.to_le_bytes());
            out.extend_from_slice(&end.next.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the start of `bytes` and its length; `None` where there is
    /// no whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if *magic != HEAD_MAGIC || length > HEAD_BYTES_MAX {
            return None;
        }
        let (body, crc) = bytes.get(..length)?.split_last_chunk::<CRC_BYTES>()?;
        let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
        if !is_whole && !planted!("a head's checksum is not checked") {
            return None;
        }
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (ordinal, rest) = rest.split_first_chunk::<8>()?;
        let (run_bytes, rest) = rest.split_first_chunk::<4>()?;
        let run_bytes = usize::try_from(u32::from_le_bytes(*run_bytes)).ok()?;
        let (run, mut rest) = rest.split_at_checked(run_bytes)?;
        let run = RunId::new(std::str::from_utf8(run).ok()?).ok()?;
        let mut before = Ends::default();
        for _ in 0..u32::from_le_bytes(*count) {
            let (epoch, after) = rest.split_first_chunk::<4>()?;
            let (stream, after) = after.split_first_chunk::<4>()?;
            let (next, after) = after.split_first_chunk::<8>()?;
            let (epoch, stream) = (u32::from_le_bytes(*epoch), u32::from_le_bytes(*stream));
            before.raise(epoch, stream, u64::from_le_bytes(*next));
            rest = after;
        }
        Some((Self { ordinal: u64::from_le_bytes(*ordinal), run, before }, length))
    }
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole frame, as recorded.
    Frame {
        /// Its header.
        header: Header,
        /// All its bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that are no frame, up to the next one or the end.
    Damage {
        /// How many.
        bytes: u64,
    },
}

/// Walks over the frames of one segment up to a given end.
#[derive(Debug)]
pub(super) struct SegmentReader<'a> {
    storage: &'a dyn Storage,
    name: &'a str,
    window: &'a mut Window,
}

/// The place of a reader in a segment, with the bytes read ahead.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    start: usize,
    /// Offset in the file of the next byte not yet looked at.
    offset: u64,
    /// Set where the disk refused to read a part.
    unreadable: bool,
}

impl Window {
    /// A window whose next byte is at `offset`.
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }

    /// Offset of the next byte not yet looked at.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// True where the disk refused to read a part of what was passed.
    pub(super) fn unreadable(&self) -> bool {
        self.unreadable
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += as_u64(bytes);
    }
}

impl<'a> SegmentReader<'a> {
    /// Goes on in the segment `name` where `window` stands.
    pub(super) fn new(storage: &'a dyn Storage, name: &'a str, window: &'a mut Window) -> Self {
        Self { storage, name, window }
    }

    /// The next frame or damaged part before `end`; `None` at the end.
    ///
    /// # Errors
    /// [`StorageError`] where the file is gone, or cannot be read for a cause
    /// that says nothing of what it holds. A part that is lost is damage, not
    /// an error.
    pub(super) fn next(&mut self, end: u64) -> Result<Option<Piece>, StorageError> {
        let mut damage = 0_u64;
        loop {
            let left = end.saturating_sub(self.window.offset);
            self.fill(end)?;
            if left == 0 {
                break;
            }
            let rest = self.window.rest();
            let skip = match frame::decode(rest) {
                Ok(_) if damage > 0 => break,
                Ok(frame) => {
                    let (header, bytes) = (frame.header, frame.bytes.to_vec());
                    self.window.skip(bytes.len());
                    return Ok(Some(Piece::Frame { header, bytes }));
                }
                // The window holds all up to the end or a whole frame's length,
                // so a frame cut short here is cut short on the disk.
                Err(_) => to_next_magic(rest, as_u64(rest.len()) < left),
            };
            // At least one byte a turn, so that no damage makes a reader stand still.
            let skip = skip.max(1).min(rest.len().max(1));
            damage += as_u64(skip);
            self.window.skip(skip);
        }
        Ok(if damage > 0 { Some(Piece::Damage { bytes: damage }) } else { None })
    }

    /// Reads ahead until a frame of the largest size, or all up to `end`, is there.
    fn fill(&mut self, end: u64) -> Result<(), StorageError> {
        let window = &mut *self.window;
        let mut interruptions = 0;
        while window.rest().len() < FRAME_BYTES_MAX {
            let from = window.offset + as_u64(window.rest().len());
            let left = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(());
            }
            window.buffer.drain(..window.start);
            window.start = 0;
            let had = window.buffer.len();
            window.buffer.resize(had + left.min(READ_BYTES), 0);
            let target = window.buffer.get_mut(had..).unwrap_or_default();
            match self.storage.read_at(self.name, from, target) {
                // Shorter than it was: what is absent is damage, read as zeros.
                Ok(0) => window.unreadable = true,
                Ok(got) => window.buffer.truncate(had + got),
                Err(error) if is_interrupted(&error) && interruptions < INTERRUPTIONS_MAX => {
                    interruptions += 1;
                    window.buffer.truncate(had);
                }
                Err(error)
                    if !is_lost(&error) && !planted!("what was not read is taken for damaged") =>
                {
                    window.buffer.truncate(had);
                    return Err(StorageError::reading(self.name, error));
                }
                Err(_) => {
                    // Once more for one sector alone: the bad one may lie far ahead.
                    let sector = UNREADABLE_BYTES - from % UNREADABLE_BYTES;
                    let sector = usize::try_from(sector).unwrap_or(usize::MAX).min(left);
                    window.buffer.truncate(had);
                    window.buffer.resize(had + sector, 0);
                    let target = window.buffer.get_mut(had..).unwrap_or_default();
                    match self.storage.read_at(self.name, from, target) {
                        Ok(got) if got > 0 => window.buffer.truncate(had + got),
                        Err(error)
                            if !is_lost(&error)
                                && !planted!("what was not read is taken for damaged") =>
                        {
                            window.buffer.truncate(had);
                            return Err(StorageError::reading(self.name, error));
                        }
                        // Left as zeros, which are never a frame: the walk goes on behind it.
                        Ok(_) | Err(_) => window.unreadable = true,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bytes to skip to where the next frame may begin. The last byte stays where
/// `more` follow: it may be the first of a magic that the window cuts in two.
fn to_next_magic(rest: &[u8], more: bool) -> usize {
    let far = usize::from(planted!("too much is skipped behind damage"));
    let skip = frame::resynchronise(rest) + far;
    if more && skip == rest.len() && rest.last() == MAGIC.first() { skip - 1 } else { skip }
}

/// Reads the head of a segment; `None` where it has no whole one.
///
/// # Errors
/// [`StorageError`] where it cannot be read for a cause that says nothing of
/// what it holds: a head taken for damaged would deny what was durable.
pub(super) fn read_head(
    storage: &dyn Storage,
    name: &str,
) -> Result<Option<(Head, u64)>, StorageError> {
    let mut bytes = Vec::new();
    loop {
        let had = bytes.len();
        if had >= HEAD_BYTES_MAX {
            return Ok(None);
        }
        // Nearly every head fits the first 4 KiB; a spool has hundreds of them to read.
        let more = if had == 0 { 4096 } else { HEAD_BYTES_MAX - had };
        bytes.resize(had + more, 0);
        let target = bytes.get_mut(had..).unwrap_or_default();
        let got = match read_again(storage, name, as_u64(had), target) {
            Err(error) if is_lost(&error) => return Ok(None),
            other => other.map_err(|error| StorageError::reading(name, error))?,
        };
        bytes.truncate(had + got);
        if let Some((head, length)) = Head::decode(&bytes) {
            return Ok(Some((head, as_u64(length))));
        }
        if got == 0 {
            return Ok(None);
        }
    }
}

/// Reads, and once more where that fails: a card may answer the second time,
/// and a signal comes rarely twice.
pub(super) fn read_again(
    storage: &dyn Storage,
    name: &str,
    offset: u64,
    bytes: &mut [u8],
) -> io::Result<usize> {
    match storage.read_at(name, offset, bytes) {
        Err(error) if is_lost(&error) || is_interrupted(&error) => {
            storage.read_at(name, offset, bytes)
        }
        other => other,
    }
}

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// A length in memory as one in a file.
pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let mut before = Ends::default();
        before.raise(2, 256, 7);
        before.raise(1, 0, u64::MAX);
        Head { ordinal: 9, run: RunId::new("night-1").unwrap(), before }
    }

    #[test]
    fn a_head_comes_back_as_it_went() {
        let mut bytes = head().encode();
        let length = bytes.len();
        bytes.extend_from_slice(b"frames");
        assert_eq!(Head::decode(&bytes), Some((head(), length)));
    }

    #[test]
    fn a_flipped_bit_in_a_head_is_noticed() {
        let bytes = head().encode();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            assert_eq!(Head::decode(&damaged), None, "byte {place}");
        }
    }

    #[test]
    fn the_first_byte_of_a_magic_at_the_end_of_a_window_is_kept() {
        assert_eq!(MAGIC, *b"WL");
        for (rest, more, skip) in [
            // More follows: the "W" may be half a magic; one that is whole is found.
            (&b"..W"[..], true, 2),
            (b"..WL", true, 2),
            (b"..WLW", true, 2),
            (b"...W", true, 3),
            // The first byte is where no frame begins: behind it one may.
            (b"WW", true, 1),
            (b"W", true, 0),
            // Nothing follows, or the last byte begins none.
            (b"..W", false, 3),
            (b"W", false, 1),
            (b"..L", true, 3),
            (b"..", true, 2),
            (b"", true, 0),
        ] {
            assert_eq!(to_next_magic(rest, more), skip, "{rest:?}, more: {more}");
        }
    }

    #[test]
    fn a_frame_behind_damage_is_found_wherever_a_window_ends() {
        let mut frame = Vec::new();
        let header = Header {
            kind: 9,
            length: 0,
            codec: 0,
            flags: 0,
            count: 1,
            identity: Identity { epoch: 1, stream: 0, sequence: 0 },
        };
        frame::encode(header, b"payload", &mut frame).unwrap();
        // A read ends before the magic, within it and behind it.
        for damage in READ_BYTES - 4..READ_BYTES + 4 {
            let model = crate::spool::ModelStorage::new();
            let mut file = model.create("segment").unwrap();
            file.append(&vec![b'.'; damage]).unwrap();
            file.append(&frame).unwrap();
            let end = as_u64(damage + frame.len());
            let mut window = Window::at(0);
            let mut pieces = Vec::new();
            while let Some(piece) =
                SegmentReader::new(&model, "segment", &mut window).next(end).unwrap()
            {
                pieces.push(piece);
            }
            let bytes = as_u64(damage);
            assert!(
                matches!(&pieces[..], [Piece::Damage { bytes: passed }, Piece::Frame { bytes: found, .. }]
                    if *passed == bytes && *found == frame),
                "{damage} bytes of damage"
            );
        }
    }

    #[test]
    fn only_names_of_segments_have_an_ordinal() {
        assert_eq!(segment_ordinal("00000012.seg"), Some(12));
        assert_eq!(segment_ordinal("123456789.seg"), Some(123_456_789));
        for other in ["12.seg", "0000001x.seg", "00000012.seg~", "state", ".seg"] {
            assert_eq!(segment_ordinal(other), None, "{other}");
        }
    }
}
