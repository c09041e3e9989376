//! Where in a sweep's transaction each register stands, bit by bit.
//!
//! Owns the count of bits and the moments of latching, for the schedule and the
//! record. Source: UM10204 §3.1: a register is start, address, pointer, repeated
//! start, address, and its bytes, each byte with its acknowledge.

use super::{CODES_MAX, Chip, Flag, Ownership, bits_ns};
use crate::power::pace::{PaceTiming, TransactionTiming};

/// Bit times from one register of two bytes to the next in a combined transaction.
pub const REGISTER_BITS: u32 = 47;
/// Of these, the bits that a register takes beside its bytes, and a byte's.
const POINTED_READ_BITS: u32 = 29;
const BYTE_BITS: u32 = 9;
/// Of a register's, the bits until the chip acknowledges the address of the read
/// and latches the register.
const LATCH_BITS: u32 = 29;
/// The one stop at the end.
const STOP_BITS: u32 = 1;

impl Chip {
    /// How many registers a sweep reads.
    fn registers(&self, flag: Flag) -> u32 {
        let slots = u32::try_from(self.channels().len()).unwrap_or(0);
        if flag == Flag::Left && self.is_in_turn() {
            return slots + 1;
        }
        let columns = 2 * slots;
        let beside = match (flag, self.clearing_register()) {
            (Flag::Left, _) => 0,
            // The INA219's flag comes with the bus voltage, and is cleared by a
            // register more; every other's is a register of its own.
            (Flag::Read, Some(_) | None) => 1,
        };
        columns + beside
    }

    /// Place of a column's register in the transaction.
    fn place(&self, column: u32, flag: Flag) -> u32 {
        match (self, flag) {
            (Self::Ina3221(chip), Flag::Left) if chip.is_in_turn() => match column % 2 {
                0 => column / 2,
                _ => u32::try_from(chip.slots()).unwrap_or(0),
            },
            (_, Flag::Left) => column,
            (Self::Single(chip), Flag::Read) => chip.place(column),
            // The flag stands in the middle: registers after it come one later.
            (Self::Ina3221(_), Flag::Read) if column >= self.registers(flag) / 2 => column + 1,
            (Self::Ina3221(_), Flag::Read) => column,
        }
    }

    fn bytes_at(&self, place: u32, flag: Flag) -> u32 {
        match self {
            Self::Ina3221(_) => 2,
            Self::Single(chip) => chip.bytes_of(place, flag),
        }
    }

    /// Bits from the start of the transaction to that of the register at `place`.
    fn bits_before(&self, place: u32, flag: Flag) -> u32 {
        (0..place).map(|place| POINTED_READ_BITS + BYTE_BITS * self.bytes_at(place, flag)).sum()
    }

    /// Bit times of a sweep's transaction: 29 a register and 9 for each of its
    /// bytes, and the stop.
    #[must_use]
    pub fn transaction_bits(&self, flag: Flag) -> u32 {
        self.bits_before(self.registers(flag), flag) + STOP_BITS
    }

    /// Bits from the latch of a column's register to the end of the stop.
    pub(super) fn latch_bits_before_end(&self, column: u32, flag: Flag) -> u32 {
        let before = self.bits_before(self.place(column, flag), flag) + LATCH_BITS;
        self.transaction_bits(flag).saturating_sub(before)
    }

