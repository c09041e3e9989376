//! A campaign in several power modes, one after the other, over kills and reboots.
//!
//! The board is a tree in a temporary folder; its nvpmodel is a script that writes the
//! status file, and for mode 2 asks for a reboot, which the test then makes.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use wattline_protocol::record::Record;
use wattline_tests::{Agent, AgentFlags, Frames, Process, SMALL, SMALLEST, Sandbox, until};

struct Board {
    root: PathBuf,
}

impl Board {
    fn new(sandbox: &Sandbox) -> Self {
        let board = Self { root: sandbox.path("sys") };
        let counter = "class/powercap/intel-rapl:0";
        let nvpmodel = format!(
            "#!/bin/sh\ncd '{}'\n[ \"$2\" != 2 ] || {{ echo 'NVPM WARN: Reboot required'; read -r yes; \
             [ \"$yes\" = YES ] || exit 1; echo pmode:0002 >pending; echo yes >reboot; exit 0; }}\n\
             echo \"pmode:000$2\" >var/lib/nvpmodel/status\n",
            board.root.display()
        );
        let table = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=7W >\n\
                     < POWER_MODEL ID=2 NAME=15W >";
        for (name, text) in [
            (format!("{counter}/name"), "package-0"),
            (format!("{counter}/energy_uj"), "1000"),
            (format!("{counter}/max_energy_range_uj"), "262143328850"),
            ("proc/vmstat".into(), "pswpin 1\npswpout 2"),
            ("etc/nvpmodel.conf".into(), table),
            ("var/lib/nvpmodel/status".into(), "pmode:0001"),
            ("usr/sbin/nvpmodel".into(), &nvpmodel),
        ] {
            let path = board.root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(board.root.join("usr/sbin/nvpmodel"), executable).unwrap();
        board
    }

    fn agent(&self, sandbox: &Sandbox) -> Agent {
        let board = format!("--sysfs-root={}", self.root.display());
        Agent::start_with(sandbox, AgentFlags { board, ..AgentFlags::named(sandbox, "board") })
    }

    fn mode(&self) -> String {
        fs::read_to_string(self.root.join("var/lib/nvpmodel/status")).unwrap().trim().to_owned()
    }

    /// The power is cut and comes back, in the mode that was set for the next start.
    fn reboot(&self, sandbox: &Sandbox, agent: Agent) -> Agent {
        let flags = agent.kill();
        let pending = fs::read_to_string(self.root.join("pending")).unwrap();
        fs::write(self.root.join("var/lib/nvpmodel/status"), pending).unwrap();
        fs::remove_file(self.root.join("reboot")).unwrap();
        Agent::start_with(sandbox, flags)
    }
}

fn start(sandbox: &Sandbox, agent: &Agent, more: &[&str]) -> Process {
    let address = agent.address();
    let on = ["run", "--on", &address, "--out", "run"];
    sandbox.wattline_started(&[&on[..], &SMALLEST[..], more].concat())
}

/// What a mode's run says: that it was made in that mode, and that all of it is here.
fn assert_mode(sandbox: &Sandbox, directory: &str, name: &str) {
    let run = sandbox.work().join("run").join(directory);
    let frames = Frames::of_recording(&run.join("recording.sqlite"));
    let read: Vec<String> = frames
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::BoardConditions(read) => read.power_mode.map(|mode| mode.name),
            _ => None,
        })
        .collect();
    assert!(!read.is_empty() && read.iter().all(|one| one == name), "{directory}: {read:?}");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains(name), "{directory}: {name} is not in the report");
}

