//! `kills.*`: the real programs, SIGKILLed at random moments on both sides.
//!
//! Owns the nights: an agent on the simulated board that tees every frame, a
//! host that collects, and a seed that says who is killed and when. The checker
//! holds the finished recording against the tees: a frame that the board's own
//! records do not declare absent must be there, once, as it was recorded.

use std::collections::BTreeMap;
use std::path::Path;

use wattline_agent::clock::{Clock, SystemClock};
use wattline_protocol::frame::{self, Identity};
use wattline_protocol::record::{EpochEnd, Gap, Record};
use wattline_protocol::units::Nanos;
use wattline_tests::{Agent, AgentFlags, Frames, Process, Sandbox};

use crate::figure::Figure;

/// Kills of a bare `cargo measure kills`.
const COUNT_USUAL: u64 = 10;
/// Kills of one night; then it may end.
const KILLS_A_NIGHT: u64 = 10;
/// A campaign of a few trials: each takes about two seconds.
const CAMPAIGN: [&str; 10] =
    ["run", "--quick", "--networks", "resnet18", "--size", "64", "--batch", "1", "--windows", "3"];
/// A night that is left alone ends within this, however busy the machine.
const NIGHT_MAX: Nanos = Nanos::from_secs(300);
/// Longest wait before a kill, in ms: a trial is under way, ended, or begins.
const WAIT_MS_MAX: u64 = 1_500;

/// What was found wrong.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    kills: u64,
    lost: u64,
    doubled: u64,
}

/// Measures `kills.lost` and `kills.doubled` over `count` kills from `seed` on.
pub(crate) fn run(seed: u64, count: Option<u64>, emit: &mut impl FnMut(Figure)) {
    let count = count.unwrap_or(COUNT_USUAL);
    let mut all = Tally::default();
    let mut night = seed;
    while all.kills < count {
        let kills = KILLS_A_NIGHT.min(count - all.kills);
        let found = one_night(night, kills);
        if found.lost + found.doubled > 0 {
            // A closed standard error leaves nobody to tell.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("kills: seed {night}: {found:?}\n"),
            );
        }
        all.kills += found.kills;
        all.lost += found.lost;
        all.doubled += found.doubled;
        night = night.wrapping_add(1);
    }
    let figure = |measure, value: u64, limit| Figure {
        measure,
        case: "sigkill".to_owned(),
        value: whole(value),
        unit: "1",
        limit,
        limit_is: Some("none may be"),
    };
    emit(figure("kills.lost", all.lost, Some(0.0)));
    emit(figure("kills.doubled", all.doubled, Some(0.0)));
    emit(Figure { limit_is: None, ..figure("kills.count", all.kills, None) });
}

/// One night: `kills` kills, then peace until the recording is whole.
fn one_night(seed: u64, kills: u64) -> Tally {
    let sandbox = Sandbox::new();
    let mut dice = Dice(seed);
    let flags = |start: u64| {
        let named = AgentFlags::named(&sandbox, "board");
        AgentFlags { tee: sandbox.path(&format!("tee-{start}")), ..named }
    };
    let mut starts = 1;
    let mut agent = Agent::start_with(&sandbox, flags(starts));
    let board = agent.address();
    let detached = [&CAMPAIGN[..], &["--on", &board, "--detach"]].concat();
    let started = sandbox.wattline(&detached);
    let id = started.last_line().to_owned();
    let fetch = || sandbox.wattline_started(&["fetch", &id, "--on", &board, "--out", "run"]);
    let mut host = fetch();
    for _ in 0..kills {
        wait(Nanos::from_millis(dice.below(WAIT_MS_MAX).cast_signed()));
        if dice.below(2) == 0 {
            host.kill();
            host = fetch();
        } else {
            let _ = agent.kill();
            starts += 1;
            agent = Agent::start_with(&sandbox, flags(starts));
        }
    }
    let whole = collected(&mut host, fetch);
    let tees: Vec<Frames> =
        (1..=starts).map(|start| Frames::of_tee(&sandbox.path(&format!("tee-{start}")))).collect();
    let mut found = check(&tees, &sandbox.work().join("run/recording.sqlite"));
    found.kills = kills;
    // A run that nobody can fetch to its end has lost what follows.
    found.lost += u64::from(!whole);
    drop(agent);
    found
}

/// Lets the host collect the rest; started again where a busy board had turned
/// it away. True once it has all.
fn collected(host: &mut Process, fetch: impl Fn() -> Process) -> bool {
    let until = SystemClock.now() + NIGHT_MAX;
    while SystemClock.now() < until {
        if host.is_over() {
            // 0: done; 4: done, with what the kills cost stated.
            if matches!(host.code(), Some(0 | 4)) {
                return true;
            }
            *host = fetch();
        }
        wait(Nanos::from_millis(100));
    }
    false
}

