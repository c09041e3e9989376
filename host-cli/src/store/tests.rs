//! Tests of the store against files that are whole, doubled, holed and damaged.

use std::fs;

use tempfile::TempDir;
use wattline_protocol::clock_sync::ClockExchange;
use wattline_protocol::frame::{Codec, Header};
use wattline_protocol::record::{EpochEnd, GapReason, Notice, NoticeKind, Record};

use super::*;

fn frame_of(record: &Record, identity: Identity) -> Vec<u8> {
    let mut payload = Vec::new();
    record.encode(&mut payload).unwrap();
    let header = Header {
        kind: record.kind(),
        length: 0,
        codec: Codec::Postcard.id(),
        flags: 0,
        count: 1,
        identity,
    };
    let mut bytes = Vec::new();
    frame::encode(header, &payload, &mut bytes).unwrap();
    bytes
}

fn notice(stream: u32, sequence: u64) -> Vec<u8> {
    let record = Record::from(Notice { at: BoardTime(sequence), what: NoticeKind::BoardDiskFull });
    frame_of(&record, Identity { epoch: 1, stream, sequence })
}

fn gap(sequence: u64, stream: u32, from: u64, to: u64) -> Vec<u8> {
    let record = Record::from(Gap { epoch: 1, stream, from, to, reason: GapReason::RingFull });
    frame_of(&record, Identity { epoch: 1, stream: 256, sequence })
}

fn slices(frames: &[Vec<u8>]) -> Vec<&[u8]> {
    frames.iter().map(Vec::as_slice).collect()
}

fn append(store: &mut Store, frames: &[Vec<u8>]) -> Result<Appended, StoreError> {
    store.append(&slices(frames))
}

fn recording(frames: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut store = Store::create(&path).unwrap();
    let frames: Vec<_> = (0..frames).map(|sequence| notice(256, sequence)).collect();
    let _ = append(&mut store, &frames).unwrap();
    store.finish().unwrap();
    (folder, path)
}

#[test]
fn a_frame_that_comes_twice_is_stored_once_and_acknowledged_again() {
    let (_folder, path) = recording(3);
    let mut store = Store::open_for_append(&path).unwrap();
    let again = append(&mut store, &[notice(256, 1), notice(256, 2), notice(256, 3)]).unwrap();
    assert_eq!((again.stored, again.duplicates), (1, 2));
    assert_eq!(again.watermarks, [StreamEnd { epoch: 1, stream: 256, next: 4 }]);
    assert_eq!(store.frame_count().unwrap(), 4);
}

#[test]
fn a_hole_is_refused_and_nothing_of_its_batch_is_kept() {
    let (_folder, path) = recording(3);
    let mut store = Store::open_for_append(&path).unwrap();
    let refused = append(&mut store, &[notice(256, 3), notice(256, 5)]);
    assert!(matches!(refused, Err(StoreError::Hole { expected: 4, found: 5, .. })), "{refused:?}");
    assert_eq!(store.frame_count().unwrap(), 3);
    assert_eq!(store.watermarks().unwrap(), [StreamEnd { epoch: 1, stream: 256, next: 3 }]);
}

#[test]
fn a_gap_record_stands_for_exactly_the_numbers_it_names() {
    let (_folder, path) = recording(0);
    let mut store = Store::open_for_append(&path).unwrap();
    let _ = append(&mut store, &[notice(257, 0), gap(0, 257, 2, 5)]).unwrap();
    let refused = append(&mut store, &[notice(257, 5)]);
    assert!(matches!(refused, Err(StoreError::Hole { expected: 1, .. })), "{refused:?}");
    let done = append(&mut store, &[notice(257, 1)]).unwrap();
    assert_eq!(done.watermarks, [StreamEnd { epoch: 1, stream: 257, next: 5 }]);
    let refused = append(&mut store, &[notice(257, 6)]);
    assert!(matches!(refused, Err(StoreError::Hole { expected: 5, .. })), "{refused:?}");
    let _ = append(&mut store, &[notice(257, 5)]).unwrap();
}

