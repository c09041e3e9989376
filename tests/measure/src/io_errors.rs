//! `io_errors.*`: each operation of a disk in turn fails, with each error.
//!
//! Owns the walk over a night's operations; the night and its checker are those
//! of `tests/night`. A night of the spool is run once for every call that it
//! makes of the board's disk and every error, the call failing once (`once`) or
//! all calls from there on until the morning (`from there on`); and once for
//! every page at which SQLite can meet a full disk on the host.

use std::io::{self, Write};

use wattline_night::{ERRORS, Refusal, each, reach, refusing_night, traced};

use crate::figure::Figure;

/// Nights whose operations are gone through without `--seeds`.
const SEEDS_USUAL: u64 = 1;
/// Failing cases that are printed, of each case.
const PRINTED_MAX: u64 = 10;

/// What one case came to.
#[derive(Debug, Default)]
struct Tally {
    tried: u64,
    unexplained: u64,
}

/// Emits `io_errors.tried` and `io_errors.unexplained` for nights from seed
/// `from` on; with `only` one operation alone is tried, and told.
pub(crate) fn run(from: u64, seeds: Option<u64>, only: Option<u64>, emit: &mut dyn FnMut(Figure)) {
    let seeds: Vec<u64> = (from..).zip(0..seeds.unwrap_or(SEEDS_USUAL)).map(|(s, _)| s).collect();
    for (name, errno) in ERRORS {
        for (how, sticks) in [("once", false), ("from there on", true)] {
            let board = move |call: u64| {
                let end = if sticks { u64::MAX } else { call + 1 };
                Refusal::Board { calls: call..end, errno }
            };
            let mut tally = Tally::default();
            for &seed in &seeds {
                tally.try_each(seed, reach(seed).calls, only, &format!("{name} {how}"), board);
            }
            tally.emit(&format!("board/{name}/{how}"), emit);
        }
    }
    let mut tally = Tally::default();
    for &seed in &seeds {
        tally.try_each(seed, reach(seed).pages, only, "full host", |pages| Refusal::Host { pages });
    }
    tally.emit("host/full", emit);
}

impl Tally {
    /// Runs the night of `seed` with each of `count` operations refused in turn.
    fn try_each(
        &mut self,
        seed: u64,
        count: u64,
        only: Option<u64>,
        what: &str,
        refusal: impl Fn(u64) -> Refusal + Clone + Send + 'static,
    ) {
        if let Some(place) = only {
            let refusal = refusal(place);
            let outcome = traced(|| refusing_night(seed, &refusal));
            return self.add(seed, place, what, &outcome.findings);
        }
        let night = move |place| refusing_night(seed, &refusal(place)).findings;
        let done = each(0, count, night, |place, findings| self.add(seed, place, what, &findings));
        if let Err(hung) = done {
            self.unexplained += 1;
            say(&format!("seed {seed}, {what}: operations {:?} do not come back", hung.seeds));
        }
    }

    fn add(&mut self, seed: u64, place: u64, what: &str, findings: &[wattline_night::Finding]) {
        self.tried += 1;
        let Some(first) = findings.first() else { return };
        self.unexplained += 1;
        if self.unexplained <= PRINTED_MAX {
            say(&format!(
                "seed {seed}, {what}, operation {place}: {:?}: {}\n  \
                 again: cargo measure io_errors --from {seed} --only {place}",
                first.charge, first.text
            ));
        }
    }

    fn emit(&self, case: &str, emit: &mut dyn FnMut(Figure)) {
        let figure = |measure, value: u64, limit: Option<f64>| Figure {
            measure,
            case: case.to_owned(),
            value: as_f64(value),
            unit: "operations",
            limit,
            limit_is: limit.map(|_| "none may be"),
        };
        emit(figure("io_errors.tried", self.tried, None));
        emit(figure("io_errors.unexplained", self.unexplained, Some(0.0)));
    }
}

fn say(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
