//! Meters: rails that the kernel, a processor or a firmware reads for us.
//!
//! Owns what such a count means and the schedule of reading it: volts and
//! amperes of a driver, watts, or a counter of joules whose differences over
//! time are mean watts. Rows leave through the same ring as a chip's sweeps,
//! current (or power) in the place of the shunt's code. A closed set, no trait:
//! what can be told apart stands in [`Files`], where a count stands in
//! [`Count`]. Searches nothing.
//! Source: Linux Documentation/hwmon/sysfs-interface.rst,
//! ABI/testing/sysfs-bus-iio, power/powercap/powercap.rst.

mod count;

use std::io;
use std::sync::Arc;

use wattline_protocol::block::SampleStatus;
use wattline_protocol::code::RailScale;
use wattline_protocol::record::{
    ChannelTiming, ChipDescription, ChipKind, ErrorLimits, RailDescription, RailRole, RailSource,
    SamplerReport,
};
use wattline_protocol::units::{BoardTime, Nanos};

use super::chip::{CODES_MAX, SLOTS_MAX};
use super::ring::{Sweep, SweepProducer, status_at};
use crate::clock::Clock;
use count::OpenCount;

pub use count::{Count, CountSource};

/// Watts of one step where power is the code: 0.1 mW, so that a code of 32 bit
/// holds 200 kW and a counter's step of 15.3 µJ over 20 ms is not lost.
const POWER_STEP_W: f64 = 1e-4;
/// Shunt that stands for none: amperes are codes then, and no resistance is
/// corrected by it.
const NO_SHUNT_OHM: f64 = 1.0;
/// The longest pause after a reading that failed.
const FAILED_PAUSE: Nanos = Nanos::from_millis(100);

/// What is read for one rail.
#[derive(Debug, Clone, PartialEq)]
pub enum Files {
    /// Volts on the rail and amperes through it.
    VoltsAmperes {
        /// Voltage.
        volts: Count,
        /// Current.
        amperes: Count,
    },
    /// Watts alone.
    Power(Count),
    /// Joules since some start; counts begin at 0 again beyond `wraps_at`.
    Energy {
        /// The counter.
        counter: Count,
        /// Largest count; `None` where it is not told.
        wraps_at: Option<u64>,
    },
}

/// One rail of a meter.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterRail {
    /// Channel, from 1.
    pub channel: u8,
    /// Label.
    pub name: String,
    /// Total or part.
    pub role: RailRole,
    /// Shunt in ohms, where it is known.
    pub shunt_ohm: Option<f64>,
    /// Shunt in ohms by which the source makes amperes, where it is another.
    pub driver_shunt_ohm: Option<f64>,
    /// Error limits.
    pub limits: ErrorLimits,
    /// What is read.
    pub files: Files,
}

/// Rails that are read together, one a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Meter {
    /// What kind of files: one of the last three.
    pub kind: ChipKind,
    /// Where they come from.
    pub source: RailSource,
    /// Adapter and address of the chip behind them, where there is one.
    pub place: Option<(u8, u8)>,
    /// Time from one reading to the next, in ns.
    pub period_ns: u32,
    /// At most four rails.
    pub rails: Vec<MeterRail>,
}

impl Files {
    /// Which kind of rows they make.
    #[must_use]
    pub const fn kind(&self) -> ChipKind {
        match self {
            Self::VoltsAmperes { .. } => ChipKind::Driver,
            Self::Power(_) => ChipKind::PowerMeter,
            Self::Energy { .. } => ChipKind::EnergyCounter,
        }
    }
}

impl MeterRail {
    /// What one step of the rail's codes means.
    #[must_use]
    pub fn scale(&self) -> RailScale {
        let shunt_ohm = self.shunt_ohm.unwrap_or(NO_SHUNT_OHM);
        let driver_ohm = self.driver_shunt_ohm.unwrap_or(shunt_ohm);
        match &self.files {
            Files::VoltsAmperes { volts, amperes } => RailScale {
                shunt_lsb_v: amperes.step * driver_ohm,
                bus_lsb_v: volts.step,
                shunt_ohm,
            },
            Files::Power(_) | Files::Energy { .. } => RailScale {
                shunt_lsb_v: POWER_STEP_W * NO_SHUNT_OHM * driver_ohm / shunt_ohm,
                bus_lsb_v: 1.0,
                shunt_ohm: NO_SHUNT_OHM,
            },
        }
    }
}

