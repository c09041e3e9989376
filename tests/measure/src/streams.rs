//! Synthetic sample streams: what three rails of a board look like under a CNN.
//!
//! Owns the load model (layers, idle gaps, board response, drift), the chips'
//! noise and the timer's jitter of the cases A, B and C, and the order-1
//! entropy of a stream. Knows nothing of codecs and keeps no time.
//! Source: records-and-reliability §1, "Compactness"; a recording of a real
//! board replaces these streams when there is one.
//!
//! A network of 40 layers runs again and again with a gap after each run. A
//! layer has a duration and one level of current for each of two part rails;
//! the third, the total, carries both and some of its own. Currents follow a
//! layer through a first-order response. A bus voltage sags with its rail's
//! current. Shunt and bus registers add Gaussian noise and round. Both chips see
//! the same currents over 5 mΩ; the fine one resolves them 16 times better, on
//! a board with the longer cable. Amplitudes (0.56 A of swing on a part rail:
//! 70 codes of the one chip, 1,120 of the other) are inside what such boards show, and chosen
//! there so that the order-1 entropies land near those of the source, 30.6 (A),
//! 46.7 (B) and 37.5 (C) bits: they are 29.7 to 31.6, 47.0 to 48.2 and 34.4 to
//! 35.6 for the seeds 0 to 20.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a register is a rounded voltage; the model's are small and the jitter is positive"
)]

/// Rails of each stream.
pub(crate) const RAILS: usize = 3;
/// Registers of a row: shunt and bus of each rail.
pub(crate) const REGISTERS: usize = RAILS * 2;

/// Layers of the network.
const LAYERS: usize = 40;
/// Mean duration of a layer, µs.
const LAYER_US_MEAN: f64 = 1_100.0;
/// A layer's duration is uniform within this part of the mean on either side.
const LAYER_US_SPREAD: f64 = 0.8;
/// From one inference to the next, a layer's duration varies by this part (σ).
const LAYER_US_REPEAT: f64 = 0.03;
/// Time constant of the board's power path, µs.
const RESPONSE_US: f64 = 600.0;
/// Mean of the idle gap after an inference, µs (exponential).
const IDLE_US_MEAN: f64 = 6_000.0;
/// Period of the slow drift, µs, and its part of the idle current.
const DRIFT_US: f64 = 37.0e6;
const DRIFT_PART: f64 = 0.15;
/// Swing of the part rails' shunts between idle and the busiest layer, in
/// codes of the INA3221 (40 µV: 8 mA over 5 mΩ).
const PART_SWING: [f64; 2] = [70.0, 60.0];
/// Swing of the total rail's shunt that belongs to neither part, same codes.
const OWN_SWING: f64 = 30.0;
/// Part of a part rail's current that the total, at the higher voltage, carries.
const CARRIED: f64 = 0.6;
/// Sag of a bus register for each code of its rail's shunt register: 2 mV for
/// 8 mA, a supply and cable of 0.25 Ω.
const SAG: f64 = 0.25;
/// Registers at idle in codes of the INA3221: shunt, bus (8 mV: 19 V, 5 V, 5 V).
const IDLE_SHUNT: [f64; RAILS] = [42.0, 21.0, 17.0];
const IDLE_BUS: [f64; RAILS] = [2_375.0, 628.0, 622.0];
/// Shunt codes of the INA226 (2.5 µV) for one of the INA3221 (40 µV).
const FINE_SHUNT: f64 = 16.0;
/// Bus codes of the INA226 (1.25 mV) for one of the INA3221 (8 mV).
const FINE_BUS: f64 = 6.4;
/// The INA226's board hangs on a cable of so many times the resistance.
const FINE_CABLE: f64 = 2.0;

/// Jitter of an absolute timer: |N(0, σ)|, and now and then an exponential.
const JITTER_US_SIGMA: f64 = 4.0;
const LATE_PART: f64 = 0.01;
const LATE_US_MEAN: f64 = 40.0;
/// Board time of the first row: ten hours after the board's start, in µs.
const START_US: u64 = 36_000_000_000;

/// One kind of chip at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// 13-bit INA3221 at 1 kS/s; noise 1.5 LSB shunt, 0.5 LSB bus.
    A,
    /// 16-bit INA226 or INA238 at 1 kS/s; noise 4 LSB shunt, 2 LSB bus.
    B,
    /// As B at 7 kS/s.
    C,
}

impl Case {
    /// Rows a second.
    const fn rate_hz(self) -> u32 {
        match self {
            Self::A | Self::B => 1_000,
            Self::C => 7_000,
        }
    }

    /// Codes of this chip for one of the INA3221, shunt and bus, and its cable's
    /// resistance for one of the INA3221's board.
    const fn scales(self) -> (f64, f64, f64) {
        match self {
            Self::A => (1.0, 1.0, 1.0),
            Self::B | Self::C => (FINE_SHUNT, FINE_BUS, FINE_CABLE),
        }
    }

    /// Noise of the shunt and the bus register (σ, LSB).
    const fn noise(self) -> (f64, f64) {
        match self {
            Self::A => (1.5, 0.5),
            Self::B | Self::C => (4.0, 2.0),
        }
    }
}

/// One sweep of the chip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Board time of the end of the transaction, ticks of 1 µs.
    pub(crate) time_ticks: u64,
    /// How late the timer was, µs.
    pub(crate) jitter_ticks: u64,
    /// Shunt and bus code of each rail in turn.
    pub(crate) codes: [i32; REGISTERS],
}