#[test]
fn a_gap_that_begins_below_what_the_host_holds_covers_the_rest() {
    let (_folder, path) = recording(0);
    let mut store = Store::open_for_append(&path).unwrap();
    let live = [notice(257, 0), notice(257, 1), notice(257, 2)];
    let _ = append(&mut store, &live).unwrap();
    let done = append(&mut store, &[gap(0, 257, 1, 7)]).unwrap();
    assert!(done.watermarks.contains(&StreamEnd { epoch: 1, stream: 257, next: 7 }));
}

#[test]
fn a_gap_told_beside_the_frames_lets_the_stream_go_on_and_is_kept() {
    let (_folder, path) = recording(2);
    let mut store = Store::open_for_append(&path).unwrap();
    let gap = Gap { epoch: 1, stream: 256, from: 2, to: 6, reason: GapReason::DamagedFrame };
    store.note_gap(&gap).unwrap();
    let done = append(&mut store, &[notice(256, 6)]).unwrap();
    assert_eq!(done.watermarks, [StreamEnd { epoch: 1, stream: 256, next: 7 }]);
    assert_eq!(store.gaps().unwrap(), [(1, 256, 2, 6)]);
    let read = crate::recording::Recording::from_store(store).unwrap();
    assert_eq!(read.gaps.iter().map(|gap| gap.record).collect::<Vec<_>>(), [gap]);
}

#[test]
fn a_gap_record_for_a_part_does_not_shrink_the_gap_that_was_told_before() {
    let (_folder, path) = recording(2);
    let mut store = Store::open_for_append(&path).unwrap();
    let whole = Gap { epoch: 1, stream: 257, from: 0, to: 6, reason: GapReason::DroppedByPolicy };
    store.note_gap(&whole).unwrap();
    let _ = append(&mut store, &[notice(257, 6), gap(2, 257, 0, 3)]).unwrap();
    assert_eq!(store.gaps().unwrap(), [(1, 257, 0, 6)]);
}

#[test]
fn numbers_that_an_epoch_end_counts_and_the_board_did_not_send_are_a_gap() {
    let mut store = Store::in_memory().unwrap();
    let streams = vec![StreamEnd { epoch: 1, stream: 257, next: 4 }];
    let end = EpochEnd { epoch: 1, streams, torn_bytes: 0 };
    let end = frame_of(&end.into(), Identity { epoch: 2, stream: 0, sequence: 0 });
    let _ = append(&mut store, &[notice(257, 0), notice(257, 1), end]).unwrap();
    assert_eq!(store.gaps().unwrap(), [(1, 257, 2, 4)]);
}

#[test]
fn an_append_that_was_cut_before_its_commit_left_nothing() {
    let (_folder, path) = recording(2);
    let mut store = Store::open_for_append(&path).unwrap();
    {
        let connection = &mut store.connection;
        let transaction = connection.transaction().unwrap();
        transaction.execute("DELETE FROM frames", []).unwrap();
        transaction.execute("UPDATE watermarks SET next = 99", []).unwrap();
    }
    drop(store);
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.frame_count().unwrap(), 2);
    assert_eq!(store.watermarks().unwrap(), [StreamEnd { epoch: 1, stream: 256, next: 2 }]);
}

#[test]
fn a_recording_that_still_grows_can_be_read_and_is_not_cut_short() {
    let (_folder, path) = recording(2);
    let mut store = Store::open_for_append(&path).unwrap();
    for sequence in 2..300 {
        let _ = append(&mut store, &[notice(256, sequence)]).unwrap();
    }
    assert_eq!(Store::open_read_only(&path).unwrap().frame_count().unwrap(), 300);
}

#[test]
fn a_finished_recording_is_one_file_and_reads_back() {
    let (folder, path) = recording(5);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let store = Store::open_read_only(&path).unwrap();
    let mut sequences = Vec::new();
    store
        .for_each_frame(|frame| -> Result<(), StoreError> {
            sequences.push(frame.header.identity.sequence);
            Ok(())
        })
        .unwrap();
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
}

