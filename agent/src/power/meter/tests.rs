//! Meters on files of a temporary folder, in virtual time.

use std::fs;
use std::path::{Path, PathBuf};

use wattline_protocol::code::{BusCode, ShuntCode};

use super::*;
use crate::clock::VirtualClock;
use crate::power::gpu::scripted::{Script, ScriptedGpu};
use crate::power::gpu::{GpuCounter, GpuError, GpuQuantity};
use crate::power::pmic::tests::{CAPTURE, scripted};
use crate::power::pmic::{PmicConverter, PmicQuantity};
use crate::power::ring::{SweepConsumer, ring};

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<VirtualClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    fn write(&self, name: &str, text: &str) -> Count {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        Count::of_file(path, 1e-6)
    }

    fn meter(&self, files: Vec<Files>) -> Meter {
        let limits = ErrorLimits {
            shunt_offset_v: 0.0,
            shunt_gain: 0.05,
            bus_offset_v: 0.0,
            bus_gain: 0.0,
            shunt_tolerance: 0.0,
        };
        let rails = files.into_iter().zip(1..).map(|(files, channel)| MeterRail {
            channel,
            name: format!("rail {channel}"),
            role: RailRole::Part,
            shunt_ohm: None,
            driver_shunt_ohm: None,
            limits,
            files,
        });
        Meter {
            kind: ChipKind::Driver,
            source: RailSource::Rapl,
            place: None,
            period_ns: 20_000_000,
            rails: rails.collect(),
        }
    }

    fn core(&self, meter: &Meter) -> (MeterCore, SweepConsumer) {
        let (producer, consumer) = ring(64);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        (MeterCore::opened(meter, clock, producer, 16).unwrap(), consumer)
    }
}

fn path_of(count: &Count) -> PathBuf {
    let CountSource::File(path) = &count.source else { panic!("not a file") };
    path.clone()
}

fn set(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
}

#[test]
fn a_counter_becomes_mean_watts_also_over_its_wrap() {
    let bench = Bench::new();
    let counter = bench.write("energy_uj", "262143300000\n");
    let path = path_of(&counter);
    let energy = Files::Energy { counter, wraps_at: Some(262_143_328_850) };
    let meter = bench.meter(vec![energy]).split().remove(0);
    let (mut core, mut rows) = bench.core(&meter);
    core.step();
    assert!(rows.pop().is_none(), "one count is no difference");
    // 28,850 µJ to the end and 171,150 µJ behind it: 0.2 J in 20 ms are 10 W.
    set(&path, "171150\n");
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.codes[0], sweep.codes[1], sweep.status), (100_000, 1, 0));
    let watts = meter.rails[0].scale().power(ShuntCode(sweep.codes[0]), BusCode(sweep.codes[1]));
    assert!((watts.0 - 10.0).abs() < 1e-9, "{watts:?}");
}

#[test]
fn a_counter_that_fell_back_without_a_known_end_is_no_row() {
    assert_eq!(difference(10, 25, None), Some(15));
    assert_eq!(difference(25, 10, None), None);
    // 32 bit, told by nobody.
    assert_eq!(difference(0xffff_fff0, 4, None), Some(19));
    assert_eq!(difference(0xffff_fff0, 0x8000_0000, None), None);
    assert_eq!(difference(25, 10, Some(20)), None);
    assert_eq!(difference(15, 10, Some(20)), Some(15));
}

#[test]
fn volts_and_amperes_are_rows_and_a_shunt_can_be_corrected() {
    let bench = Bench::new();
    let mut volts = bench.write("in1_input", "5008\n");
    let mut amperes = bench.write("curr1_input", "-816 \r\n");
    (volts.step, amperes.step) = (1e-3, 1e-3);
    let mut meter = bench.meter(vec![Files::VoltsAmperes { volts, amperes }]);
    meter.rails[0].shunt_ohm = Some(0.005);
    let (mut core, mut rows) = bench.core(&meter);
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.codes[0], sweep.codes[1]), (-816, 5_008));
    let mut scale = meter.rails[0].scale();
    assert!((scale.current(ShuntCode(-816)).0 + 0.816).abs() < 1e-12);
    // The driver took 5 mΩ; over 10 mΩ the same voltage is half the current.
    scale.shunt_ohm = 0.01;
    assert!((scale.current(ShuntCode(-816)).0 + 0.408).abs() < 1e-12);
}

#[test]
fn a_file_that_stops_answering_is_a_status_and_reading_goes_on() {
    let bench = Bench::new();
    let (one, other) = (bench.write("power1_input", "1000000"), bench.write("power2_input", "7"));
    let path = path_of(&other);
    let meter = bench.meter(vec![Files::Power(one), Files::Power(other)]);
    let (mut core, mut rows) = bench.core(&meter);
    set(&path, "N/A");
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.status, sweep.codes[0]), (0x50, 10_000));
    let failed_at = bench.clock.now();
    set(&path, "2500000");
    core.step();
    assert_eq!(rows.pop().unwrap().sweep.status, 0);
    assert_eq!(bench.clock.now() - failed_at, FAILED_PAUSE);
    let report = core.report();
    assert_eq!((report.sweeps, report.fresh, report.failed), (2, 1, 1));
}

fn energy_of(script: &Arc<Script>, index: u32) -> Files {
    let source = CountSource::Gpu(GpuCounter::best(&script.gpus(), index).unwrap());
    Files::Energy { counter: Count { source, step: GpuQuantity::STEP }, wraps_at: None }
}

