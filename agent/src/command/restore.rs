//! `restore`: works off what a run that was cut left changed in kernel drivers.
//!
//! Owns what is said of each entry. Nothing to do is success: the service runs
//! this after each of its ends, as root.

use std::path::Path;
use std::sync::Arc;

use super::serve::{root_failure, spool_folder};
use super::{Failure, line};
use crate::args::RestoreArgs;
use crate::power::settings::{Desk, Ending, RestoreError, WorkedOff};
use crate::spool::DiskStorage;

pub(super) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let folder = spool_folder(args.spool.as_deref())?;
    // Opening a spool makes what is absent; as root it would belong to root.
    if !Desk::has_journal(&folder) {
        return line("nothing to restore");
    }
    let storage = DiskStorage::open(&folder)
        .map_err(|error| Failure { status: 1, ..root_failure(&folder, &error) })?;
    let root = args.sysfs_root.as_deref();
    let desk = Desk::new(Arc::new(storage), root.unwrap_or_else(|| Path::new("/sys")));
    let worked_off = desk.work_off_in(root);
    if worked_off.is_empty() {
        return line("nothing to restore");
    }
    let mut failures = Vec::new();
    for one in &worked_off {
        match say(one) {
            Ok(text) => line(&text)?,
            Err(error) => failures.push(error),
        }
    }
    let Some(first) = failures.first() else { return Ok(()) };
    let mend = if first.is_permission() {
        "do it as root: sudo wattline-agent restore"
    } else {
        "load the driver again (sudo modprobe -r ina3221; sudo modprobe ina3221), then restore"
    };
    Err(Failure {
        status: 1,
        what: "what a run changed is not restored".into(),
        because: failures.iter().flat_map(chain).collect(),
        mend,
    })
}

fn say(one: &WorkedOff) -> Result<String, &RestoreError> {
    let ending = one.ended.as_ref().copied()?;
    let Some(entry) = &one.entry else { return Ok(String::new()) };
    let values: Vec<String> =
        entry.attributes.iter().map(|kept| format!("{} {}", kept.name, kept.found)).collect();
    let (place, values) = (entry.place(), values.join(", "));
    if entry.registers.is_some() && ending != Ending::BeganAnew {
        return Ok(format!(
            "gave {place} back to {}, with its registers and {values}",
            entry.driver
        ));
    }
    Ok(match ending {
        Ending::Restored => format!("restored {place}: {values}"),
        Ending::Stood => format!("kept {place}: {values} stood already"),
        Ending::BeganAnew => format!("kept {place}: its driver began anew since"),
    })
}

fn chain(error: &&RestoreError) -> Vec<String> {
    let mut because = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(below) = source {
        because.push(below.to_string());
        source = below.source();
    }
    because
}
