//! A kernel driver's settings: set for a run, restored after it, however it ends.
//!
//! The agent samples the files of a tree in a temporary folder, laid out as
//! JetPack 5 does.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::path::PathBuf;

use wattline_protocol::record::{DriverAttribute, DriverSetting, Record, SettingOutcome};
use wattline_tests::{Agent, AgentFlags, Outcome, SMALL, Sandbox, until};

/// An INA3221 at 1-0040 that the kernel's driver holds, with two rails.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(sandbox: &Sandbox) -> Self {
        let tree = Self { root: sandbox.path("sys") };
        let client = tree.root.join("bus/i2c/devices/1-0040");
        let driver = tree.root.join("bus/i2c/drivers/ina3221");
        fs::create_dir_all(&driver).unwrap();
        fs::create_dir_all(client.join("hwmon/hwmon4")).unwrap();
        fs::write(client.join("name"), "ina3221\n").unwrap();
        std::os::unix::fs::symlink(&driver, client.join("driver")).unwrap();
        for (name, value) in [
            ("name", "ina3221"),
            ("update_interval", "28"),
            ("samples", "4"),
            ("in1_label", "VDD_IN"),
            ("in1_input", "5008"),
            ("curr1_input", "1504"),
            ("shunt1_resistor", "5000"),
            ("in2_label", "VDD_CPU_GPU_CV"),
            ("in2_input", "5000"),
            ("curr2_input", "400"),
            ("shunt2_resistor", "5000"),
        ] {
            tree.write(name, value);
        }
        tree
    }

    fn write(&self, name: &str, value: &str) {
        fs::write(self.path(name), format!("{value}\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("bus/i2c/devices/1-0040/hwmon/hwmon4").join(name)
    }

    fn settings(&self) -> [String; 2] {
        ["update_interval", "samples"]
            .map(|name| fs::read_to_string(self.path(name)).unwrap().trim().to_owned())
    }

    fn flags(&self, sandbox: &Sandbox) -> AgentFlags {
        let board = format!("--sysfs-root={}", self.root.display());
        AgentFlags { board, ..AgentFlags::named(sandbox, "board") }
    }
}

fn restore(sandbox: &Sandbox, flags: &AgentFlags) -> Outcome {
    sandbox.agent(&["restore", "--spool", flags.spool.to_str().unwrap()])
}

fn of_settings(agent: &Agent) -> Vec<(DriverAttribute, SettingOutcome, i64, i64)> {
    let records = agent.recorded().records().into_iter();
    let of = |setting: DriverSetting| {
        (setting.attribute, setting.outcome, setting.found, setting.stands)
    };
    records
        .filter_map(|record| match record {
            Record::DriverSetting(setting) => Some(of(setting)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_run_sets_the_driver_records_it_and_restores_it() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    assert_eq!(tree.settings(), ["28", "4"]);
    let more = ["--batch", "1", "--windows", "1", "--out", "run"];
    let on = ["run", "--on", &agent.address()];
    let run = sandbox.wattline(&[&on[..], &SMALL[..], &more[..]].concat());
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    assert_eq!(tree.settings(), ["28", "4"]);
    let (samples, interval) = (DriverAttribute::Samples, DriverAttribute::UpdateInterval);
    let (set, restored) = (SettingOutcome::Set, SettingOutcome::Restored);
    let expected = [
        (samples, set, 4, 1),
        (interval, set, 28, 0),
        (samples, restored, 4, 4),
        (interval, restored, 28, 28),
    ];
    assert_eq!(of_settings(&agent), expected);
    let flags = agent.flags().clone();
    assert_eq!(agent.terminate().code, Some(0));
    assert_eq!(restore(&sandbox, &flags).ends_with(0).stdout, "nothing to restore\n");
}

#[test]
fn settings_that_are_to_be_kept_are_as_they_were_within_a_run_and_flag_it() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let more = ["--driver-settings", "keep"].map(str::to_owned).to_vec();
    let agent = Agent::start_with(&sandbox, AgentFlags { more, ..tree.flags(&sandbox) });
    let mut host = sandbox.wattline_started(
        &[&["run", "--on", &agent.address()], &SMALL[..], &["--windows", "50", "--out", "kept"]]
            .concat(),
    );
    agent.wait_for_a_trial();
    assert_eq!(tree.settings(), ["28", "4"]);
    host.signal(nix::sys::signal::Signal::SIGINT);
    until("the host ends", || host.code());
    let set = of_settings(&agent).into_iter().filter(|one| one.1 == SettingOutcome::Set).count();
    assert_eq!(set, 0, "{:?}", of_settings(&agent));
    assert_eq!(tree.settings(), ["28", "4"]);
    // It averages over four conversions, which a short window does not survive.
    assert!(cells_of_a_run(&sandbox, &agent).contains("averaged"));
}

#[test]
fn an_agent_killed_in_a_run_leaves_what_restore_works_off() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    let mut host = sandbox.wattline_started(
        &[&["run", "--on", &agent.address()], &SMALL[..], &["--windows", "50", "--out", "run"]]
            .concat(),
    );
    agent.wait_for_a_trial();
    assert_eq!(tree.settings(), ["0", "1"]);
    // A run at work is not restored under its feet.
    restore(&sandbox, agent.flags()).fails_with(1, &["another agent"]);
    assert_eq!(tree.settings(), ["0", "1"]);
    let flags = agent.kill();
    host.kill();
    assert_eq!(tree.settings(), ["0", "1"]);
    let said = restore(&sandbox, &flags).ends_with(0).stdout;
    assert_eq!(said, "restored 1-0040: samples 4, update_interval 28\n");
    assert_eq!(tree.settings(), ["28", "4"]);
    assert_eq!(restore(&sandbox, &flags).ends_with(0).stdout, "nothing to restore\n");
}

#[test]
fn an_agent_killed_in_a_run_finds_the_same_values_at_its_next_start() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    let mut host = sandbox.wattline_started(
        &[&["run", "--on", &agent.address()], &SMALL[..], &["--windows", "50", "--out", "run"]]
            .concat(),
    );
    agent.wait_for_a_trial();
    let flags = agent.kill();
    host.kill();
    // The run goes on: what it finds is what stood before it, not what it had set.
    let again = Agent::start_with(&sandbox, flags);
    let sets = || of_settings(&again).iter().filter(|one| one.1 == SettingOutcome::Set).count();
    until("the run goes on", || (sets() == 4).then_some(()));
    let found: Vec<i64> = of_settings(&again).iter().map(|setting| setting.2).collect();
    assert_eq!(found, [4, 28, 4, 28]);
    assert_eq!(again.terminate().code, Some(0));
    assert_eq!(tree.settings(), ["28", "4"]);
}

#[test]
fn what_cannot_be_restored_is_named_and_stays_in_the_journal() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    let mut host = sandbox.wattline_started(
        &[&["run", "--on", &agent.address()], &SMALL[..], &["--windows", "50", "--out", "run"]]
            .concat(),
    );
    agent.wait_for_a_trial();
    let flags = agent.kill();
    host.kill();
    let aside = tree.root.with_extension("aside");
    fs::rename(&tree.root, &aside).unwrap();
    restore(&sandbox, &flags).fails_with(1, &["1-0040 is not below"]);
    fs::rename(&aside, &tree.root).unwrap();
    restore(&sandbox, &flags).ends_with(0);
    assert_eq!(tree.settings(), ["28", "4"]);
}

