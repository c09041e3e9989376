//! Energy of one rail over a window, with its uncertainty budget.
//!
//! Owns the trapezoid over conversion windows' centres and every term of the
//! budget. Knows neither files nor trials: points come in, joules go out.
//! Theory: JCGM 100 (GUM); `docs/method.md`, "Uncertainty".
//!
//! A row's code is the mean over one conversion window. The row is stamped at
//! the end of its transaction; the register was latched `latch_before_end`
//! earlier, and held a conversion that had ended up to one cycle before, on
//! average half a cycle. So its centre lies at
//! `row end − latch_before_end − cycle/2 − conversion/2`. Power is taken to run
//! straight from centre to centre; the two cells that the window cuts are cut
//! at `t0` and `t1`, which makes energy additive over adjoining windows.
//!
//! E = Σ w_j V_j I_j with Σ w_j = T, Q = Σ w_j I_j, V̄T = Σ w_j V_j:
//! a gain or the shunt moves E by its part; an offset of the shunt channel by
//! V̄T/R, of the bus channel by Q, times itself. These do not shrink with N.

use wattline_protocol::block::{SampleRow, SampleStatus, status_of};
use wattline_protocol::code::{BusCode, RailScale, ShuntCode};
use wattline_protocol::record::{
    ChipDescription, ErrorLimits, OffsetRange, RailDescription, ShuntOffsets, without_offset,
};
use wattline_protocol::units::{Amperes, BoardTime, Joules, Nanos, Ohms, Volts, Watts};

use super::drift::{Drift, SHUNT_DRIFT_PER_K};
use super::model::{Energy, Term};
use super::scatter::Scatter;
use super::statistics::{deviation, series_uncertainty};
use crate::recording::instant;

/// An interval between usable samples is a gap beyond this many periods.
pub const GAP_PERIODS: f64 = 2.5;
/// Standard uncertainty of a row's stamp against the end of its transaction,
/// in seconds: scheduling of the sampler's thread between the bus's stop and
/// the clock's read (p99 of a real-time thread is 92 µs, its median 53 µs).
const STAMP_JITTER_S: f64 = 50e-6;

/// Clock of a bus that declares none, in hertz: standard mode.
const CLOCK_HZ_UNKNOWN: u32 = 100_000;
/// More sweeps than a chip has channels are no voltage's age.
const CARRIED_MAX: u8 = 4;
/// Ranges of a board's table of offsets that are used.
const RANGES_MAX: usize = 8;

/// What one rail's codes mean, where they lie in time and how wrong they may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensor {
    scale: RailScale,
    limits: ErrorLimits,
    drift: Drift,
    /// How far the board was from the 25 °C of the limits, in kelvin.
    off_25_c_k: f64,
    /// From the centre of the shunt's conversion to the end of the row.
    centre_before_end: Nanos,
    /// Expected time between new values, in seconds.
    period_s: f64,
    /// Place of the rail among those of its block.
    slot: usize,
    offsets: Offsets,
    /// Sweeps over which a bus voltage is carried at most; 0 where each has its own.
    carried: usize,
}

/// The board's own table of the shunt's offsets; all 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Offsets {
    general_uv: i32,
    ranges: [OffsetRange; RANGES_MAX],
    used: usize,
}

impl Sensor {
    /// The sensor behind a rail of `chip`.
    #[must_use]
    pub fn new(rail: &RailDescription, chip: &ChipDescription) -> Self {
        let before = i64::from(rail.timing.shunt_latch_before_end_ns)
            + i64::from(chip.cycle_ns) / 2
            + i64::from(rail.timing.shunt_conversion_ns) / 2;
        // A sampler slower than the chip sets the pace, else the chip does.
        let period_ns = chip.cycle_ns.max(chip.sweep_period_ns);
        Self {
            scale: rail.scale,
            limits: rail.limits,
            drift: Drift::of(chip.kind),
            off_25_c_k: 0.0,
            centre_before_end: Nanos(before),
            period_s: f64::from(period_ns) * 1e-9,
            slot: usize::from(rail.slot),
            offsets: Offsets::default(),
            carried: carried(rail, chip),
        }
    }

