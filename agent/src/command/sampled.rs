//! What `--exclusive`, `--profile` and `--bus-share` mean, for `serve` and `rails`.
//!
//! Owns the refusals: what a kernel driver holds is configured by nobody else.

use std::path::Path;

use super::Failure;
use crate::args::{BusPart, ProfileName, SamplingArgs};
use crate::power::chip::Profile;
use crate::power::discover::Found;
use crate::power::pace::BusShare;
use crate::power::settings::exclusive;
use crate::power::settings::sysfs::SysfsFiles;
use crate::sampling::PowerSource;

/// Exit statuses of a refusal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statuses {
    /// What is asked for does not go together.
    pub(super) wrong: u8,
    /// This user may not.
    pub(super) not_permitted: u8,
}

/// The profile as the sampler knows it.
pub(super) const fn profile(args: SamplingArgs) -> Profile {
    match args.profile {
        ProfileName::Fast => Profile::Fast,
        ProfileName::Cover => Profile::Cover,
        ProfileName::Total => Profile::Total,
    }
}

/// What was found, with the share of the buses that was asked for.
pub(super) fn shared(found: Found, args: SamplingArgs) -> Found {
    match args.bus_share {
        None => found,
        Some(BusPart::Whole) => found.with_share(BusShare::Whole),
        Some(BusPart::Half) => found.with_share(BusShare::Half),
    }
}

/// The profile of exclusive mode over the tree at `root`; `None` where it is
/// not asked for.
///
/// # Errors
/// [`Failure`] where a driver holds a chip whose profile is to be another, and
/// where exclusive mode has nothing to take or may not.
pub(super) fn exclusive(
    source: &PowerSource,
    args: SamplingArgs,
    root: &Path,
    statuses: Statuses,
) -> Result<Option<Profile>, Failure> {
    let PowerSource::Real(found) = source else { return Ok(None) };
    let held = found.held();
    if !args.exclusive {
        let first = held.first().filter(|_| args.profile != ProfileName::Fast);
        let Some((bus, address)) = first else { return Ok(None) };
        return Err(Failure {
            status: statuses.wrong,
            what: format!("profile {} cannot be had", profile(args).name()),
            because: vec![format!("{bus}-{address:04x} is held by its kernel driver")],
            mend: "take it from the driver for each run with --exclusive, or use --profile fast",
        });
    }
    if held.is_empty() {
        return Err(Failure {
            status: statuses.wrong,
            what: "exclusive mode cannot be had".into(),
            because: vec!["no kernel driver holds a chip that could be taken from it".into()],
            mend: "leave --exclusive out: chips that no driver holds are ours already",
        });
    }
    exclusive::may_take(&SysfsFiles, root, &held).map_err(|error| {
        let status = if error.is_permission() { statuses.not_permitted } else { statuses.wrong };
        let mend = "run it as root, or leave --exclusive out";
        Failure::of(status, "exclusive mode cannot be had", &error, mend)
    })?;
    Ok(Some(profile(args)))
}
