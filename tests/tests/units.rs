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
fn root_is_exposed_to_1_3_at_most_and_writes_clocks_alone() {
    exposure_is_at_most("wattline-board@.service", 13);
    let text = std::fs::read_to_string(unit("wattline-board@.service")).unwrap();
    let writes: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("ReadWritePaths=")).collect();
    assert_eq!(writes, ["-/var/lib/nvpmodel", "/sys"]);
    assert!(text.lines().any(|line| line == "CapabilityBoundingSet="));
    assert!(!text.contains("ProtectKernelTunables=yes"));
    let socket = std::fs::read_to_string(unit("wattline-board.socket")).unwrap();
    for line in ["SocketUser=root", "SocketGroup=wattline", "SocketMode=0660", "Accept=yes"] {
        assert!(socket.lines().any(|one| one == line), "{line}");
    }
}

#[test]
fn the_gate_is_exposed_to_1_1_at_most_and_opened_by_nobody_but_its_owner() {
    exposure_is_at_most("wattline-gate.service", 11);
    let text = std::fs::read_to_string(unit("wattline-gate.service")).unwrap();
    // Without the file it does not start, and no package writes it.
    assert!(text.lines().any(|line| line == "EnvironmentFile=/etc/wattline/gate.env"));
    assert!(text.lines().any(|line| line == "User=wattline-gate"));
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package/board-setup.sh");
    let setup = std::fs::read_to_string(setup).unwrap();
    let enabled = setup.lines().find(|line| line.starts_with("units=")).unwrap();
    assert!(!enabled.contains("gate"), "{enabled}");
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

/// Directives of units that came after systemd 229, with the version that brought
/// them (systemd's NEWS); those without an entry are older.
const SINCE: [(&str, u32); 26] = [
    ("StartLimitIntervalSec", 230),
    ("MemoryMax", 231),
    ("MemoryDenyWriteExecute", 231),
    ("ReadWritePaths", 231),
    ("RestrictRealtime", 231),
    ("InaccessiblePaths", 231),
    ("PrivateUsers", 232),
    ("RemoveIPC", 232),
    ("MemorySwapMax", 232),
    ("ProtectKernelModules", 232),
    ("ProtectKernelTunables", 232),
    ("ProtectControlGroups", 232),
    ("RestrictNamespaces", 233),
    ("RuntimeDirectoryPreserve", 235),
    ("StateDirectory", 235),
    ("StateDirectoryMode", 235),
    ("IPAddressDeny", 235),
    ("LockPersonality", 235),
    ("KeyringMode", 235),
    ("CollectMode", 236),
    ("PrivateMounts", 239),
    ("ProtectHostname", 242),
    ("RestrictSUIDSGID", 242),
    ("ProtectKernelLogs", 244),
    ("ProtectClock", 245),
    ("ProtectProc", 247),
];
/// The same of 248, which has one that the units use.
const SINCE_248: &str = "PrivateIPC";
/// Older ones that the units use: a new word is looked up before it is added.
const OLD: [&str; 48] = [
    "Description",
    "Documentation",
    "After",
    "Wants",
    "Type",
    "EnvironmentFile",
    "ExecStart",
    "ExecStartPre",
    "ExecStartPost",
    "ExecStopPost",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "WatchdogSec",
    "User",
    "Group",
    "SupplementaryGroups",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "UMask",
    "LimitRTPRIO",
    "LimitMEMLOCK",
    "LimitCORE",
    "LimitNOFILE",
    "OOMScoreAdjust",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateNetwork",
    "PrivateDevices",
    "RestrictAddressFamilies",
    "DevicePolicy",
    "DeviceAllow",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "WantedBy",
    "StandardInput",
    "StandardOutput",
    "StandardError",
    "TasksMax",
    "TimeoutStartSec",
    "RuntimeMaxSec",
    "Accept",
    "MaxConnections",
    "ListenStream",
];
/// Groups of system calls that came after 231.
const GROUPS_SINCE: [(&str, u32); 1] = [("@system-service", 239)];

/// Directives of a unit with their values.
fn directives(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
    lines.filter_map(|line| line.split_once('=')).collect()
}

/// The version that brought a directive; nothing for one that nobody looked up.
fn since(directive: &str) -> Option<u32> {
    let newer = SINCE.iter().find(|(name, _)| *name == directive).map(|(_, since)| *since);
    let newest = (directive == SINCE_248).then_some(248);
    let is_old = OLD.contains(&directive) || directive.starts_with("Socket");
    newer.or(newest).or(is_old.then_some(229))
}

/// Groups of system calls that a list of values leaves, as systemd reads them:
/// an empty value forgets those before.
fn groups<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    values.fold(Vec::new(), |mut groups, value| {
        if value.is_empty() {
            groups.clear();
        }
        groups.extend(value.trim_start_matches('~').split_whitespace());
        groups
    })
}

#[test]
fn a_group_of_calls_that_systemd_237_does_not_know_is_forgotten_by_its_drop_in() {
    let sandboxed = [
        "wattline-agent.service",
        "wattline-runner@.service",
        "wattline-board@.service",
        "wattline-gate.service",
    ];
    for name in sandboxed {
        let whole = std::fs::read_to_string(unit(name)).unwrap();
        let drop_in = std::fs::read_to_string(unit(&format!("237/{name}.conf"))).unwrap();
        let filters = |text| {
            let all = directives(text).into_iter();
            all.filter(|(name, _)| *name == "SystemCallFilter").map(|(_, value)| value)
        };
        let is_newer =
            |group: &&str| GROUPS_SINCE.iter().any(|(name, since)| name == group && *since > 237);
        assert!(groups(filters(&whole)).iter().any(is_newer), "the drop-in is needed no more");
        let left = groups(filters(&whole).chain(filters(&drop_in)));
        assert!(left.len() >= 10 && !left.iter().any(is_newer), "{name}: {left:?}");
        for (directive, _) in directives(&drop_in) {
            assert!(since(directive).is_some_and(|since| since <= 237), "{directive}");
        }
    }
}

#[test]
fn what_systemd_237_does_not_know_of_the_units_is_sandbox_alone() {
    let folder = unit("wattline-agent.service").parent().unwrap().to_owned();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units = files.filter(|path| {
        path.extension().is_some_and(|extension| extension == "service" || extension == "socket")
    });
    let mut seen = 0;
    for path in units {
        let text = std::fs::read_to_string(&path).unwrap();
        for (directive, _) in directives(&text) {
            seen += 1;
            let since = since(directive);
            let since = since.unwrap_or_else(|| panic!("{directive}: look up its version"));
            // Ignored with a warning: less sandbox, and all the same a service.
            let is_sandbox = ["Protect", "Private", "Restrict"];
            let is_harmless = is_sandbox.iter().any(|start| directive.starts_with(start));
            assert!(since <= 237 || is_harmless, "{}: {directive}", path.display());
        }
    }
    assert!(seen > 80, "the units were not found");
}
