//! A simulated chip: pointer, registers, timeline, averaging, ready flag.
//!
//! Owns what all families share; a family's registers, reset values, masks and
//! ready flag are its own file ([`super::ina219`], [`super::ina226`],
//! [`super::ina228`], [`super::ina3221`]). Conversions
//! run freely from the end of a configuration write; each register shows the
//! mean of the current over its own last finished window. A value is a pure
//! function of the conversion's number, so that only what is read is computed.
//! Assumed where the datasheets are silent: results latch at the acknowledge
//! of the read's address; the INA3221's averaging filter starts with its first
//! sample, and its ready flag rises every cycle, averaged or not.
//! Source: TI SBOS448, SBOS547, SBOS576, SLYS021 ("Register Maps").

use wattline_protocol::record::ChipKind;
use wattline_protocol::units::BoardTime;

use super::board::SimRail;
use super::errors::ChipErrors;
use super::{Waveform, ina219, ina226, ina228, ina3221, normal};

/// Bit 15 of every family's register 0x00: back to the state after power-on.
const RESET: u16 = 0x8000;
/// CONFIG of every family.
const CONFIG: u8 = 0x00;
/// Weight below which an old sample no longer changes a 13-bit result:
/// (1 − 1/AVG)^(16·AVG) < 2e-7.
const FILTER_MEMORY: u64 = 16;
/// Registers from 0x00 on that a chip of any kind keeps.
pub(super) const REGISTERS: usize = 0x12;
/// Conversions of a cycle: three channels' shunt and bus.
const CONVERSIONS: usize = 6;

/// The registers that are written, from 0x00 on.
pub(super) type Registers = [u16; REGISTERS];

/// What a register converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Shunt,
    Bus,
    /// The die's temperature: takes its time and is not modelled.
    Temperature,
}

/// One conversion as a family's configuration asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conversion {
    pub(super) register: u8,
    pub(super) channel: usize,
    pub(super) quantity: Quantity,
    /// Nominal length.
    pub(super) length_ns: u32,
}

/// How a family averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Averaging {
    /// The mean of so many passes, loaded at once.
    Block(u64),
    /// Each pass moves the result by one part of its distance.
    Exponential(u64),
}

/// What a configuration lets the chip do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cycle {
    pub(super) conversions: [Option<Conversion>; CONVERSIONS],
    pub(super) averaging: Averaging,
}

/// A family's step and range of one quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Converter {
    /// Volts of one code.
    pub(super) lsb_v: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
    /// Place of the code's bit 0 in the register.
    pub(super) shift: u32,
}

/// A ready flag: where it shows, and which read clears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) register: u8,
    pub(super) bit: u16,
    pub(super) cleared_by: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ina219,
    Ina226,
    Ina228,
    Ina3221,
}

impl Family {
    const fn of(kind: ChipKind) -> Self {
        match kind {
            ChipKind::Ina219 | ChipKind::Ina220 => Self::Ina219,
            ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => Self::Ina228,
            ChipKind::Ina3221 => Self::Ina3221,
            _ => Self::Ina226,
        }
    }

    /// The register whose write starts the conversions anew.
    const fn timing_register(self) -> u8 {
        match self {
            Self::Ina219 | Self::Ina226 | Self::Ina3221 => CONFIG,
            Self::Ina228 => ina228::TIMING,
        }
    }

    const fn flag(self) -> Flag {
        match self {
            Self::Ina219 => ina219::FLAG,
            Self::Ina226 => ina226::FLAG,
            Self::Ina228 => ina228::FLAG,
            Self::Ina3221 => ina3221::FLAG,
        }
    }
}

/// One conversion in the chip's cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    register: u8,
    channel: usize,
    quantity: Quantity,
    start_ns: f64,
    length_ns: f64,
}

/// Which conversion a read of a register returned: the truth that a sampler's
/// flags are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversionRead {
    /// Start of the timeline it belongs to.
    pub timeline: BoardTime,
    /// Its number there; 0 where none had ended.
    pub finished: u64,
}

/// State of the INA3221's averaging filter of one register.
#[derive(Debug, Clone, Copy, Default)]
struct Filter {
    /// Conversions taken in.
    count: u64,
    code: f64,
}

/// A rail with the current through it.
#[derive(Debug)]
pub(super) struct RailState {
    pub(super) rail: SimRail,
    pub(super) waveform: Waveform,
}

