//! Whatever is typed wrong: the contract's exit code, a message that names the
//! thing and the mend, and no trace left.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;

use wattline_tests::{Agent, Outcome, SMALLEST, Sandbox};

#[test]
fn a_campaign_that_cannot_be_run_is_refused_before_any_board_is_asked() {
    let sandbox = Sandbox::new();
    // Nobody serves there: who asked the board would say so.
    let nowhere = "unix:/nowhere.sock";
    let run = |file: &str| sandbox.wattline(&["run", file, "--on", nowhere, "--out", "run"]);
    let cases: [(&[u8], &[&str]); 18] = [
        (b"network = ['alexnet']", &["`network`", "`networks`"]),
        (b"window_s_mim = 3", &["window_s_mim", "window_s_min"]),
        (b"xyzzy = 1", &["xyzzy"]),
        (b"batch = [0]", &["`batch`", "0"]),
        (b"batch = [1, 100000]", &["`batch`", "100000"]),
        (b"batch = []", &["`batch`", "empty"]),
        (b"networks = []", &["`networks`", "empty"]),
        (b"batch = [1, 1]", &["`batch`", "twice"]),
        (b"batch = 1", &["batch", "line 1"]),
        (b"seed = 1\nbatch = [1", &["line 2"]),
        (b"seed = 1\nthis is not TOML", &["line 2"]),
        (b"seed = -1", &["seed", "line 1"]),
        (b"windows = 0", &["`windows`", "0"]),
        (b"window_s_min = nan", &["window_s_min"]),
        (b"window_s_min = -1.0", &["window_s_min", "-1"]),
        (b"precision = ['f33']", &["f33", "f16"]),
        (b"cores = ['3-1']", &["`cores`", "3-1"]),
        (b"device = ['tpu']", &["`device`", "tpu"]),
    ];
    for (bytes, words) in cases {
        sandbox.file("campaign.toml", bytes);
        run("campaign.toml").fails_with(2, &[&["campaign.toml"], words].concat());
    }
    sandbox.file("latin.toml", b"# caf\xe9\nbatch = [1]\n");
    run("latin.toml").fails_with(2, &["latin.toml", "UTF-8"]);
    fs::create_dir(sandbox.work().join("folder.toml")).unwrap();
    run("folder.toml").fails_with(2, &["folder.toml"]);
    run("absent.toml").fails_with(2, &["absent.toml"]);
    let flag = |flag, value| sandbox.wattline(&["run", "--on", nowhere, flag, value]);
    flag("--batch", "0").fails_with(2, &["`batch`"]);
    flag("--window-s-min", "inf").fails_with(2, &["window_s_min"]);
    flag("--weights", "hashed:x").fails_with(2, &["hashed:x"]);
    assert!(!sandbox.work().join("run").exists(), "a refused campaign left a directory");
    assert!(!sandbox.work().join("wattline-runs").exists());
}

#[test]
fn a_campaign_that_the_board_cannot_serve_is_refused_by_it() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let board = agent.address();
    let run = |more: &[&str]| {
        let given = ["run", "--on", &board, "--quick", "--out", "run"];
        sandbox.wattline(&[&given[..], more].concat())
    };
    run(&["--networks", "alexnett"]).fails_with(2, &["alexnett", "alexnet,", "resnet50"]);
    run(&["--networks", ""]).fails_with(2, &["unknown network ``", "resnet50"]);
    run(&["--networks", "alexnet", "--size", "16"]).fails_with(2, &["alexnet", "16"]);
    run(&["--device", "cuda"]).fails_with(2, &["cuda"]);
    run(&["--precision", "tf32"]).fails_with(2, &["tf32"]);
    run(&["--cores", "0-900"]).fails_with(2, &["0-900"]);
    run(&["--weights", "/no/such.safetensors"]).fails_with(2, &["/no/such.safetensors"]);
    assert!(!sandbox.work().join("run").exists(), "a refused run left a directory");
    fs::create_dir(sandbox.work().join("run")).unwrap();
    run(&["--networks", "alexnett"]).fails_with(2, &["alexnett"]);
    assert!(sandbox.work().join("run").is_dir(), "the user's own directory is gone");
    assert_eq!(agent.recorded().count(), 0, "a refused run was recorded");
}

