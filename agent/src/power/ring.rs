//! The ring between sampler and recorder: bounded, one writer, one reader.
//!
//! Owns the type that passes, [`Sweep`], and the account of what did not: a
//! full ring never blocks the sampler, it counts, and the next sweep that fits
//! carries the count.

use wattline_protocol::block::SampleStatus;
use wattline_protocol::record::ChipChange;
use wattline_protocol::units::BoardTime;

use super::chip::CODES_MAX;

/// Sweeps that the ring holds: four seconds at 2,000 a second, so that a card
/// that stalls for seconds loses nothing (the worst erase of an SD card,
/// SD specification 6.1 §4.6.2, is 250 ms; a full sync is several).
pub const RING_SWEEPS: usize = 8_192;

/// One sweep of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// End of the transaction.
    pub end: BoardTime,
    /// Status of slot `s` in bits 4·s to 4·s + 3, see [`SampleStatus`].
    pub status: u32,
    /// Shunt and bus code of each slot in turn; 0 where the status is a
    /// failed read.
    pub codes: [i32; CODES_MAX],
    /// How many codes are used.
    pub columns: u8,
    /// Sweeps before this one that the full ring did not take.
    pub lost_before: u32,
    /// What is known by now of the sweeps before.
    pub vouch: Vouch,
}

/// What a sweep tells of those before it: a value of a chip is worth what its
/// setting is, and that is read back now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vouch {
    /// Nobody's setting stands behind this sweep: it is as it is.
    #[default]
    Unneeded,
    /// Nothing; this sweep waits for the next look at the setting.
    Awaited,
    /// The setting was as it should be, after all sweeps before this one.
    Intact,
    /// It was not: sweeps that wait are not to be believed.
    Changed(ChipChange),
}

impl Sweep {
    /// No sweep: carries to the recorder what is known of those before it.
    #[must_use]
    pub const fn vouching(vouch: Vouch, end: BoardTime) -> Self {
        Self { end, status: 0, codes: [0; CODES_MAX], columns: 0, lost_before: 0, vouch }
    }
}

/// The status word in which each of `slots` slots has `status`.
#[must_use]
pub fn status_of_all(status: SampleStatus, slots: usize) -> u32 {
    (0..slots).fold(0, |word, slot| word | status_at(status, slot))
}

/// `status` in the place of `slot`.
#[must_use]
pub const fn status_at(status: SampleStatus, slot: usize) -> u32 {
    status.nibble() << (4 * slot)
}

/// Sweeps that the ring did not take, between two that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// How many sweeps.
    pub count: u32,
    /// End of the last sweep before; that of the first after where there was none.
    pub from: BoardTime,
    /// End of the first sweep after.
    pub to: BoardTime,
}

/// What the reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The hole before the sweep.
    pub hole: Option<Hole>,
    /// The sweep.
    pub sweep: Sweep,
}

/// The sampler's end.
#[derive(Debug)]
pub struct SweepProducer {
    ring: rtrb::Producer<Sweep>,
    lost: u32,
}

/// The recorder's end.
#[derive(Debug)]
pub struct SweepConsumer {
    ring: rtrb::Consumer<Sweep>,
    last: Option<BoardTime>,
}

/// A ring for `capacity` sweeps.
#[must_use]
pub fn ring(capacity: usize) -> (SweepProducer, SweepConsumer) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(capacity);
    // Filled once, so that the kernel has given its memory before the first sweep: else
    // the sampler's process grows for minutes, a page at a time.
    while producer.push(Sweep { end: BoardTime(u64::MAX), ..Sweep::default() }).is_ok() {}
    while consumer.pop().is_ok() {}
    (SweepProducer { ring: producer, lost: 0 }, SweepConsumer { ring: consumer, last: None })
}

impl SweepProducer {
    /// Puts a sweep in; returns false where the ring was full. Never waits,
    /// never allocates.
    pub fn push(&mut self, mut sweep: Sweep) -> bool {
        sweep.lost_before = self.lost;
        let taken = self.ring.push(sweep).is_ok();
        self.lost = if taken { 0 } else { self.lost.saturating_add(1) };
        taken
    }
}

impl SweepConsumer {
    /// The oldest sweep, with the hole before it.
    pub fn pop(&mut self) -> Option<Taken> {
        let sweep = self.ring.pop().ok()?;
        let from = self.last.unwrap_or(sweep.end);
        self.last = Some(sweep.end);
        let hole = Hole { count: sweep.lost_before, from, to: sweep.end };
        Some(Taken { hole: (hole.count > 0).then_some(hole), sweep })
    }

    /// Sweeps that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// Whether the sampler's end is gone and nothing waits.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.ring.is_abandoned() && self.ring.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(end: u64) -> Sweep {
        Sweep { end: BoardTime(end), ..Sweep::default() }
    }

    #[test]
    fn a_full_ring_counts_and_the_next_sweep_carries_the_hole() {
        let (mut producer, mut consumer) = ring(2);
        let taken: Vec<bool> = (1..=5).map(|end| producer.push(at(end))).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        assert_eq!(consumer.pop().unwrap().hole, None);
        assert!(producer.push(at(6)));
        assert_eq!(consumer.pop().unwrap().sweep.end, BoardTime(2));
        let hole = Hole { count: 3, from: BoardTime(2), to: BoardTime(6) };
        assert_eq!(consumer.pop().unwrap().hole, Some(hole));
        drop(producer);
        assert!(consumer.is_finished());
    }

    #[test]
    fn each_slot_has_its_nibble() {
        assert_eq!(status_of_all(SampleStatus::Bus, 3), 0x555);
        assert_eq!(status_at(SampleStatus::Overrange, 2), 0x400);
    }
}
