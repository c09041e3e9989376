//! The recorder's desk: from a record to a numbered frame.
//!
//! Owns the sequence numbers of a run's streams in this epoch and the sample
//! blocks that are being filled. Has no thread, asks no clock and knows no
//! disk: the recorder's thread drives it, and so does the simulator.

use tracing::error;
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::planted;
use wattline_protocol::record::{Record, RunEnd, RunOutcome, StreamEnd};
use wattline_protocol::units::{BoardTime, Nanos};

use super::lanes::{LaneInput, SampleLane};
use super::{LANE_CONTROL, LANE_SPANS, stream_of};

/// Four clocks are recorded together this often.
const SNAPSHOT_EVERY: Nanos = Nanos::from_secs(1);

/// Gives identities to the records of one run in one epoch.
pub struct Desk {
    epoch: u32,
    run_ordinal: u32,
    next: [u64; 2],
    lanes: Vec<SampleLane>,
    last_snapshot: BoardTime,
    payload: Vec<u8>,
}

impl Desk {
    /// A desk whose streams begin at 0: `run_ordinal` was not used before in
    /// this epoch.
    #[must_use]
    pub fn new(epoch: u32, run_ordinal: u32, lanes: Vec<LaneInput>, now: BoardTime) -> Self {
        Self {
            epoch,
            run_ordinal,
            next: [0; 2],
            lanes: lanes.into_iter().map(SampleLane::new).collect(),
            last_snapshot: now,
            payload: Vec::new(),
        }
    }

    /// Makes a structured record a frame and gives it away.
    pub fn record(&mut self, record: &Record, give: &mut dyn FnMut(Vec<u8>)) {
        let lane = lane_of(record);
        self.payload.clear();
        if let Err(error) = record.encode(&mut self.payload) {
            error!(%error, "A record is too large for a frame and is lost.");
            return;
        }
        let slot = usize::from(lane.min(LANE_SPANS));
        let sequence = self.next.get(slot).copied().unwrap_or(0);
        let header = Header {
            kind: record.kind(),
            length: 0,
            codec: Codec::Postcard.id(),
            flags: 0,
            count: 1,
            identity: Identity { sequence, ..self.identity(lane) },
        };
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + self.payload.len() + 4);
        if let Err(error) = frame::encode(header, &self.payload, &mut bytes) {
            error!(%error, "A record is too large for a frame and is lost.");
            return;
        }
        if let Some(next) = self.next.get_mut(slot) {
            *next += u64::from(!planted!("a number is given twice") || *next % 16 != 7);
        }
        give(bytes);
    }

    /// Takes what the rings hold; whole blocks, and old ones, become frames,
    /// and at `all` every row that is there.
    pub fn drain(&mut self, now: BoardTime, all: bool, give: &mut dyn FnMut(Vec<u8>)) {
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in &mut lanes {
            lane.drain(now, all, self.identity(lane.lane()), give);
            for record in lane.take_notes() {
                self.record(&record, give);
            }
        }
        self.lanes = lanes;
    }

    /// True once a second: a snapshot of the clocks is due.
    #[must_use]
    pub fn is_snapshot_due(&mut self, now: BoardTime) -> bool {
        let due = now - self.last_snapshot >= SNAPSHOT_EVERY;
        if due {
            self.last_snapshot = now;
        }
        due
    }

    /// The last record of the run, with the ends of all streams but that of
    /// structured records, which ends with this one.
    #[must_use]
    pub fn end(&self, at: BoardTime, outcome: RunOutcome) -> RunEnd {
        let end = |lane: u8, next: u64| {
            let Identity { epoch, stream, .. } = self.identity(lane);
            StreamEnd { epoch, stream, next }
        };
        let spans = self.next.get(usize::from(LANE_SPANS)).copied().unwrap_or(0);
        let mut streams = vec![end(LANE_SPANS, spans)];
        streams.extend(self.lanes.iter().map(|lane| end(lane.lane(), lane.next_sequence())));
        streams.retain(|end| end.next > 0 && !planted!("an end leaves out the streams"));
        RunEnd { at, outcome, streams }
    }

    fn identity(&self, lane: u8) -> Identity {
        Identity { epoch: self.epoch, stream: stream_of(self.run_ordinal, lane), sequence: 0 }
    }
}

fn lane_of(record: &Record) -> u8 {
    match record {
        Record::InferenceSpans(_)
        | Record::LayerSpans(_)
        | Record::GpuSpans(_)
        | Record::TriggerEdges(_) => LANE_SPANS,
        _ => LANE_CONTROL,
    }
}
