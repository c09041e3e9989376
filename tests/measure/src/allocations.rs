//! The allocation counter: the system's allocator, counted by thread.
//!
//! Owns the count and the global allocator of this program. Counts calls that
//! may take memory (allocate, grow), not bytes, and not what is given back.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTED: Counted = Counted;

struct Counted;

/// Allocations of the calling thread while `act` runs.
pub(crate) fn during(act: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    act();
    COUNT.get() - before
}

fn count_one() {
    // A thread that is ending has no count any more, and nobody who asks.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: each call is passed on unchanged to the system's allocator, which
// keeps the contract; counting touches a thread-local that never allocates
// (const-initialised, without a destructor).
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps `alloc`'s contract, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System` by the functions here.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: `memory` came from `System`; the rest is the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_one_allocation_and_a_sum_is_none() {
        assert_eq!(during(|| drop(std::hint::black_box(Box::new(1_u64)))), 1);
        assert_eq!(during(|| assert_eq!(std::hint::black_box(1) + 1, 2)), 0);
    }
}
