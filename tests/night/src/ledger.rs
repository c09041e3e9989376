//! The ledger: what was recorded, what was promised, and what became of it.
//!
//! Owns the four accusations (lost, doubled, invented, silent gap) and the
//! only excuses for an absent record: it was never durable when the agent or
//! the power went, the policy dropped it and said so, or the disk was damaged
//! just there. Believes no word of the code under test: it keeps the bytes
//! that the recorder gave away, and reads the host's store row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod cells;
mod promise;

use wattline::store::{Store, StoreError};
use wattline_protocol::frame::{self, Identity};
use wattline_protocol::record::{Gap, Record, StreamEnd, kind};
use wattline_protocol::units::BoardTime;

/// Identity of a frame: epoch, stream, first sequence number.
pub(crate) type Number = (u32, u32, u64);

/// What a night may be accused of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charge {
    /// Durable or acknowledged, without excuse absent; or a night that never ends.
    Lost,
    /// At the host twice, or a number given twice.
    Doubled,
    /// At the host, and never recorded so.
    Invented,
    /// Absent, and nothing at the host says so.
    SilentGap,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub charge: Charge,
    /// Which record, and where.
    pub text: String,
}

pub(crate) struct Entry {
    pub(crate) run: usize,
    bytes: Box<[u8]>,
    next: u64,
    /// The spool took it, then.
    taken: Option<BoardTime>,
    promised: bool,
    dropped: bool,
    damaged: bool,
    /// The agent or the power went before it was promised.
    at_risk: bool,
}

impl Entry {
    /// True for a record that the board need not keep once a host has it. Written
    /// down here anew: a product that counts others among them is accused.
    fn may_bypass(&self) -> bool {
        let kinds = [
            kind::SAMPLE_BLOCK,
            kind::INFERENCE_SPANS,
            kind::LAYER_SPANS,
            kind::GPU_SPANS,
            kind::CLOCK_SNAPSHOT,
            kind::BOARD_STATE,
            kind::PHASE_MARK,
            kind::TRIAL_LOADED,
        ];
        self.bytes.get(3).is_some_and(|kind| kinds.contains(kind))
    }

    fn is_kind(&self, kind: u8) -> bool {
        self.bytes.get(3) == Some(&kind)
    }

    /// True for a record that may go before those that give the rest its meaning.
    fn goes_first(&self) -> bool {
        let first = [
            kind::SAMPLE_BLOCK,
            kind::INFERENCE_SPANS,
            kind::LAYER_SPANS,
            kind::GPU_SPANS,
            kind::TRIGGER_EDGES,
        ];
        first.iter().any(|kind| self.is_kind(*kind))
    }

    /// The record, where it is one.
    fn record(&self) -> Option<Record> {
        let frame = frame::decode(&self.bytes).ok()?;
        Record::decode(frame.header.kind, frame.payload).ok()
    }

    /// True for a record that says why others are absent.
    fn explains(&self) -> bool {
        matches!(self.bytes.get(3), Some(&(kind::GAP | kind::EPOCH_END)))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.bytes.get(3).copied().unwrap_or(0);
        let Self { promised, dropped, damaged, at_risk, .. } = self;
        let taken = self.taken.is_some();
        write!(
            f,
            "kind {kind}, taken {taken}, promised {promised}, dropped {dropped}, \
             damaged {damaged}, at risk {at_risk}"
        )
    }
}

/// What is known of all runs.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<Number, Entry>,
    /// The next number of each stream.
    next: BTreeMap<(u32, u32), u64>,
    /// Numbers not yet promised, by run.
    open: BTreeMap<usize, BTreeSet<Number>>,
    pub(crate) findings: Vec<Finding>,
    /// Frames that the recorder gave away.
    pub(crate) recorded: usize,
    /// Runs of which a record that explains others was damaged or dropped, or
    /// whose recorder ended before it had recorded what the disk said.
    unsaid: BTreeSet<usize>,
    /// Runs whose RUN_END was damaged: their end is that no more is there.
    end_hurt: BTreeSet<usize>,
    /// Runs that were removed, or nearly: a host holds all of them.
    removed: BTreeSet<usize>,
    /// What hosts have acknowledged of each run, all together.
    acked: BTreeMap<usize, BTreeMap<(u32, u32), u64>>,
    /// What became of each run's campaign.
    cells: BTreeMap<usize, cells::Cells>,
}

/// What the host says of one run, for its own records.
struct Account<'a> {
    ledger: &'a mut Ledger,
    host: usize,
    run: usize,
    held: BTreeSet<Number>,
    ends: BTreeMap<(u32, u32), u64>,
    epoch_ends: BTreeMap<u32, Vec<StreamEnd>>,
    /// The newest epoch that told where those before it ended.
    told_in: u32,
    /// Epoch of the first RUN_END: what a later start adds, because the board
    /// lost that record, is no part of what the host has.
    ended_in: u32,
    last_epoch: u32,
    gaps: Vec<(u32, u32, u64, u64)>,
    gap_records: Vec<Gap>,
    /// What the host holds of the campaign.
    cells: Vec<(Number, Record)>,
}

