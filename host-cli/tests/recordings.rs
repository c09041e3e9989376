//! Recordings of earlier versions: each opens for ever.
//!
//! `tests/golden/recordings/VERSION/` holds a `recording.sqlite` as that version
//! wrote and finished it, and `expected.json` with what is in it. A version that
//! is released adds a folder; none is ever changed. Origin: a quick run on the
//! simulated board (every energy in it is simulated), as `expected.json` says.
#![allow(clippy::unwrap_used, reason = "a test says what it misses by failing")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wattline::analysis::analyse;
use wattline::export::csv;
use wattline::recording::Recording;
use wattline::report;
use wattline::store::{FILE_NAME, Store};

/// Arithmetic may grow better; what was measured stays within this of it.
const ENERGY_PART_MAX: f64 = 0.01;

fn versions() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/recordings");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn expected(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count() - 1
}

#[test]
fn every_recording_of_an_earlier_version_reads_reports_and_exports() {
    let folders = versions();
    assert!(!folders.is_empty());
    for folder in folders {
        let expected = expected(&folder);
        let path = folder.join(FILE_NAME);
        let store = Store::open_read_only(&path).unwrap();
        assert_eq!(store.frame_count().unwrap(), expected["frames"].as_u64().unwrap());
        assert_eq!(store.frames_sha256().unwrap(), expected["frames_sha256"].as_str().unwrap());
        assert_eq!(store.meta("run").unwrap().as_deref(), expected["run"].as_str());
        let recording = Recording::from_store(store).unwrap();
        let analysis = analyse(&recording, &[]).unwrap();
        assert_eq!(analysis.simulated_word(), "simulated");
        assert_eq!(recording.unknown, 0);
        let count = |key: &str| usize::try_from(expected[key].as_u64().unwrap()).unwrap();
        assert_eq!(analysis.windows.len(), count("windows"));
        assert_eq!(analysis.cells.len(), count("cells"));
        assert_eq!(analysis.baselines.len(), count("baselines"));
        assert_eq!(recording.clock_exchanges.len(), count("clock_exchanges"));
        let energies = expected["energies_j"].as_array().unwrap();
        for (window, joules) in analysis.windows.iter().zip(energies) {
            let (found, joules) = (window.energy.joules.0, joules.as_f64().unwrap());
            assert!((found / joules - 1.0).abs() < ENERGY_PART_MAX, "{found} J, was {joules} J");
        }
        let out = tempfile::tempdir().unwrap();
        let page = report::write(&analysis, out.path()).unwrap();
        assert!(fs::read_to_string(page).unwrap().contains("simulated"));
        csv::export(&recording, &analysis, out.path()).unwrap();
        assert_eq!(lines(&out.path().join("samples.csv")), count("samples"));
        assert_eq!(lines(&out.path().join("windows.csv")), count("windows"));
        assert_eq!(lines(&out.path().join("cells.csv")), count("cells"));
    }
}

#[test]
fn a_run_that_was_cut_while_an_earlier_version_wrote_it_goes_on() {
    for folder in versions() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join(FILE_NAME);
        fs::copy(folder.join(FILE_NAME), &path).unwrap();
        let mut store = Store::open_for_append(&path).unwrap();
        let held = store.watermarks().unwrap();
        let mut frames = Vec::new();
        store
            .for_each_frame(|frame| -> Result<(), wattline::store::StoreError> {
                frames.push(frame.bytes.to_vec());
                Ok(())
            })
            .unwrap();
        // All of it once more, as after an acknowledgement that was lost.
        let again: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let appended = store.append(&again).unwrap();
        assert_eq!((appended.stored, appended.watermarks), (0, held));
        store.finish().unwrap();
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }
}