#[test]
fn a_tee_file_in_any_order_has_the_fingerprint_of_the_store() {
    let (_folder, path) = recording(4);
    let mut tee = Vec::new();
    for sequence in [2, 0, 3, 1, 2] {
        tee.extend(notice(256, sequence));
    }
    tee.extend(&notice(256, 4)[..20]);
    let tee = TeeFrames::parse(&tee).unwrap();
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(tee.frame_count(), store.frame_count().unwrap());
    assert_eq!(tee.frames_sha256(), store.frames_sha256().unwrap());
}

#[test]
fn session_messages_are_never_stored() {
    let (_folder, path) = recording(0);
    let mut store = Store::open_for_append(&path).unwrap();
    let record = Record::Unknown { kind: SESSION_KINDS_FROM, bytes: vec![1] };
    let appended = append(&mut store, &[frame_of(&record, Identity::default())]).unwrap();
    assert_eq!((appended.stored, store.frame_count().unwrap()), (0, 0));
}

#[test]
fn a_frame_with_a_flipped_bit_is_refused_on_arrival() {
    let (_folder, path) = recording(0);
    let mut store = Store::open_for_append(&path).unwrap();
    let mut bytes = notice(256, 0);
    bytes[30] ^= 1;
    let refused = store.append(&[&bytes]);
    assert!(matches!(refused, Err(StoreError::Frame { place: 0, .. })), "{refused:?}");
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let (folder, path) = recording(200);
    let whole = fs::read(&path).unwrap();
    for keep in [0, 50, 100, 511, 4096, 5000, whole.len() / 2, whole.len() - 1] {
        let cut = folder.path().join("cut.sqlite");
        fs::write(&cut, &whole[..keep]).unwrap();
        let error = Store::open_read_only(&cut).unwrap_err();
        let fits = matches!(error, StoreError::NotARecording { .. }) && keep < HEADER
            || matches!(error, StoreError::Damaged { damage: Damage::Truncated { .. }, .. });
        assert!(fits && error.to_string().contains("cut.sqlite"), "{keep}: {error}");
    }
}

const HEADER: usize = 100;

#[test]
fn a_file_of_another_program_is_not_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    let noise: Vec<u8> = (0..5000_u32).map(|place| (place * 37 % 251) as u8).collect();
    fs::write(&path, noise).unwrap();
    assert!(matches!(Store::open_read_only(&path), Err(StoreError::NotARecording { .. })));
    let other = folder.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Store::open_read_only(&other), Err(StoreError::NotARecording { .. })));
    let absent = folder.path().join("absent");
    assert!(matches!(Store::open_read_only(&absent), Err(StoreError::Missing { .. })));
    assert!(matches!(Store::create(&other), Err(StoreError::AlreadyThere { .. })));
}

#[test]
fn a_recording_of_a_later_version_is_named_so() {
    let (_folder, path) = recording(1);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = Store::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { found: 9, known: VERSION, .. }), "{error}");
}

#[test]
fn a_damaged_blob_is_named_by_epoch_stream_and_sequence() {
    let (_folder, path) = recording(3);
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE frames SET bytes = x'574c01' WHERE first = 1", []).unwrap();
    drop(connection);
    let error = Store::open_read_only(&path).unwrap().frames_sha256().unwrap_err();
    let identity = Identity { epoch: 1, stream: 256, sequence: 1 };
    assert!(
        matches!(error, StoreError::Damaged { damage: Damage::Frame { identity: found, .. }, .. }
            if found == identity),
        "{error}"
    );
}

#[test]
fn pages_overwritten_with_noise_give_an_error_and_no_panic() {
    let (folder, path) = recording(400);
    let whole = fs::read(&path).unwrap();
    for start in (100..whole.len()).step_by(3001) {
        let mut bytes = whole.clone();
        let end = (start + 700).min(bytes.len());
        bytes[start..end].fill(0xA5);
        let copy = folder.path().join("noise.sqlite");
        fs::write(&copy, bytes).unwrap();
        // Damage in unused bytes may go unnoticed; frames never come back changed.
        if let Ok(store) = Store::open_read_only(&copy) {
            let _ = store.frames_sha256();
            let _ = store.watermarks();
        }
    }
}

