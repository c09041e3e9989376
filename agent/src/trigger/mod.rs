//! The trigger: edges of a line that tell an external meter when a window or
//! an inference begins and ends.
//!
//! Owns what was asked for ([`TriggerSpec`]), the line while it is held
//! ([`line`]) and the stamps of its edges. Knows neither windows nor engine:
//! whoever does says which edge it is.
//!
//! Each edge lies between two readings of the board's clock, around the call
//! that sets the line: the middle is its time, half the distance its bound. No
//! delay behind the call (the pin's driver, the cable, the meter) is in it.

mod line;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wattline_protocol::record::{Edge, EdgeOf, TriggerEdge, TriggerEdges, TriggerFault};
use wattline_protocol::units::Nanos;

use crate::clock::Clock;
use line::Line;

/// Longest name of a GPIO chip.
const CHIP_BYTES_MAX: usize = 32;
/// What stands for a line that is none.
const SIMULATED: &str = "simulated";

/// What was asked for: a line, and what its edges are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSpec {
    /// Which line.
    pub line: LineSpec,
    /// What each pair of edges is of.
    pub per: TriggerPer,
}

/// Which line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineSpec {
    /// Line `offset` of `/dev/<chip>`.
    Gpio {
        /// Name of the chip.
        chip: String,
        /// Number of the line on it, from 0.
        offset: u32,
    },
    /// None: the edges are stamped and recorded as if there were one.
    Simulated,
}

/// What a pair of edges is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerPer {
    /// Every window, idle ones included; set by the sampler's process.
    Window,
    /// Every inference, warm-up included; set by the runner.
    Inference,
}

/// A text that names no trigger.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no trigger: gpiochipN:LINE or simulated, each with :window (the default) or \
     :inference behind it"
)]
pub struct TriggerSpecError {
    /// What was given.
    pub text: String,
}

impl FromStr for TriggerSpec {
    type Err = TriggerSpecError;

    fn from_str(text: &str) -> Result<Self, TriggerSpecError> {
        let wrong = || TriggerSpecError { text: text.chars().take(80).collect() };
        let (place, per) = match text.rsplit_once(':') {
            Some((place, "window")) => (place, TriggerPer::Window),
            Some((place, "inference")) => (place, TriggerPer::Inference),
            _ => (text, TriggerPer::Window),
        };
        if place == SIMULATED {
            return Ok(Self { line: LineSpec::Simulated, per });
        }
        let (chip, offset) = place.split_once(':').ok_or_else(wrong)?;
        let chip = chip.strip_prefix("/dev/").unwrap_or(chip);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let named = (1..=CHIP_BYTES_MAX).contains(&chip.len()) && chip.bytes().all(plain);
        // A simulated line has no number.
        if !named || chip == SIMULATED {
            return Err(wrong());
        }
        let is_number = offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        Ok(Self { line: LineSpec::Gpio { chip: chip.to_owned(), offset }, per })
    }
}

impl fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            TriggerPer::Window => "window",
            TriggerPer::Inference => "inference",
        };
        write!(f, "{}:{per}", self.line)
    }
}

impl fmt::Display for LineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpio { chip, offset } => write!(f, "{chip}:{offset}"),
            Self::Simulated => f.write_str(SIMULATED),
        }
    }
}

/// A line that is held, with the edges that were not taken yet.
#[derive(Debug)]
pub struct Trigger {
    name: String,
    line: Line,
    edges: Vec<TriggerEdge>,
}

impl Trigger {
    /// Takes the line and sets it low; it is held until this is dropped.
    ///
    /// # Errors
    /// [`TriggerFault`] where it cannot be had.
    pub fn open(spec: &LineSpec) -> Result<Self, TriggerFault> {
        Ok(Self { name: spec.to_string(), line: Line::open(spec)?, edges: Vec::new() })
    }

    /// Room for so many edges more, so that none of them allocates.
    pub fn reserve(&mut self, edges: usize) {
        self.edges.reserve(edges);
    }

    /// Sets the line and keeps the edge with its stamps.
    ///
    /// # Errors
    /// [`TriggerFault`] where the line cannot be set: there was no edge then.
    pub fn set(&mut self, of: EdgeOf, edge: Edge, clock: &dyn Clock) -> Result<(), TriggerFault> {
        let before = clock.now();
        self.line.set(edge)?;
        let bracket: Nanos = clock.now() - before;
        // A call that took four seconds was no edge of use; its bound says so.
        let bracket_ns = u32::try_from(bracket.0).unwrap_or(u32::MAX);
        self.edges.push(TriggerEdge { of, edge, before, bracket_ns });
        Ok(())
    }

    /// The line's name, as records have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The edges since they were taken last; `None` where there are none.
    #[must_use]
    pub fn take(&mut self) -> Option<TriggerEdges> {
        if self.edges.is_empty() {
            return None;
        }
        let room = self.edges.capacity();
        let edges = std::mem::replace(&mut self.edges, Vec::with_capacity(room));
        Some(TriggerEdges { line: self.name.clone(), edges })
    }

