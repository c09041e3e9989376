//! The simulated board: rails, their currents, one chip, and its faults.
//!
//! Owns what a real board's copper would: which rails there are, how their
//! voltage sags with current, and the true energy that went through them.
//! One lock guards chip and currents; the clock is read inside it wherever the
//! load changes, so that a past that was read never changes.
//!
//! Electrical model: V = V₀ − R·I with the supply's resistance R, and P = V·I.
//! A wanted power P gives I = (V₀ − √(V₀² − 4·R·P)) / 2R. True energy is
//! ∫ V·I dt = V₀·∫I dt − R·∫I² dt, exact for every waveform.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattline_protocol::record::{ChipKind, RailRole};
use wattline_protocol::units::{BoardTime, Joules, Nanos, Watts};

use super::chip::{ConversionRead, RailState, SimChip};
use super::errors::{ChipErrors, Signs};
use super::waveform::{Steps, Waveform};
use super::{LoadMeter, SimBus};
use crate::clock::Clock;
use crate::power::bus::Address7;
use crate::power::chip::{Chip, ChipSetup, Ina3221, Ownership, Profile, ina226, limits_of};

/// Number of the simulated adapter, as in `/dev/i2c-1`.
pub const BUS_NUMBER: u8 = 1;
/// Clock of the simulated bus, in hertz: fast mode, the most that both chips'
/// datasheets allow without a high-speed master code.
pub const BUS_CLOCK_HZ: u32 = 400_000;
/// Tolerance of the simulated shunts, as a fraction.
pub const SHUNT_TOLERANCE: f64 = 0.01;
/// Both chips with A1 and A0 to ground.
const ADDRESS: u8 = 0x40;
/// Noise of a 140 µs conversion (σ, LSB): shunt and bus, by chip. Chosen: the
/// datasheets give none for it; near what such boards show at idle.
const INA3221_NOISE_LSB: (f64, f64) = (1.5, 0.5);
const INA226_NOISE_LSB: (f64, f64) = (4.0, 2.0);
const INA219_NOISE_LSB: (f64, f64) = (0.5, 0.3);
const INA228_NOISE_LSB: (f64, f64) = (32.0, 12.0);
const INA238_NOISE_LSB: (f64, f64) = (2.0, 1.0);

/// Noise of a chip's shortest conversion (σ, LSB of shunt and bus).
#[must_use]
pub const fn noise_lsb(kind: ChipKind) -> (f64, f64) {
    match kind {
        ChipKind::Ina3221 => INA3221_NOISE_LSB,
        ChipKind::Ina219 | ChipKind::Ina220 => INA219_NOISE_LSB,
        ChipKind::Ina228 => INA228_NOISE_LSB,
        ChipKind::Ina237 | ChipKind::Ina238 => INA238_NOISE_LSB,
        _ => INA226_NOISE_LSB,
    }
}

/// A rail of the simulated board.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimRail {
    /// Its label.
    pub name: &'static str,
    /// Total or part.
    pub role: RailRole,
    /// Voltage without load, in volts.
    pub open_v: f64,
    /// Resistance of its supply, in ohms.
    pub source_ohm: f64,
    /// Nominal shunt, in ohms.
    pub shunt_ohm: f64,
    /// Power at no use of the cores, in watts.
    pub idle_w: f64,
    /// Further power at full use of all cores, in watts.
    pub span_w: f64,
}

impl SimRail {
    /// Voltage at `current_a`, in volts.
    #[must_use]
    pub fn voltage(&self, current_a: f64) -> f64 {
        self.open_v - self.source_ohm * current_a
    }

    /// Current, in amperes, at which the rail delivers `power`.
    #[must_use]
    pub fn current_for(&self, power: Watts) -> f64 {
        let root = (self.open_v * self.open_v - 4.0 * self.source_ohm * power.0).max(0.0).sqrt();
        // The form without cancellation of I = (V₀ − root) / 2R.
        2.0 * power.0 / (self.open_v + root)
    }

    /// Power at utilisation `share` (0 to 1) of all cores.
    #[must_use]
    pub fn power_at(&self, share: f64) -> Watts {
        Watts(self.idle_w + self.span_w * share)
    }
}

