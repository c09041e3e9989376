//! What a board promises by its deeds, beside the frames that it calls durable.
//!
//! Owns rules that are written down anew from `docs/reliability.md`: no frame waits
//! for more than two seconds without a sync being due; what gives the rest its
//! meaning is dropped last; once the end of a run is durable, so is all before it,
//! or a host has it; that end counts every stream; every sweep that was offered is
//! a row, or counted as lost; and the word of a later start about where an epoch
//! ended denies nothing that was durable.

use std::collections::BTreeMap;

use wattline_agent::recorder::{LANE_CONTROL, stream_of};
use wattline_protocol::record::{EpochEnd, Record, RunEnd, kind};
use wattline_protocol::units::{BoardTime, Nanos};

use super::{Charge, Entry, Ledger, Number};

/// A frame waits so long for a host.
const HELD_MAX: Nanos = Nanos::from_secs(1);
/// A frame waits so long for a host and for a sync, at most: a second for each.
const WAIT_MAX: Nanos = Nanos::from_secs(2);

impl Ledger {
    /// A host has acknowledged this of the run.
    pub(crate) fn acknowledged(&mut self, run: usize, have: &BTreeMap<(u32, u32), u64>) {
        let acked = self.acked.entry(run).or_default();
        for (stream, next) in have {
            let mark = acked.entry(*stream).or_insert(0);
            *mark = (*next).max(*mark);
        }
    }

    /// True where a host has acknowledged this frame.
    pub(super) fn is_acked(&self, number: Number, entry: &Entry) -> bool {
        let acked = self.acked.get(&entry.run).and_then(|run| run.get(&(number.0, number.1)));
        acked.is_some_and(|next| entry.next <= *next)
    }

    /// Frames of the run that are neither promised nor acknowledged, of those
    /// that the spool took.
    fn waiting(&self, run: usize) -> impl Iterator<Item = (Number, &Entry, BoardTime)> {
        let open = self.open.get(&run).into_iter().flatten();
        open.filter_map(|number| {
            let entry = self.entries.get(number)?;
            let waits = !entry.dropped && !self.is_acked(*number, entry);
            if waits { entry.taken.map(|taken| (*number, entry, taken)) } else { None }
        })
    }

    /// The disk took all that was due at the last sync, and none is due at `now`.
    pub(crate) fn no_sync_is_due(&mut self, run: usize, now: BoardTime) {
        let late = self.waiting(run).find(|(_, _, taken)| now - *taken > WAIT_MAX);
        if let Some((number, entry, taken)) = late {
            let waits_s = (now - taken).0 / 1_000_000_000;
            let text = format!("{number:?} waits for {waits_s} s, and no sync is due ({entry:?})");
            self.accuse(Charge::Lost, text);
        }
    }

    /// The run's end is durable: what is neither on the disk nor at a host now is
    /// not there tomorrow.
    pub(crate) fn ended(&mut self, run: usize) {
        let waiting: Vec<Number> = self.waiting(run).map(|(number, ..)| number).collect();
        let open = self.open.entry(run).or_default();
        for number in waiting {
            open.remove(&number);
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.promised = true;
            }
        }
    }

    /// The policy has dropped frames that give the rest its meaning. Before them go
    /// all samples that wait for the disk; those that were taken a second before
    /// `synced`, the last sync, do not wait for a host any more.
    pub(super) fn dropped_marks(&mut self, run: usize, synced: BoardTime) {
        let kept = self.waiting(run).find(|(_, entry, taken)| {
            entry.is_kind(kind::SAMPLE_BLOCK) && synced - *taken > HELD_MAX
        });
        if let Some((number, entry, _)) = kept {
            let text = format!("marks of run {run} are dropped before {number:?} ({entry:?})");
            self.accuse(Charge::Lost, text);
        }
    }

    /// The end of a run counts what its epoch has of each stream, but for the one
    /// that it stands in.
    pub(super) fn counted(&mut self, run: usize, (epoch, own): (u32, u32), end: &RunEnd) {
        let streams = self.next.range((epoch, own)..(epoch, own + 256));
        let missing = streams.filter(|((_, stream), _)| *stream != own).find(|(stream, next)| {
            let stated = end.streams.iter().find(|end| (end.epoch, end.stream) == **stream);
            stated.map_or(0, |end| end.next) != **next
        });
        if let Some((stream, next)) = missing {
            let text = format!("the end of run {run} does not say that {stream:?} ends at {next}");
            self.accuse(Charge::SilentGap, text);
        }
    }

    /// The run is over, and the sampler had offered so many sweeps to this lane, up
    /// to the last that its ring took: all are rows, or said to be lost.
    pub(crate) fn swept(&mut self, run: usize, (epoch, ordinal, lane): (u32, u32, u8), told: u64) {
        let control = stream_of(ordinal, LANE_CONTROL);
        let of_stream = |stream| self.entries.range((epoch, stream, 0)..(epoch, stream + 1, 0));
        let rows: u64 =
            of_stream(stream_of(ordinal, lane)).map(|(at, entry)| entry.next - at.2).sum();
        let lost: u64 = of_stream(control)
            .filter_map(|(_, entry)| match entry.record() {
                Some(Record::SweepsLost(lost)) if lost.lane == lane => Some(lost.count),
                _ => None,
            })
            .sum();
        if rows + lost != told {
            let text = format!("run {run}: {told} sweeps of lane {lane}, {rows} rows, {lost} lost");
            self.accuse(Charge::SilentGap, text);
        }
    }

    /// A start of the agent says where an epoch ended.
    pub(super) fn denied(&mut self, run: usize, end: &EpochEnd) {
        if self.removed.contains(&run) {
            return;
        }
        let epoch = (end.epoch, 0, 0)..(end.epoch.saturating_add(1), 0, 0);
        let denied = self.entries.range(epoch).find(|((_, stream, _), entry)| {
            let stated = end.streams.iter().find(|end| end.stream == *stream);
            let kept = entry.promised && !entry.dropped && !entry.damaged && !entry.at_risk;
            entry.run == run && kept && stated.map_or(0, |end| end.next) < entry.next
        });
        if let Some((number, entry)) = denied
            && !(entry.may_bypass() && self.is_acked(*number, entry))
        {
            let text = format!("{number:?} was durable, and a later start denies it ({entry:?})");
            self.accuse(Charge::Lost, text);
        }
    }
}
