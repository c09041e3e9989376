//! `wattline-agent serve` where it may not or cannot: sysexits.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use wattline_tests::{Agent, AgentFlags, Outcome, Sandbox, is_root, program};

/// Nobody, on every system.
const NOBODY: u32 = 65_534;

fn serve(sandbox: &Sandbox, flags: &AgentFlags) -> Outcome {
    let mut command = sandbox.command(program("wattline-agent"));
    command.arg("serve");
    flags.add_to(&mut command);
    sandbox.start(command).finish()
}

#[test]
fn a_socket_path_that_holds_something_else_is_a_wrong_configuration() {
    let sandbox = Sandbox::new();
    let flags = AgentFlags::named(&sandbox, "board");
    fs::write(&flags.socket, "mine").unwrap();
    serve(&sandbox, &flags).fails_with(78, &["board.sock"]);
    assert_eq!(fs::read(&flags.socket).unwrap(), b"mine");
    let flags = AgentFlags { socket: sandbox.path("no/such/folder.sock"), ..flags };
    serve(&sandbox, &flags).fails_with(78, &["no/such/folder.sock"]);
    let flags = AgentFlags { socket: sandbox.path(&"long".repeat(40)), ..flags };
    serve(&sandbox, &flags).fails_with(78, &["longlong"]);
}

#[test]
fn two_agents_do_not_share_a_spool_or_a_socket() {
    let sandbox = Sandbox::new();
    let first = Agent::start(&sandbox);
    let other = AgentFlags::named(&sandbox, "other");
    let same_spool = AgentFlags { spool: first.flags().spool.clone(), ..other.clone() };
    serve(&sandbox, &same_spool).fails_with(78, &["board-spool", "another agent"]);
    let same_socket = AgentFlags { socket: first.flags().socket.clone(), ..other };
    serve(&sandbox, &same_socket).fails_with(78, &["board.sock"]);
    sandbox.wattline(&["status", "--on", &first.address()]).ends_with(0);
    assert_eq!(first.terminate().code, Some(0));
}

#[test]
fn a_socket_left_by_a_killed_agent_is_taken_over() {
    let sandbox = Sandbox::new();
    let flags = Agent::start(&sandbox).kill();
    assert!(flags.socket.exists());
    let second = Agent::start_with(&sandbox, flags);
    sandbox.wattline(&["status", "--on", &second.address()]).ends_with(0);
}

#[test]
fn a_spool_that_is_a_file_is_a_wrong_configuration() {
    let sandbox = Sandbox::new();
    let flags = AgentFlags::named(&sandbox, "board");
    fs::write(&flags.spool, "mine").unwrap();
    serve(&sandbox, &flags).fails_with(78, &["board-spool"]);
    assert_eq!(fs::read(&flags.spool).unwrap(), b"mine");
    let flags = AgentFlags { tee: sandbox.path("no/such/tee"), ..AgentFlags::named(&sandbox, "b") };
    serve(&sandbox, &flags).fails_with(78, &["no/such/tee"]);
}

/// An agent of a user who owns nothing: of nobody where root runs the tests.
fn serve_unprivileged(sandbox: &Sandbox, flags: &AgentFlags) -> Outcome {
    let own = sandbox.path("wattline-agent");
    if !own.exists() {
        fs::copy(program("wattline-agent"), &own).unwrap();
    }
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sandbox.command(&own);
    command.current_dir("/").arg("serve");
    flags.add_to(&mut command);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    sandbox.start(command).finish()
}

#[test]
fn a_folder_that_is_not_permitted_is_told_from_a_wrong_one() {
    let sandbox = Sandbox::new();
    let closed = sandbox.path("closed");
    let spool = closed.join("spool");
    fs::create_dir_all(&spool).unwrap();
    let open = |name: &str| {
        let path = sandbox.path(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    };
    let own = open("own");
    let flags = AgentFlags {
        board: "--simulated".into(),
        more: Vec::new(),
        socket: own.join("a.sock"),
        spool: spool.clone(),
        tee: own.join("tee"),
    };
    // It cannot write into a spool that exists.
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o555)).unwrap();
    serve_unprivileged(&sandbox, &flags).fails_with(77, &["closed/spool"]);
    // It cannot make one.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let absent = AgentFlags { spool: closed.join("absent"), ..flags.clone() };
    serve_unprivileged(&sandbox, &absent).fails_with(77, &["closed/absent"]);
    let socket = AgentFlags { spool: own.join("spool"), socket: closed.join("a.sock"), ..flags };
    serve_unprivileged(&sandbox, &socket).fails_with(77, &["closed/a.sock"]);
    let tee = AgentFlags { socket: own.join("b.sock"), tee: closed.join("tee"), ..socket };
    serve_unprivileged(&sandbox, &tee).fails_with(77, &["closed/tee"]);
}