/// VDD_IN carries the two parts over converters that lose an eighth of their
/// output, and 1.5 W for the rest: 1.125 · (2.4 W to 12 W) + 1.5 W.
const INA3221_RAILS: [SimRail; 3] = [
    SimRail {
        name: "VDD_IN",
        role: RailRole::Total,
        open_v: 5.0,
        source_ohm: 0.015,
        shunt_ohm: 0.005,
        idle_w: 4.2,
        span_w: 10.8,
    },
    SimRail {
        name: "VDD_CPU_GPU",
        role: RailRole::Part,
        open_v: 5.0,
        source_ohm: 0.02,
        shunt_ohm: 0.005,
        idle_w: 0.9,
        span_w: 8.5,
    },
    SimRail {
        name: "VDD_SOC",
        role: RailRole::Part,
        open_v: 5.0,
        source_ohm: 0.02,
        shunt_ohm: 0.005,
        idle_w: 1.5,
        span_w: 1.1,
    },
];

const INA226_RAILS: [SimRail; 1] = [SimRail {
    name: "VIN",
    role: RailRole::Total,
    open_v: 12.0,
    source_ohm: 0.03,
    shunt_ohm: 0.01,
    idle_w: 4.2,
    span_w: 10.8,
}];

/// The same rail over the INA260's own shunt, and over the 0.1 Ω of the usual
/// INA219 module.
const INA260_RAILS: [SimRail; 1] =
    [SimRail { shunt_ohm: ina226::INA260_SHUNT_OHM, ..INA226_RAILS[0] }];
const INA219_RAILS: [SimRail; 1] = [SimRail { shunt_ohm: 0.1, ..INA226_RAILS[0] }];

/// Rails of the simulated board with this chip, by channel.
#[must_use]
pub const fn rails_of(kind: ChipKind) -> &'static [SimRail] {
    match kind {
        ChipKind::Ina3221 => &INA3221_RAILS,
        ChipKind::Ina219 | ChipKind::Ina220 => &INA219_RAILS,
        ChipKind::Ina260 => &INA260_RAILS,
        _ => &INA226_RAILS,
    }
}

/// What a board of any chip is made of, for tests and measures.
pub struct SimParts {
    /// The chip: any that is on I²C.
    pub kind: ChipKind,
    /// Seed that the record names; the errors carry that of the noise.
    pub seed: u64,
    /// Errors of the chip and its shunts.
    pub errors: ChipErrors,
    /// A current a rail, in the order of [`rails_of`].
    pub waveforms: Vec<Waveform>,
    /// Clock of the bus, in hertz.
    pub bus_clock_hz: u32,
    /// Time; the waveforms' origin is its now.
    pub clock: Arc<dyn Clock>,
}

/// What goes wrong on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The address is not acknowledged.
    Nack,
    /// A line is stuck: each transfer times out after 25 ms.
    Stuck,
    /// The chip loses power for a moment at the fault's start: nobody sees it
    /// absent.
    Reset,
    /// The chip has no power: its address is not acknowledged, and when the
    /// power is back it begins as after power-on.
    PowerLost,
    /// Another master wins every second transfer (EAGAIN), after so many bits
    /// of ours as an address has.
    ArbitrationLost,
    /// Somebody writes a register at the fault's start.
    Set {
        /// Which.
        register: u8,
        /// What.
        value: u16,
    },
    /// Somebody holds the clock low for so long in each transfer.
    Stretch {
        /// How long.
        by: Nanos,
    },
    /// Another master reads `register` before each transfer of ours: the
    /// pointer is where it left it.
    Rival {
        /// Where.
        register: u8,
    },
}

/// A fault from `from` until before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// When it begins.
    pub from: BoardTime,
    /// When it is over.
    pub to: BoardTime,
}

/// A simulated board; clones are the same board.
#[derive(Debug, Clone)]
pub struct SimBoard(Arc<Inner>);

