//! Room on the disk: how much runs may take, and what is free.
//!
//! Owns the quota, the reserve and the count of bytes on the disk. Decides what
//! may still be written, not what goes: that is [`super::RunLog`]'s for frames
//! and [`super::removal`]'s for runs.
//!
//! ```text
//! quota    ├───────────────── samples ─────────────────┤── the rest ──┤
//! disk     ├───────────────── samples ────────┤─ the rest ─┤─ reserve ─┤
//! ```
//! What a recording cannot be read without (plan, marks, windows, aggregates,
//! gaps, the end) may take the last part of either; samples stop before it. So a
//! run that fills its board still ends in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wattline_protocol::presence::{SpoolStanding, WhenFull};

use super::storage::Storage;

/// Stays free for the rest of the system: the journal, the package manager and
/// a login need some; 64 MiB is what the smallest board image leaves at least.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// The quota, where none is given, is this part of what is free when the agent
/// starts, its own runs counted as free: the board is not only ours.
pub const QUOTA_PART: u64 = 2;
/// The part of the quota that samples leave to the rest.
/// Source: records-and-reliability §3.3, "Drop order when full".
const REST_PART: u64 = 20;
/// It is this much at most: more than a day of marks, aggregates and clocks.
const REST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What runs may take of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomRules {
    /// Bytes that all runs may take; `None`: half of the disk as the start finds it.
    pub quota_bytes: Option<u64>,
    /// Bytes that stay free on the disk.
    pub reserve_bytes: u64,
    /// What happens to a run when there is no room left.
    pub when_full: WhenFull,
}

impl Default for RoomRules {
    /// Half of the disk, [`RESERVE_BYTES`] left free, raw samples dropped.
    fn default() -> Self {
        Self { quota_bytes: None, reserve_bytes: RESERVE_BYTES, when_full: WhenFull::Drop }
    }
}

impl RoomRules {
    /// All of the disk, to its last byte: for a model of a disk.
    #[must_use]
    pub const fn whole_disk() -> Self {
        Self { quota_bytes: Some(u64::MAX), reserve_bytes: 0, when_full: WhenFull::Drop }
    }
}

/// What may be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Allowed {
    /// Nothing.
    Nothing,
    /// All but samples.
    Rest,
    /// All.
    All,
}

/// The room of a spool, shared by its logs.
#[derive(Debug)]
pub(super) struct Room {
    storage: Arc<dyn Storage>,
    quota_bytes: u64,
    reserve_bytes: u64,
    when_full: WhenFull,
    used: AtomicU64,
}

impl Room {
    /// The room of a disk on which runs take `used` bytes.
    pub(super) fn new(storage: Arc<dyn Storage>, rules: RoomRules, used: u64) -> Self {
        let RoomRules { quota_bytes, reserve_bytes, when_full } = rules;
        // A disk that does not say what is free bounds by its own refusals alone.
        let quota_bytes = quota_bytes.unwrap_or_else(|| {
            let free = storage.free_bytes().unwrap_or(u64::MAX);
            used.saturating_add(free) / QUOTA_PART
        });
        Self { storage, quota_bytes, reserve_bytes, when_full, used: AtomicU64::new(used) }
    }

    /// So many bytes were written.
    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes are gone from the disk.
    pub(super) fn give(&self, bytes: u64) {
        // Saturating: a removed file may have come back and gone again.
        let subtract = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
    }

    /// What may be written now.
    pub(super) fn allowed(&self) -> Allowed {
        let used = self.used.load(Ordering::Relaxed);
        if self.quota_bytes == u64::MAX && self.reserve_bytes == 0 {
            return Allowed::All;
        }
        let free = self.storage.free_bytes().unwrap_or(u64::MAX);
        let rest = self.rest_bytes();
        let by_quota = allowed(self.quota_bytes.saturating_sub(used), rest);
        let by_disk = allowed(free.saturating_sub(self.reserve_bytes), rest);
        by_quota.min(by_disk)
    }

    /// Bytes that samples leave to the rest.
    fn rest_bytes(&self) -> u64 {
        (self.quota_bytes / REST_PART).min(REST_BYTES_MAX)
    }

    /// True where `needed` bytes of a new run fit.
    pub(super) fn fits(&self, needed: u64, standing: &SpoolStanding) -> bool {
        let wanted = needed.saturating_add(self.rest_bytes());
        let by_quota = standing.quota_bytes.saturating_sub(standing.used_bytes) >= wanted;
        let by_disk = standing.free_bytes >= needed.saturating_add(standing.reserve_bytes);
        by_quota && by_disk
    }

    /// What happens to a run when there is no room left.
    pub(super) const fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// How full it is.
    pub(super) fn standing(&self) -> SpoolStanding {
        SpoolStanding {
            used_bytes: self.used.load(Ordering::Relaxed),
            quota_bytes: self.quota_bytes,
            free_bytes: self.storage.free_bytes().unwrap_or(0),
            reserve_bytes: self.reserve_bytes,
            when_full: self.when_full,
        }
    }
}

const fn allowed(left: u64, rest: u64) -> Allowed {
    if left == 0 {
        Allowed::Nothing
    } else if left <= rest {
        Allowed::Rest
    } else {
        Allowed::All
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spool::ModelStorage;

    const MIB: u64 = 1024 * 1024;

    fn room(quota: Option<u64>, reserve: u64, capacity: u64, used: u64) -> Room {
        let model = ModelStorage::new();
        model.set_capacity(Some(capacity));
        let rules =
            RoomRules { quota_bytes: quota, reserve_bytes: reserve, ..RoomRules::default() };
        Room::new(Arc::new(model), rules, used)
    }

    #[test]
    fn samples_stop_before_the_rest_does_at_the_quota_and_at_the_reserve() {
        for (used, may) in [
            (0, Allowed::All),
            (95 * MIB - 1, Allowed::All),
            (95 * MIB, Allowed::Rest),
            (100 * MIB - 1, Allowed::Rest),
            (100 * MIB, Allowed::Nothing),
            (200 * MIB, Allowed::Nothing),
        ] {
            assert_eq!(room(Some(100 * MIB), 0, 900 * MIB, used).allowed(), may, "{used}");
        }
        for (capacity, may) in
            [(64, Allowed::Nothing), (65, Allowed::Rest), (69, Allowed::Rest), (70, Allowed::All)]
        {
            let room = room(Some(100 * MIB), 64 * MIB, capacity * MIB, 0);
            assert_eq!(room.allowed(), may, "{capacity} MiB are free");
        }
    }

    #[test]
    fn half_of_the_disk_is_the_quota_where_none_is_given_and_own_runs_count_as_free() {
        assert_eq!(room(None, 0, 600 * MIB, 400 * MIB).standing().quota_bytes, 500 * MIB);
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_never_more_than_what_was_taken(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..1_000_000), 0..50),
        ) {
            let room = room(Some(MIB), 0, 900 * MIB, 0);
            let mut least = 0_u64;
            for (takes, bytes) in steps {
                if takes {
                    room.take(bytes);
                    least = least.saturating_add(bytes);
                } else {
                    room.give(bytes);
                    least = least.saturating_sub(bytes);
                }
                prop_assert_eq!(room.standing().used_bytes, least);
            }
        }
    }
}