/// The chip.
#[derive(Debug)]
pub struct SimChip {
    kind: ChipKind,
    errors: ChipErrors,
    origin: BoardTime,
    registers: [u16; REGISTERS],
    pointer: u8,
    /// Start of the first cycle since the last configuration.
    started: BoardTime,
    slots: [Option<Slot>; CONVERSIONS],
    /// What each slot's register gave when it was last read.
    reads: [Option<ConversionRead>; CONVERSIONS],
    /// All channels once, without averaging, in ns.
    pass_ns: f64,
    averaging: Averaging,
    /// Cycles that had ended when the ready flag was last cleared.
    cleared: u64,
    filters: [Filter; CONVERSIONS],
}

impl SimChip {
    pub(super) fn new(kind: ChipKind, errors: ChipErrors, origin: BoardTime) -> Self {
        let mut chip = Self {
            kind,
            errors,
            origin,
            registers: [0; REGISTERS],
            pointer: 0,
            started: origin,
            slots: [None; CONVERSIONS],
            reads: [None; CONVERSIONS],
            pass_ns: f64::INFINITY,
            averaging: Averaging::Block(1),
            cleared: 0,
            filters: [Filter::default(); CONVERSIONS],
        };
        chip.reset(origin);
        chip
    }

    /// Back to the state after power-on.
    pub(super) fn reset(&mut self, at: BoardTime) {
        self.registers = [0; REGISTERS];
        let values = match self.family() {
            Family::Ina219 => ina219::RESET_VALUES,
            Family::Ina226 => ina226::reset_values(self.kind),
            Family::Ina228 => ina228::RESET_VALUES,
            Family::Ina3221 => ina3221::RESET_VALUES,
        };
        for &(register, value) in values {
            self.registers[usize::from(register)] = value;
        }
        self.restart(at);
    }

    const fn family(&self) -> Family {
        Family::of(self.kind)
    }

    /// Takes a written message: the pointer, and a value where there is one.
    pub(super) fn write(&mut self, bytes: &[u8], at: BoardTime) {
        if let Some(&pointer) = bytes.first() {
            self.pointer = pointer;
        }
        if let &[register, high, low] = bytes {
            self.write_register(register, u16::from_be_bytes([high, low]), at);
        }
    }

    fn write_register(&mut self, register: u8, value: u16, at: BoardTime) {
        if register == CONFIG && value & RESET != 0 {
            self.reset(at);
            return;
        }
        let mask = match self.family() {
            Family::Ina219 => ina219::write_mask(register),
            Family::Ina226 => ina226::write_mask(register),
            Family::Ina228 => ina228::write_mask(register),
            Family::Ina3221 => ina3221::write_mask(register),
        };
        if let Some(kept) = self.registers.get_mut(usize::from(register)) {
            *kept = (*kept & !mask) | (value & mask);
        }
        if register == self.family().timing_register() {
            self.restart(at);
        }
    }

    /// Fills `bytes` with the register under the pointer as it was at `at`;
    /// bytes after its last read as ones (nothing drives the line).
    pub(super) fn read(&mut self, bytes: &mut [u8], at: BoardTime, rails: &[RailState]) {
        let value = self.read_register(self.pointer, at, rails);
        let width = match self.family() {
            Family::Ina228 => ina228::bytes(self.kind, self.pointer),
            Family::Ina219 | Family::Ina226 | Family::Ina3221 => 2,
        };
        let driven = value.to_be_bytes().into_iter().skip(4 - width);
        for (byte, level) in bytes.iter_mut().zip(driven.chain(core::iter::repeat(0xff))) {
            *byte = level;
        }
    }

    /// The pointer, moved by somebody else on the bus.
    pub(super) const fn point_at(&mut self, register: u8) {
        self.pointer = register;
    }

    /// What the slots' registers gave when they were last read.
    pub(super) const fn reads(&self) -> [Option<ConversionRead>; CONVERSIONS] {
        self.reads
    }

    fn read_register(&mut self, register: u8, at: BoardTime, rails: &[RailState]) -> u32 {
        let id = match self.family() {
            Family::Ina219 => None,
            Family::Ina226 => ina226::id(self.kind, register),
            Family::Ina228 => ina228::id(self.kind, register),
            Family::Ina3221 => ina3221::id(register),
        };
        if let Some(id) = id {
            return u32::from(id);
        }
        let mut value = match self.slot_of(register) {
            Some((index, slot)) => self.result(index, slot, at, rails),
            None => self.derived(register, at, rails),
        };
        let Flag { register: shows, bit, cleared_by } = self.family().flag();
        let ended = self.cycles_ended(at);
        if register == shows {
            value &= !u32::from(bit);
            if ended > self.cleared {
                value |= u32::from(bit);
            }
        }
        if register == cleared_by {
            self.cleared = ended;
        }
        value
    }

