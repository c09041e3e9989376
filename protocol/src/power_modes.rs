//! The power modes that a run is asked for: its outer blocks.
//!
//! Owns their check. They are no axis of a campaign: a run has one, and several make
//! several runs ([`crate::command::Command::StartBlocks`]).

use crate::campaign_spec::SpecError;

/// Most power modes of a run: no board's table has more.
pub const POWER_MODES_MAX: usize = 16;

/// The modes of a campaign file or of flags; none: the one that holds.
///
/// # Errors
/// [`SpecError`] for an empty list, a value twice, or too many.
pub fn power_modes(asked: Option<&[u16]>) -> Result<Vec<u16>, SpecError> {
    let key = "power_mode";
    let Some(modes) = asked else { return Ok(Vec::new()) };
    if modes.is_empty() {
        return Err(SpecError::Empty { key });
    }
    if modes.len() > POWER_MODES_MAX {
        return Err(SpecError::Range {
            key,
            value: format!("{} modes", modes.len()),
            allowed: "16 at most",
        });
    }
    for (place, id) in modes.iter().enumerate() {
        if modes.get(..place).is_some_and(|before| before.contains(id)) {
            return Err(SpecError::Twice { key, value: id.to_string() });
        }
    }
    Ok(modes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_some_and_each_once() {
        assert_eq!(power_modes(None), Ok(Vec::new()));
        assert_eq!(power_modes(Some(&[2, 0])), Ok(vec![2, 0]));
        assert!(matches!(power_modes(Some(&[])), Err(SpecError::Empty { .. })));
        assert!(matches!(power_modes(Some(&[1, 1])), Err(SpecError::Twice { .. })));
        let many: Vec<u16> = (0..17).collect();
        assert!(matches!(power_modes(Some(&many)), Err(SpecError::Range { .. })));
    }
}
