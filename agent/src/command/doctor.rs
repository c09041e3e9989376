//! `doctor`: what the agent needs on this board, checked without a run.
//!
//! Owns the list of checks, how one is told, and the exit status: 3 where one
//! fails, 0 where there are only warnings. What is checked of rails and chips
//! is in `power`, of the board's own state in `state`, of the machine in `machine`.

mod machine;
mod power;
mod state;

use std::path::Path;

use serde_json::json;

use super::configured::{Configured, configured, found};
use super::serve::room;
use super::{Failure, line};
use crate::args::DoctorArgs;
use crate::config::Configuration;
use crate::power::discover::SYSTEM_ROOT;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// A result may be affected; a run is possible.
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: String,
    outcome: Outcome,
    found: String,
    cure: String,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let root = args.sysfs_root.as_deref();
    let configuration = match configured(&args.config, root)? {
        Configured::Read(configuration) => configuration,
        Configured::Printed => return Ok(()),
    };
    let root = root.filter(|&root| root != Path::new(SYSTEM_ROOT));
    let found = found(root, &configuration);
    let mut checks = vec![of_config(&configuration)];
    checks.extend(power::checks(&found, root));
    checks.extend(state::checks(root.unwrap_or_else(|| Path::new(SYSTEM_ROOT))));
    checks.extend(machine::checks(args.spool.as_deref(), room(&args.room, &configuration)));
    for check in &checks {
        line(&check.text(args.json))?;
    }
    let failed = checks.iter().filter(|check| check.outcome == Outcome::Failed);
    let because: Vec<String> = failed.map(|check| check.found.clone()).collect();
    if because.is_empty() {
        return Ok(());
    }
    Err(Failure {
        status: 3,
        what: "this board is not ready to measure".into(),
        because,
        mend: "follow the cures above; `--on simulated` needs no rail",
    })
}

fn of_config(configuration: &Configuration) -> Check {
    let files: Vec<String> =
        configuration.files.iter().map(|file| file.display().to_string()).collect();
    let rails = configuration.rails.len();
    Check::good(
        "config",
        match files.as_slice() {
            [] => "no file: all by default".into(),
            files => format!("{} with {rails} rails", files.join(", ")),
        },
    )
}

impl Check {
    fn good(name: impl Into<String>, found: impl Into<String>) -> Self {
        let (name, found) = (name.into(), found.into());
        Self { name, outcome: Outcome::Good, found, cure: String::new() }
    }

    fn warning(name: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, cure: cure.into(), ..Self::good(name, found) }
    }

    fn failed(name: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, ..Self::warning(name, found, cure) }
    }

    fn text(&self, as_json: bool) -> String {
        let Self { name, outcome, found, cure } = self;
        if as_json {
            let (good, warning) = (*outcome != Outcome::Failed, *outcome == Outcome::Warning);
            return json!({
                "check": name, "good": good, "warning": warning, "found": found, "cure": cure,
            })
            .to_string();
        }
        let mark = match outcome {
            Outcome::Good => "ok  ",
            Outcome::Warning => "warn",
            Outcome::Failed => "FAIL",
        };
        let cure = if cure.is_empty() { String::new() } else { format!("  try: {cure}") };
        format!("{mark} {name:<14} {found}{cure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_is_not_good_carries_its_cure() {
        assert_eq!(Check::good("cores", "4 on line").text(false), "ok   cores          4 on line");
        let closed = Check::failed("access i2c-1", "permission denied", "join the group i2c");
        assert_eq!(
            closed.text(false),
            "FAIL access i2c-1   permission denied  try: join the group i2c"
        );
        let value: serde_json::Value = serde_json::from_str(&closed.text(true)).unwrap();
        assert_eq!((&value["good"], &value["warning"]), (&false.into(), &false.into()));
        let slow = Check::warning("rate 1-0040", "slow", "faster bus").text(true);
        assert!(slow.contains("\"good\":true") && slow.contains("\"warning\":true"), "{slow}");
    }
}
