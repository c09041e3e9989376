//! Analyses made up for tests: plausible in form, invented in every number.

use wattline_protocol::campaign_spec::{CampaignFile, Mode, Precision};
use wattline_protocol::code::RailScale;
use wattline_protocol::record::{
    AgentBuild, BaselinePlace, BoardDescription, BoardExpectation, Cell, ChannelTiming,
    ChipDescription, ChipKind, ErrorLimits, FailureCause, GapReason, LatenessHistogram,
    RailDescription, RailRole, RailSource, RunId, RunOutcome, SamplerReport, Scheduling,
    Simulation, TrialOutcome,
};
use wattline_protocol::units::{BoardTime, HostTime, Joules, Nanos, Watts};

use crate::analysis::StateSummary;
use crate::analysis::model::{
    Absence, Analysis, BaselineResult, CellResult, ClockOffset, Energy, FailedTrial, Judgement,
    Reason, Term, Trace, TracePoint, Uncertain, Verdict, WindowResult,
};

/// Network, 10⁶ MACs, 10⁶ parameters.
const NETWORKS: [(&str, u64, u64); 14] = [
    ("alexnet", 714, 61),
    ("alexnet-bn", 650, 61),
    ("nin-bn", 1260, 9),
    ("enet", 779, 6),
    ("googlenet", 1498, 7),
    ("resnet18", 1814, 12),
    ("resnet34", 3664, 22),
    ("resnet50", 4089, 26),
    ("resnet101", 7801, 45),
    ("resnet152", 11514, 60),
    ("vgg16", 15470, 138),
    ("vgg19", 19632, 144),
    ("inception-v3", 5713, 24),
    ("inception-v4", 12254, 43),
];
const IDLE_W: f64 = 3.2;

/// A simulated quick run: two networks, two batches.
pub(crate) fn simulated() -> Analysis {
    let mut analysis = build(&["alexnet", "resnet18"], &[1, 4], Mode::Quick);
    analysis.simulation = Some(Simulation {
        chip: ChipKind::Ina3221,
        seed: 7,
        load_model: "idle 3.2 W; 8.1 W while a layer runs, ripple 4 % at 37 Hz".into(),
    });
    analysis
}

/// A real night: every network at seven batches, with all that can go wrong.
pub(crate) fn night() -> Analysis {
    let names: Vec<&str> = NETWORKS.iter().map(|network| network.0).collect();
    let mut analysis = build(&names, &[1, 2, 4, 8, 16, 32, 64], Mode::Full);
    judge(&mut analysis, 3, Verdict::Flagged, &[Reason::SomeMissing, Reason::Wide]);
    judge(&mut analysis, 40, Verdict::Flagged, &[Reason::IdleDrift]);
    judge(&mut analysis, 41, Verdict::Invalid, &[Reason::Gap, Reason::FewWindows]);
    fail(&mut analysis, 83, FailureCause::RunnerKilled { signal: 9 });
    analysis.corrected_shunts = vec![("VDD_IN".into(), 0.005, 0.005_12)];
    analysis.absences = vec![
        Absence {
            what: "sweeps of ina3221 at 1-0040".into(),
            count: 1_234,
            span: Some((BoardTime(700_000_000_000), BoardTime(720_500_000_000))),
            reason: Some(GapReason::RingFull),
        },
        Absence { what: "records of stream 3".into(), count: 2, span: None, reason: None },
    ];
    analysis
}

/// A run that was stopped before its first window.
pub(crate) fn empty() -> Analysis {
    let mut analysis = build(&["alexnet"], &[1], Mode::Full);
    fail(&mut analysis, 0, FailureCause::BadWeights);
    analysis.windows.clear();
    analysis.baselines.clear();
    analysis.traces.clear();
    analysis.sampler.clear();
    analysis.outcome = None;
    analysis
}

/// Real cells of these networks and batches, all valid (flagged where quick).
pub(crate) fn build(networks: &[&str], batches: &[u32], mode: Mode) -> Analysis {
    let mut analysis = bare(networks, batches, mode);
    let mut clock = 34_000_000_000_u64;
    for network in networks {
        for batch in batches {
            let number = u16::try_from(analysis.cells.len()).unwrap();
            let cell = cell(network, *batch, number, mode);
            for repeat in 0..u32::from(analysis.campaign.windows) {
                let number = u32::from(number) * 5 + repeat;
                analysis.windows.push(window(&cell, number, clock, mode));
                clock += if mode == Mode::Quick { 2_300_000_000 } else { 13_000_000_000 };
            }
            analysis.cells.push(cell);
        }
    }
    analysis.baselines = vec![
        idle(BaselinePlace::Before, 2_000_000_000),
        idle(BaselinePlace::After, clock + 1_000_000_000),
    ];
    analysis.ended = BoardTime(clock + 32_000_000_000);
    analysis.traces = traces(&analysis);
    analysis.sampler = vec![sampler(analysis.ended.0 / 6_600_000)];
    analysis
}

