//! Bytes of one record of each kind, as version 0.1.0 wrote them: they decode
//! for ever to the same record, and are written the same.
//!
//! `golden/records.txt` holds a kind and its payload in hexadecimal, one
//! a line. A kind that is added gets a line; a line is never changed, since
//! recordings hold such bytes. Origin: this program's own encoder.
#![allow(clippy::unwrap_used, reason = "a test says what it misses by failing")]

use wattline_protocol::campaign_spec::{CampaignSpec, Mode, Precision};
use wattline_protocol::code::RailScale;
use wattline_protocol::record::{
    AgentBuild, AggregatePart, AlarmCount, AlarmCounts, AlarmKind, BaselinePlace, BoardConditions,
    BoardDescription, BoardExpectation, BoardState, Cell, ChannelTiming, ChipDescription, ChipKind,
    ClockDomain, ClockSnapshot, ClockState, DriverAttribute, DriverSetting, Edge, EdgeOf, EpochEnd,
    ErrorLimits, FailureCause, Fan, Gap, GapReason, GpuSpan, GpuSpans, InferenceSpan,
    InferenceSpans, LatenessHistogram, LayerDescription, LayerSpans, Mismatch, Moment, Notice,
    NoticeKind, PhaseMark, PhaseName, Plan, PowerMode, RailAggregate, RailDescription, RailEnergy,
    RailInside, RailRole, RailSource, Record, RunEnd, RunId, RunOutcome, RunSettings, RunStart,
    SampleAggregates, SamplerReport, Scheduling, SettingOutcome, Simulation, StreamEnd, Swapping,
    SweepsLost, Temperature, Throttle, ThrottleCause, Trial, TrialEnd, TrialLoaded, TrialOutcome,
    TrialStart, TriggerEdge, TriggerEdges, WarmUp, WindowAbandon, WindowClose, WindowKind,
    WindowOpen,
};
use wattline_protocol::units::BoardTime;

const AT: BoardTime = BoardTime(36_000_000_123_456);
const LATER: BoardTime = BoardTime(36_010_000_123_456);

fn records() -> Vec<Record> {
    let mut records = vec![Record::from(run_start())];
    records.extend(of_trials());
    records.extend(of_the_board());
    let span = GpuSpan { inference: 61, start: AT, length_ns: 41_234_567, bound_ns: 12_000 };
    records.push(GpuSpans { trial: 300, spans: vec![span] }.into());
    records.push(trigger_edges().into());
    records.push(expectation().into());
    records.push(
        DriverSetting {
            at: AT,
            bus: 7,
            address: 0x40,
            attribute: DriverAttribute::UpdateInterval,
            found: 106,
            stands: -1,
            outcome: SettingOutcome::NotRestored { errno: 13 },
        }
        .into(),
    );
    let counter = AlarmCount { name: "oc1_event_cnt".into(), kind: AlarmKind::Count, value: 300 };
    records.push(AlarmCounts { at: AT, trial: Some(300), counts: vec![counter] }.into());
    records.push(conditions().into());
    records.push(RunSettings { pin: true, power_mode: Some(300) }.into());
    records.push(aggregates().into());
    records
}

fn conditions() -> BoardConditions {
    let clock = |name: &str, domain, khz| ClockState {
        name: name.into(),
        domain,
        governor: "schedutil".into(),
        khz,
        khz_min: 115_200,
        khz_max: 1_984_000,
    };
    let throttle =
        |name: &str, cause, kind, value| Throttle { name: name.into(), cause, kind, value };
    BoardConditions {
        at: AT,
        trial: 300,
        moment: Moment::During,
        power_mode: Some(PowerMode { id: 2, name: "MODE_15W".into() }),
        clocks: vec![
            clock("policy0", ClockDomain::Cpu, 1_510_400),
            clock("17000000.gpu", ClockDomain::Gpu, 918_000),
        ],
        fans: vec![Fan { name: "pwmfan 1".into(), pwm: Some(128), rpm: None }],
        temperatures: vec![Temperature { zone: "tj-thermal".into(), millidegree_c: -1_500 }],
        throttles: vec![
            throttle("cpu0 core_throttle_count", ThrottleCause::Heat, AlarmKind::Count, 300),
            throttle("get_throttled bit 0", ThrottleCause::UnderVoltage, AlarmKind::Flag, 1),
        ],
        swapping: Some(Swapping {
            pages_in: 3,
            pages_out: 400,
            used_bytes: 1 << 30,
            zram_bytes: 0,
        }),
    }
}

