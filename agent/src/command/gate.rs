//! `gate`: hosts over TLS 1.3 with pinned keys, bridged to the agent's socket.
//!
//! Owns what its flags mean, `ready ADDR:PORT` once it listens, and the words for
//! what keeps it from that. The bridge is [`crate::gate`]'s.

#[cfg(feature = "mdns")]
use std::net::SocketAddr;

#[cfg(feature = "mdns")]
use super::announce::{Announced, announce};
use super::keys::{self, folder};
use super::serve::socket;
use super::{EX_CONFIG, EX_NOPERM, EX_SOFTWARE, Failure, line};
use crate::args::GateArgs;
use crate::gate::{self, Gate, GateError};

pub(super) fn run(args: &GateArgs) -> Result<(), Failure> {
    let gate = Gate { keys: folder(&args.keys)?, agent: socket(args.socket.as_deref())? };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(EX_SOFTWARE, "the gate cannot start", &error, ""))?;
    runtime.block_on(async {
        match (args.listen, &args.dial) {
            (Some(address), _) => {
                let what = format!("the gate does not listen at {address}");
                let listening = gate::bind(&gate, address).await;
                let listening = listening.map_err(|error| failure(&what, &error))?;
                if args.check {
                    return Ok(());
                }
                let address = listening.address().unwrap_or(address);
                #[cfg(feature = "mdns")]
                let _announced = announced(args, &gate, address)?;
                ready(&format!("ready {address}"));
                gate::listen(gate, listening).await;
            }
            (None, Some(host)) => {
                gate.keys.own_or_made().map_err(|error| keys::failure(EX_CONFIG, &error))?;
                if args.check {
                    return Ok(());
                }
                ready(&format!("ready to dial {host}"));
                gate::dial(gate, host.clone()).await;
            }
            // Clap asks for one of them.
            (None, None) => {}
        }
        Ok(())
    })
}

/// Lets the gate be found, where that is asked for. Without it the gate serves all
/// the same: a network that takes no multicast is no fault of the board.
#[cfg(feature = "mdns")]
fn announced(
    args: &GateArgs,
    gate: &Gate,
    address: SocketAddr,
) -> Result<Option<Announced>, Failure> {
    if !args.announce {
        return Ok(None);
    }
    let own = gate.keys.own_or_made().map_err(|error| keys::failure(EX_CONFIG, &error))?;
    let Some(key) = own.first() else { return Ok(None) };
    let announced = announce(address, key.pin());
    if let Err(error) = &announced {
        tracing::warn!(%error, "The gate cannot be announced; hosts have to name it.");
    }
    Ok(announced.ok())
}

fn ready(text: &str) {
    if line(text).is_err() {
        tracing::warn!("Nobody reads standard output; serving all the same.");
    }
    // A no-op where no systemd started this program.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd could not be told that the gate is ready.");
    }
}

fn failure(what: &str, error: &GateError) -> Failure {
    let (status, mend) = match error {
        GateError::Keys(error) => return keys::failure(EX_CONFIG, error),
        GateError::NoPins { .. } => (
            EX_CONFIG,
            "give it a host's key: `wattline deploy BOARD --tls PORT` on the host, or \
             `wattline-agent keys add NAME PIN` here",
        ),
        GateError::InUse { .. } => (EX_CONFIG, "choose another port, or see who has it: ss -ltnp"),
        GateError::Bind { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (EX_NOPERM, "choose a port from 1024 on")
        }
        GateError::Bind { .. } => (EX_CONFIG, "name an address of this machine, such as 0.0.0.0"),
    };
    Failure::of(status, what, error, mend)
}
