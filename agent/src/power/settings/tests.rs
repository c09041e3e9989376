use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::{Driver, ModelDrivers};
use super::*;
use crate::spool::ModelStorage;

const INA3221: Driver =
    Driver { channels: 3, average: 16, conversion_us: 1_100, refuses_zero: false };
const INA226: Driver =
    Driver { channels: 1, average: 16, conversion_us: 1_100, refuses_zero: true };
const PLACES: [(u8, u8); 2] = [(1, 0x40), (1, 0x44)];

/// A board with an INA3221 and an INA226, each held by its driver.
pub(super) struct Board {
    tree: tempfile::TempDir,
    pub(super) drivers: ModelDrivers,
    pub(super) storage: ModelStorage,
}

impl Board {
    pub(super) fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        let board = Self { tree, drivers: ModelDrivers::default(), storage: ModelStorage::new() };
        for (place, name, driver) in [("1-0040", "ina3221", INA3221), ("1-0044", "ina226", INA226)]
        {
            board.drivers.put(&board.folder(place), driver);
            let client = board.tree.path().join("bus/i2c/devices").join(place);
            fs::create_dir_all(board.folder(place)).unwrap();
            fs::write(client.join("name"), name).unwrap();
            fs::write(board.folder(place).join("name"), name).unwrap();
        }
        board
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    fn folder(&self, place: &str) -> PathBuf {
        self.tree.path().join("bus/i2c/devices").join(place).join("hwmon/hwmon3")
    }

    pub(super) fn desk(&self) -> Desk {
        self.desk_of_boot("this boot")
    }

    pub(super) fn desk_of_boot(&self, boot: &str) -> Desk {
        Desk {
            journal: Journal::new(Arc::new(self.storage.clone())),
            files: Arc::new(self.drivers.clone()),
            buses: Arc::new(self.drivers.clone()),
            sysfs_root: self.tree.path().to_owned(),
            boot: boot.to_owned(),
            exclusive: None,
            keeps: false,
        }
    }

    fn drivers(&self) -> [Driver; 2] {
        ["1-0040", "1-0044"].map(|place| self.drivers.driver(&self.folder(place)))
    }

    fn is_as_found(&self) -> bool {
        self.drivers() == [INA3221, INA226]
    }

    pub(super) fn entries(&self) -> usize {
        self.storage.files().iter().filter(|name| name.starts_with("settings/")).count()
    }
}

#[test]
fn drivers_are_set_to_their_fastest_and_restored_to_the_same_registers() {
    let board = Board::new();
    let held = board.desk().hold(&PLACES);
    let [ina3221, ina226] = board.drivers();
    assert_eq!((ina3221.average, ina3221.conversion_us), (1, 140));
    // It refuses 0 and takes 1.
    assert_eq!((ina226.average, ina226.conversion_us), (1, 1_100));
    assert_eq!(board.entries(), 2);
    let said: Vec<_> =
        held.settings().iter().map(|s| (s.attribute.name(), s.found, s.stands)).collect();
    let expected = [("samples", 16, 1), ("update_interval", 106, 1), ("update_interval", 35, 2)];
    assert_eq!(said, expected);
    let restored = held.restore();
    assert!(restored.iter().all(|s| s.outcome == SettingOutcome::Restored && s.stands == s.found));
    assert_eq!(restored.len(), 3);
    assert!(board.is_as_found());
    assert_eq!(board.entries(), 0);
}

#[test]
fn a_chip_that_is_not_sampled_is_left_alone() {
    let board = Board::new();
    let held = board.desk().hold(&[(1, 0x44)]);
    assert_eq!(board.drivers()[0], INA3221);
    drop(held);
    assert!(board.is_as_found());
}

#[test]
fn a_file_that_is_roots_is_no_error_and_the_other_is_set() {
    let board = Board::new();
    board.drivers.close("update_interval");
    let held = board.desk().hold(&PLACES[..1]);
    let said: Vec<_> = held.settings().iter().map(|s| (s.attribute.name(), s.outcome)).collect();
    assert_eq!(
        said,
        [("update_interval", SettingOutcome::NotPermitted), ("samples", SettingOutcome::Set)]
    );
    assert_eq!(board.drivers()[0].average, 1);
    board.drivers.close("samples");
    drop(held);
    // Nothing may be written: nothing is kept either.
    let held = board.desk().hold(&PLACES);
    assert!(held.settings().iter().all(|s| s.outcome == SettingOutcome::NotPermitted));
    drop(held);
    assert!(board.is_as_found());
    assert_eq!(board.entries(), 0);
}

#[test]
fn a_driver_that_takes_no_value_is_told_with_its_error_and_nothing_else_changes() {
    let board = Board::new();
    board.drivers.refuse("update_interval");
    let held = board.desk().hold(&PLACES[..1]);
    let said: Vec<_> = held.settings().iter().map(|s| (s.attribute.name(), s.outcome)).collect();
    let refused = SettingOutcome::Refused { errno: libc::EINVAL };
    assert_eq!(said, [("samples", SettingOutcome::Set), ("update_interval", refused)]);
    assert_eq!(held.settings()[1].stands, held.settings()[1].found);
    board.drivers.refuse("nothing");
    drop(held);
    assert_eq!(board.drivers()[0].average, INA3221.average);
}

#[test]
fn a_full_disk_changes_nothing() {
    let board = Board::new();
    board.storage.set_capacity(Some(10));
    let held = board.desk().hold(&PLACES);
    assert!(board.is_as_found());
    let outcomes = held.settings().iter().map(|setting| setting.outcome);
    assert!(outcomes.into_iter().all(|outcome| matches!(outcome, SettingOutcome::NotKept { .. })));
}

