//! Method and uncertainty in this run's own numbers, and how to repeat it.
//!
//! Owns the last section of the page. The rules come from the campaign as it
//! was started; nothing is repeated here that the campaign does not say.

use std::collections::BTreeMap;

use maud::{Markup, html};
use wattline_protocol::campaign_spec::{CampaignFile, CampaignSpec, Mode};

use super::html::word;
use super::table::{boxed, rails};
use super::text::{brief, fixed};
use crate::analysis::model::{Analysis, Energy, Term};

/// All terms, in the order of the table.
const TERMS: [Term; 13] = [
    Term::ShuntResistance,
    Term::ShuntGain,
    Term::ShuntOffset,
    Term::BusGain,
    Term::BusOffset,
    Term::Temperature,
    Term::Quantisation,
    Term::Edges,
    Term::Missing,
    Term::Statistical,
    Term::Aggregated,
    Term::BusAge,
    Term::Baseline,
];

/// The section.
pub(super) fn section(analysis: &Analysis) -> Markup {
    html! {
        section #method {
            h2 { "Method and uncertainty" (word(analysis)) }
            (rules(analysis))
            h3 #budget { "Where the uncertainty comes from" (word(analysis)) }
            (budget(analysis))
            h3 #rails { "Rails" (word(analysis)) }
            (rails(analysis))
            h3 #repeat { "How to repeat" }
            (repeat(analysis))
        }
    }
}

fn rules(analysis: &Analysis) -> Markup {
    let spec = &analysis.campaign;
    html! {
        p { "A window is a stretch of whole inferences, back to back, of one network at one batch "
            "size, after a warm-up until time and power were steady. Its energy is the trapezoid "
            "over the centres of the chip's conversions, cut at the window's edges; samples and "
            "inferences carry the same clock of the board." }
        dl.notes {
            dt { "Window" } dd { (window_rule(spec)) }
            dt { "Windows" } dd { (spec.windows) " a cell, interleaved over cells in an order drawn "
                "with seed " (spec.seed) "; the interval is over windows, never over samples." }
            dt { "Idle" } dd { (brief(spec.idle_s)) " s before and after; net is gross less idle power "
                "times time. Drift above 3 % of net power flags." }
            dt { "Missing" } dd { "Above 0.1 % of a window flags it; above 5 %, or one gap above "
                "100 ms, makes it invalid. It is kept and shown, and no gap is filled in." }
            dt { "Interval" } dd { "Wider than ± 2 % of the energy flags the cell." }
            dt { "Weights" } dd { code { (spec.weights) } }
            @if spec.mode == Mode::Quick {
                dt { "Quick" } dd { "This was a first look: no cell can be better than flagged." }
            }
        }
    }
}

fn window_rule(spec: &CampaignSpec) -> String {
    let sweeps = match spec.sweeps_min {
        0 => String::new(),
        sweeps => format!(", {sweeps} sweeps"),
    };
    let seconds = brief(spec.window_s_min);
    format!(
        "at least {seconds} s{sweeps} and {} inferences, whichever is longest.",
        spec.inferences_min
    )
}

/// Terms with how often each dominates and how large it is.
fn budget(analysis: &Analysis) -> Markup {
    let mut dominated: BTreeMap<Term, usize> = BTreeMap::new();
    for term in analysis.cells.iter().filter_map(|cell| cell.dominant) {
        *dominated.entry(term).or_default() += 1;
    }
    let shown = |term: &Term| dominated.contains_key(term) || range(analysis, *term).is_some();
    let terms: Vec<Term> = TERMS.into_iter().filter(shown).collect();
    let first = dominated.iter().max_by_key(|(_, cells)| **cells);
    html! {
        @if let Some((term, cells)) = first {
            p { "The dominant term of the gross energy is " strong { (term.name()) } " in " (cells)
                " of " (dominated.values().sum::<usize>()) " cells with a figure." }
        }
        p { "Terms are standard uncertainties; they are added as squares and the root is doubled "
            "(k = 2). Over several windows of a cell the spread of repeats is divided by √n and "
            "widened by Student's factor; what the sensor contributes is the same in each and is "
            "counted once." }
        @if terms.is_empty() { p { "No window, so no budget." } } @else {
            (boxed("Uncertainty budget", &html! { table {
                caption { span { "Terms, k = 1, as a share of a window's energy: smallest to largest over "
                    "the windows" @if analysis.simulation.is_some() { ", simulated" } "." } }
                thead { tr { th scope="col" { "term" }
                    th.n scope="col" { "gross energy" small { "%" } }
                    th.n scope="col" { "net energy" small { "%" } }
                    th.n scope="col" { "dominates" small { "cells" } } } }
                tbody { @for term in terms { tr {
                    th scope="row" { (term.name()) }
                    td.n { (bounds(gross(analysis), term)) }
                    td.n { (bounds(net(analysis), term)) }
                    td.n { (dominated.get(&term).copied().unwrap_or(0)) }
                } } }
            } }))
        }
    }
}

