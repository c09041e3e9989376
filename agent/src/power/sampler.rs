//! The sampler: deadline, sweep, judgement, ring.
//!
//! Owns the loop of one chip, its counts, and the thread that runs it. Knows
//! neither records of a run nor sockets. [`SamplerCore`] is the loop's body:
//! the thread steps it by the system clock, measures and tests by a virtual
//! one. No sweep allocates; a full ring and a dead bus are counted and
//! survived.
//! Theory: JCGM 100 for what the stamps are worth, and `pace` for the schedule.

mod beat;
mod bus;
mod setting;
mod turn;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::{info, warn};
use wattline_protocol::block::SampleStatus;
use wattline_protocol::record::{ChipDescription, RailDescription, SamplerReport};
use wattline_protocol::units::{BoardTime, Nanos};

use super::bus::{BusError, I2cBus};
use super::chip::{CODES_MAX, Chip, ChipError, Flag, Reading, Ready, bits_ns};
use super::meter::MeterCore;
use super::pace::{BusShare, Conversion, Pace, Step, Swept};
use super::ring::{Sweep, SweepProducer, Vouch, status_at, status_of_all};
use crate::clock::Clock;
use crate::realtime::{self, Granted};
use setting::Guard;
use turn::Turn;

pub use beat::Beat;
pub use bus::BusCore;

