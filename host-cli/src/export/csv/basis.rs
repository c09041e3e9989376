//! CSV of what energies rest on: their budgets, and the rails with their shunts.
//!
//! Owns the columns of `budget.csv` (one line a window, energy and term) and of
//! `rails.csv`, which tells the shunts that were corrected.

use std::io::{self, Write};

use super::{number, text};
use crate::analysis::model::{Analysis, Energy, WindowResult};

const BUDGET_COLUMNS: &str =
    "window,cell,energy,energy_j,u_energy_j,term,u_term_j,dominant,simulated,epoch";
const RAIL_COLUMNS: &str = "rail,role,source,chip,shunt_ohm,recorded_shunt_ohm,shunt_corrected,\
     shunt_tolerance,simulated";

/// Writes each term of each window's gross and net energy. `u_energy_j` is
/// expanded (k = 2) as everywhere, `u_term_j` a standard uncertainty (k = 1):
/// twice the root of their squares is `u_energy_j`.
pub(super) fn write_budget(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{BUDGET_COLUMNS}")?;
    let simulated = analysis.simulation.is_some();
    for window in &analysis.windows {
        write_terms(window, ("gross", &window.energy), simulated, out)?;
        if let Some(net) = &window.net_energy {
            write_terms(window, ("net", net), simulated, out)?;
        }
    }
    Ok(())
}

fn write_terms(
    window: &WindowResult,
    (name, energy): (&str, &Energy),
    simulated: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let dominant = energy.dominant();
    for (term, standard) in &energy.terms {
        let fields = [
            window.window.to_string(),
            window.cell.to_string(),
            name.to_owned(),
            number(Some(energy.joules.0)),
            number(Some(energy.expanded().0)),
            term.name().to_owned(),
            number(Some(*standard)),
            (dominant == Some(*term)).to_string(),
            simulated.to_string(),
            window.epoch.to_string(),
        ];
        writeln!(out, "{}", fields.join(","))?;
    }
    Ok(())
}

/// Writes the rails with the shunts that all energies were computed with, and
/// those that the board recorded. Both are empty where no shunt is known.
pub(super) fn write_rails(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{RAIL_COLUMNS}")?;
    for rail in &analysis.rails {
        let corrected = analysis.corrected_shunts.iter().find(|(name, ..)| *name == rail.name);
        let chip = analysis.chips.get(usize::from(rail.chip));
        let recorded_ohm = corrected.map_or(rail.scale.shunt_ohm, |(_, recorded, _)| *recorded);
        // A meter that the kernel reads for us tells no shunt.
        let has_shunt = chip.is_some_and(|chip| chip.kind.is_on_i2c());
        let ohms = |ohms: f64| if has_shunt { ohms.to_string() } else { String::new() };
        let fields = [
            text(&rail.name),
            rail.role.name().to_owned(),
            rail.source.name().to_owned(),
            chip.map_or_else(String::new, |chip| text(&chip.name())),
            ohms(rail.scale.shunt_ohm),
            ohms(recorded_ohm),
            corrected.is_some().to_string(),
            rail.limits.shunt_tolerance.to_string(),
            analysis.simulation.is_some().to_string(),
        ];
        writeln!(out, "{}", fields.join(","))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{ShuntCorrection, analyse};
    use crate::recording::synthetic::Synthetic;

    fn written(write: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn the_squares_of_the_terms_are_the_square_of_the_energys_uncertainty() {
        let analysis = analyse(&Synthetic::default().recording(), &[]).unwrap();
        let lines = written(|out| write_budget(&analysis, out));
        assert_eq!(lines[0].join(","), BUDGET_COLUMNS);
        for kind in ["gross", "net"] {
            let of: Vec<_> = lines.iter().filter(|f| f[0] == "1" && f[2] == kind).collect();
            let squares: f64 = of.iter().map(|f| f[6].parse::<f64>().unwrap().powi(2)).sum();
            let stated: f64 = of[0][4].parse().unwrap();
            assert!((2.0 * squares.sqrt() - stated).abs() < 1e-5, "{kind}: {stated}");
            assert_eq!(of.iter().filter(|f| f[7] == "true").count(), 1);
        }
    }

    #[test]
    fn a_corrected_shunt_is_told_beside_the_recorded_one() {
        let right = ShuntCorrection { rail: "VDD_IN".into(), shunt_ohm: 0.004 };
        let recording = Synthetic::default().recording();
        let analysis = analyse(&recording, &[right]).unwrap();
        let lines = written(|out| write_rails(&analysis, out));
        assert_eq!(lines[1][4..7], ["0.004", "0.005", "true"]);
        assert_eq!(lines[2][4..7], ["0.005", "0.005", "false"]);
    }
}
