//! Who has a session that stays, and who controls the run.
//!
//! Owns the two seats of a board and the control of the run that goes on. Pure:
//! the hub asks, and performs what follows. Questions ([`Purpose::Ask`]) need no
//! seat; [`super::session`] bounds them.
//!
//! # Rules, and what each prevents
//!
//! - Two hosts at most are sent frames: what the sampler's process keeps for
//!   hosts is bounded, and so is what they cost the card and the processor
//!   while something is measured.
//! - One of them controls: the one that started the run, or takes it up again.
//!   Nobody ends another's night by mistake.
//! - Control is a lease: it ends with its session, and that ends with its
//!   heartbeat, 30 s after the host fell silent. A dead laptop locks nothing.
//! - The same person from another terminal is the same person; another one takes
//!   over by saying so.
//! - A program that comes back over a new link takes its own place again, also
//!   while the old link is not yet known to be dead.
//! - Where nobody controls, as after `run --detach`, whoever asks does.

use wattline_protocol::presence::{Introduction, Occupant};
use wattline_protocol::record::RunId;
use wattline_protocol::units::{BoardTime, NANOS_PER_SECOND};

/// Sessions that stay: one controls and is sent all, one looks on or fetches.
/// Source: records-and-reliability §4, "Exposure and limits".
pub const SEATS_MAX: usize = 2;

/// A session of this life of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// What the host said of itself.
    pub who: Introduction,
}

#[derive(Debug, Clone)]
struct Place {
    caller: Caller,
    since: BoardTime,
}

/// The seats of a board.
#[derive(Debug, Default)]
pub struct Seats {
    seats: Vec<Place>,
    control: Option<Place>,
}

/// All seats are taken by these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllTaken(pub Vec<Occupant>);

impl Seats {
    /// Gives the caller a seat, or lets it keep its own. Returns the session
    /// whose place it takes: an earlier link of the same program.
    ///
    /// # Errors
    /// [`AllTaken`] where others have all seats.
    pub fn sit(&mut self, caller: &Caller, now: BoardTime) -> Result<Option<SessionId>, AllTaken> {
        if self.seats.iter().any(|seat| seat.caller.session == caller.session) {
            return Ok(None);
        }
        if let Some(seat) = self.seats.iter_mut().find(|seat| is_same(&seat.caller, caller)) {
            let before = std::mem::replace(&mut seat.caller, caller.clone()).session;
            if let Some(control) = &mut self.control
                && control.caller.session == before
            {
                control.caller = caller.clone();
            }
            return Ok(Some(before));
        }
        if self.seats.len() >= SEATS_MAX {
            return Err(AllTaken(self.occupants(now)));
        }
        self.seats.push(Place { caller: caller.clone(), since: now });
        Ok(None)
    }

