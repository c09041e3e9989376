//! Torn, flipped, lost and unreadable: what is left is read, the rest is said.

use proptest::prelude::*;

use super::*;
use crate::spool::model::ModelFault;

const FIRST: &str = "runs/night-1/00000001.seg";

/// A run of `count` synced frames in one segment, and the offset of each.
fn one_segment(count: u64, bytes: usize) -> (ModelStorage, Vec<usize>) {
    let model = ModelStorage::new();
    let spool = Spool::open(Arc::new(model.clone()), "board-1").unwrap();
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..count, EVENT, bytes);
    log.sync().unwrap();
    let length = usize::try_from(model.length(FIRST).unwrap()).unwrap();
    let frame_bytes = frame(EVENT, identity(1, 0, 0), 1, bytes).len();
    let frames = usize::try_from(count).unwrap();
    let head = length - frames * frame_bytes;
    (model, (0..=frames).map(|at| head + at * frame_bytes).collect())
}

#[test]
fn a_tail_torn_at_any_byte_leaves_the_frames_before_it_and_the_run_goes_on() {
    let (whole, offsets) = one_segment(4, 40);
    for length in offsets[0]..=offsets[4] {
        let model = whole.copy();
        model.tear(FIRST, length);
        let left = offsets.iter().filter(|&&offset| offset <= length).count() - 1;
        let spool = open(&model);
        let found = &spool.recovered()[0];
        assert_eq!(found.torn_bytes, u64::try_from(length - offsets[left]).unwrap());
        assert_eq!(model.length(FIRST).unwrap(), u64::try_from(offsets[left]).unwrap());
        assert_eq!(read_all(&spool, &run_id()).len(), left, "cut to {length}");
        let mut log = spool.resume_run(&run_id()).unwrap();
        log.append(&frame(EVENT, identity(2, 0, 0), 1, 5)).unwrap();
        log.sync().unwrap();
        let mut expected: Vec<u64> = (0..).take(left).collect();
        expected.push(0);
        for spool in [spool, open(&model)] {
            let items = read_all(&spool, &run_id());
            assert_eq!(numbers(&items), expected, "cut to {length}");
            assert_eq!(items.len(), expected.len());
        }
    }
}

#[test]
fn a_head_torn_at_any_byte_is_an_empty_run_that_can_be_resumed() {
    let (whole, offsets) = one_segment(1, 40);
    for length in 0..offsets[0] {
        let model = whole.copy();
        model.tear(FIRST, length);
        let spool = open(&model);
        assert!(spool.recovered()[0].ends.is_empty());
        let mut log = spool.resume_run(&run_id()).unwrap();
        append(&mut log, 0..2, EVENT, 5);
        log.sync().unwrap();
        assert_eq!(numbers(&read_all(&open(&model), &run_id())), [0, 1], "cut to {length}");
    }
}

#[test]
fn a_flipped_bit_costs_one_frame_and_the_hole_is_named() {
    let (whole, offsets) = one_segment(5, 40);
    for offset in offsets[1]..offsets[2] {
        let model = whole.copy();
        model.flip_bit(FIRST, offset, 3);
        let spool = open(&model);
        let bytes = u64::try_from(offsets[2] - offsets[1]).unwrap();
        assert_eq!(spool.recovered()[0].damaged, [DamagedPart { segment: 1, bytes }]);
        let items = read_all(&spool, &run_id());
        assert_eq!(numbers(&items), [0, 2, 3, 4], "byte {offset}");
        assert_eq!(items[1], Item::Damage { segment: 1, bytes });
        let [hole] = holes(&items)[..] else { panic!("one hole, not {items:?}") };
        assert_eq!((hole.epoch, hole.stream, hole.from, hole.to), (1, 0, 1, 2));
    }
}

#[test]
fn a_flipped_bit_in_a_head_costs_no_frame() {
    let (whole, offsets) = one_segment(3, 40);
    for offset in 0..offsets[0] {
        let model = whole.copy();
        model.flip_bit(FIRST, offset, 0);
        assert_eq!(numbers(&read_all(&open(&model), &run_id())), [0, 1, 2], "byte {offset}");
    }
}

#[test]
fn a_copy_that_a_failed_sync_left_behind_does_not_hide_the_good_one() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..3, EVENT, 40);
    log.sync().unwrap();
    append(&mut log, 3..6, EVENT, 40);
    model.fail_operation(model.operations(), ModelFault::Io);
    log.sync().unwrap();
    let frame_bytes = frame(EVENT, identity(1, 0, 0), 1, 40).len();
    let length = usize::try_from(model.length(FIRST).unwrap()).unwrap();
    // Number 2, the last durable one, and the first copy of number 3.
    model.flip_bit(FIRST, length - 4 * frame_bytes, 1);
    model.flip_bit(FIRST, length - 3 * frame_bytes, 1);
    let items = read_all(&open(&model), &run_id());
    assert_eq!(numbers(&items), [0, 1, 3, 4, 5]);
    let [hole] = holes(&items)[..] else { panic!("one hole, not {items:?}") };
    assert_eq!((hole.from, hole.to), (2, 3));
}

