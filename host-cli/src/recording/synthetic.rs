//! A small recording made in memory, for tests: a run of two cells whose power
//! is known at every instant.
//!
//! Owns frames as an agent would write them. Codes are exact to half a step:
//! no noise, so that figures can be compared with a calculation by hand.
#![expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use wattline_protocol::block::{self, BlockCodec, SampleBlock, SampleStatus};
use wattline_protocol::campaign_spec::{CampaignFile, Mode, Precision};
use wattline_protocol::code::RailScale;
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::record::{
    AgentBuild, BaselinePlace, BoardDescription, Cell, ChannelTiming, ChipDescription, ChipKind,
    ClockSnapshot, ErrorLimits, InferenceSpan, InferenceSpans, Plan, RailDescription, RailEnergy,
    RailRole, RailSource, Record, RunEnd, RunId, RunOutcome, RunStart, Scheduling, Simulation,
    Trial, TrialEnd, TrialLoaded, TrialOutcome, WarmUp, WindowClose, WindowKind, kind,
};
use wattline_protocol::units::BoardTime;

use super::{Recording, RecordingBuilder};

/// Time between rows.
pub(crate) const PERIOD_NS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const RECORDS: u32 = 256;
const SAMPLES: u32 = 257;
const SCALE: RailScale = RailScale { shunt_lsb_v: 40e-6, bus_lsb_v: 8e-3, shunt_ohm: 0.005 };
const BUS_CODE: i32 = 625;

/// What the run is like; change a field, then [`Synthetic::recording`].
#[derive(Debug, Clone)]
pub(crate) struct Synthetic {
    /// Board time of the start.
    pub(crate) start: u64,
    /// Idle power of the total rail at the start and at the end, in W.
    pub(crate) idle_w: (f64, f64),
    /// Power of the total rail in cell 0 and cell 1, in W.
    pub(crate) busy_w: [f64; 2],
    /// Windows a cell, of one second.
    pub(crate) windows: u32,
    /// Full or quick.
    pub(crate) mode: Mode,
    /// Rows that fail: from, to, in ns after the start.
    pub(crate) failed: (u64, u64),
    /// Rows that were never recorded: from, to, in ns after the start.
    pub(crate) lost: (u64, u64),
    /// True where no rail is the total.
    pub(crate) parts_only: bool,
    /// True where the run is cut before its end.
    pub(crate) cut: bool,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            start: 100 * SECOND,
            idle_w: (3.0, 3.0),
            busy_w: [8.0, 12.0],
            windows: 3,
            mode: Mode::Quick,
            failed: (0, 0),
            lost: (0, 0),
            parts_only: false,
            cut: false,
        }
    }
}

impl Synthetic {
    /// Start of a window, in ns after the run's start: idle, trials, idle.
    pub(crate) fn window_start(&self, window: u32) -> u64 {
        let idle = if window == 0 { 0 } else { 3 * SECOND };
        let trials = u64::from(window.saturating_sub(1));
        SECOND / 2 + idle + trials * SECOND * 3 / 2
    }

    fn trials(&self) -> u32 {
        2 * self.windows
    }

    fn idle_at(&self, after: u64) -> f64 {
        let end = self.window_start(self.trials() + 1);
        let part = (after as f64 / end as f64).min(1.0);
        self.idle_w.0 * (1.0 - part) + self.idle_w.1 * part
    }

    /// Power of the total rail `after` ns of the run, in W.
    fn watts(&self, after: u64) -> f64 {
        let busy = (0..self.trials()).find(|trial| {
            let t0 = self.window_start(trial + 1);
            // The load runs from before the window until after it.
            (t0 - SECOND / 8..t0 + SECOND * 9 / 8).contains(&after)
        });
        busy.map_or(self.idle_at(after), |trial| self.busy_w[trial as usize % 2])
    }

