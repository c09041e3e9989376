//! From a board's address to a byte stream.
//!
//! Owns the sockets and child processes that reach an agent, this machine's keys
//! for TLS, and starts the agents of this machine. Says nothing on the stream: that is
//! [`crate::client`].

mod here;
pub mod keys;
mod ssh;
mod tls;

use std::path::PathBuf;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::board::BoardAddress;

pub use here::{AgentPlace, agent_program};
pub use ssh::Carrier;
pub(crate) use ssh::ssh_command;
pub use tls::TlsError;

/// Half of a stream that is read.
pub type Incoming = Box<dyn AsyncRead + Unpin + Send>;
/// Half of a stream that is written.
pub type Outgoing = Box<dyn AsyncWrite + Unpin + Send>;

/// A byte stream to an agent.
pub struct Link {
    /// What the agent says.
    pub incoming: Incoming,
    /// What it is told.
    pub outgoing: Outgoing,
    /// The `ssh` that carries it, where one does; killed with the link.
    pub carrier: Option<Carrier>,
}

/// Why there is no stream to a board.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody serves at the socket.
    #[error("no agent serves at {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("{} could not be started", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The agent's program is nowhere.
    #[error("no wattline-agent beside this program or on the PATH")]
    NoAgent,
    /// A folder could not be made.
    #[error("folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// There is no link with pinned keys.
    #[error("{address}")]
    Tls {
        /// The board.
        address: String,
        /// What stood in the way.
        source: Box<TlsError>,
    },
    /// The agent of this machine ended before it served.
    #[error("wattline-agent ended with {status} before it was ready{}", after(said))]
    AgentEnded {
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last lines.
        said: String,
    },
    /// The agent of this machine did not serve in time.
    #[error("wattline-agent was not ready within {seconds} s")]
    AgentSlow {
        /// How long was waited.
        seconds: u64,
    },
}

fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// Opens a stream to the agent at `address`, starting one on this machine
/// where the address asks for it.
///
/// # Errors
/// [`ConnectError`] naming the socket or program.
pub async fn connect(address: &BoardAddress) -> Result<Link, ConnectError> {
    match address {
        BoardAddress::Unix(path) => unix(path.clone()).await,
        BoardAddress::Simulated(_) | BoardAddress::Local => {
            let place = AgentPlace::of(address)?;
            match unix(place.socket.clone()).await {
                Ok(link) => Ok(link),
                Err(_) => {
                    place.start().await?;
                    unix(place.socket).await
                }
            }
        }
        BoardAddress::Ssh { target, port } => ssh::open(target, *port),
        BoardAddress::Tls { host, port } => {
            tls::dial(host, *port).await.map_err(|error| pinned(address, error))
        }
        BoardAddress::Listen { at, name } => {
            tls::listen(*at, name.as_ref()).await.map_err(|error| pinned(address, error))
        }
    }
}

fn pinned(address: &BoardAddress, source: TlsError) -> ConnectError {
    ConnectError::Tls { address: address.to_string(), source: Box::new(source) }
}

async fn unix(path: PathBuf) -> Result<Link, ConnectError> {
    let stream =
        UnixStream::connect(&path).await.map_err(|source| ConnectError::Socket { path, source })?;
    let (incoming, outgoing) = stream.into_split();
    Ok(Link { incoming: Box::new(incoming), outgoing: Box::new(outgoing), carrier: None })
}
