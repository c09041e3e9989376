use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::power::settings::model::Driver;
use crate::power::settings::tests::Board;

const PLACES: [(u8, u8); 1] = [(1, 0x40)];
/// What nvpmodel set for channel 1, and which alerts latch.
const LIMIT: u16 = 0x2580;
const LATCHES: u16 = 0x0c00;

fn board() -> Board {
    let board = Board::new();
    let client = board.path("bus/i2c/devices/1-0040");
    fs::create_dir_all(board.path("bus/i2c/drivers/ina3221")).unwrap();
    std::os::unix::fs::symlink("../../drivers/ina3221", client.join("driver")).unwrap();
    for name in ["samples", "update_interval", "curr1_crit"] {
        fs::write(client.join("hwmon/hwmon3").join(name), "0\n").unwrap();
    }
    for (register, value) in [(0x07, LIMIT), (0x0f, LATCHES), (0xfe, 0x5449), (0xff, 0x3220)] {
        board.drivers.set_register(register, value);
    }
    board
}

fn is_bound(board: &Board) -> bool {
    fs::read_link(board.path("bus/i2c/devices/1-0040/driver")).is_ok()
}

/// The driver holds the chip again, and the chip holds what it held.
fn assert_as_found(board: &Board, when: &str) {
    assert!(is_bound(board), "{when}");
    // Averaging 16, 1.1 ms.
    assert_eq!(board.drivers.config(), 0x7527, "{when}");
    let registers: BTreeMap<u8, u16> = board.drivers.registers();
    assert_eq!(registers[&0x07], LIMIT, "{when}");
    assert_eq!(registers.get(&0x0f).copied().unwrap_or(0) & 0x7c00, LATCHES, "{when}");
    assert_eq!(board.entries(), 0, "{when}");
}

#[test]
fn a_chip_is_taken_and_given_back_with_the_limits_that_a_reset_loses() {
    let board = board();
    let held = board.desk().take(&PLACES).unwrap();
    assert!(!is_bound(&board));
    assert_eq!((held.taken(), board.entries()), (vec![(1, 0x40)], 1));
    let mut bus = board.drivers.open(Path::new("/"), 1).unwrap();
    let setup = ChipSetup {
        address: Address7::new(0x40).unwrap(),
        profile: Profile::Cover,
        ownership: Ownership::Ours,
    };
    let mut chip = Chip::new(ChipKind::Ina3221, setup, &[1, 2, 3]).unwrap();
    assert_eq!(chip.configure(&mut *bus), Ok(0x7027));
    assert_eq!(board.drivers.registers()[&0x07], LIMIT);
    let ended = held.restore();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].outcome, ended[0].stands), (SettingOutcome::Restored, 1));
    assert_as_found(&board, "after a run");
}

#[test]
fn a_kill_and_a_power_cut_at_any_call_leave_what_the_next_start_gives_back() {
    for call in 1.. {
        for seed in 0..2 {
            let board = board();
            board.drivers.die_at(call);
            if let Ok(held) = board.desk().take(&PLACES) {
                if let Ok(mut bus) = board.drivers.open(Path::new("/"), 1) {
                    let address = Address7::new(0x40).unwrap();
                    let _ = write_register(&mut *bus, address, 0, 0x7007);
                }
                let _ = held.restore();
            }
            if !board.drivers.live() {
                assert!(call > 40, "a run of {call} calls");
                return;
            }
            board.storage.cut_power(seed);
            for left in board.desk().work_off() {
                left.ended.unwrap();
            }
            assert_as_found(&board, &format!("call {call}, seed {seed}"));
        }
    }
}

#[test]
fn after_another_boot_a_chip_is_its_drivers() {
    let board = board();
    std::mem::forget(board.desk().take(&PLACES).unwrap());
    let path = board.path("bus/i2c/drivers/ina3221/bind");
    board.desk().files.write(&path, "1-0040").unwrap();
    let left = board.desk_of_boot("the next boot").work_off();
    assert!(matches!(left[0].ended, Ok(Ending::BeganAnew)));
    assert_eq!(board.entries(), 0);
    let driver = board.drivers.driver(&board.path("bus/i2c/devices/1-0040/hwmon/hwmon9"));
    assert_eq!(driver, Driver::AT_RESET);
}

#[test]
fn a_stranger_is_not_taken_and_nothing_is_kept_of_it() {
    let board = board();
    board.drivers.set_register(0xff, 0x2260);
    let refused = board.desk().take(&PLACES).unwrap_err();
    assert!(matches!(refused, TakeError::Chip { source: ChipError::WrongChip { .. }, .. }));
    assert!(is_bound(&board) && board.entries() == 0);
}

#[test]
fn a_process_that_may_not_unbind_is_told_before_a_run() {
    let board = board();
    board.drivers.close("unbind");
    let may = |places: &[(u8, u8)]| may_take(&board.drivers, &board.path(""), places);
    let refused = may(&PLACES).unwrap_err();
    assert!(refused.is_permission(), "{refused}");
    assert_eq!(refused.to_string(), "driver ina3221 does not let go of 1-0040");
    assert!(may(&[(7, 0x40)]).is_ok());
}

#[test]
fn a_tree_that_is_not_this_machines_has_no_bus() {
    let refused = LinuxBuses.open(Path::new("/tmp/sys"), 1).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn no_kept_register_is_written_with_its_reset_bit() {
    let kinds = [ChipKind::Ina219, ChipKind::Ina226, ChipKind::Ina228, ChipKind::Ina3221];
    for kind in kinds {
        let (register, settings) = kept_registers(kind)[0];
        assert_eq!((register, settings & 0x8000), (0, 0), "{kind:?}");
    }
}