fn aggregates() -> SampleAggregates {
    let mut rail = RailAggregate::default();
    rail.add(400, 620);
    rail.add(-1, 50);
    let (from, to) = (BoardTime(110_000_000_000), BoardTime(110_001_000_000));
    let rails = vec![RailAggregate { bus_sum: 1240, ..rail }, RailAggregate::default()];
    let parts = vec![AggregatePart { from, to, rows: 2, rails }];
    SampleAggregates { epoch: 3, stream: 272, first: 64, next: 66, parts }
}

fn trigger_edges() -> TriggerEdges {
    let edge = |of, edge, bracket_ns| TriggerEdge { of, edge, before: AT, bracket_ns };
    let inference = EdgeOf::Inference { trial: 300, inference: 61 };
    let edges =
        vec![edge(EdgeOf::Window(301), Edge::Rise, 4_001), edge(inference, Edge::Fall, 70_000)];
    TriggerEdges { line: "gpiochip0:17".into(), edges }
}

fn of_trials() -> Vec<Record> {
    let cell = Cell {
        cell: 3,
        network: "squeezenet1-1".into(),
        batch: 64,
        precision: Precision::F32,
        device: "cuda:0".into(),
        size: 224,
        threads: 6,
        cores: "0-5".into(),
        weights: "hashed:7".into(),
    };
    let layer = LayerDescription { name: "conv1".into(), op: "conv2d".into(), macs: 1 << 33 };
    vec![
        Plan { cells: vec![cell], trials: vec![Trial { trial: 300, cell: 3, repeat: 4 }] }.into(),
        TrialStart { trial: 300, attempt: 1, at: AT }.into(),
        TrialLoaded {
            trial: 300,
            at: AT,
            weights_sha256: [0xA5; 32],
            params: 1_235_496,
            macs: 349_151_936,
            ops_paper: 698_303_872,
            threads: 6,
            folded: true,
            layers: vec![layer],
        }
        .into(),
        PhaseMark { phase: PhaseName::Done, trial: Some(300), at: AT, run_ends: LATER }.into(),
        WindowOpen { window: 301, kind: WindowKind::Trial(300), t0: AT }.into(),
        WindowClose {
            window: 301,
            kind: WindowKind::Idle(BaselinePlace::After),
            t0: AT,
            t1: LATER,
            inferences: 200,
            images: 12_800,
            truth: vec![RailEnergy { rail: 2, energy_j: 123.456 }],
        }
        .into(),
        WindowAbandon { window: 302, cause: FailureCause::RunnerKilled { signal: 9 } }.into(),
        TrialEnd {
            trial: 300,
            at: LATER,
            outcome: TrialOutcome::Failed(FailureCause::NoCores),
            peak_memory_bytes: 250_000_000,
            warm_up: WarmUp { inferences: 60, length_ns: 3_000_000_001, steady: true },
        }
        .into(),
        InferenceSpans {
            trial: 300,
            first: 61,
            spans: vec![InferenceSpan { start: AT, length_ns: 49_999_999 }],
        }
        .into(),
        LayerSpans { trial: 300, inference: 61, start: AT, lengths_ns: vec![1, 70_000] }.into(),
    ]
}

fn of_the_board() -> Vec<Record> {
    let streams = vec![StreamEnd { epoch: 7, stream: 272, next: 1 << 40 }];
    vec![
        clocks().into(),
        BoardState {
            at: AT,
            governor: "schedutil".into(),
            core_khz: vec![1_510_400, 0],
            temperatures: vec![Temperature { zone: "cpu".into(), millidegree_c: -1_500 }],
            load_hundredths: 412,
        }
        .into(),
        Gap { epoch: 7, stream: 272, from: 64, to: 1 << 33, reason: GapReason::BusFault }.into(),
        SweepsLost { lane: 16, count: 5, from: AT, to: LATER, reason: GapReason::RingFull }.into(),
        SamplerReport {
            lane: 16,
            sweeps: 1_000_000,
            fresh: 999_990,
            stale: 4,
            skipped: 3,
            failed: 2,
            lost: 1,
            lateness: LatenessHistogram { buckets: [9; 16] },
        }
        .into(),
        EpochEnd { epoch: 6, streams: streams.clone(), torn_bytes: 17 }.into(),
        Notice { at: AT, what: NoticeKind::BusFaultEnded { lane: 16, failed: 12 } }.into(),
        RunEnd { at: LATER, outcome: RunOutcome::Failed, streams }.into(),
    ]
}

