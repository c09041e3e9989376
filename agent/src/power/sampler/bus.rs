//! The chips of one adapter, sampled by one thread.
//!
//! Owns whose turn it is and how much of the bus all of them take together: an
//! adapter carries one transaction at a time, so that two threads on it would only
//! wait for each other, and half of the bus is half of it for all its chips. Knows
//! no other adapter: each has a thread of its own.

use wattline_protocol::units::{BoardTime, Nanos};

use super::{SETTLING, SamplerCore};
use crate::power::pace::BusShare;

/// The chips of one adapter.
pub struct BusCore {
    chips: Vec<SamplerCore>,
    share: BusShare,
    /// Before it the bus is left to others.
    free: BoardTime,
}

impl BusCore {
    /// The thread's work for these chips, which are all on one adapter. Where
    /// they ask for more of the bus than there is, each is swept as much slower.
    #[must_use]
    pub fn new(mut chips: Vec<SamplerCore>) -> Self {
        let is_half = chips.iter().any(|core| core.share() == BusShare::Half);
        let demand: f64 = chips.iter().map(SamplerCore::demand).sum();
        if chips.len() > 1 {
            chips.iter_mut().for_each(|core| core.crowd(demand));
        }
        let share = if is_half { BusShare::Half } else { BusShare::Whole };
        Self { chips, share, free: BoardTime(0) }
    }

    /// The chips.
    #[must_use]
    pub fn chips(&self) -> &[SamplerCore] {
        &self.chips
    }

    /// Steps until the cycle of each chip is known, at most for a third of a
    /// second: what the chips say of their sweeps is theirs then.
    pub fn settle(&mut self) {
        let Some(begun) = self.chips.first().map(SamplerCore::now) else { return };
        let is_finding = |core: &SamplerCore| core.is_finding();
        while self.chips.iter().any(is_finding) && self.now() - begun < SETTLING {
            self.step();
        }
        self.chips.iter_mut().for_each(SamplerCore::settled);
    }

    fn now(&self) -> BoardTime {
        self.chips.first().map_or(BoardTime(0), SamplerCore::now)
    }

    /// One transaction of the chip whose deadline is first.
    pub(super) fn step(&mut self) {
        let Some(core) = self.chips.iter_mut().min_by_key(|core| core.deadline()) else { return };
        let (end, spent) = core.step_from(self.free);
        self.free = match self.share {
            BusShare::Whole => end,
            // As long as it was ours.
            BusShare::Half => end + spent.max(Nanos(0)),
        };
    }

