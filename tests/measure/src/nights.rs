//! `nights.*` and `mutants.*`: what the simulated nights came to, and which
//! planted bugs they caught. The nights run the shipping crates; the planted
//! bugs are in a second compilation of the same sources.

use std::io::{self, Write};

use wattline_night::{Charge, Outcome, each, night, traced_night};
use wattline_planted_night::mutants::{MUTANTS, hunt};

use crate::figure::Figure;

/// Nights without `--seeds`: a look, not a proof.
const SEEDS_DEFAULT: u64 = 1_000;
/// Nights in which a planted bug must be caught.
const HUNT_SEEDS: u64 = 1_000;
/// Failing seeds that are printed.
const PRINTED_MAX: u64 = 50;

pub(crate) fn nights(
    from: u64,
    seeds: Option<u64>,
    now_ns: fn() -> u64,
    emit: &mut dyn FnMut(Figure),
) {
    let seeds = seeds.unwrap_or(SEEDS_DEFAULT);
    let began = now_ns();
    let mut sum = Sum::default();
    if seeds == 1 {
        sum.add(from, &traced_night(from));
    } else if let Err(hung) = each(from, seeds, night, |seed, outcome| sum.add(seed, &outcome)) {
        sum.lost += 1;
        say(&format!("seeds {:?} do not end", hung.seeds));
    }
    let seconds = as_f64(now_ns() - began) / 1e9;
    let case = format!("{from}..{}", from.saturating_add(seeds));
    let mut give = |measure, value, unit, limit: Option<f64>| {
        emit(Figure {
            measure,
            case: case.clone(),
            value,
            unit,
            limit,
            limit_is: limit.map(|_| "nothing may be"),
        });
    };
    give("nights.lost", as_f64(sum.lost), "records", Some(0.0));
    give("nights.doubled", as_f64(sum.doubled), "records", Some(0.0));
    give("nights.invented", as_f64(sum.invented), "records", Some(0.0));
    give("nights.silent_gaps", as_f64(sum.silent_gaps), "records", Some(0.0));
    give("nights.faults", as_f64(sum.faults), "faults", None);
    give("nights.hours", sum.hours, "simulated h", None);
    give("nights.seconds", seconds, "s", None);
}

#[derive(Default)]
struct Sum {
    lost: u64,
    doubled: u64,
    invented: u64,
    silent_gaps: u64,
    faults: u64,
    hours: f64,
    bad: u64,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        let count = |charge| u64::try_from(outcome.count(charge)).unwrap_or(u64::MAX);
        self.lost += count(Charge::Lost);
        self.doubled += count(Charge::Doubled);
        self.invented += count(Charge::Invented);
        self.silent_gaps += count(Charge::SilentGap);
        self.faults += outcome.faults;
        self.hours += outcome.length_s / 3600.0;
        if let Some(first) = outcome.findings.first() {
            self.bad += 1;
            if self.bad <= PRINTED_MAX {
                let text = &first.text;
                say(&format!(
                    "seed {seed}: {:?}: {text}\n  again: cargo measure nights --from {seed} --seeds 1",
                    first.charge
                ));
            }
        }
    }
}

pub(crate) fn mutants(from: u64, case: &str, emit: &mut dyn FnMut(Figure)) {
    let planted: Vec<&'static str> =
        MUTANTS.iter().copied().filter(|name| name.starts_with(case)).collect();
    let mut caught = 0;
    let named = planted.clone();
    let hunted = move |place: u64| {
        let mutant = usize::try_from(place).ok().and_then(|place| named.get(place).copied());
        mutant.and_then(|mutant| hunt(mutant, from, HUNT_SEEDS))
    };
    let count = u64::try_from(planted.len()).unwrap_or(0);
    let mut lines = Vec::new();
    let outcome = each(0, count, hunted, |place, found| lines.push((place, found)));
    if let Err(hung) = outcome {
        say(&format!("planted bugs {:?} do not come back", hung.seeds));
    }
    lines.sort_by_key(|(place, _)| *place);
    for (place, found) in lines {
        let mutant = usize::try_from(place).ok().and_then(|place| planted.get(place).copied());
        let Some(mutant) = mutant else { continue };
        match found {
            Some(found) => {
                caught += 1;
                emit(Figure {
                    measure: "mutants.seed",
                    case: mutant.to_owned(),
                    value: as_f64(found.seed),
                    unit: "seed that caught it",
                    limit: Some(as_f64(from + HUNT_SEEDS)),
                    limit_is: Some("1,000 seeds"),
                });
            }
            None => say(&format!("planted and not caught: {mutant}")),
        }
    }
    let (caught, planted) = (f64::from(caught), as_f64(count));
    let figure = |measure, value, limit| Figure {
        measure,
        case: String::new(),
        value,
        unit: "bugs",
        limit,
        limit_is: limit.map(|_| "all that were planted"),
    };
    emit(figure("mutants.planted", planted, None));
    emit(figure("mutants.caught", caught, Some(planted)));
}

fn say(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
