//! Bugs that are planted in the shipping sources, one at a time, to see that
//! the nights catch them: the test of the test.
//!
//! Owns their names and the hunt. Each is one line behind
//! `wattline_protocol::planted!` at the place where the product is right; only
//! the package `tests/planted/night` compiles this module.

use wattline_protocol::planted::plant;

use crate::night;

/// All planted bugs, by the name at their place.
pub const MUTANTS: [&str; 67] = [
    "a segment is not synced",
    "a folder is not synced",
    "a failed segment is written on",
    "a head counts what is not durable",
    "recovery trusts the head alone",
    "what was not read is taken for damaged",
    "a damaged slot is taken for an old one",
    "the epoch is not raised",
    "the newest slot is written over",
    "an epoch slot is not synced",
    "one frame too many counts as durable",
    "dropped spans are not told",
    "a held frame that is due is dropped",
    "a held frame counts as acknowledged once it is read",
    "a frame overtakes what is held of its stream",
    "a segment is passed over",
    "a hole between frames is swallowed",
    "one acknowledgement counts for all",
    "a run is removed before a host holds it",
    "a number is given twice",
    "a row too many is counted",
    "a gap is not recorded",
    "a failed sync is promised",
    "a hole is not sent",
    "the end of an epoch is not recorded",
    "a frame's checksum is not checked",
    "frames are committed before their watermark",
    "a failed write is acknowledged",
    "a duplicate is not dropped",
    "a gap does not move the watermark",
    "credit is not renewed",
    "silence is not noticed",
    "a fetch ends where the log ends",
    "a run that goes on is removed",
    "a head's checksum is not checked",
    "too much is skipped behind damage",
    "what no host holds is forgotten",
    "marks are dropped before samples",
    "a gap is told one short",
    "an acknowledgement counts for one more",
    "the end of a run overtakes what is held",
    "a folder counts as synced that is not",
    "what a failed segment took is not written again",
    "a segment goes with what it promised",
    "a damaged slot stays beside the new one",
    "the name of a slot is not synced",
    "a start forgets what lies before the newest segment",
    "a start reads the newest segment alone",
    "a reader begins one too late",
    "a hole before a segment is swallowed",
    "a hole at the end is swallowed",
    "an end leaves out the streams",
    "marks are held for a host",
    "no sync is due",
    "sweeps that were lost are not told",
    "the last rows are not recorded",
    "a host acknowledges one too many",
    "summaries replace those before",
    "a hole is stored over",
    "a block is summed up twice",
    "the number of a broken window is given again",
    "a broken trial is not said to be aborted",
    "a broken trial is not made again",
    "a trial is left out",
    "a start goes on from what does not count",
    "a slot that is gone is no sign",
    "segments do not count once both slots are lost",
];

/// A planted bug was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The seed of the night that it spoilt.
    pub seed: u64,
    /// The first finding of that night.
    pub finding: String,
}

/// Hunts one planted bug through nights from seed `from` on; `None` where
/// `seeds` nights passed without a finding.
#[must_use]
pub fn hunt(mutant: &'static str, from: u64, seeds: u64) -> Option<Caught> {
    plant(Some(mutant));
    let caught = (from..from.saturating_add(seeds)).find_map(|seed| {
        let finding = night(seed).findings.into_iter().next()?;
        Some(Caught { seed, finding: finding.text })
    });
    plant(None);
    caught
}