/// Rows without end; the same for the same case and seed.
#[derive(Debug)]
pub(crate) struct Stream {
    case: Case,
    random: SplitMix,
    layers: Vec<Layer>,
    /// The layer that runs now; `LAYERS` is the idle gap.
    layer: usize,
    left_us: f64,
    current: [f64; RAILS],
    drift_phase: f64,
    rows: u64,
    at_us: f64,
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    us: f64,
    level: [f64; RAILS],
}

impl Stream {
    /// The stream of a case; a seed draws network, gaps, noise and jitter.
    #[must_use]
    pub(crate) fn new(case: Case, seed: u64) -> Self {
        let mut random = SplitMix(seed ^ 0x5741_5454);
        let layers = (0..LAYERS).map(|_| Layer::draw(&mut random)).collect();
        let drift_phase = random.uniform() * core::f64::consts::TAU;
        let idle = [0.0; RAILS];
        Self {
            case,
            random,
            layers,
            layer: LAYERS,
            left_us: 0.0,
            current: idle,
            drift_phase,
            rows: 0,
            at_us: 0.0,
        }
    }

    fn due_us(&self, row: u64) -> u64 {
        START_US + row * 1_000_000 / u64::from(self.case.rate_hz())
    }

    fn next_row(&mut self) -> Row {
        let jitter_ticks = self.jitter_us();
        let due = self.due_us(self.rows);
        let time_ticks = due + jitter_ticks;
        self.rows += 1;
        let at_us = (time_ticks - START_US) as f64;
        self.advance((at_us - self.at_us).max(0.0));
        self.at_us = at_us;
        Row { time_ticks, jitter_ticks, codes: self.registers() }
    }

    /// Lets the load run on; within one layer the response is solved exactly.
    fn advance(&mut self, mut us: f64) {
        while us > 0.0 {
            if self.left_us <= 0.0 {
                self.next_layer();
            }
            let step = us.min(self.left_us);
            let kept = (-step / RESPONSE_US).exp();
            let goal = self.layers.get(self.layer).map_or([0.0; RAILS], |layer| layer.level);
            for (current, goal) in self.current.iter_mut().zip(goal) {
                *current = goal + (*current - goal) * kept;
            }
            us -= step;
            self.left_us -= step;
        }
    }

    fn next_layer(&mut self) {
        self.layer = if self.layer >= LAYERS { 0 } else { self.layer + 1 };
        self.left_us = match self.layers.get(self.layer) {
            Some(layer) => (layer.us * (1.0 + LAYER_US_REPEAT * self.random.normal())).max(1.0),
            None => self.random.exponential() * IDLE_US_MEAN,
        };
    }

    fn registers(&mut self) -> [i32; REGISTERS] {
        let (shunt_noise, bus_noise) = self.case.noise();
        let drift = (self.at_us / DRIFT_US * core::f64::consts::TAU + self.drift_phase).sin();
        let (shunt_scale, bus_scale, cable) = self.case.scales();
        let mut codes = [0; REGISTERS];
        for (rail, pair) in codes.chunks_exact_mut(2).enumerate() {
            let shunt = IDLE_SHUNT[rail] * (1.0 + DRIFT_PART * drift) + self.current[rail];
            let bus = IDLE_BUS[rail] - shunt * SAG * cable;
            pair[0] = (shunt * shunt_scale + shunt_noise * self.random.normal()).round() as i32;
            pair[1] = (bus * bus_scale + bus_noise * self.random.normal()).round() as i32;
        }
        codes
    }

    fn jitter_us(&mut self) -> u64 {
        let mut late = (self.random.normal() * JITTER_US_SIGMA).abs();
        if self.random.uniform() < LATE_PART {
            late += self.random.exponential() * LATE_US_MEAN;
        }
        late.round() as u64
    }
}

impl Iterator for Stream {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        Some(self.next_row())
    }
}

impl Layer {
    fn draw(random: &mut SplitMix) -> Self {
        let us = LAYER_US_MEAN * (1.0 + LAYER_US_SPREAD * (2.0 * random.uniform() - 1.0));
        let parts = PART_SWING.map(|swing| swing * random.uniform());
        let own = OWN_SWING * random.uniform();
        let level = [CARRIED * (parts[0] + parts[1]) + own, parts[0], parts[1]];
        Self { us, level }
    }
}

/// Order-1 entropy of a row in bits: for each register that of its difference
/// given the difference before, summed, and that of the timer's jitter.
/// Plug-in estimate (relative frequencies, no correction) over all rows.
#[must_use]
pub(crate) fn order_one_entropy_bits(rows: &[Row]) -> f64 {
    let mut bits = entropy_bits(rows.iter().map(|row| row.jitter_ticks).collect());
    for register in 0..REGISTERS {
        let differences: Vec<i32> =
            rows.windows(2).map(|pair| pair[1].codes[register] - pair[0].codes[register]).collect();
        let joint = differences.windows(2).map(|pair| key(pair[0]) << 32 | key(pair[1])).collect();
        let before = differences.iter().rev().skip(1).map(|&d| key(d)).collect();
        bits += entropy_bits(joint) - entropy_bits(before);
    }
    bits
}

fn key(difference: i32) -> u64 {
    u64::from(difference.cast_unsigned())
}

/// Empirical entropy of the symbols, bits a symbol.
fn entropy_bits(mut symbols: Vec<u64>) -> f64 {
    symbols.sort_unstable();
    let total = symbols.len() as f64;
    let part = |run: &[u64]| run.len() as f64 / total;
    symbols.chunk_by(|a, b| a == b).map(|run| -part(run) * part(run).log2()).sum()
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
#[derive(Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Standard normal (Box and Muller 1958, the cosine branch).
    fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (core::f64::consts::TAU * self.uniform()).cos()
    }
}
