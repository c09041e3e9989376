//! The weather of a night: which faults come, and how often.
//!
//! Owns the choice of faults and the damage to the disk, with the account of
//! which frames lay just there. A night has some kinds of fault and not
//! others: where everything fails at once, nothing goes far enough to break.

use std::collections::BTreeMap;

use wattline_agent::spool::model::ModelFault;
use wattline_agent::spool::{ModelStorage, Storage};
use wattline_protocol::frame::{self, HEADER_BYTES};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::trace;

/// Most bytes of a file that are looked at.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Slots of the epoch and the board's identity that a night may damage: each
/// loss is survived, and both slots twice in a row is another disk. One that rots while
/// a start is in the middle of the other counts as both.
const SLOT_DAMAGES_MAX: u32 = 2;

/// About as long as the head of a segment, in bytes.
const HEAD_BYTES: usize = 120;

/// Linux's error number of "too many open files".
const EMFILE: i32 = 24;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A link is cut, and both ends see it.
    CutLink,
    /// A link is cut, and neither end sees it before the heartbeat.
    DeadLink,
    /// The host dies.
    KillHost,
    /// The host dies within its next transaction.
    TripHost,
    /// The agent dies.
    KillAgent,
    /// The board loses power.
    CutPower,
    /// The board loses power between two operations of the disk.
    CutMidway,
    /// Writing operations of the disk fail.
    FailDisk,
    /// The agent has no file descriptor left for some calls, reads among them.
    RefuseCalls,
    /// The disk is full for a while.
    FillDisk,
    /// A bit rots, a sector cannot be read, a file vanishes.
    DamageDisk,
    /// A clock jumps.
    JumpClock,
    /// Somebody stops the run.
    Stop,
}

/// All kinds, with how often each comes in a thousand steps where it comes.
const FAULTS: [(Fault, u64); 13] = [
    (Fault::CutLink, 25),
    (Fault::DeadLink, 8),
    (Fault::KillHost, 12),
    (Fault::TripHost, 20),
    (Fault::KillAgent, 10),
    (Fault::CutPower, 10),
    (Fault::CutMidway, 14),
    (Fault::FailDisk, 30),
    (Fault::RefuseCalls, 12),
    (Fault::FillDisk, 30),
    (Fault::DamageDisk, 10),
    (Fault::JumpClock, 6),
    (Fault::Stop, 2),
];

/// Nights of a thousand in which the agent starts over and over, on a disk that
/// fails: what a start leaves half done meets the next one.
const RESTLESS: u64 = 200;
/// The faults of such a night.
const STARTS: [Fault; 5] =
    [Fault::KillAgent, Fault::CutPower, Fault::CutMidway, Fault::FailDisk, Fault::DamageDisk];

/// How a night is.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    rates: Vec<(Fault, u64)>,
    slot_damages: u32,
    /// World time at which a full disk has room again.
    pub(crate) room_at: Option<u64>,
}

impl Weather {
    pub(crate) fn forecast(dice: &mut Dice) -> Self {
        let mut rates = Vec::new();
        let restless = dice.chance(RESTLESS);
        for (fault, often) in FAULTS {
            if restless && STARTS.contains(&fault) {
                rates.push((fault, often * 3));
            } else if dice.chance(550) {
                rates.push((fault, often * dice.between(1, 4) / 2));
            }
        }
        Self { rates, slot_damages: 0, room_at: None }
    }

    /// Ends and beginnings alone: links are cut, programs die, the power goes.
    pub(crate) fn of_ends() -> Self {
        let rates = vec![
            (Fault::CutLink, 25),
            (Fault::KillHost, 12),
            (Fault::KillAgent, 20),
            (Fault::CutPower, 12),
        ];
        Self { rates, slot_damages: 0, room_at: None }
    }

    /// Leaves the slots of the epoch alone.
    pub(crate) fn spare_slots(&mut self) {
        self.slot_damages = SLOT_DAMAGES_MAX;
    }

    /// Books as damaged what lies in files that the disk refused to read.
    pub(crate) fn book_refused(disk: &ModelStorage, ledger: &mut Ledger) {
        let refused = disk.take_refused();
        let held = disk.copy();
        held.mend();
        for name in refused {
            let bytes = read(&held, &name);
            book(&bytes, 0..bytes.len(), ledger);
        }
    }

    /// The faults of one step.
    pub(crate) fn strike(&self, dice: &mut Dice) -> Vec<Fault> {
        let struck = self.rates.iter().filter(|(_, often)| dice.chance(*often));
        struck.map(|(fault, _)| *fault).collect()
    }

    /// Lets the disk fail at some of its next writing operations.
    pub(crate) fn fail_disk(disk: &ModelStorage, dice: &mut Dice) {
        let fault = if dice.chance(700) { ModelFault::Io } else { ModelFault::Full };
        let next = disk.operations() + dice.below(8);
        for operation in next..=next + dice.below(3) {
            disk.fail_operation(operation, fault);
        }
    }

    /// Lets some of the next calls fail for a cause that says nothing of what
    /// the files hold.
    pub(crate) fn refuse_calls(disk: &ModelStorage, dice: &mut Dice) {
        let next = disk.calls() + dice.below(12);
        disk.refuse_calls(next..next + dice.between(1, 6), EMFILE);
    }

