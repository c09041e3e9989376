//! The spool against the model of a disk and against real files.

mod damage;
mod epochs;
mod faults;
mod held;
mod night;

use std::sync::Arc;

use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::record::{Gap, GapReason, RunId, StreamEnd, kind};

use super::*;

/// A kind that is dropped last.
const EVENT: u8 = kind::BOARD_STATE;

fn run_id() -> RunId {
    RunId::new("night-1").unwrap()
}

fn identity(epoch: u32, stream: u32, sequence: u64) -> Identity {
    Identity { epoch, stream, sequence }
}

/// A frame of `count` numbers whose payload is `bytes` long and tells its identity.
fn frame(kind: u8, identity: Identity, count: u16, bytes: usize) -> Vec<u8> {
    let header = Header { kind, length: 0, codec: Codec::Postcard.id(), flags: 0, count, identity };
    let seed = identity.sequence.to_le_bytes()[0];
    // "WL" now and then: a payload may look like the beginning of a frame.
    let payload: Vec<u8> =
        (0..bytes).map(|place| b"WL\x01"[place % 3].wrapping_add(seed / 3)).collect();
    let mut out = Vec::new();
    frame::encode(header, &payload, &mut out).unwrap();
    out
}

fn open(model: &ModelStorage) -> Spool {
    let limits = Limits { segment_bytes: 4096, pending_bytes: 16 * 1024, held_bytes: 8 * 1024 };
    Spool::open_within(Arc::new(model.clone()), "board-1", limits).unwrap()
}

/// What a cursor from the beginning comes upon.
fn read_all(spool: &Spool, run: &RunId) -> Vec<Item> {
    read_from(spool, run, &[])
}

fn read_from(spool: &Spool, run: &RunId, watermarks: &[StreamEnd]) -> Vec<Item> {
    let mut cursor = spool.reader(run).unwrap().cursor(watermarks);
    let mut items = Vec::new();
    while let Some(item) = cursor.next_item().unwrap() {
        items.push(item);
    }
    items
}

/// First sequence numbers of the frames among the items.
fn numbers(items: &[Item]) -> Vec<u64> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(frame) => Some(frame.header.identity.sequence),
            Item::Damage { .. } | Item::Hole(_) => None,
        })
        .collect()
}

fn holes(items: &[Item]) -> Vec<Gap> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Hole(gap) => Some(*gap),
            Item::Damage { .. } | Item::Frame(_) => None,
        })
        .collect()
}

/// Appends `numbers` of stream 0 in epoch 1.
fn append(log: &mut RunLog, numbers: std::ops::Range<u64>, kind: u8, bytes: usize) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for sequence in numbers {
        gaps.extend(log.append(&frame(kind, identity(1, 0, sequence), 1, bytes)).unwrap());
    }
    gaps
}

#[test]
fn frames_come_back_in_order_across_segments_and_from_memory() {
    let spool = open(&ModelStorage::new());
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..40, EVENT, 300);
    log.sync().unwrap();
    append(&mut log, 40..45, EVENT, 300);
    assert!(spool.runs()[0].segments > 2);
    assert_eq!(log.progress(), Progress { appended: 45, durable: 40 });
    assert_eq!(numbers(&read_all(&spool, &run_id())), (0..45).collect::<Vec<_>>());
    let from = [StreamEnd { epoch: 1, stream: 0, next: 42 }];
    assert_eq!(numbers(&read_from(&spool, &run_id(), &from)), [42, 43, 44]);
}

#[test]
fn a_cursor_at_the_end_goes_on_when_more_is_appended_and_synced() {
    let spool = open(&ModelStorage::new());
    let mut log = spool.create_run(&run_id()).unwrap();
    let mut cursor = log.reader().cursor(&[]);
    let mut seen = Vec::new();
    for turn in 0..60_u64 {
        append(&mut log, turn * 3..turn * 3 + 3, EVENT, 100);
        if turn % 2 == 0 {
            while let Some(item) = cursor.next_item().unwrap() {
                seen.extend(numbers(&[item]));
            }
        }
        if turn % 3 == 0 {
            log.sync().unwrap();
        }
    }
    while let Some(item) = cursor.next_item().unwrap() {
        seen.extend(numbers(&[item]));
    }
    assert_eq!(seen, (0..180).collect::<Vec<_>>());
}

#[test]
fn a_number_given_twice_and_bytes_that_are_no_frame_are_refused() {
    let spool = open(&ModelStorage::new());
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..3, EVENT, 10);
    let again = log.append(&frame(EVENT, identity(1, 0, 2), 1, 10));
    assert!(matches!(again, Err(SpoolError::OutOfOrder { next: 3, .. })));
    assert!(matches!(log.append(b"HTTP"), Err(SpoolError::NotAFrame { .. })));
    assert!(matches!(spool.create_run(&run_id()), Err(SpoolError::RunExists { .. })));
    assert!(matches!(spool.resume_run(&run_id()), Err(SpoolError::HasWriter { .. })));
    let other = RunId::new("other").unwrap();
    assert!(matches!(spool.reader(&other), Err(SpoolError::UnknownRun { .. })));
}

