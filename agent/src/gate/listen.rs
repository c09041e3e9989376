//! The gate's listening side.
//!
//! Owns the limits on peers that have proved nothing yet: how many at once, how
//! many a second from one address, and how long each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use wattline_pinned::{KeyFolderError, pin_of, server_config};

use super::{Gate, GateError, HANDSHAKE_WITHIN, LinkError, bridge, chain};
use crate::clock::{Clock, SystemClock};
use crate::server::door::Door;

/// Peers at a time whose keys are not proved yet.
const HALF_OPEN_MAX: usize = 8;
/// Links at a time: the agent's two seats, its visitors, and those that leave.
const LINKS_MAX: usize = 12;
/// Addresses that are counted at a time; behind that many, all are one.
const ADDRESSES_MAX: usize = 256;
/// After a connection could not be accepted, the next is tried so much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that is bound and not yet served.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
}

impl Listening {
    /// Where it listens; with port 0 asked for, the port that was given.
    ///
    /// # Errors
    /// The system's own.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Takes the port. Off loopback only where somebody could be let in.
///
/// # Errors
/// [`GateError`] naming what is missing or taken.
pub async fn bind(gate: &Gate, address: SocketAddr) -> Result<Listening, GateError> {
    gate.keys.own_or_made()?;
    let peers = gate.keys.peers();
    let known = peers.now().map_err(KeyFolderError::from)?;
    if known.is_empty() && !address.ip().is_loopback() {
        return Err(GateError::NoPins { path: peers.path().to_owned() });
    }
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => GateError::InUse { address: address.to_string() },
        _ => GateError::Bind { address: address.to_string(), source },
    })?;
    Ok(Listening { listener })
}

/// Serves for ever.
pub async fn listen(gate: Gate, listening: Listening) {
    let gate = Arc::new(gate);
    let half_open = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let links = Arc::new(Semaphore::new(LINKS_MAX));
    let mut doors = Doors::new();
    loop {
        let (stream, from) = match listening.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let may_enter = doors.knock(from.ip());
        let (Ok(pending), true) = (Arc::clone(&half_open).try_acquire_owned(), may_enter) else {
            if doors.turn_away() {
                warn!(so_far = doors.turned_away(), "A peer is turned away: too many at once.");
            }
            continue;
        };
        let (gate, links) = (Arc::clone(&gate), Arc::clone(&links));
        tokio::spawn(async move {
            let proved = prove(&gate, stream).await;
            drop(pending);
            let ended = match (proved, links.try_acquire_owned()) {
                (Ok(stream), Ok(_link)) => {
                    let pin = pin_of(stream.get_ref().1.peer_certificates());
                    bridge(&gate, stream, pin).await
                }
                (Ok(_), Err(_)) => {
                    info!(%from, "A peer is turned away: all links are taken.");
                    Ok(())
                }
                (Err(error), _) => Err(error),
            };
            if let Err(error) = ended {
                warn!(%from, error = chain(&error), "A link is refused or cut.");
            }
        });
    }
}

/// The handshake, within its time.
async fn prove(
    gate: &Gate,
    stream: TcpStream,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, LinkError> {
    // Small frames are not to wait for others; a link without is a slow link.
    let _ = stream.set_nodelay(true);
    let own = gate.keys.own().map_err(KeyFolderError::from)?;
    let config = server_config(&own, gate.keys.peers()).map_err(LinkError::Tls)?;
    let shaken = TlsAcceptor::from(config).accept(stream);
    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shaken).await;
    shaken.map_err(|_| LinkError::Silent)?.map_err(LinkError::of)
}

/// A door for each address, so that a flood from one keeps nobody else out.
struct Doors {
    by_address: HashMap<Option<IpAddr>, Door>,
    all: Door,
}

impl Doors {
    fn new() -> Self {
        Self { by_address: HashMap::new(), all: Door::new(SystemClock.now()) }
    }

    fn knock(&mut self, from: IpAddr) -> bool {
        let now = SystemClock.now();
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, door| !door.is_quiet(now));
        }
        let is_room = self.by_address.len() < ADDRESSES_MAX;
        let counted =
            Some(from).filter(|from| is_room || self.by_address.contains_key(&Some(*from)));
        self.by_address.entry(counted).or_insert_with(|| Door::new(now)).knock(now)
    }

    fn turn_away(&mut self) -> bool {
        self.all.turn_away()
    }

    fn turned_away(&self) -> u64 {
        self.all.turned_away()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_flood_from_one_address_keeps_no_other_out_and_counts_few() {
        let mut doors = Doors::new();
        let flood = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        // However slow the machine, ten a second are let in.
        let let_in = (0..10_000).filter(|_| doors.knock(flood)).count();
        assert!((10..5_000).contains(&let_in), "{let_in}");
        assert!(doors.knock(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))));
        for number in 0..100_000_u32 {
            let _ = doors.knock(IpAddr::V4(Ipv4Addr::from(number)));
        }
        assert!(doors.by_address.len() <= ADDRESSES_MAX + 1);
    }
}
