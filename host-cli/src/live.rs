//! Live power: the mean of what arrived since it was last asked for.
//!
//! Owns the sums for a line on the terminal. No measurement: energies come
//! from the recording, through [`crate::analysis`].

use wattline_protocol::block::{self, BlockCodec, SampleBlock};
use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::frame::{Codec, Frame};
use wattline_protocol::record::{ChipDescription, RailDescription, kind};
use wattline_protocol::units::Watts;

/// Rows that the decoder's buffer begins with; a longer block makes it grow.
const ROWS: usize = 64;

/// Sums of power, one a rail.
#[derive(Debug)]
pub struct LiveRails {
    rails: Vec<LiveRail>,
}

#[derive(Debug)]
struct LiveRail {
    rail: RailDescription,
    lane: u8,
    sum: Watts,
    rows: u32,
}

impl LiveRails {
    /// Nothing has arrived yet.
    #[must_use]
    pub fn new(chips: &[ChipDescription], rails: &[RailDescription]) -> Self {
        let lane = |rail: &RailDescription| chips.get(usize::from(rail.chip)).map(|chip| chip.lane);
        let rails = rails
            .iter()
            .filter_map(|rail| {
                let lane = lane(rail)?;
                Some(LiveRail { rail: rail.clone(), lane, sum: Watts(0.0), rows: 0 })
            })
            .collect();
        Self { rails }
    }

    /// Adds the samples of a frame; every other frame is passed over.
    pub fn take(&mut self, frame: &Frame<'_>) {
        if frame.header.kind != kind::SAMPLE_BLOCK {
            return;
        }
        let codec = match Codec::from_id(frame.header.codec) {
            Some(Codec::Rice) => BlockCodec::Rice,
            Some(Codec::BitPack) => BlockCodec::BitPack,
            Some(Codec::Postcard) | None => return,
        };
        let [lane, ..] = frame.header.identity.stream.to_le_bytes();
        let slots = self.rails.iter().filter(|rail| rail.lane == lane).count();
        let mut samples = SampleBlock::with_capacity((2 * slots).max(2), ROWS);
        let rows = usize::from(frame.header.count);
        // A copy that does not decode is left out of a picture; the durable
        // stream is checked elsewhere.
        if block::decode(frame.payload, codec, rows, &mut samples).is_err() {
            return;
        }
        for row in samples.rows() {
            for live in self.rails.iter_mut().filter(|rail| rail.lane == lane) {
                let column = 2 * usize::from(live.rail.slot);
                if let (Some(shunt), Some(bus)) = (row.code(column), row.code(column + 1)) {
                    live.sum += live.rail.scale.power(ShuntCode(shunt), BusCode(bus));
                    live.rows += 1;
                }
            }
        }
    }

    /// Mean power of each rail since the last call; `None` without samples.
    pub fn mean_watts(&mut self) -> Vec<Option<Watts>> {
        self.rails
            .iter_mut()
            .map(|live| {
                let mean = (live.rows > 0).then(|| live.sum / f64::from(live.rows));
                live.sum = Watts(0.0);
                live.rows = 0;
                mean
            })
            .collect()
    }
}
