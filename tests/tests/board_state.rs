//! The board's own state in a run: read around each trial, part of its verdict,
//! and held for a run that asks for it.
//!
//! The agent reads a tree in a temporary folder; a counter of energy is its rail.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::path::PathBuf;

use wattline_protocol::record::{BoardConditions, Moment, Record};
use wattline_tests::{Agent, AgentFlags, Outcome, SMALL, SMALLEST, Sandbox, until};

const POLICY: &str = "devices/system/cpu/cpufreq/policy0";
const THROTTLE: &str = "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";

struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(sandbox: &Sandbox) -> Self {
        let tree = Self { root: sandbox.path("sys") };
        let counter = "class/powercap/intel-rapl:0";
        let files = [
            (format!("{counter}/name"), "package-0"),
            (format!("{counter}/energy_uj"), "1000"),
            (format!("{counter}/max_energy_range_uj"), "262143328850"),
            (format!("{POLICY}/scaling_available_governors"), "performance schedutil"),
            (format!("{POLICY}/scaling_governor"), "schedutil"),
            (format!("{POLICY}/scaling_cur_freq"), "1500000"),
            (format!("{POLICY}/scaling_min_freq"), "100000"),
            (format!("{POLICY}/scaling_max_freq"), "2000000"),
            ("class/thermal/thermal_zone0/type".into(), "tj-thermal"),
            ("class/thermal/thermal_zone0/temp".into(), "48500"),
            ("proc/vmstat".into(), "pswpin 1\npswpout 2"),
            (
                "etc/nvpmodel.conf".into(),
                "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=7W >",
            ),
            ("var/lib/nvpmodel/status".into(), "pmode:0001"),
            (THROTTLE.into(), "7"),
        ];
        for (name, value) in files {
            tree.write(&name, value);
        }
        tree
    }

    fn write(&self, name: &str, value: &str) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    /// Governor and least frequency of the cores.
    fn clocks(&self) -> [String; 2] {
        ["scaling_governor", "scaling_min_freq"].map(|name| {
            let text = fs::read_to_string(self.root.join(POLICY).join(name)).unwrap();
            text.trim().to_owned()
        })
    }

    fn agent(&self, sandbox: &Sandbox) -> Agent {
        let board = format!("--sysfs-root={}", self.root.display());
        Agent::start_with(sandbox, AgentFlags { board, ..AgentFlags::named(sandbox, "board") })
    }
}

fn free() -> [String; 2] {
    ["schedutil", "100000"].map(str::to_owned)
}

fn held() -> [String; 2] {
    ["performance", "2000000"].map(str::to_owned)
}

fn run(sandbox: &Sandbox, agent: &Agent, more: &[&str]) -> Outcome {
    let address = agent.address();
    let on = ["run", "--on", &address, "--out", "run"];
    sandbox.wattline(&[&on[..], &SMALLEST[..], more].concat())
}

fn read(agent: &Agent) -> Vec<BoardConditions> {
    let records = agent.recorded().records().into_iter();
    records
        .filter_map(|record| match record {
            Record::BoardConditions(read) => Some(read),
            _ => None,
        })
        .collect()
}

#[test]
fn a_trial_is_read_before_within_and_after_and_the_report_tells_it() {
    let sandbox = Sandbox::new();
    let agent = Tree::new(&sandbox).agent(&sandbox);
    let outcome = run(&sandbox, &agent, &[]);
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    let read = read(&agent);
    let moments: Vec<Moment> = read.iter().map(|read| read.moment).collect();
    assert_eq!((moments.first(), moments.last()), (Some(&Moment::Before), Some(&Moment::After)));
    let within = moments.iter().filter(|moment| **moment == Moment::During).count();
    assert!(within >= 2 && within == moments.len() - 2, "{moments:?}");
    assert_eq!(read[0].power_mode.as_ref().unwrap().name, "7W");
    assert_eq!(read[0].throttles[0].value, 7);
    let page = fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    for words in ["Board state", "power mode 1 7W", "policy0 schedutil", "cores 1500 MHz"] {
        assert!(page.contains(words), "{words} is not in the report");
    }
    assert!(!page.contains("throttled itself"));
}

#[test]
fn a_counter_that_rises_within_a_trial_makes_its_window_invalid() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = tree.agent(&sandbox);
    let address = agent.address();
    let on = ["run", "--on", &address, "--out", "run"];
    let host = sandbox.wattline_started(&[&on[..], &SMALLEST[..]].concat());
    agent.wait_for("the trial is read", |record| matches!(record, Record::BoardConditions(_)));
    tree.write(THROTTLE, "8");
    let outcome = host.finish();
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    sandbox.wattline(&["export", "run", "--to", "csv", "--out", "tables"]).ends_with(0);
    let windows = fs::read_to_string(sandbox.work().join("tables/windows.csv")).unwrap();
    assert!(windows.contains("invalid") && windows.contains("throttled"), "{windows}");
}

#[test]
fn a_pinned_run_holds_clocks_and_puts_them_back_at_its_end() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = tree.agent(&sandbox);
    let outcome = run(&sandbox, &agent, &["--pin"]);
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    assert_eq!(tree.clocks(), free());
    let governors: Vec<String> =
        read(&agent).into_iter().map(|read| read.clocks[0].governor.clone()).collect();
    assert!(governors.iter().all(|governor| governor == "performance"), "{governors:?}");
    let page = fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    assert!(page.contains("clocks held at their most"));
}

#[test]
fn a_pinned_run_that_is_killed_and_goes_on_is_pinned_again_and_put_back() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = tree.agent(&sandbox);
    let address = agent.address();
    let on = ["run", "--on", &address, "--out", "run", "--pin", "--windows", "50"];
    let mut host = sandbox.wattline_started(&[&on[..], &SMALL[..]].concat());
    agent.wait_for_a_trial();
    assert_eq!(tree.clocks(), held());
    let flags = agent.kill();
    host.kill();
    // What another start of the board would find; the journal says what was there.
    assert_eq!(tree.clocks(), held());
    let agent = Agent::start_with(&sandbox, flags);
    until("the run goes on with clocks held", || (tree.clocks() == held()).then_some(()));
    agent.wait_for(
        "the run goes on",
        |record| matches!(record, Record::RunStart(start) if !start.first),
    );
    assert_eq!(tree.clocks(), held());
    assert_eq!(agent.terminate().code, Some(0));
    assert_eq!(tree.clocks(), free());
}

#[test]
fn clocks_that_cannot_be_held_are_refused_before_the_run() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    fs::remove_dir_all(tree.root.join("devices/system/cpu/cpufreq")).unwrap();
    let agent = tree.agent(&sandbox);
    run(&sandbox, &agent, &["--pin"]).fails_with(3, &["clocks of board", "without --pin"]);
    run(&sandbox, &agent, &["--power-mode", "9"]).fails_with(3, &["no power mode 9"]);
    assert!(!sandbox.work().join("run/recording.sqlite").exists());
}