#[test]
fn a_file_that_is_roots_leaves_the_driver_as_it_is_and_the_run_says_so() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    // A number that the kernel lets nobody write, root included.
    fs::remove_file(tree.path("update_interval")).unwrap();
    let closed = "/proc/sys/kernel/ngroups_max";
    std::os::unix::fs::symlink(closed, tree.path("update_interval")).unwrap();
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    let more = ["--batch", "1", "--windows", "1", "--out", "run"];
    let on = ["run", "--on", &agent.address()];
    let run = sandbox.wattline(&[&on[..], &SMALL[..], &more[..]].concat());
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    let said: Vec<_> = of_settings(&agent).iter().map(|one| (one.0, one.1)).collect();
    let (samples, interval) = (DriverAttribute::Samples, DriverAttribute::UpdateInterval);
    let expected = [
        (interval, SettingOutcome::NotPermitted),
        (samples, SettingOutcome::Set),
        (samples, SettingOutcome::Restored),
    ];
    assert_eq!(said, expected);
    assert_eq!(tree.settings()[1], "4");
}

#[test]
fn restore_makes_no_spool_where_none_is() {
    let sandbox = Sandbox::new();
    let spool = sandbox.path("no-spool");
    let said = sandbox.agent(&["restore", "--spool", spool.to_str().unwrap()]).ends_with(0);
    assert_eq!(said.stdout, "nothing to restore\n");
    assert!(!spool.exists());
}

