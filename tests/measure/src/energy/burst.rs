//! The measures `energy.burst*`: one short burst, by samplers of several rates.
//!
//! Owns the burst (9 W on 3 W, with a ripple of 937 Hz) and the slower ways to
//! read the same chip; the fast one is [`bench`](super::bench)'s, the shipping
//! sampler. The window is the burst itself, from edge to edge: what a sampler
//! does not see of it is lost. `energy.burst` is the mean relative error over
//! bursts at any phase, `energy.burst_spread` its standard deviation.
//! The chip is exact but for its noise: what is left is the rate's.

use std::sync::Arc;

use wattline::analysis::energy::{Point, Sensor, integrate};
use wattline_agent::clock::{Clock, VirtualClock};
use wattline_agent::power::bus::sim::board::{BUS_CLOCK_HZ, BUS_NUMBER, noise_lsb, rails_of};
use wattline_agent::power::bus::sim::{ChipErrors, SimBoard, Waveform};
use wattline_agent::power::bus::{I2cBus, Message};
use wattline_agent::power::chip::{Flag, Profile};
use wattline_agent::power::discover::ChipRails;
use wattline_protocol::code::{BusCode, ShuntCode};
use wattline_protocol::record::{ChipDescription, ChipKind};
use wattline_protocol::units::{BoardTime, Nanos, Watts};

use super::BEHIND;
use super::bench::Bench;
use super::draw::{Draw, as_f64, steps};
use crate::figure::Figure;

const BURST: &str = "energy.burst";
const SPREAD: &str = "energy.burst_spread";

/// Bursts of a case unless told otherwise, and where everything is measured.
const BURSTS: u64 = 400;
const BURSTS_OF_ALL: u64 = 100;
/// Lengths of the burst, in ms.
const LENGTHS_MS: [u32; 3] = [5, 20, 100];
/// Power before and after, in the burst, and the ripple on the latter: watts.
const BASE_W: f64 = 3.0;
const BURST_W: f64 = 12.0;
const RIPPLE_W: f64 = 1.0;
const RIPPLE_HZ: f64 = 937.0;
/// The ripple is drawn in steps of a twentieth of its period.
const RIPPLE_STEP_S: f64 = 1.0 / (RIPPLE_HZ * 20.0);
/// The burst begins about here, in seconds: an averaging filter of 64 cycles
/// has settled by then.
const BURST_AT_S: (f64, f64) = (1.2, 1.4);
/// Polls go on so long after the burst: the slowest has one more there.
const AFTER: Nanos = Nanos::from_millis(120);

/// A way to read the chip.
#[derive(Clone, Copy, Debug)]
struct Reader {
    name: &'static str,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The shipping sampler, 400 kHz, every conversion of three rails.
    Shipping,
    /// Reads of one rail at a fixed period, unsynchronised with the chip,
    /// which converts by this configuration.
    Poll { config: u16, cycle_us: u32, conversion_us: u32, period_us: u32 },
}

/// INA3221 configurations: 140 µs; the mainline kernel's 1.1 ms; the same with
/// the averaging of 64 that JetPack 4 sets.
const FAST: u16 = 0x7007;
const MAINLINE: u16 = 0x7127;
const AVERAGE_64: u16 = 0x7727;

const READERS: [Reader; 5] = [
    Reader { name: "fast", way: Way::Shipping },
    // Six registers on a bus of 100 kHz take 2.84 ms.
    Reader { name: "100k", way: poll(FAST, 840, 140, 2_840) },
    Reader { name: "mainline", way: poll(MAINLINE, 6_600, 1_100, 6_600) },
    Reader { name: "avg64", way: poll(AVERAGE_64, 6_600, 1_100, 6_600) },
    Reader { name: "poll-100ms", way: poll(MAINLINE, 6_600, 1_100, 100_000) },
];

const fn poll(config: u16, cycle_us: u32, conversion_us: u32, period_us: u32) -> Way {
    Way::Poll { config, cycle_us, conversion_us, period_us }
}

/// Emits the measures whose names start with `name_prefix`.
pub(super) fn run(
    (name_prefix, case_prefix): (&str, &str),
    from: u64,
    count: Option<u64>,
    emit: &mut dyn FnMut(Figure),
) {
    if !SPREAD.starts_with(name_prefix) {
        return;
    }
    let bursts = if name_prefix.is_empty() { BURSTS_OF_ALL } else { BURSTS };
    // Windows of the other measures are asked for by the ten thousand.
    let bursts = count.map_or(bursts, |count| count.clamp(2, 2_000));
    for reader in READERS {
        for length_ms in LENGTHS_MS {
            let case = format!("{}/{length_ms}ms", reader.name);
            if !case.starts_with(case_prefix) {
                continue;
            }
            let errors: Vec<f64> = (0..bursts)
                .filter_map(|seed| error(reader, length_ms, from.wrapping_add(seed)))
                .collect();
            let count = as_f64(errors.len().try_into().unwrap_or(u64::MAX));
            let mean = errors.iter().sum::<f64>() / count;
            let squares: f64 = errors.iter().map(|error| (error - mean).powi(2)).sum();
            let spread = (squares / (count - 1.0)).sqrt();
            for (measure, value) in [(BURST, mean), (SPREAD, spread)] {
                emit(Figure {
                    measure,
                    case: case.clone(),
                    value,
                    unit: "1",
                    limit: Some(0.0),
                    limit_is: Some("no error"),
                });
            }
        }
    }
}

