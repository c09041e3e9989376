//! The boot epoch: a number that no two starts of the agent share.
//!
//! Owns the two slots and their layout. Sequence numbers begin anew in each
//! epoch, so that after a power cut no number is given twice that a host may
//! hold already: what the board remembers of its log may be less than what it
//! has sent.
//!
//! ```text
//! offset size field
//!      0    4 magic    "WLEP"
//!      4    4 epoch
//!      8    4 length   bytes of the boot id, at most 64
//!     12    n boot id  the kernel's, of the start that wrote it
//!   12+n    4 CRC32C   over all before
//! ```
//! Little-endian. A start writes the slot that does not hold the newest epoch:
//! a cut in the middle leaves the other one whole.

use wattline_protocol::planted;

use super::SpoolError;
use super::segment::read_again;
use super::storage::{Operation, Storage, StorageError, is_lost};

const SLOT_NAMES: [&str; 2] = ["epoch.0", "epoch.1"];
const MAGIC: [u8; 4] = *b"WLEP";
const BOOT_ID_BYTES_MAX: usize = 64;
const SLOT_BYTES_MAX: usize = 12 + BOOT_ID_BYTES_MAX + 4;

/// Bytes of a small file that are written last: part of its checksum in all.
const END_BYTES: usize = 2;

/// Distance from the newest epoch in the segments where both slots are lost:
/// more starts than can lie between the newest segment that is left and now.
/// One after it could have been used, by a start whose segments are lost too.
pub const LOST_SLOTS_STEP: u32 = 1000;

/// The epoch of this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedEpoch {
    /// Its number, from 1.
    pub epoch: u32,
    /// What it was derived from.
    pub origin: EpochOrigin,
    /// The kernel's boot id at the start before; empty where it is not known.
    /// The same as now: the agent ended, the board did not.
    pub boot_id_before: String,
}

/// What an epoch was derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochOrigin {
    /// The first start of this spool.
    First,
    /// Whole slots.
    Slots,
    /// One whole slot: the other is damaged.
    OneSlot,
    /// No whole slot: the segments' newest epoch and [`LOST_SLOTS_STEP`].
    Segments,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Absent,
    Damaged,
    Whole { epoch: u32, boot_id: String },
}

/// Raises the epoch above both slots and above `newest`, the newest epoch of
/// any segment.
pub(super) fn raise(
    storage: &dyn Storage,
    boot_id: &str,
    newest: Option<u32>,
) -> Result<RaisedEpoch, SpoolError> {
    let [first, second] = SLOT_NAMES;
    let slots = [read(storage, first)?, read(storage, second)?];
    let epochs = [0, 1].map(|slot| slots.get(slot).and_then(Slot::epoch));
    // The first start writes two: one that is gone was removed to be written
    // anew, perhaps because it was damaged.
    let gone = slots.contains(&Slot::Absent)
        && epochs.iter().flatten().count() > 0
        && !planted!("a slot that is gone is no sign");
    let damaged = gone || slots.contains(&Slot::Damaged);
    let of_slots = epochs.iter().flatten().max().copied();
    let forgets = of_slots.is_none() && planted!("segments do not count once both slots are lost");
    let newest = newest.filter(|_| !forgets);
    let (last, step, origin) = match (of_slots, newest) {
        (Some(slot), _) => {
            let last = slot.max(newest.unwrap_or(0));
            // The damaged slot may have held the epoch after that of the whole one.
            if damaged && !planted!("a damaged slot is taken for an old one") {
                (last, 2, EpochOrigin::OneSlot)
            } else {
                (last, 1, EpochOrigin::Slots)
            }
        }
        (None, None) if !damaged => (0, 1, EpochOrigin::First),
        (None, newest) => (newest.unwrap_or(0), LOST_SLOTS_STEP, EpochOrigin::Segments),
    };
    let step = if planted!("the epoch is not raised") { 0 } else { step };
    let epoch = last.checked_add(step).ok_or(SpoolError::NoEpochLeft { epoch: last })?;
    // The slot to write is the one that does not hold the newest epoch.
    // A damaged one is the only sign of an epoch that was: an absent one first.
    let [first, second] = epochs;
    let only_damaged = slots == [Slot::Damaged, Slot::Absent];
    let target = if only_damaged || (first > second) != planted!("the newest slot is written over")
    {
        SLOT_NAMES[1]
    } else {
        SLOT_NAMES[0]
    };
    replace_file(storage, target, &encode(epoch, boot_id))?;
    let both = damaged || origin == EpochOrigin::First;
    if both && !planted!("a damaged slot stays beside the new one") {
        // Both slots, or the epoch is not used: else an old slot that comes back
        // after a power cut lies two below, and is passed by two onto this one.
        let other = if target == SLOT_NAMES[0] { SLOT_NAMES[1] } else { SLOT_NAMES[0] };
        replace_file(storage, other, &encode(epoch, boot_id))?;
    }
    let before = slots.into_iter().find(|slot| slot.epoch().is_some_and(|e| Some(e) == of_slots));
    let boot_id_before = match before {
        Some(Slot::Whole { boot_id, .. }) => boot_id,
        Some(Slot::Absent | Slot::Damaged) | None => String::new(),
    };
    Ok(RaisedEpoch { epoch, origin, boot_id_before })
}

