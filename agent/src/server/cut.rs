//! What a start of the agent says of a run that the last end cut off.
//!
//! Pure: owns the records, not their writing, which the hub does.

use std::collections::BTreeMap;

use wattline_protocol::planted;
use wattline_protocol::record::{EpochEnd, StreamEnd};

use crate::spool::RecoveredRun;

/// Where each epoch of the run ended, as the disk has it at the start of
/// `epoch`. An epoch before that is not among them left nothing: what a host
/// has of it came from the memory of an agent that lost its power.
#[must_use]
pub fn epoch_ends(recovered: &RecoveredRun, epoch: u32) -> Vec<EpochEnd> {
    let mut epochs: BTreeMap<u32, Vec<StreamEnd>> = BTreeMap::new();
    if recovered.ends.is_empty() {
        // Said all the same, or the end of the run would stand there unexplained.
        epochs.insert(epoch.saturating_sub(1), Vec::new());
    }
    for end in &recovered.ends {
        epochs.entry(end.epoch).or_default().push(*end);
    }
    if planted!("the end of an epoch is not recorded") {
        return Vec::new();
    }
    let torn_bytes = recovered.torn_bytes;
    let ends = epochs.into_iter();
    ends.map(|(epoch, streams)| EpochEnd { epoch, streams, torn_bytes }).collect()
}
