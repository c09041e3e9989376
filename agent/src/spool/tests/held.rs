//! Frames that are held for a host.

use wattline_protocol::units::BoardTime;

use super::*;

const CLOCK: u8 = kind::CLOCK_SNAPSHOT;

fn at(seconds: u64) -> BoardTime {
    BoardTime(seconds * 1_000_000_000)
}

/// A log with one frame on the disk, and the numbers 0 to 9 of stream 16 held.
fn held(model: &ModelStorage) -> (Spool, RunLog) {
    let spool = open(model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..1, EVENT, 20);
    log.sync().unwrap();
    for sequence in 0..10 {
        let bytes = frame(kind::SAMPLE_BLOCK, identity(1, 16, sequence), 1, 100);
        assert_eq!(log.hold(&bytes, at(sequence)).unwrap(), []);
    }
    (spool, log)
}

fn ack(spool: &Spool, stream: u32, next: u64) {
    spool.ack(&run_id(), &[StreamEnd { epoch: 1, stream, next }]).unwrap();
}

fn end(log: &mut RunLog) {
    log.append(&frame(kind::RUN_END, identity(1, 0, 1), 1, 5)).unwrap();
    log.sync().unwrap();
}

/// First numbers of the frames of stream 16, in the order in which they come.
fn samples(items: &[Item]) -> Vec<u64> {
    let frames = items.iter().filter_map(|item| match item {
        Item::Frame(frame) if frame.header.identity.stream == 16 => {
            Some(frame.header.identity.sequence)
        }
        _ => None,
    });
    frames.collect()
}

#[test]
fn what_a_host_acknowledges_in_time_never_touches_the_disk() {
    let model = ModelStorage::new();
    let (spool, mut log) = held(&model);
    let before = model.used_bytes();
    ack(&spool, 16, 10);
    assert_eq!((log.held_since(), log.release(Due::All)), (None, vec![]));
    log.sync().unwrap();
    assert_eq!(model.used_bytes(), before);
    assert!(log.durable_ends().iter().all(|end| end.stream != 16), "held is not durable");
}

#[test]
fn another_host_is_given_what_is_held_before_the_end_of_the_run() {
    let (spool, mut log) = held(&ModelStorage::new());
    ack(&spool, 16, 10);
    end(&mut log);
    let items = read_all(&spool, &run_id());
    assert_eq!(samples(&items), (0..10).collect::<Vec<_>>());
    let last = items.last().unwrap();
    assert!(matches!(last, Item::Frame(frame) if frame.header.kind == kind::RUN_END));
}

#[test]
fn what_no_host_acknowledged_is_written_when_it_is_due_and_before_what_follows() {
    let model = ModelStorage::new();
    let (spool, mut log) = held(&model);
    ack(&spool, 16, 3);
    assert_eq!(log.held_since(), Some(at(3)));
    assert_eq!(log.release(Due::Until(at(5))), []);
    assert_eq!(log.held_since(), Some(at(6)));
    log.append(&frame(kind::SAMPLE_BLOCK, identity(1, 16, 10), 1, 100)).unwrap();
    log.sync().unwrap();
    drop((log, spool));
    let again = open(&model);
    assert_eq!(samples(&read_all(&again, &run_id())), (3..11).collect::<Vec<_>>());
}

#[test]
fn a_host_that_comes_after_a_part_was_written_still_gets_what_is_held_before_it() {
    let (spool, mut log) = held(&ModelStorage::new());
    ack(&spool, 16, 3);
    assert_eq!(log.release(Due::Until(at(5))), []);
    log.sync().unwrap();
    ack(&spool, 16, 10);
    end(&mut log);
    let items = read_all(&spool, &run_id());
    assert_eq!(samples(&items), (0..10).collect::<Vec<_>>());
    assert!(items.iter().all(|item| matches!(item, Item::Frame(_))));
}

#[test]
fn the_end_of_a_run_is_written_behind_all_that_is_held() {
    let model = ModelStorage::new();
    let (spool, mut log) = held(&model);
    end(&mut log);
    drop((log, spool));
    let items = read_all(&open(&model), &run_id());
    assert_eq!(samples(&items), (0..10).collect::<Vec<_>>());
}

#[test]
fn at_the_bound_the_oldest_that_a_host_has_are_forgotten_and_the_rest_is_written() {
    let model = ModelStorage::new();
    let (spool, mut log) = held(&model);
    ack(&spool, 16, 10);
    let before = model.used_bytes();
    for sequence in 10..100 {
        let bytes = frame(kind::SAMPLE_BLOCK, identity(1, 16, sequence), 1, 100);
        assert_eq!(log.hold(&bytes, at(sequence)).unwrap(), []);
    }
    assert!(model.used_bytes() > before, "8 KiB hold no 90 frames");
    end(&mut log);
    let items = read_all(&spool, &run_id());
    assert_eq!(samples(&items).last(), Some(&99));
    assert!(samples(&items).contains(&10), "no host has it");
    let hole = items.iter().any(|item| matches!(item, Item::Hole(gap) if gap.stream == 16));
    assert!(hole, "what was forgotten is told");
}

#[test]
fn a_clock_that_is_held_is_written_before_a_window_of_its_stream() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    log.hold(&frame(CLOCK, identity(1, 0, 0), 1, 40), at(1)).unwrap();
    append(&mut log, 1..2, EVENT, 40);
    log.sync().unwrap();
    drop((log, spool));
    assert_eq!(numbers(&read_all(&open(&model), &run_id())), [0, 1]);
}