    /// What the schedule needs to know of the chip on a bus of `clock_hz`.
    #[must_use]
    pub fn pace_timing(&self, clock_hz: u32) -> PaceTiming {
        let columns = 2 * self.channels().len();
        let cycle_ns = f64::from(self.cycle_ns());
        let mut updates = [1.0; CODES_MAX];
        for (column, update) in updates.iter_mut().enumerate().take(columns) {
            let timing = self.timing(column / 2, Flag::Left, clock_hz);
            let ended_ns = if column.is_multiple_of(2) {
                timing.shunt_start_ns + timing.shunt_conversion_ns
            } else {
                timing.bus_start_ns + timing.bus_conversion_ns
            };
            *update = f64::from(ended_ns) / cycle_ns;
        }
        let alone = |bits: u32| TransactionTiming {
            length_ns: f64::from(bits_ns(bits, clock_hz)),
            latches: [0.0; CODES_MAX],
            flag: f64::from(LATCH_BITS) / f64::from(bits),
            clear: f64::from(LATCH_BITS) / f64::from(bits),
        };
        PaceTiming {
            cycle_ns,
            columns,
            updates,
            plain: self.transaction_timing(Flag::Left, clock_hz),
            flagged: self.transaction_timing(Flag::Read, clock_hz),
            poll: alone(REGISTER_BITS + STOP_BITS),
            clear: self.clearing_register().map(|_| alone(REGISTER_BITS + STOP_BITS)),
            flag_is_ours: self.ownership() == Ownership::Ours,
        }
    }

    fn transaction_timing(&self, flag: Flag, clock_hz: u32) -> TransactionTiming {
        let bits = self.transaction_bits(flag);
        let part =
            |place: u32| f64::from(self.bits_before(place, flag) + LATCH_BITS) / f64::from(bits);
        let mut latches = [0.0; CODES_MAX];
        let columns = 2 * self.channels().len();
        for (latch, column) in latches.iter_mut().take(columns).zip(0..) {
            *latch = part(self.place(column, flag));
        }
        // The flag and what clears it: the middle register, or of the INA219
        // the second and the third.
        let (read, clear) = match self.clearing_register() {
            Some(_) => (self.place(1, flag), self.registers(flag).saturating_sub(1)),
            None => (self.registers(flag) / 2, self.registers(flag) / 2),
        };
        TransactionTiming {
            length_ns: f64::from(bits_ns(bits, clock_hz)),
            latches,
            flag: part(read),
            clear: part(clear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::bus::Address7;
    use crate::power::chip::{ChipSetup, Profile};
    use wattline_protocol::record::ChipKind;

    fn chip(kind: ChipKind) -> Chip {
        let address = Address7::new(0x40).unwrap();
        let setup = ChipSetup { address, profile: Profile::Fast, ownership: Ownership::Ours };
        Chip::new(kind, setup, &[1, 2, 3]).unwrap()
    }

    #[test]
    fn the_last_register_is_latched_19_bits_before_the_end() {
        let chip_3221 = chip(ChipKind::Ina3221);
        // Two bytes with their acknowledges, and the stop.
        for flag in [Flag::Read, Flag::Left] {
            assert_eq!(chip_3221.latch_bits_before_end(5, flag), 19);
        }
        // The flag in the middle: 160 of 330 bits are left.
        let timing = chip_3221.pace_timing(400_000);
        assert!((timing.flagged.flag - 170.0 / 330.0).abs() < 1e-12);
        // 29 + 27 bits for each value of three bytes, 29 + 18 for the flag.
        let wide = chip(ChipKind::Ina228);
        let bits = [Flag::Read, Flag::Left].map(|flag| wide.transaction_bits(flag));
        assert_eq!(bits, [160, 113]);
        assert_eq!(wide.latch_bits_before_end(1, Flag::Read), 28);
    }

    #[test]
    fn registers_are_updated_when_their_conversions_end() {
        let timing = chip(ChipKind::Ina3221).pace_timing(400_000);
        let sixths: Vec<f64> = timing.updates[..6].iter().map(|part| 6.0 * part).collect();
        assert_eq!(sixths, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (flag, clear) = {
            let timing = chip(ChipKind::Ina219).pace_timing(400_000);
            (timing.flagged.flag, timing.flagged.clear)
        };
        assert!((flag - 76.0 / 142.0).abs() < 1e-12 && (clear - 123.0 / 142.0).abs() < 1e-12);
    }
}
