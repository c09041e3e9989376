//! `doctor` on the host against an agent that serves.
//!
//! What this machine has of rails and rights differs from machine to machine:
//! what is told is looked at, not the exit status.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use std::fs;

use wattline_tests::{Agent, AgentFlags, Sandbox};

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

/// A board whose only monitor is an INA3221 at its kernel driver.
fn tree(sandbox: &Sandbox) -> String {
    let root = sandbox.path("tree");
    let hwmon = root.join("bus/i2c/devices/1-0040/hwmon/hwmon1");
    fs::create_dir_all(&hwmon).unwrap();
    let client = root.join("bus/i2c/devices/1-0040");
    std::os::unix::fs::symlink("../../drivers/ina3221", client.join("driver")).unwrap();
    fs::write(client.join("name"), "ina3221\n").unwrap();
    for (name, text) in [
        ("name", "ina3221"),
        ("in1_label", "ONLY_HERE"),
        ("in1_input", "5000"),
        ("curr1_input", "800"),
        ("shunt1_resistor", "5000"),
    ] {
        fs::write(hwmon.join(name), text).unwrap();
    }
    root.display().to_string()
}

#[test]
fn a_board_is_looked_at_by_the_agent_that_serves_it() {
    let sandbox = Sandbox::new();
    let board = format!("--sysfs-root={}", tree(&sandbox));
    let agent =
        Agent::start_with(&sandbox, AgentFlags { board, ..AgentFlags::named(&sandbox, "board") });
    let checks = checks(&sandbox, &agent.address());
    let found = |name: &str| {
        let one = checks.iter().find(|one| one["check"] == name && one["place"] == "board");
        one.unwrap_or_else(|| panic!("{name} is not told: {checks:#?}"))["found"].clone()
    };
    // The tree and the spool are flags of the agent's alone.
    assert_eq!(found("rails"), "ONLY_HERE");
    assert_eq!(found("spool"), agent.flags().spool.display().to_string());
    assert!(found("session").as_str().unwrap().contains("answers"));
}

#[test]
fn a_board_is_not_looked_at_while_a_run_goes_on() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let run = ["run", "--on", &agent.address(), "--detach", "--networks", "resnet18"];
    let run = sandbox.wattline(&run).ends_with(0).last_line().to_owned();
    let checks = checks(&sandbox, &agent.address());
    let told = checks.iter().find(|one| one["check"] == "checks");
    let told = told.unwrap_or_else(|| panic!("nothing tells of the run: {checks:#?}"));
    assert_eq!((&told["good"], &told["warning"]), (&true.into(), &true.into()));
    assert!(told["found"].as_str().unwrap().contains(&run), "{told}");
    let _ = sandbox.wattline(&["stop", &run, "--on", &agent.address()]).ends_with(0);
}
