//! How often a sampler has stepped, shown to others without a lock.
//!
//! Owns one number that the sampler's thread adds to and anybody reads: it
//! tells a sampler that goes on from one that hangs in the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of one sampler.
#[derive(Debug, Clone, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The count of a sampler that was told to stop: it has nothing to advance.
    pub const STOPPED: u64 = u64::MAX;

    /// One more step, of whatever outcome.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The sampler ends as it was told to.
    pub fn stop(&self) {
        self.0.store(Self::STOPPED, Ordering::Relaxed);
    }

    /// Steps so far, or [`Self::STOPPED`].
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