    /// The same sensor on a board that tells offsets of its shunt's voltage.
    #[must_use]
    pub fn with_offsets(mut self, told: Option<&ShuntOffsets>) -> Self {
        if let Some(told) = told {
            self.offsets.general_uv = told.general_uv;
            self.offsets.used = told.ranges.len().min(RANGES_MAX);
            for (place, range) in self.offsets.ranges.iter_mut().zip(&told.ranges) {
                *place = *range;
            }
        }
        self
    }

    /// The same sensor on a board that was `kelvin` away from 25 °C, where the
    /// datasheet's limits hold.
    #[must_use]
    pub const fn off_25_c(mut self, kelvin: f64) -> Self {
        self.off_25_c_k = kelvin.abs();
        self
    }

    /// Centre of the conversion window whose code a row that ended at `row_end`
    /// holds.
    #[must_use]
    pub fn centre(&self, row_end: BoardTime) -> BoardTime {
        row_end - self.centre_before_end
    }

    /// The rail's value in a row; `None` where the row repeats a conversion
    /// that was read before, or failed.
    #[must_use]
    pub fn point(&self, row: &SampleRow<'_>) -> Option<Point> {
        let status = status_of(row.status, self.slot).filter(|status| status.is_new())?;
        let shunt = ShuntCode(row.code(2 * self.slot)?);
        let bus = BusCode(row.code(2 * self.slot + 1)?);
        let at = self.centre(instant(row.time_ticks));
        Some(Point { at, shunt, bus, overrange: status == SampleStatus::Overrange })
    }

    /// Expected time between new values, in seconds.
    #[must_use]
    pub fn period_s(&self) -> f64 {
        self.period_s
    }

    /// Meaning of the codes.
    #[must_use]
    pub fn scale(&self) -> &RailScale {
        &self.scale
    }

    /// Standard uncertainty of a window's edge against the samples, in seconds:
    /// u²(t) = period²/12 + jitter².
    fn edge_s(&self) -> f64 {
        (self.period_s.powi(2) / 12.0 + STAMP_JITTER_S.powi(2)).sqrt()
    }

    /// Current of a code, the board's offset taken out.
    #[must_use]
    pub fn current(&self, shunt: ShuntCode) -> Amperes {
        let Offsets { general_uv, ranges, used } = &self.offsets;
        let volts = self.scale.shunt_voltage(shunt).0;
        let ranges = ranges.get(..*used).unwrap_or_default();
        Volts(without_offset(volts, *general_uv, ranges)) / Ohms(self.scale.shunt_ohm)
    }

    /// Power of a point.
    #[must_use]
    pub fn power(&self, point: &Point) -> Watts {
        self.scale.bus_voltage(point.bus) * self.current(point.shunt)
    }
}

/// Sweeps over which a rail's bus voltage is carried at most, by the record: its
/// register was latched longer ago than a transaction takes.
fn carried(rail: &RailDescription, chip: &ChipDescription) -> usize {
    let clock_hz = if chip.bus_clock_hz == 0 { CLOCK_HZ_UNKNOWN } else { chip.bus_clock_hz };
    let transaction_ns = f64::from(chip.transaction_bits) * 1e9 / f64::from(clock_hz);
    let sweeps = f64::from(rail.timing.bus_latch_before_end_ns) / transaction_ns.max(1.0);
    (1..CARRIED_MAX).rev().find(|&sweep| sweeps > f64::from(sweep)).map_or(0, usize::from)
}

/// One new conversion of a rail. Rows that repeat a conversion or failed are
/// no points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Centre of the shunt's conversion window.
    pub at: BoardTime,
    /// Shunt code.
    pub shunt: ShuntCode,
    /// Bus code of the same row.
    pub bus: BusCode,
    /// True where a code stands at the end of its range.
    pub overrange: bool,
}

