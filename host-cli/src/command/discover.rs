//! `wattline discover`: boards on this network whose gates let themselves be found.
//!
//! Owns how long it listens and what is told of a board. What is heard is anybody's
//! claim: a board is trusted by its pin, which comes from `deploy` or by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use mdns_sd::{Error, ResolvedService, ServiceDaemon, ServiceEvent};
use serde_json::json;
use wattline_pinned::{Peer, Pin, SERVICE_PIN, SERVICE_TYPE};

use super::{keys, line, say};
use crate::args::DiscoverArgs;
use crate::clock;
use crate::connect::keys::folder;
use crate::failure::{Exit, Failure};

/// A board that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    /// What it calls itself.
    name: String,
    /// Its addresses as boards of `--on`, in order.
    boards: Vec<String>,
    pin: Option<Pin>,
    /// The name under which this machine holds that pin.
    known_as: Option<String>,
}

pub(super) fn run(args: &DiscoverArgs) -> Result<Exit, Failure> {
    let folder = folder().map_err(|error| keys::failure(&error))?;
    // Without a folder of keys no board is known.
    let peers = folder.peers().now().unwrap_or_default();
    let heard = listen(Duration::from_secs(args.seconds.into()), &peers).map_err(|error| {
        Failure::of(Exit::Failed, "this network cannot be listened to", &error, "see `ip address`")
    })?;
    for board in heard.values() {
        line(&board.text(args.json))?;
    }
    if heard.is_empty() && !args.json {
        say(&format!(
            "no board was heard within {} s: a gate lets itself be found by --announce",
            args.seconds
        ));
    }
    Ok(Exit::Done)
}

fn listen(within: Duration, peers: &[Peer]) -> Result<BTreeMap<String, Heard>, Error> {
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(SERVICE_TYPE)?;
    let mut heard = BTreeMap::new();
    let end = clock::now().0.saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    loop {
        let left = Duration::from_nanos(end.saturating_sub(clock::now().0));
        if left.is_zero() {
            break;
        }
        match events.recv_timeout(left) {
            Ok(ServiceEvent::ServiceResolved(service)) => {
                heard.insert(service.get_fullname().to_owned(), of_service(&service, peers));
            }
            Ok(ServiceEvent::ServiceRemoved(_, name)) => {
                heard.remove(&name);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = daemon.shutdown();
    Ok(heard)
}

fn of_service(service: &ResolvedService, peers: &[Peer]) -> Heard {
    let name = service.get_fullname().trim_end_matches(SERVICE_TYPE).trim_end_matches('.');
    let mut addresses: Vec<_> = service.get_addresses_v4().into_iter().collect();
    addresses.sort_unstable();
    let port = service.get_port();
    let pin = service.get_property_val_str(SERVICE_PIN).and_then(|text| text.parse().ok());
    let known = peers.iter().find(|peer| Some(peer.pin) == pin);
    Heard {
        // It goes to a terminal, and may be anybody's.
        name: name.chars().filter(|letter| !letter.is_control()).take(63).collect(),
        boards: addresses.iter().map(|address| format!("tls://{address}:{port}")).collect(),
        pin,
        known_as: known.map(|peer| peer.name.as_str().to_owned()),
    }
}

impl Heard {
    fn text(&self, as_json: bool) -> String {
        let Self { name, boards, pin, known_as } = self;
        let pin = pin.map(|pin| pin.to_string());
        if as_json {
            return json!({"name": name, "boards": boards, "pin": pin, "known_as": known_as})
                .to_string();
        }
        let at = boards.join(" ");
        match (known_as, pin) {
            (Some(known), _) => format!("{name}  {at}  known: --on tls://{known}"),
            (None, Some(pin)) => format!(
                "{name}  {at}  not known; once its pin is seen to be this on the board \
                 (wattline-agent keys show): wattline keys add HOST:PORT {pin}"
            ),
            (None, None) => format!("{name}  {at}  without a pin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_told_with_the_name_it_is_known_by_or_how_it_becomes_known() {
        let boards = vec!["tls://10.0.0.7:7425".to_owned()];
        let mut heard = Heard { name: "orin".into(), boards, pin: None, known_as: None };
        assert_eq!(heard.text(false), "orin  tls://10.0.0.7:7425  without a pin");
        heard.known_as = Some("orin:7425".into());
        assert!(heard.text(false).ends_with("known: --on tls://orin:7425"));
        let value: serde_json::Value = serde_json::from_str(&heard.text(true)).unwrap();
        assert_eq!(value["boards"][0], "tls://10.0.0.7:7425");
        assert_eq!(value["known_as"], "orin:7425");
    }
}
