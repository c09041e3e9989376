//! The gate's dialling side: a board behind NAT goes to its host.
//!
//! Owns the pauses between tries. A host that listens takes one link at a time and
//! ends it when its command does; then the board comes again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;
use wattline_pinned::{KeyFolderError, client_config, pin_of, wished_key};

use super::{Gate, HANDSHAKE_WITHIN, LinkError, bridge, chain};

/// First pause, and the longest: half a minute on average, so that a fleet whose
/// host was away does not come all at once.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Dials `host` (`HOST:PORT`) for ever.
pub async fn dial(gate: Gate, host: String) {
    let mut said = String::new();
    let mut tries = 0_usize;
    let mut pause = PAUSE_FIRST;
    loop {
        match link(&gate, &host, tries).await {
            Ok(()) => {
                said.clear();
                pause = PAUSE_FIRST;
            }
            Err(error) => {
                let now = chain(&error);
                // A host that is away for a night is one line.
                if now != said {
                    warn!(host, error = now, "There is no link to the host; tried again.");
                    said = now;
                }
                tries = tries.wrapping_add(1);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tokio::time::sleep(part_of(pause)).await;
    }
}

/// One link from its beginning to its end.
async fn link(gate: &Gate, host: &str, tries: usize) -> Result<(), LinkError> {
    let own = gate.keys.own().map_err(KeyFolderError::from)?;
    let peers = gate.keys.peers();
    let known = peers.now().map_err(KeyFolderError::from)?;
    // While a rotation goes on, either side has two keys: each pair is tried in turn.
    let shown = turn(&own, tries);
    let wished = turn(&known, tries / own.len().max(1));
    let (Some(wished), Some(shown)) = (wished, shown) else {
        return Err(LinkError::NoPins);
    };
    let config = client_config(shown, peers).map_err(LinkError::Tls)?;
    let shaken = async {
        let stream = TcpStream::connect(host).await.map_err(LinkError::Reach)?;
        let _ = stream.set_nodelay(true);
        let name = wished_key(wished.pin);
        TlsConnector::from(config).connect(name, stream).await.map_err(LinkError::of)
    };
    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shaken).await;
    let stream: TlsStream<TcpStream> = shaken.map_err(|_| LinkError::Silent)??;
    let pin = pin_of(stream.get_ref().1.peer_certificates());
    bridge(gate, stream, pin).await
}

fn turn<T>(all: &[T], tries: usize) -> Option<&T> {
    all.get(tries.checked_rem(all.len())?)
}

/// Between half and all of `pause`.
fn part_of(pause: Duration) -> Duration {
    let drawn = RandomState::new().build_hasher().finish();
    let share = u32::try_from(drawn % 1024).unwrap_or_default();
    pause / 2 + pause * share / 2048
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_between_half_and_whole() {
        for _ in 0..100 {
            let part = part_of(PAUSE_MAX);
            assert!(part >= PAUSE_MAX / 2 && part <= PAUSE_MAX, "{part:?}");
        }
    }

    #[test]
    fn keys_are_tried_in_turn() {
        let tried: Vec<_> = (0..5).filter_map(|tries| turn(&["new", "old"], tries)).collect();
        assert_eq!(tried, [&"new", &"old", &"new", &"old", &"new"]);
        assert_eq!(turn::<u8>(&[], 3), None);
    }
}
