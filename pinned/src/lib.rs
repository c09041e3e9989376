//! TLS 1.3 between a board and its hosts, with raw public keys that both have
//! been given (RFC 7250).
//!
//! Owns keys and pins with their files, and what rustls is told of them. Opens no
//! socket: host and agent bring the streams. Without certificates there are no
//! dates, so that a board whose clock starts in 1970 is reached as any other, and
//! no authority that could vouch for a stranger.
//! Source: RFC 8446, RFC 7250, RFC 8410 (Ed25519 in keys); records-and-reliability §4.

#![forbid(unsafe_code)]

mod base64;
mod fault;
mod folder;
mod key;
mod name;
mod peers;
mod pin;
mod tls;
mod verb;

pub use fault::Fault;
pub use folder::{KeyFolder, KeyFolderError};
pub use key::{KeyError, OwnKey};
pub use name::{NameError, PeerName};
pub use peers::{Peer, Peers, PeersError};
pub use pin::{Pin, PinError};
pub use tls::{client_config, pin_of, server_config, wished_key};
pub use verb::KeyVerb;

/// A handshake that is not done within so many seconds is given up, by both sides.
pub const HANDSHAKE_WITHIN_S: u64 = 5;
/// DNS-SD type of a gate that lets itself be found (RFC 6763, 7). Not registered with IANA.
pub const SERVICE_TYPE: &str = "_wattline._tcp.local.";
/// Key of its TXT record with its pin: a hint, which a link has to prove.
pub const SERVICE_PIN: &str = "pin";
/// Port of a gate where none is named. Not assigned by IANA.
pub const DEFAULT_PORT: u16 = 7425;
