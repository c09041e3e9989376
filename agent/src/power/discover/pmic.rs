//! The search for the power chip of a Raspberry Pi 5.
//!
//! Owns which of its converters become rails. The firmware's text is
//! [`crate::power::pmic`]'s. All rails are parts: the input has no current.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use wattline_protocol::record::RailSource;

use super::LookedFor;
use super::search::{Draft, Rate, Search};
use crate::power::meter::{Count, CountSource, Files};
use crate::power::pmic::{NODE, Pmic, PmicConverter, PmicQuantity};

/// Name of the chip.
const CHIP: &str = "da9091";
/// Time between two readings, in ms: the firmware answers some tens of times
/// a second, and other programs ask it as well.
const PERIOD_MS: f64 = 50.0;

/// Lists the rails, or says why there are none.
pub(super) fn find(search: &mut Search<'_>, opened: io::Result<Arc<Pmic>>) -> LookedFor {
    let looked_for = |what, found| LookedFor { what, path: PathBuf::from(NODE), found };
    let none = "the power chip of a Raspberry Pi 5";
    let pmic = match opened {
        Ok(pmic) => pmic,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let closed = "the power chip of a Raspberry Pi 5 (permission denied: join the \
                          group video)";
            return looked_for(closed, 0);
        }
        Err(_) => return looked_for(none, 0),
    };
    // The firmware of an older Pi is there and does not know the question.
    let rails = pmic.rails().unwrap_or_default();
    let rate_hz = pmic.rate_hz().ok();
    for (rail, channel) in rails.iter().zip(1..) {
        let mut draft = Draft::new(RailSource::Pmic, CHIP, channel, rail.clone(), None);
        draft.period_ms = Some(PERIOD_MS);
        draft.rate = Rate::Seen(rate_hz);
        let count = |quantity| Count {
            source: CountSource::Pmic(PmicConverter {
                pmic: Arc::clone(&pmic),
                rail: rail.as_str().into(),
                quantity,
            }),
            step: PmicQuantity::STEP,
        };
        draft.take(Files::VoltsAmperes {
            volts: count(PmicQuantity::Volts),
            amperes: count(PmicQuantity::Amperes),
        });
        search.add(draft);
    }
    looked_for(none, usize::from(!rails.is_empty()))
}
