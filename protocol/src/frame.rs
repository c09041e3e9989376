//! Frames: one format on the wire, in the board's spool and in the host's store.
//!
//! Owns the fixed header, the checksum and the reader that finds frames in a
//! stream of bytes. Does not know what a payload means.
//!
//! ```text
//! offset size field
//!      0    2 magic            0x57 0x4C ("WL")
//!      2    1 version          1
//!      3    1 kind             record kind, or 0x80.. for session messages
//!      4    4 length           payload bytes, at most 65,536
//!      8    4 stream           run's ordinal in the epoch · 256 + lane
//!     12    1 codec            1 postcard, 2 Rice, 3 bit-pack
//!     13    1 flags            bit 7: a reader that does not know it must stop
//!     14    2 count            sequence numbers that the frame takes (rows of a block)
//!     16    4 epoch            boot epoch of the agent, from 1
//!     20    8 first sequence   number of the first record or row
//!     28    n payload
//!   28+n    4 CRC32C           over header and payload
//! ```
//! All numbers are little-endian. A sample block takes one sequence number a
//! row, every other record one: so a hole in a stream is a subtraction. The
//! header is coded by hand, not by postcard, so that it can be read when the
//! body cannot, and skipped by its length when the kind is not known.

use thiserror::Error;

use crate::planted;

/// First two bytes of a frame.
pub const MAGIC: [u8; 2] = *b"WL";
/// Version of the header.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 28;
/// Bytes of the checksum behind the payload.
pub const CRC_BYTES: usize = 4;
/// Most payload bytes of a frame.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a whole frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX + CRC_BYTES;
/// First kind number of session messages: they are never stored.
pub const SESSION_KINDS_FROM: u8 = 0x80;
/// Flag bits that a reader must know to go on.
pub const CRITICAL_FLAGS: u8 = 0x80;

/// How a payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// postcard, one structured record or session message.
    Postcard,
    /// Sample block: predictor and adaptive Rice.
    Rice,
    /// Sample block: predictor and bit-packing.
    BitPack,
}

impl Codec {
    /// The number in the header.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Postcard => 1,
            Self::Rice => 2,
            Self::BitPack => 3,
        }
    }

    /// The codec of a header's number.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Postcard),
            2 => Some(Self::Rice),
            3 => Some(Self::BitPack),
            _ => None,
        }
    }
}

/// Identity of the first record or row of a frame: given once, by the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Identity {
    /// Boot epoch of the agent.
    pub epoch: u32,
    /// Stream within the epoch.
    pub stream: u32,
    /// Sequence number within the stream.
    pub sequence: u64,
}

/// Header of a frame, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Kind of the record.
    pub kind: u8,
    /// Payload bytes.
    pub length: u32,
    /// Codec number.
    pub codec: u8,
    /// Flag bits.
    pub flags: u8,
    /// Sequence numbers taken.
    pub count: u16,
    /// Identity of the first record or row.
    pub identity: Identity,
}

/// A frame whose checksum was right; borrows the bytes it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// The payload.
    pub payload: &'a [u8],
    /// The whole frame, checksum included: what is stored and sent.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// One past the last sequence number of the frame.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.header.identity.sequence.saturating_add(u64::from(self.header.count))
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than the frame needs; more may come.
    #[error("frame cut short: {have} bytes of {need}")]
    Incomplete {
        /// Bytes there.
        have: usize,
        /// Bytes needed, as far as is known.
        need: usize,
    },
    /// The first bytes are not those of a frame.
    #[error("not a frame: it begins {first:#04x} {second:#04x}, a frame begins 0x57 0x4c")]
    Magic {
        /// First byte.
        first: u8,
        /// Second byte.
        second: u8,
    },
    /// A header of another version.
    #[error("frame version {found}, this program reads version {VERSION}")]
    Version {
        /// What the header says.
        found: u8,
    },
    /// A length that no frame has.
    #[error("frame of {length} payload bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    Length {
        /// What the header says.
        length: u32,
    },
    /// Checksum and bytes disagree.
    #[error("frame checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// Behind the payload.
        found: u32,
        /// Over header and payload.
        computed: u32,
    },
}

/// Appends one frame to `out`: header, payload, checksum. The header's
/// `length` is taken from the payload.
///
/// # Errors
/// [`FrameError::Length`] where the payload is too long.
pub fn encode(header: Header, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(FrameError::Length { length });
    }
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.kind]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&header.identity.stream.to_le_bytes());
    out.extend_from_slice(&[header.codec, header.flags]);
    out.extend_from_slice(&header.count.to_le_bytes());
    out.extend_from_slice(&header.identity.epoch.to_le_bytes());
    out.extend_from_slice(&header.identity.sequence.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Reads the frame at the start of `bytes`.
///
/// # Errors
/// [`FrameError::Incomplete`] where more bytes may make it whole; every other
/// variant where they cannot.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let header = decode_header(bytes)?;
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    let need = HEADER_BYTES + length + CRC_BYTES;
    let incomplete = FrameError::Incomplete { have: bytes.len(), need };
    let whole = bytes.get(..need).ok_or(incomplete)?;
    let (body, crc) = whole.split_at_checked(need - CRC_BYTES).ok_or(incomplete)?;
    let found = u32::from_le_bytes(crc.try_into().map_err(|_| incomplete)?);
    let computed = crc32c::crc32c(body);
    if found != computed && !planted!("a frame's checksum is not checked") {
        return Err(FrameError::Checksum { found, computed });
    }
    let payload = body.get(HEADER_BYTES..).ok_or(incomplete)?;
    Ok(Frame { header, payload, bytes: whole })
}