fn expectation() -> BoardExpectation {
    let rail = || "VDD_IN".to_owned();
    let chip = || "ina3221".to_owned();
    BoardExpectation {
        profile: Some("jetson-orin-nano".into()),
        inside: vec![RailInside { rail: "VDDQ".into(), within: "VIN_SYS_5V0".into() }],
        mismatches: vec![
            Mismatch::Missing { rail: rail(), chip: chip(), address: 0x40, channel: 1 },
            Mismatch::OtherLabel { rail: rail(), expected: "VDD_SOC".into() },
            Mismatch::OtherPlace {
                rail: rail(),
                expected_address: 0x41,
                expected_channel: 2,
                address: Some(0x40),
                channel: 1,
            },
            Mismatch::OtherShunt { rail: rail(), expected_ohm: 0.005, used_ohm: 0.01 },
            Mismatch::OtherRole { rail: rail(), expected: RailRole::Total, used: RailRole::Part },
            Mismatch::Overridden { rail: rail(), told_ohm: 0.1, given_ohm: 0.01 },
        ],
    }
}

fn clocks() -> ClockSnapshot {
    ClockSnapshot {
        monotonic: AT,
        monotonic_raw_ns: 36_000_000_000_001,
        boottime_ns: 36_000_000_999_999,
        realtime_ns: 1_795_000_000_000_000_000,
        bracket_ns: -3,
    }
}

fn run_start() -> RunStart {
    RunStart {
        run: RunId::new("20261123T190946Z-simulated").unwrap(),
        first: false,
        board: BoardDescription {
            id: "board".into(),
            model: "a board".into(),
            kernel: "Linux 6.18 aarch64".into(),
            cores: 6,
            memory_bytes: 8 << 30,
            raspberry_pi: Some("Raspberry Pi 5".into()),
        },
        agent: AgentBuild { version: "0.1.0".into(), protocol_digest: u64::MAX },
        simulation: Some(Simulation {
            chip: ChipKind::EnergyCounter,
            seed: 2016,
            load_model: "idle + span * u".into(),
        }),
        campaign: campaign(),
        clock: clocks(),
        chips: vec![ChipDescription {
            kind: ChipKind::Ina226,
            bus: 7,
            address: 0x45,
            lane: 17,
            config_register: 0x7127,
            bus_clock_hz: 400_000,
            transaction_bits: 330,
            cycle_ns: 840_000,
            sweep_period_ns: 840_336,
        }],
        rails: vec![rail()],
        scheduling: Scheduling::Fifo { priority: 50 },
    }
}

fn campaign() -> CampaignSpec {
    CampaignSpec {
        networks: vec!["enet".into(), "my/net.toml".into()],
        batch: vec![1, 64],
        precision: vec![Precision::F32],
        device: vec!["cpu".into(), "cuda:0".into()],
        size: vec![224],
        threads: vec![0, 4],
        cores: vec![String::new(), "0-3".into()],
        windows: 5,
        window_s_min: 10.0,
        sweeps_min: 200,
        inferences_min: 20,
        idle_s: 30.0,
        seed: 42,
        weights: "hashed:7".into(),
        mode: Mode::Full,
    }
}

fn rail() -> RailDescription {
    RailDescription {
        name: "VDD_SOC".into(),
        role: RailRole::Part,
        source: RailSource::Pmic,
        chip: 1,
        channel: 3,
        slot: 2,
        scale: RailScale { shunt_lsb_v: 2.5e-6, bus_lsb_v: 1.25e-3, shunt_ohm: 0.005 },
        limits: ErrorLimits {
            shunt_offset_v: 10e-6,
            shunt_gain: 0.001,
            bus_offset_v: 7.5e-3,
            bus_gain: 0.001,
            shunt_tolerance: 0.01,
        },
        timing: ChannelTiming {
            shunt_start_ns: 1,
            shunt_conversion_ns: 140_000,
            bus_start_ns: 140_001,
            bus_conversion_ns: 140_000,
            shunt_latch_before_end_ns: 600_000,
            bus_latch_before_end_ns: 500_000,
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn line(record: &Record) -> String {
    let mut payload = Vec::new();
    record.encode(&mut payload).unwrap();
    format!("{} {}", record.kind(), hex(&payload))
}

#[test]
fn the_bytes_of_a_record_never_change() {
    let golden = include_str!("golden/records.txt");
    let lines: Vec<&str> = golden.lines().collect();
    let written: Vec<String> = records().iter().map(line).collect();
    assert_eq!(written, lines, "a recording that exists holds the bytes on the right");
    for (record, line) in records().into_iter().zip(lines) {
        let (kind, payload) = line.split_once(' ').unwrap();
        let payload: Vec<u8> = (0..payload.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&payload[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(Record::decode(kind.parse().unwrap(), &payload), Ok(record));
    }
}
