//! The log of transfers: what each one carried, and when.
//!
//! Owns one line a transfer: begin and end in nanoseconds of this machine's
//! CLOCK_MONOTONIC, the 7-bit address, `ok` or `error`, then its messages as `w` or
//! `r` and the bytes in hex. Flushed before the guest sees the answer, so that what
//! a guest has read is in the log.
//!
//! ```text
//! 8123456789 8123789012 0x40 ok w01 r0f58 w02 r2710
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use wattline_protocol::units::BoardTime;

/// A message of a transfer, as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes that the guest sent.
    Write(Vec<u8>),
    /// Bytes that the chip sent; of a failed transfer, bytes that nobody drove.
    Read(Vec<u8>),
}

/// One transfer: all messages up to the stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// When its first message was taken from the guest.
    pub begun: BoardTime,
    /// When its stop was on the wire.
    pub ended: BoardTime,
    /// 7-bit address.
    pub address: u8,
    /// Whether all of it was acknowledged.
    pub is_ok: bool,
    /// Its messages.
    pub parts: Vec<Part>,
}

impl Transfer {
    /// The transfer as a line without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let status = if self.is_ok { "ok" } else { "error" };
        let mut line = format!("{} {} {:#04x} {status}", self.begun.0, self.ended.0, self.address);
        for part in &self.parts {
            let (letter, bytes) = match part {
                Part::Write(bytes) => ('w', bytes),
                Part::Read(bytes) => ('r', bytes),
            };
            line.push(' ');
            line.push(letter);
            for byte in bytes {
                // A String takes all that is written to it.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line
    }

    /// Reads a line back; `None` where it is none, as a last one that was cut.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let begun = BoardTime(words.next()?.parse().ok()?);
        let ended = BoardTime(words.next()?.parse().ok()?);
        let address = u8::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let is_ok = match words.next()? {
            "ok" => true,
            "error" => false,
            _ => return None,
        };
        let parts = words.map(part).collect::<Option<_>>()?;
        Some(Self { begun, ended, address, is_ok, parts })
    }

    /// Each register that the transfer read, with its value: pointer write, then
    /// two bytes. Empty where it failed.
    #[must_use]
    pub fn registers(&self) -> Vec<(u8, u16)> {
        let pairs = self.parts.windows(2).filter_map(|pair| match pair {
            [Part::Write(pointer), Part::Read(value)] => match (&pointer[..], &value[..]) {
                (&[register], &[high, low]) => Some((register, u16::from_be_bytes([high, low]))),
                _ => None,
            },
            _ => None,
        });
        if self.is_ok { pairs.collect() } else { Vec::new() }
    }
}

fn part(word: &str) -> Option<Part> {
    let (letter, hex) = (word.get(..1)?, word.get(1..)?);
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    match letter {
        "w" => Some(Part::Write(bytes)),
        "r" => Some(Part::Read(bytes)),
        _ => None,
    }
}

/// Every transfer of a log.
///
/// # Errors
/// The file's, where it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Transfer>> {
    Ok(std::fs::read_to_string(path)?.lines().filter_map(Transfer::parse).collect())
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log(BufWriter<File>);

impl Log {
    /// A new, empty log at `path`.
    ///
    /// # Errors
    /// The file's, where it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }

    /// Adds a transfer and hands it to the kernel.
    ///
    /// # Errors
    /// The file's.
    pub fn add(&mut self, transfer: &Transfer) -> io::Result<()> {
        writeln!(self.0, "{}", transfer.line())?;
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> Transfer {
        Transfer {
            begun: BoardTime(8_123_456_789),
            ended: BoardTime(8_123_789_012),
            address: 0x40,
            is_ok: true,
            parts: vec![
                Part::Write(vec![1]),
                Part::Read(vec![0x0f, 0x58]),
                Part::Write(vec![2]),
                Part::Read(vec![0x27, 0x10]),
            ],
        }
    }

    #[test]
    fn a_line_says_all_of_a_transfer() {
        let line = "8123456789 8123789012 0x40 ok w01 r0f58 w02 r2710";
        assert_eq!(sweep().line(), line);
        assert_eq!(Transfer::parse(line), Some(sweep()));
        assert_eq!(sweep().registers(), [(1, 0x0f58), (2, 0x2710)]);
    }

    #[test]
    fn a_failed_transfer_has_read_no_register_and_a_cut_line_is_none() {
        let failed = Transfer { is_ok: false, ..sweep() };
        assert_eq!(Transfer::parse(&failed.line()), Some(failed.clone()));
        assert!(failed.registers().is_empty());
        for cut in ["", "81", "8123456789 8123789012 0x40 o", "1 2 0x40 ok w0", "1 2 0x40 ok q00"] {
            assert_eq!(Transfer::parse(cut), None, "{cut}");
        }
    }
}
