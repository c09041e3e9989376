//! What a run set in kernel drivers, in words.
//!
//! Owns the sentences alone.

use wattline_protocol::record::{DriverAttribute, SettingOutcome};

use crate::analysis::DriverChange;

/// Whether a change may have left the board other than it was.
pub(super) fn is_alert(change: &DriverChange) -> bool {
    change.outcome == SettingOutcome::Set && !change.is_restored
}

/// One change: what stood, what stands, why it stays, and whether it was undone.
pub(super) fn text(change: &DriverChange) -> String {
    let DriverChange { place, attribute, found, stands, outcome, is_restored } = change;
    let name = attribute.name();
    let ended = if *is_restored {
        "restored after it"
    } else {
        "not known to be restored: `wattline-agent restore` on the board"
    };
    let why = match outcome {
        SettingOutcome::Set if *attribute == DriverAttribute::Binding => {
            return format!("{place}: taken from its driver for the run; {ended}");
        }
        SettingOutcome::Set => {
            return format!("{place}: {name} {found} → {stands} for the run; {ended}");
        }
        SettingOutcome::NotPermitted => {
            "may not be written; `wattline deploy` installs a rule that lets the agent".to_owned()
        }
        SettingOutcome::Refused { errno } => format!("refused by the driver (errno {errno})"),
        SettingOutcome::NotKept { errno } => {
            format!("what was found could not be kept on disk (errno {errno})")
        }
        SettingOutcome::Fixed => "the driver has no file for it".to_owned(),
        SettingOutcome::Kept => "asked to be kept (--driver-settings keep)".to_owned(),
        SettingOutcome::Restored | SettingOutcome::NotRestored { .. } => String::new(),
    };
    format!("{place}: {name} stays {stands}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_not_undone_is_an_alert_with_its_cure() {
        let change = DriverChange {
            place: "1-0040".into(),
            attribute: DriverAttribute::UpdateInterval,
            found: 7,
            stands: 1,
            outcome: SettingOutcome::Set,
            is_restored: true,
        };
        let expected = "1-0040: update_interval 7 → 1 for the run; restored after it";
        assert_eq!((text(&change).as_str(), is_alert(&change)), (expected, false));
        let left = DriverChange { is_restored: false, ..change.clone() };
        assert!(is_alert(&left) && text(&left).contains("wattline-agent restore"));
        let outcome = SettingOutcome::NotPermitted;
        let closed = DriverChange { outcome, stands: 7, is_restored: false, ..change };
        assert!(!is_alert(&closed) && text(&closed).contains("stays 7: may not be written"));
    }
}