/// One rail integrated over one window; sums from which every energy and
/// uncertainty follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Integral {
    /// Energy, in joules.
    pub joules: f64,
    /// Length of the window, in seconds.
    pub seconds: f64,
    /// Charge, in coulombs.
    pub coulombs: f64,
    /// Voltage over time, in volt-seconds.
    pub volt_seconds: f64,
    /// Points inside the window.
    pub points: usize,
    /// Points at the end of a code's range.
    pub overrange: usize,
    /// Time without samples, in seconds.
    pub missing_s: f64,
    /// Longest single stretch of it, in seconds.
    pub gap_s: f64,
    /// Rounding of codes, standard uncertainty in joules.
    pub quantisation_j: f64,
    /// Edges, standard uncertainty in joules.
    pub edges_j: f64,
    /// Bridged gaps, standard uncertainty in joules.
    pub missing_j: f64,
    /// Noise and what the converter did not watch, standard uncertainty in joules.
    pub statistical_j: f64,
    /// What only aggregates tell, standard uncertainty in joules; the caller's to set.
    pub aggregated_j: f64,
    /// What bus voltages that are read in turn leave open, in joules.
    pub bus_age_j: f64,
    /// Standard uncertainty of the mean power taken as a mean over a process
    /// that went on before and after, in watts. For idle power and for
    /// comparing halves; an energy is that of its window and needs it not.
    pub process_w: f64,
}

/// Mean power, voltage and current of an idle rail: what a net energy subtracts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdleRate {
    /// Mean power, in watts.
    pub watts: f64,
    /// Mean voltage, in volts.
    pub volts: f64,
    /// Mean current, in amperes.
    pub amperes: f64,
}

/// Integrates a rail from `t0` to `t1`. Points are in order of time and may
/// reach beyond the window, which places its edges better; `None` without any.
#[must_use]
pub fn integrate(
    points: &[Point],
    sensor: &Sensor,
    t0: BoardTime,
    t1: BoardTime,
) -> Option<Integral> {
    let seconds = (t1 - t0).as_seconds().0;
    let times: Vec<f64> = points.iter().map(|point| (point.at - t0).as_seconds().0).collect();
    if times.is_empty() || seconds <= 0.0 {
        return None;
    }
    let series = Series { points, sensor, times: &times, seconds };
    let weights = weights(&times, seconds);
    let mut integral = series.sums(&weights);
    let inside = series.inside();
    integral.points = inside.len();
    integral.overrange = inside.iter().filter(|point| point.overrange).count();
    integral.edges_j = series.edges_j();
    let powers: Vec<f64> = inside.iter().map(|point| sensor.power(point).0).collect();
    integral.process_w = series_uncertainty(&powers);
    let spread_w = deviation(&powers).unwrap_or(0.0);
    series.add_gaps(spread_w, &mut integral);
    series.add_noise(&weights, &mut integral);
    Some(integral)
}

/// Weights of the trapezoid in seconds, cut at 0 and `seconds`; they sum to
/// `seconds`. Before the first and after the last point power stays level.
fn weights(times: &[f64], seconds: f64) -> Vec<f64> {
    let mut weights = vec![0.0; times.len()];
    let cut = |time: f64| time.clamp(0.0, seconds);
    for (pair, place) in times.windows(2).zip(0..) {
        let (from, to) = (cut(pair[0]), cut(pair[1]));
        if to > from {
            let part = ((from + to) / 2.0 - pair[0]) / (pair[1] - pair[0]);
            weights[place] += (to - from) * (1.0 - part);
            weights[place + 1] += (to - from) * part;
        }
    }
    if let (Some(&first), Some(weight)) = (times.first(), weights.first_mut()) {
        *weight += cut(first);
    }
    if let (Some(&last), Some(weight)) = (times.last(), weights.last_mut()) {
        *weight += seconds - cut(last);
    }
    weights
}

/// Points with their times in seconds after the window's start.
struct Series<'a> {
    points: &'a [Point],
    sensor: &'a Sensor,
    times: &'a [f64],
    seconds: f64,
}

