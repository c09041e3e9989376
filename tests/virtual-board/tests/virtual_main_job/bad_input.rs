//! What is refused while the board is fresh, and leaves it as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use wattline_tests::program;
use wattline_virtual_board::guest::Guest;

/// What a deployment could have changed: names, sizes and times.
const STATE: &str = "find /etc /opt /usr/local /var/lib/wattline /home/board -xdev \
                     -printf '%p %s %T@ %l\\n' 2>/dev/null | sort";

pub(crate) fn is_refused(guest: &Guest) {
    let before = guest.root(STATE);
    another_host_key(guest);
    no_sudo(guest);
    another_processor(guest);
    a_port_in_use(guest);
    a_full_disk(guest);
    assert_eq!(guest.root(STATE), before, "a refused deployment changed the board");
    println!("refused, the board unchanged: host key, no sudo, processor, port in use, full disk");
}

fn another_host_key(guest: &Guest) {
    let (known, held) = (guest.sandbox.path("known_hosts"), guest.sandbox.path("held"));
    let told = fs::read_to_string(&known).unwrap();
    // The user's own key stands for somebody else's host key.
    let other = fs::read_to_string(guest.sandbox.path("key.pub")).unwrap();
    let place = told.split(' ').next().unwrap();
    fs::rename(&known, &held).unwrap();
    fs::write(&known, format!("{place} {other}")).unwrap();
    let refused = guest.wattline(&["deploy", &guest.address()]);
    fs::rename(&held, &known).unwrap();
    let _ = refused.fails_with(1, &["host key", "ssh-keygen -R"]);
}

fn no_sudo(guest: &Guest) {
    let refused = guest.wattline(&["deploy", &guest.visitor()]);
    let _ = refused.fails_with(3, &["visitor", "sudo"]);
}

fn another_processor(guest: &Guest) {
    let foreign: PathBuf = guest.sandbox.path("foreign");
    let mut bytes = fs::read(program("wattline-agent")).unwrap();
    // e_machine of the ELF header: aarch64.
    bytes[18] = 0xb7;
    fs::write(&foreign, bytes).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = foreign.display().to_string();
    let refused = guest.wattline(&["deploy", &guest.address(), "--agent", &agent]);
    let _ = refused.fails_with(3, &["is a program for", "the board is"]);
}

/// sshd's own.
fn a_port_in_use(guest: &Guest) {
    let refused = guest.wattline(&["deploy", &guest.address(), "--tls", "22"]);
    let _ = refused.fails_with(3, &["port 22", "in use"]);
}

/// Once an agent is there: nobody could be let in, and the network would see the port.
pub(crate) fn a_pin_that_is_missing(guest: &Guest) {
    let gate = "wattline-agent gate --keys keys --listen 0.0.0.0:7425 \
                --socket /run/wattline/agent.sock";
    let refused = guest.sh(gate);
    assert!(guest.root("cat /proc/net/tcp").lines().all(|line| !line.contains(":1D01 ")));
    let _ = refused.fails_with(78, &["no key of a host", "keys add"]);
    println!("refused: a gate without a pin");
}

fn a_full_disk(guest: &Guest) {
    // All but 4 MiB of what others than root may take.
    let _ = guest.root(
        "free=$(df -Pk / | awk 'NR == 2 { print $4 }'); fallocate -l $((free - 4096))K /filled",
    );
    let refused = guest.wattline(&["deploy", &guest.address()]);
    let _ = guest.root("rm /filled");
    let _ = refused.fails_with(3, &["KiB free"]);
}