    /// A line that a test sets and breaks.
    #[cfg(test)]
    pub(crate) fn scripted(script: Script) -> Self {
        Self { name: "scripted:0".into(), line: Line::Scripted(script), edges: Vec::new() }
    }
}

#[cfg(test)]
pub(crate) use line::Script;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::clock::VirtualClock;

    fn gpio(chip: &str, offset: u32, per: TriggerPer) -> TriggerSpec {
        TriggerSpec { line: LineSpec::Gpio { chip: chip.into(), offset }, per }
    }

    #[test]
    fn a_trigger_is_a_line_and_what_it_is_of() {
        let read = |text: &str| text.parse::<TriggerSpec>();
        assert_eq!(read("gpiochip0:17"), Ok(gpio("gpiochip0", 17, TriggerPer::Window)));
        assert_eq!(read("/dev/gpiochip4:0:window"), Ok(gpio("gpiochip4", 0, TriggerPer::Window)));
        let inference = gpio("gpiochip0", 17, TriggerPer::Inference);
        assert_eq!(read("gpiochip0:17:inference"), Ok(inference));
        let simulated = |per| Ok(TriggerSpec { line: LineSpec::Simulated, per });
        assert_eq!(read("simulated"), simulated(TriggerPer::Window));
        assert_eq!(read("simulated:inference"), simulated(TriggerPer::Inference));
        for wrong in [
            "",
            ":",
            "gpiochip0",
            "gpiochip0:",
            ":17",
            "gpiochip0:x",
            "gpiochip0:+1",
            "window",
            "gpiochip0:17:trial",
            "../mem:1",
            "/dev/../mem:1",
            "simulated:17",
            "a:4294967296",
        ] {
            assert!(read(wrong).is_err_and(|error| error.text == wrong), "{wrong}");
        }
    }

    #[test]
    fn an_edge_has_the_clocks_around_it_and_is_taken_once() {
        let clock = Arc::new(VirtualClock::starting_at(BoardTime(1_000)));
        let levels = Arc::new(Mutex::new(Vec::new()));
        let (seen, slow) = (Arc::clone(&levels), Arc::clone(&clock));
        let mut trigger = Trigger::scripted(Script::new(move |edge| {
            seen.lock().unwrap().push(edge);
            slow.sleep_until(slow.now() + Nanos(250));
            Ok(())
        }));
        let of = EdgeOf::Window(7);
        trigger.set(of, Edge::Rise, &*clock).unwrap();
        trigger.set(of, Edge::Fall, &*clock).unwrap();
        assert_eq!(*levels.lock().unwrap(), [Edge::Rise, Edge::Fall]);
        let edges = trigger.take().unwrap().edges;
        let stamps: Vec<_> = edges.iter().map(|e| (e.edge, e.before.0, e.bracket_ns)).collect();
        assert_eq!(stamps, [(Edge::Rise, 1_000, 250), (Edge::Fall, 1_250, 250)]);
        assert_eq!(trigger.take(), None);
    }

    #[test]
    fn a_line_that_refuses_gives_no_edge() {
        let clock = VirtualClock::starting_at(BoardTime(1_000));
        let fault = TriggerFault::Failed { errno: 5 };
        let mut trigger = Trigger::scripted(Script::new(move |_| Err(fault)));
        assert_eq!(trigger.set(EdgeOf::Window(1), Edge::Rise, &clock), Err(fault));
        assert_eq!(trigger.take(), None);
    }

    #[test]
    fn a_simulated_line_is_named_so() {
        let clock = VirtualClock::starting_at(BoardTime(1_000));
        let mut trigger = Trigger::open(&LineSpec::Simulated).unwrap();
        trigger.set(EdgeOf::Window(1), Edge::Rise, &clock).unwrap();
        assert_eq!(trigger.take().unwrap().line, "simulated");
    }

    #[test]
    fn a_chip_that_is_not_there_is_named_as_absent() {
        let absent = LineSpec::Gpio { chip: "gpiochip9999".into(), offset: 1 };
        assert_eq!(Trigger::open(&absent).unwrap_err(), TriggerFault::NoChip);
        let other = LineSpec::Gpio { chip: "null".into(), offset: 1 };
        assert_eq!(Trigger::open(&other).unwrap_err(), TriggerFault::NoChip);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            if let Ok(spec) = text.parse::<TriggerSpec>() {
                prop_assert_eq!(spec.to_string().parse::<TriggerSpec>(), Ok(spec));
            }
        }

        #[test]
        fn a_trigger_is_written_as_it_is_read(
            chip in "[a-z][a-z0-9_-]{0,20}", offset: u32, inference: bool
        ) {
            let word = if inference { "inference" } else { "window" };
            let text = format!("{chip}:{offset}:{word}");
            let spec: TriggerSpec = text.parse().unwrap();
            prop_assert_eq!(spec.to_string(), text);
            prop_assert_eq!(spec.per == TriggerPer::Inference, inference);
        }
    }
}