#[test]
fn what_a_driver_holds_is_configured_by_nobody_else_unless_it_is_taken() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    let root = tree.root.to_str().unwrap();
    for profile in ["cover", "total"] {
        let asked = ["rails", "--sysfs-root", root, "--profile", profile];
        let named = format!("profile {profile} cannot be had");
        let words = [named.as_str(), "1-0040 is held by its kernel driver", "--exclusive"];
        sandbox.agent(&asked).fails_with(3, &words);
        let board = format!("--sysfs-root={root}");
        let asked = ["serve", &board, "--profile", profile, "--spool", "spool", "--socket", "s"];
        sandbox.agent(&asked).fails_with(78, &words);
    }
    // Without a file to unbind by there is nothing to take it with.
    let exclusive = ["rails", "--sysfs-root", root, "--exclusive"];
    let words = ["driver ina3221 does not let go of 1-0040"];
    sandbox.agent(&exclusive).fails_with(3, &words);
    fs::write(tree.root.join("bus/i2c/drivers/ina3221/unbind"), "").unwrap();
    sandbox.agent(&exclusive).ends_with(0);
    // Nothing was written there: the tree is another board's.
    assert_eq!(fs::read(tree.root.join("bus/i2c/drivers/ina3221/unbind")).unwrap(), b"");
    assert_eq!(tree.settings(), ["28", "4"]);
}

#[test]
fn a_simulated_chip_divides_its_time_as_asked() {
    let sandbox = Sandbox::new();
    let mut flags = AgentFlags::named(&sandbox, "board");
    flags.more = vec!["--profile".into(), "total".into()];
    let agent = Agent::start_with(&sandbox, flags);
    let more = ["--batch", "1", "--windows", "1", "--out", "run"];
    let on = ["run", "--on", &agent.address()];
    let run = sandbox.wattline(&[&on[..], &SMALL[..], &more[..]].concat());
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    let rails: Vec<String> = agent
        .recorded()
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::RunStart(start) => Some(start.rails),
            _ => None,
        })
        .flatten()
        .map(|rail| rail.name)
        .collect();
    assert_eq!(rails, ["VDD_IN"]);
}

/// `cells.csv` of a run of one window.
fn cells_of_a_run(sandbox: &Sandbox, agent: &Agent) -> String {
    let more = ["--batch", "1", "--windows", "1", "--out", "run"];
    let on = ["run", "--on", &agent.address()];
    let run = sandbox.wattline(&[&on[..], &SMALL[..], &more[..]].concat());
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    sandbox.wattline(&["export", "run", "--to", "csv", "--out", "tables"]).ends_with(0);
    fs::read_to_string(sandbox.work().join("tables/cells.csv")).unwrap()
}

#[test]
fn an_over_current_alarm_flags_the_trial_in_report_and_table() {
    let sandbox = Sandbox::new();
    let tree = Tree::new(&sandbox);
    tree.write("curr1_crit_alarm", "1");
    let counters = tree.root.join("class/hwmon/hwmon7");
    fs::create_dir_all(&counters).unwrap();
    fs::write(counters.join("oc1_event_cnt"), "12\n").unwrap();
    let agent = Agent::start_with(&sandbox, tree.flags(&sandbox));
    let cells = cells_of_a_run(&sandbox, &agent);
    assert!(cells.contains("current_alarm"), "{cells}");
    let page = fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    assert!(page.contains("the board may have been throttled"));
    let read: Vec<_> = agent
        .recorded()
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::AlarmCounts(counts) => Some((counts.trial, counts.counts.len())),
            _ => None,
        })
        .collect();
    assert_eq!(read, [(None, 2), (Some(0), 2)]);
}

#[test]
fn jetpack_4s_own_averaging_is_recorded_and_flags_what_is_measured_through_it() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("sys");
    let (client, driver) =
        (root.join("bus/i2c/devices/6-0040"), root.join("bus/i2c/drivers/ina3221x"));
    let channel = client.join("iio:device0");
    fs::create_dir_all(&driver).unwrap();
    fs::create_dir_all(&channel).unwrap();
    std::os::unix::fs::symlink(&driver, client.join("driver")).unwrap();
    for (file, value) in [
        (client.join("name"), "ina3221x"),
        (channel.join("name"), "ina3221x"),
        (channel.join("rail_name_0"), "POM_5V_IN"),
        (channel.join("in_voltage0_input"), "5000"),
        (channel.join("in_current0_input"), "800"),
        (channel.join("in_power0_input"), "4000"),
    ] {
        fs::write(file, format!("{value}\n")).unwrap();
    }
    let board = format!("--sysfs-root={}", root.display());
    let flags = AgentFlags { board, ..AgentFlags::named(&sandbox, "board") };
    let agent = Agent::start_with(&sandbox, flags);
    let cells = cells_of_a_run(&sandbox, &agent);
    assert!(cells.contains("averaged"), "{cells}");
    let expected = [(DriverAttribute::Samples, SettingOutcome::Fixed, 64, 64)];
    assert_eq!(of_settings(&agent), expected);
}
