//! A synthetic night: twelve hours of three rails at 1 kS/s as a recording.
//!
//! Owns the records of a full campaign and their times; the samples are those
//! of `streams`, ten minutes of them again and again. Appends as a collector
//! does, through the shipping store. Every number of it is synthetic.

use std::path::Path;

use wattline::store::{Store, StoreError};
use wattline_protocol::block::{BlockCodec, SampleBlock, encode};
use wattline_protocol::campaign_spec::{CampaignFile, CampaignSpec, Mode, Precision};
use wattline_protocol::code::RailScale;
use wattline_protocol::frame::{self, Codec, Header, Identity};
use wattline_protocol::record::{
    AgentBuild, BaselinePlace, BoardDescription, BoardState, Cell, ChannelTiming, ChipDescription,
    ChipKind, ClockSnapshot, ErrorLimits, InferenceSpan, InferenceSpans, Plan, RailDescription,
    RailRole, RailSource, Record, RunEnd, RunId, RunOutcome, RunStart, Scheduling, Simulation,
    StreamEnd, Temperature, Trial, TrialEnd, TrialLoaded, TrialOutcome, TrialStart, WarmUp,
    WindowClose, WindowKind, WindowOpen, kind,
};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::streams::{Case, REGISTERS, Row, Stream};

/// Length of the night, in seconds.
pub(crate) const NIGHT_S: u32 = 12 * 3_600;
/// Rows of a block, as the agent fills them at 1 kS/s.
const BLOCK_ROWS: usize = 64;
/// Seconds of the stream that are drawn; the night repeats them.
const DRAWN_S: u32 = 600;
/// A trial begins this often and is measured for so long, in seconds.
const TRIAL_EVERY_S: u32 = 30;
const WINDOW_S: u32 = 20;
/// An idle window, and how many trials lie between two.
const IDLE_S: u32 = 10;
const IDLE_EVERY: u32 = 20;
/// Cells of the campaign, five windows each.
const CELLS: u32 = 288;
/// Length of an inference, in milliseconds.
const INFERENCE_MS: u32 = 50;
/// Bytes that a collector commits at once.
const COMMIT_BYTES: usize = 1024 * 1024;
const EPOCH: u32 = 1;
const RECORDS: u32 = 256;
const SPANS: u32 = 257;
const SAMPLES: u32 = 256 + 16;
const START: BoardTime = BoardTime(36_000_000_000_000);

/// Makes the night at `path`; a seed draws its samples.
pub(crate) fn make(path: &Path, seed: u64) -> Result<(), StoreError> {
    let mut night = Night { store: Store::create(path)?, frames: Vec::new(), bytes: 0 };
    night.store.set_meta("run", "20261123T190946Z-simulated")?;
    let rows: Vec<Row> = Stream::new(Case::A, seed).take(1_000 * DRAWN_S as usize).collect();
    let mut counts = [0_u64; 2];
    night.record(&mut counts[0], RECORDS, &Record::from(run_start()))?;
    night.record(&mut counts[0], RECORDS, &Record::from(plan()))?;
    let mut sequence = 0;
    for second in 0..NIGHT_S {
        night.second_of_samples(&rows, second, &mut sequence)?;
        for record in records_of(second) {
            night.record(&mut counts[0], RECORDS, &record)?;
        }
        if let Some(record) = spans_of(second) {
            night.record(&mut counts[1], SPANS, &record)?;
        }
    }
    let streams = vec![
        StreamEnd { epoch: EPOCH, stream: SPANS, next: counts[1] },
        StreamEnd { epoch: EPOCH, stream: SAMPLES, next: sequence },
    ];
    let end = RunEnd { at: at(NIGHT_S), outcome: RunOutcome::Complete, streams };
    night.record(&mut counts[0], RECORDS, &Record::from(end))?;
    night.commit()?;
    night.store.finish()
}

/// Board time of a second's start.
pub(crate) fn at(second: u32) -> BoardTime {
    START + Nanos::from_secs(i64::from(second))
}

struct Night {
    store: Store,
    frames: Vec<Vec<u8>>,
    bytes: usize,
}

