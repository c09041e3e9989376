//! The world of one night: time, weather, board, hosts and the links between.
//!
//! Owns the order of events. A night has an evening of runs and faults and a
//! morning without faults, in which everything must come to its end.

use std::collections::BTreeMap;

use wattline_agent::campaign::state::Event;
use wattline_agent::spool::{Limits, ModelStorage, SpoolError};

use crate::board::{Board, Make, number_of, run_id};
use crate::dice::Dice;
use crate::host::{After, Book, Host, Relay};
use crate::ledger::{Charge, Ledger};
use crate::trace;
use crate::weather::{Fault, Weather};
use crate::{Outcome, Refusal, sums};

mod starts;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// Linux's error number of a failed input or output.
const EIO: i32 = 5;
/// Steps of a morning: half an hour, far more than any night needs to come to its
/// end, also one whose host grants a frame at a time over a slow link.
const MORNING_STEPS_MAX: u32 = 6_000;

pub(crate) struct World {
    t: u64,
    began: u64,
    dice: Dice,
    weather: Weather,
    board: Board,
    hosts: Vec<Host>,
    ledger: Ledger,
    /// Runs begun so far, and how many there will be.
    begun: usize,
    runs: usize,
    /// The next run begins then.
    next_run: u64,
    /// The agent starts again then.
    start_at: u64,
    next_link: u64,
    faults: u64,
    /// The disk stopped within this step: the power goes.
    cut_after_step: bool,
    /// Runs that a host holds go so often, in a thousand steps.
    removals: u64,
    /// What the disk would not read counts as damaged.
    unread_is_damaged: bool,
    /// Writers dawdle, links are slow.
    lazy: bool,
    delay_ms: u64,
    bandwidth: usize,
    /// Starts that fail, in some nights.
    starts: Option<starts::Starts>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        // In some nights memory holds more for hosts than may wait for the disk.
        let (pending, held) = if dice.chance(250) {
            (dice.between(1_200, 2_500), dice.between(6_000, 20_000))
        } else {
            (dice.between(1_200, 16_000), dice.between(600, 12_000))
        };
        let limits = Limits {
            segment_bytes: dice.between(600, 8_000),
            pending_bytes: usize::try_from(pending).unwrap_or(1_200),
            held_bytes: usize::try_from(held).unwrap_or(600),
        };
        let chips = u8::try_from(dice.between(1, 2)).unwrap_or(1);
        let trials = u32::try_from(dice.between(1, 3)).unwrap_or(1);
        let board = Board::new(Make { limits, chips, trials }, ModelStorage::new());
        let began = dice.between(1, 9) * 1_000 * SECOND;
        let mut hosts = Vec::new();
        for host in 0..dice.between(1, 2) {
            let late = if host == 0 { 0 } else { dice.below(120) * SECOND };
            hosts.push(Host {
                from: began + late,
                relay: Relay {
                    duplicates: if dice.chance(300) { dice.between(5, 120) } else { 0 },
                    muddles: if dice.chance(200) { dice.between(2, 30) } else { 0 },
                    credit: dice.chance(400).then(|| dice.between(60, 1_500)),
                },
                forgets: if dice.chance(400) { dice.between(10, 200) } else { 0 },
                ..Host::default()
            });
        }
        let mut world = Self {
            t: began,
            began,
            weather: Weather::forecast(&mut dice),
            board,
            hosts,
            ledger: Ledger::default(),
            begun: 0,
            runs: 1 + dice.place(3),
            next_run: began,
            start_at: began,
            next_link: 0,
            faults: 0,
            cut_after_step: false,
            unread_is_damaged: false,
            removals: if dice.chance(300) { 500 } else { 8 },
            lazy: dice.chance(600),
            delay_ms: if dice.chance(500) { dice.between(0, 20) } else { dice.between(50, 900) },
            bandwidth: if dice.chance(700) { 64 * 1024 } else { 1_500 },
            starts: None,
            dice,
        };
        world.forecast_starts(seed);
        world
    }

    /// A night of ends and beginnings, in which a disk refuses what it is told
    /// to refuse and nothing else.
    pub(crate) fn refusing(seed: u64, refusal: &Refusal) -> Self {
        let mut world = Self::new(seed);
        world.weather = Weather::of_ends();
        world.starts = None;
        match refusal {
            Refusal::Nothing => {}
            Refusal::Board { calls, errno } => {
                world.board.disk.refuse_calls(calls.clone(), *errno);
                // What a disk cannot read for hours is as good as damaged.
                world.unread_is_damaged = *errno == EIO && calls.end - calls.start > 1;
            }
            Refusal::Host { pages } => {
                for host in &mut world.hosts {
                    host.pages_max = Some(*pages);
                }
            }
        }
        world
    }

    pub(crate) fn run(mut self) -> Outcome {
        let steps = self.dice.between(60, 200);
        for _ in 0..steps {
            self.pass_time();
            for fault in self.weather.strike(&mut self.dice) {
                self.faults += 1;
                self.strike(fault);
            }
            self.step();
            if std::mem::take(&mut self.cut_after_step) {
                self.strike(Fault::CutPower);
            }
            self.start_badly();
        }
        self.morning();
        self.judge();
        let calls = self.board.disk.calls();
        let books = self.hosts.iter().flat_map(|host| host.books.values());
        let pages = books.map(Book::pages).max().unwrap_or(0);
        Outcome {
            calls,
            pages,
            findings: self.ledger.findings,
            faults: self.faults,
            length_s: as_seconds(self.t - self.began),
            frames: u64::try_from(self.ledger.recorded).unwrap_or(0),
        }
    }

    fn pass_time(&mut self) {
        let dice = &mut self.dice;
        self.t += match dice.below(20) {
            0 => dice.between(1_000, 4_000) * MS,
            1..=4 => dice.between(1, 20) * MS,
            _ => dice.between(30, 500) * MS,
        };
        if self.weather.room_at.is_some_and(|at| self.t >= at) {
            self.weather.room_at = None;
            self.board.disk.set_capacity(None);
        }
    }

    /// All that is not a fault.
    fn step(&mut self) {
        let (t, dice) = (self.t, &mut self.dice);
        if self.board.agent.is_none() && t >= self.start_at {
            self.board.start(t, dice, &mut self.ledger);
            self.start_at = t + SECOND;
        }
        let idle = self.board.agent.as_ref().is_some_and(|agent| agent.current.is_none());
        if idle && self.begun < self.runs && t >= self.next_run {
            if self.board.begin(self.begun, t, dice, &mut self.ledger) {
                self.begun += 1;
            }
            self.next_run = t + dice.between(1, 20) * SECOND;
        }
        self.board.step(t, self.lazy, dice, &mut self.ledger);
        if dice.chance(self.removals) {
            self.remove_acknowledged();
        }
        for host in 0..self.hosts.len() {
            self.converse(host);
        }
        if self.unread_is_damaged {
            Weather::book_refused(&self.board.disk, &mut self.ledger);
        }
    }

    /// The space is needed: runs that a host holds whole go.
    fn remove_acknowledged(&mut self) {
        let Some(agent) = &self.board.agent else { return };
        for status in agent.spool.runs() {
            let outcome = agent.spool.remove_run(&status.run);
            if let Err(SpoolError::StillNeeded { .. }) = outcome {
                continue;
            }
            trace!("run {} is removed: {outcome:?}", status.run);
            if let Some(run) = number_of(&status.run) {
                let books = self.hosts.iter().filter_map(|host| host.books.get(&run));
                self.ledger.removed(run, &acked_of(books));
            }
            return;
        }
    }

    /// Moves bytes between one host and the board.
    fn converse(&mut self, place: usize) {
        let t = self.t;
        let delay = self.dice.below(self.delay_ms + 1) * MS;
        let Some(host) = self.hosts.get_mut(place) else { return };
        if t < host.from || t < host.away_until {
            return;
        }
        if host.link.is_none() {
            let Some(run) = host.wanted(self.begun) else { return };
            if self.board.agent.is_none() || !self.dice.chance(500) {
                return;
            }
            self.next_link += 1;
            if let Err(error) = host.connect(self.next_link, run, t) {
                return self.ledger.accuse(Charge::Lost, format!("host {place}: {error}"));
            }
            self.board.connect(self.next_link, t);
        }
        let Some(link) = &mut host.link else { return };
        let id = link.id;
        if let Some(agent) = &mut self.board.agent
            && let Some(feed) = agent.feeds.get_mut(&id)
            && !link.dead
        {
            let count = feed.outgoing().len().min(self.bandwidth);
            let bytes = feed.outgoing().get(..count).unwrap_or_default().to_vec();
            feed.sent(count);
            link.down.push(bytes, t + delay);
        }
        let after = host.step(t, delay, &mut self.dice);
        let Some(link) = &mut host.link else { return };
        if let Some(book) = host.books.get(&link.run) {
            self.ledger.acknowledged(link.run, &book.acked);
        }
        while !link.dead
            && let Some(bytes) = link.up.pop(if after == After::GoOn { t } else { u64::MAX })
        {
            self.board.on_bytes(id, &bytes, t);
        }
        let over = self.board.on_timer(id, t) && !link.dead;
        let run = link.run;
        let goes_on = self.board.agent.as_ref().is_some_and(|agent| agent.records(run));
        if goes_on && host.books.get(&run).is_some_and(|book| book.all_sent) {
            let text = format!("host {place} is told that it has all of run {run}, which goes on");
            self.ledger.accuse(Charge::Lost, text);
        }
        if self.ledger.is_end_hurt(run)
            && self.board.agent.as_ref().is_some_and(|agent| agent.has_ended(run))
            && let Some(book) = host.books.get_mut(&run)
        {
            book.whole |= book.all_sent;
        }
        match after {
            After::Died => self.kill_host(place),
            After::Refused => {
                let text = format!("host {place} refuses what the board sends of run {run}");
                self.ledger.accuse(Charge::Lost, text);
                self.kill_host(place);
            }
            After::Close => self.cut_link(place),
            After::GoOn if over => self.cut_link(place),
            After::GoOn => {}
        }
    }

    fn cut_link(&mut self, place: usize) {
        if let Some(host) = self.hosts.get_mut(place)
            && let Some(link) = host.link.take()
            && let Some(agent) = &mut self.board.agent
        {
            agent.feeds.remove(&link.id);
        }
    }

    fn kill_host(&mut self, place: usize) {
        self.cut_link(place);
        if let Some(host) = self.hosts.get_mut(place) {
            host.away_until = self.t + self.dice.between(0, 8) * SECOND;
            for book in host.books.values_mut() {
                if let Err(error) = book.reopen() {
                    self.ledger.accuse(Charge::Lost, format!("host {place}: {error}"));
                }
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        trace!("{:.3} s: {fault:?}", as_seconds(self.t - self.began));
        let place = self.dice.place(self.hosts.len());
        match fault {
            Fault::CutLink => self.cut_link(place),
            Fault::DeadLink => {
                if let Some(link) = self.hosts.get_mut(place).and_then(|host| host.link.as_mut()) {
                    link.dead = true;
                }
            }
            Fault::KillHost => self.kill_host(place),
            Fault::TripHost => {
                let at = if self.dice.chance(500) { 1 } else { 2 };
                let host = self.hosts.get_mut(place);
                if let Some((host, run)) =
                    host.and_then(|host| host.link.as_ref().map(|l| l.run).map(|run| (host, run)))
                    && let Some(book) = host.books.get(&run)
                {
                    let _ = book.set_trip(at);
                }
            }
            Fault::KillAgent => {
                self.board.kill(&mut self.ledger);
                self.after_end();
            }
            Fault::CutPower => {
                let seed = self.dice.next();
                self.board.cut_power(seed, self.t, &mut self.ledger);
                self.after_end();
            }
            Fault::CutMidway => {
                Weather::stop_disk(&self.board.disk, &mut self.dice);
                // Half of them meet the agent at its start.
                if self.dice.chance(500) {
                    self.board.kill(&mut self.ledger);
                    self.after_end();
                }
                self.start_at = self.start_at.min(self.t);
                self.cut_after_step = true;
            }
            Fault::FailDisk => Weather::fail_disk(&self.board.disk, &mut self.dice),
            Fault::RefuseCalls => Weather::refuse_calls(&self.board.disk, &mut self.dice),
            Fault::FillDisk => {
                let disk = self.board.disk.clone();
                self.weather.fill_disk(&disk, self.t, &mut self.dice);
            }
            Fault::DamageDisk => {
                let disk = self.board.disk.clone();
                self.weather.damage(&disk, &mut self.ledger, &mut self.dice);
            }
            Fault::JumpClock => self.jump_clock(place),
            Fault::Stop => self.stop(),
        }
    }

    /// The agent is gone: so are its ends of all links.
    fn after_end(&mut self) {
        for place in 0..self.hosts.len() {
            self.cut_link(place);
        }
        self.start_at = self.t + self.dice.between(0, 3_000) * MS;
    }

    fn jump_clock(&mut self, place: usize) {
        let dice = &mut self.dice;
        match dice.below(3) {
            0 => {
                let step = i64::try_from(dice.between(1, 4_000_000)).unwrap_or(1) * 1_000_000_000;
                self.board.realtime_step_ns += if dice.chance(500) { step } else { -step };
            }
            1 => {
                let asleep = dice.between(1, 600) * SECOND;
                self.board.suspended += asleep;
                self.t += asleep;
            }
            _ => {
                if let Some(host) = self.hosts.get_mut(place) {
                    host.ahead += dice.between(1, 600) * SECOND;
                }
            }
        }
    }

    fn stop(&mut self) {
        let (snapshot, dice) = (self.board.snapshot(self.t), &mut self.dice);
        if let Some(agent) = &mut self.board.agent
            && let Some(current) = &mut agent.current
        {
            current.happen(Event::Stop, snapshot, dice, &mut self.ledger);
        }
    }

    /// All faults end, but that the last of a run may rot; everything must come to its end.
    fn morning(&mut self) {
        trace!("{:.3} s: morning", as_seconds(self.t - self.began));
        self.board.disk.mend();
        if self.dice.chance(200) {
            Weather::damage_end(&self.board.disk, &mut self.ledger, &mut self.dice);
        }
        self.weather.room_at = None;
        self.runs = self.begun;
        for place in 0..self.hosts.len() {
            if let Some(host) = self.hosts.get_mut(place) {
                (host.from, host.away_until, host.forgets) = (0, 0, 0);
                (host.relay.muddles, host.pages_max) = (0, None);
                for book in host.books.values() {
                    let _ = book.set_trip(0);
                    let _ = book.set_pages_max(None);
                }
                // A link that is dead is noticed by its silence.
                if host.link.as_ref().is_some_and(|link| link.dead) {
                    continue;
                }
            }
            self.cut_link(place);
        }
        // An agent that found a full disk closes what was cut at its next start.
        if self.board.agent.as_ref().is_some_and(crate::board::Agent::leaves_runs_open) {
            self.board.kill(&mut self.ledger);
            self.after_end();
        }
        for step in 0..MORNING_STEPS_MAX {
            self.pass_time();
            if step > 300 && step % 20 == 0 && self.is_at_work() {
                // A runner that hangs is given up after ten minutes. Only then: a jump
                // ends every link, and one that is slow gets nowhere between two.
                self.t += 100 * SECOND;
            }
            self.step();
            if self.is_over() {
                return;
            }
        }
        self.ledger.accuse(Charge::Lost, "the night does not come to its end".into());
    }

    fn is_over(&mut self) -> bool {
        let begun = self.begun;
        !self.is_at_work() && self.hosts.iter_mut().all(|host| host.wanted(begun).is_none())
    }

    fn is_at_work(&self) -> bool {
        self.board.agent.as_ref().is_none_or(|agent| agent.current.is_some())
    }

    fn judge(&mut self) {
        for run in 0..self.begun {
            let mut somewhere = false;
            for (place, host) in self.hosts.iter().enumerate() {
                let Some(book) = host.books.get(&run) else { continue };
                let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != place);
                let others = others.filter_map(|(_, host)| host.books.get(&run));
                let elsewhere = acked_of(others);
                let (store, acked) = (&book.store, &book.acked);
                self.ledger.audit((place, run), store, acked, &elsewhere, book.whole);
                match book.levels().map(|levels| sums::first_wrong(store, &levels)) {
                    Ok(Ok(None)) => {}
                    wrong => {
                        let text = format!("host {place}, run {run}: summary levels: {wrong:?}");
                        self.ledger.accuse(Charge::Invented, text);
                    }
                }
                somewhere |= book.whole;
            }
            if !somewhere && self.ledger.keeps(run) {
                let name = run_id(run);
                self.ledger.accuse(Charge::Lost, format!("run {name:?} is whole nowhere"));
            }
        }
    }
}

/// What any of these recordings' hosts has acknowledged.
fn acked_of<'a>(books: impl Iterator<Item = &'a Book>) -> BTreeMap<(u32, u32), u64> {
    let mut acked = BTreeMap::new();
    for (stream, next) in books.flat_map(|book| &book.acked) {
        let mark = acked.entry(*stream).or_insert(0);
        *mark = (*next).max(*mark);
    }
    acked
}

#[expect(clippy::cast_precision_loss, reason = "a night has less than 2^53 ns")]
fn as_seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