struct Inner {
    kind: ChipKind,
    seed: u64,
    address: Address7,
    bus_clock_hz: u32,
    origin: BoardTime,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inner").field("kind", &self.kind).field("seed", &self.seed).finish()
    }
}

#[derive(Debug)]
struct State {
    chip: SimChip,
    rails: Vec<RailState>,
    faults: Vec<Fault>,
    followed: Option<u32>,
}

impl SimBoard {
    /// The board as the agent offers it: a load that follows a process, and a
    /// chip whose errors, noise and oscillator are drawn by `seed`.
    #[must_use]
    pub fn new(kind: ChipKind, seed: u64, clock: Arc<dyn Clock>) -> Self {
        let limits = limits_of(kind, SHUNT_TOLERANCE);
        let (shunt_lsb, bus_lsb) = noise_lsb(kind);
        let errors = ChipErrors::drawn(&limits, seed, Signs::Drawn).with_noise(shunt_lsb, bus_lsb);
        let idle = |rail: &SimRail| {
            Waveform::Steps(Steps::starting_with(rail.current_for(rail.power_at(0.0))))
        };
        let waveforms = rails_of(kind).iter().map(idle).collect();
        Self::scripted(kind, seed, errors, waveforms, clock)
    }

    /// A board with given errors and one current a rail, in the order of
    /// [`rails_of`]; rails without one carry none. The waveforms' origin is
    /// the clock's time now.
    #[must_use]
    pub fn scripted(
        kind: ChipKind,
        seed: u64,
        errors: ChipErrors,
        waveforms: Vec<Waveform>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let bus_clock_hz = BUS_CLOCK_HZ;
        Self::assembled(SimParts { kind, seed, errors, waveforms, bus_clock_hz, clock })
    }

    /// A board of any chip with given errors, currents and bus clock; rails
    /// without a current carry none.
    #[must_use]
    pub fn assembled(parts: SimParts) -> Self {
        let SimParts { kind, seed, errors, waveforms, bus_clock_hz, clock } = parts;
        let origin = clock.now();
        let none = core::iter::repeat(Waveform::Constant { current_a: 0.0 });
        let rails = rails_of(kind)
            .iter()
            .zip(waveforms.into_iter().chain(none))
            .map(|(rail, waveform)| RailState { rail: *rail, waveform })
            .collect();
        let chip = SimChip::new(kind, errors, origin);
        let state = Mutex::new(State { chip, rails, faults: Vec::new(), followed: None });
        let address = Address7::new(ADDRESS).unwrap_or(Address7::LOWEST);
        Self(Arc::new(Inner { kind, seed, address, bus_clock_hz, origin, clock, state }))
    }

    /// A user of the board's bus.
    #[must_use]
    pub fn bus(&self) -> SimBus {
        SimBus::new(self.clone())
    }

    /// The driver for the board's chip.
    #[must_use]
    pub fn driver(&self, profile: Profile) -> Chip {
        self.driver_of(profile, Ownership::Ours)
    }

    /// The same where a kernel driver is to hold the chip: it is adopted as it
    /// stands then.
    #[must_use]
    pub fn driver_of(&self, profile: Profile, ownership: Ownership) -> Chip {
        let address = self.address();
        let setup = ChipSetup { address, profile, ownership };
        // Every kind on I²C has a driver; another one is refused by its ids.
        Chip::new(self.0.kind, setup, &[1, 2, 3])
            .unwrap_or(Chip::Ina3221(Ina3221::all_channels(address, profile, ownership)))
    }

    /// Which conversion each register of the cycle gave when it was last read,
    /// in the order of a sweep's columns.
    #[must_use]
    pub fn conversions_read(&self) -> [Option<ConversionRead>; 6] {
        self.lock().chip.reads()
    }

    /// The chip.
    #[must_use]
    pub fn kind(&self) -> ChipKind {
        self.0.kind
    }

