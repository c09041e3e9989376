//! `--config` and `--print-config`, as `serve`, `rails` and `doctor` have them.
//!
//! Owns which files are read and how a bad one is told; the keys are
//! [`crate::config`]'s.

use std::path::Path;

use super::{EX_CONFIG, EX_NOPERM, Failure, line};
use crate::args::ConfigArgs;
use crate::config::{self, ConfigError, Configuration};
use crate::power::discover::{self, Found, SYSTEM_ROOT};

/// Exit status of wrong configuration, but for `serve`.
const WRONG: u8 = 2;

/// What a sub-command does with the configuration.
pub(super) enum Configured {
    /// Go on with it.
    Read(Configuration),
    /// It was printed: that was all.
    Printed,
}

/// Reads the configuration; a copy of another board's tree at `root` has only
/// the file that is named.
pub(super) fn configured(args: &ConfigArgs, root: Option<&Path>) -> Result<Configured, Failure> {
    let is_copy = root.is_some_and(|root| root != Path::new(SYSTEM_ROOT));
    let configuration = match &args.config {
        None if is_copy => Configuration::default(),
        named => config::read(named.as_deref()).map_err(|error| refused(&error, WRONG))?,
    };
    if args.print_config {
        line(configuration.to_toml().trim_end())?;
        return Ok(Configured::Printed);
    }
    Ok(Configured::Read(configuration))
}

/// As [`configured`], with the exit statuses of `serve`.
pub(super) fn configured_to_serve(
    args: &ConfigArgs,
    root: Option<&Path>,
) -> Result<Configured, Failure> {
    let mapped = |failure: Failure| match failure.status {
        WRONG => Failure { status: EX_CONFIG, ..failure },
        _ => failure,
    };
    configured(args, root).map_err(mapped)
}

/// Searches the tree at `root`, or this machine, the configuration's rails among what is found.
pub(super) fn found(root: Option<&Path>, configuration: &Configuration) -> Found {
    let rails = &configuration.rails;
    root.map_or_else(|| discover::find_here(rails), |root| discover::find_with(root, rails))
}

fn refused(error: &ConfigError, status: u8) -> Failure {
    match error {
        ConfigError::Unreadable { source, .. } => {
            let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
            let status = if denied { EX_NOPERM } else { status };
            let mend = "see to the file and its permissions, or name another with --config";
            Failure::of(status, "the configuration cannot be read", error, mend)
        }
        ConfigError::Key(_) => {
            let mend = "mend that line; `wattline-agent rails --print-config` shows every key";
            Failure::of(status, "the configuration cannot be used", error, mend)
        }
    }
}
