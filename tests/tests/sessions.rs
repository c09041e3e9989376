//! Two sessions at most, one of which controls the run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use nix::sys::signal::Signal;
use wattline_tests::{Agent, Outcome, Process, SMALL, Sandbox, until};

const ANNA: &str = "anna@desk";
const BOB: &str = "bob@laptop";

fn start(sandbox: &Sandbox, who: &str, arguments: &[&str]) -> Process {
    let mut command = sandbox.command(wattline_tests::program("wattline"));
    command.env("WATTLINE_NAME", who).args(arguments);
    sandbox.start(command)
}

fn ask(sandbox: &Sandbox, who: &str, arguments: &[&str]) -> Outcome {
    start(sandbox, who, arguments).finish()
}

/// A run of Anna's that is collected, in the middle of a trial.
fn running(sandbox: &Sandbox, agent: &Agent) -> (Process, String) {
    let board = agent.address();
    let run = ["run", "--on", &board, "--out", "anna", "--batch", "1", "--windows", "99"];
    let host = start(sandbox, ANNA, &[&run[..], &SMALL].concat());
    agent.wait_for_a_trial();
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    let id = status["current"]["run"].as_str().unwrap().to_owned();
    (host, id)
}

fn sessions(sandbox: &Sandbox, board: &str) -> Vec<(String, String, bool)> {
    until("the board answers", || {
        let status = sandbox.wattline(&["status", "--on", board, "--json"]);
        // More than ten questions in a second are turned away: this one comes again.
        (status.code == Some(0)).then(|| told(&status.json()))
    })
}

fn told(status: &serde_json::Value) -> Vec<(String, String, bool)> {
    let session = |one: &serde_json::Value| {
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        (text("name"), text("purpose"), one["controls"].as_bool().unwrap())
    };
    status["sessions"].as_array().unwrap().iter().map(session).collect()
}

#[test]
fn a_third_session_is_refused_by_name_and_questions_are_answered_beside_the_two() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let (host, id) = running(&sandbox, &agent);
    let mut watch = start(&sandbox, BOB, &["watch", &id, "--on", &board]);
    until("bob watches", || watch.stdout().contains(" W").then_some(()));
    let there = sessions(&sandbox, &board);
    assert_eq!(
        there,
        [
            (ANNA.to_owned(), "wattline run".to_owned(), true),
            (BOB.to_owned(), "wattline watch".to_owned(), false)
        ]
    );
    let third = ask(&sandbox, "eve@far", &["fetch", &id, "--on", &board, "--out", "eve"]);
    third.fails_with(1, &["both sessions", ANNA, "controls the run", BOB, "wattline watch"]);
    // Another run is refused, and neither of the two has noticed any of this.
    let other = ["run", "--on", &board, "--detach"];
    ask(&sandbox, "eve@far", &[&other[..], &SMALL].concat()).fails_with(1, &["busy", &id]);
    assert!(!watch.is_over(), "{}", watch.stderr());
    watch.signal(Signal::SIGINT);
    watch.finish().ends_with(130);
    // There is a seat again.
    until("a seat is free", || (sessions(&sandbox, &board).len() == 1).then_some(()));
    let mut fetch = start(&sandbox, "eve@far", &["fetch", &id, "--on", &board, "--out", "eve"]);
    until("eve fetches", || (sessions(&sandbox, &board).len() == 2).then_some(()));
    assert!(!fetch.is_over(), "{}", fetch.stderr());
    host.signal(Signal::SIGINT);
    host.finish().ends_with(130);
    assert!(matches!(fetch.finish().code, Some(0 | 4)));
}

#[test]
fn only_who_controls_stops_a_run_unless_it_is_taken_over() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let (host, id) = running(&sandbox, &agent);
    let refused = ask(&sandbox, BOB, &["stop", &id, "--on", &board]);
    refused.fails_with(1, &["controlled by", ANNA, "--take-over"]);
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert_eq!(status["current"]["run"], id.as_str(), "the run goes on");
    let taken = ask(&sandbox, BOB, &["stop", &id, "--on", &board, "--take-over"]).ends_with(0);
    assert!(taken.stderr.contains("taken over from") && taken.stderr.contains(ANNA), "{taken:?}");
    let outcome = host.finish();
    assert!(matches!(outcome.code, Some(0 | 4)), "all of a run that was stopped: {outcome:#?}");
}

#[test]
fn the_same_person_stops_a_run_from_another_terminal() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let (host, id) = running(&sandbox, &agent);
    ask(&sandbox, ANNA, &["stop", &id, "--on", &board]).ends_with(0);
    assert!(matches!(host.finish().code, Some(0 | 4)));
}

#[test]
fn a_run_that_was_left_is_anyones_to_stop() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let run = ["run", "--on", &board, "--detach", "--batch", "1", "--windows", "99"];
    let id = ask(&sandbox, ANNA, &[&run[..], &SMALL].concat()).ends_with(0).last_line().to_owned();
    agent.wait_for_a_trial();
    assert_eq!(sessions(&sandbox, &board), []);
    ask(&sandbox, BOB, &["stop", &id, "--on", &board]).ends_with(0);
}

#[test]
fn a_host_that_falls_silent_loses_seat_and_control_by_its_heartbeat() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let (host, id) = running(&sandbox, &agent);
    // A laptop whose lid is closed: the link is there, and nobody at its end.
    host.signal(Signal::SIGSTOP);
    ask(&sandbox, BOB, &["stop", &id, "--on", &board]).fails_with(1, &[ANNA]);
    until("the silent session ends", || sessions(&sandbox, &board).is_empty().then_some(()));
    ask(&sandbox, BOB, &["stop", &id, "--on", &board]).ends_with(0);
    host.signal(Signal::SIGCONT);
    let outcome = host.finish();
    assert!(matches!(outcome.code, Some(0 | 4)), "it comes back and has all: {outcome:#?}");
}

#[test]
fn a_host_that_is_cut_off_takes_its_own_place_again_and_still_controls() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let (host, id) = running(&sandbox, &agent);
    let board = agent.address();
    let flags = agent.kill();
    let agent = Agent::start_with(&sandbox, flags);
    until("anna is back", || (sessions(&sandbox, &board).len() == 1).then_some(()));
    assert!(sessions(&sandbox, &board)[0].2, "the host that runs it controls it again");
    ask(&sandbox, BOB, &["stop", &id, "--on", &board]).fails_with(1, &[ANNA]);
    host.signal(Signal::SIGINT);
    host.finish().ends_with(130);
    assert!(agent.recorded().count() > 0);
}
