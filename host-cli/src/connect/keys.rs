//! Where this machine's key and the boards' pins lie, and how it is called there.

use std::path::PathBuf;

use etcetera::{BaseStrategy, choose_base_strategy};
use wattline_pinned::{KeyFolder, KeyFolderError, PeerName};

/// Another folder than the usual one.
const VARIABLE: &str = "WATTLINE_KEYS";

/// `wattline/keys` in the user's configuration folder, or what `WATTLINE_KEYS` names.
///
/// # Errors
/// [`KeyFolderError::Folder`] where there is no home folder.
pub fn folder() -> Result<KeyFolder, KeyFolderError> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(KeyFolder::at(&PathBuf::from(path)));
    }
    let base = choose_base_strategy().map_err(|_| KeyFolderError::Folder {
        path: PathBuf::from("~"),
        source: std::io::Error::other("there is no home folder"),
    })?;
    Ok(KeyFolder::at(&base.config_dir().join("wattline/keys")))
}

/// The name of a pin that is `text`, with what no name has replaced.
#[must_use]
pub fn name_of(text: &str) -> Option<PeerName> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:@".contains(c);
    let plain: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(100).collect();
    plain.trim_start_matches('-').parse().ok()
}