#[test]
fn blocks_follow_each_other_over_a_reboot_and_the_mode_before_comes_back() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let agent = board.agent(&sandbox);
    let host = start(&sandbox, &agent, &["--power-mode", "0,2"]);
    until("nvpmodel asks for a reboot", || board.root.join("reboot").exists().then_some(()));
    assert_eq!(board.mode(), "pmode:0000", "the first block's mode");
    let status = sandbox.wattline(&["status", "--on", &agent.address()]).ends_with(0);
    assert!(status.stdout.contains("-m2  waits, for power mode 2"), "{status:#?}");
    assert!(!status.stdout.contains("-m0  waits"), "{status:#?}");
    let _agent = board.reboot(&sandbox, agent);
    let outcome = host.finish();
    // 4: a busy machine left a gap in a window.
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    assert!(outcome.last_line().ends_with("run/boards.html"), "{outcome:#?}");
    assert_mode(&sandbox, "mode-0", "MAXN");
    assert_mode(&sandbox, "mode-2", "15W");
    let page = fs::read_to_string(sandbox.work().join(outcome.last_line())).unwrap();
    for words in ["mode 0", "mode 2", "mode-0/report.html", "mode-2/report.html"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    until("the mode before is set again", || (board.mode() == "pmode:0001").then_some(()));
    until("nothing is left", || (!sandbox.path("board-spool/blocks.json").exists()).then_some(()));
}

#[test]
fn an_agent_that_is_killed_goes_on_with_its_block_and_those_behind_it() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let agent = board.agent(&sandbox);
    sandbox.file("night.toml", "power_mode = [0, 1]\n");
    let mut host = start(&sandbox, &agent, &["night.toml", "--detach"]);
    let started = until("the run is the board's", || host.code().map(|code| (code, host.stdout())));
    assert_eq!(started.0, 0, "{started:?}");
    assert_eq!(started.1.lines().last(), Some("run"));
    agent.wait_for_a_trial();
    let agent = Agent::start_with(&sandbox, agent.kill());
    agent.wait_for(
        "the run goes on",
        |record| matches!(record, Record::RunStart(start) if !start.first),
    );
    assert_eq!(board.mode(), "pmode:0000");
    until("the mode before is set again", || {
        let left = sandbox.path("board-spool/blocks.json").exists();
        (!left && board.mode() == "pmode:0001").then_some(())
    });
    let fetched = sandbox.wattline(&["fetch", "run"]);
    assert!(matches!(fetched.code, Some(0 | 4)), "{fetched:#?}");
    assert_mode(&sandbox, "mode-0", "MAXN");
    assert_mode(&sandbox, "mode-1", "7W");
}

#[test]
fn a_stop_ends_the_blocks_behind_it_and_sets_the_mode_before() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let agent = board.agent(&sandbox);
    let address = agent.address();
    let on = ["run", "--on", &address, "--out", "run", "--power-mode", "0,1", "--windows", "50"];
    let host = sandbox.wattline_started(&[&on[..], &SMALL[..]].concat());
    agent.wait_for_a_trial();
    host.signal(Signal::SIGINT);
    let outcome = host.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    until("the mode before is set again", || {
        let left = sandbox.path("board-spool/blocks.json").exists();
        (!left && board.mode() == "pmode:0001").then_some(())
    });
    let status = sandbox.wattline(&["status", "--on", &agent.address()]).ends_with(0);
    assert!(status.stdout.contains("no run goes on"), "{status:#?}");
    assert_eq!(status.stdout.matches("-m0").count(), 1, "{status:#?}");
    assert_eq!(status.stdout.matches("-m1").count(), 0, "{status:#?}");
}

#[test]
fn modes_that_cannot_be_are_refused_before_anything_is_set() {
    let sandbox = Sandbox::new();
    let board = Board::new(&sandbox);
    let agent = board.agent(&sandbox);
    let run = |modes: &str| start(&sandbox, &agent, &["--power-mode", modes]).finish();
    run("0,9").fails_with(3, &["no power mode 9"]);
    run("0,0").fails_with(2, &["power_mode", "twice"]);
    assert_eq!(board.mode(), "pmode:0001");
    assert!(!sandbox.work().join("run").exists());
    assert!(!sandbox.path("board-spool/blocks.json").exists());
    assert_eq!(agent.recorded().count(), 0);
}
