//! A disk that fills up or fails, and what is kept.

use super::*;
use crate::spool::model::ModelFault;

#[test]
fn frames_that_meet_a_full_disk_wait_in_memory_and_are_written_when_there_is_space() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..5, EVENT, 300);
    log.sync().unwrap();
    model.set_capacity(Some(2000));
    append(&mut log, 5..20, EVENT, 300);
    for _ in 0..3 {
        assert!(matches!(log.sync(), Err(SpoolError::DiskFull { .. })));
    }
    assert_eq!(numbers(&read_all(&spool, &run_id())), (0..20).collect::<Vec<_>>());
    model.set_capacity(None);
    log.sync().unwrap();
    assert_eq!(log.progress(), Progress { appended: 20, durable: 20 });
    model.cut_power(7);
    let items = read_all(&open(&model), &run_id());
    assert_eq!(numbers(&items), (0..20).collect::<Vec<_>>());
    assert_eq!(items.len(), 20);
}

#[test]
fn a_failed_sync_is_never_repeated_on_the_same_file_and_loses_nothing() {
    for seed in 0..50 {
        let model = ModelStorage::new();
        let mut log = open(&model).create_run(&run_id()).unwrap();
        append(&mut log, 0..3, EVENT, 100);
        log.sync().unwrap();
        append(&mut log, 3..6, EVENT, 100);
        model.fail_operation(model.operations(), ModelFault::Io);
        log.sync().unwrap();
        model.cut_power(seed);
        let items = read_all(&open(&model), &run_id());
        assert_eq!(numbers(&items), [0, 1, 2, 3, 4, 5]);
        assert_eq!(items.len(), 6, "no damage is said where nothing is lost: {items:?}");
    }
}

#[test]
fn a_start_goes_on_from_what_the_disk_has_and_not_from_what_the_kernel_holds() {
    let mut lost = 0;
    // The sync fails; then the segment that would take its frames is not made, or is
    // left behind with its head alone, which says where the line is.
    for refused in [&[0, 1][..], &[0, 3, 4]] {
        for bytes in 60..160 {
            let model = ModelStorage::new();
            let mut log = open(&model).create_run(&run_id()).unwrap();
            append(&mut log, 0..3, EVENT, bytes);
            log.sync().unwrap();
            append(&mut log, 3..12, EVENT, bytes);
            let next = model.operations();
            refused.iter().for_each(|at| model.fail_operation(next + at, ModelFault::Io));
            assert!(log.sync().is_err());
            drop(log);
            let spool = open(&model);
            let found = read_all(&spool, &run_id());
            let there = numbers(&found);
            assert!(there.starts_with(&[0, 1, 2]), "{there:?}");
            lost += 12 - there.len();
            // What a campaign goes on from is what a host is given.
            let history = spool.newest(&run_id(), &[EVENT], |_| false).unwrap();
            let history = history.iter().map(|one| one.header.identity.sequence);
            assert_eq!(history.collect::<Vec<_>>(), there);
            let mut log = spool.resume_run(&run_id()).unwrap();
            log.append(&frame(EVENT, identity(2, 0, 0), 1, 10)).unwrap();
            log.sync().unwrap();
            model.cut_power(7);
            let items = read_all(&open(&model), &run_id());
            let after: Vec<u64> = there.into_iter().chain([0]).collect();
            assert_eq!(numbers(&items), after, "frames of {bytes} bytes");
            assert_eq!(holes(&items), holes(&found));
        }
    }
    assert!(lost > 900, "too few syncs that failed lost anything: {lost}");
}

#[test]
fn a_segment_takes_a_frame_though_its_head_alone_is_longer_than_it_may_be() {
    let model = ModelStorage::new();
    let limits = Limits { segment_bytes: 30, pending_bytes: 16 * 1024, held_bytes: 0 };
    let spool = Spool::open_within(Arc::new(model), "board-1", limits).unwrap();
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..4, EVENT, 20);
    log.sync().unwrap();
    assert_eq!(numbers(&read_all(&spool, &run_id())), [0, 1, 2, 3]);
    assert_eq!(spool.runs()[0].segments, 4);
}

