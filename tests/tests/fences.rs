//! What must stay absent, kept by a test where no lint can.
//!
//! Reads the sources and cargo's own view of the dependencies; starts nothing.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Names of the packages that `package` is linked from, sorted, each once.
fn dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<String> =
        text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["protocol", "pinned", "agent", "host-cli", "deploy", "tests"]
        .into_iter()
        .map(|folder| root().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What was built is nobody's source: `tests/fuzz/target`.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 50, "the sources were not found");
    files
}

#[test]
fn the_protocol_is_linked_from_its_committed_list_and_nothing_else() {
    let list = fs::read_to_string(root().join("tests/golden/protocol-dependencies.txt")).unwrap();
    let committed: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        dependencies("wattline-protocol"),
        committed,
        "a new dependency of the pure crate is a decision: change the list with a reason"
    );
}

#[test]
fn the_host_knows_neither_candle_nor_i2c_nor_the_agent() {
    let names = dependencies("wattline");
    for absent in ["candle-core", "candle-nn", "i2c-linux-sys", "rppal", "wattline-agent"] {
        assert!(!names.iter().any(|name| name == absent), "wattline links {absent}");
    }
    assert!(names.iter().any(|name| name == "wattline-protocol"));
}

#[test]
fn the_agent_does_not_know_the_host() {
    let names = dependencies("wattline-agent");
    for absent in ["wattline", "rusqlite", "maud"] {
        assert!(!names.iter().any(|name| name == absent), "wattline-agent links {absent}");
    }
}

#[test]
fn tls_is_rustls_over_ring_and_the_crate_of_pins_opens_no_socket() {
    let names = dependencies("wattline-pinned");
    for absent in ["tokio", "tokio-rustls", "aws-lc-rs", "openssl-sys", "wattline-protocol"] {
        assert!(!names.iter().any(|name| name == absent), "wattline-pinned links {absent}");
    }
    assert!(names.iter().any(|name| name == "ring"));
    for package in ["wattline", "wattline-agent"] {
        let names = dependencies(package);
        assert!(names.iter().any(|name| name == "wattline-pinned"), "{package}");
        let absent =
            ["aws-lc-rs", "openssl-sys", "native-tls", "rustls-native-certs", "webpki-roots"];
        for absent in absent {
            assert!(!names.iter().any(|name| name == absent), "{package} links {absent}");
        }
    }
}

#[test]
fn tls_stands_in_the_named_places_only() {
    let places =
        ["pinned/", "agent/src/gate/", "host-cli/src/connect/tls.rs", "tests/tests/fences.rs"];
    for (path, text) in sources() {
        let path = path.display().to_string();
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.any(|line| line.contains("rustls"));
        let allowed = places.iter().any(|place| path.starts_with(place));
        assert!(!found || allowed, "{path} speaks TLS itself");
    }
}

#[test]
fn unsafe_code_stands_in_the_named_files_only() {
    let allowed = [
        "agent/src/power/bus/linux.rs",
        "agent/src/realtime.rs",
        "tests/measure/src/allocations.rs",
    ];
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mut code = code.filter(|line| !line.contains("unsafe_code") && !line.contains('"'));
        let found = code.any(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        let path = path.display().to_string();
        assert!(!found || allowed.contains(&path.as_str()), "{path} holds unsafe code");
    }
}

#[test]
fn nobody_calls_the_inverted_slave_address_function() {
    let name = ["i2c_set_", "slave_address"].concat();
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let called = code.filter(|line| line.contains(&name)).count();
        assert_eq!(called, 0, "{} calls {name}", path.display());
    }
}

#[test]
fn no_file_grows_beyond_what_a_reader_holds() {
    for (path, text) in sources() {
        assert!(text.lines().count() <= 600, "{} is longer than 600 lines", path.display());
    }
}
