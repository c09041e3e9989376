//! The power chip of a Raspberry Pi 5 (DA9091), through its firmware.
//!
//! Owns the question that the firmware is asked, the text that it answers and
//! how long an answer stands for all its converters. Twelve rails have volts
//! and amperes; the input has volts alone, so that their sum is a part of the
//! board's power and an estimate of it, never its input.
//! Reading allocates nothing. Knows no rails of a run.
//! Source: `vcgencmd` of github.com/raspberrypi/utils (property tag
//! GET_GENCMD_RESULT); Linux drivers/char/broadcom/vcio.c.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use wattline_protocol::units::{BoardTime, Nanos};

use super::bus::linux::firmware_property;
use crate::clock::{Clock, SystemClock};

/// Where the firmware is asked.
pub const NODE: &str = "/dev/vcio";
/// The command, with the zero that ends it.
const COMMAND: &[u8] = b"pmic_read_adc\0";
/// Property tag of a command whose answer is a text.
const GET_GENCMD_RESULT: u32 = 0x0003_0080;
/// Room for the text: what `vcgencmd` gives it (an answer has some 900 bytes).
const TEXT_BYTES: usize = 1_024;
const TEXT_WORDS: usize = TEXT_BYTES / 4;
/// Words before the text: size, code, tag, room, length, error of the command.
const HEAD_WORDS: usize = 6;
/// The whole message, with the tag that ends it.
const WORDS: usize = HEAD_WORDS + TEXT_WORDS + 1;
/// An answer stands for all converters for so long: a run reads the twelve
/// rails as three meters, each of them every 50 ms.
const FRESH: Nanos = Nanos::from_millis(20);
/// Answers over which their rate is measured.
const RATE_ANSWERS: u32 = 5;
/// Longest name of a rail.
const NAME_BYTES_MAX: usize = 32;

/// What a converter tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PmicQuantity {
    /// Microvolts.
    Volts,
    /// Microamperes.
    Amperes,
}

impl PmicQuantity {
    /// Volts or amperes of one count.
    pub const STEP: f64 = 1e-6;
}

/// The chip; clones of the handle share its answers.
pub struct Pmic {
    firmware: Firmware,
    last: Mutex<Answer>,
}

/// Who is asked.
enum Firmware {
    Mailbox(File),
    #[cfg(test)]
    Scripted(Arc<Mutex<Result<Vec<u8>, io::ErrorKind>>>),
}

/// The firmware's text and when it came.
struct Answer {
    at: Option<BoardTime>,
    text: [u8; TEXT_BYTES],
    length: usize,
}

impl Pmic {
    /// Opens the firmware's node.
    ///
    /// # Errors
    /// The kernel's error: `NotFound` on every other board,
    /// `PermissionDenied` outside the group `video`.
    pub fn open() -> io::Result<Arc<Self>> {
        Ok(Self::of(Firmware::Mailbox(File::open(NODE)?)))
    }

    fn of(firmware: Firmware) -> Arc<Self> {
        let last = Mutex::new(Answer { at: None, text: [0; TEXT_BYTES], length: 0 });
        Arc::new(Self { firmware, last })
    }

    /// Names of the rails that have volts and amperes, in the firmware's order.
    ///
    /// # Errors
    /// The firmware answers nothing.
    pub fn rails(&self) -> io::Result<Vec<String>> {
        self.answered(SystemClock.now(), rails)
    }

    /// Answers a second, as fast as they come.
    ///
    /// # Errors
    /// The firmware answers nothing.
    pub fn rate_hz(&self) -> io::Result<f64> {
        let begun = SystemClock.now();
        for _ in 0..RATE_ANSWERS {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).at = None;
            self.answered(begun, |_| ())?;
        }
        let seconds = (SystemClock.now() - begun).as_seconds().0;
        Ok(f64::from(RATE_ANSWERS) / seconds.max(f64::MIN_POSITIVE))
    }

    /// What `of` makes of an answer that is fresh at `now`.
    fn answered<T>(&self, now: BoardTime, of: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_none_or(|at| now - at >= FRESH) {
            // A failed question leaves no answer of before behind.
            last.at = None;
            last.length = self.firmware.ask(&mut last.text)?;
            last.at = Some(now);
        }
        Ok(of(last.text.get(..last.length).unwrap_or_default()))
    }
}

impl Firmware {
    fn ask(&self, text: &mut [u8; TEXT_BYTES]) -> io::Result<usize> {
        match self {
            Self::Mailbox(file) => {
                let mut message = question();
                firmware_property(file, &mut message)?;
                answer(&message, text)
            }
            #[cfg(test)]
            Self::Scripted(script) => {
                let said = script.lock().unwrap().clone()?;
                text[..said.len()].copy_from_slice(&said);
                Ok(said.len())
            }
        }
    }
}

