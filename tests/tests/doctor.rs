//! `doctor` on the host against an agent that serves.
//!
//! What this machine has of rails and rights differs from machine to machine:
//! what is told is looked at, not the exit status.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use wattline_tests::{Agent, Sandbox};

fn checks(sandbox: &Sandbox, board: &str) -> Vec<serde_json::Value> {
    let told = sandbox.wattline(&["doctor", board, "--json"]).stdout;
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_hosts_doctor_tells_the_session_and_the_clocks_offset_with_its_bound() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let checks = checks(&sandbox, &agent.address());
    let of = |name: &str| {
        let found = checks.iter().find(|one| one["check"] == name && one["place"] == "board");
        found.unwrap_or_else(|| panic!("{name} is not told: {checks:#?}")).clone()
    };
    assert_eq!(of("session")["good"], true);
    let clock = of("clock")["found"].as_str().unwrap().to_owned();
    assert!(clock.starts_with("board - host = ") && clock.ends_with(" ms"), "{clock}");
    for name in ["throttling", "kernels", "scheduling", "disk"] {
        assert!(!of(name)["found"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_board_that_does_not_answer_is_told_with_its_cure() {
    let sandbox = Sandbox::new();
    let checks = checks(&sandbox, &format!("unix:{}", sandbox.path("nobody.sock").display()));
    let session = checks.iter().find(|one| one["check"] == "session").unwrap();
    assert_eq!(session["good"], false);
    assert!(session["cure"].as_str().unwrap().contains("start the agent"), "{session}");
}
