//! TLS with pinned keys between the real binaries, on loopback.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::sys::signal::Signal;
use wattline_tests::{Agent, Frames, Gate, SMALLEST, Sandbox, free_port, host_pin, program, until};

/// A board with its agent and an open gate; `known`: keys were exchanged.
fn board(sandbox: &Sandbox, known: bool) -> (Agent, Gate) {
    let agent = Agent::start(sandbox);
    let gate = Gate::listening(sandbox, &agent);
    if known {
        gate.exchange_keys(sandbox, &gate.place);
    }
    (agent, gate)
}

fn status(sandbox: &Sandbox, address: &str) -> wattline_tests::Outcome {
    sandbox.wattline(&["status", "--on", address])
}

#[test]
fn a_run_over_tls_ends_with_a_report_and_holds_every_frame() {
    let sandbox = Sandbox::new();
    let (agent, gate) = board(&sandbox, true);
    let outcome = sandbox.small_run(&gate.address(), "run");
    // 4: a busy machine left a gap in the window.
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    assert!(outcome.stderr.contains("simulated"), "{outcome:#?}");
    assert!(sandbox.work().join(outcome.last_line()).is_file());
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, agent.recorded());
}

#[test]
fn a_gate_that_lets_itself_be_found_is_found_with_its_pin() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let gate = Gate::announced(&sandbox, &agent);
    let quiet = Gate::listening(&sandbox, &agent);
    let find = || {
        let told = sandbox.wattline(&["discover", "--seconds", "1", "--json"]).ends_with(0).stdout;
        let boards = told.lines().map(|line| serde_json::from_str(line).unwrap());
        boards.collect::<Vec<serde_json::Value>>()
    };
    let of = |boards: &[serde_json::Value], address: String| {
        let found = boards.iter().find(|board| board["boards"][0] == address);
        found.cloned()
    };
    let found = until("the gate is heard", || of(&find(), gate.address()));
    assert_eq!(found["pin"], gate.pin(&sandbox));
    assert_eq!(found["known_as"], serde_json::Value::Null);
    gate.exchange_keys(&sandbox, &gate.place);
    let found = until("the gate is heard again", || of(&find(), gate.address()));
    assert_eq!(found["known_as"], gate.place);
    assert_eq!(of(&find(), quiet.address()), None, "a gate was heard that did not ask for it");
    let _ = status(&sandbox, &gate.address()).ends_with(0);
}

#[test]
fn keys_are_private_files_and_their_verbs_say_what_they_do() {
    let sandbox = Sandbox::new();
    let pin = host_pin(&sandbox);
    assert!(pin.starts_with("wattline-key:ed25519:"), "{pin}");
    let folder = sandbox.path("home/config/wattline/keys");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("own.key"), mode(".")), (0o600, 0o700));
    assert_eq!(host_pin(&sandbox), pin, "a second key was made");
    let list = |sandbox: &Sandbox| sandbox.wattline(&["keys", "list"]).ends_with(0).stdout;
    assert_eq!(list(&sandbox), "");
    let _ = sandbox.wattline(&["keys", "add", "orin:7425", &pin]).ends_with(0);
    assert_eq!(list(&sandbox), format!("{pin} orin:7425\n"));
    let _ = sandbox.wattline(&["keys", "revoke", "orin:7425"]).ends_with(0);
    assert_eq!(list(&sandbox), "");
    let gone = sandbox.wattline(&["keys", "revoke", "orin:7425"]);
    gone.fails_with(1, &["orin:7425", "keys list"]);
    let _ = sandbox.wattline(&["keys", "add", "orin:7425", "ssh-ed25519"]).ends_with(2);
    sandbox.wattline(&["keys", "settle"]).fails_with(1, &["keys rotate"]);
    fs::set_permissions(folder.join("own.key"), fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.wattline(&["keys", "show"]).fails_with(1, &["own.key", "chmod 600"]);
}

