//! Bounded waiting for what another process does.
//!
//! Owns the only pause of the tests. A bound is there to end a test that hangs,
//! never to judge how fast something is.

use std::time::Duration;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks before a test is given up: two minutes, on a machine however busy.
const LOOKS_MAX: u32 = 6_000;

/// What `look` finds, once it finds something.
///
/// # Panics
/// Where it never does; the text says what was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(LOOKS_MAX, what, look)
}

/// The same for what takes its time, such as an emulated machine's start.
///
/// # Panics
/// Where `looks` looks, of which a minute has 3,000 at most, have not found it.
pub fn until_within<T>(looks: u32, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..looks {
        if let Some(found) = look() {
            return found;
        }
        pause();
    }
    panic!("waited in vain until {what}")
}

/// Waits as long as `holds`.
///
/// # Panics
/// Where it does not cease.
pub fn while_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(&format!("no longer {what}"), || (!holds()).then_some(()));
}

#[expect(clippy::disallowed_methods, reason = "other processes run on the machine's own clock")]
fn pause() {
    std::thread::sleep(PAUSE);
}
