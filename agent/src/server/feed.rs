//! What one host is sent: its session, and the run that it fetches.
//!
//! Owns the outgoing bytes, the place in the log and the order of what is
//! said. Has no socket, no task and asks no clock: [`super::session`] drives
//! it, and so does the simulator. Asks others for all that is not the log.

use tracing::warn;
use wattline_protocol::command::{Acknowledge, Command, Farewell, FetchEnd, Hello, Reply};
use wattline_protocol::planted;
use wattline_protocol::presence::Introduction;
use wattline_protocol::record::StreamEnd;
use wattline_protocol::session::CommandId;
use wattline_protocol::session::agent::{Action, Session};
use wattline_protocol::units::Nanos;

use crate::spool::{Item, LogCursor, LogReader};

/// Bytes that wait for a slow host: more frames are read from the spool only
/// below this, so a stalled link costs no memory.
const OUTGOING_MAX: usize = 256 * 1024;

/// What a host wants that the feed does not have.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// An answer, for [`Feed::reply`].
    Answer(CommandId, Command),
    /// The frames that the host holds for good are to be noted.
    Acknowledge(Acknowledge),
    /// Who the host is; it asks for nothing.
    Know(Introduction),
}

/// The board's side of one connection, without the connection.
#[derive(Debug)]
pub struct Feed {
    session: Session,
    outgoing: Vec<u8>,
    fetch: Option<Fetch>,
    closing: bool,
}

#[derive(Debug)]
struct Fetch {
    reader: LogReader,
    cursor: LogCursor,
    /// The run goes on: its end is where RUN_END is, not where the log ends.
    goes_on: bool,
    ended: bool,
}

impl Feed {
    /// Begins with the board's Hello.
    #[must_use]
    pub fn begin(hello: Hello, now: Nanos) -> Self {
        let (session, actions) = Session::begin(hello, now);
        let mut feed = Self { session, outgoing: Vec::new(), fetch: None, closing: false };
        // A session begins with bytes to send, and nothing to be answered.
        let _ = feed.perform(actions);
        feed
    }

    /// Takes bytes of the host.
    #[must_use]
    pub fn on_bytes(&mut self, bytes: &[u8], now: Nanos) -> Vec<Wanted> {
        let actions = self.session.on_bytes(bytes, now);
        self.perform(actions)
    }

    /// Takes the time, at least once a second.
    #[must_use]
    pub fn on_timer(&mut self, now: Nanos) -> Vec<Wanted> {
        let actions = self.session.on_timer(now);
        self.perform(actions)
    }

    /// Answers a command.
    pub fn reply(&mut self, id: CommandId, reply: Reply, now: Nanos) {
        let bytes = self.session.reply(id, reply, now);
        self.outgoing.extend(bytes);
    }

    /// Sends a run from `have` on; where it `goes_on`, up to its end.
    pub fn fetch(&mut self, reader: LogReader, have: &[StreamEnd], goes_on: bool) {
        let cursor = reader.cursor(have);
        self.fetch = Some(Fetch { reader, cursor, goes_on, ended: false });
    }

    /// Sends a copy of a frame as it is recorded.
    pub fn live(&mut self, frame: &[u8], now: Nanos) {
        let bytes = self.session.live(frame, now);
        self.outgoing.extend(bytes);
    }

    /// Says that so many copies were left out.
    pub fn live_dropped(&mut self, count: u64, now: Nanos) {
        let bytes = self.session.live_dropped(count, now);
        self.outgoing.extend(bytes);
    }

    /// Ends the session; what was recorded and not yet sent is not sent.
    pub fn farewell(&mut self, farewell: Farewell) {
        let bytes = self.session.farewell(farewell);
        self.outgoing.extend(bytes);
        self.fetch = None;
        self.closing = true;
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first `count` of them were sent.
    pub fn sent(&mut self, count: usize) {
        self.outgoing.drain(..count.min(self.outgoing.len()));
    }

    /// True while more may be put behind what waits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outgoing.len() < OUTGOING_MAX
    }

    /// True while [`Feed::fill`] may find something to send.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        let fetching = self.fetch.as_ref().is_some_and(|fetch| !fetch.ended);
        fetching && self.has_room() && self.session.may_send_frame()
    }

    /// No more bytes of the host are taken.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// All is said: the connection may end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.closing && self.outgoing.is_empty()
    }

    fn perform(&mut self, actions: Vec<Action>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for action in actions {
            match action {
                Action::Send(bytes) => self.outgoing.extend(bytes),
                Action::Perform(id, command) => wanted.push(Wanted::Answer(id, command)),
                Action::Acknowledged(have) => wanted.push(Wanted::Acknowledge(have)),
                Action::Introduced(who) => wanted.push(Wanted::Know(who)),
                Action::Close(error) => {
                    if let Some(error) = error {
                        warn!(%error, "A peer is turned away.");
                    }
                    self.closing = true;
                }
            }
        }
        wanted
    }

    /// Takes frames from the spool while the host allows it and there is room.
    /// The reads are short and from the page cache, but for a fetch of an old
    /// run; the sampler is on a thread of its own either way.
    pub fn fill(&mut self, now: Nanos) {
        let Some(fetch) = &mut self.fetch else { return };
        while !fetch.ended && self.outgoing.len() < OUTGOING_MAX && self.session.may_send_frame() {
            // Whether the run has ended must be read first: what is appended
            // after the cursor came to its end is then seen in the next round.
            let over = !fetch.goes_on
                || fetch.reader.ended()
                || planted!("a fetch ends where the log ends");
            match fetch.cursor.next_item() {
                Ok(Some(Item::Frame(frame))) => {
                    self.outgoing.extend_from_slice(&frame.bytes);
                    self.session.frame_sent(frame.bytes.len(), now);
                }
                Ok(Some(Item::Hole(_))) if planted!("a hole is not sent") => {}
                Ok(Some(Item::Hole(gap))) => {
                    let bytes = self.session.hole(gap, now);
                    self.outgoing.extend(bytes);
                }
                Ok(Some(Item::Damage { segment, bytes })) => {
                    warn!(segment, bytes, "A damaged part of the spool was passed over.");
                }
                Ok(None) if over => {
                    fetch.ended = true;
                    let run = fetch.reader.run().clone();
                    let end = FetchEnd { run, ends: fetch.reader.appended_ends() };
                    let bytes = self.session.fetch_end(end, now);
                    self.outgoing.extend(bytes);
                }
                Ok(None) => return,
                // Also where the run was removed: asked again, the board says so.
                Err(error) => {
                    warn!(%error, "The spool cannot be read; the host may ask again.");
                    self.closing = true;
                    return;
                }
            }
        }
    }
}
