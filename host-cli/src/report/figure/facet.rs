//! Facets: cells that differ in network and batch alone.
//!
//! Owns the grouping by the other axes of a campaign, so that a figure never
//! joins points that were measured under different conditions.

use crate::analysis::model::{Analysis, CellResult};

/// Cells of one set of conditions.
#[derive(Debug)]
pub(super) struct Facet<'a> {
    /// The conditions in words; empty where the run has one set only.
    pub(super) label: String,
    /// What distinguishes its files; empty where the run has one set only.
    pub(super) suffix: String,
    /// Its cells, in the order of the plan.
    pub(super) cells: Vec<&'a CellResult>,
}

impl<'a> Facet<'a> {
    /// Networks in order of first appearance.
    pub(super) fn networks(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !names.contains(&cell.cell.network.as_str()) {
                names.push(&cell.cell.network);
            }
        }
        names
    }

    /// Batches, rising, each once.
    pub(super) fn batches(&self) -> Vec<u32> {
        let mut batches: Vec<u32> = self.cells.iter().map(|cell| cell.cell.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    /// Cells of one network, by rising batch.
    pub(super) fn of_network(&self, network: &str) -> Vec<&'a CellResult> {
        let mut cells: Vec<&CellResult> =
            self.cells.iter().copied().filter(|cell| cell.cell.network == network).collect();
        cells.sort_by_key(|cell| cell.cell.batch);
        cells
    }

    /// A file's stem for this facet.
    pub(super) fn stem(&self, stem: &str) -> String {
        format!("{stem}{}", self.suffix)
    }
}

/// The facets of a run, in the order of the plan.
pub(super) fn of(analysis: &Analysis) -> Vec<Facet<'_>> {
    let several_sizes = analysis.campaign.size.len() > 1;
    let mut facets: Vec<Facet<'_>> = Vec::new();
    for cell in &analysis.cells {
        let label = label(cell, several_sizes);
        match facets.iter_mut().find(|facet| facet.label == label) {
            Some(facet) => facet.cells.push(cell),
            None => facets.push(Facet { label, suffix: String::new(), cells: vec![cell] }),
        }
    }
    if let [only] = facets.as_mut_slice() {
        only.label.clear();
    } else {
        for (index, facet) in facets.iter_mut().enumerate() {
            facet.suffix = format!("_{}_{}", index + 1, slug(&facet.label));
        }
    }
    facets
}

fn label(cell: &CellResult, several_sizes: bool) -> String {
    let cell = &cell.cell;
    let mut label = format!("{} · {}", cell.precision.name(), cell.device);
    // As asked for: the threads taken may not be known for a failed cell.
    label.push_str(&match cell.threads {
        0 => " · a thread for each core".to_owned(),
        1 => " · 1 thread".to_owned(),
        threads => format!(" · {threads} threads"),
    });
    if !cell.cores.is_empty() {
        label.push_str(&format!(" · cores {}", cell.cores));
    }
    if several_sizes {
        label.push_str(&format!(" · {0} × {0} px", cell.size));
    }
    label
}

/// Lower-case letters and digits, joined by hyphens; fit for a file's name.
fn slug(label: &str) -> String {
    let words = label.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<String> =
        words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    words.join("-").chars().take(60).collect()
}
