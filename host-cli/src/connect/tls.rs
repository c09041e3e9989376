//! A board over TLS 1.3 with pinned keys: dialled, or dialling.
//!
//! Owns the TCP streams and the handshakes. Which keys are taken is
//! [`wattline_pinned`]'s; where they lie is `keys`'. A board's key must be the
//! one that is known by that board's name: another board of the fleet must not
//! stand in for it. A link whose board is revoked meanwhile ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin as Pinned;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wattline_pinned::{
    Fault, HANDSHAKE_WITHIN_S, KeyFolder, KeyFolderError, OwnKey, PeerName, Peers, Pin,
    client_config, pin_of, server_config, wished_key,
};

use super::{Link, keys};

/// A board's network may be slow, its gate is not.
const REACH_WITHIN: Duration = Duration::from_secs(10);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(HANDSHAKE_WITHIN_S);
/// A board pauses for a minute at most before it dials again.
const DIALLED_WITHIN: Duration = Duration::from_secs(90);
/// Peers at a time whose keys are not proved yet.
const HALF_OPEN_MAX: usize = 8;
/// Whether the board is still taken is looked at this often.
const PINS_LOOK: Duration = Duration::from_secs(1);

/// Why there is no link with pinned keys.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This machine's keys cannot be used.
    #[error("this machine's keys")]
    Keys(#[from] KeyFolderError),
    /// No pin has the board's name.
    #[error("no key of {name} is among the pins in {}", folder.path().display())]
    NoPin {
        /// The name that a pin would have.
        name: String,
        /// Where pins lie.
        folder: KeyFolder,
    },
    /// The text cannot be a pin's name.
    #[error("its address is no name for a key")]
    Name(#[source] wattline_pinned::NameError),
    /// Nobody listens there.
    #[error("nobody listens there")]
    Reach(#[source] io::Error),
    /// It takes the connection and says nothing.
    #[error("it said nothing within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// The handshake failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The stream failed meanwhile.
    #[error("the link was cut")]
    Cut(#[source] io::Error),
    /// The port cannot be listened at.
    #[error("this machine cannot listen there")]
    Listen(#[source] io::Error),
    /// No board dialled.
    #[error("no board dialled within {seconds} s{}", last_of(last))]
    Undialled {
        /// How long was waited.
        seconds: u64,
        /// What the last one that was refused did.
        last: Option<String>,
    },
    /// rustls takes no such keys.
    #[error("the keys are not ones that TLS takes")]
    Library(#[source] tokio_rustls::rustls::Error),
}

fn last_of(last: &Option<String>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!(" ({last})"))
}

impl TlsError {
    fn of(error: io::Error) -> Self {
        Fault::of(&error).map_or(Self::Cut(error), Self::Fault)
    }

    /// True where another try may go better.
    #[must_use]
    pub const fn may_come_back(&self) -> bool {
        match self {
            Self::Reach(_) | Self::Silent { .. } | Self::Cut(_) | Self::Undialled { .. } => true,
            Self::Keys(_)
            | Self::NoPin { .. }
            | Self::Name(_)
            | Self::Fault(_)
            | Self::Listen(_)
            | Self::Library(_) => false,
        }
    }

    /// What the user can do.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Keys(error) => error.mend(),
            Self::NoPin { .. } => {
                "exchange keys over ssh: wattline deploy ssh://user@host --tls PORT, or by hand: \
                 wattline keys add NAME PIN"
            }
            Self::Name(_) => "write it as tls://host:port",
            Self::Reach(_) => {
                "see that the board is on and its gate runs: systemctl status wattline-gate; \
                 wattline deploy ssh://user@host --tls PORT starts one"
            }
            Self::Silent { .. } => "see that a gate of Wattline listens at that port",
            Self::Fault(fault) => fault_mend(fault),
            Self::Cut(_) => "try again; see `journalctl -u wattline-gate` on the board",
            Self::Listen(_) => {
                "one command at a time listens at a port: end the other (ss -ltnp), or choose an \
                 address and port of this machine that are free"
            }
            Self::Undialled { .. } => {
                "see that the board's gate dials this machine and port: `journalctl -u \
                 wattline-gate` there, and the firewall here"
            }
            Self::Library(_) => "make a new key: wattline keys rotate",
        }
    }
}

const fn fault_mend(fault: &Fault) -> &'static str {
    match fault {
        Fault::Stranger { .. } => {
            "where the board was set up anew: wattline keys revoke NAME, and exchange keys over \
             ssh (wattline deploy BOARD --tls PORT); else somebody stands in between"
        }
        Fault::Refused => {
            "give the board this machine's key over ssh: wattline deploy BOARD --tls PORT, or \
             there: wattline-agent keys add NAME PIN, with the pin of `wattline keys show`"
        }
        Fault::Version | Fault::Certificates | Fault::NotTls => {
            "name the port of a gate of Wattline: `wattline deploy BOARD --tls PORT` starts one"
        }
        Fault::Pins { .. } => "see to the file of pins: a line is PIN NAME",
    }
}

/// Dials a board's gate.
pub(super) async fn dial(host: &str, port: u16) -> Result<Link, TlsError> {
    let folder = keys::folder().map_err(TlsError::Keys)?;
    let name = format!("{host}:{port}");
    let peers = folder.peers().called(name.parse().map_err(TlsError::Name)?);
    let known = peers.now().map_err(KeyFolderError::from)?;
    // The latest line first: while the board's key is rotated, it has two.
    let Some(wished) = known.last().map(|peer| peer.pin) else {
        return Err(TlsError::NoPin { name, folder });
    };
    let mut refused = TlsError::Fault(Fault::Refused);
    // The board may know the key before alone.
    for own in folder.own().map_err(KeyFolderError::from)? {
        match dial_as(&own, wished, &peers, (host, port)).await {
            Err(error @ TlsError::Fault(Fault::Refused)) => refused = error,
            ended => return ended,
        }
    }
    Err(refused)
}

async fn dial_as(
    own: &OwnKey,
    wished: Pin,
    peers: &Peers,
    place: (&str, u16),
) -> Result<Link, TlsError> {
    let config = client_config(own, peers.clone()).map_err(TlsError::Library)?;
    let silent = |within: Duration| move |_| TlsError::Silent { seconds: within.as_secs() };
    let stream = timeout(REACH_WITHIN, TcpStream::connect(place)).await;
    let stream = stream.map_err(silent(REACH_WITHIN))?.map_err(TlsError::Reach)?;
    // Small frames are not to wait for others; a link without is a slow link.
    let _ = stream.set_nodelay(true);
    let shaken = TlsConnector::from(config).connect(wished_key(wished), stream);
    let shaken = timeout(HANDSHAKE_WITHIN, shaken).await;
    let stream = shaken.map_err(silent(HANDSHAKE_WITHIN))?.map_err(TlsError::of)?;
    let pin = pin_of(stream.get_ref().1.peer_certificates()).unwrap_or(wished);
    link(stream, pin, peers.clone()).await
}

/// Listens until a board that is known, and is called `name` where one is given,
/// has dialled.
pub(super) async fn listen(address: SocketAddr, name: Option<&PeerName>) -> Result<Link, TlsError> {
    let folder = keys::folder().map_err(TlsError::Keys)?;
    let mut peers = folder.peers();
    if let Some(name) = name {
        peers = peers.called(name.clone());
    }
    if peers.now().map_err(KeyFolderError::from)?.is_empty() {
        let name = name.map_or("a board", PeerName::as_str).to_owned();
        return Err(TlsError::NoPin { name, folder });
    }
    let own = folder.own().map_err(KeyFolderError::from)?;
    let config = server_config(&own, peers.clone()).map_err(TlsError::Library)?;
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind(address).await.map_err(TlsError::Listen)?;
    let mut last = None;
    let dialled = timeout(DIALLED_WITHIN, accept(&listener, &acceptor, &mut last)).await;
    let undialled = |_| TlsError::Undialled { seconds: DIALLED_WITHIN.as_secs(), last };
    let (stream, pin) = dialled.map_err(undialled)??;
    link(stream, pin, peers).await
}

type Accepted = tokio_rustls::server::TlsStream<TcpStream>;

/// The first that proves a key; those before it are refused, or slower.
async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    last: &mut Option<String>,
) -> Result<(Accepted, Pin), TlsError> {
    let mut half_open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if half_open.len() < HALF_OPEN_MAX => {
                let (stream, from) = accepted.map_err(TlsError::Listen)?;
                let _ = stream.set_nodelay(true);
                let shaken = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream));
                half_open.spawn(async move { (from, shaken.await) });
            }
            Some(Ok((from, shaken))) = half_open.join_next() => match shaken {
                Ok(Ok(stream)) => {
                    if let Some(pin) = pin_of(stream.get_ref().1.peer_certificates()) {
                        return Ok((stream, pin));
                    }
                }
                Ok(Err(error)) => {
                    let why = Fault::of(&error).map_or_else(|| error.to_string(), |f| f.to_string());
                    *last = Some(format!("from {}: {why}", from.ip()));
                }
                Err(_) => *last = Some(format!("from {}: no handshake in time", from.ip())),
            },
        }
    }
}

