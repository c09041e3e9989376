//! Operations of a disk that fail, each in turn: all of it is there in the
//! morning, or its absence is stated. `cargo measure io_errors` goes through
//! every operation; here is each seventh.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use wattline_night::{ERRORS, Refusal, reach, refusing_night};

/// Operations from one that is tried to the next.
const STEP: usize = 7;

#[test]
fn a_call_of_the_boards_disk_that_fails_loses_nothing_without_a_word() {
    let calls = reach(0).calls;
    assert!(calls > 100, "the night makes only {calls} calls of its disk");
    for (name, errno) in ERRORS {
        for call in (0..calls).step_by(STEP) {
            for end in [call + 1, u64::MAX] {
                let refusal = Refusal::Board { calls: call..end, errno };
                let outcome = refusing_night(0, &refusal);
                assert_eq!(outcome.findings, [], "{name} at call {call}, up to {end}");
            }
        }
    }
}

#[test]
fn a_recording_that_meets_a_full_disk_at_any_page_is_whole_in_the_morning() {
    let pages = reach(0).pages;
    assert!(pages > 8, "the recording takes only {pages} pages");
    for pages in 0..pages {
        assert_eq!(refusing_night(0, &Refusal::Host { pages }).findings, [], "{pages} pages");
    }
}