/// Relative error of one burst's energy.
fn error(reader: Reader, length_ms: u32, seed: u64) -> Option<f64> {
    let mut draw = Draw::of(&format!("{}/{length_ms}", reader.name), seed);
    let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
    let origin = clock.now();
    let total = rails_of(ChipKind::Ina3221).first()?;
    let (from_s, length_s) = (draw.between(BURST_AT_S), f64::from(length_ms) * 1e-3);
    let current = |watts: f64| total.current_for(Watts(watts));
    let phase = draw.between((0.0, core::f64::consts::TAU));
    let load = burst(
        from_s,
        length_s,
        |at_s| {
            current(BURST_W + RIPPLE_W * (core::f64::consts::TAU * RIPPLE_HZ * at_s + phase).sin())
        },
        current(BASE_W),
    );
    let (shunt_lsb, bus_lsb) = noise_lsb(ChipKind::Ina3221);
    let errors = ChipErrors { noise_seed: draw.next(), ..ChipErrors::default() }
        .with_noise(shunt_lsb, bus_lsb);
    let clock_of_all = || Arc::clone(&clock) as Arc<dyn Clock>;
    let board = SimBoard::scripted(ChipKind::Ina3221, seed, errors, vec![load], clock_of_all());
    let t0 = origin + Nanos::from_secs_f64(from_s);
    let t1 = t0 + Nanos::from_secs_f64(length_s);
    let joules = match reader.way {
        Way::Shipping => {
            let mut bench = Bench::new(&board, Arc::clone(&clock)).ok()?;
            bench.run_until(t1 + BEHIND);
            bench.integrate((t0, t1), 0.0)?.1.joules
        }
        Way::Poll { config, cycle_us, conversion_us, period_us } => {
            let (points, sensor) = polled(
                &board,
                &clock,
                t1,
                &mut draw,
                (config, cycle_us, conversion_us, period_us),
            )?;
            integrate(&points, &sensor, t0, t1)?.joules
        }
    };
    let truth = board.true_energy(0, t0, t1).0;
    Some(joules / truth - 1.0)
}

/// The base, the burst in small steps, the base again.
fn burst(from_s: f64, length_s: f64, rippled: impl Fn(f64) -> f64, base_a: f64) -> Waveform {
    let mut at_s = from_s;
    steps(base_a, || {
        let here_s = at_s;
        if here_s < from_s + length_s {
            at_s = (here_s + RIPPLE_STEP_S).min(from_s + length_s);
            (here_s, rippled(here_s))
        } else {
            at_s = f64::INFINITY;
            (here_s, base_a)
        }
    })
}

/// What a reader that polls sees of the total rail until `t1` and a little on.
fn polled(
    board: &SimBoard,
    clock: &VirtualClock,
    t1: BoardTime,
    draw: &mut Draw,
    (config, cycle_us, conversion_us, period_us): (u16, u32, u32, u32),
) -> Option<(Vec<Point>, Sensor)> {
    let (mut bus, address) = (board.bus(), board.address());
    let [high, low] = config.to_be_bytes();
    bus.transfer(address, &mut [Message::Write(&[0, high, low])]).ok()?;
    let period = Nanos::from_micros(i64::from(period_us));
    // The age of what is read: half a cycle and half a conversion.
    let age = Nanos::from_micros(i64::from((cycle_us + conversion_us) / 2));
    let mut deadline = clock.now() + Nanos::from_secs_f64(draw.between((0.02, 0.12)));
    let mut points = Vec::new();
    while deadline < t1 + AFTER {
        clock.sleep_until(deadline);
        let (mut shunt, mut volts) = ([0; 2], [0; 2]);
        let at = clock.now();
        let mut messages = [
            Message::Write(&[1]),
            Message::Read(&mut shunt),
            Message::Write(&[2]),
            Message::Read(&mut volts),
        ];
        bus.transfer(address, &mut messages).ok()?;
        // Bits 15 to 3 hold the value.
        let code = |bytes: [u8; 2]| i32::from(i16::from_be_bytes(bytes) >> 3);
        let (shunt, bus) = (ShuntCode(code(shunt)), BusCode(code(volts)));
        points.push(Point { at: at - age, shunt, bus, overrange: false });
        deadline = deadline + period;
    }
    let rails = ChipRails::simulated(board, Profile::Fast);
    let described = ChipDescription {
        kind: ChipKind::Ina3221,
        bus: BUS_NUMBER,
        address: address.get(),
        lane: 0,
        config_register: config,
        bus_clock_hz: BUS_CLOCK_HZ,
        transaction_bits: 0,
        cycle_ns: cycle_us * 1_000,
        sweep_period_ns: period_us * 1_000,
    };
    let rails = rails.describe(&rails.chip, Flag::Read, 0);
    Some((points, Sensor::new(rails.first()?, &described)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_20_ms_is_seen_by_the_sampler_and_lost_by_slow_polls() {
        let mut figures = Vec::new();
        run(("energy.burst", ""), 0, Some(40), &mut |figure| figures.push(figure));
        assert_eq!(figures.len(), 30);
        let value = |case: &str| {
            let of_case = |figure: &&Figure| figure.measure == BURST && figure.case == case;
            figures.iter().find(of_case).map(|figure| figure.value).unwrap()
        };
        assert!(value("fast/20ms").abs() < 0.02, "{}", value("fast/20ms"));
        assert!(value("poll-100ms/20ms") < -0.3, "{}", value("poll-100ms/20ms"));
        assert!(value("avg64/100ms") < -0.2, "{}", value("avg64/100ms"));
    }
}