    fn rails(&self) -> Vec<RailDescription> {
        let limits = ErrorLimits {
            shunt_offset_v: 80e-6,
            shunt_gain: 0.0025,
            bus_offset_v: 16e-3,
            bus_gain: 0.0025,
            shunt_tolerance: 0.01,
        };
        let rail = |slot: u8, name: &str| RailDescription {
            name: name.into(),
            role: if slot == 0 && !self.parts_only { RailRole::Total } else { RailRole::Part },
            source: RailSource::I2c,
            chip: 0,
            channel: slot + 1,
            slot,
            scale: SCALE,
            limits,
            timing: ChannelTiming {
                shunt_start_ns: u32::from(slot) * 280_000,
                shunt_conversion_ns: 140_000,
                bus_start_ns: u32::from(slot) * 280_000 + 140_000,
                bus_conversion_ns: 140_000,
                shunt_latch_before_end_ns: 600_000,
                bus_latch_before_end_ns: 500_000,
            },
        };
        vec![rail(0, "VDD_IN"), rail(1, "VDD_CPU_GPU")]
    }

    fn run_start(&self) -> RunStart {
        let file = CampaignFile { networks: Some(vec!["enet".into()]), ..CampaignFile::default() };
        let mut campaign = file.resolve(self.mode).unwrap();
        campaign.windows = u16::try_from(self.windows).unwrap();
        campaign.window_s_min = 1.0;
        RunStart {
            run: RunId::new("20261123T190946Z-simulated").unwrap(),
            first: true,
            board: BoardDescription {
                id: "board".into(),
                model: "synthetic".into(),
                kernel: "Linux".into(),
                cores: 4,
                memory_bytes: 1 << 32,
                raspberry_pi: None,
            },
            agent: AgentBuild { version: "0.1.0".into(), protocol_digest: 1 },
            simulation: Some(Simulation {
                chip: ChipKind::Ina3221,
                seed: 1,
                load_model: "levels".into(),
            }),
            campaign,
            clock: ClockSnapshot {
                monotonic: BoardTime(self.start),
                monotonic_raw_ns: self.start,
                boottime_ns: self.start,
                realtime_ns: 1_795_000_000 * SECOND,
                bracket_ns: 100,
            },
            chips: vec![ChipDescription {
                kind: ChipKind::Ina3221,
                bus: 1,
                address: 0x40,
                lane: 1,
                config_register: 0x7007,
                bus_clock_hz: 400_000,
                transaction_bits: 330,
                cycle_ns: 840_000,
                sweep_period_ns: 1_000_000,
            }],
            rails: self.rails(),
            scheduling: Scheduling::Normal,
        }
    }

    fn records(&self) -> Vec<Record> {
        let cell = |cell: u16, batch| Cell {
            cell,
            network: "enet".into(),
            batch,
            precision: Precision::F32,
            device: "cpu".into(),
            size: 224,
            threads: 0,
            cores: String::new(),
            weights: "hashed:1".into(),
        };
        let trial =
            |trial: u32| Trial { trial, cell: (trial % 2) as u16, repeat: (trial / 2) as u16 };
        let mut records = vec![
            Record::from(self.run_start()),
            Record::from(Plan {
                cells: vec![cell(0, 1), cell(1, 4)],
                trials: (0..self.trials()).map(trial).collect(),
            }),
        ];
        records.push(self.idle(0, BaselinePlace::Before));
        for trial in 0..self.trials() {
            records.extend(self.trial(trial));
        }
        if !self.cut {
            records.push(self.idle(self.trials() + 1, BaselinePlace::After));
            let at = BoardTime(self.start + self.length());
            let outcome = RunOutcome::Complete;
            records.push(Record::from(RunEnd { at, outcome, streams: Vec::new() }));
        }
        records
    }

    fn idle(&self, window: u32, place: BaselinePlace) -> Record {
        let t0 = BoardTime(self.start + self.window_start(window));
        let t1 = BoardTime(t0.0 + 2 * SECOND);
        let kind = WindowKind::Idle(place);
        let close =
            WindowClose { window, kind, t0, t1, inferences: 0, images: 0, truth: Vec::new() };
        Record::from(close)
    }