impl Slot {
    fn epoch(&self) -> Option<u32> {
        match self {
            Self::Whole { epoch, .. } => Some(*epoch),
            Self::Absent | Self::Damaged => None,
        }
    }
}

/// One slot. Lost is damaged: the other slot, or the segments, must do. What
/// cannot be read for another cause may hold the newest epoch.
fn read(storage: &dyn Storage, name: &str) -> Result<Slot, StorageError> {
    let mut bytes = [0; SLOT_BYTES_MAX];
    match read_again(storage, name, 0, &mut bytes) {
        Ok(got) => Ok(bytes.get(..got).and_then(decode).unwrap_or(Slot::Damaged)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Slot::Absent),
        Err(error) if is_lost(&error) => Ok(Slot::Damaged),
        Err(error) => Err(StorageError::reading(name, error)),
    }
}

fn encode(epoch: u32, boot_id: &str) -> Vec<u8> {
    // No kernel's boot id is longer: it is a UUID of 36 characters.
    let boot_id = boot_id.as_bytes().get(..BOOT_ID_BYTES_MAX).unwrap_or(boot_id.as_bytes());
    let length = u32::try_from(boot_id.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(SLOT_BYTES_MAX);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(boot_id);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (magic, rest) = body.split_first_chunk::<4>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (length, boot_id) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *magic != MAGIC || length != boot_id.len() {
        return None;
    }
    let boot_id = std::str::from_utf8(boot_id).ok()?.to_owned();
    Some(Slot::Whole { epoch: u32::from_le_bytes(*epoch), boot_id })
}

/// Puts a small file in the place of the one of that name, durably. A cut in
/// the middle leaves none or a torn one: the caller has another to go by.
pub(super) fn replace_file(
    storage: &dyn Storage,
    name: &str,
    bytes: &[u8],
) -> Result<(), StorageError> {
    match storage.remove(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StorageError::new(Operation::Remove, name, error));
        }
        Ok(()) | Err(_) => {}
    }
    let written = write_file(storage, name, bytes);
    if written.is_err() {
        // Half a file would be taken for a damaged one at the next start.
        let _ = storage.remove(name);
    }
    written
}

/// Writes all but the end of the checksum, makes that and the name durable, and
/// only then the end. A file that is whole to a reader is so never one that a
/// power cut takes away without a trace, though its last sync failed and it could
/// not be removed: a damaged one is left, and that says enough.
fn write_file(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let failed = |operation| move |source| StorageError::new(operation, name, source);
    let (body, end) = bytes.split_at(bytes.len().saturating_sub(END_BYTES));
    let mut file = storage.create(name).map_err(failed(Operation::Create))?;
    for part in [body, end] {
        file.append(part).map_err(failed(Operation::Append))?;
        if !planted!("an epoch slot is not synced") {
            file.sync().map_err(failed(Operation::Sync))?;
        }
        if part == body && !planted!("the name of a slot is not synced") {
            storage.sync_folder("").map_err(failed(Operation::Sync))?;
        }
    }
    Ok(())
}