/// The link over a stream. A gate that refuses this machine's key says so where the
/// agent's first word would be (RFC 8446 §4.4.2.4): that is waited for.
async fn link<S>(stream: S, pin: Pin, peers: Peers) -> Result<Link, TlsError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (incoming, outgoing) = split(stream);
    let mut incoming = BufReader::new(incoming);
    match timeout(REACH_WITHIN, incoming.fill_buf()).await {
        Err(_) => return Err(TlsError::Silent { seconds: REACH_WITHIN.as_secs() }),
        // Closed at once, cleanly or not: what is missing there is told by the client.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Err(error)) => return Err(TlsError::of(error)),
        Ok(Ok(_)) => {}
    }
    let look = tokio::time::interval(PINS_LOOK);
    let incoming = Watched { inner: incoming, peers, pin, look };
    Ok(Link { incoming: Box::new(incoming), outgoing: Box::new(outgoing), carrier: None })
}

/// A stream that ends once its board's key is revoked here.
struct Watched<R> {
    inner: R,
    peers: Peers,
    pin: Pin,
    look: Interval,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.look.poll_tick(context).is_ready() {
            // A line that somebody mistyped must not cut a night's run.
            if matches!(self.peers.find(self.pin), Ok(None)) {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the board's key was revoked on this machine",
                )));
            }
        }
        match Pinned::new(&mut self.inner).poll_read(context, buffer) {
            // A gate that was killed says no goodbye; frames have their own checks.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            ready => ready,
        }
    }
}