#[test]
fn a_gpus_millijoules_become_mean_watts() {
    let bench = Bench::new();
    let script = Script::new(Arc::clone(&bench.clock), vec![ScriptedGpu::of_watts(70)]);
    let meter = bench.meter(vec![energy_of(&script, 0)]).split().remove(0);
    let (mut core, mut rows) = bench.core(&meter);
    for _ in 0..51 {
        core.step();
    }
    let mut watts = Vec::new();
    while let Some(row) = rows.pop() {
        let codes = row.sweep.codes;
        watts.push(meter.rails[0].scale().power(ShuntCode(codes[0]), BusCode(codes[1])).0);
    }
    assert_eq!(watts.len(), 50);
    assert!(watts.iter().all(|watts| (watts - 70.0).abs() < 1e-9), "{watts:?}");
}

#[test]
fn a_gpu_that_is_lost_and_comes_back_is_a_status_and_no_number() {
    let bench = Bench::new();
    let gpus = vec![ScriptedGpu::of_watts(70), ScriptedGpu::of_watts(30)];
    let script = Script::new(Arc::clone(&bench.clock), gpus);
    let meter = bench.meter(vec![energy_of(&script, 0), energy_of(&script, 1)]).split().remove(0);
    let (mut core, mut rows) = bench.core(&meter);
    core.step();
    core.step();
    let both = rows.pop().unwrap().sweep;
    assert_eq!((both.status, both.codes[0], both.codes[2]), (0, 700_000, 300_000));
    let lost = ScriptedGpu { energy: Err(GpuError::Lost), ..ScriptedGpu::of_watts(30) };
    script.becomes(1, lost);
    for _ in 0..3 {
        core.step();
        let sweep = rows.pop().unwrap().sweep;
        assert_eq!((sweep.status, sweep.codes[0], sweep.codes[2]), (0x50, 700_000, 0));
    }
    // Back with a counter that went on: what it counted meanwhile is no row's.
    script.becomes(1, ScriptedGpu::of_watts(30));
    core.step();
    assert!(rows.pop().is_none(), "the first count after the loss is no difference");
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.status, sweep.codes[0], sweep.codes[2]), (0, 700_000, 300_000));
    assert_eq!(core.report().failed, 3);
}

#[test]
fn a_counter_that_begins_anew_is_no_negative_power() {
    let bench = Bench::new();
    let script = Script::new(Arc::clone(&bench.clock), vec![ScriptedGpu::of_watts(70)]);
    let (mut core, mut rows) = bench.core(&bench.meter(vec![energy_of(&script, 0)]).split()[0]);
    core.step();
    // The driver was loaded anew: the counter is behind where it was.
    script.becomes(0, ScriptedGpu::of_watts(1));
    core.step();
    assert!(rows.pop().is_none());
    core.step();
    assert_eq!(rows.pop().unwrap().sweep.codes[0], 10_000);
}

#[test]
fn a_power_chips_rails_are_volts_and_amperes_and_its_silence_is_a_status() {
    let bench = Bench::new();
    let (pmic, script) = scripted(CAPTURE);
    let count = |quantity| Count {
        source: CountSource::Pmic(PmicConverter {
            pmic: Arc::clone(&pmic),
            rail: "VDD_CORE".into(),
            quantity,
        }),
        step: PmicQuantity::STEP,
    };
    let (volts, amperes) = (count(PmicQuantity::Volts), count(PmicQuantity::Amperes));
    let meter = bench.meter(vec![Files::VoltsAmperes { volts, amperes }]);
    let (mut core, mut rows) = bench.core(&meter);
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.status, sweep.codes[0], sweep.codes[1]), (0, 6_224_210, 861_733));
    let watts = meter.rails[0].scale().power(ShuntCode(sweep.codes[0]), BusCode(sweep.codes[1]));
    assert!((watts.0 - 6.22421 * 0.861733).abs() < 1e-9, "{watts:?}");
    *script.lock().unwrap() = Err(io::ErrorKind::TimedOut);
    // An answer stands for 20 ms of real time; then there is none.
    let silent = std::iter::repeat_with(|| {
        core.step();
        rows.pop().unwrap().sweep.status
    });
    assert_eq!(silent.take(10_000_000).find(|&status| status != 0), Some(0x5));
}

#[test]
fn power_beyond_32_bit_is_overrange() {
    let bench = Bench::new();
    let mut file = bench.write("power1_input", "300000");
    file.step = 1.0;
    let (mut core, mut rows) = bench.core(&bench.meter(vec![Files::Power(file)]));
    core.step();
    let sweep = rows.pop().unwrap().sweep;
    assert_eq!((sweep.status, sweep.codes[0]), (SampleStatus::Overrange.nibble(), i32::MAX));
}

#[test]
fn a_meter_has_one_kind_of_files_and_four_rails_at_most() {
    let bench = Bench::new();
    let file = bench.write("power1_input", "1");
    let mut files = vec![Files::Power(file.clone()); 6];
    files.push(Files::Energy { counter: file, wraps_at: None });
    let parts = bench.meter(files).split();
    let shape: Vec<_> = parts.iter().map(|part| (part.kind, part.rails.len())).collect();
    let power = ChipKind::PowerMeter;
    assert_eq!(shape, [(power, 4), (power, 2), (ChipKind::EnergyCounter, 1)]);
}
