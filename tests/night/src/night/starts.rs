//! Bad starts: what one of them leaves half done meets the next.
//!
//! Owns the nights in which the agent lives for a moment, several times in a row,
//! on a disk that refuses just then: an epoch is used and no segment tells of it, a
//! slot rots or is left half written, the power goes while the next one is made.
//! Keeps to what a board survives, which is stated at each place.

use wattline_agent::spool::epoch::LOST_SLOTS_STEP;
use wattline_agent::spool::model::ModelFault;

use super::{MS, SECOND, World};
use crate::dice::Dice;
use crate::trace;

/// Nights of a thousand that are of this kind.
const NIGHTS: u64 = 120;
/// Makes the dice of these nights others than those of the same seed: nights that
/// are not of this kind stay as they were.
const OTHER: u64 = 0x0057_A127_0057_A127;
/// Slots of the epoch.
const SLOTS: [&str; 2] = ["epoch.0", "epoch.1"];

/// How the starts of a night are.
#[derive(Debug)]
pub(super) struct Starts {
    dice: Dice,
    /// So often, in a thousand steps.
    often: u64,
}

impl World {
    pub(super) fn forecast_starts(&mut self, seed: u64) {
        let mut dice = Dice::seeded(seed ^ OTHER);
        if !dice.chance(NIGHTS) {
            return;
        }
        self.weather.spare_slots();
        self.runs = dice.between(3, 12).try_into().unwrap_or(3);
        // In some of them no run begins in peace: then no segment tells of an epoch.
        if dice.chance(400) {
            self.next_run = self.began + dice.between(5, 60) * SECOND;
        }
        self.starts = Some(Starts { often: dice.between(60, 250), dice });
    }

    /// Lets the agent live some short lives, now and then.
    pub(super) fn start_badly(&mut self) {
        let Some(mut starts) = self.starts.take() else { return };
        if starts.dice.chance(starts.often) {
            self.live_briefly(&mut starts);
        }
        self.starts = Some(starts);
    }

    fn live_briefly(&mut self, starts: &mut Starts) {
        for _ in 0..starts.dice.between(2, 6) {
            // An agent that has its epoch found both slots whole, or made both so: of
            // these one may rot.
            let are_whole = self.epoch().is_some();
            self.end_life(starts.dice.chance(500), &mut starts.dice);
            if are_whole && starts.dice.chance(400) {
                self.rot(starts.dice.place(SLOTS.len()), &mut starts.dice);
            }
            let cut_midway = self.refuse(&mut starts.dice);
            self.live(&mut starts.dice);
            if cut_midway {
                self.end_life(true, &mut starts.dice);
            }
        }
        self.end_life(starts.dice.chance(300), &mut starts.dice);
        self.live_in_peace(&mut starts.dice);
        if starts.dice.chance(150) {
            self.lose_slots(starts);
        }
    }

    /// Both slots are lost. A board survives that the first time, and later as long
    /// as its segments tell of all epochs that it used since.
    fn lose_slots(&mut self, starts: &mut Starts) {
        let Some(epoch) = self.epoch() else { return };
        if epoch >= LOST_SLOTS_STEP && !self.ledger.shows(epoch) {
            return;
        }
        self.end_life(starts.dice.chance(500), &mut starts.dice);
        for slot in 0..SLOTS.len() {
            self.rot(slot, &mut starts.dice);
        }
        self.live_in_peace(&mut starts.dice);
    }

    fn epoch(&self) -> Option<u32> {
        self.board.agent.as_ref()?.epoch
    }

    /// The agent is killed, or the power is `cut`.
    fn end_life(&mut self, cut: bool, dice: &mut Dice) {
        self.faults += 1;
        if cut {
            trace!("the power is cut");
            self.board.cut_power(dice.next(), self.t, &mut self.ledger);
        } else {
            trace!("the agent is killed");
            self.board.kill(&mut self.ledger);
        }
        self.after_end();
        self.t += dice.between(1, 80) * MS;
    }

    fn rot(&mut self, slot: usize, dice: &mut Dice) {
        let Some(name) = SLOTS.get(slot) else { return };
        self.faults += 1;
        trace!("{name} rots");
        // A slot is no shorter; where there is none, nothing rots.
        self.board.disk.flip_bit(name, dice.place(16), 3);
    }

    /// Lets operations of the next start fail: of the epoch, of the segments, or of
    /// what the run records first. True where the power is to go with them.
    fn refuse(&mut self, dice: &mut Dice) -> bool {
        let (cut_midway, count) = match dice.below(4) {
            0 => return false,
            1 => (true, 80),
            2 => (false, dice.between(1, 3)),
            _ => (false, dice.between(20, 80)),
        };
        self.faults += 1;
        let first = self.board.disk.operations() + dice.below(20);
        for operation in first..first + count {
            self.board.disk.fail_operation(operation, ModelFault::Io);
        }
        cut_midway
    }

    /// The agent starts, and a run begins or goes on.
    fn live(&mut self, dice: &mut Dice) {
        self.board.start(self.t, dice, &mut self.ledger);
        let idle = self.board.agent.as_ref().is_some_and(|agent| agent.current.is_none());
        if idle
            && self.begun < self.runs
            && dice.chance(500)
            && self.board.begin(self.begun, self.t, dice, &mut self.ledger)
        {
            self.begun += 1;
        }
    }

    /// The disk refuses nothing while the agent starts: both slots are whole after it.
    fn live_in_peace(&mut self, dice: &mut Dice) {
        self.board.disk.mend();
        self.weather.room_at = None;
        self.board.start(self.t, dice, &mut self.ledger);
        self.start_at = self.t + SECOND;
    }
}