#[test]
fn an_output_directory_that_holds_something_is_not_touched() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    fs::create_dir(sandbox.work().join("full")).unwrap();
    sandbox.file("full/mine", "kept");
    sandbox.small_run(&agent.address(), "full").fails_with(2, &["full", "not empty"]);
    assert_eq!(fs::read(sandbox.work().join("full/mine")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(sandbox.work().join("full")).unwrap().count(), 1);
    sandbox.file("file", "");
    sandbox.small_run(&agent.address(), "file").fails_with(1, &["file"]);
    assert_eq!(agent.recorded().count(), 0);
}

#[test]
fn a_board_that_is_no_board_is_refused_with_what_may_be_written() {
    let sandbox = Sandbox::new();
    for board in ["orin1", "", "simulated:ina9", "unix:", "ssh://", "ssh://-oProxyCommand=x"] {
        sandbox.small_run(board, "run").fails_with(2, &["board", board]);
    }
    for board in ["tls://", "tls://host:0", "listen://host:7425"] {
        sandbox.small_run(board, "run").fails_with(2, &["board", board]);
    }
    sandbox.small_run("tls://host:1", "run").fails_with(1, &["tls://host:1", "no key of host:1"]);
    let without = sandbox.wattline(&[&["run"], &SMALLEST[..]].concat());
    without.fails_with(2, &["--on simulated"]);
    fs::create_dir_all(sandbox.path("home/config/wattline")).unwrap();
    let configuration = sandbox.path("home/config/wattline/config.toml");
    fs::write(&configuration, "[boards.orin1]\naddress = 'unix:/nowhere.sock'\n").unwrap();
    sandbox.small_run("orin2", "run").fails_with(2, &["orin2", "orin1"]);
    sandbox.small_run("orin1", "run").fails_with(1, &["/nowhere.sock"]);
    fs::write(&configuration, "bords = 1\n").unwrap();
    sandbox.small_run("orin1", "run").fails_with(2, &["config.toml", "bords"]);
    assert!(!sandbox.work().join("run").exists());
}

#[test]
fn this_machine_without_rails_is_refused_and_the_simulated_board_named() {
    let sandbox = Sandbox::new();
    let rails = sandbox.agent(&["rails"]);
    if rails.code == Some(0) {
        println!("skipped: this machine has power rails: {}", rails.stdout);
        return;
    }
    let looked = sandbox.small_run("local", "run").fails_with(3, &["simulated", "looked for"]);
    assert!(looked.stderr.contains("an INA monitor"), "{looked:#?}");
    assert!(!sandbox.work().join("run").exists());
    let folder = sandbox.work();
    let empty = ["rails", "--json", "--sysfs-root", folder.to_str().unwrap()];
    sandbox.agent(&empty).fails_with(3, &["simulated"]);
}