    pub(super) fn finish(&mut self) {
        self.chips.iter_mut().for_each(SamplerCore::finish);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use wattline_protocol::record::ChipKind;

    use super::super::{SamplerParts, Stepped};
    use super::*;
    use crate::clock::{Clock, VirtualClock};
    use crate::power::bus::sim::board::BUS_NUMBER;
    use crate::power::bus::sim::{ChipErrors, SimBoard, SimBus, SimParts, Waveform};
    use crate::power::bus::{Address7, BusError, I2cBus, Message};
    use crate::power::chip::Profile;
    use crate::power::ring::{SweepConsumer, ring};

    /// A bus that adds up for how long it is taken.
    struct Metered(SimBus, Arc<VirtualClock>, Arc<AtomicI64>);

    impl I2cBus for Metered {
        fn transfer(
            &mut self,
            address: Address7,
            messages: &mut [Message<'_>],
        ) -> Result<(), BusError> {
            let begun = self.1.now();
            let done = self.0.transfer(address, messages);
            self.2.fetch_add((self.1.now() - begun).0, Ordering::Relaxed);
            done
        }
    }

    struct Bench {
        clock: Arc<VirtualClock>,
        taken: Arc<AtomicI64>,
        core: BusCore,
        rings: Vec<SweepConsumer>,
    }

    fn bench(kinds: &[ChipKind], bus_clock_hz: u32, share: BusShare) -> Bench {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)));
        let taken = Arc::new(AtomicI64::new(0));
        let mut rings = Vec::new();
        let mut chip = |(kind, lane): (&ChipKind, u8)| {
            let board = SimBoard::assembled(SimParts {
                kind: *kind,
                seed: u64::from(lane),
                errors: ChipErrors::default().with_cycle_deviation(0.003 * f64::from(lane)),
                waveforms: vec![Waveform::Constant { current_a: 1.0 }; 3],
                bus_clock_hz,
                clock: Arc::clone(&clock) as _,
            });
            let (producer, consumer) = ring(100_000);
            rings.push(consumer);
            let bus = Metered(board.bus(), Arc::clone(&clock), Arc::clone(&taken));
            SamplerCore::configured(SamplerParts {
                chip: board.driver(Profile::Fast),
                bus: Box::new(bus),
                bus_number: BUS_NUMBER,
                bus_clock_hz: Some(bus_clock_hz),
                share,
                clock: Arc::clone(&clock) as _,
                ring: producer,
                lane,
            })
            .unwrap()
        };
        let cores = kinds.iter().zip(0..).map(&mut chip).collect();
        Bench { clock, taken, core: BusCore::new(cores), rings }
    }

    impl Bench {
        fn run(&mut self, span: Nanos) {
            let end = self.clock.now() + span;
            while self.clock.now() < end {
                self.core.step();
            }
        }

        /// New values of each chip a second, and the part of the bus's time that
        /// all of them take.
        fn measured(&mut self) -> (Vec<f64>, f64) {
            self.core.settle();
            self.run(Nanos::from_secs(1));
            let before: Vec<u64> =
                self.core.chips().iter().map(|core| core.report().fresh).collect();
            self.taken.store(0, Ordering::Relaxed);
            let begun = self.clock.now();
            self.run(Nanos::from_secs(5));
            let seconds = (self.clock.now() - begun).as_seconds().0;
            let taken = Nanos(self.taken.load(Ordering::Relaxed)).as_seconds().0;
            let fresh = self.core.chips().iter().zip(before);
            let rates = fresh.map(|(core, before)| (core.report().fresh - before) as f64 / seconds);
            (rates.collect(), taken / seconds)
        }
    }

    #[test]
    fn half_of_the_bus_is_half_for_all_its_chips_and_all_they_read() {
        use ChipKind::{Ina219, Ina226, Ina3221};
        for kinds in [&[Ina3221][..], &[Ina219], &[Ina3221, Ina3221], &[Ina226, Ina219, Ina3221]] {
            for clock_hz in [100_000, 400_000] {
                let (rates, part) = bench(kinds, clock_hz, BusShare::Half).measured();
                assert!(part <= 0.505, "{kinds:?} at {clock_hz}: {part} of the bus");
                assert!(rates.iter().all(|rate| *rate > 20.0), "{kinds:?}: {rates:?}");
            }
        }
    }

    #[test]
    fn chips_of_one_slow_bus_are_swept_in_turn() {
        let mut bench = bench(&[ChipKind::Ina3221; 2], 100_000, BusShare::Whole);
        let (rates, part) = bench.measured();
        // 283 bits of 10 µs each: together as many sweeps as one chip alone.
        let sum: f64 = rates.iter().sum();
        assert!(part > 0.98 && sum > 0.97 * 353.0, "{rates:?}, {part}");
        assert!((rates[0] / rates[1] - 1.0).abs() < 0.05, "{rates:?}");
        // None is told as if it had skipped conversions that nobody could read.
        bench.rings.iter_mut().for_each(|ring| while ring.pop().is_some() {});
        bench.run(Nanos::from_secs(1));
        for ring in &mut bench.rings {
            let sweeps: Vec<u32> =
                std::iter::from_fn(|| ring.pop().map(|taken| taken.sweep.status)).collect();
            let ok = sweeps.iter().filter(|status| **status == 0).count();
            assert!(ok * 10 > sweeps.len() * 9, "{ok} of {}", sweeps.len());
        }
    }

    #[test]
    fn a_long_cycle_leaves_the_bus_to_the_other_chip() {
        // 400 kHz: the INA219 by itself 4,211, a bus-bound chip.
        let (rates, _) =
            bench(&[ChipKind::Ina226, ChipKind::Ina3221], 1_000_000, BusShare::Whole).measured();
        // 95 and 283 µs in cycles of 280 and 840: both fit, but for collisions.
        assert!(rates[0] > 0.6 * 3_571.0 && rates[1] > 0.6 * 1_190.0, "{rates:?}");
    }

    #[test]
    fn a_thread_of_two_chips_reports_each() {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let mut rings = Vec::new();
        let core = |lane| {
            let board = SimBoard::new(ChipKind::Ina3221, u64::from(lane), Arc::clone(&clock));
            let (producer, consumer) = ring(8_192);
            rings.push(consumer);
            SamplerCore::configured(SamplerParts {
                chip: board.driver(Profile::Cover),
                bus: Box::new(board.bus()),
                bus_number: BUS_NUMBER,
                bus_clock_hz: Some(400_000),
                share: BusShare::Whole,
                clock: Arc::clone(&clock),
                ring: producer,
                lane,
            })
            .unwrap()
        };
        let cores = [3, 4].map(core).into();
        let handle =
            super::super::Sampler::start(Stepped::Bus(Box::new(BusCore::new(cores)))).unwrap();
        while rings.iter().any(|ring| ring.waiting() < 20) {
            clock.sleep_until(clock.now() + Nanos::from_millis(1));
        }
        let reports = handle.stop();
        assert_eq!(reports.iter().map(|report| report.lane).collect::<Vec<_>>(), [3, 4]);
        for report in reports {
            assert_eq!(report.sweeps, report.fresh + report.stale + report.failed);
        }
    }
}