    /// From one of its next operations on, the disk does nothing more: the
    /// power goes there, which the caller books once the step is over.
    pub(crate) fn stop_disk(disk: &ModelStorage, dice: &mut Dice) {
        let next = disk.operations() + dice.below(14);
        for operation in next..next + 80 {
            disk.fail_operation(operation, ModelFault::Io);
        }
    }

    /// The disk has room for a little more, for a while.
    pub(crate) fn fill_disk(&mut self, disk: &ModelStorage, t: u64, dice: &mut Dice) {
        disk.set_capacity(Some(disk.used_bytes() + dice.below(3000)));
        self.room_at = Some(t + dice.between(1, 40) * 1_000_000_000);
    }

    /// Damages a file and books the frames that lay there.
    pub(crate) fn damage(&mut self, disk: &ModelStorage, ledger: &mut Ledger, dice: &mut Dice) {
        let files = disk.files();
        let mut candidates: Vec<&String> = files.iter().collect();
        if dice.chance(300) {
            candidates.retain(|name| !name.starts_with("runs/"));
        }
        let Some(&name) = candidates.get(dice.place(candidates.len())) else { return };
        let bytes = read(disk, name);
        if bytes.is_empty() {
            return;
        }
        if !name.starts_with("runs/") {
            if self.slot_damages < SLOT_DAMAGES_MAX {
                self.slot_damages += if is_last_whole(disk, name) { SLOT_DAMAGES_MAX } else { 1 };
                trace!("{name} rots");
                disk.flip_bit(name, dice.place(bytes.len()), 3);
            }
            return;
        }
        let (folder, _) = name.rsplit_once('/').unwrap_or_default();
        let newest = files.iter().filter(|other| other.starts_with(folder)).max() == Some(name);
        // The head of a segment is a small part of it, and tells of all before it; behind
        // its last frame nothing may be left to tell of that.
        let edge = HEAD_BYTES.min(bytes.len());
        let at = match dice.below(10) {
            0..3 => dice.place(edge),
            3..5 => bytes.len() - 1 - dice.place(edge),
            _ => dice.place(bytes.len()),
        };
        match dice.below(6) {
            0 if !newest => {
                trace!("{name} vanishes");
                book(&bytes, 0..bytes.len(), ledger);
                disk.vanish(name);
            }
            1 if !newest => {
                let first = at - at % 512;
                let sector = first..(first + 512).min(bytes.len());
                trace!("{name}: bytes {sector:?} cannot be read");
                // A read of 4 KiB around it fails as one.
                book(&bytes, first.saturating_sub(4096)..(first + 4608).min(bytes.len()), ledger);
                let (from, to) = (as_u64(sector.start), as_u64(sector.end));
                disk.make_unreadable(name, from..to);
            }
            _ => {
                trace!("{name}: byte {at} rots");
                book(&bytes, at..at + 1, ledger);
                disk.flip_bit(name, at, 5);
            }
        }
    }

    /// Damages the last bytes of a run while its agent lives: it alone knows of them.
    pub(crate) fn damage_end(disk: &ModelStorage, ledger: &mut Ledger, dice: &mut Dice) {
        let files = disk.files();
        let mut newest: BTreeMap<&str, &String> = BTreeMap::new();
        for name in files.iter().filter(|name| name.starts_with("runs/")) {
            let (folder, _) = name.rsplit_once('/').unwrap_or_default();
            let last = newest.entry(folder).or_insert(name);
            *last = name.max(last);
        }
        let Some(&name) = newest.values().nth(dice.place(newest.len())) else { return };
        let bytes = read(disk, name);
        if bytes.is_empty() {
            return;
        }
        let at = bytes.len() - 1 - dice.place(HEAD_BYTES.min(bytes.len()));
        trace!("{name}: byte {at} rots at its end");
        book(&bytes, at..at + 1, ledger);
        disk.flip_bit(name, at, 5);
    }
}

/// True for a slot of the epoch beside which no other is whole.
fn is_last_whole(disk: &ModelStorage, name: &str) -> bool {
    let other = match name {
        "epoch.0" => "epoch.1",
        "epoch.1" => "epoch.0",
        _ => return false,
    };
    let bytes = read(disk, other);
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return true };
    crc32c::crc32c(body) != u32::from_le_bytes(*crc)
}

/// Books all frames that touch these bytes of a segment as damaged.
fn book(bytes: &[u8], hit: std::ops::Range<usize>, ledger: &mut Ledger) {
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        match frame::decode(rest) {
            Ok(found) => {
                let end = at + found.bytes.len();
                if at < hit.end && hit.start < end {
                    ledger.damaged(found.bytes);
                }
                at = end;
            }
            Err(_) => at += frame::resynchronise(rest).max(1),
        }
    }
}

fn read(disk: &ModelStorage, name: &str) -> Vec<u8> {
    let length = disk.length(name).ok().and_then(|length| usize::try_from(length).ok());
    let mut bytes = vec![0; length.unwrap_or(0).min(FILE_BYTES_MAX)];
    let got = disk.read_at(name, 0, &mut bytes).unwrap_or(0);
    bytes.truncate(got);
    bytes
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
