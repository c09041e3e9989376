//! `wattline-agent stdio`: the far end of an SSH link, over plain pipes.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use wattline_protocol::command::{Command as Ask, Reply, Side};
use wattline_protocol::session::SessionError;
use wattline_protocol::session::host::Event;
use wattline_tests::{Agent, AgentFlags, Pipe, Sandbox, Say, program, while_true};

fn stdio(sandbox: &Sandbox, flags: &AgentFlags) -> std::process::Command {
    let mut command = sandbox.command(program("wattline-agent"));
    command.arg("stdio");
    flags.add_to(&mut command);
    command
}

fn assert_simulated_agent(event: &Event) {
    let Event::Ready(hello) = event else { panic!("not ready: {event:?}") };
    let Side::Agent { simulated, epoch, .. } = &hello.side else { panic!("{hello:?}") };
    assert!(simulated.is_some() && *epoch == 1, "{hello:?}");
}

#[test]
fn stdio_starts_an_agent_where_none_serves_and_the_agent_outlives_the_link() {
    let sandbox = Sandbox::new();
    let flags = AgentFlags::named(&sandbox, "board");
    let mut pipe = Pipe::open(stdio(&sandbox, &flags), Say::Hello);
    assert_simulated_agent(&pipe.next_event());
    let Reply::Board(board) = pipe.ask(Ask::Describe) else { panic!("no description") };
    let names: Vec<_> = board.rails.iter().map(|rail| rail.name.as_str().to_owned()).collect();
    assert_eq!(names, ["VDD_IN", "VDD_CPU_GPU", "VDD_SOC"]);
    drop(pipe);
    // The second link meets the same agent: its epoch is still the first.
    let mut pipe = Pipe::open(stdio(&sandbox, &flags), Say::Hello);
    assert_simulated_agent(&pipe.next_event());
    assert!(matches!(pipe.ask(Ask::Shutdown), Reply::Ending));
    while_true("the agent is there", || !sandbox.processes().is_empty() && flags.socket.exists());
}

#[test]
fn stdio_bridges_to_an_agent_that_serves() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let mut pipe = Pipe::open(stdio(&sandbox, agent.flags()), Say::Hello);
    assert_simulated_agent(&pipe.next_event());
    let Reply::Status(status) = pipe.ask(Ask::Status) else { panic!("no status") };
    assert!(status.current.is_none() && status.runs.is_empty());
}

#[test]
fn a_host_of_a_later_protocol_is_told_which_versions_are_spoken() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let mut pipe = Pipe::open(stdio(&sandbox, agent.flags()), Say::LaterVersion);
    let mut events = vec![pipe.next_event()];
    if matches!(events[0], Event::Ready(_)) {
        events.push(pipe.next_event());
    }
    let last = events.pop();
    let versions = Event::Failed(SessionError::Versions { min: 1, max: 1 });
    assert_eq!(last, Some(versions));
}
