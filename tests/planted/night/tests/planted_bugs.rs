//! Every planted bug is caught within 1,000 nights, and the same sources
//! without one spoil none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it misses by failing")]

use std::fs;
use std::path::{Path, PathBuf};

use wattline_planted_night::mutants::{MUTANTS, hunt};
use wattline_planted_night::{each, night};

#[test]
fn every_planted_bug_is_caught_within_a_thousand_nights() {
    let mut missed = Vec::new();
    let count = u64::try_from(MUTANTS.len()).unwrap();
    let mutant = |place: u64| MUTANTS[usize::try_from(place).unwrap()];
    each(
        0,
        count,
        move |place| hunt(mutant(place), 0, 1_000),
        |place, found| {
            if found.is_none() {
                missed.push(mutant(place));
            }
        },
    )
    .unwrap();
    assert!(MUTANTS.len() >= 20);
    assert!(missed.is_empty(), "planted and not caught: {missed:#?}");
}

#[test]
fn the_planted_sources_without_a_bug_spoil_no_night() {
    for seed in 0..100 {
        assert_eq!(night(seed).findings, []);
    }
}

/// Sources of the product, without the tests' own.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut folders: Vec<PathBuf> =
        ["protocol/src", "agent/src", "host-cli/src"].iter().map(|name| root.join(name)).collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(&path).unwrap());
            }
        }
    }
    texts
}

#[test]
fn each_planted_bug_stands_in_the_product_and_each_one_there_is_hunted() {
    let mut found = Vec::new();
    for text in sources() {
        for part in text.split("planted!(\"").skip(1) {
            found.push(part.split('"').next().unwrap().to_owned());
        }
    }
    found.sort();
    found.dedup();
    let mut listed: Vec<String> = MUTANTS.iter().map(|name| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed);
}