impl Series<'_> {
    fn inside(&self) -> &[Point] {
        let from = self.times.partition_point(|&time| time < 0.0);
        let to = self.times.partition_point(|&time| time <= self.seconds);
        &self.points[from..to]
    }

    fn sums(&self, weights: &[f64]) -> Integral {
        let scale = &self.sensor.scale;
        let mut sums = Integral {
            joules: 0.0,
            seconds: self.seconds,
            coulombs: 0.0,
            volt_seconds: 0.0,
            points: 0,
            overrange: 0,
            missing_s: 0.0,
            gap_s: 0.0,
            quantisation_j: 0.0,
            edges_j: 0.0,
            missing_j: 0.0,
            statistical_j: 0.0,
            aggregated_j: 0.0,
            bus_age_j: self.bus_age_j(weights),
            process_w: 0.0,
        };
        let (mut shunt_squares, mut bus_squares) = (0.0, 0.0);
        for (point, weight) in self.points.iter().zip(weights) {
            let volts = scale.bus_voltage(point.bus).0;
            let amperes = self.sensor.current(point.shunt).0;
            sums.joules += weight * volts * amperes;
            sums.coulombs += weight * amperes;
            sums.volt_seconds += weight * volts;
            shunt_squares += (weight * volts).powi(2);
            bus_squares += (weight * amperes).powi(2);
        }
        // Codes that stand still round every sample the same way: their error
        // is one number for the window, not N that cancel.
        if self.is_frozen(|point| point.shunt.0) {
            shunt_squares = sums.volt_seconds.powi(2);
        }
        if self.is_frozen(|point| point.bus.0) {
            bus_squares = sums.coulombs.powi(2);
        }
        let shunt_step_a = scale.shunt_lsb_v / scale.shunt_ohm;
        let squares = shunt_squares * shunt_step_a.powi(2) + bus_squares * scale.bus_lsb_v.powi(2);
        sums.quantisation_j = (squares / 12.0).sqrt();
        sums
    }

    /// What bus voltages in turn leave open, in joules (k = 1). The voltage of a
    /// point was read up to `carried` sweeps before its current, half of it on
    /// the mean: with the voltage that is read so much later the energy would be
    /// another one by Σ w I ΔV / 2. That sum is one of the two ways in which such
    /// errors add (a load that rises all the time); as if each were for itself is
    /// the other, and both are stated.
    fn bus_age_j(&self, weights: &[f64]) -> f64 {
        let carried = self.sensor.carried;
        if carried == 0 {
            return 0.0;
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        let later = self.points.iter().skip(carried);
        for ((point, later), weight) in self.points.iter().zip(later).zip(weights) {
            let volts = |point: &Point| self.sensor.scale.bus_voltage(point.bus).0;
            let change_v = (volts(later) - volts(point)) / 2.0;
            let joules = weight * self.sensor.current(point.shunt).0 * change_v;
            sum += joules;
            squares += joules.powi(2);
        }
        f64::hypot(sum, squares.sqrt())
    }

    /// True where most codes equal the one before: noise of ½ LSB (σ) repeats
    /// a code about every second time.
    fn is_frozen(&self, code: impl Fn(&Point) -> i32) -> bool {
        let inside = self.inside();
        let same = inside.windows(2).filter(|pair| code(&pair[0]) == code(&pair[1])).count();
        2 * same >= inside.len().saturating_sub(1)
    }

    /// P(t0)²u²(t0) + P(t1)²u²(t1), as its root.
    fn edges_j(&self) -> f64 {
        let (first, last) = (self.power_at(0.0), self.power_at(self.seconds));
        (first.powi(2) + last.powi(2)).sqrt() * self.sensor.edge_s()
    }

    fn power_at(&self, time: f64) -> f64 {
        let power = |place: usize| self.sensor.power(&self.points[place]).0;
        let after = self.times.partition_point(|&candidate| candidate < time);
        if after == 0 {
            return power(0);
        }
        if after == self.times.len() {
            return power(after - 1);
        }
        let (from, to) = (self.times[after - 1], self.times[after]);
        let part = (time - from) / (to - from);
        power(after - 1) * (1.0 - part) + power(after) * part
    }

    /// Time in which no sample lies: of each interval beyond 2.5 periods what
    /// exceeds one period. Each stretch was bridged by a straight line, off by
    /// the spread of the power over its whole length.
    fn add_gaps(&self, spread_w: f64, integral: &mut Integral) {
        let half = self.sensor.period_s / 2.0;
        let longest = GAP_PERIODS * self.sensor.period_s;
        let first = self.times.first().copied().unwrap_or(0.0);
        let last = self.times.last().copied().unwrap_or(0.0);
        let head = (first > longest).then_some((0.0, first - half));
        let tail = (self.seconds - last > longest).then_some((last + half, self.seconds));
        let between = self
            .times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > longest)
            .map(|pair| (pair[0] + half, pair[1] - half));
        let mut squares = 0.0;
        for (from, to) in between.chain(head).chain(tail) {
            let bridged = (to.min(self.seconds) - from.max(0.0)).max(0.0);
            integral.missing_s += bridged;
            integral.gap_s = integral.gap_s.max(bridged);
            squares += bridged.powi(2);
        }
        integral.missing_j = spread_w * squares.sqrt();
    }

    /// Noise of the samples, and what happened between them. Rounding that is
    /// already counted is taken out again.
    fn add_noise(&self, weights: &[f64], integral: &mut Integral) {
        let powers: Vec<f64> = self.points.iter().map(|point| self.sensor.power(point).0).collect();
        let longest_s = GAP_PERIODS * self.sensor.period_s;
        let scatter = Scatter::of(&powers, self.times, self.seconds, longest_s);
        let weight_squares: f64 = weights.iter().map(|weight| weight.powi(2)).sum();
        let noise = scatter.noise_w.powi(2) * weight_squares - integral.quantisation_j.powi(2);
        integral.statistical_j = noise.max(0.0).sqrt().hypot(scatter.steps_j);
    }
}

