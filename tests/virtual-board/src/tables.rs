//! What a run exported, and the same values on the wire.
//!
//! Owns which register holds which rail's codes.

use std::path::Path;

use wattline_protocol::units::BoardTime;
use wattline_tests::Table;

use crate::log::Transfer;
use crate::rails::Rail;
use crate::wire::INA3221_AT;

/// Tables of one run.
#[derive(Debug)]
pub struct Tables {
    /// `samples.csv`.
    pub samples: Table,
    /// `windows.csv`.
    pub windows: Table,
}

impl Tables {
    /// Reads what `export --to csv` wrote into `folder`.
    ///
    /// # Panics
    /// Where a table is not there.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let table = |name: &str| Table::read(&folder.join(name));
        Self { samples: table("samples.csv"), windows: table("windows.csv") }
    }

    /// A rail's new values, in their order: an emulated bus is slower than a chip, so
    /// that many a sweep comes after a conversion that none read.
    ///
    /// # Panics
    /// Where a good sample has no value.
    #[must_use]
    pub fn good(&self, rail: &str) -> Vec<Sample> {
        let column = |name| self.samples.texts(name);
        let (names, status, times) = (column("rail"), column("status"), column("time_ns"));
        let (shunt, bus) = (column("shunt_code"), column("bus_code"));
        let good = (0..names.len()).filter(|&row| names[row] == rail && is_new(status[row]));
        good.map(|row| {
            let codes = (shunt[row].parse().unwrap(), bus[row].parse().unwrap());
            Sample { at: BoardTime(times[row].parse().unwrap()), codes }
        })
        .collect()
    }

    /// How many samples of a rail have this status.
    #[must_use]
    pub fn count(&self, rail: &str, status: &str) -> usize {
        let rows = self.samples.texts("rail").into_iter().zip(self.samples.texts("status"));
        rows.filter(|row| *row == (rail, status)).count()
    }

    /// How many good samples of a rail come after its last failed one.
    #[must_use]
    pub fn count_behind_last_failure(&self, rail: &str) -> usize {
        let rows = self.samples.texts("rail").into_iter().zip(self.samples.texts("status"));
        let of_rail: Vec<&str> = rows.filter(|row| row.0 == rail).map(|row| row.1).collect();
        let behind = of_rail.iter().rev().take_while(|status| !matches!(**status, "nack" | "bus"));
        behind.filter(|status| is_new(status)).count()
    }
}

fn is_new(status: &str) -> bool {
    matches!(status, "ok" | "skipped")
}

/// Codes of a rail in a run's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Centre of the shunt's conversion, on the board's clock.
    pub at: BoardTime,
    /// Shunt and bus.
    pub codes: (i32, i32),
}

/// A shunt's code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// End of its transfer, on this machine's clock.
    pub at: BoardTime,
    /// The shunt's code.
    pub shunt: i32,
    /// The bus voltage's code as last read before it, and as read next: a sweep reads
    /// the shunt first, and on a slow bus the voltages in turn.
    pub bus: [Option<i32>; 2],
}

impl Sweep {
    fn has(&self, sample: &Sample) -> bool {
        let (shunt, bus) = sample.codes;
        self.shunt == shunt && self.bus.contains(&Some(bus))
    }
}

/// A rail's sweeps on the wire, also those that came in several transfers: the codes
/// of an INA3221 have three reserved bits below (SBOS576), those of an INA226 none
/// (SBOS547).
#[must_use]
pub fn sweeps(log: &[Transfer], rail: &Rail) -> Vec<Sweep> {
    let (shunt, bus) = (rail.channel * 2 - 1, rail.channel * 2);
    let shift = if rail.address == INA3221_AT { 3 } else { 0 };
    let of_chip = log.iter().filter(|transfer| transfer.address == rail.address);
    let mut found: Vec<Sweep> = Vec::new();
    // How many sweeps have what bus was read next, and the last one.
    let (mut done, mut last) = (0, None);
    for transfer in of_chip {
        for (register, value) in transfer.registers() {
            let code = i32::from(value.cast_signed() >> shift);
            if register == shunt {
                found.push(Sweep { at: transfer.ended, shunt: code, bus: [last, None] });
            } else if register == bus {
                found[done..].iter_mut().for_each(|sweep| sweep.bus[1] = Some(code));
                (done, last) = (found.len(), Some(code));
            }
        }
    }
    found
}

/// Each sample with its sweep on the wire, in the same order and none twice; `Err`
/// with the first sample that has none.
///
/// # Errors
/// The sample that no sweep behind those of the samples before it equals.
pub fn matched(samples: &[Sample], sweeps: &[Sweep]) -> Result<Vec<(Sample, Sweep)>, Sample> {
    let mut left = sweeps.iter();
    let mut pair = |sample: &Sample| {
        let sweep = left.find(|sweep| sweep.has(sample));
        sweep.map(|sweep| (*sample, *sweep)).ok_or(*sample)
    };
    samples.iter().map(&mut pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Part;
    use crate::rails::RAILS;
    use crate::wire::INA226_AT;

    fn sample(at: u64, shunt: i32) -> Sample {
        Sample { at: BoardTime(at), codes: (shunt, 9_600) }
    }

    fn swept(at: u64, shunt: i32) -> Sweep {
        Sweep { at: BoardTime(at), shunt, bus: [None, Some(9_600)] }
    }

    #[test]
    fn a_sample_that_was_not_on_the_wire_is_found_out() {
        let wire = [swept(1, 5), swept(2, 6), swept(3, 5), swept(4, 7)];
        let read = [sample(101, 5), sample(103, 5), sample(104, 7)];
        let pairs = matched(&read, &wire).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.1.at.0).collect::<Vec<_>>(), [1, 3, 4]);
        // One invented, one given twice, two in the wrong order, one of another voltage.
        for wrong in [
            [sample(1, 8), sample(2, 7)],
            [sample(1, 7), sample(2, 7)],
            [sample(1, 7), sample(2, 6)],
            [sample(1, 5), Sample { at: BoardTime(2), codes: (6, 9_601) }],
        ] {
            assert!(matched(&wrong, &wire).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_sweep_has_the_voltage_before_it_and_the_one_behind() {
        let read = |at: u64, registers: &[(u8, u8)]| Transfer {
            begun: BoardTime(at),
            ended: BoardTime(at),
            address: INA226_AT,
            is_ok: true,
            parts: registers
                .iter()
                .flat_map(|&(register, value)| {
                    [Part::Write(vec![register]), Part::Read(vec![0, value])]
                })
                .collect(),
        };
        // Two sweeps of which the first came in two transfers; the second has no voltage.
        let log = [read(1, &[(1, 10), (6, 0)]), read(2, &[(2, 20)]), read(3, &[(1, 11)])];
        let of = |at, shunt, bus| Sweep { at: BoardTime(at), shunt, bus };
        let expected = [of(1, 10, [None, Some(20)]), of(3, 11, [Some(20), None])];
        assert_eq!(sweeps(&log, &RAILS[0]), expected);
    }
}
