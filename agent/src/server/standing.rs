//! Who is here and what they may: the hub's side of the seats.
//!
//! Owns the answers about sessions, control and room. What may be is decided in
//! [`super::seats`].

use tokio::sync::mpsc;
use tracing::{info, warn};
use wattline_protocol::command::{Refusal, Reply};
use wattline_protocol::presence::Standing;
use wattline_protocol::record::RunId;

use super::hub::Hub;
use super::request::{Opened, Request, Visitor};
use super::seats::{self, AllTaken, SessionId};
use crate::clock::{Clock, SystemClock};

impl Hub {
    /// Gives a session a seat; an earlier link of the same program is closed.
    ///
    /// # Errors
    /// [`Refusal::SessionsTaken`] with those who have all seats.
    pub(super) fn seat(&mut self, visitor: &Visitor) -> Result<(), Refusal> {
        let before =
            self.seats.sit(&visitor.caller, SystemClock.now()).map_err(|AllTaken(by)| {
                warn!(who = %visitor.caller.who.name, "A host is refused: all sessions are taken.");
                Refusal::SessionsTaken { by }
            })?;
        if let Some(replaced) = before.and_then(|before| self.replaced.remove(&before)) {
            info!(who = %visitor.caller.who.name, "A host came back; its earlier link is closed.");
            replaced.notify_one();
        }
        self.replaced.insert(visitor.caller.session, visitor.replaced.clone());
        Ok(())
    }

    /// A host asks again for the run that goes on, which it started: over an
    /// earlier link perhaps.
    pub(super) fn starts_again(&mut self, visitor: &Visitor) -> Result<(), Refusal> {
        self.seat(visitor)?;
        if self.seats.is_free() {
            let _ = self.seats.take_control(&visitor.caller, SystemClock.now());
        }
        Ok(())
    }

    /// A session is over; what it had is free.
    pub(super) fn left(&mut self, session: SessionId) {
        self.replaced.remove(&session);
        self.seats.leave(session);
    }

    /// Opens the log of a run for a session that stays. One that came to run it
    /// controls it again, where nobody else does.
    pub(super) fn open(&mut self, visitor: &Visitor, run: &RunId) -> Result<Opened, Refusal> {
        let reader = self.spool.reader(run).map_err(|_| Refusal::NoSuchRun)?;
        self.seat(visitor)?;
        let current = self.current.as_ref().map(|current| &current.run);
        if self.seats.is_free() && seats::takes_up(&visitor.caller, run, current) {
            let _ = self.seats.take_control(&visitor.caller, SystemClock.now());
        }
        let current = self.current.as_ref().filter(|current| current.run == *run);
        Ok(Opened { reader, listening: current.map(|current| current.listening.clone()) })
    }

    /// Ends the run that goes on, for one that may.
    pub(super) fn stop(
        &mut self,
        visitor: &Visitor,
        run: &RunId,
        requests: &mpsc::Sender<Request>,
    ) -> Reply {
        let now = SystemClock.now();
        let is_current = self.current.as_ref().is_some_and(|current| current.run == *run);
        if !is_current && !self.blocks.holds(run) {
            return Reply::Refused(Refusal::NoSuchRun);
        }
        if let Err(by) = self.seats.may_control(&visitor.caller, now) {
            return Reply::Refused(Refusal::Controlled { run: run.clone(), by });
        }
        // Those that follow go as well; a block that had not begun needs no more.
        if self.stop_blocks(run, requests) {
            return Reply::Stopping;
        }
        let Some(current) = self.current.as_ref().filter(|current| current.run == *run) else {
            return Reply::Refused(Refusal::NoSuchRun);
        };
        info!(%run, who = %visitor.caller.who.name, "A run is stopped.");
        current.running.stop();
        let _ = self.seats.take_control(&visitor.caller, now);
        Reply::Stopping
    }

    /// Lets a session control the run that goes on, whoever does now.
    pub(super) fn take_over(&mut self, visitor: &Visitor, run: &RunId) -> Reply {
        if self.current.as_ref().is_none_or(|current| current.run != *run) {
            return Reply::Refused(Refusal::NoSuchRun);
        }
        let before = self.seats.take_control(&visitor.caller, SystemClock.now());
        let from = before.as_ref().map(|before| before.name.as_str()).unwrap_or("nobody");
        info!(%run, who = %visitor.caller.who.name, from, "Control of a run is taken over.");
        Reply::Controls { before }
    }

    /// Who has a session, how full the spool is, and what waits.
    pub(super) fn standing(&self) -> Reply {
        let now = SystemClock.now();
        let sessions = self.seats.occupants(now);
        let current = self.current.as_ref().map(|current| &current.run);
        let waiting = self.blocks.waiting(current);
        let spool = self.spool.standing();
        Reply::Standing(Box::new(Standing { now, sessions, spool, waiting }))
    }
}
