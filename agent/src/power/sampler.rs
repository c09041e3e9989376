//! The sampler: deadline, sweep, judgement, ring.
//!
//! Owns the loop of one chip, its counts, and the thread that runs it. Knows
//! neither records of a run nor sockets. [`SamplerCore`] is the loop's body:
//! the thread steps it by the system clock, measures and tests by a virtual
//! one. No sweep allocates; a full ring and a dead bus are counted and
//! survived.
//! Theory: JCGM 100 for what the stamps are worth, and `pace` for the schedule.

mod beat;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::{info, warn};
use wattline_protocol::block::SampleStatus;
use wattline_protocol::record::{ChipDescription, SamplerReport};
use wattline_protocol::units::{BoardTime, Nanos};

use super::bus::{BusError, I2cBus};
use super::chip::{CODES_MAX, Chip, ChipError, Flag, Ownership, Reading, Ready, bits_ns};
use super::meter::MeterCore;
use super::pace::{BusShare, Conversion, Pace, Step, Swept};
use super::ring::{Sweep, SweepProducer, status_at, status_of_all};
use crate::clock::Clock;
use crate::realtime::{self, Granted};

pub use beat::Beat;

/// Sweeps between two copies of the counts to where others read them.
const REPORT_SWEEPS: u64 = 64;
/// Sweeps in a row without a new conversion after which the configuration is
/// read back: the chip may have lost power and fallen to its slow default.
const STALE_ROW_MAX: u32 = 6;
/// Bus clock assumed where the system declares none: standard mode.
const CLOCK_HZ_UNKNOWN: u32 = 100_000;
/// Longest time for which a start waits for the chip's cycle: 60 cycles of the
/// longest profile, and some.
const SETTLING: Nanos = Nanos::from_millis(330);

/// What a sampler is made of.
pub struct SamplerParts {
    /// The chip's driver.
    pub chip: Chip,
    /// The bus it is on.
    pub bus: Box<dyn I2cBus>,
    /// Number of the bus's adapter.
    pub bus_number: u8,
    /// Clock of the bus, in hertz; `None` where it is not declared.
    pub bus_clock_hz: Option<u32>,
    /// How much of the bus is ours.
    pub share: BusShare,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where sweeps go.
    pub ring: SweepProducer,
    /// Lane of the sample stream.
    pub lane: u8,
}

/// The body of the sampler's loop.
pub struct SamplerCore {
    parts: SamplerParts,
    pace: Pace,
    report: SamplerReport,
    config_register: u16,
    stale_row: u32,
    suspect: bool,
    /// Slots whose bus voltage reads 0 although the chip is configured.
    dark: u8,
    /// The kind of sweep that the record describes, and the time that the flag
    /// takes in one.
    described: Flag,
    flag_span: Nanos,
}

impl SamplerCore {
    /// Identifies and configures the chip, and plans the first sweep for now.
    ///
    /// # Errors
    /// [`ChipError`] where the chip does not answer, is another part, or does
    /// not take its configuration.
    pub fn configured(mut parts: SamplerParts) -> Result<Self, ChipError> {
        let config_register = parts.chip.configure(&mut *parts.bus)?;
        let clock_hz = parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let pace = Pace::new(parts.chip.pace_timing(clock_hz), parts.share, parts.clock.now());
        let report = SamplerReport { lane: parts.lane, ..SamplerReport::default() };
        let bits = |flag| bits_ns(parts.chip.transaction_bits(flag), clock_hz);
        let flag_span = Nanos(i64::from(bits(Flag::Read) - bits(Flag::Left)));
        let described = pace.flag_of_sweeps();
        Ok(Self {
            parts,
            pace,
            report,
            config_register,
            stale_row: 0,
            suspect: false,
            dark: 0,
            described,
            flag_span,
        })
    }

    /// Steps until the chip's cycle is known, at most for a third of a second:
    /// what [`Self::describe`] says of the sweeps is then theirs. Rows of that
    /// time, which tell of faults alone, go into the ring as all do.
    pub fn settle(&mut self) {
        let begun = self.parts.clock.now();
        while self.pace.is_finding() && self.parts.clock.now() - begun < SETTLING {
            self.step();
        }
        self.described = self.pace.flag_of_sweeps();
    }

    /// Whether the sweeps that the record describes read the ready flag.
    #[must_use]
    pub const fn described_flag(&self) -> Flag {
        self.described
    }

    /// The chip as configured, for the record.
    #[must_use]
    pub fn describe(&self) -> ChipDescription {
        let SamplerParts { chip, bus_number, bus_clock_hz, lane, .. } = &self.parts;
        ChipDescription {
            kind: chip.kind(),
            bus: *bus_number,
            address: chip.address().get(),
            lane: *lane,
            config_register: self.config_register,
            bus_clock_hz: bus_clock_hz.unwrap_or(0),
            transaction_bits: chip.transaction_bits(self.described),
            cycle_ns: chip.cycle_ns(),
            sweep_period_ns: whole_ns(self.pace.period_ns()),
        }
    }

