//! The seam between chips and wires: one combined I²C transaction.
//!
//! Owns the trait and its message and error types. The unit is the combined
//! transaction, because that is what the kernel's adapter lock covers and what
//! a chip sees: pointer write, repeated start, read cannot be split.

pub mod linux;
pub mod sim;

use thiserror::Error;

/// Most messages in one combined transaction: I2C_RDWR_IOCTL_MAX_MSGS of the
/// kernel's `i2c-dev.h`.
pub const MESSAGES_MAX: usize = 42;

/// A 7-bit I²C address that is not reserved (0x08 to 0x77).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address7(u8);

impl Address7 {
    /// The lowest address that is not reserved.
    pub const LOWEST: Self = Self(0x08);

    /// Takes an address from 0x08 to 0x77; the rest are reserved by the I²C
    /// specification (UM10204 §3.1.12).
    ///
    /// # Errors
    /// [`BusError::ReservedAddress`] for every other value.
    pub const fn new(address: u8) -> Result<Self, BusError> {
        if address >= 0x08 && address <= 0x77 {
            Ok(Self(address))
        } else {
            Err(BusError::ReservedAddress { address })
        }
    }

    /// The address as the number that `i2cdetect` shows.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One message of a combined transaction.
#[derive(Debug)]
pub enum Message<'a> {
    /// Bytes to send: a register pointer, or a pointer and a value.
    Write(&'a [u8]),
    /// Bytes to receive.
    Read(&'a mut [u8]),
}

/// Why a transaction did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BusError {
    /// Nobody acknowledged the address, or a byte (ENXIO, EREMOTEIO).
    #[error("no answer from {address:#04x} (not acknowledged)")]
    NoAnswer {
        /// The 7-bit address that was called.
        address: u8,
    },
    /// The bus itself failed: timeout, arbitration lost, stuck line.
    #[error("I²C transfer with {address:#04x} failed, errno {errno}")]
    Failed {
        /// The 7-bit address that was called.
        address: u8,
        /// The kernel's error number.
        errno: i32,
    },
    /// The address is one that I²C reserves.
    #[error("{address:#04x} is not a usable I²C address (0x08 to 0x77)")]
    ReservedAddress {
        /// What was given.
        address: u8,
    },
    /// More messages than the kernel takes at once.
    #[error("{count} messages in one transaction, the kernel takes {MESSAGES_MAX}")]
    TooManyMessages {
        /// How many were given.
        count: usize,
    },
}

/// A bus that performs combined transactions.
pub trait I2cBus: Send {
    /// Performs `messages` with `address` as one transaction: repeated starts
    /// between them, one stop at the end. Returns when the stop is on the wire.
    ///
    /// # Errors
    /// [`BusError::NoAnswer`] where the address or a byte is not acknowledged,
    /// [`BusError::Failed`] with the errno otherwise.
    fn transfer(&mut self, address: Address7, messages: &mut [Message<'_>])
    -> Result<(), BusError>;
}