impl Integral {
    /// Means of an idle window.
    #[must_use]
    pub fn idle_rate(&self) -> IdleRate {
        IdleRate {
            watts: self.joules / self.seconds,
            volts: self.volt_seconds / self.seconds,
            amperes: self.coulombs / self.seconds,
        }
    }

    /// Gross energy of one rail with its budget.
    #[must_use]
    pub fn gross(&self, sensor: &Sensor) -> Energy {
        self.above(sensor, &IdleRate { watts: 0.0, volts: 0.0, amperes: 0.0 })
    }

    /// Energy above an idle rate: E − P_idle·T. The shunt's offset moves both
    /// alike and falls out but for the difference of their voltages; the bus
    /// offset but for the difference of their currents. The uncertainty of the
    /// idle rate itself is the caller's to add.
    #[must_use]
    pub fn above(&self, sensor: &Sensor, idle: &IdleRate) -> Energy {
        let limits = &sensor.limits;
        let joules = self.joules - idle.watts * self.seconds;
        let volt_seconds = self.volt_seconds - idle.volts * self.seconds;
        let coulombs = self.coulombs - idle.amperes * self.seconds;
        let relative = |limit: f64| joules.abs() * rectangular(limit);
        let offset_j =
            |volts: f64| volt_seconds.abs() * rectangular(volts) / sensor.scale.shunt_ohm;
        let Drift { shunt_offset_v_per_k, gain_per_k } = sensor.drift;
        // Resistor, both gains and the offset drift each for itself.
        let gains_per_k = SHUNT_DRIFT_PER_K.hypot(gain_per_k).hypot(gain_per_k);
        let temperature_j = relative(gains_per_k).hypot(offset_j(shunt_offset_v_per_k));
        let terms = vec![
            (Term::ShuntResistance, relative(limits.shunt_tolerance)),
            (Term::ShuntGain, relative(limits.shunt_gain)),
            (Term::ShuntOffset, offset_j(limits.shunt_offset_v)),
            (Term::BusGain, relative(limits.bus_gain)),
            (Term::BusOffset, coulombs.abs() * rectangular(limits.bus_offset_v)),
            (Term::Temperature, temperature_j * sensor.off_25_c_k),
            (Term::Quantisation, self.quantisation_j),
            (Term::Edges, self.edges_j),
            (Term::Missing, self.missing_j),
            (Term::Statistical, self.statistical_j),
            (Term::Aggregated, self.aggregated_j),
            (Term::BusAge, self.bus_age_j),
        ];
        Energy { joules: Joules(joules), terms }
    }
}

/// Standard uncertainty of a value that lies anywhere within ±`limit`.
fn rectangular(limit: f64) -> f64 {
    limit.abs() / 3.0_f64.sqrt()
}

#[cfg(test)]
mod tests;