fn gross(analysis: &Analysis) -> impl Iterator<Item = &Energy> {
    analysis.windows.iter().map(|window| &window.energy)
}

fn net(analysis: &Analysis) -> impl Iterator<Item = &Energy> {
    analysis.windows.iter().filter_map(|window| window.net_energy.as_ref())
}

fn range(analysis: &Analysis, term: Term) -> Option<(f64, f64)> {
    extremes(gross(analysis).chain(net(analysis)), term)
}

/// Smallest and largest share of `term`, in percent.
fn extremes<'a>(energies: impl Iterator<Item = &'a Energy>, term: Term) -> Option<(f64, f64)> {
    let share = |energy: &Energy| {
        let (_, joules) = energy.terms.iter().find(|(name, _)| *name == term)?;
        Some(joules / energy.joules.0.abs() * 100.0).filter(|share| share.is_finite())
    };
    let shares = energies.filter_map(share);
    shares.fold(None, |range, share| match range {
        None => Some((share, share)),
        Some((low, high)) => Some((share.min(low), share.max(high))),
    })
}

fn bounds<'a>(energies: impl Iterator<Item = &'a Energy>, term: Term) -> String {
    let digits = |share: f64| fixed(share, if share < 1.0 { 3 } else { 2 });
    match extremes(energies, term) {
        None => super::text::NONE.into(),
        Some((low, high)) if digits(low) == digits(high) => digits(low),
        Some((low, high)) => format!("{} – {}", digits(low), digits(high)),
    }
}

fn repeat(analysis: &Analysis) -> Markup {
    html! {
        p { "Save the campaign as " code { "campaign.toml" } " (the run's directory has it) and run:" }
        pre { (command(analysis)) }
        @match campaign_toml(&analysis.campaign) {
            Ok(text) => pre { (text) },
            Err(_) => p { "The campaign cannot be written as TOML." },
        }
        @if !analysis.corrected_shunts.is_empty() {
            p { "This page was made with corrected shunts:" }
            pre { "wattline report " (analysis.run.as_str())
                @for (rail, _, used) in &analysis.corrected_shunts {
                    " --shunt '" (rail.replace('\'', "'\\''")) "=" (used) "'"
                } }
        }
    }
}

fn command(analysis: &Analysis) -> String {
    let board = analysis.simulation.as_ref().map_or_else(
        || "BOARD".to_owned(),
        |simulation| format!("simulated:{}", simulation.chip.name()),
    );
    let quick = if analysis.campaign.mode == Mode::Quick { " --quick" } else { "" };
    format!("wattline run campaign.toml --on {board}{quick}")
}

/// The campaign as a file that `wattline run` takes.
fn campaign_toml(spec: &CampaignSpec) -> Result<String, toml::ser::Error> {
    toml::to_string(&CampaignFile {
        networks: Some(spec.networks.clone()),
        batch: Some(spec.batch.clone()),
        precision: Some(spec.precision.iter().map(|p| p.name().to_owned()).collect()),
        device: Some(spec.device.clone()),
        size: (!spec.size.is_empty()).then(|| spec.size.clone()),
        threads: Some(spec.threads.clone()),
        cores: Some(spec.cores.clone()),
        windows: Some(spec.windows),
        window_s_min: Some(spec.window_s_min),
        seed: Some(spec.seed),
        weights: Some(spec.weights.clone()),
        power_mode: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_campaign_shown_is_one_that_can_be_run_again() {
        let spec = example::simulated().campaign;
        let text = campaign_toml(&spec).unwrap();
        let again = CampaignFile::parse(&text).unwrap().resolve(spec.mode).unwrap();
        assert_eq!(again, spec);
    }
}