impl Ledger {
    pub(crate) fn accuse(&mut self, charge: Charge, text: String) {
        self.findings.push(Finding { charge, text });
    }

    /// The recorder gave this frame away.
    pub(crate) fn given(&mut self, run: usize, bytes: &[u8]) {
        let Ok(frame) = frame::decode(bytes) else {
            return self
                .accuse(Charge::Invented, "the recorder gave bytes that are no frame".into());
        };
        let Identity { epoch, stream, sequence } = frame.header.identity;
        let number = (epoch, stream, sequence);
        let expected = self.next.insert((epoch, stream), frame.next_sequence()).unwrap_or(0);
        if sequence > expected {
            let text = format!("the recorder goes on at {number:?}, {expected} is next");
            self.accuse(Charge::SilentGap, text);
        }
        let entry = Entry {
            run,
            bytes: bytes.into(),
            next: frame.next_sequence(),
            taken: None,
            promised: false,
            dropped: false,
            damaged: false,
            at_risk: false,
        };
        self.recorded += 1;
        if self.entries.insert(number, entry).is_some() {
            self.accuse(Charge::Doubled, format!("number {number:?} was given twice"));
        }
        self.open.entry(run).or_default().insert(number);
        match Record::decode(frame.header.kind, frame.payload) {
            Ok(Record::EpochEnd(end)) => self.denied(run, &end),
            Ok(Record::RunEnd(end)) => {
                self.counted(run, (epoch, stream), &end);
                self.marked(run, number, end.into());
            }
            Ok(record) => self.marked(run, number, record),
            Err(_) => {}
        }
    }

    /// The spool took it.
    pub(crate) fn taken(&mut self, bytes: &[u8], now: BoardTime) {
        if let Some(number) = number_of(bytes)
            && let Some(entry) = self.entries.get_mut(&number)
        {
            entry.taken = Some(now);
        }
    }

    /// What the spool took of the run is durable up to these ends, it says;
    /// and, where a sync `succeeded`, all that no host may take in its stead.
    pub(crate) fn promised(&mut self, run: usize, succeeded: bool, ends: &[StreamEnd]) {
        let Some(open) = self.open.get_mut(&run) else { return };
        let entries = &mut self.entries;
        let reached = |&(epoch, stream, _): &Number, next: u64| {
            let end = ends.iter().find(|end| (end.epoch, end.stream) == (epoch, stream));
            end.is_some_and(|end| next <= end.next)
        };
        open.retain(|number| match entries.get_mut(number) {
            Some(entry)
                if entry.taken.is_some()
                    && ((succeeded && !entry.may_bypass()) || reached(number, entry.next)) =>
            {
                entry.promised = true;
                false
            }
            Some(_) | None => true,
        });
    }

    /// The policy dropped these, and said so.
    pub(crate) fn dropped(&mut self, run: usize, gaps: &[Gap], synced: BoardTime) {
        let mut marks = false;
        for gap in gaps {
            marks |= self.dropped_within(run, gap);
        }
        if marks {
            self.dropped_marks(run, synced);
        }
    }

    /// True where the gap takes records that give the rest its meaning.
    fn dropped_within(&mut self, run: usize, gap: &Gap) -> bool {
        let mut marks = false;
        let numbers = (gap.epoch, gap.stream, gap.from)..(gap.epoch, gap.stream, gap.to);
        for (_, entry) in self.entries.range_mut(numbers) {
            entry.dropped = true;
            marks |= !entry.goes_first();
            if entry.explains() {
                self.unsaid.insert(run);
            }
        }
        marks
    }

    /// The recorder ended with a word of the disk still on its way to it.
    pub(crate) fn unsaid(&mut self, run: usize) {
        self.unsaid.insert(run);
    }

