//! The control socket: faults from outside, and the truth.
//!
//! Owns one line a command and one line an answer, over a Unix socket. Addresses as
//! `0x40`; times in seconds, of the bus's clock in nanoseconds.
//!
//! ```text
//! now                       ok 8123456789
//! nack 0x40 2.5             not acknowledged for 2.5 s
//! stuck 0x41 1              every transfer times out for 1 s
//! reset 0x40                the chip loses its supply for a moment
//! stretch 0x40 0.002 1      the clock is held low for 2 ms in each transfer, for 1 s
//! energy 0x41 0 FROM TO     ok 12.345 (joules of rail 0 between two times)
//! ```

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io, thread};

use wattline_agent::clock::{Clock, SystemClock};
use wattline_agent::power::bus::sim::FaultKind;
use wattline_protocol::units::{BoardTime, Nanos};

use crate::wire::{Wire, energy, inject};

/// Longest fault, in seconds: a day.
const LENGTH_MAX_S: f64 = 86_400.0;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Command {
    Now,
    Fault { address: u8, kind: FaultKind, length: Nanos },
    Energy { address: u8, rail: usize, from: BoardTime, to: BoardTime },
}

/// Serves control lines on `socket` for as long as the process lives.
///
/// # Errors
/// The socket's, where it cannot be made.
pub fn serve(socket: &Path, wire: Arc<Mutex<Wire>>) -> io::Result<()> {
    // Left behind by a process that was killed.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A caller that went away has lost its answer and nothing else.
            let _ = converse(stream, &wire);
        }
    })?;
    Ok(())
}

/// Sends one command and takes its answer.
///
/// # Errors
/// The socket's; `InvalidInput` with the answer where the command was refused.
pub fn ask(socket: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{command}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim_end().strip_prefix("ok") {
        Some(said) => Ok(said.trim().to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, answer)),
    }
}

fn converse(stream: UnixStream, wire: &Mutex<Wire>) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let answer = parse(&line?).and_then(|command| perform(command, wire));
        writeln!(answers, "{}", answer.unwrap_or_else(|why| format!("error {why}")))?;
    }
    Ok(())
}

fn perform(command: Command, wire: &Mutex<Wire>) -> Result<String, &'static str> {
    let chip = |address| {
        // A holder that panicked has ended the process.
        let wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.chip(address).ok_or("no chip has this address")
    };
    match command {
        Command::Now => Ok(format!("ok {}", SystemClock.now().0)),
        Command::Fault { address, kind, length } => {
            inject(&chip(address)?, kind, SystemClock.now(), length);
            Ok("ok".to_owned())
        }
        Command::Energy { address, rail, from, to } => {
            Ok(format!("ok {}", energy(&chip(address)?, rail, from, to).0))
        }
    }
}

fn parse(line: &str) -> Result<Command, &'static str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let fault = |address, kind, length| {
        Ok(Command::Fault { address: self::address(address)?, kind, length })
    };
    match words[..] {
        ["now"] => Ok(Command::Now),
        ["nack", at, length] => fault(at, FaultKind::Nack, seconds(length)?),
        ["stuck", at, length] => fault(at, FaultKind::Stuck, seconds(length)?),
        ["reset", at] => fault(at, FaultKind::Reset, Nanos(1)),
        ["stretch", at, by, length] => {
            fault(at, FaultKind::Stretch { by: seconds(by)? }, seconds(length)?)
        }
        ["energy", at, rail, from, to] => {
            let time = |word: &str| word.parse().map(BoardTime).map_err(|_| "a time is no number");
            let rail = rail.parse().map_err(|_| "the rail is no number")?;
            Ok(Command::Energy { address: address(at)?, rail, from: time(from)?, to: time(to)? })
        }
        _ => Err("now, nack, stuck, reset, stretch and energy are known"),
    }
}

fn address(word: &str) -> Result<u8, &'static str> {
    let hex = word.strip_prefix("0x").ok_or("an address begins with 0x")?;
    u8::from_str_radix(hex, 16).map_err(|_| "an address is 0x and two digits")
}

fn seconds(word: &str) -> Result<Nanos, &'static str> {
    let seconds: f64 = word.parse().map_err(|_| "a length is a number of seconds")?;
    let is_length = seconds > 0.0 && seconds <= LENGTH_MAX_S;
    if is_length { Ok(Nanos::from_secs_f64(seconds)) } else { Err("a length is 0 s to a day") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_fault_of_one_chip() {
        let length = Nanos(2_500_000_000);
        let nack = Command::Fault { address: 0x40, kind: FaultKind::Nack, length };
        assert_eq!(parse("nack 0x40 2.5"), Ok(nack));
        let by = Nanos::from_millis(2);
        let length = Nanos(1_000_000_000);
        let stretch = Command::Fault { address: 0x41, kind: FaultKind::Stretch { by }, length };
        assert_eq!(parse("stretch 0x41 0.002 1"), Ok(stretch));
        for wrong in ["", "nack", "nack 40 1", "nack 0x40 -1", "stuck 0x40 x", "reset 0x400"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_from_outside_is_seen_on_the_wire_and_passes() {
        use crate::log::Part;
        let folder = tempfile::tempdir().unwrap();
        let wire = Wire::new(&folder.path().join("log")).unwrap();
        let (wire, socket) = (Arc::new(Mutex::new(wire)), folder.path().join("control"));
        serve(&socket, Arc::clone(&wire)).unwrap();
        let answers = |address| {
            let mut parts = vec![Part::Write(vec![0xff]), Part::Read(vec![0; 2])];
            wire.lock().unwrap().transfer(address, &mut parts).unwrap()
        };
        assert!(answers(0x40));
        ask(&socket, "nack 0x40 3600").unwrap();
        assert!(!answers(0x40) && answers(0x41));
        assert!(ask(&socket, "nack 0x17 1").unwrap_err().to_string().contains("no chip"));
        let now: i64 = ask(&socket, "now").unwrap().parse().unwrap();
        let said = ask(&socket, &format!("energy 0x41 0 {now} {}", now + 1_000_000_000)).unwrap();
        let energy: f64 = said.parse().unwrap();
        assert!((4.0..16.0).contains(&energy), "{energy} J in a second");
    }
}
