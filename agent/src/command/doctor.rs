//! `doctor`: what the agent needs on this board, checked without a run.

use std::path::Path;

use serde_json::json;

use super::{Failure, drivers, line};
use crate::args::DoctorArgs;
use crate::board;
use crate::power::discover::{self, SYSTEM_ROOT};
use crate::realtime;
use crate::sampling::looked_for;

struct Check {
    name: &'static str,
    good: bool,
    found: String,
    cure: &'static str,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let checks = [rails(), driver(), scheduling(), cores(), spool()];
    for check in &checks {
        line(&check.text(args.json))?;
    }
    if checks.iter().all(|check| check.good) {
        return Ok(());
    }
    Err(Failure {
        status: 3,
        what: "this board is not ready to measure".into(),
        because: checks.iter().filter(|c| !c.good).map(|c| c.found.clone()).collect(),
        mend: "follow the cures above; `--on simulated` needs no rail",
    })
}

impl Check {
    fn text(&self, as_json: bool) -> String {
        let Self { name, good, found, cure } = self;
        if as_json {
            return json!({"check": name, "good": good, "found": found, "cure": cure}).to_string();
        }
        let mark = if *good { "ok  " } else { "FAIL" };
        let cure = if *good { String::new() } else { format!("  try: {cure}") };
        format!("{mark} {name:<12} {found}{cure}")
    }
}

fn rails() -> Check {
    let found = discover::find_here(&[]);
    let good: Vec<&str> =
        found.rails.iter().filter(|r| r.skipped.is_none()).map(|r| r.name.as_str()).collect();
    let text = if good.is_empty() {
        format!("none; looked for {}", looked_for(&found).join("; "))
    } else {
        good.join(", ")
    };
    Check {
        name: "rails",
        good: !good.is_empty(),
        found: text,
        cure: "load the board's INA driver (modprobe ina3221), and join the group i2c",
    }
}

fn driver() -> Check {
    let (good, found) = drivers::drivers(Path::new(SYSTEM_ROOT));
    Check { name: "driver", good, found, cure: drivers::CURE }
}

fn scheduling() -> Check {
    // On a thread of its own, so that this one keeps its class.
    let granted = std::thread::spawn(realtime::request).join().ok();
    let refused = granted.and_then(|granted| granted.refusal_errno);
    Check {
        name: "scheduling",
        good: granted.is_some() && refused.is_none(),
        found: refused.map_or_else(
            || "real-time class granted".into(),
            |errno| format!("real-time class refused (errno {errno}): samples may come late"),
        ),
        cure: "give the user an rtprio limit of 50, or run the agent as its service",
    }
}

fn cores() -> Check {
    let cores = board::cores_online();
    Check {
        name: "cores",
        good: cores >= 2,
        found: format!("{cores} on line"),
        cure: "leave one core to the sampler: measure with --cores",
    }
}

fn spool() -> Check {
    let folder = super::serve::state_folder().and_then(|folder| {
        super::serve::make_folder(&folder)?;
        Ok(folder)
    });
    match folder {
        Ok(folder) => {
            Check { name: "spool", good: true, found: folder.display().to_string(), cure: "" }
        }
        Err(failure) => Check {
            name: "spool",
            good: false,
            found: failure.what,
            cure: "choose a folder with --spool",
        },
    }
}