    /// Power and current where a calibration is set; every other register as
    /// it was written.
    fn derived(&mut self, register: u8, at: BoardTime, rails: &[RailState]) -> u32 {
        let wanted = match self.family() {
            Family::Ina219 | Family::Ina226 => register == 3 || register == 4,
            Family::Ina228 | Family::Ina3221 => false,
        };
        if !wanted {
            return u32::from(self.register(register));
        }
        let mut value = |register| {
            let slot = self.slot_of(register);
            slot.map_or(0, |(index, slot)| self.result(index, slot, at, rails))
        };
        let (shunt, bus) = (value(1), value(2));
        let products = match self.family() {
            Family::Ina219 => ina219::products(shunt, bus, self.register(5)),
            _ => ina226::products(self.kind, shunt, bus, self.register(5)),
        };
        if register == 3 { products.power } else { products.current }
    }

    fn register(&self, register: u8) -> u16 {
        self.registers.get(usize::from(register)).copied().unwrap_or(0)
    }

    fn slot_of(&self, register: u8) -> Option<(usize, Slot)> {
        let used = self.slots.iter().enumerate();
        used.filter_map(|(index, slot)| slot.map(|slot| (index, slot)))
            .find(|(_, slot)| slot.register == register)
    }

    /// Begins a new timeline with the registers as they are.
    fn restart(&mut self, at: BoardTime) {
        let cycle = match self.family() {
            Family::Ina219 => ina219::cycle(&self.registers),
            Family::Ina226 => ina226::cycle(&self.registers),
            Family::Ina228 => ina228::cycle(&self.registers),
            Family::Ina3221 => ina3221::cycle(&self.registers),
        };
        self.started = at;
        self.cleared = 0;
        self.filters = [Filter::default(); CONVERSIONS];
        self.averaging = cycle.averaging;
        let stretch = 1.0 + self.errors.cycle_deviation;
        let mut start_ns = 0.0;
        self.slots = cycle.conversions.map(|conversion| {
            let Conversion { register, channel, quantity, length_ns } = conversion?;
            let length_ns = f64::from(length_ns) * stretch;
            let slot = Slot { register, channel, quantity, start_ns, length_ns };
            start_ns += length_ns;
            Some(slot)
        });
        self.pass_ns = if start_ns > 0.0 { start_ns } else { f64::INFINITY };
    }