#[test]
fn each_missing_or_wrong_key_is_named_with_its_mend() {
    let sandbox = Sandbox::new();
    let (_agent, gate) = board(&sandbox, false);
    let address = gate.address();
    status(&sandbox, &address).fails_with(1, &[&address, "no key of", "--tls PORT"]);
    // The board's key is known, and this machine has none.
    let board_pin = gate.pin(&sandbox);
    let _ = sandbox.wattline(&["keys", "add", &gate.place, &board_pin]).ends_with(0);
    status(&sandbox, &address).fails_with(1, &["own.key", "keys show"]);
    // It has one that the board does not take.
    let own = host_pin(&sandbox);
    status(&sandbox, &address).fails_with(1, &["does not take this side's key", "keys add"]);
    until("the gate says whose key it was", || gate.said().contains(&own).then_some(()));
    let _ = gate.keys(&sandbox, &["add", "ana@desk", &own]).ends_with(0);
    let _ = status(&sandbox, &address).ends_with(0);
    // Another board's key under this one's name: somebody stands in between.
    let _ = sandbox.wattline(&["keys", "revoke", &gate.place]).ends_with(0);
    let _ = sandbox.wattline(&["keys", "add", &gate.place, &own]).ends_with(0);
    status(&sandbox, &address).fails_with(1, &[&board_pin, "not among the pins", "in between"]);
    // The right key under another board's name is no key of this one.
    let _ = sandbox.wattline(&["keys", "add", "other:7425", &board_pin]).ends_with(0);
    status(&sandbox, &address).fails_with(1, &["not among the pins"]);
    let pins = sandbox.path("home/config/wattline/keys/peers.pins");
    fs::write(pins, "nonsense\n").unwrap();
    status(&sandbox, &address).fails_with(1, &["peers.pins line 1", "PIN NAME"]);
}

#[test]
fn what_is_no_gate_is_told_apart() {
    let sandbox = Sandbox::new();
    let own = host_pin(&sandbox);
    let asked = |place: &str| {
        let _ = sandbox.wattline(&["keys", "add", place, &own]).ends_with(0);
        status(&sandbox, &format!("tls://{place}"))
    };
    let nobody = format!("127.0.0.1:{}", free_port());
    asked(&nobody).fails_with(1, &[&nobody, "nobody listens there", "wattline-gate"]);
    let plain = serving(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    asked(&plain).fails_with(1, &["is not TLS", "port of a gate"]);
    let older = serving(|mut stream| {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello);
        let _ = stream.write_all(&server_hello_of_tls_1_2(&hello));
        let _ = stream.read(&mut hello);
    });
    asked(&older).fails_with(1, &["no TLS 1.3", "port of a gate"]);
    let silent = serving(|stream| {
        let _ = (&stream).read(&mut [0; 4096]);
        let _ = (&stream).read(&mut [0; 4096]);
    });
    asked(&silent).fails_with(1, &["said nothing within 5 s"]);
}

/// Serves one connection after another as long as the test lives.
fn serving(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().for_each(|stream| answer(stream.unwrap())));
    place
}

/// RFC 5246 §7.4.1.3: no supported_versions, so that 1.2 is meant.
fn server_hello_of_tls_1_2(client_hello: &[u8]) -> Vec<u8> {
    let session = &client_hello[44..44 + usize::from(client_hello[43])];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(u8::try_from(session.len()).unwrap());
    hello.extend(session);
    hello.extend([0xc0, 0x2b, 0]);
    record_of_handshake(2, &hello)
}

/// One handshake message in one record.
fn record_of_handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, len_high, len_low] =
        [0, body.len() / 256, body.len() % 256].map(|n| u8::try_from(n).unwrap());
    let message = [&[kind, 0, len_high, len_low], body].concat();
    let (high, low) = (message.len() / 256, message.len() % 256);
    let head = [22, 3, 1, u8::try_from(high).unwrap(), u8::try_from(low).unwrap()];
    [&head[..], &message].concat()
}

