//! The gate: links with pinned keys, bridged to the agent's Unix socket.
//!
//! Owns the TLS streams in a process of its own: the sampler runs no line of it.
//! A host dials the gate, or the gate dials a host that listens (a board behind
//! NAT). Knows nothing of what is said over a link. Keys and pins are read at each
//! link, so that a change holds from then on; a link whose peer is revoked is cut.
//! Source of the limits: records-and-reliability §4, "Exposure and limits".

mod dial;
mod listen;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::UnixStream;
use tracing::{info, warn};
use wattline_pinned::{Fault, KeyFolder, KeyFolderError, Peer, Peers, Pin};

pub use dial::dial;
pub use listen::{Listening, bind, listen};

/// A handshake that is not done by then is given up.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(wattline_pinned::HANDSHAKE_WITHIN_S);
/// Whether a link's peer is still let in is looked at this often.
const PINS_LOOK: Duration = Duration::from_secs(1);

/// What a gate bridges between.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Keys and pins.
    pub keys: KeyFolder,
    /// The agent's socket.
    pub agent: PathBuf,
}

/// Why a gate does not serve.
#[derive(Debug, Error)]
pub enum GateError {
    /// There is no key of its own.
    #[error(transparent)]
    Keys(#[from] KeyFolderError),
    /// Nobody could be let in, and the network would see the port.
    #[error("no key of a host is in {}, so that nobody could be let in", path.display())]
    NoPins {
        /// The file.
        path: PathBuf,
    },
    /// The address is taken.
    #[error("{address} is in use by another program")]
    InUse {
        /// What was to be listened at.
        address: String,
    },
    /// The address cannot be listened at.
    #[error("{address} cannot be listened at")]
    Bind {
        /// What was to be listened at.
        address: String,
        /// The system's word.
        source: io::Error,
    },
}

/// Why a link ended before its peer did.
#[derive(Debug, Error)]
enum LinkError {
    #[error("it is not there")]
    Reach(#[source] io::Error),
    #[error("it said nothing within {} s", HANDSHAKE_WITHIN.as_secs())]
    Silent,
    #[error(transparent)]
    Fault(Fault),
    #[error("the stream failed")]
    Stream(#[source] io::Error),
    #[error("keys or pins cannot be read")]
    Keys(#[from] KeyFolderError),
    #[error("the keys are not ones that TLS takes")]
    Tls(#[source] tokio_rustls::rustls::Error),
    #[error("no host's key is among the pins")]
    NoPins,
    #[error("no agent serves at {}", path.display())]
    NoAgent { path: PathBuf, source: io::Error },
    #[error("its key was revoked")]
    Revoked,
}

impl LinkError {
    fn of(error: io::Error) -> Self {
        Fault::of(&error).map_or(Self::Stream(error), Self::Fault)
    }
}

/// An error with what is below it, as one line of a log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text.push_str(": ");
        text.push_str(&below.to_string());
        source = below.source();
    }
    text
}

/// Carries bytes until either side ends or the peer's key is revoked.
async fn bridge<S>(gate: &Gate, stream: S, pin: Option<Pin>) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    let peers = gate.keys.peers();
    let Some(Peer { pin, name }) = pin.and_then(|pin| peers.find(pin).ok().flatten()) else {
        return Err(LinkError::Revoked);
    };
    let agent = UnixStream::connect(&gate.agent)
        .await
        .map_err(|source| LinkError::NoAgent { path: gate.agent.clone(), source })?;
    info!(peer = %name, key = %pin.short(), "A link is open.");
    let (mut from_host, mut to_host) = split(stream);
    let (mut from_agent, mut to_agent) = agent.into_split();
    let upward = async {
        copy(&mut from_host, &mut to_agent).await?;
        to_agent.shutdown().await
    };
    let downward = async {
        copy(&mut from_agent, &mut to_host).await?;
        to_host.shutdown().await
    };
    let ended = tokio::select! {
        ended = upward => ended.map_err(LinkError::of),
        ended = downward => ended.map_err(LinkError::of),
        () = revoked(&peers, pin) => Err(LinkError::Revoked),
    };
    info!(peer = %name, key = %pin.short(), "A link is closed.");
    match ended {
        // A host that goes without a word is no news.
        Err(LinkError::Stream(_)) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Resolves once the peer is not let in any more.
async fn revoked(peers: &Peers, pin: Pin) {
    let mut said = String::new();
    let mut look = tokio::time::interval(PINS_LOOK);
    loop {
        look.tick().await;
        match peers.find(pin) {
            Ok(Some(_)) => said.clear(),
            Ok(None) => return,
            // A line that somebody mistyped must not cut a night's run: strangers
            // stay out meanwhile, and whoever is in was let in.
            Err(error) => {
                let now = chain(&error);
                if now != said {
                    warn!(error = now, "The pins cannot be read; nobody new is let in.");
                    said = now;
                }
            }
        }
    }
}