    /// Seed of the chip's errors and noise.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Rails, by channel.
    #[must_use]
    pub fn rails(&self) -> &'static [SimRail] {
        rails_of(self.0.kind)
    }

    /// Address of the chip.
    #[must_use]
    pub fn address(&self) -> Address7 {
        self.0.address
    }

    /// Clock of the bus, in hertz.
    #[must_use]
    pub fn bus_clock_hz(&self) -> u32 {
        self.0.bus_clock_hz
    }

    /// True energy of rail `rail` from `from` to `to`, in joules: the integral
    /// of V·I of its waveform. `to` is not later than now for a load that
    /// follows a process. Zero for a rail that the board has not.
    #[must_use]
    pub fn true_energy(&self, rail: usize, from: BoardTime, to: BoardTime) -> Joules {
        let state = self.lock();
        let Some(RailState { rail, waveform }) = state.rails.get(rail) else {
            return Joules(0.0);
        };
        let (start, end) =
            (waveform.moments(self.since_origin(from)), waveform.moments(self.since_origin(to)));
        let charge = end.charge - start.charge;
        let square = end.square - start.square;
        Joules(rail.open_v * charge - rail.source_ohm * square)
    }

    /// Lets the load follow process `pid`, or nobody: the board idles then.
    pub fn follow(&self, pid: Option<u32>) {
        self.lock().followed = pid;
    }

    /// The process that the load follows.
    pub(super) fn followed(&self) -> Option<u32> {
        self.lock().followed
    }

    /// Lets the cores be used by `share` (0 to 1) from now on.
    pub fn set_utilisation(&self, share: f64) {
        let mut state = self.lock();
        // Read inside the lock: whoever reads a register takes the lock later,
        // at a later time, and sees this step.
        let now = self.since_origin(self.0.clock.now());
        for RailState { rail, waveform } in &mut state.rails {
            if let Waveform::Steps(steps) = waveform {
                steps.append(now, rail.current_for(rail.power_at(share.clamp(0.0, 1.0))));
            }
        }
    }

    /// Starts the thread that lets the load follow the process.
    ///
    /// # Errors
    /// The kernel's error where no thread can be started.
    pub fn start_load_meter(&self) -> std::io::Result<LoadMeter> {
        LoadMeter::start(self.clone())
    }

    /// Lets `fault` happen.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// The model of the load, in words and numbers, for the record.
    #[must_use]
    pub fn load_model(&self) -> String {
        let mut text = String::from(
            "simulated load: u = CPU time of the runner over the last 10 ms / (10 ms x cores), \
             taken each 1 ms and held; rail power P = idle + span * u, V = V0 - R * I",
        );
        for rail in self.rails() {
            let SimRail { name, idle_w, span_w, open_v, source_ohm, .. } = rail;
            text.push_str(&format!(
                "; {name}: idle {idle_w} W, span {span_w} W, V0 {open_v} V, R {source_ohm} ohm"
            ));
        }
        text
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// The fault of a transaction that starts at `now`; what changes the chip
    /// takes effect and is forgotten.
    pub(super) fn fault_at(&self, now: BoardTime) -> Option<FaultKind> {
        let mut state = self.lock();
        if state.faults.is_empty() {
            return None;
        }
        let State { chip, faults, .. } = &mut *state;
        faults.retain(|fault| {
            match fault.kind {
                FaultKind::Reset if fault.from <= now => chip.reset(fault.from),
                FaultKind::PowerLost if fault.to <= now => chip.reset(fault.to),
                FaultKind::Set { register, value } if fault.from <= now => {
                    let [high, low] = value.to_be_bytes();
                    chip.write(&[register, high, low], fault.from);
                }
                _ => return fault.to > now,
            }
            false
        });
        let is_active = |fault: &&Fault| match fault.kind {
            FaultKind::Reset | FaultKind::Set { .. } => false,
            _ => fault.from <= now,
        };
        faults.iter().find(is_active).map(|fault| fault.kind)
    }

    pub(super) fn with_chip<T>(&self, act: impl FnOnce(&mut SimChip, &[RailState]) -> T) -> T {
        let mut state = self.lock();
        let State { chip, rails, .. } = &mut *state;
        act(chip, rails)
    }

    fn since_origin(&self, at: BoardTime) -> f64 {
        let since: Nanos = at - self.0.origin;
        since.as_seconds().0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A holder that panicked left whole steps behind: each is one push.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
