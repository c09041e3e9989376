//! `keys`: the gate's key, and the keys that it lets in.
//!
//! What the verbs do is [`wattline_pinned::KeyVerb`]'s, on a board as on a host.

use std::path::{Path, PathBuf};

use wattline_pinned::{KeyFolder, KeyFolderError, KeyVerb};

use super::serve::state_folder;
use super::{Failure, line};
use crate::args::{KeyFolderArgs, KeysArgs, KeysVerb};

/// The service's own folder.
const SERVICE: &str = "/var/lib/wattline-gate";

pub(super) fn run(args: KeysArgs) -> Result<(), Failure> {
    let folder = folder(&args.keys)?;
    let verb = match args.verb {
        KeysVerb::Show => KeyVerb::Show,
        KeysVerb::List => KeyVerb::List,
        KeysVerb::Add { name, pin } => KeyVerb::Add { name, pin },
        KeysVerb::Revoke { who } => KeyVerb::Revoke { who },
        KeysVerb::Rotate => KeyVerb::Rotate,
        KeysVerb::Settle => KeyVerb::Settle,
    };
    let lines = verb.perform(&folder).map_err(|error| failure(1, &error))?;
    lines.iter().try_for_each(|text| line(text))
}

/// Where keys and pins lie.
pub(super) fn folder(args: &KeyFolderArgs) -> Result<KeyFolder, Failure> {
    let path = match &args.keys {
        Some(path) => path.clone(),
        None if Path::new(SERVICE).is_dir() => PathBuf::from(SERVICE),
        None => state_folder()?.join("keys"),
    };
    Ok(KeyFolder::at(&path))
}

pub(super) fn failure(status: u8, error: &KeyFolderError) -> Failure {
    Failure::of(status, "the keys are not as they must be", error, error.mend())
}