#[test]
fn where_the_head_behind_a_failed_sync_is_lost_the_whole_copies_are_still_found() {
    // With a third segment, whose head is whole, and without one.
    for synced_last in [6, 40] {
        let model = ModelStorage::new();
        let spool = open(&model);
        let mut log = spool.create_run(&run_id()).unwrap();
        append(&mut log, 0..3, EVENT, 40);
        log.sync().unwrap();
        append(&mut log, 3..6, EVENT, 40);
        model.fail_operation(model.operations(), ModelFault::Io);
        log.sync().unwrap();
        append(&mut log, 6..synced_last, EVENT, 300);
        log.sync().unwrap();
        let frame_bytes = frame(EVENT, identity(1, 0, 0), 1, 40).len();
        let length = usize::try_from(model.length(FIRST).unwrap()).unwrap();
        // Of what was not synced number 3 is torn, while 4 and 5 are there.
        model.flip_bit(FIRST, length - 3 * frame_bytes, 1);
        model.flip_bit("runs/night-1/00000002.seg", 31, 1);
        let items = read_all(&open(&model), &run_id());
        assert_eq!(numbers(&items), (0..synced_last).collect::<Vec<_>>());
        assert_eq!(holes(&items), []);
    }
}

/// A run of many small segments.
fn many_segments() -> (ModelStorage, Vec<String>) {
    let model = ModelStorage::new();
    let mut log = open(&model).create_run(&run_id()).unwrap();
    append(&mut log, 0..60, EVENT, 300);
    log.sync().unwrap();
    (model.clone(), model.files())
}

#[test]
fn a_lost_segment_is_a_hole_with_known_numbers() {
    let (model, files) = many_segments();
    model.remove(&files[1]).unwrap();
    let items = read_all(&open(&model), &run_id());
    let [hole] = holes(&items)[..] else { panic!("one hole, not {items:?}") };
    let expected: Vec<u64> = (0..60).filter(|n| *n < hole.from || *n >= hole.to).collect();
    assert!(hole.from > 0 && hole.to < 60 && hole.from < hole.to);
    assert_eq!(numbers(&items), expected);
}

#[test]
fn damage_at_the_end_of_a_segment_is_a_hole_before_the_next_one() {
    let (model, files) = many_segments();
    let length = usize::try_from(model.length(&files[0]).unwrap()).unwrap();
    model.flip_bit(&files[0], length - 10, 7);
    let items = read_all(&open(&model), &run_id());
    let [hole] = holes(&items)[..] else { panic!("one hole, not {items:?}") };
    assert_eq!(hole.to, hole.from + 1);
    let at = items.iter().position(|item| matches!(item, Item::Hole(_))).unwrap();
    assert!(matches!(items[at - 1], Item::Damage { segment: 1, .. }));
    assert_eq!(numbers(&items).len(), 59);
}

#[test]
fn a_part_that_cannot_be_read_is_a_hole_and_is_not_cut_off() {
    let (model, offsets) = one_segment(400, 100);
    let length = model.length(FIRST).unwrap();
    let bad = u64::try_from(offsets[200]).unwrap();
    model.make_unreadable(FIRST, bad..bad + 1);
    model.make_unreadable(FIRST, length - 1..length);
    let spool = open(&model);
    assert_eq!(model.length(FIRST).unwrap(), length);
    let items = read_all(&spool, &run_id());
    let found = numbers(&items);
    assert!(found.len() > 300 && found.contains(&0) && found.contains(&300), "{found:?}");
    assert!(!found.contains(&200) && !holes(&items).is_empty());
}

proptest! {
    #[test]
    fn any_damage_is_passed_and_nothing_is_invented(
        flips in proptest::collection::vec((0_usize..20, 0_usize..5000, 0_u32..8), 1..40),
    ) {
        let (model, files) = many_segments();
        for (file, offset, bit) in flips {
            model.flip_bit(&files[file % files.len()], offset, bit);
        }
        let spool = open(&model);
        let items = read_all(&spool, &run_id());
        let found = numbers(&items);
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        for item in &items {
            if let Item::Frame(got) = item {
                let sequence = got.header.identity.sequence;
                let written = frame(EVENT, identity(1, 0, sequence), 1, 300);
                prop_assert_eq!(&got.bytes[..], &written[..]);
            }
        }
        // What is absent below the last frame is said to be absent, once.
        let mut absent: Vec<u64> = holes(&items).iter().flat_map(|gap| gap.from..gap.to).collect();
        absent.extend(&found);
        absent.sort_unstable();
        let expected: Vec<u64> = (0..).take(absent.len()).collect();
        prop_assert_eq!(absent, expected);
    }

    #[test]
    fn a_segment_of_any_bytes_is_read_to_its_end(bytes: Vec<u8>) {
        let model = ModelStorage::new();
        model.create_folder("runs").unwrap();
        model.create_folder("runs/night-1").unwrap();
        model.create(FIRST).unwrap().append(&bytes).unwrap();
        prop_assert!(numbers(&read_all(&open(&model), &run_id())).is_empty());
    }
}

#[test]
fn the_last_frames_of_a_log_that_rot_are_said_though_none_follows() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..6, EVENT, 100);
    log.sync().unwrap();
    let name = model.files().into_iter().find(|name| name.starts_with("runs/")).unwrap();
    let length = usize::try_from(model.length(&name).unwrap()).unwrap();
    model.flip_bit(&name, length - 10, 1);
    let items = read_all(&spool, &run_id());
    assert_eq!(numbers(&items), [0, 1, 2, 3, 4]);
    let holes = holes(&items);
    assert_eq!(holes.iter().map(|hole| (hole.from, hole.to)).collect::<Vec<_>>(), [(5, 6)]);
}

#[test]
fn a_run_whose_removal_has_begun_has_no_reader_that_waits_for_ever() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..1, kind::RUN_END, 10);
    log.sync().unwrap();
    drop(log);
    assert!(spool.ack(&run_id(), &[StreamEnd { epoch: 1, stream: 0, next: 1 }]).unwrap());
    model.fail_operation(model.operations(), ModelFault::Io);
    assert!(spool.remove_run(&run_id()).is_err());
    assert!(matches!(spool.reader(&run_id()), Err(SpoolError::Removed { .. })));
}
