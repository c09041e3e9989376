//! The board's own state over a run, in words.
//!
//! Owns the wording of modes, governors, clocks, temperatures, fans and swap.
//! What of it makes a trial invalid is the analysis'.

use wattline_protocol::record::ClockDomain;

use super::text::brief;
use crate::analysis::StateSummary;

/// One line a subject; none where the board was not read, or shows nothing.
pub(super) fn lines(state: &StateSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if state.is_pinned {
        lines.push("clocks held at their most for the run (--pin)".to_owned());
    }
    let mut line = |what: &str, values: Vec<String>| {
        if !values.is_empty() {
            lines.push(format!("{what} {}", values.join(", ")));
        }
    };
    line("power mode", state.power_modes.clone());
    line("governors", state.governors.clone());
    let clocks = state.clocks.iter().map(|(domain, least, most)| {
        let name = match domain {
            ClockDomain::Cpu => "cores",
            ClockDomain::Gpu => "GPU",
            ClockDomain::Other => "other",
        };
        format!("{name} {} MHz", range(f64::from(*least) / 1e3, f64::from(*most) / 1e3))
    });
    line("fastest clock within windows:", clocks.collect());
    let zones = state.temperatures.iter().map(|(zone, least, most)| {
        format!("{zone} {} °C", range(f64::from(*least) / 1e3, f64::from(*most) / 1e3))
    });
    line("temperatures:", zones.collect());
    let fans = state.fans.iter().map(|(fan, least, most)| {
        format!("{fan} {} of 255", range(f64::from(*least), f64::from(*most)))
    });
    line("fans:", fans.collect());
    if state.swapped_pages > 0 {
        lines.push(format!("{} pages swapped", state.swapped_pages));
    }
    lines
}

fn range(least: f64, most: f64) -> String {
    if (most - least).abs() < f64::EPSILON {
        brief(least)
    } else {
        format!("{} to {}", brief(least), brief(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stayed_is_one_number_and_what_moved_a_range() {
        let state = StateSummary {
            power_modes: vec!["2 MODE_15W".into()],
            governors: vec!["policy0 schedutil".into()],
            clocks: vec![(ClockDomain::Cpu, 1_510_400, 1_984_000)],
            temperatures: vec![("tj-thermal".into(), 48_000, 48_000)],
            fans: vec![("pwmfan 1".into(), 60, 128)],
            swapped_pages: 3,
            readings: 4,
            is_pinned: true,
        };
        let text = lines(&state).join("\n");
        for words in [
            "power mode 2 MODE_15W",
            "cores 1510",
            "to 1984 MHz",
            "tj-thermal 48 °C",
            "pwmfan 1 60 to 128 of 255",
            "3 pages swapped",
            "--pin",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(lines(&StateSummary::default()).is_empty());
    }
}
