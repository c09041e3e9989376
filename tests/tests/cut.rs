//! Programs that are killed or interrupted in the middle of a run.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use wattline_protocol::record::{EpochEnd, FailureCause, Record, RunOutcome, TrialOutcome};
use wattline_tests::{Agent, AgentFlags, Frames, Outcome, Process, SMALL, Sandbox, until};

fn started(sandbox: &Sandbox, board: &str, more: &[&str]) -> Process {
    sandbox.wattline_started(&[&["run", "--on", board], &SMALL[..], more].concat())
}

/// A finished fetch: 0, or 4 where a busy machine left a gap in the window.
fn fetched(outcome: Outcome) -> serde_json::Value {
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    outcome.json()
}

fn assert_is(fetched: &serde_json::Value, frames: &Frames) {
    assert_eq!(fetched["frames_sha256"], frames.sha256(), "{fetched}");
    assert_eq!(fetched["frames"], frames.count(), "{fetched}");
}

#[test]
fn a_host_killed_in_mid_run_fetches_later_every_frame_of_the_board() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let mut host =
        started(&sandbox, &agent.address(), &["--batch", "1", "--windows", "1", "--out", "run"]);
    agent.wait_for_a_trial();
    host.kill();
    let fetch = ["fetch", "run", "--on", &agent.address(), "--json"];
    let first = fetched(sandbox.wattline(&fetch));
    let frames = agent.recorded();
    frames.assert_contiguous();
    assert_is(&first, &frames);
    assert_eq!(Frames::of_recording(&sandbox.work().join("run/recording.sqlite")), frames);
    // Once more, and to another place: the same.
    assert_is(&fetched(sandbox.wattline(&fetch)), &frames);
    let id = first["run"].as_str().unwrap();
    let elsewhere = ["fetch", id, "--on", &agent.address(), "--out", "other", "--json"];
    assert_is(&fetched(sandbox.wattline(&elsewhere)), &frames);
    assert!(sandbox.work().join("other/report.html").is_file());
    assert!(sandbox.work().join("other/campaign.toml").is_file());
}

#[test]
fn ctrl_c_ends_the_run_keeps_what_was_measured_and_leaves_the_agent() {
    let sandbox = Sandbox::new();
    let mut agent = Agent::start(&sandbox);
    let host =
        started(&sandbox, &agent.address(), &["--batch", "1", "--windows", "50", "--out", "run"]);
    agent.wait_for("a trial is measured", |record| matches!(record, Record::TrialEnd(_)));
    host.signal(Signal::SIGINT);
    let outcome = host.finish().ends_with(130);
    assert!(sandbox.work().join(outcome.last_line()).is_file());
    assert!(agent.is_alive());
    let ends = agent.recorded().records().into_iter();
    let ends: Vec<_> = ends
        .filter_map(|record| match record {
            Record::RunEnd(end) => Some(end.outcome),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [RunOutcome::Stopped]);
    let recording = Frames::of_recording(&sandbox.work().join("run/recording.sqlite"));
    assert_eq!(recording, agent.recorded());
    let page = fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    assert!(page.contains("resnet18") && page.contains("simulated"));
    let status = sandbox.wattline(&["status", "--on", &agent.address(), "--json"]).ends_with(0);
    assert!(status.json()["current"].is_null());
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn a_detached_run_is_watched_stopped_and_fetched_by_its_id() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let outcome = started(&sandbox, &board, &["--batch", "1", "--windows", "50", "--detach"])
        .finish()
        .ends_with(0);
    let id = outcome.last_line();
    let busy = sandbox.small_run(&board, "second").fails_with(1, &[id, "busy"]);
    assert!(!sandbox.work().join("second").exists(), "{busy:?}");
    agent.wait_for_a_trial();
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert_eq!(status["current"]["run"], id);
    assert_eq!(status["current"]["network"], "resnet18");
    let watch = sandbox.wattline_started(&["watch", id, "--on", &board]);
    until("watch prints a line", || watch.stdout().contains("VDD_IN").then_some(()));
    let line = watch.stdout().lines().find(|line| line.contains("VDD_IN")).unwrap().to_owned();
    for word in ["simulated", "VDD_CPU_GPU", "VDD_SOC", " W"] {
        assert!(line.contains(word), "`{word}` is not in `{line}`");
    }
    sandbox.wattline(&["stop", id, "--on", &board]).ends_with(0);
    watch.finish().ends_with(0);
    let fetch = fetched(sandbox.wattline(&["fetch", id, "--on", &board, "--json"]));
    assert_is(&fetch, &agent.recorded());
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert!(status["current"].is_null());
    assert_eq!(status["runs"][0]["run"], id);
    assert_eq!(status["runs"][0]["acknowledged"], true);
    let replay = sandbox.wattline(&["watch", id]).ends_with(0);
    assert!(replay.stdout.contains("simulated") && replay.stdout.contains("idle"), "{replay:#?}");
    sandbox.wattline(&["stop", id, "--on", &board]).fails_with(1, &[id]);
}

/// What was recorded is kept, what is absent is said, nothing is there twice,
/// and the run goes on under its id until every trial is measured.
#[test]
fn an_agent_killed_in_mid_trial_goes_on_with_the_run_and_repeats_the_trial() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let more = ["--batch", "1", "--windows", "3", "--detach"];
    let outcome = started(&sandbox, &agent.address(), &more).finish().ends_with(0);
    let id = outcome.last_line();
    agent.wait_for(
        "a second trial starts",
        |record| matches!(record, Record::TrialStart(start) if start.trial == 1),
    );
    let before = AgentFlags { tee: sandbox.path("after.tee"), ..agent.kill() };
    let killed = Frames::of_tee(&sandbox.path("board.tee"));
    let agent = Agent::start_with(&sandbox, before);
    let fetch = ["fetch", id, "--on", &agent.address(), "--json"];
    let first = fetched(sandbox.wattline(&fetch));
    let run = sandbox.work().join("wattline-runs").join(id);
    let frames = Frames::of_recording(&run.join("recording.sqlite"));
    assert_is(&first, &frames);
    frames.assert_contiguous();
    assert_cut_is_stated(&frames, &killed);
    // What was recorded since the restart is there as well.
    assert_eq!(frames.of_epoch(2), agent.recorded());
    assert_every_trial_is_measured_once(&frames.records());
    assert_is(&fetched(sandbox.wattline(&fetch)), &frames);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("simulated"));
    sandbox.wattline(&["export", id, "--to", "csv"]).ends_with(0);
    let windows = fs::read_to_string(run.join("export/windows.csv")).unwrap();
    let epochs = |epoch: &str| {
        windows.lines().skip(1).filter(|line| line.rsplit(',').next() == Some(epoch)).count()
    };
    assert!(epochs("1") > 0 && epochs("2") > 0, "{windows}");
    // What a host holds whole is known to be held after another start.
    let flags = agent.kill();
    let agent = Agent::start_with(&sandbox, flags);
    let board = agent.address();
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert!(status["current"].is_null(), "{status}");
    assert_eq!(status["runs"][0]["acknowledged"], true, "{status}");
}

