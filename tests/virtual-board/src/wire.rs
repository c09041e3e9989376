//! The wire: two of the agent's simulated chips on one bus.
//!
//! Owns which chip answers at which address, the currents through its rails and the
//! log of what was said. An INA3221 at 0x40 has the rails of the agent's simulated
//! board (5 mΩ), an INA226 at 0x41 the board's 12 V input (10 mΩ). The currents are
//! sines with a constant below them: their energy between any two times is known in
//! closed form. Whoever pulls the plug resets the chips, as on a board.

use std::io;
use std::path::Path;
use std::sync::Arc;

use wattline_agent::clock::{Clock, SystemClock};
use wattline_agent::power::bus::sim::board::{SHUNT_TOLERANCE, noise_lsb, rails_of};
use wattline_agent::power::bus::sim::{ChipErrors, Fault, FaultKind, Signs, SimBoard, Waveform};
use wattline_agent::power::bus::{I2cBus, Message};
use wattline_agent::power::chip::limits_of;
use wattline_protocol::record::ChipKind;
use wattline_protocol::units::{BoardTime, Joules, Nanos, Watts};

use crate::log::{Log, Part, Transfer};

/// Address of the INA3221.
pub const INA3221_AT: u8 = 0x40;
/// Address of the INA226.
pub const INA226_AT: u8 = 0x41;
/// Seed of both chips' errors and noise.
const SEED: u64 = 0x0b0a_4d00;
/// Utilisation around which each rail's load swings, and how far.
const MEAN_SHARE: f64 = 0.45;
const SWING_SHARE: f64 = 0.25;
/// Periods are prime to one another in hundredths of a second, so that no two
/// rails move together. The first three are the INA3221's.
const PERIODS_S: [f64; 3] = [2.03, 1.01, 3.07];
const INPUT_PERIOD_S: f64 = 2.51;

/// A chip at its address.
struct Chip {
    at: u8,
    board: SimBoard,
}

