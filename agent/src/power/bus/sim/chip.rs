//! A simulated INA3221 or INA226: registers, timeline, averaging, ready flag.
//!
//! Owns the pointer, the writable registers and the conversions. Conversions
//! run freely from the end of a configuration write; each register shows the
//! mean of the current over its own last finished window. A value is a pure
//! function of the conversion's number, so that only what is read is computed.
//! Assumed where the datasheets are silent: results latch at the acknowledge
//! of the read's address; the INA3221's averaging filter starts with its first
//! sample, and its ready flag rises every cycle, averaged or not.
//! Source: TI SBOS576, SBOS547 ("Register Maps", "Basic ADC Functions").

use wattline_protocol::record::ChipKind;
use wattline_protocol::units::BoardTime;

use super::board::SimRail;
use super::errors::ChipErrors;
use super::{Waveform, normal};
use crate::power::chip::{AVERAGES, CONFIG, TEXAS_INSTRUMENTS, ina226, ina3221};

/// Bit 15 of both configuration registers: back to the state after power-on.
const RESET: u16 = 0x8000;
/// Weight below which an old sample no longer changes a 13-bit result:
/// (1 − 1/AVG)^(16·AVG) < 2e-7.
const FILTER_MEMORY: u64 = 16;
/// Registers from 0x00 on that a chip of either kind keeps.
const REGISTERS: usize = 0x12;