#[test]
fn a_run_is_removed_only_after_its_end_and_when_all_of_it_is_acknowledged() {
    let model = ModelStorage::new();
    let spool = open(&model);
    let mut log = spool.create_run(&run_id()).unwrap();
    append(&mut log, 0..30, EVENT, 300);
    log.append(&frame(kind::RUN_END, identity(1, 0, 30), 1, 5)).unwrap();
    log.sync().unwrap();
    drop(log);
    let mut cursor = spool.reader(&run_id()).unwrap().cursor(&[]);
    cursor.next_item().unwrap();
    let mark = |next| [StreamEnd { epoch: 1, stream: 0, next }];
    assert!(!spool.ack(&run_id(), &mark(30)).unwrap());
    assert!(matches!(spool.remove_run(&run_id()), Err(SpoolError::StillNeeded { .. })));
    assert!(spool.ack(&run_id(), &mark(31)).unwrap());
    spool.remove_run(&run_id()).unwrap();
    assert!(matches!(cursor.next_item(), Err(SpoolError::Removed { .. })));
    assert!(spool.runs().is_empty() && model.files().is_empty());
}

#[test]
fn a_removal_cut_short_leaves_a_run_that_is_over_and_can_be_removed_again() {
    for number in 0..3 {
        let model = ModelStorage::new();
        let spool = open(&model);
        let mut log = spool.create_run(&run_id()).unwrap();
        append(&mut log, 0..30, EVENT, 300);
        log.append(&frame(kind::RUN_END, identity(1, 0, 30), 1, 5)).unwrap();
        log.sync().unwrap();
        drop(log);
        let all = [StreamEnd { epoch: 1, stream: 0, next: 31 }];
        spool.ack(&run_id(), &all).unwrap();
        model.fail_operation(model.operations() + number, model::ModelFault::Io);
        let broken = spool.remove_run(&run_id()).is_err();
        let again = open(&model);
        assert_eq!(broken, again.recovered().iter().any(|run| run.ended), "operation {number}");
        if broken {
            again.ack(&run_id(), &all).unwrap();
            again.remove_run(&run_id()).unwrap();
            assert!(model.files().is_empty());
        }
    }
}

#[test]
fn room_is_made_of_the_oldest_acknowledged_run_and_no_more_than_needed() {
    let model = ModelStorage::new();
    let rules = RoomRules { quota_bytes: Some(1 << 40), ..RoomRules::default() };
    let limits = Limits { segment_bytes: 4096, pending_bytes: 16 * 1024, held_bytes: 8 * 1024 };
    let spool = Spool::open_with(Arc::new(model.clone()), "board-1", limits, rules).unwrap();
    // The older run has the name that sorts last.
    for (epoch, name) in [(1, "b"), (2, "a"), (3, "c")] {
        let run = RunId::new(name).unwrap();
        let mut log = spool.create_run(&run).unwrap();
        log.append(&frame(EVENT, identity(epoch, 0, 0), 1, 2000)).unwrap();
        log.append(&frame(kind::RUN_END, identity(epoch, 0, 1), 1, 5)).unwrap();
        log.sync().unwrap();
        if name != "c" {
            spool.ack(&run, &[StreamEnd { epoch, stream: 0, next: 2 }]).unwrap();
        }
    }
    model.set_capacity(Some(RESERVE_BYTES + 8000));
    let free = spool.free_bytes().unwrap();
    let removed = spool.make_room(free - RESERVE_BYTES + 1000).unwrap();
    assert_eq!(removed, [RunId::new("b").unwrap()]);
    let too_much = spool.make_room(100_000);
    assert!(matches!(too_much, Err(SpoolError::TooLittleSpace { .. })));
    let left: Vec<String> = spool.runs().iter().map(|run| run.run.to_string()).collect();
    assert_eq!(left, ["c"]);
}

#[test]
fn readers_in_other_threads_see_each_frame_once_while_it_is_written_to_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(DiskStorage::open(folder.path()).unwrap());
    let limits = Limits { segment_bytes: 20_000, ..Limits::default() };
    let spool = Spool::open_within(disk, &random_id().unwrap(), limits).unwrap();
    spool.raise_epoch("boot").unwrap();
    let mut log = spool.create_run(&run_id()).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let reader = log.reader();
            std::thread::spawn(move || {
                let mut cursor = reader.cursor(&[]);
                let mut seen = Vec::new();
                while seen.len() < 1000 {
                    match cursor.next_item().unwrap() {
                        Some(item) => seen.extend(numbers(&[item])),
                        None => std::thread::yield_now(),
                    }
                }
                seen
            })
        })
        .collect();
    for sequence in 0..1000 {
        append(&mut log, sequence..sequence + 1, EVENT, 200);
        if sequence % 17 == 0 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (0..1000).collect::<Vec<_>>());
    }
    drop((log, spool));
    let disk = Arc::new(DiskStorage::open(folder.path()).unwrap());
    let spool = Spool::open(disk, "fresh").unwrap();
    assert_ne!(spool.board_id(), "fresh");
    assert_eq!(spool.raise_epoch("boot").unwrap().epoch, 2);
    assert_eq!(numbers(&read_all(&spool, &run_id())), (0..1000).collect::<Vec<_>>());
}
