//! A shortened night on the virtual board, with an upgrade before it.
//!
//! One campaign lives through all of it: a new version and the way back, a version
//! that does not serve, a link that is cut, an sshd that is restarted, an agent that
//! is killed, a full disk and two cuts of the power. Ignored without QEMU:
//! `make virtual-board`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use wattline_protocol::frame;
use wattline_protocol::record::{Record, RunOutcome, TrialOutcome};
use wattline_tests::{Frames, program, until, until_within};
use wattline_virtual_board::guest::{Guest, PATIENCE};
use wattline_virtual_board::rails;

/// A network of 4 channels: inferences of milliseconds, also emulated.
const TINY: &str = include_str!("../../fuzz/corpus/graphs/tiny.toml");
/// Trials of the campaign: two batch sizes, forty windows each. They take longer than
/// all that befalls the board.
const TRIALS: u32 = 80;
/// What some seconds of sampling add to the log at least, in bytes.
const SOME_TRANSFERS: u64 = 60_000;

#[test]
#[ignore = "needs QEMU and an image: make virtual-board"]
fn a_campaign_lives_through_an_upgrade_and_a_night_and_nothing_durable_is_missing() {
    let mut guest = Guest::boot();
    rails::configure(&guest);
    let board = guest.address();
    let _ = guest.wattline(&["deploy", &board]).ends_with(0);
    let run = started(&guest);
    println!("run {run}");

    upgrade_and_rollback(&guest);
    println!("upgraded, rolled back, put back");
    disturb(&guest, &run);
    for cut in 1..=2 {
        sampled(&guest);
        guest.cut_power();
        guest.power_on();
        println!("power cut {cut}");
    }

    let fetched = guest.wattline(&["fetch", &run, "--on", &board, "--json"]);
    // 4: windows that the night cut are said to be so.
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    println!("{}", fetched.stdout);
    let recording = guest.sandbox.work().join("wattline-runs").join(&run).join("recording.sqlite");
    let frames = Frames::of_recording(&recording);
    assert_eq!(fetched.json()["frames_sha256"], frames.sha256());
    assert_holes_are_stated(&frames, &Frames::gaps(&recording));
    assert_is_complete(&frames.records());
    let again = guest.wattline(&["fetch", &run, "--on", &board, "--json"]);
    assert_eq!(again.json()["frames_sha256"], frames.sha256(), "a second fetch is another");
}

fn started(guest: &Guest) -> String {
    let tiny = rails::bring_graph(guest, TINY);
    let outcome = guest.wattline(&[
        "run",
        "--on",
        &guest.address(),
        "--detach",
        "--quick",
        "--networks",
        &tiny,
        "--size",
        "32",
        "--batch",
        "1,2",
        "--windows",
        "40",
        "--window-s-min",
        "4",
    ]);
    outcome.ends_with(0).last_line().to_owned()
}

/// Waits until the run has sampled some more.
fn sampled(guest: &Guest) {
    let log = guest.sandbox.path("transfers.log");
    let size = || fs::metadata(&log).unwrap().len();
    let due = size() + SOME_TRANSFERS;
    until_within(PATIENCE, "the run samples", || (size() > due).then_some(()));
}

fn upgrade_and_rollback(guest: &Guest) {
    let board = guest.address();
    let current = || guest.root("readlink /opt/wattline/current");
    let old = current();
    sampled(guest);
    // The same program with a byte more is another version.
    let mut bytes = fs::read(program("wattline-agent")).unwrap();
    bytes.push(0);
    let other = written(guest, "other-agent", &bytes);
    let _ = guest.wattline(&["deploy", &board, "--agent", &other]).ends_with(0);
    let new = current();
    assert_ne!(new, old, "nothing was upgraded");
    sampled(guest);
    let _ = guest.wattline(&["deploy", &board, "--rollback"]).ends_with(0);
    assert_eq!(current(), old, "nothing was rolled back");
    sampled(guest);
    // It says its version and cannot serve.
    let broken = written(guest, "broken-agent", &fs::read("/bin/echo").unwrap());
    let refused = guest.wattline(&["deploy", &board, "--agent", &broken]);
    let _ = refused.fails_with(1, &["does not answer", "the version before runs"]);
    assert_eq!(current(), old, "a version that does not serve was left");
    sampled(guest);
}