    /// The agent or the power went: what was not promised may be gone.
    pub(crate) fn agent_ended(&mut self) {
        for number in self.open.values_mut().flat_map(std::mem::take) {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.at_risk = true;
            }
        }
    }

    /// The disk was damaged where this frame lay.
    pub(crate) fn damaged(&mut self, bytes: &[u8]) {
        if let Some(number) = number_of(bytes)
            && let Some(entry) = self.entries.get_mut(&number)
        {
            entry.damaged = true;
            if entry.explains() {
                self.unsaid.insert(entry.run);
            }
            if entry.bytes.get(3) == Some(&kind::RUN_END) {
                self.end_hurt.insert(entry.run);
            }
        }
    }

    /// The board begins to remove a run: every number of it must have been
    /// acknowledged by a host, as `acked` has it.
    pub(crate) fn removed(&mut self, run: usize, acked: &BTreeMap<(u32, u32), u64>) {
        self.removed.insert(run);
        let missing = self.entries.iter().find(|((epoch, stream, _), entry)| {
            let held = acked.get(&(*epoch, *stream)).is_some_and(|next| entry.next <= *next);
            entry.run == run && entry.promised && !held && !entry.damaged && !entry.dropped
        });
        if let Some((number, entry)) = missing {
            let text = format!("run {run} is removed, and no host has {number:?} ({entry:?})");
            self.accuse(Charge::Lost, text);
        }
    }

    /// True where the run's end was damaged on the disk.
    pub(crate) fn is_end_hurt(&self, run: usize) -> bool {
        self.end_hurt.contains(&run)
    }

    /// True where the disk has a record of this epoch for good.
    pub(crate) fn shows(&self, epoch: u32) -> bool {
        let mut of_epoch = self.entries.range((epoch, 0, 0)..(epoch.saturating_add(1), 0, 0));
        of_epoch.any(|(_, entry)| {
            entry.stays() && !entry.may_bypass() && !self.removed.contains(&entry.run)
        })
    }

    /// True where the board has something of the run for good: a host must come to
    /// have all of it. Not so where damage took every segment that was durable, and a
    /// power cut the next one, of which nothing was promised: nothing is left then by
    /// which a start could know of the run. What hosts alone have is no part of it.
    pub(crate) fn keeps(&self, run: usize) -> bool {
        self.entries.iter().any(|(number, entry)| {
            let at_host = entry.may_bypass() && self.is_acked(*number, entry);
            entry.run == run && entry.stays() && !at_host
        })
    }

    /// Holds a host's store of a run against the ledger. `acked` is what the
    /// host acknowledged, `elsewhere` what other hosts did; a `whole` recording
    /// must explain every number.
    pub(crate) fn audit(
        &mut self,
        (host, run): (usize, usize),
        store: &Store,
        acked: &BTreeMap<(u32, u32), u64>,
        elsewhere: &BTreeMap<(u32, u32), u64>,
        whole: bool,
    ) {
        let mut account = Account {
            ledger: self,
            host,
            run,
            held: BTreeSet::new(),
            ends: BTreeMap::new(),
            epoch_ends: BTreeMap::new(),
            told_in: 0,
            ended_in: u32::MAX,
            last_epoch: 0,
            gaps: Vec::new(),
            gap_records: Vec::new(),
            cells: Vec::new(),
        };
        if let Err(error) = account.read(store) {
            return self.accuse(Charge::Lost, format!("host {host}, run {run}: {error}"));
        }
        let cells = std::mem::take(&mut account.cells);
        account.explain(acked, elsewhere, whole);
        // Of a run whose removal was begun, a later host gets what is left.
        if whole && !self.removed.contains(&run) {
            self.accounted(&format!("host {host}, run {run}"), run, &cells);
        }
    }
}

