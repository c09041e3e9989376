//! Sweeps that wait until the chip's setting vouches for them.
//!
//! Owns the rows of one chip since its setting was last seen in place, and the
//! account of changes that is recorded. A row is believed once the setting was
//! found in place behind it; found changed, it is marked, and a notice says so:
//! between the two nobody knows what the codes mean. Gives nothing an identity.

use std::collections::VecDeque;

use wattline_protocol::block::{SampleStatus, status_of};
use wattline_protocol::record::{ChipChange, ChipOutcome, Notice, NoticeKind};
use wattline_protocol::units::{BoardTime, Nanos};

use crate::power::ring::{Sweep, Vouch, status_at};

/// A row that nothing has vouched for after this time is marked: looks are a
/// quarter of a second apart, so that the bus is dead by then, or the sampler.
const UNVOUCHED_MAX: Nanos = Nanos::from_secs(2);
/// Rows that wait at most: what a chip of 10 kHz gives in twice the time between
/// two looks.
const ROWS_MAX: usize = 8_192;
/// Changes of the same kind are told this often at most: another program that sets
/// a chip again and again makes no more records than this.
const TOLD_EVERY: Nanos = Nanos::from_secs(10);

/// The rows that wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    rows: VecDeque<Sweep>,
    /// A change that was not told yet, when it was, and what it marked.
    untold: Option<(ChipChange, BoardTime, u64)>,
    /// The last change that was told, and when.
    told: Option<(ChipOutcome, BoardTime)>,
}

impl Held {
    /// Takes in a sweep; gives those that nothing is awaited for any more, in
    /// their order.
    pub(super) fn arrive(&mut self, sweep: &Sweep, give: &mut dyn FnMut(&Sweep)) {
        match sweep.vouch {
            Vouch::Awaited => {}
            Vouch::Unneeded | Vouch::Intact => self.release(give),
            Vouch::Changed(change) => self.change(change, sweep.end, give),
        }
        match sweep.vouch {
            // It carries news alone.
            _ if sweep.columns == 0 => {}
            Vouch::Unneeded => give(sweep),
            Vouch::Awaited | Vouch::Intact | Vouch::Changed(_) => {
                self.rows.push_back(*sweep);
                if self.rows.len() > ROWS_MAX {
                    self.mark(give);
                }
            }
        }
    }

    /// Marks what has waited for too long, and at `all` whatever still waits.
    pub(super) fn expire(&mut self, now: BoardTime, all: bool, give: &mut dyn FnMut(&Sweep)) {
        let is_old = self.rows.front().is_some_and(|first| now - first.end >= UNVOUCHED_MAX);
        if all || is_old {
            self.mark(give);
        }
    }

    /// The change that is due to be recorded of the chip of `lane`.
    pub(super) fn notice(&mut self, lane: u8, now: BoardTime, all: bool) -> Option<Notice> {
        let (change, at, marked) = self.untold?;
        let is_news = self.told.is_none_or(|(outcome, told)| {
            outcome != change.outcome || all || now - told >= TOLD_EVERY
        });
        is_news.then(|| {
            self.untold = None;
            self.told = Some((change.outcome, now));
            Notice { at, what: NoticeKind::ChipChanged { lane, change, marked } }
        })
    }

    fn change(&mut self, change: ChipChange, at: BoardTime, give: &mut dyn FnMut(&Sweep)) {
        let marked = self.mark(give);
        let before = self.untold.map_or(0, |(_, _, marked)| marked);
        self.untold = Some((change, at, before + marked));
    }

    fn release(&mut self, give: &mut dyn FnMut(&Sweep)) {
        self.rows.drain(..).for_each(|row| give(&row));
    }

    /// Gives the rows with their new values marked; how many had one.
    fn mark(&mut self, give: &mut dyn FnMut(&Sweep)) -> u64 {
        let mut marked = 0;
        for row in self.rows.drain(..) {
            let status = doubted(&row);
            marked += u64::from(status != row.status);
            give(&Sweep { status, ..row });
        }
        marked
    }
}

/// The row's status where its new values are not to be used.
fn doubted(row: &Sweep) -> u32 {
    let slots = usize::from(row.columns) / 2;
    (0..slots).fold(0, |word, slot| {
        let status = status_of(row.status, slot).unwrap_or(SampleStatus::Bus);
        let status = if status.is_new() { SampleStatus::Stale } else { status };
        word | status_at(status, slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(end: u64, vouch: Vouch) -> Sweep {
        Sweep { end: BoardTime(end), columns: 4, vouch, ..Sweep::default() }
    }

    fn change(outcome: ChipOutcome) -> Vouch {
        Vouch::Changed(ChipChange { register: 0, expected: 1, found: 2, outcome })
    }

    fn given(held: &mut Held, rows: &[Sweep]) -> Vec<(u64, u32)> {
        let mut given = Vec::new();
        for row in rows {
            held.arrive(row, &mut |row| given.push((row.end.0, row.status)));
        }
        given
    }

    #[test]
    fn rows_wait_for_the_setting_and_are_marked_where_it_changed() {
        let mut held = Held::default();
        let nack = Sweep { status: 0x33, ..row(3, Vouch::Awaited) };
        let rows = [row(1, Vouch::Awaited), row(2, Vouch::Intact), nack];
        assert_eq!(given(&mut held, &rows), [(1, 0)]);
        let more = [row(4, change(ChipOutcome::ConfiguredAnew)), row(5, Vouch::Awaited)];
        assert_eq!(given(&mut held, &more), [(2, 0x11), (3, 0x33)]);
        let notice = held.notice(16, BoardTime(6), false).unwrap();
        let NoticeKind::ChipChanged { lane: 16, marked: 1, .. } = notice.what else {
            panic!("{notice:?}")
        };
        // The end of a sampler vouches without a row of its own.
        let end = Sweep::vouching(Vouch::Intact, BoardTime(7));
        assert_eq!(given(&mut held, &[end]), [(4, 0), (5, 0)]);
        assert_eq!(held.notice(16, BoardTime(8), true), None);
    }

    #[test]
    fn what_nothing_vouches_for_is_marked_in_the_end() {
        let mut held = Held::default();
        assert!(given(&mut held, &[row(1, Vouch::Awaited)]).is_empty());
        let mut late = Vec::new();
        held.expire(BoardTime(1) + Nanos::from_secs(1), false, &mut |row| late.push(row.status));
        assert!(late.is_empty(), "{late:?}");
        held.expire(BoardTime(1) + Nanos::from_secs(2), false, &mut |row| late.push(row.status));
        assert_eq!(late, [0x11]);
    }

    #[test]
    fn a_chip_that_is_set_again_and_again_is_told_every_ten_seconds() {
        let mut held = Held::default();
        let mut told = Vec::new();
        for tenth in 0..300 {
            let at = BoardTime(0) + Nanos::from_millis(100 * tenth);
            let sweep = Sweep { end: at, ..row(0, change(ChipOutcome::Unusable)) };
            held.arrive(&sweep, &mut |_| {});
            told.extend(held.notice(16, at, false));
        }
        told.extend(held.notice(16, BoardTime(0) + Nanos::from_secs(30), true));
        let marked: u64 = told
            .iter()
            .map(|notice| match notice.what {
                NoticeKind::ChipChanged { marked, .. } => marked,
                _ => 0,
            })
            .sum();
        // Each row but the last, which nothing has told of yet.
        assert_eq!((told.len(), marked), (4, 299));
    }
}