fn written(guest: &Guest, name: &str, bytes: &[u8]) -> String {
    let path = guest.sandbox.file(name, bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// All that befalls a night but the power.
fn disturb(guest: &Guest, run: &str) {
    let board = guest.address();
    // A host that collects as long as it can.
    let mut host = guest.wattline_started(&["watch", run, "--on", &board]);
    sampled(guest);
    guest.set_link(false);
    sampled(guest);
    guest.set_link(true);
    println!("link cut");
    // Not from within: the session that asks for it goes with the others.
    let _ = guest.root(
        "systemd-run --quiet --on-active=1 /bin/sh -c \
         \"systemctl restart ssh; pkill -f 'sshd: board@'\"; sleep 0.1",
    );
    sampled(guest);
    until("the board lets its user in again", || (guest.sh("true").code == Some(0)).then_some(()));
    println!("sshd restarted");
    let _ = guest.root("systemctl kill --signal KILL --kill-who main wattline-agent");
    sampled(guest);
    println!("agent killed");
    let _ = guest.root("fallocate -l $(df -Pk / | awk 'NR == 2 { print $4 }')K /filled");
    sampled(guest);
    let _ = guest.root("rm /filled");
    println!("disk filled");
    host.kill();
}

/// Every number from 0 to a stream's end is there once, or among the gaps.
fn assert_holes_are_stated(frames: &Frames, gaps: &[(u32, u32, u64, u64)]) {
    let mut next = BTreeMap::new();
    let mut holes = 0;
    for (identity, bytes) in frames.iter() {
        let stream = (identity.epoch, identity.stream);
        let due: &mut u64 = next.entry(stream).or_insert(0);
        if identity.sequence != *due {
            assert!(identity.sequence > *due, "an overlap at {identity:?}");
            let is_stated = gaps.iter().any(|&(epoch, of, first, end)| {
                (epoch, of) == stream && first <= *due && end >= identity.sequence
            });
            assert!(is_stated, "{identity:?} follows {due}, and no gap says so: {gaps:?}");
            holes += 1;
        }
        *due = frame::decode(bytes).unwrap().next_sequence();
    }
    println!("{} frames in {} streams, {holes} holes, all stated", frames.count(), next.len());
}

/// Every trial is measured once, every start has its epoch's end but the last.
fn assert_is_complete(records: &[Record]) {
    let (mut measured, mut failed) = (Vec::new(), BTreeMap::new());
    let (mut starts, mut ended, mut ends) = (0, 0, Vec::new());
    for record in records {
        match record {
            Record::TrialEnd(end) if end.outcome == TrialOutcome::Measured => {
                measured.push(end.trial);
            }
            Record::TrialEnd(end) => {
                let _ = failed.insert(end.trial, end.outcome);
            }
            Record::RunStart(_) => starts += 1,
            Record::EpochEnd(_) => ended += 1,
            Record::RunEnd(end) => ends.push(end.outcome),
            _ => {}
        }
    }
    measured.sort_unstable();
    failed.retain(|trial, _| !measured.contains(trial));
    println!("not measured: {failed:?}");
    assert_eq!(measured, (0..TRIALS).collect::<Vec<_>>(), "trials measured; {failed:?}");
    assert_eq!(ends, [RunOutcome::Complete]);
    // Upgrade, rollback, the broken version, the kill and two power cuts.
    assert!(starts >= 6 && ended >= starts - 1, "{starts} starts, {ended} ends of epochs");
    println!("{TRIALS} trials measured once, {starts} starts of the run");
}