impl fmt::Debug for Pmic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pmic")
    }
}

/// One converter of one rail.
#[derive(Debug, Clone)]
pub struct PmicConverter {
    /// Whom to ask.
    pub pmic: Arc<Pmic>,
    /// Name of the rail: `VDD_CORE`.
    pub rail: Arc<str>,
    /// Which of its two converters.
    pub quantity: PmicQuantity,
}

impl PartialEq for PmicConverter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pmic, &other.pmic)
            && (&self.rail, self.quantity) == (&other.rail, other.quantity)
    }
}

impl PmicConverter {
    /// The newest value, in µV or µA, at most 20 ms old.
    ///
    /// # Errors
    /// The firmware answers nothing, or nothing of this converter.
    pub fn read(&self) -> io::Result<i64> {
        self.read_at(SystemClock.now())
    }

    fn read_at(&self, now: BoardTime) -> io::Result<i64> {
        let of = |text: &[u8]| micro(text, &self.rail, self.quantity);
        self.pmic.answered(now, of)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The message that asks for all converters.
fn question() -> [u32; WORDS] {
    let mut message = [0; WORDS];
    let bytes = |words: usize| u32::try_from(words * 4).unwrap_or(0);
    let head = [bytes(WORDS), 0, GET_GENCMD_RESULT, bytes(TEXT_WORDS), 0, 0];
    for (word, value) in message.iter_mut().zip(head) {
        *word = value;
    }
    for (word, part) in message.iter_mut().skip(HEAD_WORDS).zip(COMMAND.chunks(4)) {
        let mut four = [0; 4];
        for (byte, value) in four.iter_mut().zip(part) {
            *byte = *value;
        }
        *word = u32::from_ne_bytes(four);
    }
    message
}

/// Copies the text out of a message that was answered; returns its length.
fn answer(message: &[u32; WORDS], text: &mut [u8; TEXT_BYTES]) -> io::Result<usize> {
    let error = message.get(HEAD_WORDS - 1).copied().unwrap_or(1);
    if error != 0 {
        // The firmware of a Pi before the 5 does not know the command.
        return Err(io::ErrorKind::Unsupported.into());
    }
    for (bytes, word) in text.chunks_mut(4).zip(message.iter().skip(HEAD_WORDS)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(text.iter().position(|&byte| byte == 0).unwrap_or(TEXT_BYTES))
}

/// One line of the text: `VDD_CORE_A current(7)=0.75012000A`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    rail: &'a str,
    quantity: PmicQuantity,
    micro: i64,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (label, value) = core::str::from_utf8(line).ok()?.trim().split_once(' ')?;
        let (name, told) = value.trim().split_once('=')?;
        let (rail, quantity, number) = match label.rsplit_once('_')? {
            (rail, "A") if name.starts_with("current(") => {
                (rail, PmicQuantity::Amperes, told.strip_suffix('A')?)
            }
            (rail, "V") if name.starts_with("volt(") => {
                (rail, PmicQuantity::Volts, told.strip_suffix('V')?)
            }
            _ => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let named = (1..=NAME_BYTES_MAX).contains(&rail.len()) && rail.bytes().all(plain);
        Some(Self { rail, quantity, micro: micro_of(number)? }).filter(|_| named)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(Line::parse)
}

fn micro(text: &[u8], rail: &str, quantity: PmicQuantity) -> Option<i64> {
    lines(text).find(|line| line.rail == rail && line.quantity == quantity).map(|line| line.micro)
}

fn rails(text: &[u8]) -> Vec<String> {
    let amperes = lines(text).filter(|line| line.quantity == PmicQuantity::Amperes);
    let has_volts = |line: &Line<'_>| micro(text, line.rail, PmicQuantity::Volts).is_some();
    amperes.filter(has_volts).map(|line| line.rail.to_owned()).collect()
}

/// A decimal number in millionths; digits behind them are far below the
/// converter's own step (12 bit) and dropped.
fn micro_of(number: &str) -> Option<i64> {
    let (sign, digits) = number.strip_prefix('-').map_or((1, number), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let place = |place: usize| fraction.as_bytes().get(place).map_or(0, |digit| digit - b'0');
    let millionths = (0..6).fold(0, |sum, at| sum * 10 + i64::from(place(at)));
    let whole: i64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(millionths)?.checked_mul(sign)
}

#[cfg(test)]
pub(crate) mod tests;
