//! A pin: the public key itself, as one word of text.
//!
//! Owns `wattline-key:ed25519:…` and the SubjectPublicKeyInfo that it stands for.
//! Source of the encoding: RFC 8410 §4 and the example in its §10.1.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::base64;

/// What stands before the key in its text.
const PREFIX: &str = "wattline-key:ed25519:";
/// SubjectPublicKeyInfo of Ed25519 up to the 32 bytes of the key.
const SPKI_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key that a peer must prove to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

/// Why a text is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PinError {
    /// It begins otherwise.
    #[error("`{text}` is no key: one begins with {PREFIX}")]
    Prefix {
        /// What was given.
        text: String,
    },
    /// A secret key was given where its public one belongs.
    #[error("that is a secret key; give its pin, which `keys show` prints")]
    Secret,
    /// What follows is not 32 bytes.
    #[error("`{text}` is cut or mistyped: 43 characters of base64 follow {PREFIX}")]
    Length {
        /// What was given.
        text: String,
    },
}

impl Pin {
    /// The pin of a SubjectPublicKeyInfo; `None` for a key of another kind.
    #[must_use]
    pub fn of_spki(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&SPKI_HEAD)?.try_into().ok().map(Self)
    }

    /// The SubjectPublicKeyInfo that the peer sends.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.0].concat()
    }

    /// Sixteen hexadecimal digits that tell keys apart where a whole one is too long.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base64::encode(&self.0))
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        if text.starts_with(crate::key::PREFIX) {
            return Err(PinError::Secret);
        }
        let shown = || text.chars().take(80).collect();
        let key = text.strip_prefix(PREFIX).ok_or_else(|| PinError::Prefix { text: shown() })?;
        base64::decode(key).map(Self).ok_or_else(|| PinError::Length { text: shown() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 §10.1.
    const RFC_SPKI: [u8; 44] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0x19, 0xbf, 0x44,
        0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96, 0xc8, 0x50,
        0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
    ];

    #[test]
    fn the_key_of_the_rfc_has_a_text_and_comes_back_from_it() {
        let pin = Pin::of_spki(&RFC_SPKI).unwrap();
        assert_eq!(
            pin.to_string(),
            "wattline-key:ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"
        );
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.spki(), RFC_SPKI);
        assert_eq!(pin.short(), "19bf44096984cdfe");
    }

    #[test]
    fn what_is_no_pin_is_told_apart() {
        assert!(matches!("ssh-ed25519 AAAA".parse::<Pin>(), Err(PinError::Prefix { .. })));
        assert!(matches!(format!("{PREFIX}AAAA").parse::<Pin>(), Err(PinError::Length { .. })));
        let secret = format!("{}AAAA", crate::key::PREFIX);
        let refused = secret.parse::<Pin>().unwrap_err();
        assert!(refused == PinError::Secret && !refused.to_string().contains("AAAA"));
        assert_eq!(Pin::of_spki(&RFC_SPKI[1..]), None);
        assert_eq!(Pin::of_spki(&RFC_SPKI[..43]), None);
    }
}
