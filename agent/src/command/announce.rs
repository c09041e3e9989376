//! `gate --announce`: hosts on the same network find the board (mDNS, RFC 6762 and
//! 6763).
//!
//! Owns what is announced: an address, a port and a pin. The pin is a hint for people;
//! a link proves the key, and a host takes none that it was not given.

use std::net::{IpAddr, SocketAddr};

use mdns_sd::{Error, IfKind, ServiceDaemon, ServiceInfo};
use wattline_pinned::{Pin, SERVICE_PIN, SERVICE_TYPE};

/// Announced until it is dropped with its process.
pub(super) struct Announced {
    _daemon: ServiceDaemon,
}

/// Announces a gate that listens at `address`.
///
/// # Errors
/// The library's, where no socket can be had.
pub(super) fn announce(address: SocketAddr, pin: Pin) -> Result<Announced, Error> {
    let daemon = ServiceDaemon::new()?;
    // One that listens on one address is reached there alone.
    let ip = Some(address.ip()).filter(|ip| !ip.is_unspecified());
    if ip.is_some_and(|ip| ip.is_loopback()) {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    }
    let ips: Vec<IpAddr> = ip.into_iter().collect();
    let board = board_name();
    let pin = pin.to_string();
    let properties = [(SERVICE_PIN, pin.as_str())];
    let host = format!("{board}.local.");
    let port = address.port();
    let service = ServiceInfo::new(SERVICE_TYPE, &board, &host, &ips[..], port, &properties[..])?;
    let service = if ip.is_none() { service.enable_addr_auto() } else { service };
    daemon.register(service)?;
    Ok(Announced { _daemon: daemon })
}

/// The machine's name up to its first dot: a label of DNS.
fn board_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.unwrap_or_default();
    match name.split('.').next() {
        Some(label) if !label.is_empty() => label.to_owned(),
        _ => "wattline-board".to_owned(),
    }
}