    /// 20 inferences of 50 ms in one second.
    fn trial(&self, trial: u32) -> Vec<Record> {
        let t0 = BoardTime(self.start + self.window_start(trial + 1));
        let t1 = BoardTime(t0.0 + SECOND);
        let batch = if trial.is_multiple_of(2) { 1 } else { 4 };
        let span = |number: u64| InferenceSpan {
            start: BoardTime(t0.0 + number * SECOND / 20),
            length_ns: SECOND / 20,
        };
        let truth = RailEnergy { rail: 0, energy_j: self.busy_w[trial as usize % 2] };
        vec![
            Record::from(TrialLoaded {
                trial,
                at: t0,
                weights_sha256: [0xAB; 32],
                params: 1000,
                macs: 2000,
                ops_paper: 4000,
                threads: 4,
                folded: true,
                layers: Vec::new(),
            }),
            Record::from(InferenceSpans { trial, first: 0, spans: (0..20).map(span).collect() }),
            Record::from(WindowClose {
                window: trial + 1,
                kind: WindowKind::Trial(trial),
                t0,
                t1,
                inferences: 20,
                images: 20 * batch,
                truth: vec![truth],
            }),
            Record::from(TrialEnd {
                trial,
                at: t1,
                outcome: TrialOutcome::Measured,
                peak_memory_bytes: 50_000_000,
                warm_up: WarmUp { inferences: 20, length_ns: SECOND, steady: true },
            }),
        ]
    }

    fn length(&self) -> u64 {
        self.window_start(self.trials() + 1) + 5 * SECOND / 2
    }

    fn samples(&self) -> Vec<Vec<u8>> {
        let rows = self.length() / PERIOD_NS;
        let kept = |after: u64| !(self.lost.0..self.lost.1).contains(&after);
        let rows: Vec<u64> =
            (0..rows).map(|row| row * PERIOD_NS).filter(|&row| kept(row)).collect();
        let mut first = 0;
        rows.chunks(512)
            .map(|chunk| {
                let mut samples = SampleBlock::with_capacity(4, 512);
                for &after in chunk {
                    self.push_row(after, &mut samples);
                }
                let mut payload = Vec::new();
                block::encode(&samples, BlockCodec::Rice, &mut payload);
                let count = u16::try_from(chunk.len()).unwrap();
                let identity = Identity { epoch: 1, stream: SAMPLES, sequence: first };
                first += u64::from(count);
                framed(kind::SAMPLE_BLOCK, Codec::Rice, count, identity, &payload)
            })
            .collect()
    }

    fn push_row(&self, after: u64, samples: &mut SampleBlock) {
        let failed = (self.failed.0..self.failed.1).contains(&after);
        let status = if failed { SampleStatus::Nack.nibble() * 0x11 } else { 0 };
        // The code shows the power at the centre of the conversion.
        let centre = after.saturating_sub(600_000 + 420_000 + 70_000);
        let code = |watts: f64| (watts / 5.0 * 0.005 / 40e-6).round() as i32;
        let total = code(self.watts(centre));
        let codes = [total, BUS_CODE, total / 2, BUS_CODE];
        samples.push((self.start + after) / 1000, status, &codes).unwrap();
    }

    /// The frames in order of (epoch, stream, sequence).
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let records = self.records();
        let mut frames: Vec<Vec<u8>> = records
            .iter()
            .zip(0..)
            .map(|(record, sequence)| {
                let mut payload = Vec::new();
                record.encode(&mut payload).unwrap();
                let identity = Identity { epoch: 1, stream: RECORDS, sequence };
                framed(record.kind(), Codec::Postcard, 1, identity, &payload)
            })
            .collect();
        frames.extend(self.samples());
        frames
    }

    /// The recording.
    pub(crate) fn recording(&self) -> Recording {
        let mut builder = RecordingBuilder::default();
        for bytes in self.frames() {
            builder.push(&frame::decode(&bytes).unwrap()).unwrap();
        }
        builder.finish()
    }
}

fn framed(kind: u8, codec: Codec, count: u16, identity: Identity, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, length: 0, codec: codec.id(), flags: 0, count, identity };
    let mut bytes = Vec::new();
    frame::encode(header, payload, &mut bytes).unwrap();
    bytes
}