fn bare(networks: &[&str], batches: &[u32], mode: Mode) -> Analysis {
    let file = CampaignFile {
        networks: Some(networks.iter().map(|name| (*name).to_owned()).collect()),
        batch: Some(batches.to_vec()),
        ..CampaignFile::default()
    };
    Analysis {
        run: RunId::new("20261123T190946Z-orin1").unwrap(),
        board: BoardDescription {
            id: "orin1".into(),
            model: "NVIDIA Jetson Orin NX 16GB".into(),
            kernel: "Linux 5.15.148-tegra aarch64".into(),
            cores: 8,
            memory_bytes: 16 << 30,
            raspberry_pi: None,
        },
        agent: AgentBuild { version: "0.1.0".into(), protocol_digest: 1 },
        simulation: None,
        campaign: file.resolve(mode).unwrap(),
        started_unix_ns: 1_795_460_986_000_000_000,
        started: BoardTime(0),
        ended: BoardTime(0),
        outcome: Some(RunOutcome::Complete),
        chips: vec![chip()],
        rails: ["VDD_IN", "VDD_CPU_GPU", "VDD_SOC"].into_iter().map(rail).collect(),
        expectation: BoardExpectation::default(),
        skipped: Vec::new(),
        driver_changes: Vec::new(),
        chip_warnings: Vec::new(),
        shunt_offsets: Vec::new(),
        state: StateSummary::default(),
        corrected_shunts: Vec::new(),
        scheduling: Scheduling::Fifo { priority: 50 },
        sampler: Vec::new(),
        cells: Vec::new(),
        windows: Vec::new(),
        baselines: Vec::new(),
        failed: Vec::new(),
        absences: Vec::new(),
        traces: Vec::new(),
        clock: Some(ClockOffset {
            offset: Nanos(-12_345_678_900),
            bound: Nanos(110_000),
            at: HostTime(8_000_000_000_000),
            skew_ppm: -3.4,
            bound_median_ns: 95_000,
            bound_max_ns: 430_000,
            bursts: 12,
            steps: 0,
        }),
        triggers: Vec::new(),
        accuracies: Vec::new(),
    }
}

fn chip() -> ChipDescription {
    ChipDescription {
        kind: ChipKind::Ina3221,
        bus: 1,
        address: 0x40,
        lane: 0,
        config_register: 0x7127,
        bus_clock_hz: 400_000,
        transaction_bits: 288,
        cycle_ns: 6_600_000,
        sweep_period_ns: 6_500_000,
    }
}

fn rail(name: &str) -> RailDescription {
    RailDescription {
        name: name.into(),
        role: if name == "VDD_IN" { RailRole::Total } else { RailRole::Part },
        source: RailSource::I2c,
        chip: 0,
        channel: 1,
        slot: 0,
        scale: RailScale { shunt_lsb_v: 40e-6, bus_lsb_v: 8e-3, shunt_ohm: 0.005 },
        limits: ErrorLimits {
            shunt_offset_v: 80e-6,
            shunt_gain: 0.0025,
            bus_offset_v: 16e-3,
            bus_gain: 0.0025,
            shunt_tolerance: 0.01,
        },
        timing: ChannelTiming {
            shunt_start_ns: 0,
            shunt_conversion_ns: 1_100_000,
            bus_start_ns: 1_100_000,
            bus_conversion_ns: 1_100_000,
            shunt_latch_before_end_ns: 100_000,
            bus_latch_before_end_ns: 50_000,
        },
    }
}

fn sampler(sweeps: u64) -> SamplerReport {
    let mut lateness = LatenessHistogram::default();
    (0..10_000_u64).for_each(|index| lateness.add(3_000 + index * index / 400));
    SamplerReport {
        lane: 0,
        sweeps,
        fresh: sweeps - sweeps / 80,
        stale: sweeps / 80,
        skipped: 17,
        failed: 2,
        lost: 0,
        lateness,
    }
}

fn cell(network: &str, batch: u32, number: u16, mode: Mode) -> CellResult {
    let known = NETWORKS.iter().find(|known| known.0 == network);
    let (macs, params) = known.map_or((1000, 10), |known| (known.1, known.2));
    let images = f64::from(batch);
    let ms = 0.4 + macs as f64 / 900.0 * (1.0 + 1.6 / images) + params as f64 / 12.0 / images;
    let watts = 9.0 + 2.2 * images.log2() / 6.0 + (macs % 7) as f64 * 0.35;
    let wobble = 1.0 + f64::from(number % 5) * 0.002;
    let interval = |value: f64, share: f64| Some(Uncertain { value, expanded: value * share });
    let quick = mode == Mode::Quick;
    CellResult {
        cell: Cell {
            cell: number,
            network: network.into(),
            batch,
            precision: Precision::F32,
            device: "cpu".into(),
            size: 224,
            threads: 0,
            cores: String::new(),
            weights: "hashed:1".into(),
        },
        threads: 8,
        weights_sha256: "ab".repeat(32),
        params: params * 1_000_000,
        macs: macs * 1_000_000,
        ops_paper: macs * 2_010_000,
        ms_per_image: interval(ms, 0.006),
        watts: interval(watts, 0.011),
        mj_per_image_gross: interval(ms * watts, 0.0126),
        mj_per_image_net: interval(ms * (watts - IDLE_W), 0.03),
        dominant: Some(if number.is_multiple_of(9) {
            Term::Statistical
        } else {
            Term::ShuntResistance
        }),
        images_per_s: Some(1000.0 / ms),
        memory_mb: Some(210.0 + params as f64 * 1.3 + images * macs as f64 / 500.0),
        windows: if quick { 3 } else { 5 },
        true_mj_per_image_gross: quick.then_some(ms * watts * wobble),
        judgement: Judgement {
            verdict: if quick { Verdict::Flagged } else { Verdict::Valid },
            reasons: if quick { vec![Reason::Quick] } else { Vec::new() },
        },
    }
}