    /// How many passes one result takes.
    const fn passes(&self) -> u64 {
        match self.averaging {
            Averaging::Block(count) => count,
            Averaging::Exponential(_) => 1,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of conversions and ns stay below 2^53")]
    fn cycle_ns(&self) -> f64 {
        self.pass_ns * self.passes() as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of conversions and ns stay below 2^53")]
    fn elapsed_ns(&self, at: BoardTime) -> f64 {
        (at - self.started).0 as f64
    }

    fn cycles_ended(&self, at: BoardTime) -> u64 {
        whole(self.elapsed_ns(at) / self.cycle_ns())
    }

    /// The register's value: 0 until its first conversion ends.
    fn result(&mut self, index: usize, slot: Slot, at: BoardTime, rails: &[RailState]) -> u32 {
        // The last pass's own conversion is what completes a result.
        let completes_ns = self.cycle_ns() - self.pass_ns + slot.start_ns + slot.length_ns;
        let since_first = self.elapsed_ns(at) - completes_ns;
        let finished = if since_first < 0.0 { 0 } else { whole(since_first / self.cycle_ns()) + 1 };
        self.reads[index] = Some(ConversionRead { timeline: self.started, finished });
        if finished == 0 {
            return 0;
        }
        let code = match self.averaging {
            Averaging::Block(1) | Averaging::Exponential(1) => {
                self.conversion(slot, finished - 1, rails)
            }
            Averaging::Exponential(average) => {
                self.filtered((index, slot), average, finished, rails)
            }
            Averaging::Block(average) => self.block(slot, average, finished - 1, rails),
        };
        self.encode(slot.quantity, code)
    }

    /// INA3221: each sample moves the result by 1/AVG of its distance.
    #[expect(clippy::cast_precision_loss, reason = "AVG is at most 1,024")]
    fn filtered(
        &mut self,
        (index, slot): (usize, Slot),
        average: u64,
        finished: u64,
        rails: &[RailState],
    ) -> f64 {
        let mut filter = self.filters[index];
        let oldest = finished.saturating_sub(FILTER_MEMORY * average);
        if filter.count < oldest {
            filter = Filter { count: oldest, code: self.conversion(slot, oldest, rails) };
        }
        while filter.count < finished {
            let sample = self.conversion(slot, filter.count, rails);
            if filter.count == 0 {
                filter.code = sample;
            } else {
                filter.code += (sample - filter.code) / average as f64;
            }
            filter.count += 1;
        }
        self.filters[index] = filter;
        filter.code
    }

    /// The mean of AVG conversions, loaded at once.
    #[expect(clippy::cast_precision_loss, reason = "AVG is at most 1,024")]
    fn block(&self, slot: Slot, average: u64, result: u64, rails: &[RailState]) -> f64 {
        let first = result * average;
        let sum: f64 =
            (first..first + average).map(|pass| self.conversion(slot, pass, rails)).sum();
        sum / average as f64
    }

    /// One conversion before rounding, in LSB: the window's mean with the
    /// channel's errors and noise.
    #[expect(clippy::cast_precision_loss, reason = "counts of conversions and ns stay below 2^53")]
    fn conversion(&self, slot: Slot, pass: u64, rails: &[RailState]) -> f64 {
        let Some(RailState { rail, waveform }) = rails.get(slot.channel) else {
            return 0.0;
        };
        let base_ns = (self.started - self.origin).0 as f64;
        let from_s = (base_ns + pass as f64 * self.pass_ns + slot.start_ns) * 1e-9;
        let current_a = waveform.mean(from_s, from_s + slot.length_ns * 1e-9);
        let errors = self.errors.channels.get(slot.channel).copied().unwrap_or_default();
        let (lsb, noise_lsb) = self.steps(slot.quantity);
        let volts = match slot.quantity {
            Quantity::Temperature => 0.0,
            Quantity::Shunt => {
                let across = current_a * rail.shunt_ohm * (1.0 + errors.shunt_resistance);
                across * (1.0 + errors.shunt_gain) + errors.shunt_offset_v
            }
            Quantity::Bus => {
                rail.voltage(current_a) * (1.0 + errors.bus_gain) + errors.bus_offset_v
            }
        };
        let noise = if noise_lsb > 0.0 {
            let key = self.errors.noise_seed ^ self.started.0 ^ (u64::from(slot.register) << 56);
            noise_lsb * normal(key.wrapping_add(pass.wrapping_mul(0x9e37_79b9)))
        } else {
            0.0
        };
        volts / lsb + noise
    }

    fn converter(&self, quantity: Quantity) -> Converter {
        match self.family() {
            Family::Ina219 => ina219::converter(&self.registers, quantity),
            Family::Ina226 => ina226::converter(quantity),
            Family::Ina228 => ina228::converter(self.kind, &self.registers, quantity),
            Family::Ina3221 => ina3221::converter(quantity),
        }
    }

    /// LSB in volts and noise in LSB.
    fn steps(&self, quantity: Quantity) -> (f64, f64) {
        let noise_lsb = match quantity {
            Quantity::Shunt => self.errors.shunt_noise_lsb,
            Quantity::Bus => self.errors.bus_noise_lsb,
            Quantity::Temperature => 0.0,
        };
        (self.converter(quantity).lsb_v, noise_lsb)
    }

    /// Rounds, limits to the converter's range, and places the bits.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to 20 bit before")]
    fn encode(&self, quantity: Quantity, code: f64) -> u32 {
        let Converter { lowest, highest, shift, .. } = self.converter(quantity);
        let placed = ((code.round().clamp(lowest, highest) as i32) << shift).cast_unsigned();
        let width = match self.family() {
            Family::Ina228 => ina228::value_bits(self.kind),
            Family::Ina219 | Family::Ina226 | Family::Ina3221 => 16,
        };
        placed & ((1 << width) - 1)
    }
}

/// The whole part of a count that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate at 0")]
const fn whole(count: f64) -> u64 {
    count as u64
}
