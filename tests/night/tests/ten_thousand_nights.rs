//! 10,000 simulated nights in which nothing is lost, doubled, invented or
//! absent without a word.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use wattline_night::{each, night};

#[test]
fn in_ten_thousand_nights_nothing_is_lost_doubled_invented_or_silently_absent() {
    let mut spoilt = Vec::new();
    let mut faults = 0;
    each(0, 10_000, night, |seed, outcome| {
        faults += outcome.faults;
        spoilt.extend(outcome.findings.into_iter().take(1).map(|finding| (seed, finding)));
    })
    .unwrap();
    spoilt.sort_by_key(|(seed, _)| *seed);
    assert!(faults > 50_000, "only {faults} faults struck");
    assert!(
        spoilt.is_empty(),
        "{} nights are spoilt; again, one by one: cargo measure nights --from SEED --seeds 1\n{:#?}",
        spoilt.len(),
        spoilt.iter().take(20).collect::<Vec<_>>()
    );
}

#[test]
fn the_same_seed_is_the_same_night() {
    for seed in 0..50 {
        let (one, other) = (night(seed), night(seed));
        assert_eq!(one.findings, other.findings);
        assert_eq!((one.faults, one.frames), (other.faults, other.frames));
    }
}