fn window(cell: &CellResult, number: u32, t0: u64, mode: Mode) -> WindowResult {
    let length = if mode == Mode::Quick { 1_200_000_000 } else { 10_200_000_000 };
    let joules = cell.watts.unwrap().value * length as f64 / 1e9;
    let terms = |total: f64| {
        vec![
            (Term::ShuntResistance, total * 0.0058),
            (Term::ShuntGain, total * 0.0014),
            (Term::ShuntOffset, total * 0.002),
            (Term::Quantisation, total * 0.000_02),
            (Term::Statistical, total * (0.001 + 0.0001 * f64::from(number % 7))),
        ]
    };
    let net = joules - IDLE_W * length as f64 / 1e9;
    WindowResult {
        window: number,
        cell: cell.cell.cell,
        trial: number,
        epoch: 1,
        t0: BoardTime(t0),
        t1: BoardTime(t0 + length),
        inferences: 40,
        images: 40 * u64::from(cell.cell.batch),
        energy: Energy { joules: Joules(joules), terms: terms(joules) },
        net_energy: Some(Energy {
            joules: Joules(net),
            terms: [terms(joules), vec![(Term::Baseline, 0.01 * net)]].concat(),
        }),
        true_energy: (mode == Mode::Quick).then_some(Joules(joules * 1.002)),
        missing: 0.0,
        judgement: cell.judgement.clone(),
    }
}

fn idle(place: BaselinePlace, t0: u64) -> BaselineResult {
    let t1 = BoardTime(t0 + 30_000_000_000);
    BaselineResult { place, t0: BoardTime(t0), t1, power: Watts(IDLE_W), scatter_w: 0.004 }
}

/// 1500 buckets a rail, with one gap in the middle.
fn traces(analysis: &Analysis) -> Vec<Trace> {
    let step = analysis.ended.0 / 1500;
    let level = |at: u64| {
        let inside = |window: &&WindowResult| window.t0.0 <= at && at <= window.t1.0;
        let window = analysis.windows.iter().find(inside);
        let cell = window.and_then(|w| analysis.cells.get(usize::from(w.cell)));
        cell.and_then(|cell| cell.watts).map_or(IDLE_W, |watts| watts.value)
    };
    let point = |index: u64, share: f64| {
        let at = index * step;
        let noise = (index * 7919 % 100) as f64 / 400.0;
        let mean_w = (level(at) + noise) * share;
        let at = BoardTime(at);
        TracePoint { at, min_w: mean_w - 0.35 * share, mean_w, max_w: mean_w + 0.6 * share }
    };
    [1.0, 0.55, 0.2]
        .into_iter()
        .enumerate()
        .map(|(rail, share)| Trace {
            rail,
            segments: vec![
                (0..780).map(|index| point(index, share)).collect(),
                (800..1500).map(|index| point(index, share)).collect(),
            ],
        })
        .collect()
}

/// Gives a cell and its windows a verdict.
pub(crate) fn judge(analysis: &mut Analysis, cell: usize, verdict: Verdict, reasons: &[Reason]) {
    let judgement = Judgement { verdict, reasons: reasons.to_vec() };
    let number = analysis.cells[cell].cell.cell;
    for window in analysis.windows.iter_mut().filter(|window| window.cell == number) {
        window.judgement = judgement.clone();
        window.missing = 0.02;
    }
    analysis.cells[cell].judgement = judgement;
}

/// Takes a cell's figures and windows away: its trial failed.
pub(crate) fn fail(analysis: &mut Analysis, cell: usize, cause: FailureCause) {
    judge(analysis, cell, Verdict::Invalid, &[Reason::FewWindows, Reason::TrialFailed]);
    let failed = &mut analysis.cells[cell];
    failed.ms_per_image = None;
    failed.watts = None;
    failed.mj_per_image_gross = None;
    failed.mj_per_image_net = None;
    failed.images_per_s = None;
    failed.memory_mb = None;
    failed.dominant = None;
    failed.windows = 0;
    let number = failed.cell.cell;
    analysis.windows.retain(|window| window.cell != number);
    let outcome = TrialOutcome::Failed(cause);
    analysis.failed.push(FailedTrial { trial: u32::from(number) * 5, cell: number, outcome });
}