/// The bus.
pub struct Wire {
    chips: Vec<Chip>,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl Wire {
    /// A bus with both chips, driven by this machine's clock, that logs to `log`.
    ///
    /// # Errors
    /// The log's, where it cannot be made.
    pub fn new(log: &Path) -> io::Result<Self> {
        Self::with_clock(log, Arc::new(SystemClock))
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// The log's, where it cannot be made.
    pub fn with_clock(log: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let chip = |at, kind, periods: &[f64]| {
            let board = chip_of(kind, periods, Arc::clone(&clock));
            Chip { at, board }
        };
        let chips = vec![
            chip(INA3221_AT, ChipKind::Ina3221, &PERIODS_S),
            chip(INA226_AT, ChipKind::Ina226, &[INPUT_PERIOD_S]),
        ];
        Ok(Self { chips, clock, log: Log::create(log)? })
    }

    /// Performs one transfer and logs it; the bytes of reads are filled in. False
    /// where it was not acknowledged or failed.
    ///
    /// # Errors
    /// The log's, where it cannot be written: an answer that is not logged must not
    /// reach the guest.
    pub fn transfer(&mut self, address: u8, parts: &mut Vec<Part>) -> io::Result<bool> {
        let begun = self.clock.now();
        let chip = self.chips.iter().find(|chip| chip.at == address);
        let is_ok = chip.is_some_and(|chip| {
            let mut messages: Vec<Message<'_>> = parts
                .iter_mut()
                .map(|part| match part {
                    Part::Write(bytes) => Message::Write(bytes),
                    Part::Read(bytes) => Message::Read(bytes),
                })
                .collect();
            // Each simulated board has its own bus, with its chip at 0x40.
            chip.board.bus().transfer(chip.board.address(), &mut messages).is_ok()
        });
        let ended = self.clock.now();
        let transfer = Transfer { begun, ended, address, is_ok, parts: core::mem::take(parts) };
        let written = self.log.add(&transfer);
        *parts = transfer.parts;
        written.map(|()| is_ok)
    }

    /// What a control line is carried out on; `None` for an address without a chip.
    #[must_use]
    pub fn chip(&self, address: u8) -> Option<SimBoard> {
        self.chips.iter().find(|chip| chip.at == address).map(|chip| chip.board.clone())
    }

    /// The chips lose their supply and have it again.
    pub fn cycle_power(&self) {
        let from = self.clock.now();
        for chip in &self.chips {
            chip.board.inject(Fault { kind: FaultKind::Reset, from, to: from + Nanos(1) });
        }
    }
}

/// Lets `kind` happen at the chip from now on for `length`.
pub fn inject(chip: &SimBoard, kind: FaultKind, from: BoardTime, length: Nanos) {
    chip.inject(Fault { kind, from, to: from + length });
}

/// True energy of a rail of the chip, in joules.
#[must_use]
pub fn energy(chip: &SimBoard, rail: usize, from: BoardTime, to: BoardTime) -> Joules {
    chip.true_energy(rail, from, to)
}

fn chip_of(kind: ChipKind, periods: &[f64], clock: Arc<dyn Clock>) -> SimBoard {
    let (shunt_lsb, bus_lsb) = noise_lsb(kind);
    let limits = limits_of(kind, SHUNT_TOLERANCE);
    let errors = ChipErrors::drawn(&limits, SEED, Signs::Drawn).with_noise(shunt_lsb, bus_lsb);
    let currents = rails_of(kind).iter().zip(periods).map(|(rail, period_s)| {
        let Watts(mean_w) = rail.power_at(MEAN_SHARE);
        let swing_w = rail.span_w * SWING_SHARE;
        let mean_a = rail.current_for(Watts(mean_w));
        let amplitude_a = rail.current_for(Watts(mean_w + swing_w)) - mean_a;
        Waveform::Sine { mean_a, amplitude_a, frequency_hz: 1.0 / period_s, phase_rad: 0.0 }
    });
    SimBoard::scripted(kind, SEED, errors, currents.collect(), clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;
    use wattline_agent::clock::VirtualClock;

    fn bus() -> (tempfile::TempDir, Arc<VirtualClock>, Wire) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
        let wire = Wire::with_clock(&folder.path().join("log"), clock.clone()).unwrap();
        (folder, clock, wire)
    }

    fn read(wire: &mut Wire, address: u8, register: u8) -> Option<u16> {
        let mut parts = vec![Part::Write(vec![register]), Part::Read(vec![0; 2])];
        wire.transfer(address, &mut parts).unwrap().then(|| match &parts[1] {
            Part::Read(bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
            Part::Write(_) => panic!("a read became a write"),
        })
    }

    #[test]
    fn each_chip_answers_at_its_own_address_and_nobody_elsewhere() {
        let (folder, _, mut wire) = bus();
        assert_eq!(read(&mut wire, INA3221_AT, 0xff), Some(0x3220));
        assert_eq!(read(&mut wire, INA226_AT, 0xff), Some(0x2260));
        assert_eq!(read(&mut wire, 0x42, 0xff), None);
        let logged = log::read(&folder.path().join("log")).unwrap();
        let told: Vec<_> = logged.iter().map(|one| (one.address, one.registers())).collect();
        assert_eq!(
            told,
            [(0x40, vec![(0xff, 0x3220)]), (0x41, vec![(0xff, 0x2260)]), (0x42, vec![])]
        );
        assert!(!logged[2].is_ok);
    }

    #[test]
    fn what_a_chip_reads_is_the_current_whose_energy_is_known() {
        let (_folder, clock, mut wire) = bus();
        let from = clock.now();
        let (mut sum_w, mut count) = (0.0, 0);
        // Ten periods of the input, a reading each 5 ms.
        while clock.now() - from < Nanos(25_100_000_000) {
            clock.sleep_until(clock.now() + Nanos::from_millis(5));
            let shunt = read(&mut wire, INA226_AT, 1).unwrap();
            let bus = read(&mut wire, INA226_AT, 2).unwrap();
            // SBOS547: 2.5 µV and 1.25 mV; 10 mΩ.
            sum_w += f64::from(shunt) * 2.5e-6 / 0.01 * f64::from(bus) * 1.25e-3;
            count += 1;
        }
        let to = clock.now();
        let chip = wire.chip(INA226_AT).unwrap();
        let true_w = energy(&chip, 0, from, to).0 / (to - from).as_seconds().0;
        let mean_w = sum_w / f64::from(count);
        // Within the tolerance of the shunt and the chip's own error limits.
        assert!((mean_w / true_w - 1.0).abs() < 0.02, "{mean_w} W read, {true_w} W true");
    }

    #[test]
    fn a_power_cut_takes_a_chips_setting() {
        let (_folder, clock, mut wire) = bus();
        assert!(wire.transfer(INA226_AT, &mut vec![Part::Write(vec![0, 0x45, 0x27])]).unwrap());
        assert_eq!(read(&mut wire, INA226_AT, 0), Some(0x4527));
        wire.cycle_power();
        clock.sleep_until(clock.now() + Nanos::from_millis(1));
        assert_eq!(read(&mut wire, INA226_AT, 0), Some(0x4127));
    }
}