    /// The chip's driver.
    #[must_use]
    pub const fn chip(&self) -> &Chip {
        &self.parts.chip
    }

    /// What was done so far.
    #[must_use]
    pub const fn report(&self) -> SamplerReport {
        self.report
    }

    /// The chip's true cycle in ns, where the schedule has found it.
    #[must_use]
    pub fn measured_cycle_ns(&self) -> Option<f64> {
        self.pace.measured_cycle_ns()
    }

    /// Waits for the next deadline and makes one transaction: a sweep, which
    /// pushes what came, or a read of the flag. Returns its end.
    pub fn step(&mut self) -> BoardTime {
        let deadline = self.pace.deadline();
        let mut start = self.parts.clock.now();
        // Back to back the deadline has come already: no call into the kernel.
        if start < deadline {
            self.parts.clock.sleep_until(deadline);
            start = self.parts.clock.now();
        }
        self.report.lateness.add(u64::try_from((start - deadline).0).unwrap_or(0));
        let SamplerParts { chip, bus, clock, .. } = &mut self.parts;
        let bus = &mut **bus;
        match self.pace.step() {
            Step::Sweep(flag) => {
                let outcome = chip.sweep(bus, flag);
                let end = clock.now();
                self.report.sweeps += 1;
                match outcome {
                    Ok(reading) => self.swept((start, end), flag, &reading),
                    Err(error) => self.failed(end, error),
                }
                end
            }
            Step::Poll => {
                let outcome = chip.poll(bus);
                let end = clock.now();
                match outcome {
                    Ok(ready) => self.polled(Swept { start, end, ready }),
                    Err(error) => self.failed_poll(end, error),
                }
                end
            }
            Step::Clear => {
                let outcome = chip.clear(bus);
                let end = clock.now();
                match outcome {
                    Ok(()) => self.pace.cleared(Swept { start, end, ready: Ready::Unread }),
                    Err(error) => self.failed_poll(end, error),
                }
                end
            }
        }
    }

    fn polled(&mut self, polled: Swept) {
        self.pace.polled(polled);
        if self.suspect {
            self.check_configuration();
        }
    }

    /// A bus that is dead while the flag is polled: a row says so, as of a sweep.
    fn failed_poll(&mut self, end: BoardTime, error: BusError) {
        self.report.sweeps += 1;
        self.failed(end, error);
    }

    fn swept(&mut self, (start, end): (BoardTime, BoardTime), flag: Flag, reading: &Reading) {
        let judgement = self.pace.swept(Swept { start, end, ready: reading.ready }, flag);
        self.report.skipped += judgement.missed;
        let is_dark = self.lost_power(reading);
        let status_of = |conversion| match conversion {
            Conversion::Fresh => SampleStatus::Ok,
            Conversion::Stale => SampleStatus::Stale,
            Conversion::AfterHole => SampleStatus::Skipped,
        };
        let statuses = judgement
            .conversions
            .map(|conversion| if is_dark { SampleStatus::Stale } else { status_of(conversion) });
        if statuses[0] == SampleStatus::Stale {
            self.report.stale += 1;
            self.stale_row += 1;
        } else {
            self.report.fresh += 1;
            self.stale_row = 0;
        }
        let slots = usize::from(reading.columns) / 2;
        let word = (0..slots).zip(statuses).fold(0, |word, (slot, status)| {
            let over = reading.overrange & (1 << slot) != 0;
            word | status_at(if over { SampleStatus::Overrange } else { status }, slot)
        });
        // A sweep of the other kind is stamped so that the shunts before the
        // flag lie where the record says.
        let end = match (flag, self.described) {
            (Flag::Read, Flag::Left) => end - self.flag_span,
            (Flag::Left, Flag::Read) => end + self.flag_span,
            (Flag::Read, Flag::Read) | (Flag::Left, Flag::Left) => end,
        };
        self.push(Sweep {
            end,
            status: word,
            codes: reading.codes,
            columns: reading.columns,
            lost_before: 0,
        });
        if self.suspect || self.stale_row >= STALE_ROW_MAX {
            self.check_configuration();
        }
    }

    /// Whether the registers are those of a chip that has not converted since
    /// it was powered: a channel's bus voltage then reads 0, as its shunt does.
    /// A rail that newly reads 0 is believed once the configuration is there.
    fn lost_power(&mut self, reading: &Reading) -> bool {
        let slots = reading.codes.chunks_exact(2).take(usize::from(reading.columns) / 2);
        let dark = slots
            .enumerate()
            .filter(|(_, codes)| codes.get(1) == Some(&0))
            .fold(0_u8, |dark, (slot, _)| dark | 1 << slot);
        let newly = dark & !self.dark != 0;
        self.dark &= dark;
        if !newly || self.parts.chip.ownership() != Ownership::Ours {
            return false;
        }
        let SamplerParts { chip, bus, .. } = &mut self.parts;
        let intact = chip.read_config(&mut **bus).is_ok_and(|found| found == chip.config());
        if intact {
            self.dark = dark;
        }
        self.suspect |= !intact;
        !intact
    }