    /// The caller may start or stop a run, and controls it from now on where it
    /// does; nobody controls, or it does, or the same person.
    ///
    /// # Errors
    /// The occupant who controls.
    pub fn may_control(&self, caller: &Caller, now: BoardTime) -> Result<(), Occupant> {
        match &self.control {
            Some(control) if control.caller.who.name != caller.who.name => {
                Err(self.occupant(control, now))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The caller controls the run that goes on. Returns who did before.
    pub fn take_control(&mut self, caller: &Caller, now: BoardTime) -> Option<Occupant> {
        let before = self.control.as_ref().map(|control| self.occupant(control, now));
        self.control = Some(Place { caller: caller.clone(), since: now });
        before
    }

    /// True where nobody controls the run.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.control.is_none()
    }

    /// The run is over: there is nothing to control.
    pub fn run_over(&mut self) {
        self.control = None;
    }

    /// A session ended; what it had is free.
    pub fn leave(&mut self, session: SessionId) {
        self.seats.retain(|seat| seat.caller.session != session);
        if self.control.as_ref().is_some_and(|control| control.caller.session == session) {
            self.control = None;
        }
    }

    /// Those who have a seat.
    #[must_use]
    pub fn occupants(&self, now: BoardTime) -> Vec<Occupant> {
        self.seats.iter().map(|seat| self.occupant(seat, now)).collect()
    }

    fn occupant(&self, place: &Place, now: BoardTime) -> Occupant {
        let Caller { session, who } = &place.caller;
        let controls =
            self.control.as_ref().is_some_and(|control| control.caller.session == *session);
        let seconds = (now - place.since).0.max(0) / NANOS_PER_SECOND;
        let for_s = u32::try_from(seconds).unwrap_or(u32::MAX);
        Occupant { name: who.name.clone(), purpose: who.purpose, for_s, controls }
    }
}

/// One program over two links: its name, its process and what it came for.
fn is_same(one: &Caller, other: &Caller) -> bool {
    one.who.process != 0 && one.who == other.who
}

/// True where a run that is taken up is the caller's to control: it came to run,
/// not to look on.
#[must_use]
pub fn takes_up(caller: &Caller, run: &RunId, current: Option<&RunId>) -> bool {
    caller.who.purpose == wattline_protocol::presence::Purpose::Run && current == Some(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wattline_protocol::presence::{HostName, Purpose};

    use super::*;

    const NOW: BoardTime = BoardTime(60_000_000_000);

    fn caller(session: u64, name: &str, purpose: Purpose, process: u32) -> Caller {
        let who = Introduction { name: HostName::of(name), purpose, process };
        Caller { session: SessionId(session), who }
    }

    #[test]
    fn a_third_session_is_refused_with_the_names_of_the_two() {
        let mut seats = Seats::default();
        let anna = caller(1, "anna@desk", Purpose::Run, 10);
        assert_eq!(seats.sit(&anna, BoardTime(0)), Ok(None));
        assert_eq!(seats.take_control(&anna, BoardTime(0)), None);
        assert_eq!(seats.sit(&caller(2, "bob@lap", Purpose::Watch, 11), NOW), Ok(None));
        let Err(AllTaken(by)) = seats.sit(&caller(3, "eve@far", Purpose::Fetch, 12), NOW) else {
            panic!("a third seat")
        };
        let said: Vec<String> = by.iter().map(Occupant::describe).collect();
        assert_eq!(
            said,
            [
                "anna@desk (wattline run, for 60 s, controls the run)",
                "bob@lap (wattline watch, for 0 s)"
            ]
        );
        seats.leave(SessionId(2));
        assert_eq!(seats.sit(&caller(3, "eve@far", Purpose::Fetch, 12), NOW), Ok(None));
    }

    #[test]
    fn a_program_that_comes_back_takes_its_own_place_and_its_control() {
        let mut seats = Seats::default();
        let before = caller(1, "anna@desk", Purpose::Run, 10);
        assert_eq!(seats.sit(&before, NOW), Ok(None));
        let _ = seats.take_control(&before, NOW);
        assert_eq!(seats.sit(&caller(2, "bob@lap", Purpose::Watch, 11), NOW), Ok(None));
        let again = caller(3, "anna@desk", Purpose::Run, 10);
        assert_eq!(seats.sit(&again, NOW), Ok(Some(SessionId(1))));
        // The old link's end, noticed later, takes nothing from the new one.
        seats.leave(SessionId(1));
        assert!(!seats.is_free());
        assert!(seats.may_control(&caller(4, "bob@lap", Purpose::Ask, 13), NOW).is_err());
        assert_eq!(seats.occupants(NOW).len(), 2);
    }

    #[test]
    fn another_person_takes_over_only_by_saying_so_and_the_same_one_at_once() {
        let mut seats = Seats::default();
        let anna = caller(1, "anna@desk", Purpose::Run, 10);
        let _ = seats.take_control(&anna, NOW);
        assert_eq!(seats.may_control(&caller(2, "anna@desk", Purpose::Ask, 99), NOW), Ok(()));
        let bob = caller(3, "bob@lap", Purpose::Ask, 11);
        let by = seats.may_control(&bob, NOW).unwrap_err();
        assert_eq!((by.name.as_str(), by.controls), ("anna@desk", true));
        assert_eq!(seats.take_control(&bob, NOW), Some(by));
        assert!(seats.may_control(&anna, NOW).is_err());
    }

    #[test]
    fn control_ends_with_the_session_and_with_the_run() {
        let mut seats = Seats::default();
        let anna = caller(1, "anna@desk", Purpose::Run, 10);
        let bob = caller(2, "bob@lap", Purpose::Ask, 11);
        let _ = seats.take_control(&anna, NOW);
        seats.leave(SessionId(1));
        assert_eq!(seats.may_control(&bob, NOW), Ok(()));
        let _ = seats.take_control(&anna, NOW);
        seats.run_over();
        assert!(seats.is_free());
    }

    #[test]
    fn a_run_is_taken_up_by_the_host_that_runs_it_and_not_by_one_that_looks_on() {
        let run = RunId::new("night").unwrap();
        for (purpose, takes) in
            [(Purpose::Run, true), (Purpose::Fetch, false), (Purpose::Watch, false)]
        {
            assert_eq!(takes_up(&caller(1, "a", purpose, 1), &run, Some(&run)), takes);
            assert!(!takes_up(&caller(1, "a", purpose, 1), &run, None));
        }
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_two_and_the_controller_is_alive(
            steps in proptest::collection::vec((0_u8..5, 0_u64..6, 0_u8..3), 0..60),
        ) {
            let mut seats = Seats::default();
            let mut left = std::collections::BTreeSet::new();
            for (what, session, name) in steps {
                let caller = caller(session, &name.to_string(), Purpose::Run, u32::from(name) + 1);
                if left.contains(&session) {
                    continue;
                }
                match what {
                    0 | 1 => {
                        if let Ok(Some(before)) = seats.sit(&caller, NOW) {
                            prop_assert_ne!(before, caller.session);
                            left.insert(before.0);
                        }
                    }
                    2 if seats.may_control(&caller, NOW).is_ok() => {
                        let _ = seats.take_control(&caller, NOW);
                    }
                    3 => {
                        seats.leave(caller.session);
                        left.insert(session);
                    }
                    _ => {}
                }
                prop_assert!(seats.occupants(NOW).len() <= SEATS_MAX);
                let controls = seats.control.as_ref().map(|place| place.caller.session.0);
                prop_assert!(controls.is_none_or(|session| !left.contains(&session)));
            }
        }
    }
}