/// Steps between two copies of the counts to where others read them.
const REPORT_STEPS: u64 = 64;
/// Sweeps in a row without a new conversion after which the setting is read
/// back: the chip may have lost power and fallen to its slow default.
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
    /// There is cause to look at the setting after the next transaction.
    suspect: bool,
    guard: Guard,
    turn: Turn,
    /// How many times what the bus carries is asked of it.
    crowd: f64,
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
        let standing = parts.chip.read_setting(&mut *parts.bus)?;
        let clock_hz = parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let pace = Pace::new(parts.chip.pace_timing(clock_hz), parts.share, parts.clock.now());
        let report = SamplerReport { lane: parts.lane, ..SamplerReport::default() };
        let bits = |flag| bits_ns(parts.chip.transaction_bits(flag), clock_hz);
        let flag_span = Nanos(i64::from(bits(Flag::Read) - bits(Flag::Left)));
        let described = pace.flag_of_sweeps();
        let guard = Guard::new(parts.chip, standing, parts.clock.now());
        Ok(Self {
            parts,
            pace,
            report,
            config_register,
            stale_row: 0,
            suspect: false,
            guard,
            turn: Turn::default(),
            crowd: 1.0,
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
        self.settled();
    }

    /// What is said of the sweeps is that of now.
    fn settled(&mut self) {
        self.described = self.pace.flag_of_sweeps();
    }

    fn now(&self) -> BoardTime {
        self.parts.clock.now()
    }

    const fn is_finding(&self) -> bool {
        self.pace.is_finding()
    }

    const fn deadline(&self) -> BoardTime {
        self.pace.deadline()
    }

    const fn share(&self) -> BusShare {
        self.parts.share
    }

    /// The part of the bus's time that sweeping each conversion takes, at most 1.
    fn demand(&self) -> f64 {
        let clock_hz = self.parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let chip = &self.parts.chip;
        let sweep_ns = f64::from(bits_ns(chip.transaction_bits(Flag::Left), clock_hz));
        sweep_ns / sweep_ns.max(f64::from(chip.cycle_ns()))
    }

    /// All chips of the bus ask for `demand` times what it carries.
    fn crowd(&mut self, demand: f64) {
        self.crowd = demand.max(1.0);
        self.pace.crowded(self.crowd, self.parts.clock.now());
    }

    /// Reads bus voltages in turn where a sweep of all takes longer than the
    /// chip's longest cycle; otherwise nothing is gained by it.
    #[must_use]
    pub fn in_turn_where_slow(mut self) -> Self {
        let SamplerParts { chip, bus_clock_hz, share, clock, .. } = &mut self.parts;
        let clock_hz = bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let whole_ns = bits_ns(chip.with_turns(false).transaction_bits(Flag::Left), clock_hz);
        if whole_ns > chip.cycle_ns() / 10 * 11 {
            *chip = chip.with_turns(true);
            self.pace = Pace::new(chip.pace_timing(clock_hz), *share, clock.now());
        }
        self
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
        self.step_from(BoardTime(0)).0
    }

    /// The same, not before `free`; returns also for how long the bus was ours.
    fn step_from(&mut self, free: BoardTime) -> (BoardTime, Nanos) {
        let deadline = self.pace.deadline().max(free);
        let mut start = self.parts.clock.now();
        // Back to back the deadline has come already: no call into the kernel.
        if start < deadline {
            self.parts.clock.sleep_until(deadline);
            start = self.parts.clock.now();
        }
        let late = start - deadline.max(self.guard.looked);
        self.report.lateness.add(u64::try_from(late.0).unwrap_or(0));
        let SamplerParts { chip, bus, clock, .. } = &mut self.parts;
        let bus = &mut **bus;
        self.guard.spent = Nanos(0);
        let end = match self.pace.step() {
            Step::Sweep(flag) => {
                let in_turn = chip.is_in_turn() && flag == Flag::Left;
                let outcome = match in_turn {
                    true => chip.sweep_turn(bus, self.turn.next()),
                    false => chip.sweep(bus, flag),
                };
                let end = clock.now();
                self.report.sweeps += 1;
                match outcome {
                    Ok(reading) => self.swept((start, end), flag, reading, in_turn),
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
        };
        // A look at the setting may have followed.
        (end.max(self.guard.looked), end - start + self.guard.spent)
    }

    fn polled(&mut self, polled: Swept) {
        self.pace.polled(polled);
        self.look(polled.end);
    }

    /// A bus that is dead while the flag is polled: a row says so, as of a sweep.
    fn failed_poll(&mut self, end: BoardTime, error: BusError) {
        self.report.sweeps += 1;
        self.failed(end, error);
    }

    /// How old a bus voltage in turn is at most, times `slack`: more than the record
    /// says is too old to be carried.
    fn oldest_ns(&self, slack: f64) -> Nanos {
        let chip = &self.parts.chip;
        let clock_hz = self.parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let sweep_ns = f64::from(bits_ns(chip.transaction_bits(Flag::Left), clock_hz));
        let carried = u32::try_from(chip.channels().len()).unwrap_or(1).saturating_sub(1);
        let apart_ns = self.pace.period_ns().max(sweep_ns);
        Nanos(i64::from(whole_ns(slack * f64::from(carried) * apart_ns)))
    }

    /// Puts into a record's rails how old a bus voltage in turn may be: sweeps of a
    /// bus that is shared are farther apart than a transaction takes.
    pub fn state_ages(&self, rails: &mut [RailDescription]) {
        if !self.parts.chip.is_in_turn() || self.described == Flag::Read {
            return;
        }
        let clock_hz = self.parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        let sweep_ns = bits_ns(self.parts.chip.transaction_bits(Flag::Left), clock_hz);
        let oldest_ns = u32::try_from(self.oldest_ns(1.0).0).unwrap_or(u32::MAX);
        for rail in rails {
            let timing = &mut rail.timing;
            timing.bus_latch_before_end_ns =
                timing.bus_latch_before_end_ns % sweep_ns.max(1) + oldest_ns;
        }
    }

    fn swept(
        &mut self,
        (start, end): (BoardTime, BoardTime),
        flag: Flag,
        mut reading: Reading,
        in_turn: bool,
    ) {
        let judgement = self.pace.swept(Swept { start, end, ready: reading.ready }, flag);
        self.report.skipped += judgement.missed;
        let turn = in_turn.then_some(self.turn.next());
        let is_doubted = self.is_dark(&reading, turn, end) || self.guard.unusable;
        if is_doubted {
            self.turn.forget();
        }
        let unread = match in_turn {
            true => self.turn.fill(&mut reading, end, self.oldest_ns(1.25)),
            false => 0,
        };
        let status_of = |conversion| match conversion {
            Conversion::Fresh => SampleStatus::Ok,
            Conversion::Stale => SampleStatus::Stale,
            Conversion::AfterHole => SampleStatus::Skipped,
        };
        let statuses = judgement
            .conversions
            .map(|conversion| if is_doubted { SampleStatus::Stale } else { status_of(conversion) });
        if statuses[0] == SampleStatus::Stale {
            self.report.stale += 1;
            self.stale_row += 1;
        } else {
            self.report.fresh += 1;
            self.stale_row = 0;
        }
        let slots = usize::from(reading.columns) / 2;
        let word = (0..slots).zip(statuses).fold(0, |word, (slot, status)| {
            // A doubted code's end of range is as doubted as the code.
            let over = reading.overrange & (1 << slot) != 0 && !is_doubted;
            let is_unread = unread & (1 << slot) != 0;
            let status = match (is_unread, over) {
                // No bus voltage was read since the last doubt.
                (true, _) => SampleStatus::Stale,
                (false, true) => SampleStatus::Overrange,
                (false, false) => status,
            };
            word | status_at(status, slot)
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
            vouch: Vouch::Unneeded,
        });
        self.look(end);
    }

    fn failed(&mut self, end: BoardTime, error: BusError) {
        if !self.suspect {
            warn!(lane = self.report.lane, %error, "Sweep failed; sampling goes on when the bus does.");
        }
        self.report.failed += 1;
        self.suspect = true;
        self.turn.forget();
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
            vouch: Vouch::Unneeded,
        });
        self.pace.failed(end);
    }

    fn push(&mut self, sweep: Sweep) {
        if self.parts.ring.push(Sweep { vouch: self.guard.told(), ..sweep }) {
            self.guard.is_told();
        } else {
            self.report.lost += 1;
        }
    }
}

