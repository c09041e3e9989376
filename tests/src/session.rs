//! A conversation with an agent over the pipes of a child process.
//!
//! Owns the bytes between `wattline_protocol`'s state machine and the child.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use wattline_protocol::command::{Command as Ask, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Side};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::session::host::{Event, Session};
use wattline_protocol::units::Nanos;

/// A test that hears nothing for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The state machine's timers are not under test here: its clock stands still.
const NOW: Nanos = Nanos(0);

/// What a pipe is asked to say in place of a hello of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Our own hello.
    Hello,
    /// A hello of protocol versions that do not exist yet.
    LaterVersion,
}

/// A session over the pipes of a child.
#[derive(Debug)]
pub struct Pipe {
    child: Child,
    input: ChildStdin,
    heard: Receiver<Vec<u8>>,
    session: Session,
    events: Vec<Event>,
}

impl Pipe {
    /// Starts the child and greets it.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn open(mut command: Command, say: Say) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (said, heard) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if said.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let later = u16::from(say == Say::LaterVersion) * 1_000;
        let hello = Hello {
            protocol_min: PROTOCOL_MIN + later,
            protocol_max: PROTOCOL_MAX + later,
            build: "test".into(),
            digest: protocol_digest(),
            side: Side::Host,
        };
        let (session, first) = Session::begin(hello, 1, NOW);
        input.write_all(&first).unwrap();
        input.flush().unwrap();
        Self { child, input, heard, session, events: Vec::new() }
    }

    /// The next event.
    ///
    /// # Panics
    /// Where the child says nothing more.
    pub fn next_event(&mut self) -> Event {
        while self.events.is_empty() {
            let bytes = self.heard.recv_timeout(SILENCE_MAX).unwrap();
            self.events = self.session.on_bytes(&bytes, NOW);
        }
        self.events.remove(0)
    }

    /// Asks, and gives the answer.
    ///
    /// # Panics
    /// Where something else comes.
    pub fn ask(&mut self, command: Ask) -> Reply {
        let (asked, bytes) = self.session.command(command, NOW);
        self.input.write_all(&bytes).unwrap();
        match self.next_event() {
            Event::Reply(id, reply) if id == asked => reply,
            other => panic!("not an answer: {other:?}"),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