/// What a register converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Shunt,
    Bus,
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
    slots: [Option<Slot>; 6],
    /// All channels once, without averaging, in ns.
    pass_ns: f64,
    average: u64,
    /// Cycles that had ended when the ready flag was last cleared.
    cleared: u64,
    filters: [Filter; 6],
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
            slots: [None; 6],
            pass_ns: f64::INFINITY,
            average: 1,
            cleared: 0,
            filters: [Filter::default(); 6],
        };
        chip.reset(origin);
        chip
    }

    /// Back to the state after power-on.
    pub(super) fn reset(&mut self, at: BoardTime) {
        self.registers = [0; REGISTERS];
        let config = match self.kind {
            ChipKind::Ina3221 => {
                for limit in 0x07..=0x0c {
                    self.registers[limit] = 0x7ff8;
                }
                self.registers[0x0e] = 0x7ffe;
                self.registers[0x0f] = 0x0002;
                self.registers[0x10] = 0x2710;
                self.registers[0x11] = 0x2328;
                ina3221::CONFIG_AT_RESET
            }
            _ => ina226::CONFIG_AT_RESET,
        };
        self.configure(config, at);
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
        if register == CONFIG {
            if value & RESET == 0 {
                self.configure(value, at);
            } else {
                self.reset(at);
            }
            return;
        }
        let mask = write_mask(self.kind, register);
        if let Some(kept) = self.registers.get_mut(usize::from(register)) {
            *kept = (*kept & !mask) | (value & mask);
        }
    }

    /// Fills `bytes` with the register under the pointer as it was at `at`;
    /// bytes after the second read as ones (nothing drives the line).
    pub(super) fn read(&mut self, bytes: &mut [u8], at: BoardTime, rails: &[RailState]) {
        let value = self.read_register(self.pointer, at, rails).to_be_bytes();
        let driven = value.iter().copied().chain(core::iter::repeat(0xff));
        for (byte, level) in bytes.iter_mut().zip(driven) {
            *byte = level;
        }
    }

    fn read_register(&mut self, register: u8, at: BoardTime, rails: &[RailState]) -> u16 {
        let (mask_enable, ready_bit) = match self.kind {
            ChipKind::Ina3221 => (ina3221::MASK_ENABLE, ina3221::CONVERSION_READY),
            _ => (ina226::MASK_ENABLE, ina226::CONVERSION_READY),
        };
        match register {
            0xfe => TEXAS_INSTRUMENTS,
            0xff => match self.kind {
                ChipKind::Ina3221 => ina3221::DIE_ID,
                _ => ina226::DIE_ID,
            },
            _ if register == mask_enable => {
                let kept = self.register(register) & !ready_bit;
                let ended = self.cycles_ended(at);
                let ready = ended > self.cleared;
                self.cleared = ended;
                if ready { kept | ready_bit } else { kept }
            }
            _ => match self.slot_of(register) {
                Some((index, slot)) => self.result(index, slot, at, rails),
                None => self.register(register),
            },
        }
    }

    fn register(&self, register: u8) -> u16 {
        self.registers.get(usize::from(register)).copied().unwrap_or(0)
    }

    fn slot_of(&self, register: u8) -> Option<(usize, Slot)> {
        let used = self.slots.iter().enumerate();
        used.filter_map(|(index, slot)| slot.map(|slot| (index, slot)))
            .find(|(_, slot)| slot.register == register)
    }

    /// Begins a new timeline with the configuration `value`.
    fn configure(&mut self, value: u16, at: BoardTime) {
        let value = match self.kind {
            ChipKind::Ina3221 => value & 0x7fff,
            _ => (value & 0x0fff) | 0x4000,
        };
        self.registers[usize::from(CONFIG)] = value;
        self.started = at;
        self.cleared = 0;
        self.filters = [Filter::default(); 6];
        self.average = u64::from(AVERAGES[usize::from((value >> 9) & 7)]);
        let stretch = 1.0 + self.errors.cycle_deviation;
        let (shunt_ns, bus_ns) = ina3221::conversion_ns(value);
        let (shunt_ns, bus_ns) = (f64::from(shunt_ns) * stretch, f64::from(bus_ns) * stretch);
        self.slots = [None; 6];
        let mut next = self.slots.iter_mut();
        let mut start_ns = 0.0;
        // MODE: bit 2 continuous, bit 1 bus, bit 0 shunt. Triggered and
        // power-down modes convert nothing: the product never uses them.
        let continuous = value & 4 != 0;
        for channel in 0..3_u8 {
            let enabled = match self.kind {
                ChipKind::Ina3221 => value & (0x4000 >> channel) != 0,
                _ => channel == 0,
            };
            for (quantity, bit, length_ns) in
                [(Quantity::Shunt, 1, shunt_ns), (Quantity::Bus, 2, bus_ns)]
            {
                if enabled && continuous && value & bit != 0 {
                    let register = 2 * channel + u8::try_from(bit).unwrap_or(1);
                    let channel = usize::from(channel);
                    if let Some(place) = next.next() {
                        *place = Some(Slot { register, channel, quantity, start_ns, length_ns });
                    }
                    start_ns += length_ns;
                }
            }
        }
        self.pass_ns = if start_ns > 0.0 { start_ns } else { f64::INFINITY };
    }

    /// How many passes one result takes: the INA226 averages blocks, the
    /// INA3221 filters pass by pass.
    fn passes(&self) -> u64 {
        match self.kind {
            ChipKind::Ina3221 => 1,
            _ => self.average,
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
    fn result(&mut self, index: usize, slot: Slot, at: BoardTime, rails: &[RailState]) -> u16 {
        // The last pass's own conversion is what completes a result.
        let completes_ns = self.cycle_ns() - self.pass_ns + slot.start_ns + slot.length_ns;
        let since_first = self.elapsed_ns(at) - completes_ns;
        if since_first < 0.0 {
            return 0;
        }
        let finished = whole(since_first / self.cycle_ns()) + 1;
        let code = match self.kind {
            ChipKind::Ina3221 if self.average > 1 => self.filtered(index, slot, finished, rails),
            ChipKind::Ina3221 => self.conversion(slot, finished - 1, rails),
            _ => self.block(slot, finished - 1, rails),
        };
        self.encode(slot.quantity, code)
    }

    /// INA3221: each sample moves the result by 1/AVG of its distance.
    #[expect(clippy::cast_precision_loss, reason = "AVG is at most 1,024")]
    fn filtered(&mut self, index: usize, slot: Slot, finished: u64, rails: &[RailState]) -> f64 {
        let mut filter = self.filters[index];
        let oldest = finished.saturating_sub(FILTER_MEMORY * self.average);
        if filter.count < oldest {
            filter = Filter { count: oldest, code: self.conversion(slot, oldest, rails) };
        }
        while filter.count < finished {
            let sample = self.conversion(slot, filter.count, rails);
            if filter.count == 0 {
                filter.code = sample;
            } else {
                filter.code += (sample - filter.code) / self.average as f64;
            }
            filter.count += 1;
        }
        self.filters[index] = filter;
        filter.code
    }

    /// INA226: the mean of AVG conversions, loaded at once.
    #[expect(clippy::cast_precision_loss, reason = "AVG is at most 1,024")]
    fn block(&self, slot: Slot, result: u64, rails: &[RailState]) -> f64 {
        let first = result * self.average;
        let sum: f64 =
            (first..first + self.average).map(|pass| self.conversion(slot, pass, rails)).sum();
        sum / self.average as f64
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

    /// LSB in volts and noise in LSB.
    const fn steps(&self, quantity: Quantity) -> (f64, f64) {
        match (self.kind, quantity) {
            (ChipKind::Ina3221, Quantity::Shunt) => {
                (ina3221::SHUNT_LSB_V, self.errors.shunt_noise_lsb)
            }
            (ChipKind::Ina3221, Quantity::Bus) => (ina3221::BUS_LSB_V, self.errors.bus_noise_lsb),
            (_, Quantity::Shunt) => (ina226::SHUNT_LSB_V, self.errors.shunt_noise_lsb),
            (_, Quantity::Bus) => (ina226::BUS_LSB_V, self.errors.bus_noise_lsb),
        }
    }

    /// Rounds, limits to the converter's range, and places the bits.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to 16 bit before")]
    fn encode(&self, quantity: Quantity, code: f64) -> u16 {
        let (lowest, highest, shift) = match (self.kind, quantity) {
            (ChipKind::Ina3221, _) => (-4_096.0, 4_095.0, 3),
            (_, Quantity::Shunt) => (-32_768.0, 32_767.0, 0),
            (_, Quantity::Bus) => (0.0, 32_767.0, 0),
        };
        ((code.round().clamp(lowest, highest) as i16) << shift).cast_unsigned()
    }
}

/// Bits of a register that a write changes.
const fn write_mask(kind: ChipKind, register: u8) -> u16 {
    match (kind, register) {
        (ChipKind::Ina3221, 0x07..=0x0c) => 0xfff8,
        (ChipKind::Ina3221, 0x0e) => 0xfffe,
        (ChipKind::Ina3221, 0x0f) => 0x7c00,
        (ChipKind::Ina3221, 0x10 | 0x11) => 0xfff8,
        (ChipKind::Ina226, 0x05) => 0x7fff,
        (ChipKind::Ina226, 0x06) => 0xfc03,
        (ChipKind::Ina226, 0x07) => 0xffff,
        _ => 0,
    }
}

/// The whole part of a count that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate at 0")]
const fn whole(count: f64) -> u64 {
    count as u64
}
