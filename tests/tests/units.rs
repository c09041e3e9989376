//! The systemd units: sandboxed as far as they say.
//!
//! Starts nothing; `systemd-analyze security --offline` reads the files
//! (systemd 250 or later).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name).canonicalize().unwrap()
}

/// Fails where the exposure of a unit is above `tenths` / 10.
fn exposure_is_at_most(name: &str, tenths: u32) {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={tenths}"))
        .arg(unit(name))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Overall exposure level"), "{said}");
    assert!(output.status.success(), "{name}: {text}");
}

#[test]
fn the_sampler_is_exposed_to_0_8_at_most() {
    exposure_is_at_most("wattline-agent.service", 8);
}

#[test]
fn the_runner_is_exposed_to_1_0_at_most() {
    exposure_is_at_most("wattline-runner@.service", 10);
}

#[test]
fn the_service_restores_drivers_after_each_of_its_ends_as_root() {
    let service = std::fs::read_to_string(unit("wattline-agent.service")).unwrap();
    let deployed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/board/10-deploy.conf");
    let deployed = std::fs::read_to_string(deployed).unwrap();
    for (text, program) in [(service, "/usr/bin"), (deployed, "/opt/wattline/current/bin")] {
        let spool = text.split("--spool ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let restore = format!("ExecStopPost=-+{program}/wattline-agent restore --spool ");
        let line = text.lines().find(|line| line.starts_with(&restore)).unwrap();
        assert_eq!(line.strip_prefix(&restore), spool);
    }
}

#[test]
fn a_unit_without_a_sandbox_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("bare.service");
    std::fs::write(&bare, "[Service]\nExecStart=/bin/true\n").unwrap();
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=10"])
        .arg(&bare)
        .output()
        .unwrap();
    assert!(!output.status.success(), "the threshold is not looked at");
}