impl Account<'_> {
    fn read(&mut self, store: &Store) -> Result<(), StoreError> {
        self.gaps = store.gaps()?;
        store.for_each_frame(|frame| -> Result<(), StoreError> {
            let Identity { epoch, stream, sequence } = frame.header.identity;
            let number = (epoch, stream, sequence);
            let place = format!("host {}, run {}, {number:?}", self.host, self.run);
            let end = self.ends.entry((epoch, stream)).or_insert(0);
            if sequence < *end {
                self.ledger.accuse(Charge::Doubled, format!("{place} is held twice"));
            }
            *end = frame.next_sequence().max(*end);
            let recorded = self.ledger.entries.get(&number);
            if recorded.is_none_or(|entry| *entry.bytes != *frame.bytes || entry.run != self.run) {
                self.ledger.accuse(Charge::Invented, format!("{place} was never recorded so"));
            }
            self.held.insert(number);
            self.last_epoch = self.last_epoch.max(epoch);
            match Record::decode(frame.header.kind, frame.payload) {
                Ok(Record::EpochEnd(end)) => {
                    self.told_in = self.told_in.max(epoch);
                    self.epoch_ends.entry(end.epoch).or_insert(end.streams);
                }
                Ok(record @ Record::RunEnd(_)) => {
                    self.ended_in = self.ended_in.min(epoch);
                    self.cells.push((number, record));
                }
                Ok(Record::Gap(gap)) if frame.header.kind == kind::GAP => {
                    self.gap_records.push(gap);
                }
                Ok(record) if cells::KINDS.contains(&frame.header.kind) => {
                    self.cells.push((number, record));
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Every recorded number is held or explained.
    fn explain(
        self,
        acked: &BTreeMap<(u32, u32), u64>,
        elsewhere: &BTreeMap<(u32, u32), u64>,
        whole: bool,
    ) {
        let Self { ledger, host, run, held, epoch_ends, told_in, gaps, gap_records, .. } = self;
        // A run whose RUN_END the disk lost ended where no more was there.
        let hurt = whole && ledger.is_end_hurt(run);
        let ended_in = if hurt { self.ended_in.min(self.last_epoch) } else { self.ended_in };
        let mut findings = Vec::new();
        for (number, entry) in ledger.entries.iter().filter(|(_, entry)| entry.run == run) {
            if held.contains(number) || number.0 > ended_in {
                continue;
            }
            let &(epoch, stream, sequence) = number;
            let within = |&(e, s, first, next): &(u32, u32, u64, u64)| {
                (e, s) == (epoch, stream) && first <= sequence && entry.next <= next
            };
            let in_gap = gaps.iter().any(within);
            let acknowledged =
                acked.get(&(epoch, stream)).is_some_and(|next| sequence < *next) && !in_gap;
            if !whole && !acknowledged {
                continue;
            }
            let place = format!("host {host}, run {run}, {number:?} to {}", entry.next);
            let removed = ledger.removed.contains(&run);
            let bypassed = entry.may_bypass()
                && elsewhere.get(&(epoch, stream)).is_some_and(|next| entry.next <= *next);
            let excused = entry.dropped || entry.damaged || entry.at_risk || removed || bypassed;
            if !excused || acknowledged {
                let how = if acknowledged { "acknowledged" } else { "recorded" };
                let text = format!("{place} was {how} and is not there ({entry:?})");
                findings.push((Charge::Lost, text));
                continue;
            }
            // An epoch that a later one does not name left nothing on the disk.
            let ends = epoch_ends.get(&epoch).map(Vec::as_slice).unwrap_or_default();
            let end = ends.iter().find(|end| end.stream == stream).map_or(0, |end| end.next);
            // Of what never touched the disk, the run's end alone may tell.
            let behind_end =
                epoch < told_in && sequence >= end || bypassed && ledger.end_hurt.contains(&run);
            if !in_gap && !behind_end && !removed && !ledger.unsaid.contains(&run) {
                findings.push((Charge::SilentGap, format!(
                    "{place} is absent without a word ({entry:?}; epochs told of in {told_in}, end {end})"
                )));
            }
            // A drop by policy is a decision: it must be among the records.
            let said = gap_records.iter().any(|gap| {
                (gap.epoch, gap.stream) == (epoch, stream)
                    && gap.from <= sequence
                    && entry.next <= gap.to
            });
            let must_say = entry.dropped && !entry.damaged && !behind_end;
            if must_say && !said && !ledger.gap_record_excused(run) {
                findings.push((Charge::SilentGap, format!("{place} was dropped without a record")));
            }
        }
        for (charge, text) in findings {
            ledger.accuse(charge, text);
        }
    }
}

impl Ledger {
    /// True where a gap record of the run may itself be gone.
    fn gap_record_excused(&self, run: usize) -> bool {
        self.unsaid.contains(&run)
            || self.entries.values().any(|entry| {
                entry.run == run && entry.at_risk && entry.bytes.get(3) == Some(&kind::GAP)
            })
            || self.open.get(&run).is_some_and(|open| {
                let gap = |entry: &Entry| entry.bytes.get(3) == Some(&kind::GAP);
                open.iter().any(|number| self.entries.get(number).is_some_and(gap))
            })
    }
}

fn number_of(bytes: &[u8]) -> Option<Number> {
    let frame = frame::decode(bytes).ok()?;
    let Identity { epoch, stream, sequence } = frame.header.identity;
    Some((epoch, stream, sequence))
}

#[cfg(test)]
mod tests {
    use wattline_protocol::frame::{Codec, Header};

    use super::*;

    fn frame_of(kind: u8, sequence: u64) -> Vec<u8> {
        let identity = Identity { epoch: 1, stream: 0, sequence };
        let codec = Codec::Postcard.id();
        let header = Header { kind, length: 0, codec, flags: 0, count: 1, identity };
        let mut bytes = Vec::new();
        frame::encode(header, b"payload", &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_run_need_be_nowhere_once_damage_took_all_that_was_promised_of_it() {
        let mut ledger = Ledger::default();
        let frames = [frame_of(kind::RUN_START, 0), frame_of(kind::PLAN, 1)];
        for bytes in &frames {
            ledger.given(0, bytes);
            ledger.taken(bytes, BoardTime(1));
        }
        assert!(!ledger.keeps(0), "nothing was promised");
        ledger.promised(0, true, &[]);
        assert!(ledger.keeps(0));
        ledger.damaged(&frames[0]);
        assert!(ledger.keeps(0), "one of two is left");
        ledger.damaged(&frames[1]);
        assert!(!ledger.keeps(0));
    }
}