#[test]
fn every_operation_of_a_run_may_fail_and_what_was_promised_is_there() {
    let scenario = |model: &ModelStorage| -> Option<(Vec<StreamEnd>, u64)> {
        let spool = open(model);
        let mut log = spool.create_run(&run_id()).ok()?;
        let mut synced = true;
        for part in 0..6_u64 {
            append(&mut log, part * 8..part * 8 + 8, EVENT, 200);
            synced = log.sync().is_ok();
        }
        Some((log.durable_ends(), if synced { 48 } else { 0 }))
    };
    let clean = ModelStorage::new();
    scenario(&clean).unwrap();
    for number in 0..clean.operations() {
        for fault in [ModelFault::Io, ModelFault::Full] {
            let model = ModelStorage::new();
            model.fail_operation(number, fault);
            let Some((promised, all)) = scenario(&model) else {
                continue;
            };
            model.cut_power(number);
            let found = numbers(&read_all(&open(&model), &run_id()));
            let next = promised.first().map_or(0, |end| end.next).max(all);
            let expected: Vec<u64> = (0..next).collect();
            assert!(found.starts_with(&expected), "operation {number}, {fault:?}: {found:?}");
        }
    }
}

#[test]
fn at_the_bound_of_memory_old_samples_go_first_and_events_stay() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    model.set_capacity(Some(0));
    let mut gaps = Vec::new();
    for turn in 0..100 {
        let samples = frame(kind::SAMPLE_BLOCK, identity(1, 1, turn * 64), 64, 400);
        gaps.extend(log.append(&samples).unwrap());
        gaps.extend(log.append(&frame(EVENT, identity(1, 0, turn), 1, 20)).unwrap());
    }
    assert!(log.pending_bytes() <= 16 * 1024);
    assert!(gaps.iter().all(|gap| gap.stream == 1));
    let dropped: u64 = gaps.iter().map(|gap| gap.to - gap.from).sum();
    assert_eq!(gaps.iter().map(|gap| gap.from).min(), Some(0));
    model.set_capacity(None);
    log.sync().unwrap();
    let items = read_all(&spool, &run_id());
    // The host is told before the frames behind them: the gap records lie far behind.
    let told: u64 = holes(&items).iter().map(|hole| hole.to - hole.from).sum();
    assert_eq!(told, dropped);
    assert!(holes(&items).iter().all(|hole| hole.reason == GapReason::DroppedByPolicy));
    let of = |stream| {
        items.iter().filter(move |item| match item {
            Item::Frame(frame) => frame.header.identity.stream == stream,
            Item::Damage { .. } | Item::Hole(_) => false,
        })
    };
    assert_eq!(of(0).count(), 100);
    assert_eq!(of(1).count(), 100 - usize::try_from(dropped / 64).unwrap());
}

#[test]
fn events_too_go_at_last_and_each_is_accounted_for() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    model.set_capacity(Some(0));
    let gaps = append(&mut log, 0..1000, EVENT, 100);
    assert!(log.pending_bytes() <= 16 * 1024);
    let mut all: Vec<u64> = gaps.iter().flat_map(|gap| gap.from..gap.to).collect();
    all.extend(numbers(&read_all(&spool, &run_id())));
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

#[test]
fn the_epoch_rises_at_each_start_and_survives_a_power_cut() {
    let model = ModelStorage::new();
    for start in 1..6 {
        let raised = open(&model).raise_epoch("boot-1").unwrap();
        assert_eq!(raised.epoch, start);
        let origin = if start == 1 { EpochOrigin::First } else { EpochOrigin::Slots };
        assert_eq!(raised.origin, origin);
        assert_eq!(raised.boot_id_before, if start == 1 { "" } else { "boot-1" });
        model.cut_power(start.into());
        assert_eq!(open(&model).board_id(), "board-1");
    }
}

