//! Whom a pin is of: a name that fits into one column of a file.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name: a domain name of 63 characters, a port and a user.
const LEN_MAX: usize = 100;

/// A peer's name: `orin:7425` for a board that is dialled, a board's own name for
/// one that dials, `user@machine` for a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no name for a key: up to {LEN_MAX} letters, digits and . _ - : @ [ ], \
     and no hyphen first"
)]
pub struct NameError {
    text: String,
}

impl PeerName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:@[]".contains(c);
        let good = !text.is_empty() && text.len() <= LEN_MAX && text.chars().all(fits);
        if good && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError { text: text.chars().take(LEN_MAX).collect() })
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