/// Whatever the process dies at, and whatever the disk loses with it, the next
/// one finds what was there before.
#[test]
fn a_kill_and_a_power_cut_at_any_call_leave_what_the_next_start_restores() {
    let mut deaths = 0;
    for call in 1.. {
        for seed in 0..4 {
            let board = Board::new();
            board.drivers.die_at(call);
            let held = board.desk().hold(&PLACES);
            let _ = held.restore();
            if !board.drivers.live() {
                assert!(call > 20, "a run of {call} calls");
                assert!(deaths > 80, "{deaths}");
                return;
            }
            deaths += 1;
            board.storage.cut_power(seed);
            for left in board.desk().work_off() {
                left.ended.unwrap();
            }
            assert!(board.is_as_found(), "call {call}, seed {seed}: {:?}", board.drivers());
            assert_eq!(board.entries(), 0, "call {call}, seed {seed}");
        }
    }
}

/// The same where the disk itself fails at any of its operations.
#[test]
fn a_failing_disk_never_leaves_a_change_that_nobody_knows_of() {
    use crate::spool::model::ModelFault;
    for operation in 0..40 {
        for seed in 0..4 {
            let board = Board::new();
            board.storage.fail_operation(operation, ModelFault::Io);
            let held = board.desk().hold(&PLACES);
            // SIGKILL: nothing of the process runs on.
            std::mem::forget(held);
            board.storage.cut_power(seed);
            board.storage.mend();
            for left in board.desk().work_off() {
                left.ended.unwrap();
            }
            assert!(board.is_as_found(), "operation {operation}, seed {seed}");
        }
    }
}

#[test]
fn an_entry_whose_restore_is_not_read_back_stays() {
    let board = Board::new();
    let held = board.desk().hold(&PLACES[..1]);
    std::mem::forget(held);
    board.drivers.die_at(2);
    let left = board.desk().work_off();
    assert!(matches!(left[0].ended, Err(RestoreError::File { did: "written", .. })));
    assert_eq!(board.entries(), 1);
    assert!(board.drivers.live());
    assert!(matches!(board.desk().work_off()[0].ended, Ok(Ending::Restored)));
    assert!(board.is_as_found() && board.desk().work_off().is_empty());
}

#[test]
fn after_another_boot_a_drivers_own_settings_are_not_overwritten() {
    let board = Board::new();
    std::mem::forget(board.desk().hold(&PLACES[..1]));
    // The driver began anew, and somebody chose otherwise at boot.
    let chosen = Driver { average: 4, conversion_us: 588, ..INA3221 };
    board.drivers.put(&board.folder("1-0040"), chosen);
    let left = board.desk_of_boot("the next boot").work_off();
    assert!(matches!(left[0].ended, Ok(Ending::BeganAnew)), "{left:?}");
    assert_eq!((board.drivers()[0], board.entries()), (chosen, 0));
}

#[test]
fn a_chip_that_is_gone_keeps_its_entry_and_is_named() {
    let board = Board::new();
    std::mem::forget(board.desk().hold(&PLACES[..1]));
    let empty = tempfile::tempdir().unwrap();
    let left = board.desk().work_off_in(Some(empty.path()));
    let text = left[0].ended.as_ref().unwrap_err().to_string();
    assert!(text.starts_with("1-0040 is not below "), "{text}");
    assert_eq!(board.entries(), 1);
    assert!(matches!(board.desk().work_off()[0].ended, Ok(Ending::Restored)));
}

#[test]
fn two_entries_of_one_chip_end_in_what_stood_before_the_first() {
    let board = Board::new();
    let path = board.folder("1-0040");
    std::mem::forget(board.desk().hold(&PLACES[..1]));
    // A start whose work_off failed: the next run finds the changed driver.
    board.drivers.write(&path.join("update_interval"), "25").unwrap();
    std::mem::forget(board.desk().hold(&PLACES[..1]));
    assert_eq!(board.entries(), 2);
    for left in board.desk().work_off() {
        left.ended.unwrap();
    }
    assert!(board.is_as_found() && board.entries() == 0);
}

#[test]
fn a_torn_entry_is_removed_and_a_newer_ones_version_is_named() {
    let board = Board::new();
    std::mem::forget(board.desk().hold(&PLACES[..1]));
    let name =
        board.storage.files().into_iter().find(|name| name.starts_with("settings/")).unwrap();
    board.storage.tear(&name, 40);
    assert!(board.desk().work_off().is_empty() && board.entries() == 0);
    let mut entry = Entry::new("b".into(), Path::new("/sys").into(), (1, 0x40), "ina3221".into());
    entry.version = 2;
    board.desk().journal.keep(entry).unwrap();
    let left = board.desk().work_off();
    let text = left[0].ended.as_ref().unwrap_err().to_string();
    assert!(text.contains("version 2") && board.entries() == 1, "{text}");
}

#[test]
fn settings_that_are_to_be_kept_are_told_and_left() {
    let board = Board::new();
    let held = board.desk().keeping_settings().hold(&PLACES);
    assert!(board.is_as_found());
    let said: Vec<_> = held
        .settings()
        .iter()
        .map(|s| (s.attribute.name(), s.found, s.stands, s.outcome))
        .collect();
    let kept = SettingOutcome::Kept;
    let expected = [
        ("samples", 16, 16, kept),
        ("update_interval", 106, 106, kept),
        ("update_interval", 35, 35, kept),
    ];
    assert_eq!(said, expected);
    assert!(held.restore().is_empty());
    assert_eq!((board.is_as_found(), board.entries()), (true, 0));
}
