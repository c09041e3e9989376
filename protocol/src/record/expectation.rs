//! What a board's profile and its user expect of the rails, and where the
//! running system is not so.
//!
//! Owns the record and its words. A profile never changes a label or a shunt:
//! those come from the running system, or from the user's configuration.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::power::RailRole;

/// The profile that a board was recognised by, and what of it does not hold;
/// follows the start of a run where either is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BoardExpectation {
    /// Name of the profile; `None` where no profile knows the board.
    pub profile: Option<String>,
    /// Parts that lie inside another part: never added to it.
    pub inside: Vec<RailInside>,
    /// Where profile, configuration and running system differ.
    pub mismatches: Vec<Mismatch>,
}

/// A sampled part whose power another sampled part holds already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RailInside {
    /// The inner rail.
    pub rail: String,
    /// The rail around it.
    pub within: String,
}

/// One difference between what is expected and what is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Mismatch {
    /// A rail of the profile is not there.
    Missing {
        /// Its label.
        rail: String,
        /// Name of its chip.
        chip: String,
        /// The chip's 7-bit address.
        address: u8,
        /// The chip's channel, from 1.
        channel: u8,
    },
    /// The channel of an expected rail has another label.
    OtherLabel {
        /// The label there is.
        rail: String,
        /// The label that is expected.
        expected: String,
    },
    /// A rail is on another chip or channel than expected.
    OtherPlace {
        /// The rail.
        rail: String,
        /// Address that is expected.
        expected_address: u8,
        /// Channel that is expected.
        expected_channel: u8,
        /// Address where it is; `None` where the system tells none.
        address: Option<u8>,
        /// Channel where it is.
        channel: u8,
    },
    /// A rail is measured over another shunt than expected.
    OtherShunt {
        /// The rail.
        rail: String,
        /// Resistance that is expected, in ohms.
        expected_ohm: f64,
        /// Resistance that is used, in ohms.
        used_ohm: f64,
    },
    /// A rail has another role than expected.
    OtherRole {
        /// The rail.
        rail: String,
        /// Role that is expected.
        expected: RailRole,
        /// Role that is used.
        used: RailRole,
    },
    /// The user gave another shunt than the running system tells; the user's
    /// is used.
    Overridden {
        /// The rail.
        rail: String,
        /// What the system tells, in ohms.
        told_ohm: f64,
        /// What the user gave, in ohms.
        given_ohm: f64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { rail, chip, address, channel } => write!(
                f,
                "rail {rail} is missing: expected on channel {channel} of the {chip} at \
                 {address:#04x}"
            ),
            Self::OtherLabel { rail, expected } => {
                write!(f, "rail {rail} is where {expected} is expected")
            }
            Self::OtherPlace { rail, expected_address, expected_channel, address, channel } => {
                let at = address.map_or_else(|| "no address".into(), |at| format!("{at:#04x}"));
                write!(
                    f,
                    "rail {rail} is at {at} channel {channel}, expected at \
                     {expected_address:#04x} channel {expected_channel}"
                )
            }
            Self::OtherShunt { rail, expected_ohm, used_ohm } => {
                write!(f, "rail {rail} is measured over {used_ohm} Ω, expected {expected_ohm} Ω")
            }
            Self::OtherRole { rail, expected, used } => {
                write!(f, "rail {rail} is used as {}, expected {}", used.name(), expected.name())
            }
            Self::Overridden { rail, told_ohm, given_ohm } => write!(
                f,
                "rail {rail}: the configuration's {given_ohm} Ω is used, the running system tells \
                 {told_ohm} Ω"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_both_things_that_disagree() {
        let rail = || "VDD_IN".to_owned();
        let shunt = Mismatch::OtherShunt { rail: rail(), expected_ohm: 0.005, used_ohm: 0.01 };
        assert_eq!(shunt.to_string(), "rail VDD_IN is measured over 0.01 Ω, expected 0.005 Ω");
        let missing =
            Mismatch::Missing { rail: rail(), chip: "ina3221".into(), address: 0x40, channel: 1 };
        assert_eq!(
            missing.to_string(),
            "rail VDD_IN is missing: expected on channel 1 of the ina3221 at 0x40"
        );
        let role = (RailRole::Total, RailRole::Part);
        let role = Mismatch::OtherRole { rail: rail(), expected: role.0, used: role.1 };
        assert_eq!(role.to_string(), "rail VDD_IN is used as part, expected total");
    }
}