fn assert_every_trial_is_measured_once(records: &[Record]) {
    let (mut measured, mut aborted, mut windows) = (Vec::new(), 0, Vec::new());
    for record in records {
        match record {
            Record::TrialEnd(end) if end.outcome == TrialOutcome::Measured => {
                measured.push(end.trial);
            }
            Record::TrialEnd(end) => {
                assert_eq!(end.outcome, TrialOutcome::Failed(FailureCause::AgentEnded));
                assert_eq!(end.trial, 1);
                aborted += 1;
            }
            Record::WindowOpen(open) => windows.push(open.window),
            _ => {}
        }
    }
    assert_eq!((measured, aborted), (vec![0, 1, 2], 1));
    let unique: BTreeSet<u32> = windows.iter().copied().collect();
    assert_eq!(unique.len(), windows.len(), "a window's number was given twice: {windows:?}");
    let attempts: Vec<(u32, u16)> = records
        .iter()
        .filter_map(|record| match record {
            Record::TrialStart(start) => Some((start.trial, start.attempt)),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [(0, 0), (1, 0), (1, 1), (2, 0)]);
    let starts = records.iter().filter_map(|record| match record {
        Record::RunStart(start) => Some(start.first),
        _ => None,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [true, false]);
}

/// SIGTERM is what a restart, an upgrade and a reboot send.
#[test]
fn an_agent_that_is_restarted_goes_on_and_one_that_was_told_to_stop_does_not() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let more = ["--batch", "1", "--windows", "50", "--detach"];
    let outcome = started(&sandbox, &agent.address(), &more).finish().ends_with(0);
    let id = outcome.last_line();
    agent.wait_for_a_trial();
    let flags = agent.flags().clone();
    assert_eq!(agent.terminate().code, Some(0));
    let agent = Agent::start_with(&sandbox, flags);
    let board = agent.address();
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert_eq!(status["current"]["run"], id, "{status}");
    sandbox.wattline(&["stop", id, "--on", &board]).ends_with(0);
    let flags = agent.kill();
    let agent = Agent::start_with(&sandbox, flags);
    let board = agent.address();
    let status = sandbox.wattline(&["status", "--on", &board, "--json"]).ends_with(0).json();
    assert!(status["current"].is_null(), "{status}");
    sandbox.wattline(&["fetch", id, "--on", &board]).ends_with(4);
    let run = sandbox.work().join("wattline-runs").join(id);
    let ends = Frames::of_recording(&run.join("recording.sqlite")).records().into_iter();
    let ends: Vec<RunOutcome> = ends
        .filter_map(|record| match record {
            Record::RunEnd(end) => Some(end.outcome),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [RunOutcome::Stopped]);
}

fn assert_cut_is_stated(frames: &Frames, killed: &Frames) {
    let ends: Vec<EpochEnd> = frames
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::EpochEnd(end) => Some(end),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].epoch, 1);
    let next =
        |stream| ends[0].streams.iter().find(|end| end.stream == stream).map_or(0, |end| end.next);
    let kept = frames.of_epoch(1);
    assert_eq!(kept, killed.before(next), "what is kept is not what was recorded up to the cut");
    let starts = kept.records();
    assert!(starts.iter().any(|record| matches!(record, Record::TrialStart(_))));
}

#[test]
fn a_fetch_from_the_wrong_board_does_not_forget_the_run() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let more = ["--batch", "1", "--windows", "1", "--detach", "--out", "run"];
    let outcome = started(&sandbox, &agent.address(), &more).finish().ends_with(0);
    let id = outcome.last_line();
    let flags = agent.kill();
    let other = AgentFlags { socket: flags.socket.clone(), ..AgentFlags::named(&sandbox, "other") };
    let wrong = Agent::start_with(&sandbox, other);
    sandbox.wattline(&["fetch", "run"]).fails_with(1, &[id]);
    drop(wrong);
    // The run's own board is back, and the directory still knows its run.
    let _agent = Agent::start_with(&sandbox, flags);
    let fetch = fetched(sandbox.wattline(&["fetch", "run", "--json"]));
    assert_eq!(fetch["run"], id);
    assert_is(&fetch, &Frames::of_recording(&sandbox.work().join("run/recording.sqlite")));
}