#[test]
fn a_peer_of_the_gate_that_speaks_something_else_is_sent_away() {
    let sandbox = Sandbox::new();
    let (_agent, gate) = board(&sandbox, true);
    // RFC 5246 §7.4.1.2 with X25519 and Ed25519, without supported_versions: TLS 1.2.
    let mut older = vec![3, 3];
    older.extend([7; 32]);
    older.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    older.extend([0, 10, 0, 4, 0, 2, 0, 29]);
    older.extend([0, 13, 0, 4, 0, 2, 8, 7]);
    let mut stream = TcpStream::connect(&gate.place).unwrap();
    stream.write_all(&record_of_handshake(1, &older)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // RFC 8446 §6.2: alert, fatal, protocol_version (70).
    assert_eq!((answer[0], &answer[3..]), (21, &[0, 2, 2, 70][..]), "{answer:?}");
    until("the gate says why", || gate.said().contains("no TLS 1.3").then_some(()));

    let mut stream = TcpStream::connect(&gate.place).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = stream.read_to_end(&mut answer);
    until("the gate says why", || gate.said().contains("is not TLS").then_some(()));
    let _ = status(&sandbox, &gate.address()).ends_with(0);
}

#[test]
fn peers_that_prove_nothing_are_few_and_have_little_time() {
    let sandbox = Sandbox::new();
    let (_agent, gate) = board(&sandbox, true);
    let half_open: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(&gate.place).unwrap()).collect();
    // The ninth is closed at once, while the eight are held.
    let mut ninth = TcpStream::connect(&gate.place).unwrap();
    assert!(matches!(ninth.read(&mut [0; 16]), Ok(0) | Err(_)));
    until("the gate says that it turns peers away", || {
        gate.said().contains("too many at once").then_some(())
    });
    // Their time is over without a word of theirs, and the next host comes in.
    for mut stream in half_open {
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
    }
    let _ = status(&sandbox, &gate.address()).ends_with(0);
}

#[test]
fn a_gate_that_could_let_nobody_in_or_has_no_port_says_so() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let socket = agent.flags().socket.display().to_string();
    let keys = sandbox.path("keys").display().to_string();
    let gate = |place: &str| {
        let words = ["gate", "--listen", place, "--keys", &keys, "--socket", &socket];
        sandbox.agent(&words)
    };
    gate("0.0.0.0:0").fails_with(78, &["0.0.0.0:0", "peers.pins", "--tls PORT", "keys add"]);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = taken.local_addr().unwrap().to_string();
    gate(&place).fails_with(78, &[&place, "in use", "ss -ltnp"]);
    gate("192.0.2.1:7425").fails_with(78, &["192.0.2.1:7425"]);
    fs::write(sandbox.path("keys/peers.pins"), "nonsense orin\n").unwrap();
    gate("127.0.0.1:0").fails_with(78, &["peers.pins line 1"]);
    fs::remove_file(sandbox.path("keys/peers.pins")).unwrap();
    let own = sandbox.path("keys/own.key");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o604)).unwrap();
    gate("127.0.0.1:0").fails_with(78, &["own.key", "chmod 600"]);
    let without = sandbox.agent(&["gate", "--keys", &keys]).ends_with(2);
    assert!(without.stderr.contains("--listen") && without.stderr.contains("--dial"));
}

#[test]
fn a_key_that_is_revoked_in_the_middle_of_a_run_is_out_and_the_run_goes_on() {
    let sandbox = Sandbox::new();
    let (agent, gate) = board(&sandbox, true);
    let address = gate.address();
    let run = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let host = sandbox.wattline_started(&run);
    agent.wait_for_a_trial();
    let _ = gate.keys(&sandbox, &["revoke", "ana@desk"]).ends_with(0);
    host.finish().fails_with(1, &["does not take this side's key"]);
    until("the gate says so", || gate.said().contains("its key was revoked").then_some(()));
    // The board's run is the board's business; let in again, the host has all of it.
    let _ = gate.keys(&sandbox, &["add", "ana@desk", &host_pin(&sandbox)]).ends_with(0);
    let fetched = sandbox.wattline(&["fetch", "run"]);
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, agent.recorded());
}

