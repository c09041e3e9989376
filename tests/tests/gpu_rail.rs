//! A GPU's energy counter as a rail, through the driver's library.
//!
//! The library is `tests/tools/gpu_driver.c`, loaded by the real binaries as
//! NVIDIA's would be: its power is constant and known.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::path::Path;
use std::process::Command;

use wattline_tests::{Outcome, SMALLEST, Sandbox, Table, program};

/// Builds the library into the sandbox.
fn driver(sandbox: &Sandbox) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/gpu_driver.c");
    let library = sandbox.path("home").join("libnvidia-ml.so.1");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(library)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
}

/// Runs a program as on a machine whose only GPU is `gpu`.
fn with_gpu(sandbox: &Sandbox, gpu: &str, name: &str, args: &[&str]) -> Outcome {
    let mut command = sandbox.command(program(name));
    command.args(args).env("WATTLINE_TEST_GPU", gpu).env("LD_LIBRARY_PATH", sandbox.path("home"));
    sandbox.start(command).finish()
}

fn gpu_rail(outcome: &Outcome) -> serde_json::Value {
    let line = outcome.stdout.lines().find(|line| line.contains("nvml"));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no GPU: {outcome:#?}"))).unwrap()
}

#[test]
fn a_gpus_counter_is_a_rail_with_its_measured_rate() {
    let sandbox = Sandbox::new();
    driver(&sandbox);
    let rail = gpu_rail(&with_gpu(&sandbox, "60", "wattline-agent", &["rails", "--json"]));
    assert_eq!((&rail["rail"], &rail["source"]), (&"GPU 0".into(), &"nvml".into()));
    assert_eq!((&rail["chip"], &rail["role"]), (&"Test GPU".into(), &"part".into()));
    assert!(rail["skipped"].is_null() && rail["bus"].is_null(), "{rail}");
    let rate_hz = rail["rate_hz"].as_f64().unwrap();
    assert!((10.0..=60.0).contains(&rate_hz), "{rate_hz}");
}

#[test]
fn a_jetsons_library_that_supports_nothing_is_told_with_the_reason() {
    let sandbox = Sandbox::new();
    driver(&sandbox);
    let listed = with_gpu(&sandbox, "jetson", "wattline-agent", &["rails", "--json"]);
    assert_eq!(gpu_rail(&listed)["skipped"], "not supported by its driver");
    // Another board's tree has nothing to do with this machine's GPUs.
    let folder = sandbox.work();
    let tree = ["rails", "--json", "--sysfs-root", folder.to_str().unwrap()];
    let other = with_gpu(&sandbox, "60", "wattline-agent", &tree);
    assert!(!other.fails_with(3, &["simulated"]).stdout.contains("nvml"));
}

#[test]
fn a_library_without_its_driver_is_looked_for_and_refused() {
    let sandbox = Sandbox::new();
    driver(&sandbox);
    let args = [&["run", "--on", "local", "--out", "run"][..], &SMALLEST[..]].concat();
    let rails = with_gpu(&sandbox, "unloaded", "wattline-agent", &["rails"]);
    if rails.code == Some(0) {
        return;
    }
    let refused = with_gpu(&sandbox, "unloaded", "wattline", &args);
    refused.fails_with(3, &["whose driver is not loaded", "/dev/vcio", "--on simulated"]);
}

#[test]
fn a_run_on_a_machine_with_a_gpu_measures_it() {
    let sandbox = Sandbox::new();
    driver(&sandbox);
    let others = sandbox.agent(&["rails"]);
    let args = [&["run", "--on", "local", "--out", "run"][..], &SMALLEST[..]].concat();
    let ran = with_gpu(&sandbox, "60", "wattline", &args);
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    sandbox.wattline(&["export", "run", "--to", "csv"]).ends_with(0);
    let export = sandbox.work().join("run/export");
    let samples = Table::read(&export.join("samples.csv"));
    assert!(samples.texts("rail").contains(&"GPU 0"));
    assert!(!ran.stdout.contains("simulated"), "nothing of it is simulated");
    if others.code == Some(0) {
        // This machine has rails of its own: they are in the sum.
        return;
    }
    let cells = Table::read(&export.join("cells.csv"));
    let watts: f64 = cells.texts("watts")[0].parse().unwrap();
    let bound: f64 = cells.texts("u_watts")[0].parse().unwrap();
    assert!((watts - 60.0).abs() <= bound, "{watts} ± {bound}");
    assert!(cells.texts("reasons")[0].contains("no_total_rail"));
}
