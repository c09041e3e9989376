//! Tests of the step from frames to records.

use wattline_protocol::block::SampleRow;
use wattline_protocol::units::{BoardTime, Nanos};

use super::synthetic::Synthetic;
use super::*;
use crate::store::FILE_NAME;

#[test]
fn store_and_tee_give_the_same_recording() {
    let frames = Synthetic::default().frames();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::create(&folder.path().join(FILE_NAME)).unwrap();
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let _ = store.append(&slices).unwrap();
    let mut scrambled = frames.clone();
    scrambled.reverse();
    let tee = TeeFrames::parse(&scrambled.concat()).unwrap();
    assert_eq!(tee.frames_sha256(), store.frames_sha256().unwrap());
    let stored = Recording::from_store(store).unwrap();
    let teed = Recording::from_tee(&tee).unwrap();
    assert_eq!((stored.starts.len(), stored.windows.len()), (1, 8));
    let rows = |recording: &Recording| {
        let mut rows = Vec::new();
        let lane = recording.lane(1, 1).unwrap();
        let take =
            |row: &SampleRow<'_>| rows.push((row.time_ticks, row.codes().collect::<Vec<_>>()));
        lane.for_each_row(BoardTime(0), BoardTime(u64::MAX), take).unwrap();
        (lane.span(), rows)
    };
    assert_eq!(rows(&stored), rows(&teed));
    let without_lanes = |mut recording: Recording| {
        recording.lanes.clear();
        format!("{recording:?}")
    };
    assert_eq!(without_lanes(stored), without_lanes(teed));
}

#[test]
fn a_stretch_of_a_stored_lane_is_found_wherever_it_begins() {
    let frames =
        Synthetic { lost: (2_000_000_000, 3_000_000_000), ..Synthetic::default() }.frames();
    let mut store = Store::in_memory().unwrap();
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let _ = store.append(&slices).unwrap();
    let stored = Recording::from_store(store).unwrap();
    let lane = stored.lane(1, 1).unwrap();
    let (first, last) = lane.span().unwrap();
    let length = u64::try_from((last - first).0).unwrap();
    for step in 0..40 {
        let from = BoardTime(first.0 - 1_000_000_000 + step * (length + 2_000_000_000) / 40);
        let to = from + Nanos::from_millis(1500);
        let mut count = 0;
        let inside = |row: &SampleRow<'_>| (from..=to).contains(&instant(row.time_ticks));
        lane.for_each_row(from, to, |row| count += u64::from(inside(row))).unwrap();
        let mut expected = 0;
        let take = |row: &SampleRow<'_>| expected += u64::from(inside(row));
        lane.for_each_row(BoardTime(0), BoardTime(u64::MAX), take).unwrap();
        assert_eq!(count, expected, "from {from:?}");
    }
}

#[test]
fn a_stretch_of_time_gives_its_rows_and_at_most_their_blocks() {
    let recording = Synthetic::default().recording();
    let lane = recording.lane(1, 1).unwrap();
    let (first, last) = lane.span().unwrap();
    let (from, to) = (first + Nanos::from_secs(4), first + Nanos::from_secs(5));
    let mut times = Vec::new();
    lane.for_each_row(from, to, |row| times.push(instant(row.time_ticks))).unwrap();
    let inside = times.iter().filter(|&&time| time >= from && time <= to).count();
    assert_eq!(inside, 1001);
    assert!(times.len() < 1001 + 2 * 512);
    assert!(first < from && to < last);
}

#[test]
fn a_frame_that_must_be_understood_is_not_guessed_at() {
    let mut bytes = Synthetic::default().frames().remove(0);
    bytes.truncate(bytes.len() - frame::CRC_BYTES);
    let mut header = frame::decode(&Synthetic::default().frames()[0]).unwrap().header;
    header.flags = CRITICAL_FLAGS;
    let payload = bytes.split_off(frame::HEADER_BYTES);
    let mut flagged = Vec::new();
    frame::encode(header, &payload, &mut flagged).unwrap();
    let refused = RecordingBuilder::default().push(&frame::decode(&flagged).unwrap());
    assert!(matches!(refused, Err(RecordingError::Later { .. })), "{refused:?}");
}

#[test]
fn a_block_that_does_not_decode_is_named_by_its_identity() {
    let frames = Synthetic::default().frames();
    let whole = frame::decode(frames.last().unwrap()).unwrap();
    let mut cut = Vec::new();
    frame::encode(whole.header, &whole.payload[..10], &mut cut).unwrap();
    let error = RecordingBuilder::default().push(&frame::decode(&cut).unwrap()).unwrap_err();
    assert!(error.to_string().contains("of stream 257 in epoch 1"), "{error}");
}