impl Meter {
    /// Meters of at most four rails each, of one kind of files each.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let kinds = [ChipKind::Driver, ChipKind::PowerMeter, ChipKind::EnergyCounter];
        let of_kind = |kind| {
            let rails: Vec<MeterRail> =
                self.rails.iter().filter(|rail| rail.files.kind() == kind).cloned().collect();
            let whole = &self;
            let parts: Vec<Self> = rails
                .chunks(SLOTS_MAX)
                .map(|rails| Self { kind, rails: rails.to_vec(), ..whole.clone() })
                .collect();
            parts
        };
        kinds.into_iter().flat_map(of_kind).collect()
    }

    /// The meter for the record; `lane` is that of its rows.
    #[must_use]
    pub fn describe(&self, lane: u8) -> ChipDescription {
        let (bus, address) = self.place.unwrap_or_default();
        ChipDescription {
            kind: self.kind,
            bus,
            address,
            lane,
            config_register: 0,
            bus_clock_hz: 0,
            transaction_bits: 0,
            cycle_ns: self.period_ns,
            sweep_period_ns: self.period_ns,
        }
    }

    /// Its rails for the record; `index` is the meter's place among the chips.
    #[must_use]
    pub fn describe_rails(&self, index: u16) -> Vec<RailDescription> {
        let describe = |(slot, rail): (usize, &MeterRail)| RailDescription {
            name: rail.name.clone(),
            role: rail.role,
            source: self.source,
            chip: index,
            channel: rail.channel,
            slot: u8::try_from(slot).unwrap_or(u8::MAX),
            scale: rail.scale(),
            limits: rail.limits,
            timing: self.timing(),
        };
        self.rails.iter().enumerate().map(describe).collect()
    }

    /// Where in time a row's value lies. A driver converts when it likes: its
    /// value ended up to one period before the reading, and the host places it
    /// half a period back. A counter's row is the mean since the row before,
    /// whose centre lies as far back.
    fn timing(&self) -> ChannelTiming {
        ChannelTiming {
            shunt_start_ns: 0,
            shunt_conversion_ns: 0,
            bus_start_ns: 0,
            bus_conversion_ns: 0,
            shunt_latch_before_end_ns: 0,
            bus_latch_before_end_ns: 0,
        }
    }
}

/// The body of a meter's loop.
pub struct MeterCore {
    inputs: Vec<Input>,
    period: Nanos,
    clock: Arc<dyn Clock>,
    ring: SweepProducer,
    report: SamplerReport,
    deadline: BoardTime,
}

/// One rail's open files, and the count before.
#[derive(Debug)]
enum Input {
    VoltsAmperes { volts: OpenCount, amperes: OpenCount },
    Power { count: OpenCount, codes_a_count: f64 },
    Energy { count: OpenCount, joules_a_count: f64, wraps_at: Option<u64>, before: Option<Counted> },
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Counted {
    at: BoardTime,
    count: u64,
}

impl MeterCore {
    /// Opens the files; the first reading is due now.
    ///
    /// # Errors
    /// The kernel's error for the first file that cannot be opened.
    pub fn opened(
        meter: &Meter,
        clock: Arc<dyn Clock>,
        ring: SweepProducer,
        lane: u8,
    ) -> io::Result<Self> {
        let inputs = meter.rails.iter().map(|rail| Input::open(&rail.files));
        Ok(Self {
            inputs: inputs.take(SLOTS_MAX).collect::<io::Result<_>>()?,
            period: Nanos(i64::from(meter.period_ns)),
            deadline: clock.now(),
            clock,
            ring,
            report: SamplerReport { lane, ..SamplerReport::default() },
        })
    }

    /// What was done so far.
    #[must_use]
    pub const fn report(&self) -> SamplerReport {
        self.report
    }

