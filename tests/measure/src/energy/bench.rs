//! The shipping sampler on a simulated board, in virtual time.
//!
//! Owns the way from a board to the energy of its total rail: driver, schedule
//! and ring are the agent's, points and trapezoid the host's. Knows no loads.

use std::sync::Arc;

use wattline::analysis::energy::{Integral, Point, Sensor, integrate};
use wattline_agent::clock::{Clock, VirtualClock};
use wattline_agent::power::bus::sim::SimBoard;
use wattline_agent::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER};
use wattline_agent::power::chip::{ChipError, Profile};
use wattline_agent::power::discover::ChipRails;
use wattline_agent::power::pace::BusShare;
use wattline_agent::power::ring::{SweepConsumer, ring};
use wattline_agent::power::sampler::{SamplerCore, SamplerParts};
use wattline_protocol::block::SampleBlock;
use wattline_protocol::units::BoardTime;

/// A sampler on a simulated board, and the rows it made.
pub(super) struct Bench {
    rails: ChipRails,
    clock: Arc<VirtualClock>,
    core: SamplerCore,
    sweeps: SweepConsumer,
    rows: Vec<SampleBlock>,
}

/// Rows of a block: as the recorder's, any number would do.
const BLOCK_ROWS: usize = 1_024;

impl Bench {
    pub(super) fn new(board: &SimBoard, clock: Arc<VirtualClock>) -> Result<Self, ChipError> {
        let (producer, sweeps) = ring(64);
        let core = SamplerCore::configured(SamplerParts {
            chip: board.driver(Profile::Fast),
            bus: Box::new(board.bus()),
            bus_number: BUS_NUMBER,
            bus_clock_hz: Some(BUS_CLOCK_HZ),
            share: BusShare::Whole,
            clock: Arc::clone(&clock) as _,
            ring: producer,
            lane: 0,
        })?;
        let rails = ChipRails::simulated(board, Profile::Fast);
        Ok(Self { rails, clock, core, sweeps, rows: Vec::new() })
    }

    pub(super) fn run_until(&mut self, end: BoardTime) {
        while self.clock.now() < end {
            self.core.step();
            while let Some(taken) = self.sweeps.pop() {
                let sweep = taken.sweep;
                let columns = usize::from(sweep.columns);
                if self.rows.last().is_none_or(SampleBlock::is_full) {
                    self.rows.push(SampleBlock::with_capacity(columns, BLOCK_ROWS));
                }
                let ticks = sweep.end.0 / wattline::recording::TICK_NS;
                let codes = sweep.codes.get(..columns).unwrap_or_default();
                if let Some(block) = self.rows.last_mut() {
                    // It was not full a line ago.
                    let _ = block.push(ticks, sweep.status, codes);
                }
            }
        }
    }

    /// The total rail from `t0` to `t1` on a board `off_25_c_k` away from
    /// 25 °C, as the host computes it.
    pub(super) fn integrate(
        &self,
        (t0, t1): (BoardTime, BoardTime),
        off_25_c_k: f64,
    ) -> Option<(Sensor, Integral)> {
        let rails = self.rails.describe(self.core.chip(), self.core.described_flag(), 0);
        let sensor = Sensor::new(rails.first()?, &self.core.describe()).off_25_c(off_25_c_k);
        let rows = self.rows.iter().flat_map(SampleBlock::rows);
        let points: Vec<Point> = rows.filter_map(|row| sensor.point(&row)).collect();
        Some((sensor, integrate(&points, &sensor, t0, t1)?))
    }
}
