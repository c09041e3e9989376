//! `session.reconnect`: from the link's return to streaming.
//!
//! Owns a link that can be cut between the real host and the real agent on the
//! simulated board: a socket in between, which passes bytes on and sees the
//! first recorded frame after each cut. Knows nothing of what frames mean.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use wattline_agent::clock::{Clock, SystemClock};
use wattline_protocol::frame::{FrameReader, SESSION_KINDS_FROM};
use wattline_protocol::units::{BoardTime, Nanos};
use wattline_tests::{Agent, AgentFlags, Sandbox};

use crate::figure::Figure;

/// How long the link is down, in ms: short cuts meet the host's first tries,
/// long ones its longest pause.
const CUTS_MS: [i64; 8] = [200, 500, 900, 1_400, 2_100, 3_000, 4_300, 6_100];
/// A cut that is not mended by then is not mended at all.
const MENDED_MAX: Nanos = Nanos::from_secs(60);
const CAMPAIGN: [&str; 12] = [
    "run",
    "--networks",
    "resnet18",
    "--size",
    "64",
    "--batch",
    "1",
    "--window-s-min",
    "60",
    "--windows",
    "5",
    "--on",
];

/// Measures `session.reconnect`: the longest and the median of eight cuts.
///
/// # Errors
/// The system's error where the link cannot be made.
pub(crate) fn run(emit: &mut impl FnMut(Figure)) -> io::Result<()> {
    let sandbox = Sandbox::new();
    let agent = Agent::start_with(&sandbox, AgentFlags::named(&sandbox, "board"));
    let Some(board) = agent.address().strip_prefix("unix:").map(PathBuf::from) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let path = sandbox.path("link.sock");
    let mut link = Link::up(&path, &board)?;
    let address = format!("unix:{}", path.display());
    let mut host = sandbox.wattline_started(&[&CAMPAIGN[..], &[&address]].concat());
    link.streaming()?;
    let mut seconds = Vec::new();
    for cut_ms in CUTS_MS {
        wait(Nanos::from_millis(700));
        drop(link);
        wait(Nanos::from_millis(cut_ms));
        link = Link::up(&path, &board)?;
        let back = SystemClock.now();
        seconds.push((link.streaming()? - back).as_seconds().0);
    }
    host.kill();
    drop(agent);
    seconds.sort_by(f64::total_cmp);
    for (case, place) in [("p50", seconds.len() / 2), ("max", seconds.len() - 1)] {
        emit(Figure {
            measure: "session.reconnect",
            case: case.to_owned(),
            value: seconds.get(place).copied().unwrap_or(f64::INFINITY),
            unit: "s",
            limit: Some(0.0),
            limit_is: Some("no pause between two tries of the host"),
        });
    }
    Ok(())
}

fn wait(span: Nanos) {
    SystemClock.sleep_until(SystemClock.now() + span);
}

/// A link that is up; dropping it cuts every connection and takes the socket away.
struct Link {
    path: PathBuf,
    is_down: Arc<AtomicBool>,
    carried: Arc<Mutex<Vec<UnixStream>>>,
    frames: Receiver<BoardTime>,
}

impl Link {
    fn up(path: &Path, board: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let is_down = Arc::new(AtomicBool::new(false));
        let carried = Arc::new(Mutex::new(Vec::new()));
        let (tell, frames) = channel();
        let (down, kept, board) = (Arc::clone(&is_down), Arc::clone(&carried), board.to_owned());
        std::thread::spawn(move || {
            while let Ok((host, _)) = listener.accept() {
                if down.load(Ordering::Acquire) {
                    break;
                }
                // A peer that cannot be served is cut off, as a link does.
                let _ = carry(host, &board, &kept, &tell);
            }
        });
        Ok(Self { path: path.to_owned(), is_down, carried, frames })
    }

    /// When the next recorded frame came past.
    fn streaming(&self) -> io::Result<BoardTime> {
        while self.frames.try_recv().is_ok() {}
        let until = SystemClock.now() + MENDED_MAX;
        while SystemClock.now() < until {
            if let Ok(at) = self.frames.try_recv() {
                return Ok(at);
            }
            wait(Nanos::from_millis(1));
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_down.store(true, Ordering::Release);
        let _ = std::fs::remove_file(&self.path);
        let streams =
            std::mem::take(&mut *self.carried.lock().unwrap_or_else(PoisonError::into_inner));
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes bytes on in both directions, each on a thread of its own.
fn carry(
    host: UnixStream,
    board: &Path,
    kept: &Mutex<Vec<UnixStream>>,
    tell: &Sender<BoardTime>,
) -> io::Result<()> {
    let agent = UnixStream::connect(board)?;
    {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(host.try_clone()?);
        kept.push(agent.try_clone()?);
    }
    let (mut host_in, mut agent_out) = (host.try_clone()?, agent.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut host_in, &mut agent_out);
        let _ = agent_out.shutdown(Shutdown::Both);
    });
    let tell = tell.clone();
    std::thread::spawn(move || {
        let _ = watched(agent, &host, &tell);
        let _ = host.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Passes the agent's bytes on and tells of each recorded frame among them.
fn watched(
    mut agent: UnixStream,
    mut host: &UnixStream,
    tell: &Sender<BoardTime>,
) -> io::Result<()> {
    let mut reader = FrameReader::new();
    let mut bytes = [0; 16 * 1_024];
    loop {
        let length = agent.read(&mut bytes)?;
        let passed = bytes.get(..length).unwrap_or_default();
        if passed.is_empty() {
            return Ok(());
        }
        host.write_all(passed)?;
        reader.feed(passed);
        while let Ok(Some(frame)) = reader.next_frame() {
            if frame.header.kind < SESSION_KINDS_FROM {
                // Nobody listens after the measurement's end.
                let _ = tell.send(SystemClock.now());
            }
        }
    }
}