#[test]
fn a_damaged_epoch_slot_falls_back_to_the_other_and_two_to_the_segments() {
    let model = ModelStorage::new();
    for _ in 0..4 {
        open(&model).raise_epoch("boot").unwrap();
    }
    // Epoch 4 is in the first slot, 3 in the second.
    let older = model.copy();
    older.flip_bit("epoch.1", 5, 1);
    let raised = open(&older).raise_epoch("boot").unwrap();
    assert_eq!((raised.epoch, raised.origin), (6, EpochOrigin::OneSlot));
    let mut log = open(&model).create_run(&run_id()).unwrap();
    log.append(&frame(EVENT, identity(4, 0, 0), 1, 5)).unwrap();
    log.sync().unwrap();
    let newer = model.copy();
    newer.flip_bit("epoch.0", 5, 1);
    let raised = open(&newer).raise_epoch("boot").unwrap();
    assert_eq!((raised.epoch, raised.origin), (6, EpochOrigin::OneSlot));
    model.flip_bit("epoch.0", 5, 1);
    model.flip_bit("epoch.1", 5, 1);
    let raised = open(&model).raise_epoch("boot").unwrap();
    let expected = 4 + epoch::LOST_SLOTS_STEP;
    assert_eq!((raised.epoch, raised.origin), (expected, EpochOrigin::Segments));
}

#[test]
fn an_epoch_that_only_a_rotten_slot_knew_is_not_given_again() {
    let model = ModelStorage::new();
    let mut last = 0;
    for start in 0..40_u64 {
        let raised = open(&model).raise_epoch("boot").unwrap().epoch;
        assert!(raised > last, "start {start}: {raised} after {last}");
        last = raised;
        // Nothing was recorded, and the slot that was just written rots.
        if start % 3 == 1 {
            let newest = if start % 2 == 0 { "epoch.0" } else { "epoch.1" };
            model.flip_bit(newest, 5, 1);
        }
    }
}

#[test]
fn a_rotten_first_slot_that_cannot_be_replaced_is_not_forgotten() {
    let model = ModelStorage::new();
    assert_eq!(open(&model).raise_epoch("boot").unwrap().epoch, 1);
    model.flip_bit("epoch.0", 5, 1);
    for fault in 0..6 {
        model.fail_operation(model.operations() + fault % 3, ModelFault::Full);
        let _ = open(&model).raise_epoch("boot");
    }
    model.mend();
    assert!(open(&model).raise_epoch("boot").unwrap().epoch > 1);
}

#[test]
fn an_epoch_cut_short_at_any_operation_is_never_given_twice() {
    for number in 0..20 {
        for seed in 0..20 {
            let model = ModelStorage::new();
            let mut last = 0;
            for start in 0..4 {
                if start == 2 {
                    model.fail_operation(model.operations() + number, ModelFault::Io);
                }
                match open(&model).raise_epoch("boot") {
                    Ok(raised) => {
                        assert!(raised.epoch > last, "operation {number}, seed {seed}");
                        last = raised.epoch;
                    }
                    Err(_) => assert_eq!(start, 2),
                }
                model.cut_power(seed);
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_the_epoch_and_what_is_spooled_can_still_be_read() {
    let model = ModelStorage::new();
    let spool = open(&model);
    spool.raise_epoch("boot").unwrap();
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..3, EVENT, 50);
    log.sync().unwrap();
    model.set_capacity(Some(0));
    let spool = open(&model);
    assert!(matches!(spool.raise_epoch("boot"), Err(SpoolError::DiskFull { .. })));
    assert_eq!(numbers(&read_all(&spool, &run_id())), [0, 1, 2]);
    model.set_capacity(None);
    // One is left out: the slot that could not be written may have held 2.
    assert_eq!(spool.raise_epoch("boot").unwrap().epoch, 3);
}
