//! The look at a chip's setting, and what a sampler does where it changed.
//!
//! Owns when the setting is read back, which sweeps it vouches for, what is
//! done about a change, and when a rail that newly reads 0 V is believed. A chip
//! that was reset or set by others gives codes that look like any other: only its
//! setting tells. Nothing allocates. Nothing is written to a chip that a kernel
//! driver holds.

use tracing::warn;
use wattline_protocol::record::{ChipChange, ChipOutcome};
use wattline_protocol::units::{BoardTime, Nanos};

use super::{CLOCK_HZ_UNKNOWN, STALE_ROW_MAX, SamplerCore, whole_ns};
use crate::power::chip::{Chip, Difference, Ownership, Reading, Setting};
use crate::power::pace::Pace;
use crate::power::ring::{Sweep, Vouch};

/// The setting is read back this often: 48 to 142 bits, at most 0.4 % of a bus of
/// 100 kHz, and no more sweeps than these are in doubt after a change.
const EVERY: Nanos = Nanos::from_millis(250);
/// A chip that was powered has converted all channels once after this time: the
/// INA3221's 6.6 ms, the longest cycle after power-on, and 10 % (SBOS576).
const AWAKE: Nanos = Nanos::from_micros(7_300);

/// The account of a chip's setting.
#[derive(Debug)]
pub(super) struct Guard {
    /// The driver as the record describes it.
    described: Chip,
    standing: Setting,
    due: BoardTime,
    /// When the last look ended: what is late for it is not late.
    pub(super) looked: BoardTime,
    /// For how long the bus was taken by looks within a step.
    pub(super) spent: Nanos,
    /// What the next sweep has to tell.
    vouch: Option<Vouch>,
    /// The codes mean something else, or nothing is converted.
    pub(super) unusable: bool,
    /// Slots whose bus voltage reads 0 and is believed to.
    dark: u8,
    newly_dark: Option<NewlyDark>,
}

/// Slots read 0 that did not before, of a chip that others configure.
#[derive(Debug, Clone, Copy)]
struct NewlyDark {
    from: BoardTime,
    /// A changed setting has told of it already.
    told: bool,
}

impl Guard {
    pub(super) const fn new(described: Chip, standing: Setting, now: BoardTime) -> Self {
        Self {
            described,
            standing,
            due: now,
            looked: now,
            spent: Nanos(0),
            vouch: None,
            unusable: false,
            dark: 0,
            newly_dark: None,
        }
    }

    /// What a sweep that is pushed now tells of those before it.
    pub(super) fn told(&self) -> Vouch {
        self.vouch.unwrap_or(Vouch::Awaited)
    }

    /// The ring has taken it.
    pub(super) const fn is_told(&mut self) {
        self.vouch = None;
    }

    /// A change that the ring has not taken yet outlives a setting in place.
    fn vouch(&mut self, vouch: Vouch) {
        if !matches!((self.vouch, vouch), (Some(Vouch::Changed(_)), Vouch::Intact)) {
            self.vouch = Some(vouch);
        }
    }
}

impl SamplerCore {
    /// Looks at the setting where it is due, or there is cause to.
    pub(super) fn look(&mut self, end: BoardTime) {
        if self.suspect || self.stale_row >= STALE_ROW_MAX || end >= self.guard.due {
            self.read_back();
        }
    }

    /// Reads the setting back; whether it is in place. A chip of ours that lost
    /// it is configured again.
    fn read_back(&mut self) -> bool {
        self.stale_row = 0;
        let begun = self.parts.clock.now();
        let found = self.parts.chip.read_setting(&mut *self.parts.bus);
        let now = self.parts.clock.now();
        self.guard.looked = now;
        self.guard.spent = self.guard.spent + (now - begun);
        let Ok(found) = found else {
            // The next sweep meets the same bus and counts it.
            self.suspect = true;
            return false;
        };
        self.suspect = false;
        self.guard.due = now + EVERY;
        match self.guard.standing.difference(&found) {
            None if self.guard.unusable => false,
            None => {
                self.guard.vouch(Vouch::Intact);
                true
            }
            Some(difference) => {
                let outcome = match self.parts.chip.ownership() {
                    Ownership::Ours => self.configure_anew(),
                    Ownership::KernelDriver => self.adopt(found, now),
                };
                self.changed(difference, outcome);
                false
            }
        }
    }