/// What a sampler's thread steps.
pub enum Stepped {
    /// The chips of one adapter, by their registers.
    Bus(Box<BusCore>),
    /// Files that the kernel reads for us.
    Meter(Box<MeterCore>),
}

impl Stepped {
    /// One chip that is alone on its adapter.
    #[must_use]
    pub fn chip(core: SamplerCore) -> Self {
        Self::Bus(Box::new(BusCore::new(vec![core])))
    }

    fn step(&mut self) {
        match self {
            Self::Bus(core) => core.step(),
            Self::Meter(core) => {
                core.step();
            }
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Bus(core) => core.finish(),
            // Nothing of a file's values waits.
            Self::Meter(_) => {}
        }
    }

    /// Puts the counts of each chip into `reports`; allocates nothing where it
    /// holds as many already.
    fn report(&self, reports: &mut Vec<SamplerReport>) {
        reports.clear();
        match self {
            Self::Bus(core) => reports.extend(core.chips().iter().map(SamplerCore::report)),
            Self::Meter(core) => reports.push(core.report()),
        }
    }

    fn reports(&self) -> Vec<SamplerReport> {
        let mut reports = Vec::new();
        self.report(&mut reports);
        reports
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
        let shown = Arc::new(Mutex::new(core.reports()));
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
    shown: &Mutex<Vec<SamplerReport>>,
    beat: &Beat,
) -> Vec<SamplerReport> {
    let mut steps = 0_u64;
    while !stop.load(Ordering::Acquire) {
        core.step();
        beat.step();
        steps += 1;
        if steps.is_multiple_of(REPORT_STEPS) {
            // Never waits for a reader: the next copy is milliseconds away.
            if let Ok(mut shown) = shown.try_lock() {
                core.report(&mut shown);
            }
        }
    }
    beat.stop();
    core.finish();
    core.reports()
}

/// A running sampler; dropping it stops the thread.
#[derive(Debug)]
pub struct SamplerHandle {
    stop: Arc<AtomicBool>,
    shown: Arc<Mutex<Vec<SamplerReport>>>,
    beat: Beat,
    thread: Option<JoinHandle<Vec<SamplerReport>>>,
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

    /// The counts of a moment ago, one a chip.
    #[must_use]
    pub fn reports(&self) -> Vec<SamplerReport> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops after the sweep that is under way; returns the final counts, one a
    /// chip.
    #[must_use]
    pub fn stop(mut self) -> Vec<SamplerReport> {
        self.join()
    }

    fn join(&mut self) -> Vec<SamplerReport> {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        // A thread that panicked has said so through the panic hook.
        ended.unwrap_or_else(|| self.reports())
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