    /// Waits for the next deadline and reads all rails once. Returns the end
    /// of the reading. Allocates nothing.
    pub fn step(&mut self) -> BoardTime {
        let start = {
            self.clock.sleep_until(self.deadline);
            self.clock.now()
        };
        self.report.lateness.add(u64::try_from((start - self.deadline).0).unwrap_or(0));
        let mut sweep =
            Sweep { columns: u8::try_from(2 * self.inputs.len()).unwrap_or(0), ..Sweep::default() };
        let (mut failed, mut counting) = (false, false);
        for (slot, input) in self.inputs.iter_mut().enumerate() {
            let read = input.read(&*self.clock);
            failed |= read.is_err();
            let status = match read {
                Ok(Reading::Codes(first, second)) => {
                    place(&mut sweep.codes, slot, first, second);
                    SampleStatus::Ok
                }
                Ok(Reading::Overrange(first, second)) => {
                    place(&mut sweep.codes, slot, first, second);
                    SampleStatus::Overrange
                }
                Ok(Reading::NotYet) => {
                    counting = true;
                    SampleStatus::Bus
                }
                Err(_) => SampleStatus::Bus,
            };
            sweep.status |= status_at(status, slot);
        }
        sweep.end = self.clock.now();
        // A counter's first count is no row yet.
        if !counting {
            self.report.sweeps += 1;
            *if failed { &mut self.report.failed } else { &mut self.report.fresh } += 1;
            if !self.ring.push(sweep) {
                self.report.lost += 1;
            }
        }
        let pause = if failed { self.period.max(FAILED_PAUSE) } else { self.period };
        // A driver slower than the period sets the pace.
        self.deadline = (self.deadline + pause).max(sweep.end);
        sweep.end
    }
}

fn place(codes: &mut [i32; CODES_MAX], slot: usize, first: i32, second: i32) {
    if let Some(two) = codes.get_mut(2 * slot..2 * slot + 2) {
        two.copy_from_slice(&[first, second]);
    }
}

/// Codes of one rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Codes(i32, i32),
    /// As far as 32 bits reach.
    Overrange(i32, i32),
    /// A counter's first count: no difference yet.
    NotYet,
}

impl Input {
    fn open(files: &Files) -> io::Result<Self> {
        Ok(match files {
            Files::VoltsAmperes { volts, amperes } => Self::VoltsAmperes {
                volts: OpenCount::open(volts)?,
                amperes: OpenCount::open(amperes)?,
            },
            Files::Power(watts) => Self::Power {
                count: OpenCount::open(watts)?,
                codes_a_count: watts.step / POWER_STEP_W,
            },
            Files::Energy { counter, wraps_at } => Self::Energy {
                count: OpenCount::open(counter)?,
                joules_a_count: counter.step,
                wraps_at: *wraps_at,
                before: None,
            },
        })
    }

    fn read(&mut self, clock: &dyn Clock) -> io::Result<Reading> {
        match self {
            Self::VoltsAmperes { volts, amperes } => {
                let (amperes, volts) = (amperes.read()?, volts.read()?);
                Ok(codes(as_f64(amperes), as_f64(volts)))
            }
            Self::Power { count, codes_a_count } => {
                Ok(codes(as_f64(count.read()?) * *codes_a_count, 1.0))
            }
            Self::Energy { count, joules_a_count, wraps_at, before } => {
                // Across a failure there is no difference: its mean would lie
                // in the middle of the rows that are missing.
                let last = before.take();
                let count = count.read()?;
                let count = u64::try_from(count).map_err(|_| io::ErrorKind::InvalidData)?;
                let now = Counted { at: clock.now(), count };
                *before = Some(now);
                let Some(last) = last else { return Ok(Reading::NotYet) };
                let Some(counted) = difference(last.count, count, *wraps_at) else {
                    return Ok(Reading::NotYet);
                };
                let seconds = (now.at - last.at).as_seconds().0.max(f64::MIN_POSITIVE);
                let watts = as_f64(counted.cast_signed()) * *joules_a_count / seconds;
                Ok(codes(watts / POWER_STEP_W, 1.0))
            }
        }
    }
}

/// Counts from one reading of a counter to the next, over one wrap at most:
/// readings are milliseconds apart and the shortest wrap (32 bit of 15.3 µJ at
/// 250 W) takes four minutes. A counter that tells no end is taken to wrap at 32
/// bit where it fell from the last sixteenth of them into the first; `None` where
/// it fell otherwise: it was reset.
fn difference(before: u64, now: u64, wraps_at: Option<u64>) -> Option<u64> {
    match (now.checked_sub(before), wraps_at) {
        (Some(counted), _) => Some(counted),
        (None, Some(last)) => Some(last.checked_sub(before)?.saturating_add(now)),
        (None, None) => {
            let near = WRAP_ASSUMED / 16;
            let is_wrap = (WRAP_ASSUMED - near..=WRAP_ASSUMED).contains(&before) && now < near;
            is_wrap.then(|| WRAP_ASSUMED - before + now)
        }
    }
}

/// Largest count of a counter that tells no end and is not of 64 bit.
const WRAP_ASSUMED: u64 = 0xffff_ffff;

fn codes(first: f64, second: f64) -> Reading {
    let (one, other) = (saturated(first), saturated(second));
    let is_over = |code: i32| code == i32::MAX || code == i32::MIN;
    if is_over(one) || is_over(other) {
        Reading::Overrange(one, other)
    } else {
        Reading::Codes(one, other)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a moment are far below 2^53")]
const fn as_f64(count: i64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
const fn saturated(code: f64) -> i32 {
    code.round() as i32
}

#[cfg(test)]
mod tests;