/// Holds a recording against what the agents had recorded.
fn check(tees: &[Frames], recording: &Path) -> Tally {
    let held = Frames::of_recording_if_whole(recording);
    let Some(held) = held else {
        return Tally { doubled: 1, ..Tally::default() };
    };
    let stated = Stated::of(&held);
    let mut found = Tally { doubled: overlaps(&held), ..Tally::default() };
    for (identity, bytes) in tees.iter().flat_map(Frames::iter) {
        match held.get(identity) {
            Some(kept) if kept == bytes => {}
            // Another record under the same number.
            Some(_) => found.doubled += 1,
            None => found.lost += u64::from(!stated.absent(identity)),
        }
    }
    found.lost += holes(&held, &stated);
    found
}

/// What a recording's own records say is absent.
struct Stated {
    ends: BTreeMap<(u32, u32), u64>,
    ended: Vec<u32>,
    gaps: Vec<Gap>,
}

impl Stated {
    fn of(held: &Frames) -> Self {
        let mut stated = Self { ends: BTreeMap::new(), ended: Vec::new(), gaps: Vec::new() };
        for record in held.records() {
            match record {
                Record::EpochEnd(EpochEnd { epoch, streams, .. }) => {
                    stated.ended.push(epoch);
                    let ends = streams.iter().map(|end| ((end.epoch, end.stream), end.next));
                    stated.ends.extend(ends);
                }
                Record::Gap(gap) => stated.gaps.push(gap),
                _ => {}
            }
        }
        stated
    }

    /// A killed agent's last frames, that its successor says it did not find; or
    /// a gap's.
    fn absent(&self, at: &Identity) -> bool {
        let beyond = match self.ends.get(&(at.epoch, at.stream)) {
            Some(end) => at.sequence >= *end,
            None => self.ended.contains(&at.epoch),
        };
        beyond || self.is_gap(at.epoch, at.stream, at.sequence)
    }

    fn is_gap(&self, epoch: u32, stream: u32, sequence: u64) -> bool {
        self.gaps.iter().any(|gap| {
            (gap.epoch, gap.stream) == (epoch, stream) && (gap.from..gap.to).contains(&sequence)
        })
    }
}

/// Frames whose numbers another one holds as well.
fn overlaps(held: &Frames) -> u64 {
    let mut next = BTreeMap::new();
    let mut found = 0;
    for (identity, bytes) in held.iter() {
        let due = next.entry((identity.epoch, identity.stream)).or_insert(0);
        found += u64::from(identity.sequence < *due);
        *due = end_of(bytes).max(*due);
    }
    found
}

/// Places where a stream leaves numbers out and no record says so.
fn holes(held: &Frames, stated: &Stated) -> u64 {
    let mut next = BTreeMap::new();
    let mut found = 0;
    for (identity, bytes) in held.iter() {
        let due = next.entry((identity.epoch, identity.stream)).or_insert(0);
        if identity.sequence > *due {
            let silent = (*due..identity.sequence)
                .any(|number| !stated.is_gap(identity.epoch, identity.stream, number));
            found += u64::from(silent);
        }
        *due = end_of(bytes).max(*due);
    }
    let short = stated.ends.iter().filter(|(at, end)| {
        let reached = next.get(at).copied().unwrap_or(0);
        (reached..**end).any(|number| !stated.is_gap(at.0, at.1, number))
    });
    found + short.count() as u64
}

fn end_of(bytes: &[u8]) -> u64 {
    frame::decode(bytes).map_or(0, |frame| frame.next_sequence())
}

fn wait(length: Nanos) {
    SystemClock.sleep_until(SystemClock.now() + length);
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
const fn whole(count: u64) -> f64 {
    count as f64
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Nights that go on side by side: each waits most of its time.
    const AT_ONCE: usize = 2;

    #[test]
    fn fifty_kills_on_either_side_lose_nothing_and_double_nothing() {
        // The same seeds each time: who is killed and after how long is the same; what
        // the programs are doing just then is the machine's.
        let nights: Vec<u64> = (1..=5).collect();
        let turns = nights.chunks(AT_ONCE);
        let mut kills = 0;
        for turn in turns {
            let at_once: Vec<_> = turn
                .iter()
                .map(|&seed| (seed, thread::spawn(move || one_night(seed, KILLS_A_NIGHT))))
                .collect();
            for (seed, night) in at_once {
                let found = night.join().unwrap();
                assert_eq!(
                    (found.lost, found.doubled),
                    (0, 0),
                    "again: cargo measure kills --from {seed} --count {KILLS_A_NIGHT}"
                );
                kills += found.kills;
            }
        }
        assert_eq!(kills, 50);
    }
}
