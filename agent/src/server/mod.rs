//! The agent's server: a socket, its sessions, and the hub they ask.
//!
//! Owns the listening socket and the life of the process: signals, and the end
//! after long idleness. One task a session ([`session`]); one task owns all
//! state ([`hub`]), so that nothing is shared and locked.

mod blocks;
pub mod cut;
pub(crate) mod door;
pub mod examine;
pub mod feed;
pub mod hub;
mod preflight;
mod refused;
mod request;
mod resume;
pub mod seats;
mod session;
mod standing;
pub mod watchdog;

pub use preflight::ROOM_BYTES_MIN;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{info, warn};
use wattline_protocol::units::Nanos;

use crate::clock::{Clock, SystemClock};
use door::{Door, PENDING_MAX};
use examine::Examiner;
use hub::{Facts, Hub};
use request::Request;
use seats::SessionId;
use session::Entrance;
use watchdog::Watchdog;

/// Hosts at a time that ask and have no seat ([`seats`]): `status`, `stop` and the
/// like, whatever the two sessions do.
const VISITS_MAX: usize = 8;
/// After a connection could not be accepted, the next one is tried so much
/// later: where file descriptors ran out, they come back when sessions end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that wait for the hub.
const REQUESTS_MAX: usize = 64;
/// Whether the agent is idle is looked at this often.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// The hub answers within this time, or the watchdog is not fed: it waits for a
/// run's threads for three seconds at most.
const HUB_WITHIN: Duration = Duration::from_secs(10);
/// A run that is to end with the agent gets this long.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What every session knows of its agent.
struct About {
    facts: Arc<Facts>,
    examiner: Examiner,
}

/// Why the server cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Another agent serves there.
    #[error("socket {}: an agent serves there already", path.display())]
    AlreadyServed {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket lies there.
    #[error("socket {}: something else lies there", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("socket {}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Signals cannot be caught.
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
}

/// A socket that is bound and not yet served.
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

/// Takes the socket; a dead one left by a crash is replaced.
///
/// # Errors
/// [`ServeError`] naming the path.
pub async fn bind(path: &Path) -> Result<Bound, ServeError> {
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(ServeError::AlreadyServed { path: path.to_owned() });
        }
        let _ = fs::remove_file(path);
    }
    let failed = |source| ServeError::Bind { path: path.to_owned(), source };
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Whoever may open the socket may use the board: its owner and group.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Bound { listener, path: path.to_owned() })
}

/// Serves until a signal, a Shutdown, or `idle_exit` without anything to do.
///
/// # Errors
/// [`ServeError::Signals`].
pub async fn serve(
    bound: Bound,
    hub: Hub,
    examiner: Examiner,
    idle_exit: Option<Nanos>,
) -> Result<(), ServeError> {
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    let about = Arc::new(About { facts: hub.facts(), examiner });
    let mut hub_task = tokio::spawn(hub.work(queue, requests.clone()));
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let mut sessions = tokio::task::JoinSet::new();
    let mut idle = IdleWatch { limit: idle_exit, since: SystemClock.now() };
    let mut look = tokio::time::interval(IDLE_LOOK);
    let mut watchdog = sd_notify::watchdog_enabled().map(|_| Watchdog::default());
    let mut door = Door::new(SystemClock.now());
    let pending = Arc::new(Semaphore::new(PENDING_MAX));
    let visits = Arc::new(Semaphore::new(VISITS_MAX));
    let mut session_ids = 0_u64..;
    loop {
        tokio::select! {
            accepted = bound.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let may_enter = door.knock(SystemClock.now());
                    match (Arc::clone(&pending).try_acquire_owned(), session_ids.next()) {
                        (Ok(pending), Some(id)) if may_enter => {
                            let visits = Arc::clone(&visits);
                            let entrance = Entrance { id: SessionId(id), pending, visits };
                            let (about, requests) = (about.clone(), requests.clone());
                            sessions.spawn(session::serve(stream, entrance, about, requests));
                        }
                        (Ok(_) | Err(_), _) => {
                            if door.turn_away() {
                                let so_far = door.turned_away();
                                warn!(so_far, "A peer is turned away: too many at once.");
                            }
                            session::turn_away(&stream);
                        }
                    }
                }
                Err(error) => {
                    warn!(%error, "A connection could not be accepted.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
            _ = &mut hub_task => break,
            // An upgrade, a restart, a reboot: the run goes on at the next start.
            _ = terminate.recv() => { ask_to_end(&requests, Request::Leave).await; break }
            // Ctrl-C where the agent was started by hand.
            _ = interrupt.recv() => { ask_to_end(&requests, Request::StopAll).await; break }
            // A link's end is not the agent's end.
            _ = hangup.recv() => {}
            _ = look.tick() => {
                if let Some(watchdog) = &mut watchdog {
                    feed(watchdog, &requests).await;
                }
                if idle.is_over(sessions.is_empty(), &requests).await {
                    info!("Nothing to do and everything is acknowledged; the agent ends.");
                    break;
                }
            }
        }
    }
    let _ = fs::remove_file(&bound.path);
    Ok(())
}

/// Feeds the service manager's watchdog where the hub answers and samples advance.
async fn feed(watchdog: &mut Watchdog, requests: &mpsc::Sender<Request>) {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        requests.send(Request::Beats(reply)).await.ok()?;
        answer.await.ok()
    };
    let Ok(Some(beats)) = tokio::time::timeout(HUB_WITHIN, asked).await else {
        warn!("The hub does not answer; the watchdog is not fed.");
        return;
    };
    if watchdog.look(&beats)
        && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog])
    {
        warn!(%error, "systemd's watchdog could not be fed.");
    }
}

struct IdleWatch {
    limit: Option<Nanos>,
    since: wattline_protocol::units::BoardTime,
}

impl IdleWatch {
    async fn is_over(&mut self, alone: bool, requests: &mpsc::Sender<Request>) -> bool {
        let Some(limit) = self.limit else { return false };
        let (reply, answer) = oneshot::channel();
        let idle = alone
            && requests.send(Request::IsIdle(reply)).await.is_ok()
            && answer.await.unwrap_or(false);
        let now = SystemClock.now();
        if !idle {
            self.since = now;
        }
        now - self.since >= limit
    }
}

/// Ends or leaves the run that goes on, if one does, and waits for its last record.
async fn ask_to_end(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<()>) -> Request,
) {
    let (reply, done) = oneshot::channel();
    if requests.send(request(reply)).await.is_ok()
        && tokio::time::timeout(STOP_WITHIN, done).await.is_err()
    {
        warn!("The run did not end in time; the next start records where it was cut.");
    }
}