fn decode_header(bytes: &[u8]) -> Result<Header, FrameError> {
    let incomplete = FrameError::Incomplete { have: bytes.len(), need: HEADER_BYTES };
    if let [first, second, ..] = *bytes
        && [first, second] != MAGIC
    {
        return Err(FrameError::Magic { first, second });
    }
    if let Some(&found) = bytes.get(2)
        && found != VERSION
    {
        return Err(FrameError::Version { found });
    }
    let mut fields = Fields { rest: bytes.get(3..HEADER_BYTES).ok_or(incomplete)? };
    let [kind] = fields.take().ok_or(incomplete)?;
    let length = u32::from_le_bytes(fields.take().ok_or(incomplete)?);
    if usize::try_from(length).unwrap_or(usize::MAX) > PAYLOAD_BYTES_MAX {
        return Err(FrameError::Length { length });
    }
    let stream = u32::from_le_bytes(fields.take().ok_or(incomplete)?);
    let [codec, flags] = fields.take().ok_or(incomplete)?;
    let count = u16::from_le_bytes(fields.take().ok_or(incomplete)?);
    let epoch = u32::from_le_bytes(fields.take().ok_or(incomplete)?);
    let sequence = u64::from_le_bytes(fields.take().ok_or(incomplete)?);
    Ok(Header { kind, length, codec, flags, count, identity: Identity { epoch, stream, sequence } })
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }
}

/// Cuts a stream of bytes into frames. Feed what arrives, take what is whole.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// A reader with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`] where the bytes can never become a frame: a byte stream
    /// does not lose its framing, so the peer is not one of ours.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        match decode(rest) {
            Ok(frame) => {
                self.start += frame.bytes.len();
                Ok(Some(frame))
            }
            Err(FrameError::Incomplete { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Where the next frame can begin in damaged bytes: the next magic after the
/// first byte, or the end.
#[must_use]
pub fn resynchronise(bytes: &[u8]) -> usize {
    bytes
        .windows(MAGIC.len())
        .skip(1)
        .position(|pair| pair == MAGIC)
        .map_or(bytes.len(), |place| place + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: u8) -> Header {
        Header {
            kind,
            length: 0,
            codec: Codec::Postcard.id(),
            flags: 0,
            count: 1,
            identity: Identity { epoch: 3, stream: 0x0102, sequence: 9 },
        }
    }

    #[test]
    fn the_bytes_of_a_frame_never_change() {
        let mut bytes = Vec::new();
        encode(header(12), &[0xAA, 0xBB], &mut bytes).unwrap();
        let golden = [
            0x57, 0x4C, 0x01, 0x0C, 0x02, 0, 0, 0, 0x02, 0x01, 0, 0, 0x01, 0x00, 0x01, 0x00, 0x03,
            0, 0, 0, 0x09, 0, 0, 0, 0, 0, 0, 0, 0xAA, 0xBB,
        ];
        assert_eq!(bytes.get(..30), Some(golden.as_slice()));
        assert_eq!(bytes.get(30..), Some(crc32c::crc32c(&golden).to_le_bytes().as_slice()));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let mut bytes = Vec::new();
        encode(header(12), b"payload", &mut bytes).unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_are_awaited() {
        let mut bytes = Vec::new();
        encode(header(1), &[], &mut bytes).unwrap();
        bytes[4..8].copy_from_slice(&70_000_u32.to_le_bytes());
        assert_eq!(decode(&bytes), Err(FrameError::Length { length: 70_000 }));
    }

    #[test]
    fn two_bytes_that_are_not_magic_are_refused_at_once() {
        let mut reader = FrameReader::new();
        reader.feed(b"HT");
        assert!(matches!(reader.next_frame(), Err(FrameError::Magic { .. })));
    }

    #[test]
    fn resynchronising_finds_the_next_frame_behind_damage() {
        let mut bytes = vec![0x57, 0x00, 0x4C];
        let lost = bytes.len();
        encode(header(1), b"x", &mut bytes).unwrap();
        assert_eq!(resynchronise(&bytes), lost);
        assert_eq!(resynchronise(b"abc"), 3);
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_frames(
            payloads in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..200), 1..10),
            cut in 1_usize..64,
        ) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                encode(header(7), payload, &mut bytes).unwrap();
            }
            let mut reader = FrameReader::new();
            let mut found = Vec::new();
            for chunk in bytes.chunks(cut) {
                reader.feed(chunk);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push(frame.payload.to_vec());
                }
            }
            prop_assert_eq!(found, payloads);
            prop_assert_eq!(reader.pending(), 0);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let mut reader = FrameReader::new();
            reader.feed(&bytes);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
