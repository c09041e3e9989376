//! Fuzz targets of files: graphs and weights (agent), recordings (host).
//!
//! The environment's `FUZZ_TARGET` names one, `FUZZ_FOLDER` a folder in memory
//! for the file of the moment. Whatever the bytes: an error, never a panic.
#![no_main]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use wattline::analysis;
use wattline::recording::Recording;
use wattline::store::{Store, TeeFrames};
use wattline_agent::network;

fuzz_target!(|bytes: &[u8]| target()(bytes));

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| match std::env::var("FUZZ_TARGET").as_deref() {
        Ok("graphs") => graphs,
        Ok("weights") => weights,
        Ok("recordings") => recordings,
        Ok("tees") => tees,
        other => panic!("FUZZ_TARGET is graphs, weights, recordings or tees: {other:?}"),
    })
}

/// The file of the moment, with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let parent = std::env::var("FUZZ_FOLDER").unwrap_or_else(|_| "/dev/shm".into());
        let folder = Path::new(&parent).join(format!("wattline-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder in memory");
        folder
    });
    let path = folder.join(name);
    fs::write(&path, bytes).expect("space in memory");
    path
}

/// A user's graph: parsed, checked, and counted at its own size.
fn graphs(bytes: &[u8]) {
    let name = if bytes.first() == Some(&b'{') { "graph.json" } else { "graph.toml" };
    let path = file(name, bytes);
    if let Ok(graph) = network::open(&path.display().to_string()) {
        let _ = black_box(graph.counts(64));
    }
}

/// A weights file of either kind, opened for a small network.
fn weights(bytes: &[u8]) {
    static GRAPH: OnceLock<network::Graph> = OnceLock::new();
    let graph = GRAPH.get_or_init(|| network::open("squeezenet1-1").expect("built in"));
    let name = if bytes.starts_with(b"PK") { "w.pth" } else { "w.safetensors" };
    let _ = black_box(network::check_weights(&file(name, bytes), graph));
}

/// A recording: opened, read and judged.
fn recordings(bytes: &[u8]) {
    let path = file("recording.sqlite", bytes);
    let Ok(store) = Store::open_read_only(&path) else { return };
    if let Ok(recording) = Recording::from_store(store) {
        let _ = black_box(analysis::analyse(&recording, &[]));
    }
}

/// A tee: frames one after the other.
fn tees(bytes: &[u8]) {
    let Ok(tee) = TeeFrames::parse(bytes) else { return };
    if let Ok(recording) = Recording::from_tee(&tee) {
        let _ = black_box(analysis::analyse(&recording, &[]));
    }
}
