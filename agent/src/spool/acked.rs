//! What a host has acknowledged of a run that is over, kept over a restart.
//!
//! Owns one small file beside the segments, written once: when a host holds
//! all of a run that has ended. It is no second truth about the log. Without
//! it, or with a torn one, the run is merely kept until a host says again
//! that it holds it, as each fetch does.

use wattline_protocol::record::RunId;

use super::epoch::replace_file;
use super::segment::{Ends, Head};
use super::storage::{Storage, StorageError};

/// Name of the file in a run's folder; it sorts behind every segment.
const NAME: &str = "acked";
/// A head of the largest size fits.
const BYTES_MAX: usize = 64 * 1024;

/// Ends of the streams that a host holds; none where nothing is known.
pub(super) fn read(storage: &dyn Storage, folder: &str) -> Ends {
    let mut bytes = vec![0; BYTES_MAX];
    let got = storage.read_at(&format!("{folder}/{NAME}"), 0, &mut bytes).unwrap_or(0);
    let head = bytes.get(..got).and_then(Head::decode);
    head.map_or_else(Ends::default, |(head, _)| head.before)
}

/// Makes durable that a host holds all before `ends`.
///
/// # Errors
/// What the disk says; the acknowledgement holds until the agent's end then.
pub(super) fn write(
    storage: &dyn Storage,
    folder: &str,
    run: &RunId,
    ends: &Ends,
) -> Result<(), StorageError> {
    // The form of a segment's head, which lists ends of streams under a checksum.
    let head = Head { ordinal: 0, run: run.clone(), before: ends.clone() };
    replace_file(storage, &format!("{folder}/{NAME}"), &head.encode())
}
