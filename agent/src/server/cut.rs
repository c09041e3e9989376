//! What a start of the agent says of a run that the last end cut off.
//!
//! Pure: owns the records, not their writing, which the hub does.

use std::collections::BTreeMap;

use wattline_protocol::record::{EpochEnd, StreamEnd};

use crate::spool::RecoveredRun;

/// Where each epoch of the run ended, as the disk has it.
#[must_use]
pub fn epoch_ends(recovered: &RecoveredRun) -> Vec<EpochEnd> {
    let mut epochs: BTreeMap<u32, Vec<StreamEnd>> = BTreeMap::new();
    for end in &recovered.ends {
        epochs.entry(end.epoch).or_default().push(*end);
    }
    let torn_bytes = recovered.torn_bytes;
    let ends = epochs.into_iter();
    ends.map(|(epoch, streams)| EpochEnd { epoch, streams, torn_bytes }).collect()
}
