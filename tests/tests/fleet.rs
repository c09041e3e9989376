//! Several boards in one run, with the real binaries.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;

use nix::sys::signal::Signal;
use wattline_tests::{Agent, AgentFlags, Frames, SMALLEST, Sandbox, until};

fn agent(sandbox: &Sandbox, name: &str) -> Agent {
    Agent::start_with(sandbox, AgentFlags::named(sandbox, name))
}

/// A group `lab` of two agents, called one and two.
fn configure(sandbox: &Sandbox, one: &str, two: &str) {
    let folder = sandbox.path("home/config/wattline");
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "[groups]\nlab = ['one', 'two']\n[boards.one]\naddress = '{one}'\n\
         [boards.two]\naddress = '{two}'\n"
    );
    fs::write(folder.join("config.toml"), text).unwrap();
}

fn run<'a>(on: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--on", on, "--out", "run"], &SMALLEST[..], more].concat()
}

#[test]
fn a_group_is_measured_at_once_and_stands_side_by_side() {
    let sandbox = Sandbox::new();
    let (one, two) = (agent(&sandbox, "one"), agent(&sandbox, "two"));
    configure(&sandbox, &one.address(), &two.address());
    let outcome = sandbox.wattline(&run("lab", &[]));
    // 4: a busy machine left a gap in a window.
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    let page = sandbox.work().join(outcome.last_line());
    assert!(page.ends_with("run/boards.html"), "{outcome:#?}");
    let page = fs::read_to_string(page).unwrap();
    for words in ["one", "two", "resnet18", "one/report.html", "two/report.html"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    // Gross and net of the one cell of each board, its head, and its line above.
    assert_eq!(
        page.matches("<span class=\"word\">simulated</span>").count(),
        2 * (2 + 2),
        "{page}"
    );
    for (name, agent) in [("one", &one), ("two", &two)] {
        assert!(outcome.stdout.lines().any(|line| line.starts_with(&format!("{name}: "))));
        let run = sandbox.work().join("run").join(name);
        assert_eq!(Frames::of_recording(&run.join("recording.sqlite")), agent.recorded());
        assert!(run.join("report.html").is_file());
        // Time, gross and net of the page are those of the board's own table; W is not on it.
        let own = sandbox.wattline(&["report", &run.display().to_string()]);
        let row = own.stdout.lines().find(|line| line.starts_with("resnet18")).unwrap();
        let numbers: Vec<&str> =
            row.split("  ").map(str::trim).filter(|part| part.contains(" ± ")).collect();
        assert_eq!(numbers.len(), 4, "{row}");
        for number in [numbers[0], numbers[2], numbers[3]] {
            assert!(page.contains(number), "{number} is not on the page");
        }
    }
    // As one: status, fetch, report.
    let status = sandbox.wattline(&["status", "--on", "lab", "--json"]).ends_with(0);
    let names = status.stdout.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["board_name"].as_str().unwrap().to_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    let fetched = sandbox.wattline(&["fetch", "run", "--on", "two"]);
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    fs::remove_file(sandbox.work().join("run/boards.html")).unwrap();
    let report = sandbox.wattline(&["report", "run"]).ends_with(0);
    assert!(sandbox.work().join(report.last_line()).is_file());
    let other = sandbox.wattline(&["fetch", "run", "--on", "simulated"]);
    other.fails_with(2, &["simulated", "one,two"]);
}

#[test]
fn a_board_that_fails_ends_no_other_and_is_the_exit_code() {
    let sandbox = Sandbox::new();
    let one = agent(&sandbox, "one");
    let gone = format!("unix:{}", sandbox.path("gone.sock").display());
    configure(&sandbox, &one.address(), &gone);
    let outcome = sandbox.wattline(&run("lab", &[]));
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(outcome.stderr.contains("two: error: board "), "{outcome:#?}");
    assert!(outcome.stderr.contains("two: ended with exit code 1"), "{outcome:#?}");
    let recording = sandbox.work().join("run/one/recording.sqlite");
    assert_eq!(Frames::of_recording(&recording), one.recorded());
    let page = fs::read_to_string(sandbox.work().join("run/boards.html")).unwrap();
    assert!(page.contains("no result"), "{page}");
}

#[test]
fn ctrl_c_stops_every_board_and_a_detached_run_is_stopped_as_one() {
    let sandbox = Sandbox::new();
    let (one, two) = (agent(&sandbox, "one"), agent(&sandbox, "two"));
    configure(&sandbox, &one.address(), &two.address());
    let long = ["--windows", "20", "--window-s-min", "30"];
    let mut words = vec!["run", "--on", "lab", "--out", "run", "--networks", "resnet18"];
    words.extend(["--size", "64", "--batch", "1"].iter().chain(&long));
    let host = sandbox.wattline_started(&words);
    for agent in [&one, &two] {
        agent.wait_for_a_trial();
    }
    host.signal(Signal::SIGINT);
    let outcome = host.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    let idle = || {
        let status = sandbox.wattline(&["status", "--on", "lab"]);
        (status.stdout.matches("no run goes on").count() == 2).then_some(())
    };
    until("both boards are idle", idle);

    words[4] = "detached";
    words.push("--detach");
    let started = sandbox.wattline(&words).ends_with(0);
    assert_eq!(started.last_line(), "detached");
    assert!(started.stdout.lines().any(|line| line.starts_with("one: ")), "{started:#?}");
    let stopped = sandbox.wattline(&["stop", "detached"]).ends_with(0);
    assert_eq!(stopped.stderr.matches(": run ").count(), 2, "{stopped:#?}");
    until("both boards are idle", idle);
}

#[test]
fn a_list_that_cannot_be_is_refused_before_anything_starts() {
    let sandbox = Sandbox::new();
    let one = agent(&sandbox, "one");
    configure(&sandbox, &one.address(), "unix:/nowhere.sock");
    let address = one.address();
    sandbox.wattline(&run(&format!("one,{address}"), &[])).fails_with(2, &["named twice"]);
    sandbox.wattline(&run("lab,three", &[])).fails_with(2, &["three", "lab"]);
    sandbox.wattline(&["doctor", "lab"]).fails_with(2, &["takes one"]);
    sandbox.file("file", "");
    assert!(!sandbox.work().join("run").exists());
    assert_eq!(one.recorded().count(), 0);
}