#[test]
fn a_socket_that_is_no_agent_fails_and_is_named() {
    let sandbox = Sandbox::new();
    let try_socket = |name: &str| {
        let path = sandbox.path(name);
        let address = format!("unix:{}", path.display());
        for args in [&["status"][..], &["run", "--quick", "--out", "run"]] {
            let on = ["--on", &address];
            sandbox.wattline(&[args, &on].concat()).fails_with(1, &[path.to_str().unwrap()]);
        }
    };
    try_socket("absent.sock");
    fs::write(sandbox.path("file.sock"), "").unwrap();
    try_socket("file.sock");
    let listener = UnixListener::bind(sandbox.path("deaf.sock")).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    try_socket("deaf.sock");
    let listener = UnixListener::bind(sandbox.path("http.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    try_socket("http.sock");
    let listener = UnixListener::bind(sandbox.path("frame.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A frame's first bytes, then a length that no frame has.
            let _ = stream.unwrap().write_all(b"WL\x01\x80\xff\xff\xff\xff and what follows is 20");
        }
    });
    try_socket("frame.sock");
    // Takes the connection and says nothing: the hello's own limit ends it.
    let _silent = UnixListener::bind(sandbox.path("mute.sock")).unwrap();
    let mute = format!("unix:{}", sandbox.path("mute.sock").display());
    sandbox.wattline(&["status", "--on", &mute]).fails_with(1, &["mute.sock"]);
    assert!(!sandbox.work().join("run").exists());
}

#[test]
fn a_run_that_is_nowhere_is_named_with_the_places_looked_at() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    fs::create_dir(sandbox.work().join("empty")).unwrap();
    sandbox.file("letter.txt", "dear reader");
    for run in ["empty", "absent", "letter.txt", "no such run", ""] {
        for command in [&["report", run][..], &["export", run, "--to", "csv"]] {
            sandbox.wattline(command).fails_with(1, &[run]);
        }
    }
    let board = agent.address();
    for command in ["fetch", "stop", "watch"] {
        sandbox.wattline(&[command, "absent", "--on", &board]).fails_with(1, &["absent"]);
        sandbox.wattline(&[command, "no such run", "--on", &board]).fails_with(1, &["no such run"]);
        sandbox.wattline(&[command, "absent"]).fails_with(2, &["--on"]);
    }
    assert!(!sandbox.work().join("wattline-runs").exists(), "a fetch of nothing left a directory");
}

/// Commands that read a recording, on a copy of a run whose recording is `bytes`.
fn with_recording(sandbox: &Sandbox, bytes: &[u8], check: impl Fn(Outcome)) {
    let folder = sandbox.work().join("damaged");
    fs::create_dir_all(&folder).unwrap();
    sandbox.file("damaged/recording.sqlite", bytes);
    check(sandbox.wattline(&["report", "damaged"]));
    check(sandbox.wattline(&["export", "damaged", "--to", "csv"]));
    check(sandbox.wattline(&["watch", "damaged"]));
    assert_eq!(fs::read(folder.join("recording.sqlite")).unwrap(), bytes, "it was written to");
    assert!(!folder.join("report.html").exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_damaged_recording_is_refused_by_name_and_never_written() {
    let sandbox = Sandbox::new();
    let agent = Agent::start(&sandbox);
    let run = sandbox.small_run(&agent.address(), "run");
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    let whole = fs::read(sandbox.work().join("run/recording.sqlite")).unwrap();
    let refused = |outcome: Outcome| {
        outcome.fails_with(1, &["recording.sqlite"]);
    };
    for length in [0, 1, 99, 100, 4_096, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        with_recording(&sandbox, &whole[..length], refused);
    }
    with_recording(&sandbox, b"not a recording, but a text\n", refused);
    let mut foreign = whole.clone();
    foreign[68..72].copy_from_slice(&[0; 4]);
    with_recording(&sandbox, &foreign, |outcome| {
        outcome.fails_with(1, &["not a Wattline recording"]);
    });
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    with_recording(&sandbox, &newer, |outcome| {
        outcome.fails_with(1, &["99"]);
    });
    let mut flipped = whole.clone();
    for place in (whole.len() / 2..whole.len()).step_by(512) {
        flipped[place] ^= 0x55;
    }
    with_recording(&sandbox, &flipped, refused);
    for shunt in ["nonsense", "VDD_IN=", "VDD_IN=x", "VDD_IN=0", "VDD_IN=-1", "VDD_IN=nan", "=1"] {
        let args = ["report", "run", "--shunt", shunt];
        sandbox.wattline(&args).fails_with(2, &[shunt, "RAIL=OHM"]);
    }
    let unknown = sandbox.wattline(&["report", "run", "--shunt", "VDD_XY=0.01"]);
    unknown.fails_with(2, &["VDD_XY", "VDD_IN"]);
    let format = sandbox.wattline(&["export", "run", "--to", "xlsx"]);
    format.fails_with(2, &["xlsx", "csv"]);
    sandbox.file("taken", "");
    let taken = sandbox.wattline(&["export", "run", "--to", "csv", "--out", "taken"]);
    taken.fails_with(1, &["taken"]);
}
