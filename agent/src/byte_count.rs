//! A number of bytes as people write it: `500MB`, `2GiB`, `1048576`.
//!
//! Owns the units and the refusal of what is none. MB is 10⁶ bytes and MiB 2²⁰,
//! as IEC 80000-13 has it; a number without a unit is bytes.

use thiserror::Error;

use crate::server::ROOM_BYTES_MIN;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// Why a text is no number of bytes, or not one that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ByteCountError {
    /// It is none.
    #[error("`{text}` is no number of bytes: write 2GiB, 500MB, 1.5GB or plain bytes")]
    NotANumber {
        /// What was given.
        text: String,
    },
    /// No run begins with so little.
    #[error("{bytes} bytes are too few: no run begins with less than {ROOM_BYTES_MIN} (17MB)")]
    TooFew {
        /// What was given.
        bytes: u64,
    },
}

/// Units by their names in small letters.
const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

impl ByteCount {
    /// Parses a number of bytes.
    ///
    /// # Errors
    /// [`ByteCountError::NotANumber`] with the text.
    pub fn parse(text: &str) -> Result<Self, ByteCountError> {
        let wrong = || ByteCountError::NotANumber { text: text.chars().take(80).collect() };
        let plain = text.trim();
        let at = plain
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(plain.len());
        let (number, unit) = plain.split_at(at);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        // Six digits are more than a quota is ever meant to.
        if part.len() > 6 {
            return Err(wrong());
        }
        let scale = 10_u64.pow(u32::try_from(part.len()).unwrap_or(0));
        let part: u64 = part.parse().map_err(|_| wrong())?;
        let of_part = u128::from(part) * u128::from(factor) / u128::from(scale);
        let bytes = u128::from(whole) * u128::from(factor) + of_part;
        u64::try_from(bytes).map(Self).map_err(|_| wrong())
    }

    /// Parses a quota, with which a run can begin at least.
    ///
    /// # Errors
    /// [`ByteCountError`] with the text or the number.
    pub fn quota(text: &str) -> Result<Self, ByteCountError> {
        let Self(bytes) = Self::parse(text)?;
        // Samples leave the last twentieth to the rest.
        if bytes - bytes / 20 < ROOM_BYTES_MIN {
            return Err(ByteCountError::TooFew { bytes });
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("500MB", 500_000_000),
            ("500 mb", 500_000_000),
            ("2GiB", 2_147_483_648),
            ("1.5G", 1_500_000_000),
            ("0.5 KiB", 512),
            ("16tib", 17_592_186_044_416),
        ] {
            assert_eq!(ByteCount::parse(text), Ok(ByteCount(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["", "MB", "-1", "1e9", "1..5G", ".5G", "5 parsecs", "99999999TiB", "1.1234567G"]
        {
            assert!(ByteCount::parse(text).is_err(), "{text}");
        }
        assert_eq!(ByteCount::quota("10MB"), Err(ByteCountError::TooFew { bytes: 10_000_000 }));
        assert_eq!(ByteCount::quota("18MB"), Ok(ByteCount(18_000_000)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_refused(text: String) {
            let _ = ByteCount::quota(&text);
        }

        #[test]
        fn bytes_come_back(bytes: u64) {
            prop_assert_eq!(ByteCount::parse(&bytes.to_string()), Ok(ByteCount(bytes)));
        }
    }
}