    fn changed(&mut self, difference: Difference, outcome: ChipOutcome) {
        self.turn.forget();
        let Difference { register, expected, found } = difference;
        warn!(
            lane = self.report.lane,
            register, expected, found, "Chip was reset or set by others; its sweeps are marked."
        );
        self.guard.vouch(Vouch::Changed(ChipChange { register, expected, found, outcome }));
    }

    fn configure_anew(&mut self) -> ChipOutcome {
        let super::SamplerParts { chip, bus, clock, .. } = &mut self.parts;
        let configured = chip.configure(&mut **bus).and_then(|_| chip.read_setting(&mut **bus));
        let now = clock.now();
        self.guard.looked = now;
        self.pace.restarted(now);
        match configured {
            Ok(standing) => {
                self.guard.standing = standing;
                ChipOutcome::ConfiguredAnew
            }
            Err(_) => {
                self.suspect = true;
                ChipOutcome::NotConfigured
            }
        }
    }

    /// Goes on by a setting that others made, where its codes still mean the same.
    fn adopt(&mut self, found: Setting, now: BoardTime) -> ChipOutcome {
        self.guard.standing = found;
        let Some(chip) = self.guard.described.with_setting(&found) else {
            self.guard.unusable = true;
            return ChipOutcome::Unusable;
        };
        self.guard.unusable = false;
        self.parts.chip = chip;
        let clock_hz = self.parts.bus_clock_hz.unwrap_or(CLOCK_HZ_UNKNOWN);
        self.pace = Pace::new(chip.pace_timing(clock_hz), self.parts.share, now);
        self.pace.crowded(self.crowd, now);
        // What the registers hold was converted by the setting before, or never.
        self.pace.pass_a_cycle(now);
        ChipOutcome::Adopted {
            cycle_ns: chip.cycle_ns(),
            sweep_period_ns: whole_ns(self.pace.period_ns()),
            shunt_conversion_ns: chip.timing(0, self.described, clock_hz).shunt_conversion_ns,
        }
    }

    /// Whether the registers may be those of a chip that has not converted since
    /// it was powered: a channel's bus voltage then reads 0, as its shunt does.
    /// A rail that newly reads 0 is believed where the setting is ours and in
    /// place, and of a chip that others set once it had the time to convert.
    /// `turn` is the one slot whose bus voltage was read, where it was one.
    pub(super) fn is_dark(
        &mut self,
        reading: &Reading,
        turn: Option<usize>,
        end: BoardTime,
    ) -> bool {
        let seen = turn.map_or(u8::MAX, |slot| 1 << slot);
        let slots = reading.codes.chunks_exact(2).take(usize::from(reading.columns) / 2);
        let dark = slots
            .enumerate()
            .filter(|(_, codes)| codes.get(1) == Some(&0))
            .fold(0_u8, |dark, (slot, _)| dark | 1 << slot)
            & seen;
        let is_newly = dark & !self.guard.dark != 0;
        self.guard.dark &= dark | !seen;
        if !is_newly {
            // Back before it could be believed: it was reset.
            if let Some(NewlyDark { told: false, .. }) = self.guard.newly_dark.take() {
                self.changed(self.guard.standing.unchanged(), ChipOutcome::Restarted);
            }
            return false;
        }
        let is_believed = match self.parts.chip.ownership() {
            Ownership::Ours => self.read_back(),
            Ownership::KernelDriver => self.is_awake(end) && self.read_back(),
        };
        if is_believed {
            self.guard.dark |= dark;
            self.guard.newly_dark = None;
        }
        !is_believed
    }

    fn is_awake(&mut self, end: BoardTime) -> bool {
        match self.guard.newly_dark {
            Some(newly) => end - newly.from >= AWAKE,
            None => {
                let told = !self.read_back();
                self.guard.newly_dark = Some(NewlyDark { from: end, told });
                false
            }
        }
    }

    /// The last look, and what it says of the sweeps that wait for it: to be
    /// called once, when no sweep follows.
    pub fn finish(&mut self) {
        self.read_back();
        if let Some(vouch) = self.guard.vouch.take() {
            let _ = self.parts.ring.push(Sweep::vouching(vouch, self.guard.looked));
        }
    }
}
