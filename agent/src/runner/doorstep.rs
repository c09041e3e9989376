//! A runner behind a socket: one process for each connection.
//!
//! systemd accepts (`wattline-runner.socket`, `Accept=yes`) and starts
//! `wattline-agent runner --accepted` with the connection as standard input and
//! output. This looks at the job without taking it, says its process id, and
//! becomes the runner that the job needs: threads and TF32 are settings that a
//! process has from its first moment on. So the runner's limits and sandbox are
//! its unit's, and the sampler starts no process.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tracing::error;
use wattline_protocol::frame::FrameReader;

use super::message::{FromRunner, Job, ToRunner};
use super::process::RunnerPrograms;

/// A job is a few hundred bytes; a frame of commands is never larger.
const JOB_BYTES_MAX: usize = 16 * 1024;
/// Looks at the connection until the whole job is there; a local writer that
/// has not written a job in so many is none of ours.
const LOOKS_MAX: u32 = 10_000;

/// Becomes the runner of the connection on standard input. Returns the exit
/// status where it cannot.
#[must_use]
pub fn run() -> u8 {
    let failed = |what: &str, error: &io::Error| {
        error!(%error, "{what}");
        1
    };
    let job = match job() {
        Ok(job) => job,
        Err(source) => return failed("No job came over the connection.", &source),
    };
    let mut command = match RunnerPrograms::beside_this() {
        Ok(programs) => match programs.command_for(&job) {
            Ok(command) => command,
            Err(cause) => return say(&FromRunner::Failed(cause)),
        },
        Err(source) => return failed("This executable is not found.", &source),
    };
    if say(&FromRunner::Started { pid: std::process::id() }) != 0 {
        return 1;
    }
    // Does not return where it goes well: the process id stays.
    let source = command.exec();
    failed("The runner could not be started.", &source)
}

fn say(message: &FromRunner) -> u8 {
    let mut output = io::stdout();
    let said = output.write_all(&message.to_bytes()).and_then(|()| output.flush());
    u8::from(said.is_err())
}

/// The job at the head of standard input, which stays there for the runner.
fn job() -> io::Result<Box<Job>> {
    let input = io::stdin();
    let mut bytes = vec![0; JOB_BYTES_MAX];
    let mut seen = 0;
    for _ in 0..LOOKS_MAX {
        let count = match recv(input.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if count == 0 {
            break;
        }
        if count != seen {
            seen = count;
            let mut reader = FrameReader::new();
            reader.feed(bytes.get(..count).unwrap_or_default());
            match ToRunner::next(&mut reader).map_err(io::Error::other)? {
                Some(ToRunner::Job(job)) => return Ok(job),
                Some(ToRunner::Go | ToRunner::End | ToRunner::Trigger(_)) => break,
                None => {}
            }
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("what came is not a job"))
}
