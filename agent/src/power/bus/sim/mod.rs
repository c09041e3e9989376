//! The simulated bus: chips by their registers, bit by bit in time.
//!
//! Owns [`SimBus`], which carries a transaction in the time its bits take and
//! lets each register latch at its own bit. The chip is in [`chip`], its errors
//! in [`errors`], the current it measures in [`waveform`], the board around it
//! in [`board`], the load that follows a process in [`load`]. Simulation
//! replaces the bus alone: drivers, sampler and all above run as on a board.

pub mod board;
pub mod chip;
pub mod errors;
mod ina219;
mod ina226;
mod ina228;
mod ina3221;
pub mod load;
pub mod waveform;

use wattline_protocol::units::{BoardTime, Nanos};

use super::{Address7, BusError, I2cBus, MESSAGES_MAX, Message};
pub use board::{Fault, FaultKind, SimBoard, SimParts};
pub use chip::ConversionRead;
pub use errors::{ChannelErrors, ChipErrors, Signs};
pub use load::LoadMeter;
pub use waveform::{Steps, Waveform};

/// Start condition, address byte and its acknowledge.
const ADDRESS_BITS: u64 = 10;
/// A byte and its acknowledge.
const BYTE_BITS: u64 = 9;
/// The stop condition.
const STOP_BITS: u64 = 1;
/// How long a stuck line holds the adapter before its driver gives up
/// (SMBus 3.1, T_TIMEOUT,MIN).
const STUCK_TIMEOUT: Nanos = Nanos::from_millis(25);
/// ETIMEDOUT of Linux.
const ETIMEDOUT: i32 = 110;
/// EAGAIN of Linux: lost arbitration (Documentation/i2c/fault-codes.rst).
const EAGAIN: i32 = 11;

/// One user of the simulated board's bus.
#[derive(Debug, Clone)]
pub struct SimBus {
    board: SimBoard,
}

impl SimBus {
    pub(super) const fn new(board: SimBoard) -> Self {
        Self { board }
    }

    fn after(&self, start: BoardTime, bits: u64) -> BoardTime {
        let ns = bits * 1_000_000_000 / u64::from(self.board.bus_clock_hz());
        start + Nanos(ns.cast_signed())
    }
}

impl I2cBus for SimBus {
    fn transfer(
        &mut self,
        address: Address7,
        messages: &mut [Message<'_>],
    ) -> Result<(), BusError> {
        if messages.len() > MESSAGES_MAX {
            return Err(BusError::TooManyMessages { count: messages.len() });
        }
        let begun = self.board.clock().now();
        let fault = self.board.fault_at(begun);
        // A stretched clock holds the first address's acknowledge.
        let start = match fault {
            Some(FaultKind::Stretch { by }) => begun + by,
            _ => begun,
        };
        if fault == Some(FaultKind::Stuck) {
            self.board.clock().sleep_until(begun + STUCK_TIMEOUT);
            return Err(BusError::Failed { address: address.get(), errno: ETIMEDOUT });
        }
        if fault == Some(FaultKind::ArbitrationLost) && mix(begun.0) & 1 == 0 {
            self.board.clock().sleep_until(self.after(start, ADDRESS_BITS));
            return Err(BusError::Failed { address: address.get(), errno: EAGAIN });
        }
        let is_silent = matches!(fault, Some(FaultKind::Nack | FaultKind::PowerLost));
        if is_silent || address != self.board.address() {
            self.board.clock().sleep_until(self.after(start, ADDRESS_BITS + STOP_BITS));
            return Err(BusError::NoAnswer { address: address.get() });
        }
        let bits: u64 = messages.iter().map(message_bits).sum();
        // Wait for the stop first: then every latch lies in the past, where
        // the load's waveform no longer changes.
        self.board.clock().sleep_until(self.after(start, bits + STOP_BITS));
        self.board.with_chip(|chip, rails| {
            if let Some(FaultKind::Rival { register }) = fault {
                chip.point_at(register);
            }
            let mut at = 0;
            for message in messages {
                match message {
                    Message::Write(bytes) => {
                        let end = self.after(start, at + message_bits(&Message::Write(bytes)));
                        chip.write(bytes, end);
                    }
                    Message::Read(bytes) => {
                        chip.read(bytes, self.after(start, at + ADDRESS_BITS), rails);
                    }
                }
                at += message_bits(message);
            }
        });
        Ok(())
    }
}

/// Bit times of one message, its start included.
fn message_bits(message: &Message<'_>) -> u64 {
    let bytes = match message {
        Message::Write(bytes) => bytes.len(),
        Message::Read(bytes) => bytes.len(),
    };
    ADDRESS_BITS + BYTE_BITS * bytes as u64
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [0, 1), a pure function of `key`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn uniform(key: u64) -> f64 {
    (mix(key) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Standard normal, a pure function of `key` (Box and Muller 1958).
pub(crate) fn normal(key: u64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(key)).ln()).sqrt();
    radius * (core::f64::consts::TAU * uniform(mix(key) ^ 0x5bd1_e995)).cos()
}