#[test]
fn a_board_that_is_revoked_on_the_host_is_left_in_the_middle_of_a_run() {
    let sandbox = Sandbox::new();
    let (agent, gate) = board(&sandbox, true);
    let address = gate.address();
    let run = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let host = sandbox.wattline_started(&run);
    agent.wait_for_a_trial();
    let _ = sandbox.wattline(&["keys", "revoke", &gate.place]).ends_with(0);
    host.finish().fails_with(1, &["no key of"]);
}

#[test]
fn both_sides_rotate_their_keys_without_a_link_that_fails() {
    let sandbox = Sandbox::new();
    let (_agent, gate) = board(&sandbox, true);
    let address = gate.address();
    let reached = || status(&sandbox, &address).ends_with(0);
    let old_host = host_pin(&sandbox);
    let _ = sandbox.wattline(&["keys", "rotate"]).ends_with(0);
    let new_host = host_pin(&sandbox);
    assert_ne!(old_host, new_host);
    // The board knows the old key alone; then both; then the new one alone.
    let _ = reached();
    let _ = gate.keys(&sandbox, &["add", "ana@desk", &new_host]).ends_with(0);
    let _ = reached();
    let _ = gate.keys(&sandbox, &["revoke", &old_host]).ends_with(0);
    let _ = reached();
    let _ = sandbox.wattline(&["keys", "settle"]).ends_with(0);
    let _ = reached();

    let old_board = gate.pin(&sandbox);
    let _ = gate.keys(&sandbox, &["rotate"]).ends_with(0);
    let _ = reached();
    let _ = sandbox.wattline(&["keys", "add", &gate.place, &gate.pin(&sandbox)]).ends_with(0);
    let _ = reached();
    let _ = gate.keys(&sandbox, &["settle"]).ends_with(0);
    let _ = reached();
    let _ = sandbox.wattline(&["keys", "revoke", &old_board]).ends_with(0);
    let _ = reached();
}

#[test]
fn a_board_behind_nat_dials_its_host_and_a_run_comes_over_that() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let place = format!("127.0.0.1:{}", free_port());
    let gate = Gate::dialling(&sandbox, &agent, &place);
    let address = format!("listen://{place}/orin");
    status(&sandbox, &address).fails_with(1, &["no key of orin", "keys add"]);
    gate.exchange_keys(&sandbox, "orin");
    let outcome = sandbox.small_run(&address, "run");
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, agent.recorded());
    let taken = TcpListener::bind(&place).unwrap();
    status(&sandbox, &address).fails_with(1, &["cannot listen there", "ss -ltnp"]);
    drop(taken);
}

#[test]
fn an_agent_that_is_gone_behind_its_gate_is_named() {
    let sandbox = Sandbox::new();
    let (agent, gate) = board(&sandbox, true);
    let address = gate.address();
    let _ = agent.terminate();
    let ended = status(&sandbox, &address);
    ended.fails_with(1, &[&address, "closed the connection", "wattline-agent"]);
    until("the gate says so", || gate.said().contains("no agent serves").then_some(()));
}

#[test]
fn a_gate_that_is_ended_and_opened_again_costs_a_run_nothing() {
    let sandbox = Sandbox::new();
    let (agent, gate) = board(&sandbox, true);
    let (place, address) = (gate.place.clone(), gate.address());
    let run = [&["run", "--on", &address, "--out", "run"], &SMALLEST[..]].concat();
    let host = sandbox.wattline_started(&run);
    agent.wait_for_a_trial();
    drop(gate);
    let mut command = sandbox.command(program("wattline-agent"));
    command.args(["gate", "--listen", &place, "--keys"]).arg(sandbox.path("board-keys"));
    command.arg("--socket").arg(&agent.flags().socket);
    let again = sandbox.start(command);
    let outcome = host.finish();
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?} {}", again.stderr());
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, agent.recorded());
    again.signal(Signal::SIGTERM);
}
