//! Chips that fail while a run samples them.

use std::fs;

use wattline_tests::{Process, until_within};
use wattline_virtual_board::guest::{Guest, PATIENCE};
use wattline_virtual_board::rails::{self, RAILS};
use wattline_virtual_board::tables::Tables;
use wattline_virtual_board::wire::INA226_AT;

/// A network of 4 channels: inferences of milliseconds, also emulated.
const TINY: &str = include_str!("../../../fuzz/corpus/graphs/tiny.toml");
/// What a second of sampling adds to the log at least, in bytes.
const SOME_TRANSFERS: u64 = 20_000;

/// NACK, a stuck bus, a stretched clock and a reset are recorded and survived.
pub(crate) fn are_recorded_and_survived(guest: &Guest) {
    let tiny = rails::bring_graph(guest, TINY);
    let board = guest.address();
    let mut run = guest.wattline_started(&[
        "run",
        "--on",
        &board,
        "--out",
        "faults",
        "--quick",
        "--networks",
        &tiny,
        "--size",
        "32",
        "--batch",
        "1",
        "--windows",
        "3",
    ]);
    sampled(guest, &mut run);
    for fault in
        ["nack 0x41 0.4", "stuck 0x40 0.4", "stretch 0x41 0.002 0.4", "reset 0x40", "reset 0x41"]
    {
        sampled(guest, &mut run);
        let _ = guest.bus(fault);
    }
    let outcome = run.finish_within(PATIENCE);
    // 4: the faults, or a busy machine, took more than a window may miss.
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome:#?}");
    let _ = guest.wattline(&["export", "faults", "--to", "csv"]).ends_with(0);
    let tables = Tables::read(&guest.sandbox.work().join("faults/export"));
    let log = guest.transfers();
    let _ = crate::assert_values_are_the_logs(&tables, &log);
    assert!(log.iter().any(|one| one.address == INA226_AT && !one.is_ok), "no fault on the wire");
    for rail in RAILS {
        let failed = tables.count(rail.label, "nack") + tables.count(rail.label, "bus");
        assert!(failed > 0, "{}: no sample says that it failed", rail.label);
        let good = tables.count_behind_last_failure(rail.label);
        assert!(good > 10, "{}: {good} good samples behind the last failed one", rail.label);
        println!("{}: {failed} failed samples, {good} good ones behind them", rail.label);
    }
}

/// Waits until the run has sampled some more.
fn sampled(guest: &Guest, run: &mut Process) {
    let log = guest.sandbox.path("transfers.log");
    let size = || fs::metadata(&log).unwrap().len();
    let due = size() + SOME_TRANSFERS;
    until_within(PATIENCE, "the run samples", || {
        assert!(!run.is_over(), "the run ended: {}", run.stderr());
        (size() > due).then_some(())
    });
}