#[test]
fn clock_exchanges_and_words_come_back() {
    let (_folder, path) = recording(0);
    let mut store = Store::open_for_append(&path).unwrap();
    let exchange = ClockExchange {
        host_sent: HostTime(1),
        board_received: BoardTime(2),
        board_sent: BoardTime(3),
        host_received: HostTime(4),
    };
    store.append_clock_exchanges(&[exchange, exchange]).unwrap();
    store.set_meta("board", "a").unwrap();
    store.set_meta("board", "b").unwrap();
    assert_eq!(store.clock_exchanges().unwrap(), [exchange, exchange]);
    assert_eq!(store.meta("board").unwrap().as_deref(), Some("b"));
    assert_eq!(store.meta("none").unwrap(), None);
}

/// Makes a file what the first version wrote: no levels, no index of records.
fn as_version_1(path: &Path) {
    Connection::open(path)
        .unwrap()
        .execute_batch("DROP TABLE levels; DROP INDEX records; PRAGMA user_version = 1;")
        .unwrap();
}

#[test]
fn a_recording_of_version_1_opens_with_the_levels_it_never_had() {
    let frames = crate::recording::synthetic::Synthetic::default().frames();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut store = Store::create(&path).unwrap();
    let _ = append(&mut store, &frames).unwrap();
    let levels = |store: &Store| {
        let streams = store.sample_streams().unwrap();
        let [stream] = streams[..] else { panic!("one stream of samples") };
        let level = |level| store.level(stream.epoch, stream.stream, level).unwrap();
        (stream, [0, 1, 2].map(level))
    };
    let written = levels(&store);
    assert!(written.1[0].len() > 10, "{written:?}");
    store.finish().unwrap();
    as_version_1(&path);
    assert_eq!(levels(&Store::open_read_only(&path).unwrap()), written);
    assert_eq!(levels(&Store::open_for_append(&path).unwrap()), written);
    assert!(Store::open_read_only(&path).unwrap().has_levels);
}

#[test]
fn a_block_that_nobody_can_read_is_kept_and_named() {
    let header = Header {
        kind: kind::SAMPLE_BLOCK,
        length: 0,
        codec: Codec::Rice.id(),
        flags: 0,
        count: 3,
        identity: Identity { epoch: 1, stream: 272, sequence: 0 },
    };
    let mut bytes = Vec::new();
    frame::encode(header, &[0xFF; 9], &mut bytes).unwrap();
    let mut store = Store::in_memory().unwrap();
    let appended = append(&mut store, &[bytes]).unwrap();
    assert_eq!(appended.watermarks, [StreamEnd { epoch: 1, stream: 272, next: 3 }]);
    let error = store.sample_streams().unwrap_err();
    assert!(error.to_string().starts_with("frame 0 of stream 272 in epoch 1"), "{error}");
}

#[test]
fn a_refused_batch_leaves_no_trace_in_the_levels() {
    let frames = crate::recording::synthetic::Synthetic::default().frames();
    let mut store = Store::in_memory().unwrap();
    let _ = append(&mut store, &frames[..frames.len() - 3]).unwrap();
    let sum = |store: &Store| {
        let buckets = store.level(1, 257, 2).unwrap();
        buckets.iter().map(|bucket| bucket.rails[0].count).sum::<u32>()
    };
    let before = sum(&store);
    let holed = [frames[frames.len() - 3].clone(), frames[frames.len() - 1].clone()];
    assert!(matches!(append(&mut store, &holed), Err(StoreError::Hole { .. })));
    assert_eq!(sum(&store), before);
    let _ = append(&mut store, &frames).unwrap();
    let rows: u64 = store.held().unwrap().last().unwrap().next;
    assert_eq!(u64::from(sum(&store)), rows);
}

#[test]
fn a_finished_recording_opens_in_a_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = recording(5);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let store = Store::open_read_only(&path).unwrap();
    let mode: String =
        store.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), store.frame_count().unwrap()), ("delete", 5));
    drop(store);
    // A user who may write everywhere leaves no trace either.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