    fn failed(&mut self, end: BoardTime, error: BusError) {
        if !self.suspect {
            warn!(lane = self.report.lane, %error, "Sweep failed; sampling goes on when the bus does.");
        }
        self.report.failed += 1;
        self.suspect = true;
        let status = match error {
            BusError::NoAnswer { .. } => SampleStatus::Nack,
            BusError::Failed { .. }
            | BusError::ReservedAddress { .. }
            | BusError::TooManyMessages { .. } => SampleStatus::Bus,
        };
        let slots = self.parts.chip.channels().len();
        self.push(Sweep {
            end,
            status: status_of_all(status, slots),
            codes: [0; CODES_MAX],
            columns: u8::try_from(2 * slots).unwrap_or(0),
            lost_before: 0,
        });
        self.pace.failed(end);
    }

    fn push(&mut self, sweep: Sweep) {
        if !self.parts.ring.push(sweep) {
            self.report.lost += 1;
        }
    }

    /// After failures, and where conversions stay away: a chip that lost power
    /// converts by its defaults, and is configured again.
    fn check_configuration(&mut self) {
        self.stale_row = 0;
        let SamplerParts { chip, bus, clock, .. } = &mut self.parts;
        if chip.ownership() != Ownership::Ours {
            self.suspect = false;
            return;
        }
        match chip.read_config(&mut **bus) {
            Ok(found) if found == chip.config() => self.suspect = false,
            Ok(found) => {
                warn!(lane = self.report.lane, found, "Chip lost its configuration; set again.");
                self.suspect = chip.configure(&mut **bus).is_err();
                self.pace.restarted(clock.now());
            }
            // The next sweep meets the same bus and counts it.
            Err(_) => self.suspect = true,
        }
    }
}

/// What a sampler's thread steps.
pub enum Stepped {
    /// A chip by its registers.
    Chip(Box<SamplerCore>),
    /// Files that the kernel reads for us.
    Meter(Box<MeterCore>),
}

impl Stepped {
    fn step(&mut self) {
        match self {
            Self::Chip(core) => core.step(),
            Self::Meter(core) => core.step(),
        };
    }

    fn report(&self) -> SamplerReport {
        match self {
            Self::Chip(core) => core.report(),
            Self::Meter(core) => core.report(),
        }
    }
}

/// The thread of a sampler.
pub struct Sampler;

impl Sampler {
    /// Starts the thread; returns once the kernel has answered its requests.
    ///
    /// # Errors
    /// The kernel's error where no thread can be started.
    pub fn start(core: Stepped) -> std::io::Result<SamplerHandle> {
        let stop = Arc::new(AtomicBool::new(false));
        let shown = Arc::new(Mutex::new(core.report()));
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let (stopped, showing) = (Arc::clone(&stop), Arc::clone(&shown));
        let beat = Beat::default();
        let stepped = beat.clone();
        let thread = std::thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            // The receiver waits below; it cannot be gone.
            let _ = answer.send(realtime::request());
            run(core, &stopped, &showing, &stepped)
        })?;
        let granted = answered.recv().map_err(std::io::Error::other)?;
        if let Some(errno) = granted.refusal_errno {
            info!(errno, "Real-time scheduling refused; the sampler runs in the normal class.");
        }
        Ok(SamplerHandle { stop, shown, beat, thread: Some(thread), granted })
    }
}

fn run(
    mut core: Stepped,
    stop: &AtomicBool,
    shown: &Mutex<SamplerReport>,
    beat: &Beat,
) -> SamplerReport {
    while !stop.load(Ordering::Acquire) {
        core.step();
        beat.step();
        let report = core.report();
        if report.sweeps.is_multiple_of(REPORT_SWEEPS) {
            // Never waits for a reader: the next copy is milliseconds away.
            if let Ok(mut shown) = shown.try_lock() {
                *shown = report;
            }
        }
    }
    beat.stop();
    core.report()
}

/// A running sampler; dropping it stops the thread.
#[derive(Debug)]
pub struct SamplerHandle {
    stop: Arc<AtomicBool>,
    shown: Arc<Mutex<SamplerReport>>,
    beat: Beat,
    thread: Option<JoinHandle<SamplerReport>>,
    granted: Granted,
}

impl SamplerHandle {
    /// What the kernel granted the thread.
    #[must_use]
    pub const fn granted(&self) -> Granted {
        self.granted
    }

    /// What shows that the thread steps.
    #[must_use]
    pub fn beat(&self) -> Beat {
        self.beat.clone()
    }

    /// The counts of a moment ago.
    #[must_use]
    pub fn report(&self) -> SamplerReport {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops after the sweep that is under way; returns the final counts.
    #[must_use]
    pub fn stop(mut self) -> SamplerReport {
        self.join()
    }

    fn join(&mut self) -> SamplerReport {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        // A thread that panicked has said so through the panic hook.
        ended.unwrap_or_else(|| self.report())
    }
}

impl Drop for SamplerHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.join();
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
const fn whole_ns(ns: f64) -> u32 {
    ns as u32
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