impl Night {
    /// Blocks of 64 rows do not fill a second: each second ends with a short one.
    fn second_of_samples(
        &mut self,
        rows: &[Row],
        second: u32,
        sequence: &mut u64,
    ) -> Result<(), StoreError> {
        let from = 1_000 * (second % DRAWN_S) as usize;
        // The drawn stretch begins at START, and each repeat of it later.
        let later = u64::from(second / DRAWN_S * DRAWN_S) * 1_000_000;
        let mut block = SampleBlock::with_capacity(REGISTERS, BLOCK_ROWS);
        for rows in rows[from..from + 1_000].chunks(BLOCK_ROWS) {
            block.clear();
            for row in rows {
                // There is room for the rows of a chunk.
                let _ = block.push(row.time_ticks + later, 0, &row.codes);
            }
            let mut payload = Vec::new();
            encode(&block, BlockCodec::Rice, &mut payload);
            let count = u16::try_from(rows.len()).unwrap_or(0);
            let identity = Identity { epoch: EPOCH, stream: SAMPLES, sequence: *sequence };
            *sequence += u64::from(count);
            self.frame(kind::SAMPLE_BLOCK, Codec::Rice, count, identity, &payload)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        sequence: &mut u64,
        stream: u32,
        record: &Record,
    ) -> Result<(), StoreError> {
        let mut payload = Vec::new();
        assert!(record.encode(&mut payload).is_ok(), "a record of the night fits a frame");
        let identity = Identity { epoch: EPOCH, stream, sequence: *sequence };
        *sequence += 1;
        self.frame(record.kind(), Codec::Postcard, 1, identity, &payload)
    }

    fn frame(
        &mut self,
        kind: u8,
        codec: Codec,
        count: u16,
        identity: Identity,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let header = Header { kind, length: 0, codec: codec.id(), flags: 0, count, identity };
        let mut bytes = Vec::new();
        assert!(frame::encode(header, payload, &mut bytes).is_ok(), "a payload fits a frame");
        self.bytes += bytes.len();
        self.frames.push(bytes);
        if self.bytes >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let frames: Vec<&[u8]> = self.frames.iter().map(Vec::as_slice).collect();
        let _ = self.store.append(&frames)?;
        self.frames.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// The trial or idle window that a second belongs to: its number, and the
/// seconds since it began.
fn slot(second: u32) -> (u32, u32) {
    (second / TRIAL_EVERY_S, second % TRIAL_EVERY_S)
}

fn is_idle(slot: u32) -> bool {
    slot.is_multiple_of(IDLE_EVERY) || (slot + 1) * TRIAL_EVERY_S >= NIGHT_S
}

/// Trials before a slot that is none of an idle window.
fn trial_of(slot: u32) -> u32 {
    slot - slot.div_ceil(IDLE_EVERY)
}

/// Clocks and the board's state each second, and what begins and ends in it.
pub(crate) fn records_of(second: u32) -> Vec<Record> {
    let mut records = vec![
        Record::from(clocks(second)),
        Record::from(BoardState {
            at: at(second),
            governor: "performance".into(),
            core_khz: vec![1_500_000; 6],
            temperatures: vec![Temperature { zone: "cpu".into(), millidegree_c: 51_250 }; 3],
            load_hundredths: 412,
        }),
    ];
    let (slot, since) = slot(second);
    let begins = TRIAL_EVERY_S - WINDOW_S - 2;
    let (t0, length) = (at(second - since + begins), if is_idle(slot) { IDLE_S } else { WINDOW_S });
    if since == begins + length {
        let t1 = t0 + Nanos::from_secs(i64::from(length));
        let place = match slot {
            0 => BaselinePlace::Before,
            last if (last + 1) * TRIAL_EVERY_S >= NIGHT_S => BaselinePlace::After,
            _ => BaselinePlace::Between,
        };
        let trial = trial_of(slot);
        let inferences = u64::from(length * 1_000 / INFERENCE_MS);
        let (kind, inferences) = if is_idle(slot) {
            (WindowKind::Idle(place), 0)
        } else {
            (WindowKind::Trial(trial), inferences)
        };
        let images = inferences;
        let window = slot;
        let truth = Vec::new();
        records.push(Record::from(WindowClose { window, kind, t0, t1, inferences, images, truth }));
        if !is_idle(slot) {
            records.push(trial_end(trial, t1));
        }
    } else if since == begins && !is_idle(slot) {
        records.push(loaded(trial_of(slot), t0));
    }
    records
}

/// Marks that a board writes before what they announce: the start of a trial,
/// the opening of a window.
pub(crate) fn marks_of(second: u32) -> Vec<Record> {
    let (slot, since) = slot(second);
    let trial = trial_of(slot);
    match since {
        0 if !is_idle(slot) => {
            vec![Record::from(TrialStart { trial, attempt: 0, at: at(second) })]
        }
        begins if begins == TRIAL_EVERY_S - WINDOW_S - 2 => {
            let kind = if is_idle(slot) {
                WindowKind::Idle(BaselinePlace::Between)
            } else {
                WindowKind::Trial(trial)
            };
            vec![Record::from(WindowOpen { window: slot, kind, t0: at(second) })]
        }
        _ => Vec::new(),
    }
}

/// Inferences of the second that ends.
pub(crate) fn spans_of(second: u32) -> Option<Record> {
    let (slot, since) = slot(second);
    let begins = TRIAL_EVERY_S - WINDOW_S - 2;
    if is_idle(slot) || !(begins..begins + WINDOW_S).contains(&since) {
        return None;
    }
    let a_second = 1_000 / INFERENCE_MS;
    let span = |number: u32| InferenceSpan {
        start: at(second) + Nanos::from_millis(i64::from(number * INFERENCE_MS)),
        length_ns: u64::from(INFERENCE_MS) * 1_000_000,
    };
    let first = (since - begins) * a_second;
    let spans = (0..a_second).map(span).collect();
    Some(Record::from(InferenceSpans { trial: trial_of(slot), first, spans }))
}

fn loaded(trial: u32, at: BoardTime) -> Record {
    Record::from(TrialLoaded {
        trial,
        at,
        weights_sha256: [0xAB; 32],
        params: 25_557_032,
        macs: 4_089_184_256,
        ops_paper: 8_178_368_512,
        threads: 4,
        folded: true,
        layers: Vec::new(),
    })
}

fn trial_end(trial: u32, at: BoardTime) -> Record {
    Record::from(TrialEnd {
        trial,
        at,
        outcome: TrialOutcome::Measured,
        peak_memory_bytes: 250_000_000,
        warm_up: WarmUp { inferences: 60, length_ns: 3_000_000_000, steady: true },
    })
}

fn clocks(second: u32) -> ClockSnapshot {
    let monotonic = at(second);
    ClockSnapshot {
        monotonic,
        monotonic_raw_ns: monotonic.0,
        boottime_ns: monotonic.0,
        realtime_ns: 1_795_000_000_000_000_000 + monotonic.0,
        bracket_ns: 300,
    }
}

fn campaign() -> CampaignSpec {
    let file = CampaignFile { networks: Some(vec!["enet".into()]), ..CampaignFile::default() };
    let resolved = file.resolve(Mode::Full);
    assert!(resolved.is_ok(), "a campaign of one network");
    resolved.unwrap_or_else(|_| unreachable!())
}

/// The campaign's plan.
pub(crate) fn plan() -> Plan {
    let cell = |number: u32| Cell {
        cell: u16::try_from(number).unwrap_or(0),
        network: format!("network-{:02}", number / 7),
        batch: 1 << (number % 7),
        precision: Precision::F32,
        device: "cpu".into(),
        size: 224,
        threads: 4,
        cores: String::new(),
        weights: "hashed:1".into(),
    };
    let slots = (0..NIGHT_S / TRIAL_EVERY_S).filter(|&slot| !is_idle(slot));
    let trial = |slot| {
        let trial = trial_of(slot);
        let number = |number: u32| u16::try_from(number).unwrap_or(0);
        Trial { trial, cell: number(trial % CELLS), repeat: number(trial / CELLS) }
    };
    Plan { cells: (0..CELLS).map(cell).collect(), trials: slots.map(trial).collect() }
}

/// The run's first record.
pub(crate) fn run_start() -> RunStart {
    let run = RunId::new("20261123T190946Z-simulated");
    assert!(run.is_ok(), "a run's id");
    RunStart {
        run: run.unwrap_or_else(|_| unreachable!()),
        first: true,
        board: BoardDescription {
            id: "synthetic".into(),
            model: "synthetic night".into(),
            kernel: "Linux".into(),
            cores: 6,
            memory_bytes: 8 << 30,
            raspberry_pi: None,
        },
        agent: AgentBuild { version: env!("CARGO_PKG_VERSION").into(), protocol_digest: 0 },
        simulation: Some(Simulation {
            chip: ChipKind::Ina3221,
            seed: 0,
            load_model: "synthetic stream A".into(),
        }),
        campaign: campaign(),
        clock: clocks(0),
        chips: vec![ChipDescription {
            kind: ChipKind::Ina3221,
            bus: 1,
            address: 0x40,
            lane: 16,
            config_register: 0x7007,
            bus_clock_hz: 400_000,
            transaction_bits: 330,
            cycle_ns: 840_000,
            sweep_period_ns: 1_000_000,
        }],
        rails: ["VDD_IN", "VDD_CPU_GPU", "VDD_SOC"].into_iter().zip(0..).map(rail).collect(),
        scheduling: Scheduling::Normal,
    }
}

fn rail((name, slot): (&str, u8)) -> RailDescription {
    let start_ns = u32::from(slot) * 280_000;
    RailDescription {
        name: name.into(),
        role: if slot == 0 { RailRole::Total } else { RailRole::Part },
        source: RailSource::I2c,
        chip: 0,
        channel: slot + 1,
        slot,
        scale: RailScale { shunt_lsb_v: 40e-6, bus_lsb_v: 8e-3, shunt_ohm: 0.005 },
        limits: ErrorLimits {
            shunt_offset_v: 80e-6,
            shunt_gain: 0.0025,
            bus_offset_v: 16e-3,
            bus_gain: 0.0025,
            shunt_tolerance: 0.01,
        },
        timing: ChannelTiming {
            shunt_start_ns: start_ns,
            shunt_conversion_ns: 140_000,
            bus_start_ns: start_ns + 140_000,
            bus_conversion_ns: 140_000,
            shunt_latch_before_end_ns: 600_000,
            bus_latch_before_end_ns: 500_000,
        },
    }
}
